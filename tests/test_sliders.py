"""Sliders driven from Python: the image is the decoder's mean where they stand."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

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


def test_labels_are_in_the_language_and_range_is_kept():
    texts = []
    for language in ("pt", "en"):
        use_language(language)
        panel = latent_sliders(VAE(), extent=2.0)
        assert [slider.description for slider in panel.sliders] == [
            "$z_{1}$",
            "$z_{2}$",
        ]
        assert (panel.sliders[0].min, panel.sliders[0].max) == (-2, 2)
        texts.append((panel.sliders[0].tooltip, repr(panel)))
        # ImageView of ipywidgets 8.1 fails on a tooltip: it wants a description too
        assert panel.image.tooltip is None
    assert len({text for pair in texts for text in pair}) == 4


@pytest.mark.parametrize("extent", [0, -1.0, float("nan")])
def test_bad_extent_gets_one_sentence(extent):
    use_language("en")
    with pytest.raises(ValueError, match="extent: got"):
        latent_sliders(VAE(), extent=extent)


def test_where_no_widget_is_shown_a_sentence_stands():
    use_language("en")
    assert repr(latent_sliders(VAE())) == "[sliders: run this cell to move them]"
