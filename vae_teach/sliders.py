"""Sliders that walk through the latent space, decoded by the kernel.

Introduced in lesson 00; the explorer does the same in the browser.
"""

import io

import ipywidgets as widgets
import torch
from PIL import Image
from torch import Tensor

from vae_teach.figures import SIDE
from vae_teach.guards import check_count
from vae_teach.nets import VAE
from vae_teach.words import say

ZOOM = 10  # screen pixels along one pixel of a digit


def png(pixels: Tensor, *, zoom: int = ZOOM) -> bytes:
    """Return one image (784,) in [0, 1] as a PNG, each pixel ``zoom`` wide.

    Raises ValueError if zoom is below 1. Introduced in lesson 00.
    """
    check_count("zoom", zoom)
    levels = (255 * pixels).round().to(torch.uint8).reshape(SIDE, SIDE)
    side = SIDE * zoom
    image = Image.fromarray(levels.cpu().numpy()).resize(
        (side, side), Image.Resampling.NEAREST
    )
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


class LatentSliders(widgets.Box):  # type: ignore[misc]
    """The sliders and their picture; where no widget can be shown, a sentence.

    Args:
        sliders: one per latent coordinate.
        image: the decoded picture.
    """

    def __init__(
        self, sliders: list[widgets.FloatSlider], image: widgets.Image
    ) -> None:
        self.sliders, self.image = sliders, image
        picture = widgets.Box([image])
        picture.add_class("vae-sliders-image")
        prompt = widgets.HTML(f"<p>{say('sliders-prompt')}</p>")
        handles = widgets.Box(sliders, layout={"flex_flow": "row wrap"})
        beside = {"flex": "1 1 23em"}  # the picture, or below it on a narrow page
        column = widgets.VBox([prompt, handles], layout=beside)
        super().__init__([picture, column], layout={"flex_flow": "row wrap"})
        self.add_class("vae-sliders")

    def __repr__(self) -> str:
        return say("sliders-fallback")


def latent_sliders(model: VAE, *, extent: float = 3.0) -> LatentSliders:
    """Return one slider per latent coordinate and the decoder's mean at that point.

    Mouse, touch and keyboard: arrows move by 0.1, Home and End go to the ends.

    Args:
        model: its decoder is called once for each move.
        extent: the sliders span -extent to +extent, in prior standard deviations.

    Returns:
        A widget; ``.sliders`` are its sliders and ``.image`` its picture.

    Raises:
        ValueError: extent is not above zero.

    Introduced in lesson 00.
    """
    if not extent > 0:
        raise ValueError(say("not-above-zero", name="extent", got=extent))
    handles = [_slider(i, extent) for i in range(model.latent_dim)]
    side = f"{SIDE * ZOOM}px"
    image = widgets.Image(format="png", layout={"width": side, "height": side})

    def follow(_: object = None) -> None:
        device = next(model.parameters()).device
        z = torch.tensor(
            [[handle.value for handle in handles]], device=device
        )  # (1, L)
        with torch.no_grad():
            image.value = png(model.decode(z)[0])

    for handle in handles:
        handle.observe(follow, names="value")
    follow()
    return LatentSliders(handles, image)


def _slider(index: int, extent: float) -> widgets.FloatSlider:
    return widgets.FloatSlider(
        value=0.0,
        min=-extent,
        max=extent,
        step=0.1,
        readout_format=".1f",
        description=f"$z_{{{index + 1}}}$",
        tooltip=say("slider-name", index=index + 1),
        style={"description_width": "3em"},
        layout={"width": "22em"},
    )
