"""Reading notebooks of strangers: as JSON, up to a size, and nothing of them runs."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vae_teach.copies import Notebook, course_around, read
from vae_teach.exercises import Exercise, code_cells, exercises_of, key_of
from vae_teach.records import Record, records_of
from vae_teach.words import LANGUAGES, say

MOST_BYTES = 16 * 2**20  # the largest lesson has a tenth of it, answers included
UNANSWERED = "check-empty"  # the hint where no answer was written


@dataclass(frozen=True)
class Lesson:
    """A lesson of the course: its cells' keys, and its exercises by key, in order."""

    name: str
    keys: frozenset[str]
    exercises: dict[str, Exercise]


@dataclass(frozen=True)
class Finding:
    """What is known of one answer, and since when.

    ``state`` is "right", "wrong", "empty" (no answer yet) or "none" (no verdict); of an
    answer that was run also "stopped", "time" or "memory". ``hint`` is a key of the
    catalogue.
    """

    state: str
    hint: str = ""
    when: str = ""


@dataclass(frozen=True)
class Handed:
    """One notebook that was handed in, and of which lesson it is."""

    who: str
    file: str
    lesson: Lesson
    notebook: Notebook


def lessons(course: Path | None = None) -> list[Lesson]:
    """Return the lessons that the package brings, or those around it in a clone.

    Both languages have the same cells, so that one is read. Raises ValueError for a
    lesson that cannot be read.
    """
    folder = (course or course_around()[0]) / "notebooks" / LANGUAGES[0]
    found = []
    for path in sorted(folder.glob("[0-9][0-9]_*.ipynb")):
        notebook = read(path)
        keys = frozenset(key_of(cell) for cell in notebook["cells"])
        found.append(Lesson(path.stem, keys, exercises_of(notebook)))
    return found


def find(folder: Path) -> tuple[list[Path], int]:
    """Return the notebooks below a folder, and how many other files there are.

    Links to folders are not followed; what is hidden, as Jupyter's checkpoints, is left
    out.
    """
    notebooks, others = list[Path](), 0
    for place, inside, names in os.walk(folder):
        inside[:] = sorted(name for name in inside if name[0] != ".")
        for name in sorted(name for name in names if name[0] != "."):
            if name.lower().endswith(".ipynb"):
                notebooks.append(Path(place, name))
            else:
                others += 1
    return sorted(notebooks), others


def who_handed(path: Path, folder: Path) -> str:
    """Return who handed a file in: the first folder's name, or that of the file."""
    parts = path.relative_to(folder).parts
    return parts[0] if len(parts) > 1 else path.stem


def read_handed(path: Path, folder: Path, course: list[Lesson]) -> Handed:
    """Return a notebook that was handed in, unrun.

    Raises ValueError, in one sentence, where it is too large, no plain file, no
    notebook, or not of this course.
    """
    file = str(path.relative_to(folder))
    try:
        about = path.lstat()
        if not stat.S_ISREG(about.st_mode):  # a link leads anywhere, a pipe never ends
            raise ValueError(say("collect-no-file", file=file))
        if about.st_size > MOST_BYTES:
            size = about.st_size / 2**20
            raise ValueError(say("collect-huge", file=file, size=size))
    except OSError:
        raise ValueError(say("collect-broken", file=file)) from None
    try:
        notebook = read(path)
    except (ValueError, MemoryError):  # the one says which other lessons open
        raise ValueError(say("collect-broken", file=file)) from None
    lesson = lesson_of(notebook, course)
    if lesson is None:
        raise ValueError(say("collect-foreign", file=file))
    return Handed(who_handed(path, folder), file, lesson, notebook)


def lesson_of(notebook: Notebook, course: list[Lesson]) -> Lesson | None:
    """Return the lesson with most cells in common, or None without any exercise."""
    keys = {key_of(cell) for cell in notebook["cells"]}
    best = max(course, key=lambda lesson: len(lesson.keys & keys), default=None)
    is_one = best is not None and keys & best.exercises.keys()
    return best if is_one else None


def recorded(handed: Handed) -> dict[str, Finding]:
    """Return what the notebook's own records say of each exercise, by its key.

    The last record of an exercise's check counts, in whichever cell it stands: a reader
    may ask for a verdict in a cell of their own. Those below solutions do not count.
    """
    last = dict[str, Record]()
    for cell in code_cells(handed.notebook):
        last |= {record.check: record for record in records_of(cell.get("outputs"))}
    found = dict[str, Finding]()
    for key, exercise in handed.lesson.exercises.items():
        record = last.get(f"{exercise.module}.{exercise.check}")
        found[key] = finding(record)
    return found


def finding(record: Record | None) -> Finding:
    """Return what a record says of an answer."""
    if record is None:
        return Finding("none")
    if record.right:
        return Finding("right", "", record.when)
    state = "empty" if record.hint == UNANSWERED else "wrong"
    return Finding(state, record.hint if state == "wrong" else "", record.when)


def read_all(
    folder: Path, course: list[Lesson]
) -> Iterator[tuple[Path, Handed | ValueError]]:
    """Yield each notebook below a folder, or the reason why it is skipped."""
    for path in find(folder)[0]:
        try:
            yield path, read_handed(path, folder, course)
        except ValueError as reason:
            yield path, reason
