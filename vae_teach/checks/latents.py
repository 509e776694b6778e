"""Checks of lesson 05: rings of mass, walks, active latents, tiles, drawn pixels.

Each compares with an independent implementation: a cumulative distribution inverted by
bisection, weights found by least squares, a loop over single tiles, frequencies of the
learner's own draws.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Normal

from vae_teach.checks.verdicts import (
    Answer,
    Verdict,
    close,
    compare,
    correct,
    values_of,
    wrong,
)

ACTIVE = 0.01  # variance of the mean, over the images, from which a latent is in use
NEAR = 1e-4  # of weights and ends of a walk, which are exact up to rounding
STOPS, LEAP = 64, 0.5  # steps of a walk, and more than its weights may change in one
DRAWS = 2_000  # images that an answer is asked to draw
FAR = 6  # standard errors by which a frequency or a correlation may differ
Decode = Callable[[Tensor], Tensor]


def _standard() -> Normal:
    return Normal(torch.tensor(0.0).double(), torch.tensor(1.0).double())


def _radius(mass: float) -> Tensor:
    """Invert the mass of a disc, the regularized gamma function, by bisection."""
    low, high = torch.tensor([0.0, 20.0]).double()
    one = torch.ones_like(low)
    for _ in range(60):
        middle = (low + high) / 2
        inside = torch.special.gammainc(one, middle.square() / 2)
        low, high = (middle, high) if inside < mass else (low, middle)
    return low


RADIUS_MISTAKES: dict[str, Answer] = {
    "latents-radius-line": lambda m: _standard().icdf(torch.tensor((1 + m) / 2)),
    "latents-radius-one-side": lambda m: _standard().icdf(torch.tensor(m)),
    "latents-radius-squared": lambda m: _radius(m).square(),
    "latents-radius-half": lambda m: _radius(m) / 2**0.5,
    "latents-radius-outside": lambda m: _radius(1 - m),
    "latents-radius-square": lambda m: _standard().icdf(torch.tensor((1 + m**0.5) / 2)),
    "latents-radius-area": lambda m: torch.tensor(m / torch.pi).double().sqrt(),
}


def ring_radius(answer: Answer) -> Verdict:
    """Check ``answer(mass) -> float``: the radius that holds that mass of the prior."""
    cases, right = [(0.2,), (0.5,), (0.95,)], "latents-radius-right"
    return compare(answer, _radius, RADIUS_MISTAKES, cases, right, number=True)


def unit_walk(answer: Answer) -> Verdict:
    """Check ``answer(start, end, t) -> (S, L)``: a walk that keeps the prior's spread.

    Any two weights will do that depend on t alone, start at (1, 0), end at (0, 1) and
    have squares that add up to 1: so a mix of two independent draws of N(0, I) is
    N(0, I) all along the walk.
    """
    stream = torch.Generator().manual_seed(0)
    start, end = torch.randn(2, 5, 4, generator=stream).double()  # (S, L) each
    cases = [(start, end, t / STOPS) for t in range(STOPS + 1)]
    points = values_of(answer, cases, like=start)
    if isinstance(points, Verdict):
        return points
    return _judge_walk(points, start, end)


def _judge_walk(points: list[Tensor], start: Tensor, end: Tensor) -> Verdict:
    first, last, quarter = points[0], points[-1], points[STOPS // 4]
    if close(first, end) and close(last, start):
        return wrong("latents-walk-reversed")
    if not (close(first, start) and close(last, end)):
        return wrong("latents-walk-ends")
    path = []
    for mixed in (quarter, *points):  # a hint about the spread tells that at a quarter
        weights, off = _weights(mixed, start, end)
        if not off <= NEAR:  # so that NaN does not pass
            return wrong("latents-walk-not-mixed")
        if abs(weights.sum() - 1) < NEAR and weights.min() > NEAR:
            return wrong("latents-walk-straight", spread=weights.norm().item())
        if abs(weights.norm() - 1) > NEAR:
            return wrong("latents-walk-spread", spread=weights.norm().item())
        path.append(weights)
    if torch.stack(path[1:]).diff(dim=0).norm(dim=1).max() > LEAP:
        return wrong("latents-walk-jump")
    return correct("latents-walk-right")


def _weights(mixed: Tensor, start: Tensor, end: Tensor) -> tuple[Tensor, float]:
    """Return the two weights that explain a mix, and by how much they do not."""
    basis = torch.stack((start.flatten(), end.flatten()), 1)  # (S * L, 2)
    weights = torch.linalg.lstsq(basis, mixed.flatten()).solution  # (2,)
    return weights, (basis @ weights - mixed.flatten()).abs().max().item()


def _active(mu: Tensor) -> Tensor:
    """Count from second moments, where an answer is likely to call ``var``."""
    centred = mu.square().mean(0) - mu.mean(0).square()  # (L,)
    return (centred > ACTIVE).double().sum()


ACTIVE_MISTAKES: dict[str, Answer] = {
    "latents-active-std": lambda mu: (mu.std(0) > ACTIVE).sum(),
    "latents-active-square": lambda mu: (mu.square().mean(0) > ACTIVE).sum(),
    "latents-active-mean": lambda mu: (mu.mean(0).abs() > ACTIVE).sum(),
    "latents-active-dead": lambda mu: (mu.var(0) <= ACTIVE).sum(),
    "latents-active-images": lambda mu: (mu.var(1) > ACTIVE).sum(),
    "latents-active-mask": lambda mu: mu.var(0) > ACTIVE,
    "latents-active-share": lambda mu: (mu.var(0) > ACTIVE).double().mean(),
    "latents-active-variances": lambda mu: mu.var(0),
}


def active_count(answer: Answer) -> Verdict:
    """Check ``answer(mu) -> int``: latents whose mean (N, L) varies by over 0.01."""
    stream = torch.Generator().manual_seed(1)
    cases = []
    for spreads, offsets in (
        # alive, just alive, not quite alive, two dead with an offset
        ((1.0, 0.11, 0.09, 0.001, 0.001), (0.2, 0.0, 0.0, 0.7, -0.5)),
        ((0.8, 0.09, 0.3, 0.5, 0.02, 0.9), (0.4, 0.0, -0.6, 0.0, 0.5, 0.0)),
    ):
        noise = torch.randn(400, len(spreads), generator=stream).double()
        noise = (noise - noise.mean(0)) / noise.std(0)
        cases.append((noise * torch.tensor(spreads) + torch.tensor(offsets),))
    right = "latents-active-right"
    return compare(answer, _active, ACTIVE_MISTAKES, cases, right, number=True)


def _tiles(decode: Decode, points: Tensor) -> Tensor:
    """Decode tile by tile: row 0 on top, z1 to the right, z2 upwards."""
    n = len(points)
    tiles = [
        decode(torch.stack((points[column], points[n - 1 - row]))[None])[0]
        for row in range(n)
        for column in range(n)
    ]
    return torch.stack(tiles).reshape(n, n, -1)


TILES_MISTAKES: dict[str, Answer] = {
    "latents-tiles-upside-down": lambda d, p: _tiles(d, p).flip(0),
    "latents-tiles-mirrored": lambda d, p: _tiles(d, p).flip(1),
    "latents-tiles-turned": lambda d, p: _tiles(d, p).flip(0, 1),
    "latents-tiles-swapped": lambda d, p: _tiles(d, p).flip(0).transpose(0, 1),
    "latents-tiles-swapped-up": lambda d, p: _tiles(lambda z: d(z.flip(-1)), p),
    "latents-tiles-negated": lambda d, p: _tiles(
        lambda z: d(torch.stack((z[:, 0], -z[:, 1]), 1)), p
    ).flip(0),
}


def manifold_rows(answer: Answer) -> Verdict:
    """Check ``answer(decode, points) -> (n, n, D)``: tiles of a plane, up being up.

    ``decode`` maps (B, 2) to (B, D); ``points`` (n,) ascend, along both axes.
    """

    def decode(z: Tensor) -> Tensor:  # pixels that tell where they come from
        z1, z2 = z.double().unbind(-1)
        return torch.stack((z1, z2, torch.sin(2 * z1 + z2), z1 * z2), -1)  # (B, 4)

    cases = [
        (decode, torch.tensor([-1.2, 0.3, 0.9]).double()),
        (decode, torch.tensor([-0.7, -0.1, 1.1, 2.0]).double()),
    ]
    return compare(answer, _tiles, TILES_MISTAKES, cases, right="latents-tiles-right")


def pixel_draw(answer: Answer) -> Verdict:
    """Check ``answer(means) -> (B, D)``: pixels drawn, each with its own probability.

    Judged by what 2,000 draws look like; the caller's random stream does not move.
    """
    row = torch.tensor([0.08, 0.3, 0.45, 0.6, 0.75, 0.95])
    means = row.expand(DRAWS, -1)  # (B, D)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        draws = values_of(answer, [(means,), (means,)], like=means)
    if isinstance(draws, Verdict):
        return draws
    return _judge_draws(draws[0], draws[1], means.double())


def _judge_draws(x: Tensor, again: Tensor, means: Tensor) -> Verdict:
    if close(x, means):
        return wrong("latents-bits-means")
    if torch.equal(x, means.round()):
        return wrong("latents-bits-threshold")
    if not ((x == 0) | (x == 1)).all():
        return wrong("latents-bits-values")
    if torch.equal(x, again):
        return wrong("latents-bits-frozen")
    if torch.equal(x, x[:1].expand_as(x)):
        return wrong("latents-bits-batch")
    frequency, mean = x.mean(0), means[0]  # (D,) each
    error = (mean * (1 - mean) / len(x)).sqrt()  # (D,) standard error of a frequency
    if ((frequency - (1 - mean)).abs() < FAR * error).all():
        return wrong("latents-bits-inverted")
    gaps = (frequency - mean).abs()  # (D,)
    if (gaps > FAR * error).any():
        return wrong("latents-bits-frequency", gap=gaps.max().item())
    together = torch.corrcoef(x.T).fill_diagonal_(0)  # (D, D)
    if together.abs().max() > FAR / len(x) ** 0.5:
        return wrong("latents-bits-shared")
    return correct("latents-bits-right")
