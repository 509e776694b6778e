"""What tells a learner whether an exercise is right: a verdict, with a hint if not.

A check calls the learner's function on cases of its own, compares with an oracle of
another make (``torch.distributions``, the normal CDF), and knows the usual mistakes by
their values. It never shows the answer and never raises. Here are the means and the
checks of lesson 00; later lessons bring a module each, ``checks_elbo`` and so on.
Introduced in lesson 00.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Normal, kl_divergence

from vae_teach import data
from vae_teach.bounds import elbo
from vae_teach.nets import VAE
from vae_teach.words import say

Answer = Callable[..., Any]
TOLERANCE = 1e-4  # relative; the smallest mistake below changes values by 1e-2
STANDARD_ERRORS = 4  # how clearly one model must beat another
STROKES_ELBO = -150.0  # nats; a model of MNIST stays far below, a trained one above


@dataclass(frozen=True)
class Verdict:
    """What a check found: ``right``, and a sentence in the learner's language."""

    right: bool
    message: str

    def __bool__(self) -> bool:
        return self.right

    def __repr__(self) -> str:
        return f"{'✔' if self.right else '✘'} {self.message}"


def wrong(key: str, **values: Any) -> Verdict:
    """Return the verdict on a wrong answer: the hint ``key`` of the catalogue."""
    return Verdict(False, say(key, **values))


def correct(key: str, **values: Any) -> Verdict:
    """Return the verdict on a right answer: "Right", then the phrase ``key``."""
    return Verdict(True, say("check-right") + " " + say(key, **values))


def compare(
    answer: Answer,
    oracle: Answer,
    mistakes: dict[str, Answer],
    cases: Sequence[tuple[Any, ...]],
    right: str,
) -> Verdict:
    """Return the verdict on a function that returns a tensor.

    Args:
        answer: the learner's function; what it raises becomes a hint.
        oracle: the right one, of another make than the answer is likely to be.
        mistakes: usual wrong functions, by the hint that each deserves.
        cases: arguments to call them all with, chosen so that no two agree.
        right: the phrase that follows "Right".

    Introduced in lesson 00.
    """
    found = []
    for case in cases:
        try:
            found.append(answer(*case))
        except Exception as error:
            return wrong("check-raised", kind=type(error).__name__, error=error)
    if any(value is None or value is ... for value in found):
        return wrong("check-empty")
    if not all(isinstance(value, Tensor) for value in found):
        return wrong("check-not-tensor", got=type(found[0]).__name__)
    if _same(found, [oracle(*case) for case in cases]):
        return correct(right)
    for key, mistake in mistakes.items():
        if _same(found, [mistake(*case) for case in cases]):
            return wrong(key)
    return _differs(found, [oracle(*case) for case in cases])


def _same(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> bool:
    return all(
        a.shape == b.shape
        and torch.allclose(a.double(), b.double(), rtol=TOLERANCE, atol=TOLERANCE)
        for a, b in zip(found, wanted, strict=True)
    )


def _differs(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> Verdict:
    for a, b in zip(found, wanted, strict=True):
        if a.shape != b.shape:
            return wrong("check-shape", got=tuple(a.shape), takes=tuple(b.shape))
        if not a.isfinite().all():
            return wrong("check-not-finite")
    gaps = [(a - b).abs().max().item() for a, b in zip(found, wanted, strict=True)]
    return wrong("check-value", gap=max(gaps))


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


KL_MISTAKES: dict[str, Answer] = {
    "kl-tau-ignored": lambda m, v, t: _kl_oracle(m, v),
    "kl-tau-root": lambda m, v, t: _kl_oracle(m, v, t**0.5),
    "kl-sum-batch": lambda m, v, t: _kl_apart(m, v, t).sum(0),
    "kl-sum-all": lambda m, v, t: _kl_apart(m, v, t).sum(),
    "kl-mean-all": lambda m, v, t: _kl_apart(m, v, t).mean(),
    "kl-mean-batch": lambda m, v, t: _kl_oracle(m, v, t).mean(),
    "kl-not-summed": _kl_apart,
    "kl-mean-latents": lambda m, v, t: _kl_oracle(m, v, t) / m.shape[-1],
    "kl-sign": lambda m, v, t: -_kl_oracle(m, v, t),
    "kl-half": lambda m, v, t: 2 * _kl_oracle(m, v, t),
    "kl-one": lambda m, v, t: _kl_oracle(m, v, t) + 0.5 * m.shape[-1],
    "kl-std": lambda m, v, t: _kl_oracle(m, 2 * v, t),
    "kl-root": lambda m, v, t: _kl_oracle(m, 0.5 * v, t),
    "kl-no-square": lambda m, v, t: (
        _kl_oracle(m, v, t) + 0.5 * (m - m.square()).sum(-1) / t**2
    ),
    "kl-reversed": _kl_reversed,
}


def kl(answer: Answer) -> Verdict:
    """Check ``answer(mu, logvar, tau) -> (B,)``: the KL to the prior N(0, tau^2 I).

    Introduced in lesson 00.
    """
    cases = [
        (*parameters, tau)
        for parameters, tau in zip(_parameters(), (2.0, 0.5), strict=True)
    ]
    return compare(answer, _kl_oracle, KL_MISTAKES, cases, right="kl-right")


DRAW_MISTAKES: dict[str, Answer] = {
    "draw-variance": lambda m, v, e: m + v.exp() * e,
    "draw-log": lambda m, v, e: m + v * e,
    "draw-unit": lambda m, v, e: m + e,
    "draw-no-mean": lambda m, v, e: (0.5 * v).exp() * e,
    "draw-no-noise": lambda m, v, e: m.expand_as(e),
    "draw-sign": lambda m, v, e: m - (0.5 * v).exp() * e,
    "draw-inverse": lambda m, v, e: m + (-0.5 * v).exp() * e,
}


def draw(answer: Answer) -> Verdict:
    """Check ``answer(mu, logvar, eps) -> z (B, L)``: the reparameterized draw.

    Introduced in lesson 00.
    """

    def oracle(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
        # the normal whose quantile at the noise's own level is z
        level = Normal(0.0, 1.0).cdf(eps)
        return Normal(mu, logvar.exp().sqrt()).icdf(level)

    stream = torch.Generator().manual_seed(1)
    cases = []
    for mu, logvar in _parameters():
        eps = torch.randn(mu.shape, dtype=torch.float64, generator=stream)
        cases.append((mu.requires_grad_(), logvar.requires_grad_(), eps))
    with suppress(Exception):  # the comparison below says what went wrong
        if not torch.equal(answer(*cases[1]), answer(*cases[1])):
            return wrong("draw-fresh-noise")
    verdict = compare(answer, oracle, DRAW_MISTAKES, cases, right="draw-right")
    if not verdict:
        return verdict
    z = answer(*cases[1])
    if not z.requires_grad:
        return wrong("draw-no-gradient")
    gradients = torch.autograd.grad(z.sum(), cases[1][:2], allow_unused=True)
    if any(gradient is None for gradient in gradients):
        return wrong("draw-no-gradient")
    return verdict


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
    "beta-sum": _weighted(1, 1, torch.sum),
    "beta-not-averaged": _weighted(1, 1, lambda total: total),
    "beta-sign": _weighted(-1, -1),
    "beta-kl-sign": _weighted(1, -1),
    "beta-pixel-mean": lambda x, *rest: _weighted(1 / x.shape[-1], 1)(x, *rest),
    "beta-ignored": lambda *terms: _weighted(1, 1)(*terms[:-1], 1.0),
    "beta-wrong-term": lambda *terms: _weighted(terms[-1], 1 / terms[-1])(*terms),
    "beta-both": lambda *terms: _weighted(terms[-1], 1)(*terms),
}


def beta_loss(answer: Answer) -> Verdict:
    """Check ``answer(x, logits, mu, logvar, beta) -> scalar``: the beta-VAE's loss.

    Source: Higgins et al. 2017. Introduced in lesson 00.
    """
    stream = torch.Generator().manual_seed(2)
    cases: list[tuple[Any, ...]] = []
    for beta, (mu, logvar) in zip((4.0, 0.5), _parameters(), strict=True):
        logits = torch.randn(len(mu), 9, dtype=torch.float64, generator=stream)
        x = (torch.rand(len(mu), 9, generator=stream) < 0.5).double()
        cases.append((x, logits, mu, logvar, beta))
    return compare(answer, _weighted(1, 1), BETA_MISTAKES, cases, right="beta-right")


def _mass_oracle(extent: float, latents: int) -> Tensor:
    inside = Normal(0.0, 1.0).cdf(torch.tensor([-extent, extent]).double()).diff()
    return inside.pow(latents)[0]


MASS_MISTAKES: dict[str, Answer] = {
    "mass-one-axis": lambda a, n: _mass_oracle(a, 1),
    "mass-one-side": lambda a, n: (0.5 + 0.5 * _mass_oracle(a, 1)) ** n,
    "mass-outside": lambda a, n: 1 - _mass_oracle(a, n),
    "mass-sum": lambda a, n: n * _mass_oracle(a, 1),
    "mass-half": lambda a, n: (0.5 * _mass_oracle(a, 1)) ** n,
    "mass-circle": lambda a, n: 1 - torch.exp(torch.tensor(-0.5 * a**2)).double(),
}


def grid_mass(answer: Answer) -> Verdict:
    """Check ``answer(extent, latents) -> float``: prior mass inside a linear grid.

    The grid is the cube from -extent to extent in each latent. Introduced in lesson 00.
    """

    def as_tensor(extent: float, latents: int) -> Any:
        value = answer(extent, latents)
        is_number = isinstance(value, int | float)
        value = torch.tensor(float(value)) if is_number else value
        return value.squeeze() if isinstance(value, Tensor) else value

    cases = [(1.0, 2), (1.5, 2), (2.0, 5)]
    return compare(as_tensor, _mass_oracle, MASS_MISTAKES, cases, right="mass-right")


def more_latents(model: Any, reference: VAE, images: data.Images) -> Verdict:
    """Check that ``model`` has more latents than ``reference`` and a higher ELBO.

    Compared image by image on at most 2,000 of ``images``. Introduced in lesson 00.
    """
    if model is None or model is ...:
        return wrong("check-empty")
    if not isinstance(model, VAE):
        return wrong("check-not-vae", got=type(model).__name__)
    if model.latent_dim <= reference.latent_dim:
        return wrong("latents-same", got=model.latent_dim)
    gain = _elbos(model, images) - _elbos(reference, images)  # (B,)
    mean, error = gain.mean().item(), (gain.std() / len(gain) ** 0.5).item()
    if mean < STANDARD_ERRORS * error:
        return wrong("latents-no-gain", gain=mean, error=error)
    return correct("latents-right", gain=mean, error=error)


def other_dataset(model: Any) -> Verdict:
    """Check that ``model`` has learnt ``strokes``, by its ELBO on 2,000 test images.

    Introduced in lesson 00.
    """
    if model is None or model is ...:
        return wrong("check-empty")
    if not isinstance(model, VAE):
        return wrong("check-not-vae", got=type(model).__name__)
    mean = _elbos(model, data.load("strokes", "test")).mean().item()
    if mean < STROKES_ELBO:
        return wrong("strokes-low", elbo=mean, bound=STROKES_ELBO)
    return correct("strokes-right", elbo=mean)


@torch.no_grad()
def _elbos(model: VAE, images: data.Images, count: int = 2000) -> Tensor:
    device = next(model.parameters()).device
    return elbo(model, images.pixels[:count].to(device)).elbo.cpu()
