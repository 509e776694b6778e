"""The record that a verdict leaves in a notebook, beside its sentence.

``vae_teach.checks.verdicts`` writes it, ``python -m vae_teach.checks collect`` reads
it. Front ends do not know the kind of the record, and show the sentence as ever.
Committed notebooks hold none: a record says when, which a lesson must not.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from vae_teach.words import CATALOGUE

KIND = "application/vnd.vae-teach.verdict+json"


@dataclass(frozen=True)
class Record:
    """Which check was asked, such as "tour.kl", what it found, and when.

    ``hint`` is the key of the sentence that was said, in the catalogue.
    """

    check: str
    right: bool
    hint: str
    when: str

    def as_json(self) -> dict[str, Any]:
        """Return what a notebook stores."""
        return {"version": 1, **vars(self)}


def now() -> str:
    """Return the time, to the second and in UTC, as a record holds it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def parsed(content: Any) -> Record:
    """Return a stored record. Raises ValueError for anything else.

    What a reader stored may be of any kind; a record that is returned holds a phrase of
    the catalogue and a time, and no text of anybody's.
    """
    if not isinstance(content, dict) or content.get("version") != 1:
        raise ValueError("no record")
    check, right, hint = (content.get(name) for name in ("check", "right", "hint"))
    if not isinstance(check, str) or not isinstance(right, bool):
        raise ValueError("no record")
    if not isinstance(hint, str) or hint not in CATALOGUE:
        raise ValueError("no record")
    when = datetime.fromisoformat(str(content.get("when"))).astimezone(UTC)
    return Record(check, right, hint, when.isoformat(timespec="seconds"))


def records_of(outputs: Any) -> list[Record]:
    """Return the records among a cell's stored outputs, and nothing else of them."""
    found = []
    for output in outputs if isinstance(outputs, list) else ():
        data = output.get("data") if isinstance(output, dict) else None
        if isinstance(data, dict) and KIND in data:
            try:
                found.append(parsed(data[KIND]))
            except (ValueError, OverflowError):  # a time outside of the calendar
                continue
    return found


def remove_records(outputs: list[Any]) -> None:
    """Take the records out of outputs that are to be the same on another day."""
    for output in outputs:
        output.get("data", {}).pop(KIND, None)
