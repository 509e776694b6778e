"""What lesson 02 writes by hand, held against SciPy: its toy, its sums, its optima."""

import ast
import math
from pathlib import Path

import jupytext
import numpy as np
import pytest
from scipy import integrate, optimize, stats

ROOT = Path(__file__).resolve().parents[2]
CELLS = ("setup", "toy-model", "quadrature-by-hand", "naive-cost")
FUNCTIONS = {"jensen-picture": "elbo", "kl-route-numbers": "kl_to_posterior"}


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
