"""Lesson 05's checks accept right answers however written, and know the wrong ones."""

import math

import checking
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


def bits(means):
    return (torch.rand_like(means) < means).float()


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
    (checks.ring_radius, lambda m: stats.norm.ppf((1 + m**0.5) / 2), "a square"),
    (checks.ring_radius, lambda m: math.sqrt(m / math.pi), "as if it were area"),
    (checks.ring_radius, lambda m: radius(m) + 0.01, "values differ"),
    (checks.ring_radius, lambda m: torch.ones(2), "shape returned"),
    (checks.ring_radius, lambda m: math.inf, "infinities or NaN"),
    (checks.unit_walk, lambda a, b, t: (1 - t) * a + t * b, "straight line"),
    (checks.unit_walk, lambda a, b, t: torch.lerp(a, b, t), "fell to 0.79"),
    (checks.unit_walk, lambda a, b, t: walk(b, a, t), "runs backwards"),
    (checks.unit_walk, lambda a, b, t: a + t * b, "reach end"),
    (checks.unit_walk, lambda a, b, t: a, "reach end"),
    (checks.unit_walk, spherical, "weights that depend on t alone"),
    (checks.unit_walk,
     lambda a, b, t: walk(a, b, t) + t * (1 - t) * torch.randn_like(a), "noisy"),
    (checks.unit_walk, lambda a, b, t: (1 - t) ** 2 * a + t**2 * b, "not 1"),
    (checks.unit_walk, lambda a, b, t: a if t < 0.3 else b, "jumps"),
    (checks.unit_walk, lambda a, b, t: walk(a, b, round(2 * t) / 2), "jumps"),
    (checks.unit_walk, lambda a, b, t: walk(a, b, t) if t != 0.75 else a + b, "not 1"),
    (checks.unit_walk, lambda a, b, t: walk(a, b, t)[0], "shape returned"),
    (checks.unit_walk, lambda a, b, t: a / t, "infinities or NaN"),
    (checks.unit_walk,
     lambda a, b, t: 1e308 * a.sign() if 0 < t < 1 else walk(a, b, t), "on t alone"),
    (checks.active_count, lambda mu: (mu.std(0) > 0.01).sum(), "is for the variance"),
    (checks.active_count, lambda mu: (mu.pow(2).mean(0) > 0.01).sum(), "is 0.7 for"),
    (checks.active_count, lambda mu: (mu.mean(0).abs() > 0.01).sum(), "average"),
    (checks.active_count, lambda mu: (mu.var(0) < 0.01).sum(), "dead dimensions"),
    (checks.active_count, lambda mu: (mu.var(1) > 0.01).sum(), "axis is wrong"),
    (checks.active_count, lambda mu: mu.var(0) > 0.01, "a yes or no per dimension"),
    (checks.active_count, lambda mu: (mu.var(0) > 0.01).float().mean(), "the share"),
    (checks.active_count, lambda mu: mu.var(0), "the variances"),
    (checks.active_count, lambda mu: mu.shape[1], "values differ"),
    (checks.manifold_rows, lambda d, p: tiles(d, p).flip(0), "Still upside-down"),
    (checks.manifold_rows, lambda d, p: tiles(d, p).flip(1), "to the left"),
    (checks.manifold_rows, lambda d, p: tiles(d, p).flip(0, 1), "Both axes"),
    (checks.manifold_rows, lambda d, p: tiles(d, p).flip(0).mT.transpose(0, 1),
     "shape returned"),
    (checks.manifold_rows, lambda d, p: tiles(d, p).flip(0).transpose(0, 1),
     "axes are swapped"),
    (checks.manifold_rows, lambda d, p: tiles(lambda z: d(z.flip(-1)), p),
     "changed places"),
    (checks.manifold_rows,
     lambda d, p: tiles(lambda z: d(z * torch.tensor([1, -1])), p).flip(0),
     "symmetric grid"),
    (checks.manifold_rows, lambda d, p: tiles(d, p).reshape(-1, 4), "shape returned"),
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
    (checks.pixel_draw, lambda m: bits(m)[0], "shape returned"),
]  # fmt: skip
MISTAKES = {
    checks.ring_radius: checks.RADIUS_MISTAKES,
    checks.active_count: checks.ACTIVE_MISTAKES,
    checks.manifold_rows: checks.TILES_MISTAKES,
}

test_right_answers_are_right = checking.accepts(RIGHT)
test_wrong_answers_get_their_hint = checking.rejects(WRONG)
test_other_makes_are_right_too = checking.accepts_other_makes(RIGHT)
test_wrong_answers_in_place_are_wrong = checking.is_not_spoilt(WRONG)
test_the_unusable_is_never_right = checking.refuses_the_unusable(RIGHT)
test_no_answer_ever_raises = checking.survives(RIGHT)
test_hints_come_in_portuguese_too = checking.speaks_portuguese(RIGHT, WRONG)
test_every_known_mistake_has_words = checking.has_words(MISTAKES)


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
