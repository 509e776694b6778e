"""The embedded dataset: handwritten-looking digits drawn from known factors.

A digit is the path of a pen. A few points make a smooth curve; the hand moves them a
little; slant, rotation, scale and position put the curve on the page; the pen leaves
ink around it. :func:`draw` depends on :class:`Factors` only, so the hidden causes of
every image are known. Needs no network.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot, pad

from vae_teach.guards import check_count
from vae_teach.words import say

SIDE = 28  # pixels, as in MNIST
IMAGES_AT_ONCE = 250  # drawn together: their working set fits in the processor's cache
SAMPLES = 56  # places of the pen along a digit, about a pixel apart on the longest
EDGE = 1.2  # pixels over which the rim of a stroke fades, as soft as in MNIST
HAND = 1.1  # pixels, standard deviation of the hand's displacements
REACH = 6.5  # pixels, length scale of the correlation between displacements
TREMOR = 0.015  # independent variance of each point, as a share of the correlated one

# Mean and standard deviation of each factor's normal, truncated at its 1 % and 99 %.
NORMALS = {
    "slant": (0.1, 0.18),
    "thickness": (2.6, 0.5),
    "rotation": (0.0, 5.0),
    "scale": (0.98, 0.06),
    "shift_x": (0.0, 0.5),
    "shift_y": (0.0, 0.5),
}

# Where the pen goes, in pixels: x to the right, y down; "/" lifts it. Each digit is
# written in two ways, point by point, and style 0.3 is three tenths of the way over.
# fmt: off
GLYPHS = (
    # 0: round; narrow, its ends crossing
    "7,0 3,1.2 .2,5.4 .1,11 2.6,16 6.8,17.8 11,15.4 12.6,9.4 11,3 6.6,0",
    "8.8,2 5,.2 2.4,4 1.6,10.5 2.6,16 5.2,17.8 7.8,14.5 8.8,8.5 7.6,2 4.2,-.4",
    # 1: a bare stem; with a flag
    "6,0 6,0 / 6,0 5.8,6 5.6,12 5.6,18",
    "2,4.6 6,.2 / 6,0 6.1,6 6,12 6,18",
    # 2: a corner at the foot; a loop
    ".8,4.4 3,1 6.8,0 9.8,3 8.4,8 5,12.6 .9,17.2 .9,17.3 1.2,17.3 5.6,17 11.2,17.2",
    ".8,4 3.4,.6 7.2,.2 9.6,3.6 8.4,9 6,14 2.2,17.6 -.8,15.6 1.8,12.2 7,16 12.6,16.2",
    # 3: round; flat on top
    "1.2,3 3.6,.4 8,.6 9.4,4 7.4,7.4 4.2,8.4 / 4.2,8.4 8.6,9 10.6,12.6 8.6,16.6 "
    "4.6,18 .8,15.8",
    ".6,1 5.4,.4 10,.4 8.6,3 6.4,5.4 4.4,7.2 / 4.4,7.2 9,8.4 10.6,12.4 8.4,16.6 "
    "4.2,17.8 .2,16.4",
    # 4: open, its corner round; closed
    "2,.8 1,5 1.2,9.4 / 1.2,9.4 5.8,10.2 10.6,9 / 9.6,.6 9,6.4 8.6,12.2 8.2,18",
    "8.4,.2 4.4,5.4 .4,11.2 / .4,11.2 6,11.4 12,11 / 8.6,0 8.4,6 8.2,12 8,18",
    # 5: with a corner; flowing
    "10.6,.8 6.8,.8 3,1 / 3,1 2.5,4.4 2,7.8 / 2,7.8 5.6,6.6 9.6,8.6 10.4,12.6 8,16.6 "
    "4,17.8 .4,16",
    "11.4,.2 7.6,.6 4.6,1.2 / 4.6,1.2 3.2,4 3.6,7 / 3.6,7 6.6,8.2 9.2,10.4 9.4,13.8 "
    "7,17 3.6,17.8 .2,17",
    # 6: a curved back; a straight one, with a low bowl
    "9,.2 4.6,3 1.6,7.6 .8,12.6 3,17 7,17.6 10,14.4 8.8,10.4 5,9.8 1.6,13.2",
    "5.4,-.4 3.6,4 2,8.6 1.2,13.4 3,17.4 6.6,17.8 9,15 7.6,11.8 4.4,11.6 1.8,14.6",
    # 7: plain; with a bar
    ".4,3 .8,1.2 5.6,1 10.6,.8 / 10.6,.8 8.8,5.6 6.4,11.4 5,18 / 7.4,8.6 7.4,8.6",
    ".6,1.2 1,.8 5.6,.8 11,.6 / 11,.6 8.8,5.8 6.8,11.6 5.8,18 / 3,9.8 11.2,9",
    # 8: two closed bowls; open at the top
    "9.2,2.6 6,.2 2.4,2.4 3.2,6.4 7.4,9.6 9.8,13.6 6.6,17.8 2.2,16 2,12 5.2,8.8 "
    "8.6,5.8 9.2,2.6",
    "9.8,1.6 6.4,.4 2.8,2.6 3.2,6.2 7,9.2 9.4,13.2 6.8,17.6 3.2,16.8 2.4,12.8 5.4,9 "
    "8.6,5.4 11,.6",
    # 9: a straight tail; a curled one
    "9.6,3 6.4,.4 2.4,2.4 1.6,6.2 4.8,8.4 8.4,6 9.8,2.6 / 9.8,2.6 9.4,6.6 8.9,10.4 "
    "8.3,14.2 7.8,18",
    "9.6,3.4 6.4,.4 2.6,2 1.4,6 4.4,8.8 8.2,7 9.8,2.6 / 9.8,2.6 10.2,8.2 8.9,14.4 "
    "5.4,17.6 1.6,16.2",
)
# fmt: on


class Factors(NamedTuple):
    """The causes of each of N images; ``factors._replace(slant=...)`` changes one.

    Rotation, slant and scale are about the middle of the ink. All are float32 except
    the label.

    Args:
        label: (N,) int64, the digit, 0 to 9.
        slant: (N,) pixels to the right per pixel up; above 0 leans right, as italics.
        thickness: (N,) pixels, the width of the stroke between its half-inked rims.
        rotation: (N,) degrees; above 0 is anticlockwise.
        scale: (N,) ratio; at 1 a digit is 18 pixels tall, without the pen's width.
        shift_x: (N,) pixels from the centre of the image, to the right.
        shift_y: (N,) pixels from the centre of the image, down, as rows are counted.
        style: (N,) from one way of writing the digit, 0, to the other, 1.
        jitter: (N, 13, 2) pixels right and down by which the hand moved each point;
            a digit of fewer points leaves the last ones unused.
    """

    label: Tensor
    slant: Tensor
    thickness: Tensor
    rotation: Tensor
    scale: Tensor
    shift_x: Tensor
    shift_y: Tensor
    style: Tensor
    jitter: Tensor


def _read(path: str) -> tuple[Tensor, Tensor]:
    """Return a path's points (P, 2), and which of its strokes each belongs to (P,)."""
    strokes = [stroke.split() for stroke in path.split("/")]
    points = [[float(v) for v in p.split(",")] for s in strokes for p in s]
    lengths = torch.tensor([len(s) for s in strokes])
    stroke = torch.arange(len(strokes)).repeat_interleave(lengths)
    return torch.tensor(points, dtype=torch.float64), stroke


def _spline(points: Tensor, stroke: Tensor) -> tuple[Tensor, Tensor]:
    """Return the two (S, P) matrices of a Catmull-Rom spline through P points.

    The first times the points is where the pen is at S places, the second how far it
    goes at each: both are linear in the points, which may move afterwards.
    """
    gaps = (points[1:] - points[:-1]).norm(dim=1)  # (P - 1,)
    ends = (gaps * (stroke[1:] == stroke[:-1])).cumsum(0)  # a lifted pen goes nowhere
    pace = ends[-1] / SAMPLES
    at = (torch.arange(SAMPLES).double() + 0.5) * pace  # (S,) equally spaced
    here = torch.searchsorted(ends, at)  # (S,) the gap that each place lies in
    t = 1 - (ends[here] - at) / gaps[here]
    first = torch.searchsorted(stroke, stroke)[here]
    last = torch.searchsorted(stroke, stroke, right=True)[here] - 1
    near = here[:, None] + torch.arange(-1, 3)  # (S, 4) two points on either side
    near = near.clamp(first[:, None], last[:, None])
    rows = [[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]]
    basis = torch.tensor(rows, dtype=torch.float64) / 2
    value = torch.stack([t**0, t, t**2, t**3], dim=1) @ basis  # (S, 4)
    slope = torch.stack([0 * t, t**0, 2 * t, 3 * t**2], dim=1) @ basis  # (S, 4)
    chosen = one_hot(near, len(points)).double()  # (S, 4, P)
    slope = slope * (pace / gaps[here])[:, None]
    return (value[:, None] @ chosen)[:, 0], (slope[:, None] @ chosen)[:, 0]


def _tables() -> tuple[Tensor, Tensor, Tensor]:
    """Return points (10, 2, P, 2) and spline matrices (10, S, P), 0 past a digit's."""
    read = [_read(path) for path in GLYPHS]
    longest = max(len(points) for points, _ in read)
    padded = [pad(points, (0, 0, 0, longest - len(points))) for points, _ in read]
    pairs = zip(read[::2], read[1::2], strict=True)
    both = [_spline((one + two) / 2, stroke) for (one, stroke), (two, _) in pairs]
    splines = [[pad(m, (0, longest - m.shape[1])) for m in pair] for pair in both]
    where, steps = (torch.stack(kind) for kind in zip(*splines, strict=True))
    return torch.stack(padded).view(10, 2, longest, 2), where, steps


@contextmanager
def _one_thread() -> Iterator[None]:
    """Restrict PyTorch to one thread.

    The operations are small: one thread draws 60,000 images in two seconds, while two
    that share a busy core spend most of their time waiting for each other.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


GLYPH_POINTS, PEN_PLACES, PEN_STEPS = _tables()
MOST_POINTS = GLYPH_POINTS.shape[2]  # 13, those of the longest digit


@_one_thread()
def sample_factors(n: int, *, seed: int) -> Factors:
    r"""Draw the factors of n images, all independent but for the jitter of one image.

    The counts of the ten digits differ by at most one. Slant, thickness, rotation,
    scale and shifts are normal, truncated at their 1 % and 99 % (``NORMALS``); style is
    :math:`(1 - \cos \pi u) / 2`, more often near 0 and 1. Jitter is a smooth Gaussian
    field: two points of a digit at distance r move with correlation
    :math:`e^{-r^2 / 2 \ell^2}`, plus a little noise of each.

    With the same seed, the first m of n draws are not the m draws. Raises ValueError if
    n is not an integer of 1 or more.
    """
    n = check_count("n", n)
    generator = torch.Generator().manual_seed(seed)
    label = torch.randperm(n, generator=generator) % 10
    # In float64: rounding that differs between machines then does not show.
    u = torch.rand(len(NORMALS) + 1, n, generator=generator, dtype=torch.float64)
    normal = torch.special.ndtri(0.01 + 0.98 * u[1:])
    pairs = zip(NORMALS.items(), normal, strict=True)
    moved = {name: (mean + std * z).float() for (name, (mean, std)), z in pairs}
    style = (1 - torch.cos(math.pi * u[0])) / 2
    middle = GLYPH_POINTS.mean(dim=1)  # (10, P, 2)
    kernel = torch.exp(-(torch.cdist(middle, middle) ** 2) / (2 * REACH**2))
    covariance = kernel + TREMOR * torch.eye(MOST_POINTS)  # (10, P, P)
    root = HAND * torch.linalg.cholesky(covariance)
    shape = (n, MOST_POINTS, 2)
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    jitter = (root[label] @ noise).float()  # (N, P, 2)
    return Factors(label=label, style=style.float(), jitter=jitter, **moved)


@_one_thread()
def draw(factors: Factors) -> Tensor:
    r"""Draw the images that the factors cause, the same bytes for the same factors.

    The squared distance from a pixel to the path is a smooth minimum over the path,
    :math:`d^2 = -\log \frac{1}{\sqrt\pi} \int e^{-|\text{pixel} - s|^2} ds`; ink is
    1 within half a thickness of it and fades over ``EDGE``.

    Returns:
        (N, 784) float32 in [0, 1], one of the 256 levels k/255, ink 1 and paper 0.

    Raises:
        ValueError: factors of different lengths or none, labels outside 0 to 9,
            numbers that are not finite, a thickness or scale that is not above 0.
    """
    _check(factors)
    n = len(factors.label)
    pixels = torch.empty(n, SIDE * SIDE)
    for start in range(0, n, IMAGES_AT_ONCE):
        part = slice(start, start + IMAGES_AT_ONCE)
        some = Factors(*(value[part].double() for value in factors))
        pixels[part] = _ink(*_pen(some), some.thickness)
    return pixels


def digits(n: int = 60_000, *, seed: int = 0) -> tuple[Tensor, Factors]:
    """Draw n digits: pixels (n, 784) in [0, 1] as :func:`draw`, and their factors.

    Raises ValueError if n is not an integer of 1 or more.
    """
    factors = sample_factors(n, seed=seed)
    return draw(factors), factors


def _check(factors: Factors) -> None:
    n = len(factors.label)
    check_count("len(factors.label)", n)
    for name, value in factors._asdict().items():
        takes = (n, MOST_POINTS, 2) if name == "jitter" else (n,)
        name, shape = f"factors.{name}", tuple(value.shape)
        if shape != takes:
            raise ValueError(say("factors-shape", name=name, got=shape, takes=takes))
        if not value.isfinite().all():
            raise ValueError(say("factors-not-finite", name=name))
        if name in ("factors.thickness", "factors.scale") and value.min() <= 0:
            raise ValueError(say("not-above-zero", name=name, got=value.min().item()))
    low, high = (bound.item() for bound in factors.label.aminmax())
    if factors.label.is_floating_point() or low < 0 or high > 9:
        raise ValueError(say("factors-labels", low=low, high=high))


def _pen(factors: Factors) -> tuple[Tensor, Tensor]:
    """Return where the pen goes, (B, S, 2) pixels, and how far at each place (B, S)."""
    label, style = factors.label.long(), factors.style[:, None, None]
    ways = GLYPH_POINTS[label]  # (B, 2, P, 2) the two ways of writing each digit
    points = torch.lerp(ways[:, 0], ways[:, 1], style) + factors.jitter
    angle = torch.deg2rad(factors.rotation)
    cos, sin = factors.scale * angle.cos(), factors.scale * angle.sin()
    lean = factors.slant  # rows count down: to lean right is to move left going down
    page = torch.stack([cos, -sin, sin - lean * cos, cos + lean * sin], dim=1)
    page = page.view(-1, 2, 2)  # (B, 2, 2) from (x, y) as written to (x, y) on the page
    path = PEN_PLACES[label] @ points @ page
    steps = PEN_STEPS[label] @ points @ page
    length = steps.norm(dim=2)  # (B, S)
    share = length / length.sum(dim=1, keepdim=True)
    middle = torch.stack([factors.shift_x, factors.shift_y], dim=1) + (SIDE - 1) / 2
    return path - share[:, None] @ path + middle[:, None], length


def _ink(path: Tensor, length: Tensor, thickness: Tensor) -> Tensor:
    """Return the pixels (B, 784) inked along a path (B, S, 2), in 256 levels.

    e^-(dx^2 + dy^2) is a product, so rows and columns are done apart and multiplied.
    """
    away = path[..., None] - torch.arange(SIDE)  # (B, S, 2, 28)
    near = away.square_().neg_().exp_()
    columns, rows = near.unbind(dim=2)  # (B, S, 28) each
    field = rows.mT @ (columns * length[..., None]) / math.sqrt(math.pi)  # (B, 28, 28)
    distance = field.log_().neg_().clamp_(min=0).sqrt_()  # infinite where field is 0
    ink = (thickness[:, None, None] / 2 - distance) / EDGE + 0.5
    return ((ink.clamp_(0, 1) * 255).round_() / 255).flatten(1)
