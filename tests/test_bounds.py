"""Bounds against log p(x) by SciPy quadrature, on a model small enough for it."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats
from torch.distributions import Bernoulli, Normal

from vae_teach.bounds import (
    effective_sample_size,
    elbo,
    importance_weighted,
    reconstruction,
)
from vae_teach.densities import log_normal
from vae_teach.exact import LinearGaussian
from vae_teach.nets import AE, VAE


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
    draws = elbo(model, x.repeat(4000, 1)).elbo.reshape(4000, 4)  # (S, B)
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
    often = x.repeat(400, 1)
    one = elbo(model, often).elbo.reshape(400, 4).var(0)
    many = elbo(model, often, samples=16).elbo.reshape(400, 4).var(0)
    ratio = (one / many).mean().item()
    assert ratio == pytest.approx(16, rel=0.4)


def test_importance_weighting_reaches_the_evidence(model, x):
    torch.manual_seed(0)
    bound = importance_weighted(model, x, k=20_000)
    for image, value in zip(x.numpy(), bound, strict=True):
        assert value.item() == pytest.approx(log_evidence(model, image), abs=0.02)


def test_importance_weighting_with_one_draw_is_an_elbo(model, x):
    torch.manual_seed(0)
    draws = importance_weighted(model, x.repeat(4000, 1), k=1).reshape(4000, 4)
    error = draws.std(0) / math.sqrt(len(draws))
    for image, mean, se in zip(x.numpy(), draws.mean(0), error, strict=True):
        assert abs(mean.item() - exact_elbo(model, image)) < 4 * se.item()


def test_importance_weighting_grows_with_k(model, x):
    torch.manual_seed(0)
    often = x.repeat(300, 1)
    means = [importance_weighted(model, often, k).mean() for k in (1, 5, 50)]
    assert means[0] < means[1] < means[2]


def test_chunks_do_not_change_the_estimate(model, x, monkeypatch):
    torch.manual_seed(0)
    whole = importance_weighted(model, x, k=60)
    monkeypatch.setattr("vae_teach.bounds.PIXELS_AT_ONCE", 7)
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


@pytest.mark.parametrize(
    "bound",
    [
        elbo,
        lambda m, x: importance_weighted(m, x, k=2),
        lambda m, x: effective_sample_size(m, x, k=2),
    ],
)
@pytest.mark.parametrize(
    ("spoil", "error", "named"),
    [
        (lambda x: 2 * x, ValueError, r"x: got pixels from 0 to 2"),
        (lambda x: x - 1, ValueError, r"must lie in \[0, 1\]"),
        (lambda x: x * math.nan, ValueError, "x: got NaN pixels"),
        (lambda x: x.long(), TypeError, "x: got torch.int64;"),
        (lambda x: x[:0], ValueError, "x: got an empty set"),
        (lambda x: x[:, :5], ValueError, r"it takes \(B, 6\)"),
        (lambda x: x.reshape(4, 2, 3), ValueError, r"x\.reshape\(-1, 6\)"),
    ],
)
def test_bad_pixels_get_one_sentence(model, x, bound, spoil, error, named):
    with pytest.raises(error, match=named):
        bound(model, spoil(x))


# --- a model with its own likelihood, and draws that are known ----------------------


def line(orthogonal):
    """Probabilistic PCA of 5 pixels and 2 latents, and 6 images drawn from it."""
    torch.manual_seed(0)
    weight = torch.randn(5, 2, dtype=torch.float64)
    if orthogonal:
        weight = torch.linalg.qr(weight)[0] * torch.tensor([2.0, 0.7])
    bias = torch.randn(5, dtype=torch.float64)
    model = LinearGaussian(weight, bias, 0.5)
    noise = 0.5**0.5 * torch.randn(6, 5, dtype=torch.float64)
    return model, torch.randn(6, 2, dtype=torch.float64) @ weight.T + bias + noise


def evidence(model, x):
    weight = model.weight.numpy()
    covariance = weight @ weight.T + model.variance * np.eye(5)
    return stats.multivariate_normal.logpdf(x, model.bias.numpy(), covariance)


class Stored:
    """Bernoulli pixels, and draws of z that are taken from a store, in order."""

    def __init__(self, x, k):
        torch.manual_seed(5)
        self.weight = torch.randn(3, 6, dtype=torch.float64)
        self.mu, self.logvar = torch.randn(2, len(x), 3, dtype=torch.float64)
        self.store = torch.randn(k, len(x), 3, dtype=torch.float64)
        self.taken = []

    def q(self, x):
        return self

    def rsample(self, shape):
        start = sum(self.taken)
        self.taken.append(shape[0])
        return self.store[start : start + shape[0]]

    def log_prob(self, z):
        return log_normal(z, self.mu.expand_as(z), self.logvar.expand_as(z))

    def decode_logits(self, z):
        return z @ self.weight

    def log_weights(self, x):
        """By torch.distributions, (k, B)."""
        z, spread = self.store, torch.exp(self.logvar / 2)
        pixels = Bernoulli(logits=z @ self.weight).log_prob(x).sum(-1)
        prior = Normal(0.0, 1.0).log_prob(z).sum(-1)
        return pixels + prior - Normal(self.mu, spread).log_prob(z).sum(-1)


@pytest.mark.parametrize("chunk", [1, 7, 24, 100, 2**23])
@pytest.mark.parametrize("k", [1, 10, 23])
def test_chunks_add_up_to_the_direct_formula(x, k, chunk, monkeypatch):
    monkeypatch.setattr("vae_teach.bounds.PIXELS_AT_ONCE", chunk)
    weights = Stored(x, k).log_weights(x).exp()
    model = Stored(x, k)
    ours = importance_weighted(model, x, k)
    assert torch.allclose(ours, weights.mean(0).log(), atol=1e-12)
    at_most = max(1, chunk // x.numel())
    assert model.taken == [at_most] * (k // at_most) + [k % at_most] * (k % at_most > 0)
    ours = effective_sample_size(Stored(x, k), x, k)
    assert torch.allclose(ours, weights.sum(0) ** 2 / (weights**2).sum(0), rtol=1e-12)
    assert (ours > 1 - 1e-9).all()
    assert (ours < k + 1e-9).all()


def test_every_draw_counts_where_q_is_the_posterior():
    """All weights are p(x): one draw is enough, and k are worth k."""
    model, x = line(orthogonal=True)
    assert torch.allclose(
        effective_sample_size(model, x, 50), torch.full((6,), 50.0).double()
    )
    one = importance_weighted(model, x, k=1)
    assert one.tolist() == pytest.approx(evidence(model, x), abs=1e-9)


def test_fewer_draws_count_where_q_is_not_the_posterior():
    model, x = line(orthogonal=False)
    torch.manual_seed(0)
    draws = effective_sample_size(model, x, 1000)
    assert (draws > 1).all()
    assert (draws < 999).all()


def test_elbo_asks_the_model_for_its_own_likelihood():
    model, x = line(orthogonal=True)
    torch.manual_seed(0)
    draws = torch.stack([elbo(model, x, samples=20).elbo for _ in range(200)])
    error = (draws.std(0) / math.sqrt(len(draws))).numpy()
    off = np.abs(draws.mean(0).numpy() - evidence(model, x))  # q is the posterior
    assert (off < 4 * error).all()


@pytest.mark.parametrize("spoil", [math.nan, math.inf])
def test_a_model_of_numbers_takes_finite_ones(spoil):
    model, x = line(orthogonal=True)
    elbo(model, 5 * x)  # these are no pixels
    x[2, 3] = spoil
    for bound in (elbo, lambda m, x: importance_weighted(m, x, k=2)):
        with pytest.raises(ValueError, match="it takes finite numbers"):
            bound(model, x)


@pytest.mark.skipif(
    sys.platform != "linux", reason="ru_maxrss counts kilobytes only on Linux"
)
def test_memory_does_not_grow_with_k():
    code = """
import resource, torch
from vae_teach.bounds import effective_sample_size, importance_weighted
from vae_teach.nets import AE, VAE
torch.set_num_threads(1)
torch.manual_seed(0)
model, x = VAE(), torch.bernoulli(torch.full((1, 784), 0.2))
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with torch.no_grad():
    importance_weighted(model, x, 10)
    before = peak()
    importance_weighted(model, x, 100_000)
effective_sample_size(model, x, 20_000)
print((peak() - before) / 1024)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 600  # megabytes; all draws at once would take 900


def gradients_of_the_bound(model, x, k, monkeypatch, chunk):
    """Return the gradients, and how many numbers autograd kept for them."""
    monkeypatch.setattr("vae_teach.bounds.PIXELS_AT_ONCE", chunk)
    kept = []

    def told(tensor):
        kept.append(tensor.numel())
        return tensor

    torch.manual_seed(0)
    with torch.autograd.graph.saved_tensors_hooks(told, lambda tensor: tensor):
        value = importance_weighted(model, x, k).sum()
    return torch.autograd.grad(value, [*model.parameters()]), sum(kept)


def test_memory_does_not_grow_with_k_for_gradients_either(model, x, monkeypatch):
    """In pieces that are computed again: the same draws, so the same gradients."""
    counts = [
        gradients_of_the_bound(model, x, k, monkeypatch, 24)[1] for k in (20, 200)
    ]
    _, alone = gradients_of_the_bound(model, x, 1, monkeypatch, 24)
    a_draw = 9 * x.shape[0]  # logsumexp and logaddexp keep some numbers an image
    assert counts[1] - counts[0] < 180 * a_draw < 180 * alone / 3
    again, _ = gradients_of_the_bound(model, x, 20, monkeypatch, 24)
    monkeypatch.setattr("vae_teach.bounds.checkpoint", lambda f, n, **_: f(n))
    plain, much = gradients_of_the_bound(model, x, 20, monkeypatch, 24)
    assert much > 3 * counts[0]
    for a, b in zip(again, plain, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("bad", [0, -1, 1.5])
def test_effective_sample_size_takes_a_positive_count(model, x, bad):
    with pytest.raises(ValueError, match="k: got"):
        effective_sample_size(model, x, bad)


def test_reconstruction_is_the_bernoulli_at_the_code(model, x):
    torch.manual_seed(0)
    points = AE(input_dim=6, hidden_dim=8, latent_dim=2).double()
    for network, codes in ((points, points.encode(x)), (model, model.encode(x)[0])):
        torch.manual_seed(1)
        found, again = reconstruction(network, x), reconstruction(network, x)
        expected = Bernoulli(logits=network.decode_logits(codes)).log_prob(x).sum(-1)
        assert torch.allclose(found.elbo, expected, atol=1e-12)
        assert torch.equal(found.elbo, again.elbo)  # nothing is drawn
        assert torch.equal(found.elbo, found.reconstruction)
        assert torch.equal(found.kl, torch.zeros(4, dtype=torch.float64))
    with pytest.raises(ValueError, match="0"):
        reconstruction(points, x + 2)
