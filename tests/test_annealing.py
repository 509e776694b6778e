"""Annealing against closed forms: bounds that hold, weights that are unbiased."""

import math

import pytest
import torch

from vae_teach import annealing, exact
from vae_teach.annealing import anneal, simulate
from vae_teach.models import adapt
from vae_teach.nets import VAE

LATENTS = 3


def line(latents=LATENTS, variance=0.3):
    torch.manual_seed(1)
    weight = torch.randn(6, latents, dtype=torch.float64)
    bias = torch.randn(6, dtype=torch.float64)
    return exact.LinearGaussian(weight, bias, variance)


def some_images(model, count):
    """Images drawn from a LinearGaussian, with the z of each."""
    latents = model.weight.shape[1]
    z = torch.randn(count, latents, dtype=torch.float64)
    noise = torch.randn(count, len(model.bias), dtype=torch.float64)
    return z @ model.weight.T + model.bias + math.sqrt(model.variance) * noise, z


def exact_draws(model, x, chains):
    """Draws (S, B, L) from the posterior, by torch.distributions."""
    mean, covariance = model.posterior(x)
    q = torch.distributions.MultivariateNormal(mean, covariance)
    return q.sample((chains,))


def truth_of(model, x):
    covariance = model.weight @ model.weight.T
    covariance = covariance + model.variance * torch.eye(len(model.bias))
    q = torch.distributions.MultivariateNormal(model.bias, covariance)
    return q.log_prob(x)


def error_of(values):
    return (values.std(0) / math.sqrt(len(values))).item()


def test_both_bounds_close_on_the_truth():
    model = line()
    torch.manual_seed(0)
    x, _ = some_images(model, 40)
    truth = truth_of(model, x)
    start = exact_draws(model, x, 16)
    bounds = anneal(model, x, start=start, temperatures=120, leapfrogs=5)
    assert bounds.lower.shape == bounds.upper.shape == (40,)
    below, above = truth - bounds.lower, bounds.upper - truth
    assert below.mean().item() > -3 * error_of(below)
    assert above.mean().item() > -3 * error_of(above)
    assert below.mean().abs() < 0.3
    assert above.mean().abs() < 0.3
    assert max(below.std(), above.std()) < 0.6


def test_few_temperatures_keep_the_order():
    model = line()
    torch.manual_seed(0)
    x, z = some_images(model, 300)
    truth = truth_of(model, x)
    bounds = anneal(model, x, chains=4, temperatures=3, leapfrogs=3, start=z)
    below, above = truth - bounds.lower, bounds.upper - truth
    assert below.mean().item() > 3 * error_of(below)  # they are far from tight
    assert above.mean().item() > 3 * error_of(above)


@pytest.mark.parametrize("temperatures", [1, 2, 3, 12])
def test_weights_are_unbiased(temperatures):
    """E exp(lower) = p(x) and E exp(-upper) = 1 / p(x), however short the chain."""
    model = line(latents=1, variance=4.0)
    torch.manual_seed(3)
    x, _ = some_images(model, 1)
    many = x.expand(4000, -1)
    bounds = anneal(
        model,
        many,
        chains=8,
        temperatures=temperatures,
        leapfrogs=3,
        start=exact_draws(model, many, 8),
    )
    truth = truth_of(model, x)
    for ratio in ((bounds.lower - truth).exp(), (truth - bounds.upper).exp()):
        assert abs(ratio.mean().item() - 1) < 4 * error_of(ratio)
        assert error_of(ratio) < 0.03


@pytest.mark.parametrize("power", [0, 1])
def test_moves_leave_their_target_where_it_is(power):
    """The prior at b = 0 and the posterior at b = 1, with steps that are too long."""
    model = line(latents=2)
    torch.manual_seed(0)
    x, _ = some_images(model, 2)
    chains = 30_000
    paths = annealing._Chains(adapt(model), x, chains, 1, 3)
    paths.steps[:] = 0.9 if power == 0 else 0.35
    mean, covariance = model.posterior(x)
    if power == 0:
        mean, covariance = torch.zeros_like(mean), torch.eye(2).double()
    target = torch.distributions.MultivariateNormal(mean, covariance)
    z = target.sample((chains,))
    with torch.no_grad():
        for _ in range(3):
            before = z
            z, moved = paths._move(z, power)
            stayed = (z == before).all(-1)
            assert torch.equal(stayed, ~moved)
    assert 0.3 < moved.double().mean() < 0.99
    error = covariance.diagonal().sqrt() / math.sqrt(chains)
    assert ((z.mean(0) - mean).abs() < 4.5 * error).all()
    for b in range(2):
        assert torch.allclose(z[:, b].T.cov(), covariance, rtol=0.06, atol=0.004)


def test_moves_mix():
    """From one point, chains reach the posterior: they do not stand still."""
    model = line(latents=2)
    torch.manual_seed(0)
    x, _ = some_images(model, 1)
    paths = annealing._Chains(adapt(model), x, 4000, 1, 10)
    paths.steps[:] = 0.1
    mean, covariance = model.posterior(x)
    z = torch.full((4000, 1, 2), 1.0, dtype=torch.float64)
    with torch.no_grad():
        for _ in range(30):
            z, _ = paths._move(z, 1)
    assert torch.allclose(z.mean(0), mean, atol=0.03)
    assert torch.allclose(z[:, 0].T.cov(), covariance, rtol=0.15, atol=0.01)


def test_a_coordinate_far_off_is_not_reached_by_few_temperatures():
    """Lower rises with the number of temperatures, upper falls."""
    model = line()
    torch.manual_seed(0)
    x, z = some_images(model, 100)
    few = anneal(model, x, chains=4, temperatures=4, leapfrogs=3, start=z)
    many = anneal(model, x, chains=4, temperatures=60, leapfrogs=3, start=z)
    assert many.lower.mean() > few.lower.mean() + 0.1
    assert many.upper.mean() < few.upper.mean() - 0.1


def test_temperatures_crowd_at_both_ends():
    model = line()
    x, _ = some_images(model, 1)
    powers = torch.tensor(annealing._Chains(adapt(model), x, 1, 100, 1).powers)
    assert len(powers) == 101
    assert (powers[0].item(), powers[-1].item()) == pytest.approx((0, 1), abs=1e-6)
    steps = powers.diff()
    assert (steps > 0).all()
    assert torch.allclose(steps, steps.flip(0), atol=1e-6)
    assert steps[50] > 5 * steps[0]


def test_steps_are_tuned_before_the_runs_that_are_used(monkeypatch):
    model = line()
    torch.manual_seed(0)
    x, z = some_images(model, 5)
    events, tune = [], annealing._Chains._tune
    forward = annealing._Chains.forward

    def noted_tune(self, *args):
        events.append("tune")
        return tune(self, *args)

    def noted_forward(self, *args, **options):
        events.append("forward")
        return forward(self, *args, **options)

    monkeypatch.setattr(annealing._Chains, "_tune", noted_tune)
    monkeypatch.setattr(annealing._Chains, "forward", noted_forward)
    anneal(model, x, chains=2, temperatures=7, start=z)
    assert events == ["forward", *["tune"] * 7, "forward"]


@pytest.mark.parametrize("variance", [0.01, 0.3, 10.0])
def test_accepted_share_is_near_its_aim(variance):
    model = line(variance=variance)
    torch.manual_seed(0)
    x, _ = some_images(model, 10)
    accepted = anneal(model, x, temperatures=100, leapfrogs=5).accepted
    assert accepted.shape == (10,)
    assert accepted.min() > 0.3
    assert accepted.max() < 0.95


def test_one_start_serves_all_chains_of_its_image():
    model = line()
    torch.manual_seed(0)
    x, z = some_images(model, 5)
    kept = z.clone()
    torch.manual_seed(1)
    once = anneal(model, x, chains=3, temperatures=5, start=z)
    torch.manual_seed(1)
    each = anneal(model, x, chains=3, temperatures=5, start=z.repeat(3, 1, 1))
    assert torch.equal(once.upper, each.upper)
    assert torch.equal(z, kept)
    assert anneal(model, x, chains=3, temperatures=5).upper is None


# --- a VAE, and what it draws -----------------------------------------------------


def small_vae():
    torch.manual_seed(3)
    model = VAE(input_dim=8, hidden_dim=8, latent_dim=2).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2.5)
    return model


def test_simulated_images_are_bits_with_their_z():
    torch.manual_seed(0)
    x, z = simulate(VAE(input_dim=12, latent_dim=5), 7)
    assert x.shape == (7, 12)
    assert z.shape == (7, 5)
    assert set(x.unique().tolist()) == {0.0, 1.0}
    assert not x.requires_grad
    assert simulate(small_vae(), 1)[0].dtype == torch.float64


def test_simulated_images_have_their_probabilities():
    """Each of the 2^8 images as often as the quadrature says."""
    model, count = small_vae(), 40_000
    torch.manual_seed(0)
    x, z = simulate(model, count)
    bits = (torch.arange(256)[:, None] >> torch.arange(8) & 1).double()
    share = exact.log_likelihood(model, bits, grid=200).exp()
    counts = (x.long() << torch.arange(8)).sum(1).bincount(minlength=256)
    error = (share * (1 - share) / count).sqrt()
    assert ((counts / count - share).abs() < 5 * error + 1e-4).all()
    assert z.mean(0).abs().max() < 5 / math.sqrt(count)
    assert (z.T.cov() - torch.eye(2)).abs().max() < 0.05


def test_simulated_z_are_posterior_draws_of_their_images():
    """Their mean, image by image, is the posterior's mean by quadrature."""
    model = small_vae()
    torch.manual_seed(0)
    x, z = simulate(model, 2000)
    share = exact.posterior(model, x, grid=100).sum(2)  # of z1
    share = share / share.sum(1, keepdim=True)
    side = torch.linspace(-5, 5, 100, dtype=torch.float64)
    mean = share @ side
    off = z[:, 0] - mean
    assert abs(off.mean().item()) < 4 * error_of(off)
    assert torch.corrcoef(torch.stack((mean, off)))[0, 1].abs() < 0.1
    assert mean.std() > 0.3  # there was something to find


def test_sandwich_on_a_vae():
    model = small_vae()
    torch.manual_seed(0)
    x, z = simulate(model, 100)
    truth = exact.log_likelihood(model, x)
    bounds = anneal(model, x, chains=8, temperatures=40, leapfrogs=5, start=z)
    below, above = truth - bounds.lower, bounds.upper - truth
    assert below.mean().item() > -3 * error_of(below)
    assert above.mean().item() > -3 * error_of(above)
    assert below.mean() + above.mean() < 0.3


# --- bad input --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["chains", "temperatures", "leapfrogs"])
@pytest.mark.parametrize("bad", [0, -1, 2.5, True])
def test_counts_are_positive_integers(name, bad):
    x = torch.ones(2, 8, dtype=torch.float64)
    with pytest.raises(ValueError, match=f"{name}: got {bad}"):
        anneal(small_vae(), x, **{name: bad})


def test_simulate_takes_a_positive_count():
    with pytest.raises(ValueError, match="count: got 0"):
        simulate(small_vae(), 0)


@pytest.mark.parametrize("shape", [(2, 3), (3, 2), (3, 2, 2), (1, 2, 2), (2,)])
def test_start_of_another_shape_is_told(shape):
    x = torch.ones(2, 8, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"start: got the shape|start: got shape"):
        anneal(small_vae(), x, chains=4, start=torch.zeros(shape).double())


@pytest.mark.parametrize(
    ("x", "error", "named"),
    [
        (torch.full((2, 8), 2.0), ValueError, "x: got pixels from 2"),
        (torch.full((2, 8), math.nan), ValueError, "x: got NaN"),
        (torch.ones(2, 8).long(), TypeError, "x: got torch.int64"),
        (torch.ones(2, 7).double(), ValueError, r"it takes \(B, 8\)"),
        (torch.ones(0, 8), ValueError, "x: got an empty set"),
    ],
)
def test_bad_pixels_get_one_sentence(x, error, named):
    with pytest.raises(error, match=named):
        anneal(small_vae(), x)
