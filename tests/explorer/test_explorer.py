"""The explorer's Python side: what it packs, what it says, what it refuses."""

import base64
import io
import json
import re
from pathlib import Path

import ipywidgets
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from vae_teach import explorer, figures, words
from vae_teach.data import Images
from vae_teach.explorer import LABELS, LatentExplorer
from vae_teach.nets import AE, VAE

SOURCE = Path(explorer.__file__).parent
JAVASCRIPT = (SOURCE / "explorer.js").read_text(encoding="utf-8")
CODE = re.sub(r"//.*|/\*\*[\s\S]*?\*/", "", JAVASCRIPT)  # without its comments
STYLE = (SOURCE / "explorer.css").read_text(encoding="utf-8")


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
        "layers": [[2, 400], [400, 784]],
        "side": 28,
        "extent": 3.0,
        "prior": True,
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
    low, high = {"pt": ("-2,5", "2,5"), "en": ("-2.5", "2.5")}[language]
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


def without_biases():
    broken = VAE()
    broken.decoder_logits = nn.Linear(400, 784, bias=False)
    return broken


def diverged():
    broken = VAE()
    nn.init.constant_(broken.decoder_hidden.weight, 1e6)
    return broken


def narrow(count=4):
    return Images(torch.rand(count, 100), torch.arange(count))


BAD = {
    "another network": (TypeError, lambda: LatentExplorer(nn.Linear(2, 3)), "Linear"),
    "no biases": (TypeError, lambda: LatentExplorer(without_biases()), "VAE"),
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
