"""Checks of lesson 01: PCA, the density of codes, a strawman, a change of variables.

Each compares with an independent implementation: the matrix of inner products between
images, eigenvectors in place of a Cholesky root, moments of the learner's draws, an
inverse matrix with its determinant.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Laplace

from vae_teach.checks.verdicts import (
    Answer,
    Verdict,
    close,
    compare,
    correct,
    values_of,
    wrong,
)

CODES = 40_000  # so many that dividing by N or by N - 1 is the same within rounding
DRAWS = 4_000  # points z that an answer is given the noise for
Decode = Callable[[Tensor], Tensor]


def _kept(x: Tensor, q: int) -> Tensor:
    """Rebuild images from the inner products between them."""
    centred = x - x.mean(0)
    _, vectors = torch.linalg.eigh(centred @ centred.T)  # (N, N)
    return x.mean(0) + vectors[:, -q:] @ (vectors[:, -q:].T @ centred)


def _axes(x: Tensor) -> Tensor:
    """Return the eigenvectors of the covariance, ascending, in columns."""
    return torch.linalg.eigh(torch.cov(x.T))[1]


def _onto(x: Tensor, axes: Tensor) -> Tensor:
    return x @ axes @ axes.T


PCA_MISTAKES: dict[str, Answer] = {
    "autoencoders-pca-uncentred": lambda x, q: _onto(
        x, torch.linalg.svd(x, full_matrices=False)[2][:q].T
    ),
    "autoencoders-pca-no-mean": lambda x, q: _kept(x, q) - x.mean(0),
    "autoencoders-pca-raw": lambda x, q: _onto(x, _axes(x)[:, -q:]),
    "autoencoders-pca-smallest": lambda x, q: (
        x.mean(0) + _onto(x - x.mean(0), _axes(x)[:, :q])
    ),
    "autoencoders-pca-rows": lambda x, q: (
        x.mean(0) + _onto(x - x.mean(0), _axes(x)[-q:].T)
    ),
    "autoencoders-pca-whole": lambda x, q: x,
}


def pca(answer: Answer) -> Verdict:
    """Check ``answer(x, q) -> (N, D)``: images rebuilt from q principal components."""
    stream = torch.Generator().manual_seed(0)
    cases = []
    for count, width, q in ((30, 6, 2), (25, 5, 3)):
        spread = torch.full((width,), 0.05).double()  # far below: random methods agree
        spread[:q] = torch.linspace(2.0, 1.5, q).double()
        mix = torch.linalg.qr(torch.randn(width, width, generator=stream).double())[0]
        noise = torch.randn(count, width, generator=stream).double()
        offset = torch.randn(width, generator=stream).double()
        cases.append((noise * spread @ mix.T + offset, q))
    return compare(answer, _kept, PCA_MISTAKES, cases, right="autoencoders-pca-right")


def _codes() -> tuple[Tensor, Tensor, Tensor]:
    """Return codes (N, 2) with a mean and a covariance far from 0 and I, and these."""
    stream = torch.Generator().manual_seed(1)
    root = torch.tensor([[1.5, 0.0], [0.8, 0.6]]).double()
    noise = torch.randn(CODES, 2, generator=stream).double()
    codes = noise @ root.T + torch.tensor([0.7, -1.1]).double()
    return codes, codes.mean(0), torch.cov(codes.T)


def _gaussian(codes: Tensor, z: Tensor) -> Tensor:
    """Return the log density along the axes of the covariance, one by one."""
    values, vectors = torch.linalg.eigh(torch.cov(codes.T))
    along = (z - codes.mean(0)) @ vectors  # (M, 2)
    terms = along.square() / values + values.log() + math.log(2 * math.pi)
    return -0.5 * terms.sum(1)


def _half_volume(codes: Tensor) -> Tensor:
    return 0.5 * torch.logdet(torch.cov(codes.T))


def _squares(codes: Tensor, z: Tensor, precision: Tensor) -> Tensor:
    apart = z - codes.mean(0)
    return (apart @ precision * apart).sum(1)


def _diagonal(codes: Tensor, z: Tensor) -> Tensor:
    scaled = (z - codes.mean(0)) / codes.std(0)
    logs = codes.std(0).log() + 0.5 * math.log(2 * math.pi)
    return -(0.5 * scaled.square() + logs).sum(1)


def _with_precision(codes: Tensor, z: Tensor, precision: Tensor) -> Tensor:
    right = _squares(codes, z, torch.linalg.inv(torch.cov(codes.T)))
    return _gaussian(codes, z) + 0.5 * (right - _squares(codes, z, precision))


def _transposed(codes: Tensor, z: Tensor) -> Tensor:
    root = torch.linalg.cholesky(torch.cov(codes.T))
    return _with_precision(codes, z, torch.linalg.inv(root.T @ root))


DENSITY_MISTAKES: dict[str, Answer] = {
    "autoencoders-density-volume": lambda c, z: _gaussian(c, z) + _half_volume(c),
    "autoencoders-density-twice": lambda c, z: _gaussian(c, z) - _half_volume(c),
    "autoencoders-density-sign": lambda c, z: _gaussian(c, z) + 2 * _half_volume(c),
    "autoencoders-density-diagonal": _diagonal,
    "autoencoders-density-mean": lambda c, z: _gaussian(c, z + c.mean(0)),
    "autoencoders-density-transposed": _transposed,
    "autoencoders-density-inverse": lambda c, z: _with_precision(c, z, torch.cov(c.T)),
    "autoencoders-density-half": lambda c, z: _with_precision(
        c, z, 2 * torch.linalg.inv(torch.cov(c.T))
    ),
    "autoencoders-density-line": lambda c, z: (
        _gaussian(c, z) + 0.5 * math.log(2 * math.pi)
    ),
    "autoencoders-density-constant": lambda c, z: (
        _gaussian(c, z) + math.log(2 * math.pi)
    ),
}


def code_density(answer: Answer) -> Verdict:
    """Check ``answer(codes, z) -> (M,)``: the Gaussian fitted to codes (N, 2), at z."""
    codes, mean, _ = _codes()
    stream = torch.Generator().manual_seed(2)
    z = mean + 1.3 * torch.randn(7, 2, generator=stream).double()
    right = "autoencoders-density-right"
    return compare(answer, _gaussian, DENSITY_MISTAKES, [(codes, z)], right)


def fair_draw(answer: Answer) -> Verdict:
    """Check ``answer(decode, codes, eps) -> (M, D)``: draws from the Gaussian of codes.

    ``eps`` (M, 2) has mean zero and covariance I exactly, and any root of the
    covariance will do: so mean and covariance of the points that were decoded tell.
    """
    codes, mean, covariance = _codes()
    stream = torch.Generator().manual_seed(3)
    eps = torch.randn(DRAWS, 2, generator=stream).double()
    eps = eps - eps.mean(0)
    eps = torch.linalg.solve(torch.linalg.cholesky(torch.cov(eps.T)), eps.T).T

    def decode(z: Tensor) -> Tensor:  # pixels that tell where they come from
        z1, z2 = torch.as_tensor(z).double().unbind(-1)
        return torch.stack((z1 + z2, z1 - z2, torch.sin(z1)), -1)  # (M, 3)

    cases = [(decode, codes, eps)] * 2 + [(decode, codes, eps.flip(0))]
    images = values_of(answer, cases, like=decode(eps))
    if isinstance(images, Verdict):
        return images
    if not torch.equal(images[0], images[1]):
        return wrong("autoencoders-draw-own")
    if not close(images[2], images[0].flip(0)):
        return wrong("autoencoders-draw-unused")
    z = torch.stack((images[0][:, :2].sum(1), -images[0][:, :2].diff(dim=1)[:, 0]), 1)
    return _judge_draws(images[0], z / 2, eps, (mean, covariance), decode)


def _judge_draws(
    images: Tensor,
    z: Tensor,
    eps: Tensor,
    moments: tuple[Tensor, Tensor],
    decode: Decode,
) -> Verdict:
    mean, covariance = moments
    root = torch.linalg.cholesky(covariance)
    if close(z, eps):
        return wrong("autoencoders-draw-raw")
    if not close(images, decode(z)):
        return wrong("autoencoders-draw-decode")
    found = torch.cov(z.T)
    named = {  # covariances of usual wrong draws
        "autoencoders-draw-diagonal": covariance.diagonal().diag(),
        "autoencoders-draw-square": covariance @ covariance,
        "autoencoders-draw-transposed": root.T @ root,
        "autoencoders-draw-spread": torch.eye(2).double(),
    }
    for key, other in named.items():
        if close(found, other):
            return wrong(key)
    if not close(found, covariance):
        gap = (found - covariance).abs().max().item()
        return wrong("autoencoders-draw-covariance", gap=gap)
    if not close(z.mean(0), mean):
        return wrong("autoencoders-draw-mean")
    return correct("autoencoders-draw-right")


def _log_density(u: Tensor) -> Tensor:
    """Return a log density that is no Gaussian: (..., 2) to (...)."""
    first, second = torch.as_tensor(u).unbind(-1)
    logistic = -second - 2 * torch.nn.functional.softplus(-second)
    return Laplace(0.0, 1.0).log_prob(first) + logistic


Rule = Callable[[Tensor, Tensor, Tensor], Tensor]  # (codes, mean, root) to a tensor


def _moved(points: Rule, times: float) -> Answer:
    """Return a rule: the density at some points, with so many times log det."""

    def answer(density: Decode, codes: Tensor, mean: Tensor, root: Tensor) -> Tensor:
        u = points(codes, mean, root)
        return density(u) + times * torch.linalg.slogdet(torch.linalg.inv(root))[1]

    return answer


def _back(codes: Tensor, mean: Tensor, root: Tensor) -> Tensor:
    return (codes - mean) @ torch.linalg.inv(root).T


MOVED_MISTAKES: dict[str, Answer] = {
    "autoencoders-moved-jacobian": _moved(_back, 0.0),
    "autoencoders-moved-sign": _moved(_back, -1.0),
    "autoencoders-moved-twice": _moved(_back, 2.0),
    "autoencoders-moved-half": _moved(_back, 0.5),
    "autoencoders-moved-forward": _moved(lambda c, m, r: (c - m) @ r.T, 1.0),
    "autoencoders-moved-transposed": _moved(
        lambda c, m, r: (c - m) @ torch.linalg.inv(r), 1.0
    ),
    "autoencoders-moved-mean": _moved(lambda c, m, r: _back(c, 0 * m, r), 1.0),
    "autoencoders-moved-raw": _moved(lambda c, m, r: c, 1.0),
}


def moved_density(answer: Answer) -> Verdict:
    """Check ``answer(log_density, codes, mean, root) -> (M,)``: of codes = mean + L u.

    ``log_density`` is that of u; ``root`` (2, 2) is lower triangular, its diagonal
    above zero.
    """
    stream = torch.Generator().manual_seed(4)
    cases = []
    for below, first, second in ((0.9, 1.6, 0.7), (-0.6, 0.8, 2.1)):
        root = torch.tensor([[first, 0.0], [below, second]]).double()
        codes, mean = torch.randn(6, 2, generator=stream).double().split((5, 1))
        cases.append((_log_density, codes, mean[0] + 0.5, root))
    right = "autoencoders-moved-right"
    return compare(answer, _moved(_back, 1.0), MOVED_MISTAKES, cases, right)
