"""Reading a notebook: the pair of files, its cells and widgets, and what cells say.

A notebook is a pair: the percent .py that is written and reviewed, and the executed
.ipynb beside it. The .py always wins.
"""

import ast
import hashlib
import io
import json
import os
import re
import tokenize
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from IPython.core.inputtransformer2 import TransformerManager
from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.amsmath import amsmath_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin
from mdit_py_plugins.myst_role import myst_role_plugin
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1] / "notebooks"
LANGUAGES = {"pt": "Portuguese", "en": "English"}
WIDGETS = "application/vnd.jupyter.widget-state+json"
KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")  # what nbformat takes as a cell id
RAISES, COMPARED = "raises-exception", "nbval-check-output"  # tags

Problem = tuple[str, str]  # the key of a cell, and what is wrong and what to do


class CourseError(Exception):
    """Something the author has to fix first, said in one sentence."""


@dataclass(frozen=True)
class Page:
    """One notebook in one language: what its .py says and what was built of it."""

    path: Path
    source: NotebookNode
    built: Any  # a NotebookNode, or None where there is no readable .ipynb

    @property
    def language(self) -> str:
        """The folder's name: pt or en."""
        return self.path.parent.name


# --- files --------------------------------------------------------------------------


def read_text(path: Path) -> str:
    """Read a file in UTF-8; raise CourseError where that fails."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise CourseError(f"{path.name} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CourseError(f"{path.name} is not UTF-8 text; save it as UTF-8") from None


def write_text(path: Path, text: str) -> bool:
    """Write a file in one step, or leave it where it says the same already."""
    content = (text.rstrip("\n") + "\n").encode()
    if path.exists() and path.read_bytes() == content:
        return False
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(content)
    os.replace(part, path)
    return True


def read_page(path: Path) -> Page:
    """Read a pair by its .py, whose keys become the cells' ids where they can."""
    text, built = read_text(path), None
    try:
        source = jupytext.reads(text, "py:percent")
    except Exception as error:  # what the parsers of its headers raise
        reason = " ".join(str(error).split())
        raise CourseError(f"{path.name} cannot be read: {reason}") from None
    source.metadata.pop("jupytext", None)
    for cell in source.cells:
        if KEY.fullmatch(str(cell.metadata.get("key", ""))):
            cell["id"] = cell.metadata["key"]
        for chance in ("lines_to_next_cell", "cell_marker"):  # spacing in the .py
            cell.metadata.pop(chance, None)
    with suppress(Exception):  # a file that is damaged in any way is built again
        built = jupytext.read(path.with_suffix(".ipynb"))
        nbformat.validate(built)
    return Page(path, source, built)


def visible(folder: Path) -> list[Path]:
    """Return a folder's files, less those of editors and systems: .DS_Store, ._name."""
    return [p for p in folder.glob("[!.]*") if p.is_file()]


def sources(root: Path, names: Sequence[str]) -> list[Path]:
    """Every .py of the course, or those named 00_tour or pt/00_tour."""
    files = [path for language in LANGUAGES for path in visible(root / language)]
    paths = sorted(path for path in files if path.suffix == ".py")
    chosen: set[Path] = set()
    for name in names:
        ending = Path(name).with_suffix("").parts[-2:]
        found = {p for p in paths if p.with_suffix("").parts[-len(ending) :] == ending}
        if not found:
            raise CourseError(f"{name}: there is no such .py in {root.name}")
        chosen |= found
    return sorted(chosen) if names else paths


def unsound(page: Page) -> Iterator[Problem]:
    """What hides everything else: keys (one a cell, its own, a valid id) and syntax."""
    seen: set[str] = set()
    for number, cell in enumerate(page.source.cells, 1):
        key, cell_is = cell.metadata.get("key"), f"cell {number} ({cell.source[:30]!r})"
        if key is None:
            yield f"#{number}", f'{cell_is} has no key; write key="..." in its header'
        elif not KEY.fullmatch(str(key)):
            yield str(key), f"the key of {cell_is} takes 1-64 letters, digits, - and _"
        elif key in seen:
            yield key, f"{cell_is} has the key of an earlier cell; rename one of them"
        seen.add(str(key))
        try:
            code_tree(cell.source if cell.cell_type == "code" else "")
        except SyntaxError as error:
            yield str(key), f"{cell_is} is not Python: {error.msg}, line {error.lineno}"


# --- cells, outputs and widgets -----------------------------------------------------


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """Return the cells that are code, in order."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tags(cell: NotebookNode) -> set[str]:
    """Return a cell's tags."""
    return set(cell.metadata.get("tags", []))


def models(notebook: NotebookNode) -> dict[str, Any]:
    """Return the saved widgets by model id."""
    widgets = notebook.metadata.get("widgets", {}).get(WIDGETS, {})
    saved: dict[str, Any] = widgets.get("state", {})
    return saved


def shown_models(notebook: NotebookNode) -> dict[str, str]:
    """Return the ids of the widgets that cells show, in order, with the cells' keys."""
    saved, shown = models(notebook), dict[str, str]()
    reference = re.compile(r'(?:IPY_MODEL_|"model_id": ")([0-9a-f]{32})')

    def visit(content: object, key: str) -> None:
        for model in reference.findall(json.dumps(content, sort_keys=True)):
            if model in saved and model not in shown:
                shown[model] = key
                visit(saved[model], key)

    for cell in code_cells(notebook):
        visit(cell.outputs, cell.id)
    for model, content in saved.items():  # a jslink: nobody refers to it, it acts
        ends = reference.findall(json.dumps(content))
        links = content["model_name"].endswith("LinkModel") and ends
        if links and {*ends} <= shown.keys():
            shown[model] = shown[ends[0]]
    return shown


def output_lists(notebook: NotebookNode) -> Iterator[tuple[str, list[NotebookNode]]]:
    """Every list of outputs, of cells and Output widgets, with the cell's key."""
    yield from ((cell.id, cell.outputs) for cell in code_cells(notebook))
    for model, key in shown_models(notebook).items():
        if "outputs" in models(notebook)[model]["state"]:
            yield key, models(notebook)[model]["state"]["outputs"]


def image_texts(outputs: Sequence[NotebookNode]) -> list[str]:
    """Return the alternative text of each image among outputs, "" where none is."""
    images = [(o, m) for o in outputs for m in o.get("data", {}) if "image/" in m]
    return [str((o["metadata"].get(m) or {}).get("alt", "")).strip() for o, m in images]


def strings(node: Any) -> Iterator[tuple[Any, Any, str]]:
    """Every text in JSON, as (holder, index, text), less pictures and browser code."""
    opaque = ("image/png", "image/jpeg", "_esm", "_css", "buffers")
    for at, value in node.items() if isinstance(node, dict) else enumerate(node):
        if isinstance(value, str) and at not in opaque:
            yield node, at, value
        elif isinstance(value, dict) or (isinstance(value, list) and at != "buffers"):
            yield from strings(value)


def fingerprint(content: object, length: int = 16) -> str:
    """Return a short hash of anything that JSON can hold."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


# --- what a cell says ---------------------------------------------------------------

MARKDOWN = MarkdownIt("commonmark").enable("table").use(amsmath_plugin)
MARKDOWN.use(dollarmath_plugin, double_inline=True).use(myst_role_plugin)


def tokens(text: str) -> Iterator[Token]:
    """Every token of a markdown text, blocks and what is inside them."""
    for token in MARKDOWN.parse(text):
        yield token
        yield from token.children or ()


def prose(text: str) -> str:
    """Return running text: no code, formulas, addresses, nor words in italics.

    Italics are how the course quotes an English term or a title beside its own words.
    """
    said, quoted = [], 0
    for token in tokens(text):
        quoted += token.nesting if token.type.startswith("em_") else 0
        if token.type in ("text", "image") and not quoted:
            said.append(token.content)
        elif token.type.endswith(("break", "_close")) and token.tag not in ("em", "a"):
            said.append("\n")
    return "".join(said)


def python(source: str) -> str:
    """Return a code cell as plain Python: magics become calls."""
    return str(TransformerManager().transform_cell(source))


def comments(source: str) -> list[str]:
    """Return the comments of a code cell, in order."""
    found = tokenize.generate_tokens(io.StringIO(python(source)).readline)
    return [t.string.strip("# ") for t in found if t.type == tokenize.COMMENT]


def texts(notebook: NotebookNode) -> dict[str, str]:
    """Return what is written in a language: markdown, and the comments of code."""
    said = {c.id: "\n".join(comments(c.source)) for c in code_cells(notebook)}
    said |= {c.id: c.source for c in notebook.cells if c.cell_type == "markdown"}
    return {cell.id: said[cell.id] for cell in notebook.cells if said.get(cell.id)}


def called(node: ast.Call) -> str:
    """Return the last name of what is called: f for f() and for a.f()."""
    return str(getattr(node.func, "attr", getattr(node.func, "id", "")))


def code_tree(source: str) -> tuple[str, set[str]]:
    """Return the dumped tree less the arguments of use_language, and these."""
    tree, languages = ast.parse(python(source)), set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and called(node) == "use_language":
            languages |= {ast.unparse(argument) for argument in node.args}
            node.args = []
    return ast.dump(tree), languages
