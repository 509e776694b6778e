"""Sliders that a kernel drives: through the latent space, or through any picture.

``latent_sliders`` decodes a point z; ``panel`` redraws a figure of the lesson's own.
The explorer walks the latent space in the browser.
"""

import html
import io
import math
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as widgets
import torch
from PIL import Image
from torch import Tensor

from vae_teach.figures import SHOWN_DPI, Picture, Pictured, side_of
from vae_teach.guards import check_count
from vae_teach.models import adapt
from vae_teach.words import say

ZOOM = 10  # screen pixels along one pixel of a digit


def png(pixels: Tensor, *, zoom: int = ZOOM) -> bytes:
    """Return one image (784,) in [0, 1] as a PNG, each pixel ``zoom`` wide.

    Raises ValueError if zoom is below 1.
    """
    zoom = check_count("zoom", zoom)
    side = side_of(pixels)
    levels = (255 * pixels.float()).round().to(torch.uint8).reshape(side, side)
    side *= zoom
    image = Image.fromarray(levels.cpu().numpy()).resize(
        (side, side), Image.Resampling.NEAREST
    )
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


class LatentSliders(Pictured, widgets.Box):  # type: ignore[misc]
    """The sliders and their picture; where no widget can be shown, the picture alone.

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

    def still(self) -> tuple[bytes, str, int]:
        """Return the decoded picture, where the sliders stand, and its width."""
        values = [say("coordinate", value=slider.value) for slider in self.sliders]
        point = "; ".join(f"z{i} = {value}" for i, value in enumerate(values, start=1))
        width = int(self.image.layout.width.removesuffix("px"))
        return bytes(self.image.value), say("sliders-alt", point=point), width

    def __repr__(self) -> str:
        return say("sliders-fallback")


def latent_sliders(model: Any, *, extent: float = 3.0) -> LatentSliders:
    """Return one slider per latent coordinate and the decoder's mean at that point.

    Mouse, touch and keyboard: arrows move by 0.1, Home and End go to the ends.

    Args:
        model: its decoder is called once for each move.
        extent: the sliders span -extent to +extent, in prior standard deviations.

    Returns:
        A widget; ``.sliders`` are its sliders and ``.image`` its picture.

    Raises:
        ValueError: extent is not above zero.
    """
    if not extent > 0:
        raise ValueError(say("not-above-zero", name="extent", got=extent))
    model = adapt(model)
    handles = [_slider(i, extent) for i in range(model.latent_dim)]
    image = widgets.Image(format="png")

    def follow(_: object = None) -> None:
        values = [handle.value for handle in handles]
        with torch.no_grad():
            pixels = model.decode(model.like.new_tensor([values]))[0]  # (D,)
        image.value = png(pixels)
        image.layout.width = image.layout.height = f"{side_of(pixels) * ZOOM}px"

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


class Panel(Pictured, widgets.VBox):  # type: ignore[misc]
    """Controls, the picture that they redraw, and below it what it shows, in words.

    Args:
        controls: by the names of the values that they give.
        draw: called with these values; returns a picture.

    Attributes:
        controls: set ``panel.controls["mu"].value`` to move one from code.
        picture: the picture as it is drawn now.
        image: the widget that shows it.
    """

    def __init__(
        self, controls: dict[str, widgets.Widget], draw: Callable[..., Picture]
    ) -> None:
        self.controls, self._draw = controls, draw
        self.image, self._words = widgets.Image(format="png"), widgets.HTML()
        self.image.add_class("vae-sliders-image")
        handles = widgets.Box([*controls.values()], layout={"flex_flow": "row wrap"})
        self._follow()
        for control in controls.values():
            control.observe(self._follow, names="value")
        super().__init__([handles, self.image, self._words])
        self.add_class("vae-sliders")

    def _follow(self, _: object = None) -> None:
        values = {name: control.value for name, control in self.controls.items()}
        self.picture = self._draw(**values)
        self.image.layout.width = f"{self._width}px"
        self.image.layout.max_width = "100%"
        self.image.value = self.picture.png()
        text = html.escape(self.picture.alt)
        self._words.value = f'<p role="status" style="line-height:1.4">{text}</p>'

    @property
    def _width(self) -> int:
        return round(self.picture.get_figwidth() * SHOWN_DPI)

    def still(self) -> tuple[bytes, str, int]:
        """Return the picture as it is drawn now, its description and its width."""
        return bytes(self.image.value), self.picture.alt, self._width

    def __repr__(self) -> str:
        return say("panel-fallback")


def panel(draw: Callable[..., Picture], **controls: widgets.Widget) -> Panel:
    """Return controls above a picture that follows them.

    The picture's alternative text stands below it, so let it name the numbers that
    move: who cannot see the picture, or wants its numbers, reads them there.

    Args:
        draw: called with one value per control, by name; returns a picture, as
            ``figures.picture`` makes it. Keep it under a tenth of a second.
        controls: made by ``slider`` and ``choice``.

    Raises:
        TypeError: a control has no value.
    """
    for name, control in controls.items():
        if not hasattr(control, "value"):
            raise TypeError(
                say("panel-wrong-value", name=name, got=type(control).__name__)
            )
    return Panel(controls, draw)


def slider(
    label: str, low: float, high: float, *, step: float = 0.1, value: float = 0.0
) -> widgets.FloatSlider:
    r"""Return a slider: mouse, touch, arrows by ``step``, Home and End to the ends.

    ``label`` may hold a formula, such as ``r"$\mu$"``. Raises ValueError unless low is
    below high and the step is above zero.
    """
    if not (low < high and step > 0):
        raise ValueError(say("slider-range", low=low, high=high, step=step))
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return widgets.FloatSlider(
        value=value,
        min=low,
        max=high,
        step=step,
        readout_format=f".{decimals}f",
        description=label,
        style={"description_width": "initial"},
        layout={"width": "22em"},
    )


def choice(
    label: str, options: Sequence[Any], *, value: Any = None
) -> widgets.SelectionSlider:
    """Return a slider over ``options``, or over (text, value) pairs.

    Starts at ``value``, the first if None. Raises ValueError for no options.
    """
    if not options:
        raise ValueError(say("choice-empty"))
    texts = [
        str(option[0] if isinstance(option, tuple) else option) for option in options
    ]
    letters = len(label) + max(map(len, texts))  # shown beside the track, and uncut
    handle = widgets.SelectionSlider(
        options=options,
        description=label,
        style={"description_width": "initial"},
        layout={"width": f"{max(22, 13 + 0.7 * letters):.0f}em", "flex": "0 0 auto"},
    )
    if value is not None:
        handle.value = value
    return handle


def sweep(shown: Panel | LatentSliders) -> int:
    """Move each control to both ends and back; return how many pictures were seen.

    A lesson calls it so that its tests run every callback.
    """
    handles = (
        shown.sliders
        if isinstance(shown, LatentSliders)
        else [*shown.controls.values()]
    )
    seen = {bytes(shown.image.value)}
    for handle in handles:
        start = handle.value
        if isinstance(handle, widgets.SelectionSlider):
            ends = [handle._options_values[0], handle._options_values[-1]]
        else:
            ends = [handle.min, handle.max]
        for value in (*ends, start):
            handle.value = value
            seen.add(bytes(shown.image.value))
    return len(seen)
