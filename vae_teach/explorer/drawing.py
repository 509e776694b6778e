"""The drawing explorer: draw a digit and see q(z|x), the posterior and log p(x).

The page has both networks of the model and does all of it by itself, with no kernel.
It is cheap because log p(x|z) = x . l(z) - A(z): A(z) = sum_d log(1 + exp l_d(z)) is
the same for every image, is computed here once, and travels.
"""

from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import torch
import torch.nn.functional as F
import traitlets
from torch import Tensor, nn

from vae_teach import exact, figures
from vae_teach.bounds import importance_weighted
from vae_teach.data import Images, draw_bits, grey
from vae_teach.densities import log_standard_normal
from vae_teach.exact.grid import plane
from vae_teach.explorer.layers import (
    FOLLOWERS,
    Encoder,
    at_rest,
    decoder_layers,
    encoder_layers,
)
from vae_teach.explorer.page import code, half
from vae_teach.guards import check_width
from vae_teach.models import Adapted, adapt
from vae_teach.speed.threads import shares_cores
from vae_teach.words import current_language, say

EXTENT, SPACING = 5.0, 0.025
"""The plane is [-5, 5]^2, and A(z) is known every 0.025: as ``exact`` has it."""
STEPS_A_NAT = 256
"""A(z) is rounded to 1/256 nat: noise of 0.001 nats, before it averages out."""
FARTHER = 6.0
"""Where the posteriors of the test images that are compared with may reach."""
ROWS_AT_ONCE = 10
CODES, DRAWINGS, COMPARED = 500, 40, 1_000
"""Test images whose codes lie on the plane, that the pad offers, that log p(x) of a
drawing is compared with."""
MEASURED = 200
"""Test images to compare with where only a bound is known, which takes longer."""
IMPORTANCE_SAMPLES = 100
"""Of the bound that stands in for log p(x) where there are not two latents."""
DROPPED_BITS = 3
"""Of float16's ten, from the encoder's hidden weights: a sixth less to download, and
mu moves by less than 0.004."""
WINDOW, ACROSS = 81, 6.0
"""Of the still picture: points a side, standard deviations of q to either side."""
LABELS = (
    "drawing-title",
    "drawing-pad",
    "drawing-pad-help",
    "drawing-tool",
    "drawing-pen",
    "drawing-eraser",
    "drawing-undo",
    "drawing-clear",
    "drawing-example",
    "drawing-another",
    "drawing-centre",
    "drawing-lens",
    "drawing-lens-alt",
    "drawing-plane",
    "drawing-plane-alt",
    "drawing-q",
    "drawing-posterior",
    "drawing-prior",
    "drawing-point",
    "drawing-codes",
    "drawing-seen",
    "drawing-mean",
    "drawing-sample",
    "drawing-eps",
    "drawing-log-p",
    "drawing-bound",
    "drawing-elbo",
    "drawing-reconstruction",
    "drawing-kl",
    "drawing-gap",
    "drawing-numbers",
    "drawing-bars",
    "drawing-axis",
    "drawing-off",
    "drawing-off-bound",
    "drawing-less",
    "drawing-more",
    "drawing-least",
    "drawing-most",
    "drawing-empty",
    "drawing-full",
    "drawing-outside",
    "drawing-narrow",
    "drawing-no-map",
    "drawing-damaged",
)


class DrawingExplorer(figures.Pictured, anywidget.AnyWidget):
    """A pad to draw on, q(z|x) and the exact posterior beside it, log p(x) and ELBO.

    The weights are copied when it is made. The page rounds the decoder's to float16;
    A(z) is computed from the rounded ones, so that the page's log p(x) is the exact one
    of the model that it holds. For a model with other than two latents there is no map,
    and an importance-weighted bound stands in for log p(x).

    Args:
        model: a VAE, or whatever ``models.adapt`` takes, with Bernoulli pixels and the
            prior N(0, I), whose encoder and decoder are made of ``nn.Linear`` layers
            with biases, each followed by one of ``FOLLOWERS``. They are found by
            watching both at work.
        images: test images: codes of some lie on the plane, some can be taken for a
            drawing, and the log p(x) of up to a thousand tell how usual a drawing is.

    Raises:
        TypeError: encoder or decoder does anything else, or ``images`` no pixels and
            labels.
        ValueError: as for ``LatentExplorer``, and a model whose posteriors lie outside
            the plane [-5, 5]^2.

    Lesson 06 shows it.
    """

    _esm, _css = code(Path(__file__).parent, "ledger", "drawing")

    spec = traitlets.Dict().tag(sync=True)  # sizes, plane, percentiles of log p(x)
    weights = traitlets.Bytes().tag(sync=True)  # of the decoder, float16
    encoder = traitlets.Bytes().tag(sync=True)  # its weights, float16
    partition = traitlets.Bytes().tag(sync=True)  # A(z), int16 differences
    codes = traitlets.Bytes().tag(sync=True)  # float16 (N, L)
    classes = traitlets.Bytes().tag(sync=True)  # uint8 (N,)
    drawings = traitlets.Bytes().tag(sync=True)  # test images, one bit a pixel
    labels = traitlets.Dict().tag(sync=True)

    def __init__(self, model: Any, images: Images) -> None:
        if not isinstance(images, Images):
            raise TypeError(say("explorer-images", got=type(images).__name__))
        view = adapt(model)
        with torch.no_grad(), at_rest(view.model):
            decoder = _drawable(view)
            pixels = decoder[-1][0].out_features
            check_width("images.pixels", grey(images.pixels[:1]), pixels)
            order = torch.linspace(0, len(images) - 1, min(COMPARED, len(images)))
            x = binary(images, order.long()).to(view.like)  # (N, D)
            found = encoder_layers(view, x[:DRAWINGS])
            rounded = [_Rounded(layer, name) for layer, name in decoder]
            latents = decoder[0][0].in_features
            table, start = _partition(rounded) if latents == 2 else (b"", 0)
            self._still = _still(view, x[0]) if latents == 2 else _blank_still(x[0])
            spec = {
                "layers": [layer.row for layer in rounded],
                "encoder": _encoder_spec(found),
                "side": round(pixels**0.5),
                "extent": EXTENT,
                "spacing": SPACING,
                "start": start,
                "steps": STEPS_A_NAT,
                "samples": IMPORTANCE_SAMPLES,
                "percentiles": _percentiles(view, x),
            }
            spread = torch.linspace(0, len(x) - 1, min(CODES, len(x))).long()
            packed = {
                "weights": b"".join(layer.packed for layer in rounded),
                "encoder": _pack_encoder(found),
                "partition": table,
                "codes": half(view.codes(x[spread])),
                "classes": bytes(images.labels[order.long()][spread].tolist()),
                "drawings": np.packbits(x[:DRAWINGS].bool().cpu().numpy()).tobytes(),
            }
        super().__init__(spec=spec, labels=self.words(), **packed)

    @staticmethod
    def words() -> dict[str, str]:
        """Return the words of the page in the language in use, and which one it is."""
        labels = {key.removeprefix("drawing-"): say(key) for key in LABELS}
        return labels | {"language": current_language()}

    def __repr__(self) -> str:
        """Say what to do, where Jupyter shows text in place of an unknown widget."""
        return say("drawing-as-text")

    def still(self) -> tuple[bytes, str, int]:
        """Return a picture of the first test image, its q and its posterior."""
        return self._still


def binary(images: Images, chosen: Tensor) -> Tensor:
    """Return some images with pixels 0 or 1, (B, D): those that are not are drawn."""
    pixels = grey(images.pixels.cpu()[chosen])
    if ((pixels == 0) | (pixels == 1)).all():
        return pixels
    return draw_bits(pixels, torch.Generator().manual_seed(0))


def _drawable(view: Adapted) -> list[tuple[nn.Linear, str]]:
    """Return the decoder's layers; TypeError for a model that cannot be drawn for."""
    has_q = view.has_q(view.like.new_zeros(1, view.decode(_origin(view)).shape[-1]))
    if not (view.bernoulli and view.standard_prior and has_q):
        raise TypeError(say("drawing-model", got=type(view.model).__name__))
    return decoder_layers(view, EXTENT)


def _origin(view: Adapted) -> Tensor:
    return view.like.new_zeros(1, view.latent_dim)


class _Rounded:
    """A layer as the page has it: weights and biases in float16, and what follows."""

    def __init__(self, layer: nn.Linear, name: str) -> None:
        self.name = name
        self.row = [layer.in_features, layer.out_features, name]
        self.packed = half(layer.weight) + half(layer.bias)
        self.weight = layer.weight.half().float().cpu()
        self.bias = layer.bias.half().float().cpu()


@shares_cores
def _partition(layers: list[_Rounded]) -> tuple[bytes, int]:
    """Return A(z) on the lattice, packed, and its value in the corner.

    Both are in steps of 1 / STEPS_A_NAT. Each number is replaced by how far it lies
    from what its three neighbours before it foretell, left + below - diagonal: a small
    integer, from which two running sums restore the table.
    """
    count = round(2 * EXTENT / SPACING) + 1
    line = torch.linspace(-EXTENT, EXTENT, count)
    rows = []
    for z1 in line.split(ROWS_AT_ONCE):
        h = plane(z1, line)
        for layer in layers[:-1]:
            h = FOLLOWERS[layer.name](F.linear(h, layer.weight, layer.bias))
        logits = F.linear(h, layers[-1].weight, layers[-1].bias)  # (G, D)
        rows.append(F.softplus(logits).sum(1, dtype=torch.float64))
    table = torch.cat(rows).reshape(count, count)  # z2 runs fastest
    steps = (table * STEPS_A_NAT).round().long()
    start = int(steps[0, 0])
    steps = steps - start
    left = F.pad(steps, (0, 0, 1, 0))  # a row of zeros before the first
    step_down = left[1:] - left[:-1]
    across = F.pad(step_down, (1, 0))
    residuals = across[:, 1:] - across[:, :-1]
    if residuals.abs().max() > 2**15 - 1:
        raise ValueError(say("drawing-steep"))
    return residuals.to(torch.int16).numpy().astype("<i2").tobytes(), start


def _encoder_spec(found: Encoder) -> dict[str, Any]:
    rows = [[a.in_features, a.out_features, name] for a, name in found.hidden]
    rows.append([found.weights.shape[1], found.weights.shape[0], "nothing"])
    return {"layers": rows, "follower": found.follower, "spread": found.spread}


def _pack_encoder(found: Encoder) -> bytes:
    """Pack hidden layers, then both heads as one: W (out, in), then b, by layer."""
    parts = []
    for layer, _ in found.hidden:
        parts += [_fewer_bits(half(layer.weight)), half(layer.bias)]
    parts += [half(found.weights), half(found.biases)]
    return b"".join(parts)


def _fewer_bits(packed: bytes) -> bytes:
    """Round float16 numbers to fewer bits: the zeros at their ends compress well."""
    numbers = np.frombuffer(packed, "<u2").astype(np.uint32)
    half_a_step = 1 << (DROPPED_BITS - 1)
    rounded = (numbers + half_a_step) >> DROPPED_BITS << DROPPED_BITS
    return rounded.astype("<u2").tobytes()


@shares_cores
def _percentiles(view: Adapted, x: Tensor) -> list[float]:
    """Return the 99 percentiles of log p(x), or of its bound, over test images."""
    if view.latents(x) == 2:
        values = exact.log_likelihood(view, x, grid=480, extent=FARTHER)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            values = importance_weighted(view, x[:MEASURED], IMPORTANCE_SAMPLES)
    shares = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    return [round(v, 2) for v in values.double().cpu().quantile(shares).tolist()]


@shares_cores
def _still(view: Adapted, x: Tensor) -> tuple[bytes, str, int]:
    """Return a picture of one image, its q and its posterior, what it says, its width.

    Two latents: the window is as wide as 6 standard deviations of q to either side.
    """
    q = view.q(x[None])
    mu, sigma = q.mean[0].double().cpu(), _deviation(q)[0].double().cpu()
    reach = ACROSS * float(sigma.max())
    line = torch.linspace(-reach, reach, WINDOW, dtype=torch.float64)
    z = plane(mu[0] + line, mu[1] + line).to(view.like)  # (G, 2)
    joint = view.log_conditional(x, z) + log_standard_normal(z)  # (G,)
    share = joint.double().softmax(0).reshape(WINDOW, WINDOW).T.cpu()  # z2 down
    levels = [_level(share, mass) for mass in (0.95, 0.5)]
    alt = say("drawing-alt", mu1=float(mu[0]), mu2=float(mu[1]))
    figure, axes = figures.picture(alt, width=6.6, height=3.1, columns=2)
    figures.show_digits(axes[0], x[None].cpu(), columns=1, title=say("drawing-digit"))
    right = axes[1]
    places = [(mu[k] + line).numpy() for k in (0, 1)]
    green, orange = figures.COLORS["posterior"], figures.COLORS["q"]
    if levels[0] < levels[1] < 1:  # or it is a point of this grid
        colors = [f"{green}66", f"{green}cc"]
        right.contourf(*places, share, levels=[*levels, 1.0], colors=colors)
    angle = np.linspace(0, 2 * np.pi, 200)
    for mass, style in ((0.5, "-"), (0.95, "--")):
        radius = np.sqrt(-2 * np.log(1 - mass))
        ring = [
            mu[k].item() + sigma[k].item() * radius * part(angle)
            for k, part in ((0, np.cos), (1, np.sin))
        ]
        right.plot(*ring, style, color=orange, linewidth=1.8)
    right.set(xlabel="$z_1$", ylabel="$z_2$", aspect="equal")
    right.set_title(say("drawing-lens"), loc="left", fontsize=10)
    width, _ = figure.get_size_inches()
    return figure.png(), alt, round(width * figures.SHOWN_DPI)


def _level(share: Tensor, mass: float) -> float:
    """Return the height above which so much of a density lies."""
    heights = share.flatten().sort(descending=True).values
    return float(heights[int((heights.cumsum(0) < mass).sum())])


def _deviation(q: Any) -> Tensor:
    return torch.exp(0.5 * q.logvar)


def _blank_still(x: Tensor) -> tuple[bytes, str, int]:
    """Return a picture of one image alone, for a model with no plane to show."""
    alt = say("drawing-alt-alone")
    figure, (ax,) = figures.picture(alt, width=3.0, height=3.1)
    figures.show_digits(ax, x[None].cpu(), columns=1, title=say("drawing-digit"))
    return figure.png(), alt, round(3.0 * figures.SHOWN_DPI)
