"""Pictures, tested by their arrays, their axes and their descriptions."""

import base64
import io

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
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
            "reconstruction": -195 + 5 * i,
            "kl": 5.0,
            "test_elbo": -201 + 5 * i,
            "seconds": 1.0,
        }
        for i in (1, 2, 3)
    ]
    return History(rows)  # fmt: skip


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
        assert min(image.size) > 200
        assert np.asarray(image.convert("L")).std() > 5  # something is drawn
        assert about["image/png"]["alt"] == shown["text/plain"] == picture.alt
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


def test_curves_draw_the_history():
    axes = figures.curves(history()).axes
    assert axes[0].lines[0].get_ydata().tolist() == [-195, -190, -185]
    assert axes[0].lines[1].get_ydata().tolist() == [-196, -191, -186]
    assert axes[2].lines[0].get_ydata().tolist() == [5, 5, 5]


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
