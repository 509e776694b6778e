"""The playground's arithmetic, run by Node: against PyTorch, SciPy and closed forms."""

import json
import math
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import distributions as D
from torch.nn import functional as F

from vae_teach import playground
from vae_teach.playground import CHOICES, DEFAULTS, PRESETS

FOLDER = Path(playground.__file__).parent
NO_NODE = "Node.js is missing: install it (Debian: apt-get install nodejs)"
ASKS = Path(__file__).with_name("asks.mjs")


@pytest.fixture(scope="session")
def node(tmp_path_factory):
    """Return a function that asks the module one of the things in asks.mjs."""
    if shutil.which("node") is None:
        pytest.skip(NO_NODE)
    folder = tmp_path_factory.mktemp("network")
    shutil.copy(FOLDER / "network.js", folder / "network.mjs")
    shutil.copy(ASKS, folder)

    def ask(name, given):
        done = subprocess.run(
            ["node", "asks.mjs", name],
            input=json.dumps(given),
            cwd=folder,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return ask


# --- PyTorch's own way to the same numbers ------------------------------------------


def double(numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def shapes(latents, width):
    """Return the shapes of the weights, in the page's order."""
    sizes = [(2, 32), (32, 2 * latents), (latents, width), (width, 2)]
    layers = [shape for i, o in sizes for shape in ((o, i), (o,))]
    return [*layers, ()]


def split(weights, latents, width):
    """Return a flat vector as the tensors of the network, in the page's order."""
    parts = []
    for shape in shapes(latents, width):
        values, weights = weights.tensor_split([math.prod(shape)])
        parts.append(values.reshape(shape))
    assert len(weights) == 0
    return parts


class Reference:
    """The network from nn.functional and torch.distributions."""

    def __init__(self, weights, latents, width, activation):
        *self.parts, self.log_sigma = split(weights, latents, width)
        self.follow = {"tanh": torch.tanh, "relu": torch.relu}[activation]
        self.prior = D.Normal(torch.zeros(latents).double(), 1.0)

    def q(self, x):
        w1, b1, w2, b2 = self.parts[:4]
        mu, logvar = F.linear(self.follow(F.linear(x, w1, b1)), w2, b2).chunk(2, -1)
        return D.Normal(mu, (logvar / 2).exp())

    def decode(self, z):
        w3, b3, w4, b4 = self.parts[4:]
        return F.linear(self.follow(F.linear(z, w3, b3)), w4, b4)

    def log_conditional(self, x, z):
        return D.Normal(self.decode(z), self.log_sigma.exp()).log_prob(x).sum(-1)

    def loss(self, x, eps, beta):
        """Minus the mean bound; eps (B, K, L)."""
        q = self.q(x)
        if eps.shape[1] == 1:
            z = q.mean + q.stddev * eps[:, 0]
            kl = D.kl_divergence(q, self.prior).sum(-1)
            return -(self.log_conditional(x, z) - beta * kl).mean()
        wide = D.Normal(q.mean[:, None], q.stddev[:, None])
        z = wide.mean + wide.stddev * eps  # (B, K, L)
        terms = (self.prior.log_prob(z) - wide.log_prob(z)).sum(-1)
        logs = self.log_conditional(x[:, None], z) + terms  # (B, K)
        return -(logs.logsumexp(1) - math.log(eps.shape[1])).mean()


def case(latents, activation, samples, beta, *, width=16, seed=0, batch=7):
    g = torch.Generator().manual_seed(seed)
    count = sum(math.prod(shape) for shape in shapes(latents, width))
    return {
        "latents": latents,
        "width": width,
        "activation": activation,
        "beta": beta,
        "weights": (0.5 * torch.randn(count, generator=g).double()).tolist(),
        "x": torch.randn(batch, 2, generator=g).double().tolist(),
        "eps": torch.randn(batch, samples, latents, generator=g).double().tolist(),
    }


CASES = [
    case(latents, activation, samples, beta, seed=k)
    for k, (latents, activation, (samples, beta)) in enumerate(
        (a, b, c)
        for a in (1, 2)
        for b in ("tanh", "relu")
        for c in ((1, 1), (1, 4), (5, 1), (20, 1))
    )
]


def reference_of(case, weights=None):
    if weights is None:
        weights = double(case["weights"])
    return Reference(weights, case["latents"], case["width"], case["activation"])


def test_forward_loss_and_every_gradient_are_pytorchs(node):
    """Same weights, same noise: both bounds, both activations, one and two latents."""
    cases = [dict(c) for c in CASES]
    for c, found in zip(cases, node("objectives", cases), strict=True):
        weights = double(c["weights"]).requires_grad_()
        reference = reference_of(c, weights)
        x, eps = double(c["x"]), double(c["eps"])
        loss = reference.loss(x, eps, c["beta"])
        loss.backward()
        q = reference.q(x)
        heads = torch.cat([q.mean, 2 * q.stddev.log()], -1).flatten()
        z = eps.flatten()[: 7 * c["latents"]].reshape(7, -1)
        means = reference.decode(z).flatten()
        assert found["q"] == pytest.approx(heads.tolist(), abs=1e-9)
        assert found["means"] == pytest.approx(means.tolist(), abs=1e-9)
        assert found["loss"] == pytest.approx(loss.item(), abs=1e-9)
        assert len(found["gradient"]) == len(weights.grad)
        assert found["gradient"] == pytest.approx(weights.grad.tolist(), abs=1e-9)
        parts = split(weights.grad, c["latents"], c["width"])
        assert all(part.abs().max() > 1e-4 for part in parts)  # each is compared


def test_adam_is_pytorchs(node):
    """Ten steps on the same noise, ending at the same weights."""
    c = CASES[2]
    weights = double(c["weights"]).requires_grad_()
    adam = torch.optim.Adam([weights], lr=0.01)
    x, eps = double(c["x"]), double(c["eps"])
    for _ in range(10):
        adam.zero_grad()
        reference_of(c, weights).loss(x, eps, 1).backward()
        adam.step()
    assert (weights - double(c["weights"])).abs().median() > 0.01
    assert node("adam", c) == pytest.approx(weights.tolist(), abs=1e-8)


# --- random numbers -----------------------------------------------------------------


def mulberry32(seed, count):
    """Tommy Ettinger's generator, on Python's integers."""
    mask, state = 2**32 - 1, seed
    for _ in range(count):
        state = (state + 0x6D2B79F5) & mask
        t = ((state ^ (state >> 15)) * (state | 1)) & mask
        t = (((t + ((t ^ (t >> 7)) * (t | 61))) & mask) ^ t) & mask
        yield ((t ^ (t >> 14)) & mask) / 2**32


def test_the_generator_is_mulberry32_and_its_normals_are_normal(node):
    seeds = [0, 1, 12345, 2**32 - 1]
    for seed, (uniforms, normals) in zip(seeds, node("random", seeds), strict=True):
        assert uniforms == list(mulberry32(seed, 50))
        assert stats.kstest(normals, "norm").pvalue > 1e-3
        assert abs(np.corrcoef(normals[:-1], normals[1:])[0, 1]) < 0.03


SHORT = DEFAULTS | {"steps": 50}


def test_a_seed_replays_a_run_and_another_does_not(node):
    runs = [SHORT | {"seed": 3}, SHORT | {"seed": 3}, SHORT | {"seed": 4}]
    first, again, other = node("weights", runs)
    assert first == again
    assert np.abs(np.subtract(first, other)).max() > 0.1


def test_only_a_learnt_sigma_moves_and_it_has_a_floor(node):
    low = SHORT | {"learnt": True, "sigma": 0.001, "steps": 1}
    runs = [SHORT, SHORT | {"learnt": True}, low]
    fixed, learnt, low, smallest = node("sigmas", runs)
    assert fixed == pytest.approx(DEFAULTS["sigma"], abs=1e-12)
    assert abs(learnt - DEFAULTS["sigma"]) > 0.01
    assert low == pytest.approx(smallest, abs=1e-12)
    assert smallest == playground.SIGMAS[0]


def test_data_are_what_they_are_called(node):
    """Shapes, and the variances that the second preset's sentence speaks of."""
    names = [name for name in CHOICES["data"] if name != "own"]
    found = dict(zip(names, map(np.array, node("data", names)), strict=True))
    assert all(np.abs(points).max() < 5 for points in found.values())
    radius = np.hypot(*found["ring"].T)
    assert (radius.mean(), radius.std()) == pytest.approx((1.6, 0.1), abs=0.01)
    variances = np.linalg.eigvalsh(np.cov(found["gaussian"].T))
    assert variances**0.5 == pytest.approx([0.3, 1.2], rel=0.05)
    assert np.corrcoef(found["gaussian"].T)[0, 1] > 0.8
    spiral = found["spiral"]
    angle, away = np.arctan2(*spiral.T[::-1]), np.hypot(*spiral.T)
    turns = (away / 2.1 * 3 * math.pi - angle) / (2 * math.pi)
    assert np.abs(turns - turns.round())[away > 0.7].mean() < 0.06
    upper = found["moons"][:, 1] > found["moons"][:, 0] * 0 + 0.1
    assert 0.3 < upper.mean() < 0.7


# --- the exact numbers --------------------------------------------------------------


def recipe(name, steps=None, **more):
    preset = DEFAULTS | PRESETS[name] | more
    return preset | ({"steps": steps} if steps else {})


TRAINED = [
    recipe("modes", 800),
    recipe("modes", 800, learnt=True),
    recipe("twin", 1000, data="spiral", sigma=0.05),  # steep: a narrow posterior
    recipe("collapse", 500),
    recipe("hole", 500),
    recipe("hole", 500, learnt=True, beta=1, activation="relu"),
]


@pytest.fixture(scope="module")
def ledgers(node):
    """Train a little on several recipes; return each with what became of it."""
    return list(zip(TRAINED, node("ledgers", TRAINED), strict=True))


def true_log_p(reference, points, latents):
    """log p(x) of each point: SciPy's quadrature, or a finer grid for two latents."""
    if latents == 1:
        return [log_p_by_scipy(reference, x) for x in points]
    line = torch.linspace(-6, 6, 601).double()
    z = torch.cartesian_prod(line, line)
    means, prior = reference.decode(z), reference.prior.log_prob(z).sum(-1)
    given = D.Normal(means, reference.log_sigma.exp())
    sums = [(given.log_prob(x).sum(-1) + prior).logsumexp(0).item() for x in points]
    return [total + 2 * math.log((line[1] - line[0]).item()) for total in sums]


def log_p_by_scipy(reference, x):
    def joint(z):
        at = torch.as_tensor(z).double().reshape(-1, 1)
        prior = reference.prior.log_prob(at)[:, 0]
        return (reference.log_conditional(x, at) + prior).numpy()

    line = np.linspace(-9, 9, 4001)
    values = joint(line)
    top, peak = values.max(), line[values.argmax()]
    close = np.clip([peak - 0.1, peak, peak + 0.1], -9, 9)
    total, _ = integrate.quad(
        lambda z: math.exp(joint(z).item() - top),
        -9,
        9,
        points=close,
        limit=200,
        epsabs=1e-6,
    )
    return top + math.log(total)


def test_the_exact_log_p_is_scipys_and_that_of_a_finer_grid(ledgers):
    """Mean error below 0.01 nats, as promised; here it is below 0.001."""
    for used, found in ledgers:
        reference = reference_of(used, double(found["weights"]))
        points = double(found["points"]).reshape(-1, 2)[:5]
        true = true_log_p(reference, points, used["latents"])
        error = np.abs(np.subtract(found["values"][:5], true))
        assert error.mean() < 1e-3, (used, error)
        assert error.max() < 1e-2, (used, error)


def test_the_ledger_is_that_of_gauss_hermite_and_closes(ledgers):
    """ELBO by other nodes; and the gap is KL(q || p(z|x)), computed on its own."""
    nodes, masses = np.polynomial.hermite_e.hermegauss(60)
    for used, found in ledgers:
        latents, ledger = used["latents"], found["ledger"]
        reference = reference_of(used, double(found["weights"]))
        points = double(found["points"]).reshape(-1, 2)
        q = reference.q(points)
        eps = torch.cartesian_prod(*[torch.tensor(nodes)] * latents).reshape(
            -1, latents
        )
        share = torch.cartesian_prod(*[torch.tensor(masses)] * latents)
        share = share.reshape(-1, latents).prod(-1)
        share = share / share.sum()
        z = q.mean[:, None] + q.stddev[:, None] * eps  # (B, G, L)
        logs = reference.log_conditional(points[:, None], z)  # (B, G)
        kl = D.kl_divergence(q, reference.prior)  # (B, L)
        kinks = 0.02 if used["activation"] == "relu" else 1e-3
        reconstruction = (share * logs).sum(-1).mean().item()
        assert ledger["reconstruction"] == pytest.approx(reconstruction, abs=kinks)
        assert ledger["kl"] == pytest.approx(kl.mean(0).tolist(), abs=1e-9)
        elbo = ledger["reconstruction"] - sum(ledger["kl"])
        assert ledger["elbo"] == pytest.approx(elbo, abs=1e-9)
        assert ledger["logP"] == pytest.approx(ledger["elbo"] + ledger["gap"], abs=1e-9)
        assert ledger["gap"] == pytest.approx(np.mean(ledger["gaps"]), abs=1e-9)
        prior = reference.prior.log_prob(z).sum(-1)
        log_q = D.Normal(q.mean[:, None], q.stddev[:, None]).log_prob(z).sum(-1)
        true = true_log_p(reference, points[:2], latents)
        posterior = logs[:2] + prior[:2] - torch.tensor(true)[:, None]
        gaps = (share * (log_q[:2] - posterior)).sum(-1)
        assert ledger["gaps"][:2] == pytest.approx(gaps.tolist(), abs=5 * kinks)
        assert gaps.min() > -1e-6


SLOPE = double([[0.9, 0.3], [-0.2, 0.6]])


def linear_case(sigma):
    """Return a decoder with mean SLOPE z: the tanh of numbers near 0 is linear."""
    c, small = case(2, "tanh", 1, 1, width=4), 1e-4
    weights = torch.zeros(len(c["weights"])).double()
    parts = split(weights, 2, 4)  # views of the same memory
    parts[4][0, 0] = parts[4][1, 1] = small
    parts[6][:, :2] = SLOPE / small
    parts[8].fill_(math.log(sigma))
    return c | {"weights": weights.tolist()}


def test_a_linear_model_has_its_closed_form(node):
    c = linear_case(0.3)
    (found,) = node("likelihoods", [c])
    covariance = SLOPE @ SLOPE.T + 0.09 * torch.eye(2)
    model = D.MultivariateNormal(torch.zeros(2).double(), covariance)
    assert found["values"] == pytest.approx(model.log_prob(double(c["x"])), abs=1e-4)


def test_a_grid_that_is_too_coarse_is_refined_or_says_so(node):
    """A posterior narrower than the finest grid, and one that leaves it: no number."""
    away = linear_case(0.3) | {"x": [[9.0, 9.0]]}
    on_edge = linear_case(0.5) | {"x": [[4.95, -1.1]]}  # z1 is about 4.3 +- 0.5
    cases = [*map(linear_case, (0.3, 0.05, 0.005)), away, on_edge]
    good, fine, narrow, away, on_edge = node("likelihoods", cases)
    assert good["sure"]
    assert fine["sure"]
    assert fine["count"] > good["count"]
    assert good["gap"] == pytest.approx(good["logP"] - good["elbo"], abs=1e-9)
    for bad in (narrow, away, on_edge):
        assert not bad["sure"]
        assert (bad["logP"], bad["gap"], bad["gaps"]) == (None, None, None)


def test_posterior_sum_of_q_holes_and_modes(node):
    """Against PyTorch where there is a density, and by counting where there is none."""
    c = case(2, "tanh", 1, 1)
    found = node("densities", c)
    reference = reference_of(c)
    z = double(found["z"]).reshape(-1, 2)
    x = double(c["x"])
    joint = reference.log_conditional(x[0], z) + reference.prior.log_prob(z).sum(-1)
    true = joint.softmax(0) / found["spacing"] ** 2
    assert found["density"] == pytest.approx(true.tolist(), abs=1e-9)
    q, line = reference.q(x), double(found["line"])
    square = torch.cartesian_prod(line, line).flip(-1)  # z1 runs fastest
    total = q.log_prob(square[:, None]).sum(-1).exp().mean(1)
    assert found["sum"] == pytest.approx(total.tolist(), abs=1e-9)
    inside = [2 * stats.norm.cdf(cut) - 1 for cut in (0, 2.95, 0.45)]  # between points
    assert found["holes"] == pytest.approx(inside, abs=1e-3)
    assert found["modes"] == [1, 2, 1, 3]


# --- the presets show what their sentences say --------------------------------------

SEEDS = (1, 2)


@pytest.fixture(scope="module")
def shown(node):
    """Train every preset to its end, for each seed."""
    runs = [recipe(name, seed=seed) for name in PRESETS for seed in SEEDS]
    names = [(name, seed) for name in PRESETS for seed in SEEDS]
    return dict(zip(names, node("shown", runs), strict=True))


@pytest.mark.parametrize("seed", SEEDS)
def test_two_modes_at_the_cut_of_the_ring(shown, seed):
    found = shown["modes", seed]
    assert found["modes"] == 2
    assert found["widest"] > 10 * found["gap"]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_hole_holds_most_of_the_prior(shown, seed):
    assert shown["hole", seed]["holes"] > 0.6
    assert shown["collapse", seed]["holes"] < 0.01


@pytest.mark.parametrize("seed", SEEDS)
def test_one_latent_dies_and_the_other_has_the_kl_of_probabilistic_pca(shown, seed):
    found = shown["collapse", seed]
    dead, alive = sorted(found["kl"])
    points = np.array(found["points"]).reshape(-1, 2)
    second = (points - points.mean(0)).T @ (points - points.mean(0)) / len(points)
    assert dead < 0.01
    expected = 0.5 * math.log(np.linalg.eigvalsh(second)[1] / 0.36)
    assert alive == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize("seed", SEEDS)
def test_beta_trains_the_twins_networks_and_buys_nothing(shown, seed):
    """Beta 4 at sigma is beta 1 at 2 sigma: Adam does not see a loss's scale."""
    beta, twin = shown["beta", seed], shown["twin", seed]
    assert beta["kl"][0] > 0.5
    assert beta["kl"] == pytest.approx(twin["kl"], abs=0.02)
    networks = np.subtract(beta["weights"], twin["weights"])[:-1]
    assert np.abs(networks).max() < 0.1
    assert twin["logP"] > beta["logP"] + 0.03
    assert twin["elbo"] > beta["elbo"] + 0.5


def test_the_still_picture_is_the_first_preset_trained(shown):
    """What the page trains from seed 1 is what the picture without JavaScript shows."""
    stored = json.loads((FOLDER / "still.json").read_text("utf-8"))
    found = shown["modes", 1]
    assert stored["points"] == pytest.approx(found["points"], abs=1e-4)
    assert stored["weights"] == pytest.approx(found["weights"], abs=1e-2)
