"""The best Gaussian q for an image, by ascent on the exact ELBO."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vae_teach.densities import (
    kl_to_standard_normal,
    log_normal,
    log_standard_normal,
)
from vae_teach.exact.grid import (
    COARSE,
    EVERYTHING,
    LogJoint,
    LogPrior,
    plane,
    posterior,
    prepare,
)
from vae_teach.models import Adapted, DiagonalNormal
from vae_teach.speed.threads import shares_cores
from vae_teach.words import say


class BestGaussian(NamedTuple):
    """The best q for each image: ``mu`` and ``logvar`` (B, 2), its ``elbo`` (B,)."""

    mu: Tensor
    logvar: Tensor
    elbo: Tensor


@shares_cores
def best_gaussian(
    model: Any,
    x: Tensor,
    *,
    grid: int = 400,
    extent: float = 5.0,
    log_prior: LogPrior | None = None,
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
        log_prior: as for ``log_likelihood``.

    Returns:
        BestGaussian of mu (B, 2), logvar (B, 2) and elbo (B,) nats.

    Raises:
        TypeError: x is not floating.
        ValueError: as ``posterior`` does, and for a posterior too narrow for the grid.
    """
    options: dict[str, Any] = {"grid": grid, "extent": extent, "log_prior": log_prior}
    view, x, prior, points = prepare(model, x, **options)
    joint, z = LogJoint(view, prior), plane(points)  # (G, 2)
    best = []
    for image in x.split(1):
        density = posterior(view, image, **options)[0]
        _check_width(density, points)
        with torch.no_grad():
            rows = [joint.at(p)(image, EVERYTHING)[0] for p in z.split(len(points))]
            log_joint = torch.cat(rows)  # (G,), decoded a row at a time
            starts = [*_encoded(view, image), *_moments(density.flatten(), z)]
        climbs = [_climb(_elbo_on(z, log_joint), start) for start in starts]
        best.append(max(climbs, key=lambda climb: climb[1].nan_to_num(-math.inf)))
    parameters = torch.stack([place for place, _ in best])  # (B, 4)
    elbos = torch.stack([value for _, value in best])
    return BestGaussian(parameters[:, :2], parameters[:, 2:], elbos)


def _encoded(view: Adapted, image: Tensor) -> list[Tensor]:
    """Return the encoder's own (mu, logvar), (4,), where it has one to start from."""
    q = view.q(image) if view.has_q(image) else None
    if not isinstance(q, DiagonalNormal):
        return []
    start = torch.cat((q.mean, q.logvar), 1)[0]
    return [start] if start.isfinite().all() else []


def _check_width(density: Tensor, points: Tensor) -> None:
    """Raise ValueError where every third point tells otherwise than all of them.

    Then a peak lies between the points, and the best q for the sum is none for it.
    """
    spacing = float(points[1] - points[0])
    share = 9 * spacing**2 * density  # (grid, grid)
    thirds = [share[i::3, j::3].sum() for i in range(3) for j in range(3)]
    moved = torch.stack(thirds).log().abs().max().item()
    if not moved < COARSE:
        values = {"grid": len(points), "spacing": spacing, "error": moved}
        raise ValueError(say("exact-coarse", **values))


def _elbo_on(z: Tensor, log_joint: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the ELBO as a function of (mu1, mu2, logvar1, logvar2), by the grid.

    ELBO = E_q[log p(x, z) - log N(z; 0, I)] - KL(q || N(0, I)), the latter in closed
    form: an entropy alone would let q grow beyond the plane.
    """
    excess = log_joint - log_standard_normal(z)  # (G,)

    def value(parameters: Tensor) -> Tensor:
        mu, logvar = parameters.split(2)
        # Weights that sum to 1: a narrow q cannot hide between points.
        log_q = log_normal(z, mu, logvar)  # (G,)
        return log_q.softmax(0) @ excess - kl_to_standard_normal(mu, logvar)

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
