"""Densities and KL against torch.distributions and SciPy's quadrature."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, special
from torch.distributions import Bernoulli, Normal, kl_divergence

from vae_teach import densities

B, L, D = 7, 3, 11


@pytest.fixture
def normals():
    torch.manual_seed(0)
    return torch.randn(3, B, L, dtype=torch.float64).unbind(0)  # z, mu, logvar


def test_log_bernoulli_is_that_of_torch():
    torch.manual_seed(0)
    logits = 5 * torch.randn(B, D, dtype=torch.float64)
    x = (torch.rand(B, D) < 0.5).double()
    oracle = Bernoulli(logits=logits).log_prob(x).sum(-1)
    ours = densities.log_bernoulli(x, logits)
    assert ours.shape == (B,)
    assert torch.allclose(ours, oracle, atol=1e-12)


def test_log_bernoulli_of_all_images_sums_to_one():
    logits = torch.tensor([0.3, -1.2, 2.0, -0.1], dtype=torch.float64)
    bits = torch.arange(16)[:, None] >> torch.arange(4) & 1  # every image of 4 pixels
    total = densities.log_bernoulli(bits.double(), logits).exp().sum()
    assert total.item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("logit", [-1e4, 1e4])
def test_log_bernoulli_survives_a_decoder_that_is_sure(logit):
    logits = torch.full((1, D), logit, requires_grad=True)
    right = torch.full((1, D), float(logit > 0))
    assert densities.log_bernoulli(right, logits).item() == 0
    wrong = densities.log_bernoulli(1 - right, logits)
    wrong.sum().backward()
    assert wrong.item() == pytest.approx(-D * 1e4)
    assert logits.grad.isfinite().all()


def test_log_normal_is_that_of_torch(normals):
    z, mu, logvar = normals
    oracle = Normal(mu, torch.exp(logvar / 2)).log_prob(z).sum(-1)
    ours = densities.log_normal(z, mu, logvar)
    assert ours.shape == (B,)
    assert torch.allclose(ours, oracle, atol=1e-12)


def test_log_standard_normal_integrates_to_one():
    def density(z):
        z = torch.tensor([[z]], dtype=torch.float64)
        return densities.log_standard_normal(z).exp().item()

    total, _ = integrate.quad(density, -12, 12)
    assert total == pytest.approx(1, abs=1e-10)


def test_kl_is_that_of_torch(normals):
    _, mu, logvar = normals
    q = Normal(mu, torch.exp(logvar / 2))
    oracle = kl_divergence(q, Normal(0.0, 1.0)).sum(-1)
    ours = densities.kl_to_standard_normal(mu, logvar)
    assert ours.shape == (B,)
    assert torch.allclose(ours, oracle, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("logvar", [-300.0, -100.0, -88.0, 0.0, 89.0, 100.0, 300.0])
def test_log_normal_at_its_extremes(logvar, dtype):
    """Points that are so many standard deviations from the mean, or at it."""
    for distance in (0.0, 0.5, -3.0):
        z = torch.tensor([[distance * math.exp(logvar / 2)]], dtype=dtype)
        mu, size = torch.zeros_like(z), torch.full_like(z, logvar)
        size.requires_grad_()
        if distance and abs(logvar) > 170 and dtype == torch.float32:
            continue  # z itself is beyond float32
        value = densities.log_normal(z, mu, size)
        oracle = -(math.log(2 * math.pi) + logvar + distance**2) / 2
        assert value.item() == pytest.approx(oracle, rel=1e-5)
        (gradient,) = torch.autograd.grad(value.sum(), size)
        oracle = (distance**2 - 1) / 2
        if abs(logvar) < 170 or distance:
            assert gradient.item() == pytest.approx(oracle, rel=1e-4)
        assert gradient.isfinite().all()


@pytest.mark.parametrize("scale", [1.0, 1e2, 1e4, 1e8, 1e30])
def test_log_bernoulli_keeps_what_sure_pixels_leave(scale):
    """One pixel is in doubt among others that are sure, and right."""
    torch.manual_seed(0)
    logits = scale * torch.randn(3, 784)
    x = (logits > 0).float()
    logits[:, 7] = torch.tensor([0.3, -2.0, 1.1])
    oracle = Bernoulli(logits=logits.double()).log_prob(x.double()).sum(1)
    ours = densities.log_bernoulli(x, logits)
    assert torch.allclose(ours.double(), oracle, rtol=1e-5)


HALVES = (torch.bfloat16, torch.float16)


@pytest.mark.parametrize("first", [*HALVES, torch.float32, torch.float64])
@pytest.mark.parametrize("second", [*HALVES, torch.float32, torch.float64])
def test_two_precisions_give_the_finer_and_float32_at_least(first, second):
    """In bfloat16 a sum of hundreds of nats would move in steps of 4."""
    torch.manual_seed(0)
    x, logits = (torch.rand(5, 784) < 0.3).to(first), torch.randn(5, 784).to(second)
    z, mu = torch.randn(2, 5, 784)
    finest = torch.promote_types(torch.promote_types(first, second), torch.float32)
    pairs = [
        (densities.log_bernoulli, (x, logits)),
        (densities.log_normal, (z.to(first), mu.to(second), logits)),
        (densities.kl_to_standard_normal, (mu.to(first), logits)),
        (densities.log_standard_normal, (z.to(first),)),
        (densities.log_partition, (logits,)),
    ]
    for density, arguments in pairs:
        value = density(*arguments)
        oracle = density(*(part.double() for part in arguments))
        assert value.dtype in (finest, torch.float32)
        assert torch.allclose(value.double(), oracle, rtol=1e-5)


def test_kl_is_its_own_integral():
    mu, logvar = 0.7, -1.1
    q, p = Normal(mu, math.exp(logvar / 2)), Normal(0.0, 1.0)

    def integrand(z):
        z = torch.tensor(z, dtype=torch.float64)
        return (q.log_prob(z).exp() * (q.log_prob(z) - p.log_prob(z))).item()

    oracle, _ = integrate.quad(integrand, -10, 10)
    ours = densities.kl_to_standard_normal(torch.tensor([mu]), torch.tensor([logvar]))
    assert ours.item() == pytest.approx(oracle, abs=1e-6)


def test_kl_near_the_prior_is_exact_in_single_precision():
    mu, logvar = torch.zeros(1, 1), torch.full((1, 1), 1e-3)
    oracle = 0.5 * (math.exp(1e-3) - 1 - 1e-3)  # about 2.5e-7
    ours = densities.kl_to_standard_normal(mu, logvar).item()
    assert ours == pytest.approx(oracle, rel=1e-3)


def test_leading_axes_broadcast(normals):
    z, mu, logvar = normals
    many = z.expand(5, B, L)
    assert densities.log_normal(many, mu, logvar).shape == (5, B)


@pytest.mark.parametrize(
    ("call", "error", "named"),
    [
        (lambda: densities.log_bernoulli(torch.ones(2, 3).long(), torch.ones(2, 3)),
         TypeError, "x: got torch.int64"),
        (lambda: densities.log_bernoulli(torch.ones(2, 3), torch.ones(2, 4)),
         ValueError, r"x and logits: got shapes \(2, 3\) and \(2, 4\)"),
        (lambda: densities.log_normal(*torch.ones(2, 2, 3), torch.ones(2, 1)),
         ValueError, "z and logvar"),
        (lambda: densities.kl_to_standard_normal(torch.ones(2, 3), torch.ones(2, 1)),
         ValueError, "mu and logvar"),
        (lambda: densities.log_standard_normal(torch.ones(2, 3).int()),
         TypeError, "z: got torch.int32"),
    ],
)  # fmt: skip
def test_bad_input_gets_one_sentence(call, error, named):
    with pytest.raises(error, match=named):
        call()


@pytest.mark.parametrize(
    ("x", "logits"),
    [((B, D), (B, D)), ((B, D), (2, B, D)), ((2, B, D), (B, D)), ((D,), (B, D))],
)
def test_gradients_of_log_bernoulli_are_those_of_its_value(x, logits):
    torch.manual_seed(0)
    x = torch.rand(x, dtype=torch.float64, requires_grad=True)
    logits = (3 * torch.randn(logits, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(densities.log_bernoulli, (x, logits))
    assert torch.autograd.gradgradcheck(densities.log_bernoulli, (x, logits))


def test_gradient_of_log_bernoulli_is_that_of_torch():
    torch.manual_seed(0)
    x = (torch.rand(B, D) < 0.5).double()
    logits = torch.randn(B, D, dtype=torch.float64, requires_grad=True)
    (ours,) = torch.autograd.grad(densities.log_bernoulli(x, logits).sum(), logits)
    oracle = Bernoulli(logits=logits).log_prob(x).sum()
    assert torch.allclose(ours, torch.autograd.grad(oracle, logits)[0], atol=1e-12)


def test_log_bernoulli_under_function_transforms():
    torch.manual_seed(0)
    x = (torch.rand(B, D) < 0.5).double()
    logits = torch.randn(B, D, dtype=torch.float64)
    each = torch.func.vmap(densities.log_bernoulli)(x, logits)
    assert torch.allclose(each, Bernoulli(logits=logits).log_prob(x).sum(1))
    one_x = torch.func.vmap(densities.log_bernoulli, in_dims=(None, 0))(x[0], logits)
    assert torch.allclose(one_x, Bernoulli(logits=logits).log_prob(x[0]).sum(1))
    gradient = torch.func.grad(densities.log_bernoulli, argnums=1)
    ours = torch.func.vmap(gradient)(x, logits)
    assert torch.allclose(ours, x - sigmoid(logits), atol=1e-12)


def sigmoid(logits):
    return torch.from_numpy(special.expit(logits.numpy()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_partition_is_that_of_scipy(dtype):
    size = torch.logspace(-8, 4, 61, dtype=dtype)
    logits = torch.cat((-size, torch.zeros(1, dtype=dtype), size))[:, None]  # (B, 1)
    kept = logits.clone()
    ours = densities.log_partition(logits)
    assert ours.shape == (123,)
    oracle = np.logaddexp(0, kept.double().numpy())[:, 0]
    assert torch.equal(logits, kept)
    eps = torch.finfo(dtype).eps
    assert ours.double().numpy() == pytest.approx(oracle, rel=2 * eps, abs=2 * eps)


def test_log_partition_sums_over_pixels():
    torch.manual_seed(0)
    logits = 4 * torch.randn(2, B, D, dtype=torch.float64)
    oracle = -special.log_expit(-logits.numpy()).sum(-1)
    ours = densities.log_partition(logits)
    assert torch.allclose(ours, torch.from_numpy(oracle), atol=1e-12)
