"""Other objectives, schedules and models through the same loop, resumed and kept."""

import math
import os
import signal
import time

import platformdirs
import pytest
import torch
from torch import nn

from vae_teach import bounds, train
from vae_teach.bounds import Bound
from vae_teach.data import Images
from vae_teach.densities import log_bernoulli, log_normal
from vae_teach.nets import AE, VAE
from vae_teach.train import fingerprint as fingerprints
from vae_teach.train.fingerprint import fingerprint
from vae_teach.words import use_language

SIGMA = 0.3


def autoencoder(model, x):
    """Reconstruction alone: a point has no KL."""
    reconstruction = log_bernoulli(x, model(x))
    return Bound(reconstruction, reconstruction, torch.zeros_like(reconstruction))


def beta_four(model, x):
    elbo, reconstruction, kl = bounds.elbo(model, x)
    return Bound(elbo - 3 * kl, reconstruction, kl)


def weighted_by_five(model, x):
    value = bounds.importance_weighted(model, x, k=5)
    return Bound(value, value, torch.zeros_like(value))


class GaussianVAE(VAE):
    """Pixels with a normal around the decoder's mean."""

    def log_conditional(self, x, z):
        logvar = torch.tensor(2 * math.log(SIGMA)).to(x)
        mean = self.decode(z)
        return log_normal(x.expand_as(mean), mean, logvar.expand_as(mean))


def small(kind=VAE):
    return kind(16, 8, 2)


CASES = {
    "elbo": (small, bounds.elbo),
    "autoencoder": (lambda: small(AE), autoencoder),
    "beta": (small, beta_four),
    "iwae": (small, weighted_by_five),
    "gaussian": (lambda: small(GaussianVAE), bounds.elbo),
}


@pytest.fixture(scope="module")
def images():
    stream = torch.Generator().manual_seed(0)
    grey = torch.rand(300, 16, generator=stream)
    return Images(grey, torch.zeros(300, dtype=torch.int64), "noise", dynamic=True)


def run(case, images, epochs=2, **options):
    make, objective = CASES[case]
    torch.manual_seed(0)
    model = make()
    settings = {"batch_size": 50, "device": "cpu", "progress": False}
    settings |= {"epochs": epochs, "objective": objective}
    history = train.fit(model, images, **settings | options)
    return torch.cat([p.detach().flatten() for p in model.parameters()]), history


def by_hand(case, images, epochs=2, rate=lambda step: 1e-3, weight=lambda step: 1.0):
    """The plain loop, without anything of fit."""
    make, objective = CASES[case]
    torch.manual_seed(0)
    model, step = make(), 0
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(epochs):
        for chosen in torch.randperm(len(images)).split(50):
            adam.param_groups[0]["lr"] = rate(step)
            elbo, _reconstruction, kl = objective(model, images.take(chosen))
            loss = -(elbo + (1 - weight(step)) * kl).mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
            step += 1
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("case", CASES)
def test_any_objective_is_climbed_as_by_hand(case, images):
    weights, history = run(case, images, epochs=3)
    assert torch.allclose(weights, by_hand(case, images, epochs=3), atol=1e-5)
    assert history.column("elbo")[-1] > history.column("elbo")[0]


def test_the_default_is_the_elbo_of_the_terms_in_closed_form(images):
    """The step before there were objectives: reconstruction and KL by the densities."""

    def as_before(model, x):
        logits, mu, logvar = model(x)
        kl = 0.5 * (mu.square() + logvar.exp() - 1 - logvar).sum(1)
        reconstruction = -nn.functional.binary_cross_entropy_with_logits(
            logits, x, reduction="none"
        ).sum(1)
        return Bound(reconstruction - kl, reconstruction, kl)

    default, _ = run("elbo", images)
    before, _ = run("elbo", images, objective=as_before)
    assert torch.allclose(default, before, atol=1e-6)


def test_beta_by_the_weight_is_beta_by_the_objective(images):
    """And with the weight the history keeps the ELBO itself."""
    by_objective, first = run("beta", images)
    by_weight, second = run("elbo", images, kl_weight=4.0)
    assert torch.allclose(by_objective, by_weight, atol=1e-6)
    row = second.rows[-1]
    assert row["elbo"] == pytest.approx(row["reconstruction"] - row["kl"], abs=1e-4)
    assert first.rows[-1]["elbo"] == pytest.approx(
        row["elbo"] - 3 * row["kl"], abs=1e-4
    )


def test_schedules_count_the_steps_of_the_whole_run(images):
    def rate(step):
        return 1e-3 / (1 + step)

    def weight(step):
        return min(1.0, step / 8)

    weights, _ = run("elbo", images, learning_rate=rate, kl_weight=weight)
    assert torch.allclose(weights, by_hand("elbo", images, 2, rate, weight), atol=1e-6)
    assert not torch.allclose(weights, run("elbo", images)[0], atol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_the_objective_is_measured_on_test_images(case, images):
    still = Images((images.pixels > 0.5).float(), images.labels)
    _, history = run(case, images, test=still)
    assert all(math.isfinite(value) for value in history.column("test_elbo"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork: Linux or macOS")
@pytest.mark.parametrize("case", list(CASES)[1:])
def test_a_run_killed_at_any_moment_ends_bit_for_bit(case, images, tmp_path):
    path = tmp_path / "run.safetensors"
    options = {"checkpoint": path, "learning_rate": lambda step: 1e-3 / (1 + step / 9)}
    options |= {"kl_weight": lambda step: min(1.0, step / 20)}
    if (child := os.fork()) == 0:
        run(case, images, epochs=100_000 // 50, **options)
        os._exit(0)
    while not path.exists():
        time.sleep(0.001)
    time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    kept = len(run(case, images, epochs=1, **options)[1])
    resumed, _ = run(case, images, epochs=kept + 3, **options)
    whole, _ = run(case, images, epochs=kept + 3, **options | {"checkpoint": None})
    assert torch.equal(resumed, whole)


@pytest.mark.parametrize(
    ("first", "then", "named"),
    [
        ({}, {"objective": beta_four}, "objective"),
        ({"objective": beta_four}, {}, "objective"),
        ({}, {"kl_weight": 2.0}, "kl_weight"),
        ({"kl_weight": 2.0}, {}, "kl_weight"),
        ({"learning_rate": lambda s: 1e-3}, {"learning_rate": lambda s: 2e-3}, "rate"),
    ],
)
def test_a_checkpoint_of_another_objective_is_refused(
    first, then, named, images, tmp_path
):
    path = tmp_path / "run.safetensors"
    default = {"objective": bounds.elbo, "checkpoint": path}
    run("elbo", images, epochs=1, **default | first)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=named):
        run("elbo", images, epochs=2, **default | then)
    assert path.read_bytes() == before
    run("elbo", images, epochs=2, **default | first)


# --- kept -----------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path)
    return tmp_path / "models"


def get(images, **options):
    settings = {"epochs": 1, "batch_size": 50, "device": "cpu", "progress": False}
    return train.trained(images, **settings | options)


def files(cache):
    return {path.name for path in cache.glob("*.safetensors")}


@pytest.mark.parametrize("case", CASES)
def test_any_model_is_kept_and_read_again(case, images, cache):
    make, objective = CASES[case]
    model, first = get(images, make=make, objective=objective, seed=0)
    again, second = get(images, make=make, objective=objective, seed=0)
    weights = torch.cat([p.detach().flatten() for p in model.parameters()])
    assert torch.equal(weights, run(case, images, epochs=1)[0])
    for a, b in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    assert first.rows == second.rows
    assert not again.training
    assert len(files(cache)) == 1


def test_all_that_determines_a_model_is_in_its_key(images, cache):
    steep = 0.5

    class Wider(VAE):
        def decode_logits(self, z):
            return steep * super().decode_logits(z)

    options = [{}, {"objective": beta_four}, {"objective": weighted_by_five}]
    options += [{"kl_weight": 2.0}, {"kl_weight": lambda s: 2.0}]
    options += [{"kl_weight": lambda s: 2.0 + s}, {"learning_rate": lambda s: 1e-3}]
    options += [{"make": lambda: VAE(16, 9, 2)}, {"make": lambda: Wider(16, 9, 2)}]
    for count, some in enumerate(options, 1):
        get(images, **some)
        assert len(files(cache)) == count, some
    steep = 0.25  # the class reads another constant
    get(images, make=lambda: Wider(16, 9, 2))
    assert len(files(cache)) == len(options) + 1
    get(images, make=lambda: VAE(16, 9, 2))  # a new function that makes the same
    assert len(files(cache)) == len(options) + 1


def test_a_fingerprint_follows_what_code_does():
    scale, other = torch.ones(2), torch.ones(2)

    def first(x):
        return x * scale

    def same(x):
        # a comment
        return x * scale

    def wider(x):
        return x * scale * 2

    def calls(x):
        return first(x)

    assert fingerprint(first) == fingerprint(first)
    assert fingerprint(first) != fingerprint(wider)
    before = fingerprint(calls)
    scale.mul_(3)
    assert fingerprint(calls) != before  # by way of the function that it calls
    assert fingerprint(scale) != fingerprint(other)
    assert fingerprint({"a": 1}) != fingerprint({"a": 1.0})
    assert fingerprint((1, 2), 3) != fingerprint(1, (2, 3))
    layer = nn.Linear(2, 2)
    before = fingerprint(layer)
    layer.bias.data[0] += 1
    assert fingerprint(layer) != before
    assert len(before) == 32


def test_a_global_and_a_default_are_part_of_a_function(monkeypatch):
    before = fingerprint(GaussianVAE)
    monkeypatch.setitem(globals(), "SIGMA", 0.31)
    assert fingerprint(GaussianVAE) != before
    assert fingerprint(lambda x, k=1: x) != fingerprint(lambda x, k=2: x)


def test_a_fingerprint_is_the_same_in_another_process(images):
    import subprocess
    import sys

    code = (
        "import sys; sys.path[:0] = sys.argv[1:]; import test_objectives as t; "
        "from vae_teach.train.fingerprint import fingerprint; "
        "print(fingerprint(t.beta_four, t.GaussianVAE, t.autoencoder, {'b', 'a', 'c'}))"
    )
    here = os.path.dirname(__file__)
    told = {
        subprocess.run(
            [sys.executable, "-c", code, here, os.path.dirname(here)],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert told == {fingerprint(beta_four, GaussianVAE, autoencoder, {"b", "a", "c"})}


def test_code_of_the_package_that_trains_is_read_whole():
    names = {"fingerprint.py", "loop.py", "cuda_graph.py", "nets.py", "models.py"}
    seen = set()
    original = fingerprints.Path.read_bytes

    def told(path):
        seen.add(path.name)
        return original(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fingerprints.Path, "read_bytes", told)
        fingerprints.code_that_trains()
    assert names <= seen
    assert "figures.py" not in seen


# --- bad input ------------------------------------------------------------------------


def loss(model, x):
    return -bounds.elbo(model, x).elbo.mean()


def turned(model, x):
    elbo, reconstruction, kl = bounds.elbo(model, x)
    return Bound(-elbo, reconstruction, kl)


def averaged(model, x):
    return Bound(*(part.mean() for part in bounds.elbo(model, x)))


def not_a_number(model, x):
    return Bound(*(part * math.nan for part in bounds.elbo(model, x)))


@pytest.mark.parametrize("language", ["pt", "en"])
@pytest.mark.parametrize(
    ("options", "error", "pt", "en"),
    [
        ({"objective": loss}, TypeError, r"Tensor \(\).*bounds\.Bound", "not a loss"),
        ({"objective": lambda m, x: None}, TypeError, "NoneType", "NoneType"),
        ({"objective": turned}, ValueError, "é uma perda", "which is a loss"),
        ({"objective": averaged}, ValueError, r"\(50,\)", r"per image, \(50,\)"),
        ({"objective": not_a_number}, FloatingPointError, "NaN", "before the first"),
        (
            {"learning_rate": lambda s: 3 - s},
            ValueError,
            "passo 4.* -1",
            "step 4 .* -1",
        ),
        ({"learning_rate": lambda s: None}, ValueError, "passo 0", "gives None"),
        ({"kl_weight": lambda s: math.inf}, ValueError, "kl_weight", "kl_weight: at"),
        ({"kl_weight": -1.0}, ValueError, "kl_weight", "kl_weight: got -1.0"),
    ],
)
def test_bad_objectives_and_schedules_get_one_sentence(
    options, error, pt, en, language, images, tmp_path
):
    use_language(language)
    with pytest.raises(error, match={"pt": pt, "en": en}[language]) as caught:
        run("elbo", images, checkpoint=tmp_path / "run.safetensors", **options)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_another_width_is_told(images, cache):
    with pytest.raises(ValueError, match=r"x: got .*16.* 20"):
        get(images, make=lambda: VAE(20, 8, 2))

    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(20, 4)
            self.back = nn.Linear(2, 20)

        def encode(self, x):
            return self.layer(x).chunk(2, 1)

        def decode(self, z):
            return self.back(z).sigmoid()

    with pytest.raises(ValueError, match=r"shape \((50|1), 16\)"):
        get(images, make=Plain)


def test_what_has_no_lasting_description_is_told(images, cache):
    handle = iter([1, 2])
    with pytest.raises(ValueError, match="of type list_iterator"):
        get(images, objective=lambda m, x: bounds.elbo(m, x, next(handle)))


@pytest.mark.cuda
@pytest.mark.parametrize("case", CASES)
def test_every_objective_is_captured_on_a_gpu(case, images):
    make, objective = CASES[case]
    for options in ({}, {"learning_rate": [1e-3] * 12, "kl_weight": [0.5] * 12}):
        torch.manual_seed(0)
        run = train.Run(
            make().to("cuda"), images.to("cuda"), objective=objective, **options
        )
        assert run.captured(50) != run.step
