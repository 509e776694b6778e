"""Checks of lesson 02 accept right answers however written, reject the usual ones."""

import math

import checking
import numpy as np
import torch
from torch.distributions import MultivariateNormal, Normal

from vae_teach import densities
from vae_teach.checks import elbo as checks


def log_q(z, mu, logvar):
    return -0.5 * ((z - mu) ** 2 / logvar.exp() + logvar + math.log(2 * math.pi))


def grid(joint, z, mu, logvar):
    log_density = log_q(z, mu, logvar)
    return torch.trapezoid(log_density.exp() * (joint - log_density), z)


def closed_entropy(joint, z, mu, logvar):
    weights = log_q(z, mu, logvar).softmax(0)
    return weights @ joint + 0.5 * (logvar + math.log(2 * math.pi * math.e))


def sampled(z, mu, logvar):
    log_p = densities.log_standard_normal(z)
    return (densities.log_normal(z, mu, logvar) - log_p).mean(0)


def by_hand(z, mu, logvar):
    total = sum(
        (log_q(draw, mu, logvar) - log_q(draw, 0 * mu, 0 * mu)).sum(1) for draw in z
    )
    return total / len(z)


def bound(log_weights):
    return torch.logsumexp(log_weights, 0) - math.log(log_weights.shape[0])


def bound_step_by_step(log_weights):
    total = log_weights[0]
    for row in log_weights[1:]:
        total = torch.logaddexp(total, row)
    return total - math.log(len(log_weights))


CENTRES = torch.tensor([[3.0, 3.0], [-3.0, -3.0]], dtype=torch.float64)


def parts(z):
    return Normal(CENTRES, 1.0).log_prob(z[:, None])  # (B, 2, 2)


def mixture(z):
    return parts(z).sum(-1).logsumexp(1) - math.log(2)


def mixture_of_densities(z):
    eye = torch.eye(2, dtype=torch.float64)
    both = [MultivariateNormal(centre, eye).log_prob(z).exp() for centre in CENTRES]
    return (0.5 * both[0] + 0.5 * both[1]).log()


RIGHT = {
    checks.grid_elbo: [grid, closed_entropy],
    checks.sampled_kl: [sampled, by_hand],
    checks.weighted_bound: [bound, bound_step_by_step],
    checks.mixture_prior: [mixture, mixture_of_densities],
}

# What learners write, spelt as they write it, and the words of the hint it must get.
WRONG = [
    (checks.grid_elbo, lambda j, z, m, v: grid(j, z, m, v) / (z[1] - z[0]),
     "width of a step"),
    (checks.grid_elbo,
     lambda j, z, m, v: (log_q(z, m, v).exp() * (j - log_q(z, m, v))).mean(),
     "averaged over the points"),
    (checks.grid_elbo, lambda j, z, m, v: log_q(z, m, v).softmax(0) @ j, "entropy"),
    (checks.grid_elbo,
     lambda j, z, m, v: log_q(z, m, v).softmax(0) @ (j + log_q(z, m, v)),
     "sign flipped"),
    (checks.grid_elbo, lambda j, z, m, v: torch.trapezoid(j.exp(), z).log(),
     "That is log p(x)"),
    (checks.grid_elbo, lambda j, z, m, v: grid(j, z, m, 2 * v), "standard deviation"),
    (checks.grid_elbo, lambda *a: -grid(*a), "it is the loss"),
    (checks.grid_elbo,
     lambda j, z, m, v: j.softmax(0) @ (j - log_q(z, m, v)), "over the posterior"),
    (checks.grid_elbo, lambda *a: grid(*a) + 0.01, "values differ"),
    (checks.grid_elbo, lambda *a: grid(*a)[None], "shape"),
    (checks.sampled_kl, lambda *a: -sampled(*a), "sign is flipped"),
    (checks.sampled_kl, lambda z, m, v: sampled(z, m, v) * len(z), "summed over"),
    (checks.sampled_kl, lambda *a: sampled(*a).mean(), "images too"),
    (checks.sampled_kl,
     lambda z, m, v: (densities.log_normal(z, m, v)
                      - densities.log_standard_normal(z)).mean(1), "left the draws"),
    (checks.sampled_kl,
     lambda z, m, v: (densities.log_normal(z, m, v)
                      - densities.log_standard_normal(z)), "is missing"),
    (checks.sampled_kl,
     lambda z, m, v: (log_q(z, m, v) - log_q(z, 0 * m, 0 * v)).mean(0),
     "sum over the latent"),
    (checks.sampled_kl, lambda z, m, v: sampled(z, m, v) / z.shape[2], "add up"),
    (checks.sampled_kl, lambda z, m, v: densities.kl_to_standard_normal(m, v),
     "does not use the draws"),
    (checks.sampled_kl,
     lambda z, m, v: (densities.log_normal(z, m, 2 * v)
                      - densities.log_standard_normal(z)).mean(0),
     "standard deviation"),
    (checks.sampled_kl, lambda z, m, v: densities.log_normal(z, m, v).mean(0),
     "must be subtracted"),
    (checks.sampled_kl,
     lambda z, m, v: (densities.log_normal(z, m, v)
                      - densities.log_standard_normal(z)).square().mean(0) / 2,
     "half the squared"),
    (checks.sampled_kl,
     lambda z, m, v: ((densities.log_standard_normal(z)
                       - densities.log_normal(z, m, v)).exp() - 1).mean(0)
     + sampled(z, m, v), "asks for the plainest"),
    (checks.sampled_kl, lambda *a: sampled(*a) + 0.01, "values differ"),
    (checks.weighted_bound, lambda w: w.mean(0), "does not climb with k"),
    (checks.weighted_bound, lambda w: w.logsumexp(0), "division by k"),
    (checks.weighted_bound, lambda w: w.exp().mean(0).log(), "minus infinity"),
    (checks.weighted_bound, lambda w: (w.softmax(0) * w).sum(0), "by their softmax"),
    (checks.weighted_bound, lambda w: bound(w.T), "wrong axis"),
    (checks.weighted_bound, lambda w: w.logsumexp((0, 1)) - math.log(w.numel()),
     "images were taken in"),
    (checks.weighted_bound, lambda w: w.amax(0), "largest weight"),
    (checks.weighted_bound, lambda w: -bound(w), "a loss"),
    (checks.weighted_bound, lambda w: bound(w) + 0.5, "values differ"),
    (checks.mixture_prior, lambda z: (parts(z).logsumexp(1) - math.log(2)).sum(-1),
     "in each coordinate"),
    (checks.mixture_prior, lambda z: parts(z).sum(-1).logsumexp(1), "integrates to 2"),
    (checks.mixture_prior, lambda z: parts(z).sum(-1).mean(1), "averaged the log"),
    (checks.mixture_prior, lambda z: parts(z).sum(-1).amax(1) - math.log(2),
     "kept the larger"),
    (checks.mixture_prior, lambda z: parts(z).sum(-1).logsumexp(1) - math.log(4),
     "once for each coordinate"),
    (checks.mixture_prior, lambda z: parts(z).logsumexp(1) - math.log(2),
     "sum over the coordinates"),
    (checks.mixture_prior, lambda z: parts(z).sum(-1)[:, 0], "Only one of the two"),
    (checks.mixture_prior, lambda z: mixture(z) + 0.01, "values differ"),
]  # fmt: skip
MISTAKES = {
    checks.grid_elbo: checks.GRID_MISTAKES,
    checks.sampled_kl: checks.KL_MISTAKES,
    checks.weighted_bound: checks.BOUND_MISTAKES,
    checks.mixture_prior: checks.MIXTURE_MISTAKES,
}

test_right_answers_are_right = checking.accepts(RIGHT)
test_wrong_answers_get_their_hint = checking.rejects(WRONG)
test_other_makes_are_right_too = checking.accepts_other_makes(RIGHT)
test_wrong_answers_in_place_are_wrong = checking.is_not_spoilt(WRONG)
test_the_unusable_is_never_right = checking.refuses_the_unusable(RIGHT)
test_each_mistake_of_the_table_gets_its_own_hint = checking.tells_apart(MISTAKES)
test_no_answer_ever_raises = checking.survives(RIGHT)
test_hints_come_in_portuguese_too = checking.speaks_portuguese(RIGHT, WRONG)


def test_the_grid_is_held_against_no_grid_at_all():
    """The oracle's closed form agrees with Gauss-Hermite quadrature in NumPy."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(20)
    weights = weights / weights.sum()
    for powers, (joint, z, mu, logvar) in zip(
        checks.ENERGIES, checks._grid_cases(), strict=True
    ):
        sigma = math.exp(logvar / 2)
        points = mu.item() + sigma * nodes
        energy = weights @ np.polynomial.polynomial.polyval(points, powers)
        entropy = 0.5 * math.log(2 * math.pi * math.e * sigma**2)
        found = checks._grid_oracle(joint, z, mu, logvar).item()
        assert abs(found - energy - entropy) < 1e-10


def test_the_mixture_has_the_two_values_that_the_lesson_quotes():
    corner = torch.tensor([[3.0, -3.0]], dtype=torch.float64)
    wrong = checks.MIXTURE_MISTAKES["elbo-mixture-coordinates"]
    assert round(wrong(corner).item(), 2) == -3.22
    assert round(checks._mixture_oracle(corner).item(), 2) == -19.84
