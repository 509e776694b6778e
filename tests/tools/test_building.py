"""Build: what it stores, when it runs, what it refuses; and nbval's comparison."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from jupyter_server.services.contents.largefilemanager import LargeFileManager
from jupytext.sync_contentsmanager import build_sync_jupytext_contents_manager_class
from small_lesson import (
    NAME,
    REPOSITORY,
    built,
    change_built,
    command,
    contents,
    edit,
    output,
    problems,
    write_pair,
)

from tools import building, pages
from vae_teach.data import Images
from vae_teach.nets import VAE
from vae_teach.train import fit


def test_a_sound_pair_has_no_problems(executed: Path) -> None:
    assert problems(executed) == ""


def test_build_does_nothing_where_nothing_changed(course: Path, capsys) -> None:
    before = contents(course)
    (course / "pt" / f"{NAME}.py").touch()  # file times decide nothing
    assert command(course, "build") == 0
    assert contents(course) == before
    assert capsys.readouterr().out.count("up to date") == 2


def test_a_forced_execution_gives_the_same_bytes(course: Path) -> None:
    before = contents(course)
    assert command(course, "build", "--force", f"pt/{NAME}") == 0
    assert contents(course) == before


def test_build_keeps_what_cells_show_and_nothing_of_the_machine(executed: Path) -> None:
    notebook = built(executed)
    cells = {cell.id: cell for cell in notebook.cells}
    keys = ["title", "setup", "figure", "bars", "slider", "address", "places"]
    keys += ["phrases"]
    assert [*cells] == keys
    assert cells["setup"].outputs[0].text == "42\n"
    assert len(cells["setup"].outputs) == 1, "a trailing semicolon hides a value"
    assert [output.text for output in cells["bars"].outputs] == ["1\n2\n3\n"]
    assert cells["figure"].metadata == {"key": "figure"}
    alt = cells["figure"].outputs[0].metadata["image/png"]["alt"]
    assert alt == "pt-line"
    places = cells["places"].outputs[0].text
    assert places == "notebooks/pt numpy/__init__.py\nx ~/data\n"
    assert cells["address"].outputs[0].text == "<object object at 0x0>\n"
    saved = notebook.metadata.widgets[pages.WIDGETS]["state"]
    names = [model["model_name"] for model in saved.values()]
    assert "FloatProgressModel" not in names
    assert {"IntSliderModel", "OutputModel", "LabelModel"} <= set(names)
    text = json.dumps(notebook)
    assert set(re.findall("IPY_MODEL_([0-9a-f]{32})", text)) <= saved.keys()
    assert set(re.findall('"model_id": "([0-9a-f]{32})"', text)) <= saved.keys()
    assert "version" not in notebook.metadata.language_info


def test_prose_alone_is_refreshed_without_running(course: Path, monkeypatch) -> None:
    monkeypatch.setattr(building, "Recorder", None)  # an execution would fail
    edit(course, "pt", "Um título", "Outro título")
    before = built(course)
    assert "kept" in building.build(course / "pt" / f"{NAME}.py")
    after = built(course)
    assert after.cells[0].source.startswith("# Outro título")
    assert after.cells[1:] == before.cells[1:]
    hashes = [nb.metadata["vae_teach"].pop("text_hash") for nb in (before, after)]
    assert hashes[0] != hashes[1]
    assert after.metadata == before.metadata


def test_outputs_touched_by_hand_are_run_again(course: Path, monkeypatch) -> None:
    monkeypatch.setattr(building, "Recorder", None)
    change_built(course, lambda nb: nb.cells[1].outputs[0].update(text="43\n"))
    with pytest.raises(TypeError, match="not callable"):  # it sets out to run
        building.build(course / "pt" / f"{NAME}.py")


@pytest.mark.parametrize("seconds", [-10_000, 10_000])
def test_in_jupyterlab_an_answer_stays_whatever_the_times_say(
    seconds: int, course: Path
) -> None:
    """With jupytext there: written without it, opened, saved; the .py is not asked."""
    source, notebook = (course / "pt" / f"{NAME}.{end}" for end in ("py", "ipynb"))
    text = source.read_bytes()
    for config in REPOSITORY.glob("**/*jupytext*.toml"):
        assert "node_modules" in config.parts or ".venv" in config.parts
    change_built(course, lambda nb: nb.cells[1].update(source="an_answer = 7"))
    now = source.stat().st_mtime
    os.utime(notebook, (now + seconds, now + seconds))
    manager = build_sync_jupytext_contents_manager_class(LargeFileManager)()
    manager.root_dir = str(course)
    opened = manager.get(f"pt/{NAME}.ipynb")["content"]
    assert opened.cells[1].source == "an_answer = 7"
    saved = {"type": "notebook", "format": "json", "content": opened}
    manager.save(saved, f"pt/{NAME}.ipynb")
    assert built(course).cells[1].source == "an_answer = 7"
    assert source.read_bytes() == text


@pytest.mark.parametrize("cell", [0, 1])  # of prose, of code
@pytest.mark.parametrize("force", [True, False])
def test_build_refuses_to_replace_what_somebody_wrote(
    cell: int, force: bool, course: Path
) -> None:
    change_built(course, lambda nb: nb.cells[cell].update(source="# mine"))
    before = contents(course)
    source = course / "pt" / f"{NAME}.py"
    with pytest.raises(pages.CourseError, match=r"was changed by hand.* delete "):
        building.build(source, force=force)
    assert contents(course) == before
    source.with_suffix(".ipynb").unlink()
    assert building.build(source) == "executed"


@pytest.mark.parametrize("disabled", ["", "1"])
def test_training_draws_no_bar_where_build_runs_it(disabled, monkeypatch, capfd):
    monkeypatch.setenv("TQDM_DISABLE", disabled)
    images = Images(torch.zeros(10, 784), torch.zeros(10, dtype=torch.int64))
    fit(VAE(hidden_dim=4), images, epochs=1, batch_size=5)
    assert ("1/1" in capfd.readouterr().err) == (disabled == "")


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
        'import warnings\nfor _ in tqdm(range(2)):\n    warnings.warn("careful")',
        r"\[bad\] wrote to stderr: .*UserWarning: careful",
    ),
    "a progress bar of its own mind": (
        "for _ in tqdm(range(2), disable=False):\n    pass",
        r"\[bad\] wrote to stderr: .*0/2",
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
    start = "import ipywidgets\nfrom tqdm import tqdm\n"
    source.write_text(f'# %% key="bad"\n{start}{code}\n', encoding="utf-8")
    before = contents(course)
    assert command(course, "build", "--timeout=2", f"pt/{NAME}") == 1
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
    assert command(tmp_path, "build", f"pt/{NAME}") == 1
    assert re.search(message, capsys.readouterr().err)


# --- phrases ------------------------------------------------------------------------

WITH_PHRASE = {
    "by its key": "originals",
    "by the beginning of its key": "column-kl",
    "as the package says it": "reconstructed-means",
}


@pytest.fixture
def catalogue(tmp_path: Path, monkeypatch) -> Path:
    """The package's phrases, in a place where a test may change them."""
    package = tmp_path / "package"
    (package / "lessons").mkdir(parents=True)
    shutil.copy(building.PHRASES / "words.toml", package)
    monkeypatch.setattr(building, "PHRASES", package)
    return package


def rephrase(catalogue: Path, key: str) -> None:
    """Change the Portuguese of one phrase."""
    file = catalogue / "words.toml"
    text, start = file.read_text(encoding="utf-8"), f'[{key}]\npt = "'
    assert start in text
    file.write_text(text.replace(start, f"{start}Diz-se: "), encoding="utf-8")


@pytest.mark.parametrize("case", WITH_PHRASE)
def test_a_phrase_that_changed_makes_its_language_stale(
    case: str, course: Path, catalogue: Path, monkeypatch
) -> None:
    assert problems(course) == ""
    rephrase(catalogue, WITH_PHRASE[case])
    line = f"pt/{NAME}.ipynb: [-] the outputs are older than the phrases that they show"
    assert problems(course) == f"{line}; run: tools/notebooks.py build"
    monkeypatch.setattr(building, "Recorder", None)
    assert building.build(course / "en" / f"{NAME}.py") == "up to date"
    with pytest.raises(TypeError, match="not callable"):  # it sets out to run
        building.build(course / "pt" / f"{NAME}.py")


def test_a_phrase_that_the_lesson_does_not_say_changes_nothing(
    course: Path, catalogue: Path
) -> None:
    rephrase(catalogue, "sample-means")
    assert problems(course) == ""


def test_a_phrase_of_the_lesson_itself_counts_too(course: Path, catalogue: Path):
    own = '[tiny-{0}]\npt = "Um {0}"\nen = "A {0}"\n'
    toml = own.format("number") + own.format("colour") + own.format("hint")
    (catalogue / "lessons" / f"{NAME}.toml").write_text(toml, encoding="utf-8")
    page = pages.read_page(course / "pt" / f"{NAME}.py")
    page.source.cells[1].source += '\nsay("tiny-number")'
    page.built.cells[1].outputs[0].text = "42\nUm colour\n"
    found = building.phrases(page.path, page.source, page.built)
    tiny = {key: text for key, text in found.items() if key.startswith("tiny-")}
    assert tiny == {"tiny-number": "Um number", "tiny-colour": "Um colour"}


# --- nbval --------------------------------------------------------------------------


def nbval(root: Path) -> str:
    """Run the notebook as this repository's tests do and return what pytest says."""
    (root / "tests").mkdir()
    for name in ("conftest.py", "pyproject.toml", "tests/nbval_sanitize.cfg"):
        shutil.copy(REPOSITORY / name, root / name)
    command = [sys.executable, "-m", "pytest", f"notebooks/pt/{NAME}.ipynb"]
    command += ["--numprocesses=0", "--color=no", "-p", "no:cacheprovider"]
    done = subprocess.run(
        command, cwd=root, capture_output=True, text=True, timeout=120
    )
    return done.stdout + done.stderr


def test_nbval_goes_red_for_a_wrong_output_and_for_no_progress_bar(course: Path):
    change_built(course, lambda nb: nb.cells[1].outputs[0].update(text="43\n"))
    change_built(course, output(3, "1\n"))  # a stream in pieces, with bars in between
    change_built(course, lambda nb: nb.cells[3].outputs[1].update(text="2\n3\n"))
    said = nbval(course.parent)
    assert " 1 failed, 6 passed" in said
    assert f"{NAME}.ipynb::Cell 0" in said
    assert "Cell outputs differ" in said
