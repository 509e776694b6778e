"""The wheel is the course: with nothing but it, ``lab`` brings the lessons."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from vae_teach import __version__

ROOT = Path(__file__).resolve().parents[2]
# A letter in brackets, so that this file does not match itself.
PLACES = re.compile(
    rb"py[p]i[.]org|py[t]honhosted|np[m]js|deb[.]d[e]bian|anaconda[.]org|crates[.]io"
    rb"|/roo[t]/|/hom[e]/[a-z]|/User[s]/[A-Za-z]|/wor[k]/(?:main|shared|wt)|/tm[p]/[a-z]"
)
LAB = "from vae_teach.lab import main; main()"
OTHERS = re.compile(r"vae_teach[/-].*|vae_teach_waiting\.pth")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Return the wheel, built as the pages say."""
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv is None:
        pytest.skip("uv is missing: pip install uv brings it")
    out = tmp_path_factory.mktemp("dist")
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    for place in ([], ["--offline"]):  # what builds it may be in uv's cache
        command = [uv, "build", "--wheel", "--out-dir", str(out), *place]
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True)
        if done.returncode == 0:
            break
    assert done.returncode == 0, done.stderr.decode()
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Return the folder into which an installer would unpack the wheel."""
    folder = tmp_path_factory.mktemp("site-packages")
    with zipfile.ZipFile(wheel) as zipped:
        zipped.extractall(folder)
    return folder


def run_lab(installed, cwd, *arguments):
    """Run ``lab`` of the unpacked wheel and return what it says; it must succeed."""
    done = lab(installed, cwd, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stderr


def lab(installed, cwd, *arguments):
    env = os.environ | {"PYTHONPATH": str(installed)}
    command = [sys.executable, "-c", LAB, *arguments]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)


def lessons(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*.ipynb"))


def test_the_wheel_holds_every_lesson_and_is_small(wheel):
    assert wheel.name == f"vae_teach-{__version__}-py3-none-any.whl"
    assert wheel.stat().st_size < 40e6
    with zipfile.ZipFile(wheel) as zipped:
        names = zipped.namelist()
        for path in (ROOT / "notebooks").glob("*/*.ipynb"):
            inside = f"vae_teach/notebooks/{path.parent.name}/{path.name}"
            assert zipped.read(inside) == path.read_bytes()
        for name in names:
            assert not PLACES.search(zipped.read(name)), name
    assert {"vae_teach/words.toml", "vae_teach/lessons/00_tour.toml"} <= {*names}
    assert [name for name in names if not OTHERS.fullmatch(name)] == []
    assert not [n for n in names if re.search(r"notebooks/.*(?<!\.ipynb)$", n)]


def test_the_pages_name_the_file(wheel):
    for language in ("pt", "en"):
        page = ROOT / "book" / "pages" / language / "install.md"
        assert f"pip install ./{wheel.name}\n" in page.read_text(encoding="utf-8")


def test_in_an_empty_folder_the_lessons_go_where_the_reader_says(installed, tmp_path):
    course = lessons(ROOT / "notebooks")
    said = run_lab(installed, tmp_path, "en", "copy", "--to", "my course")
    assert lessons(tmp_path / "my course") == course
    assert f"in {tmp_path / 'my course'}: no update" in said


def test_without_a_word_they_go_into_a_folder_of_this_one(installed, tmp_path):
    said = run_lab(installed, tmp_path, "pt", "copy")
    assert lessons(tmp_path / "my-notebooks") == lessons(ROOT / "notebooks")
    assert "cópias suas das lições, em my-notebooks" in said


def test_a_later_version_leaves_an_answer_and_says_so(installed, tmp_path):
    newer = tmp_path / "newer"
    shutil.copytree(installed, newer)
    run_lab(installed, tmp_path, "en", "copy", "--to=here")
    mine = tmp_path / "here" / "en" / "02_elbo.ipynb"
    book = json.loads(mine.read_bytes())
    book["cells"][0]["source"] = ["mine"]
    mine.write_text(json.dumps(book), encoding="utf-8")
    kept = mine.read_bytes()
    for language in ("en", "pt"):
        path = newer / "vae_teach" / "notebooks" / language / "02_elbo.ipynb"
        book = json.loads(path.read_bytes())
        book["cells"][0]["source"] = ["a later version"]
        path.write_text(json.dumps(book), encoding="utf-8")
    said = run_lab(newer, tmp_path, "en", "copy", "--to=here")
    assert "02_elbo-2.ipynb, and yours is as it was" in said
    assert said.count("\n") == 1
    assert mine.read_bytes() == kept
    assert b"a later version" in mine.with_name("02_elbo-2.ipynb").read_bytes()
    other = tmp_path / "here" / "pt" / "02_elbo.ipynb"
    assert b"a later version" in other.read_bytes()  # nobody had touched it


def test_lessons_never_open_inside_the_package(installed, tmp_path):
    """What pip installed goes with the next version, answers and all."""
    for name in ("taken", "my-notebooks"):
        (tmp_path / name).write_text("a file where a folder must be")
    for arguments in ([], ["--to", "taken"], ["--to", "taken/below"]):
        done = lab(installed, tmp_path, "en", *arguments)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert "choose another with --to" in done.stderr
