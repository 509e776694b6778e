"""What students hand in: read without running it, or run anew within limits.

``reading`` looks at files, ``running`` runs one in a process that it watches,
``kernel`` is that process, ``table`` writes what was found. The command is
``python -m vae_teach.checks collect``.
"""

from vae_teach.collect.reading import (
    Finding,
    Handed,
    Lesson,
    find,
    lessons,
    read_handed,
)
from vae_teach.collect.running import Limits, rerun
from vae_teach.collect.table import Mark, marks, table

__all__ = [
    "Finding",
    "Handed",
    "Lesson",
    "Limits",
    "Mark",
    "find",
    "lessons",
    "marks",
    "read_handed",
    "rerun",
    "table",
]
