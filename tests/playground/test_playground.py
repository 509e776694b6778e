"""The playground from Python: what it takes and refuses, its picture, its model."""

import io
import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from vae_teach import exact, playground, words
from vae_teach.playground import (
    CHOICES,
    DEFAULTS,
    LABELS,
    PRESETS,
    SIGMAS,
    PlaneVAE,
    Playground,
)
from vae_teach.words import CATALOGUE, say

FOLDER = Path(playground.__file__).parent
ROOT = Path(__file__).resolve().parents[2]
NETWORK = (FOLDER / "network.js").read_text(encoding="utf-8")
PAGE = (FOLDER / "playground.js").read_text(encoding="utf-8")


def test_it_starts_with_the_first_preset_or_with_settings_of_ones_own():
    assert Playground().settings == DEFAULTS | {"rate": 0.01, "preset": "modes"}
    assert Playground("hole").settings["latents"] == 2
    own = Playground(data="spiral", beta=0, learnt=True).settings
    assert own == DEFAULTS | {"data": "spiral", "beta": 0, "learnt": True} | {
        "preset": None
    }
    placed = Playground(points=[(1, 2), (0, -0.5)]).settings
    assert (placed["data"], placed["points"]) == ("own", [[1, 2], [0, -0.5]])


BAD = {
    "preset": [("nothing", "'modes', 'hole'")],
    "data": [("moon", "'moons'"), (["ring"], "'ring'")],
    "latents": [(3, "1, 2"), (0, "1, 2")],
    "width": [(33, "32, 64")],
    "beta": [(-1, "0.1"), (float("nan"), "0.1")],
    "sigma": [(0, "0.05"), (3, "2"), (float("nan"), "0.05")],
    "seed": [(-1, "4294967295"), (1.5, "4294967295"), (2**32, "4294967295")],
    "learnt": [("yes", "False, True")],
    "points": [([], "64"), ([(4, 0)], "64"), ("ab", "64"), ([(0, 0)] * 65, "64")],
    "sigmas": [(1, "'sigma'")],
}


@pytest.mark.parametrize("name", BAD)
def test_bad_settings_get_a_sentence_that_says_what_is_taken(name):
    for value, takes in BAD[name]:
        with pytest.raises(ValueError, match=re.escape(takes)) as raised:
            Playground(**{name: value})
        assert str(raised.value).startswith((name, "settings"))
    with pytest.raises(ValueError, match="data"):
        Playground(points=[(0, 0)], data="ring")


def test_presets_are_settings_that_the_levers_have():
    for preset in PRESETS.values():
        asked = {k: v for k, v in preset.items() if k != "steps"}
        assert Playground(**asked).settings["preset"] is None
        assert preset["steps"] > 0
    for name, values in CHOICES.items():
        assert DEFAULTS[name] in values


def test_the_twin_has_beta_one_and_the_sigma_that_beta_stands_for():
    beta, twin = DEFAULTS | PRESETS["beta"], DEFAULTS | PRESETS["twin"]
    assert twin["beta"] == 1
    assert twin["sigma"] == beta["sigma"] * beta["beta"] ** 0.5
    same = beta.keys() - {"beta", "sigma"}
    assert all(beta[name] == twin[name] for name in same)


def test_javascript_has_the_same_numbers():
    assert f"SMALLEST_SIGMA = {SIGMAS[0]};" in NETWORK
    assert "SIGMAS = [SMALLEST_SIGMA, 2];" in PAGE
    assert SIGMAS[1] == 2
    assert f"MOST_OWN = {playground.MOST_OWN};" in PAGE
    assert f"REACH = {{ data: {playground.REACH:.0f}," in PAGE
    assert f"ENCODER_WIDTH = {playground.model.ENCODER_WIDTH};" in NETWORK
    names = re.findall(r"(?m)^  (\w+)\(\{ [a-z, ]+ \}\) \{", NETWORK)
    assert [*names, "own"] == [*CHOICES["data"]]


@pytest.mark.parametrize("language", words.LANGUAGES)
def test_words_and_picture_are_in_the_language(language):
    words.use_language(language)
    widget = Playground()
    assert len(widget.labels) == len(LABELS) + 1
    assert widget.labels["run"] == CATALOGUE["playground-run"][language]
    assert widget.labels["language"] == language
    data, about = widget._repr_mimebundle_()
    assert about["image/png"]["alt"] == CATALOGUE["playground-alt"][language]
    png, _, width = widget.still()
    assert abs(Image.open(io.BytesIO(png)).width / 1.25 - width) < 2
    assert "application/vnd.jupyter.widget-view+json" in data
    assert repr(widget) == CATALOGUE["playground-as-text"][language]


def test_its_module_asks_nothing_of_a_kernel_or_a_network():
    code = Playground._esm
    for banned in ("import ", "fetch(", "XMLHttpRequest", "http://", "https://"):
        assert not re.search(rf"(?m)^[^/*]*{re.escape(banned)}", code), banned
    assert len(code) < 100_000


def test_a_model_comes_from_what_the_page_sent():
    widget = Playground()
    with pytest.raises(ValueError, match=re.escape(say("playground-no-state"))):
        widget.model()
    torch.manual_seed(0)
    trained = PlaneVAE(2, 8, "relu", 0.5).double()
    flat = torch.cat([p.flatten() for p in trained.ordered()]).tolist()
    settings = DEFAULTS | {"latents": 2, "width": 8, "activation": "relu"}
    widget.state = json.loads(json.dumps({"weights": flat, "settings": settings}))
    model, z = widget.model(), torch.randn(5, 2).double()
    assert torch.equal(model.decode(z), trained.decode(z))
    assert model.log_sigma.exp().item() == pytest.approx(0.5, abs=1e-6)
    x = torch.randn(3, 2).double()
    normal = torch.distributions.Normal(model.decode(z[:3]), 0.5)
    true = normal.log_prob(x).sum(-1)
    assert model.log_conditional(x, z[:3]).tolist() == pytest.approx(true.tolist())


@torch.no_grad()
def test_the_course_measures_the_model_as_any_other():
    """exact.log_likelihood takes it, and agrees with a sum of our own."""
    torch.manual_seed(0)
    model = PlaneVAE(2, 16, "tanh", 0.3).double()
    x = torch.randn(4, 2).double()
    line = torch.linspace(-6, 6, 601).double()
    z = torch.cartesian_prod(line, line)
    joint = model.log_conditional(x[:, None], z) - z.square().sum(-1) / 2
    true = joint.logsumexp(1) - 1.8378770664093453 + 2 * (line[1] - line[0]).log()
    found = exact.log_likelihood(model, x, extent=6)
    assert found.tolist() == pytest.approx(true.tolist(), abs=1e-5)


@pytest.mark.parametrize("language", words.LANGUAGES)
def test_the_page_of_the_book_names_what_is_there(language):
    """Its experiments in order, its menus, and the settings that it speaks of."""
    text = (ROOT / f"book/pages/{language}/playground.md").read_text("utf-8")

    def quoted(key):
        return CATALOGUE[f"playground-{key}"][language]

    bold = [name.rstrip(".").lower() for name in re.findall(r"\*\*([^*]+)\*\*", text)]
    places = [bold.index(quoted(f"preset-{name}")) for name in PRESETS]
    assert places == sorted(places)
    for key in ("run", "widest", "is-own", "data"):
        assert f"*{quoted(key)}*" in text
    hole, collapse, beta = (PRESETS[name] for name in ("hole", "collapse", "beta"))
    mark = {"en": ".", "pt": "{,}"}[language]
    named = (("beta", hole), ("sigma", collapse), ("sigma", beta), ("beta", beta))
    for name, preset in named:
        assert rf"$\{name} = {str(preset[name]).replace('.', mark)}$" in text
