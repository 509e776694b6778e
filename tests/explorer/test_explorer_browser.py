"""The explorer in a real Chromium: pixels against PyTorch, controls, the page."""

import base64
import contextlib
import functools
import json
import re

import numpy as np
import pytest
import strangers
import torch
from torch import nn
from web_page import serving, watched

from vae_teach import words
from vae_teach.data import Images
from vae_teach.explorer import FOLLOWERS, LatentExplorer
from vae_teach.nets import AE, VAE
from vae_teach.strokes import digits
from vae_teach.train import fit

pytestmark = pytest.mark.browser

PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>explorer</title>
<link rel="icon" href="data:,"><link rel="stylesheet" href="explorer.css">
<style>:root { color-scheme: light dark } body { margin: 8px }</style></head>
<body><div id="here"></div><script type="module">
import explorer, * as parts from "./explorer.js";
const state = await (await fetch("state.json")).json();
for (const [name, text] of Object.entries(state.bytes)) {
  // As Jupyter does: a DataView that starts where it likes inside a larger buffer.
  const bytes = Uint8Array.from("?" + atob(text), letter => letter.charCodeAt(0));
  state.plain[name] = new DataView(bytes.buffer, 1);
}
const ears = {}, saved = [];
const model = {
  get: name => state.plain[name],
  set(name, value) { state.plain[name] = value; ears[`change:${name}`]?.(); },
  save_changes: () => saved.push(JSON.stringify(state.plain.z)),
  on: (event, act) => { ears[event] = act; },
  off: event => { delete ears[event]; },
};
const element = document.getElementById("here");
Object.assign(window, { model, saved, ears, parts });
window.leave = explorer.render({ model, el: element });
</script></body></html>"""


@functools.cache
def make_model(latent_dim=2):
    """Return a VAE whose random decoder is as steep as a trained one's."""
    torch.manual_seed(0)
    model = VAE(latent_dim=latent_dim)
    with torch.no_grad():
        model.decoder_hidden.weight.mul_(3)
        model.decoder_logits.weight.mul_(6)
    return model


@functools.cache
def train_model():
    """Return a VAE that has seen some strokes, at a rate that makes weights grow."""
    torch.manual_seed(0)
    model, (pixels, factors) = VAE(), digits(2000)
    images = Images(pixels, factors.label, dynamic=True)
    fit(model, images, epochs=4, learning_rate=5e-3, device="cpu", progress=False)
    return model


@functools.cache
def make_strokes():
    """Return 600 strokes of all ten digits."""
    pixels, factors = digits(600)
    return Images(pixels, factors.label)


@functools.cache
def make_images():
    """Return 300 images of three digits; half of each image is its digit's own."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(300) % 3
    own = torch.rand(3, 784, generator=generator)
    pixels = (own[labels] + torch.rand(300, 784, generator=generator)) / 2
    return Images(pixels, labels)


def state_of(widget):
    """Return a widget's traits as its page gets them: plain ones, bytes in base64."""
    names = ("spec", "weights", "codes", "classes", "thumbnails", "labels", "z", "path")
    traits = {name: getattr(widget, name) for name in names}
    coded = {
        name: base64.b64encode(value).decode()
        for name, value in traits.items()
        if isinstance(value, bytes)
    }
    plain = {name: value for name, value in traits.items() if name not in coded}
    return {"plain": plain, "bytes": coded}


class Explorer:
    """The page that holds one explorer, and what went wrong on it."""

    def __init__(self, page, errors):
        self.page, self.errors = page, errors
        self.pad = page.locator(".vae-explorer-pad")

    def settle(self):
        """Wait until whatever was asked for is drawn."""
        self.page.evaluate(
            """new Promise(done =>
              requestAnimationFrame(() => requestAnimationFrame(done)))"""
        )

    @property
    def z(self):
        self.settle()
        return json.loads(self.page.locator(".vae-explorer").get_attribute("data-z"))

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)
        return self.z

    def pixels(self, kind="image"):
        """Return the 784 red levels of a canvas, 0 to 255, and check they are grey."""
        self.settle()
        levels = self.page.locator(f".vae-explorer-{kind}").evaluate(
            "c => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
        )
        rgba = torch.tensor(levels).reshape(-1, 4)
        assert (rgba[:, 0] == rgba[:, 1]).all()
        assert (rgba[:, 3] == 255).all()
        return rgba[:, 0]

    def caption(self):
        """Return what is written below the decoded picture."""
        self.settle()
        return self.page.locator("figcaption").first.text_content()

    def set_z(self, z):
        self.page.evaluate("z => model.set('z', z)", z)
        assert self.z == z


@pytest.fixture
def open_explorer(browser, tmp_path):
    """Return a function that opens a widget on a bare page; no error may be left."""
    opened, closing = [], contextlib.ExitStack()

    def open_it(widget, **context_options):
        folder = tmp_path / str(len(opened))
        folder.mkdir()
        (folder / "index.html").write_text(PAGE, encoding="utf-8")
        (folder / "state.json").write_text(json.dumps(state_of(widget)), "utf-8")
        (folder / "explorer.js").write_text(widget._esm, encoding="utf-8")
        (folder / "explorer.css").write_text(widget._css, encoding="utf-8")
        origin = closing.enter_context(serving(folder))
        context = browser.new_context(**context_options)
        closing.callback(context.close)
        page, errors = watched(context, origin)
        page.goto(origin)
        page.wait_for_selector(".vae-explorer[data-z]")
        opened.append(Explorer(page, errors))
        return opened[-1]

    with closing:
        yield open_it
        errors = [error for one in opened for error in one.errors]
    assert errors == []


# --- the picture ------------------------------------------------------------------


@pytest.mark.parametrize("make", [make_model, train_model])
def test_the_browser_decodes_as_pytorch_does(open_explorer, make):
    """100 points of the plane: pixels on the screen, and the numbers before them."""
    model = make()
    page = open_explorer(LatentExplorer(model)).page
    points = 6 * torch.rand(100, 2, generator=torch.Generator().manual_seed(2)) - 3
    drawn = page.evaluate(
        """async points => {
          const all = [];
          const canvas = document.querySelector(".vae-explorer-image");
          const weights = parts.unpackFloat16(model.get("weights"));
          for (const z of points) {
            model.set("z", z);
            await new Promise(done => requestAnimationFrame(() => setTimeout(done)));
            const seen = canvas.getContext("2d").getImageData(0, 0, 28, 28).data;
            const mean = parts.decode(weights, model.get("spec").layers, z);
            all.push([[...seen].filter((_, k) => k % 4 === 0), [...mean]]);
          }
          return all;
        }""",
        points.tolist(),
    )
    seen, means = torch.tensor(drawn).unbind(1)  # (100, D) each
    with torch.no_grad():
        expected = model.decode(points)  # (100, D)
    assert expected.std() > 0.1
    assert (means - expected).abs().max() < 1 / 255
    assert (seen - 255 * expected).abs().max() < 2


OWN = {
    "one latent": lambda: strangers.Pictures(36, 12, 1),
    "five latents, three layers": lambda: strangers.Layers(
        *(nn.Linear(5, 20), nn.GELU(), nn.Linear(20, 20), nn.ELU(inplace=True)),
        *(nn.Linear(20, 100), nn.Sigmoid()),
        pixels=100,
        latents=5,
    ),
}


@pytest.mark.parametrize("case", OWN)
def test_a_strangers_decoder_runs_in_the_browser(open_explorer, case):
    """Any square of pixels, any number of latents: the pixels are the model's own."""
    torch.manual_seed(0)
    model = OWN[case]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    widget = LatentExplorer(model)
    one = open_explorer(widget)
    for z in 4 * torch.rand(5, len(widget.z)) - 2:
        one.set_z(z.tolist())
        with torch.no_grad():
            expected = 255 * model.decode(z[None]).flatten()
        assert expected.std() > 20
        assert (one.pixels() - expected).abs().max() < 2


def test_the_browser_has_the_functions_that_pytorch_has(open_explorer):
    page = open_explorer(LatentExplorer(make_model())).page
    numbers = torch.linspace(-30, 30, 241).double()
    asked = """numbers => Object.entries(parts.followers)
      .map(([name, follow]) => [name, numbers.map(x => follow(x))])"""
    found = dict(page.evaluate(asked, numbers.tolist()))
    assert {*found} == {*FOLLOWERS}
    for name, follow in FOLLOWERS.items():
        away = torch.tensor(found[name]).double() - follow(numbers)
        assert away.abs().max() < 1e-5, name


def test_without_a_bernoulli_there_is_no_sample_of_pixels(open_explorer):
    class Normal(strangers.Sampling):
        def log_conditional(self, x, z):
            return -((x - self.decode(z)) ** 2).sum(-1)

    for kind, shown in ((Normal, False), (strangers.Sampling, True)):
        one = open_explorer(LatentExplorer(kind(25, 12, 2)))
        assert one.page.locator(".ve-sample").is_visible() == shown
        assert one.page.locator(".ve-again").is_visible() == shown
        assert one.page.locator(".ve-mean").is_visible()


def test_every_half_precision_number_is_read_as_numpy_reads_it(open_explorer):
    page = open_explorer(LatentExplorer(make_model())).page
    halves = np.arange(2**16, dtype="<u2")
    halves = halves[np.isfinite(halves.view("<f2"))]
    read = page.evaluate(
        "halves => [...parts.unpackFloat16(Uint16Array.from(halves))]", halves.tolist()
    )
    assert len(read) == 2**16 - 2**11
    assert (np.array(read) == halves.view("<f2")).all()


def test_a_sample_is_ink_or_paper_and_its_mean_is_the_mean(open_explorer):
    model = make_model()
    one = open_explorer(LatentExplorer(model))
    one.page.get_by_label("sample of pixels").check()
    assert one.caption() == "One sample of the pixels,\nz = (0.00, 0.00)"
    first = one.pixels()
    assert set(first.tolist()) == {0, 255}
    one.pad.focus()
    one.press("ArrowRight", "ArrowLeft")
    assert (one.pixels() == first).all(), "only the button throws the dice again"
    total = torch.zeros(784)
    for _ in range(40):
        one.page.get_by_role("button", name="Draw again").click()
        total += one.pixels() / 255
    with torch.no_grad():
        p = model.decode(torch.zeros(1, 2))[0]
    errors = (total / 40 - p) / (p * (1 - p) / 40).sqrt()  # about N(0, 1) each
    assert errors.abs().max() < 6
    assert 0.8 < errors.std() < 1.2
    one.page.get_by_label("mean", exact=True).check()
    assert (one.pixels() - 255 * p).abs().max() < 2
    assert one.caption() == "Decoder mean,\nz = (0.00, 0.00)"


def test_draw_again_shows_a_sample_at_once(open_explorer):
    one = open_explorer(LatentExplorer(make_model()))
    one.page.get_by_role("button", name="Draw again").click()
    assert set(one.pixels().tolist()) == {0, 255}
    assert one.page.get_by_label("sample of pixels").is_checked()


def test_the_nearest_image_is_the_nearest(open_explorer):
    model, images = make_model(), make_images()
    widget = LatentExplorer(model, images)
    one = open_explorer(widget)
    assert not one.page.locator(".vae-explorer-neighbour").is_visible()
    one.page.get_by_label("nearest training image").check()
    with torch.no_grad():
        mu, _ = model.encode(images.pixels)
    kept = len(widget.thumbnails) * 2 // 784
    order = torch.cat([torch.arange(300)[0::2], torch.arange(300)[1::2]])[:kept]
    for z in ([0.0, 0.0], [0.3, -0.2], mu[5].tolist(), [-2.0, 1.0]):
        one.set_z(z)
        nearest = order[(mu[order] - torch.tensor(z)).norm(dim=1).argmin()]
        away = one.pixels("neighbour") / 255 - images.pixels[nearest]
        assert away.abs().max() < 0.04
        digit = int(images.labels[nearest])
        said = f"The nearest in latent space of {kept} training images: class {digit}"
        assert one.page.get_by_role("img", name=said).is_visible()
        assert f"nearest code: class {digit}" in one.pad.get_attribute("aria-valuetext")


# --- moving the point -------------------------------------------------------------


def test_keys_move_the_point_and_never_reach_the_page(open_explorer):
    one = open_explorer(LatentExplorer(make_model()))
    one.page.evaluate("() => { window.heard = []; onkeydown = e => heard.push(e.key) }")
    one.pad.focus()
    before = one.pixels()
    assert one.press("ArrowRight") == [0.1, 0]
    assert (one.pixels() != before).any()
    assert one.press("ArrowUp", "ArrowUp") == [0.1, 0.2]
    assert one.press("ArrowLeft", "ArrowDown") == [0, 0.1]
    assert one.press("Shift+ArrowLeft", "Shift+ArrowUp") == [-0.5, 0.6]
    assert one.press("PageUp") == [-0.5, 1.6]
    assert one.press("PageDown", "PageDown") == [-0.5, -0.4]
    assert one.press(*["Shift+ArrowRight"] * 9) == [3, -0.4]
    assert one.press("Home") == [0, 0]
    assert one.press("Control+ArrowRight", "a") == [0, 0]
    assert one.page.evaluate("heard") == []
    root = one.page.locator(".vae-explorer")
    assert root.get_attribute("data-lm-suppress-shortcuts") == "true"


def test_keys_that_move_the_point_do_not_scroll_the_page(open_explorer):
    one = open_explorer(LatentExplorer(make_model()))
    one.page.evaluate("document.body.style.padding = '200px 0 3000px'")
    one.page.evaluate("scrollTo(0, 150)")
    one.pad.focus()
    for key in ("Home", "ArrowDown", "ArrowUp", "PageDown", "PageUp", "ArrowLeft"):
        one.press(key)
        one.page.wait_for_timeout(50)
        assert one.page.evaluate("scrollY") == 150, key


def test_a_path_from_python_does_not_replace_the_one_being_recorded(open_explorer):
    one = open_explorer(LatentExplorer(make_model()))
    one.page.get_by_role("button", name="Record").click()
    one.pad.focus()
    one.press("Shift+ArrowRight")
    one.page.evaluate("model.set('path', [[-1, -1], [-2, -2], [-3, -3]])")
    one.press("Shift+ArrowUp")
    one.page.get_by_role("button", name="Stop").click()
    one.settle()
    assert one.page.evaluate("model.get('path')") == [[0, 0], [0.5, 0], [0.5, 0.5]]


def test_the_mouse_drags_right_for_z1_and_up_for_z2(open_explorer):
    one = open_explorer(LatentExplorer(make_model()))
    box, mouse = one.pad.bounding_box(), one.page.mouse
    unit = box["width"] / 6  # screen pixels per standard deviation
    middle_x, middle_y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    mouse.move(middle_x + unit, middle_y - 2 * unit)
    assert one.z == [0, 0], "moving without a button is no drag"
    mouse.down()
    assert one.z == pytest.approx([1, 2], abs=0.02)
    mouse.move(middle_x - 2 * unit, middle_y + unit, steps=5)
    assert one.z == pytest.approx([-2, -1], abs=0.02)
    mouse.move(middle_x - 5 * unit, middle_y + 9 * unit, steps=5)
    assert one.z == [-3, -3], "a drag may leave the pad, the point does not"
    marker = one.page.locator(".ve-marker").bounding_box()
    assert marker["x"] + marker["width"] / 2 == pytest.approx(box["x"], abs=1)
    assert marker["y"] + marker["height"] / 2 == pytest.approx(
        box["y"] + box["height"], abs=1
    )
    mouse.up()
    mouse.move(middle_x, middle_y)
    assert one.z == [-3, -3]
    assert one.press("ArrowUp") == [-3, -2.9], "a click gives the pad the keyboard"


def test_a_finger_drags_the_point_and_not_the_page(open_explorer):
    size = {"width": 390, "height": 500}
    one = open_explorer(LatentExplorer(make_model()), viewport=size, has_touch=True)
    box = one.pad.bounding_box()
    unit = box["width"] / 6
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    one.page.touchscreen.tap(x + unit, y + unit)
    assert one.z == pytest.approx([1, -1], abs=0.02)
    finger = one.page.context.new_cdp_session(one.page)

    def touch(kind, *points):
        finger.send(
            "Input.dispatchTouchEvent",
            {"type": kind, "touchPoints": [{"x": px, "y": py} for px, py in points]},
        )

    touch("touchStart", (x, y + 2 * unit))
    for step in range(1, 11):
        touch("touchMove", (x - step * unit / 10, y + 2 * unit - step * unit / 2.5))
    assert one.z == pytest.approx([-1, 2], abs=0.02)
    touch("touchEnd")
    assert one.page.evaluate("scrollY") == 0


def test_many_events_in_one_frame_draw_and_tell_once(open_explorer):
    one = open_explorer(LatentExplorer(make_model()))
    one.page.evaluate(
        """() => {
          const pad = document.querySelector(".vae-explorer-pad");
          for (let k = 0; k < 50; k++)
            pad.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" }));
        }"""
    )
    assert one.z == [3, 0]
    assert one.page.evaluate("saved") == ["[3,0]"]


def test_sliders_move_each_latent_and_the_pad_moves_two(open_explorer):
    one = open_explorer(LatentExplorer(make_model(5), make_images()))
    sliders = one.page.locator("input[type=range]")
    assert sliders.count() == 5
    one.page.get_by_role("slider", name="z4").focus()
    assert one.press("ArrowRight", "Shift+ArrowUp") == [0, 0, 0, 0.6, 0]
    assert one.press("End") == [0, 0, 0, 3, 0]
    assert one.press("PageDown") == [0, 0, 0, 2, 0]
    sliders.nth(1).evaluate(
        "s => { s.value = -1.5; s.dispatchEvent(new Event('input')) }"
    )
    assert one.z == [0, -1.5, 0, 2, 0]
    across, up = one.page.get_by_label("horizontal"), one.page.get_by_label("vertical")
    across.select_option("z₅")
    one.pad.focus()
    assert one.press("ArrowRight", "ArrowUp") == [0, -1.4, 0, 2, 0.1]
    up.select_option("z₅")  # taken by the other, so the two swap
    assert across.input_value() == "1"
    one.pad.focus()
    assert one.press("ArrowRight", "ArrowUp") == [0, -1.3, 0, 2, 0.2]
    assert "z2 = −1.30; z5 = 0.20" in one.pad.get_attribute("aria-valuetext")
    assert one.press("Home") == [0, 0, 0, 2, 0]


def test_one_latent_has_a_slider_and_no_pad(open_explorer):
    one = open_explorer(LatentExplorer(make_model(1), make_images()))
    assert not one.pad.is_visible()
    one.page.get_by_role("slider", name="z1").focus()
    assert one.press("ArrowLeft") == [-0.1]
    assert one.caption() == "Decoder mean,\nz = −0.10"


def test_python_and_the_page_hear_each_other(open_explorer):
    one = open_explorer(LatentExplorer(make_model()))
    one.set_z([0.123456789, 2.5])
    assert one.page.evaluate("saved") == [], "what Python says is not said back"
    one.pad.focus()
    one.press("ArrowDown")
    assert one.page.evaluate("model.get('z')") == [0.1235, 2.4]
    assert one.page.evaluate("saved") == ["[0.1235,2.4]"]
    one.page.evaluate("leave()")
    assert one.page.evaluate("Object.keys(ears)") == []
    assert one.page.locator(".vae-explorer").count() == 0


def test_the_axes_follow_the_extent(open_explorer):
    one = open_explorer(LatentExplorer(make_model(), extent=1.5))
    ticks = one.page.locator(".ve-tick:not(.ve-left)").all_text_contents()
    assert ticks == ["−1.5", "−1.0", "−0.5", "0.0", "0.5", "1.0", "1.5"]
    one.pad.focus()
    assert one.press(*["PageUp"] * 3) == [0, 1.5]


def test_the_grid_lies_at_the_quantiles_of_the_prior(open_explorer):
    one = open_explorer(LatentExplorer(make_model()))
    box = one.pad.bounding_box()
    lines = one.page.locator(".ve-prior, .ve-zero").evaluate_all(
        "all => all.map(line => Number(line.getAttribute('d').match(/M([\\d.]+)/)[1]))"
    )
    side = one.page.locator("svg").evaluate("svg => svg.viewBox.baseVal.width")
    at = torch.tensor(sorted(lines)) / side * 6 - 3
    masses = torch.special.ndtr(at)
    torch.testing.assert_close(
        masses, torch.arange(1, 10) / 10, rtol=0, atol=6 / side * 0.4 * 0.05 + 1e-4
    )
    assert box["width"] == pytest.approx(box["height"], abs=0.5)


# --- the map ----------------------------------------------------------------------


def points_of(path, side, extent=3):
    """Return where the dots of an SVG path lie, in latent coordinates (N, 2)."""
    drawn = re.findall(r"M([\d.]+) ([\d.]+)h0", path)
    at = torch.tensor([[float(x), float(y)] for x, y in drawn])
    return (at / side - 0.5) * torch.tensor([2.0, -2.0]) * extent


def read_map(one):
    """Return the classes' dots in latent coordinates, and colours, by digit."""
    side = one.page.locator("svg").evaluate("svg => svg.viewBox.baseVal.width")
    dots = one.page.locator(".ve-dots").evaluate_all(
        """all => all.map(part => [part.getAttribute("class"), part.getAttribute("d"),
          getComputedStyle(part).stroke])"""
    )
    found = {}
    for kind, path, color in dots:
        digit = int(re.search(r"ve-digit-(\d)", kind)[1])
        assert digit not in found
        found[digit] = (points_of(path, side), color)
    return found


@pytest.mark.parametrize("chosen", [(0, 1), (2, 1), (0, 2)])
def test_the_map_shows_each_code_at_its_place_in_its_classs_colour(
    open_explorer, chosen
):
    model, images = make_model(3), make_images()
    with torch.no_grad():
        mu, _ = model.encode(images.pixels)  # (N, 3)
    one = open_explorer(LatentExplorer(model, images))
    for kind, latent in zip(("horizontal", "vertical"), chosen, strict=True):
        one.page.get_by_label(kind).select_option(f"z{'₁₂₃'[latent]}")
    one.settle()
    found = read_map(one)
    assert sorted(found) == [0, 1, 2]
    assert len({color for _, color in found.values()}) == 3
    for digit, (drawn, _) in found.items():
        codes = mu[images.labels == digit][:, list(chosen)]
        codes = codes[codes.abs().amax(dim=1) < 3]
        assert len(drawn) == len(codes) > 50
        away = torch.cdist(drawn, codes)
        assert away.amin(dim=1).max() < 0.01  # a tenth of a unit of 360, and float16
        assert away.amin(dim=0).max() < 0.01


def test_the_number_of_each_class_stands_by_its_codes(open_explorer):
    """Colour is never alone: a plate with the digit, and no plate hides another."""
    model, images = train_model(), make_strokes()
    one = open_explorer(LatentExplorer(model, images))
    plates = one.page.evaluate(
        """() => [...document.querySelectorAll(".ve-plate")].map(plate => {
          const text = plate.nextSibling, digit = text.textContent;
          const at = (part, name) => Number(part.getAttribute(name));
          return [at(plate, "cx"), at(plate, "cy"), Number(digit), at(text, "x"),
            at(text, "y"), plate.classList.contains(`ve-digit-${digit}`)];
        })"""
    )
    assert [digit for _, _, digit, *_ in plates] == list(range(10))
    assert all([x, y] == [tx, ty] and own for x, y, _, tx, ty, own in plates)
    at = torch.tensor([[x, y] for x, y, *_ in plates])
    apart = torch.cdist(at, at) + 1e3 * torch.eye(10)
    assert apart.min() > 17, "a plate is 18 wide"
    side = one.page.locator("svg").evaluate("svg => svg.viewBox.baseVal.width")
    medians = torch.stack(
        [dots.median(dim=0).values for dots, _ in read_map(one).values()]
    )
    own = (at / side - 0.5) * torch.tensor([6.0, -6.0])
    assert (own - medians).norm(dim=1).max() < 0.7  # moved aside by a few plates


def test_ring_and_trail_lie_where_marker_and_codes_do(open_explorer):
    model, images = make_model(), make_images()
    widget = LatentExplorer(model, images)
    widget.path = [[-2.0, 1.0], [1.0, 2.0]]
    one = open_explorer(widget)
    one.page.get_by_label("nearest training image").check()
    side = one.page.locator("svg").evaluate("svg => svg.viewBox.baseVal.width")
    one.set_z([1.5, -2.25])
    assert spots(one, ".ve-marker", side) == pytest.approx([1.5, -2.25], abs=1e-4)
    codes = torch.from_numpy(np.frombuffer(widget.codes, "<f2").astype("f4"))
    kept = codes.reshape(-1, 2)[: len(widget.thumbnails) * 2 // 784]
    nearest = kept[(kept - torch.tensor([1.5, -2.25])).norm(dim=1).argmin()]
    assert spots(one, ".ve-ring", side) == pytest.approx(nearest.tolist(), abs=1e-3)
    assert one.page.locator(".ve-ring").is_visible()
    trail = one.page.locator(".ve-trail").get_attribute("points").replace(" ", ",")
    at = torch.tensor([float(number) for number in trail.split(",")]).reshape(-1, 2)
    at = (at / side - 0.5) * torch.tensor([6.0, -6.0])
    assert at.flatten().tolist() == pytest.approx([-2, 1, 1, 2], abs=1e-4)
    one.page.get_by_label("nearest training image").uncheck()
    one.settle()
    assert not one.page.locator(".ve-ring").is_visible()
    assert not one.page.locator(".vae-explorer-neighbour").is_visible()


def spots(one, selector, side):
    """Return the latent coordinates of what an SVG transform has moved."""
    moved = one.page.locator(selector).get_attribute("transform")
    x, y = (float(number) for number in re.findall(r"[-\d.]+", moved))
    return [(x / side - 0.5) * 6, (0.5 - y / side) * 6]


def test_an_autoencoders_map_has_no_grid_and_says_nothing_of_one(open_explorer):
    torch.manual_seed(0)
    one = open_explorer(LatentExplorer(AE(), make_images()))
    assert one.page.locator(".ve-prior").count() == 0
    assert "prior" not in one.page.locator(".ve-help").text_content()
    two = open_explorer(LatentExplorer(make_model(), make_images()))
    assert two.page.locator(".ve-prior").count() == 8
    assert words.say("explorer-grid") in two.page.locator(".ve-help").text_content()
    ink = two.page.locator(".ve-prior").first.evaluate(
        "line => [getComputedStyle(line).strokeDasharray, line.getBBox().width]"
    )
    assert ink == ["1px, 3px", 360], "dotted, and across the whole pad"


def test_two_explorers_on_a_page_do_not_disturb_each_other(open_explorer):
    one = open_explorer(LatentExplorer(make_model(), make_images()))
    one.page.evaluate(
        """() => {
          const other = document.body.appendChild(document.createElement("div"));
          const traits = ["spec", "weights", "codes", "classes", "thumbnails",
            "labels", "z", "path"].map(name => [name, model.get(name)]);
          parts.mount(other, Object.fromEntries(traits));
        }"""
    )
    explorers = one.page.locator(".vae-explorer")
    assert explorers.count() == 2
    explorers.nth(1).get_by_label("sample of pixels").check()
    explorers.nth(1).locator(".vae-explorer-pad").focus()
    one.page.keyboard.press("ArrowRight")
    one.settle()
    assert explorers.nth(0).get_by_label("mean", exact=True).is_checked()
    assert explorers.nth(0).get_attribute("data-z") == "[0,0]"
    assert explorers.nth(1).get_attribute("data-z") == "[0.1,0]"
    ids = one.page.locator("[id]").evaluate_all("all => all.map(part => part.id)")
    assert len(ids) == len(set(ids))


# --- the path ---------------------------------------------------------------------


def test_a_path_is_recorded_played_and_cleared(open_explorer):
    one = open_explorer(LatentExplorer(make_model()))
    button = functools.partial(one.page.get_by_role, "button")
    status = one.page.get_by_role("status")
    assert not button(name="Play").is_visible()
    button(name="Record").click()
    assert one.settle() or status.text_content() == "recording…"
    one.pad.focus()
    one.press("Shift+ArrowRight", "Shift+ArrowUp", "Shift+ArrowRight")
    button(name="Stop").click()
    walked = [[0, 0], [0.5, 0], [0.5, 0.5], [1, 0.5]]
    assert one.page.evaluate("model.get('path')") == walked
    assert one.settle() or status.text_content() == "4 points"
    trail = one.page.locator(".ve-trail").get_attribute("points").split(" ")
    assert len(trail) == 4
    one.pad.focus()
    one.press("Home")
    one.page.evaluate("saved.length = 0")
    button(name="Play").click()
    one.page.wait_for_function("saved.at(-1) === '[1,0.5]'")
    visited = torch.tensor([json.loads(z) for z in one.page.evaluate("saved")])
    places = visited.unique(dim=0)
    assert len(places) > 10, "played as a movement, not as four pictures"
    on_path = (visited[:, 1] == 0) | (visited[:, 0] == 0.5) | (visited[:, 1] == 0.5)
    assert on_path.all()
    assert (visited.diff(dim=0) >= 0).all()
    one.settle()
    button(name="Clear").click()
    assert one.page.evaluate("model.get('path')") == []
    assert one.settle() or not button(name="Play").is_visible()
    assert button(name="Record").evaluate("b => b === document.activeElement")


def test_a_path_from_python_is_played_until_the_reader_takes_over(open_explorer):
    widget = LatentExplorer(make_model())
    widget.path = [[-2.5, 1.0], [2.5, 1.0]]
    one = open_explorer(widget)
    one.page.get_by_role("button", name="Play").click()
    one.page.wait_for_function("saved.length > 5")
    one.pad.focus()
    one.press("Home")
    one.page.wait_for_timeout(100)
    assert one.z == [0, 0]
    assert one.page.get_by_role("button", name="Play").is_visible()
    one.page.evaluate("model.set('path', [])")
    assert one.settle() or not one.page.get_by_role("button", name="Play").is_visible()


CLASSIC = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<title>explorer</title></head><body><div id="here"></div><script>
const { mount } = (() => { %s; return { mount }; })();
const state = %s, traits = { ...state.plain };
for (const [name, text] of Object.entries(state.bytes))
  traits[name] = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
mount(document.getElementById("here"), traits);
</script></body></html>"""


def test_a_page_on_a_disk_is_alive(browser, tmp_path):
    """No server, no module: the same file without the word export, and plain bytes."""
    body = re.sub(
        r"^export (default .*$)?", "", LatentExplorer._esm, flags=re.MULTILINE
    )
    state = json.dumps(state_of(LatentExplorer(make_model(), make_images())))
    (tmp_path / "page.html").write_text(CLASSIC % (body, state), "utf-8")
    page, errors = watched(browser, tmp_path.as_uri())
    one = Explorer(page, errors)
    page.goto((tmp_path / "page.html").as_uri())
    before = one.pixels()
    one.pad.focus()
    assert one.press("Shift+ArrowUp") == [0, 0.5]
    assert (one.pixels() != before).any()
    page.close()
    assert errors == []


# --- the page ---------------------------------------------------------------------


@pytest.mark.parametrize("language", words.LANGUAGES)
@pytest.mark.parametrize("latent_dim", [1, 2, 12])
def test_a_phone_does_not_scroll_sideways(open_explorer, language, latent_dim):
    words.use_language(language)
    widget = LatentExplorer(make_model(latent_dim), make_images())
    one = open_explorer(widget, viewport={"width": 390, "height": 800})
    one.page.locator(".ve-nearest").check()
    one.page.locator(".ve-record").click()
    one.settle()
    assert one.page.evaluate("document.documentElement.scrollWidth") <= 390
    outside = one.page.evaluate(
        """() => [...document.querySelectorAll(".vae-explorer *")].filter(part => {
          const box = part.getBoundingClientRect();
          return box.width && (box.left < 0 || box.right > 390);
        }).map(part => part.outerHTML)"""
    )
    assert outside == []


THEMES = {
    "browser": "",
    "JupyterLab": "--jp-layout-color0: {0}; --jp-ui-font-color1: {1}",
    "book": "--color-background-primary: {0}; --color-foreground-primary: {1}",
}


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_and_lines_stand_out_in_light_and_dark(open_explorer, theme, scheme):
    """WCAG asks 4.5 of text and 3 of lines. Pale classes have their number too."""
    pair = ("#131416", "#cfd0d0") if scheme == "dark" else ("#ffffff", "#333333")
    style = THEMES[theme].format(*pair)
    one = open_explorer(
        LatentExplorer(make_model(), make_images()), color_scheme=scheme
    )
    one.page.evaluate("style => document.body.setAttribute('style', style)", style)
    colors = one.page.evaluate(
        """() => {
          const context = document.createElement("canvas").getContext("2d");
          const seen = (part, name) => {
            const style = getComputedStyle(document.querySelector(part));
            context.clearRect(0, 0, 1, 1);
            context.fillStyle = style.backgroundColor;
            context.fillRect(0, 0, 1, 1);
            if (name) {
              context.fillStyle = style[name];
              context.fillRect(0, 0, 1, 1);
            }
            return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
          };
          const root = ".vae-explorer";
          const all = { paper: seen(root), text: seen(root, "color"),
            button: seen(`${root} button`, "color"), face: seen(`${root} button`) };
          for (const line of ["circle:nth-child(2)", ".ve-digit-0", ".ve-trail"])
            all[line] = seen(`.vae-explorer-pad ${line}`, "stroke");
          return all;
        }"""
    )
    light = {name: luminance(color) for name, color in colors.items()}
    assert (light["paper"] < 0.05) == (scheme == "dark")
    assert contrast(light["text"], light["paper"]) >= 4.5
    assert contrast(light["button"], light["face"]) >= 4.5
    for line in ("circle:nth-child(2)", ".ve-digit-0", ".ve-trail"):
        assert contrast(light[line], light["paper"]) >= 3, line


def luminance(color):
    """Relative luminance of an sRGB colour, as WCAG 2 defines it."""
    parts = [c / 255 for c in color]
    parts = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), parts, strict=True))


def contrast(one, other):
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)


SPOKEN = {
    "pt": (
        "pt",
        "Explorador do espaço latente",
        "Plano latente",
        "z1 = 0,10; z2 = 0,00; código mais próximo: classe ",
        "Média do decodificador,\nz = (0,10; 0,00)",
    ),
    "en": (
        "en",
        "Latent space explorer",
        "Latent plane",
        "z1 = 0.10; z2 = 0.00; nearest code: class ",
        "Decoder mean,\nz = (0.10, 0.00)",
    ),
}


@pytest.mark.parametrize("language", words.LANGUAGES)
def test_a_screen_reader_hears_names_roles_and_values(open_explorer, language):
    words.use_language(language)
    one = open_explorer(LatentExplorer(make_model(), make_images()))
    lang, title, pad, value, caption = SPOKEN[language]
    group = one.page.get_by_role("group", name=title)
    assert group.get_attribute("lang") == lang
    slider = group.get_by_role("slider", name=pad)
    slider.focus()
    one.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext").startswith(value)
    assert slider.get_attribute("aria-valuenow") == "0.1"
    help_id = slider.get_attribute("aria-describedby")
    assert one.page.locator(f"#{help_id}").text_content().strip()
    assert group.get_by_role("img").first.get_attribute("aria-label") == caption
    assert one.caption() == caption
    first = group.get_by_role("slider", name="z1", exact=True)
    assert first.get_attribute("aria-valuetext") == value.split("; ")[0][5:]
    nameless = one.page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, canvas, [role]")]
          .filter(part => part.checkVisibility() && part.role !== "status"
            && !(part.ariaLabel || part.textContent || part.labels?.[0]?.textContent))
          .map(part => part.outerHTML)"""
    )
    assert nameless == []


def test_focus_can_be_seen_and_reaches_every_control(open_explorer):
    one = open_explorer(LatentExplorer(make_model(3), make_images()))
    reached = []
    for _ in range(12):
        one.page.keyboard.press("Tab")
        seen = one.page.evaluate(
            """() => {
              const part = document.activeElement, style = getComputedStyle(part);
              return [part.getAttribute("class") ?? part.tagName, style.outlineStyle,
                parseFloat(style.outlineWidth)];
            }"""
        )
        reached.append(seen[0])
        assert seen[1:] == ["solid", 3], seen
        if seen[0] == "ve-record":
            break
    assert reached == [
        *("SELECT", "SELECT", "vae-explorer-pad", "INPUT", "INPUT", "INPUT"),
        *("ve-mean", "ve-again", "ve-nearest", "ve-record"),
    ]
