"""From notebooks and prose to what Sphinx reads: one folder per language.

A notebook keeps its text, code and outputs. What would need a kernel is shown by the
picture that it brings: the explorer comes alive beside it from its stored state, and
a sentence says where sliders move.
"""

import ast
import base64
import hashlib
import html
import itertools
import json
import re
import shutil
import tomllib
import zlib
from pathlib import Path
from typing import Any

import drawing
import nbformat
from nbformat import NotebookNode

BOOK = Path(__file__).resolve().parent
PACKAGE = BOOK.parent / "vae_teach"
LANGUAGES = ("pt", "en")
PHRASES = tomllib.loads((BOOK / "words.toml").read_text(encoding="utf-8"))
# The pages beside the lessons, in reading order: before them, and after them.
BEFORE = ("syllabus", "install")
AFTER = (
    "playground",
    "your-model",
    "glossary",
    "references",
    "teaching",
    "api",
    "changes",
)
VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
Json = dict[str, Any]


class SourceError(Exception):
    """A notebook holds what a page cannot show."""


def say(name: str, language: str, /, **values: object) -> str:
    """Return what a page says, its gaps filled in."""
    text: str = PHRASES[name][language]
    return text.format(**values) if values else text


def prepare(
    work: Path, notebooks: Path, pages: Path, *, reference: bool = True
) -> None:
    """Write the sources of both languages into ``work``."""
    uses = first_uses(notebooks / "en")
    for language in LANGUAGES:
        folder = work / language
        (folder / "_static").mkdir(parents=True)
        shutil.copy(notebooks / "glossary.csv", folder)
        about: Json = {"images": {}, "lessons": [], "uses": uses}
        for path in sorted((notebooks / language).glob("[0-9][0-9]_*.ipynb")):
            about["lessons"].append(lesson(path, folder, language, about["images"]))
        texts = {
            page.name: page.read_text("utf-8")
            for page in (pages / language).glob("*.md")
        }
        if reference:
            texts["api.md"] = api_page(language)
        texts["index.md"] += tables_of_contents(about["lessons"], {*texts}, language)
        if "```{drawing}" in texts["index.md"]:
            about["drawing"] = store_drawing(folder, language)
        if "```{playground}" in texts.get("playground.md", ""):
            about["playground"] = store_playground(folder, language)
        out = {entry["name"] for entry in about["lessons"]}
        for name, text in texts.items():
            shown = without_lessons_to_come(text, out)
            (folder / name).write_text(shown, encoding="utf-8")
        (folder / "about.json").write_text(json.dumps(about), encoding="utf-8")


def store_drawing(folder: Path, language: str) -> Json:
    """Write the drawing explorer's state and still picture; return what it says."""
    content = json.loads(drawing.FILE.read_text(encoding="utf-8"))
    still = content["stills"][language]
    (folder / "drawing.png").write_bytes(base64.b64decode(still.pop("png")))
    state = {"drawing": drawing.alive(language, content)}
    write_state(folder / "_static" / "state-drawing.js", state)
    return dict(still)


def store_playground(folder: Path, language: str) -> Json:
    """Write the playground's state and still picture; return what it says."""
    from vae_teach import words
    from vae_teach.playground import Playground

    before = words.current_language()
    words.use_language(language)
    widget = Playground()
    png, alt, width = widget.still()
    words.use_language(before)
    (folder / "playground.png").write_bytes(png)
    state: Json = {
        "module": {"_esm": Playground._esm, "_css": Playground._css},
        "plain": {k: getattr(widget, k) for k in ("spec", "settings", "labels")},
        "bytes": {},
    }
    write_state(folder / "_static" / "state-playground.js", {"playground": state})
    return {"alt": alt, "width": width}


def write_state(file: Path, state: Json) -> None:
    """Write widgets' state as a script, since a page on a disk may not fetch."""
    text = json.dumps(state, separators=(",", ":"), ensure_ascii=False)
    file.write_text(f"courseWidgets.add({text});\n", encoding="utf-8")


def without_lessons_to_come(text: str, out: set[str]) -> str:
    """Leave the words of a link to a lesson that is not out, without the link."""

    def plain(link: re.Match[str]) -> str:
        return link[0] if link[2] in out else link[1]

    return re.sub(r"\[([^\]]+)\]\((\d\d_\w+)\.ipynb(?:#[\w-]*)?\)", plain, text)


def tables_of_contents(lessons: list[Json], files: set[str], language: str) -> str:
    """Return the (hidden) tables that give the pages their order in the menu."""
    there = {name.removesuffix(".md") for name in files}
    others = sorted(there - {"index", *BEFORE, *AFTER})
    parts = {
        "course": [name for name in BEFORE if name in there],
        "lessons": [f"{x['name'][:2]} · {x['title']} <{x['name']}>" for x in lessons],
        "reference": [*(name for name in AFTER if name in there), *others],
    }
    return "".join(
        "\n".join(
            ("\n```{toctree}", ":hidden:", f":caption: {caption}", "", *names, "```\n")
        )
        for caption, names in ((say(part, language), parts[part]) for part in parts)
        if names
    )


# --- the reference of the package -----------------------------------------------------


def modules() -> list[str]:
    """Return what the reference documents: modules, and packages by what they export.

    A module that its package exports from is not documented a second time.
    """
    names = []
    for file in sorted(PACKAGE.rglob("[a-z]*.py")) + sorted(
        PACKAGE.glob("*/__init__.py")
    ):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        package = (file.parent / "__init__.py").read_text(encoding="utf-8")
        exported = f"from vae_teach.{name} import" in package
        if file.stem == "__init__" or not exported:
            names.append(name)
    return sorted(names)


def api_page(language: str) -> str:
    """Return the reference of the package, one section per module."""
    title, intro = say("api-title", language), say("api-intro", language)
    text = f"(api)=\n# {title}\n\n{intro}\n"
    for name in modules():
        text += f"\n(api-{name.replace('.', '-')})=\n## `vae_teach.{name}`\n"
        text += f"\n```{{module-reference}} {name}\n```\n"
    return text


def first_uses(folder: Path) -> dict[str, str]:
    """Return the first lesson whose code uses each name of the package.

    Names are whole, such as ``vae_teach.densities.log_normal``.
    """
    uses: dict[str, str] = {}
    for path in sorted(folder.glob("[0-9][0-9]_*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for name in used_names(tree):
            uses.setdefault(name, path.stem)
    return uses


def used_names(tree: ast.Module) -> set[str]:
    """Return the whole names of the package's modules and members that code uses."""
    imported = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        and f"{node.module}.".startswith("vae_teach.")
        for alias in node.names
    }
    used = set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(name) if name in imported:
                used.add(imported[name])
            case ast.Attribute(ast.Name(name), member) if name in imported:
                used.add(f"{imported[name]}.{member}")
    return used


# --- a lesson -------------------------------------------------------------------------


def lesson(path: Path, folder: Path, language: str, images: Json) -> Json:
    """Write one notebook's source and its widgets' state; return what a table says."""
    notebook = nbformat.read(path, as_version=4)
    shown = Shown(path.stem, language, notebook, images)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = with_anchors(cell.source, cell.id)
        elif cell.cell_type == "code":
            shown.dress(cell)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, folder / path.name)
    shown.write(folder / "_static")
    return summary(notebook, path.stem)


def summary(notebook: NotebookNode, name: str) -> Json:
    """Return what a table of lessons says of one."""
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    whole = "\n\n".join(texts)
    title = re.search(r"(?m)^# (.+)$", whole)
    time = re.search(r"(?m)^\*\*(?:Time|Tempo)[:.]?\*\*[:.]?\s*(.+)$", whole)
    solutions = [c for c in notebook.cells if "solution" in c.metadata.get("tags", [])]
    return {
        "name": name,
        "title": title[1].strip() if title else name,
        "time": time[1].split(". ")[0].strip().rstrip(".") if time else "",
        "exercises": len(solutions),
    }


def with_anchors(text: str, key: str) -> str:
    """Mark a cell and its headings, so that both languages give them one address."""
    names = itertools.chain([key], (f"{key}-{k}" for k in itertools.count(2)))
    lines, fenced = [], False
    if not text.lstrip().startswith("#"):
        lines += [f"% place {next(names)}", ""]
    for line in text.splitlines():
        fenced ^= line.lstrip().startswith(("```", "~~~"))
        if re.match(r"#{1,6} ", line) and not fenced:
            lines += [f"% anchor {next(names)}", ""]
        lines.append(line)
    return "\n".join(lines)


class Shown:
    """What a page shows of one notebook's outputs.

    Args:
        name: the lesson's.
        language: the page's.
        notebook: its stored widgets are taken out of its metadata.
        images: filled with the alternative text of each image, by its checksum.
    """

    def __init__(
        self, name: str, language: str, notebook: NotebookNode, images: Json
    ) -> None:
        self.name, self.language, self.images = name, language, images
        stored = notebook.metadata.pop("widgets", {}).get(STATE, {})
        self.models, self.alive = stored.get("state", {}), dict[str, Json]()
        alive = (
            cell.id
            for cell in notebook.cells
            for output in cell.get("outputs", ())
            if self._kind(output) == "anywidget"
        )
        self.explorer = next(alive, None)

    def _kind(self, output: NotebookNode) -> str:
        """Return the JavaScript module of the widget that an output shows, if any."""
        view = output.get("data", {}).get(VIEW)
        return str(self.models[view["model_id"]]["model_module"]) if view else ""

    def dress(self, cell: NotebookNode) -> None:
        """Replace what needs a kernel, and remember what the images say."""
        for output in cell.outputs:
            if png := output.get("data", {}).get("image/png"):
                digest = hashlib.sha256(base64.b64decode(png)).hexdigest()
                about = output.metadata.get("image/png", {})
                self.images[digest] = about.get("alt", "")
        shown = (self._without_kernel(output, cell.id) for output in cell.outputs)
        cell.outputs = [*itertools.chain.from_iterable(shown)]
        tags = cell.metadata.get("tags", [])
        if "solution" in tags:  # folded as a whole, with its output
            cell.metadata["tags"] = [tag for tag in tags if tag != "hide-input"]

    def write(self, static: Path) -> None:
        """Write the state of the widgets that are alive on the page, once."""
        if self.alive:
            write_state(static / f"state-{self.name}.js", self.alive)

    def _without_kernel(self, output: NotebookNode, key: str) -> list[NotebookNode]:
        kind = self._kind(output)
        if not kind:
            return [output]
        identity = output.data.pop(VIEW)["model_id"]
        if "image/png" not in output.data:
            raise SourceError(
                f"{self.language}/{self.name}: [{key}] shows a widget without a "
                "picture, which does nothing on a page; let vae_teach.sliders.panel "
                "show it, and build the notebook"
            )
        if kind == "anywidget":
            note = say("explorer-still", self.language)
            return [self._place(identity), output, aside(note)]
        words = html.escape(output.metadata["image/png"]["alt"])
        note = say("sliders-still", self.language)
        if self.explorer:
            link = say("sliders-explorer", self.language, anchor=self.explorer)
            note = f"{note} {link}"
        return [output, new_output("text/html", f"<p>{words}</p>"), aside(note)]

    def _place(self, identity: str) -> NotebookNode:
        """Return where an explorer comes alive, and keep its state."""
        model = self.models[identity]
        stored = {b["path"][0]: b["data"] for b in model.get("buffers", ())}
        self.alive[identity] = {
            "module": {k: model["state"][k] for k in ("_esm", "_css")},
            "plain": {k: v for k, v in model["state"].items() if k[0] != "_"},
            "bytes": {name: packed(data) for name, data in stored.items()},
        }
        return new_output("text/html", place_of(self.name, identity))


def place_of(name: str, identity: str) -> str:
    """Return the HTML of the place where a widget of a state file comes alive."""
    return (
        f'<div class="course-widget" data-state="state-{name}.js" '
        f'data-model="{identity}"></div>'
    )


def new_output(kind: str, text: str) -> NotebookNode:
    """Return an output of one kind."""
    return nbformat.v4.new_output("display_data", data={kind: text})


def aside(text: str) -> NotebookNode:
    """Return a sentence of the page among a cell's outputs."""
    return new_output("text/markdown", text)


def packed(data: str) -> str:
    """Return bytes in base64 deflated: browsers inflate, and pages weigh less."""
    return base64.b64encode(zlib.compress(base64.b64decode(data), 9)).decode()
