"""Lesson 02: its checks, and what it writes by hand, held against SciPy.

Checks accept right answers however written, and reject the usual wrong ones.
"""

import ast
import math
from pathlib import Path

import jupytext
import numpy as np
import pytest
import torch
from scipy import integrate, optimize, special, stats
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


def grid_in_numpy(joint, z, mu, logvar):
    joint, z = joint.numpy(), z.numpy()
    density = stats.norm.pdf(z, mu.item(), math.exp(logvar.item() / 2))
    return np.trapezoid(density * (joint - np.log(density + 1e-300)), z)  # np.float64


def grid_in_python(*given):
    return float(grid_in_numpy(*given))


def sampled_in_numpy(z, mu, logvar):
    z, mu, sigma = z.numpy(), mu.numpy(), np.exp(logvar.numpy() / 2)
    return (stats.norm.logpdf(z, mu, sigma) - stats.norm.logpdf(z)).sum(-1).mean(0)


def bound_in_numpy(log_weights):
    return special.logsumexp(log_weights.numpy(), axis=0) - np.log(len(log_weights))


def mixture_in_numpy(z):
    logs = [stats.norm.logpdf(z.numpy(), c).sum(-1) for c in (3.0, -3.0)]
    return np.logaddexp(*logs) - np.log(2.0)


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
    checks.grid_elbo: [
        grid,
        closed_entropy,
        grid_in_numpy,
        grid_in_python,
        lambda *given: grid(*given)[None],  # still one number
    ],
    checks.sampled_kl: [sampled, by_hand, sampled_in_numpy],
    checks.weighted_bound: [bound, bound_step_by_step, bound_in_numpy],
    checks.mixture_prior: [mixture, mixture_of_densities, mixture_in_numpy],
}

# What learners write, spelt as they write it, and the words of the hint it must get.
WRONG = [
    (checks.grid_elbo, lambda j, z, m, v: grid(j, z, m, v) / (z[1] - z[0]),
     "width of a step"),
    (checks.grid_elbo,
     lambda j, z, m, v: (log_q(z, m, v).exp() * (j - log_q(z, m, v))).mean(),
     "averaged over the points"),
    (checks.grid_elbo, lambda j, z, m, v: log_q(z, m, v).softmax(0) @ j,
     "A term is missing"),
    (checks.grid_elbo,
     lambda j, z, m, v: log_q(z, m, v).softmax(0) @ (j + log_q(z, m, v)),
     "entropy came in"),
    (checks.grid_elbo, lambda j, z, m, v: torch.trapezoid(j.exp(), z).log(),
     "That is log p(x)"),
    (checks.grid_elbo, lambda j, z, m, v: grid(j, z, m, 2 * v),
     "that of the standard deviation"),
    (checks.grid_elbo, lambda *a: -grid(*a), "it is the loss"),
    (checks.grid_elbo,
     lambda j, z, m, v: j.softmax(0) @ (j - log_q(z, m, v)), "over the posterior"),
    (checks.grid_elbo, lambda *a: grid(*a) + 0.01, "values differ"),
    (checks.grid_elbo,
     lambda j, z, m, v: (log_q(z, m, v).exp() * (j - log_q(z, m, v))).sum() * 0.01,
     "fixed at 0.01"),
    (checks.grid_elbo, lambda j, z, m, v: grid(j, z, m, v) / (z[1] - z[0]) * 0.04,
     "values differ"),
    (checks.grid_elbo, lambda j, z, m, v: grid(j, z, m, v) / (z[1] - z[0]) * 0.025,
     "values differ"),
    (checks.grid_elbo, lambda *a: grid(*a).expand(2), "axis did you sum"),
    (checks.sampled_kl, lambda *a: -sampled(*a), "log q comes first"),
    (checks.sampled_kl, lambda z, m, v: sampled(z, m, v) * len(z),
     "summed over the draws"),
    (checks.sampled_kl, lambda *a: sampled(*a).mean(), "ran over the images too"),
    (checks.sampled_kl,
     lambda z, m, v: (log_q(z, m, v) - log_q(z, 0 * m, 0 * v)).mean(),
     "averages over everything"),
    (checks.sampled_kl,
     lambda z, m, v: (log_q(z, m, v) - log_q(z, 0 * m, 0 * v)).mean(-1).sum(0),
     "axes are swapped"),
    (checks.sampled_kl,
     lambda z, m, v: sampled(m + torch.exp(v / 2) * torch.randn_like(z), m, v),
     "draws of its own"),
    (checks.sampled_kl,
     lambda z, m, v: (densities.log_normal(z, m, v)
                      - densities.log_standard_normal(z)).mean(1), "left the draws"),
    (checks.sampled_kl,
     lambda z, m, v: (densities.log_normal(z, m, v)
                      - densities.log_standard_normal(z)), "over the S draws"),
    (checks.sampled_kl,
     lambda z, m, v: (log_q(z, m, v) - log_q(z, 0 * m, 0 * v)).mean(0),
     "sum over the latent"),
    (checks.sampled_kl, lambda z, m, v: sampled(z, m, v) / z.shape[2],
     "averaged over the latent"),
    (checks.sampled_kl, lambda z, m, v: densities.kl_to_standard_normal(m, v),
     "does not use the draws"),
    (checks.sampled_kl,
     lambda z, m, v: (densities.log_normal(z, m, 2 * v)
                      - densities.log_standard_normal(z)).mean(0),
     "in log q you used it"),
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
    (checks.sampled_kl, lambda *a: sampled(*a) * len(a[0]) / 7, "values differ"),
    (checks.sampled_kl, lambda *a: sampled(*a) * len(a[0]) / 5, "values differ"),
    (checks.weighted_bound, lambda w: w.mean(0), "does not climb with k"),
    (checks.weighted_bound, lambda w: w.logsumexp(0), "the division by k is missing"),
    (checks.weighted_bound, lambda w: w.exp().mean(0).log(), "For ordinary weights"),
    (checks.weighted_bound, lambda w: w.exp().sum(0).log(), "Two things are missing"),
    (checks.weighted_bound, lambda w: w.logsumexp(0) - math.log(w.shape[1]),
     "not that of images"),
    (checks.weighted_bound, lambda w: w.logsumexp(1) - math.log(w.shape[0]),
     "The sum ran over the images"),
    (checks.weighted_bound, lambda w: (w.softmax(0) * w).sum(0), "by their softmax"),
    (checks.weighted_bound, lambda w: bound(w.T), "wrong axis"),
    (checks.weighted_bound, lambda w: w.logsumexp((0, 1)) - math.log(w.numel()),
     "images were taken in"),
    (checks.weighted_bound, lambda w: w.amax(0), "largest weight"),
    (checks.weighted_bound, lambda w: -bound(w), "that is a loss"),
    (checks.weighted_bound, lambda w: bound(w) + 0.5, "values differ"),
    (checks.weighted_bound, lambda w: w.logsumexp(0) - math.log(6), "values differ"),
    (checks.weighted_bound, lambda w: w.logsumexp(0) - math.log(5), "values differ"),
    (checks.weighted_bound, lambda w: bound(w.clamp(-500)), "values differ"),
    (checks.mixture_prior, lambda z: (parts(z).logsumexp(1) - math.log(2)).sum(-1),
     "in each coordinate"),
    (checks.mixture_prior, lambda z: parts(z).sum(-1).logsumexp(1), "integrates to 2"),
    (checks.mixture_prior, lambda z: parts(z).sum(-1).mean(1),
     "averaged the log-densities"),
    (checks.mixture_prior, lambda z: parts(z).sum(-1).amax(1) - math.log(2),
     "kept the larger"),
    (checks.mixture_prior, lambda z: mixture(z).exp(), "return its logarithm"),
    (checks.mixture_prior, lambda z: parts(z).sum(-1).logsumexp(1) - math.log(4),
     "once for each coordinate"),
    (checks.mixture_prior, lambda z: parts(z).logsumexp(1) - math.log(2),
     "sum over the coordinates"),
    (checks.mixture_prior, lambda z: parts(z).sum(-1)[:, 0], "Only one of the two"),
    (checks.mixture_prior, lambda z: mixture(z) + 0.01, "values differ"),
    (checks.mixture_prior, lambda z: mixture(z[:1]).expand(len(z)), "values differ"),
    (checks.mixture_prior, lambda z: mixture(z).squeeze(), "axis did you sum"),
    (checks.mixture_prior, lambda z: mixture(z.abs()), "values differ"),
]  # fmt: skip
MISTAKES = {
    checks.grid_elbo: checks.GRID_MISTAKES,
    checks.sampled_kl: checks.KL_MISTAKES,
    checks.weighted_bound: checks.BOUND_MISTAKES,
    checks.mixture_prior: checks.MIXTURE_MISTAKES,
}
PRAISE = {
    checks.grid_elbo: ("One sum over the grid", "numa soma sobre a grade"),
    checks.sampled_kl: ("any prior whose log-density", "qualquer priori cuja log-dens"),
    checks.weighted_bound: ("ELBO of one draw", "ELBO de uma amostra"),
    checks.mixture_prior: ("then do the components mix", "só depois se misturam"),
}
IN_PORTUGUESE = {
    "width of a step": "largura do intervalo",
    "averaged over the points": "média sobre os pontos",
    "A term is missing": "Falta um termo",
    "entropy came in": "entropia entrou com o sinal trocado",
    "That is log p(x)": "Isso é log p(x)",
    "that of the standard deviation": "o do desvio padrão",
    "it is the loss": "é a perda, e não o limite",
    "over the posterior": "em relação à posteriori",
    "fixed at 0.01": "fixo em 0,01",
    "log q comes first": "log q vem primeiro",
    "summed over the draws": "somou sobre as amostras",
    "ran over the images too": "incluiu também as imagens",
    "averages over everything": "média sobre tudo",
    "axes are swapped": "eixos estão trocados",
    "draws of its own": "sorteios próprios",
    "left the draws": "as amostras estão no primeiro eixo",
    "over the S draws": "sobre as S amostras",
    "sum over the latent": "Falta somar sobre as dimensões latentes",
    "averaged over the latent": "média sobre as dimensões latentes",
    "does not use the draws": "não usa as amostras",
    "in log q you used it": "em log q você o usou",
    "must be subtracted": "Falta subtrair",
    "half the squared": "metade do quadrado",
    "asks for the plainest": "pede a mais simples",
    "does not climb with k": "sua esperança não sobe",
    "the division by k is missing": "falta dividir por k",
    "For ordinary weights": "Para pesos comuns",
    "Two things are missing": "Faltam duas coisas",
    "not that of images": "não o de imagens",
    "The sum ran over the images": "Você somou sobre as imagens. As k",
    "by their softmax": "com o softmax deles",
    "wrong axis": "eixo está trocado",
    "images were taken in": "imagens também entraram na conta",
    "largest weight": "maior dos pesos",
    "that is a loss": "isso é uma perda",
    "in each coordinate": "em cada coordenada",
    "integrates to 2": "dessa densidade é 2",
    "averaged the log-densities": "média das log-densidades",
    "kept the larger": "maior das componentes",
    "return its logarithm": "devolva o logaritmo dela",
    "once for each coordinate": "uma vez por coordenada",
    "sum over the coordinates": "somar sobre as coordenadas",
    "Only one of the two": "Falta uma das duas",
}


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


# --- what the lesson writes by hand: its toy, its sums, its optima ------------------

ROOT = Path(__file__).resolve().parents[2]
CELLS = ("setup", "toy-model", "quadrature-by-hand", "naive-cost")
FUNCTIONS = {"jensen-bound": "elbo", "kl-route-numbers": "kl_to_posterior"}


@pytest.fixture(scope="module")
def lesson():
    """Run the cells that define the toy, and the functions that later cells define."""
    book = jupytext.read(ROOT / "notebooks" / "en" / "02_elbo.py")
    cells = {cell.metadata["key"]: cell.source for cell in book.cells}
    names = {}
    for key in CELLS:
        exec(cells[key], names)
    for key, name in FUNCTIONS.items():
        body = ast.parse(cells[key]).body
        chosen = [node for node in body if getattr(node, "name", None) == name]
        assert chosen, f"{key} defines {name} no more"
        exec(compile(ast.Module(chosen, []), key, "exec"), names)
    return names


def joint(x, z):
    """p(x, z) of the toy in NumPy, from its formula."""
    mean = (z - 2 * np.sin(z), 1.5 * np.cos(z))
    likelihood = stats.norm.pdf(x[0], mean[0], 0.4) * stats.norm.pdf(x[1], mean[1], 0.4)
    return likelihood * stats.norm.pdf(z)


def log_joint(x, z):
    squared = (x[0] - z + 2 * np.sin(z)) ** 2 + (x[1] - 1.5 * np.cos(z)) ** 2
    return -squared / 0.32 - math.log(2 * math.pi * 0.16) + stats.norm.logpdf(z)


def evidence(x):
    points = [-2.7, -1.8, 0, 1.8, 2.7]
    found = integrate.quad(lambda z: joint(x, z), -12, 12, points=points, limit=400)
    return found[0]


POINTS = [(0.4, 0.75), (0.0, -0.45), (1.9, -1.4), (-2.0, -1.0), (1.0, 1.0)]


@pytest.mark.parametrize("x", POINTS)
def test_p_of_x_agrees_with_scipy(lesson, x):
    tensor = lesson["torch"].tensor(x, dtype=lesson["torch"].float64)
    assert abs(lesson["log_evidence"](tensor).item() - math.log(evidence(x))) < 1e-8


def test_p_of_x_integrates_to_one_by_another_route(lesson):
    """SciPy's cubature over x of a trapezoid over z; then the lesson's total."""
    z = np.linspace(-7, 7, 701)

    prior = stats.norm.pdf(z) / (2 * math.pi * 0.16)
    across, up = z - 2 * np.sin(z), 1.5 * np.cos(z)

    def density(x2, x1):
        squared = (x1 - across) ** 2 + (x2 - up) ** 2
        return np.trapezoid(np.exp(-squared / 0.32) * prior, z)

    found, _ = integrate.dblquad(density, -9, 9, -3.5, 3.5, epsabs=1e-5, epsrel=1e-5)
    assert abs(found - 1) < 1e-4
    assert abs(lesson["total"] - found) < 1e-4


@pytest.mark.parametrize("x", POINTS[:3])
@pytest.mark.parametrize(("mu", "sigma"), [(0.0, 0.8), (1.8, 0.2), (-2.5, 1.2)])
def test_elbo_and_kl_agree_with_scipy_apart(lesson, x, mu, sigma):
    torch = lesson["torch"]
    tensor = torch.tensor(x, dtype=torch.float64)
    arguments = (tensor, mu, torch.tensor(sigma**2, dtype=torch.float64).log())
    q, top = stats.norm(mu, sigma), math.log(evidence(x))
    ends = (mu - 9 * sigma, mu + 9 * sigma)

    def mean_of(value):
        return integrate.quad(lambda z: q.pdf(z) * value(z), *ends, limit=400)[0]

    elbo = mean_of(lambda z: log_joint(x, z)) + q.entropy()
    kl = mean_of(lambda z: q.logpdf(z) - log_joint(x, z)) + top
    assert abs(lesson["elbo"](*arguments).item() - elbo) < 1e-6
    assert abs(lesson["kl_to_posterior"](*arguments).item() - kl) < 1e-6
    assert abs(top - elbo - kl) < 1e-6


@pytest.mark.parametrize("x", POINTS[:3])
def test_relative_variance_is_that_of_the_likelihood_under_the_prior(lesson, x):
    torch = lesson["torch"]
    tensor = torch.tensor(x, dtype=torch.float64)

    def second(z):
        return joint(x, z) ** 2 / stats.norm.pdf(z)

    moment = integrate.quad(second, -8, 8, points=[-1.8, 0, 1.8, 2.7], limit=400)[0]
    found = lesson["relative_variance"](tensor, lesson["log_prior"](lesson["z"]))
    assert found == pytest.approx(moment / evidence(x) ** 2 - 1, rel=1e-6)


def test_the_best_q_of_b_misses_little_more_than_log_two(lesson):
    """Nelder-Mead on SciPy's ELBO finds the peak that the lesson climbs to."""
    x = POINTS[1]
    z = np.linspace(-8, 8, 3201)

    def minus_elbo(q):
        density = stats.norm.pdf(z, q[0], math.exp(q[1] / 2))
        energy = np.trapezoid(density * log_joint(x, z), z)
        return -energy - 0.5 * (math.log(2 * math.pi * math.e) + q[1])

    best = optimize.minimize(minus_elbo, (1.5, -2.0), method="Nelder-Mead")
    gap = math.log(evidence(x)) + best.fun
    assert 0 < gap - math.log(2) < 0.02
    torch = lesson["torch"]
    tensor = torch.tensor(x, dtype=torch.float64)
    ours = lesson["kl_to_posterior"](tensor, *torch.tensor(best.x))
    assert abs(ours.item() - gap) < 1e-6


def test_unanswered_exercises_say_only_that_an_answer_is_missing():
    """No hint, and so no spoiler, stands under a cell that nobody has answered."""
    book = jupytext.read(ROOT / "notebooks" / "en" / "02_elbo.py")
    cells = [c for c in book.cells if c.metadata["key"].startswith("exercise-")]
    code = [c.source for c in cells if c.cell_type == "code"]
    names = {"checks": checks, "torch": torch, "float64": torch.tensor}
    assert len(code) == 4
    for source in code:
        body, _, call = source.rpartition("\n")
        exec(body, names)
        assert "No answer yet" in eval(call, names).message
