"""The authoring commands: what build stores, and that every guard of check bites."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from jupyter_server.services.contents.largefilemanager import LargeFileManager
from jupytext.sync_contentsmanager import build_sync_jupytext_contents_manager_class

from tools import notebooks

REPOSITORY = Path(__file__).resolve().parents[2]

SETUP = """
# %% [markdown] key="title"
# # {title}
#
# {intro} $p(x) = \\int p(x, z)\\,dz$ (Kingma, 2013).
# [{link}](../{language}/01_next.ipynb)
#
# ![{picture}](figures/line.png)

# %% key="setup" tags=["nbval-check-output"]
# {comment}
# %matplotlib inline
import ipywidgets
import matplotlib.pyplot as plt
from IPython.display import display
from tqdm import tqdm as text_tqdm
from tqdm.auto import tqdm
from vae_teach.words import current_language, use_language

use_language("{language}")
print(6 * 7)
len("abc");
"""

REST = """
# %% key="figure"
fig, ax = plt.subplots(figsize=(1, 1))
ax.plot([1, 2])
plt.close(fig)
alt = f"{current_language()}-line"
display(fig, metadata={"image/png": {"alt": alt}})

# %% key="bars" tags=["nbval-check-output"]
print(1)
for _ in tqdm(range(3)):
    pass
print(2)
for _ in text_tqdm(range(3)):
    pass
print(3)

# %% key="slider"
slider = ipywidgets.IntSlider(min=0, max=3)


def inverse(x):
    print(1 / (x + 1))


ipywidgets.interact(inverse, x=slider)
slider.value = slider.max
slider.value = slider.min

# %% key="address" tags=["nbval-check-output"]
print(object())

# %% key="places"
import os, tempfile, numpy

print(os.getcwd(), numpy.__file__)
print(tempfile.gettempdir() + "/tmpabc/x", os.path.expanduser("~/data"))
display(ipywidgets.HBox([ipywidgets.Label("a"), ipywidgets.Label("b")]))
"""
WORDS = {
    "pt": {
        "title": "Um título",
        "intro": "Um codificador amostra; a célula anterior (*encoder*) não.",
        "link": "A próxima lição",
        "picture": "Uma reta",
        "comment": "O que esta lição usa",
    },
    "en": {
        "title": "A title",
        "intro": "An encoder samples; the previous cell does not.",
        "link": "The next lesson",
        "picture": "A line",
        "comment": "What this lesson uses",
    },
}
NAME = "00_tiny"


def write_pair(root: Path, rest: str = REST) -> None:
    """Write the two sources of a small lesson."""
    for language, words in WORDS.items():
        (root / language).mkdir(parents=True)
        source = SETUP.lstrip().format(language=language, **words) + rest
        (root / language / f"{NAME}.py").write_text(source, encoding="utf-8")
    shutil.copy(REPOSITORY / "notebooks/glossary.csv", root / "glossary.csv")


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("course") / "notebooks"
    write_pair(root)
    assert notebooks.main(["--root", str(root), "build"]) == 0
    assert notebooks.main(["--root", str(root), "accept", "--all"]) == 0
    return root


@pytest.fixture
def course(executed: Path, tmp_path: Path) -> Path:
    return shutil.copytree(executed, tmp_path / "notebooks")


def problems(root: Path) -> str:
    return "\n".join(notebooks.check(root))


def built(root: Path, language: str = "pt") -> nbformat.NotebookNode:
    return nbformat.read(root / language / f"{NAME}.ipynb", as_version=4)


def contents(root: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in root.rglob("*") if p.is_file()}


# --- what build stores --------------------------------------------------------------


def test_a_sound_pair_has_no_problems(executed: Path) -> None:
    assert problems(executed) == ""


def test_build_does_nothing_where_nothing_changed(course: Path, capsys) -> None:
    before = contents(course)
    (course / "pt" / f"{NAME}.py").touch()  # file times decide nothing
    assert notebooks.main(["--root", str(course), "build"]) == 0
    assert contents(course) == before
    assert capsys.readouterr().out.count("up to date") == 2


def test_a_forced_execution_gives_the_same_bytes(course: Path) -> None:
    before = contents(course)
    command = ["--root", str(course), "build", "--force", f"pt/{NAME}"]
    assert notebooks.main(command) == 0
    assert contents(course) == before


def test_build_keeps_what_cells_show_and_nothing_of_the_machine(executed: Path) -> None:
    notebook = built(executed)
    cells = {cell.id: cell for cell in notebook.cells}
    keys = ["title", "setup", "figure", "bars", "slider", "address", "places"]
    assert [*cells] == keys
    assert cells["setup"].outputs[0].text == "42\n"
    assert len(cells["setup"].outputs) == 1, "a trailing semicolon hides a value"
    assert [output.text for output in cells["bars"].outputs] == ["1\n2\n3\n"]
    assert cells["figure"].metadata["mystnb"] == {"image": {"alt": "pt-line"}}
    places = cells["places"].outputs[0].text
    assert places == "notebooks/pt numpy/__init__.py\nx ~/data\n"
    assert cells["address"].outputs[0].text == "<object object at 0x0>\n"
    saved = notebook.metadata.widgets[notebooks.WIDGETS]["state"]
    names = [model["model_name"] for model in saved.values()]
    assert "FloatProgressModel" not in names
    assert {"IntSliderModel", "OutputModel", "LabelModel"} <= set(names)
    text = json.dumps(notebook)
    assert set(re.findall("IPY_MODEL_([0-9a-f]{32})", text)) <= saved.keys()
    assert set(re.findall('"model_id": "([0-9a-f]{32})"', text)) <= saved.keys()
    assert "version" not in notebook.metadata.language_info
    assert "mystnb" not in (executed / "pt" / f"{NAME}.py").read_text(encoding="utf-8")


def test_prose_alone_is_refreshed_without_running(course: Path, monkeypatch) -> None:
    monkeypatch.setattr(notebooks, "Recorder", None)  # an execution would fail
    edit(course, "pt", "Um título", "Outro título")
    before = built(course)
    assert "kept" in notebooks.build(course / "pt" / f"{NAME}.py")
    after = built(course)
    assert after.cells[0].source.startswith("# Outro título")
    assert after.cells[1:] == before.cells[1:]
    assert after.metadata == before.metadata


def test_outputs_touched_by_hand_are_run_again(course: Path, monkeypatch) -> None:
    monkeypatch.setattr(notebooks, "Recorder", None)
    change_built(course, lambda nb: nb.cells[1].outputs[0].update(text="43\n"))
    with pytest.raises(TypeError, match="not callable"):  # it sets out to run
        notebooks.build(course / "pt" / f"{NAME}.py")


@pytest.mark.parametrize("seconds", [-10_000, 10_000])
def test_in_jupyterlab_the_source_wins_whatever_the_times_say(
    seconds: int, course: Path
) -> None:
    before = (course / "pt" / f"{NAME}.ipynb").read_bytes()
    shutil.copy(REPOSITORY / "notebooks/jupytext.toml", course / "jupytext.toml")
    manager = build_sync_jupytext_contents_manager_class(LargeFileManager)()
    manager.root_dir = str(course)
    edit(course, "pt", "Um título", "Outro título")
    now = (course / "pt" / f"{NAME}.py").stat().st_mtime
    os.utime(course / "pt" / f"{NAME}.ipynb", (now + seconds, now + seconds))
    opened = manager.get(f"pt/{NAME}.ipynb")["content"]
    assert opened.cells[0].source.startswith("# Outro título")
    opened.cells[0].source = opened.cells[0].source.replace("Outro", "Um")
    saved = {"type": "notebook", "format": "json", "content": opened}
    manager.save(saved, f"pt/{NAME}.ipynb")
    source = (course / "pt" / f"{NAME}.py").read_text(encoding="utf-8")
    assert "# # Um título" in source
    assert "mystnb" not in source
    assert "kept" in notebooks.build(course / "pt" / f"{NAME}.py")
    assert (course / "pt" / f"{NAME}.ipynb").read_bytes() == before
    assert problems(course) == ""


def test_what_is_written_behind_a_progress_bar_is_kept() -> None:
    bars = "\rÉpoca 1:   0%|          | 0/3 [00:00<?, ?it/s]careful\n"
    bars += (
        "\r100%|█████| 3/3 [00:01<00:00,  2.50it/s, elbo=-104]\n12it [00:03, 4it/s]\n"
    )
    assert notebooks.without_bars(bars) == "careful\n"
    assert notebooks.without_bars("\x1b[A\x1b[A\x1b[31mred") == "\x1b[31mred"
    table = "| 97% | 12 |\n| 3% | 1 |\n"
    assert notebooks.without_bars(table) == table


FAILURES = {
    "an exception": ("1 / 0", r"\[bad\] ZeroDivisionError: division by zero"),
    "a callback under interact": (
        "s = ipywidgets.IntSlider(min=0, max=3)\n"
        "ipywidgets.interact(lambda x: 1 / (3 - x), x=s)\n"
        "s.value = 3\ns.value = 0  # clears what the exception left",
        r"\[bad\] raised ZeroDivisionError",
    ),
    "inside an Output": (
        "with ipywidgets.Output():\n    1 / 0",
        r"\[bad\] raised ZeroDivisionError",
    ),
    "a warning": (
        'import warnings\nfor _ in text_tqdm(range(2)):\n    warnings.warn("careful")',
        r"\[bad\] wrote to stderr: .*UserWarning: careful",
    ),
    "a dead kernel": ("import os\nos._exit(1)", r"\[bad\] Kernel died"),
    "a hanging cell": (
        "import time\ntime.sleep(60)",
        r"\[bad\] .*timed out.* 2 seconds",
    ),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_failed_build_leaves_the_old_notebook(case, course: Path, capsys) -> None:
    code, message = FAILURES[case]
    source = course / "pt" / f"{NAME}.py"
    start = "import ipywidgets\nfrom tqdm import tqdm as text_tqdm\n"
    source.write_text(f'# %% key="bad"\n{start}{code}\n', encoding="utf-8")
    before = contents(course)
    command = ["--root", str(course), "build", "--timeout=2", f"pt/{NAME}"]
    assert notebooks.main(command) == 1
    assert re.search(rf"pt/{NAME}: {message}", capsys.readouterr().err)
    assert contents(course) == before


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("# %%", r"\[#1\] cell 1 .* has no key"),
        ('# %% key="a b"', r"\[a b\] the key of cell 1 .* takes"),
        ('# %% key="a"\n2\n# %% key="a"', r"\[a\] cell 2 .* rename"),
    ],
)
def test_build_and_check_want_keys(header: str, message: str, tmp_path: Path, capsys):
    write_pair(tmp_path)
    source = tmp_path / "pt" / f"{NAME}.py"
    source.write_text(f"{header}\n1\n", encoding="utf-8")
    assert re.search(rf"pt/{NAME}.py: {message}", problems(tmp_path))
    assert notebooks.main(["--root", str(tmp_path), "build", f"pt/{NAME}"]) == 1
    assert re.search(message, capsys.readouterr().err)


# --- every guard of check bites -----------------------------------------------------


def edit(root: Path, language: str, old: str, new: str) -> None:
    """Change the source of one language, or of both where it is "both"."""
    for one in ("pt", "en") if language == "both" else (language,):
        path = root / one / f"{NAME}.py"
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")


def change_built(root: Path, change: Callable[[nbformat.NotebookNode], object]) -> None:
    """Change the Portuguese .ipynb."""
    notebook = built(root)
    change(notebook)
    nbformat.write(notebook, root / "pt" / f"{NAME}.ipynb")


SOURCE_BREAKS = {  # name: (language, old, new, the line that check must print)
    "out of sync": ("pt", "Um título", "Outro", r"ipynb: \[title\] this cell differs"),
    "code changed": ("both", "6 * 7", "7 * 6", r"ipynb: \[-\] the outputs are older"),
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
    "language": ("pt", '("pt")', '("en")', r'pt.*\[setup\] write use_language\("pt"\)'),
    "formula": ("en", "p(x, z)", "q(x, z)", r"\[title\] formulas differ"),
    "heading": ("en", "# # ", "# ## ", r"\[title\] heading levels differ"),
    "link": ("pt", "01_next", "02_next", r"\[title\] links differ .*02_next"),
    "image": ("pt", "line.png", "point.png", r"\[title\] images differ"),
    "citation": ("pt", "2013", "2014", r"\[title\] citations differ .*2014"),
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
    "in a comment": (
        "pt",
        "O que",
        "Loss: o que",
        r"\[setup\] 'Loss' is not used here",
    ),
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
    "syntax": ("pt", "print(3)", "print(3", r"\[bars\] cell 4 .* is not Python"),
    "check cells": ("both", "nbval-check-output", "x", r"\[-\] 2 cells tagged nbval"),
}


@pytest.mark.parametrize("case", SOURCE_BREAKS)
def test_a_broken_source_is_named(case: str, course: Path) -> None:
    language, old, new, line = SOURCE_BREAKS[case]
    edit(course, language, old, new)
    if case == "check cells":
        for one in ("pt", "en"):
            notebooks.build(course / one / f"{NAME}.py")
    assert re.search(line, problems(course)), problems(course)


def output(cell: int, text: str, name: str = "stdout") -> Callable:
    """Return a change that lets one cell print."""
    stream = nbformat.v4.new_output("stream", name=name, text=text)
    return lambda nb: nb.cells[cell].outputs.insert(0, stream)


def error(nb: nbformat.NotebookNode) -> None:
    nb.cells[2].outputs.append(nbformat.v4.new_output("error", ename="E", evalue="e"))


def error_in_widget(nb: nbformat.NotebookNode) -> None:
    for model in nb.metadata.widgets[notebooks.WIDGETS]["state"].values():
        if "outputs" in model["state"]:
            model["state"]["outputs"].append({"output_type": "error", "ename": "E"})


def no_alt(nb: nbformat.NotebookNode) -> None:
    nb.cells[2].outputs[0].metadata = {}


def english_alt(nb: nbformat.NotebookNode) -> None:
    nb.cells[2].outputs[0].metadata = {"image/png": {"alt": "en-line"}}


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
    "bar": (output(3, "50%|##  | 1/2 [00:01<00:01]"), r"\[bars\] a progress bar or"),
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
    "alt of the book": (
        lambda nb: nb.cells[2].metadata.pop("mystnb"),
        r"\[figure\] the book's alternative text",
    ),
    "one alt": (english_alt, r"\[figure\] 'en-line' describes an image in both"),
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


@pytest.mark.parametrize("case", BUILT_BREAKS)
def test_a_broken_notebook_is_named(case: str, course: Path) -> None:
    change, line = BUILT_BREAKS[case]
    change_built(course, change)
    assert re.search(rf"{NAME}\.(ipynb|py): {line}", problems(course)), problems(course)


def test_an_explorer_may_be_larger(course: Path) -> None:
    def enlarge(nb: nbformat.NotebookNode) -> None:
        output(3, "0 " * 300_000)(nb)
        saved = nb.metadata.widgets[notebooks.WIDGETS]["state"]
        next(iter(saved.values()))["model_module"] = "anywidget"

    change_built(course, enlarge)
    assert "bytes" not in problems(course)


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
    "lesson gone": (
        lambda root: [p.rename(p.with_stem("01_new")) for p in root.glob("*/*")],
        rf"translations.lock: \[-\] names {NAME}, which is gone",
    ),
    "key gone": (
        lambda root: edit(root, "both", '[markdown] key="title"', '[raw] key="title"'),
        r"\[title\] accepted, but no longer there",
    ),
}


@pytest.mark.parametrize("case", FILE_BREAKS)
def test_a_broken_course_is_named(case: str, course: Path) -> None:
    spoil, line = FILE_BREAKS[case]
    spoil(course)
    assert re.search(line, problems(course)), problems(course)
    assert notebooks.main(["--root", str(course), "check"]) == 1


# --- accept -------------------------------------------------------------------------


def test_accept_takes_named_keys_and_forgets_those_gone(course: Path, capsys) -> None:
    lock = course / "translations.lock"
    before = lock.read_text(encoding="utf-8").splitlines()
    edit(course, "pt", "não.", "nunca.")
    edit(course, "pt", "O que esta", "Tudo o que esta")
    assert notebooks.main(["--root", str(course), "accept", "title"]) == 0
    assert f"{NAME}: [title] accepted" in capsys.readouterr().out
    after = lock.read_text(encoding="utf-8").splitlines()
    assert len(set(after) - set(before)) == 1, "one changed pair is one changed line"
    assert "[setup] the Portuguese text changed" in problems(course)
    edit(course, "both", 'key="title"', 'key="head"')
    assert notebooks.main(["--root", str(course), "accept", "--all"]) == 0
    entries = lock.read_text(encoding="utf-8").splitlines()[1:]
    assert [entry.split()[1] for entry in entries] == ["head", "setup"]


def test_accept_forgets_nothing_of_a_lesson_it_cannot_read(course: Path) -> None:
    before = (course / "translations.lock").read_bytes()
    edit(course, "pt", "print(3)", "print(3")
    assert notebooks.main(["--root", str(course), "accept", "--all"]) == 0
    assert (course / "translations.lock").read_bytes() == before


def test_accept_names_what_it_does_not_know(course: Path, capsys) -> None:
    assert notebooks.main(["--root", str(course), "accept", "nothing"]) == 1
    assert "[nothing] names a text nowhere" in capsys.readouterr().err


def test_line_breaks_are_no_change(course: Path) -> None:
    edit(course, "pt", "amostra; a célula", "amostra;\n# a célula")
    assert "changed since" not in problems(course)


# --- nbval --------------------------------------------------------------------------


def nbval(root: Path) -> str:
    """Run the notebook as this repository's tests do and return what pytest says."""
    for name in ("conftest.py", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, root / name)
    for name in ("tools/notebooks.py", "tests/nbval_sanitize.cfg"):
        (root / name).parent.mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / name, root / name)
    command = [sys.executable, "-m", "pytest", f"notebooks/pt/{NAME}.ipynb"]
    command += ["--numprocesses=0", "--color=no", "-p", "no:cacheprovider"]
    done = subprocess.run(
        command, cwd=root, capture_output=True, text=True, timeout=120
    )
    return done.stdout + done.stderr


def test_nbval_goes_red_for_a_wrong_output_and_for_no_progress_bar(course: Path):
    change_built(course, lambda nb: nb.cells[1].outputs[0].update(text="43\n"))
    bar = output(3, "\r 50%|##  | 1/2 [00:01<00:01,  1.00it/s]\n", "stderr")
    change_built(course, bar)  # another bar than the one that comes when it runs
    said = nbval(course.parent)
    assert " 1 failed, 5 passed" in said
    assert f"{NAME}.ipynb::Cell 0" in said
    assert "Cell outputs differ" in said
