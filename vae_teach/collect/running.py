"""Running a notebook anew: in a fresh kernel, for so long, and with so much memory.

The limits are watched from outside, over the whole tree of processes. They keep a slip
from stopping the lecturer's computer. They are no walls: while a notebook runs, it may
do whatever its user may, as read files, send them away, or start what outlives it.
"""

import json
import os
import subprocess
import symtable
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any

import psutil

from vae_teach.collect.reading import Finding, Handed, finding
from vae_teach.copies import Notebook
from vae_teach.exercises import Exercise, code_cells, key_of, source_of
from vae_teach.records import parsed

JUDGED = ("right", "wrong", "empty")  # what only a run up to the verdict can say
LOOK_EVERY = 0.2  # seconds
KERNEL = [sys.executable, "-m", "vae_teach.collect.kernel"]
MOST_ANSWER = 2**20  # bytes that are read of what the process tells
Cells = list[tuple[str, str]]  # keys and sources


@dataclass(frozen=True)
class Limits:
    """For one run of one notebook: seconds, and bytes of memory."""

    seconds: float = 1200.0
    bytes: float = 4 * 2**30


def rerun(
    handed: Handed, recorded: dict[str, Finding], limits: Limits
) -> dict[str, Finding]:
    """Return what each answer is worth when it is run anew, by the exercise's key.

    First only the cells that the exercises need are run. What then is not right, and
    not as recorded, is run once more from the first cell: nobody is told wrong because
    a cell that matters was left out. Where that run does not come to a verdict, within
    its limits, what the first one found stands.
    """
    exercises = handed.lesson.exercises
    found = run(needed(handed.notebook, exercises), exercises, limits)
    doubtful = {k: e for k, e in exercises.items() if doubt(recorded[k], found[k])}
    if doubtful:
        every = [(key_of(c), source_of(c)) for c in code_cells(handed.notebook)]
        whole = run(every, doubtful, limits)
        found |= {k: each for k, each in whole.items() if each.state in JUDGED}
    return found


def doubt(recorded: Finding, found: Finding) -> bool:
    """Return whether a cell that was left out could be why an answer is not right."""
    could_be = found.state in ("wrong", "empty", "stopped")
    return could_be and not agree(recorded, found)


def agree(recorded: Finding, found: Finding) -> bool:
    """Return whether a record says what a run says; no record is like no answer."""
    silent = ("none", "empty")
    if recorded.state in silent:
        return found.state in silent
    return (recorded.state, recorded.hint) == (found.state, found.hint)


# --- which cells ----------------------------------------------------------------------


def needed(notebook: Notebook, exercises: dict[str, Exercise]) -> Cells:
    """Return the cells of the exercises, and those that define what they use."""
    cells = [(key_of(cell), source_of(cell)) for cell in code_cells(notebook)]
    names = [names_of(source) for _, source in cells]
    used = {name for each in exercises.values() for name in names_of(each.call)[1]}
    found = kept = {at for at, (key, _) in enumerate(cells) if key in exercises}
    while True:  # a function may use what is defined only after it
        used |= {name for at in found for name in names[at][1]}
        defines = {at for at, (defined, _) in enumerate(names) if defined & used}
        found = defines - kept
        if not found:
            return [cells[at] for at in sorted(kept)]
        kept = kept | found


def names_of(code: str) -> tuple[set[str], set[str]]:
    """Return the global names that code defines, and those that it uses.

    Code that is no plain Python, as a cell with magics, has none.
    """
    try:
        scopes = [symtable.symtable(code, "cell", "exec")]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set(), set()
    defined = {s.get_name() for s in scopes[0].get_symbols() if s.is_local()}
    used = set[str]()
    for scope in scopes:  # which grows
        for symbol in scope.get_symbols():
            is_global = scope is scopes[0] or symbol.is_global()
            if symbol.is_referenced() and is_global:
                used.add(symbol.get_name())
        scopes += scope.get_children()
    return defined, used


# --- the process ----------------------------------------------------------------------


def run(
    cells: Cells, exercises: dict[str, Exercise], limits: Limits
) -> dict[str, Finding]:
    """Run cells in a fresh kernel; return what is known of each exercise after it.

    An exercise whose verdict did not come has the reason as its state.
    """
    asks = {key: exercise.asks for key, exercise in exercises.items()}
    job = json.dumps({"cells": cells, "asks": asks}).encode()
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as told:
        given.write(job)
        given.seek(0)
        reason = watched(KERNEL, given, told, limits)
        told.seek(0)
        answers = answers_in(told.read(MOST_ANSWER))
    return {
        key: judged(answers, key, exercise, reason)
        for key, exercise in exercises.items()
    }


def answers_in(told: bytes) -> dict[str, Any]:
    """Return the answers of the process, by the exercise's key; a torn line is none."""
    answers = dict[str, Any]()
    for line in told.splitlines():
        try:
            key, answer = json.loads(line)
        except (ValueError, TypeError):
            continue
        answers[str(key)] = answer
    return answers


def judged(
    answers: dict[str, Any], key: str, exercise: Exercise, reason: str
) -> Finding:
    """Return what one answer of the process says; ``reason`` where there is none."""
    if key not in answers:
        return Finding(reason or "stopped")
    try:
        record = parsed(answers[key])
    except (ValueError, OverflowError):
        return Finding("stopped")
    is_its_own = record.check == f"{exercise.module}.{exercise.check}"
    return finding(record) if is_its_own else Finding("stopped")


def watched(
    command: Sequence[str], given: IO[bytes], told: IO[bytes], limits: Limits
) -> str:
    """Run a process to its end or to a limit; return "", "time" or "memory".

    Whatever it started is ended with it, as far as it can still be found.
    """
    quiet = {"TQDM_DISABLE": "1"}
    process = subprocess.Popen(
        command,
        stdin=given,
        stdout=told,
        stderr=subprocess.DEVNULL,
        env=os.environ | quiet,
        start_new_session=True,  # so that Ctrl+C reaches only the one who watches
    )
    tree, end = {psutil.Process(process.pid)}, time.monotonic() + limits.seconds
    try:
        while process.poll() is None:
            tree |= grown(tree)
            if time.monotonic() > end:
                return "time"
            if memory_of(tree) > limits.bytes:
                return "memory"
            time.sleep(LOOK_EVERY)
        return ""
    finally:
        end_all(tree | grown(tree))
        process.wait()


def grown(tree: set[psutil.Process]) -> set[psutil.Process]:
    """Return the children of processes, also of those that have left their parent."""
    found = set[psutil.Process]()
    for process in tree:
        try:
            found |= {*process.children(recursive=True)}
        except psutil.Error:
            continue
    return found


def memory_of(tree: set[psutil.Process]) -> int:
    """Return the bytes of memory that processes hold; the dead hold none."""
    total = 0
    for process in tree:
        try:
            total += process.memory_info().rss
        except psutil.Error:
            continue
    return total


def end_all(tree: set[psutil.Process]) -> None:
    """End processes; those that have ended, or are another's by now, are left alone."""
    for process in tree:
        try:
            process.kill()  # psutil looks whether the number still is this process's
        except psutil.Error:
            continue
