"""What a lecturer hands out: the lessons without a single answer, and all of them.

Students get every lesson less its solutions and whatever is folded, which in this
course are answers; cells that wait for an answer have no output. Lecturers get the
lessons as they are, and the page for them. Both are archives, which depend on their
contents alone.
"""

import re
import zipfile
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from tools.pages import (
    LANGUAGES,
    ROOT,
    CourseError,
    code_cells,
    models,
    read_text,
    shown_models,
)
from vae_teach.exercises import exercises_of, is_solution
from vae_teach.words import CATALOGUE

PAGES = ROOT.parent / "book" / "pages"
STUDENTS, LECTURERS = "vae-students.zip", "vae-lecturers.zip"
FOLDED = re.compile(r"(?s)<details\b.*?</details>\s*")
# A sentence of the lessons that is not true of a copy without solutions.
PROMISE = re.compile(r" ?(?:The solutions are|As soluções estão) [^.]*\.")
LABEL = re.compile(r"(?m)^\([a-z0-9-]+\)=\n")
LINK = re.compile(r"\[([^\]]+)\]\(([^)#]*)(?:#[^)]*)?\)")
TELLS = 12  # letters of a line of code from which it gives an answer away


# --- the notebook of a student --------------------------------------------------------


def for_students(lesson: NotebookNode, language: str) -> NotebookNode:
    """Return a lesson without answers; raise CourseError where one would be left."""
    given = deepcopy(lesson)
    given.cells = [cell for cell in given.cells if not is_solution(cell)]
    for cell in given.cells:
        if cell.cell_type == "markdown":
            cell.source = PROMISE.sub("", FOLDED.sub("", cell.source)).rstrip()
    given.cells = [cell for cell in given.cells if cell.source]
    exercises = exercises_of(lesson)
    for cell in code_cells(given):
        if cell.id in exercises:
            refuse_answered(cell, language)
            cell.outputs, cell.execution_count = [], None
    given.metadata.pop("vae_teach", None)  # hashes of the whole lesson
    for model in models(given).keys() - shown_models(given).keys():
        del models(given)[model]
    for what in answers_left(lesson, given):
        raise CourseError(f"an answer would be handed out: {what}")
    return given


def refuse_answered(cell: NotebookNode, language: str) -> None:
    """Raise CourseError where a cell for an answer already holds one."""
    said = [output.get("data", {}).get("text/plain") for output in cell.outputs]
    if said != [f"✘ {CATALOGUE['check-empty'][language]}"]:
        raise CourseError(f"[{cell.id}] is no empty exercise, its output is {said}")


def answers_left(lesson: NotebookNode, given: NotebookNode) -> Iterator[str]:
    """Yield what a copy still gives away, wherever in the file it stands.

    A question may quote some lines of its answer, as those of a function with a bug do.
    """
    asked = {line for cell in code_cells(given) for line in lines(cell.source)}
    questions, every = {cell.source for cell in given.cells}, {*texts(given)}
    for answer in filter(is_solution, lesson.cells):
        secret = [x for x in lines(answer.source) if len(x) > TELLS and x not in asked]
        for text in every:
            found = [line for line in secret if line in text]
            if found and not (text in questions and 2 * len(found) < len(secret)):
                yield found[0]
    for text in every:
        yield from re.findall(r"\bsolution_\w+|<details\b", text)
    yield from (cell.id for cell in filter(is_solution, given.cells))


def lines(code: str) -> list[str]:
    """Return the lines of code as somebody would recognize them."""
    return [line.partition("  #")[0].strip() for line in code.splitlines()]


def texts(content: Any) -> Iterator[str]:
    """Yield every text in JSON: sources, outputs, attachments, metadata and names."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict):
        for name, value in content.items():
            yield name
            yield from texts(value)
    elif isinstance(content, list):
        for value in content:
            yield from texts(value)


# --- the archives ---------------------------------------------------------------------


def archive(path: Path, folder: str, files: dict[str, str]) -> None:
    """Write a zip that depends on its contents alone, with all in one folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as zipped:
        for name, text in sorted(files.items()):
            entry = zipfile.ZipInfo(f"{folder}/{name}", (1980, 1, 1, 0, 0, 0))
            entry.external_attr, entry.compress_type = 0o644 << 16, zipfile.ZIP_DEFLATED
            zipped.writestr(entry, text.encode())


def as_read_alone(page: str, names: set[str]) -> str:
    """Return a page of the book as Markdown that is read beside the lessons."""

    def plain(link: re.Match[str]) -> str:
        is_there = link[2] in names or link[2].startswith("https:")
        return link[0] if is_there else link[1]

    return LINK.sub(plain, LABEL.sub("", page))


def hand_out(root: Path, out: Path, pages: Path = PAGES) -> list[Path]:
    """Write both archives of each language; return their files.

    Raises CourseError where a lesson cannot be read, or an answer would be handed out.
    """
    written = []
    for language in LANGUAGES:
        whole, empty = dict[str, str](), dict[str, str]()
        for path in sorted((root / language).glob("[0-9][0-9]_*.ipynb")):
            whole[path.name] = read_text(path)
            try:
                lesson = nbformat.reads(whole[path.name], as_version=4)
                given = for_students(lesson, language)
            except (CourseError, ValueError, KeyError, AttributeError) as error:
                raise CourseError(f"{language}/{path.name}: {error}") from None
            empty[path.name] = nbformat.writes(given) + "\n"
        readme = CATALOGUE["handout-readme"][language].lstrip()
        if (page := pages / language / "teaching.md").exists():
            whole[page.name] = as_read_alone(read_text(page), {*whole})
        for name, files in ((STUDENTS, empty), (LECTURERS, whole)):
            files["README.md"] = readme
            archive(out / language / name, f"vae-{language}", files)
            written.append(out / language / name)
    return written
