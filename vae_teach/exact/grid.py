"""log p(x) without approximation: quadrature for two latents, closed forms for lines.

With two latents the integral p(x) = int p(x|z) p(z) dz is a sum over a plane, and a
computer can take it. All that the course says about the ELBO is held against this.
Where everything is Gaussian and linear, no sum is needed at all.
"""

import copy
import math
import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vae_teach.bounds import CHUNK, LatentModel, check_observed, log_conditional
from vae_teach.densities import (
    log_partition,
    log_standard_normal,
)
from vae_teach.products import linear
from vae_teach.words import say

SCOUT_SPACING = 0.15  # of the grid that finds the mass: twice a usual posterior's width
TILE, SIDE = 2, 8  # least scouts and points along a tile, which is summed or left out
FAINT = (
    18.0  # nats below the highest scout, e^-18 = 1.5e-8: what lies there is left out
)
ROWS, POINTS = 1000, 4096  # images and points in memory at once, whatever the grid
FARTHEST = 20.0  # the prior has e^-200 of its peak left there
EDGE_SHARE = 1e-3  # of an image's mass within a scout of the edge: more gets a warning
LOST_SHARE = 0.5  # more than this there: most of the mass lies outside, no answer
ALL = slice(None)
COARSE = 0.35  # nats, on average, to every third point: more is no answer


def axis(grid: int, extent: float, like: Tensor) -> Tensor:
    """Return the points along either side of the plane: (grid,), of ``like``'s dtype.

    Raises ValueError for fewer than 4 points, or an extent out of (0, 20].
    """
    if not isinstance(grid, int) or grid < 4:
        raise ValueError(say("too-few-points", got=grid))
    if not 0 < extent <= FARTHEST:
        raise ValueError(say("wrong-extent", got=extent, most=FARTHEST))
    return torch.linspace(-extent, extent, grid, dtype=like.dtype, device=like.device)


@torch.no_grad()
def log_likelihood(
    model: LatentModel,
    x: Tensor,
    *,
    grid: int = 400,
    extent: float = 5.0,
    dtype: torch.dtype | None = None,
    error: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Exact log p(x) = log int p(x|z) N(z; 0, I) dz of a model with two latents.

    The rectangle rule on grid x grid points over [-extent, extent]^2, which is precise
    as soon as the spacing is below the posterior's width. Few points matter for an
    image, so a coarse grid finds them first, and only the tiles around them are summed
    point by point: what is left out lies 18 nats or more below the highest point seen.

    Args:
        model: with two latents; in float64 where ``dtype`` asks for it, in a copy.
        x: (B, D) pixels, 0 or 1.
        grid: points along each axis.
        extent: where the plane ends, in standard deviations of the prior.
        dtype: of the arithmetic; that of x if None.
        error: also return by how much log p(x) moves at three times the spacing, plus
            the mass beyond the edge, judged by the share on it: an upper estimate.

    Returns:
        (B,) nats; with ``error`` a pair of them.

    Raises:
        TypeError: x is not floating.
        ValueError: other than two latents, pixels outside [0, 1] or NaN, wrong shape,
            a posterior that lies mostly outside the plane (raise ``extent``; one that
            only touches its edge gets a warning) or, where the error is not asked for,
            posteriors too narrow for the spacing (raise ``grid``).

    Lesson 06 is about it.
    """
    check_observed(model, x)
    model, x = _in_dtype(model, x, dtype)
    _check_two_latents(model, x)
    points = axis(grid, extent, x)
    spacing = float(points[1] - points[0])
    stride = min(max(1, round(SCOUT_SPACING / spacing)), grid // 2)  # two scouts a side
    scouts = max(TILE, -(-SIDE // stride))  # along the side of a tile
    needed = _scout(model, x, points, stride, scouts)
    tiles = _tiles(needed, grid, scouts * stride)
    fine, third, ring = _sum_tiles(model, x, points, stride, tiles)
    edge = torch.exp(ring - fine)  # (B,), a share
    _check_edge(edge, extent)
    moved = (third + 2 * math.log(3) - fine).abs()  # (B,) nats
    fine = fine + 2 * math.log(spacing)
    if error:
        # Beyond the edge the prior falls at least as fast as exp(-extent * distance).
        return fine, moved + edge / min(1, extent * stride * spacing)
    if not moved.mean() < COARSE:
        coarse = ~(moved < COARSE)  # or NaN
        told = {"count": int(coarse.sum()), "error": moved.max().item()}
        raise ValueError(say("exact-grid", grid=grid, spacing=spacing, **told))
    return fine


@torch.no_grad()
def posterior(
    model: LatentModel, x: Tensor, *, grid: int = 200, extent: float = 5.0
) -> Tensor:
    """Exact posterior density p(z|x) on the grid of ``axis``.

    Args:
        model: with two latents.
        x: (B, D) pixels, 0 or 1.
        grid: points along each axis.
        extent: where the plane ends.

    Returns:
        (B, grid, grid): entry [b, i, j] is the density of image b at z1 = axis[i] and
        z2 = axis[j]. Times the area of a cell, (axis[1] - axis[0])^2, it sums to 1.

    Raises:
        TypeError: x is not floating.
        ValueError: as ``log_likelihood`` does, the grid that is too coarse apart.
    """
    _check_two_latents(model, x)
    points = axis(grid, extent, x)
    log_joint = torch.cat(
        [log_joint_on(model, z)(x, ALL) for z in plane(points).split(grid)], 1
    )  # (B, grid * grid)
    share = log_joint.softmax(1).reshape(-1, grid, grid)
    edge = 1 - share[:, 1:-1, 1:-1].sum((1, 2))  # (B,)
    _check_edge(edge, extent)
    return share / (points[1] - points[0]).square()


def _in_dtype(
    model: LatentModel, x: Tensor, dtype: torch.dtype | None
) -> tuple[LatentModel, Tensor]:
    if dtype is None or dtype == x.dtype:
        return model, x
    if isinstance(model, nn.Module):
        model = copy.deepcopy(model).to(dtype)
    return model, x.to(dtype)


def _check_two_latents(model: LatentModel, x: Tensor) -> None:
    check_observed(model, x)
    latents = model.encode(x[:1])[0].shape[-1]
    if latents != 2:
        raise ValueError(say("exact-latents", got=latents))


def _check_edge(edge: Tensor, extent: float) -> None:
    """Say which posteriors touch the edge, given their share of mass there, (B,)."""
    if not (touched := edge > EDGE_SHARE).any():
        return
    told = {"count": int(touched.sum()), "share": edge.max().item()}
    sentence = say("exact-extent", extent=extent, **told)
    if told["share"] > LOST_SHARE:
        raise ValueError(sentence)
    warnings.warn(sentence, stacklevel=4)  # whoever called, past no_grad's wrapper


def plane(z1: Tensor, z2: Tensor | None = None) -> Tensor:
    """Return all pairs of two axes, z2 running fastest: (G1 * G2, 2)."""
    return torch.cartesian_prod(z1, z1 if z2 is None else z2)


def log_joint_on(model: LatentModel, z: Tensor) -> Callable[[Tensor, slice], Tensor]:
    """Return a function of images (B, D) and a slice of the points z (G, 2).

    It gives log p(x, z), (B, G'). The points are decoded once, and for Bernoulli pixels
    what is left for each image is one matrix product:
    x . l(z) - sum_d log(1 + exp l_d(z)) + log p(z).
    """
    prior = log_standard_normal(z)  # (G,)
    if hasattr(model, "log_conditional"):
        return lambda x, part: prior[part] + _in_parts(model, x, z[part])
    logits = model.decode_logits(z)  # (G, D)
    constant = prior - log_partition(logits)
    return lambda x, part: linear(x, logits[part], constant[part])


def _in_parts(model: LatentModel, x: Tensor, z: Tensor) -> Tensor:
    """Return a model's own log p(x|z), (B, G), with few numbers in memory at once."""
    parts = x[:, None].split(max(1, CHUNK // (len(z) * x.shape[1])))  # (b, 1, D)
    return torch.cat([log_conditional(model, part, z) for part in parts])


def _scout(
    model: LatentModel, x: Tensor, points: Tensor, stride: int, scouts: int
) -> Tensor:
    """Find each image's mass on every ``stride``-th point.

    Returns which tiles, of so many scouts a side, it needs: (B, T, T) bool.
    """
    few = points[stride // 2 :: stride]  # (G,)
    log_joint = log_joint_on(model, plane(few))
    needed = []
    for rows in x.split(max(1, ROWS * POINTS // len(few) ** 2)):
        table = log_joint(rows, ALL)  # (b, G * G)
        # A tile's scouts and the nearest of its neighbours': no mass hides at a border.
        highest = nn.functional.max_pool2d(
            table.reshape(-1, 1, len(few), len(few)),
            kernel_size=scouts + 2,
            stride=scouts,
            padding=1,
            ceil_mode=True,
        )[:, 0]  # (b, T, T)
        needed.append(highest > highest.amax((1, 2), keepdim=True) - FAINT)
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
    """Yield the tiles that are needed, in groups of about POINTS points.

    The last of a row or column also takes what lies beyond the last scout; a large one
    is handed out in bands.
    """
    group, points = [], 0
    last = needed.shape[1] - 1
    for row, column in needed.any(0).nonzero().tolist():
        chosen = needed[:, row, column].nonzero()[:, 0]  # images
        left, right = column * side, count if column == last else (column + 1) * side
        bottom = count if row == last else (row + 1) * side
        band = max(1, POINTS // (right - left))
        for top in range(row * side, bottom, band):
            tile = _Tile(top, min(top + band, bottom), left, right, chosen)
            group.append(tile)
            points += math.prod(tile.shape)
            if points >= POINTS:
                yield group
                group, points = [], 0
    if group:
        yield group


def _sum_tiles(
    model: LatentModel,
    x: Tensor,
    points: Tensor,
    stride: int,
    tiles: Iterator[list[_Tile]],
) -> tuple[Tensor, Tensor, Tensor]:
    """Return log sums over the tiles that each image needs.

    Over all their points; over every third along each axis (every second would not do:
    a peak in the middle of a cell looks the same on both halves); and over those
    within ``stride`` points of the edge: (B,) three times.
    """
    fine, third, ring = x.new_full((3, len(x)), -math.inf)
    inner = torch.arange(len(points))
    inner = (inner >= stride) & (inner < len(points) - stride)
    for group in tiles:
        pairs = [(points[t.top : t.bottom], points[t.left : t.right]) for t in group]
        log_joint, start = log_joint_on(model, torch.cat([plane(*p) for p in pairs])), 0
        for tile in group:
            part = slice(start, start := start + math.prod(tile.shape))
            inside = inner[tile.top : tile.bottom, None] & inner[tile.left : tile.right]
            for some in tile.chosen.split(ROWS):
                table = log_joint(x[some], part).reshape(-1, *tile.shape)
                _add(fine, some, table.flatten(1))
                thirds = table[:, -tile.top % 3 :: 3, -tile.left % 3 :: 3]
                _add(third, some, thirds.flatten(1))
                if not inside.all():
                    _add(ring, some, table[:, ~inside])
    return fine, third, ring


def _add(total: Tensor, chosen: Tensor, table: Tensor) -> None:
    """Add the exponentials of a table (b, G) to the log sums of the chosen images."""
    total[chosen] = torch.logaddexp(total[chosen], table.logsumexp(1))
