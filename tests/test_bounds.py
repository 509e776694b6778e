"""Bounds against log p(x) by SciPy quadrature, on a model small enough for it."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats

from vae_teach.bounds import elbo, importance_weighted
from vae_teach.nets import VAE


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(3)
    model = VAE(input_dim=6, hidden_dim=8, latent_dim=1).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)  # so that the latent matters
    return model


@pytest.fixture(scope="module")
def x():
    torch.manual_seed(0)
    return (torch.rand(4, 6) < 0.5).double()


def log_likelihood(model, image, z):
    """log p(x|z) in NumPy, from the weights alone."""
    w1, b1 = (p.detach().numpy() for p in model.decoder_hidden.parameters())
    w2, b2 = (p.detach().numpy() for p in model.decoder_logits.parameters())
    logits = np.maximum(w1[:, 0] * z + b1, 0) @ w2.T + b2
    return (image * logits - special.softplus(logits)).sum()


def log_evidence(model, image):
    def joint(z):
        return math.exp(log_likelihood(model, image, z)) * stats.norm.pdf(z)

    return math.log(integrate.quad(joint, -9, 9, limit=200)[0])


def exact_elbo(model, image):
    mu, logvar = (v.item() for v in model.encode(torch.from_numpy(image)[None]))
    q = stats.norm(mu, math.exp(logvar / 2))

    def integrand(z):
        inside = log_likelihood(model, image, z) + stats.norm.logpdf(z) - q.logpdf(z)
        return q.pdf(z) * inside

    width = 10 * q.std()
    return integrate.quad(integrand, mu - width, mu + width, limit=200)[0]


def test_elbo_agrees_with_quadrature(model, x):
    torch.manual_seed(0)
    draws = torch.stack([elbo(model, x).elbo for _ in range(4000)])  # (S, B)
    error = draws.std(0) / math.sqrt(len(draws))
    for image, mean, se in zip(x.numpy(), draws.mean(0), error, strict=True):
        assert abs(mean.item() - exact_elbo(model, image)) < 4 * se.item()


def test_elbo_lies_below_the_evidence(model, x):
    for image in x.numpy():
        assert exact_elbo(model, image) < log_evidence(model, image)


def test_elbo_is_reconstruction_minus_kl(model, x):
    bound = elbo(model, x, samples=3)
    assert all(part.shape == (4,) for part in bound)
    assert torch.equal(bound.elbo, bound.reconstruction - bound.kl)


def test_more_samples_shrink_the_noise(model, x):
    torch.manual_seed(0)
    one = torch.stack([elbo(model, x).elbo for _ in range(400)]).var(0)
    many = torch.stack([elbo(model, x, samples=16).elbo for _ in range(400)]).var(0)
    ratio = (one / many).mean().item()
    assert ratio == pytest.approx(16, rel=0.4)


def test_importance_weighting_reaches_the_evidence(model, x):
    torch.manual_seed(0)
    bound = importance_weighted(model, x, k=20_000)
    for image, value in zip(x.numpy(), bound, strict=True):
        assert value.item() == pytest.approx(log_evidence(model, image), abs=0.02)


def test_importance_weighting_with_one_draw_is_an_elbo(model, x):
    torch.manual_seed(0)
    draws = torch.stack([importance_weighted(model, x, k=1) for _ in range(4000)])
    error = draws.std(0) / math.sqrt(len(draws))
    for image, mean, se in zip(x.numpy(), draws.mean(0), error, strict=True):
        assert abs(mean.item() - exact_elbo(model, image)) < 4 * se.item()


def test_importance_weighting_grows_with_k(model, x):
    torch.manual_seed(0)
    means = [
        torch.stack([importance_weighted(model, x, k) for _ in range(300)]).mean()
        for k in (1, 5, 50)
    ]
    assert means[0] < means[1] < means[2]


def test_chunks_do_not_change_the_estimate(model, x, monkeypatch):
    torch.manual_seed(0)
    whole = importance_weighted(model, x, k=60)
    monkeypatch.setattr("vae_teach.bounds.CHUNK", 7)
    torch.manual_seed(0)
    chunked = importance_weighted(model, x, k=60)
    assert torch.allclose(whole, chunked, atol=0.5)  # other draws, the same quantity
    assert chunked.shape == (4,)


@pytest.mark.parametrize("bad", [0, -1, 1.5])
def test_counts_are_positive_integers(model, x, bad):
    with pytest.raises(ValueError, match="samples: got"):
        elbo(model, x, samples=bad)
    with pytest.raises(ValueError, match="k: got"):
        importance_weighted(model, x, k=bad)


@pytest.mark.parametrize("bound", [elbo, lambda m, x: importance_weighted(m, x, k=2)])
@pytest.mark.parametrize(
    ("spoil", "error", "named"),
    [
        (lambda x: 2 * x, ValueError, r"x: got pixels from 0 to 2"),
        (lambda x: x - 1, ValueError, r"must lie in \[0, 1\]"),
        (lambda x: x * math.nan, ValueError, "x: got NaN pixels"),
        (lambda x: x.long(), TypeError, "x: got torch.int64 pixels"),
        (lambda x: x[:0], ValueError, "x: got an empty set"),
        (lambda x: x[:, :5], ValueError, r"it takes \(B, 6\)"),
        (lambda x: x.reshape(4, 2, 3), ValueError, r"x\.reshape\(-1, 6\)"),
    ],
)
def test_bad_pixels_get_one_sentence(model, x, bound, spoil, error, named):
    with pytest.raises(error, match=named):
        bound(model, spoil(x))
