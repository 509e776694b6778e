"""The suite's own guards: a skip is never silent where VAE_TEACH_NO_SKIPS is 1."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).resolve().parents[1] / "conftest.py"
OPTIONS = ["--nbval-lax", "--nbval-current-env", "--continue-on-collection-errors"]
OPTIONS += ["tests", "lesson.ipynb"]
SKIPS = {
    "mark": '@pytest.mark.skip("because of a mark")\ndef test_it(): pass',
    "call": 'def test_it(): pytest.skip("because of a call")',
    "fixture": '@pytest.fixture\ndef f(): pytest.skip("because of a fixture")\n'
    "def test_it(f): pass",
    "unittest": "import unittest\nclass Test(unittest.TestCase):\n"
    '    def test_it(self): raise unittest.SkipTest("because of a unittest")',
    "module": 'pytest.skip("because of a module", allow_module_level=True)',
    "import": 'pytest.importorskip("nothing", reason="because of a import")',
    "mnist": "@pytest.mark.mnist\ndef test_it(): pass",
}
SENTENCES = [
    "MNIST is missing: let VAE_TEACH_DATA name a folder that holds MNIST/raw",
    *(f"because of a {kind}" for kind in SKIPS if kind != "mnist"),
]
OTHERS = """
@pytest.mark.xfail
def test_marked(): assert False
def test_called(): pytest.xfail("known")
def test_good(): pass
"""
CELL = """{"cells": [{"cell_type": "code", "execution_count": 1, "id": "a",
"metadata": {"tags": ["nbval-skip"]}, "outputs": [], "source": "1 / 0"}],
"metadata": {}, "nbformat": 4, "nbformat_minor": 5}"""


def run(folder, no_skips, workers="0"):
    """Run a suite of skips; return its exit code and what it printed."""
    tests = folder / "tests"  # the cell is beside it, out of conftest.py's folder
    tests.mkdir()
    shutil.copy(CONFTEST, tests)
    for name, source in {**SKIPS, "others": OTHERS}.items():
        (tests / f"test_{name}.py").write_text("import pytest\n" + source)
    (folder / "lesson.ipynb").write_text(CELL)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = mnist: needs MNIST\n")
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    env["VAE_TEACH_NO_SKIPS"] = no_skips
    nowhere = str(folder / "nowhere")
    env |= dict.fromkeys(("VAE_TEACH_DATA", "XDG_CACHE_HOME", "HOME"), nowhere)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rA", "-n", workers, *OPTIONS],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=600,
    )
    return done.returncode, done.stdout


def summary(output, outcomes):
    """Return the summary's lines with these outcomes, one per test."""
    return re.findall(rf"^(?:{outcomes}) .*", output, re.MULTILINE)


def test_without_the_guard_skips_are_skips(tmp_path):
    code, output = run(tmp_path, no_skips="0")
    assert code == 0
    skipped = "\n".join(summary(output, "SKIPPED"))
    assert all(sentence in skipped for sentence in SENTENCES), output
    assert "1 passed, 8 skipped, 2 xfailed" in output


@pytest.mark.parametrize("workers", ["0", "1"], ids=["alone", "xdist"])
def test_with_the_guard_each_skip_fails_and_keeps_its_sentence(tmp_path, workers):
    code, output = run(tmp_path, "1", workers)
    assert code == 1
    assert summary(output, "SKIPPED") == []
    assert len(summary(output, "FAILED|ERROR")) == 8, output
    assert output.count("not run, which CI forbids") >= 8
    assert all(sentence in output for sentence in SENTENCES), output
    assert len(summary(output, "XFAIL")) == 2
    assert len(summary(output, "PASSED")) == 1


# --- notebooks ------------------------------------------------------------------------

ROOT = CONFTEST.parents[1]
SHOWN = """
class Said:
    def _repr_mimebundle_(self, **_):
        return {"text/plain": "said", "application/vnd.vae-teach.verdict+json": {}}
Said()
"""


@pytest.mark.parametrize("stored", ["said", "another"])
def test_a_stored_verdict_needs_no_record_and_must_be_the_same(tmp_path, stored):
    """A record holds a time, so that no stored notebook has one."""
    output = {"output_type": "execute_result", "execution_count": 1, "metadata": {}}
    output |= {"data": {"text/plain": [stored]}}
    about = {"tags": ["nbval-check-output"]}
    cell = {"cell_type": "code", "id": "a", "execution_count": 1, "source": SHOWN}
    cell |= {"metadata": about, "outputs": [output]}
    whole = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (tmp_path / "a.ipynb").write_text(json.dumps(whole), encoding="utf-8")
    shutil.copy(ROOT / "conftest.py", tmp_path)
    (tmp_path / "pytest.ini").touch()
    command = [sys.executable, "-m", "pytest", *OPTIONS[:2], "a.ipynb"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == (stored != "said"), done.stdout
