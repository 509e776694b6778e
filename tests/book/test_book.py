"""The book as files: twins, links, alternative texts, formulas, weights, sources."""

import base64
import csv
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import numpy as np
import pytest
import torch
from ipywidgets.embed import dependency_state
from PIL import Image

from conftest import BUILD
from vae_teach import explorer, figures, nets, sliders

sys.path.insert(0, str(BUILD.parent))

import sources

ROOT = BUILD.parents[1]
LANGUAGES = ("pt", "en")
LESSONS = sorted(path.stem for path in (ROOT / "notebooks/pt").glob("[0-9]*.ipynb"))
MOST_LESSON, MOST_SHARED = 1_500_000, 8_000_000  # bytes


class Page(HTMLParser):
    """What a page refers to, and what it can be referred to by."""

    def __init__(self, path):
        super().__init__()
        self.path, self.ids, self.links, self.parts = path, [], [], []
        self.images, self.uses, self.headings, self.math = [], [], [], 0
        self.alternates, self.language = {}, None
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if "id" in found:
            self.ids.append(found["id"])
        if tag == "html":
            self.language = found.get("lang")
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if tag == "use":
            self.uses.append(found["href"].removeprefix("#"))
        if tag == "img":
            self.images.append((found["src"], found.get("alt")))
        if tag == "link" and "hreflang" in found:
            self.alternates[found["hreflang"]] = found["href"]
        elif tag == "link":
            self.parts.append(found["href"])
        if tag in ("img", "script", "source", "iframe", "video", "audio"):
            self.parts += filter(None, [found.get("src")])
        if tag == "mjx-container":
            self.math += 1
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(tag)

    handle_startendtag = handle_starttag


def pages_of(site):
    """Return every page of a site, read."""
    return {path: Page(path) for path in sorted(site.rglob("*.html"))}


def problems(site):
    """Return what is wrong with the references of a site's pages."""
    pages = pages_of(site)
    for path, page in pages.items():
        name = path.relative_to(site).as_posix()
        for identity in sorted({i for i in page.ids if page.ids.count(i) > 1}):
            yield f"{name}: the id {identity} stands twice"
        for missing in sorted({*page.uses} - {*page.ids}):
            yield f"{name}: the outline {missing} is missing"
        for source, alt in page.images:
            if not alt and Path(source).name != "mark.svg":
                yield f"{name}: no alternative text: {source}"
        for address in page.parts:
            if urlsplit(address).scheme or address.startswith("//"):
                yield f"{name}: from elsewhere: {address}"
        for address in (*page.links, *page.parts, *page.alternates.values()):
            yield from broken(site, path, address, pages)


def broken(site, path, address, pages):
    """Yield what is wrong with one address on a page, if it is the site's own."""
    name, parts = path.relative_to(site).as_posix(), urlsplit(address)
    if parts.scheme or parts.netloc:
        return
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.is_file():
        yield f"{name}: dead link: {address}"
    elif target in pages and parts.fragment:
        yield from dead_anchor(name, address, pages[target])


def dead_anchor(name, address, page):
    """Yield a complaint if no element of the page has the address's anchor."""
    if unquote(urlsplit(address).fragment) not in page.ids:
        yield f"{name}: dead anchor: {address}"


def test_every_reference_is_there_and_nothing_is_from_elsewhere(book):
    assert list(problems(book)) == []


def test_the_start_page_needs_no_script_and_offers_both(book):
    text = (book / "index.html").read_text(encoding="utf-8")
    page = Page(book / "index.html")
    assert "<script" not in text
    assert page.links == ["pt/index.html", "en/index.html"]
    assert page.alternates == {
        "pt-BR": "pt/index.html",
        "en": "en/index.html",
        "x-default": "index.html",
    }
    assert (book / ".nojekyll").exists(), "GitHub Pages would leave out _static"


def test_each_page_has_its_twin_with_the_same_addresses(book):
    names = {
        language: {path.name for path in (book / language).glob("*.html")}
        for language in LANGUAGES
    }
    assert names["pt"] == names["en"]
    assert {"index.html", "search.html", "api.html"} < names["pt"]
    assert {f"{lesson}.html" for lesson in LESSONS} < names["pt"]
    for name in sorted(names["pt"]):
        pt, en = (Page(book / language / name) for language in LANGUAGES)
        assert (pt.language, en.language) == ("pt-BR", "en")
        assert pt.alternates == {
            "pt-BR": name,
            "en": f"../en/{name}",
            "x-default": "../index.html",
        }
        assert en.alternates == {
            "en": name,
            "pt-BR": f"../pt/{name}",
            "x-default": "../index.html",
        }
        assert f"../en/{name}" in pt.links
        assert f"../pt/{name}" in en.links
        assert pt.headings == en.headings, name
        assert addresses(book / "pt" / name) == addresses(book / "en" / name)


def addresses(path):
    """Return the ids of a page's sections, in order."""
    return re.findall(r'<section id="([^"]*)"', path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("lesson", LESSONS)
def test_a_lesson_shows_all_that_its_notebook_holds(book, lesson, language):
    notebook = nbformat.read(ROOT / f"notebooks/{language}/{lesson}.ipynb", 4)
    text = (book / language / f"{lesson}.html").read_text(encoding="utf-8")
    page = Page(book / language / f"{lesson}.html")
    marked = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    prose = re.sub(r"`[^`]*`|```.*?```", "", "\n\n".join(marked), flags=re.DOTALL)
    displayed = len(re.findall(r"\$\$.+?\$\$", prose, re.DOTALL))
    inline = len(re.findall(r"\$[^$]+\$", re.sub(r"\$\$.+?\$\$", "", prose, flags=16)))
    assert page.math >= displayed + inline > 0
    assert "$" not in re.sub(r"<pre.*?</pre>|<script.*?</script>", "", text, flags=16)
    outputs = [o for c in notebook.cells for o in c.get("outputs", ())]
    described = [
        output.metadata["image/png"]["alt"]
        for output in outputs
        if "image/png" in output.get("data", {})
    ]
    shown = [alt for _, alt in page.images]
    assert [alt for alt in described if alt not in shown] == []
    solutions = [c for c in notebook.cells if "solution" in c.metadata.get("tags", [])]
    assert text.count('<details class="fold"><summary>') == len(solutions)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert f'id="{cell.id}"' in text
    assert "widget-view+json" not in text
    views = "application/vnd.jupyter.widget-view+json"
    assert sum(views in output.get("data", {}) for output in outputs) == len(
        re.findall(r'class="course-widget"|uv</span> <span class="pre">run', text)
    ) - prose_commands(prose)


def prose_commands(prose):
    """Return how often a lesson's own prose says uv run in code: none, so far."""
    return prose.count("`uv run")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("lesson", LESSONS)
def test_a_lesson_weighs_little(book, lesson, language):
    page = Page(book / language / f"{lesson}.html")
    state = book / language / "_static" / f"state-{lesson}.js"
    files = {page.path, *((book / language / source) for source, _ in page.images)}
    files |= {state} if state.exists() else set()
    weight = sum(file.stat().st_size for file in files)
    assert weight < MOST_LESSON


def test_what_pages_share_weighs_little(book):
    shared = [
        file
        for file in book.rglob("_static/**/*")
        if file.is_file() and not file.name.startswith("state-")
    ]
    assert 100_000 < sum(file.stat().st_size for file in shared) < MOST_SHARED
    assert not list(book.rglob("*.map"))


def test_the_pages_name_no_path_of_a_machine(book):
    folders = r"(?<![\w.~/-])/(?:home|root|tmp|Users|work)/"
    for file in book.rglob("*"):
        if file.suffix in (".html", ".js", ".css", ".txt", ".json"):
            found = re.search(folders, file.read_text(encoding="utf-8"))
            assert found is None, f"{file}: {found}"


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_tables_come_from_their_sources(book, language):
    text = (book / language / "glossary.html").read_text(encoding="utf-8")
    with (ROOT / "notebooks/glossary.csv").open(encoding="utf-8", newline="") as file:
        terms = list(csv.DictReader(file))
    assert len(terms) > 20
    table = re.search(r"<table class=\"glossary-table.*?</table>", text, re.DOTALL)
    for term in terms:
        for name in LANGUAGES:  # quotes are typeset
            assert f"<p>{term[name]}</p>".replace("'", "’") in table[0]
    assert table[0].count("<tr") == len(terms) + 1
    syllabus = Page(book / language / "syllabus.html")
    for lesson in LESSONS:
        assert f"{lesson}.html" in syllabus.links


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_module_is_in_the_reference(book, language):
    text = (book / language / "api.html").read_text(encoding="utf-8")
    modules = [path.stem for path in (ROOT / "vae_teach").glob("[a-z]*.py")]
    for module in modules:
        assert f'id="api-{module.replace("_", "-")}"' in text
    assert 'id="vae_teach.densities.log_bernoulli"' in text
    assert re.search(r'class="docstrings[^"]*" lang="en"', text)


def test_the_npm_packages_are_pinned_and_their_lock_names_no_host():
    asked = json.loads((ROOT / "package.json").read_text("utf-8"))
    text = (ROOT / "package-lock.json").read_text("utf-8")
    packages = json.loads(text)["packages"]
    pins = asked["dependencies"] | asked["devDependencies"]
    assert packages[""]["dependencies"] == asked["dependencies"]
    for name, version in pins.items():
        found = packages[f"node_modules/{name}"]
        assert found["version"] == version, "npm install brings the lock up to date"
        assert found["integrity"].startswith("sha512-")
    assert "resolved" not in text, "keep .npmrc: omit-lockfile-registry-resolved"


# --- what stands where a kernel would be -------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_panel_becomes_its_last_picture_and_a_sentence(language):
    def draw(mu, steps):
        picture, (ax,) = figures.picture(f"mu is {mu} & steps are {steps}", height=2)
        ax.axvline(mu)
        return picture

    panel = sliders.panel(
        draw,
        mu=sliders.slider(r"$\mu$", -2, 2),
        steps=sliders.choice("steps", [1, 10, 100]),
    )
    panel.controls["mu"].value = -0.5
    panel.controls["steps"].value = 10
    images = {}
    shown = sources.Shown("99_x", language, dependency_state([panel]), images)
    cell = nbformat.v4.new_code_cell("panel")
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": panel.model_id}}
    cell.outputs = [nbformat.v4.new_output("display_data", data=view)]
    shown.dress(cell)
    picture, sentence = cell.outputs
    png = base64.b64decode(picture.data["image/png"])
    assert png == panel.picture.png()
    assert images == {hashlib.sha256(png).hexdigest(): "mu is -0.5 & steps are 10"}
    width = panel.picture.get_figwidth() * figures.SHOWN_DPI
    assert picture.metadata["image/png"]["width"] == pytest.approx(width, abs=1)
    said = sentence.data["text/markdown"]
    assert f"uv run lab {language}" in said
    comma = {"pt": ",", "en": "."}[language]
    assert rf"$\mu$ = −0{comma}5; steps = 10" in said
    assert "#" not in said, "no explorer here to link to"
    shown.explorer = "explorer-shown"
    cell.outputs = [nbformat.v4.new_output("display_data", data=view)]
    shown.dress(cell)
    assert "'#explorer-shown'" in cell.outputs[1].data["text/markdown"]


def test_the_still_picture_of_an_explorer_is_what_pytorch_draws():
    torch.manual_seed(0)
    model = nets.VAE(latent_dim=3)
    with torch.no_grad():
        model.decoder_logits.weight.mul_(6)
    widget = explorer.LatentExplorer(model)
    stored = dependency_state([widget])[widget.model_id]
    picture = Image.open(io.BytesIO(sources.grid(stored))).convert("L")
    line = torch.linspace(-3, 3, sources.GRID)
    z = torch.zeros(sources.GRID, 3)
    z[:, 0], z[:, 1] = line, 3.0  # the upper row
    with torch.no_grad():
        expected = model.decode(z).reshape(-1, 28, 28).permute(1, 0, 2).reshape(28, -1)
    whole = picture.resize((28 * sources.GRID,) * 2, Image.Resampling.BOX)
    seen = torch.tensor(np.array(whole))[:28].float() / 255
    assert torch.corrcoef(torch.stack([seen.flatten(), expected.flatten()]))[0, 1] > 0.7


# --- the guards bite ------------------------------------------------------------------

FAULTS = {
    '<script src="https://example.org/x.js"></script>': "from elsewhere",
    '<link rel="stylesheet" href="//example.org/x.css">': "from elsewhere",
    '<img src="../images/manifold.png">': "no alternative text",
    '<img src="../images/nowhere.png" alt="A plane">': "dead link",
    '<a href="nowhere.html">there</a>': "dead link",
    '<a href="changes.html#nowhere">there</a>': "dead anchor",
    '<svg><use href="#mj-nowhere"></use></svg>': "outline mj-nowhere is missing",
    '<p id="furo-main-content"></p>': "stands twice",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_on_a_page_is_found(book, tmp_path, fault):
    site = tmp_path / "site"
    (site / "en").mkdir(parents=True)
    shutil.copy(book / "en" / "changes.html", site / "en")
    before = set(problems(site))
    page = site / "en" / "changes.html"
    text = page.read_text(encoding="utf-8").replace("</main>", f"{fault}</main>")
    page.write_text(text, encoding="utf-8")
    (site / "images").mkdir()
    (site / "images" / "manifold.png").touch()
    (new,) = set(problems(site)) - before
    assert FAULTS[fault] in new


def test_the_build_refuses_what_is_wrong_in_the_sources(book, tmp_path):
    """A formula that MathJax cannot read, a figure without words, a dead reference."""
    for language in LANGUAGES:
        folder = tmp_path / "pages" / language
        folder.mkdir(parents=True)
        (folder / "index.md").write_text(
            "(index)=\n# Title\n\n$\\frac{1}$ and [there](nowhere.md).\n", "utf-8"
        )
        (tmp_path / "notebooks" / language).mkdir(parents=True)
        name = f"{language}/00_tour.ipynb"
        notebook = json.loads((ROOT / "notebooks" / name).read_text("utf-8"))
        cells = [c for c in notebook["cells"] if c["id"] in ("title", "binarize")]
        for cell in cells:
            cell["metadata"].pop("mystnb", None)
            for output in cell.get("outputs", ()):
                output["metadata"] = {}
        notebook["cells"] = cells
        (tmp_path / "notebooks" / name).write_text(json.dumps(notebook), "utf-8")
    shutil.copy(ROOT / "notebooks/glossary.csv", tmp_path / "notebooks")
    done = build(tmp_path)
    assert done.returncode == 1
    for language in LANGUAGES:
        assert f"{language}: not built" in done.stderr
    for complaint in ("in the formula", "no alternative text", "nowhere.md"):
        assert done.stderr.count(complaint) >= 2, done.stderr


def test_a_widget_that_would_do_nothing_stops_the_build(book, tmp_path):
    shutil.copytree(BUILD.parent / "pages", tmp_path / "pages")
    for language in LANGUAGES:
        name = f"{language}/00_tour.ipynb"
        text = (ROOT / "notebooks" / name).read_text("utf-8")
        target = tmp_path / "notebooks" / name
        target.parent.mkdir(parents=True)
        target.write_text(text.replace('"vae-sliders"', '"other"'), "utf-8")
    shutil.copy(ROOT / "notebooks/glossary.csv", tmp_path / "notebooks")
    done = build(tmp_path)
    assert done.returncode == 1
    assert (
        "[sliders-shown] shows a BoxModel, which does nothing on a page" in done.stderr
    )


def build(folder):
    """Build a book of other sources; return what the command said."""
    command = [sys.executable, str(BUILD), "--out", str(folder / "out")]
    command += ["--no-reference", "--pages", str(folder / "pages")]
    command += ["--notebooks", str(folder / "notebooks")]
    return subprocess.run(command, capture_output=True, text=True)
