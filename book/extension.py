"""What the book adds to Sphinx: anchors, folds, tables, search, the twin page."""

import csv
import html
import json
import re
import subprocess
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from myst_nb.sphinx_ import HideCodeCellNode
from prepare import BOOK, PHRASES, place_of, say
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sphinx.writers.html5 import HTML5Translator

logger = logging.getLogger(__name__)


class Folded(nodes.Element):  # type: ignore[misc]
    """What a reader opens by choice: the whole of a solution."""


# --- the document ---------------------------------------------------------------------


class SharedAnchors(SphinxTransform):
    """Give sections and cells the address that both languages share.

    Prose names them in ``(label)=``, notebooks by their cells' keys.
    """

    default_priority = 305

    def apply(self, **_: Any) -> None:
        """Move the shared address to the front."""
        for mark in list(self.document.findall(nodes.comment)):
            kind, _, name = mark.astext().partition(" ")
            if kind == "anchor":
                following = mark.next_node(nodes.section, descend=False, ascend=True)
                if following is not None:
                    self._put(following, name)
                mark.parent.remove(mark)
            elif kind == "place":
                target = nodes.target()
                mark.replace_self(target)
                self._put(target, name)
        for cell in self.document.findall(nodes.container):
            key = cell.get("cell_metadata", {}).get("key")
            if key and cell.get("nb_element") == "cell_code":
                self._put(cell, key)
                if "solution" in cell["cell_metadata"].get("tags", ()):
                    fold = Folded("", *cell.children)
                    cell.children = []
                    cell += fold

    def _put(self, node: nodes.Element, name: str) -> None:
        for other in self.document.findall(nodes.Element):
            if name in other.get("ids", ()) and other is not node:
                other["ids"].remove(name)
        node["ids"] = [name, *(other for other in node["ids"] if other != name)]
        self.document.ids[name] = node
        # so that prose may link to a cell: [the manifold](00_tour.ipynb#manifold)
        about = self.env.metadata[self.env.docname]
        about.setdefault("myst_slugs", {})[name] = (node.line or 0, name, name)


class LabelsFirst(SphinxTransform):
    """Let a section's explicit label be its address, once targets have reached it."""

    default_priority = 750

    def apply(self, **_: Any) -> None:
        """Put the explicit labels first."""
        for section in self.document.findall(nodes.section):
            labels = [
                identity
                for name, identity in self.document.nameids.items()
                if identity in section["ids"] and self.document.nametypes.get(name)
            ]
            rest = [i for i in section["ids"] if i not in labels]
            section["ids"] = labels + rest


class Described(SphinxTransform):
    """Give each image of a notebook the alternative text stored beside it."""

    default_priority = 310

    def apply(self, **_: Any) -> None:
        """Write the texts; an image without one is a warning, hence an error."""
        texts = self.config.course_about["images"]
        for image in self.document.findall(nodes.image):
            name = Path(image["uri"]).stem
            image["alt"] = texts.get(name, image.get("alt", ""))
            if not image["alt"]:
                about = f"no alternative text for {image['uri']}"
                self.document.reporter.warning(about, base_node=image)


# --- formulas -------------------------------------------------------------------------


@cache
def node() -> "subprocess.Popen[str]":
    """Start Node.js, which waits for formulas until the build ends."""
    pipe, command = subprocess.PIPE, ["node", str(BOOK / "formulas.mjs")]
    return subprocess.Popen(
        command, stdin=pipe, stdout=pipe, text=True, encoding="utf-8"
    )


@cache
def drawn(tex: str, display: bool = False) -> dict[str, str]:
    """Return the HTML of a formula, with MathML for screen readers, or its error."""
    ask, answer = node().stdin, node().stdout
    assert ask is not None
    assert answer is not None
    print(json.dumps({"tex": tex, "displayMode": display}), file=ask, flush=True)
    said: dict[str, str] = json.loads(answer.readline())
    return said


def formula(found: nodes.Element, *, display: bool = False) -> str:
    """Return the HTML of a formula; one that KaTeX refuses is a warning."""
    said = drawn(found.astext(), display)
    if error := said.get("error"):
        logger.warning("%s in the formula %r", error, found.astext(), location=found)
    return said.get("html", "")


def visit_math(self: HTML5Translator, found: nodes.math) -> None:
    """Draw a formula that stands in a line, and keep the full stop after it there."""
    after = found.next_node(descend=False, siblings=True)
    stop = isinstance(after, nodes.Text) and after.startswith((*".,;:!?)",))
    html = f'<span class="math notranslate">{formula(found)}</span>'
    self.body.append(f"{html}&NoBreak;" if stop else html)
    raise nodes.SkipNode


def visit_displayed(self: HTML5Translator, found: nodes.math_block) -> None:
    """Draw a formula that stands alone."""
    self.body.append(self.starttag(found, "div", CLASS="math notranslate"))
    self.body.append(f"{formula(found, display=True)}</div>")
    raise nodes.SkipNode


# --- tables ---------------------------------------------------------------------------


class Table(SphinxDirective):
    """A table that is generated, so that no page has to be edited."""

    def table(
        self, head: list[str], rows: list[list[str]], kind: str
    ) -> list[nodes.Node]:
        """Return rows of MyST text as a table."""
        table = nodes.table(classes=[kind])
        group = nodes.tgroup(cols=len(head))
        table += group
        group += [nodes.colspec(colwidth=1) for _ in head]
        for part, lines in ((nodes.thead(), [head]), (nodes.tbody(), rows)):
            group += part
            for line in lines:
                row = nodes.row()
                part += row
                for text in line:
                    entry = nodes.entry()
                    row += entry
                    source = self.get_source_info()[0]
                    self.state.nested_parse(StringList([text], source), 0, entry)
        return [table]

    def word(self, name: str) -> str:
        """Return a phrase of the page's language."""
        return say(name, self.config.course_language)


STILL = {"drawing": "drawing-still", "playground": "playground-still"}
"""What the page says beside the picture, by the directive's name."""


class Alive(SphinxDirective):
    """A widget of the book's own, with a picture and a sentence for want of JavaScript.

    ``drawing`` and ``playground``: what stands for one has the directive's name.
    """

    def run(self) -> list[nodes.Node]:
        """Return the place where it comes alive, and what it then hides."""
        about = self.config.course_about[self.name]
        shown = nodes.container(classes=["cell_output"])
        shown += nodes.raw("", place_of(self.name, self.name), format="html")
        still, width = f"{self.name}.png", f"{about['width']}px"
        shown += nodes.image(uri=still, alt=about["alt"], width=width)
        note = say(STILL[self.name], self.config.course_language)
        shown += nodes.paragraph("", note)
        return [shown]


class LessonTable(Table):
    """The lessons that exist, as their notebooks describe themselves."""

    def run(self) -> list[nodes.Node]:
        """Return number, title, time and number of exercises."""
        names = ("number", "lesson", "time", "questions")
        head = [self.word(f"column-{name}") for name in names]
        rows = []
        for lesson in self.config.course_about["lessons"]:
            link = f"[{lesson['title']}]({lesson['name']}.ipynb)"
            rows.append(
                [lesson["name"][:2], link, lesson["time"], str(lesson["exercises"])]
            )
        return self.table(head, rows, "lesson-table")


class GlossaryTable(Table):
    """The terms of ``notebooks/glossary.csv``, the page's language first."""

    def run(self) -> list[nodes.Node]:
        """Return the terms in both languages, in alphabetical order."""
        own = self.config.course_language
        order = (own, say("other", own))
        path = Path(self.env.srcdir) / "glossary.csv"
        self.env.note_dependency(str(path))
        with path.open(encoding="utf-8", newline="") as file:
            terms = list(csv.DictReader(file))
        terms.sort(key=lambda term: fold(term[own]))
        head = [self.word(f"glossary-{language}") for language in order]
        head.append(self.word("glossary-not"))
        rows = [
            [*(term[language] for language in order), self.avoided(term)]
            for term in terms
        ]
        return self.table(head, rows, "glossary-table")

    def avoided(self, term: dict[str, str]) -> str:
        """Return what is not used for a term, the remarks in the page's language."""
        text = (term["not in Portuguese"] or "").replace(";", ", ")
        for name in ("glossary-text", "glossary-for"):
            text = text.replace(say(name, "en"), self.word(name))
        return " ".join(text.split())


class ModuleReference(SphinxDirective):
    """One module of the package, from its docstrings, which are in English."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return what autodoc finds."""
        name = self.arguments[0]
        lines = [
            f".. automodule:: vae_teach.{name}",
            "   :members:",
            "   :show-inheritance:",
        ]
        box = nodes.container(classes=["docstrings", "language-en"])
        text = "\n".join(("```{eval-rst}", *lines, "```"))
        self.state.nested_parse(StringList(text.splitlines(), name), 0, box)
        return [box]


# --- search ---------------------------------------------------------------------------


def fold(text: str) -> str:
    """Return a text without accents and capitals, as the search compares it."""
    letters = unicodedata.normalize("NFD", text.lower())
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def passages(app: Sphinx) -> list[list[str]]:
    """Return page, anchor, page title, section title and text of every section."""
    found = []
    for name in sorted(app.env.found_docs):
        tree = app.env.get_doctree(name)
        page = app.env.titles[name].astext()
        for section in tree.findall(nodes.section):
            title = section.next_node(nodes.title)
            words = " ".join(own_text(section).split())
            heading = readable(title) if title is not None else ""
            found.append([f"{name}.html", section["ids"][0], page, heading, words])
        found += [[f"{name}.html", *entry] for entry in objects(tree)]
    return found


def objects(tree: nodes.document) -> Iterator[list[str]]:
    """Yield anchor, module, name and description of what the reference documents."""
    for described in tree.findall(addnodes.desc):
        signature = described.next_node(addnodes.desc_signature)
        content = described.next_node(addnodes.desc_content)
        if signature is not None and signature["ids"]:
            words = " ".join(
                paragraph.astext()
                for paragraph in content.findall(nodes.paragraph)
                if "first-used" not in paragraph.parent["classes"]
            )
            fullname = f"{signature['module']}.{signature['fullname']}"
            yield [signature["ids"][0], signature["module"], fullname, words]


UNSAID = (nodes.Inline, nodes.literal_block, nodes.raw, nodes.math_block)


def own_text(section: nodes.Element) -> str:
    """Return a section's text without its subsections and its code."""
    texts = []
    for child in section.children:
        if isinstance(child, (nodes.section, nodes.title, nodes.comment)):
            continue
        if "docstrings" in child["classes"]:
            continue
        texts += [
            readable(block)
            for block in child.findall(nodes.TextElement)
            if not isinstance(block, UNSAID)
        ]
    return " ".join(texts)


def readable(node: nodes.Element) -> str:
    """Return a node's words, its formulas as a screen reader meets them."""
    if isinstance(node, nodes.math):
        words = re.search(
            r"<semantics>(.*?)<annotation", drawn(node.astext()).get("html", "")
        )
        plain = re.sub(r"<[^>]+>", "", words[1]) if words else node.astext()
        return re.sub("[\u2061-\u2064]", " ", html.unescape(plain))
    if isinstance(node, nodes.Text):
        return str(node.astext())
    return "".join(map(readable, node.children))


def collect_search(app: Sphinx) -> list[tuple[str, dict[str, Any], str]]:
    """Write what is searched, and add the page that searches."""
    text = json.dumps(passages(app), ensure_ascii=False, separators=(",", ":"))
    Path(app.outdir, "search-index.js").write_text(
        f"window.courseSearch = {text};\n", encoding="utf-8"
    )
    title = say("search", app.config.course_language)
    return [("search", {"title": title}, "search.html")]


# --- the page -------------------------------------------------------------------------


def add_context(
    app: Sphinx,
    pagename: str,
    _: str,
    context: dict[str, Any],
    doctree: nodes.Node | None,
) -> None:
    """Tell the templates what they say and where the twin page is."""
    own = app.config.course_language
    other = say("other", own)
    context["say"] = lambda name, **values: say(name, own, **values)
    context["scripted"] = {
        name: say(name, own)
        for name in PHRASES
        if name.startswith(("copy", "copied", "search-"))
    }
    context["tag"], context["other_tag"] = say("tag", own), say("tag", other)
    context["other_name"] = say("language", other)
    context["twin"] = f"../{other}/{pagename}.html"


def visit_folded(self: HTML5Translator, node: nodes.Element) -> None:
    """Open a fold."""
    title = say("solution", self.config.course_language)
    self.body.append(f'<details class="fold"><summary>{title}</summary>\n')


def depart_folded(self: HTML5Translator, node: nodes.Element) -> None:
    """Close it."""
    self.body.append("</details>\n")


def visit_hidden(self: HTML5Translator, node: nodes.Element) -> None:
    """Open the fold of a cell's code."""
    self.body.append('<details class="fold code">')
    self.body.append(f"<summary>{self.encode(node['prompt_show'])}</summary>\n")


def read_about(app: Sphinx, config: Any) -> None:
    """Read what the preparation found in the notebooks."""
    path = Path(app.srcdir) / "about.json"
    config.course_about = json.loads(path.read_text("utf-8"))


def own_members(
    app: Sphinx, what: str, name: str, member: object, skip: bool, options: Any
) -> bool | None:
    """Leave out what classes inherit from libraries, and fields said above."""
    module = getattr(member, "__module__", None) or "vae_teach"
    field = str(getattr(member, "__doc__", "")).startswith("Alias for field number")
    return True if field or not module.startswith("vae_teach") else None


def escape_bars(
    app: Sphinx, what: str, name: str, member: object, options: Any, lines: list[str]
) -> None:
    """Let p(x | z) be read as it stands: bars mean something in reStructuredText."""
    for k, line in enumerate(lines):
        parts = re.split(r"(``.*?``)", line)
        parts[::2] = [part.replace("|", r"\|") for part in parts[::2]]
        lines[k] = "".join(parts)


def first_used(
    app: Sphinx, what: str, name: str, member: object, options: Any, lines: list[str]
) -> None:
    """Say at the end of a docstring which lesson is the first to use what it says."""
    if lesson := app.config.course_about["uses"].get(name):
        own = app.config.course_language
        said = say("first-used", own, number=lesson[:2], name=lesson)
        box = f".. container:: first-used language-{say('tag', own)}"
        lines += ["", box, "", f"   {said}"]


def without_own_search(app: Sphinx) -> None:
    """Leave out Sphinx's search: it needs a server for its excerpts."""
    app.builder.search = False  # type: ignore[attr-defined]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register everything."""
    app.add_config_value("course_language", "en", "env")
    app.add_config_value("course_about", {}, "", types=[dict])
    app.add_node(Folded, html=(visit_folded, depart_folded))
    app.add_node(HideCodeCellNode, override=True, html=(visit_hidden, depart_folded))
    for transform in (SharedAnchors, LabelsFirst, Described):
        app.add_transform(transform)
    app.add_html_math_renderer("drawn", (visit_math, None), (visit_displayed, None))
    app.add_directive("drawing", Alive)
    app.add_directive("playground", Alive)
    app.add_directive("lesson-table", LessonTable)
    app.add_directive("glossary-table", GlossaryTable)
    app.add_directive("module-reference", ModuleReference)
    app.connect("config-inited", read_about)
    app.connect("builder-inited", without_own_search)
    app.connect("autodoc-skip-member", own_members)
    app.connect("autodoc-process-docstring", escape_bars)
    app.connect("autodoc-process-docstring", first_used)
    app.connect("html-page-context", add_context)
    app.connect("html-collect-pages", collect_search)
    return {"parallel_read_safe": False, "parallel_write_safe": False}
