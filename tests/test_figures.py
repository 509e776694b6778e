"""Pictures, tested by their arrays, their axes and their descriptions."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from listing import lists
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from scipy import stats

from vae_teach import figures
from vae_teach.data import Images
from vae_teach.nets import VAE
from vae_teach.train import History
from vae_teach.words import use_language


@pytest.fixture(scope="module")
def images():
    stream = torch.Generator().manual_seed(0)
    pixels = (torch.rand(40, 784, generator=stream) < 0.3).float()
    return Images(pixels, torch.arange(40) % 10)


class Compass(VAE):
    """A decoder that can be read off a picture: pixel 0 shows z1 and pixel 1 z2."""

    def decode(self, z):
        x = torch.zeros(*z.shape[:-1], 784)
        x[..., :2] = torch.special.ndtr(z)
        return x


@pytest.fixture
def compass():
    torch.manual_seed(0)
    return Compass()


def history():
    rows = [
        {
            "epoch": i,
            "elbo": -200 + 5 * i,
            "reconstruction": -190 + 4 * i,
            "kl": 10 - i,
            "test_elbo": -201 + 5 * i,
            "seconds": 1.0,
        }
        for i in (1, 2, 3)
    ]
    return History(rows)


SIZES = {  # on the screen, and stored: a quarter larger, but for the largest
    "reconstructions": ((720, 202), (900, 252)),
    "samples": ((720, 202), (900, 252)),
    "manifold": ((634, 634), (633, 633)),
    "latent_map": ((634, 634), (792, 792)),
    "curves": ((768, 278), (960, 348)),
}
PICTURES = {
    "reconstructions": lambda model, images: figures.reconstructions(model, images),
    "samples": lambda model, images: figures.samples(model),
    "manifold": lambda model, images: figures.manifold(model, 5),
    "latent_map": lambda model, images: figures.latent_map(model, images),
    "curves": lambda model, images: figures.curves(history()),
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_a_figure_that_describes_itself(name, images):
    torch.manual_seed(0)
    model, texts = VAE(), []
    for language in ("pt", "en"):
        use_language(language)
        picture = PICTURES[name](model, images)
        assert isinstance(picture, Figure)
        shown, about = picture._repr_mimebundle_()
        image = Image.open(io.BytesIO(base64.b64decode(shown["image/png"])))
        place = about["image/png"]
        assert ((place["width"], place["height"]), image.size) == SIZES[name]
        assert np.asarray(image.convert("L")).std() > 5  # something is drawn
        assert place["alt"] == shown["text/plain"] == picture.alt
        assert len(picture.alt) > 60
        texts.append(picture.alt)
    assert texts[0] != texts[1]


def test_every_axis_has_a_name_and_white_stands_behind(images):
    for name in ("manifold", "latent_map", "curves"):
        picture = PICTURES[name](VAE(), images)
        assert picture.get_facecolor() == (1, 1, 1, 1)
        for ax in picture.axes:
            assert ax.get_xlabel()
            assert ax.get_ylabel()


def test_manifold_runs_right_and_up_with_equal_mass(compass):
    n = 8
    tiles = figures.manifold_tiles(compass, n)  # (n, n, 784)
    masses = stats.norm.cdf(stats.norm.ppf((np.arange(n) + 0.5) / n))
    for row in range(n):
        for column in range(n):
            z1, z2 = tiles[row, column, :2].tolist()
            assert z1 == pytest.approx(masses[column], abs=1e-5)
            assert z2 == pytest.approx(masses[n - 1 - row], abs=1e-5)


def test_manifold_picture_is_upright(compass):
    ax = figures.manifold(compass, 8).axes[0]
    drawn = ax.images[0].get_array()  # (8 * 28, 8 * 28)
    assert drawn[0, 0] < drawn[0, 7 * 28]  # pixel 0 is z1: grows to the right
    assert drawn[7 * 28, 1] < drawn[0, 1]  # pixel 1 is z2: grows upwards
    bottom, top = ax.get_ylim()
    assert bottom > top  # rows of an image are counted from above
    heights = [tick.get_text() for tick in ax.get_yticklabels()]
    places = ax.get_yticks()
    values = [float(text.replace("−", "-")) for text in heights]
    assert values == sorted(values)
    assert list(places) == sorted(places, reverse=True)


def test_ticks_of_the_manifold_stand_on_their_tiles(compass):
    n = 20
    ax = figures.manifold(compass, n).axes[0]
    for place, text in zip(ax.get_xticks(), ax.get_xticklabels(), strict=True):
        tile = int(place // 28)
        oracle = stats.norm.ppf((tile + 0.5) / n)
        value = float(text.get_text().replace("−", "-"))
        assert value == pytest.approx(oracle, abs=0.006)


def test_quantiles_cut_the_normal_into_equal_masses():
    points = figures.normal_quantiles(20).numpy()
    assert stats.norm.cdf(points) == pytest.approx((np.arange(20) + 0.5) / 20, abs=1e-6)


def test_mosaic_puts_each_image_in_its_place():
    pixels = torch.rand(7, 784)
    canvas = figures.mosaic(pixels, columns=3, gap=2)
    assert canvas.shape == (3 * 28 + 4, 3 * 28 + 4)
    fourth = canvas[30:58, 0:28]
    assert np.allclose(fourth, pixels[3].reshape(28, 28))
    assert (canvas[28:30] == 1).all()


def test_reconstructions_show_one_of_each_digit_and_its_mean(images):
    torch.manual_seed(0)
    model = VAE()
    above, below = figures.reconstructions(model, images).axes
    x = images.pixels[:10]
    assert np.allclose(above.images[0].get_array()[:, :28], x[0].reshape(28, 28))
    mean = model.decode(model.encode(x)[0]).detach()
    drawn = below.images[0].get_array()[:, 29:57]
    assert np.allclose(drawn, mean[1].reshape(28, 28), atol=1e-6)
    assert "mean" in below.get_title(loc="left")


def test_samples_are_means_and_pixels_of_the_same_z():
    model = VAE()
    with torch.no_grad():
        model.decoder_logits.bias.copy_(30 * (torch.arange(784) % 2) - 15.0)
    seeded = torch.Generator().manual_seed(0)
    means, pixels = figures.samples(model, count=4, generator=seeded).axes
    drawn = pixels.images[0].get_array()
    assert set(np.unique(drawn)) == {0.0, 1.0}
    assert np.abs(drawn - means.images[0].get_array()).max() < 0.01


def test_map_draws_each_image_at_the_mean_of_its_q(images):
    torch.manual_seed(0)
    model = VAE()
    mu = model.encode(images.pixels)[0].detach().numpy()
    ax = figures.latent_map(model, images).axes[0]
    drawn = np.concatenate([c.get_offsets() for c in ax.collections])
    by_digit = np.concatenate([mu[images.labels == digit] for digit in range(10)])
    assert np.allclose(drawn, by_digit, atol=1e-6)
    assert [text.get_text() for text in ax.texts] == [str(d) for d in range(10)]


@pytest.mark.parametrize(("line", "mass"), [(0, 0.5), (1, 0.95)])
def test_rings_hold_the_mass_they_name(images, line, mass):
    ax = figures.latent_map(VAE(), images).axes[0]
    radius = np.hypot(*ax.lines[line].get_data())[0]
    assert stats.chi2(2).cdf(radius**2) == pytest.approx(mass)
    assert f"{mass:.0%}" in ax.get_legend().get_texts()[line].get_text()


def test_numbers_follow_the_language():
    use_language("pt")
    _, (ax,) = figures.picture("texto")
    assert ax.xaxis.get_major_formatter()(0.25, 0) == "0,25"
    use_language("en")
    assert ax.xaxis.get_major_formatter()(0.25, 0) == "0.25"


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: figures.manifold(VAE(latent_dim=3)), "got latent_dim=3"),
        (lambda: figures.manifold(VAE(), 0), "n: got 0"),
        (lambda: figures.samples(VAE(), count=0), "count: got 0"),
        (lambda: figures.curves(History()), "no epoch was completed"),
    ],
)
def test_bad_input_gets_one_sentence(call, named):
    with pytest.raises(ValueError, match=named):
        call()


def test_map_of_one_latent_is_refused(images):
    with pytest.raises(ValueError, match="got latent_dim=1"):
        figures.latent_map(VAE(latent_dim=1), images)


# --- what a reader sees: each word with the data that it names -----------------------

LANGUAGES = ("pt", "en")


def described(ax):
    """Return the title of some axes and the names of what runs right and up."""
    return ax.get_title(loc="left"), ax.get_xlabel(), ax.get_ylabel()


def key_to(ax):
    """Return the legend of some axes: each text with the one line that looks so."""
    looks = {}
    for line in ax.lines:
        looks.setdefault(look(line), []).append(line)
    legend = ax.get_legend()
    pairs = zip(legend.get_texts(), legend.legend_handles, strict=True)
    found = {text.get_text(): looks[look(handle)] for text, handle in pairs}
    assert all(len(lines) == 1 for lines in found.values())
    return {text: line for text, (line,) in found.items()}


def look(line):
    return line.get_color(), line.get_linestyle(), line.get_marker()


CURVES = {  # of history(): title, colour and heights, from left to right
    "pt": [
        ("ELBO (quanto maior, melhor)", "black", [-195, -190, -185]),
        ("termo de reconstrução", "#56B4E9", [-186, -182, -178]),
        ("termo KL", "#E69F00", [9, 8, 7]),
    ],
    "en": [
        ("ELBO (higher is better)", "black", [-195, -190, -185]),
        ("reconstruction term", "#56B4E9", [-186, -182, -178]),
        ("KL term", "#E69F00", [9, 8, 7]),
    ],
}
SETS = {"pt": ("treinamento", "teste", "época"), "en": ("training", "test", "epoch")}


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_curve_has_the_title_and_the_colour_of_its_numbers(language):
    use_language(language)
    training, test, epoch = SETS[language]
    axes = figures.curves(history()).axes
    for ax, (title, color, heights) in zip(axes, CURVES[language], strict=True):
        assert described(ax) == (title, epoch, "nats")
        assert ax.lines[0].get_xdata().tolist() == [1, 2, 3]
        assert ax.lines[0].get_ydata().tolist() == heights
        assert ax.lines[0].get_color() == color
    drawn = {text: line.get_ydata().tolist() for text, line in key_to(axes[0]).items()}
    assert drawn == {training: [-195, -190, -185], test: [-196, -191, -186]}
    assert list(map(look, axes[0].lines)) == [
        ("black", "-", "o"),
        ("#777777", "--", "s"),
    ]


def test_without_a_test_set_there_is_one_curve_and_no_legend():
    alone = history()
    for row in alone.rows:
        del row["test_elbo"]
    (ax, *_) = figures.curves(alone).axes
    assert len(ax.lines) == 1
    assert ax.get_legend() is None


ROWS = {  # the titles of two rows, the first above the second
    "pt": {
        "reconstructions": [
            "imagens originais",
            "reconstruções: média do decodificador em z = média de q(z|x)",
        ],
        "samples": [
            "médias do decodificador, com z amostrado da priori",
            "amostras: cada pixel sorteado com essa média",
        ],
    },
    "en": {
        "reconstructions": [
            "original images",
            "reconstructions: the decoder's mean at z = the mean of q(z|x)",
        ],
        "samples": [
            "decoder means, z sampled from the prior",
            "samples: each pixel drawn with that mean",
        ],
    },
}


def rows_of(figure):
    """Return the images of a gallery by their titles, drawn in white on black."""
    assert all(ax.images[0].get_clim() == (0, 1) for ax in figure.axes)
    assert {ax.images[0].get_cmap().name for ax in figure.axes} == {"gray"}
    drawn = [np.asarray(ax.images[0].get_array()) for ax in figure.axes]
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    return dict(zip(titles, drawn, strict=True))


def is_binary(pixels):
    return set(np.unique(pixels)) <= {0, 1}


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", ["reconstructions", "samples"])
def test_each_row_of_digits_has_the_title_of_its_pixels(kind, language, images):
    use_language(language)
    torch.manual_seed(0)
    drawn = rows_of(PICTURES[kind](VAE(), images))
    assert [*drawn] == ROWS[language][kind]
    binary = [title for title, pixels in drawn.items() if is_binary(pixels)]
    assert binary == [ROWS[language][kind][kind == "samples"]]


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_manifold_names_its_directions(language, compass):
    use_language(language)
    (ax,) = figures.manifold(compass, 4).axes
    title = {
        "pt": "médias do decodificador; cada ladrilho tem 1/4² da massa da priori",
        "en": "decoder means; each tile holds 1/4² of the prior mass",
    }
    assert described(ax) == (title[language], "$z_1$", "$z_2$")
    drawn = np.asarray(ax.images[0].get_array())
    assert drawn[0, 0] < drawn[0, 3 * 28]  # pixel 0 shows z1
    assert drawn[3 * 28, 1] < drawn[0, 1]  # pixel 1 shows z2
    mark = {"pt": ",", "en": "."}[language]
    texts = [f"−1{mark}15", f"−0{mark}32", f"0{mark}32", f"1{mark}15"]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == texts
    assert [tick.get_text() for tick in ax.get_yticklabels()] == texts


class Ruler(VAE):
    """An encoder that reads z1 and z2 off the first two pixels."""

    def encode(self, x):
        return 4 * x[:, :2] - 2, torch.zeros(len(x), 2)


TEN_COLORS = ["#332288", "#88CCEE", "#44AA99", "#117733", "#999933"]
TEN_COLORS += ["#DDCC77", "#CC6677", "#882255", "#AA4499", "#000000"]
PRIOR = {"pt": "{}% da priori", "en": "{}% of the prior"}
MAP_TITLE = {"pt": "médias de q(z|x), por dígito", "en": "means of q(z|x), by digit"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_on_the_map_each_digit_has_its_colour_and_each_ring_its_name(language):
    use_language(language)
    pixels = torch.rand(40, 784, generator=torch.Generator().manual_seed(0))
    images = Images(pixels, torch.arange(40) % 10)
    picture = figures.latent_map(Ruler(), images)
    assert re.findall(r"\d+%", picture.alt) == ["50%", "95%"]
    (ax,) = picture.axes
    assert described(ax) == (MAP_TITLE[language], "$z_1$", "$z_2$")
    for digit, color in enumerate(TEN_COLORS):
        (dots,) = (
            c for c in ax.collections if to_hex(c.get_facecolor()[0]).upper() == color
        )
        codes = 4 * pixels[images.labels == digit, :2] - 2  # z1 right, z2 up
        assert np.allclose(dots.get_offsets(), codes, atol=1e-6)
        name = ax.texts[digit]
        assert name.get_text() == str(digit)
        assert to_hex(name.get_bbox_patch().get_edgecolor()).upper() == color
    for text, line in key_to(ax).items():
        percent = {"-": 50, "--": 95}[line.get_linestyle()]
        assert text == PRIOR[language].format(percent)
        radius = np.hypot(*line.get_data())
        assert stats.chi2(2).cdf(radius**2) == pytest.approx(percent / 100)
        assert line.get_color() == "#0072B2"
    assert len(key_to(ax)) == 2


class GreyShare(VAE):
    """An encoder that tells grey pixels: z is their share, 0 for bits."""

    def encode(self, x):
        share = ((x > 0) & (x < 1)).float().mean(1, keepdim=True)
        return share.expand(-1, 2), torch.zeros(len(x), 2)


def test_grey_images_that_train_dynamically_are_shown_in_bits():
    grey = torch.full((20, 784), 0.5)
    labels = torch.arange(20) % 10
    for dynamic in (True, False):
        images = Images(grey, labels, dynamic=dynamic)
        above, _ = rows_of(figures.reconstructions(VAE(), images)).values()
        assert is_binary(above) == dynamic
        (ax,) = figures.latent_map(GreyShare(), images).axes
        codes = np.concatenate([dots.get_offsets() for dots in ax.collections])
        assert (codes == (0 if dynamic else 1)).all()


def test_one_colour_means_one_thing():
    assert figures.COLORS == {
        "data": "#000000",
        "prior": "#0072B2",
        "q": "#D55E00",
        "posterior": "#009E73",
        "reconstruction": "#56B4E9",
        "kl": "#E69F00",
        "gap": "#CC79A7",
    }


@lists
def test_every_text_of_a_picture_can_be_read():
    """In points at the size that is shown: a row of a book is set in ten."""
    pixels = torch.rand(20, 784, generator=torch.Generator().manual_seed(0))
    images = Images(pixels, torch.arange(20) % 10)
    for name, draw in PICTURES.items():
        for text in draw(VAE(), images).findobj(Text):
            shown = text.get_visible() and text.get_text()
            pale = to_hex(text.get_color()) != "#000000"
            if shown and (pale or text.get_fontsize() < 8):
                yield f"{name}: {text.get_text()!r} in {text.get_fontsize()} points"


# --- a reader's own settings and labels -----------------------------------------------


def lesson_picture():
    """As a lesson draws: after the picture is made."""
    figure, (ax,) = figures.picture("words", width=4, height=3)
    ax.plot([0, 1], [0, 1], label="a")
    ax.bar([0], [1])
    ax.legend()
    ax.text(0.2, 0.2, "here")
    ax.annotate("there", (0.1, 0.5))
    ax.set_xticks([0, 1], ["low", "high"])
    ax.set_title("$x_1$")
    ax.grid(True)
    figure.suptitle("all")
    figure.colorbar(ax.imshow(np.eye(2), alpha=0.1), ax=ax)
    return figure


SETTINGS = {
    "usetex": {"text.usetex": True},
    "odd": {"image.origin": "lower", "savefig.facecolor": "red", "font.size": 30},
    "cut": {"savefig.bbox": "tight", "lines.linestyle": "", "figure.dpi": 300},
}


@pytest.mark.parametrize("style", [*SETTINGS, "dark_background", "ggplot", "classic"])
def test_pictures_are_the_same_in_a_readers_own_style(style, images, compass):
    rows = [{"epoch": i, "elbo": -9.0 + i, "reconstruction": -8.0, "kl": 1.0}
            for i in (1, 2)]  # fmt: skip
    history = History([row | {"test_elbo": -10.0} for row in rows])
    draws = [
        lambda: figures.curves(history),
        lambda: figures.latent_map(compass, images),
        lambda: figures.manifold(compass, 3),
        lambda: figures.reconstructions(compass, images),
        lesson_picture,
    ]
    plain = [draw().png() for draw in draws]
    with plt.rc_context():
        plt.style.use(SETTINGS.get(style, style))
        before = dict(plt.rcParams)
        assert [draw().png() for draw in draws] == plain
        assert dict(plt.rcParams) == before


def test_classes_above_nine_are_on_the_map(compass, images):
    labels = torch.tensor([0, 3, 10, 25, 300, -1]).repeat(7)[:40]
    picture = figures.latent_map(compass, Images(images.pixels, labels))
    (ax,) = picture.axes
    assert sum(len(dots.get_offsets()) for dots in ax.collections) == 40
    names = {text.get_text() for text in ax.texts}
    assert names == {"-1", "0", "3", "10", "25", "300"}
    assert "of 40 images" in picture.alt


@pytest.mark.parametrize("count", [0, -3, 2.5])
def test_a_map_of_no_images_is_told(compass, images, count):
    with pytest.raises(ValueError, match="count: got"):
        figures.latent_map(compass, images, count=count)
