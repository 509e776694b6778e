"""Building a notebook: run it where it is stale, and store clean outputs.

Contents decide what is stale, never file times: the code, the phrases of the catalogue
that the notebook says, and the outputs as they were stored.
"""

import ast
import os
import re
import string
import subprocess
import tempfile
import tomllib
from collections.abc import Iterable
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbclient.output_widget import OutputWidget
from nbformat import NotebookNode

from tools.pages import (
    RAISES,
    CourseError,
    Page,
    Problem,
    code_cells,
    fingerprint,
    models,
    output_lists,
    python,
    read_page,
    read_text,
    shown_models,
    strings,
    tags,
    unsound,
    write_text,
)
from vae_teach.copies import lesson_hash
from vae_teach.records import remove_records

PYTHON = "Python 3 (ipykernel)"
KERNEL = {"display_name": PYTHON, "language": "python", "name": "python3"}
PHRASES = Path(__file__).resolve().parents[1] / "vae_teach"
COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # of a terminal


# --- the stamp ----------------------------------------------------------------------


def stamp(path: Path, source: NotebookNode, built: NotebookNode) -> dict[str, str]:
    """Return hashes of what an execution depends on, and of what it gave."""
    code = [[c.id, RAISES in tags(c), c.source] for c in code_cells(source)]
    outputs = [[c.id, c.execution_count, c.outputs] for c in code_cells(built)]
    gave = [outputs, built.metadata.get("widgets", {})]
    return {
        "code_hash": fingerprint(code),
        "phrases_hash": fingerprint(phrases(path, source, built)),
        "outputs_hash": fingerprint(gave),
    }


def phrases(path: Path, source: NotebookNode, built: NotebookNode) -> dict[str, str]:
    """Return the phrases that a notebook says, by key, in its language.

    A phrase counts where a string of the code is its key, or the beginning of its key
    up to a hyphen, as in f"elbo-mode-{name}", or where an output has its words: so does
    what the package says by itself.
    """
    catalogue: dict[str, dict[str, str]] = {}
    for file in (PHRASES / "words.toml", PHRASES / "lessons" / f"{path.stem}.toml"):
        catalogue |= tomllib.loads(read_text(file)) if file.exists() else {}
    keys = strings_of(source)
    begun = tuple(key for key in keys if key.endswith("-"))
    outputs = [*(cell.outputs for cell in code_cells(built)), models(built)]
    shown = {text for _, _, text in strings(outputs)}
    said = {key: sides[path.parent.name] for key, sides in catalogue.items()}
    return {
        key: text
        for key, text in said.items()
        if key in keys or key.startswith(begun) or any(is_in(s, text) for s in shown)
    }


def strings_of(source: NotebookNode) -> set[str]:
    """Return every string of the code, and every piece of an f-string."""
    found = set[str]()
    for cell in code_cells(source):
        with suppress(SyntaxError):  # which unsound reports
            nodes = ast.walk(ast.parse(python(cell.source)))
            values = [node.value for node in nodes if isinstance(node, ast.Constant)]
            found |= {value for value in values if isinstance(value, str)}
    return found


def is_in(shown: str, phrase: str) -> bool:
    """Return whether a text has a phrase's words in their order, whatever else it has.

    A phrase without gaps must be a line of it: a label such as "latents" would be
    found anywhere, as would one of few letters, such as "{a} of {b}", which never is.
    """
    pieces = [piece for piece, *_ in string.Formatter().parse(phrase)]
    if "".join(pieces) == phrase:
        return phrase in shown.splitlines()
    at = 0 if len("".join(pieces)) > 5 else -1
    for piece in pieces:
        at = shown.find(piece, at) if at >= 0 else at
    return at >= 0


# --- running ------------------------------------------------------------------------


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
        without_bars = {**os.environ, "TQDM_DISABLE": "1"}
        try:
            self.execute(stderr=subprocess.DEVNULL, env=without_bars)
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            lines = COLOUR.sub("", str(error)).strip().splitlines()
            last = lines[-1 if isinstance(error, CellExecutionError) else 0]
            raise CourseError(f"[{self.at}] {last}") from None
        for key, text in self.stderr.items():
            words = COLOUR.sub("", text).strip()
            self.errors.append((key, f"wrote to stderr: {words!r}; fix its cause"))
        for key, what in self.errors:
            raise CourseError(f"[{key}] {what}")


# --- tidying ------------------------------------------------------------------------


def joined(outputs: Iterable[NotebookNode]) -> list[NotebookNode]:
    """Return outputs with neighbouring pieces of a stream, cut by chance, as one."""
    kept: list[NotebookNode] = []
    for output in deepcopy(list(outputs)):
        stream = output.get("name") if output["output_type"] == "stream" else None
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
    """Return a notebook less what chance and this machine left in it."""
    for model in models(notebook).values():
        if "outputs" in model["state"]:
            model["state"].update(msg_id="")  # of the message that was under way
    for _, outputs in [*output_lists(notebook)]:
        outputs[:] = joined(outputs)
        remove_records(outputs)  # which hold a time
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
    notebook.metadata.get("language_info", {}).pop("version", None)
    return notebook


def refuse_to_replace(page: Page) -> None:
    """Raise CourseError where somebody wrote into the .ipynb since it was built."""
    built = page.built.metadata.get("vae_teach", {}) if page.built else {}
    if "text_hash" in built and built["text_hash"] != lesson_hash(page.built):
        name = page.path.with_suffix(".ipynb").name
        raise CourseError(
            f"[-] {name} was changed by hand, and building would replace that: "
            f"carry what you want to keep into the .py, delete {name}, and build again"
        )


def build(path: Path, *, force: bool = False, timeout: int = 900) -> str:
    """Bring the .ipynb of one .py up to date and return what had to be done."""
    page = read_page(path)
    for key, problem in unsound(page):
        raise CourseError(f"[{key}] {problem}")
    refuse_to_replace(page)
    notebook, built, done = page.source, page.built, "executed"
    notebook.metadata["kernelspec"] = KERNEL
    stored = built.metadata.get("vae_teach", {}) if built and not force else {}
    if stored and stamp(path, notebook, built).items() <= stored.items():
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
    text_hash = lesson_hash(notebook)
    about = stamp(path, notebook, notebook) | {"text_hash": text_hash}
    notebook.metadata["vae_teach"] = about
    nbformat.validate(notebook)
    text = jupytext.writes(notebook, "ipynb")
    written = write_text(path.with_suffix(".ipynb"), text)
    return done if written or done == "executed" else "up to date"
