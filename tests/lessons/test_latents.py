"""Lesson 05's checks accept right answers however written, and know the wrong ones."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from vae_teach.checks import latents as checks
from vae_teach.words import CATALOGUE


def radius(mass):
    return math.sqrt(-2 * math.log(1 - mass))


def walk(a, b, t):
    return math.sqrt(1 - t) * a + math.sqrt(t) * b


def spherical(a, b, t):
    angle = torch.cosine_similarity(a, b, dim=-1).acos()[:, None]
    return (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / angle.sin()


def tiles(decode, points):
    z2, z1 = torch.meshgrid(points.flip(0), points, indexing="ij")
    return decode(torch.stack((z1, z2), -1))


def tiles_by_rows(decode, points):
    rows = [
        decode(torch.stack((points, z2.expand(len(points))), -1))
        for z2 in reversed(points)
    ]
    return torch.stack(rows)


def crumb(a):
    """Return a pattern of ones and zeros, one of which is not 0."""
    return torch.eye(*a.shape, dtype=a.dtype)


def bits(means):
    return (torch.rand_like(means) < means).float()


def moved(mix, over=0.0):
    """Return a walk whose weights do not add up to the prior's spread by ``over``."""
    return lambda a, b, t: mix(a, b, t) * (1 + over * math.sin(math.pi * t))


def stepping(angle):
    """Return a walk along the arc that leaps over so much of it halfway."""
    rest = (math.pi / 2 - angle) / math.pi

    def answer(a, b, t):
        way = math.pi * t * rest + angle * (t > 0.5)
        return math.cos(way) * a + math.sin(way) * b

    return answer


def drawn(errors=0.0, shared=0.0):
    """Return a drawing that is off by so much, exactly; each call shuffles the images.

    ``errors`` is that of the first pixel's frequency, in standard errors; ``shared``
    the correlation of the next two.
    """

    def answer(means):
        count, p = len(means), means[0].double()
        lit = (count * p).round()
        lit[0] = (count * (p[0] + errors * (p[0] * (1 - p[0]) / count).sqrt())).round()
        place = torch.stack([torch.randperm(count) for _ in p], 1)  # (B, D)
        both = p[1] * p[2] + shared * (p[1:3] * (1 - p[1:3])).prod().sqrt()
        start = lit[1] - (count * both).round()  # so many have the first of two alone
        place[:, 2] = place[:, 1] - start
        return (place >= 0) & (place < lit)

    return answer


RIGHT = {
    checks.ring_radius: [
        radius,
        lambda m: torch.tensor(radius(m)),
        lambda m: torch.tensor([radius(m)]),
        lambda m: np.sqrt(stats.chi2(2).ppf(m)),
        lambda m: np.array(radius(m)),
        lambda m: (-2 * torch.log1p(-torch.tensor(m))).sqrt(),
    ],
    checks.unit_walk: [
        walk,
        lambda a, b, t: math.cos(math.pi * t / 2) * a + math.sin(math.pi * t / 2) * b,
        lambda a, b, t: math.cos(5 * math.pi * t / 2) * a
        + math.sin(5 * math.pi * t / 2) * b,  # twice round on the way
        lambda a, b, t: math.cos(3 * math.pi * t / 2) * a
        - math.sin(3 * math.pi * t / 2) * b,  # the long way round
        lambda a, b, t: ((1 - t) * a + t * b) / math.hypot(1 - t, t),
        lambda a, b, t: np.sqrt(1 - t) * a.numpy() + np.sqrt(t) * b.numpy(),
        lambda a, b, t: torch.lerp(a, b, t) / (1 - 2 * t + 2 * t * t) ** 0.5,
        moved(walk, over=7e-5),  # just within rounding
        lambda a, b, t: walk(a, b, t) + 7e-5 * math.sin(math.pi * t) * crumb(a),
        stepping(0.44),
    ],
    checks.active_count: [
        lambda mu: (mu.var(0) > 0.01).sum(),
        lambda mu: int((mu.var(0) > 0.01).sum()),
        lambda mu: sum(mu[:, j].std() > 0.1 for j in range(mu.shape[1])),
        lambda mu: (torch.cov(mu.T).diagonal() >= 0.01).count_nonzero(),
        lambda mu: np.sum(mu.numpy().var(0) > 0.01),
    ],
    checks.manifold_rows: [tiles, tiles_by_rows],
    checks.pixel_draw: [
        bits,
        torch.bernoulli,
        drawn(errors=5.5),
        drawn(shared=0.12),  # 5.4 standard errors
        lambda m: torch.distributions.Bernoulli(m).sample(),
        lambda m: torch.rand(m.shape) <= m,  # booleans
        lambda m: torch.from_numpy((np.random.default_rng().random(m.shape) < m.numpy())
                                   .astype("float32")),
    ],
}  # fmt: skip

# What learners write, spelt as they write it, and the words of the hint it must get.
WRONG = [
    (checks.ring_radius, lambda m: stats.norm.ppf((1 + m) / 2), "usual 1.96"),
    (checks.ring_radius, lambda m: stats.norm.ppf(m), "of one side only"),
    (checks.ring_radius, lambda m: -2 * math.log(1 - m), "is squared"),
    (checks.ring_radius, lambda m: stats.chi2(2).ppf(m), "is squared"),
    (checks.ring_radius, lambda m: math.sqrt(-math.log(1 - m)), "factor is missing"),
    (checks.ring_radius, lambda m: math.sqrt(-2 * math.log(m)), "leaves outside"),
    (checks.ring_radius, lambda m: stats.norm.ppf((1 + m**0.5) / 2),
     "side of a square"),
    (checks.ring_radius, lambda m: math.sqrt(m / math.pi), "as if it were area"),
    (checks.ring_radius, lambda m: radius(m) + 0.01, "values differ"),
    (checks.ring_radius, lambda m: radius(max(m, 0.3)), "values differ"),
    (checks.ring_radius, lambda m: radius(min(m, 0.9)), "values differ"),
    (checks.ring_radius,
     lambda m: np.interp(m, (0.2, 0.95), (radius(0.2), radius(0.95))),
     "values differ"),
    (checks.ring_radius, lambda m: torch.ones(2), "axis did you sum"),
    (checks.ring_radius, lambda m: math.inf, "infinities or NaN"),
    (checks.unit_walk, lambda a, b, t: (1 - t) * a + t * b, "straight line"),
    (checks.unit_walk, lambda a, b, t: torch.lerp(a, b, t), "fell to 0.79"),
    (checks.unit_walk, lambda a, b, t: walk(b, a, t), "runs backwards"),
    (checks.unit_walk, lambda a, b, t: a + t * b, "reach end"),
    (checks.unit_walk, lambda a, b, t: a, "reach end"),
    (checks.unit_walk, spherical, "weights that depend on t alone"),
    (checks.unit_walk,
     lambda a, b, t: walk(a, b, t) + t * (1 - t) * torch.randn_like(a),
     "weights that depend on t alone"),
    (checks.unit_walk, lambda a, b, t: (1 - t) ** 2 * a + t**2 * b, ", not 1"),
    (checks.unit_walk, lambda a, b, t: a if t < 0.3 else b, "jumps"),
    (checks.unit_walk, lambda a, b, t: walk(a, b, round(2 * t) / 2), "jumps"),
    (checks.unit_walk, lambda a, b, t: walk(a, b, t) if t != 0.75 else a + b,
     ", not 1"),
    (checks.unit_walk, moved(walk, over=1.5e-4), ", not 1"),
    (checks.unit_walk, moved(walk, over=-1.5e-4), ", not 1"),
    (checks.unit_walk,
     lambda a, b, t: walk(a, b, t) + 1.5e-4 * math.sin(math.pi * t) * crumb(a),
     "weights that depend on t alone"),
    (checks.unit_walk, stepping(0.56), "jumps"),
    (checks.unit_walk, lambda a, b, t: walk(a, b, t) if t != 33 / 64 else a + b,
     ", not 1"),
    (checks.unit_walk, lambda a, b, t: walk(a, b, t) + 1e-3 * b * (t == 0),
     "reach end"),
    (checks.unit_walk, lambda a, b, t: walk(a, b, t) + 1e-3 * a * (t == 1),
     "reach end"),
    (checks.unit_walk, lambda a, b, t: walk(a, b, t)[0], "that of the argument"),
    (checks.unit_walk, lambda a, b, t: a / t, "infinities or NaN"),
    (checks.unit_walk,
     lambda a, b, t: 1e308 * a.sign() if 0 < t < 1 else walk(a, b, t),
     "weights that depend on t alone"),
    (checks.active_count, lambda mu: (mu.std(0) > 0.01).sum(), "is for the variance"),
    (checks.active_count, lambda mu: (mu.pow(2).mean(0) > 0.01).sum(), "is 0.7 for"),
    (checks.active_count, lambda mu: (mu.mean(0).abs() > 0.01).sum(),
     "at the dimension's average"),
    (checks.active_count, lambda mu: (mu.var(0) < 0.01).sum(), "dead dimensions"),
    (checks.active_count, lambda mu: (mu.var(1) > 0.01).sum(), "axis is wrong"),
    (checks.active_count, lambda mu: mu.var(0) > 0.01, "a yes or no per dimension"),
    (checks.active_count, lambda mu: (mu.var(0) > 0.01).float().mean(), "the share"),
    (checks.active_count, lambda mu: mu.var(0), "the variances"),
    (checks.active_count, lambda mu: mu.shape[1], "values differ"),
    (checks.active_count, lambda mu: 2, "values differ"),
    (checks.active_count, lambda mu: 4, "values differ"),
    (checks.active_count, lambda mu: mu.shape[1] // 2, "values differ"),
    (checks.active_count, lambda mu: (mu.var(0) > 0.0125).sum(), "values differ"),
    (checks.active_count, lambda mu: (mu.var(0) > 0.008).sum(), "values differ"),
    (checks.manifold_rows, lambda d, p: tiles(d, p).flip(0), "Still upside-down"),
    (checks.manifold_rows, lambda d, p: tiles(d, p).flip(1), "to the left"),
    (checks.manifold_rows, lambda d, p: tiles(d, p).flip(0, 1), "Both axes"),
    (checks.manifold_rows, lambda d, p: tiles(d, p).flip(0).mT.transpose(0, 1),
     "axis did you sum"),
    (checks.manifold_rows, lambda d, p: tiles(d, p).flip(0).transpose(0, 1),
     "axes are swapped"),
    (checks.manifold_rows, lambda d, p: tiles(lambda z: d(z.flip(-1)), p),
     "changed places"),
    (checks.manifold_rows,
     lambda d, p: tiles(lambda z: d(z * torch.tensor([1, -1])), p).flip(0),
     "symmetric grid"),
    (checks.manifold_rows, lambda d, p: tiles(d, p).reshape(-1, 4), "axis did you sum"),
    (checks.manifold_rows, lambda d, p: tiles(d, p[:3]), "axis did you sum"),
    (checks.manifold_rows, lambda d, p: tiles(d, p[-4:] - 0.01 * (len(p) < 4)),
     "values differ"),
    (checks.manifold_rows, lambda d, p: tiles(d, p + 0.01), "values differ"),
    (checks.pixel_draw, lambda m: m, "Those are the means"),
    (checks.pixel_draw, lambda m: (m > 0.5).float(), "Too clean"),
    (checks.pixel_draw, torch.round, "Too clean"),
    (checks.pixel_draw, lambda m: m + 0.1 * torch.randn_like(m), "other than 0 and 1"),
    (checks.pixel_draw,
     lambda m: (torch.rand(m.shape, generator=torch.Generator().manual_seed(0)) < m)
     .float(), "exactly the same pixels"),
    (checks.pixel_draw, lambda m: (torch.rand(m.shape[1]) < m).float(),
     "All the images"),
    (checks.pixel_draw, lambda m: (torch.rand_like(m) > m).float(), "the wrong way"),
    (checks.pixel_draw, lambda m: (torch.rand_like(m) < 0.5).float(), "is 0.45 away"),
    (checks.pixel_draw, lambda m: (torch.rand_like(m) < m**2).float(), "away from"),
    (checks.pixel_draw, lambda m: (torch.rand(len(m), 1) < m).float(),
     "light up together"),
    (checks.pixel_draw, lambda m: torch.where(m > 0.9, 1.0, bits(m)), "is 0.05 away"),
    (checks.pixel_draw, drawn(errors=6.5), "away from"),
    (checks.pixel_draw, drawn(errors=-6.5), "away from"),
    (checks.pixel_draw, drawn(shared=0.15), "light up together"),
    (checks.pixel_draw, drawn(shared=-0.15), "light up together"),
    (checks.pixel_draw, lambda m: bits(m)[0], "that of the argument"),
]  # fmt: skip
MISTAKES = {
    checks.ring_radius: checks.RADIUS_MISTAKES,
    checks.active_count: checks.ACTIVE_MISTAKES,
    checks.manifold_rows: checks.TILES_MISTAKES,
}
PRAISE = {
    checks.ring_radius: ("for every mass tried", "para todas as massas testadas"),
    checks.unit_walk: ("squares add up to 1", "quadrados somam 1"),
    checks.active_count: ("The count is right", "A contagem está certa"),
    checks.manifold_rows: ("up is up", "para cima é mesmo para cima"),
    checks.pixel_draw: ("Each pixel is drawn", "Cada pixel é sorteado"),
}
IN_PORTUGUESE = {
    "usual 1.96": "o 1,96 de sempre",
    "of one side only": "de um lado só",
    "is squared": "elevado ao quadrado",
    "factor is missing": "Falta um fator",
    "leaves outside": "deixa do lado de fora",
    "side of a square": "lado de um quadrado",
    "as if it were area": "como se fosse área",
    "straight line": "segmento de reta",
    "fell to 0.79": "caiu para 0,79",
    "runs backwards": "caminho está ao contrário",
    "reach end": "chegar a end",
    "weights that depend on t alone": "pesos que só dependem de t",
    "standard deviation is 0.57, not 1": "desvio padrão é 0,57, e não 1",
    "standard deviation is 1.41, not 1": "desvio padrão é 1,41, e não 1",
    ", not 1": ", e não 1",
    "jumps": "dá um salto",
    "is for the variance": "limiar é da variância",
    "is 0.7 for": "vale 0,7",
    "at the dimension's average": "valor médio da dimensão",
    "dead dimensions": "dimensões mortas",
    "axis is wrong": "eixo está trocado",
    "a yes or no per dimension": "um sim ou um não por dimensão",
    "the share": "a fração das dimensões",
    "the variances": "Essas são as variâncias",
    "Still upside-down": "ainda está de cabeça para baixo",
    "to the left": "para a esquerda",
    "Both axes": "Os dois eixos",
    "axes are swapped": "eixos estão trocados",
    "changed places": "trocaram de lugar",
    "symmetric grid": "grade simétrica",
    "Those are the means": "Essas são as médias",
    "Too clean": "é limpo demais",
    "other than 0 and 1": "não são 0 nem 1",
    "exactly the same pixels": "exatamente os mesmos pixels",
    "All the images": "Todas as imagens",
    "the wrong way": "ao contrário",
    "is 0.45 away": "se afasta 0,45",
    "is 0.05 away": "se afasta 0,05",
    "away from": "se afasta",
    "light up together": "acendem juntos",
}


def test_hints_never_hold_the_answer():
    """No formula stands in what a check may say."""
    said = [e["en"] for key, e in CATALOGUE.items() if key.startswith("latents-")]
    assert not [text for text in said if "sqrt" in text or "flip(" in text]


def test_the_radius_is_the_one_of_scipy():
    for mass in (0.01, 0.2, 0.5, 0.95, 0.999):
        assert checks._radius(mass).item() == pytest.approx(stats.chi(2).ppf(mass))


def test_drawing_leaves_the_readers_random_stream_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    checks.pixel_draw(bits)
    assert torch.equal(torch.get_rng_state(), before)
