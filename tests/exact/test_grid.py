"""Exact log p(x): against SciPy, closed forms, and sums that leave nothing out."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from planes import (
    PRIOR,
    condition,
    density,
    joint_on,
    line,
    lit,
    points_of,
    random_bits,
    random_vae,
    rulers,
    two_modes,
)
from scipy import integrate, stats
from torch.distributions import Normal, kl_divergence

from vae_teach import data, exact, models, train
from vae_teach.exact import grid as grid_module
from vae_teach.nets import VAE
from vae_teach.words import use_language


def all_images(pixels):
    return (torch.arange(2**pixels)[:, None] >> torch.arange(pixels) & 1).double()


def whole_grid(model, x, grid, extent):
    """Return every grid point's share of log p(x): no tile is left out."""
    side = torch.linspace(-extent, extent, grid, dtype=x.dtype)
    z = torch.stack(torch.meshgrid(side, side, indexing="ij"), -1).reshape(-1, 2)
    tables = [joint_on(model, x, part) for part in z.split(20_000)]
    total = torch.cat(tables, 1).logsumexp(1)
    return total + 2 * math.log(2 * extent / (grid - 1))


# --- log_likelihood ---------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::scipy.integrate.IntegrationWarning")  # the kinks
def test_log_likelihood_is_that_of_scipy():
    model, x = random_vae(), random_bits(2)
    ours = exact.log_likelihood(model, x, grid=1000, extent=6)
    for image, value in zip(x.numpy(), ours, strict=True):
        total, _ = integrate.dblquad(
            density(model, image), -6, 6, -6, 6, epsabs=1e-7, epsrel=1e-5
        )
        assert value.item() == pytest.approx(math.log(total), abs=2e-6)


def test_probabilities_of_all_images_sum_to_one():
    model = random_vae(pixels=5)
    total = exact.log_likelihood(model, all_images(5), extent=7).logsumexp(0)
    assert total.item() == pytest.approx(0, abs=1e-6)


@pytest.mark.filterwarnings("ignore:extent")
@pytest.mark.parametrize("extent", [4.5, 8.0])
@pytest.mark.parametrize("grid", [4, 5, 7, 50, 67, 101, 397, 400])
def test_tiles_leave_nothing_out(grid, extent):
    folded, far = two_modes()
    for model, x in ((random_vae(), random_bits(5)), (folded, far)):
        ours, _ = exact.log_likelihood_with_error(model, x, grid=grid, extent=extent)
        oracle = whole_grid(model, x, grid, extent)
        assert torch.allclose(ours, oracle, atol=1e-6, rtol=0)


def test_two_modes_are_two():
    """What the test above is about: both lie far apart and weigh the same."""
    model, x = two_modes()
    table = exact.posterior(model, x[:1], grid=201)[0]  # z1 along the first axis
    cell = 0.05**2
    assert table[:100].sum().item() * cell == pytest.approx(0.5, abs=1e-6)
    assert table[80:121].sum().item() * cell < 1e-4


@pytest.mark.parametrize("grid", [301, 347])
def test_narrow_posterior_between_scouts_is_found(grid):
    """The scouts stand 0.15 apart; the posterior is 0.025 wide, anywhere."""
    thresholds = torch.arange(-1.5, 1.5, 0.03, dtype=torch.float64)
    model = rulers(50.0, thresholds)
    stream = torch.Generator().manual_seed(0)
    places = torch.rand(60, 2, generator=stream, dtype=torch.float64) * 2.4 - 1.2
    x = lit(thresholds, places)
    width = exact.posterior(model, x[:1], grid=grid, extent=2)[0].sum(1)
    side = torch.linspace(-2, 2, grid, dtype=torch.float64)
    share = width / width.sum()
    assert (share @ side.square() - (share @ side) ** 2).sqrt() < 0.03
    ours, _ = exact.log_likelihood_with_error(model, x, grid=grid, extent=2)
    assert torch.allclose(ours, whole_grid(model, x, grid, 2), atol=1e-6, rtol=0)


def test_weak_second_mode_between_scouts_is_found():
    """Twelve nats below the first: what a narrower net of tiles would leave out."""
    model = Peaks([[0.0, 0.0], [1.0, 1.0]], 0.04)
    for place in np.arange(1.0, 1.3, 0.017):
        model.places[1] = place
        x = torch.zeros(1, 1, dtype=torch.float64)
        ours = exact.log_likelihood(model, x, grid=667, extent=5)
        assert ours.item() == pytest.approx(model.truth(), abs=1e-6)


class Peaks(torch.nn.Module):
    """A posterior of equal Gaussian peaks at some places, the same for all images."""

    def __init__(self, places, width):
        super().__init__()
        self.places = torch.tensor(places, dtype=torch.float64)
        self.width = width

    def encode(self, x):
        return torch.zeros(len(x), 2).to(x), torch.zeros(len(x), 2).to(x)

    def log_conditional(self, x, z):
        squared = (z[..., None, :] - self.places).square().sum(-1)
        peaks = (-0.5 * squared / self.width**2).logsumexp(-1)
        return peaks + 0 * x.sum(-1)

    def truth(self):
        """Each peak times the prior: the product of two Gaussians."""
        variance = 1 + self.width**2
        masses = [
            stats.multivariate_normal.pdf(place, np.zeros(2), variance * np.eye(2))
            for place in self.places.numpy()
        ]
        return math.log(2 * math.pi * self.width**2 * sum(masses))


@pytest.mark.filterwarnings("ignore:extent")
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("end", [-2.02, 2.02])
def test_a_mode_at_the_end_of_the_plane_is_found(axis, end):
    """The last scout stands at most half of their spacing from it."""
    model = Peaks([[0.0, 0.0], [0.0, 0.0]], 0.02)
    side = torch.linspace(-2.02, 2.02, 405, dtype=torch.float64)
    z = torch.cartesian_prod(side, side)
    for other in np.arange(-0.1, 0.1, 0.02):
        model.places[1, axis], model.places[1, 1 - axis] = end, other
        joint = model.log_conditional(z[:1], z) + PRIOR.log_prob(z).sum(1)
        oracle = joint.logsumexp(0).item() + 2 * math.log(0.01)
        x = torch.zeros(1, 1, dtype=torch.float64)
        ours, _ = exact.log_likelihood_with_error(model, x, grid=405, extent=2.02)
        assert ours.item() == pytest.approx(oracle, abs=1e-5)


def test_an_image_does_not_change_the_answer_of_another():
    model, x = random_vae(), random_bits(6)
    alone = torch.cat(
        [exact.log_likelihood(model, row, grid=101) for row in x[:, None]]
    )
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    together = exact.log_likelihood(model, x[order], grid=101)
    assert torch.allclose(together, alone[order], atol=1e-9)
    many = x.repeat(350, 1)  # more than are summed at once
    assert len(many) > 2 * grid_module.IMAGES_AT_ONCE
    crowd = exact.log_likelihood(model, many, grid=101)
    assert torch.allclose(crowd, alone.repeat(350), atol=1e-9)


@pytest.mark.parametrize("points", [301, 50])  # some tiles at once, or bands of one
def test_pieces_do_not_change_the_answer(points, monkeypatch):
    model, x = random_vae(), random_bits(6)
    whole = exact.log_likelihood(model, x, grid=400)
    monkeypatch.setattr(grid_module, "POINTS_AT_ONCE", points)
    monkeypatch.setattr(grid_module, "IMAGES_AT_ONCE", 2)
    pieces, moved = exact.log_likelihood_with_error(model, x, grid=400)
    assert torch.allclose(pieces, whole, atol=1e-9)
    assert moved.max() < 1e-5


@pytest.mark.filterwarnings("ignore:extent")
@pytest.mark.parametrize("grid", [30, 43, 60, 100, 201])
def test_error_is_an_upper_estimate(grid):
    folded, far = two_modes()
    for model, x in ((random_vae(), random_bits(20)), (folded, far)):
        truth = exact.log_likelihood(model, x, grid=801, extent=6)
        ours, error = exact.log_likelihood_with_error(model, x, grid=grid)
        assert ((ours - truth).abs() <= error + 1e-9).all()


@pytest.mark.filterwarnings("ignore:extent")
@pytest.mark.parametrize("extent", [1.0, 2.0, 3.0, 4.0, 5.0])
def test_error_knows_what_lies_beyond_the_edge(extent):
    """Where x says nothing the posterior is the prior, as wide as one can be."""
    model, x = line(scale=0.0), torch.zeros(1, 5, dtype=torch.float64)
    truth = model.log_likelihood(x)
    ours, error = exact.log_likelihood_with_error(model, x, extent=extent)
    beyond = -2 * math.log1p(-2 * stats.norm.sf(extent))
    assert (truth - ours).item() == pytest.approx(beyond, rel=0.1)  # a cell is cut too
    assert (truth - ours).abs() <= error
    assert error < 5 * beyond


def test_error_is_small_where_the_grid_is_fine():
    model, x = line(scale=2.0), points_of(line(scale=2.0), 5)
    ours, error = exact.log_likelihood_with_error(model, x, grid=400, extent=6)
    assert error.max() < 1e-6
    assert torch.equal(ours, exact.log_likelihood(model, x, grid=400, extent=6))


def test_double_precision_leaves_the_model_as_it_was():
    model = random_vae().float()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = random_bits(5)
    ours = exact.log_likelihood(model, x.float(), grid=200, dtype=torch.float64)
    assert ours.dtype == torch.float64
    oracle = exact.log_likelihood(random_vae(), x, grid=200)
    assert torch.allclose(ours, oracle, atol=1e-5)  # weights rounded to float32
    single = exact.log_likelihood(model, x.float(), grid=200)
    assert single.dtype == torch.float32
    assert torch.allclose(single, oracle.float(), atol=1e-4)
    for name, value in model.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, before[name])


@pytest.mark.skipif(
    sys.platform != "linux", reason="ru_maxrss counts kilobytes only on Linux"
)
def test_memory_does_not_grow_with_the_grid():
    code = """
import resource, torch
from vae_teach.exact import log_likelihood, log_likelihood_with_error
from vae_teach.nets import VAE
torch.set_num_threads(1)
torch.manual_seed(0)
model, x = VAE(), torch.bernoulli(torch.full((4, 784), 0.2))
model.decoder_hidden.weight.data.mul_(10)
model.decoder_logits.weight.data.mul_(3)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
log_likelihood_with_error(model, x, grid=50)
before = peak()
log_likelihood(model, x, grid=3000)
print((peak() - before) / 1024)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 1000  # megabytes; all points at once would take 28 GB


@pytest.mark.filterwarnings("ignore:extent")
@pytest.mark.parametrize("make", [random_vae, line], ids=["bits", "numbers"])
@pytest.mark.parametrize(
    ("images", "grid", "extent", "rows", "points", "chunk"),
    [(100, 30, 5.0, 4, 1000, 10_000), (3, 200, 1.5, 4, 100, 2_000)],
)
def test_few_numbers_are_in_memory_at_once(
    make, images, grid, extent, rows, points, chunk, monkeypatch
):
    """Images times points of a table; points decoded; pixels of a model's own."""
    assert grid_module.IMAGES_AT_ONCE * grid_module.POINTS_AT_ONCE <= 2**23  # 64 MB
    assert grid_module.PIXELS_AT_ONCE <= 2**23
    for name, value in (("IMAGES", rows), ("POINTS", points), ("PIXELS", chunk)):
        monkeypatch.setattr(grid_module, f"{name}_AT_ONCE", value)
    tables, decoded, pixels = [], [], []
    made, own = grid_module.LogJoint.at, models.Adapted.log_conditional

    def told_made(joint, z):
        table = made(joint, z)
        decoded.append(len(z))

        def told(x, part):
            found = table(x, part)
            tables.append(found.numel())
            return found

        return told

    def told_own(model, x, z):
        found = own(model, x, z)
        pixels.append(found.numel() * x.shape[-1])
        return found

    monkeypatch.setattr(grid_module.LogJoint, "at", told_made)
    monkeypatch.setattr(models.Adapted, "log_conditional", told_own)
    x = random_bits(images, pixels=6 if make is random_vae else 5)
    exact.log_likelihood_with_error(make(), x, grid=grid, extent=extent)
    assert rows * points / 2 < max(tables) <= rows * points
    assert max(decoded[1:]) < 2 * points  # the first are the scouts
    assert max(pixels, default=0) <= chunk


# --- the ledger -------------------------------------------------------------------


def check_ledger(model, x, grid, extent):
    """log p(x) = ELBO + KL(q || posterior), with the three from three functions.

    It tests their sums. A factor that log p(x) and the posterior share would cancel:
    that there is none, the tests against SciPy and closed forms show.
    """
    log_p, _ = exact.log_likelihood_with_error(model, x, grid=grid, extent=extent)
    log_posterior = exact.posterior(model, x, grid=grid, extent=extent).log().flatten(1)
    side = torch.linspace(-extent, extent, grid, dtype=x.dtype)
    z = torch.stack(torch.meshgrid(side, side, indexing="ij"), -1).reshape(-1, 2)
    cell = (2 * extent / (grid - 1)) ** 2
    parts = z.split(4000)
    joint = torch.cat([joint_on(model, x, part) for part in parts], 1)  # (B, G)
    with torch.no_grad():
        mu, logvar = model.encode(x)
    for i in range(len(x)):
        q = Normal(mu[i], (logvar[i] / 2).exp())
        log_q = q.log_prob(z).sum(1)
        share = log_q.exp() * cell
        assert share.sum().item() == pytest.approx(1, abs=1e-4)
        share = share / share.sum()
        kl = share @ (log_q - PRIOR.log_prob(z).sum(1))
        assert kl.item() == pytest.approx(
            kl_divergence(q, PRIOR).sum().item(), abs=5e-3
        )
        elbo = share @ (joint[i] - PRIOR.log_prob(z).sum(1)) - kl
        seen = share > 1e-30
        gap = (share * (log_q - log_posterior[i]))[seen].sum()
        assert gap >= 0
        assert abs(log_p[i].item() - (elbo + gap).item()) <= 1e-4


def test_ledger_closes_on_bars():
    stream = torch.Generator().manual_seed(0)
    place = torch.rand(600, 1, generator=stream) * 12
    columns = torch.arange(16)
    grey = 0.05 + 0.9 * ((columns >= place) & (columns < place + 4)).float()
    images = data.Images(grey, place[:, 0].long(), "bars", dynamic=True)
    torch.manual_seed(0)
    model = VAE(input_dim=16, hidden_dim=32, latent_dim=2)
    train.fit(model, images, epochs=10, batch_size=50, device="cpu", progress=False)
    check_ledger(model.double(), (grey[:25] > 0.5).double(), grid=200, extent=8)


@pytest.mark.mnist
def test_ledger_closes_on_mnist():
    images = data.load("mnist", "test")  # the last 200 are not trained on
    few = data.Images(images.pixels[:6000], images.labels[:6000], dynamic=True)
    torch.manual_seed(0)
    model = VAE()
    train.fit(model, few, epochs=1, device="cpu", progress=False)
    x = images.pixels[-200:].double()
    check_ledger(model.double(), x, grid=200, extent=10)


# --- posterior --------------------------------------------------------------------


def test_posterior_has_the_moments_of_the_closed_form():
    model = line(variance=2.0)
    x = points_of(model, 4)
    side = np.linspace(-7, 7, 301)
    cell = (side[1] - side[0]) ** 2
    tables = exact.posterior(model, x, grid=301, extent=7).numpy()
    assert tables.shape == (4, 301, 301)
    for image, table in zip(x.numpy(), tables, strict=True):
        mean, covariance = condition(model, image)
        assert table.sum() * cell == pytest.approx(1, abs=1e-9)
        share = table * cell
        first, second = share.sum(1) @ side, share.sum(0) @ side  # of z1 and of z2
        assert (first, second) == pytest.approx(tuple(mean), abs=1e-6)
        between = (side - first) @ share @ (side - second)
        assert between == pytest.approx(covariance[0, 1], abs=1e-6)
        assert share.sum(1) @ (side - first) ** 2 == pytest.approx(covariance[0, 0])
        assert share.sum(0) @ (side - second) ** 2 == pytest.approx(covariance[1, 1])


def test_posterior_has_the_moments_of_scipy():
    model, x = random_vae(), random_bits(1)
    joint = density(model, x[0].numpy())

    def moment(power):
        def weighted(z2, z1):
            return z1**power * joint(z2, z1)

        return integrate.dblquad(weighted, -6, 6, -6, 6, epsabs=1e-5, epsrel=1e-5)[0]

    total, first, second = map(moment, range(3))
    side = torch.linspace(-6, 6, 300, dtype=torch.float64)
    share = exact.posterior(model, x, grid=300, extent=6)[0].sum(1)
    share = share / share.sum()
    assert (share @ side).item() == pytest.approx(first / total, abs=1e-3)
    assert (share @ side**2).item() == pytest.approx(second / total, abs=1e-3)


def test_first_axis_is_z1():
    model = Peaks([[2.0, -1.0]], 0.1)
    table = exact.posterior(model, torch.zeros(1, 1, dtype=torch.float64), grid=101)[0]
    row, column = divmod(table.argmax().item(), 101)
    side = np.linspace(-5, 5, 101)
    assert (side[row], side[column]) == pytest.approx((2, -1))


# --- bad input --------------------------------------------------------------------


def test_other_latent_sizes_are_sent_elsewhere():
    for latents in (1, 3):
        model = random_vae(latents=latents)
        for call in (exact.log_likelihood, exact.posterior, exact.best_gaussian):
            with pytest.raises(ValueError, match=r"importance_weighted"):
                call(model, random_bits(2))


@pytest.mark.parametrize(
    "call", [exact.log_likelihood, exact.posterior, exact.best_gaussian]
)
@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"grid": 3}, "grid: got 3; it takes at least 4"),
        ({"grid": 0}, "grid: got 0"),
        ({"grid": 40.0}, "grid: got 40.0"),
        ({"grid": True}, "grid: got True"),
        ({"extent": 0.0}, "extent: got 0.0"),
        ({"extent": -5}, "extent: got -5"),
        ({"extent": math.nan}, "extent: got nan"),
        ({"extent": 20.5}, r"extent: got 20\.5; .* up to 20"),
        ({"extent": math.inf}, "extent: got inf"),
    ],
)
def test_bad_grids_get_one_sentence(call, options, named):
    with pytest.raises(ValueError, match=named):
        call(random_vae(), random_bits(2), **options)


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({}, ValueError, r"x: got pixels from 0 to 2"),
        ({}, ValueError, "x: got NaN pixels"),
        ({}, TypeError, "x: got torch.int64;"),
        ({"dtype": torch.float64}, TypeError, "x: got torch.int64;"),
        ({}, ValueError, r"it takes \(B, 6\)"),
        ({}, ValueError, "x: got an empty set"),
    ],
)
def test_bad_pixels_get_one_sentence(options, error, named):
    x = random_bits(3)
    spoilt = {"2": 2 * x, "NaN": x * math.nan, "int64": x.long(), "B, 6": x[:, :5]}
    bad = next((v for key, v in spoilt.items() if key in named), x[:0])
    with pytest.raises(error, match=named):
        exact.log_likelihood(random_vae(), bad, **options)


def far_line():
    """A narrow posterior at (2, 2)."""
    eye = torch.eye(2, dtype=torch.float64)
    model = exact.LinearGaussian(eye, torch.zeros(2, dtype=torch.float64), 0.01)
    return model, torch.full((1, 2), 2.02, dtype=torch.float64)


@pytest.mark.parametrize("extent", [1e-4, 0.02, 0.5, 1.9])
@pytest.mark.parametrize("grid", [4, 5, 400])
def test_posterior_outside_the_plane_is_told(extent, grid):
    model, x = far_line()
    with pytest.raises(ValueError, match=r"touches the edge of the grid.*raise extent"):
        exact.log_likelihood(model, x, grid=grid, extent=extent)


def test_small_extent_warns_and_answers():
    model, x = far_line()
    for call in (exact.log_likelihood, exact.posterior):
        with pytest.warns(UserWarning, match=r"the edge.*affected: 1\)") as caught:
            call(model, x, extent=2.2)
        assert caught[0].filename == __file__


def test_warning_tells_the_share_on_the_edge():
    """Two strips of the prior as wide as the scouts' spacing, 0.15, along each axis."""
    model, x = line(scale=0.0), torch.zeros(1, 5, dtype=torch.float64)
    inside = (1 - 2 * stats.norm.sf(1.85)) / (1 - 2 * stats.norm.sf(2))
    with pytest.warns(UserWarning, match="the edge") as caught:
        exact.log_likelihood(model, x, extent=2)
    told = float(str(caught[0].message).partition("up to ")[2].partition("%")[0])
    assert told == pytest.approx(100 * (1 - inside**2), rel=0.25)


@pytest.mark.parametrize("place", [(2.0, 0.0), (-2.0, 0.0), (0.0, 2.0), (0.0, -2.0)])
@pytest.mark.parametrize("call", [exact.log_likelihood, exact.posterior])
def test_each_side_of_the_plane_is_watched(call, place):
    model, _ = far_line()
    x = 1.01 * torch.tensor([place], dtype=torch.float64)
    with pytest.warns(UserWarning, match=r"the edge.*affected: 1\)"):
        call(model, x, extent=2.2)


@pytest.mark.parametrize("call", [exact.log_likelihood, exact.posterior])
def test_warning_counts_the_images_that_touch_the_edge(call):
    model, x = far_line()
    with pytest.warns(UserWarning, match="the edge") as alone:
        call(model, x, extent=2.2)
    with pytest.warns(UserWarning, match=r"the edge.*affected: 1\)") as caught:
        call(model, torch.cat((0 * x, x, 0 * x)), extent=2.2)
    assert str(caught[0].message) == str(alone[0].message)  # the same largest share


def test_farthest_extent_is_taken():
    assert exact.axis(4, 20.0, torch.zeros(1)).tolist() == pytest.approx(
        [-20, -20 / 3, 20 / 3, 20]
    )


@pytest.mark.filterwarnings("error")
def test_extent_that_is_enough_does_not_warn():
    model, x = far_line()
    exact.log_likelihood(model, x, extent=2.8)
    exact.posterior(model, x, extent=2.8)
    line_model, zero = line(scale=0.0), torch.zeros(1, 5, dtype=torch.float64)
    exact.log_likelihood(line_model, zero, extent=4)


@pytest.mark.parametrize("place", [0.0, 0.25, 0.5])
@pytest.mark.parametrize("grid", [400, 401])
def test_peak_between_the_points_is_told(grid, place):
    """Half way, every second point gives the same wrong answer as all of them."""
    side = np.linspace(-5, 5, grid)
    spacing = side[1] - side[0]
    eye = torch.eye(2, dtype=torch.float64)
    zero = torch.zeros(2, dtype=torch.float64)
    model = exact.LinearGaussian(eye, zero, (0.2 * spacing) ** 2)
    x = torch.full((1, 2), side[220] + place * spacing, dtype=torch.float64)
    ours, _ = exact.log_likelihood_with_error(model, x, grid=grid)
    assert (ours - model.log_likelihood(x)).abs() > 0.1
    with pytest.raises(ValueError, match="raise grid"):
        exact.log_likelihood(model, x, grid=grid)


def test_coarse_grid_is_told():
    model, x = far_line()
    with pytest.raises(ValueError, match=r"grid=21 the spacing 0\.5 .* raise grid"):
        exact.log_likelihood(model, x, grid=21)
    _, error = exact.log_likelihood_with_error(model, x, grid=21)
    assert error.item() > grid_module.COARSE


class Widths(torch.nn.Module):
    """x is a place and a width: p(x|z) = N(place; z, width^2 I), in closed form."""

    def encode(self, x):
        return x[:, :2], torch.zeros_like(x[:, :2])

    def log_conditional(self, x, z):
        squared = ((x[..., :2] - z) / x[..., 2:]).square().sum(-1)
        return -0.5 * squared - 2 * x[..., 2].log() - math.log(2 * math.pi)

    def log_likelihood(self, x):
        variance = 1 + x[:, 2] ** 2
        squared = x[:, :2].square().sum(1) / variance
        return -0.5 * squared - variance.log() - math.log(2 * math.pi)


def widths_of(*widths):
    place = torch.tensor([[0.3, -0.7]]).double().repeat(len(widths), 1)
    return torch.cat((place, torch.tensor(widths).double()[:, None]), 1)


def test_one_image_too_narrow_among_two_thousand_is_refused_and_counted():
    model, wide = Widths(), widths_of(*np.linspace(0.1, 0.5, 2000))
    right = exact.log_likelihood(model, wide)
    assert torch.allclose(right, model.log_likelihood(wide), atol=1e-6)
    x = torch.cat((wide, widths_of(0.001)))
    with pytest.raises(ValueError, match=r"affected: 1\).*raise grid"):
        exact.log_likelihood(model, x)
    _, error = exact.log_likelihood_with_error(model, x)
    assert error[-1] > 1 > 1000 * error[:-1].max()


@pytest.mark.parametrize("width", [0.0001, 0.003, 0.006, 0.0125, 0.02, 0.0225, 0.025])
def test_what_is_not_refused_is_right(width):
    """Wherever the peak lies between the points, and however wide it is."""
    model, x = Widths(), widths_of(*[width] * 60)
    x[:, :2] += torch.linspace(0, 0.075, 60).double()[:, None]  # three points
    refused = 0
    for image in x[:, None]:
        try:
            ours = exact.log_likelihood(model, image)
        except ValueError:
            refused += 1
        else:
            assert torch.allclose(ours, model.log_likelihood(image), atol=0.02)
    assert refused == 60 or width > 0.001  # a third of the spacing is 0.0083
    assert refused == 0 or width < 0.01


def test_a_narrow_image_is_summed_again_alone_and_among_others():
    """The answer does not depend on who else is there."""
    model, narrow = Widths(), widths_of(0.01)
    alone = exact.log_likelihood(model, narrow)
    assert torch.allclose(alone, model.log_likelihood(narrow), atol=1e-6)
    once, _ = exact.log_likelihood_with_error(model, narrow)
    assert not torch.allclose(once, alone, atol=0.01)
    x = torch.cat((widths_of(0.2, 0.3), narrow))
    assert torch.allclose(exact.log_likelihood(model, x)[2:], alone, atol=1e-9)


def test_weights_that_are_not_numbers_give_no_answer():
    model = random_vae()
    model.decoder_logits.bias.data[0] = math.nan
    with pytest.raises(ValueError, match=r"it computes NaN"):
        exact.log_likelihood(model, random_bits(2))


def test_sentences_come_in_the_language_in_use():
    model, x = far_line()
    use_language("pt")
    with pytest.raises(ValueError, match=r"grid=21, o espaçamento 0,5 é grande demais"):
        exact.log_likelihood(model, x, grid=21)
