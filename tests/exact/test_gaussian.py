"""The best Gaussian, against closed forms, other Gaussians and the evidence."""

import math

import numpy as np
import pytest
import torch
from planes import (
    PRIOR,
    condition,
    evidence,
    joint_on,
    line,
    lit,
    points_of,
    random_bits,
    random_vae,
    rulers,
    two_modes,
)
from torch.distributions import Normal, kl_divergence

from vae_teach import exact
from vae_teach.exact import gaussian


def elbo_of(model, image, mu, spread, grid=161, extent=5.0):
    """The ELBO of a Gaussian q for one image, (D,), by the sum over a grid."""
    side = torch.linspace(-extent, extent, grid, dtype=image.dtype)
    z = torch.stack(torch.meshgrid(side, side, indexing="ij"), -1).reshape(-1, 2)
    q = Normal(mu, spread)
    share = q.log_prob(z).sum(1).exp() * (2 * extent / (grid - 1)) ** 2
    likelihood = joint_on(model, image[None], z)[0] - PRIOR.log_prob(z).sum(1)
    return (share @ likelihood - kl_divergence(q, PRIOR).sum()).item()


def test_best_gaussian_is_the_mean_field_optimum():
    """Same mean, and the inverse of the precisions (Bishop 2006, 10.1.2)."""
    model = line(variance=2.0)
    x = points_of(model, 2)
    best = exact.best_gaussian(model, x, grid=161, extent=6)
    for i, image in enumerate(x.numpy()):
        mean, covariance = condition(model, image)
        assert abs(covariance[0, 1]) > 0.015
        precisions = np.linalg.inv(covariance).diagonal()
        assert best.mu[i].tolist() == pytest.approx(mean, abs=1e-4)
        assert best.logvar[i].exp().tolist() == pytest.approx(1 / precisions, abs=1e-4)
        # What is missing is KL(q || posterior) between two Gaussians.
        missing = 0.5 * (np.log(precisions).sum() + np.linalg.slogdet(covariance)[1])
        log_p = evidence(model, image)
        assert best.elbo[i].item() == pytest.approx(log_p - missing, abs=1e-4)


def test_best_gaussian_lies_between_other_gaussians_and_the_evidence():
    model, x = random_vae(), random_bits(2, seed=4)
    best = exact.best_gaussian(model, x, grid=161)
    log_p = exact.log_likelihood(model, x)
    mu, logvar = model.encode(x)
    torch.manual_seed(0)
    for i, image in enumerate(x):
        top = best.elbo[i].item()
        assert top <= log_p[i].item()
        spread = (best.logvar[i] / 2).exp()
        assert top == pytest.approx(elbo_of(model, image, best.mu[i], spread), abs=1e-5)
        assert top >= elbo_of(model, image, mu[i], (logvar[i] / 2).exp()) - 1e-9
        for size in torch.logspace(-3, 0, 200):
            moved = best.mu[i] + size * torch.randn(2).double()
            other = spread * (size * torch.randn(2)).exp()
            if moved.abs().max() < 3 and other.min() > 0.15 and other.max() < 1.5:
                assert top >= elbo_of(model, image, moved, other) - 1e-6


def test_best_gaussian_takes_one_of_two_modes():
    model, x = two_modes()
    best = exact.best_gaussian(model, x, grid=161)
    assert (best.mu[:, 0].abs() - torch.tensor([2.5, 3.0])).abs().max() < 0.5
    assert (best.logvar[:, 0] < -2).all()
    missing = exact.log_likelihood(model, x) - best.elbo  # KL to the two is log 2
    assert (missing > math.log(2) - 1e-6).all()
    assert (missing < math.log(2) + 0.1).all()


def test_first_guesses_are_the_moments_and_the_peak():
    model = line(variance=2.0)
    x = points_of(model, 1)
    mean, covariance = condition(model, x[0].numpy())
    density = exact.posterior(model, x, grid=281, extent=7)[0].flatten()
    z = torch.cartesian_prod(*[torch.linspace(-7, 7, 281).double()] * 2)
    by_moments, by_peak = (guess.numpy() for guess in gaussian._moments(density, z))
    spread = np.log(covariance.diagonal())
    assert np.allclose(by_moments, [*mean, *spread], atol=1e-6)
    assert np.allclose(by_peak[:2], mean, atol=0.026)  # half the spacing
    # The round Gaussian as high as this one, whose peak is 1 / (2 pi sqrt(det)).
    height = np.linalg.slogdet(covariance)[1] / 2
    assert np.allclose(by_peak[2:], height, atol=0.01)


class Mixture(torch.nn.Module):
    """p(x, z) is a sum of Gaussians far apart: (place, width, mass) of each.

    A q that fits one of them has the ELBO log mass, so the best has the largest mass.
    """

    def __init__(self, parts, start):
        super().__init__()
        self.parts, self.start = parts, torch.tensor(start, dtype=torch.float64)

    def encode(self, x):
        return self.start[None, :2], self.start[None, 2:]

    def log_conditional(self, x, z):
        parts = [
            math.log(mass) + Normal(torch.tensor(place).to(z), width).log_prob(z).sum(1)
            for place, width, mass in self.parts
        ]
        joint = torch.stack(parts).logsumexp(0)
        return joint - PRIOR.log_prob(z).sum(1) + 0 * x.sum(-1)


@pytest.mark.parametrize(
    ("parts", "start"),
    [
        # the encoder's q lies at the largest mass, the peak and the mean elsewhere
        (
            [([-4, 0], 0.4, 0.4), ([1.5, 0], 0.5, 0.3), ([4.5, 0], 0.1, 0.3)],
            [-4, 0, -1.8, -1.8],
        ),
        # the peak lies there, the encoder's q and the mean elsewhere
        (
            [([-3, 2], 0.15, 0.4), ([3, -3], 0.5, 0.3), ([4, 3], 0.5, 0.3)],
            [3, -3, -1.4, -1.4],
        ),
        # the mean lies there, the encoder's q and the peak elsewhere
        (
            [([0.5, 0], 0.6, 0.6), ([-4, 3], 0.1, 0.2), ([4, 3], 0.3, 0.2)],
            [4, 3, -2.4, -2.4],
        ),
    ],
    ids=["encoder", "peak", "moments"],
)
def test_best_gaussian_starts_where_the_mass_may_be(parts, start):
    model, x = Mixture(parts, start), torch.zeros(1, 1, dtype=torch.float64)
    best = exact.best_gaussian(model, x, grid=201, extent=6)
    place, width, mass = max(parts, key=lambda part: part[2])
    assert best.elbo.item() == pytest.approx(math.log(mass), abs=1e-3)
    assert best.mu[0].tolist() == pytest.approx(place, abs=0.02)
    assert (best.logvar[0] / 2).exp().tolist() == pytest.approx([width] * 2, rel=0.02)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sharpness", [1e2, 1e4])
def test_the_best_gaussian_of_a_sharp_decoder_is_told_or_a_bound(sharpness, dtype):
    """Its posterior is as narrow as the distance between two thresholds, or less."""
    thresholds = torch.arange(-1.5, 1.5, 0.3 / sharpness**0.5, dtype=torch.float64)
    model = rulers(sharpness, thresholds).to(dtype)
    x = lit(thresholds, [[0.317, -0.713]]).to(dtype)
    if sharpness > 1e3:
        with pytest.raises(ValueError, match=r"too coarse for .*raise grid"):
            exact.best_gaussian(model, x, grid=300, extent=2)
    else:
        best = exact.best_gaussian(model, x, grid=300, extent=2)
        truth = exact.log_likelihood(model, x, grid=1000, extent=2)
        assert truth - 0.5 < best.elbo <= truth + 0.01
