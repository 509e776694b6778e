"""Checks of lesson 06: a bound of many draws, their effective number, two gaps.

The oracles go by plain sums of weights, shifted so that none underflows, and by
``torch.distributions``.
"""

import math

import torch
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from vae_teach.checks.verdicts import Answer, Verdict, compare


def _mean_weight(log_weights: Tensor) -> Tensor:
    """Return the log of the mean weight over the first axis: (k, B) to (B,)."""
    highest = log_weights.amax(0)
    return highest + (log_weights - highest).exp().mean(0).log()


def _log_ratio(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """Return log q(z|x) - log p(z): (k, B, L) to (k, B)."""
    q = Independent(Normal(mu, (0.5 * logvar).exp()), 1)
    p = Independent(Normal(torch.zeros_like(mu), torch.ones_like(mu)), 1)
    return q.log_prob(z) - p.log_prob(z)


def _closed_kl(mu: Tensor, logvar: Tensor) -> Tensor:
    prior = Normal(torch.zeros_like(mu), torch.ones_like(mu))
    return kl_divergence(Normal(mu, (0.5 * logvar).exp()), prior).sum(-1)


def _draws_oracle(c: Tensor, z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    return _mean_weight(c - _log_ratio(z, mu, logvar))


def _by_softmax(sign: int) -> Answer:
    """Return the mean of the losses, weighed by a softmax of themselves, negated."""

    def value(c: Tensor, z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
        losses = _closed_kl(mu, logvar) - c  # (k, B)
        return -((sign * losses).softmax(0) * losses).sum(0)

    return value


def _own_softmax(c: Tensor, z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    log_weights = c - _log_ratio(z, mu, logvar)
    return (log_weights.softmax(0) * log_weights).sum(0)


DRAWS_MISTAKES: dict[str, Answer] = {
    "ledger-draws-worst": _by_softmax(1),
    "ledger-draws-softmax": _by_softmax(-1),
    "ledger-draws-own-softmax": _own_softmax,
    "ledger-draws-closed": lambda c, z, m, v: _mean_weight(c) - _closed_kl(m, v),
    "ledger-draws-no-k": lambda c, z, m, v: (
        _draws_oracle(c, z, m, v) + math.log(len(c))
    ),
    "ledger-draws-mean-logs": lambda c, z, m, v: (c - _log_ratio(z, m, v)).mean(0),
    "ledger-draws-mean-closed": lambda c, z, m, v: c.mean(0) - _closed_kl(m, v),
    "ledger-draws-loss": lambda c, z, m, v: -_draws_oracle(c, z, m, v),
    "ledger-draws-ratio": lambda c, z, m, v: _mean_weight(c + _log_ratio(z, m, v)),
    "ledger-draws-axis": lambda c, z, m, v: _mean_weight((c - _log_ratio(z, m, v)).T),
}


def bound_of_draws(answer: Answer) -> Verdict:
    """Check ``answer(log_conditional, z, mu, logvar) -> (B,)``: log mean weight.

    log_conditional is (k, B), z (k, B, L), mu and logvar are (B, L).
    Source: Burda, Grosse & Salakhutdinov 2015.
    """
    stream = torch.Generator().manual_seed(2)
    cases = []
    for k, images, latents, level in ((6, 4, 2, -2.0), (5, 3, 3, -900.0)):
        mu, logvar = torch.randn(2, images, latents, generator=stream).double()
        eps = torch.randn(k, images, latents, generator=stream).double()
        log_conditional = level + 2 * torch.randn(k, images, generator=stream).double()
        z = mu + (0.5 * logvar).exp() * eps
        cases.append((log_conditional, z, mu, logvar))
    return compare(answer, _draws_oracle, DRAWS_MISTAKES, cases, "ledger-draws-right")


def _size_oracle(log_weights: Tensor) -> Tensor:
    weights = (log_weights - log_weights.amax(0)).exp()  # (k, B)
    return weights.sum(0).square() / weights.square().sum(0)


def _perplexity(log_weights: Tensor) -> Tensor:
    shares = log_weights.softmax(0)
    return (-(shares * shares.log()).sum(0)).exp()


SIZE_MISTAKES: dict[str, Answer] = {
    "ledger-size-share": lambda w: _size_oracle(w) / len(w),
    "ledger-size-inverse": lambda w: 1 / _size_oracle(w),
    "ledger-size-log": lambda w: _size_oracle(w).log(),
    "ledger-size-axis": lambda w: _size_oracle(w.T),
    "ledger-size-all": lambda w: _size_oracle(w.flatten()),
    "ledger-size-logs": lambda w: w.sum(0).square() / w.square().sum(0),
    "ledger-size-perplexity": _perplexity,
    "ledger-size-highest": lambda w: 1 / w.softmax(0).amax(0),
    "ledger-size-root": lambda w: _size_oracle(w).sqrt(),
    "ledger-size-one": lambda w: w.softmax(0).sum(0),
}


def draws_that_count(answer: Answer) -> Verdict:
    """Check ``answer(log_weights) -> (B,)``: (sum w)^2 / sum w^2, log_weights (k, B).

    Source: Kong 1992.
    """
    stream = torch.Generator().manual_seed(3)
    plain = torch.randn(7, 4, generator=stream).double()
    tiny = 2 * torch.randn(6, 3, generator=stream).double() - 900
    cases, right = [(plain,), (tiny,)], "ledger-size-right"
    return compare(answer, _size_oracle, SIZE_MISTAKES, cases, right)


def _sandwich_oracle(forward: Tensor, reverse: Tensor) -> Tensor:
    return torch.stack((_mean_weight(forward), -_mean_weight(reverse)))


SANDWICH_MISTAKES: dict[str, Answer] = {
    "ledger-sandwich-inverted": lambda f, r: torch.stack(
        (_mean_weight(f), _mean_weight(-r))
    ),
    "ledger-sandwich-sign": lambda f, r: torch.stack(
        (_mean_weight(f), _mean_weight(r))
    ),
    "ledger-sandwich-swapped": lambda f, r: _sandwich_oracle(f, r).flip(0),
    "ledger-sandwich-mean-logs": lambda f, r: torch.stack((f.mean(0), -r.mean(0))),
    "ledger-sandwich-no-count": lambda f, r: torch.stack(
        (f.logsumexp(0), -r.logsumexp(0))
    ),
    "ledger-sandwich-sorted": lambda f, r: _sandwich_oracle(f, r).sort(0).values,
}


def sandwich(answer: Answer) -> Verdict:
    """Check ``answer(forward, reverse) -> (2, B)``: the bound below, then that above.

    Both are log weights (S, B): forward ones average to p(x), reverse ones to 1 / p(x).
    In one image of each case the two bounds have crossed, as they may by chance.
    Source: Grosse, Ghahramani & Adams 2015.
    """
    stream = torch.Generator().manual_seed(4)
    cases = []
    for chains, images, level in ((5, 4, -3.0), (6, 3, -900.0)):
        forward = level + torch.randn(chains, images, generator=stream).double() - 1
        reverse = -level + torch.randn(chains, images, generator=stream).double() - 1
        forward[:, 0] += 4  # crossed
        cases.append((forward, reverse))
    right = "ledger-sandwich-right"
    return compare(answer, _sandwich_oracle, SANDWICH_MISTAKES, cases, right)


def _lean_oracle(covariance: Tensor) -> Tensor:
    """Return KL(q || p) of the best q, by ``torch.distributions``: (B, L, L) in."""
    precisions = torch.linalg.inv(covariance).diagonal(dim1=-2, dim2=-1)
    return _divergence(1 / precisions, covariance)


def _divergence(variances: Tensor, covariance: Tensor) -> Tensor:
    centre = torch.zeros_like(variances)
    q = MultivariateNormal(centre, torch.diag_embed(variances))
    return kl_divergence(q, MultivariateNormal(centre, covariance))


def _marginal(covariance: Tensor) -> Tensor:
    return covariance.diagonal(dim1=-2, dim2=-1)


LEAN_MISTAKES: dict[str, Answer] = {
    "ledger-lean-marginal": lambda c: _divergence(_marginal(c), c),
    "ledger-lean-covering": lambda c: (
        0.5 * (_marginal(c).log().sum(-1) - torch.logdet(c))
    ),
    "ledger-lean-half": lambda c: 2 * _lean_oracle(c),
    "ledger-lean-sign": lambda c: -_lean_oracle(c),
    "ledger-lean-log-det": lambda c: 0.5 * torch.logdet(c),
    "ledger-lean-precisions": lambda c: (
        0.5 * (torch.linalg.inv(c).diagonal(dim1=-2, dim2=-1).log().sum(-1))
    ),
    "ledger-lean-mean": lambda c: _lean_oracle(c).mean(),
}


def lean_price(answer: Answer) -> Verdict:
    """Check ``answer(covariance) -> (B,)``: nats that independent coordinates miss.

    The posterior is Gaussian with covariance (B, L, L); L is 2 or 3.
    """
    stream = torch.Generator().manual_seed(5)
    cases = []
    for images, latents in ((4, 3), (3, 2), (2, 3)):
        root = torch.randn(images, latents, latents, generator=stream).double()
        covariance = root @ root.mT + 0.3 * torch.eye(latents).double()
        cases.append((covariance,))
    return compare(answer, _lean_oracle, LEAN_MISTAKES, cases, "ledger-lean-right")
