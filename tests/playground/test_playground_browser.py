"""The playground in a real Chromium: what it trains and shows, its levers, the page."""

import base64
import contextlib
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import distributions as D
from web_page import serving, watched

from vae_teach import words
from vae_teach.playground import LABELS, PRESETS, PlaneVAE, Playground

pytestmark = pytest.mark.browser

ROOT = Path(__file__).resolve().parents[2]
PHONE = {"width": 390, "height": 844}
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>playground</title>
<link rel="icon" href="data:,"><link rel="stylesheet" href="playground.css">
<style>:root { color-scheme: light dark } body { margin: 8px }</style></head>
<body><main id="here"></main><script type="module">
import playground from "./playground.js";
const traits = await (await fetch("state.json")).json(), saved = [];
const model = {
  get: name => traits[name],
  set(name, value) { traits[name] = value; },
  save_changes: () => saved.push(traits.state),
  on() {}, off() {},
};
const element = document.getElementById("here");
Object.assign(window, { saved, drawn: 0 });
const clear = CanvasRenderingContext2D.prototype.clearRect;
CanvasRenderingContext2D.prototype.clearRect = function (...box) {
  window.drawn += this.canvas.className === "pg-data";
  return clear.apply(this, box);
};
window.leave = playground.render({ model, el: element });
</script></body></html>"""
AXE = """async () => {
  const { violations } = await axe.run(document, { resultTypes: ['violations'] });
  return violations.flatMap(({ id, impact, nodes }) =>
    nodes.map(node => [impact, id, node.target.join(' '), node.failureSummary]));
}"""
SMALL = """() => [...document.querySelectorAll('.vae-playground *')]
  .filter(n => [...n.childNodes].some(c => c.nodeType === 3 && c.data.trim()))
  .filter(n => parseFloat(getComputedStyle(n).fontSize) < 12).map(n => n.className)"""


class Page:
    """A page that holds one playground."""

    def __init__(self, page):
        self.page = page
        self.root = page.locator(".vae-playground")

    def part(self, kind):
        return self.page.locator(f".pg-{kind}")

    def settle(self):
        self.page.evaluate(
            "new Promise(f => requestAnimationFrame(() => requestAnimationFrame(f)))"
        )

    @property
    def state(self):
        self.settle()
        return json.loads(self.root.get_attribute("data-state"))

    def lever(self, name, value):
        self.page.locator(f"[data-lever={name}]").select_option(str(value))
        self.settle()

    def train(self, steps):
        """Train so many steps at least, then pause."""
        self.part("run").click()
        self.page.wait_for_function(
            """steps => JSON.parse(document.querySelector('.vae-playground')
              .dataset.state).step >= steps""",
            arg=steps,
            timeout=300_000,
        )
        self.settle()
        if self.part("run").inner_text() == "Pause":
            self.part("run").click()
        return self.state

    def status(self):
        self.settle()
        return self.part("status").inner_text()

    def picture(self, kind):
        """Return the pixels of a canvas, (height, width, 4)."""
        self.settle()
        url = self.part(kind).evaluate("c => c.toDataURL()")
        return np.array(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))


@pytest.fixture
def open_playground(browser, tmp_path):
    """Return a function that opens a widget on a bare page; no error may be left."""
    opened, wrong, closing = [], [], contextlib.ExitStack()

    def open_it(widget=None, *, changed=(), **options):
        widget = widget or Playground()
        folder = tmp_path / str(len(opened))
        folder.mkdir()
        traits = {k: getattr(widget, k) for k in ("spec", "settings", "labels")}
        traits = json.loads(json.dumps(traits | {"state": {}}))
        traits["settings"].update(changed)
        (folder / "index.html").write_text(PAGE, encoding="utf-8")
        (folder / "state.json").write_text(json.dumps(traits), encoding="utf-8")
        (folder / "playground.js").write_text(widget._esm, encoding="utf-8")
        (folder / "playground.css").write_text(widget._css, encoding="utf-8")
        origin = closing.enter_context(serving(folder))
        context = browser.new_context(
            **({"viewport": {"width": 900, "height": 900}} | options)
        )
        closing.callback(context.close)
        page, errors = watched(context, origin)
        wrong.append(errors)
        page.goto(origin)
        page.wait_for_selector(".vae-playground[data-state]")
        opened.append(Page(page))
        return opened[-1]

    with closing:
        yield open_it
    assert wrong == [[]] * len(opened)


def model_of(state):
    """Return the state's model in PyTorch."""
    used = state["settings"]
    shape = (used["latents"], used["width"], used["activation"])
    return PlaneVAE(*shape).take(state["weights"])


@torch.no_grad()
def numbers_of(state):
    """Return ELBO and log p(x) of a state's weights and points, on grids of our own."""
    model, x = model_of(state), torch.tensor(state["points"]).double().reshape(-1, 2)
    latents = state["settings"]["latents"]
    line = torch.linspace(-7, 7, {1: 7001, 2: 201}[latents]).double()
    z = torch.cartesian_prod(*[line] * latents).reshape(-1, latents)
    prior = D.Normal(torch.zeros(latents).double(), torch.ones(latents).double())
    log_prior = prior.log_prob(z).sum(-1) + latents * (line[1] - line[0]).log()
    mu, logvar = model.encode(x)
    q = D.Normal(mu, (logvar / 2).exp())
    nodes, masses = np.polynomial.hermite_e.hermegauss(24)
    eps = torch.cartesian_prod(*[torch.tensor(nodes)] * latents).reshape(-1, latents)
    share = torch.cartesian_prod(*[torch.tensor(masses)] * latents)
    share = share.reshape(-1, latents).prod(-1)
    elbos, exact = [], []
    for k, point in enumerate(x):
        codes = q.mean[k] + q.stddev[k] * eps
        expected = (share * model.log_conditional(point, codes)).sum() / share.sum()
        one = D.Normal(q.mean[k], q.stddev[k])
        elbos.append(expected - D.kl_divergence(one, prior).sum())
        exact.append((model.log_conditional(point, z) + log_prior).logsumexp(0))
    return torch.stack(elbos).mean().item(), torch.stack(exact).mean().item()


# --- training -----------------------------------------------------------------------


@pytest.mark.parametrize("latents", [1, 2])
def test_what_the_page_trains_is_what_python_computes(open_playground, latents):
    """The two networks of 2-32-2-32-2 at batch 128: ELBO and log p(x), to 0.01."""
    one = open_playground(Playground(latents=latents, sigma=0.2))
    before = one.state
    assert before["step"] == 0
    state = one.train(500)
    assert state["elbo"] > before["elbo"] + 0.5
    elbo, log_p = numbers_of(state)
    assert state["elbo"] == pytest.approx(elbo, abs=0.01)
    assert state["log_p"] == pytest.approx(log_p, abs=0.01)
    assert state["gap"] == pytest.approx(log_p - elbo, abs=0.01)
    shown = one.part("ledger").inner_text().replace("−", "-")
    rows = dict(re.findall(r"(?m)^\W*(.+?)\s+(-?\d+\.\d+)", shown))
    assert float(rows["ELBO"]) == pytest.approx(state["elbo"], abs=6e-4)
    assert float(rows["log p(x)"]) == pytest.approx(state["log_p"], abs=6e-4)
    assert len([name for name in rows if name.startswith("KL")]) == latents
    (sent,) = one.page.evaluate("saved.slice(-1)")
    assert sent["weights"] == state["weights"]
    assert "Paused at step" in one.status()


def test_how_many_steps_a_second(open_playground):
    """No limit is asserted: a busy machine says little. At least 200 are promised."""
    one = open_playground(Playground(latents=2))
    begin = one.page.evaluate("performance.now()")
    steps = one.train(600)["step"]
    seconds = (one.page.evaluate("performance.now()") - begin) / 1000
    print(f"{steps / seconds:.0f} steps a second, pictures and exact numbers included")
    print(f"evaluation: {one.root.get_attribute('data-ms')} ms")
    assert steps >= 600


def test_single_steps_and_a_fresh_start_replay_a_run(open_playground):
    one = open_playground()

    def three_steps():
        for _ in range(3):
            one.part("step").click()
        return one.state

    first = three_steps()
    assert first["step"] == 3
    one.part("reset").click()
    assert one.state["step"] == 0
    assert three_steps()["weights"] == first["weights"]
    one.part("seed").fill("2")
    one.part("seed").press("Tab")
    assert one.state["step"] == 0
    assert three_steps()["weights"] != first["weights"]


def test_a_pace_can_be_watched_and_pause_stops(open_playground):
    one = open_playground()
    one.part("pace").select_option("slow")
    begin = one.page.evaluate("performance.now()")
    steps = one.train(5)["step"]
    seconds = (one.page.evaluate("performance.now()") - begin) / 1000
    assert steps <= 10 * seconds + 1
    one.page.wait_for_timeout(500)
    assert one.state["step"] == steps


def test_a_preset_runs_to_its_end_and_shows_two_modes(open_playground):
    one = open_playground(Playground("hole"))
    one.part("preset").select_option("modes")
    steps = PRESETS["modes"]["steps"]
    one.page.wait_for_function(
        """steps => document.querySelector('.pg-status').textContent.includes(steps)""",
        arg=f"Paused at step {steps}:",
        timeout=300_000,
    )
    state = one.state
    assert state["step"] == steps
    one.part("widest").click()
    one.settle()
    assert "2 modes" in one.part("chosen").inner_text()
    assert "2 modes" in one.part("spoken").text_content()
    assert one.part("about").inner_text() == words.say("playground-about-modes")
    assert float(one.root.get_attribute("data-holes")) < 0.1


# --- the levers ---------------------------------------------------------------------


def test_levers_do_what_they_say(open_playground):
    one = open_playground()
    one.part("step").click()
    for name, value in (("latents", 2), ("width", 8), ("activation", "relu")):
        one.lever(name, value)
        state = one.state
        assert state["step"] == 0, "new weights"
        assert str(state["settings"][name]) == str(value)
        one.part("step").click()
    assert len(one.state["weights"]) == 96 + 33 * 4 + 3 * 8 + 9 * 2 + 1
    for name, value in (("beta", 4), ("rate", 0.03), ("samples", 5)):
        one.lever(name, value)
        assert one.state["step"] == 1, "the same weights"
    assert one.page.locator("[data-lever=beta]").is_disabled()
    one.part("sigma").focus()
    one.page.keyboard.press("End")
    sigma = np.exp(one.state["weights"][-1])
    assert sigma == pytest.approx(2)
    one.part("learnt").check()
    one.part("step").click()
    assert np.exp(one.state["weights"][-1]) != pytest.approx(2, abs=1e-9)
    assert one.part("sigma").is_disabled()


def test_points_by_mouse_and_keys(open_playground):
    """The first point starts a network; more are learnt along; any can be removed."""
    one = open_playground()
    one.lever("data", "own")
    assert one.status() == words.say("playground-no-points")
    assert one.part("run").is_disabled()
    assert one.state["elbo"] is None
    box = one.part("data").bounding_box()

    def at(value, reach=3):
        """Return where on the screen a point lies, as the axes have it."""
        side = min(box["width"] - 42, box["height"] - 30)
        x = box["x"] + 36 + side * (value[0] + reach) / (2 * reach)
        return x, box["y"] + 6 + side * (reach - value[1]) / (2 * reach)

    one.page.mouse.click(*at((1, 2)))
    assert one.state["points"] == pytest.approx([1, 2], abs=0.02)
    assert one.state["elbo"] is not None
    for key in ("Home", "ArrowLeft", "Shift+ArrowDown", "Enter"):  # Home does nothing
        one.page.keyboard.press(key)
    assert one.state["points"] == pytest.approx([1, 2, 0.9, 1.5], abs=0.03)
    one.page.mouse.click(*at((-2, -1)))
    one.part("step").click()
    assert len(one.state["points"]) == 6
    pad = one.part("plane")
    pad.focus()
    one.page.keyboard.press("Delete")  # the chosen one, where the cross begins
    assert one.state["points"] == pytest.approx([1, 2, 0.9, 1.5], abs=0.03)
    assert one.state["step"] == 1
    one.part("undo").click()
    assert len(one.state["points"]) == 2
    one.part("clear").click()
    assert one.state["points"] == []
    assert one.status() == words.say("playground-no-points")


def test_a_finger_sets_points_and_the_page_still_scrolls(open_playground):
    one = open_playground(
        Playground(data="own", points=[(0, 0)]), viewport=PHONE, has_touch=True
    )
    one.part("data").scroll_into_view_if_needed()
    box = one.part("data").bounding_box()
    one.page.touchscreen.tap(
        box["x"] + 0.8 * box["width"], box["y"] + 0.2 * box["height"]
    )
    a, b = one.state["points"][2:]
    assert a > 1
    assert b > 1
    assert one.part("plane").evaluate("n => getComputedStyle(n).touchAction") in (
        "manipulation",
        "pan-y",
    )


def test_a_click_chooses_the_nearest_point(open_playground):
    one = open_playground()
    before = one.part("chosen").inner_text()
    one.part("plane").click(position={"x": 60, "y": 60})
    one.settle()
    chosen = one.part("chosen").inner_text()
    assert chosen != before
    numbers = re.findall(r"-?\d+\.\d+", chosen.replace("−", "-"))
    a, b = map(float, numbers[:2])
    assert a < 0 < b
    one.page.keyboard.press("Shift+ArrowDown")
    for _ in range(5):
        one.page.keyboard.press("Shift+ArrowDown")
    one.settle()
    assert one.part("chosen").inner_text() != chosen


# --- bad input ----------------------------------------------------------------------


def test_a_seed_that_is_none_is_refused(open_playground):
    one = open_playground()
    said = words.say("playground-bad-seed").replace("{most}", str(2**32 - 1))
    for bad in ("two", "-1", "1.5", "4294967296", ""):
        one.part("seed").fill(bad)
        one.part("seed").press("Tab")
        assert one.status() == said
        assert one.state["settings"]["seed"] == 1
        assert one.part("seed").input_value() == "1"


def test_a_run_that_diverges_stops_and_shows_no_number(open_playground):
    one = open_playground(Playground(sigma=0.3), changed={"rate": 1e308})
    for _ in range(3):
        if one.part("step").is_enabled():
            one.part("step").click()
            one.settle()
    assert one.status() == words.say("playground-diverged")
    state = one.state
    assert (state["elbo"], state["log_p"], state["weights"]) == (None, None, [])
    numbers = one.page.locator(".pg-number").all_inner_texts()
    assert {*numbers} <= {"–", ""}
    assert one.part("run").is_disabled()


def test_a_posterior_too_narrow_for_the_grid_has_no_log_p(open_playground):
    one = open_playground(Playground(data="moons", latents=2), changed={"sigma": 1e-4})
    assert one.status() == words.say("playground-too-narrow")
    state = one.state
    assert (state["log_p"], state["gap"]) == (None, None)
    assert one.page.locator(".pg-logp .pg-number").inner_text() == "–"
    assert one.page.locator(".pg-gap .pg-number").inner_text() == "–"


# --- the page -----------------------------------------------------------------------


@pytest.mark.parametrize("language", words.LANGUAGES)
@pytest.mark.parametrize("preset", ["modes", "hole"])
def test_everybody_can_use_it(open_playground, language, preset):
    """Light and dark: nothing serious for axe, no small text, nothing wider."""
    axe = ROOT / "node_modules/axe-core/axe.min.js"
    words.use_language(language)
    one = open_playground(Playground(preset), viewport=PHONE, color_scheme="light")
    one.part("step").click()
    one.page.evaluate(axe.read_text(encoding="utf-8"))
    for scheme in ("light", "dark"):
        one.page.emulate_media(color_scheme=scheme)
        one.settle()
        found = one.page.evaluate(AXE)
        assert [f for f in found if f[0] in ("serious", "critical")] == []
    assert one.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert one.page.evaluate(SMALL) == []
    assert one.root.get_attribute("lang") == language
    assert "undefined" not in one.root.inner_text()
    labels = one.root.evaluate(
        "n => [...n.querySelectorAll('[aria-label]')].map(m => m.ariaLabel)"
    )
    assert len(labels) == 4
    assert all(len(text) > 5 and "undefined" not in text for text in labels)


def test_the_pictures_follow_the_theme(open_playground):
    """The data are black on a light page and white on a dark one."""
    one = open_playground(color_scheme="light")

    def ink():
        pixels = one.picture("data").reshape(-1, 4)
        return pixels[pixels[:, 3] == 255][:, :3].mean()

    light = ink()
    one.page.emulate_media(color_scheme="dark")
    one.settle()
    assert ink() > light + 40


def test_less_motion_draws_only_with_new_numbers(open_playground):
    one = open_playground(reduced_motion="reduce")
    one.page.evaluate("window.drawn = 0")
    one.train(300)
    calm = one.page.evaluate("drawn")
    other = open_playground()
    other.page.evaluate("window.drawn = 0")
    other.train(300)
    assert calm < other.page.evaluate("drawn")


def test_leaving_leaves_nothing(open_playground):
    one = open_playground()
    one.part("run").click()
    one.page.evaluate("leave()")
    assert one.page.locator(".vae-playground").count() == 0


def test_every_word_of_the_page_is_asked_for_and_used():
    """LABELS is what the JavaScript says, no more and no less."""
    source = re.sub(r"(?ms)/\*.*?\*/|//[^\n]*", "", Playground._esm)
    asked = {*re.findall(r"""words(?:\.(\w+)|\["([\w-]+)"\])""", source)}
    names = {a or b for a, b in asked} - {"language"}
    given = {key.removeprefix("playground-") for key in LABELS}
    by_name = {
        name
        for name in given
        if name.startswith(("is-", "about-", "preset-", "pace-"))
        or name in Playground().spec["choices"]
    }
    assert names <= given
    assert given - names <= by_name | {"alt-line", "alt-plane", "help", "help-own"} | {
        "too-narrow",
        "paused",
        "paused-numbers",
    }
