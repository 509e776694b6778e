"""Lesson 01's checks accept right answers however written, and know the wrong ones."""

import math
import re
from pathlib import Path

import autoencoders
import nbformat
import numpy as np
import torch
from results import read
from scipy import integrate, stats
from torch.distributions import LowRankMultivariateNormal, MultivariateNormal

from vae_teach.checks import autoencoders as checks
from vae_teach.words import CATALOGUE


def by_svd(x, q):
    mean = x.mean(0)
    axes = torch.linalg.svd(x - mean, full_matrices=False)[2][:q]  # (q, D)
    return mean + (x - mean) @ axes.T @ axes


def by_eigenvectors(x, q):
    mean = x.mean(0)
    axes = torch.linalg.eigh((x - mean).T @ (x - mean))[1][:, -q:]  # (D, q)
    return (x - mean) @ axes @ axes.T + mean


def by_numpy(x, q):
    x = x.numpy()
    values, vectors = np.linalg.eig(np.cov(x.T))
    axes = vectors[:, np.argsort(values)[::-1][:q]]
    return x.mean(0) + (x - x.mean(0)) @ axes @ axes.T


def by_random_projections(x, q):
    mean = x.mean(0)
    axes = torch.pca_lowrank(x, q=q)[2]  # (D, q)
    return mean + (x - mean) @ axes @ axes.T


def projected(x, axes):
    return x @ axes @ axes.T


def axes_of(x):
    return torch.linalg.eigh(torch.cov(x.T))[1]


def parts(codes):
    return codes.mean(0), torch.linalg.cholesky(torch.cov(codes.T))


def log_density(codes, z):
    return MultivariateNormal(codes.mean(0), torch.cov(codes.T)).log_prob(z)


def squares(codes, z):
    mean, root = parts(codes)
    white = torch.linalg.solve_triangular(root, (z - mean).T, upper=False)
    return white.square().sum(0), root.diagonal().log().sum()


def by_hand(codes, z):
    distance, volume = squares(codes, z)
    return -0.5 * distance - volume - math.log(2 * math.pi)


def uncorrelated(codes, z):
    normal = torch.distributions.Normal(codes.mean(0), codes.std(0))
    return normal.log_prob(z).sum(-1)


def fair(decode, codes, eps):
    mean, root = parts(codes)
    return decode(mean + eps @ root.T)


def along_axes(decode, codes, eps):
    values, vectors = torch.linalg.eigh(torch.cov(codes.T))
    return decode(codes.mean(0) + eps * values.sqrt() @ vectors.T)


def seeded(decode, codes, eps):
    stream = torch.Generator().manual_seed(0)
    own = torch.randn(eps.shape, generator=stream, dtype=eps.dtype)
    return fair(decode, codes, own)


def at(points):
    """Return a draw whose points are so, from mean, root and noise."""
    return lambda decode, codes, eps: decode(points(*parts(codes), eps))


def moved(density, codes, mean, root):
    u = torch.linalg.solve_triangular(root, (codes - mean).T, upper=False).T
    return density(u) - root.diagonal().log().sum()


def volumes(times):
    """Return a change of variables with so many times the log of the determinant."""

    def answer(density, codes, mean, root):
        u = torch.linalg.solve(root, (codes - mean).T).T
        return density(u) - times * torch.logdet(root)

    return answer


def evaluated(points):
    """Return a change of variables that takes u to be so."""

    def answer(density, codes, mean, root):
        return density(points(codes, mean, root)) - torch.logdet(root)

    return answer


RIGHT = {
    checks.pca: [by_svd, by_eigenvectors, by_numpy, by_random_projections],
    checks.code_density: [
        log_density,
        by_hand,
        lambda c, z: MultivariateNormal(
            c.mean(0), torch.cov(c.T, correction=0)
        ).log_prob(z),  # divided by N in place of N - 1
        lambda c, z: stats.multivariate_normal(
            c.mean(0).numpy(), np.cov(c.numpy().T)
        ).logpdf(z.numpy()),
        lambda c, z: LowRankMultivariateNormal(
            c.mean(0), parts(c)[1] * math.sqrt(1 - 1e-9), 1e-9 * torch.ones(2).double()
        ).log_prob(z),
    ],
    checks.fair_draw: [
        fair,
        along_axes,
        lambda d, c, e: d(c.mean(0) + (parts(c)[1] @ e.T).T),
        lambda d, c, e: d(c.mean(0) - e @ parts(c)[1].T),  # the mirror image
        lambda d, c, e: d(
            c.mean(0)
            + e @ torch.linalg.cholesky(torch.cov(c.T, correction=0)).T
        ),
    ],
    checks.moved_density: [
        moved,
        volumes(1.0),
        lambda f, c, m, r: f((c - m) @ r.inverse().T) + r.inverse().det().abs().log(),
        lambda f, c, m, r: f(torch.linalg.solve(r, (c - m).T).T)
        - 0.5 * torch.logdet(r @ r.T),
    ],
}  # fmt: skip

# What learners write, spelt as they write it, and the words of the hint it must get.
WRONG = [
    (checks.pca,
     lambda x, q: projected(x, torch.linalg.svd(x, full_matrices=False)[2][:q].T),
     "points at the mean image"),
    (checks.pca, lambda x, q: by_svd(x, q) - x.mean(0), "still centred"),
    (checks.pca, lambda x, q: projected(x, axes_of(x)[:, -q:]),
     "their mean still in them"),
    (checks.pca,
     lambda x, q: x.mean(0) + projected(x - x.mean(0), axes_of(x)[:, :q]),
     "vary least"),
    (checks.pca,
     lambda x, q: x.mean(0) + projected(x - x.mean(0), axes_of(x)[-q:].T),
     "rows of the matrix"),
    (checks.pca, lambda x, q: x, "came back whole"),
    (checks.pca, lambda x, q: by_svd(x, q + 1), "values differ"),
    (checks.pca, lambda x, q: by_svd(x, 2), "values differ"),
    (checks.pca, lambda x, q: (x - x.mean(0)) @ axes_of(x)[:, -q:],
     "axis did you sum"),
    (checks.pca, lambda x, q: x / 0, "infinities or NaN"),
    (checks.code_density,
     lambda c, z: -0.5 * squares(c, z)[0] - math.log(2 * math.pi),
     "determinant is missing"),
    (checks.code_density, lambda c, z: by_hand(c, z) - squares(c, z)[1],
     "has the wrong weight"),
    (checks.code_density, lambda c, z: by_hand(c, z) + 2 * squares(c, z)[1],
     "not higher"),
    (checks.code_density, uncorrelated, "correlation is lost"),
    (checks.code_density,
     lambda c, z: -0.5 * torch.linalg.solve(parts(c)[1].T, (z - c.mean(0)).T)
     .square().sum(0) - squares(c, z)[1] - math.log(2 * math.pi),
     "measured with another covariance"),
    (checks.code_density,
     lambda c, z: -0.5 * ((z - c.mean(0)) @ torch.cov(c.T) * (z - c.mean(0))).sum(1)
     - squares(c, z)[1] - math.log(2 * math.pi),
     "inverse is what measures"),
    (checks.code_density, lambda c, z: by_hand(c, z) - 0.5 * squares(c, z)[0],
     "half in front"),
    (checks.code_density,
     lambda c, z: by_hand(c, z) + 0.5 * math.log(2 * math.pi), "that of a line"),
    (checks.code_density, lambda c, z: by_hand(c, z) + math.log(2 * math.pi),
     "integrate to 1"),
    (checks.code_density, lambda c, z: by_hand(c, z).exp(), "values differ"),
    (checks.code_density,
     lambda c, z: MultivariateNormal(
         torch.zeros(2).double(), torch.cov(c.T)).log_prob(z),
     "before the distance"),
    (checks.code_density, lambda c, z: by_hand(c, z) + 1e-3, "values differ"),
    (checks.code_density, lambda c, z: by_hand(c, z)[:, None], "axis did you sum"),
    (checks.code_density, lambda c, z: by_hand(c, z) / 0, "infinities or NaN"),
    (checks.fair_draw, lambda d, c, e: d(e), "purest form"),
    (checks.fair_draw, lambda d, c, e: d(e * c.std(0)), "the ellipse of the codes"),
    (checks.fair_draw, lambda d, c, e: d(c.mean(0) + e * c.std(0)),
     "the ellipse of the codes"),
    (checks.fair_draw, lambda d, c, e: d(c.mean(0) + e @ torch.cov(c.T)),
     "where a root of it belongs"),
    (checks.fair_draw, at(lambda m, r, e: m + e @ r), "on the wrong side"),
    (checks.fair_draw, lambda d, c, e: d(c.mean(0) + e), "the width of the codes"),
    (checks.fair_draw, at(lambda m, r, e: m + 1.1 * e @ r.T), "differs from that"),
    (checks.fair_draw, at(lambda m, r, e: m + 1.001 * e @ r.T), "differs from that"),
    (checks.fair_draw, at(lambda m, r, e: e @ r.T), "in another place"),
    (checks.fair_draw, at(lambda m, r, e: 1e-3 + m + e @ r.T), "in another place"),
    (checks.fair_draw, lambda d, c, e: fair(d, c, torch.randn_like(e)),
     "gave different results"),
    (checks.fair_draw, lambda d, c, e: d(c[: len(e)]), "does not follow eps"),
    (checks.fair_draw, seeded, "does not follow eps"),
    (checks.fair_draw, lambda d, c, e: torch.sigmoid(fair(d, c, e)),
     "at no point at all"),
    (checks.fair_draw, lambda d, c, e: c.mean(0) + e @ parts(c)[1].T,
     "that of the argument"),
    (checks.fair_draw, lambda d, c, e: fair(d, c, e) / 0, "infinities or NaN"),
    (checks.moved_density, volumes(0.0), "Jacobian is missing"),
    (checks.moved_density, volumes(-1.0), "has the wrong sign: stretching"),
    (checks.moved_density, volumes(2.0), "in there twice"),
    (checks.moved_density, volumes(0.5), "is a half only"),
    (checks.moved_density, evaluated(lambda c, m, r: (c - m) @ r.T),
     "root once more"),
    (checks.moved_density, evaluated(lambda c, m, r: (c - m) @ r.inverse()),
     "inverse of the root is transposed"),
    (checks.moved_density, evaluated(lambda c, m, r: c @ r.inverse().T),
     "mean has to be subtracted"),
    (checks.moved_density, evaluated(lambda c, m, r: c), "at the code itself"),
    (checks.moved_density, lambda f, c, m, r: moved(f, c, m, r).exp(),
     "values differ"),
    (checks.moved_density, lambda f, c, m, r: moved(f, c, m, r) + 1e-3,
     "values differ"),
    (checks.moved_density, lambda f, c, m, r: moved(f, c, m, r).sum(),
     "axis did you sum"),
    (checks.moved_density, lambda f, c, m, r: moved(f, c, m, r) / 0,
     "infinities or NaN"),
]  # fmt: skip
MISTAKES = {
    checks.pca: checks.PCA_MISTAKES,
    checks.code_density: checks.DENSITY_MISTAKES,
    checks.moved_density: checks.MOVED_MISTAKES,
}
PRAISE = {
    checks.pca: ("The reconstruction is that of PCA", "A reconstrução é a da PCA"),
    checks.code_density: ("with its full covariance", "com a covariância cheia"),
    checks.fair_draw: ("The points decoded have", "Os pontos decodificados têm"),
    checks.moved_density: ("The density changes", "A densidade muda"),
}
IN_PORTUGUESE = {
    "points at the mean image": "aponta quase só para a imagem média",
    "still centred": "reconstruções estão centradas",
    "their mean still in them": "sem antes subtrair a média",
    "vary least": "menos variam",
    "rows of the matrix": "linhas da matriz",
    "came back whole": "voltaram inteiras",
    "determinant is missing": "Falta o termo do determinante",
    "has the wrong weight": "com o peso errado",
    "not higher": "e não mais alta",
    "correlation is lost": "correlação entre elas se perdeu",
    "measured with another covariance": "medidas com outra covariância",
    "inverse is what measures": "o que mede a distância é a inversa",
    "half in front": "o fator um meio diante do quadrado",
    "that of a line": "é a de uma reta",
    "integrate to 1": "a integral da densidade não é 1",
    "purest form": "forma mais pura",
    "the ellipse of the codes": "a elipse dos códigos",
    "before the distance": "antes de medir a distância",
    "does not follow eps": "não acompanha eps",
    "where a root of it belongs": "onde vai uma raiz dela",
    "on the wrong side": "do lado errado",
    "the width of the codes": "a largura dos códigos",
    "differs from that": "difere da dos códigos",
    "in another place": "em outro lugar",
    "gave different results": "deram resultados diferentes",
    "at no point at all": "em ponto nenhum",
    "Jacobian is missing": "Falta o jacobiano",
    "has the wrong sign: stretching": "sinal trocado: esticar",
    "in there twice": "entrou duas vezes",
    "is a half only": "o um meio só entra",
    "root once more": "a raiz de novo",
    "inverse of the root is transposed": "inversa da raiz está transposta",
    "mean has to be subtracted": "Falta subtrair a média",
    "at the code itself": "no próprio código",
}


def test_hints_never_hold_the_answer():
    """No code stands in what a check may say."""
    said = [e["en"] for key, e in CATALOGUE.items() if key.startswith("autoencoders-")]
    assert not [text for text in said if "@" in text or "linalg" in text]


def test_the_fitted_density_is_scipys():
    codes, mean, covariance = checks._codes()
    z = mean + torch.linspace(-2, 2, 10).double().reshape(5, 2)
    known = stats.multivariate_normal(mean.numpy(), covariance.numpy()).logpdf(z)
    assert np.allclose(checks._gaussian(codes, z), known)


def test_the_density_that_is_moved_still_integrates_to_one():
    """By SciPy's quadrature over the plane of the codes."""
    mean = torch.tensor([0.4, -0.3]).double()
    root = torch.tensor([[0.9, 0.0], [0.5, 0.7]]).double()
    answer = checks._moved(checks._back, 1.0)

    def density(second, first):
        code = torch.tensor([[first, second]]).double()
        return answer(checks._log_density, code, mean, root).exp().item()

    options = {"epsabs": 1e-3, "epsrel": 1e-3}
    mass, _ = integrate.dblquad(density, -14, 14, -16, 16, **options)
    assert abs(mass - 1) < 0.01


def test_the_strawman_is_judged_without_moving_the_readers_random_stream():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    checks.fair_draw(fair)
    assert torch.equal(torch.get_rng_state(), before)


# --- the other seeds ------------------------------------------------------------------


def test_other_seeds_are_found_by_the_lessons_own_cells():
    """The benchmark runs these cells, and one line of them sets the seed."""
    cells = autoencoders.sources()
    assert cells.keys() >= {*autoencoders.KEYS}
    moved = [k for k in cells if autoencoders.with_seed(cells[k], 7) != cells[k]]
    assert moved == ["models"]
    trains = "\n".join(cells[key] for key in autoencoders.KEYS)
    assert re.findall(r"seed=(\w+)\)\[?", trains).count("SEED") >= 2


def test_what_the_lesson_tells_of_other_seeds_is_what_was_measured():
    """The table of differences, in the notebook as it was built."""
    path = Path(autoencoders.LESSON).with_suffix(".ipynb")
    measured = read("autoencoders")
    if measured is None or not path.exists():
        return
    found = measured["results"]["found"]
    assert {len(seeds) for seeds in found.values()} == {measured["results"]["seeds"]}
    cells = nbformat.read(path, as_version=4).cells
    (cell,) = (cell for cell in cells if cell.id == "seeds")
    told = "".join(output.get("text", "") for output in cell.outputs)
    for key, seeds in found.items():
        if "-minus-" in key and not key.startswith("train"):
            assert all(f"{abs(mean):.2f}" in told for mean, _ in seeds), key
