"""log p(x) without approximation: quadrature for two latents, closed forms for lines.

With two latents the integral p(x) = int p(x|z) p(z) dz is a sum over a plane, and a
computer can take it. All that the course says about the ELBO is held against this.
Where everything is Gaussian and linear, no sum is needed at all. Introduced in
lessons 02 and 06.
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
    LOG_TWO_PI,
    kl_to_standard_normal,
    log_partition,
    log_standard_normal,
)
from vae_teach.guards import check_floating, check_width
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
    Introduced in lesson 02.
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

    Introduced in lesson 02; lesson 06 is about it.
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

    Introduced in lesson 02.
    """
    _check_two_latents(model, x)
    points = axis(grid, extent, x)
    log_joint = torch.cat(
        [_log_joint(model, z)(x, ALL) for z in _plane(points).split(grid)], 1
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


def _plane(z1: Tensor, z2: Tensor | None = None) -> Tensor:
    """Return all pairs of two axes, z2 running fastest: (G1 * G2, 2)."""
    return torch.cartesian_prod(z1, z1 if z2 is None else z2)


def _log_joint(model: LatentModel, z: Tensor) -> Callable[[Tensor, slice], Tensor]:
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
    log_joint = _log_joint(model, _plane(few))
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
        log_joint, start = _log_joint(model, torch.cat([_plane(*p) for p in pairs])), 0
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


class BestGaussian(NamedTuple):
    """The best q for each image: ``mu`` and ``logvar`` (B, 2), its ``elbo`` (B,)."""

    mu: Tensor
    logvar: Tensor
    elbo: Tensor


def best_gaussian(
    model: LatentModel, x: Tensor, *, grid: int = 400, extent: float = 5.0
) -> BestGaussian:
    """Find the Gaussian with independent coordinates of the highest exact ELBO.

    What it misses of log p(x) is the approximation gap: no encoder of this family can
    do better. What the encoder's own q misses beyond that is the amortization gap
    (Cremer, Li & Duvenaud 2018). Expectations are sums over the grid, so ascent (L-BFGS
    from the encoder's q and from the posterior's mode and moments) sees no noise.

    Args:
        model: with two latents.
        x: (B, D) pixels, 0 or 1; float64 is worth its time here.
        grid: points along each axis.
        extent: where the plane ends.

    Returns:
        BestGaussian of mu (B, 2), logvar (B, 2) and elbo (B,) nats.

    Raises:
        TypeError: x is not floating.
        ValueError: as ``posterior`` does.

    Introduced in lesson 06.
    """
    points = axis(grid, extent, x)
    z = _plane(points)  # (G, 2)
    found = []
    for image in x.split(1):
        with torch.no_grad():
            density = posterior(model, image, grid=grid, extent=extent)[0].flatten()
            likelihood = _log_joint(model, z)(image, ALL)[0] - log_standard_normal(z)
            starts = [torch.cat(model.encode(image), 1)[0], *_moments(density, z)]
        climbs = [_climb(_elbo_on(z, likelihood), start) for start in starts]
        found.append(max(climbs, key=lambda climb: float(climb[1])))
    parameters = torch.stack([best for best, _ in found])  # (B, 4)
    elbos = torch.stack([value for _, value in found])
    return BestGaussian(parameters[:, :2], parameters[:, 2:], elbos)


def _elbo_on(z: Tensor, likelihood: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the ELBO as a function of (mu1, mu2, logvar1, logvar2), by the grid."""

    def value(parameters: Tensor) -> Tensor:
        mu, logvar = parameters.split(2)
        # Weights that sum to 1: a narrow q cannot hide between points.
        log_q = -0.5 * ((z - mu).square() * torch.exp(-logvar)).sum(1)  # (G,)
        return log_q.softmax(0) @ likelihood - kl_to_standard_normal(mu, logvar)

    return value


def _climb(value: Callable[[Tensor], Tensor], start: Tensor) -> tuple[Tensor, Tensor]:
    """Return where the ascent from ``start`` ends, and the value there."""
    parameters = start.detach().clone().requires_grad_()
    ascent = torch.optim.LBFGS(
        [parameters], max_iter=200, tolerance_grad=1e-9, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        ascent.zero_grad()
        loss = -value(parameters)
        loss.backward()
        return loss

    ascent.step(closure)
    return parameters.detach(), value(parameters).detach()


def _moments(density: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Return two first guesses: the posterior's moments, and its peak."""
    share = density / density.sum()
    mean = share @ z
    variance = share @ (z - mean).square()
    # A Gaussian in two dimensions with the density's peak has this variance a side.
    peak = 1 / (2 * math.pi * density.max())
    at_mode = torch.cat((z[density.argmax()], peak.log().expand(2)))
    return torch.cat((mean, variance.log())), at_mode


class LinearGaussian(nn.Module):
    """Probabilistic PCA: z ~ N(0, I), x|z ~ N(W z + b, s^2 I); all of it is exact.

    The same interface as a VAE, so whatever estimates log p(x) of one can be held
    against the closed form of the other.

    Args:
        weight: (D, L), W.
        bias: (D,), b.
        variance: s^2, above zero.

    Raises:
        ValueError: shapes that do not fit, or a variance that is not above zero.

    Source: Tipping & Bishop 1999. Introduced in lesson 06.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, variance: float) -> None:
        super().__init__()
        check_floating("weight", weight)
        if weight.dim() != 2:
            raise ValueError(
                say("not-a-matrix", name="weight", got=tuple(weight.shape))
            )
        check_width("bias", bias, len(weight))
        if not (math.isfinite(variance) and variance > 0):
            raise ValueError(say("not-above-zero", name="variance", got=variance))
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.variance = variance

    @classmethod
    def fit(cls, x: Tensor, latent_dim: int) -> "LinearGaussian":
        """Return the model of the highest likelihood of x (N, D), by its eigenvalues.

        s^2 is the mean of the eigenvalues left out, and W = U (E - s^2 I)^(1/2).
        """
        bias = x.mean(0)
        values, vectors = torch.linalg.eigh(torch.cov(x.T, correction=0))
        variance = values[:-latent_dim].mean().item()
        scale = (values[-latent_dim:] - variance).clamp_min(0).sqrt()
        return cls(vectors[:, -latent_dim:] * scale, bias, variance)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the exact p(z|x) = N(mean, covariance): (B, L) and (L, L)."""
        precision = self.weight.T @ self.weight / self.variance
        precision = precision + torch.eye(len(precision)).to(precision)
        covariance = torch.linalg.inv(precision)  # (L, L), the same for every x
        mean = (x - self.bias) @ self.weight @ covariance / self.variance
        return mean, covariance

    def log_likelihood(self, x: Tensor) -> Tensor:
        """Return log N(x; b, W W' + s^2 I), (B, D) to (B,) nats."""
        covariance = self.weight @ self.weight.T
        covariance = covariance + self.variance * torch.eye(len(self.bias)).to(x)
        root = torch.linalg.cholesky(covariance)
        white = torch.linalg.solve_triangular(root, (x - self.bias).T, upper=False)
        volume = root.diagonal().log().sum()
        return -0.5 * (white.square().sum(0) + len(root) * LOG_TWO_PI) - volume

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the best q with independent coordinates: its mu and logvar, (B, L).

        It has the posterior's mean and the inverse of its precisions; where the columns
        of W are orthogonal it is the posterior.
        """
        mean, covariance = self.posterior(x)
        precisions = torch.linalg.inv(covariance).diagonal()
        return mean, -precisions.log().expand_as(mean)

    def reparameterize(self, mu: Tensor, logvar: Tensor) -> Tensor:
        """Draw z ~ N(mu, exp(logvar)), (B, L)."""
        return mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)

    def decode_logits(self, z: Tensor) -> Tensor:
        """Return the mean of x at z, (..., L) to (..., D): these are no logits."""
        return z @ self.weight.T + self.bias

    def log_conditional(self, x: Tensor, z: Tensor) -> Tensor:
        """Return log N(x; W z + b, s^2 I), (B, D) and (..., B, L) to (..., B)."""
        squared = (x - self.decode_logits(z)).square().sum(-1) / self.variance
        return -0.5 * (
            squared + len(self.bias) * (LOG_TWO_PI + math.log(self.variance))
        )
