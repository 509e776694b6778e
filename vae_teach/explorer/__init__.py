"""The explorer: a widget whose JavaScript runs the decoder, alive without a kernel.

Everything it needs travels in its state: the decoder's weights as half-precision
bytes, the codes of up to a thousand images, the words. So it is alive in a notebook
that was never run and in a page on a disk.
"""

import io
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anywidget
import torch
import torch.nn.functional as F
import traitlets
from PIL import Image
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from vae_teach.data import Images, draw_bits, grey
from vae_teach.figures import Pictured, side_of
from vae_teach.guards import check_width
from vae_teach.models import Adapted, adapt
from vae_teach.speed.threads import shares_cores
from vae_teach.words import current_language, say

MAP_IMAGES = 1_000
"""Codes behind the pad: enough to show the classes, few enough to repaint at once."""
KEPT_IMAGES = 200
"""Images kept for the nearest one: 78 kB of the state at four bits a pixel."""
GRID, GREYS, ZOOM = 9, 16, 1.5
"""Of the picture without JavaScript: points a side, levels (12 kB), its enlargement."""
FOLLOWERS: dict[str, Callable[[Tensor], Tensor]] = {
    "nothing": lambda h: h,
    "relu": torch.relu,
    "leaky_relu": F.leaky_relu,
    "leaky_relu_0.2": partial(F.leaky_relu, negative_slope=0.2),
    "elu": F.elu,
    "silu": F.silu,
    "gelu": partial(F.gelu, approximate="tanh"),
    "softplus": F.softplus,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}
"""What may follow a layer of a decoder; the browser has the same, by these names."""
TRIED, CLOSE = 100, 1e-3
"""Points at which a decoder is watched; how far its numbers may lie from what would
follow: less than a grey level, and more than what gelu loses by tanh."""
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
        model: Any,
        images: Images | None = None,
        *,
        extent: float = 3.0,
        neighbours: bool = True,
    ) -> None:
        if not 0 < extent < math.inf:
            raise ValueError(say("not-above-zero", name="extent", got=extent))
        view = adapt(model)
        with torch.no_grad(), _at_rest(view.model):
            layers = _decoder_layers(view, extent)
            latents, pixels = layers[0][0].in_features, layers[-1][0].out_features
            has_q = view.has_q(view.like.new_zeros(1, pixels))
            weights = b"".join(_half(t) for a, _ in layers for t in (a.weight, a.bias))
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


@contextmanager
def _at_rest(model: Any) -> Iterator[None]:
    """Put a model in evaluation mode; afterwards each part is in its own mode again."""
    parts = [*model.modules()] if isinstance(model, nn.Module) else []
    modes = [part.training for part in parts]
    for part in parts:
        part.training = False
    try:
        yield
    finally:
        for part, mode in zip(parts, modes, strict=True):
            part.training = mode


def _decoder_layers(view: Adapted, extent: float) -> list[tuple[nn.Linear, str]]:
    """Return the layers that decode z, in their order, and what follows each.

    Nothing is taken on trust: between layer and layer, and at the end, stands what a
    follower makes of the numbers, or the model is refused.
    """
    seeded = torch.Generator().manual_seed(0)
    z = extent * (2 * torch.rand(TRIED, view.latent_dim, generator=seeded) - 1)
    z = z.to(view.like)  # (TRIED, L)
    calls, means = _watched(view, z)
    if not means.isfinite().all():
        raise ValueError(say("explorer-not-finite"))
    if view.bernoulli:
        view.decode_logits(z)  # refuses what are no probabilities
    layers = [layer for layer, _, _ in calls]
    before = [z, *(returned for _, _, returned in calls)]
    after = [*(taken for _, taken, _ in calls), means]
    found = [
        min((_apart(follow(a), b), name) for name, follow in FOLLOWERS.items())
        for a, b in zip(before, after, strict=True)
    ]
    first, *names = (name for _, name in found)
    known = first == "nothing" and all(gap < CLOSE for gap, _ in found)
    if not (layers and known and all(layer.bias is not None for layer in layers)):
        takes, got = ", ".join([*FOLLOWERS][1:]), type(view.model).__name__
        raise TypeError(say("explorer-model", got=got, takes=takes))
    side_of(layers[-1].bias)  # refuses what makes no square
    return [*zip(layers, names, strict=True)]


def _watched(
    view: Adapted, z: Tensor
) -> tuple[list[tuple[nn.Linear, Tensor, Tensor]], Tensor]:
    """Decode z: each linear layer with what it takes and returns, and the means."""
    calls = []

    def note(part: nn.Module, taken: tuple[Tensor, ...], returned: Tensor) -> None:
        if isinstance(part, nn.Linear):  # copies: a ReLU may work in place
            calls.append((part, taken[0].clone(), returned.clone()))

    with register_module_forward_hook(note):
        return calls, view.decode(z)


def _apart(a: Tensor, b: Tensor) -> float:
    """Return how far two tensors are apart at most; infinity for unlike shapes."""
    return (a - b).abs().max().item() if a.shape == b.shape else math.inf


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


def _half(tensor: Tensor) -> bytes:
    half = tensor.detach().cpu().to(torch.float16)
    if not half.isfinite().all():
        raise ValueError(say("explorer-not-finite"))
    return half.numpy().astype("<f2").tobytes()


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
        "codes": _half(view.codes(x.to(view.like))),  # (N, L)
        "classes": images.labels.cpu()[order].to(torch.uint8).numpy().tobytes(),
        "thumbnails": _four_bits(pixels[: min(KEPT_IMAGES, count) * neighbours]),
    }


def _four_bits(pixels: Tensor) -> bytes:
    """Pack pixels in [0, 1] as 16 levels, two a byte, the first in the high half."""
    levels = (pixels.flatten() * 15).round().to(torch.uint8)
    levels = torch.cat([levels, levels.new_zeros(len(levels) % 2)])
    return (levels[0::2] * 16 + levels[1::2]).numpy().tobytes()
