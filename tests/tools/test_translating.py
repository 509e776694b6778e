"""The two languages: what differs is named, and what was accepted is kept."""

import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from small_lesson import NAME, change_built, command, edit, problems

PAIR_BREAKS = {  # name: (language, old, new, the line that check must print)
    "a cell missing": (
        "en",
        'key="places"',
        'key="spots"',
        r"\[places\] .* missing in",
    ),
    "tags": (
        "en",
        'key="slider"',
        'key="slider" tags=["x"]',
        r"\[slider\] type or tags",
    ),
    "type": (
        "en",
        '%% key="bars"',
        '%% [markdown] key="bars"',
        r"\[bars\] type or tag",
    ),
    "code": ("en", "6 * 7", "7 * 6", r"\[setup\] the code differs between"),
    "a comment": ("pt", "print(6", "# Sim\nprint(6", r"\[setup\] 2 comments in Port"),
    "formula": ("en", "p(x, z)", "q(x, z)", r"\[title\] formulas differ"),
    "heading": ("en", "# # ", "# ## ", r"\[title\] heading levels differ"),
    "link": ("pt", "01_next", "02_next", r"\[title\] links differ .*02_next"),
    "image": ("pt", "line.png", "point.png", r"\[title\] images differ"),
    "citation": ("pt", "2013", "2014", r"\[title\] citations differ .*2014"),
    "not accepted pt": (
        "pt",
        "não.",
        "nunca.",
        r"\[title\] the Portuguese text changed",
    ),
    "not accepted en": (
        "en",
        "does not",
        "never",
        r"\[title\] the English text changed",
    ),
    "comment unread": (
        "en",
        "lesson uses",
        "uses",
        r"\[setup\] the English text changed",
    ),
}


@pytest.mark.parametrize("case", PAIR_BREAKS)
def test_what_differs_is_named(case: str, course: Path) -> None:
    language, old, new, line = PAIR_BREAKS[case]
    edit(course, language, old, new)
    assert re.search(line, problems(course)), problems(course)


def english_alt(nb: nbformat.NotebookNode) -> None:
    nb.cells[2].outputs[0].metadata = {"image/png": {"alt": "en-line"}}


OTHER_BREAKS: dict[str, tuple[Callable[[Path], object], str]] = {
    "one alt": (
        lambda root: change_built(root, english_alt),
        r"\[figure\] 'en-line' describes an image in both",
    ),
    "no lock": (
        lambda root: (root / "translations.lock").unlink(),
        r"\[title\] the translation was never accepted",
    ),
    "cells exchanged": (
        lambda root: (
            edit(root, "en", 'key="bars"', 'key="figure"')
            or edit(root, "en", 'key="figure"', 'key="bars"')
        ),
        r"\[figure\] in English bars stands here",
    ),
    "key gone": (
        lambda root: edit(root, "both", '[markdown] key="title"', '[raw] key="title"'),
        r"\[title\] accepted, but no longer there",
    ),
}


@pytest.mark.parametrize("case", OTHER_BREAKS)
def test_what_was_spoilt_is_named(case: str, course: Path) -> None:
    spoil, line = OTHER_BREAKS[case]
    spoil(course)
    assert re.search(line, problems(course)), problems(course)
    assert command(course, "check") == 1


# --- accept -------------------------------------------------------------------------


def test_accept_takes_named_keys_and_forgets_those_gone(course: Path, capsys) -> None:
    lock = course / "translations.lock"
    before = lock.read_text(encoding="utf-8").splitlines()
    edit(course, "pt", "não.", "nunca.")
    edit(course, "pt", "O que esta", "Tudo o que esta")
    assert command(course, "accept", "title") == 0
    assert f"{NAME}: [title] accepted" in capsys.readouterr().out
    after = lock.read_text(encoding="utf-8").splitlines()
    assert len(set(after) - set(before)) == 1, "one changed pair is one changed line"
    assert "[setup] the Portuguese text changed" in problems(course)
    edit(course, "both", 'key="title"', 'key="head"')
    assert command(course, "accept", "--all") == 0
    entries = lock.read_text(encoding="utf-8").splitlines()[1:]
    assert [entry.split()[1] for entry in entries] == ["head", "setup"]


def test_accept_forgets_nothing_of_a_lesson_it_cannot_read(course: Path) -> None:
    before = (course / "translations.lock").read_bytes()
    edit(course, "pt", "print(3)", "print(3")
    assert command(course, "accept", "--all") == 0
    assert (course / "translations.lock").read_bytes() == before


def test_accept_names_what_it_does_not_know(course: Path, capsys) -> None:
    assert command(course, "accept", "nothing") == 1
    assert "[nothing] names a text nowhere" in capsys.readouterr().err


def test_line_breaks_are_no_change(course: Path) -> None:
    edit(course, "pt", "amostra; a célula", "amostra;\n# a célula")
    assert "changed since" not in problems(course)
