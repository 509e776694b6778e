"""Checks of lesson 02: the ELBO on a grid, a sampled KL, two bugs to find.

The oracles are closed forms of polynomial energies and ``torch.distributions``.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import (
    Categorical,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    kl_divergence,
)

from vae_teach.checks.verdicts import Answer, Verdict, compare

ENERGIES = ((-0.4, 0.3, -0.8, 0.1, -0.05), (-2.0, -0.5, 0.6, 0.0, -0.2))


def _energy(z: Tensor, powers: Sequence[float]) -> Tensor:
    """Return the polynomial with coefficients ``powers``, lowest first, at z (Z,)."""
    return torch.stack([c * z**i for i, c in enumerate(powers)]).sum(0)


def _grid_cases() -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Return cases (log_joint, z, mu, logvar): two energies, two spacings."""
    parameters = torch.tensor([[0.7, -1.5], [-0.5, -0.6]], dtype=torch.float64)
    cases = []
    for powers, points, (mu, logvar) in zip(
        ENERGIES, (401, 641), parameters, strict=True
    ):
        z = torch.linspace(-8, 8, points, dtype=torch.float64)
        cases.append((_energy(z, powers), z, mu, logvar))
    return cases


def _grid_oracle(log_joint: Tensor, z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """Return the ELBO from the moments of q, with no grid at all."""
    powers = next(p for p in ENERGIES if torch.equal(_energy(z, p), log_joint))
    m, v = mu, logvar.exp()
    third, fourth = m**3 + 3 * m * v, m**4 + 6 * m**2 * v + 3 * v**2
    moments: list[Tensor] = [torch.ones_like(m), m, m**2 + v, third, fourth]
    energy = torch.stack(
        [c * moment for c, moment in zip(powers, moments, strict=True)]
    )
    return energy.sum() + Normal(mu, v.sqrt()).entropy()


def _q(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    return Normal(mu, (0.5 * logvar).exp()).log_prob(z)


def _average(joint: float, entropy: float, over: str = "spacing") -> Answer:
    """Return a sum over the grid, its two terms with these weights."""

    def value(log_joint: Tensor, z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
        log_q = _q(z, mu, logvar)
        total = (log_q.exp() * (joint * log_joint - entropy * log_q)).sum()
        step = (z[1] - z[0]).item()
        widths = {"spacing": step, "toy": 0.01, "nothing": 1.0, "points": 1 / len(z)}
        return total * widths[over]

    return value


def _over_posterior(j: Tensor, z: Tensor, m: Tensor, v: Tensor) -> Tensor:
    return (j.softmax(0) * (j - _q(z, m, v))).sum()


GRID_MISTAKES: dict[str, Answer] = {
    "elbo-grid-no-spacing": _average(1, 1, "nothing"),
    "elbo-grid-fixed-spacing": _average(1, 1, "toy"),
    "elbo-grid-mean": _average(1, 1, "points"),
    "elbo-grid-no-entropy": _average(1, 0),
    "elbo-grid-entropy-sign": _average(1, -1),
    "elbo-grid-evidence": lambda j, z, m, v: j.logsumexp(0) + (z[1] - z[0]).log(),
    "elbo-grid-std": lambda j, z, m, v: _average(1, 1)(j, z, m, 2 * v),
    "elbo-grid-kl": _average(-1, -1),
    "elbo-grid-posterior": _over_posterior,
}


def grid_elbo(answer: Answer) -> Verdict:
    """Check ``answer(log_joint, z, mu, logvar) -> scalar``: the ELBO on a grid.

    log_joint and z are (Z,), mu and logvar scalars.
    """
    right, cases = "elbo-grid-right", _grid_cases()
    return compare(answer, _grid_oracle, GRID_MISTAKES, cases, right, number=True)


def _log_ratio(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """Return log q - log p per coordinate: (S, B, L)."""
    prior = Normal(torch.zeros_like(mu), 1.0)
    return _q(z, mu, logvar) - prior.log_prob(z)


def _kl_oracle(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    q = MultivariateNormal(mu, torch.diag_embed(logvar.exp()))
    p = MultivariateNormal(torch.zeros_like(mu), torch.eye(mu.shape[-1]).to(mu))
    return (q.log_prob(z) - p.log_prob(z)).mean(0)


def _kl_exact(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    prior = Normal(torch.zeros_like(mu), torch.ones_like(mu))
    return kl_divergence(Normal(mu, (0.5 * logvar).exp()), prior).sum(-1)


def _kl_wrong_width(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    prior = Normal(torch.zeros_like(mu), 1.0)
    return (_q(z, mu, 2 * logvar) - prior.log_prob(z)).sum(-1).mean(0)


def _kl_low_variance(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    log_ratio = _log_ratio(z, mu, logvar).sum(-1)  # (S, B)
    return (torch.expm1(-log_ratio) + log_ratio).mean(0)


KL_MISTAKES: dict[str, Answer] = {
    "elbo-kl-sign": lambda z, m, v: -_kl_oracle(z, m, v),
    "elbo-kl-sum": lambda z, m, v: _log_ratio(z, m, v).sum(-1).sum(0),
    "elbo-kl-all": lambda z, m, v: _log_ratio(z, m, v).sum(-1).mean(),
    "elbo-kl-everything": lambda z, m, v: _log_ratio(z, m, v).mean(),
    "elbo-kl-swapped": lambda z, m, v: _log_ratio(z, m, v).mean(-1).sum(0),
    "elbo-kl-wrong-axis": lambda z, m, v: _log_ratio(z, m, v).sum(-1).mean(1),
    "elbo-kl-not-averaged": lambda z, m, v: _log_ratio(z, m, v).sum(-1),
    "elbo-kl-not-summed": lambda z, m, v: _log_ratio(z, m, v).mean(0),
    "elbo-kl-latent-mean": lambda z, m, v: _log_ratio(z, m, v).mean(-1).mean(0),
    "elbo-kl-exact": _kl_exact,
    "elbo-kl-std": _kl_wrong_width,
    "elbo-kl-no-prior": lambda z, m, v: _q(z, m, v).sum(-1).mean(0),
    "elbo-kl-squared": lambda z, m, v: (
        0.5 * _log_ratio(z, m, v).sum(-1).square().mean(0)
    ),
    "elbo-kl-low-variance": _kl_low_variance,
}


def sampled_kl(answer: Answer) -> Verdict:
    """Check ``answer(z, mu, logvar) -> (B,)``: KL(q || N(0, I)) of draws (S, B, L)."""
    stream = torch.Generator().manual_seed(0)
    cases = []
    for draws, images, latents in ((7, 4, 3), (5, 3, 2)):
        shape = (images, latents)
        mu, logvar = torch.randn(2, *shape, dtype=torch.float64, generator=stream)
        eps = torch.randn(draws, *shape, dtype=torch.float64, generator=stream)
        cases.append((mu + (0.5 * logvar).exp() * eps, mu, logvar))
    right, changes = "elbo-kl-right", "elbo-kl-fresh"
    return compare(answer, _kl_oracle, KL_MISTAKES, cases, right, changes=changes)


def _bound_oracle(log_weights: Tensor) -> Tensor:
    """Return log of the mean weight, shifted by hand so that nothing underflows."""
    highest = log_weights.max(0).values  # (B,)
    return highest + (log_weights - highest).exp().mean(0).log()


BOUND_MISTAKES: dict[str, Answer] = {
    "elbo-bound-mean-logs": lambda w: w.mean(0),
    "elbo-bound-no-k": lambda w: _bound_oracle(w) + math.log(len(w)),
    "elbo-bound-underflow": lambda w: w.exp().mean(0).log(),
    "elbo-bound-underflow-no-k": lambda w: w.exp().sum(0).log(),
    "elbo-bound-softmax": lambda w: (w.softmax(0) * w).sum(0),
    "elbo-bound-axis": lambda w: _bound_oracle(w.T),
    "elbo-bound-axis-k": lambda w: w.logsumexp(1) - math.log(len(w)),
    "elbo-bound-wrong-k": lambda w: w.logsumexp(0) - math.log(w.shape[1]),
    "elbo-bound-all": lambda w: _bound_oracle(w.flatten()),
    "elbo-bound-max": lambda w: w.max(0).values,
    "elbo-bound-sign": lambda w: -_bound_oracle(w),
}


def weighted_bound(answer: Answer) -> Verdict:
    """Check ``answer(log_weights) -> (B,)``: log 1/k sum_i w_i, log_weights (k, B).

    Source: Burda, Grosse & Salakhutdinov 2015.
    """
    stream = torch.Generator().manual_seed(1)
    plain = torch.randn(6, 4, dtype=torch.float64, generator=stream)
    tiny = 3 * torch.randn(5, 3, dtype=torch.float64, generator=stream) - 900
    cases, right = [(plain,), (tiny,)], "elbo-bound-right"
    return compare(answer, _bound_oracle, BOUND_MISTAKES, cases, right)


def _parts(z: Tensor) -> Tensor:
    """Return each component's log-density per coordinate: (B, 2, 2)."""
    centres = torch.tensor([[3.0, 3.0], [-3.0, -3.0]]).to(z)
    return Normal(centres, 1.0).log_prob(z[:, None])


def _mixture_oracle(z: Tensor) -> Tensor:
    centres = torch.tensor([[3.0, 3.0], [-3.0, -3.0]]).to(z)
    components = Independent(Normal(centres, torch.ones_like(centres)), 1)
    return MixtureSameFamily(Categorical(torch.ones(2).to(z)), components).log_prob(z)


MIXTURE_MISTAKES: dict[str, Answer] = {
    "elbo-mixture-coordinates": lambda z: (_parts(z).logsumexp(1) - math.log(2)).sum(
        -1
    ),
    "elbo-mixture-no-weight": lambda z: _mixture_oracle(z) + math.log(2),
    "elbo-mixture-mean-logs": lambda z: _parts(z).sum(-1).mean(1),
    "elbo-mixture-max": lambda z: _parts(z).sum(-1).amax(1) - math.log(2),
    "elbo-mixture-densities": lambda z: _mixture_oracle(z).exp(),
    "elbo-mixture-two-weights": lambda z: _mixture_oracle(z) - math.log(2),
    "elbo-mixture-not-summed": lambda z: _parts(z).logsumexp(1) - math.log(2),
    "elbo-mixture-one-mode": lambda z: _parts(z)[:, 0].sum(-1),
}


def mixture_prior(answer: Answer) -> Verdict:
    """Check ``answer(z) -> (B,)``: log of the mixture at +-(3, 3), z (B, 2)."""
    rows = [[3.0, -3.0], [0.1, -0.2], [3.0, 3.0], [-2.0, 1.5]]
    cases = [(torch.tensor(z, dtype=torch.float64),) for z in (rows, [[0.3, 0.1]])]
    right = "elbo-mixture-right"
    return compare(answer, _mixture_oracle, MIXTURE_MISTAKES, cases, right)
