"""The drawing explorer in a real Chromium: strokes by mouse, finger and keys."""

import contextlib
import itertools
import json
import re

import numpy as np
import pytest
import torch
from drawn import (
    ROOT,
    in_language,
    state_of,
    stored_images,
    stored_model,
    true_elbo,
    true_log_p,
)
from test_drawing import shifted
from web_page import serving, watched

from vae_teach import words
from vae_teach.data import Images
from vae_teach.explorer import DrawingExplorer, drawing
from vae_teach.nets import VAE

pytestmark = pytest.mark.browser

HEAD = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>drawing</title>
<link rel="icon" href="data:,"><style>:root { color-scheme: light dark }
body { margin: 8px } %s</style></head><body><main><div id="here"></div></main>"""
MODULE = """<script type="module">
import widget from "./widget.js";
const state = await (await fetch("state.json")).json();
for (const [name, text] of Object.entries(state.bytes)) {
  // As Jupyter does: a DataView that starts where it likes inside a larger buffer.
  const bytes = Uint8Array.from("?" + atob(text), letter => letter.charCodeAt(0));
  state.plain[name] = new DataView(bytes.buffer, 1);
}
const model = { get: name => state.plain[name] };
window.leave = widget.render({ model, el: document.getElementById("here") });
</script></body></html>"""
CLASSIC = """<script>
const { mount } = (() => { %s; return { mount }; })();
const state = %s, traits = { ...state.plain };
for (const [name, text] of Object.entries(state.bytes))
  traits[name] = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
mount(document.getElementById("here"), traits);
</script></body></html>"""
TWO = [(9, 8), (13, 6), (18, 8), (18, 12), (14, 15), (9, 22), (20, 22)]  # a digit
PHONE = {"width": 390, "height": 844}


class Drawing:
    """A page that holds a drawing explorer, and what went wrong on it."""

    def __init__(self, page, errors):
        self.page, self.errors = page, errors
        self.root = page.locator(".vae-drawing")
        self.pad = page.locator(".vd-pad")

    def ledger(self):
        self.page.evaluate(
            """new Promise(done =>
              requestAnimationFrame(() => requestAnimationFrame(done)))"""
        )
        return json.loads(self.root.get_attribute("data-ledger"))

    def click(self, name):
        self.page.get_by_role("button", name=name, exact=True).click()

    def spots(self, points):
        box = self.pad.bounding_box()
        unit = box["width"] / 28
        return [(box["x"] + x * unit, box["y"] + y * unit) for x, y in points]

    def mouse(self, points):
        first, *others = self.spots(points)
        self.page.mouse.move(*first)
        self.page.mouse.down()
        for spot in others:
            self.page.mouse.move(*spot, steps=5)
        self.page.mouse.up()

    def finger(self, points):
        """Draw with touches that Chromium makes itself, as from a screen."""
        session = self.page.context.new_cdp_session(self.page)

        def touch(kind, *spots):
            at = [{"x": x, "y": y} for x, y in spots]
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})

        spots = self.spots(points)
        touch("touchStart", spots[0])
        for (x0, y0), (x1, y1) in itertools.pairwise(spots):
            for part in (0.25, 0.5, 0.75, 1):
                touch("touchMove", (x0 + part * (x1 - x0), y0 + part * (y1 - y0)))
        touch("touchEnd")

    def keys(self, points):
        """Draw with the keyboard alone: the pen starts in the middle."""
        self.pad.focus()
        here = [14, 14]

        def walk(to):
            for axis, (less, more) in enumerate(
                (("ArrowLeft", "ArrowRight"), ("ArrowUp", "ArrowDown"))
            ):
                while here[axis] != to[axis]:
                    step = 1 if to[axis] > here[axis] else -1
                    self.page.keyboard.press(more if step > 0 else less)
                    here[axis] += step

        walk(points[0])
        self.page.keyboard.press("Space")
        for point in points[1:]:
            walk(point)
        self.page.keyboard.press("Space")


@pytest.fixture
def open_drawing(browser, tmp_path):
    """Return a function that opens a state on a bare page; no error may be left."""
    opened, closing = [], contextlib.ExitStack()

    def open_it(state=None, origin="http", **options):
        folder = tmp_path / str(len(opened))
        folder.mkdir()
        state = state or in_language("en")
        head, script = HEAD % DrawingExplorer._css, MODULE
        if origin == "file":
            code = re.sub(
                r"^export (default .*$)?", "", DrawingExplorer._esm, flags=re.M
            )
            script = CLASSIC % (code, json.dumps(state))
        (folder / "index.html").write_text(head + script, encoding="utf-8")
        (folder / "state.json").write_text(json.dumps(state), "utf-8")
        (folder / "widget.js").write_text(DrawingExplorer._esm, encoding="utf-8")
        address = folder.as_uri()
        if origin == "http":
            address = closing.enter_context(serving(folder))
        context = browser.new_context(**options)
        closing.callback(context.close)
        page, errors = watched(context, address)
        page.goto(f"{address}/index.html")
        page.wait_for_selector(".vae-drawing[data-ledger], .vae-drawing [role=alert]")
        opened.append(Drawing(page, errors))
        return opened[-1]

    with closing:
        yield open_it
        errors = [error for one in opened for error in one.errors]
    assert errors == []


def check(ledger):
    """Hold a page's ledger against PyTorch, whatever was drawn."""
    assert re.fullmatch("[01]{784}", ledger["pixels"])
    x = torch.tensor([[float(bit) for bit in ledger["pixels"]]])
    model = stored_model()
    with torch.no_grad():
        mu, logvar = model.encode(x)
    assert ledger["mu"] == pytest.approx(mu[0].tolist(), abs=1e-4)
    assert ledger["logvar"] == pytest.approx(logvar[0].tolist(), abs=1e-4)
    log_p = float(true_log_p(model, x))
    elbo = true_elbo(model, x[0], ledger["mu"], ledger["logvar"])
    assert ledger["log_p"] == pytest.approx(log_p, abs=0.05)
    assert ledger["elbo"] == pytest.approx(elbo, abs=0.05)
    assert ledger["gap"] == pytest.approx(log_p - elbo, abs=0.05)
    return x[0].reshape(28, 28)


# --- drawing --------------------------------------------------------------------------


@pytest.mark.parametrize("origin", ["http", "file"])
@pytest.mark.parametrize("by", ["mouse", "finger", "keys"])
def test_a_stroke_is_seen_and_its_ledger_is_pytorchs(open_drawing, by, origin):
    one = open_drawing(origin=origin, has_touch=True)
    check(one.ledger())  # alive at once, on a test image
    one.click("Clear")
    getattr(one, by)(TWO)
    seen = check(one.ledger())
    assert 60 < seen.sum() < 160, "a line of MNIST's width"
    mass = seen / seen.sum()
    middle = torch.arange(28).float()
    assert (mass.sum(0) @ middle).item() == pytest.approx(13.5, abs=0.8)
    assert (mass.sum(1) @ middle).item() == pytest.approx(13.5, abs=0.8)
    assert seen[:, 6:22].sum() > 0.9 * seen.sum()


def test_a_line_lies_where_it_was_drawn(open_drawing):
    """Not mirrored, not turned: with the centring off, row by row from the top."""
    one = open_drawing()
    one.click("Clear")
    one.page.get_by_label("Centre").uncheck()
    one.mouse([(3, 5), (20, 5)])
    seen = check(one.ledger())
    rows, columns = seen.nonzero().unbind(1)
    assert rows.min() >= 3
    assert rows.max() <= 6
    assert columns.min() <= 3
    assert 19 <= columns.max() <= 21


def test_eraser_undo_clear_and_test_images(open_drawing):
    state = in_language("en")
    one = open_drawing(state)
    first = one.ledger()["pixels"]
    images = stored_images(state)
    assert first == "".join(str(int(bit)) for bit in images[0])
    one.click("Another test image")
    second = one.ledger()["pixels"]
    assert second == "".join(str(int(bit)) for bit in images[1])
    one.click("Clear")
    assert one.ledger()["problem"] == "empty"
    one.mouse(TWO)
    drawn = one.ledger()["pixels"]
    one.page.get_by_label("Eraser").check()
    one.mouse([(9, 22), (20, 22)])
    assert one.ledger()["pixels"].count("1") < drawn.count("1") - 10
    for expected in (drawn, None, second, first):
        one.click("Undo")
        now = one.ledger()
        assert expected is None or now["pixels"] == expected
    assert one.page.get_by_role("button", name="Undo").is_disabled()
    one.pad.focus()
    one.page.keyboard.press("Space")
    one.page.keyboard.press("Escape")
    one.page.keyboard.press("Control+z")
    assert one.ledger()["pixels"] == first


def test_keys_do_not_reach_the_page_behind(open_drawing):
    one = open_drawing()
    one.page.evaluate("() => { window.heard = []; onkeydown = e => heard.push(e.key) }")
    one.keys([(14, 14), (16, 14)])
    assert one.page.evaluate("heard") == []
    assert one.page.evaluate("scrollY") == 0
    one.page.keyboard.press("Tab")
    focus = one.page.evaluate("document.activeElement.className")
    assert focus == "vd-pen", "no trap"


def test_eps_is_drawn_anew_and_only_by_its_button(open_drawing):
    one = open_drawing()
    seen = [one.ledger()]
    one.mouse([(9, 22), (20, 22)])
    assert one.ledger()["eps"] == seen[0]["eps"], "the pen changes q and nothing else"
    for _ in range(40):
        one.click("Sample another eps")
        seen.append(one.ledger())
    eps = np.array([ledger["eps"] for ledger in seen])
    assert len(np.unique(eps, axis=0)) == len(seen)
    assert abs(eps.mean()) < 0.5
    assert 0.7 < eps.std() < 1.3
    for ledger in seen:
        mu, sigma = np.array(ledger["mu"]), np.exp(np.array(ledger["logvar"]) / 2)
        assert ledger["z"] == pytest.approx(mu + sigma * ledger["eps"], abs=1e-9)
    last = seen[-1]
    levels = one.page.locator(".vd-mean").evaluate(
        "c => [...c.getContext('2d').getImageData(0, 0, 28, 28).data]"
    )
    with torch.no_grad():
        mean = stored_model().decode(torch.tensor([last["z"]]).float())[0]
    away = torch.tensor(levels).reshape(-1, 4)[:, 0] - 255 * mean
    assert away.abs().max() < 2


# --- what is shown --------------------------------------------------------------------


def number(text, language="en"):
    text = text.replace("−", "-")
    return float(text.replace(",", ".") if language == "pt" else text)


@pytest.mark.parametrize("language", words.LANGUAGES)
def test_numbers_bars_and_sentence_say_the_same(open_drawing, language):
    state = in_language(language)
    one = open_drawing(state)
    ranks = state["plain"]["spec"]["percentiles"]
    for _ in range(6):
        one.page.locator(".vd-example").click()
        ledger = one.ledger()
        shown = {}
        for name in ("log-p", "elbo", "gap", "reconstruction", "kl"):
            texts = one.page.locator(f".vd-n-{name}").all_inner_texts()
            assert len(set(texts)) == 1
            shown[name] = round(number(texts[0], language), 2)
        for name, value in shown.items():
            true = ledger[name.replace("-", "_")]
            assert value == pytest.approx(true, abs=0.0151), name
        assert shown["log-p"] == round(shown["elbo"] + shown["gap"], 2)
        assert shown["elbo"] == round(shown["reconstruction"] - shown["kl"], 2)
        said = one.page.locator(".vd-sentence").inner_text()
        off, rank = re.findall(r"\d+(?:[.,]\d+)?", said)
        assert number(off, language) == pytest.approx(ledger["gap"], abs=0.051)
        below = 100 * np.mean(np.array(ranks) < ledger["log_p"])
        less = words.say("drawing-less").split("{")[0] in said
        assert number(rank) == pytest.approx(100 - below if less else below, abs=1.5)
        assert less == (below < 50)
        ends = one.page.locator(".vd-bar").evaluate_all(
            """bars => bars.map(bar => [...bar.children].map(part =>
              part.getBoundingClientRect().width))"""
        )
        (fit, kl), (log_p, gap) = ends
        assert fit + kl == pytest.approx(log_p + gap, abs=1)
        assert kl / gap == pytest.approx(shown["kl"] / shown["gap"], rel=0.1)


def test_ellipses_and_posterior_lie_where_the_numbers_say(open_drawing):
    """Centre and radii in the close-up, by its ticks; the green region's own mean."""
    one, checked = open_drawing(), 0
    while checked < 3:
        one.click("Another test image")
        ledger = one.ledger()
        if ledger["gap"] > 0.5:
            continue  # a posterior with a second mode, far from q
        checked += 1
        found = one.page.evaluate(
            """() => {
              const view = document.querySelector(".vd-lens");
              const read = text => Number(text.textContent.replace("−", "-"));
              const ticks = ".vd-moving > text:not(.vd-axis)";
              const texts = [...view.querySelectorAll(ticks)];
              const across = texts.filter(t => !t.matches(".vd-left"))
                .map(t => [Number(t.getAttribute("x")), read(t)]);
              const up = texts.filter(t => t.matches(".vd-left"))
                .map(t => [Number(t.getAttribute("y")), read(t)]);
              const rings = [...view.querySelectorAll("ellipse.vd-q")].map(ring =>
                ["cx", "cy", "rx", "ry"].map(name => Number(ring.getAttribute(name))));
              const canvas = view.querySelector("canvas");
              const { data } = canvas.getContext("2d").getImageData(0, 0, 280, 280);
              const green = [];
              for (let k = 0; k < 280 * 280; k++)
                if (data[4 * k + 3] > 200) green.push([k % 280, Math.floor(k / 280)]);
              return { across, up, rings, green };
            }"""
        )
        x = np.polynomial.Polynomial.fit(*zip(*found["across"], strict=True), 1)
        y = np.polynomial.Polynomial.fit(*zip(*found["up"], strict=True), 1)
        assert y.convert().coef[1] < 0 < x.convert().coef[1], "z2 runs up"
        sigma = np.exp(np.array(ledger["logvar"]) / 2)
        scale = x.convert().coef[1]
        for ring, radius in zip(found["rings"], (1.17741, 2.44775), strict=True):
            assert [x(ring[0]), y(ring[1])] == pytest.approx(ledger["mu"], abs=0.005)
            assert np.array(ring[2:]) * scale == pytest.approx(radius * sigma, rel=0.02)
        green = np.array(found["green"])
        middle = [x(green[:, 0].mean() + 0.5), y(green[:, 1].mean() + 0.5)]
        mean, cells = fine_posterior(ledger)
        assert middle == pytest.approx(mean, abs=0.5 * sigma.max())
        dark = {(left, top) for left, top in found["green"]}
        to_left, to_top = ((p.convert().coef) for p in (x, y))
        inside = sum(
            share
            for a, b, share in cells
            if (int((a - to_left[0]) / to_left[1]), int((b - to_top[0]) / to_top[1]))
            in dark
        )
        assert inside == pytest.approx(0.5, abs=0.03), "half of the posterior"


def fine_posterior(ledger):
    """Return the posterior's mean near q, and its cells: z1, z2, share of the mass."""
    x = torch.tensor([[float(bit) for bit in ledger["pixels"]]])
    mu, sigma = np.array(ledger["mu"]), np.exp(np.array(ledger["logvar"]) / 2)
    steps = np.linspace(-8, 8, 161)
    a, b = mu[0] + sigma[0] * steps, mu[1] + sigma[1] * steps
    z = torch.cartesian_prod(torch.tensor(a), torch.tensor(b)).float()
    with torch.no_grad():
        logits = stored_model().decode_logits(z)
    fit = (x * logits - torch.nn.functional.softplus(logits)).sum(1)
    share = (fit - 0.5 * z.square().sum(1)).double().softmax(0).reshape(161, 161)
    share = share.numpy()
    mean = [share.sum(1) @ a, share.sum(0) @ b]
    places = ((i, j) for i in range(161) for j in range(161))
    return mean, [(a[i], b[j], share[i, j]) for i, j in places]


# --- bad input ------------------------------------------------------------------------


def numberless(one, sentence):
    ledger = one.ledger()
    assert ledger["elbo"] is ledger["log_p"] is ledger["gap"] is None
    assert one.page.locator(".vd-sentence").inner_text() == sentence
    assert set(one.page.locator(".vd-equation dd").all_inner_texts()) == {"–"}
    assert not one.page.locator(".vd-bars").is_visible()
    return ledger


@pytest.mark.parametrize("language", words.LANGUAGES)
def test_an_empty_and_a_full_drawing_get_a_sentence_and_no_number(
    open_drawing, language
):
    one = open_drawing(in_language(language))
    one.page.locator(".vd-clear").click()
    ledger = numberless(one, words.say("drawing-empty"))
    assert ledger["pixels"] == "0" * 784
    for row in (*range(0, 28, 2), 27.5):
        one.mouse([(0.2, row), (27.8, row)])
    assert numberless(one, words.say("drawing-full"))["pixels"] == "1" * 784
    one.page.locator(".vd-example").click()
    check(one.ledger())


@pytest.mark.parametrize("language", words.LANGUAGES)
def test_a_posterior_outside_the_plane_is_said(open_drawing, language):
    one = open_drawing(shifted(in_language(language), 5.5))
    numberless(one, words.say("drawing-outside").replace("{extent}", "5"))


@pytest.mark.parametrize("name", ["weights", "encoder", "partition"])
def test_weights_cut_short_are_said(open_drawing, name):
    state = in_language("en")
    state["bytes"][name] = state["bytes"][name][:-400]
    one = open_drawing(state)
    assert one.root.inner_text() == words.say("drawing-damaged")
    assert one.root.get_attribute("data-ledger") is None


def test_three_latents_have_a_bound_and_no_map(open_drawing, monkeypatch):
    monkeypatch.setattr(drawing, "COMPARED", 20)
    words.use_language("en")
    torch.manual_seed(0)
    x = (torch.rand(20, 784) < 0.2).float()
    widget = DrawingExplorer(VAE(784, 30, 3), Images(x, torch.arange(20) % 10))
    one = open_drawing(state_of(widget))
    assert not one.page.locator(".vd-lens").is_visible()
    assert not one.page.locator(".vd-plane").is_visible()
    said = one.page.locator(".vd-sentence").inner_text()
    assert "Latent variables of this model: 3." in said
    assert "100 samples" in said
    assert "bound of 100 samples" in one.page.locator(".vd-ledger").inner_text()
    ledger = one.ledger()
    assert ledger["log_p"] is ledger["gap"] is None
    assert ledger["bound"] > ledger["elbo"]


# --- the page -------------------------------------------------------------------------

LOOK = """() => [...document.querySelectorAll(".vae-drawing *")].flatMap(part => {
  const box = part.getBoundingClientRect(), style = getComputedStyle(part);
  const own = [...part.childNodes].some(n => n.nodeType === 3 && n.data.trim());
  const scale = part.ownerSVGElement
    ? part.ownerSVGElement.getScreenCTM().a : 1;
  const found = [];
  if (box.width && !part.closest("svg svg") && !part.matches("g")
      && (box.left < -1 || box.right > innerWidth + 1))
    found.push("outside: " + part.outerHTML.slice(0, 80));
  if (own && part.checkVisibility() && parseFloat(style.fontSize) * scale < 12)
    found.push("small: " + part.textContent);
  return found;
})"""


@pytest.mark.parametrize("language", words.LANGUAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_open_to_everybody_and_fits_a_phone(open_drawing, scheme, language):
    axe = (ROOT / "node_modules/axe-core/axe.min.js").read_text(encoding="utf-8")
    state = in_language(language)
    for viewport in ({"width": 1280, "height": 900}, PHONE):
        one = open_drawing(state, viewport=viewport, color_scheme=scheme)
        one.page.evaluate("l => { document.documentElement.lang = l }", language)
        one.page.evaluate(axe)
        found = one.page.evaluate(
            """async () => (await axe.run()).violations
              .map(({ id, impact, nodes }) => [impact, id, nodes[0].html])"""
        )
        assert [v for v in found if v[0] in ("serious", "critical")] == []
        assert (
            one.page.evaluate("document.documentElement.scrollWidth")
            <= (viewport["width"])
        )
        assert one.page.evaluate(LOOK) == []


def test_a_screen_reader_hears_the_sentence_once_the_pen_rests(open_drawing):
    one = open_drawing()
    one.click("Another test image")
    one.ledger()
    said = one.page.locator(".vd-sentence").inner_text()
    one.page.wait_for_function(
        "said => document.querySelector('[role=status]').textContent === said", arg=said
    )
    alt = one.page.locator(".vd-lens [role=img]").get_attribute("aria-label")
    assert "50% and 95% ellipses" in alt
    bars = one.page.locator(".vd-bars").get_attribute("aria-label")
    shown = one.page.locator(".vd-n-gap").first.inner_text()
    assert f"the gap ({shown})" in bars
    assert "{" not in alt + bars + said
