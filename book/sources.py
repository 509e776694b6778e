"""From notebooks and prose to what Sphinx reads: one folder per language.

A notebook keeps its text, code and outputs. What would need a kernel is replaced by
what a page can show: the explorer by a place where it comes alive from its stored
state, sliders by their last picture and a sentence that says where they move.
"""

import base64
import hashlib
import html
import io
import itertools
import json
import math
import re
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
from nbformat import NotebookNode
from phrases import AFTER, BEFORE, LANGUAGES, number, phrase
from PIL import Image

VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
GRID = 9
"""Points along each side of the still picture of an explorer."""
Json = dict[str, Any]


class SourceError(Exception):
    """A notebook holds what a page cannot show."""


def prepare(
    work: Path, notebooks: Path, pages: Path, *, reference: bool = True
) -> None:
    """Write the sources of both languages into ``work``."""
    for language in LANGUAGES:
        folder = work / language
        (folder / "_static").mkdir(parents=True)
        shutil.copy(notebooks / "glossary.csv", folder)
        about: Json = {"images": {}, "lessons": []}
        for path in sorted((notebooks / language).glob("[0-9][0-9]_*.ipynb")):
            about["lessons"].append(lesson(path, folder, language, about["images"]))
        texts = {
            page.name: page.read_text("utf-8") for page in pages_of(pages, language)
        }
        if reference:
            texts["api.md"] = api_page(language)
        out = {entry["name"] for entry in about["lessons"]}
        for name, text in texts.items():
            text = without_lessons_to_come(text, out)
            if name == "index.md":
                entries = [
                    f"{x['name'][:2]} · {x['title']} <{x['name']}>"
                    for x in about["lessons"]
                ]
                there = {name.removesuffix(".md") for name in texts}
                text += tables_of_contents(entries, there, language)
            (folder / name).write_text(text, encoding="utf-8")
        (folder / "about.json").write_text(json.dumps(about), encoding="utf-8")


def pages_of(pages: Path, language: str) -> list[Path]:
    """Return the pages of prose of one language."""
    return sorted((pages / language).glob("*.md"))


def without_lessons_to_come(text: str, out: set[str]) -> str:
    """Leave the words of a link to a lesson that is not out, without the link."""

    def plain(link: re.Match[str]) -> str:
        return link[0] if link[2] in out else link[1]

    return re.sub(r"\[([^\]]+)\]\((\d\d_\w+)\.ipynb(?:#[\w-]*)?\)", plain, text)


def tables_of_contents(lessons: list[str], there: set[str], language: str) -> str:
    """Return the (hidden) tables that give the pages their order in the menu."""
    parts = {
        "course": [name for name in BEFORE if name in there],
        "lessons": lessons,
        "reference": [name for name in AFTER if name in there],
    }
    known = {"index", *BEFORE, *AFTER}
    parts["reference"] += sorted(there - known)
    text = ""
    for part, names in parts.items():
        if names:
            entries = "\n".join(names)
            caption = phrase(part, language)
            text += (
                f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{entries}\n```\n"
            )
    return text


def api_page(language: str) -> str:
    """Return the reference of the package, one section per module that it has."""
    package = Path(__file__).resolve().parent.parent / "vae_teach"
    names = sorted(path.stem for path in package.glob("[a-z]*.py"))
    title, intro = phrase("api-title", language), phrase("api-intro", language)
    text = f"(api)=\n# {title}\n\n{intro}\n"
    for name in names:
        text += f"\n(api-{name})=\n## `vae_teach.{name}`\n"
        text += f"\n```{{module-reference}} {name}\n```\n"
    return text


# --- a lesson -------------------------------------------------------------------------


def lesson(path: Path, folder: Path, language: str, images: Json) -> Json:
    """Write one notebook's source and its widgets' state; return what a table says."""
    notebook = nbformat.read(path, as_version=4)
    models = notebook.metadata.pop("widgets", {}).get(STATE, {}).get("state", {})
    shown = Shown(path.stem, language, models, images)
    shown.explorer = next((key for key, _ in explorers(notebook, models)), None)
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


def explorers(notebook: NotebookNode, models: Json) -> Iterator[tuple[str, str]]:
    """Yield each widget that lives without a kernel: its cell's key and its model."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            view = output.get("data", {}).get(VIEW)
            if view and models[view["model_id"]]["model_module"] == "anywidget":
                yield cell.id, view["model_id"]


class Shown:
    """What a page shows of one notebook's outputs.

    Args:
        name: the lesson's.
        language: the page's.
        models: the stored state of its widgets.
        images: filled with the alternative text of each image, by its checksum.
    """

    def __init__(self, name: str, language: str, models: Json, images: Json) -> None:
        self.name, self.language, self.models = name, language, models
        self.images, self.alive = images, dict[str, Json]()
        self.explorer: str | None = None

    def dress(self, cell: NotebookNode) -> None:
        """Replace what needs a kernel, and remember what the images say."""
        outputs = []
        for output in cell.outputs:
            if VIEW in output.get("data", {}):
                outputs += self._still(output.data[VIEW]["model_id"], cell.id)
                continue
            if png := output.get("data", {}).get("image/png"):
                alt = output.metadata.get("image/png", {}).get("alt", "")
                self._describe(base64.b64decode(png), alt)
            outputs.append(output)
        cell.outputs = outputs
        tags = cell.metadata.get("tags", [])
        if "solution" in tags:  # folded as a whole, with its output
            cell.metadata["tags"] = [tag for tag in tags if tag != "hide-input"]

    def write(self, static: Path) -> None:
        """Write the state of the widgets that are alive on the page, once."""
        if self.alive:
            state = json.dumps(self.alive, separators=(",", ":"), ensure_ascii=False)
            file = static / f"state-{self.name}.js"
            file.write_text(f"courseWidgets.add({state});\n", encoding="utf-8")

    def _describe(self, png: bytes, alt: str) -> None:
        self.images[hashlib.sha256(png).hexdigest()] = alt

    def _picture(self, png: bytes, alt: str, width: int, height: int) -> NotebookNode:
        self._describe(png, alt)
        data = {"image/png": base64.b64encode(png).decode(), "text/plain": alt}
        size = {"width": width, "height": height}
        return nbformat.v4.new_output(
            "display_data", data=data, metadata={"image/png": size}
        )

    def _still(self, identity: str, key: str) -> list[NotebookNode]:
        model = self.models[identity]
        if model["model_module"] == "anywidget":
            return self._explorer(identity)
        if "vae-sliders" in model["state"].get("_dom_classes", ()):
            return self._sliders(identity)
        raise SourceError(
            f"{self.language}/{self.name}: [{key}] shows a {model['model_name']}, "
            "which does nothing on a page; let vae_teach.sliders.panel show it"
        )

    # --- sliders: the last picture, and where they move

    def _sliders(self, identity: str) -> list[NotebookNode]:
        parts = [self.models[found] for found in self._descendants(identity)]
        (image,) = [part for part in parts if part["model_name"] == "ImageModel"]
        png = buffers(image)["value"]
        width, height = Image.open(io.BytesIO(png)).size
        values = [self._value(part) for part in parts]
        at = "; ".join(filter(None, values))
        said = [
            html.unescape(re.sub(r"<[^>]+>", "", part["state"]["value"]))
            for part in parts
            if 'role="status"' in str(part["state"].get("value"))
        ]
        plain = re.sub(r"[$\\{}_]", "", at)
        alt = said[0] if said else phrase("sliders-alt", self.language, values=plain)
        where = phrase("sliders-at", self.language, values=at) if at else ""
        note = phrase("sliders-still", self.language, at=where)
        if self.explorer:
            note += " " + phrase(
                "sliders-explorer", self.language, anchor=self.explorer
            )
        shown = image["state"].get("layout", "").removeprefix("IPY_MODEL_")
        layout = self.models.get(shown, {"state": {}})["state"]
        asked = re.fullmatch(r"([\d.]+)px", layout.get("width") or "")
        scale = float(asked[1]) / width if asked else 1.0
        return [
            self._picture(png, alt, round(width * scale), round(height * scale)),
            aside(note),
        ]

    def _value(self, part: Json) -> str:
        """Return what one control is set to, such as "$z_1$ = 0.0"."""
        state, kind = part["state"], part["model_name"]
        name = state.get("description", "").strip()
        if kind in ("FloatSliderModel", "IntSliderModel"):
            places = re.search(r"\.(\d)f", state.get("readout_format", ""))
            decimals = int(places[1]) if places else 0
            return f"{name} = {number(state['value'], self.language, decimals)}"
        if kind == "SelectionSliderModel":
            return f"{name} = {state['_options_labels'][state['index']]}"
        return ""

    def _descendants(self, identity: str) -> Iterator[str]:
        for child in self.models[identity]["state"].get("children", ()):
            found = child.removeprefix("IPY_MODEL_")
            yield found
            yield from self._descendants(found)

    # --- the explorer: its state, and a picture until it is alive

    def _explorer(self, identity: str) -> list[NotebookNode]:
        model = self.models[identity]
        kept = {k: v for k, v in model["state"].items() if k in ("_esm", "_css")}
        plain = {k: v for k, v in model["state"].items() if not k.startswith("_")}
        coded = {name: packed(data) for name, data in buffers(model).items()}
        self.alive[identity] = {"module": kept, "plain": plain, "bytes": coded}
        png, spec = grid(model), plain["spec"]
        side = Image.open(io.BytesIO(png)).size[0]
        extent, many = spec["extent"], spec["layers"][0][0] > 1
        alt = phrase(
            "explorer-alt",
            self.language,
            side=GRID,
            across="z1",
            up="z2" if many else "z1",
            low=number(-extent, self.language),
            high=number(extent, self.language),
        )
        place = (
            f'<div class="course-widget" data-state="state-{self.name}.js" '
            f'data-model="{identity}"></div>'
        )
        alive = nbformat.v4.new_output("display_data", data={"text/html": place})
        note = aside(phrase("explorer-still", self.language, count=GRID**2))
        return [alive, self._picture(png, alt, side, side), note]


def aside(text: str) -> NotebookNode:
    """Return a sentence of the page among a cell's outputs."""
    data = {"text/markdown": text}
    return nbformat.v4.new_output("display_data", data=data)


def buffers(model: Json) -> dict[str, bytes]:
    """Return the bytes that a widget stored, by the name of the trait."""
    stored = model.get("buffers", ())
    return {b["path"][0]: base64.b64decode(b["data"]) for b in stored}


def packed(data: bytes) -> str:
    """Return bytes as text, deflated: browsers inflate, and pages weigh less."""
    return base64.b64encode(zlib.compress(data, 9)).decode()


def grid(model: Json) -> bytes:
    """Return a PNG of what an explorer's decoder draws over its plane."""
    spec, stored = model["state"]["spec"], buffers(model)["weights"]
    halves, layers, side = np.frombuffer(stored, "<f2"), spec["layers"], spec["side"]
    if len(halves) != sum(n * m + m for n, m in layers):
        raise SourceError(
            "the explorer stores its weights in a new way; teach it to grid"
        )
    line = np.linspace(-spec["extent"], spec["extent"], GRID)
    h = np.zeros((GRID**2, layers[0][0]))  # (points, L)
    h[:, 0] = np.tile(line, GRID)
    h[:, -1 if layers[0][0] < 3 else 1] = np.repeat(line[::-1], GRID)
    at = 0
    for depth, (inputs, outputs) in enumerate(layers):
        weight = halves[at : at + inputs * outputs].astype(float)
        at += inputs * outputs
        bias = halves[at : at + outputs].astype(float)
        at += outputs
        h = h @ weight.reshape(outputs, inputs).T + bias
        h = np.maximum(h, 0) if depth < len(layers) - 1 else 1 / (1 + np.exp(-h))
    rows = h.reshape(GRID, GRID, side, side).transpose(0, 2, 1, 3)
    levels = np.uint8(np.round(255 * rows.reshape(GRID * side, GRID * side)))
    file = io.BytesIO()
    few = Image.fromarray(levels).quantize(16)
    few.resize((math.ceil(1.5 * GRID * side),) * 2).save(file, "PNG", optimize=True)
    return file.getvalue()
