"""A reader's copies: nothing that a reader wrote is lost, whatever the course becomes.

Judged by bytes and names in the folder, never by the course's own hashes.
"""

import errno
import itertools
import json
import os
import platform
import resource
from pathlib import Path

import pytest

from vae_teach import copies, lab
from vae_teach.copies import FOLDER, make_copies

LESSON = "notebooks/pt/02_elbo.ipynb"


def notebook(*sources, **metadata):
    cells = [
        {
            "cell_type": "code",
            "id": f"c{number}",
            "metadata": {},
            "source": source,
            "outputs": [],
            "execution_count": None,
        }
        for number, source in enumerate(sources)
    ]
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def write(path, *sources, **metadata):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(notebook(*sources, **metadata), ensure_ascii=False)
    path.write_text(text, encoding="utf-8")


def sources(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells]


def answer(path, text="1 + 1 == 2  # é"):
    """Answer a lesson as any editor would: its own layout of the JSON."""
    book = json.loads(path.read_text(encoding="utf-8"))
    book["cells"][1]["source"] = [text]
    path.write_text(json.dumps(book, indent=4), encoding="utf-8")
    return path.read_bytes()


@pytest.fixture
def course(tmp_path):
    for language in ("pt", "en"):
        write(tmp_path / f"notebooks/{language}/00_tour.ipynb", "a", "...")
        write(tmp_path / f"notebooks/{language}/02_elbo.ipynb", "b", "...", mine="é")
        (tmp_path / f"notebooks/{language}/02_elbo.py").write_text("b")
    return tmp_path


def listing(course, language="pt"):
    return sorted(p.name for p in (course / FOLDER / language).iterdir())


def test_each_lesson_is_there_once_and_nothing_else(course):
    assert make_copies(course) == ([], [])
    for language in ("pt", "en"):
        assert listing(course, language) == ["00_tour.ipynb", "02_elbo.ipynb"]
    mine = course / FOLDER / "pt/02_elbo.ipynb"
    assert sources(mine) == ["b", "..."]
    metadata = json.loads(mine.read_text(encoding="utf-8"))["metadata"]
    assert metadata.pop("vae_teach").keys() == {"lesson", "copy"}
    assert metadata == {"mine": "é"}


def test_copies_of_the_course_itself_differ_in_their_mark_alone(course):
    here = Path(__file__).resolve().parents[2] / "notebooks"
    original = here / "pt" / "00_tour.ipynb"
    copies.copy_lesson(original, course)
    ours, theirs = (
        json.loads(p.read_bytes()) for p in (original, course / "00_tour.ipynb")
    )
    for key in ("lesson", "copy"):
        del theirs["metadata"]["vae_teach"][key]
    version = theirs["metadata"]["language_info"].pop("version")
    assert version == platform.python_version()
    assert ours == theirs
    assert "jupytext" not in ours["metadata"]  # which would pair it with its .py


@pytest.mark.parametrize("updates", [1, 3])
def test_an_answer_survives_every_update_byte_for_byte(course, updates):
    make_copies(course)
    mine = course / FOLDER / "pt/02_elbo.ipynb"
    answered = answer(mine)
    for number in range(updates):
        write(course / LESSON, f"version {number}", "...")
        beside, _ = make_copies(course)
        assert mine.read_bytes() == answered
        new = course / FOLDER / "pt/02_elbo-2.ipynb"
        assert beside == ([new] if number == 0 else [])  # renewed where untouched
        assert sources(new) == [f"version {number}", "..."]
        assert make_copies(course) == ([], [])
    assert listing(course) == ["00_tour.ipynb", "02_elbo-2.ipynb", "02_elbo.ipynb"]


def test_both_versions_answered_are_kept_and_the_third_comes_beside(course):
    make_copies(course)
    first = answer(course / FOLDER / "pt/02_elbo.ipynb")
    write(course / LESSON, "new", "...")
    make_copies(course)
    second = answer(course / FOLDER / "pt/02_elbo-2.ipynb", "another")
    write(course / LESSON, "newer", "...")
    assert make_copies(course)[0] == [course / FOLDER / "pt/02_elbo-3.ipynb"]
    assert (course / FOLDER / "pt/02_elbo.ipynb").read_bytes() == first
    assert (course / FOLDER / "pt/02_elbo-2.ipynb").read_bytes() == second


def test_an_untouched_copy_is_renewed_in_its_place(course):
    make_copies(course)
    write(course / LESSON, "new", "...")
    assert make_copies(course) == ([], [])
    assert listing(course) == ["00_tour.ipynb", "02_elbo.ipynb"]
    assert sources(course / FOLDER / "pt/02_elbo.ipynb") == ["new", "..."]


def test_an_untouched_copy_gets_new_outputs_and_one_that_was_run_keeps_its_own(course):
    make_copies(course)
    pt, en = (course / FOLDER / language / "02_elbo.ipynb" for language in ("pt", "en"))
    book = json.loads(pt.read_text(encoding="utf-8"))
    book["cells"][0]["outputs"] = [{"output_type": "stream", "text": "mine"}]
    pt.write_text(json.dumps(book), encoding="utf-8")
    run = pt.read_bytes()
    for language in ("pt", "en"):
        original = course / f"notebooks/{language}/02_elbo.ipynb"
        book = json.loads(original.read_text(encoding="utf-8"))
        change_output(book)
        original.write_text(json.dumps(book), encoding="utf-8")
    assert make_copies(course) == ([], [])
    assert pt.read_bytes() == run
    assert b"7 hours" in en.read_bytes()
    assert len(listing(course)) == len(listing(course, "en")) == 2


def change_output(book):
    book["cells"][0]["outputs"] = [{"output_type": "stream", "text": "7 hours"}]


def change_metadata(book):
    book["metadata"]["note"] = "mine"


def add_cell(book):
    book["cells"].append(notebook("mine")["cells"][0])


def forget_the_mark(book):
    del book["metadata"]["vae_teach"]


def spoil_the_mark(book):
    book["metadata"]["vae_teach"] = "mine"


@pytest.mark.parametrize(
    "change",
    [change_output, change_metadata, add_cell, forget_the_mark, spoil_the_mark],
)
def test_whatever_a_reader_changed_makes_the_copy_theirs(course, change):
    make_copies(course)
    mine = course / FOLDER / "pt/02_elbo.ipynb"
    book = json.loads(mine.read_text(encoding="utf-8"))
    change(book)
    mine.write_text(json.dumps(book), encoding="utf-8")
    kept = mine.read_bytes()
    write(course / LESSON, "new", "...")
    make_copies(course)
    assert mine.read_bytes() == kept
    assert sources(course / FOLDER / "pt/02_elbo-2.ipynb") == ["new", "..."]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe\x00", b"{}", b"null"])
def test_a_damaged_copy_is_kept_as_well(course, content):
    make_copies(course)
    mine = course / FOLDER / "pt/02_elbo.ipynb"
    mine.write_bytes(content)
    make_copies(course)
    assert mine.read_bytes() == content
    assert sources(course / FOLDER / "pt/02_elbo-2.ipynb") == ["b", "..."]


def test_a_link_or_folder_of_the_readers_is_not_written_through(course):
    folder = course / FOLDER / "pt"
    (folder / "02_elbo.ipynb").mkdir(parents=True)
    (folder / "00_tour.ipynb").symlink_to(course / "elsewhere")
    make_copies(course)
    assert not (course / "elsewhere").exists()
    assert sources(folder / "00_tour-2.ipynb") == ["a", "..."]
    assert sources(folder / "02_elbo-2.ipynb") == ["b", "..."]


def test_a_copy_that_the_reader_renamed_is_theirs_and_counts(course):
    make_copies(course)
    folder = course / FOLDER / "pt"
    (folder / "02_elbo.ipynb").rename(folder / "02_elbo_ana.ipynb")
    make_copies(course)
    assert listing(course) == ["00_tour.ipynb", "02_elbo_ana.ipynb"]


def test_an_answer_written_in_the_lesson_itself_comes_along(course):
    """As one who opened notebooks/ in VS Code, and then the course with ``lab``."""
    in_place = answer(course / LESSON)
    make_copies(course)
    assert sources(course / FOLDER / "pt/02_elbo.ipynb") == ["b", "1 + 1 == 2  # é"]
    mine = answer(course / FOLDER / "pt/02_elbo.ipynb", "better")
    again = answer(course / LESSON, "in place again")
    assert make_copies(course)[0] == [course / FOLDER / "pt/02_elbo-2.ipynb"]
    assert (course / FOLDER / "pt/02_elbo.ipynb").read_bytes() == mine
    assert (course / LESSON).read_bytes() == again != in_place


BROKEN = {
    "not UTF-8": lambda path: path.write_bytes(b"\xff\xff{}"),
    "a list": lambda path: path.write_text("[]"),
    "half of it": lambda path: path.write_text('{"cells": ['),
    "a dangling link": lambda path: path.symlink_to("nowhere"),
    "a folder": lambda path: path.mkdir(),
    "deep": lambda path: path.write_text("[" * 100_000),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_lesson_that_cannot_be_read_is_told_and_the_others_come(course, case):
    (course / LESSON).unlink()
    BROKEN[case](course / LESSON)
    beside, unread = make_copies(course)
    assert beside == []
    assert len(unread) == 1
    assert "02_elbo.ipynb cannot be read as a notebook" in unread[0]
    assert listing(course) == ["00_tour.ipynb"]


def test_a_disk_that_is_full_halfway_leaves_no_half_copy(course):
    """As the limit on a file's size: the system takes 100 bytes, and then no more."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(OSError, match="large"):
            make_copies(course)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert listing(course, "en") == []


def full_disk():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# --- what the command says ------------------------------------------------------------


@pytest.fixture
def opened(course, monkeypatch):
    """Return what ``lab`` does before JupyterLab starts: its folder, and what opens."""
    monkeypatch.setattr(lab, "HERE", course / "vae_teach")

    def run(language="pt"):
        folder = lab.readers_folder(language)
        return folder, lab.jupyterlab_arguments(language, [], folder)[-1]

    return run


TOUR = "--LabApp.default_url=/lab/workspaces/vae-teach-{0}/tree/{1}/{0}/00_tour.ipynb"


@pytest.mark.parametrize(
    ("language", "word"), [("pt", "cópias suas"), ("en", "copies of your own")]
)
def test_the_first_time_says_where_and_later_ones_nothing(
    opened, capsys, language, word
):
    assert opened(language) == (FOLDER, TOUR.format(language, FOLDER))
    said = capsys.readouterr().err
    assert word in said
    assert said.count("\n") == 1
    opened(language)
    assert capsys.readouterr().err == ""


def test_a_version_beside_is_told_by_name(course, opened, capsys):
    opened()
    answer(course / FOLDER / "pt/02_elbo.ipynb")
    write(course / LESSON, "new", "...")
    capsys.readouterr()
    opened()
    assert f"{FOLDER}/pt/02_elbo-2.ipynb" in capsys.readouterr().err


def test_where_nothing_can_be_written_the_lessons_open_where_they_are(
    course, opened, capsys
):
    (course / FOLDER).write_text("a file where a folder must be")
    assert opened("en") == ("notebooks", TOUR.format("en", "notebooks"))
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "nothing can be written there" in said


def test_copies_stay_what_opens_where_nothing_more_can_be_written(
    course, opened, monkeypatch, capsys
):
    opened()
    capsys.readouterr()
    write(course / LESSON, "new", "...")
    monkeypatch.setattr(copies, "marked", lambda _: full_disk())
    assert opened("en") == (FOLDER, TOUR.format("en", FOLDER))
    assert "your copies open as they are" in capsys.readouterr().err


def test_a_tour_that_the_reader_moved_opens_the_folder(course, opened, monkeypatch):
    opened()
    folder = course / FOLDER / "pt"
    (folder / "00_tour.ipynb").rename(folder / "00_tour (feito).ipynb")
    assert opened()[1].endswith(f"/tree/{FOLDER}/pt")


def test_hash_of_a_lesson_sees_words_and_kinds_of_cells_but_no_outputs(course):
    books = [notebook("a", "b"), notebook("a", "c"), notebook("b", "a"), notebook("ab")]
    books.append(notebook("a", "b"))
    books[-1]["cells"][0]["cell_type"] = "markdown"
    hashes = [copies.lesson_hash(book) for book in books]
    assert all(a != b for a, b in itertools.combinations(hashes, 2))
    change_output(books[0])
    assert copies.lesson_hash(books[0]) == hashes[0]
