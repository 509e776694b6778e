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
from torch import Tensor, nn

from vae_teach.data import Images, draw_bits
from vae_teach.figures import Pictured
from vae_teach.guards import check_width
from vae_teach.speed.threads import shares_cores
from vae_teach.words import current_language, say

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
    its pictures are those of ``model.decode``. The words are in the language in use.

    Args:
        model: a :class:`vae_teach.nets.VAE`, or another model with its decoder layers.
        images: training images whose codes (posterior means) are drawn behind the pad.
        extent: pad and sliders span -extent to extent, in standard deviations of p(z).
        neighbours: keep some of the images, to show the one nearest in latent space.

    Attributes:
        z: the point that is decoded, L numbers; set it, or read what the reader chose.
        path: the recorded path, a list of points (L numbers each); set it, then play.

    Raises:
        TypeError: the model has other layers, or ``images`` no pixels and labels.
        ValueError: the model is not square in pixels or not finite in float16, extent
            is not positive, the images have another number of pixels, or a point set
            as z or on the path is not L finite numbers.
    """

    _esm = Path(__file__).with_name("explorer.js")
    _css = Path(__file__).with_name("explorer.css")

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
        model: nn.Module,
        images: Images | None = None,
        *,
        extent: float = 3.0,
        neighbours: bool = True,
    ) -> None:
        layers = _decoder_layers(model)
        if not 0 < extent < math.inf:
            raise ValueError(say("not-above-zero", name="extent", got=extent))
        spec = {
            "layers": [[layer.in_features, layer.out_features] for layer in layers],
            "side": math.isqrt(layers[-1].out_features),
            "extent": extent,
            "prior": hasattr(model, "reparameterize"),  # an autoencoder's code has none
        }
        weights = b"".join(_half(t) for layer in layers for t in layer.parameters())
        labels = {key.removeprefix("explorer-"): say(key) for key in LABELS}
        self._plane = _plane(layers, extent)
        super().__init__(
            spec=spec,
            weights=weights,
            labels=labels | {"language": current_language()},
            z=[0.0] * layers[0].in_features,
            **({} if images is None else _map_of_codes(model, images, neighbours)),
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


def _decoder_layers(model: nn.Module) -> list[nn.Linear]:
    names = ("decoder_hidden", "decoder_logits")
    layers = [getattr(model, name, None) for name in names]
    linear = [
        layer
        for layer in layers
        if isinstance(layer, nn.Linear) and layer.bias is not None
    ]
    if len(linear) != len(names):
        raise TypeError(say("explorer-model", got=type(model).__name__))
    pixels = linear[-1].out_features
    if math.isqrt(pixels) ** 2 != pixels:
        raise ValueError(say("explorer-not-square", got=pixels))
    return linear


@shares_cores
@torch.no_grad()
def _plane(layers: list[nn.Linear], extent: float) -> bytes:
    """Return a PNG of the plane, decoded on a grid; of the line, for one latent.

    z1 runs right and z2 runs up; the other latents are 0.
    """
    hidden, logits = layers
    line = torch.linspace(-extent, extent, GRID).to(hidden.weight)
    rows = GRID if hidden.in_features > 1 else 1
    z = line.new_zeros(rows, GRID, hidden.in_features)
    z[..., 1:2] = line.flip(0)[:rows, None, None]  # nothing, for one latent
    z[..., 0] = line
    means = logits(torch.relu(hidden(z))).sigmoid()  # (rows, GRID, D)
    side = math.isqrt(logits.out_features)
    tiles = (255 * means).round().to(torch.uint8).unflatten(-1, (side, side))
    canvas = tiles.transpose(1, 2).reshape(rows * side, GRID * side)
    file = io.BytesIO()
    image = Image.fromarray(canvas.cpu().numpy()).quantize(GREYS)
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def _half(tensor: Tensor) -> bytes:
    half = tensor.detach().cpu().to(torch.float16)
    if not half.isfinite().all():
        raise ValueError(say("explorer-not-finite"))
    return half.numpy().astype("<f2").tobytes()


@shares_cores
@torch.no_grad()
def _map_of_codes(model: Any, images: Images, neighbours: bool) -> dict[str, bytes]:
    """Pack the codes and classes of some images, and pictures of the first of them."""
    if not isinstance(images, Images):
        raise TypeError(say("explorer-images", got=type(images).__name__))
    check_width("images.pixels", images.pixels, model.decoder_logits.out_features)
    count = min(MAP_IMAGES, len(images))
    spread = torch.linspace(0, len(images) - 1, count).long()  # over the whole set
    stride = -(-count // KEPT_IMAGES)
    order = torch.cat([spread[k::stride] for k in range(stride)])  # kept ones first
    pixels = images.pixels.cpu()[order]  # (N, D)
    seeded = torch.Generator().manual_seed(0)  # the same bits whenever it is executed
    x = (
        draw_bits(pixels, seeded) if images.dynamic else pixels
    )  # (N, D), as in training
    code = model.encode(x.to(model.decoder_logits.weight))
    mu = code if isinstance(code, Tensor) else code[0]  # (N, L); an AE's is the code
    return {
        "codes": _half(mu),
        "classes": images.labels.cpu()[order].to(torch.uint8).numpy().tobytes(),
        "thumbnails": _four_bits(pixels[: min(KEPT_IMAGES, count) * neighbours]),
    }


def _four_bits(pixels: Tensor) -> bytes:
    """Pack pixels in [0, 1] as 16 levels, two a byte, the first in the high half."""
    levels = (pixels.flatten() * 15).round().to(torch.uint8)
    levels = torch.cat([levels, levels.new_zeros(len(levels) % 2)])
    return (levels[0::2] * 16 + levels[1::2]).numpy().tobytes()
