"""log p(x) of a model with two latents: the integral over the plane, as a sum.

Few points of the plane matter for an image. So a coarse grid, the scouts, finds them
first, and only the tiles around them are summed point by point.
"""

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vae_teach.bounds import PIXELS_AT_ONCE
from vae_teach.densities import log_partition
from vae_teach.guards import as_integer, check_sound
from vae_teach.models import Adapted, adapt, check_density
from vae_teach.speed.threads import share_cores, shares_cores
from vae_teach.words import say

LogPrior = Callable[[Tensor], Tensor]

SCOUT_SPACING = 0.15  # of the grid that finds the mass: twice a usual posterior's width
SCOUTS_A_SIDE = 2  # of a tile at least; a tile is summed as a whole or left out
POINTS_A_SIDE = 8  # of a tile at least
NEGLIGIBLE = 18.0  # nats below the highest scout: e^-18 = 1.5e-8 of it is left out
IMAGES_AT_ONCE = 1000  # in memory, whatever the grid
POINTS_AT_ONCE = 4096  # in memory, whatever the grid
FARTHEST = 20.0  # N(0, I) has e^-200 of its peak left there
EDGE_SHARE = 1e-3  # of an image's mass within a scout of the edge: more gets a warning
LOST_SHARE = 0.5  # more than this there: most of the mass lies outside, no answer
COARSE = 1.0  # nats that an image's sum moves at three times the spacing: sum anew
MASS_ERROR = 0.01  # of a prior's mass on the plane, which is 1
EVERYTHING = slice(None)


def axis(
    grid: int, extent: float, like: Tensor, *, farthest: float = FARTHEST
) -> Tensor:
    """Return the points along either side of the plane: (grid,), of ``like``'s dtype.

    Raises ValueError for fewer than 4 points, or an extent out of (0, farthest].
    """
    count = as_integer(grid)
    if count is None or count < 4:
        raise ValueError(say("too-few-points", got=grid))
    if not 0 < extent <= farthest:
        raise ValueError(say("wrong-extent", got=extent, most=farthest))
    return torch.linspace(-extent, extent, count, dtype=like.dtype, device=like.device)


def log_likelihood(
    model: Any,
    x: Tensor,
    *,
    grid: int = 400,
    extent: float = 5.0,
    dtype: torch.dtype | None = None,
    log_prior: LogPrior | None = None,
) -> Tensor:
    """Exact log p(x) = log int p(x|z) p(z) dz of a model with two latents.

    The rectangle rule on grid x grid points over [-extent, extent]^2, which is precise
    as soon as the spacing is below the posterior's width. An image whose posterior is
    narrower is summed again on three times as many points along each axis. What is left
    out of the sum lies 18 nats or more below the highest point seen.

    Args:
        model: with two latents; in float64 where ``dtype`` asks for it, in a copy.
        x: (B, D) pixels, 0 or 1; finite numbers for a model's own p(x|z).
        grid: points along each axis.
        extent: where the plane ends.
        dtype: of the arithmetic, float32 at least; the finer of x's and the model's if
            None.
        log_prior: log p(z), (..., 2) to (...) nats, in place of the model's: a density
            fitted to an autoencoder's codes makes it a latent-variable model.

    Returns:
        (B,) nats.

    Raises:
        TypeError: x is not floating, or the model has no prior and none is given.
        ValueError: other than two latents, pixels outside [0, 1] or NaN, wrong shape,
            a prior whose mass on the plane is not 1, a posterior that lies mostly
            outside the plane (raise ``extent``; one that only touches its edge gets a
            warning) or one too narrow even for a third of the spacing (raise ``grid``),
            a model that computes NaN.

    Lesson 06 is about it.
    """
    first = _integrate(model, x, grid, extent, dtype, log_prior)
    values, moved = first.values, first.moved
    coarse = ~(moved < COARSE)  # or NaN
    if coarse.any():
        finer = _integrate(model, x[coarse], 3 * grid, extent, dtype, log_prior)
        values[coarse], moved[coarse] = finer.values, finer.moved
        coarse = ~(moved < COARSE)
    if coarse.any():
        worst = {"count": int(coarse.sum()), "error": moved.max().item()}
        raise ValueError(say("exact-grid", grid=grid, spacing=first.spacing, **worst))
    return values


def log_likelihood_with_error(
    model: Any,
    x: Tensor,
    *,
    grid: int = 400,
    extent: float = 5.0,
    dtype: torch.dtype | None = None,
    log_prior: LogPrior | None = None,
) -> tuple[Tensor, Tensor]:
    """Exact log p(x) as ``log_likelihood``, and how far it may be from the truth.

    The error is by how much log p(x) moves at three times the spacing, plus the mass
    beyond the edge, judged by the share on it: an upper estimate. A grid too coarse is
    seen in it and raises nothing; all else is as for ``log_likelihood``.

    Returns:
        (B,) nats twice: log p(x), and the estimate of its error.
    """
    found = _integrate(model, x, grid, extent, dtype, log_prior)
    return found.values, found.error


class _Integral(NamedTuple):
    values: Tensor  # (B,) nats
    error: Tensor  # (B,) nats
    moved: Tensor  # (B,) nats, at three times the spacing, at most
    spacing: float


@shares_cores
@torch.no_grad()
def _integrate(
    model: Any,
    x: Tensor,
    grid: int,
    extent: float,
    dtype: torch.dtype | None,
    log_prior: LogPrior | None,
) -> _Integral:
    model, x, prior, points = prepare(model, x, grid, extent, log_prior, dtype)
    grid, spacing = len(points), float(points[1] - points[0])
    stride = min(max(1, round(SCOUT_SPACING / spacing)), grid // 2)  # two scouts a side
    scouts = max(SCOUTS_A_SIDE, math.ceil(POINTS_A_SIDE / stride))  # of a tile
    joint = LogJoint(model, prior)
    needed = _scout(joint, x, points, stride, scouts)
    tiles = _tiles(needed, grid, scouts * stride)
    thirds, ring = _sum_tiles(joint, x, points, stride, tiles)
    fine = thirds.logsumexp(0)  # (B,)
    edge = torch.exp(ring - fine)  # (B,), a share
    _check_edge(edge, extent, depth=6)  # with two wrappers
    moved = (thirds + 2 * math.log(3) - fine).abs().amax(0)  # (B,) nats
    # Beyond the edge the prior falls at least as fast as exp(-extent * distance).
    error = moved + edge / min(1, extent * stride * spacing)
    return _Integral(fine + 2 * math.log(spacing), error, moved, spacing)


@shares_cores
@torch.no_grad()
def posterior(
    model: Any,
    x: Tensor,
    *,
    grid: int = 200,
    extent: float = 5.0,
    log_prior: LogPrior | None = None,
) -> Tensor:
    """Exact posterior density p(z|x) on the grid of ``axis``.

    Args:
        model: with two latents.
        x: (B, D) pixels, 0 or 1.
        grid: points along each axis.
        extent: where the plane ends.
        log_prior: as for ``log_likelihood``.

    Returns:
        (B, grid, grid): entry [b, i, j] is the density of image b at z1 = axis[i] and
        z2 = axis[j]. Times the area of a cell, (axis[1] - axis[0])^2, it sums to 1.

    Raises:
        TypeError: as ``log_likelihood`` does.
        ValueError: as ``log_likelihood`` does, the grid that is too coarse apart.
    """
    model, x, prior, points = prepare(model, x, grid, extent, log_prior)
    joint, grid = LogJoint(model, prior), len(points)
    rows = [joint.at(z)(x, EVERYTHING) for z in plane(points).split(grid)]
    share = check_sound(torch.cat(rows, 1)).softmax(1).reshape(-1, grid, grid)
    edge = 1 - share[:, 1:-1, 1:-1].sum((1, 2))  # (B,)
    _check_edge(edge, extent, depth=5)
    return share / (points[1] - points[0]).square()


@torch.no_grad()
def prior_mass(
    log_prior: LogPrior, *, grid: int = 400, extent: float = 5.0, like: Tensor
) -> float:
    """Return the mass of a density on the plane, by the same sum as ``log_likelihood``.

    Args:
        log_prior: log p(z), (..., 2) to (...) nats.
        grid: points along each axis.
        extent: where the plane ends.
        like: a tensor whose dtype and device the points take.

    Raises:
        ValueError: log_prior gives another shape.
    """
    points = axis(grid, extent, like, farthest=math.inf)
    total = like.new_zeros(())
    for z in plane(points).split(64 * POINTS_AT_ONCE):
        values = log_prior(z)  # (G,)
        check_density("log_prior", values, z.shape[:-1])
        total = total + values.exp().sum()
    return float(total * (points[1] - points[0]).square())


def prepare(
    model: Any,
    x: Tensor,
    grid: int,
    extent: float,
    log_prior: LogPrior | None,
    dtype: torch.dtype | None = None,
) -> tuple[Adapted, Tensor, LogPrior, Tensor]:
    """Return the model, its images, its prior and the points, all of them checked."""
    view, x = adapt(model).precise(x, dtype)
    latents = view.latents(x)
    if latents != 2:
        raise ValueError(say("exact-latents", got=latents))
    if log_prior is None and view.standard_prior:
        view.check_prior(x)
        return view, x, view.log_prior, axis(grid, extent, x)
    prior = log_prior or view.log_prior
    mass = prior_mass(prior, grid=grid, extent=extent, like=x)
    if not abs(mass - 1) <= MASS_ERROR:
        raise ValueError(say("exact-mass", mass=mass, extent=extent))
    return view, x, prior, axis(grid, extent, x, farthest=math.inf)


def _check_edge(edge: Tensor, extent: float, *, depth: int) -> None:
    """Say which posteriors touch the edge, given their share of mass there, (B,)."""
    touched = edge > EDGE_SHARE
    if not touched.any():
        return
    share = edge.max().item()
    count = int(touched.sum())
    sentence = say("exact-extent", extent=extent, count=count, share=share)
    if share > LOST_SHARE:
        raise ValueError(sentence)
    warnings.warn(sentence, stacklevel=depth)  # whoever called the package


def plane(z1: Tensor, z2: Tensor | None = None) -> Tensor:
    """Return all pairs of two axes, z2 running fastest: (G1 * G2, 2)."""
    return torch.cartesian_prod(z1, z1 if z2 is None else z2)


class LogJoint(NamedTuple):
    """log p(x, z) of many images at many points."""

    model: Adapted
    log_prior: LogPrior

    def at(self, z: Tensor) -> Callable[[Tensor, slice], Tensor]:
        """Return a function of images (B, D) and a slice of the points z (G, 2).

        It gives log p(x, z), (B, G'). The points are decoded once, and for Bernoulli
        pixels what is left for each image is one matrix product:
        x . l(z) - sum_d log(1 + exp l_d(z)) + log p(z).
        """
        share_cores()
        prior = self.log_prior(z)  # (G,)
        if not self.model.bernoulli:
            return lambda x, part: prior[part] + self._in_parts(x, z[part])
        logits = self.model.decode_logits(z)  # (G, D)
        constant = prior - log_partition(logits)
        return lambda x, part: F.linear(x, logits[part], constant[part])

    def _in_parts(self, x: Tensor, z: Tensor) -> Tensor:
        """Return a model's own log p(x|z), (B, G), with few numbers in memory."""
        parts = x[:, None].split(max(1, PIXELS_AT_ONCE // (len(z) * x.shape[1])))
        return torch.cat([self.model.log_conditional(part, z) for part in parts])


def _scout(
    joint: LogJoint, x: Tensor, points: Tensor, stride: int, scouts: int
) -> Tensor:
    """Find each image's mass on every ``stride``-th point.

    Returns which tiles, of so many scouts a side, it needs: (B, T, T) bool.
    """
    few = points[stride // 2 :: stride]  # (G,)
    log_joint = joint.at(plane(few))
    needed = []
    images = max(1, IMAGES_AT_ONCE * POINTS_AT_ONCE // len(few) ** 2)
    for rows in x.split(images):
        share_cores()
        table = check_sound(log_joint(rows, EVERYTHING))  # (b, G * G)
        # A tile's scouts and the nearest of its neighbours': no mass hides at a border.
        highest = F.max_pool2d(
            table.reshape(-1, 1, len(few), len(few)),
            kernel_size=scouts + 2,
            stride=scouts,
            padding=1,
            ceil_mode=True,
        )[:, 0]  # (b, T, T)
        needed.append(highest > highest.amax((1, 2), keepdim=True) - NEGLIGIBLE)
    return torch.cat(needed)


class _Tile(NamedTuple):
    """Points [top, bottom) x [left, right), and the images that they matter to."""

    top: int
    bottom: int
    left: int
    right: int
    chosen: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        return self.bottom - self.top, self.right - self.left


def _tiles(needed: Tensor, count: int, side: int) -> Iterator[list[_Tile]]:
    """Yield the tiles that are needed, in groups of about POINTS_AT_ONCE points.

    The last of a row or column also takes what lies beyond the last scout; a large one
    is handed out in bands.
    """
    group, points = [], 0
    last = needed.shape[1] - 1
    for row, column in needed.any(0).nonzero().tolist():
        chosen = needed[:, row, column].nonzero()[:, 0]  # images
        left, right = column * side, count if column == last else (column + 1) * side
        bottom = count if row == last else (row + 1) * side
        band = max(1, POINTS_AT_ONCE // (right - left))
        for top in range(row * side, bottom, band):
            tile = _Tile(top, min(top + band, bottom), left, right, chosen)
            group.append(tile)
            points += math.prod(tile.shape)
            if points >= POINTS_AT_ONCE:
                yield group
                group, points = [], 0
    if group:
        yield group


def _sum_tiles(
    joint: LogJoint,
    x: Tensor,
    points: Tensor,
    stride: int,
    tiles: Iterator[list[_Tile]],
) -> tuple[Tensor, Tensor]:
    """Return log sums over the tiles that each image needs.

    Over every third point along each axis, for each of the nine ways to begin, (9, B):
    a peak that falls between the points of one falls on those of another. And over the
    points within ``stride`` of the edge, (B,).
    """
    sums = x.new_full((10, len(x)), -math.inf)
    place = torch.arange(len(points), device=x.device)
    edge = (place < stride) | (place >= len(points) - stride)
    for group in tiles:
        pairs = [(points[t.top : t.bottom], points[t.left : t.right]) for t in group]
        log_joint = joint.at(torch.cat([plane(*pair) for pair in pairs]))
        start = 0
        for tile in group:
            rows, columns = slice(tile.top, tile.bottom), slice(tile.left, tile.right)
            end = start + math.prod(tile.shape)
            lattice = 3 * (place[rows, None] % 3) + place[columns] % 3  # 0 to 8
            on_edge = edge[rows, None] | edge[columns]
            members = F.one_hot(lattice.flatten(), 9).to(x)  # (G, 9)
            members = torch.cat((members, on_edge.flatten()[:, None].to(x)), 1)
            for some in tile.chosen.split(IMAGES_AT_ONCE):
                share_cores()
                table = log_joint(x[some], slice(start, end))  # (b, G)
                sums[:, some] = torch.logaddexp(sums[:, some], _sum(table, members))
            start = end
    return sums[:9], sums[9]


def _sum(table: Tensor, members: Tensor) -> Tensor:
    """Return the log of the sums of exp(table), (b, G), over sets (G, S): (S, b)."""
    highest = table.amax(1, keepdim=True).clamp_min(torch.finfo(table.dtype).min)
    return (torch.exp(table - highest) @ members).log().T + highest[:, 0]
