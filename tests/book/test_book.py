"""The book as files: twins, links, alternative texts, formulas, weights, sources."""

import ast
import base64
import csv
import hashlib
import importlib
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from ipywidgets.embed import dependency_state

from conftest import BUILD
from vae_teach import figures, nets, sliders, words
from vae_teach.explorer import LatentExplorer

sys.path.insert(0, str(BUILD.parent))

import prepare

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
        self.anchors = []
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
            self.anchors.append(found)
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
        if tag == "span" and found.get("class") == "katex":
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


@pytest.mark.parametrize("language", LANGUAGES)
def test_next_and_previous_follow_the_order_of_the_course(book, language):
    """The pages before the lessons, the lessons, then what is looked up."""
    lessons = [f"{lesson}.html" for lesson in LESSONS]
    order = ["index.html", "syllabus.html", "install.html", *lessons]
    order += [
        "playground.html",
        "your-model.html",
        "glossary.html",
        "references.html",
        "teaching.html",
    ]
    order += ["api.html", "changes.html"]
    words = {"pt": ("Próxima", "Anterior"), "en": ("Next", "Previous")}[language]
    for before, name, after in zip(
        [None, *order[:-1]], order, [*order[1:], None], strict=True
    ):
        text = (book / language / name).read_text(encoding="utf-8")
        for rel, word, wanted in (("next", 0, after), ("prev", 1, before)):
            link = rf'<a class="{rel}-page" rel="{rel}" href="([^"]*)">(.*?)</a>'
            found = re.findall(link, text, re.DOTALL)
            assert [address for address, _ in found] == ([wanted] if wanted else [])
            assert all(f">{words[word]}<" in inside for _, inside in found), name


@pytest.mark.parametrize(
    ("language", "other", "name", "title"),
    [
        ("pt", "en", "English", "Ler esta página em inglês"),
        ("en", "pt-BR", "Português", "Leia esta página em português"),
    ],
)
def test_the_switch_names_the_other_language_to_eyes_and_ears(
    book, language, other, name, title
):
    for path in (book / language).glob("*.html"):
        links = [
            found
            for found in Page(path).anchors
            if found.get("class") == "language-switch"
        ]
        assert len(links) == 2, "at the top, and in the drawer"
        for link in links:
            assert link["lang"] == link["hreflang"] == other
            assert link["title"] == title
        text = path.read_text(encoding="utf-8")
        assert len(re.findall(rf">{name}</a>", text)) == 2
        said = json.loads(re.search(r'id="course-words">(.*?)</script>', text)[1])
        assert said["copy"] == {"pt": "Copiar", "en": "Copy"}[language]
        assert said["copied"] == {"pt": "Copiado", "en": "Copied"}[language]
        assert said["copy-failed"] == "Use Ctrl+C"
    search = (book / language / "search.html").read_text(encoding="utf-8")
    assert '<p id="search-status" role="status"></p>' in search
    said = json.loads(re.search(r'id="course-words">(.*?)</script>', search)[1])
    assert [said[f"search-{kind}"] for kind in ("none", "one", "many")] == {
        "pt": [
            "Nada encontrado para “{query}”.",
            "Um resultado para “{query}”.",
            "{count} resultados para “{query}”.",
        ],
        "en": [
            "Nothing found for “{query}”.",
            "One place mentions “{query}”.",
            "{count} places mention “{query}”.",
        ],
    }[language]


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
    assert page.math == text.count("<math") == displayed + inline > 0
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
    text = (book / language / "syllabus.html").read_text(encoding="utf-8")
    table = re.search(r"<table class=\"lesson-table.*?</table>", text, re.DOTALL)[0]
    rows = [re.findall(r"<td>(.*?)</td>", row) for row in table.split("<tr")[2:]]
    assert len(rows) == len(LESSONS)
    for lesson, (number, title, time, exercises) in zip(LESSONS, rows, strict=True):
        notebook = (ROOT / f"notebooks/{language}/{lesson}.ipynb").read_text("utf-8")
        cells = json.loads(notebook)["cells"]
        asked = [c for c in cells if "solution" in c["metadata"].get("tags", ())]
        assert bare(number) == lesson[:2]
        assert f'href="{lesson}.html"' in title
        assert re.match(r"\d+ minut[eo]s ", bare(time))
        assert int(bare(exercises)) == len(asked) > 0


def bare(html):
    """Return the words of some HTML."""
    return re.sub(r"<[^>]+>", "", html).strip()


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_module_is_in_the_reference(book, language):
    """Modules by themselves, packages by what they export, and nothing twice."""
    text = (book / language / "api.html").read_text(encoding="utf-8")
    package = ROOT / "vae_teach"
    modules = [path.stem for path in package.glob("[a-z]*.py")]
    modules += [path.parent.name for path in package.glob("*/__init__.py")]
    assert {"exact", "train", "speed", "explorer", "checks", "nets"} <= {*modules}
    for module in modules:
        assert f'id="api-{module.replace("_", "-")}"' in text
        found = importlib.import_module(f"vae_teach.{module}")
        for name in getattr(found, "__all__", ()):
            if callable(getattr(found, name)) and name != "Row":  # a type's short name
                assert f'id="vae_teach.{module}.{name}"' in text
    assert 'id="vae_teach.densities.log_bernoulli"' in text
    assert 'id="vae_teach.checks.elbo.sampled_kl"' in text, "its package has others"
    members = re.findall(r'<dt class="sig[^>]*id="([^"]+)"', text)
    ends = [tuple(member.split(".")[-2:]) for member in members]
    assert len({*members}) == len(members) > 100
    assert not [m for m in members if m.startswith("vae_teach.exact.grid")]
    assert ends.count(("exact", "log_likelihood")) == 1
    assert re.search(r'class="docstrings[^"]*" lang="en"', text)


FIRST = {  # what a reader finds by searching the lessons
    "vae_teach.densities.log_bernoulli": "00_tour",
    "vae_teach.words.say": "00_tour",
    "vae_teach.exact.log_likelihood": "02_elbo",
    "vae_teach.checks.elbo.sampled_kl": "02_elbo",
    "vae_teach.exact.LinearGaussian": "03_reparameterization",
    "vae_teach.data.draw_bits": "00_tour",
    "vae_teach.train.products_at": "04_gpu_training",
}


@pytest.mark.parametrize(
    ("language", "tag", "said"),
    [
        ("pt", "pt-BR", "Aparece pela primeira vez na lição"),
        ("en", "en", "First used in lesson"),
    ],
)
def test_the_reference_says_which_lesson_is_the_first_to_use_a_name(
    book, language, tag, said
):
    text = (book / language / "api.html").read_text(encoding="utf-8")
    members = re.split(r'<dt class="sig[^>]*id="([^"]+)"', text)
    about = dict(zip(members[1::2], members[2::2], strict=True))
    for name, lesson in FIRST.items():
        box = re.search(
            r'<div class="first-used[^>]*>.*?</div>', about[name], re.DOTALL
        )
        assert f' lang="{tag.lower()}"' in box[0]
        assert f'href="{lesson}.html"' in box[0]
        assert bare(box[0]).replace("\n", "") == f"{said} {lesson[:2]}."
    unused = about["vae_teach.lab.split_arguments"]
    assert "first-used" not in unused, "no lesson uses it"


def test_an_import_alone_and_a_name_of_ones_own_are_no_use():
    tree = ast.parse(
        "from vae_teach import bounds, densities as d, nets\n"
        "from vae_teach.words import say as speak\n"
        "import torch\n"
        "d.log_normal(nets)\nspeak('x')\ntorch.bounds\nother.fit"
    )
    assert prepare.used_names(tree) == {
        "vae_teach.densities",
        "vae_teach.densities.log_normal",
        "vae_teach.nets",
        "vae_teach.words.say",
    }


def test_the_words_of_the_book_are_in_both_languages_and_have_the_same_gaps():
    for key, phrases in prepare.PHRASES.items():
        assert {*phrases} == {*LANGUAGES}, key
        pt, en = (re.findall(r"\{(\w+)\}", phrases[name]) for name in LANGUAGES)
        assert sorted(pt) == sorted(en), key


def test_every_word_of_the_book_is_used():
    """In the code, in a template, or by its beginning in a page's own scripts."""
    files = [*BUILD.parent.glob("*.py"), *BUILD.parent.rglob("templates/**/*.html")]
    files += BUILD.parent.glob("static/*.js")
    text = "\n".join(file.read_text(encoding="utf-8") for file in files)
    built = {"column-": 4, "glossary-": 5}  # f"column-{name}", and the languages
    assert all(text.count(f'"{start}') for start in built)
    for key in prepare.PHRASES:
        if not key.startswith(tuple(built)):
            assert re.search(rf"[\"'.]{key}[\"';,) ]", text), key


def test_fonts_travel_with_their_licences(book):
    for language in LANGUAGES:
        static = book / language / "_static"
        fonts = {file.name for file in static.rglob("*.woff2")}
        for font in ("source-code-pro", "source-sans-3", "source-serif-4"):
            assert any(name.startswith(font) for name in fonts)
            licence = (static / "fonts" / f"{font}-LICENSE.txt").read_text("utf-8")
            assert "SIL OPEN FONT LICENSE" in licence.upper()
        licence = (static / "katex" / "LICENSE.txt").read_text(encoding="utf-8")
        assert "Permission is hereby granted" in licence
        style = (static / "katex" / "katex.min.css").read_text(encoding="utf-8")
        asked = {*re.findall(r"url\(fonts/([^)]+)\)", style)}
        assert asked == {n for n in fonts if n.startswith("KaTeX")} != set()


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


def shown_by(widget):
    """Return a notebook of one cell that shows a widget, as it is stored."""
    data, metadata = widget._repr_mimebundle_()
    cell = nbformat.v4.new_code_cell("widget", id="cell")
    cell.outputs = [nbformat.v4.new_output("display_data", data, metadata=metadata)]
    notebook = nbformat.v4.new_notebook(cells=[cell])
    notebook.metadata["widgets"] = {
        prepare.STATE: {"state": dependency_state([widget], drop_defaults=False)}
    }
    return notebook


def dress(notebook, language):
    """Return the outputs of the last cell as a page has them, and the images' texts."""
    images = {}
    shown = prepare.Shown("99_x", language, notebook, images)
    for cell in notebook.cells:
        shown.dress(cell)
    assert "widgets" not in notebook.metadata
    return notebook.cells[-1].outputs, images, shown


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_panel_becomes_its_picture_its_words_and_a_sentence(language):
    def draw(mu):
        picture, (ax,) = figures.picture(f"mu is {mu} & <b>", height=2)
        ax.axvline(mu)
        return picture

    panel = sliders.panel(draw, mu=sliders.slider(r"$\mu$", -2, 2))
    panel.controls["mu"].value = -0.5
    notebook = shown_by(panel)
    (picture, words_of, sentence), images, _ = dress(notebook, language)
    png = base64.b64decode(picture.data["image/png"])
    assert png == panel.picture.png()
    assert prepare.VIEW not in picture.data
    assert images == {hashlib.sha256(png).hexdigest(): "mu is -0.5 & <b>"}
    width = panel.picture.get_figwidth() * figures.SHOWN_DPI
    assert picture.metadata["image/png"]["width"] == pytest.approx(width, abs=1)
    assert words_of.data == {"text/html": "<p>mu is -0.5 &amp; &lt;b&gt;</p>"}
    said = sentence.data["text/markdown"]
    assert f"uv run lab {language}" in said
    assert "#" not in said, "no explorer here to link to"


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_explorer_becomes_its_place_its_picture_and_a_sentence(language):
    words.use_language(language)
    explorer, panel = LatentExplorer(nets.VAE()), sliders.latent_sliders(nets.VAE())
    notebook = shown_by(explorer)
    (place, picture, sentence), images, shown = dress(notebook, language)
    assert f'data-model="{explorer.model_id}"' in place.data["text/html"]
    assert list(images.values()) == [
        explorer._repr_mimebundle_()[1]["image/png"]["alt"]
    ]
    assert "JavaScript" in sentence.data["text/markdown"]
    assert prepare.VIEW not in picture.data
    assert {*shown.alive} == {explorer.model_id}
    notebook, other = shown_by(explorer), shown_by(panel)
    notebook.cells[0].id = "explorer-shown"
    states = (n.metadata["widgets"][prepare.STATE]["state"] for n in (notebook, other))
    notebook.metadata["widgets"][prepare.STATE]["state"] = {
        **next(states),
        **next(states),
    }
    notebook.cells += other.cells
    outputs, _, _ = dress(notebook, language)
    assert "'#explorer-shown'" in outputs[-1].data["text/markdown"]


# --- the guards bite ------------------------------------------------------------------

FAULTS = {
    '<script src="https://example.org/x.js"></script>': "from elsewhere",
    '<link rel="stylesheet" href="//example.org/x.css">': "from elsewhere",
    '<img src="../images/manifold.png">': "no alternative text",
    '<img src="../images/nowhere.png" alt="A plane">': "dead link",
    '<a href="nowhere.html">there</a>': "dead link",
    '<a href="changes.html#nowhere">there</a>': "dead anchor",
    '<svg><use href="#nowhere"></use></svg>': "outline nowhere is missing",
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
    """A formula that KaTeX cannot read, a figure without words, a dead reference."""
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
        notebook = json.loads((ROOT / "notebooks" / name).read_text("utf-8"))
        for cell in notebook["cells"]:
            if cell["id"] == "sliders-shown":
                cell["outputs"][0]["data"].pop("image/png")
        target = tmp_path / "notebooks" / name
        target.parent.mkdir(parents=True)
        target.write_text(json.dumps(notebook), "utf-8")
    shutil.copy(ROOT / "notebooks/glossary.csv", tmp_path / "notebooks")
    done = build(tmp_path)
    assert done.returncode == 1
    assert "[sliders-shown] shows a widget without a picture" in done.stderr


def build(folder):
    """Build a book of other sources; return what the command said."""
    command = [sys.executable, str(BUILD), "--out", str(folder / "out")]
    command += ["--no-reference", "--pages", str(folder / "pages")]
    command += ["--notebooks", str(folder / "notebooks")]
    return subprocess.run(command, capture_output=True, text=True)
