"""The checks of lesson 03 accept right answers and tell the usual wrong ones apart."""

import math

import checking
import pytest
import torch
from torch.distributions import Normal

from vae_teach.checks import gradients as checks
from vae_teach.words import use_language

# --- answers, spelt as learners spell them ------------------------------------------


def score(values, z, mu, logvar):
    sigma = torch.exp(logvar / 2)
    eps = (z - mu) / sigma
    return torch.stack([values * eps / sigma, values * (eps**2 - 1) / 2])


def rows(change_mu, change_logvar):
    """Return a wrong answer: functions of values, eps and sigma, one for each row."""

    def answer(values, z, mu, logvar):
        sigma = torch.exp(logvar / 2)
        eps = (z - mu) / sigma
        return torch.stack(
            [change_mu(values, eps, sigma), change_logvar(values, eps, sigma)]
        )

    return answer


def upper(values, eps, sigma):
    return values * eps / sigma


def lower(values, eps, sigma):
    return values * (eps**2 - 1) / 2


def by_autograd(values, z, mu, logvar):
    mus, logvars = mu.repeat(len(z)), logvar.repeat(len(z))
    mus.requires_grad_(), logvars.requires_grad_()
    (Normal(mus, (logvars / 2).exp()).log_prob(z) * values).sum().backward()
    return torch.stack((mus.grad, logvars.grad))


def leave_one_out(values, score):
    return (values - (values.sum() - values) / (len(values) - 1)) * score


def leave_one_out_by_matrix(values, score):
    count = len(values)
    others = 1 - torch.eye(count, dtype=values.dtype)
    return (values - others @ values / (count - 1)) * score


def others(values):
    """Return a row for each draw, with the other draws in it: (S, S - 1)."""
    count = len(values)
    return values.expand(count, -1)[~torch.eye(count, dtype=bool)].view(count, -1)


def quantile(start, rate, u):
    return start - torch.log(1 - u) / rate


def loss(values, z, mu, logvar):
    return (
        values.detach() * Normal(mu, (logvar / 2).exp()).log_prob(z.detach())
    ).mean()


def loss_with_baseline_of_zero_mean(values, z, mu, logvar):
    z, values = z.detach(), values.detach()
    log_q = -0.5 * ((z - mu) ** 2 / logvar.exp() + logvar)  # the constant left out
    return (values * log_q).sum() / len(z)


RIGHT = {
    checks.score_function: [score, by_autograd],
    checks.baseline: [
        leave_one_out,
        leave_one_out_by_matrix,
        lambda f, s: (f - f.mean()) * s * len(f) / (len(f) - 1),
        lambda f, s: (f + 3) * s,
        lambda f, s: (f - f.roll(1)) * s,
        lambda f, s: (f - others(f).median(-1).values) * s,
        lambda f, s: (f - (others(f) * others(s) ** 2).sum(-1) / len(f)) * s,
        lambda f, s: (f - (f.sum() - f) / len(f)) * s,
        lambda f, s: (f - (f.sum() - f)) * s,
    ],
    checks.exponential_path: [
        quantile,
        lambda a, r, u: a - torch.log1p(-u) / r,
        lambda a, r, u: (a * r - (1 - u).log()) / r,
    ],
    checks.surrogate: [
        loss,
        loss_with_baseline_of_zero_mean,
        lambda *a: loss(*a) + 7.0,
    ],
}

WRONG = [
    (checks.score_function, lambda f, z, m, v: score(torch.ones_like(f), z, m, v),
     "score alone"),
    (checks.score_function, lambda *a: score(*a).mean(1), "already averaged"),
    (checks.score_function, lambda *a: score(*a).sum(1), "summed the draws"),
    (checks.score_function, lambda *a: score(*a).T, "swapped"),
    (checks.score_function, lambda *a: score(*a).flip(0), "two rows are swapped"),
    (checks.score_function, lambda f, z, m, v: score(f, z, m, 2 * v),
     "exp(logvar) is the variance"),
    (checks.score_function, lambda *a: -score(*a), "flipped in both rows"),
    (checks.score_function, rows(lambda *a: -upper(*a), lower), "first row alone"),
    (checks.score_function, rows(upper, lambda *a: -lower(*a)), "second row alone"),
    (checks.score_function,
     lambda f, z, m, v: score(f, z, m, v) * Normal(m, (v / 2).exp()).log_prob(z).exp(),
     "by the density as well"),
    (checks.score_function, rows(lambda f, e, s: f * e, lower), "without the width"),
    (checks.score_function, rows(lambda f, e, s: f * e * s, lower), "yours grows"),
    (checks.score_function, rows(lambda f, e, s: f * e / s**2, lower), "too many"),
    (checks.score_function, rows(upper, lambda f, e, s: f * (e**2 - 1)), "log σ², not"),
    (checks.score_function, rows(upper, lambda f, e, s: f * (e**2 - 1) / s),
     "derivative in σ"),
    (checks.score_function, rows(upper, lambda f, e, s: f * e**2 / 2),
     "does not average to zero"),
    (checks.score_function, rows(upper, lambda f, e, s: f * (e**2 - 1) / 2 / s**2),
     "derivative in the variance"),
    (checks.score_function, lambda *a: score(*a) + 0.01, "values differ"),
    (checks.score_function, lambda *a: score(*a)[:, :2], "shape"),
    (checks.score_function, lambda f, z, m, v: score(f, z, m, v.log()), "infinities"),
    (checks.baseline, lambda f, s: (f - f.mean()) * s, "the same bug"),
    (checks.baseline, lambda f, s: f * s, "so is the baseline"),
    (checks.baseline, lambda f, s: (f - f.max()) * s, "when that draw changes"),
    (checks.baseline, lambda f, s: (f - f.roll(1)) / f.std() * s, "when that draw"),
    (checks.baseline, lambda f, s: (f - (f * s**2).sum() / (s**2).sum()) * s,
     "when that draw changes"),
    (checks.baseline, lambda f, s: (f - f.roll(1)) * s * (1 - 1 / len(f)),
     "when that draw changes"),
    (checks.baseline, lambda f, s: (f - s) * s, "when that draw changes"),
    (checks.baseline, lambda f, s: ((f - f.roll(1)) * s)[1:], "shape"),
    (checks.baseline, lambda f, s: (f - f.sum()) * s, "subtracted the sum, and"),
    (checks.baseline, lambda f, s: (f - f.median()) * s, "median"),
    (checks.baseline, lambda f, s: leave_one_out(f, s) * len(f) / (len(f) - 1),
     "twice"),
    (checks.baseline, lambda f, s: (f - f.mean()) * s * (len(f) - 1) / len(f),
     "the wrong way"),
    (checks.baseline, lambda f, s: f * s - f.mean() * s.mean(), "before multiplying"),
    (checks.baseline, lambda f, s: (f - f.mean()) / f.std() * s, "standard deviation"),
    (checks.baseline, lambda f, s: leave_one_out(f, s).mean(), "averaged them"),
    (checks.baseline, lambda f, s: -leave_one_out(f, s), "sign is flipped"),
    (checks.baseline, lambda f, s: leave_one_out(f, s) + 0.01, "when that draw"),
    (checks.exponential_path, lambda a, r, u: quantile(a, 1 / r, u), "get shorter"),
    (checks.exponential_path, lambda a, r, u: a - u.log() / r, "your z shrinks"),
    (checks.exponential_path, lambda a, r, u: a + u.log() / r, "place of 1 − u"),
    (checks.exponential_path, lambda a, r, u: a + (1 - u).log() / r, "What sign"),
    (checks.exponential_path, lambda a, r, u: quantile(0, r, u), "start was left out"),
    (checks.exponential_path, lambda a, r, u: quantile(a, 1, u), "rate was left out"),
    (checks.exponential_path, lambda a, r, u: quantile(a, 1, u) / r, "divided by the"),
    (checks.exponential_path, lambda a, r, u: 1 - torch.exp(-r * (u - a)),
     "Its inverse"),
    (checks.exponential_path, lambda a, r, u: a + 1 / r + 0 * u, "u was left out"),
    (checks.exponential_path, lambda a, r, u: quantile(a, r, torch.rand_like(u)),
     "the same u"),
    (checks.exponential_path, lambda a, r, u: quantile(a, r, u).detach(), "cut the"),
    (checks.exponential_path, lambda a, r, u: quantile(a, r.detach(), u), "cut the"),
    (checks.exponential_path, lambda a, r, u: quantile(a, r.item(), u), "cut the"),
    (checks.exponential_path,
     lambda a, r, u: quantile(a, r, u).detach() + (a + r) - (a + r).detach(),
     "values differ"),
    (checks.exponential_path, lambda a, r, u: quantile(a, r, u)[:2], "shape"),
    (checks.surrogate, lambda f, z, m, v: loss(f, z, m, 2 * v), "is the variance"),
    (checks.surrogate,
     lambda f, z, m, v: (f.detach() * Normal(m, (v / 2).exp()).log_prob(z)).mean(),
     "the same bug"),
    (checks.surrogate,
     lambda f, z, m, v: (f * Normal(m, (v / 2).exp()).log_prob(z).detach()).mean(),
     "You detached log q"),
    (checks.surrogate,
     lambda f, z, m, v: loss(f, z, m, v) * 0 + (
         f.detach() * Normal(m.detach(), (v.detach() / 2).exp()).log_prob(z)
     ).mean(), "the parameters inside log q"),
    (checks.surrogate, lambda f, *a: loss(f - (f.sum() - f) / (len(f) - 1), *a),
     "without a baseline"),
    (checks.surrogate,
     lambda f, z, m, v: (f * Normal(m, (v / 2).exp()).log_prob(z)).mean(),
     "three gradients"),
    (checks.surrogate,
     lambda f, z, m, v: (f * Normal(m, (v / 2).exp()).log_prob(z.detach())).mean(),
     "multiplied by log q"),
    (checks.surrogate, lambda f, z, m, v: f.mean(), "pathwise estimator"),
    (checks.surrogate, lambda f, z, m, v: len(z) * loss(f, z, m, v), "summed"),
    (checks.surrogate, lambda *a: -loss(*a), "sign is flipped"),
    (checks.surrogate, lambda f, *a: loss(torch.ones_like(f), *a), "left out"),
    (checks.surrogate, lambda f, z, m, v: f * (m + v), "single number"),
    (checks.surrogate, lambda *a: loss(*a).detach(), "detached everything"),
    (checks.surrogate, lambda *a: 2 * loss(*a), "values differ"),
]  # fmt: skip
MISTAKES = {
    checks.score_function: checks.SCORE_MISTAKES,
    checks.baseline: checks.BASELINE_MISTAKES,
    checks.exponential_path: checks.PATH_MISTAKES,
    checks.surrogate: checks.SURROGATE_MISTAKES,
}

test_right_answers_are_right = checking.accepts(RIGHT)
test_wrong_answers_get_their_hint = checking.rejects(WRONG)
test_other_makes_are_right_too = checking.accepts_other_makes(RIGHT)
test_wrong_answers_in_place_are_wrong = checking.is_not_spoilt(WRONG)
test_the_unusable_is_never_right = checking.refuses_the_unusable(RIGHT)
test_no_answer_ever_raises = checking.survives(RIGHT)
test_hints_come_in_portuguese_too = checking.speaks_portuguese(RIGHT, WRONG)
test_every_known_mistake_has_words = checking.has_words(MISTAKES)
test_no_two_mistakes_look_alike = checking.tells_apart(MISTAKES)


def test_a_known_mistake_is_told_in_portuguese():
    use_language("pt")
    verdict = checks.baseline(lambda f, s: (f - f.mean()) * s)
    assert "É o mesmo erro" in verdict.message
    assert "Certo." in checks.baseline(leave_one_out).message


# --- the oracles, against what they do not know ---------------------------------------


def quadrature(function, mu, logvar, points=4001):
    """Integrate ``function`` against N(mu, exp(logvar)) by a plain sum."""
    width = math.exp(logvar / 2)
    z = torch.linspace(mu - 9 * width, mu + 9 * width, points, dtype=torch.float64)
    density = torch.exp(-((z - mu) ** 2) / (2 * width**2)) / (
        width * math.sqrt(2 * math.pi)
    )
    return torch.trapezoid(function(z) * density, z)


@pytest.mark.parametrize(("mu", "logvar"), [(0.7, -1.0), (-1.2, 0.8)])
def test_the_score_oracle_averages_to_the_rise_of_the_average(mu, logvar):
    width = math.exp(logvar / 2)
    z = torch.linspace(mu - 9 * width, mu + 9 * width, 4001, dtype=torch.float64)
    place = [torch.tensor(v, dtype=torch.float64) for v in (mu, logvar)]
    terms = checks._by_score(checks._values(z), z, *place)  # (2, N)
    density = torch.exp(Normal(*place[:1], width).log_prob(z))
    mean = torch.trapezoid(terms * density, z)
    step = 1e-4
    rise = [
        quadrature(checks._values, mu + step, logvar)
        - quadrature(checks._values, mu - step, logvar),
        quadrature(checks._values, mu, logvar + step)
        - quadrature(checks._values, mu, logvar - step),
    ]
    assert torch.allclose(mean, torch.stack(rise) / (2 * step), atol=1e-6)


@pytest.mark.parametrize("count", [2, 5])
def test_leave_one_out_is_unbiased_and_the_whole_mean_is_not(count):
    stream = torch.Generator().manual_seed(3)
    eps = torch.randn(20_000, count, dtype=torch.float64, generator=stream)
    values = checks._values(0.7 + 0.6 * eps)
    scores = eps / 0.6
    exact = 2 * 0.7 - 2 * math.sin(1.4) * math.exp(-2 * 0.36)
    terms = torch.vmap(leave_one_out)(values, scores).mean(-1)
    error = terms.std() / len(terms) ** 0.5
    assert abs(terms.mean() - exact) < 4 * error
    whole = ((values - values.mean(-1, keepdim=True)) * scores).mean(-1)
    assert abs(whole.mean() - exact * (1 - 1 / count)) < 4 * error
    assert torch.allclose(
        checks._by_others(values[0], scores[0]), leave_one_out(values[0], scores[0])
    )


def test_the_path_oracle_draws_the_law_it_names():
    start, rate = (torch.tensor(v, dtype=torch.float64) for v in (0.4, 2.5))
    u = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    z = checks._quantile(start, rate, u)
    assert torch.allclose(1 - torch.exp(-rate * (z - start)), u, atol=1e-9)
    assert abs(z.mean() - (0.4 + 1 / 2.5)) < 1e-3
    assert abs(z.var() - 1 / 2.5**2) < 1e-2
