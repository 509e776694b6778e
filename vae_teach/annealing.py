"""Annealed importance sampling: log p(x) between two estimates, for any latent size.

A chain that goes from the prior to the posterior gives a bound from below, one that
goes back from an exact posterior draw a bound from above; log p(x) lies between their
means.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vae_teach.densities import log_standard_normal
from vae_teach.guards import check_count, check_sound
from vae_teach.models import Adapted, adapt, alike
from vae_teach.speed.threads import share_cores, shares_cores
from vae_teach.words import say

ACCEPTED = 0.65  # acceptance rate that the tuning aims at (Neal 2011)
FIRST_STEP = 0.1  # of the leapfrog, before it is tuned; the prior's width is 1
LONGER, SHORTER = 1.1, 0.85  # factors on a step that is accepted more, or less, often
SCHEDULE_EDGE = 4.0  # the sigmoid's span: temperatures crowd at both ends


class Annealed(NamedTuple):
    """Estimates of log p(x) from the chains, in nats.

    ``lower`` (B,) is below log p(x) in expectation, ``upper`` (B,) above it (None where
    no exact draws were given), ``accepted`` (B,) the share of moves accepted.
    """

    lower: Tensor
    upper: Tensor | None
    accepted: Tensor


def simulate(model: Any, count: int) -> tuple[Tensor, Tensor]:
    """Draw images from the model, and the z that made each: (B, D) bits and (B, L).

    Such a z is an exact draw from the posterior of its image, which is what the reverse
    chain of ``anneal`` must start from. Raises ValueError if count is below 1,
    TypeError for a model whose prior or pixels are its own: a density does not draw.
    """
    count = check_count("count", count)
    model = adapt(model)
    if not (model.bernoulli and model.standard_prior):
        raise TypeError(say("simulate-own", got=type(model.model).__name__))
    like = model.like
    z = torch.randn(count, model.latent_dim, dtype=like.dtype, device=like.device)
    with torch.no_grad():
        x = torch.bernoulli(model.decode(z))  # (B, D)
        model.check_prior(x)
    return x, z


@shares_cores
def anneal(
    model: Any,
    x: Tensor,
    *,
    chains: int = 16,
    temperatures: int = 200,
    leapfrogs: int = 10,
    start: Tensor | None = None,
) -> Annealed:
    """Estimate log p(x) along p(z) p(x|z)^b, with b from 0 to 1, by Hamiltonian moves.

    For a model with a prior of its own the path is along N(z; 0, I)^(1-b) p(x, z)^b.

    A first run tunes the step size at each temperature; the runs that are used keep it
    fixed, so that moves do not depend on their past and both bounds hold.

    Args:
        model: a VAE, or whatever ``models.adapt`` takes.
        x: (B, D) pixels in [0, 1].
        chains: per image and direction, S.
        temperatures: steps from the prior to the posterior.
        leapfrogs: of each Hamiltonian move.
        start: (S, B, L) exact draws from the posterior, one for each chain and image,
            for the reverse chain; a (B, L) draw serves all chains of its image.

    Returns:
        Annealed of lower (B,), upper (B,) or None, accepted (B,).

    Raises:
        TypeError: x is not floating, or the model has no prior.
        ValueError: pixels outside [0, 1] or NaN, wrong shape, a count below 1, a start
            of another shape, a model that computes NaN.

    Source: Neal 2001; Grosse, Ghahramani & Adams 2015 for the reverse chain; Wu et al.
    2017 for the schedule.
    """
    counts = {"chains": chains, "temperatures": temperatures, "leapfrogs": leapfrogs}
    counts = {name: check_count(name, value) for name, value in counts.items()}
    view, x = adapt(model).precise(x)
    view.check_prior(x)
    paths = _Chains(view, x, **counts)
    with torch.no_grad():
        if start is not None:
            start = paths.check_start(start)
        paths.forward(tune=True)
        lower, accepted = paths.forward()
        upper = None if start is None else paths.backward(start)
    return Annealed(check_sound(lower), upper, accepted)


class _Chains:
    """The chains of all images at once, and their step sizes."""

    def __init__(
        self,
        model: Adapted,
        x: Tensor,
        chains: int,
        temperatures: int,
        leapfrogs: int,
    ) -> None:
        self.model, self.x, self.leapfrogs = model, x, leapfrogs
        latents = model.latents(x)
        self.shape = (chains, len(x), latents)
        ends = torch.tensor([-SCHEDULE_EDGE, SCHEDULE_EDGE]).sigmoid()
        curve = torch.linspace(-SCHEDULE_EDGE, SCHEDULE_EDGE, temperatures + 1)
        curve = (curve.sigmoid() - ends[0]) / (ends[1] - ends[0])
        self.powers = curve.tolist()  # from 0 to 1
        self.steps = x.new_full((temperatures + 1, len(x), 1), FIRST_STEP)  # (T, B, 1)

    def check_start(self, start: Tensor) -> Tensor:
        """Return the start as (S, B, L), or raise ValueError."""
        if tuple(start.shape) not in (self.shape, self.shape[1:]):
            got = tuple(start.shape)
            raise ValueError(say("reverse-start", got=got, takes=self.shape))
        return alike(start, self.x).expand(self.shape).clone()

    def forward(self, tune: bool = False) -> tuple[Tensor, Tensor]:
        """Go from the prior; return the bound from below and the share accepted."""
        z = torch.randn(self.shape, dtype=self.x.dtype, device=self.x.device)
        log_weights = torch.zeros_like(z[..., 0])  # (S, B)
        accepted = torch.zeros_like(self.x[:, 0])  # (B,)
        for t in range(1, len(self.powers)):
            rise = self.powers[t] - self.powers[t - 1]
            log_weights += rise * self._excess(z)
            z, moved = self._move(z, t)
            share = moved.float().mean(0)  # (B,)
            accepted += share
            if tune:
                self._tune(t, share)
        mean = log_weights.logsumexp(0) - math.log(len(log_weights))
        return mean, accepted / (len(self.powers) - 1)

    def backward(self, z: Tensor) -> Tensor:
        """Go back from posterior draws z (S, B, L); return the bound from above."""
        log_weights = torch.zeros_like(z[..., 0])  # (S, B) of 1 / p(x)
        for t in range(len(self.powers) - 1, 0, -1):
            z, _ = self._move(z, t)
            fall = self.powers[t - 1] - self.powers[t]
            log_weights += fall * self._excess(z)
        return math.log(len(log_weights)) - log_weights.logsumexp(0)

    def _tune(self, t: int, share: Tensor) -> None:
        """Lengthen or shorten the step, here and as a first guess for the next."""
        factor = torch.where(share > ACCEPTED, LONGER, SHORTER)[:, None]
        self.steps[t] *= factor
        self.steps[t + 1 :] = self.steps[t]

    def _move(self, z: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """Make one Hamiltonian move at temperature t: z (S, B, L), moved (S, B)."""
        share_cores()
        step = self.steps[t]  # (B, 1)
        momentum, position = torch.randn_like(z), z
        log_density, gradient = self._log_density(position, t)
        before = log_density + log_standard_normal(momentum)
        for _ in range(self.leapfrogs):
            momentum = momentum + 0.5 * step * gradient
            position = position + step * momentum
            log_density, gradient = self._log_density(position, t)
            momentum = momentum + 0.5 * step * gradient
        log_ratio = log_density + log_standard_normal(momentum) - before  # (S, B)
        moved = torch.rand_like(log_ratio).log() < log_ratio
        return torch.where(moved[..., None], position, z), moved

    def _log_density(self, z: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """Return log N(z; 0, I) + b times the excess, (S, B), and its gradient."""
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            log_density = log_standard_normal(z) + self.powers[t] * self._excess(z)
            (gradient,) = torch.autograd.grad(log_density.sum(), z)
        return log_density.detach(), gradient

    def _excess(self, z: Tensor) -> Tensor:
        """Return log p(x, z) - log N(z; 0, I), (S, B): the chains start there."""
        likelihood = self.model.log_conditional(self.x, z)
        if self.model.standard_prior:
            return likelihood
        return likelihood + self.model.log_prior(z) - log_standard_normal(z)
