"""Formulas, drawn while the book is built: pages show them without any script.

``formulas.mjs`` runs MathJax in Node.js. A formula becomes a picture in SVG that takes
the colour and the size of the text around it, and MathML that a screen reader reads.
The outlines of the letters stand once in each page.
"""

import json
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number
from sphinx.writers.html5 import HTML5Translator

SCRIPT = Path(__file__).with_name("formulas.mjs")
WIDE = 34.0
"""An inline formula wider than this (in ex) gets a scroll bar of its own on a phone."""
logger = logging.getLogger(__name__)
glyphs: dict[str, str] = {}


@cache
def node() -> "subprocess.Popen[str]":
    """Start Node.js, which waits for formulas until the build ends."""
    pipe = subprocess.PIPE
    command = ["node", str(SCRIPT)]
    return subprocess.Popen(
        command, stdin=pipe, stdout=pipe, text=True, encoding="utf-8"
    )


@cache
def draw(tex: str, display: bool) -> dict[str, Any]:
    """Return what ``formulas.mjs`` says of one formula, and keep its letters."""
    process = node()
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps({"tex": tex, "display": display}) + "\n")
    process.stdin.flush()
    answer: dict[str, Any] = json.loads(process.stdout.readline())
    glyphs.update(answer.get("glyphs", {}))
    return answer


def formula(writer: HTML5Translator, found: nodes.Element, display: bool) -> str:
    """Return the HTML of one formula; one that MathJax refuses is a warning."""
    tex = found.astext().strip()
    drawn = draw(tex, display)
    if "error" in drawn:
        logger.warning("%s in the formula %r", drawn["error"], tex, location=found)
        return writer.encode(tex)
    wide = " wide" if not display and drawn["width"] > WIDE else ""
    tag = "div" if display else "span"
    return f'<{tag} class="math{wide} notranslate">{drawn["html"]}</{tag}>'


def words(tex: str) -> str:
    """Return a formula in plain letters, for the search: log p(x), not its source."""
    found = re.search(r"<math.*?</math>", draw(tex.strip(), False).get("html", ""))
    plain = re.sub(r"<[^>]+>", "", found[0]) if found else tex
    return re.sub("[\u2061-\u2064]", " ", plain).replace("&nbsp;", " ")


def visit_math(self: HTML5Translator, found: nodes.math) -> None:
    """Draw a formula that stands in a line."""
    self.body.append(formula(self, found, display=False))
    raise nodes.SkipNode


def visit_displayed(self: HTML5Translator, found: nodes.math_block) -> None:
    """Draw a formula that stands alone, with its number if it has one."""
    self.body.append(self.starttag(found, "div", CLASS="displayed"))
    self.body.append(formula(self, found, display=True))
    if found.get("number"):
        self.body.append(
            f'<span class="eqno">({get_node_equation_number(self, found)})'
        )
        self.add_permalink_ref(found, "")
        self.body.append("</span>")
    self.body.append("</div>\n")
    raise nodes.SkipNode


def with_letters(html: str) -> str:
    """Return a page with the outlines of the letters that its formulas use."""
    used = sorted(set(re.findall(r'href="#(mj-[^"]+)"', html)))
    if not used:
        return html
    paths = "".join(f'<path id="{name}" d="{glyphs[name]}"/>' for name in used)
    letters = f'<svg class="letters" aria-hidden="true"><defs>{paths}</defs></svg>'
    before, body, after = html.rpartition("</body>")
    return f"{before}{letters}{body}{after}"


def finish(app: Sphinx, error: Exception | None) -> None:
    """Put the letters into every page."""
    if error is None:
        for page in Path(app.outdir).glob("**/*.html"):
            page.write_text(with_letters(page.read_text("utf-8")), encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Register the renderer and what follows the build."""
    nothing = (lambda *_: None,) * 2
    app.add_html_math_renderer(
        "drawn", (visit_math, nothing[0]), (visit_displayed, nothing[1])
    )
    app.connect("build-finished", finish)
