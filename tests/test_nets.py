"""The networks: shapes, the reparameterized draw, gradients, bad input."""

import math

import pytest
import torch
from scipy import stats

from vae_teach.nets import AE, LOGVAR_LIMIT, VAE


@pytest.fixture
def model():
    torch.manual_seed(0)
    return VAE(input_dim=20, hidden_dim=16, latent_dim=3)


def test_shapes(model):
    x = torch.rand(5, 20)
    logits, mu, logvar = model(x)
    assert (logits.shape, mu.shape, logvar.shape) == ((5, 20), (5, 3), (5, 3))
    assert model.decode(mu).aminmax()[0] >= 0
    assert model.decode(mu).aminmax()[1] <= 1


def test_default_is_the_network_of_the_course():
    shapes = {name: tuple(p.shape) for name, p in VAE().named_parameters()}
    assert shapes["encoder_hidden.weight"] == (400, 784)
    assert shapes["decoder_logits.weight"] == (784, 400)
    assert sum(math.prod(shape) for shape in shapes.values()) == 631_188


def test_decode_is_the_sigmoid_of_the_logits(model):
    z = torch.randn(4, 3)
    odds = model.decode_logits(z).exp()
    assert torch.allclose(model.decode(z), odds / (1 + odds), atol=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_draws_have_the_right_distribution_in_both_modes(model, training):
    model.train(training)
    mu, logvar = torch.full((20_000, 3), 1.5), torch.full((20_000, 3), -1.0)
    z = model.reparameterize(mu, logvar)
    oracle = stats.norm(1.5, math.exp(-0.5))
    for column in z.T:
        assert stats.kstest(column.numpy(), oracle.cdf).pvalue > 1e-4


def test_gradient_of_a_draw_is_the_derivative(model):
    mu = torch.tensor([[0.3, -0.2, 1.0]], dtype=torch.float64, requires_grad=True)
    logvar = torch.tensor([[-1.0, 0.5, 0.1]], dtype=torch.float64, requires_grad=True)

    def draw(mu, logvar):
        torch.manual_seed(4)
        return model.reparameterize(mu, logvar)

    assert torch.autograd.gradcheck(draw, (mu, logvar))  # finite differences


def test_extreme_images_keep_the_elbo_finite(model):
    with torch.no_grad():
        model.encoder_logvar.weight.mul_(1e6)
    _, mu, logvar = model(torch.ones(2, 20))
    assert logvar.abs().max() <= LOGVAR_LIMIT
    assert logvar.exp().half().isfinite().all()  # even in float16
    assert model.decode_logits(model.reparameterize(mu, logvar)).isfinite().all()


def test_autoencoder_has_no_randomness():
    model = AE(input_dim=20, hidden_dim=16, latent_dim=3)
    x = torch.rand(5, 20)
    assert torch.equal(model(x), model(x))
    assert model.encode(x).shape == (5, 3)
    assert torch.equal(model.decode(model.encode(x)), torch.sigmoid(model(x)))


@pytest.mark.parametrize("kind", [AE, VAE])
@pytest.mark.parametrize("size", ["input_dim", "hidden_dim", "latent_dim"])
@pytest.mark.parametrize("value", [0, -1, 2.5, True])
def test_sizes_are_positive_integers(kind, size, value):
    with pytest.raises(ValueError, match=f"{size}: got {value}"):
        kind(**{size: value})


def test_images_that_are_not_flat_are_told_how_to_flatten():
    with pytest.raises(ValueError, match=r"x\.reshape\(-1, 784\)"):
        VAE().encode(torch.zeros(2, 28, 28))


@pytest.mark.parametrize(
    ("x", "error", "named"),
    [
        (torch.zeros(2, 20, dtype=torch.uint8), TypeError, "x: got torch.uint8"),
        (torch.zeros(2, 19), ValueError, r"x: got shape \(2, 19\); it takes \(B, 20\)"),
        (torch.tensor(1.0), ValueError, r"x: got shape \(\)"),
    ],
)
def test_bad_images_get_one_sentence(model, x, error, named):
    with pytest.raises(error, match=named):
        model(x)


def test_bad_latents_get_one_sentence(model):
    with pytest.raises(ValueError, match=r"z: got shape \(2, 4\); it takes \(B, 3\)"):
        model.decode(torch.zeros(2, 4))
