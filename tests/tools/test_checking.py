"""Check: every guard of one notebook, and of the files, bites."""

import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from small_lesson import (
    NAME,
    change_built,
    command,
    edit,
    output,
    problems,
)

from tools import building, pages
from tools.checking import BAR

SOURCE_BREAKS = {  # name: (language, old, new, the line that check must print)
    "out of sync": ("pt", "Um título", "Outro", r"ipynb: \[title\] this cell differs"),
    "code changed": ("both", "6 * 7", "7 * 6", r"ipynb: \[-\] the outputs are older"),
    "language": ("pt", '("pt")', '("en")', r'pt.*\[setup\] write use_language\("pt"\)'),
    "no description": ("pt", "![Uma reta]", "![]", r"\[title\] an image has no altern"),
    "html image": (
        "pt",
        "![Uma",
        '<img src="a">![Uma',
        r"\[title\] an image has no al",
    ),
    "two words": ("both", '"abc"', '"two words"', r"\[setup\] .* words, 'two words'"),
    "an f-string": (
        "both",
        '"abc"',
        'f"loss {1} nats each"',
        r"\[setup\] .* words, 'lo",
    ),
    "a docstring": (
        "both",
        "print(1 /",
        '"""One over."""\n    print(1 /',
        r"\[slider\] ",
    ),
    "one word": ("both", "print(1)", 'print("Epoch")', r"\[bars\] .* words, 'Epoch'"),
    "a label": (
        "both",
        "[1, 2]",
        '[1, 2], label="prior"',
        r"\[figure\] .* words, 'prior'",
    ),
    "glossary": (
        "pt",
        "amostra;",
        "Encoders;",
        r"\[title\] 'Encoders' is not used here",
    ),
    "a calque": (
        "pt",
        "amostra;",
        "amostra em desvios-padrão;",
        r"\[title\] 'desvios-padrão' is not used here; write 'dois desvios padrão'",
    ),
    "in a comment": (
        "pt",
        "O que",
        "Loss: o que",
        r"\[setup\] 'Loss' is not used here",
    ),
    "syntax": ("pt", "print(3)", "print(3", r"\[bars\] cell 4 .* is not Python"),
    "check cells": ("both", "nbval-check-output", "x", r"\[-\] 2 cells tagged nbval"),
}


@pytest.mark.parametrize("case", SOURCE_BREAKS)
def test_a_broken_source_is_named(case: str, course: Path) -> None:
    language, old, new, line = SOURCE_BREAKS[case]
    edit(course, language, old, new)
    if case == "check cells":
        for one in ("pt", "en"):
            building.build(course / one / f"{NAME}.py")
    assert re.search(line, problems(course)), problems(course)


def error(nb: nbformat.NotebookNode) -> None:
    nb.cells[2].outputs.append(nbformat.v4.new_output("error", ename="E", evalue="e"))


def error_in_widget(nb: nbformat.NotebookNode) -> None:
    for model in nb.metadata.widgets[pages.WIDGETS]["state"].values():
        if "outputs" in model["state"]:
            model["state"]["outputs"].append({"output_type": "error", "ename": "E"})


def bar_as_widget(nb: nbformat.NotebookNode) -> None:
    data = {"text/plain": "  0%|          | 0/3 [00:00<?, ?it/s]"}
    nb.cells[3].outputs.append(nbformat.v4.new_output("display_data", data))


def bar_in_widget(nb: nbformat.NotebookNode) -> None:
    stream = {"output_type": "stream", "name": "stdout", "text": "9%|9 | 1/2"}
    for model in nb.metadata.widgets[pages.WIDGETS]["state"].values():
        if "outputs" in model["state"]:
            model["state"]["outputs"].append(stream)


def no_alt(nb: nbformat.NotebookNode) -> None:
    nb.cells[2].outputs[0].metadata = {}


SECRET = "tok" + "en=0123456789abcdef"
HOST = "https://files.py" + "thonhosted.org/x"
BUILT_BREAKS: dict[str, tuple[Callable, str]] = {
    "id": (lambda nb: nb.cells[2].update(id="other"), r"\[-\] the cells, their ids"),
    "cell order": (lambda nb: nb.cells.reverse(), r"\[-\] the cells, their ids"),
    "never run": (
        lambda nb: nb.cells[3].update(execution_count=None),
        r"\[bars\] its number is",
    ),
    "out of order": (
        lambda nb: nb.cells[3].update(execution_count=9),
        r"\[bars\] its number is",
    ),
    "no stamp": (
        lambda nb: nb.metadata.pop("vae_teach"),
        r"\[-\] the outputs are older",
    ),
    "edited": (output(1, "43\n"), r"\[-\] the outputs are not those that build stored"),
    "kernel": (lambda nb: nb.metadata.kernelspec.update(name="x"), r"\[-\] the kernel"),
    "error": (error, r"\[figure\] an error is stored"),
    "error in widget": (error_in_widget, r"\[slider\] an error is stored"),
    "stderr": (
        output(3, "careful", "stderr"),
        r"\[bars\] something was written to std",
    ),
    "bar": (output(3, "50%|##  | 1/2 [00:01<00:01]"), r"\[bars\] a progress bar is"),
    "bar without an end": (
        output(3, "12it [00:03, 4.2it/s]"),
        r"\[bars\] a progress b",
    ),
    "bar as a widget": (bar_as_widget, r"\[bars\] a progress bar is"),
    "bar in widget": (bar_in_widget, r"\[slider\] a progress bar is"),
    "pieces": (output(3, "1\n"), r"\[bars\] a stream in pieces"),
    "path": (output(3, "in /ho" + "me/ana/x"), r"\[bars\] a local path .*/home/"),
    "windows": (output(3, "in C:\\Users\\ana"), r"\[bars\] a local path .*Users"),
    "packages": (output(3, "lib/site-packages/x"), r"\[bars\] a local path .*packages"),
    "address": (output(3, "<object at 0x7f3a2b1c>"), r"\[bars\] a memory address"),
    "time": (
        lambda nb: nb.cells[3].metadata.update(execution={"x": "2026-11-01T10:00:00Z"}),
        r"\[bars\] a time would be published",
    ),
    "time of all": (
        lambda nb: nb.metadata.update(saved="2026-11-01T10:00:00Z"),
        r"\[-\] a time would be published",
    ),
    "secret": (output(3, f"http://x/?{SECRET}"), r"\[bars\] a secret would be"),
    "secret in text": (
        lambda nb: nb.cells[0].update(source=SECRET),
        r"\[title\] a secret",
    ),
    "host": (output(3, HOST), r"\[bars\] a registry would be published"),
    "no alt": (no_alt, r"\[figure\] an image has no alternative text"),
    "metadata": (
        lambda nb: nb.cells[2].metadata.update(mystnb={"image": {"alt": "x"}}),
        r"\[figure\] this cell differs from that of the .py",
    ),
    "path in alt": (
        lambda nb: (
            nb.cells[2].outputs[0].metadata["image/png"].update(alt="/ho" + "me/ana/x")
        ),
        r"\[figure\] a local path .*/home/",
    ),
    "size": (output(3, "0 " * 300_000), r"\[-\] 6\d\d,\d{3} bytes, more than 500,000"),
    "nothing to compare": (
        lambda nb: nb.cells[5].outputs.clear(),
        r"\[address\] tagged nbval-check-output, but shows no text",
    ),
    "raises": (
        lambda nb: nb.cells[3].metadata.update(tags=["raises-exception"]),
        r"\[bars\] tagged raises-exception, but raised nothing",
    ),
}


def test_a_table_is_no_progress_bar() -> None:
    assert not BAR.search("| 97% | 12 |\n|  3% |  1 |\n12 images/s, 3 s/image")


@pytest.mark.parametrize("case", BUILT_BREAKS)
def test_a_broken_notebook_is_named(case: str, course: Path) -> None:
    change, line = BUILT_BREAKS[case]
    change_built(course, change)
    assert re.search(rf"{NAME}\.(ipynb|py): {line}", problems(course)), problems(course)


def test_an_explorer_may_be_larger(course: Path) -> None:
    def enlarge(nb: nbformat.NotebookNode) -> None:
        output(3, "0 " * 300_000)(nb)
        saved = nb.metadata.widgets[pages.WIDGETS]["state"]
        next(iter(saved.values()))["model_module"] = "anywidget"

    change_built(course, enlarge)
    assert "bytes" not in problems(course)


# --- files --------------------------------------------------------------------------

FILE_BREAKS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no notebooks": (
        lambda root: [p.unlink() for p in root.glob("*/*")],
        r"notebooks: \[-\] no notebooks",
    ),
    "one language": (
        lambda root: (root / "en" / f"{NAME}.py").unlink(),
        rf"{NAME}.py: \[-\] in one language only",
    ),
    "no source": (
        lambda root: [p.unlink() for p in root.glob("*/*.py")],
        rf"{NAME}.ipynb: \[-\] has no .py",
    ),
    "not built": (
        lambda root: (root / "pt" / f"{NAME}.ipynb").unlink(),
        rf"pt/{NAME}.ipynb: \[-\] missing or not readable",
    ),
    "not readable": (
        lambda root: (root / "pt" / f"{NAME}.ipynb").write_text("<<<<<<< HEAD"),
        rf"pt/{NAME}.ipynb: \[-\] missing or not readable",
    ),
    "lesson gone": (
        lambda root: [p.rename(p.with_stem("01_new")) for p in root.glob("*/*")],
        rf"translations.lock: \[-\] names {NAME}, which is gone",
    ),
}


HIDDEN = [".DS_Store", f"._{NAME}.py", ".hidden.ipynb", f".{NAME}.py.swp"]


@pytest.mark.parametrize("name", HIDDEN)
def test_what_systems_and_editors_leave_is_not_the_course(name, course: Path) -> None:
    (course / "pt" / name).write_bytes(b"\0\xff\xe7")
    folder = course / "en" / ".ipynb_checkpoints"
    folder.mkdir()
    (folder / f"{NAME}-checkpoint.py").write_bytes(b"\xff")
    (course / "pt" / "figures").mkdir()
    assert problems(course) == ""
    assert command(course, "build") == 0


def latin_1(path: Path) -> None:
    path.write_bytes(path.read_text(encoding="utf-8").encode("latin-1", "replace"))


def dangling(path: Path) -> None:
    path.unlink()
    path.mkdir()


SOURCE = rf"\Apt/{NAME}\.py: \[-\] {NAME}\.py"
UNREADABLE: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "source": (f"pt/{NAME}.py", latin_1, f"{SOURCE} is not UTF-8 text; save it as "),
    "header": (
        f"pt/{NAME}.py",
        lambda path: path.write_text('# %% key="a" tags=3\n1\n'),
        f"{SOURCE} cannot be read: ",
    ),
    "glossary": (
        "glossary.csv",
        latin_1,
        r"notebooks: \[-\] glossary.csv is not UTF-8",
    ),
    "no glossary": (
        "glossary.csv",
        Path.unlink,
        r"notebooks: \[-\] glossary.csv cannot be read: No such file",
    ),
    "no column": (
        "glossary.csv",
        lambda path: path.write_text("pt,en\n"),
        r"notebooks: \[-\] glossary.csv has no column 'not in Portuguese'",
    ),
    "short row": (
        "glossary.csv",
        lambda path: path.write_text("pt,en,not in Portuguese\na\n"),
        r"\A\Z",
    ),
    "lock": (
        "translations.lock",
        lambda path: path.write_bytes(b"\xe7"),
        r"notebooks: \[-\] translations.lock is not UTF-8 text",
    ),
    "lock a folder": (
        "translations.lock",
        dangling,
        r"notebooks: \[-\] translations.lock cannot be read: Is a directory",
    ),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_file_that_cannot_be_read_is_one_sentence(case, course: Path, capsys) -> None:
    name, spoil, line = UNREADABLE[case]
    spoil(course / name)
    said = problems(course)
    assert re.search(line, said), said
    assert len(said.splitlines()) <= 1
    wrong = int(said != "")
    assert command(course, "check") == wrong
    accepted = command(course, "accept", "--all")
    assert accepted == int("lock" in case)
    assert command(course, "build") == int(name.endswith(".py"))
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"\xff", b"", b"[]", b"{}", b'{"cells": 3}'])
def test_a_damaged_notebook_is_built_again(content: bytes, course: Path) -> None:
    path = course / "pt" / f"{NAME}.ipynb"
    before = path.read_bytes()
    path.write_bytes(content)
    assert "missing or not readable" in problems(course)
    assert command(course, "build", f"pt/{NAME}") == 0
    assert path.read_bytes() == before


@pytest.mark.parametrize("case", FILE_BREAKS)
def test_a_broken_course_is_named(case: str, course: Path) -> None:
    spoil, line = FILE_BREAKS[case]
    spoil(course)
    assert re.search(line, problems(course)), problems(course)
    assert command(course, "check") == 1
