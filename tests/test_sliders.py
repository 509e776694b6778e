"""Sliders driven from Python: the image is the decoder's mean where they stand."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from vae_teach import figures, sliders
from vae_teach.nets import VAE
from vae_teach.sliders import latent_sliders, png
from vae_teach.words import use_language


def shown(panel):
    picture = np.asarray(Image.open(io.BytesIO(panel.image.value)))
    return picture[5::10, 5::10]  # the middle of each pixel, drawn ten wide


@pytest.mark.parametrize("latents", [1, 2, 7])
def test_image_is_the_mean_where_the_sliders_stand(latents):
    torch.manual_seed(0)
    model = VAE(latent_dim=latents)
    panel = latent_sliders(model)
    assert len(panel.sliders) == latents
    z = torch.zeros(1, latents)
    for i, slider in enumerate(panel.sliders):
        for value in (slider.max, slider.min, 0.5):
            slider.value = value
            z[0, i] = value
            mean = model.decode(z).detach().numpy().reshape(28, 28)
            assert np.abs(shown(panel) / 255 - mean).max() < 1 / 255


def test_png_keeps_every_pixel():
    pixels = torch.arange(784) % 256 / 255
    picture = np.asarray(Image.open(io.BytesIO(png(pixels, zoom=3))))
    assert picture.shape == (84, 84)
    assert np.array_equal(picture[1::3, 1::3].ravel(), np.arange(784) % 256)


def test_the_range_is_kept_and_the_image_has_no_tooltip():
    panel = latent_sliders(VAE(), extent=2.0)
    assert {(slider.min, slider.max) for slider in panel.sliders} == {(-2, 2)}
    # ImageView of ipywidgets 8.1 fails on a tooltip: it wants a description too
    assert panel.image.tooltip is None


@pytest.mark.parametrize("extent", [0, -1.0, float("nan")])
def test_bad_extent_gets_one_sentence(extent):
    use_language("en")
    with pytest.raises(ValueError, match="extent: got"):
        latent_sliders(VAE(), extent=extent)


@pytest.mark.parametrize(
    ("language", "sliders_say", "panel_says"),
    [
        ("pt", "[controles deslizantes: execute", "[painel interativo: execute"),
        ("en", "[sliders: run this cell", "[interactive panel: run this cell"),
    ],
)
def test_where_no_widget_is_shown_a_sentence_stands(language, sliders_say, panel_says):
    use_language(language)
    assert repr(latent_sliders(VAE())).startswith(sliders_say)
    assert repr(bar_panel()).startswith(panel_says)


def picture_of(widget):
    """Return the picture that a widget brings, and what is said of it."""
    data, metadata = widget._repr_mimebundle_(include=None, exclude=None)
    assert "application/vnd.jupyter.widget-view+json" in data
    assert data["text/plain"] == repr(widget)
    return base64.b64decode(data["image/png"]), metadata["image/png"]


WHERE = {
    "pt": "A imagem que o decodificador desenha em z1 = −1,20; z2 = 0,50",
    "en": "The picture that the decoder draws at z1 = −1.20; z2 = 0.50",
}


@pytest.mark.parametrize("language", WHERE)
def test_sliders_bring_the_picture_of_where_they_stand(language):
    use_language(language)
    panel = latent_sliders(VAE())
    for slider, value in zip(panel.sliders, (-1.2, 0.5), strict=True):
        slider.value = value
    png, about = picture_of(panel)
    assert png == bytes(panel.image.value)
    assert about == {"alt": WHERE[language], "width": 280, "height": 280}


NAMES = {  # what a screen reader says of each slider, and the sentence above them
    "pt": ("coordenada latente z1", "coordenada latente z2", "Mova z com o mouse"),
    "en": ("latent coordinate z1", "latent coordinate z2", "Move z with the mouse"),
}


@pytest.mark.parametrize("language", NAMES)
def test_each_slider_has_the_name_of_what_it_moves(language):
    use_language(language)
    panel = latent_sliders(VAE())
    first, second, prompt = NAMES[language]
    assert [slider.tooltip for slider in panel.sliders] == [first, second]
    texts = [slider.description for slider in panel.sliders]
    assert texts == ["$z_{1}$", "$z_{2}$"]
    _, column = panel.children
    assert prompt in column.children[0].value


def bars(height, name):
    figure, (ax,) = figures.picture(f"<{name}> at {height:.1f}", width=2, height=2)
    ax.bar([0], [height])
    ax.set_ylim(0, 10)
    return figure


def bar_panel():
    height = sliders.slider(r"$h$", 1, 9, step=0.5, value=2.0)
    return sliders.panel(bars, height=height, name=sliders.choice("name", ["a", "b"]))


def test_a_panel_draws_what_its_controls_say_and_says_it_in_words():
    panel = bar_panel()
    before = bytes(panel.image.value)
    assert before == bars(2.0, "a").png()
    panel.controls["height"].value = 7.5
    panel.controls["name"].value = "b"
    assert bytes(panel.image.value) == bars(7.5, "b").png() != before
    assert panel.picture.alt == "<b> at 7.5"
    assert "&lt;b&gt; at 7.5</p>" in panel.children[-1].value
    assert panel.image.layout.width == "192px"  # two inches


def test_a_panel_brings_its_picture_as_it_is_now():
    panel = bar_panel()
    panel.controls["height"].value = 7.5
    png, about = picture_of(panel)
    assert png == bars(7.5, "a").png()
    assert about == {"alt": "<a> at 7.5", "width": 192, "height": 192}


def test_sweep_moves_each_control_to_both_ends_and_back():
    panel = bar_panel()
    start = bytes(panel.image.value)
    # the bar at 2, 1, 9, 2; its name is not in the picture
    assert sliders.sweep(panel) == 3
    assert bytes(panel.image.value) == start
    torch.manual_seed(0)
    assert sliders.sweep(latent_sliders(VAE(latent_dim=3))) == 7


def test_what_a_callback_raises_reaches_whoever_moved():
    def draw(height):
        assert height < 5
        return bars(height, "a")

    panel = sliders.panel(draw, height=sliders.slider("h", 1, 9, value=2.0))
    with pytest.raises(AssertionError):
        sliders.sweep(panel)


@pytest.mark.parametrize(("low", "high", "step"), [(1, 1, 0.1), (2, 1, 0.1), (0, 1, 0)])
def test_a_slider_without_range_or_step_gets_one_sentence(low, high, step):
    with pytest.raises(ValueError, match="slider: got"):
        sliders.slider("h", low, high, step=step)


def test_other_bad_controls_get_one_sentence():
    with pytest.raises(ValueError, match="options: got an empty list"):
        sliders.choice("name", [])
    with pytest.raises(TypeError, match="height: got a control without a value, int"):
        sliders.panel(bars, height=3)


@pytest.mark.parametrize(("step", "shown"), [(0.1, ".1f"), (0.05, ".2f"), (1, ".0f")])
def test_a_slider_shows_as_many_decimals_as_it_moves_by(step, shown):
    assert sliders.slider("h", 0, 3, step=step).readout_format == shown


def test_a_slider_starts_where_it_is_told_and_moves_by_its_step():
    latents = latent_sliders(VAE(), extent=2.0).sliders
    plain, own = (
        sliders.slider("h", -1, 3),
        sliders.slider("h", 1, 9, step=0.5, value=4),
    )
    for slider, expected in (
        *((latent, (0.0, 0.1, -2.0, 2.0)) for latent in latents),
        (plain, (0.0, 0.1, -1.0, 3.0)),
        (own, (4.0, 0.5, 1.0, 9.0)),
    ):
        assert (slider.value, slider.step, slider.min, slider.max) == expected


def test_a_choice_is_as_wide_as_its_longest_text():
    def width(options):
        return int(sliders.choice("source", options).layout.width.removesuffix("em"))

    assert width(["a", "b"]) == width([1, 2]) == 22
    long = "a machine of the course, on a CPU"
    assert width([("b", 0), (long, 1)]) > 13 + 0.6 * len(long)
