"""Probabilistic PCA, against SciPy, scikit-learn and the quadrature."""

import math

import numpy as np
import pytest
import torch
from planes import (
    condition,
    evidence,
    line,
    points_of,
)
from sklearn.decomposition import PCA

from vae_teach import exact
from vae_teach.bounds import importance_weighted


def test_linear_log_likelihood_is_that_of_scipy():
    model = line(pixels=7, latents=3)
    x = points_of(model, 6)
    oracle = [evidence(model, image) for image in x.numpy()]
    assert model.log_likelihood(x).tolist() == pytest.approx(oracle, abs=1e-10)


def test_linear_posterior_is_the_conditioned_joint():
    model = line(pixels=7, latents=3)
    x = points_of(model, 4)
    means, covariance = model.posterior(x)
    for image, mean in zip(x.numpy(), means, strict=True):
        oracle_mean, oracle_covariance = condition(model, image)
        assert np.allclose(mean, oracle_mean, atol=1e-10)
        assert np.allclose(covariance, oracle_covariance, atol=1e-10)


def test_linear_encoder_has_the_inverse_precisions():
    model = line(pixels=7, latents=3)
    x = points_of(model, 4)
    mu, logvar = model.encode(x)
    assert mu.shape == logvar.shape == (4, 3)
    for image, mean, spread in zip(x.numpy(), mu, logvar, strict=True):
        oracle, covariance = condition(model, image)
        assert np.allclose(mean, oracle, atol=1e-10)
        precisions = np.linalg.inv(covariance).diagonal()
        assert np.allclose(spread.exp(), 1 / precisions, atol=1e-10)


def test_quadrature_is_the_closed_form():
    model = line(pixels=7)
    x = points_of(model, 20)
    ours = exact.log_likelihood(model, x, extent=6)
    oracle = [evidence(model, image) for image in x.numpy()]
    assert ours.tolist() == pytest.approx(oracle, abs=1e-6)


def test_an_unlikely_image_among_likely_ones_has_its_closed_form():
    """Eighty nats below the others, off the plane of W: no z explains it."""
    model = line(pixels=7)
    x = points_of(model, 3)
    x[1] += 9 * torch.linalg.qr(model.weight, mode="complete")[0][:, -1]
    oracle = [evidence(model, image) for image in x.numpy()]
    assert oracle[1] < min(oracle[0], oracle[2]) - 50
    ours = exact.log_likelihood(model, x, extent=6)
    assert ours.tolist() == pytest.approx(oracle, abs=1e-6)


def test_importance_weighting_reaches_the_closed_form():
    model = line(pixels=7, latents=3)
    x = points_of(model, 5)
    torch.manual_seed(0)
    ours = importance_weighted(model, x, k=10_000)
    oracle = [evidence(model, image) for image in x.numpy()]
    assert ours.tolist() == pytest.approx(oracle, abs=0.03)


def test_linear_draws_have_the_moments_asked_for():
    model = line()
    mu = torch.tensor([1.0, -2.0]).expand(20_000, 2)
    logvar = torch.tensor([0.5, -1.0]).expand(20_000, 2)
    torch.manual_seed(0)
    z = model.reparameterize(mu, logvar)
    assert z.mean(0).tolist() == pytest.approx([1, -2], abs=0.04)
    assert z.var(0).log().tolist() == pytest.approx([0.5, -1], abs=0.05)


@pytest.mark.parametrize("pixels", [12, 40])
def test_fit_of_data_without_a_direction_has_no_nan(pixels):
    """The mean of equal eigenvalues may round above them: W is 0, no root of -1e-17."""
    corners = torch.cat((torch.eye(pixels), -torch.eye(pixels))).double()
    for size in torch.linspace(0.1, 3, 60).double():
        model = exact.LinearGaussian.fit(size * corners, 1)
        assert model.weight.abs().max() < 1e-7
        assert model.variance == pytest.approx(size.item() ** 2 / pixels)


@pytest.mark.parametrize("latents", [1, 2, 4])
def test_fit_is_that_of_scikit_learn(latents):
    x = points_of(line(pixels=6, latents=3), 200)
    ours = exact.LinearGaussian.fit(x, latents)
    oracle = PCA(latents).fit(x.numpy())
    assert ours.bias.tolist() == pytest.approx(oracle.mean_.tolist())
    # PCA divides by N - 1 where the likelihood asks for N.
    assert ours.variance == pytest.approx(oracle.noise_variance_ * 199 / 200)
    covariance = (ours.weight @ ours.weight.T).numpy() + ours.variance * np.eye(6)
    assert np.allclose(covariance, oracle.get_covariance() * 199 / 200, atol=1e-10)
    assert ours.log_likelihood(x).mean() >= oracle.score(x.numpy())


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: exact.LinearGaussian(torch.ones(3, 2), torch.ones(4), 1.0), "bias"),
        (lambda: exact.LinearGaussian(torch.ones(3, 2), torch.ones(3), 0.0),
         "variance: got 0"),
        (lambda: exact.LinearGaussian(torch.ones(3, 2), torch.ones(3), -1.0),
         "variance: got -1"),
        (lambda: exact.LinearGaussian(torch.ones(3, 2), torch.ones(3), math.nan),
         "variance: got nan"),
        (lambda: exact.LinearGaussian(torch.ones(3, 2), torch.ones(3), math.inf),
         "variance: got inf"),
        (lambda: exact.LinearGaussian(torch.ones(3), torch.ones(3), 1.0), "weight"),
        (lambda: exact.LinearGaussian.fit(torch.ones(9, 3), 2), "variance: got 0"),
        (lambda: exact.LinearGaussian.fit(torch.rand(9, 3), 3), "variance: got nan"),
        (lambda: exact.LinearGaussian.fit(torch.rand(10, 30), 20),
         r"got 0 .*varies along 9 directions, and latent_dim=20 leaves none"),
        (lambda: exact.LinearGaussian.fit(torch.rand(10, 30), 9), "latent_dim=9"),
        (lambda: exact.LinearGaussian.fit(torch.rand(9, 3), 0), "latent_dim: got 0"),
        (lambda: exact.LinearGaussian.fit(torch.rand(9), 2), "x: got shape"),
        (lambda: exact.LinearGaussian.fit(torch.rand(9, 3) / 0, 2), "x: .*finite"),
    ],
)  # fmt: skip
def test_bad_lines_get_one_sentence(make, named):
    with pytest.raises(ValueError, match=named):
        make()


def test_a_line_of_integers_is_told():
    with pytest.raises(TypeError, match=r"weight: got torch\.int64"):
        exact.LinearGaussian(torch.ones(3, 2).long(), torch.ones(3), 1.0)


def test_the_fewest_images_that_determine_a_line():
    assert exact.LinearGaussian.fit(torch.rand(10, 30), 8).variance > 0
