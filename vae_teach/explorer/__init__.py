"""The explorer: a widget whose JavaScript runs the decoder, alive without a kernel.

Everything it needs travels in its state: the decoder's weights as half-precision
bytes, the codes of up to a thousand images, the words. So it is alive in a notebook
that was never run and in a page on a disk.
"""

import io
import math
from pathlib import Path
from typing import Any

import anywidget
import torch
import traitlets
from PIL import Image
from torch import Tensor

from vae_teach.data import Images, draw_bits, grey
from vae_teach.explorer import page
from vae_teach.explorer.drawing import DrawingExplorer
from vae_teach.explorer.layers import FOLLOWERS, at_rest, decoder_layers
from vae_teach.explorer.page import half
from vae_teach.figures import Pictured
from vae_teach.guards import check_width
from vae_teach.models import Adapted, adapt
from vae_teach.speed.threads import shares_cores
from vae_teach.words import current_language, say

__all__ = ["FOLLOWERS", "DrawingExplorer", "LatentExplorer"]

MAP_IMAGES = 1_000
"""Codes behind the pad: enough to show the classes, few enough to repaint at once."""
KEPT_IMAGES = 200
"""Images kept for the nearest one: 78 kB of the state at four bits a pixel."""
GRID, GREYS, ZOOM = 9, 16, 1.5
"""Of the picture without JavaScript: points a side, levels (12 kB), its enlargement."""
LABELS = (
    "explorer-title",
    "explorer-pad",
    "explorer-pad-role",
    "explorer-help",
    "explorer-grid",
    "explorer-across",
    "explorer-up",
    "explorer-near-class",
    "explorer-show",
    "explorer-mean",
    "explorer-mean-caption",
    "explorer-sample",
    "explorer-sample-caption",
    "explorer-again",
    "explorer-neighbour",
    "explorer-neighbour-caption",
    "explorer-path",
    "explorer-no-path",
    "explorer-record",
    "explorer-recording",
    "explorer-stop",
    "explorer-play",
    "explorer-clear",
    "explorer-points",
)


class LatentExplorer(Pictured, anywidget.AnyWidget):
    """A pad over the latent plane, a slider per coordinate, and the decoded picture.

    The weights are copied when it is made: training the model further does not change
    an explorer that is on the page. Up to float16 rounding (less than 2/255 per pixel)
    its pictures are those of ``model.decode`` in evaluation mode. The words are in the
    language in use.

    Args:
        model: a VAE, or whatever ``models.adapt`` takes, whose decoder is made of
            ``nn.Linear`` layers with biases, each followed by one of ``FOLLOWERS``.
            They are found by watching the decoder at work.
        images: training images whose codes (posterior means) are drawn behind the pad.
        extent: pad and sliders span -extent to extent, in standard deviations of p(z).
        neighbours: keep some of the images, to show the one nearest in latent space.

    Attributes:
        z: the point that is decoded, L numbers; set it, or read what the reader chose.
        path: the recorded path, a list of points (L numbers each); set it, then play.

    Raises:
        TypeError: the decoder does anything else, or ``images`` no pixels and labels.
        ValueError: the model is not square in pixels or not finite in float16, its
            ``decode`` returns logits that ``models.adapt`` was not told of, extent is
            not positive, the images have another number of pixels, or a point set as
            z or on the path is not L finite numbers.
    """

    _esm, _css = page.code(Path(__file__).parent, "explorer")

    spec = traitlets.Dict().tag(sync=True)  # layers, side, extent, prior
    weights = traitlets.Bytes().tag(sync=True)  # float16: W (out, in), then b, by layer
    codes = traitlets.Bytes().tag(sync=True)  # float16 (N, L)
    classes = traitlets.Bytes().tag(sync=True)  # uint8 (N,)
    thumbnails = traitlets.Bytes().tag(sync=True)  # of the first codes, 4 bits a pixel
    labels = traitlets.Dict().tag(sync=True)
    z: traitlets.List[float] = traitlets.List().tag(sync=True)
    path: traitlets.List[list[float]] = traitlets.List().tag(sync=True)

    def __init__(
        self,
        model: Any,
        images: Images | None = None,
        *,
        extent: float = 3.0,
        neighbours: bool = True,
    ) -> None:
        if not 0 < extent < math.inf:
            raise ValueError(say("not-above-zero", name="extent", got=extent))
        view = adapt(model)
        with torch.no_grad(), at_rest(view.model):
            layers = decoder_layers(view, extent)
            latents, pixels = layers[0][0].in_features, layers[-1][0].out_features
            has_q = view.has_q(view.like.new_zeros(1, pixels))
            weights = b"".join(half(t) for a, _ in layers for t in (a.weight, a.bias))
            self._plane = _plane(view, latents, extent)
            codes = {} if images is None else _codes(view, images, pixels, neighbours)
        spec = {
            "layers": [[a.in_features, a.out_features, name] for a, name in layers],
            "side": math.isqrt(pixels),
            "extent": extent,
            "prior": has_q and view.standard_prior,  # an autoencoder's code has none
            "bernoulli": view.bernoulli,  # or the page cannot draw pixels
        }
        labels = {key.removeprefix("explorer-"): say(key) for key in LABELS}
        super().__init__(
            spec=spec,
            weights=weights,
            labels=labels | {"language": current_language()},
            z=[0.0] * latents,
            **codes,
        )

    def __repr__(self) -> str:
        """Say what to do, where Jupyter shows text in place of an unknown widget."""
        return say("explorer-as-text", latents=self.spec["layers"][0][0])

    def still(self) -> tuple[bytes, str, int]:
        """Return what the decoder draws over the plane, its description and width."""
        extent, line = self.spec["extent"], self.spec["layers"][0][0] == 1
        shown = {"side": GRID, "low": -extent, "high": extent}
        alt = say("explorer-alt-line" if line else "explorer-alt", **shown)
        return self._plane, alt, round(ZOOM * GRID * self.spec["side"])

    @traitlets.validate("z")
    def _check_z(self, proposal: dict[str, Any]) -> list[float]:
        return self._point("z", proposal["value"])

    @traitlets.validate("path")
    def _check_path(self, proposal: dict[str, Any]) -> list[list[float]]:
        return [self._point("path", point) for point in proposal["value"]]

    def _point(self, name: str, value: Any) -> list[float]:
        latents = self.spec["layers"][0][0]
        try:
            point = [float(coordinate) for coordinate in value]
        except (TypeError, ValueError):
            point = []
        if len(point) != latents or not all(map(math.isfinite, point)):
            raise ValueError(
                say("explorer-point", name=name, got=value, latents=latents)
            )
        return point


@shares_cores
def _plane(view: Adapted, latents: int, extent: float) -> bytes:
    """Return a PNG of the plane, decoded on a grid; of the line, for one latent.

    z1 runs right and z2 runs up; the other latents are 0.
    """
    line = torch.linspace(-extent, extent, GRID).to(view.like)
    rows = GRID if latents > 1 else 1
    z = line.new_zeros(rows, GRID, latents)
    z[..., 1:2] = line.flip(0)[:rows, None, None]  # nothing, for one latent
    z[..., 0] = line
    means = view.decode(z.flatten(0, 1))  # (rows * GRID, D)
    side = math.isqrt(means.shape[-1])
    tiles = (255 * means).round().clamp(0, 255).to(torch.uint8)
    canvas = tiles.reshape(rows, GRID, side, side).transpose(1, 2)
    canvas = canvas.reshape(rows * side, GRID * side)
    file = io.BytesIO()
    image = Image.fromarray(canvas.cpu().numpy()).quantize(GREYS)
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


@shares_cores
def _codes(
    view: Adapted, images: Images, width: int, neighbours: bool
) -> dict[str, bytes]:
    """Pack the codes and classes of some images, and pictures of the first of them."""
    if not isinstance(images, Images):
        raise TypeError(say("explorer-images", got=type(images).__name__))
    check_width("images.pixels", grey(images.pixels[:1]), width)
    count = min(MAP_IMAGES, len(images))
    spread = torch.linspace(0, len(images) - 1, count).long()  # over the whole set
    stride = -(-count // KEPT_IMAGES)
    order = torch.cat([spread[k::stride] for k in range(stride)])  # kept ones first
    pixels = grey(images.pixels.cpu()[order])  # (N, D)
    seeded = torch.Generator().manual_seed(0)  # the same bits whenever it is executed
    x = (
        draw_bits(pixels, seeded) if images.dynamic else pixels
    )  # (N, D), as in training
    return {
        "codes": half(view.codes(x.to(view.like))),  # (N, L)
        "classes": images.labels.cpu()[order].to(torch.uint8).numpy().tobytes(),
        "thumbnails": _four_bits(pixels[: min(KEPT_IMAGES, count) * neighbours]),
    }


def _four_bits(pixels: Tensor) -> bytes:
    """Pack pixels in [0, 1] as 16 levels, two a byte, the first in the high half."""
    levels = (pixels.flatten() * 15).round().to(torch.uint8)
    levels = torch.cat([levels, levels.new_zeros(len(levels) % 2)])
    return (levels[0::2] * 16 + levels[1::2]).numpy().tobytes()
