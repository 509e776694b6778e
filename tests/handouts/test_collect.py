"""What was handed in: read without running it, or run within limits, into a table."""

import csv
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import nbformat
import psutil
import pytest
from handed_in import (
    ASK,
    EMPTY,
    RIGHT,
    SAID_EMPTY,
    SAID_RIGHT,
    SAID_SQUARED,
    SETUP,
    WHEN,
    WRONG,
    answered,
    cell,
    hand_in,
    notebook,
    record,
)

from tools.building import tidy
from vae_teach.checks import __main__ as command
from vae_teach.collect import Limits, lessons, marks, reading, running
from vae_teach.collect.reading import Finding, read_handed, recorded
from vae_teach.collect.running import names_of, needed, run
from vae_teach.collect.table import SEPARATORS, harmless
from vae_teach.records import KIND, parsed
from vae_teach.words import CATALOGUE, say, use_language


@pytest.fixture(scope="module")
def course():
    return lessons()


@pytest.fixture(autouse=True)
def read_once(course, monkeypatch):
    monkeypatch.setattr(command, "lessons", lambda: course)


def collect(folder, *options, language="en"):
    """Return the rows of the table, after its heading, as lists."""
    out = folder.parent / "marks.csv"
    arguments = ["collect", str(folder), "--out", str(out), "--language", language]
    command.main([*arguments, *options])
    text = out.read_bytes().decode("utf-8-sig")
    return [*csv.reader(io.StringIO(text), delimiter=SEPARATORS[language])][1:]


def states(folder, name, course):
    return recorded(read_handed(folder / name, folder, course))


# --- the exercises and their records --------------------------------------------------


def test_every_exercise_of_every_lesson_is_found_with_its_own_check(course):
    from importlib import import_module

    assert len(course) >= 5
    for lesson in course:
        checks = [(e.module, e.check) for e in lesson.exercises.values()]
        assert len({*checks}) == len(checks) >= 4, lesson.name
        for key, exercise in lesson.exercises.items():
            assert key.startswith("exercise-")
            module = import_module(f"vae_teach.checks.{exercise.module}")
            assert callable(getattr(module, exercise.check))
            assert "my_" in exercise.call


RECORDS = {
    "right": ([SAID_RIGHT], Finding("right", "", WHEN)),
    "wrong": ([SAID_SQUARED], Finding("wrong", "latents-radius-squared", WHEN)),
    "empty": ([SAID_EMPTY], Finding("empty", "", WHEN)),
    "no output": ([], Finding("none")),
    "the last counts": ([SAID_RIGHT, SAID_SQUARED], None),
    "of another check": (
        [record(True, "latents-walk-right", check="latents.active_count")],
        Finding("none"),
    ),
    "a text alone": ([{"output_type": "stream", "text": "✔ Right."}], Finding("none")),
}


@pytest.mark.parametrize("case", RECORDS)
def test_a_record_becomes_a_finding(tmp_path, course, case):
    outputs, expected = RECORDS[case]
    hand_in(tmp_path, "a.ipynb", answered(RIGHT, *outputs))
    expected = expected or Finding("wrong", "latents-radius-squared", WHEN)
    assert states(tmp_path, "a.ipynb", course)["exercise-radius"] == expected
    assert states(tmp_path, "a.ipynb", course)["exercise-walk"] == Finding("none")


def test_records_below_solutions_do_not_count_and_those_of_own_cells_do(
    tmp_path, course
):
    solved = cell("solution-radius", ASK, SAID_RIGHT, tags=["solution"])
    whole = answered(EMPTY, SAID_EMPTY)
    hand_in(tmp_path, "a.ipynb", whole | {"cells": [*whole["cells"], solved]})
    assert states(tmp_path, "a.ipynb", course)["exercise-radius"].state == "empty"
    own = cell("", RIGHT + ASK, SAID_RIGHT)
    hand_in(tmp_path, "b.ipynb", whole | {"cells": [*whole["cells"], own]})
    assert states(tmp_path, "b.ipynb", course)["exercise-radius"].state == "right"


def test_a_cell_is_known_by_its_metadata_where_a_program_gave_it_another_id(
    tmp_path, course
):
    whole = answered(RIGHT, SAID_RIGHT)
    for number, each in enumerate(whole["cells"]):
        each["id"] = f"x{number}"
    hand_in(tmp_path, "a.ipynb", whole)
    assert states(tmp_path, "a.ipynb", course)["exercise-radius"].state == "right"


GOOD = SAID_RIGHT["data"][KIND]
NO_RECORDS = [
    *(None, [], "right", {}, GOOD | {"version": 2}),
    *(GOOD | {"right": value} for value in ("yes", 1, None)),
    *(GOOD | {"hint": value} for value in ("=cmd|' /C x'!A0", None, ["check-right"])),
    *(GOOD | {"when": value} for value in ("=1+1", None, "2026-13-01")),
    GOOD | {"check": 3},
]


@pytest.mark.parametrize("content", NO_RECORDS)
def test_what_is_no_record_is_refused(content):
    with pytest.raises(ValueError):  # noqa: PT011 - the reason is nobody's to read
        parsed(content)


@pytest.mark.parametrize("when", ["0001-01-01T00:00+23:00", "9999-12-31T23:59-23:00"])
def test_a_time_outside_of_the_calendar_is_no_record(tmp_path, course, when):
    out = record(True, "latents-radius-right", when=when)
    hand_in(tmp_path, "a.ipynb", answered(RIGHT, out))
    assert states(tmp_path, "a.ipynb", course)["exercise-radius"] == Finding("none")


def test_a_built_notebook_holds_no_record():
    printed = {"output_type": "stream", "name": "stdout", "text": "no data"}
    built = nbformat.from_dict(answered(RIGHT, SAID_RIGHT, printed))
    outputs = tidy(built, Path("notebooks/pt/05_x.py").resolve()).cells[1].outputs
    assert outputs[0].data == {"text/plain": "✔ Right."}
    assert outputs[1].text == "no data"


# --- files that are no answer ---------------------------------------------------------


def huge(path):
    path.touch()
    os.truncate(path, reading.MOST_BYTES + 1)  # a hole, which takes no room


SKIPPED = {
    "half": (lambda p: p.write_bytes(b'{"cells": ['), "collect-broken"),
    "empty": (lambda p: p.write_bytes(b""), "collect-broken"),
    "binary": (lambda p: p.write_bytes(bytes(range(256))), "collect-broken"),
    "deep": (lambda p: p.write_bytes(b"[" * 100_000), "collect-broken"),
    "version 3": (lambda p: p.write_bytes(b'{"worksheets": []}'), "collect-broken"),
    "cells of numbers": (
        lambda p: p.write_bytes(b'{"cells": [1], "metadata": {}}'),
        "collect-broken",
    ),
    "odd sources": (
        lambda p: p.write_text(json.dumps(notebook(cell("setup", [[1]])))),
        "collect-broken",
    ),
    "another course": (
        lambda p: p.write_text(json.dumps(notebook(cell("hello", "1 + 1")))),
        "collect-foreign",
    ),
    "no cells": (lambda p: p.write_text(json.dumps(notebook())), "collect-foreign"),
    "huge": (huge, "collect-huge"),
    "a pipe": (lambda p: os.mkfifo(p), "collect-no-file"),
    "a link": (
        lambda p: p.symlink_to(
            hand_in(p.parents[2], "target", answered(RIGHT, SAID_RIGHT))
        ),
        "collect-no-file",
    ),
    "a link to nothing": (lambda p: p.symlink_to("nowhere"), "collect-no-file"),
}


@pytest.mark.parametrize("case", SKIPPED)
def test_what_cannot_be_read_is_told_has_a_row_and_the_others_are_read(
    tmp_path, capsys, case
):
    make, key = SKIPPED[case]
    folder = tmp_path / "in"
    hand_in(folder, "zoe/05.ipynb", answered(RIGHT, SAID_RIGHT))
    bad = folder / "bad" / "05.ipynb"
    bad.parent.mkdir()
    make(bad)
    first, *others = collect(folder)
    reason = say(key, file="bad/05.ipynb", size=16)
    assert first == ["bad", "bad/05.ipynb", *[""] * 7, reason]
    assert reason in capsys.readouterr().err.splitlines()
    assert [row[0] for row in others] == ["zoe"] * 5
    assert others[0][3:7] == ["radius", "right", "", WHEN]


def test_odd_metadata_is_nobodys_key(tmp_path, course):
    odd = [
        cell("", "1") | {"metadata": value, "id": value}
        for value in (None, [], 3, "x", {"key": [1]}, {"tags": 3}, {"tags": "solution"})
    ]
    outputs = [None, 3, {"data": None}, {"data": {KIND: None}}, SAID_RIGHT]
    hand_in(tmp_path, "a.ipynb", answered(RIGHT, *outputs, before=odd))
    assert states(tmp_path, "a.ipynb", course)["exercise-radius"].state == "right"
    whole = answered(RIGHT)
    whole["cells"][1]["outputs"] = "none"
    hand_in(tmp_path, "b.ipynb", whole)
    assert states(tmp_path, "b.ipynb", course)["exercise-radius"].state == "none"


def test_hidden_files_are_left_out_links_not_followed_and_others_counted(
    tmp_path, capsys
):
    folder = tmp_path / "in"
    for name in (".x.ipynb", "ana/.ipynb_checkpoints/05.ipynb"):
        hand_in(folder, name, answered(RIGHT, SAID_RIGHT))
    hand_in(tmp_path, "else/05.ipynb", answered(RIGHT, SAID_RIGHT))
    (folder / "elsewhere").symlink_to(tmp_path / "else")
    hand_in(folder, "ana/notes.pdf", b"")
    assert collect(folder) == []
    said = capsys.readouterr().err
    assert say("collect-nothing", folder=folder) in said
    assert say("collect-others", count=1) in said


def test_without_run_nothing_is_started_and_nothing_of_a_notebook_runs(
    tmp_path, monkeypatch
):
    def refuse(*_, **__):
        raise AssertionError("something is run")

    for name in ("subprocess.Popen", "os.system", "builtins.exec", "builtins.eval"):
        monkeypatch.setattr(name, refuse)
    trap = f"open({str(tmp_path / 'trap')!r}, 'w')\n"
    whole = answered(trap + RIGHT, SAID_RIGHT, before=[cell("", f"!{trap}")])
    hand_in(tmp_path / "in", "eve.ipynb", whole)
    assert len(collect(tmp_path / "in")) == 5
    assert not (tmp_path / "trap").exists()


# --- the table ------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["pt", "en"])
def test_the_table_speaks_the_language_and_its_spreadsheets_separator(
    tmp_path, language
):
    hand_in(tmp_path / "in", "ana maria/lição.ipynb", answered(WRONG, SAID_SQUARED))
    hand_in(tmp_path / "in", "bob.ipynb", answered(EMPTY, SAID_EMPTY))
    rows = collect(tmp_path / "in", language=language)
    assert len(rows) == 10
    wrong, empty, none = (
        CATALOGUE[f"state-{name}"][language] for name in ("wrong", "empty", "none")
    )
    about = ["ana maria", "ana maria/lição.ipynb", "05_latent_space", "radius"]
    hint = "latents-radius-squared"
    assert rows[0] == [*about, wrong, hint, WHEN, "", "", ""]
    assert rows[1][3:5] == ["tiles", none]
    assert rows[5][:5] == ["bob", "bob.ipynb", "05_latent_space", "radius", empty]


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+1", "-1", "@A1", "  =1", "\t=1", "\r=1", "\n=cmd|' /C x'!A0", "＝1"],
)
def test_no_cell_is_a_formula(text):
    shown = harmless(text)
    assert shown.startswith("'")
    assert shown.isprintable()


def test_names_of_files_reach_the_table_harmless(tmp_path):
    name = b'=HYPERLINK("x"),\n\xff'.decode("utf-8", "surrogateescape")
    hand_in(tmp_path / "in", f"{name}/05.ipynb", answered(RIGHT, SAID_RIGHT))
    row = collect(tmp_path / "in")[0]
    assert row[0] == '\'=HYPERLINK("x"), ?'
    assert row[1].startswith("'=HYPERLINK")
    assert len(row) == 10


def test_an_ordinary_name_is_left_as_it_is():
    for name in ("Ana-María (2)", "João d'Ávila, 1º", ""):
        assert harmless(name) == name


# --- the command ----------------------------------------------------------------------


@pytest.mark.parametrize("language", ["pt", "en"])
def test_the_help_warns_in_both_languages(capsys, language):
    with pytest.raises(SystemExit) as stop:
        command.main(["--help", "--language", language])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    assert CATALOGUE["collect-danger"][language].strip() in said
    assert "--run" in said


def test_what_the_command_cannot_serve_is_one_sentence(tmp_path):
    with pytest.raises(SystemExit) as stop:
        command.main(["collect", str(tmp_path / "x"), "--language", "en"])
    assert stop.value.code == f"{tmp_path / 'x'}: there is no such folder."
    (tmp_path / "in").mkdir()
    out = ["--out", str(tmp_path / "nowhere" / "x.csv"), "--language", "en"]
    with pytest.raises(SystemExit, match="nowhere"):
        command.main(["collect", str(tmp_path / "in"), *out])


def test_without_out_the_table_is_printed(tmp_path, capsys):
    hand_in(tmp_path, "ana.ipynb", answered(RIGHT, SAID_RIGHT))
    command.main(["collect", str(tmp_path), "--language", "en"])
    assert "ana,ana.ipynb,05_latent_space,radius,right" in capsys.readouterr().out


# --- which cells run ------------------------------------------------------------------


def test_names_are_those_of_the_notebook_and_not_of_its_functions():
    code = "import a.b, c as d\ndef f(x):\n    y = x + g\n    return y\nz = f(h)[0]"
    assert names_of(code) == ({"a", "d", "f", "z"}, {"g", "f", "h"})
    assert names_of("%magic") == names_of("(" * 500) == (set(), set())
    assert names_of("\ud800") == (set(), set())


def test_only_the_cells_that_exercises_need_are_run(course):
    (lesson,) = [lesson for lesson in course if lesson.name == "05_latent_space"]
    before = [
        cell("", "helper = lambda m: scale * m"),
        cell("blur-toy", "x = train_for_hours()"),
        cell("", "scale = 1"),
        cell("", "%%bash\nscale=2"),
    ]
    whole = answered("def my_radius(x):\n    return helper(x)\n\n\n", before=before)
    sources = [source for _, source in needed(whole, lesson.exercises)]
    assert "x = train_for_hours()" not in sources
    assert sources[:2] == [SETUP, "helper = lambda m: scale * m"]
    assert sources[2] == "scale = 1"


# --- the limits of a process ----------------------------------------------------------

SPAWN = """
import subprocess, sys
sleep = [sys.executable, "-c", "import time; time.sleep(99)", sys.argv[1]]
subprocess.Popen(sleep, start_new_session=True)
print("started", flush=True)
"""


def watch(code, seconds=30.0, size=2**29):
    """Run code as the kernel's process is run; return the reason and what it told."""
    marker = f"marker_{os.getpid()}"
    command = [sys.executable, "-c", code, marker]
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as told:
        reason = running.watched(command, given, told, Limits(seconds, size))
        told.seek(0)
        lines = [p.info["cmdline"] or [] for p in psutil.process_iter(["cmdline"])]
        assert not [line for line in lines if marker in line], "left behind"
        return reason, told.read()


def test_a_run_has_a_limit_of_time_and_leaves_no_process():
    start = time.monotonic()
    assert watch(SPAWN + "while True: pass", seconds=3)[0] == "time"
    assert time.monotonic() - start < 20


def test_a_run_has_a_limit_of_memory_over_all_its_processes():
    greedy = "x = [b'x' * 2**20 for _ in range(2000)]; import time; time.sleep(99)"
    child = f"subprocess.run([sys.executable, '-c', {greedy!r}, sys.argv[1]])"
    assert watch(SPAWN + child)[0] == "memory"


def test_what_a_run_left_behind_is_ended_with_it():
    """The look at its processes comes before the end."""
    assert watch(SPAWN + "import time; time.sleep(1)") == ("", b"started\n")


# --- running --------------------------------------------------------------------------

# A check in some lines, so that no test waits for PyTorch.
TINY = f"""
class Said:
    def __init__(self, right): self.right = right
    def _repr_mimebundle_(self, **_):
        about = {SAID_SQUARED["data"][KIND]!r} | {{"right": self.right}}
        return {{"text/plain": "", "{KIND}": about}}
"""
FORGED = f"""
from IPython.display import display
display({{"{KIND}": {SAID_RIGHT["data"][KIND]!r}, "text/plain": "Right."}}, raw=True)
def forged(): return 1
Said(True)
"""
CELLS = {  # an exercise's cell, and what is known of it after a run
    "forged": (FORGED, "wrong"),
    "printing": (
        "for _ in range(2000): print('x' * 10_000)\ndef printing(): return 2",
        "right",
    ),
    "asking": ("asking = input", "stopped"),
    "raising": ("1 / 0", "stopped"),
    "no_python": ("def no_python(: 2", "stopped"),
    "last": ("%pwd\ndef last(): return 2", "right"),
    "dead": ("import os\ndef dead(): os._exit(1)", "stopped"),
    "after": ("def after(): return 2", "stopped"),
}


def test_the_course_asks_itself_and_what_a_cell_shows_is_worth_nothing():
    """And one bad answer takes nothing from the others, until it ends the kernel."""
    exercises = {
        name: SimpleNamespace(
            module="latents", check="ring_radius", asks=f"Said({name}() == 2)"
        )
        for name in CELLS
    }
    cells = [("", TINY), *((name, source) for name, (source, _) in CELLS.items())]
    start = time.monotonic()
    found = run(cells, exercises, Limits(120, 2**30))
    assert time.monotonic() - start < 100  # a dead kernel is not waited for
    assert {name: found[name].state for name in CELLS} == {
        name: state for name, (_, state) in CELLS.items()
    }


def test_a_forged_record_is_caught(tmp_path, monkeypatch):
    """With the real check, in a real kernel; once, since both runs are the same."""
    folder, real, runs = tmp_path / "in", running.run, []
    hand_in(folder, "eve.ipynb", answered(WRONG, SAID_RIGHT))

    def run_once(cells, exercises, limits):
        runs.append(len(cells))
        found = real(cells, exercises, limits) if len(runs) == 1 else runs[0]
        runs[0] = found
        return {key: found[key] for key in exercises}

    monkeypatch.setattr(running, "run", run_once)
    rows = collect(folder, "--run", "--minutes", "3")
    differs = CATALOGUE["collect-differs"]["en"]
    found = ["right", "", WHEN, "wrong", "latents-radius-squared", differs]
    assert rows[0][4:] == found
    assert [row[7] for row in rows[1:]] == [
        "stopped by an error"
    ] * 4  # their cells are gone
    assert [row[9] for row in rows[1:]] == [""] * 4
    assert len(runs) == 2


def test_what_the_process_tells_is_not_believed_blindly():
    told = b'["a", null]\n[1\nnot\n["b", {"version": 1}]\n3\n["c"]\n{"d": 1}\n'
    answers = running.answers_in(told)
    assert [*answers] == ["a", "b"]
    walk = record(True, "latents-walk-right", "latents.unit_walk")["data"][KIND]
    one = SimpleNamespace(module="latents", check="ring_radius")
    for answer in (None, {"version": 1}, walk):
        assert running.judged({"a": answer}, "a", one, "").state == "stopped"


F = Finding
SAID = F("right", "", WHEN)
DOUBTS = {  # what is recorded, found first, and found in a run of all; what counts
    "agrees": (SAID, F("right", "", "later"), None, "right"),
    "both silent": (F("none"), F("empty"), None, "empty"),
    "forged": (SAID, F("wrong", "check-value"), F("wrong", "check-value"), "wrong"),
    "a cell was left out": (SAID, F("stopped"), F("right"), "right"),
    "no time for all": (SAID, F("wrong", "check-value"), F("time"), "wrong"),
    "all stops": (SAID, F("wrong", "check-value"), F("stopped"), "wrong"),
    "never run": (F("none"), F("right"), None, "right"),
    "another hint": (F("wrong", "check-value"), F("wrong", "x"), F("right"), "right"),
    "hangs": (SAID, F("time"), None, "time"),
    "eats": (SAID, F("memory"), None, "memory"),
}


@pytest.mark.parametrize("case", DOUBTS)
def test_all_is_run_only_where_that_could_save_an_answer(
    tmp_path, monkeypatch, course, case
):
    said, first, second, counts = DOUBTS[case]
    path = hand_in(tmp_path, "a.ipynb", answered(RIGHT))
    handed = read_handed(path, tmp_path, course)
    stored = dict.fromkeys(handed.lesson.exercises, F("none"))
    stored["exercise-radius"], given = said, []

    def fake(cells, exercises, limits):
        given.append([*exercises])
        others = dict.fromkeys(exercises, F("empty"))
        return others | {"exercise-radius": second if len(given) > 1 else first}

    monkeypatch.setattr(running, "run", fake)
    found = running.rerun(handed, stored, Limits())
    assert found["exercise-radius"].state == counts
    assert given[1:] == ([] if second is None else [["exercise-radius"]])
    row, *_ = marks(handed, stored, found)
    judged = counts in ("right", "wrong")
    differs = (
        judged
        and said.state != "none"
        and (said.state, said.hint)
        != (
            found["exercise-radius"].state,
            found["exercise-radius"].hint,
        )
    )
    assert bool(row.note) is differs


def test_the_kernels_process_needs_no_pytorch():
    code = "import sys, vae_teach.collect.kernel as k; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "False\n"


def test_every_state_has_a_word_in_both_languages():
    for language in ("pt", "en"):
        use_language(language)
        words = [
            say(f"state-{name}")
            for name in ["right", "wrong", "empty", "none", "stopped", "time", "memory"]
        ]
        assert len({*words}) == 7
