"""The table of marks: a row an answer, as CSV that a spreadsheet may open safely."""

import csv
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from vae_teach.collect.reading import Finding, Handed
from vae_teach.collect.running import JUDGED, agree
from vae_teach.words import current_language, say

SEPARATORS = {"pt": ";", "en": ","}  # what a spreadsheet in the language expects
FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]")
COLUMNS = ("who", "file", "lesson", "exercise", "state", "hint", "when")
RUN_COLUMNS = ("rerun", "rerun-hint", "note")


@dataclass(frozen=True)
class Mark:
    """One row: an answer, or a notebook that was not read (``note`` says why)."""

    who: str
    file: str
    lesson: str = ""
    exercise: str = ""
    recorded: Finding | None = None
    rerun: Finding | None = None
    note: str = ""


def marks(
    handed: Handed,
    recorded: dict[str, Finding],
    found: dict[str, Finding] | None = None,
) -> Iterator[Mark]:
    """Yield a mark for each exercise of the notebook's lesson, in their order."""
    about = (handed.who, handed.file, handed.lesson.name)
    for key in handed.lesson.exercises:
        name, said = key.removeprefix("exercise-"), recorded[key]
        run = None if found is None else found[key]
        note = say("collect-differs") if run and differ(said, run) else ""
        yield Mark(*about, name, said, run, note)


def differ(recorded: Finding, found: Finding) -> bool:
    """Return whether a record claims what a run, which came to a verdict, denies."""
    claims = recorded.state != "none" and found.state in JUDGED
    return claims and not agree(recorded, found)


def table(rows: Iterable[Mark]) -> str:
    """Return the rows as CSV in the language in use, with its words and separator."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=SEPARATORS[current_language()])
    writer.writerow(say(f"collect-{name}") for name in (*COLUMNS, *RUN_COLUMNS))
    for row in rows:
        cells = [row.who, row.file, row.lesson, row.exercise]
        cells += [*told(row.recorded), row.recorded.when if row.recorded else ""]
        cells += [*told(row.rerun), row.note]
        writer.writerow(map(harmless, cells))
    return text.getvalue()


def told(found: Finding | None) -> tuple[str, str]:
    """Return the word for a state, and the key of the hint."""
    return ("", "") if found is None else (say(f"state-{found.state}"), found.hint)


def harmless(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula, in one line."""
    text = text.encode("utf-8", "replace").decode()  # names of files may be any bytes
    text = "".join(c if c.isprintable() else " " for c in text)
    return f"'{text}" if FORMULA.match(text) else text
