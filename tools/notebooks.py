"""Build, check and accept the notebooks of the course.

A notebook is a pair: the percent .py that is written and reviewed, and the executed
.ipynb beside it. The .py always wins. JupyterLab rewrites it whenever the .ipynb is
saved there, so an edit made in Lab is in the .py already. Contents decide and never
file times. build runs a notebook again where its code cells changed, or its outputs;
after a change of vae_teach use --force.
"""

import argparse
import ast
import csv
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from IPython.core.inputtransformer2 import TransformerManager
from jupytext.compare import NotebookDifference, compare_cells
from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.amsmath import amsmath_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin
from mdit_py_plugins.myst_role import myst_role_plugin
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbclient.output_widget import OutputWidget
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1] / "notebooks"
LANGUAGES = {"pt": "Portuguese", "en": "English"}
PYTHON = "Python 3 (ipykernel)"
KERNEL = {"display_name": PYTHON, "language": "python", "name": "python3"}
WIDGETS = "application/vnd.jupyter.widget-state+json"
KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")  # what nbformat takes as a cell id
RAISES, COMPARED = "raises-exception", "nbval-check-output"
MOST_BYTES, MOST_BYTES_WITH_EXPLORER = 500_000, 1_500_000

Problem = tuple[str, str]  # the key of a cell, and what is wrong and what to do


class CourseError(Exception):
    """Something the author has to cure first, said in one sentence."""


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


# --- reading ------------------------------------------------------------------------


def read_page(path: Path) -> Page:
    """Read a pair by its .py, whose keys become the cells' ids where they can."""
    source, built = jupytext.read(path, fmt="py:percent"), None
    source.metadata.pop("jupytext", None)
    for cell in source.cells:
        if KEY.fullmatch(str(cell.metadata.get("key", ""))):
            cell["id"] = cell.metadata["key"]
        for chance in ("lines_to_next_cell", "cell_marker"):  # spacing in the .py
            cell.metadata.pop(chance, None)
    with suppress(FileNotFoundError, ValueError, AttributeError):
        built = jupytext.read(path.with_suffix(".ipynb"))
        if not all("id" in cell for cell in built.cells):  # an old or foreign format
            built = None
    return Page(path, source, built)


def sources(root: Path, names: Sequence[str]) -> list[Path]:
    """Every .py of the course, or those named 00_tour or pt/00_tour."""
    paths = sorted(p for lang in LANGUAGES for p in (root / lang).glob("*.py"))
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


def strings(node: Any) -> Iterator[tuple[Any, Any, str]]:
    """Every text in JSON, as (holder, index, text), less pictures and browser code."""
    opaque = ("image/png", "image/jpeg", "_esm", "_css", "buffers")
    for at, value in node.items() if isinstance(node, dict) else enumerate(node):
        if isinstance(value, str) and at not in opaque:
            yield node, at, value
        elif isinstance(value, dict | list) and at not in opaque:
            yield from strings(value)


def fingerprint(content: object, length: int = 16) -> str:
    """Return a short hash of anything that JSON can hold."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def stamp(source: NotebookNode, built: NotebookNode) -> dict[str, str]:
    """Return hashes of what an execution depends on, and of what it gave."""
    code = [[c.id, RAISES in tags(c), c.source] for c in code_cells(source)]
    outputs = [[c.id, c.execution_count, c.outputs] for c in code_cells(built)]
    gave = [outputs, built.metadata.get("widgets", {})]
    return {"code_hash": fingerprint(code), "outputs_hash": fingerprint(gave)}


# --- build --------------------------------------------------------------------------

TIMES = r"\[\d+:\d\d(?::\d\d)?[<,][^\]\r\n]*\]"  # what tqdm draws: [00:01<00:02, 3it/s]
BAR = re.compile(rf"\d%\|[ #▏▎▍▌▋▊▉█]*\|(?: *[\w.?]+/[\w.?]+)?(?: *{TIMES})?|{TIMES}")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # of a terminal


class QuietOutput(OutputWidget):
    """The stand-in for an Output widget, less its answers to the kernel.

    An answer that is sent while nbclient awaits the kernel's reply can make it miss the
    reply (measured: one run in twenty waited until the time was over).
    """

    def send(self, *_: Any, **__: Any) -> None:
        """Send nothing; what the widget shows is recorded all the same."""


class Recorder(NotebookClient):
    """An execution that remembers each error and warning, also those cleared later.

    nbclient reports success when a widget's callback raises, and the next move of a
    slider clears what the exception left.
    """

    at = ""

    def process_message(
        self, msg: dict[str, Any], cell: NotebookNode, cell_index: int
    ) -> NotebookNode | None:
        """Take one message of the kernel."""
        self.at, said = cell.id, msg["content"]
        if msg["msg_type"] == "error" and RAISES not in tags(cell):
            self.errors.append((cell.id, f"raised {said['ename']}: {said['evalue']}"))
        if msg["msg_type"] == "stream" and said["name"] == "stderr":
            self.stderr[cell.id] = self.stderr.get(cell.id, "") + said["text"]
        return super().process_message(msg, cell, cell_index)

    def run(self) -> None:
        """Run every cell; raise CourseError for anything that went wrong."""
        self.errors, self.stderr = list[Problem](), dict[str, str]()
        self.widget_registry["@jupyter-widgets/output"]["OutputModel"] = QuietOutput
        try:
            self.execute(stderr=subprocess.DEVNULL)
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            lines = COLOUR.sub("", str(error)).strip().splitlines()
            last = lines[-1 if isinstance(error, CellExecutionError) else 0]
            raise CourseError(f"[{self.at}] {last}") from None
        for key, text in self.stderr.items():
            if words := without_bars(COLOUR.sub("", text)).strip():
                self.errors.append((key, f"wrote to stderr: {words!r}; cure its cause"))
        for key, what in self.errors:
            raise CourseError(f"[{key}] {what}")


def without_bars(text: str) -> str:
    """Return text less its progress bars; what was written behind a bar stays."""
    lines = re.split(
        r"(?=\r)|(?<=\n)", re.sub(r"\x1b\[\d*[A-HJK]", "", text)
    )  # no moves
    rests = [BAR.split(line)[-1] for line in lines]
    pairs = zip(lines, rests, strict=True)
    return "".join(rest for line, rest in pairs if rest == line or rest.strip())


def without_chance(outputs: Iterable[NotebookNode]) -> list[NotebookNode]:
    """Return outputs less progress bars, and with the pieces of a stream joined."""
    kept: list[NotebookNode] = []
    for output in deepcopy(list(outputs)):
        stream = output.get("name") if output["output_type"] == "stream" else None
        if stream:
            output["text"] = without_bars(output["text"])
            if not (output["text"].strip() if stream == "stderr" else output["text"]):
                continue
        elif BAR.search(str(output.get("data", {}).get("text/plain", ""))):
            continue
        if stream and kept and kept[-1].get("name") == stream:
            kept[-1]["text"] += output["text"]
        else:
            kept.append(output)
    return kept


def without_places(text: str, repository: Path) -> str:
    """Return text less this machine's folders and memory addresses."""
    home = Path.home() if len(Path.home().parts) > 1 else repository
    for place, instead in (
        (r"/[^\s'\"\x1b]*site-packages/", ""),
        (re.escape(f"{repository}") + r"(?:/|(?![\w-]))", ""),
        (re.escape(f"{repository.parent}/shared/"), "../shared/"),
        (re.escape(tempfile.gettempdir()) + r"/(?:tmp\w+|ipykernel_\d+)/", ""),
        (re.escape(f"{home}") + r"(?![\w-])", "~"),
        (r"\b0x[0-9a-fA-F]{6,}\b", "0x0"),
    ):
        text = re.sub(place, instead, text)
    return text


def tidy(notebook: NotebookNode, path: Path) -> NotebookNode:
    """Return a notebook less what chance, time and this machine left in it."""
    for model in models(notebook).values():
        if "outputs" in model["state"]:
            model["state"].update(msg_id="")  # of the message that was under way
    for _, outputs in [*output_lists(notebook)]:
        outputs[:] = without_chance(outputs)
    shown, saved = shown_models(notebook), models(notebook)
    for model in saved.keys() - shown.keys():
        del saved[model]
    if not saved:
        notebook.metadata.pop("widgets", None)
    names = {old: fingerprint([path.stem, n], 32) for n, old in enumerate(shown)}
    text = jupytext.writes(notebook, "ipynb")
    text = re.sub("[0-9a-f]{32}", lambda m: names.get(m[0], m[0]), text)
    notebook = jupytext.reads(text, "ipynb")
    contents = [cell.outputs for cell in code_cells(notebook)]
    for holder, at, found in [*strings([*contents, models(notebook)])]:
        holder[at] = without_places(found, path.parents[2])
    return notebook


def image_texts(outputs: Iterable[NotebookNode]) -> list[str]:
    """Return the alternative text of each image among outputs, "" where none is."""
    images = [(o, m) for o in outputs for m in o.get("data", {}) if "image/" in m]
    return [str((o["metadata"].get(m) or {}).get("alt", "")).strip() for o, m in images]


def book_text(cell: NotebookNode) -> str:
    """Return the one text that myst-nb puts on every image of a cell."""
    return " ".join(dict.fromkeys(filter(None, image_texts(cell.outputs))))


def build(path: Path, *, force: bool = False, timeout: int = 900) -> str:
    """Bring the .ipynb of one .py up to date and return what had to be done."""
    page = read_page(path)
    for key, problem in unsound(page):
        raise CourseError(f"[{key}] {problem}")
    notebook, built, done = page.source, page.built, "executed"
    notebook.metadata["kernelspec"] = KERNEL
    stored = built.metadata.get("vae_teach") if built and not force else None
    if stored and stored == stamp(notebook, built):
        done = "text refreshed, outputs kept"
        earlier = {cell.id: cell for cell in built.cells}
        for cell in code_cells(notebook):
            for name in ("outputs", "execution_count"):
                cell[name] = earlier[cell.id][name]
        for name in {"widgets", "language_info"} & built.metadata.keys():
            notebook.metadata[name] = built.metadata[name]
    else:
        client = Recorder(notebook, timeout=timeout, record_timing=False)
        client.resources = {"metadata": {"path": str(path.parent)}}
        client.run()
        notebook = tidy(notebook, path)
    notebook.metadata.get("language_info", {}).pop("version", None)
    for cell in code_cells(notebook):
        if alt := book_text(cell):  # myst-nb looks here, and not at the output
            cell.metadata["mystnb"] = cell.metadata.get("mystnb", {})
            cell.metadata["mystnb"]["image"] = {"alt": alt}
    notebook.metadata["vae_teach"] = stamp(notebook, notebook)
    nbformat.validate(notebook)
    written = write(path.with_suffix(".ipynb"), jupytext.writes(notebook, "ipynb"))
    return done if written or done == "executed" else "up to date"


def write(path: Path, text: str) -> bool:
    """Write a file in one step, or leave it where it says the same already."""
    if path.exists() and path.read_text(encoding="utf-8") == text.rstrip("\n") + "\n":
        return False
    part = path.with_name(f"{path.name}.part")
    part.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
    os.replace(part, path)
    return True


# --- what a cell says ---------------------------------------------------------------

MARKDOWN = MarkdownIt("commonmark").enable("table").use(amsmath_plugin)
MARKDOWN.use(dollarmath_plugin, double_inline=True).use(myst_role_plugin)
YEAR = r"(?<![\d.,])(?:19|20)\d\d(?!\d|[.,]\d)"  # a citation: Burda et al. (2015)


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


def marks(text: str) -> dict[str, list[str]]:
    """Return what a translation must keep, by its name."""
    found: dict[str, list[str]] = {"formulas": [], "heading levels": []}
    found |= {"links": [], "images": [], "citations": re.findall(YEAR, prose(text))}
    for token in tokens(text):
        if token.type.startswith(("math", "amsmath")):
            formula = re.sub(r"\\text\w*\{[^{}]*\}|\s", "", token.content)
            found["formulas"].append(formula.replace("{,}", "."))  # 0{,}5 is 0.5
        elif token.type == "heading_open":
            found["heading levels"].append(token.tag)
        elif token.type == "myst_role" and token.meta["name"].startswith("cite"):
            found["citations"].append(token.content)
        html = token.content if token.type.startswith("html") else ""
        found["links"] += re.findall(r'href="([^"]*)"', html)
        found["images"] += re.findall(r'src="([^"]*)"', html)
        found["links"] += [str(v) for k, v in token.attrs.items() if k == "href"]
        found["images"] += [str(v) for k, v in token.attrs.items() if k == "src"]
    for kind in ("links", "images"):  # a page's own language and headings may differ
        bare = [t if ":" in t else re.sub("#.*", "#", t) for t in found[kind]]
        found[kind] = [re.sub(r"(^|/)(?:pt|en)/", r"\1xx/", t) for t in bare]
    for kind in ("links", "images", "citations"):
        found[kind].sort()
    return found


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


SHOWN_BY = re.compile(  # the functions and options whose text a reader sees
    "print|HTML|Markdown|text|annotate|(?:sup|set_)?title|(?:set_)?[xy]label|label|alt"
    "|description"
)
NEUTRAL = {"adam", "beta", "cpu", "elbo", "eps", "exp", "gpu", "iwae", "log", "logvar"}
NEUTRAL |= {"mnist", "nats", "sigma", "vae"}  # the same in both languages


def words_in_strings(source: str) -> Iterator[str]:
    """Every string of a code cell that holds words of some language.

    Two words count anywhere; one counts where it is shown: printed, a title, a label.
    """
    tree, shown = ast.parse(python(source)), set[ast.AST]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            shown |= {k.value for k in node.keywords if SHOWN_BY.fullmatch(k.arg or "")}
            shown |= set(node.args) if SHOWN_BY.fullmatch(called(node)) else set()
            node.args = [] if called(node).startswith("run_") else node.args  # a magic
            node.keywords = [k for k in node.keywords if k.arg != "loc"]  # "upper left"
    for node in ast.walk(tree):
        parts = node.values if isinstance(node, ast.JoinedStr) else [node]
        values = [part.value for part in parts if isinstance(part, ast.Constant)]
        text = " ".join(value for value in values if isinstance(value, str))
        words = re.findall(r"[^\W\d_]{3,}", re.sub(r"\$[^$]*\$", "", text))
        words = [word for word in words if word.lower() not in NEUTRAL]
        if (len(words) > 1 and " " in text.strip()) or (words and node in shown):
            yield text.strip()


def forbidden(glossary: Path) -> Iterator[tuple[re.Pattern[str], str]]:
    """Every rendering the glossary rules out, with the course's own word.

    One marked "(for ...)" is wrong in that sense only ("anterior" for a prior, "provar"
    for to sample) and right elsewhere, so that no test can tell: it is left to readers.
    """
    with glossary.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            for rendering in row["not in Portuguese"].split(";"):
                words = re.sub(r"\(.*", "", rendering).split()
                if words and "(for " not in rendering:
                    pattern = r"\s+".join(map(re.escape, words))
                    yield re.compile(rf"(?i)\b{pattern}(?:e?s)?\b"), row["pt"]


# --- check: one page ----------------------------------------------------------------


def check_source(page: Page) -> Iterator[Problem]:
    """Code speaks no language but the page's own; images in markdown are described."""
    for cell in code_cells(page.source):
        if code_tree(cell.source)[1] - {repr(page.language)}:
            yield (
                cell.id,
                f'write use_language("{page.language}"), the page\'s language',
            )
        for text in words_in_strings(cell.source):
            advice = "words go into vae_teach/words.toml, explanations into comments"
            yield cell.id, f"a string holds words, {text[:40]!r}; {advice}"
            break
    for key, text in texts(page.source).items():
        for token in tokens(text):
            html = token.content if token.type.startswith("html") else ""
            bare = re.search(r'<img\b(?![^>]*\balt="[^"])', html)
            if bare or (token.type == "image" and not token.content.strip()):
                yield key, "an image has no alternative text; write ![text](file)"


def check_glossary(page: Page) -> Iterator[Problem]:
    """Portuguese prose and comments use the glossary's words."""
    rules = [*forbidden(page.path.parents[1] / "glossary.csv")]
    for key, text in texts(page.source).items() if page.language == "pt" else ():
        for pattern, word in rules:
            if found := pattern.search(prose(text)):
                yield key, f"{found[0]!r} is not used here; the glossary says {word!r}"


def check_in_sync(page: Page) -> Iterator[Problem]:
    """The two files of a pair say the same, and every cell's id is its key."""
    built = {cell.id: cell for cell in page.built.cells}
    if [*built] != [cell.id for cell in page.source.cells]:
        yield "-", "the cells, their ids or their order are not those of the .py"
    for cell in page.source.cells:
        if twin := built.get(cell.id):
            pair = [deepcopy(twin), deepcopy(cell)]
            for one in pair:
                one.metadata.pop("mystnb", None)  # made from the outputs by build
            try:
                compare_cells(
                    pair[:1], pair[1:], compare_outputs=False, compare_ids=False
                )
            except NotebookDifference:
                yield cell.id, "this cell differs from that of the .py"


def check_executed(page: Page) -> Iterator[Problem]:
    """Every code cell was run, in order, and the outputs belong to the code."""
    for number, cell in enumerate(code_cells(page.built), 1):
        if cell.execution_count != number:
            yield cell.id, f"its number is {cell.execution_count}, not {number}"
    found = page.built.metadata.get("vae_teach", {})
    now = stamp(page.source, page.built)
    if found.get("code_hash") != now["code_hash"]:
        yield "-", "the outputs are older than the code"
    if found.get("outputs_hash") != now["outputs_hash"]:
        yield "-", "the outputs are not those that build stored"
    if page.built.metadata.get("kernelspec") != KERNEL:
        yield "-", "the kernel is not python3"
    if models(page.built).keys() != shown_models(page.built).keys():
        yield "-", "widgets that no cell shows are stored"


def check_outputs(page: Page) -> Iterator[Problem]:
    """No errors, stderr or progress bars; every image described, in the book too."""
    cells = {cell.id: cell for cell in code_cells(page.built)}
    for key, outputs in output_lists(page.built):
        kinds = {output.get("name", output["output_type"]) for output in outputs}
        if "error" in kinds and RAISES not in tags(cells[key]):
            yield key, "an error is stored; cure the cell"
        if "stderr" in kinds:
            yield key, "something was written to stderr; cure its cause"
        if without_chance(outputs) != list(outputs):
            yield key, "a progress bar or a stream in pieces is stored"
        if "" in image_texts(outputs):
            advice = 'display it with metadata={"image/png": {"alt": ...}}'
            yield key, f"an image has no alternative text; {advice}"
    for key, cell in cells.items():
        alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
        if alt != book_text(cell):
            yield key, "the book's alternative text is not the image's"
        raised = any(output.output_type == "error" for output in cell.outputs)
        if RAISES in tags(cell) and not raised:
            yield key, f"tagged {RAISES}, but raised nothing; remove the tag"


LEAKS = {
    r"(?<![\w.~/-])/(?:home|root|tmp|Users|work|usr|opt|mnt|var|srv)/": "a local path",
    r"\b[A-Z]:\\(?:Users|Windows|Program|Temp)|site-packages": "a local path",
    r"(?i)\b(?:token|api_?key|password|secret)=['\"]?[\w-]{6,}": "a secret",
    r"\b(?:hf_|ghp_|github_pat_|sk-)\w{16,}|BEGIN [A-Z ]*PRIVATE KEY": "a secret",
    r"p[y]pi\.org|p[y]thonhosted\.org|registry\.n[p]mjs|deb\.d[e]bian": "a registry",
}
VOLATILE = {
    r"\b0x[0-9a-fA-F]{6,}\b": "a memory address",
    r"\b\d{4}-\d\d-\d\dT\d\d:\d\d": "a time",
}


def check_leaks(page: Page) -> Iterator[Problem]:
    """No paths, addresses, secrets, registries or times are committed."""
    other = {k: v for k, v in page.built.metadata.items() if k != "widgets"}
    contents: list[tuple[str, Any, dict[str, str]]] = [("-", other, LEAKS | VOLATILE)]
    for cell in page.built.cells:
        contents += [(cell.id, [cell.source], LEAKS)]
        contents += [(cell.id, [cell.metadata, cell.get("outputs")], LEAKS | VOLATILE)]
    for model, key in shown_models(page.built).items():
        contents += [(key, models(page.built)[model], LEAKS | VOLATILE)]
    for key, content, patterns in contents:
        text = "\n".join(found for _, _, found in strings(content))
        for pattern, kind in patterns.items():
            if match := re.search(pattern, text):
                yield key, f"{kind} would be published, {match[0]!r}; take it out"


def check_size(page: Page) -> Iterator[Problem]:
    """A notebook stays small, and nbval compares enough of its outputs."""
    modules = {model["model_module"] for model in models(page.built).values()}
    most = MOST_BYTES_WITH_EXPLORER if "anywidget" in modules else MOST_BYTES
    size = page.path.with_suffix(".ipynb").stat().st_size
    if size > most:
        yield "-", f"{size:,} bytes, more than {most:,}; show fewer or smaller figures"
    compared = [cell for cell in code_cells(page.built) if COMPARED in tags(cell)]
    if len(compared) < 3:
        yield "-", f"{len(compared)} cells tagged {COMPARED}; tag three that never vary"
    for cell in compared:  # nbval compares neither pictures nor widgets
        kinds = [" ".join(output.get("data", ())) for output in cell.outputs]
        if all("image/" in kind or "widget" in kind for kind in kinds):
            yield cell.id, f"tagged {COMPARED}, but shows no text to compare"


# --- check: the two languages -------------------------------------------------------


def check_same(pt: Page, en: Page) -> Iterator[Problem]:
    """Both languages have the same cells in the same order; see also differences."""
    portuguese, english = ({c.id: c for c in page.source.cells} for page in (pt, en))
    for key in sorted(portuguese.keys() ^ english.keys()):
        missing = "Portuguese" if key in english else "English"
        yield key, f"this cell is missing in {missing}; add it there or remove it here"
    common = [key for key in portuguese if key in english]
    order = [key for key in english if key in portuguese]
    for key, other in zip(common, order, strict=True):
        if key != other:
            yield key, f"in English {other} stands here; use one order"
            break
    for key in common:
        yield from ((key, d) for d in differences(portuguese[key], english[key]))


def differences(pt: NotebookNode, en: NotebookNode) -> Iterator[str]:
    """What one cell has in one language only, less the words themselves."""
    if pt.cell_type != en.cell_type or tags(pt) != tags(en):
        yield "type or tags differ between the languages; use the same"
    elif pt.cell_type == "code":
        if code_tree(pt.source)[0] != code_tree(en.source)[0]:
            yield "the code differs between the languages; only comments may"
        there, here = len(comments(pt.source)), len(comments(en.source))
        if there != here:
            yield f"{there} comments in Portuguese, {here} in English: pair them"
    else:
        english = marks(en.source)
        for kind, found in marks(pt.source).items():
            if found != english[kind]:
                odd = ", ".join(sorted({*found} ^ {*english[kind]})) or "their order"
                yield f"{kind} differ between the languages ({odd}); make them equal"


def check_described(pt: Page, en: Page) -> Iterator[Problem]:
    """A figure's alternative text is in the page's language, so that the two differ."""
    described = [
        {(key, text) for key, outputs in lists for text in image_texts(outputs) if text}
        for lists in (output_lists(page.built) for page in (pt, en) if page.built)
    ]
    for key, text in sorted(set.intersection(*described)) if described[1:] else ():
        yield key, f"{text[:30]!r} describes an image in both languages; use words.toml"


# --- accept -------------------------------------------------------------------------

Lock = dict[tuple[str, str], tuple[str, str]]  # (notebook, key): (Portuguese, English)


def read_lock(root: Path) -> Lock:
    """Read which texts were accepted as saying the same."""
    path = root / "translations.lock"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    entries = re.findall(r"(?m)^(\S+) (\S+) ([0-9a-f]{12}) ([0-9a-f]{12})$", text)
    return {(name, key): (pt, en) for name, key, pt, en in entries}


def digests(pt: Page, en: Page) -> Lock:
    """Return a hash of each side of every text, whatever its line breaks."""
    said, name = [texts(page.source) for page in (pt, en)], pt.path.stem

    def digest(side: int, key: str) -> str:
        return fingerprint(" ".join(said[side].get(key, "").split()), 12)

    return {(name, key): (digest(0, key), digest(1, key)) for key in said[0] | said[1]}


def check_accepted(pt: Page, en: Page) -> Iterator[Problem]:
    """Every pair of texts was accepted as it now stands."""
    name, now = pt.path.stem, digests(pt, en)
    lock = {k: v for k, v in read_lock(pt.path.parents[1]).items() if k[0] == name}
    for (_, key), sides in now.items():
        advice = f"read both, then: tools/notebooks.py accept {key} --notebook {name}"
        before = lock.get((name, key))
        if before is None:
            yield key, f"the translation was never accepted; {advice}"
        elif before != sides:
            both = zip(LANGUAGES.values(), before, sides, strict=True)
            changed = " and the ".join(lang for lang, a, b in both if a != b)
            yield key, f"the {changed} text changed since it was accepted; {advice}"
    for _, key in sorted(lock.keys() - now.keys()):
        yield key, "accepted, but no longer there; run: tools/notebooks.py accept"


def accept(root: Path, keys: Sequence[str], *, every: bool, notebook: str) -> list[str]:
    """Accept texts as they stand; forget those that are gone; return what changed."""
    before, now = read_lock(root), Lock()
    for pt, en in pairs(root, []):
        now |= digests(pt, en)
    wanted = {k for k in now if notebook in ("", k[0]) and (every or k[1] in keys)}
    for key in keys:
        found = sorted(name for name, k in wanted if k == key)
        if len(found) != 1:
            where = f"in {', '.join(found)}; add --notebook" if found else "nowhere"
            raise CourseError(f"[{key}] names a text {where}")
    unread = {path.stem for path in sources(root, [])} - {name for name, _ in now}
    kept = {k: v for k, v in before.items() if k in now or k[0] in unread}
    after = kept | {k: now[k] for k in wanted}
    head = "# notebook key Portuguese English: written by tools/notebooks.py accept"
    lines = [" ".join((*k, *after[k])) for k in sorted(after)]
    write(root / "translations.lock", "\n".join([head, *lines]))
    changed = sorted(k for k in before | after if before.get(k) != after.get(k))
    done = {k: "accepted" if k in after else "forgotten" for k in changed}
    return [f"{name}: [{key}] {what}" for (name, key), what in done.items()]


# --- the commands -------------------------------------------------------------------

OF_A_SOURCE = (check_source, check_glossary)
OF_A_BUILD = (check_in_sync, check_executed, check_outputs, check_leaks, check_size)
OF_A_PAIR = (check_same, check_described, check_accepted)


def pairs(root: Path, names: Sequence[str]) -> Iterator[tuple[Page, Page]]:
    """Every lesson that is there and sound in both languages."""
    for name in sorted({path.stem for path in sources(root, names)}):
        paths = [root / language / f"{name}.py" for language in LANGUAGES]
        if all(path.exists() for path in paths):
            pt, en = map(read_page, paths)
            if not [*unsound(pt), *unsound(en)]:
                yield pt, en


def check_page(page: Page) -> Iterator[str]:
    """Every problem of one notebook in one language."""
    file, found = f"{page.language}/{page.path.stem}", [*unsound(page)]
    found = found or [problem for guard in OF_A_SOURCE for problem in guard(page)]
    yield from (f"{file}.py: [{key}] {what}" for key, what in found)
    found = [("-", "missing or not readable")]
    if page.built:
        found = [problem for guard in OF_A_BUILD for problem in guard(page)]
    for key, what in found:
        yield f"{file}.ipynb: [{key}] {what}; run: tools/notebooks.py build"


def check_files(root: Path) -> Iterator[str]:
    """Both languages have the same files, and every .ipynb its .py."""
    folders = [root / language for language in LANGUAGES]
    pt, en = ({p.name for p in folder.glob("*") if p.is_file()} for folder in folders)
    for file in sorted(pt ^ en):
        yield f"{file}: [-] in one language only; a lesson has one name in both"
    for file in sorted(pt | en):
        if file.endswith(".ipynb") and f"{file[:-5]}py" not in pt | en:
            yield f"{file}: [-] has no .py; save it once in JupyterLab"
    for name in sorted({name for name, _ in read_lock(root)}):
        if f"{name}.py" not in pt | en:
            yield f"translations.lock: [-] names {name}, which is gone; run: accept"
    if not pt | en:
        yield f"{root.name}: [-] no notebooks; write pt/NN_slug.py and en/NN_slug.py"


def check(root: Path, names: Sequence[str] = ()) -> Iterator[str]:
    """Every problem, as "file: [key] what is wrong and what to do"; runs nothing."""
    for path in sources(root, names):
        yield from check_page(read_page(path))
    for pt, en in pairs(root, names):
        for key, what in [problem for guard in OF_A_PAIR for problem in guard(pt, en)]:
            yield f"{pt.path.name}: [{key}] {what}"
    if not names:
        yield from check_files(root)


def run_build(root: Path, names: Sequence[str], *, force: bool, timeout: int) -> int:
    """Build what was named, and go on where one notebook fails."""
    failed = 0
    for path in sources(root, names):
        name, start = f"{path.parent.name}/{path.stem}", time.monotonic()
        try:
            done = build(path, force=force, timeout=timeout)
            print(f"{name}: {done}, {time.monotonic() - start:.0f} s", flush=True)
        except CourseError as error:
            failed = 1
            print(f"{name}: {error}", file=sys.stderr, flush=True)
    return failed


def read_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--root", type=Path, default=ROOT, help="default: notebooks/")
    commands = parser.add_subparsers(dest="command", required=True)
    a = commands.add_parser("build", help="bring each .ipynb up to date, run if stale")
    a.add_argument("names", nargs="*", help="00_tour or pt/00_tour; default: all")
    a.add_argument("--force", action="store_true", help="run also what is fresh")
    a.add_argument("--timeout", type=int, default=900, help="seconds for a cell (900)")
    a = commands.add_parser("check", help="print every problem in a line, run nothing")
    a.add_argument("names", nargs="*", help="00_tour or pt/00_tour; default: all")
    a = commands.add_parser("accept", help="record that two texts say the same")
    a.add_argument("keys", nargs="*", help="names of cells you read in both languages")
    a.add_argument("--all", action="store_true", help="every cell")
    a.add_argument("--notebook", default="", help="only in this notebook: 00_tour")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; return 1 where something is wrong."""
    o = read_arguments(arguments)
    root = o.root.resolve()
    try:
        if o.command == "build":
            return run_build(root, o.names, force=o.force, timeout=o.timeout)
        if o.command == "check":
            lines = [*check(root, o.names)]
        else:
            lines = accept(root, o.keys, every=o.all, notebook=o.notebook)
    except CourseError as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join(lines) or "nothing to say")
    return int(o.command == "check" and bool(lines))


if __name__ == "__main__":
    sys.exit(main())
