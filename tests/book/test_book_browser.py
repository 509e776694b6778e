"""The book in a real Chromium: every page, both languages, from a server and a disk."""

import base64
import json
import re

import nbformat
import numpy as np
import pytest
import torch
from web_page import serving, watched

from conftest import BUILD
from vae_teach.nets import VAE

pytestmark = pytest.mark.browser

ROOT = BUILD.parents[1]
OTHER = {"pt": "en", "en": "pt"}
PROSE = sorted(path.stem for path in (ROOT / "book/pages/pt").glob("*.md"))
LESSONS = sorted(path.stem for path in (ROOT / "notebooks/pt").glob("[0-9]*.ipynb"))
PAGES = sorted({*PROSE, *LESSONS, "api", "search"})
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
SERIOUS = ("serious", "critical")

# What a picture of the whole page cannot show: what is hidden or empty on it.
LOOK = """() => {
  const all = selector => [...document.querySelectorAll(selector)];
  const size = node => node.getBoundingClientRect();
  const problems = [];
  for (const formula of all('.math')) {
    if (formula.closest('details:not([open])')) continue;
    const drawn = formula.querySelector('.katex-html'), box = size(drawn ?? formula);
    if (!drawn || box.width < 1 || box.height < 1)
      problems.push('formula not drawn: ' + formula.textContent);
    if (!formula.querySelector('math')) problems.push('formula without words');
  }
  const faces = [...document.fonts];
  if (all('.math').length && !faces.some(
      face => face.family.includes('KaTeX_Main') && face.status === 'loaded'))
    problems.push('formulas without their font');
  for (const { family, status } of faces)
    if (status === 'error') problems.push('no font: ' + family);
  for (const use of all('use'))
    if (!document.querySelector(use.getAttribute('href'))) problems.push('no outline');
  for (const image of all('img')) {
    const { src, alt, complete, naturalWidth } = image;
    if (!complete || !naturalWidth) problems.push('no picture: ' + src);
    if (!alt && !src.endsWith('mark.svg')) problems.push('no words: ' + src);
  }
  return problems;
}"""
WIDER = """() => [document.documentElement, document.body]
  .map(node => node.scrollWidth - innerWidth).filter(more => more > 0)"""
AXE = """async only => {
  const options = { resultTypes: ['violations'], ...(only ? { runOnly: only } : {}) };
  const { violations } = await axe.run(document, options);
  return violations.flatMap(({ id, impact, nodes }) =>
    nodes.map(node => [impact, id, node.target.join(' '), node.failureSummary]));
}"""
WAIT_FRAMES = """new Promise(done =>
  requestAnimationFrame(() => requestAnimationFrame(done)))"""


@pytest.fixture(scope="session")
def server(book):
    """Return the address of a server of the book's folder, and of nothing else."""
    with serving(book) as address:
        yield address


@pytest.fixture(scope="session")
def axe():
    return (ROOT / "node_modules/axe-core/axe.min.js").read_text(encoding="utf-8")


@pytest.fixture
def origin(request, server, book):
    """Return where the book is read from; a test asks for "http" or "file"."""
    return server if request.param == "http" else book.as_uri()


class Reader:
    """A browser page, and everything that went wrong on it."""

    def __init__(self, context, origin):
        self.origin = origin
        self.page, self.wrong = watched(context, origin)

    def open(self, name):
        self.page.goto(f"{self.origin}/{name}")
        self.page.wait_for_load_state("load")
        return self.page

    def wake(self):
        """Bring every explorer of the page to life, as scrolling to it does."""
        for place in self.page.locator(".course-widget").all():
            place.scroll_into_view_if_needed()
        self.page.wait_for_function(
            """[...document.querySelectorAll('.course-widget')]
              .every(place => place.dataset.alive)"""
        )

    def inspect(self, axe, only=None):
        """Return what axe-core finds serious or critical."""
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(axe)
        found = self.page.evaluate(AXE, only)
        return [problem for problem in found if problem[0] in SERIOUS]


@pytest.fixture
def reader(browser, origin):
    """Return a function that opens a reader; nothing may go wrong on its pages."""
    contexts, readers = [], []

    def open_reader(**options):
        contexts.append(browser.new_context(**({"viewport": WIDE} | options)))
        readers.append(Reader(contexts[-1], origin))
        return readers[-1]

    yield open_reader
    wrong = [problem for one in readers for problem in one.wrong]
    for context in contexts:
        context.close()
    assert wrong == []


both = pytest.mark.parametrize("origin", ["http", "file"], indirect=True)
http_only = pytest.mark.parametrize("origin", ["http"], indirect=True)
languages = pytest.mark.parametrize("language", ["pt", "en"])


# --- every page -----------------------------------------------------------------------


@http_only
@languages
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole_and_open_to_everybody(reader, axe, name, language):
    """Light, dark, narrow; formulas, pictures, contrast; the switch, there and back."""
    one = reader(color_scheme="light", reduced_motion="reduce")
    page = one.open(f"{language}/{name}.html")
    one.wake()
    assert page.evaluate(LOOK) == []
    page.evaluate(
        "document.querySelectorAll('details').forEach(d => { d.open = true })"
    )
    assert one.inspect(axe) == []
    page.emulate_media(color_scheme="dark")
    assert one.inspect(axe, ["color-contrast", "link-in-text-block"]) == []
    page.set_viewport_size(PHONE)
    page.evaluate(WAIT_FRAMES)
    assert page.evaluate(WIDER) == []
    assert one.inspect(axe, ["scrollable-region-focusable", "target-size"]) == []
    switch_there_and_back(page, name, language)


@pytest.mark.parametrize("origin", ["file"], indirect=True)
@languages
@pytest.mark.parametrize("name", PAGES)
def test_a_page_from_a_disk_is_whole(reader, name, language):
    one = reader()
    page = one.open(f"{language}/{name}.html")
    one.wake()
    assert page.evaluate(LOOK) == []
    switch_there_and_back(page, name, language)


def switch_there_and_back(page, name, language):
    """Click the language switch, twice; both times it stays on the page."""
    for _ in range(2):
        language = OTHER[language]
        page.evaluate("scrollTo(0, 0)")
        page.locator("a.language-switch:visible").click()
        page.wait_for_url(f"**/{language}/{name}.html")
        shown = page.locator("html").get_attribute("lang")
        assert shown == {"pt": "pt-BR", "en": "en"}[language]


@both
def test_the_start_page_leads_to_both_languages_without_scripts(reader, axe):
    one = reader(java_script_enabled=False)
    for language, title in (("pt", "Autocodificadores"), ("en", "Variational")):
        page = one.open("index.html")
        page.locator(f"a.door[href^={language}]").click()
        page.wait_for_url(f"**/{language}/index.html")
        assert title in page.title()
    for scheme in ("light", "dark"):
        one = reader(color_scheme=scheme, viewport=PHONE)
        page = one.open("index.html")
        if one.origin.startswith("http"):  # axe-core fetches the styles it reads
            assert one.inspect(axe) == []
        assert page.evaluate(WIDER) == []
        assert page.evaluate(LOOK) == []


# --- a lesson -------------------------------------------------------------------------


@both
@languages
def test_the_switch_stays_at_the_section(reader, language):
    page = reader(reduced_motion="reduce").open(f"{language}/00_tour.html")
    section = page.locator("section#generation")
    section.evaluate("node => node.scrollIntoView()")
    page.locator("a.language-switch:visible").evaluate("link => link.focus()")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/{OTHER[language]}/00_tour.html#generation")
    assert page.locator("section#generation > h2").is_visible()


@both
@languages
def test_without_scripts_a_lesson_is_a_text_with_pictures(reader, language):
    page = reader(java_script_enabled=False).open(f"{language}/00_tour.html")
    assert page.locator(".katex-html:visible").count() > 50
    still = page.locator("#explorer-shown .cell_output")
    assert still.locator("img:visible").count() == 1
    assert "JavaScript" in still.inner_text()
    assert page.locator(".copy, .vae-explorer").count() == 0
    page.locator("a.language-switch:visible").click()
    page.wait_for_url(f"**/{OTHER[language]}/00_tour.html")


@http_only
@languages
def test_sliders_that_need_a_kernel_say_so(reader, language):
    page = reader().open(f"{language}/00_tour.html")
    output = page.locator("#sliders-shown .cell_output")
    assert output.locator("input").count() == 0
    assert output.locator("img").get_attribute("alt")
    assert f"uv run lab {language}" in output.inner_text()
    output.locator("a[href='#explorer-shown']").click()
    assert page.url.endswith("#explorer-shown")


@http_only
def test_solutions_are_folded_and_code_can_be_copied(reader):
    one = reader(permissions=["clipboard-read", "clipboard-write"])
    page = one.open("en/00_tour.html")
    solution = page.locator("#solution-kl")
    assert not solution.locator("pre").first.is_visible()
    solution.locator("summary").focus()
    page.keyboard.press("Enter")
    assert solution.locator("pre").first.is_visible()
    cell = page.locator("#manifold-picture .cell_input")
    cell.hover()
    cell.get_by_role("button", name="Copy").click()
    copied = page.evaluate("navigator.clipboard.readText()")
    notebook = nbformat.read(ROOT / "notebooks/en/00_tour.ipynb", 4)
    (source,) = [c.source for c in notebook.cells if c.id == "manifold-picture"]
    assert copied == source
    assert cell.get_by_role("button", name="Copied").is_visible()
    page.goto(f"{one.origin}/en/00_tour.html#solution-kl")
    page.reload()
    assert solution.locator("pre").first.is_visible(), "an address opens its fold"


# --- the explorer on the page ---------------------------------------------------------


def stored_model(language):
    """Return the decoder whose weights the notebook stores, in PyTorch."""
    notebook = nbformat.read(ROOT / f"notebooks/{language}/00_tour.ipynb", 4)
    kind = "application/vnd.jupyter.widget-state+json"
    states = notebook.metadata["widgets"][kind]["state"].values()
    (stored,) = [s for s in states if s["model_module"] == "anywidget"]
    (coded,) = [b["data"] for b in stored["buffers"] if b["path"] == ["weights"]]
    halves = np.frombuffer(base64.b64decode(coded), "<f2")
    model, numbers = VAE(), torch.tensor(halves.astype(np.float32))
    layers = (model.decoder_hidden, model.decoder_logits)
    with torch.no_grad():
        for parameter in (p for layer in layers for p in layer.parameters()):
            values, numbers = numbers.tensor_split([parameter.numel()])
            parameter.copy_(values.reshape(parameter.shape))
    assert len(numbers) == 0
    return model


def explore(one, language):
    """Open a lesson at its explorer; return its pad."""
    page = one.open(f"{language}/00_tour.html")
    one.wake()
    page.locator(".course-widget").scroll_into_view_if_needed()
    assert page.locator("#explorer-shown img:visible").count() == 0
    pad = page.locator(".vae-explorer-pad")
    pad.scroll_into_view_if_needed()
    return pad


def z_of(page):
    page.evaluate(WAIT_FRAMES)
    return json.loads(page.locator(".vae-explorer").get_attribute("data-z"))


def difference(page, model):
    """Return the largest difference between the canvas and PyTorch, of 255 levels."""
    z = z_of(page)
    drawn = page.locator(".vae-explorer-image").evaluate(
        "c => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
    )
    levels = torch.tensor(drawn).reshape(-1, 4)[:, 0]
    with torch.no_grad():
        mean = model.decode(torch.tensor([z], dtype=torch.float32))[0]
    assert mean.max() > 0.5
    return (levels - 255 * mean).abs().max().item()


@both
@languages
def test_keys_and_mouse_move_the_explorer_as_pytorch_does(reader, language):
    one, model = reader(), stored_model(language)
    pad = explore(one, language)
    page = one.page
    assert difference(page, model) < 2
    pad.focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowUp", "Shift+ArrowUp", "PageUp"):
        page.keyboard.press(key)
    assert z_of(page) == [0.2, 1.6]
    assert difference(page, model) < 2
    box, mouse = pad.bounding_box(), page.mouse
    unit = box["width"] / 6
    mouse.move(box["x"] + 4 * unit, box["y"] + 4 * unit)
    mouse.down()
    mouse.move(box["x"] + 2 * unit, box["y"] + 5 * unit, steps=4)
    mouse.up()
    assert z_of(page) == pytest.approx([-1, -2], abs=0.03)
    assert difference(page, model) < 2
    slider = page.locator(".vae-explorer input[type=range]").first
    slider.focus()
    page.keyboard.press("End")
    assert z_of(page)[0] == 3
    assert difference(page, model) < 2
    label = page.locator(".vae-explorer").get_attribute("aria-label")
    assert (
        label
        == {"pt": "Explorador do espaço latente", "en": "Latent space explorer"}[
            language
        ]
    )
    print(f"one decode: {page.locator('.vae-explorer').get_attribute('data-ms')} ms")


@both
def test_a_finger_moves_the_explorer_on_a_phone(reader):
    one, model = (
        reader(viewport=PHONE, has_touch=True, is_mobile=True),
        stored_model("pt"),
    )
    box = explore(one, "pt").bounding_box()
    unit = box["width"] / 6
    one.page.touchscreen.tap(box["x"] + 4 * unit, box["y"] + 2 * unit)
    assert z_of(one.page) == pytest.approx([1, 1], abs=0.06)
    assert difference(one.page, model) < 2
    assert one.page.evaluate(WIDER) == []


@http_only
def test_one_wrong_weight_is_seen(reader, book, tmp_path):
    """The comparison bites: a bias that is off by 0.1 moves pixels by more than 2."""
    one, model = reader(), stored_model("en")
    explore(one, "en")
    with torch.no_grad():
        model.decoder_logits.bias += 0.1
    assert difference(one.page, model) > 2


# --- what lives on pages of its own -----------------------------------------------


@both
@languages
def test_the_start_page_draws_and_its_ledger_adds_up(reader, language):
    """Its numbers are held against PyTorch in tests/explorer."""
    one = reader()
    page = one.open(f"{language}/index.html")
    one.wake()
    root = page.locator(".vae-drawing")

    def ledger():
        page.evaluate(WAIT_FRAMES)
        return json.loads(root.get_attribute("data-ledger"))

    before = ledger()
    page.locator(".vd-pad").focus()
    for key in ("Space", "ArrowDown", "ArrowDown", "ArrowLeft", "Space"):
        page.keyboard.press(key)
    after = ledger()
    assert before["pixels"] != after["pixels"]
    assert len(after["pixels"]) == 784
    for one_of in (before, after):
        gap = one_of["log_p"] - one_of["elbo"]
        assert one_of["gap"] == pytest.approx(gap, abs=1e-6)
        assert gap > -0.05
    title = {"pt": "balanço", "en": "ledger"}[language]
    assert title in root.inner_text()


@both
@languages
def test_the_playground_of_the_book_trains(reader, language):
    one = reader()
    page = one.open(f"{language}/playground.html")
    one.wake()
    page.get_by_role(
        "button", name={"pt": "Treinar", "en": "Train"}[language], exact=True
    ).click()
    page.wait_for_function(
        """JSON.parse(document.querySelector('.vae-playground').dataset.state)
          .step > 20"""
    )


# --- finding one's way ----------------------------------------------------------------


@both
@pytest.mark.parametrize(
    ("language", "accented", "plain", "found"),
    [
        ("pt", "variância", "variancia", "variância"),
        ("pt", "Reparametrização", "reparametrizacao", "reparametrização"),
        ("pt", "verossimilhanças", "VEROSSIMILHANCA", "verossimilhança"),
        ("en", "verossimilhança", "verossimilhanca", "verossimilhança"),
        ("en", "gradients", "gradient", "gradient"),
    ],
)
def test_search_finds_words_with_and_without_accents(
    reader, language, accented, plain, found
):
    page = reader().open(f"{language}/index.html")
    results = []
    for query in (accented, plain):
        box = page.locator("input.sidebar-search")
        box.fill(query)
        box.press("Enter")
        page.wait_for_url("**/search.html?q=*")
        page.wait_for_selector("#search-results li")
        assert query in page.locator("#search-status").inner_text()
        marks = page.locator("#search-results mark").all_inner_texts()
        assert marks
        assert any(found.startswith(mark.lower()[:6]) for mark in marks)
        results.append(
            page.locator("#search-results a").evaluate_all(
                "all => all.map(a => a.href)"
            )
        )
    assert results[0] == results[1]
    page.locator("#search-results a").first.click()
    page.wait_for_url("**#*")
    anchor = page.url.partition("#")[2]
    assert page.locator(f"[id='{anchor}']").count() == 1


@http_only
@languages
def test_search_answers_while_typing_and_says_when_nothing_is_found(reader, language):
    page = reader().open(f"{language}/search.html")
    page.keyboard.type("xylofone")
    assert "xylofone" in page.locator("#search-status").inner_text()
    assert page.locator("#search-results li").count() == 0
    page.locator("#search-query").fill("log_bernoulli")
    links = page.locator("#search-results a")
    addresses = links.evaluate_all("all => all.map(a => a.getAttribute('href'))")
    assert addresses[0] == "api.html#vae_teach.densities.log_bernoulli"


@http_only
def test_every_word_of_a_query_must_be_there(reader):
    """What two words find together is what each of them finds."""
    page = reader().open("en/search.html")

    def found(query):
        page.locator("#search-query").fill(query)
        links = page.locator("#search-results a")
        addresses = links.evaluate_all("all => all.map(a => a.getAttribute('href'))")
        assert len(addresses) < 40, "all that was found is shown"
        return {*addresses}

    first, second = found("quadrature"), found("importance")
    assert found("quadrature importance") == first & second
    assert first & second
    assert first - second
    assert second - first


@http_only
@languages
def test_the_keyboard_reaches_everything_on_a_phone(reader, language):
    page = reader(viewport=PHONE).open(f"{language}/00_tour.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className").startswith("skip-to")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "__navigation"
    drawer = page.locator(".sidebar-drawer .sidebar-search")
    assert not drawer.is_visible()
    page.keyboard.press("Space")
    drawer.wait_for(state="visible")
    page.wait_for_timeout(400)
    assert drawer.bounding_box()["x"] >= 0
    page.keyboard.press("Escape")
    drawer.wait_for(state="hidden")
    reached = set()
    for _ in range(8):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate(
                "document.activeElement.className || document.activeElement.id"
            )
        )
    assert {"language-switch", "theme-toggle"} <= reached


@http_only
def test_the_theme_button_and_the_printed_page(reader):
    page = reader(color_scheme="light").open("en/00_tour.html")
    paper = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(paper) == "rgb(255, 255, 255)"
    button = page.locator("button.theme-toggle:visible")
    button.focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.body.dataset.theme") == "dark"
    assert page.evaluate(paper) != "rgb(255, 255, 255)"
    card = page.locator("#manifold-picture img")
    assert (
        card.evaluate("i => getComputedStyle(i).backgroundColor")
        == "rgb(255, 255, 255)"
    )
    page.reload()
    assert page.evaluate("document.body.dataset.theme") == "dark"
    page.emulate_media(media="print")
    for hidden in (".sidebar-drawer", ".content-icon-container", ".related-pages"):
        assert not page.locator(hidden).is_visible()
    assert page.locator("#manifold-picture img").is_visible()


# --- the guards bite ------------------------------------------------------------------


@pytest.mark.parametrize("origin", ["http"], indirect=True)
@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        (
            '<script src="http://example.org/x.js"></script>',
            "elsewhere: http://example",
        ),
        ('<img src="nowhere.png" alt="A plane">', "missing: "),
        ("<script>console.error('oh')</script>", "console: oh"),
        ("<script>nowhere.there()</script>", "error: nowhere is not defined"),
    ],
)
def test_the_reader_sees_what_goes_wrong(browser, book, origin, fault, complaint):
    path = book / "en" / "faulty.html"
    text = (book / "en" / "changes.html").read_text(encoding="utf-8")
    path.write_text(text.replace("</main>", f"{fault}</main>"), encoding="utf-8")
    context = browser.new_context()
    try:
        one = Reader(context, origin)
        one.open("en/faulty.html")
        assert any(re.match(complaint, problem) for problem in one.wrong)
    finally:
        context.close()
        path.unlink()


@pytest.mark.parametrize("origin", ["http"], indirect=True)
@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ('<p style="color: #aaa; background: #fff">pale</p>', "color-contrast"),
        ('<img src="../images/manifold.png">', "image-alt"),
        ('<span class="math">x</span>', "formula not drawn"),
        ('<div style="width: 500px">wide</div>', "wider"),
    ],
)
def test_the_inspection_sees_what_shuts_people_out(
    browser, book, origin, axe, fault, complaint
):
    context = browser.new_context(viewport=PHONE)
    try:
        one = Reader(context, origin)
        page = one.open("en/changes.html")
        page.locator("article").evaluate(
            "(a, html) => a.insertAdjacentHTML('beforeend', html)", fault
        )
        found = [*one.inspect(axe), *page.evaluate(LOOK)]
        found += ["wider"] * len(page.evaluate(WIDER))
        assert any(complaint in str(problem) for problem in found)
    finally:
        context.close()
