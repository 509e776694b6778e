"""The best Gaussian q for an image, by ascent on the exact ELBO."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from vae_teach.bounds import LatentModel
from vae_teach.densities import kl_to_standard_normal, log_standard_normal
from vae_teach.exact.grid import ALL, axis, log_joint_on, plane, posterior


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
    """
    points = axis(grid, extent, x)
    z = plane(points)  # (G, 2)
    found = []
    for image in x.split(1):
        with torch.no_grad():
            density = posterior(model, image, grid=grid, extent=extent)[0].flatten()
            likelihood = log_joint_on(model, z)(image, ALL)[0] - log_standard_normal(z)
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
