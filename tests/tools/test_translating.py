"""The two languages: what differs is named, and what was accepted is kept."""

import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from listing import lists
from small_lesson import NAME, change_built, command, edit, problems

from tools import translating

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
    "number": ("pt", "não.", "não 7.", r"\[title\] numbers differ .*7"),
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


# --- one break for each mark ----------------------------------------------------------

SIGNS = [
    "-",
    "+",
    "=",
    "<",
    ">",
    "/",
    "^",
    "_",
    "'",
    "!",
    "|",
    ",",
    "(",
    "\\ne",
    "\\mid",
]
DIFFERENT = {  # texts whose marks of this kind differ
    "formulas": [
        *((f"$a {sign} b$", "$a b$") for sign in SIGNS),
        ("$e^{-x}$", "$e^{x}$"),
        ("$$a - b$$", "$$b - a$$"),
        ("$a$", "$$a$$ $b$"),
        ("$A$", "$a$"),
        ("\\begin{align}a&=1\\end{align}", "\\begin{align}a&=2\\end{align}"),
        ("$a$ $b$", "$b$ $a$"),
        ("$0{,}5$", "$0{,}6$"),
        ("$x$", "x"),
    ],
    "heading levels": [("# A", "## A"), ("# A\n\n## B", "## B\n\n# A")],
    "links": [
        ("[a](b)", "[a](c)"),
        ("[a](02_x.ipynb)", "[a](03_x.ipynb)"),
        ("[a](02_x.ipynb#b)", "[a](02_x.ipynb)"),
        ("[a](https://x.y/#b)", "[a](https://x.y/#c)"),
        ("<https://x.y>", "<https://x.z>"),
        ('<a href="b">', '<a href="c">'),
        ("[a](b)", "[a](b) [a](b)"),
        ("[a](b)", "a"),
    ],
    "images": [
        ("![a](b.png)", "![a](c.png)"),
        ('<img src="b">', '<img src="c">'),
        ("![a](b.png)", "[a](b.png)"),
    ],
    "citations": [
        ("(1998)", "(1999)"),
        ("2013", "2014"),
        ("{cite}`a`", "{cite}`b`"),
        ("{cite:p}`a`", "{cite:p}`b`"),
        ("2013, 2014", "2013"),
    ],
    "numbers": [
        ("60,000", "6,000"),
        ("95 %", "90 %"),
        ("0.5", "0.05"),
        ("1 e 2", "1"),
        ("1.5", "15"),
        ("2", "dois"),
    ],
}
ALIKE = {  # texts whose marks of this kind are the same
    "formulas": [
        ("$a b$", "$ab$"),
        ("$a_\\text{treino}$", "$a_\\text{train}$"),
        ("$a_\\textrm{e}$", "$a_\\textrm{and}$"),
        ("$0{,}5$", "$0.5$"),
    ],
    "links": [
        ("[a](../pt/02_x.ipynb#um-título)", "[b](../en/02_x.ipynb#a-title)"),
        ("[a](b) [c](d)", "[c](d) [a](b)"),
    ],
    "images": [("![uma reta](b.png)", "![a line](b.png)")],
    "citations": [
        ("em 1899", "em 1898"),
        ("2013,5", "2014,5"),
        ("12013", "12014"),
        ("2,013", "2,014"),
        ("20134", "20135"),
        ("`2013`", "`2014`"),
    ],
    "numbers": [("0,5 e 60.000", "60,000 and 0.5"), ("`1`", "`2`")],
}


@lists
def test_every_mark_of_a_text_counts():
    for kind, rows in DIFFERENT.items():
        for one, other in rows:
            if translating.marks(one)[kind] == translating.marks(other)[kind]:
                yield f"{kind}: {one!r} and {other!r} are taken for the same"


@lists
def test_what_a_translation_may_change_does_not_count():
    for kind, rows in ALIKE.items():
        for one, other in rows:
            if translating.marks(one)[kind] != translating.marks(other)[kind]:
                yield f"{kind}: {one!r} and {other!r} are told apart"
