"""The checks of lesson 03 accept right answers and tell the usual wrong ones apart."""

import math

import pytest
import torch
from torch.distributions import Normal

from vae_teach.checks import gradients as checks

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


# Beyond all values, but a draw of its own can take a baseline there.
HIGH = max(checks._values(z).max().item() for z, *_ in checks._draws()) + 4
LOW = min(checks._values(z).min().item() for z, *_ in checks._draws()) - 4

RIGHT = {
    checks.score_function: [score, by_autograd],
    checks.baseline: [
        leave_one_out,
        leave_one_out_by_matrix,
        lambda f, s: (f - f.mean()) * s * len(f) / (len(f) - 1),
        lambda f, s: (f + 3) * s,
        lambda f, s: (f - 1.3e-3) * s,  # hardly a baseline, but one
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
    (checks.score_function, lambda *a: score(*a).sum(1), "summed the draws; return"),
    (checks.score_function, lambda *a: score(*a).T,
     "Rows and columns are swapped"),
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
    (checks.score_function, lambda *a: score(*a) * (len(a[0]) / 5), "values differ"),
    (checks.score_function, lambda *a: score(*a) * (len(a[0]) / 8), "values differ"),
    (checks.score_function, lambda *a: score(*a)[:, :2], "axis did you sum"),
    (checks.score_function, lambda f, z, m, v: score(f, z, m, v.log()),
     "infinities or NaN"),
    (checks.baseline, lambda f, s: (f - f.mean()) * s, "With S = 1"),
    (checks.baseline, lambda f, s: f * s, "so is the baseline"),
    (checks.baseline, lambda f, s: (f - 0.8e-3) * s, "when that draw changes"),
    (checks.baseline, lambda f, s: (f - f.min()) * s, "when that draw changes"),
    (checks.baseline, lambda f, s: (f - 1 - 2e-3 * f) * s, "when that draw changes"),
    (checks.baseline, lambda f, s: (f - 1 - 2e-3 * s) * s, "when that draw changes"),
    (checks.baseline, lambda f, s: (f - f.clamp(HIGH).sum()) * s,
     "when that draw changes"),
    (checks.baseline, lambda f, s: (f - f.clamp(max=LOW).sum()) * s,
     "when that draw changes"),
    (checks.baseline, lambda f, s: (f - 1 - f * (torch.arange(len(f)) == 4)) * s,
     "when that draw changes"),
    (checks.baseline, lambda f, s: (f - 1 - f * (len(f) == 8)) * s,
     "when that draw changes"),
    (checks.baseline, lambda f, s: (f - 1 - f * (len(f) == 5)) * s,
     "when that draw changes"),
    (checks.baseline, lambda f, s: (f - f.max()) * s, "when that draw changes"),
    (checks.baseline, lambda f, s: (f - f.roll(1)) / f.std() * s,
     "when that draw changes"),
    (checks.baseline, lambda f, s: (f - (f * s**2).sum() / (s**2).sum()) * s,
     "when that draw changes"),
    (checks.baseline, lambda f, s: (f - f.roll(1)) * s * (1 - 1 / len(f)),
     "when that draw changes"),
    (checks.baseline, lambda f, s: (f - s) * s, "when that draw changes"),
    (checks.baseline, lambda f, s: ((f - f.roll(1)) * s)[1:], "axis did you sum"),
    (checks.baseline, lambda f, s: (f - f.sum()) * s, "subtracted the sum, and"),
    (checks.baseline, lambda f, s: (f - f.median()) * s, "median"),
    (checks.baseline, lambda f, s: leave_one_out(f, s) * len(f) / (len(f) - 1),
     "twice"),
    (checks.baseline, lambda f, s: (f - f.mean()) * s * (len(f) - 1) / len(f),
     "the wrong way"),
    (checks.baseline, lambda f, s: f * s - f.mean() * s.mean(), "before multiplying"),
    (checks.baseline, lambda f, s: (f - f.mean()) / f.std() * s,
     "group's standard deviation"),
    (checks.baseline, lambda f, s: leave_one_out(f, s).mean(), "averaged them"),
    (checks.baseline, lambda f, s: -leave_one_out(f, s), "value minus the baseline"),
    (checks.baseline, lambda f, s: leave_one_out(f, s) + 0.01,
     "when that draw changes"),
    (checks.exponential_path, lambda a, r, u: quantile(a, 1 / r, u), "get shorter"),
    (checks.exponential_path, lambda a, r, u: a - u.log() / r, "your z shrinks"),
    (checks.exponential_path, lambda a, r, u: a + u.log() / r, "place of 1 − u"),
    (checks.exponential_path, lambda a, r, u: a + (1 - u).log() / r, "What sign"),
    (checks.exponential_path, lambda a, r, u: quantile(0, r, u), "start was left out"),
    (checks.exponential_path, lambda a, r, u: quantile(a, 1, u), "rate was left out"),
    (checks.exponential_path, lambda a, r, u: quantile(a, 1, u) / r,
     "start was divided by the"),
    (checks.exponential_path, lambda a, r, u: 1 - torch.exp(-r * (u - a)),
     "Its inverse"),
    (checks.exponential_path, lambda a, r, u: r * torch.exp(-r * (u - a)),
     "inverse of the distribution"),
    (checks.exponential_path, lambda a, r, u: a + 1 / r + 0 * u, "u was left out"),
    (checks.exponential_path, lambda a, r, u: quantile(a, r, torch.rand_like(u)),
     "the same u"),
    (checks.exponential_path, lambda a, r, u: quantile(a, r, u).detach(), "cut the"),
    (checks.exponential_path, lambda a, r, u: quantile(a.detach(), r, u), "cut the"),
    (checks.exponential_path, lambda a, r, u: quantile(a, r.clamp(max=2), u),
     "values differ"),
    (checks.exponential_path, lambda a, r, u: quantile(a, r.clamp(1), u),
     "values differ"),
    (checks.exponential_path, lambda a, r, u: quantile(a, r.detach(), u), "cut the"),
    (checks.exponential_path, lambda a, r, u: quantile(a, r.item(), u), "cut the"),
    (checks.exponential_path,
     lambda a, r, u: quantile(a, r, u).detach() + (a + r) - (a + r).detach(),
     "values differ"),
    (checks.exponential_path, lambda a, r, u: quantile(a, r, u)[:2],
     "axis did you sum"),
    (checks.surrogate, lambda f, z, m, v: loss(f, z, m, 2 * v),
     "exp(logvar) is the variance"),
    (checks.surrogate,
     lambda f, z, m, v: (f.detach() * Normal(m, (v / 2).exp()).log_prob(z)).mean(),
     "a z that moves"),
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
     "values are not"),
    (checks.surrogate, lambda f, z, m, v: f.mean(), "pathwise estimator"),
    (checks.surrogate, lambda f, z, m, v: len(z) * loss(f, z, m, v),
     "the mean is expected"),
    (checks.surrogate, lambda *a: -loss(*a), "gradient of f's average"),
    (checks.surrogate,
     lambda f, z, m, v: (
         f.detach() * Normal(m, (v / 2).exp()).log_prob(z.detach()).exp()
     ).mean(), "derivative of its logarithm"),
    (checks.surrogate, lambda f, *a: loss(torch.ones_like(f), *a), "values of f"),
    (checks.surrogate, lambda f, z, m, v: f * (m + v), "single number"),
    (checks.surrogate, lambda *a: loss(*a).detach(), "detached everything"),
    (checks.surrogate, lambda *a: 2 * loss(*a), "values differ"),
    (checks.surrogate, lambda *a: len(a[0]) / 5 * loss(*a), "values differ"),
    (checks.surrogate, lambda *a: len(a[0]) / 8 * loss(*a), "values differ"),
    (checks.surrogate, lambda *a: loss(*a).item(), "detached everything"),
    (checks.surrogate, lambda *a: loss(*a) if len(a[0]) == 5 else loss(*a).detach(),
     "detached everything"),
]  # fmt: skip
MISTAKES = {
    checks.score_function: checks.SCORE_MISTAKES,
    checks.baseline: checks.BASELINE_MISTAKES,
    checks.exponential_path: checks.PATH_MISTAKES,
    checks.surrogate: checks.SURROGATE_MISTAKES,
}
PRAISE = {
    checks.score_function: ("Each draw gives its estimate", "Cada amostra dá uma"),
    checks.baseline: ("No baseline looks at its own", "não depende da própria amostra"),
    checks.exponential_path: ("exponential's quantile", "quantil da exponencial"),
    checks.surrogate: ("nothing else gets through", "nenhum outro gradiente passa"),
}
IN_PORTUGUESE = {
    "score alone": "é só o escore",
    "already averaged": "já tirou a média",
    "summed the draws; return": "somou sobre as amostras; devolva",
    "Rows and columns are swapped": "Linhas e colunas estão trocadas",
    "two rows are swapped": "duas linhas estão trocadas",
    "exp(logvar) is the variance": "exp(logvar) é a variância",
    "flipped in both rows": "trocado nas duas linhas",
    "first row alone": "Só o sinal da primeira linha",
    "second row alone": "Só o sinal da segunda linha",
    "by the density as well": "também pela densidade",
    "without the width": "falta a largura de q",
    "yours grows": "o seu cresce",
    "too many": "vezes demais",
    "log σ², not": "log σ², e não",
    "derivative in σ": "derivada em relação a σ",
    "does not average to zero": "não é zero",
    "derivative in the variance": "derivada em relação à variância",
    "With S = 1": "Com S = 1",
    "so is the baseline": "a linha de base também",
    "when that draw changes": "muda quando essa amostra muda",
    "subtracted the sum, and": "subtraiu a soma, que",
    "median": "mediana",
    "twice": "duas vezes",
    "the wrong way": "no sentido errado",
    "before multiplying": "antes da multiplicação",
    "group's standard deviation": "desvio padrão do grupo",
    "averaged them": "tirou a média deles",
    "value minus the baseline": "valor menos a linha de base",
    "get shorter": "ficar mais curta",
    "your z shrinks": "o seu z diminui",
    "place of 1 − u": "no lugar de 1 − u",
    "What sign": "Que sinal",
    "start was left out": "início ficou de fora",
    "rate was left out": "taxa ficou de fora",
    "start was divided by the": "início foi dividido pela taxa",
    "Its inverse": "se pede é a inversa dela",
    "inverse of the distribution": "inversa da função de distribuição",
    "u was left out": "u ficou de fora",
    "the same u": "o mesmo u",
    "cut the": "cortou o grafo",
    "a z that moves": "z que se move",
    "You detached log q": "Você desligou log q",
    "the parameters inside log q": "os parâmetros dentro de log q",
    "without a baseline": "sem linha de base",
    "three gradients": "três gradientes",
    "values are not": "mas os valores não",
    "pathwise estimator": "estimador por trajetória",
    "the mean is expected": "se espera é a média",
    "gradient of f's average": "gradiente da média de f",
    "derivative of its logarithm": "derivada do logaritmo dela",
    "values of f": "Os valores de f",
    "single number": "um único número",
    "detached everything": "tudo está desligado do grafo",
}


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
