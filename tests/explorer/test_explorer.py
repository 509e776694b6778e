"""The explorer's Python side: what it packs, what it says, what it refuses."""

import base64
import io
import json
import re
from pathlib import Path

import ipywidgets
import numpy as np
import pytest
import strangers
import torch
from PIL import Image
from torch import nn

from vae_teach import explorer, figures, models, words
from vae_teach.data import Images
from vae_teach.explorer import FOLLOWERS, LABELS, LatentExplorer
from vae_teach.nets import AE, VAE

SOURCE = Path(explorer.__file__).parent
JAVASCRIPT, STYLE = LatentExplorer._esm, LatentExplorer._css
CODE = re.sub(r"//.*|/\*\*[\s\S]*?\*/", "", JAVASCRIPT)  # without its comments


@pytest.fixture
def model():
    torch.manual_seed(0)
    return VAE()


def make_images(count, *, dynamic=False):
    generator = torch.Generator().manual_seed(1)
    pixels = torch.rand(count, 784, generator=generator)
    return Images(pixels, torch.arange(count) % 10, dynamic=dynamic)


def halves(packed):
    """Read the bytes as NumPy does, which knows half precision by itself."""
    return torch.from_numpy(np.frombuffer(packed, "<f2").astype(np.float32))


def test_the_weights_come_back_layer_after_layer(model):
    widget = LatentExplorer(model)
    expected = [
        tensor.flatten()
        for layer in (model.decoder_hidden, model.decoder_logits)
        for tensor in (layer.weight, layer.bias)
    ]
    torch.testing.assert_close(
        halves(widget.weights), torch.cat(expected), rtol=2**-11, atol=2**-25
    )
    assert widget.spec == {
        "layers": [[2, 400, "relu"], [400, 784, "sigmoid"]],
        "side": 28,
        "extent": 3.0,
        "prior": True,
        "bernoulli": True,
    }


def test_the_saved_state_is_below_a_megabyte(model):
    """What a notebook stores: the whole state in base64, code and longest path too."""
    widget = LatentExplorer(model, make_images(3000))
    widget.path = [[-1.2345, 2.3456]] * 500
    coded = {
        name: base64.b64encode(value).decode() if isinstance(value, bytes) else value
        for name, value in widget.get_state().items()
    }
    assert {"_esm", "_css", "weights", "labels"} <= set(coded)
    assert len(json.dumps(coded)) < 1_000_000
    manager = ipywidgets.Widget.get_manager_state(widgets=[widget])
    assert len(json.dumps(manager)) < 1_000_000


def test_nothing_in_a_saved_notebook_is_left_to_chance(model):
    first, second = (
        LatentExplorer(model, make_images(50, dynamic=True)) for _ in range(2)
    )
    unlike = {
        name
        for name, value in first.get_state().items()
        if value != second.get_state()[name]
    }
    assert unlike == {"layout"}  # a widget of its own, whose name build makes stable


@pytest.mark.parametrize("language", words.LANGUAGES)
def test_its_text_says_what_to_do(model, language):
    """Where neither the widget nor its picture is shown."""
    words.use_language(language)
    (bundle, _) = LatentExplorer(model)._repr_mimebundle_()
    asked = {"pt": "execute esta célula", "en": "run this cell"}[language]
    assert bundle["text/plain"].startswith("LatentExplorer(latent_dim=2): " + asked)
    assert bundle["text/plain"].endswith(".")
    assert "application/vnd.jupyter.widget-view+json" in bundle


@pytest.mark.parametrize("latent_dim", [1, 2, 3])
@pytest.mark.parametrize("language", words.LANGUAGES)
def test_its_picture_is_what_pytorch_draws_over_the_plane(latent_dim, language):
    """Shown on code hosts, in notebooks that are not trusted, without JavaScript."""
    words.use_language(language)
    torch.manual_seed(0)
    model = VAE(latent_dim=latent_dim)
    with torch.no_grad():
        model.decoder_logits.weight.mul_(6)
    widget = LatentExplorer(model, extent=2.5)
    data, metadata = widget._repr_mimebundle_(include=None, exclude=None)
    png = Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).convert("L")
    rows, line = (1 if latent_dim == 1 else 9), torch.linspace(-2.5, 2.5, 9)
    assert png.size == (9 * 28, rows * 28)
    z = torch.zeros(rows, 9, latent_dim)
    z[..., 0] = line  # to the right
    if latent_dim > 1:
        z[..., 1] = line.flip(0)[:, None]  # upwards
    with torch.no_grad():
        expected = model.decode(z).reshape(rows, 9, 28, 28).transpose(1, 2)
    away = torch.from_numpy(np.array(png)) / 255 - expected.reshape(rows * 28, 9 * 28)
    assert away.abs().max() < 0.1, "sixteen levels"
    about = metadata["image/png"]
    assert (about["width"], about["height"]) == (378, 42 * rows)
    low, high = {"pt": ("−2,5", "2,5"), "en": ("−2.5", "2.5")}[language]
    assert low in about["alt"]
    assert f" {high}." in about["alt"]
    assert ("z2" in about["alt"]) == (latent_dim > 1)
    assert len(png.getcolors()) <= 16


def test_its_picture_is_of_the_weights_that_it_took(model):
    widget = LatentExplorer(model)
    before, _ = widget._repr_mimebundle_()
    with torch.no_grad():
        model.decoder_logits.bias += 1
    assert widget._repr_mimebundle_()[0] == before


@pytest.mark.parametrize("count", [1, 199, 300, 2500])
def test_codes_classes_and_pictures_belong_together(model, count):
    images = make_images(count)
    widget = LatentExplorer(model, images)
    codes = halves(widget.codes).reshape(-1, 2)
    classes = list(widget.classes)
    packed = np.frombuffer(widget.thumbnails, np.uint8)
    levels = np.stack([packed >> 4, packed & 15], 1).reshape(-1, 784)  # (kept, D)
    assert len(codes) == len(classes) == min(count, explorer.MAP_IMAGES)
    assert 0 < len(levels) <= explorer.KEPT_IMAGES
    with torch.no_grad():
        mu, _ = model.encode(images.pixels)
    for n, (code, digit) in enumerate(zip(codes, classes, strict=True)):
        which = int((mu - code).norm(dim=1).argmin())
        torch.testing.assert_close(mu[which], code, rtol=1e-3, atol=1e-4)
        assert digit == which % 10
        if n < len(levels):
            away = images.pixels[which] - torch.from_numpy(levels[n] / 15)
            assert away.abs().max() <= 0.5 / 15 + 1e-6


def test_grey_images_are_encoded_as_in_training(model):
    grey, bits = make_images(40, dynamic=True), make_images(40)
    assert LatentExplorer(model, grey).codes != LatentExplorer(model, bits).codes
    assert (
        LatentExplorer(model, grey).thumbnails == LatentExplorer(model, bits).thumbnails
    )


def test_pictures_are_kept_only_if_wanted(model):
    widget = LatentExplorer(model, make_images(40), neighbours=False)
    assert widget.thumbnails == b""
    assert len(widget.classes) == 40


def test_an_autoencoder_is_shown_without_a_prior():
    widget = LatentExplorer(AE(), make_images(20))
    assert not widget.spec["prior"]
    assert len(widget.codes) == 20 * 2 * 2


def test_the_model_may_be_of_any_float_type(model):
    expected = halves(LatentExplorer(model, make_images(20)).codes)
    codes = halves(LatentExplorer(model.double(), make_images(20)).codes)
    torch.testing.assert_close(codes, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("latent_dim", [1, 2, 7])
def test_z_starts_at_the_origin_and_takes_a_point(latent_dim):
    widget = LatentExplorer(VAE(latent_dim=latent_dim))
    assert widget.z == [0.0] * latent_dim
    widget.z = tuple(range(latent_dim))
    assert widget.z == [float(i) for i in range(latent_dim)]
    widget.path = [[0] * latent_dim, [1] * latent_dim]
    assert widget.path == [[0.0] * latent_dim, [1.0] * latent_dim]


def test_every_word_of_the_page_is_there_in_both_languages(model):
    used = set(re.findall(r"words\.(\w+)", CODE))
    used |= set(re.findall(r'words\["([\w-]+)"\]', CODE))
    packed = {}
    for language in words.LANGUAGES:
        words.use_language(language)
        packed[language] = LatentExplorer(model).labels
        assert set(packed[language]) == used
        assert packed[language].pop("language") == language
    for key, phrase in packed["pt"].items():
        assert phrase.strip()
        assert not set(phrase) & set('<>&"'), "the page puts words into markup"
        assert phrase != packed["en"][key] or key in {"across", "up"}
    assert len(LABELS) == len(packed["pt"])


def test_the_words_stay_in_the_language_they_were_made_in(model):
    words.use_language("pt")
    widget = LatentExplorer(model)
    words.use_language("en")
    assert widget.labels["mean-caption"] == "Média do decodificador"


def test_nothing_is_fetched_and_nothing_is_imported():
    assert not re.search(r"https?:|@import|url\(|\bfetch\(|\bimport\b", STYLE)
    assert not re.search(r"https?:|\bfetch\(|XMLHttp|\bimport\b", CODE)
    assert re.search(r"^export default \{ initialize, render \};$", JAVASCRIPT, re.M)


def test_a_class_has_one_colour_in_the_whole_course():
    found = dict(re.findall(r"\.ve-digit-(\d) \{ --digit: ([^;]+);", STYLE))
    colors = [found[str(digit)].upper() for digit in range(10)]
    assert colors[:9] == [color.upper() for color in figures.DIGIT_COLORS[:9]]
    assert figures.DIGIT_COLORS[9] == "#000000"
    assert colors[9] == "VAR(--INK)"  # black on a white page, white on a dark one


# --- a reader's own model -------------------------------------------------------------


def decode(widget, z):
    """Decode as the page does, from what the widget packed and nothing else."""
    weights, h = halves(widget.weights).double(), z.double()
    for inputs, outputs, name in widget.spec["layers"]:
        w, b, weights = weights.split(
            [inputs * outputs, outputs, len(weights) - (inputs + 1) * outputs]
        )
        h = FOLLOWERS[name](h @ w.reshape(outputs, inputs).T + b)
    assert len(weights) == 0
    return h.float()


def steep(model):
    """Make a new model's decoder as steep as a trained one's."""
    with torch.no_grad():
        for part in model.parameters():
            part.mul_(3)
    return model


def layers(*functions, sizes=(2, 9, 9, 25)):
    """Return linear layers of those sizes with the functions between and after them."""
    steps = zip(sizes[:-1], sizes[1:], functions, strict=True)
    return [part for a, b, f in steps for part in (nn.Linear(a, b), f)]


ACCEPTED = {
    "tutorial": lambda: strangers.Tutorial(25, 12, 3),
    "images of two axes": lambda: strangers.Pictures(36, 12, 1),
    "a distribution": lambda: strangers.Distribution(25, 12, 5),
    "logits, told": lambda: models.adapt(
        steep(strangers.Logits(25, 12, 2)), decodes="logits"
    ),
    "a line": lambda: strangers.Layers(nn.Linear(2, 25), nn.Sigmoid()),
    "in place": lambda: strangers.Layers(
        *layers(nn.ReLU(inplace=True), nn.LeakyReLU(0.2, inplace=True), nn.Sigmoid())
    ),
    "dropout": lambda: strangers.Layers(
        *layers(nn.Tanh(), nn.Sequential(nn.GELU(), nn.Dropout(0.5)), nn.Sigmoid())
    ),
    "bfloat16": lambda: strangers.Tutorial(25, 12, 2).bfloat16(),
}


@pytest.mark.filterwarnings("ignore:The reparameterize")
@pytest.mark.parametrize("case", ACCEPTED)
def test_a_strangers_decoder_is_found(case):
    torch.manual_seed(0)
    model = ACCEPTED[case]()
    view = models.adapt(steep(model) if isinstance(model, nn.Module) else model)
    side = 6 if case == "images of two axes" else 5
    images = Images(torch.rand(30, side**2), torch.arange(30) % 10)
    modes = [part.training for part in view.model.modules()]
    widget = LatentExplorer(model, images)
    assert [part.training for part in view.model.modules()] == modes
    assert widget.spec["side"] == side
    view.model.eval()
    z = 3 * torch.randn(50, view.latent_dim)
    with torch.no_grad():
        expected = view.decode(z.to(view.like)).float()
        codes = view.codes(images.pixels.to(view.like)).float()
    near = 0.02 if case == "bfloat16" else 2 / 255
    assert expected.std() > 0.1
    assert (decode(widget, z) - expected).abs().max() < near
    found = halves(widget.codes).reshape(codes.shape)
    assert torch.cdist(found, codes).amin(dim=1).max() < 0.01


@pytest.mark.parametrize("name", FOLLOWERS)
def test_each_function_is_told_from_the_others(name):
    torch.manual_seed(0)
    follow = nn.GELU() if name == "gelu" else FOLLOWERS[name]

    class Follow(nn.Module):
        forward = staticmethod(follow)

    own = steep(strangers.Layers(*layers(Follow(), nn.SELU(), nn.Sigmoid())))
    with pytest.raises(TypeError, match="a Layers in a browser"):
        LatentExplorer(own)
    own.generator[3] = Follow()
    assert [row[2] for row in LatentExplorer(own).spec["layers"]] == [
        *(name, name, "sigmoid")
    ]


def test_a_normal_likelihood_has_no_pixels_to_draw_and_its_prior_no_grid():
    class Normal(strangers.Layers):
        def log_conditional(self, x, z):
            return -((x - self.decode(z)) ** 2).sum(-1)

        def log_prior(self, z):
            return -(z**2).sum(-1)

    plain = strangers.Layers(*layers(nn.ReLU(), nn.ReLU(), nn.Sigmoid()))
    own = Normal(*layers(nn.ReLU(), nn.ReLU(), nn.Identity()))
    plain, own = (LatentExplorer(model).spec for model in (plain, own))
    assert plain["bernoulli"]
    assert plain["prior"]
    assert not own["bernoulli"]
    assert not own["prior"]
    assert own["layers"][-1] == [9, 25, "nothing"]


class Skip(strangers.Sampling):
    """Adds a path from z to the pixels, past the hidden layer."""

    def decode(self, z):
        return torch.sigmoid(torch.logit(super().decode(z)) + z.sum(1, keepdim=True))


class Squashed(strangers.Sampling):
    """Does something to z before its first layer."""

    def decode(self, z):
        return super().decode(torch.tanh(z))


class Tripled(strangers.Sampling):
    """Has a layer that is not called as a module."""

    def decode(self, z):
        h = nn.functional.linear(z, self.fc3.weight, self.fc3.bias)
        return torch.sigmoid(self.fc4(h))


REFUSED = {
    "convolutions": strangers.Convolutions,
    "past a layer": lambda: Skip(25, 12, 2),
    "before a layer": lambda: Squashed(25, 12, 2),
    "no module": lambda: Tripled(25, 12, 2),
    "another function": lambda: strangers.Layers(
        *layers(nn.ReLU(), nn.Hardtanh(), nn.Sigmoid())
    ),
    "another end": lambda: strangers.Layers(
        *layers(nn.ReLU(), nn.ReLU(), nn.Softmax(1))
    ),
    "a norm": lambda: strangers.Layers(
        *layers(nn.LayerNorm(9), nn.ReLU(), nn.Sigmoid())
    ),
    "no bias": lambda: strangers.Layers(nn.Linear(2, 25, bias=False), nn.Sigmoid()),
    "no layer": lambda: strangers.Layers(nn.Unflatten(1, (2, 1)), nn.Sigmoid()),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_decoder_that_is_anything_else_is_refused(case):
    torch.manual_seed(0)
    with pytest.raises(TypeError, match=r"cannot repeat the decoder .* relu, "):
        LatentExplorer(steep(REFUSED[case]()))


# --- what is refused ------------------------------------------------------------------


def without_biases():
    broken = VAE()
    broken.decoder_logits = nn.Linear(400, 784, bias=False)
    return broken


def diverged():
    broken = VAE()
    nn.init.constant_(broken.decoder_hidden.weight, 1e6)
    return broken


def not_a_number():
    broken = VAE()
    nn.init.constant_(broken.decoder_logits.bias, torch.nan)
    return broken


def narrow(count=4):
    return Images(torch.rand(count, 100), torch.arange(count))


BAD = {
    "another network": (TypeError, lambda: LatentExplorer(nn.Linear(2, 3)), "Linear"),
    "no biases": (TypeError, lambda: LatentExplorer(without_biases()), "VAE"),
    "logits": (
        ValueError,
        lambda: LatentExplorer(steep(strangers.Logits())),
        "decodes='logits'",
    ),
    "NaN weights": (ValueError, lambda: LatentExplorer(not_a_number()), "NaN"),
    "not square": (ValueError, lambda: LatentExplorer(VAE(input_dim=20)), "20"),
    "diverged": (ValueError, lambda: LatentExplorer(diverged()), "float16"),
    "extent": (ValueError, lambda: LatentExplorer(VAE(), extent=0), "extent"),
    "infinite": (ValueError, lambda: LatentExplorer(VAE(), extent=torch.inf), "inf"),
    "NaN": (ValueError, lambda: LatentExplorer(VAE(), extent=torch.nan), "nan"),
    "a tensor": (TypeError, lambda: LatentExplorer(VAE(), torch.rand(3, 784)), "Tens"),
    "small": (ValueError, lambda: LatentExplorer(VAE(), narrow()), "784"),
    "short z": (ValueError, lambda: setattr(LatentExplorer(VAE()), "z", [1.0]), "z"),
    "z of words": (
        ValueError,
        lambda: setattr(LatentExplorer(VAE()), "z", ["a", 1]),
        "a",
    ),
    "NaN in z": (
        ValueError,
        lambda: setattr(LatentExplorer(VAE()), "z", [0, torch.nan]),
        "nan",
    ),
    "path": (
        ValueError,
        lambda: setattr(LatentExplorer(VAE()), "path", [[0, 0], 1]),
        "path",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_sentence_in_the_readers_language(case):
    kind, act, named = BAD[case]
    said = []
    for language in words.LANGUAGES:
        words.use_language(language)
        with pytest.raises(kind) as caught:
            act()
        said.append(str(caught.value))
        assert named in said[-1]
        assert "\n" not in said[-1]
        assert said[-1].endswith((".", "?"))
    assert said[0] != said[1]


def test_a_refused_point_leaves_the_old_one(model):
    widget = LatentExplorer(model)
    widget.z = [1.0, 2.0]
    with pytest.raises(ValueError, match="finite"):
        widget.z = [1.0]
    assert widget.z == [1.0, 2.0]


def test_what_was_measured_is_fast_enough():
    """What benchmarks/explorer.py wrote, on a machine that it names."""
    path = SOURCE.parents[1] / "benchmarks" / "results" / "explorer.json"
    found = json.loads(path.read_text(encoding="utf-8"))["results"]
    assert found["browser"].startswith("Chromium ")
    rows = {row["slowdown"]: row for row in found["rows"]}
    assert rows[1]["decode_ms"] < 2
    assert rows[1]["late_frames"] < 0.05  # of 60 a second; other programs take some
    assert rows[1]["frames_per_second"] > 57
    assert all(row["decode_ms"] < row["work_ms"] < 1000 / 60 for row in rows.values())
