"""Checks of lesson 00: the KL, the draw, beta, the mass of a grid, two models.

The oracles are ``torch.distributions`` and the normal CDF.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Normal, kl_divergence

from vae_teach import data
from vae_teach.bounds import elbo
from vae_teach.checks.verdicts import (
    Answer,
    Case,
    Verdict,
    call,
    compare,
    correct,
    values_of,
    wrong,
)
from vae_teach.guards import DivergedError
from vae_teach.nets import VAE

STANDARD_ERRORS = 4  # how clearly one model must beat another
JUDGED = 2000  # images on which a model is judged
STROKES_ELBO = -150.0  # nats; two latents of MNIST reach -171, three epochs here -140
STROKES_LATENTS = 2


def _parameters() -> list[tuple[Tensor, Tensor]]:
    """Return cases (mu, logvar), each (B, L): plain ones first, then random ones."""
    stream = torch.Generator().manual_seed(0)
    plain = (torch.ones(4, 3).double(), torch.full((4, 3), -1.0).double())
    mu, logvar = torch.randn(2, 5, 2, dtype=torch.float64, generator=stream)
    return [plain, (mu, logvar)]


def _kl_oracle(mu: Tensor, logvar: Tensor, tau: float = 1.0) -> Tensor:
    prior = Normal(torch.zeros_like(mu), tau)
    return kl_divergence(Normal(mu, (0.5 * logvar).exp()), prior).sum(-1)


def _kl_reversed(mu: Tensor, logvar: Tensor, tau: float) -> Tensor:
    prior = Normal(torch.zeros_like(mu), tau)
    return kl_divergence(prior, Normal(mu, (0.5 * logvar).exp())).sum(-1)


def _kl_apart(mu: Tensor, logvar: Tensor, tau: float) -> Tensor:
    return _kl_oracle(mu[..., None], logvar[..., None], tau)  # (B, L)


def _kl_parts(
    mean: int = 2, variance: int = 2, log: float = 2, latents: int = 0
) -> Any:
    """Return the KL with other powers of tau in its terms, and ``log`` times log tau.

    ``latents`` counts that logarithm so many times; once for each latent if 0.
    """

    def wrong_kl(mu: Tensor, logvar: Tensor, tau: float) -> Tensor:
        scaled = mu.square() / tau**mean + logvar.exp() / tau**variance
        logs = log * math.log(tau) * (latents or mu.shape[-1])
        return 0.5 * ((scaled - 1 - logvar).sum(-1) + logs)

    return wrong_kl


KL_MISTAKES: dict[str, Answer] = {
    "tour-kl-tau-ignored": lambda m, v, t: _kl_oracle(m, v),
    "tour-kl-tau-root": lambda m, v, t: _kl_oracle(m, v, t**0.5),
    "tour-kl-tau-mean": _kl_parts(mean=0),
    "tour-kl-tau-variance": _kl_parts(variance=0),
    "tour-kl-tau-square": _kl_parts(mean=1, variance=1),
    "tour-kl-tau-no-log": _kl_parts(log=0),
    "tour-kl-tau-log-half": _kl_parts(log=1),
    "tour-kl-tau-log-sign": _kl_parts(log=-2),
    "tour-kl-tau-log-once": _kl_parts(latents=1),
    "tour-kl-sum-batch": lambda m, v, t: _kl_apart(m, v, t).sum(0),
    "tour-kl-sum-all": lambda m, v, t: _kl_apart(m, v, t).sum(),
    "tour-kl-mean-all": lambda m, v, t: _kl_apart(m, v, t).mean(),
    "tour-kl-mean-batch": lambda m, v, t: _kl_oracle(m, v, t).mean(),
    "tour-kl-not-summed": _kl_apart,
    "tour-kl-mean-latents": lambda m, v, t: _kl_oracle(m, v, t) / m.shape[-1],
    "tour-kl-sign": lambda m, v, t: -_kl_oracle(m, v, t),
    "tour-kl-half": lambda m, v, t: 2 * _kl_oracle(m, v, t),
    "tour-kl-one": lambda m, v, t: _kl_oracle(m, v, t) + 0.5 * m.shape[-1],
    "tour-kl-std": lambda m, v, t: _kl_oracle(m, 2 * v, t),
    "tour-kl-root": lambda m, v, t: _kl_oracle(m, 0.5 * v, t),
    "tour-kl-no-square": lambda m, v, t: (
        _kl_oracle(m, v, t) + 0.5 * (m - m.square()).sum(-1) / t**2
    ),
    "tour-kl-reversed": _kl_reversed,
}


def kl(answer: Answer) -> Verdict:
    """Check ``answer(mu, logvar, tau) -> (B,)``: the KL to the prior N(0, tau^2 I)."""
    cases = [
        (*parameters, tau)
        for parameters, tau in zip(_parameters(), (2.0, 0.5), strict=True)
    ]
    return compare(answer, _kl_oracle, KL_MISTAKES, cases, right="tour-kl-right")


DRAW_MISTAKES: dict[str, Answer] = {
    "tour-draw-variance": lambda m, v, e: m + v.exp() * e,
    "tour-draw-log": lambda m, v, e: m + v * e,
    "tour-draw-unit": lambda m, v, e: m + e,
    "tour-draw-no-mean": lambda m, v, e: (0.5 * v).exp() * e,
    "tour-draw-no-noise": lambda m, v, e: m.expand_as(e),
    "tour-draw-sign": lambda m, v, e: m - (0.5 * v).exp() * e,
    "tour-draw-inverse": lambda m, v, e: m + (-0.5 * v).exp() * e,
}


def draw(answer: Answer) -> Verdict:
    """Check ``answer(mu, logvar, eps) -> z (B, L)``: the reparameterized draw."""

    def oracle(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
        # z is the quantile of q at the level that eps has under N(0, 1)
        level = Normal(0.0, 1.0).cdf(eps)
        return Normal(mu, logvar.exp().sqrt()).icdf(level)

    stream = torch.Generator().manual_seed(1)
    cases = []
    for mu, logvar in _parameters():
        eps = torch.randn(mu.shape, dtype=torch.float64, generator=stream)
        cases.append((mu.requires_grad_(), logvar.requires_grad_(), eps))
    if _is_nan_where_negative(answer, cases):
        return wrong("tour-draw-root")
    return compare(
        answer,
        oracle,
        DRAW_MISTAKES,
        cases,
        right="tour-draw-right",
        changes="tour-draw-fresh-noise",
        cut="tour-draw-no-gradient",
    )


def _is_nan_where_negative(answer: Answer, cases: Sequence[Case]) -> bool:
    """Tell whether the values are NaN just where logvar has no square root."""
    values = values_of(answer, cases)
    return not isinstance(values, Verdict) and all(
        torch.equal(value.isnan(), case[1] < 0)
        for value, case in zip(values, cases, strict=True)
    )


def _terms(x: Tensor, logits: Tensor, mu: Tensor, logvar: Tensor) -> tuple[Tensor, ...]:
    reconstruction = Bernoulli(logits=logits, validate_args=False).log_prob(x).sum(-1)
    return reconstruction, _kl_oracle(mu, logvar)


def _weighted(pixels: float, latents: float, over: Answer = torch.mean) -> Answer:
    """Return a beta-VAE loss whose two terms carry these further weights."""

    def loss(*terms: Any) -> Any:
        reconstruction, divergence = _terms(*terms[:-1])
        return over(latents * terms[-1] * divergence - pixels * reconstruction)

    return loss


BETA_MISTAKES: dict[str, Answer] = {
    "tour-beta-sum": _weighted(1, 1, torch.sum),
    "tour-beta-not-averaged": _weighted(1, 1, lambda total: total),
    "tour-beta-sign": _weighted(-1, -1),
    "tour-beta-kl-sign": _weighted(1, -1),
    "tour-beta-reconstruction-sign": _weighted(-1, 1),
    "tour-beta-pixel-mean": lambda x, *rest: _weighted(1 / x.shape[-1], 1)(x, *rest),
    "tour-beta-latent-mean": lambda x, y, m, v, b: _weighted(1, 1 / m.shape[-1])(
        x, y, m, v, b
    ),
    "tour-beta-all-mean": lambda x, y, m, v, b: _weighted(
        1 / x.shape[-1], 1 / m.shape[-1]
    )(x, y, m, v, b),
    "tour-beta-sum-mean": lambda x, *rest: _weighted(len(x), 1)(x, *rest),
    "tour-beta-mean-sum": lambda x, *rest: _weighted(1, len(x))(x, *rest),
    "tour-beta-ignored": lambda *terms: _weighted(1, 1)(*terms[:-1], 1.0),
    "tour-beta-wrong-term": lambda *terms: _weighted(terms[-1], 1 / terms[-1])(*terms),
    "tour-beta-both": lambda *terms: _weighted(terms[-1], 1)(*terms),
}


def beta_loss(answer: Answer) -> Verdict:
    """Check ``answer(x, logits, mu, logvar, beta) -> scalar``: the beta-VAE's loss.

    Source: Higgins et al. 2017.
    """
    stream = torch.Generator().manual_seed(2)
    cases: list[tuple[Any, ...]] = []
    for beta, (mu, logvar) in zip((4.0, 0.5), _parameters(), strict=True):
        logits = torch.randn(len(mu), 9, dtype=torch.float64, generator=stream)
        x = (torch.rand(len(mu), 9, generator=stream) < 0.5).double()
        cases.append((x, logits, mu, logvar, beta))
    right = "tour-beta-right"
    return compare(answer, _weighted(1, 1), BETA_MISTAKES, cases, right)


def _mass_oracle(extent: float, latents: int) -> Tensor:
    inside = Normal(0.0, 1.0).cdf(torch.tensor([-extent, extent]).double()).diff()
    return inside.pow(latents)[0]


MASS_MISTAKES: dict[str, Answer] = {
    "tour-mass-one-axis": lambda a, n: _mass_oracle(a, 1),
    "tour-mass-one-side": lambda a, n: (0.5 + 0.5 * _mass_oracle(a, 1)) ** n,
    "tour-mass-outside": lambda a, n: 1 - _mass_oracle(a, n),
    "tour-mass-sum": lambda a, n: n * _mass_oracle(a, 1),
    "tour-mass-half": lambda a, n: (0.5 * _mass_oracle(a, 1)) ** n,
    "tour-mass-circle": lambda a, n: 1 - math.exp(-0.5 * a**2),
    "tour-mass-ball": lambda a, n: torch.special.gammainc(
        torch.tensor(n / 2).double(), torch.tensor(a**2 / 2).double()
    ),
    "tour-mass-erf": lambda a, n: math.erf(a) ** n,
    "tour-mass-percent": lambda a, n: 100 * _mass_oracle(a, n),
}


def grid_mass(answer: Answer) -> Verdict:
    """Check ``answer(extent, latents) -> float``: prior mass inside a linear grid.

    The grid is the cube from -extent to extent in each latent.
    """
    cases = [(1.0, 2), (1.5, 2), (2.0, 5)]
    right = "tour-mass-right"
    return compare(answer, _mass_oracle, MASS_MISTAKES, cases, right, number=True)


def more_latents(model: Any, reference: VAE, images: data.Images) -> Verdict:
    """Check that ``model`` has more latents than ``reference`` and a higher ELBO.

    Compared image by image on at most 2,000 of ``images``.
    """
    ours, theirs = _elbos(model, images), _elbos(reference, images)
    for elbos in (ours, theirs):
        if isinstance(elbos, Verdict):
            return elbos
    if model.latent_dim <= reference.latent_dim:
        return wrong("tour-latents-same", got=model.latent_dim)
    gain = ours - theirs  # (B,)
    mean, error = gain.mean().item(), (gain.std() / len(gain) ** 0.5).item()
    if mean > STANDARD_ERRORS * error:
        return correct("tour-latents-right", gain=mean, error=error)
    return wrong("tour-latents-no-gain", gain=mean, error=error)


def other_dataset(model: Any) -> Verdict:
    """Check that ``model`` has two latents and has learnt ``strokes``.

    By its ELBO on 2,000 test images.
    """
    elbos = _elbos(model, data.load("strokes", "test"))
    if isinstance(elbos, Verdict):
        return elbos
    if model.latent_dim != STROKES_LATENTS:
        return wrong("tour-strokes-latents", got=model.latent_dim)
    mean = elbos.mean().item()
    if mean >= STROKES_ELBO:
        return correct("tour-strokes-right", elbo=mean)
    return wrong("tour-strokes-low", elbo=mean, bound=STROKES_ELBO)


@torch.no_grad()
def _elbos(model: Any, images: data.Images) -> Any:
    """Return the ELBO of each image (B,), all finite, or a Verdict on the model."""
    if model is None or model is ...:
        return wrong("check-empty")
    if not isinstance(model, VAE):
        return wrong("check-not-vae", got=type(model).__name__)
    x = data.grey(images.pixels[:JUDGED])
    if model.input_dim != x.shape[1]:
        return wrong("tour-model-pixels", got=model.input_dim, takes=x.shape[1])

    def measured() -> Tensor:
        try:
            return elbo(model, x.to(model.encoder_hidden.weight)).elbo.cpu().double()
        except DivergedError:
            return torch.tensor(math.nan)

    elbos = call(measured)
    if isinstance(elbos, Tensor) and not elbos.isfinite().all():
        return wrong("tour-model-diverged")
    return elbos
