"""Static pictures, each with its alternative text in the language in use.

A picture is a matplotlib figure that knows how to describe itself: a notebook stores
the description beside the image. One colour means one thing in the whole course (the
Okabe-Ito set, which colour-blind readers tell apart), and never alone: a label, a line
style or a marker says the same. Digits are white on black everywhere.
"""

import base64
import io
import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from inspect import isfunction
from typing import Any

import numpy as np
import torch
from matplotlib import rc_context, rcParams, rcParamsDefault
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from vae_teach.data import Images, draw_bits
from vae_teach.guards import check_count
from vae_teach.models import adapt, alike
from vae_teach.speed.threads import shares_cores
from vae_teach.train import History
from vae_teach.words import say

COLORS = {
    "data": "#000000",
    "prior": "#0072B2",
    "q": "#D55E00",
    "posterior": "#009E73",
    "reconstruction": "#56B4E9",
    "kl": "#E69F00",
    "gap": "#CC79A7",
}
DIGIT_COLORS = (  # Paul Tol's "muted" set and black: ten that colour-blind readers tell
    *("#332288", "#88CCEE", "#44AA99", "#117733", "#999933"),
    *("#DDCC77", "#CC6677", "#882255", "#AA4499", "#000000"),
)
SHOWN_DPI, STORED_DPI = 96, 120  # stored a quarter larger, for sharp screens
PNG_COLORS, NO_DITHER = 64, Image.Dither.NONE
SPREAD = Image.Quantize.MAXCOVERAGE  # keeps rare colours: thin lines, small markers
STYLE = {k: v for k, v in rcParamsDefault.items() if not k.startswith("backend")}


@contextmanager
def own_style() -> Iterator[None]:
    """Draw in matplotlib's default style: a reader's own is for their own figures."""
    others = {key: value for key, value in STYLE.items() if rcParams[key] != value}
    with rc_context(others) if others else nullcontext():
        yield


def styled(kind: type) -> type:
    """Let the public methods of a class of matplotlib draw so; return a subclass."""
    methods = {
        name: own_style()(method)
        for base in reversed(kind.__mro__)
        if base.__name__ in ("Axes", "FigureBase", "Figure")
        for name, method in vars(base).items()
        if isfunction(method) and not name.startswith("_")
    }
    return type(kind.__name__, (kind,), methods)


PictureAxes = styled(Axes)


class Picture(styled(Figure)):  # type: ignore[misc]
    """A matplotlib figure with a description, shown as one image with that text.

    Args:
        alt: what readers who cannot see it should know, in the language in use.
        width: inches.
        height: inches.
    """

    @own_style()
    def __init__(self, alt: str, width: float, height: float) -> None:
        super().__init__(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(self)
        self.alt, self.stored_dpi = alt, STORED_DPI

    def add_subplot(self, *args: Any, **kwargs: Any) -> Axes:
        """Add axes in the style of the picture, as ``subplots`` does for each."""
        if not {"projection", "polar"} & kwargs.keys():
            kwargs = {"axes_class": PictureAxes} | kwargs
        return super().add_subplot(*args, **kwargs)

    def png(self) -> bytes:
        """Return the picture as a PNG file, of few colours to keep it small."""
        drawn, packed = io.BytesIO(), io.BytesIO()
        self.savefig(drawn, format="png", dpi=self.stored_dpi)
        image = Image.open(drawn).convert("RGB")
        colors = image.quantize(PNG_COLORS, method=SPREAD, dither=NO_DITHER)
        colors.save(packed, "PNG", optimize=True)
        return packed.getvalue()

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, Any]]:
        image = base64.b64encode(self.png()).decode()
        width, height = (round(side * SHOWN_DPI) for side in self.get_size_inches())
        metadata = {"alt": self.alt, "width": width, "height": height}
        return {"image/png": image, "text/plain": self.alt}, {"image/png": metadata}


class Pictured:
    """What a widget inherits to bring its picture along, stored with its description.

    JupyterLab shows the widget; code hosts, notebooks that are not trusted and pages
    without JavaScript show the picture. It stands before the widget's own class.
    """

    def still(self) -> tuple[bytes, str, int]:
        """Return a PNG, its description and its width on the screen, in pixels."""
        raise NotImplementedError

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        data = super()._repr_mimebundle_(**kwargs)  # type: ignore[misc]
        if isinstance(data, tuple):  # anywidget adds metadata, which are empty
            data, _ = data
        png, alt, width = self.still()
        across, down = Image.open(io.BytesIO(png)).size
        about = {"alt": alt, "width": width, "height": round(width * down / across)}
        image = base64.b64encode(png).decode()
        return data | {"image/png": image}, {"image/png": about}


def picture(
    alt: str, *, width: float = 7.5, height: float = 3.0, columns: int = 1
) -> tuple[Picture, list[Axes]]:
    """Return an empty picture and its axes, side by side, numbers in the language.

    ``alt`` describes it; ``width`` and ``height`` are inches.
    """
    figure = Picture(alt, width, height)
    axes = list(figure.subplots(1, columns, squeeze=False)[0])
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter(lambda value, _: say("tick", value=value))
    return figure, axes


def side_of(pixels: Tensor) -> int:
    """Return the side of square images (..., D); ValueError if D is no square."""
    count = pixels.shape[-1]
    if math.isqrt(count) ** 2 != count:
        raise ValueError(say("not-square", got=count))
    return math.isqrt(count)


def mosaic(pixels: Tensor, *, columns: int, gap: int = 1) -> np.ndarray[Any, Any]:
    """Lay (N, D) square images in rows of ``columns``, with white lines between them.

    Returns (rows * side, columns * side) and the lines, in [0, 1].
    """
    columns = check_count("columns", columns)
    rows = math.ceil(len(pixels) / columns)
    side = side_of(pixels)
    step = side + gap
    canvas = np.ones((rows * step - gap, columns * step - gap), dtype=np.float32)
    for i, image in enumerate(pixels.detach().float().cpu().numpy()):
        top, left = step * (i // columns), step * (i % columns)
        canvas[top : top + side, left : left + side] = image.reshape(side, side)
    return canvas


def show_digits(ax: Axes, pixels: Tensor, *, columns: int, title: str = "") -> None:
    """Draw (N, D) square images on ``ax``, ``columns`` in a row."""
    canvas = mosaic(pixels, columns=columns)
    ax.imshow(canvas, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.set_axis_off()
    ax.set_title(title, loc="left", fontsize=10)


def gallery(
    rows: dict[str, Tensor], *, columns: int, alt: str, width: float = 7.5
) -> Picture:
    """Stack titled rows of images, a dict from title to (N, D) pixels.

    ``alt`` describes the whole.
    """
    tile = width / columns
    lines = [math.ceil(len(pixels) / columns) for pixels in rows.values()]
    figure = Picture(alt, width, tile * sum(lines) + 0.3 * len(lines))
    axes = figure.subplots(len(rows), 1, squeeze=False, height_ratios=lines)[:, 0]
    for ax, (title, pixels) in zip(axes, rows.items(), strict=True):
        show_digits(ax, pixels, columns=columns, title=title)
    return figure


def one_of_each(images: Images) -> Tensor:
    """Return the index of the first image of each label, in the order of the labels."""
    labels = images.labels.tolist()
    return torch.tensor([labels.index(label) for label in sorted(set(labels))])


@torch.no_grad()
def reconstructions(model: Any, images: Images, *, count: int = 10) -> Picture:
    """Show images and, below them, the decoder's means at the means of their q(z|x).

    The first of each label, then the first of the others, up to ``count``. Grey images
    that train dynamically are shown in one draw of their bits, which is what the
    encoder sees. Raises ValueError if count is below 1.
    """
    count = check_count("count", count)
    first = one_of_each(images).tolist()
    rest = [i for i in range(min(len(images), count)) if i not in first]
    chosen = torch.tensor((first + rest)[:count])
    x = images.take(chosen.to(images.pixels.device))  # (B, D)
    model = adapt(model)
    mu = model.codes(alike(x, model.like))  # (B, L)
    rows = {say("originals"): x, say("reconstructed-means"): model.decode(mu)}
    alt = say("alt-reconstructions", count=len(x))
    return gallery(rows, columns=min(len(x), 10), alt=alt)


@torch.no_grad()
def samples(
    model: Any, *, count: int = 10, generator: torch.Generator | None = None
) -> Picture:
    """Show draws from the model: decoder means, and pixels drawn from those means.

    The z are drawn from the prior by ``generator``, which lives on the CPU. Raises
    ValueError if count is below 1.
    """
    count = check_count("count", count)
    model = adapt(model)
    z = torch.randn(count, model.latent_dim, generator=generator)  # (B, L)
    means = model.decode(alike(z, model.like)).cpu()  # (B, D)
    rows = {
        say("sample-means"): means,
        say("sample-pixels"): draw_bits(means, generator),
    }
    alt = say("alt-samples", count=count)
    return gallery(rows, columns=min(count, 10), alt=alt)


def normal_quantiles(n: int) -> Tensor:
    """Return the n points that cut N(0, 1) into pieces of mass 1/n, at their middles.

    z_i = inverse normal CDF at (i + 1/2) / n: (n,). Raises ValueError if n is below 1.
    """
    n = check_count("n", n)
    masses = (torch.arange(n) + 0.5) / n  # (n,) to the left of each point
    return torch.special.ndtri(masses)


@shares_cores
@torch.no_grad()
def manifold_tiles(model: Any, n: int = 20) -> Tensor:
    """Decode the plane of two latents on a grid of equal prior mass.

    Tile (row, column) is the decoder's mean at z1 = quantile[column] and z2 =
    quantile[n - 1 - row]: z1 runs right and z2 runs up. Returns (n, n, D). Raises
    ValueError for a model without exactly two latents.
    """
    model = adapt(model)
    if model.latent_dim != 2:
        raise ValueError(say("two-latents", got=model.latent_dim))
    n = check_count("n", n)
    points = normal_quantiles(n)
    z2, z1 = torch.meshgrid(points.flip(0), points, indexing="ij")  # (n, n) each
    z = torch.stack((z1, z2), -1).reshape(-1, 2)  # (n * n, 2)
    return model.decode(alike(z, model.like)).cpu().reshape(n, n, -1)


def manifold(model: Any, n: int = 20) -> Picture:
    """Show the plane of two latents: n x n decoder means, equal prior mass per tile.

    Raises ValueError for a model without exactly two latents.
    """
    n = check_count("n", n)
    tiles = manifold_tiles(model, n).reshape(n * n, -1)
    canvas = mosaic(tiles, columns=n, gap=0)
    figure, (ax,) = picture(say("alt-manifold", n=n), width=6.6, height=6.6)
    figure.stored_dpi = SHOWN_DPI  # the one large picture: 313,600 grey pixels
    ax.imshow(canvas, cmap="gray", vmin=0, vmax=1)
    shown = np.unique(np.linspace(0, n - 1, min(n, 7)).round().astype(int))
    names = [say("coordinate", value=z) for z in normal_quantiles(n)[shown].tolist()]
    side = side_of(tiles)
    ax.set_xticks(side * (shown + 0.5), names)
    ax.set_yticks(side * (n - 1 - shown + 0.5), names)
    ax.set(xlabel="$z_1$", ylabel="$z_2$")
    ax.set_title(say("manifold-title", n=n), loc="left", fontsize=10)
    return figure


@shares_cores
@torch.no_grad()
def latent_map(model: Any, images: Images, *, count: int = 5000) -> Picture:
    """Show where q(z|x) puts the images: its means, coloured by digit, and the prior.

    The first two latents of the first ``count`` images; rings hold 50 % and 95 % of
    the prior's mass. Beyond ten digits colours come again. Raises ValueError for a
    model with one latent, or a count below 1.
    """
    count = check_count("count", count)
    model = adapt(model)
    if model.latent_dim < 2:
        raise ValueError(say("two-latents", got=model.latent_dim))
    first = torch.arange(min(count, len(images)), device=images.pixels.device)
    x = alike(images.take(first), model.like)
    mu = model.codes(x)[:, :2].float().cpu()  # (B, 2)
    labels = images.labels[:count].cpu().long()  # (B,)
    figure, (ax,) = picture(say("alt-map", count=len(x)), width=6.6, height=6.6)
    present = labels.unique().tolist()  # in order
    colors = {digit: DIGIT_COLORS[digit % len(DIGIT_COLORS)] for digit in present}
    for digit, color in colors.items():
        codes = mu[labels == digit]  # (n, 2)
        ax.scatter(codes[:, 0], codes[:, 1], s=4, color=color, alpha=0.6, linewidths=0)
    medians = [mu[labels == digit].median(0).values for digit in present]
    for digit, (x1, x2) in zip(present, _spread(medians), strict=True):
        rim = {"ec": colors[digit], "lw": 2}
        plate = {"boxstyle": "circle,pad=0.2", "fc": "white"} | rim
        ax.text(x1, x2, str(digit), size=11, ha="center", va="center", bbox=plate)
    _draw_prior(ax)
    ax.set(xlabel="$z_1$", ylabel="$z_2$", aspect="equal")
    ax.set_title(say("map-title"), loc="left", fontsize=10)
    return figure


def _spread(points: list[Tensor], distance: float = 0.5) -> list[list[float]]:
    """Push points (2,) apart until none hides another; most do not move."""
    places = torch.stack(points)  # (n, 2)
    for _ in range(100):
        step = places[:, None] - places  # (n, n, 2)
        length = step.norm(dim=-1, keepdim=True).clamp(min=1e-6)  # (n, n, 1)
        places = places + (0.5 * (distance / length - 1).clamp(0, 1) * step).sum(1) / 2
    return places.tolist()


def _draw_prior(ax: Axes) -> None:
    angle = np.linspace(0, 2 * np.pi, 200)
    for mass, style in ((0.5, "-"), (0.95, "--")):
        radius = np.sqrt(-2 * np.log(1 - mass))  # of a circle in the plane
        x, y = radius * np.cos(angle), radius * np.sin(angle)
        name = say("prior-ring", percent=round(100 * mass))
        ax.plot(x, y, style, color=COLORS["prior"], linewidth=1.5, label=name)
    ax.legend(loc="upper right", fontsize=8)


def curves(history: History) -> Picture:
    """Show the ELBO and its two terms, epoch by epoch.

    Raises ValueError if no epoch was completed.
    """
    if not history.rows:
        raise ValueError(say("no-epochs"))
    epochs = history.column("epoch")
    alt = say("alt-curves", last=history.rows[-1]["elbo"], epochs=len(history))
    figure, axes = picture(alt, width=8, height=2.9, columns=3)
    axes[0].plot(epochs, history.column("elbo"), "o-", color="black", ms=3)
    if "test_elbo" in history.rows[0]:
        test = history.column("test_elbo")
        axes[0].plot(epochs, test, "s--", color="#777777", ms=3)
        axes[0].legend([say("curve-train"), say("curve-test")], fontsize=8)
    reconstruction = history.column("reconstruction")
    axes[1].plot(epochs, reconstruction, "o-", color=COLORS["reconstruction"], ms=3)
    axes[2].plot(epochs, history.column("kl"), "o-", color=COLORS["kl"], ms=3)
    for ax, name in zip(axes, ("elbo", "reconstruction", "kl"), strict=True):
        ax.set_title(say(f"curve-{name}"), loc="left", fontsize=10)
        ax.set(xlabel=say("epoch"), ylabel="nats")
    return figure
