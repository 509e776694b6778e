"""Any precision, any device, any integer: brought together, or told in one sentence."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from vae_teach import annealing, bounds, exact, figures, sliders, train
from vae_teach.checks.verdicts import as_tensor
from vae_teach.data import Images
from vae_teach.densities import kl_to_standard_normal, log_bernoulli
from vae_teach.guards import DivergedError
from vae_teach.nets import AE, VAE
from vae_teach.words import CATALOGUE, say, use_language


def small(dtype=torch.float32, kind=VAE):
    torch.manual_seed(0)
    return kind(16, 8, 2).to(dtype)


def bits(count=6, dtype=torch.float32):
    stream = torch.Generator().manual_seed(1)
    return (torch.rand(count, 16, generator=stream) < 0.4).to(dtype)


def images_of(x):
    return Images(x, torch.arange(len(x)))


def fit(model, x, **more):
    options = {"epochs": 1, "batch_size": 3, "device": "cpu", "progress": False}
    return train.fit(model, images_of(x), test=images_of(x), **options | more)


SMALL_CHAINS = {"chains": 2, "temperatures": 3, "leapfrogs": 2}
MEASURES = {
    "elbo": lambda m, x: bounds.elbo(m, x).elbo,
    "weighted": lambda m, x: bounds.importance_weighted(m, x, k=3),
    "effective": lambda m, x: bounds.effective_sample_size(m, x, k=3),
    "anneal": lambda m, x: annealing.anneal(m, x, **SMALL_CHAINS).lower,
    "log_likelihood": lambda m, x: exact.log_likelihood(m, x, grid=60),
    "with_error": lambda m, x: exact.log_likelihood_with_error(m, x, grid=60)[0],
    "posterior": lambda m, x: exact.posterior(m, x, grid=20),
    "best_gaussian": lambda m, x: exact.best_gaussian(m, x[:1], grid=30).elbo,
    "evaluate": lambda m, x: train.evaluate(m, images_of(x)).elbo,
}
PICTURES = {
    "reconstructions": lambda m, x: figures.reconstructions(m, images_of(x)),
    "samples": lambda m, x: figures.samples(m),
    "manifold": lambda m, x: figures.manifold(m, 3),
    "latent_map": lambda m, x: figures.latent_map(m, images_of(x)),
    "sliders": lambda m, x: sliders.latent_sliders(m),
}
DTYPES = (torch.float32, torch.float64, torch.bfloat16)


@pytest.mark.parametrize("weights", DTYPES)
@pytest.mark.parametrize("pixels", DTYPES)
@pytest.mark.parametrize("name", MEASURES)
def test_pixels_and_model_of_any_precision_meet(name, weights, pixels):
    """And nothing is measured in less than float32."""
    model, measure = small(weights), MEASURES[name]
    torch.manual_seed(0)
    value = measure(model, bits(dtype=pixels))
    assert value.dtype in (torch.float32, torch.float64)
    assert value.isfinite().all()
    torch.manual_seed(0)
    same = measure(model.to(torch.float32), bits())
    if torch.float64 not in (weights, pixels):
        exactly = weights == torch.float32 or name in ("log_likelihood", "posterior")
        assert torch.allclose(value, same, rtol=0.05, atol=1e-4 if exactly else 5)
    assert model.to(weights).encoder_mu.weight.dtype == weights


@pytest.mark.parametrize("default", [torch.float32, torch.float64])
@pytest.mark.parametrize("weights", DTYPES)
def test_fit_and_pictures_take_any_precision(weights, default):
    before = torch.get_default_dtype()
    torch.set_default_dtype(default)
    try:
        for pixels in DTYPES:
            model, x = small(weights), bits(dtype=pixels)
            history = fit(model, x)
            assert math.isfinite(history.rows[0]["test_elbo"])
            assert model.encoder_mu.weight.dtype == weights
            for draw in PICTURES.values():
                draw(model, x)
    finally:
        torch.set_default_dtype(before)


def test_an_objective_of_ones_own_gets_images_in_the_models_precision():
    seen = set()

    def by_hand(model, x):
        logits, mu, logvar = model(x)  # which raises for another precision
        seen.add(x.dtype)
        terms = log_bernoulli(x, logits), kl_to_standard_normal(mu, logvar)
        return bounds.Bound(terms[0] - terms[1], *terms)

    for weights in DTYPES:
        for pixels in DTYPES:
            fit(small(weights), bits(dtype=pixels), objective=by_hand)
        assert seen == {weights}
        seen.clear()


def test_exact_takes_the_finer_precision_of_the_two():
    model, x = small(), bits()
    fine = exact.log_likelihood(small().double(), x.double())
    for some, images in ((model, x.double()), (small(torch.float64), x)):
        found = exact.log_likelihood(some, images)
        assert found.dtype == torch.float64
        assert torch.allclose(found, fine, atol=1e-12)
    assert model.encoder_mu.weight.dtype == torch.float32


# --- a model that computes NaN --------------------------------------------------------


def spoil(model, value=math.nan):
    with torch.no_grad():
        model.decoder_logits.bias[0] = value
    return model


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", MEASURES)
def test_a_model_of_nan_is_told_and_not_measured(name, value):
    with pytest.raises(DivergedError, match="model: it computes NaN") as told:
        MEASURES[name](spoil(small(), value), bits())
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", PICTURES)
def test_a_model_of_nan_is_not_drawn(name):
    model = spoil(small())
    model.encoder_mu.bias.data[0] = math.nan
    with pytest.raises(DivergedError, match="it computes NaN"):
        PICTURES[name](model, bits())


def test_what_nan_does_not_reach_is_measured():
    model, x = small(), bits()
    whole = exact.log_likelihood(model, x), exact.best_gaussian(model, x[:1], grid=60)
    model.encoder_mu.bias.data[0] = math.nan
    assert torch.equal(exact.log_likelihood(model, x), whole[0])
    best = exact.best_gaussian(model, x[:1], grid=60)
    assert torch.allclose(best.elbo, whole[1].elbo, atol=1e-4)


def test_a_model_of_nan_does_not_simulate():
    with pytest.raises(DivergedError):
        annealing.simulate(spoil(small()), 3)


@pytest.mark.parametrize(
    "call",
    [
        lambda m: annealing.anneal(m, bits(), **SMALL_CHAINS),
        lambda m: annealing.simulate(m, 3),
        lambda m: exact.best_gaussian(m, bits(1)),
        lambda m: exact.log_likelihood_with_error(m, bits()),
    ],
)
def test_an_autoencoder_has_no_log_likelihood_anywhere(call):
    with pytest.raises(TypeError, match=r"a AE has no prior"):
        call(small(kind=AE))


# --- integers -------------------------------------------------------------------------

INTEGERS = {
    "samples": lambda n: bounds.elbo(small(), bits(), samples=n),
    "k": lambda n: bounds.importance_weighted(small(), bits(), k=n),
    "grid": lambda n: exact.log_likelihood(small(), bits(), grid=n),
    "count": lambda n: figures.latent_map(small(), images_of(bits()), count=n),
    "n": lambda n: figures.manifold(small(), n),
    "zoom": lambda n: sliders.png(bits(1)[0], zoom=n),
    "batch_size": lambda n: [*images_of(bits(60)).batches(n)],
    "hidden_dim": lambda n: VAE(16, n, n),
    "latent_dim": lambda n: exact.LinearGaussian.fit(torch.rand(99, 60), n),
    "chains": lambda n: annealing.anneal(small(), bits(1), chains=n, temperatures=2),
}


@pytest.mark.filterwarnings("ignore:extent")
@pytest.mark.parametrize("name", INTEGERS)
def test_integers_of_any_library_are_integers(name):
    for kind in (np.int64, np.uint8, np.array, torch.tensor):
        INTEGERS[name](kind(40))
    for wrong in (np.float64(40), 40.0, True, np.True_, torch.tensor(True), "40", None):
        with pytest.raises(ValueError, match=f"{name}: got "):
            INTEGERS[name](wrong)


def test_numbers_of_any_library_take_the_decimal_mark(monkeypatch):
    monkeypatch.setitem(CATALOGUE, "test", {"pt": "{x:,.1f}", "en": "{x:,.1f}"})
    use_language("pt")
    for kind in (np.float32, np.float64, torch.tensor):
        assert say("test", x=kind(2000.5)) == "2.000,5"


def test_a_run_takes_numbers_of_any_library(tmp_path):
    path, x = tmp_path / "run.safetensors", images_of(bits())
    options = {"device": "cpu", "progress": False, "checkpoint": path}
    rate = np.float32(0.125)
    numbers = {"epochs": np.int64(1), "batch_size": torch.tensor(3)}
    train.fit(small(), x, **options, **numbers, learning_rate=rate)
    plain = {"epochs": 2, "batch_size": 3, "learning_rate": 0.125}
    assert len(train.fit(small(), x, **options, **plain)) == 2  # the same settings
    for wrong in ("fast", None, [1e-3], torch.tensor(math.nan)):
        with pytest.raises(ValueError, match="learning_rate: got"):
            train.fit(small(), x, **options, learning_rate=wrong, batch_size=3)


# --- a device without float64 ---------------------------------------------------------


def is_mps(value):
    return isinstance(value, str | torch.device) and str(value) == "mps"


def is_cpu(value):
    return isinstance(value, str | torch.device) and str(value) == "cpu"


def refuse_float64(out):
    with torch._C.DisableTorchFunctionSubclass():
        for part in out if isinstance(out, tuple | list) else [out]:
            if isinstance(part, torch.Tensor) and part.dtype == torch.float64:
                raise TypeError("Cannot convert a MPS Tensor to float64")
    return out


class OnMps(torch.Tensor):
    """A tensor that says it is on such a device, and so does whatever comes of it."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func == torch.Tensor.device.__get__:
            return torch.device("mps")
        args = [value for value in args if not is_mps(value)]
        kwargs = {k: v for k, v in (kwargs or {}).items() if not is_mps(v)}
        goes = func is torch.Tensor.to and any(map(is_cpu, args))
        out = super().__torch_function__(func, types, args, kwargs)
        if goes or func is torch.Tensor.cpu:
            return out.as_subclass(torch.Tensor)
        return refuse_float64(out)

    def __deepcopy__(self, memo):
        return nn.Parameter(self.detach().clone())


class Mps(TorchFunctionMode):
    """Makes tensors on such a device, and brings others to it."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        asked = any(map(is_mps, (*args, *kwargs.values())))
        if not asked or any(issubclass(kind, OnMps) for kind in types):
            return func(*args, **kwargs)
        args = [value for value in args if not is_mps(value)]
        out = func(*args, **{k: v for k, v in kwargs.items() if not is_mps(v)})
        return refuse_float64(out).as_subclass(OnMps)


@pytest.fixture
def mps():
    """Return a model on the device; what is inside meets no float64 there."""
    model = small()
    for module in model.modules():
        for name, weight in [*module._parameters.items()]:
            module._parameters[name] = nn.Parameter(weight.data.as_subclass(OnMps))
    swaps = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    with Mps():
        yield model
    torch.__future__.set_swap_module_params_on_conversion(swaps)


def test_the_device_without_float64_has_none(mps):
    x = bits().to("mps")
    assert mps.encode(x)[0].device.type == x.device.type == "mps"
    for call in (x.double, lambda: torch.zeros(2, dtype=torch.float64, device="mps")):
        with pytest.raises(TypeError, match="Cannot convert"):
            call()


@pytest.mark.parametrize("name", MEASURES | PICTURES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_float64_never_meets_a_device_that_has_none(mps, name, dtype):
    (MEASURES | PICTURES)[name](mps, bits(dtype=dtype))
    assert mps.encoder_mu.weight.device.type == "mps"  # itself left where it was


def test_float64_asked_for_is_computed_on_the_cpu(mps):
    x = bits()
    oracle = exact.log_likelihood(small().double(), x.double())
    for images in (x, x.to("mps")):
        found = exact.log_likelihood(mps, images, dtype=torch.float64)
        assert found.device.type == "cpu"
        assert torch.allclose(found, oracle, atol=1e-12)


def test_a_check_looks_at_an_answer_on_such_a_device(mps):
    x = bits()
    assert torch.equal(as_tensor(x.to("mps")), x.double())
