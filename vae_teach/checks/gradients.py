"""Checks of lesson 03: gradients of averages, by the density and along the path.

The oracles come from ``torch.distributions`` and from autograd, which do not know the
formulas that the learner writes; for draws, from the quantiles of the distribution.
"""

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Exponential, Normal

from vae_teach.checks.verdicts import (
    Answer,
    Case,
    Verdict,
    call,
    close,
    compare,
    correct,
    fresh,
    values_of,
    wrong,
)


def _draws() -> list[Case]:
    """Return cases (z (S,), mu, logvar), float64, with unlike means and widths."""
    stream = torch.Generator().manual_seed(0)
    cases: list[Case] = []
    for mu, logvar, count in ((0.7, -1.0, 5), (-1.2, 0.8, 8)):
        eps = torch.randn(count, dtype=torch.float64, generator=stream)
        center, spread = (torch.tensor(v, dtype=torch.float64) for v in (mu, logvar))
        cases.append((center + spread.div(2).exp() * eps, center, spread))
    return cases


def _values(z: Tensor) -> Tensor:
    return z.square() + torch.cos(2 * z) - 3  # (S,), of both signs


# --- 1. the score function ----------------------------------------------------------


def _score(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """Return the gradient of log q(z) by autograd, draw by draw: (2, S)."""
    center = mu.detach().expand_as(z).clone().requires_grad_()
    spread = logvar.detach().expand_as(z).clone().requires_grad_()
    log_q = Normal(center, spread.exp().sqrt()).log_prob(z.detach())
    return torch.stack(torch.autograd.grad(log_q.sum(), (center, spread)))


def _by_score(values: Tensor, z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    return values * _score(z, mu, logvar)


def _lines(upper: Answer, lower: Answer) -> Answer:
    """Return an answer that changes the score's two lines, given as functions of them.

    They take the line, the standard deviation and the noise.
    """

    def answer(values: Tensor, z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
        first, second = _score(z, mu, logvar)
        sigma = logvar.exp().sqrt()
        eps = (z - mu) / sigma
        parts = (upper(first, sigma, eps), lower(second, sigma, eps))
        return values * torch.stack(parts)

    return answer


def _same_line(line: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    return line


SCORE_MISTAKES: dict[str, Answer] = {
    "gradients-score-no-value": lambda f, z, m, v: _score(z, m, v),
    "gradients-score-averaged": lambda f, z, m, v: _by_score(f, z, m, v).mean(-1),
    "gradients-score-summed": lambda f, z, m, v: _by_score(f, z, m, v).sum(-1),
    "gradients-score-columns": lambda f, z, m, v: _by_score(f, z, m, v).T,
    "gradients-score-rows": lambda f, z, m, v: _by_score(f, z, m, v).flip(0),
    "gradients-score-sign": lambda f, z, m, v: -_by_score(f, z, m, v),
    "gradients-score-sign-first": _lines(lambda g, s, e: -g, _same_line),
    "gradients-score-sign-second": _lines(_same_line, lambda g, s, e: -g),
    "gradients-score-width": lambda f, z, m, v: _by_score(f, z, m, 2 * v),
    "gradients-score-density": lambda f, z, m, v: (
        _by_score(f, z, m, v) * Normal(m, v.exp().sqrt()).log_prob(z).exp()
    ),
    "gradients-score-variance": _lines(lambda g, s, e: g * s, _same_line),
    "gradients-score-times": _lines(lambda g, s, e: e * s, _same_line),
    "gradients-score-root": _lines(lambda g, s, e: e / s**2, _same_line),
    "gradients-score-half": _lines(_same_line, lambda g, s, e: 2 * g),
    "gradients-score-sigma": _lines(_same_line, lambda g, s, e: 2 * g / s),
    "gradients-score-no-one": _lines(_same_line, lambda g, s, e: e.square() / 2),
    "gradients-score-of-variance": _lines(_same_line, lambda g, s, e: g / s**2),
}


def score_function(answer: Answer) -> Verdict:
    """Check ``answer(values, z, mu, logvar) -> (2, S)``: one estimate from each draw.

    The first row estimates the derivative of E[f] with respect to mu, the second with
    respect to logvar; ``values`` (S,) are f at the draws z (S,).

    Source: Williams 1992.
    """
    cases = [(_values(z), z, mu, logvar) for z, mu, logvar in _draws()]
    right = "gradients-score-right"
    return compare(answer, _by_score, SCORE_MISTAKES, cases, right=right)


# --- 2. the baseline that looks at its own draw --------------------------------------


def _by_others(values: Tensor, score: Tensor) -> Tensor:
    """Subtract from each value the mean of the others, gathered one by one."""
    rows = [torch.cat((values[:i], values[i + 1 :])).mean() for i in range(len(values))]
    return (values - torch.stack(rows)) * score


BASELINE_MISTAKES: dict[str, Answer] = {
    "gradients-baseline-itself": lambda f, s: (f - f.mean()) * s,
    "gradients-baseline-none": lambda f, s: f * s,
    "gradients-baseline-sum": lambda f, s: (f - f.sum()) * s,
    "gradients-baseline-median": lambda f, s: (f - f.median()) * s,
    "gradients-baseline-twice": lambda f, s: (
        (f - f.mean()) * s * (len(f) / (len(f) - 1)) ** 2
    ),
    "gradients-baseline-upside": lambda f, s: (
        (f - f.mean()) * s * (len(f) - 1) / len(f)
    ),
    "gradients-baseline-score": lambda f, s: f * s - f.mean() * s.mean(),
    "gradients-baseline-scaled": lambda f, s: (f - f.mean()) / f.std() * s,
    "gradients-baseline-averaged": lambda f, s: _by_others(f, s).mean(),
    "gradients-baseline-sign": lambda f, s: -_by_others(f, s),
}


def baseline(answer: Answer) -> Verdict:
    """Check ``answer(values, score) -> (S,)``: terms with a baseline, and no bias.

    ``values`` (S,) are f at the draws and ``score`` (S,) the score there. What is
    subtracted from a draw's value may be anything, the mean of the others or a
    constant, that stays the same when this draw alone changes.
    """
    cases = [
        (_values(z), _score(z, mu, logvar)[row])
        for row, (z, mu, logvar) in enumerate(_draws())
    ]
    values = values_of(answer, cases)
    if isinstance(values, Verdict):
        return values
    mistakes = dict(BASELINE_MISTAKES)
    if all(a.shape == b.shape for a, (b, _) in zip(values, cases, strict=True)):
        subtracted = [_subtracted(*each) for each in zip(values, cases, strict=True)]
        if all(b.abs().max() > 1e-3 for b in subtracted) and not any(
            _looks_at_itself(answer, *each)
            for each in zip(cases, subtracted, strict=True)
        ):
            return correct("gradients-baseline-right")
        again = iter(values)  # whatever is left is told what it does
        mistakes["gradients-baseline-own"] = lambda f, s: next(again)
    right = "gradients-baseline-right"
    return compare(answer, _by_others, mistakes, cases, right=right)


def _subtracted(terms: Tensor, case: Case) -> Tensor:
    """Return what was subtracted from each value (S,) to give the terms (S,)."""
    values, score = case
    return values - terms / score


def _looks_at_itself(answer: Answer, case: Case, subtracted: Tensor) -> bool:
    """Return whether a draw's baseline differs when this draw alone is another one."""
    values, score = case
    for i in range(len(values)):
        only = torch.arange(len(values)) == i
        others = [(values + only * by, score) for by in (9.0, -9.0)]
        others.append((values, torch.where(only, 0.4 - score, score)))
        found = values_of(answer, others, like=values)
        if isinstance(found, Verdict):
            return True
        for terms, changed in zip(found, others, strict=True):
            if not close(_subtracted(terms, changed)[i], subtracted[i]):
                return True
    return False


# --- 3. the path of another distribution ---------------------------------------------


def _quantile(start: Tensor, rate: Tensor, u: Tensor) -> Tensor:
    return start + Exponential(rate).icdf(u)


PATH_MISTAKES: dict[str, Answer] = {
    "gradients-path-scale": lambda a, r, u: a + Exponential(1 / r).icdf(u),
    "gradients-path-mirror": lambda a, r, u: a + Exponential(r).icdf(1 - u),
    "gradients-path-mirror-sign": lambda a, r, u: a - Exponential(r).icdf(1 - u),
    "gradients-path-sign": lambda a, r, u: a - Exponential(r).icdf(u),
    "gradients-path-no-start": lambda a, r, u: Exponential(r).icdf(u),
    "gradients-path-no-rate": lambda a, r, u: a + Exponential(1.0).icdf(u),
    "gradients-path-inside": lambda a, r, u: (a + Exponential(1.0).icdf(u)) / r,
    "gradients-path-cdf": lambda a, r, u: 1 - torch.exp(-r * (u - a)),
    "gradients-path-density": lambda a, r, u: r * torch.exp(-r * (u - a)),
    "gradients-path-no-noise": lambda a, r, u: (a + 1 / r).expand_as(u),
}


def exponential_path(answer: Answer) -> Verdict:
    """Check ``answer(start, rate, u) -> z (S,)``: an exponential that begins at start.

    z is the quantile at u, so that it grows with u, and gradients reach both
    parameters and equal those of the quantile.
    """
    stream = torch.Generator().manual_seed(1)
    cases: list[Case] = []
    for start, rate, count in ((0.4, 2.5, 6), (-1.5, 0.3, 4)):
        u = torch.rand(count, dtype=torch.float64, generator=stream) * 0.98 + 0.01
        pair = (torch.tensor(v, dtype=torch.float64) for v in (start, rate))
        cases.append((*(value.requires_grad_() for value in pair), u))
    return compare(
        answer,
        _quantile,
        PATH_MISTAKES,
        cases,
        right="gradients-path-right",
        changes="gradients-path-fresh",
        cut="gradients-path-cut",
    )


# --- 4. the loss whose gradient is the estimator --------------------------------------


def _log_q(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    return Normal(mu, logvar.exp().sqrt()).log_prob(z)


SURROGATE_MISTAKES: dict[str, Answer] = {
    "gradients-surrogate-attached": lambda f, z, m, v: (
        f.detach() * _log_q(z, m, v)
    ).mean(),
    "gradients-surrogate-both": lambda f, z, m, v: (f * _log_q(z, m, v)).mean(),
    "gradients-surrogate-value": lambda f, z, m, v: (
        f * _log_q(z.detach(), m, v)
    ).mean(),
    "gradients-surrogate-log-q": lambda f, z, m, v: (
        f * _log_q(z, m, v).detach()
    ).mean(),
    "gradients-surrogate-parameters": lambda f, z, m, v: (
        f.detach() * _log_q(z, m.detach(), v.detach())
    ).mean(),
    "gradients-surrogate-baseline": lambda f, z, m, v: _by_others(
        f.detach(), _log_q(z.detach(), m, v)
    ).mean(),
    "gradients-surrogate-path": lambda f, z, m, v: f.mean(),
    "gradients-surrogate-sum": lambda f, z, m, v: (
        f.detach() * _log_q(z.detach(), m, v)
    ).sum(),
    "gradients-surrogate-sign": lambda f, z, m, v: (
        -(f.detach() * _log_q(z.detach(), m, v)).mean()
    ),
    "gradients-surrogate-density": lambda f, z, m, v: (
        f.detach() * _log_q(z.detach(), m, v).exp()
    ).mean(),
    "gradients-surrogate-no-value": lambda f, z, m, v: _log_q(z.detach(), m, v).mean(),
    "gradients-surrogate-std": lambda f, z, m, v: (
        f.detach() * _log_q(z.detach(), m, 2 * v)
    ).mean(),
}


def surrogate(answer: Answer) -> Verdict:
    """Check ``answer(values, z, mu, logvar) -> scalar`` by the gradient it gives.

    ``z`` (S,) was drawn by ``rsample`` and ``values`` (S,) were computed from it, so
    both depend on mu and logvar. Differentiating the answer must give the mean of the
    score-function terms, and nothing else.
    """
    cases = _draws()
    values = [call(answer, *_attached(*case)) for case in cases]
    if any(isinstance(value, Tensor) and value.dim() > 0 for value in values):
        return wrong("gradients-surrogate-not-scalar")
    numbers = [value for value in values if hasattr(value, "__float__")]
    if not all(getattr(value, "requires_grad", False) for value in numbers):
        return wrong("gradients-surrogate-cut")
    return compare(
        _slope(answer),
        lambda z, mu, logvar: _by_score(_values(z), z, mu, logvar).mean(-1),
        {key: _slope(mistake) for key, mistake in SURROGATE_MISTAKES.items()},
        cases,
        right="gradients-surrogate-right",
    )


def _attached(z: Tensor, mu: Tensor, logvar: Tensor) -> Case:
    """Rebuild the draws z (S,) as ``rsample`` makes them, from new parameters."""
    eps = (z - mu) / logvar.exp().sqrt()
    center = mu.detach().clone().requires_grad_()
    spread = logvar.detach().clone().requires_grad_()
    drawn = center + spread.exp().sqrt() * eps
    return _values(drawn), drawn, center, spread


def _slope(surrogate: Answer) -> Answer:
    """Return a function for the gradient (2,) of a surrogate in mu and logvar.

    A value that is not a tensor is returned unchanged.
    """

    def slope(z: Tensor, mu: Tensor, logvar: Tensor) -> Any:
        arguments = _attached(z, mu, logvar)
        value = surrogate(*map(fresh, arguments))
        if not isinstance(value, Tensor):
            return value
        found = torch.autograd.grad(value, arguments[2:], materialize_grads=True)
        return torch.stack(found)

    return slope
