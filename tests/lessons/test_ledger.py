"""Lesson 06's checks accept right answers however written, and know the wrong ones."""

import math

import numpy as np
import pytest
import torch
from scipy import special
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from vae_teach import densities
from vae_teach.checks import ledger as checks
from vae_teach.words import CATALOGUE


def ratio(z, mu, logvar):
    log_q = densities.log_normal(z, mu.expand_as(z), logvar.expand_as(z))
    return log_q - densities.log_standard_normal(z)


def of_draws(c, z, mu, logvar):
    return (c - ratio(z, mu, logvar)).logsumexp(0) - math.log(len(c))


def of_draws_by_hand(c, z, mu, logvar):
    q = Independent(Normal(mu, (0.5 * logvar).exp()), 1)
    p = MultivariateNormal(torch.zeros_like(mu), torch.eye(mu.shape[-1]).to(mu))
    log_weights = c + p.log_prob(z) - q.log_prob(z)
    highest = log_weights.max(0).values
    return highest + (log_weights - highest).exp().mean(0).log()


def of_draws_in_numpy(c, z, mu, logvar):
    return special.logsumexp((c - ratio(z, mu, logvar)).numpy(), 0) - np.log(len(c))


def published(c, z, mu, logvar):
    losses = densities.kl_to_standard_normal(mu, logvar) - c
    return -(losses.softmax(0) * losses).sum(0)


def size(w):
    return 1 / w.softmax(0).square().sum(0)


def size_in_numpy(w):
    share = special.softmax(w.numpy(), 0)
    return share.sum(0) ** 2 / (share**2).sum(0)


def sandwiched(forward, reverse):
    lower = forward.logsumexp(0) - math.log(len(forward))
    return torch.stack((lower, math.log(len(reverse)) - reverse.logsumexp(0)))


def sandwiched_in_numpy(forward, reverse):
    lower = special.logsumexp(forward.numpy(), 0) - np.log(len(forward))
    upper = -special.logsumexp(reverse.numpy(), 0) + np.log(len(reverse))
    return np.stack((lower, upper))


def price(covariance):
    precisions = torch.linalg.inv(covariance).diagonal(dim1=-2, dim2=-1)
    return 0.5 * (precisions.log().sum(-1) + torch.logdet(covariance))


def price_by_divergence(covariance):
    """The best variances, found again by ascent, and the divergence that is left."""
    precisions = torch.linalg.inv(covariance).diagonal(dim1=-2, dim2=-1)
    centre = torch.zeros_like(precisions)
    q = MultivariateNormal(centre, torch.diag_embed(1 / precisions))
    return kl_divergence(q, MultivariateNormal(centre, covariance))


def price_in_numpy(covariance):
    c = covariance.numpy()
    precisions = np.linalg.inv(c).diagonal(axis1=-2, axis2=-1)
    return (np.log(precisions).sum(-1) + np.linalg.slogdet(c)[1]) / 2


RIGHT = {
    checks.bound_of_draws: [of_draws, of_draws_by_hand, of_draws_in_numpy],
    checks.draws_that_count: [
        size,
        size_in_numpy,
        lambda w: (2 * w.logsumexp(0) - (2 * w).logsumexp(0)).exp(),
        lambda w: (w - w.max(0).values).exp().sum(0) ** 2
        / (w - w.max(0).values).exp().pow(2).sum(0),
    ],
    checks.sandwich: [sandwiched, sandwiched_in_numpy],
    checks.lean_price: [price, price_by_divergence, price_in_numpy],
}  # fmt: skip

# What learners write, spelt as they write it, and the words of the hint it must get.
WRONG = [
    (checks.bound_of_draws, published, "largest loss gets"),
    (checks.bound_of_draws,
     lambda c, z, m, v: ((c - densities.kl_to_standard_normal(m, v)).softmax(0)
                         * (c - densities.kl_to_standard_normal(m, v))).sum(0),
     "sign of the softmax is right now"),
    (checks.bound_of_draws,
     lambda c, z, m, v: ((c - ratio(z, m, v)).softmax(0)
                         * (c - ratio(z, m, v))).sum(0),
     "weighed by the weights themselves"),
    (checks.bound_of_draws,
     lambda c, z, m, v: (c - densities.kl_to_standard_normal(m, v)).logsumexp(0)
     - math.log(len(c)), "same for all draws"),
    (checks.bound_of_draws, lambda c, z, m, v: (c - ratio(z, m, v)).logsumexp(0),
     "exceeds the bound and grows"),
    (checks.bound_of_draws, lambda c, z, m, v: (c - ratio(z, m, v)).mean(0),
     "does not climb as k grows"),
    (checks.bound_of_draws,
     lambda c, z, m, v: c.mean(0) - densities.kl_to_standard_normal(m, v),
     "steadier, and no higher"),
    (checks.bound_of_draws, lambda *a: -of_draws(*a), "not the loss"),
    (checks.bound_of_draws,
     lambda c, z, m, v: (c + ratio(z, m, v)).logsumexp(0) - math.log(len(c)),
     "prior and q is upside-down"),
    (checks.bound_of_draws,
     lambda c, z, m, v: (c - ratio(z, m, v)).logsumexp(1) - math.log(c.shape[1]),
     "averaged over the images"),
    (checks.bound_of_draws, lambda *a: of_draws(*a).mean(), "axis did you sum"),
    (checks.bound_of_draws, lambda *a: of_draws(*a) + 0.01, "values differ"),
    (checks.bound_of_draws,
     lambda c, z, m, v: (c - ratio(z, m, v)).exp().mean(0).log(),
     "infinities or NaN"),
    (checks.draws_that_count, lambda w: size(w) / len(w), "share of the draws"),
    (checks.draws_that_count, lambda w: w.softmax(0).square().sum(0),
     "when the draws are worth more"),
    (checks.draws_that_count,
     lambda w: 2 * w.logsumexp(0) - (2 * w).logsumexp(0), "still to be undone"),
    (checks.draws_that_count, lambda w: 1 / w.softmax(1).square().sum(1),
     "summed over the images"),
    (checks.draws_that_count, lambda w: size(w.flatten()), "each image has its own"),
    (checks.draws_that_count, lambda w: w.sum(0) ** 2 / w.pow(2).sum(0),
     "as if they were the weights"),
    (checks.draws_that_count,
     lambda w: torch.distributions.Categorical(logits=w.T).entropy().exp(),
     "exponential of the entropy"),
    (checks.draws_that_count, lambda w: 1 / w.softmax(0).max(0).values,
     "largest weight alone"),
    (checks.draws_that_count, lambda w: size(w).sqrt(), "sum on top is to be"),
    (checks.draws_that_count, lambda w: w.softmax(0).sum(0), "add up to 1, whatever"),
    (checks.draws_that_count, lambda w: w.exp().sum(0) ** 2 / w.exp().pow(2).sum(0),
     "infinities or NaN"),
    (checks.draws_that_count, lambda w: size(w) * 1.01, "values differ"),
    (checks.sandwich,
     lambda f, r: torch.stack((f.logsumexp(0) - math.log(len(f)),
                               (-r).logsumexp(0) - math.log(len(r)))),
     "still invert each weight"),
    (checks.sandwich,
     lambda f, r: torch.stack((f.logsumexp(0) - math.log(len(f)),
                               r.logsumexp(0) - math.log(len(r)))),
     "still to be turned over"),
    (checks.sandwich, lambda f, r: sandwiched(f, r).flip(0), "in the wrong order"),
    (checks.sandwich, lambda f, r: torch.stack((f.mean(0), -r.mean(0))),
     "wider than it need be"),
    (checks.sandwich, lambda f, r: torch.stack((f.logsumexp(0), -r.logsumexp(0))),
     "number of chains"),
    (checks.sandwich, lambda f, r: sandwiched(f, r).sort(0).values,
     "Sorting hides it"),
    (checks.sandwich, lambda f, r: sandwiched(f, r).T, "axis did you sum"),
    (checks.sandwich, lambda f, r: sandwiched(f, r) + 0.01, "values differ"),
    (checks.lean_price,
     lambda c: 0.5 * ((torch.linalg.inv(c) * torch.diag_embed(
         c.diagonal(dim1=-2, dim2=-1))).sum((-2, -1)) - c.shape[-1]
         - c.diagonal(dim1=-2, dim2=-1).log().sum(-1) + torch.logdet(c)),
     "used the marginal variances"),
    (checks.lean_price,
     lambda c: 0.5 * (c.diagonal(dim1=-2, dim2=-1).log().sum(-1) - torch.logdet(c)),
     "both formulas agree"),
    (checks.lean_price, lambda c: 2 * price(c), "Twice the right value"),
    (checks.lean_price, lambda c: -price(c), "divergence is never negative"),
    (checks.lean_price, lambda c: 0.5 * torch.logdet(c), "determinant alone"),
    (checks.lean_price,
     lambda c: 0.5 * torch.linalg.inv(c).diagonal(dim1=-2, dim2=-1).log().sum(-1),
     "precisions alone"),
    (checks.lean_price, lambda c: price(c).mean(), "each covariance has its own"),
    (checks.lean_price, lambda c: price(c) + 0.01, "values differ"),
]  # fmt: skip
MISTAKES = {
    checks.bound_of_draws: checks.DRAWS_MISTAKES,
    checks.draws_that_count: checks.SIZE_MISTAKES,
    checks.sandwich: checks.SANDWICH_MISTAKES,
    checks.lean_price: checks.LEAN_MISTAKES,
}
PRAISE = {
    checks.bound_of_draws: ("gradient of this bound", "no gradiente desse limite"),
    checks.draws_that_count: ("p(x) need not be known", "p(x) não é necessário"),
    checks.sandwich: ("Average first", "Primeiro a média"),
    checks.lean_price: ("leaning posterior costs", "posteriori inclinada custa"),
}
IN_PORTUGUESE = {
    "largest loss gets": "a perda maior recebe",
    "sign of the softmax is right now": "sinal do softmax agora está certo",
    "weighed by the weights themselves": "ponderada pelos próprios pesos",
    "same for all draws": "a mesma para todas as amostras",
    "exceeds the bound and grows": "passa do limite e cresce",
    "does not climb as k grows": "não sobe quando k cresce",
    "steadier, and no higher": "só oscila menos",
    "not the loss": "e não a perda",
    "prior and q is upside-down": "entre priori e q está de cabeça",
    "averaged over the images": "tirou a média sobre as imagens",
    "share of the draws": "a fração das amostras",
    "when the draws are worth more": "quando as amostras valem mais",
    "still to be undone": "Falta desfazer",
    "summed over the images": "Você somou sobre as imagens",
    "each image has its own": "cada imagem tem o seu",
    "as if they were the weights": "como se fossem os pesos",
    "exponential of the entropy": "exponencial da entropia",
    "largest weight alone": "só para o peso maior",
    "sum on top is to be": "a soma do numerador",
    "add up to 1, whatever": "já normalizados é 1",
    "still invert each weight": "ainda inverte cada peso",
    "still to be turned over": "Falta inverter essa média",
    "in the wrong order": "mas na ordem trocada",
    "wider than it need be": "mais largo do que precisa",
    "number of chains": "número de cadeias",
    "Sorting hides it": "Ordenar esconde isso",
    "used the marginal variances": "usou as variâncias marginais",
    "both formulas agree": "as duas fórmulas coincidem",
    "Twice the right value": "O dobro do valor certo",
    "divergence is never negative": "uma divergência nunca é negativa",
    "determinant alone": "só a parte do determinante",
    "precisions alone": "só a parte das precisões",
    "each covariance has its own": "cada covariância tem o seu",
}


def test_hints_never_hold_the_answer():
    """No formula stands in what a check may say."""
    said = [e["en"] for key, e in CATALOGUE.items() if key.startswith("ledger-")]
    assert not [text for text in said if "logsumexp(" in text or "softmax(" in text]


def test_the_best_upright_gaussian_has_the_inverses_of_the_precisions():
    """What the oracle of the price takes for granted, found by ascent."""
    stream = torch.Generator().manual_seed(0)
    root = torch.randn(3, 3, generator=stream).double()
    covariance = (root @ root.T + 0.3 * torch.eye(3).double())[None]
    log_variances = torch.zeros(1, 3).double().requires_grad_()
    descent = torch.optim.LBFGS(
        [log_variances], max_iter=200, line_search_fn="strong_wolfe"
    )

    def closure():
        descent.zero_grad()
        loss = checks._divergence(log_variances.exp(), covariance).sum()
        loss.backward()
        return loss

    descent.step(closure)
    found = checks._divergence(log_variances.exp(), covariance).item()
    assert found == pytest.approx(checks._lean_oracle(covariance).item(), abs=1e-8)


def test_more_chains_close_the_sandwich_and_not_the_published_one():
    """Weights of a log-normal law, whose mean is known to be 1."""
    torch.manual_seed(0)
    for inverted, closes in ((False, True), (True, False)):
        forward = torch.randn(200_000, 1).double() - 0.5
        reverse = torch.randn(200_000, 1).double() - 0.5
        answer = checks.SANDWICH_MISTAKES["ledger-sandwich-inverted"]
        lower, upper = (answer if inverted else sandwiched)(forward, reverse)
        assert abs(lower.item()) < 0.02
        assert (abs(upper.item()) < 0.02) == closes
