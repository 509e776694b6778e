"""A reader's own model is measured as if the course had written it, or refused."""

import math
import warnings

import numpy as np
import pytest
import strangers
import torch
from scipy import special, stats
from torch import nn
from torch.distributions import MultivariateNormal

from vae_teach import annealing, bounds, exact, figures, models, sliders, train
from vae_teach.data import Images
from vae_teach.nets import AE, VAE
from vae_teach.words import use_language

NAMES = {
    "encoder_hidden": "fc1",
    "encoder_mu": "fc21",
    "encoder_logvar": "fc22",
    "decoder_hidden": "fc3",
    "decoder_logits": "fc4",
}
SAME = (
    strangers.Tutorial,
    strangers.Sampling,
    strangers.Logits,
    strangers.Pictures,
    strangers.Deviation,
    strangers.LogDeviation,
    strangers.Variance,
    strangers.Distribution,
)


def twins(kind, pixels=16, hidden=12, latents=2, dtype=torch.float64):
    """Return the course's model and a stranger's with the same weights."""
    torch.manual_seed(1)
    ours = VAE(pixels, hidden, latents).to(dtype)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.mul_(3)
    theirs = kind(pixels, hidden, latents).to(dtype)
    ours_by_their_names = {
        f"{theirs_name}.{part}": getattr(getattr(ours, name), part)
        for name, theirs_name in NAMES.items()
        for part in ("weight", "bias")
    }
    theirs.load_state_dict(ours_by_their_names)
    return ours.eval(), theirs.eval()


def view_of(kind, theirs):
    decodes = "logits" if kind is strangers.Logits else "probabilities"
    return models.adapt(theirs, decodes=decodes)


def bits(count=7, pixels=16, dtype=torch.float64):
    stream = torch.Generator().manual_seed(2)
    return (torch.rand(count, pixels, generator=stream) < 0.3).to(dtype)


@pytest.mark.filterwarnings("ignore:The reparameterize")
@pytest.mark.parametrize("kind", SAME)
def test_a_strangers_model_has_the_numbers_of_the_same_weights(kind):
    ours, theirs = twins(kind)
    theirs, x = view_of(kind, theirs), bits()
    a, b = (exact.log_likelihood(model, x, grid=200) for model in (ours, theirs))
    assert torch.allclose(a, b, atol=1e-9)
    a, b = (exact.posterior(model, x, grid=50) for model in (ours, theirs))
    assert torch.allclose(a, b, atol=1e-9)
    for measure in (
        lambda model: bounds.elbo(model, x, samples=3).elbo,
        lambda model: bounds.importance_weighted(model, x, k=4),
        lambda model: bounds.effective_sample_size(model, x, k=4),
        lambda model: annealing.anneal(model, x, chains=2, temperatures=3).lower,
        lambda model: exact.best_gaussian(model, x[:2], grid=80).elbo,
    ):
        values = []
        for model in (ours, theirs):
            torch.manual_seed(3)
            values.append(measure(model))
        if kind is strangers.Distribution:  # another stream of noise
            assert torch.allclose(*values, atol=8)
        else:
            assert torch.allclose(*values, atol=1e-6)


@pytest.mark.filterwarnings("ignore:The reparameterize")
@pytest.mark.parametrize("kind", SAME[:4])
def test_evaluate_and_pictures_of_x(kind):
    ours, theirs = twins(kind, dtype=torch.float32)
    theirs = view_of(kind, theirs)
    images = Images(bits(dtype=torch.float32), torch.zeros(7, dtype=torch.int64))
    values = []
    for model in (ours, theirs):
        torch.manual_seed(0)
        values.append(train.evaluate(model, images).elbo)
    assert torch.allclose(*values, atol=0.05)  # 1 - p keeps few digits in float32
    z = torch.randn(5, 2)
    assert torch.allclose(ours.decode(z), theirs.decode(z), atol=1e-6)
    assert torch.allclose(ours.encode(images.pixels)[0], theirs.codes(images.pixels))
    assert theirs.latent_dim == 2


def test_images_may_come_with_their_two_axes():
    _, theirs = twins(strangers.Pictures)
    x = bits()
    torch.manual_seed(0)
    flat = bounds.elbo(theirs, x).elbo
    torch.manual_seed(0)
    assert torch.equal(flat, bounds.elbo(theirs, x.reshape(-1, 1, 4, 4)).elbo)


def test_convolutions_without_a_reparameterize():
    torch.manual_seed(0)
    model, x = strangers.Convolutions().double().eval(), bits(5, 256)
    log_p = exact.log_likelihood(model, x, grid=200)
    side = np.linspace(-5, 5, 200)
    z = torch.tensor(np.stack(np.meshgrid(side, side, indexing="ij"), -1)).reshape(
        -1, 2
    )
    with torch.no_grad():
        p = model.decoder(z).flatten(1).numpy()
    log_joint = x.numpy() @ np.log(p).T + (1 - x.numpy()) @ np.log1p(-p).T
    log_joint += stats.norm.logpdf(z.numpy()).sum(1)
    cell = 2 * np.log(side[1] - side[0])
    assert np.allclose(log_p, special.logsumexp(log_joint, 1) + cell, atol=1e-6)
    assert models.adapt(model).latent_dim == 2
    bound = bounds.importance_weighted(model, x.repeat(500, 1), k=1).reshape(500, 5)
    assert (bound.mean(0) < log_p).all()


# --- samples that are none ------------------------------------------------------------


@pytest.mark.parametrize("language", ["pt", "en"])
def test_mu_in_place_of_a_sample_is_told_and_the_bound_is_one(language):
    use_language(language)
    ours, theirs = twins(strangers.Tutorial)
    x = bits()
    named = {"pt": "não é uma amostra", "en": "no sample of q"}[language]
    with pytest.warns(UserWarning, match=named):
        bound = bounds.elbo(theirs, x.repeat(400, 1)).elbo.reshape(400, 7)
    log_p = exact.log_likelihood(ours, x, grid=200)
    at_mu = theirs.decode(theirs.encode(x)[0])
    no_bound = (x * at_mu.log() + (1 - x) * (1 - at_mu).log()).sum(1) - (
        bounds.elbo(ours, x).kl
    )
    assert (bound.mean(0) < log_p).all()
    assert no_bound.mean() > bound.mean() + 0.1  # what would have been printed


def test_it_is_told_once_for_each_model():
    _, theirs = twins(strangers.Tutorial)
    with pytest.warns(UserWarning, match="no sample"):
        bounds.elbo(theirs, bits())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bounds.elbo(theirs, bits())
        exact.log_likelihood(theirs, bits(), grid=100)


@pytest.mark.parametrize("kind", [VAE, strangers.Sampling])
def test_a_model_that_draws_is_not_accused(kind):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bounds.elbo(kind(16, 12, 2).eval(), bits(dtype=torch.float32))


def test_looking_moves_neither_the_random_stream_nor_the_mode():
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    model = strangers.Sampling.__new__(strangers.Sampling)
    nn.Module.__init__(model)
    model.fc4, model.training = nn.Identity(), True
    models.adapt(model)
    assert torch.equal(torch.rand(2), expected)
    assert model.training


# --- exactness of probabilities -------------------------------------------------------


def test_probabilities_rounded_to_their_ends_stay_finite():
    """float32 rounds sigmoid(20) to 1: what is left is the nearest number inside."""
    model = strangers.Sampling(4, 3, 2)
    with torch.no_grad():
        model.fc4.weight.zero_()
        model.fc4.bias.copy_(torch.tensor([20.0, -20.0, 200.0, -200.0]))
    logits = models.adapt(model).decode_logits(torch.zeros(1, 2)).detach()
    assert logits.isfinite().all()
    assert logits[0, 1] == pytest.approx(-20, abs=1e-5)  # small ones keep their digits
    assert 16 < logits[0, 0] < 18
    assert logits[0, 2] > 16
    assert logits[0, 3] < -80


@pytest.mark.parametrize("call", [bounds.elbo, exact.log_likelihood])
def test_float32_probabilities_cost_little(call):
    """Against the logits of the same weights in float64."""
    ours, _ = twins(strangers.Sampling)
    _, theirs = twins(strangers.Sampling, dtype=torch.float32)
    x = bits()
    if call is exact.log_likelihood:
        a, b = call(ours, x), call(theirs, x.float())
        assert torch.allclose(a, b.double(), atol=2e-4)


# --- a model's own distributions ------------------------------------------------------


class Own(exact.LinearGaussian):
    """pPCA with the prior N(m, S) and as q its exact posterior, full covariance."""

    def __init__(self, seed=0):
        stream = torch.Generator().manual_seed(seed)
        weight = torch.randn(5, 2, dtype=torch.float64, generator=stream)
        super().__init__(weight, torch.randn(5, generator=stream).double(), 0.5)
        self.m = torch.tensor([0.7, -0.4]).double()
        self.s = torch.tensor([[0.5, 0.3], [0.3, 0.8]]).double()

    def log_prior(self, z):
        return MultivariateNormal(self.m, self.s).log_prob(z)

    def q(self, x):
        precision = torch.linalg.inv(self.s) + self.weight.T @ self.weight / 0.5
        covariance = torch.linalg.inv(precision)
        pull = (x - self.bias) @ self.weight / 0.5 + torch.linalg.solve(self.s, self.m)
        return MultivariateNormal(pull @ covariance, covariance)

    def scipy(self, x):
        w, s = self.weight.numpy(), self.s.numpy()
        mean = w @ self.m.numpy() + self.bias.numpy()
        covariance = w @ s @ w.T + 0.5 * np.eye(5)
        return stats.multivariate_normal.logpdf(x.numpy(), mean, covariance)


def numbers(count=6):
    stream = torch.Generator().manual_seed(4)
    return 1.5 * torch.randn(count, 5, dtype=torch.float64, generator=stream)


def test_exact_honours_a_prior_of_ones_own():
    model, x = Own(), numbers()
    assert np.allclose(
        exact.log_likelihood(model, x, extent=6), model.scipy(x), atol=1e-6
    )
    plain = exact.LinearGaussian(model.weight, model.bias, 0.5)
    given = exact.log_likelihood(plain, x, extent=6, log_prior=model.log_prior)
    assert np.allclose(given, model.scipy(x), atol=1e-6)
    assert not np.allclose(exact.log_likelihood(plain, x), model.scipy(x), atol=0.1)
    density = exact.posterior(model, x, extent=6)
    side = exact.axis(200, 6, x)
    share = density * (side[1] - side[0]) ** 2
    assert torch.allclose(share.sum(2) @ side, model.q(x).mean[:, 0], atol=1e-6)
    assert torch.allclose(share.sum(1) @ side, model.q(x).mean[:, 1], atol=1e-6)


def test_bounds_honour_a_q_and_a_prior_of_ones_own():
    """q is the posterior, so each single draw gives log p(x) itself."""
    model, x = Own(), numbers()
    truth = torch.from_numpy(model.scipy(x))
    assert torch.allclose(bounds.elbo(model, x).elbo, truth, atol=1e-8)
    assert torch.allclose(bounds.importance_weighted(model, x, k=3), truth, atol=1e-8)
    assert torch.allclose(
        bounds.effective_sample_size(model, x, k=9), torch.full((6,), 9.0).double()
    )
    mean = bounds.elbo(model, x, samples=20_000)
    posterior = model.q(x)
    prior = MultivariateNormal(model.m, model.s)
    kl = torch.distributions.kl_divergence(posterior, prior)
    assert torch.allclose(mean.kl, kl, atol=0.05)


def test_annealing_honours_a_prior_of_ones_own():
    model, x = Own(), numbers()
    torch.manual_seed(0)
    start = model.q(x).sample((64,))
    found = annealing.anneal(model, x, chains=64, temperatures=60, start=start)
    truth = torch.from_numpy(model.scipy(x))
    assert torch.allclose(found.lower, truth, atol=0.6)
    assert torch.allclose(found.upper, truth, atol=0.6)
    assert abs(found.lower.mean() - truth.mean()) < 0.15
    assert abs(found.upper.mean() - truth.mean()) < 0.15


def test_best_gaussian_honours_a_prior_of_ones_own():
    """Mean field: the posterior's mean and the inverse of its precisions."""
    model, x = Own(), numbers(2)
    best = exact.best_gaussian(model, x, extent=6)
    precision = torch.linalg.inv(model.q(x).covariance_matrix)
    assert torch.allclose(best.mu, model.q(x).mean, atol=1e-4)
    assert torch.allclose(best.logvar, -precision.diagonal(0, 1, 2).log(), atol=1e-3)


def test_a_flow_is_a_q():
    """A bent normal: gradients, no closed KL, and a bound below the exact value."""

    class Flow(VAE):
        def q(self, x):
            mu, logvar = self.encode(x)
            base = torch.distributions.Normal(mu, torch.exp(logvar / 2))
            bend = torch.distributions.transforms.AffineTransform(0.2, 1.3)
            base = torch.distributions.Independent(base, 1)
            tanh = torch.distributions.transforms.TanhTransform()
            stretch = torch.distributions.transforms.AffineTransform(0, 4)
            return torch.distributions.TransformedDistribution(
                base, [bend, tanh, stretch]
            )

    torch.manual_seed(0)
    model, x = Flow(16, 12, 2).double(), bits(3)
    bound = bounds.elbo(model, x, samples=200)
    (gradient,) = torch.autograd.grad(bound.elbo.sum(), model.encoder_mu.weight)
    assert gradient.abs().sum() > 0
    log_p = exact.log_likelihood(model, x)
    assert (bound.elbo < log_p).all()
    weighted = bounds.importance_weighted(model, x, k=20_000)
    assert torch.allclose(weighted, log_p, atol=0.1)


def test_an_autoencoder_with_a_density_is_a_latent_variable_model():
    """Its log p(x) against a plain sum; without a density there is none."""
    torch.manual_seed(0)
    model, x = AE(6, 5, 2).double(), bits(4, 6)
    spread = MultivariateNormal(
        torch.tensor([3.0, -1.0]).double(), 4 * torch.eye(2).double()
    )
    found = exact.log_likelihood(model, x, extent=16, log_prior=spread.log_prob)
    side = torch.linspace(-16, 16, 641).double()
    z = torch.cartesian_prod(side, side)
    with torch.no_grad():
        p = model.decode(z)
        joint = x @ p.log().T + (1 - x) @ (1 - p).log().T + spread.log_prob(z)
    cell = 2 * math.log(side[1] - side[0])
    assert torch.allclose(found, joint.logsumexp(1) + cell, atol=1e-6)
    with pytest.raises(TypeError, match=r"a AE has no prior.*log_prior"):
        exact.log_likelihood(model, x)
    with pytest.raises(TypeError, match=r"neither a pair .*no lower bound"):
        bounds.elbo(model, x)


# --- bad input ------------------------------------------------------------------------


def test_a_density_that_has_not_mass_one_is_told():
    model, x = Own(), numbers()
    narrow = {"extent": 1.0, "log_prior": model.log_prior}
    mass = exact.prior_mass(model.log_prior, extent=1.0, like=x)
    inside = stats.multivariate_normal(model.m.numpy(), model.s.numpy())
    assert mass == pytest.approx(inside.cdf([1, 1], lower_limit=[-1, -1]), abs=0.01)
    with pytest.raises(ValueError, match=rf"mass of {mass:.4f} .*raise extent"):
        exact.log_likelihood(model, x, **narrow)
    with pytest.raises(ValueError, match=r"mass of 2\.0000"):
        exact.log_likelihood(
            model, x, extent=7, log_prior=lambda z: model.log_prior(z) + math.log(2)
        )
    with pytest.raises(ValueError, match="mass of nan"):
        exact.posterior(model, x, log_prior=lambda z: z.sum(-1) * math.nan)


@pytest.mark.parametrize("shape", [(), (3,)])
def test_a_density_of_another_shape_is_told(shape):
    model, x = Own(), numbers()
    with pytest.raises(ValueError, match=r"log_prior: got .* one number for each z"):
        exact.log_likelihood(model, x, log_prior=lambda z: torch.zeros(shape))
    model.log_prior = lambda z: torch.zeros(shape)
    with pytest.raises(ValueError, match=r"log_prior: got .* one number for each z"):
        bounds.importance_weighted(model, x, k=2)


def test_values_that_are_no_probabilities_are_told():
    _, theirs = twins(strangers.Logits)
    for call in (bounds.elbo, exact.log_likelihood):
        with pytest.raises(ValueError, match=r"not probabilities.*decodes='logits'"):
            call(theirs, bits())
    theirs.fc4.bias.data[0] = math.nan
    with pytest.raises(ValueError, match="nan"):
        bounds.elbo(theirs, bits())


@pytest.mark.parametrize(
    ("missing", "named"),
    [("encode", "encode / encoder"), ("decode", "decode / decoder")],
)
def test_a_missing_method_is_named(missing, named):
    class Lacks(nn.Module):
        pass

    for name in ("encode", "decode"):
        if name != missing:
            setattr(Lacks, name, lambda self, x: (x, x))
    for call in (bounds.elbo, exact.log_likelihood):
        with pytest.raises(TypeError, match=f"a Lacks has no method {named}"):
            call(Lacks(), bits())


def test_an_unknown_spread_is_told():
    _, theirs = twins(strangers.Softplus)
    with pytest.raises(ValueError, match=r"second argument .* log-variance.*q\(x\)"):
        bounds.elbo(theirs, bits())


def test_images_of_another_size_are_told():
    _, theirs = twins(strangers.Sampling)
    with pytest.raises(ValueError, match=r"neither of shape \(7, 25\) nor as .*5, 5\)"):
        bounds.elbo(theirs, bits(7, 25))


def test_an_unknown_decodes_is_told():
    with pytest.raises(ValueError, match="decodes: got 'pixels'"):
        models.adapt(VAE(), decodes="pixels")


def test_a_number_named_as_a_method_is_no_method():
    """A class may keep its parameters under the name q, as lesson 02's toy does."""
    torch.manual_seed(0)
    model, plain = VAE(16, 12, 2).double(), VAE(16, 12, 2).double()
    plain.load_state_dict(model.state_dict())
    model.q = model.log_prior = (1.0, 2.0)
    x = bits()
    assert torch.equal(exact.log_likelihood(model, x), exact.log_likelihood(plain, x))
    assert bounds.elbo(model, x).elbo.isfinite().all()


@pytest.mark.filterwarnings("ignore:The reparameterize")
@pytest.mark.parametrize("kind", [strangers.Tutorial, strangers.Pictures])
def test_pictures_and_sliders_of_a_strangers_model(kind):
    """Of 25 pixels, and equal to those of the course's model with the same weights."""
    ours, theirs = twins(kind, 25, dtype=torch.float32)
    images = Images(bits(7, 25, torch.float32), torch.arange(7))
    for draw in (
        lambda model: figures.reconstructions(model, images),
        lambda model: figures.samples(
            model, generator=torch.Generator().manual_seed(0)
        ),
        lambda model: figures.manifold(model, 3),
        lambda model: figures.latent_map(model, images),
    ):
        assert draw(ours).png() == draw(theirs).png()
    a, b = (sliders.latent_sliders(model) for model in (ours, theirs))
    assert bytes(a.image.value) == bytes(b.image.value)
    assert a.image.layout.width == "50px"


def test_pixels_that_make_no_square_are_told():
    with pytest.raises(ValueError, match="24 pixels, which make no square"):
        figures.mosaic(torch.zeros(2, 24), columns=2)
