"""The drawing explorer's numbers: its own JavaScript in Node.js against PyTorch."""

import base64
import functools
import json
import math
import re
import shutil
import warnings

import ipywidgets
import numpy as np
import pytest
import strangers
import torch
import torch.nn.functional as F
from drawn import (
    BYTES,
    STORED,
    halves,
    ledgers,
    logits_of,
    state_of,
    stored_images,
    stored_model,
    stored_state,
    true_elbo,
    true_log_p,
)
from torch import nn

from vae_teach import data, densities, exact, models, train, words
from vae_teach.data import Images
from vae_teach.explorer import DrawingExplorer, drawing
from vae_teach.nets import AE, VAE

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="no Node.js")
CODE = re.sub(r"//.*|/\*\*[\s\S]*?\*/", "", DrawingExplorer._esm)


@pytest.fixture
def node(tmp_path):
    """Return a function that asks the page's code for ledgers."""
    return functools.partial(ledgers, tmp_path)


@pytest.fixture
def few(monkeypatch):
    """Compare with few test images, so that a widget is made quickly."""
    monkeypatch.setattr(drawing, "COMPARED", 20)


def drawings(images):
    """Return images that are no test images: moved, mirrored, cut, fat, two in one."""
    squares, odd = images.reshape(-1, 28, 28), []
    for n, square in enumerate(squares):
        odd.append(
            (
                square.roll((3, -2), (0, 1)),
                square.flip(1),
                square * (torch.arange(28)[:, None] < 14),
                square.maximum(squares[n - 1]),
                square.T,
                F.max_pool2d(square[None], 3, 1, 1)[0],
            )[n % 6]
        )
    return torch.stack(odd).flatten(1)


# --- the numbers ----------------------------------------------------------------------


@needs_node
@pytest.mark.mnist
def test_200_images_and_drawings_have_the_exact_log_p(node):
    """At most 0.05 nats off, 0.005 on average; and ELBO and gap are right."""
    test = data.load("mnist", "test")
    real = test.pixels[100:200]
    x = torch.cat([real, drawings(real)])
    model, found = stored_model(), node(stored_state(), x)
    with torch.no_grad():
        mu, logvar = model.encode(x)
    for name, expected in (("mu", mu), ("sigma", torch.exp(logvar / 2))):
        away = torch.tensor([row["q"][name] for row in found]) - expected
        assert away.abs().max() < 1e-4, name
    assert not [row for row in found if "problem" in row]
    away = torch.tensor([row["log_p"] for row in found]) - true_log_p(model, x)
    print(f"log p: {away.abs().max():.4f} at most, {away.abs().mean():.5f} on average")
    assert away.abs().max() < 0.05
    assert away.abs().mean() < 0.005
    for n in range(0, 200, 8):
        row = found[n]
        elbo = true_elbo(model, x[n], row["q"]["mu"], row["q"]["logvar"])
        assert row["elbo"] == pytest.approx(elbo, abs=0.04)
    for row in found:
        assert row["gap"] > -0.01, "a bound lies below"
        assert row["log_p"] == pytest.approx(row["elbo"] + row["gap"], abs=1e-9)
        assert row["elbo"] == pytest.approx(row["reconstruction"] - row["kl"], abs=1e-9)


@pytest.mark.mnist
def test_the_stored_encoder_is_the_models_to_a_hundredth():
    model, _ = train.trained(data.load("mnist", "train"), device="cpu")
    x = data.load("mnist", "test").pixels[:1000]
    x = torch.cat([x, drawings(x[:200])])
    with torch.no_grad():
        (mu, logvar), (own, own_logvar) = stored_model().encode(x), model.encode(x)
    assert (mu - own).abs().max() < 0.01
    sigma, own_sigma = torch.exp(logvar / 2), torch.exp(own_logvar / 2)
    assert (sigma - own_sigma).abs().max() < 0.01


@pytest.mark.mnist
def test_the_stored_widget_is_what_the_package_makes(monkeypatch):
    """All but the percentiles, which take longest: book/drawing.py was run last."""
    monkeypatch.setattr(drawing, "_percentiles", lambda *_: [])
    model, _ = train.trained(data.load("mnist", "train"), device="cpu")
    fresh = state_of(DrawingExplorer(model, data.load("mnist", "test")))
    kept = stored_state()
    ranks = kept["plain"]["spec"].pop("percentiles")
    assert len(ranks) == 99
    assert ranks == sorted(ranks)
    del fresh["plain"]["spec"]["percentiles"]
    assert fresh["plain"]["spec"] == kept["plain"]["spec"]
    for name in BYTES:
        if name == "partition":  # rounded from float32 sums, whose order may differ
            a, b = (
                np.frombuffer(base64.b64decode(s["bytes"][name]), "<i2")
                for s in (fresh, kept)
            )
            assert np.abs(a.astype(int) - b).max() <= 4
        else:
            assert fresh["bytes"][name] == kept["bytes"][name], name


@pytest.mark.mnist
def test_the_percentiles_are_those_of_the_test_images():
    ranks = stored_state()["plain"]["spec"]["percentiles"]
    test = data.load("mnist", "test").pixels
    x = test[torch.linspace(0, len(test) - 1, 1000).long()[::5]]
    log_p = true_log_p(stored_model(), x)
    for share in (5, 25, 50, 75, 95):
        below = (log_p < ranks[share - 1]).double().mean()
        assert below == pytest.approx(share / 100, abs=0.08)


def tables(state):
    """Return the packed A(z), restored with NumPy's sums, on the lattice."""
    spec = state["plain"]["spec"]
    steps = np.frombuffer(base64.b64decode(state["bytes"]["partition"]), "<i2")
    side = round(2 * spec["extent"] / spec["spacing"]) + 1
    sums = steps.reshape(side, side).astype(np.int64).cumsum(0).cumsum(1)
    return torch.from_numpy((sums + spec["start"]) / spec["steps"])


def test_the_partition_is_known_at_every_point():
    """At random points, z1 down and z2 across, as the rounded weights say."""
    state = stored_state()
    table, seeded = tables(state), torch.Generator().manual_seed(0)
    place = torch.randint(0, 401, (500, 2), generator=seeded)
    expected = F.softplus(logits_of(state, place * 0.025 - 5)).sum(1)
    away = table[place[:, 0], place[:, 1]] - expected
    assert away.abs().max() < 0.005
    assert (table - table.T).abs().max() > 100, "the axes are told apart"


@needs_node
def test_narrow_posteriors_are_summed_on_points_of_their_own(node, few):
    """A steeper decoder, whose posteriors are a hundredth wide."""
    torch.manual_seed(0)
    model = VAE(784, 20, 2)
    with torch.no_grad():
        model.decoder_hidden.weight.mul_(6)
        model.decoder_logits.weight.mul_(8)
    x = (torch.rand(6, 784) < model.decode(torch.randn(6, 2))).float()
    widget = DrawingExplorer(model, Images(x, torch.arange(6)))
    found = node(state_of(widget), x)
    assert any(row["step"] < 0.02 for row in found), "finer than the lattice"
    model.half().float()  # as the page has it
    expected = exact.log_likelihood(model, x, grid=3001, dtype=torch.float64)
    away = torch.tensor([row["log_p"] for row in found]) - expected
    assert away.abs().max() < 0.05


@needs_node
def test_a_posterior_that_leaves_the_plane_gets_no_number(node, few):
    state = stored_state()
    numbers = halves(state, "weights")
    assert len(numbers) == 3 * 400 + 785 * 400 - 400 + 784
    x = stored_images(state)[:1]
    moved = shifted(state, 5.5)
    (row,) = node(moved, x)
    assert row["problem"] == "outside"
    for name in ("elbo", "log_p", "gap", "kl", "reconstruction"):
        assert row[name] is None


def shifted(state, far):
    """Return a state whose decoder, and A(z), lie elsewhere on the plane.

    What was at the first image's z is now at the same z2, but z1 = ``far``.
    """
    model, x = stored_model(), stored_images(state)[:1]
    with torch.no_grad():
        z1 = model.encode(x)[0][0, 0].item()
    numbers = halves(state, "weights").double().clone()
    w, b = numbers[:800].reshape(400, 2), numbers[800:1200]
    b -= w[:, 0] * (far - z1)
    other = json.loads(json.dumps(state))
    packed = numbers.half().numpy().astype("<f2").tobytes()
    other["bytes"]["weights"] = base64.b64encode(packed).decode()
    line = torch.linspace(-5, 5, 401, dtype=torch.float64)
    rows = [logits_of(other, torch.cartesian_prod(r, line)) for r in line.split(20)]
    table = torch.cat([F.softplus(row).sum(1) for row in rows]).reshape(401, 401)
    steps = (table * 256).round().long()
    other["plain"]["spec"]["start"] = int(steps[0, 0])
    wide = F.pad(steps - steps[0, 0], (1, 0, 1, 0))
    differences = wide.diff(dim=0).diff(dim=1).numpy().astype("<i2").tobytes()
    other["bytes"]["partition"] = base64.b64encode(differences).decode()
    return other


@needs_node
@pytest.mark.parametrize("latents", [1, 3])
def test_without_two_latents_there_is_a_bound_and_no_log_p(node, few, latents):
    torch.manual_seed(0)
    model = VAE(25, 12, latents)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    x = (torch.rand(30, 25) < 0.4).float()
    widget = DrawingExplorer(model, Images(x, torch.arange(30) % 10))
    assert widget.partition == b""
    eps = torch.randn(200, latents)
    found = node(state_of(widget), x[:5], eps.tolist())
    with torch.no_grad():
        mu, logvar = (part.double() for part in model.encode(x[:5]))
        z = mu + torch.exp(logvar / 2) * eps[:, None]  # (k, B, L)
        fits = densities.log_bernoulli(
            x[:5].expand(200, 5, 25), model.decode_logits(z.float())
        )
        normal = torch.distributions.Normal
        ratio = normal(0, 1).log_prob(z) - normal(mu, torch.exp(logvar / 2)).log_prob(z)
        bound = (fits + ratio.sum(-1)).logsumexp(0) - math.log(200)  # (B,)
        elbo = fits.mean(0) - densities.kl_to_standard_normal(mu, logvar)
    for n, row in enumerate(found):
        assert row["log_p"] is row["gap"] is None
        assert row["bound"] == pytest.approx(bound[n].item(), abs=0.05)
        assert row["elbo"] == pytest.approx(elbo[n].item(), abs=0.1)


# --- a reader's own model -------------------------------------------------------------


class Swapped(strangers.Sampling):
    """Calls the head of the log-variance first."""

    def encode(self, x):
        h = torch.tanh(self.fc1(x))
        logvar = self.fc22(h)
        return self.fc21(h), logvar


class OneHead(strangers.Sampling):
    """One last layer, cut in two; mu comes second."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.both = nn.Linear(12, 4)

    def encode(self, x):
        logvar, mu = self.both(F.silu(self.fc1(x))).chunk(2, 1)
        return mu, logvar


class Softplus(strangers.Deviation):
    """Its standard deviation is a softplus."""

    def encode(self, x):
        h = F.relu(self.fc1(x))
        return self.fc21(h), F.softplus(self.fc22(h))


ACCEPTED = (
    *(strangers.Tutorial, strangers.Sampling, strangers.Pictures, strangers.Deviation),
    *(strangers.LogDeviation, strangers.Variance, Swapped, OneHead, Softplus),
)


@needs_node
@pytest.mark.filterwarnings("ignore:The reparameterize")
@pytest.mark.parametrize("kind", ACCEPTED)
def test_a_strangers_encoder_is_found(node, few, kind):
    torch.manual_seed(0)
    model = kind(25, 12, 2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    x = (torch.rand(30, 25) < 0.5).float()
    widget = DrawingExplorer(model, Images(x, torch.arange(30) % 10))
    found = node(state_of(widget), x[:8])
    with torch.no_grad():
        q = models.adapt(model).q(x[:8])
    assert q.mean.std() > 0.1
    for name, expected in (("mu", q.mean), ("logvar", q.logvar)):
        away = torch.tensor([row["q"][name] for row in found]) - expected
        assert away.abs().max() < 0.02, name


@needs_node
@pytest.mark.parametrize("follow", [nn.LeakyReLU(), nn.GELU(), nn.Tanh()])
def test_other_decoders_are_summed_as_exactly(node, few, follow):
    """Those that bend as a ReLU does, and those that are summed point by point."""
    torch.manual_seed(0)
    model = strangers.Layers(
        nn.Linear(2, 9), follow, nn.Linear(9, 9), nn.ReLU(), nn.Linear(9, 25)
    )
    if isinstance(follow, nn.LeakyReLU):
        model = strangers.Layers(nn.Linear(2, 9), follow, nn.Linear(9, 25))
    model.generator.append(nn.Sigmoid())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    x = (torch.rand(30, 25) < 0.5).float()
    found = node(state_of(DrawingExplorer(model, Images(x, torch.arange(30) % 9))), x)
    away = torch.tensor([row["log_p"] for row in found]) - true_log_p(model, x)
    assert away.abs().max() < 0.05
    assert away.abs().mean() < 0.005


class Unbiased(strangers.Sampling):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.fc21 = nn.Linear(12, 2, bias=False)


class SkipsEncoder(strangers.Sampling):
    def encode(self, x):
        mu, logvar = super().encode(x)
        return mu + x.sum(1, keepdim=True), logvar


class Normalized(strangers.Sampling):
    def encode(self, x):
        return super().encode(x - x.mean(1, keepdim=True))


class OtherPrior(strangers.Sampling):
    def log_prior(self, z):
        return torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)


class Grey(strangers.Sampling):
    def log_conditional(self, x, z):
        return -((x - self.decode(z)) ** 2).sum(-1)


REFUSED = {
    "no bias": (lambda: Unbiased(25, 12, 2), "cannot repeat the encoder"),
    "past a layer": (lambda: SkipsEncoder(25, 12, 2), "cannot repeat the encoder"),
    "before a layer": (lambda: Normalized(25, 12, 2), "cannot repeat the encoder"),
    "a prior": (lambda: OtherPrior(25, 12, 2), "needs a q"),
    "grey pixels": (lambda: Grey(25, 12, 2), "needs a q"),
    "no q": (lambda: AE(25, 12, 2), "needs a q"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_model_that_cannot_be_drawn_for_is_refused_in_a_sentence(few, case):
    torch.manual_seed(0)
    make, complaint = REFUSED[case]
    images = Images((torch.rand(30, 25) < 0.5).float(), torch.arange(30) % 10)
    with pytest.raises(TypeError, match=complaint) as caught:
        DrawingExplorer(make(), images)
    assert "\n" not in str(caught.value)


def test_images_that_are_none_are_refused(few):
    with pytest.raises(TypeError, match=r"vae_teach\.data\.Images"):
        DrawingExplorer(VAE(25, 12, 2), torch.rand(30, 25))
    wide = Images(torch.zeros(30, 36), torch.arange(30) % 10)
    with pytest.raises(ValueError, match=r"images\.pixels"):
        DrawingExplorer(VAE(25, 12, 2), wide)


def test_a_convolutional_model_is_refused(few):
    images = Images((torch.rand(30, 256) < 0.5).float(), torch.arange(30) % 10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(TypeError, match="cannot repeat"):
            DrawingExplorer(strangers.Convolutions(), images)


# --- what it packs and says -----------------------------------------------------------


@pytest.fixture
def small(few):
    torch.manual_seed(0)
    x = (torch.rand(40, 25) < 0.5).float()
    model, images = VAE(25, 12, 2), Images(x, torch.arange(40) % 10)
    return lambda: DrawingExplorer(model, images)


def test_the_saved_state_is_below_two_and_a_half_megabytes():
    """A committed notebook holds it all in base64, with code and still picture."""
    content = stored_state()
    picture = json.loads(STORED.read_text(encoding="utf-8"))["stills"]["en"]["png"]
    code = json.dumps([DrawingExplorer._esm, DrawingExplorer._css, picture])
    total = len(json.dumps(content)) + len(code)
    print(f"{total} bytes in a notebook")
    assert total < 2_500_000


def test_nothing_in_a_saved_notebook_is_left_to_chance(small):
    first, second = small().get_state(), small().get_state()
    assert {k for k in first if first[k] != second[k]} == {"layout"}


def test_the_whole_widget_can_be_stored(small):
    assert ipywidgets.Widget.get_manager_state(widgets=[small()])


@pytest.mark.parametrize("language", words.LANGUAGES)
def test_its_picture_and_text_say_what_it_is(small, language):
    words.use_language(language)
    bundle, about = small()._repr_mimebundle_()
    png = base64.b64decode(bundle["image/png"])
    assert png.startswith(b"\x89PNG")
    said = {"pt": ("elipses", "execute esta célula"), "en": ("ellipses", "run this")}
    assert said[language][0] in about["image/png"]["alt"]
    assert said[language][1] in bundle["text/plain"]


def test_every_word_of_the_page_is_there_in_both_languages():
    used = set(re.findall(r"words\.(\w+)", CODE))
    used |= set(re.findall(r'words\["([\w-]+)"\]', CODE))
    used -= {"evidence"}  # one of two others
    problems = set(re.findall(r'problem: "(\w+)"', CODE))
    assert problems == {"empty", "full", "outside", "narrow"}
    packed = {}
    for language in words.LANGUAGES:
        words.use_language(language)
        packed[language] = DrawingExplorer.words()
        assert set(packed[language]) == used | problems
        assert packed[language].pop("language") == language
    for key, phrase in packed["pt"].items():
        assert phrase.strip()
        assert not set(phrase) & set('<>&"'), "the page puts words into markup"
        same = {"elbo", "kl", "point"}
        assert phrase != packed["en"][key] or key in same


def test_nothing_is_fetched_and_nothing_is_imported():
    assert not re.search(r"https?:|\bfetch\(|XMLHttp|\bimport\b|Worker", CODE)
    assert not re.search(r"https?:|@import|url\(", DrawingExplorer._css)
