"""The table of breaks: each can be made, and the tool tells a red one from a green."""

import re
from pathlib import Path

import pytest
from listing import lists

from tools import mutants

ROOT = Path(__file__).resolve().parents[2]
ROWS = mutants.read_table()


@lists
def test_each_break_of_the_table_can_be_made():
    """What it replaces stands in its file once, and its tests are there."""
    if len(ROWS) < 150:
        yield f"{len(ROWS)} breaks only"
    for row in ROWS:
        for name in re.findall(r"\S+\.py", row["tests"]):
            if not (ROOT / name.partition("::")[0]).exists():
                yield f"{row['area']}: no {name}"
        try:
            changed = list(mutants.broken(row, ROOT))
        except (ValueError, OSError) as error:
            yield f"{row['area']}: {error}"
        else:
            if not all(text != path.read_text("utf-8") for path, text in changed):
                yield f"{row['area']}: changes nothing"


@pytest.fixture
def course(tmp_path):
    (tmp_path / "sum.py").write_text("def add(a, b):\n    return a + b\n")
    test = "from sum import add\ndef test_add(): assert add(2, 2) == 4\n"
    (tmp_path / "test_sum.py").write_text(test)
    return tmp_path


@pytest.mark.parametrize(
    ("new", "tests", "outcome"),
    [
        ("a - b", "test_sum.py", "killed"),
        ("a * b", "test_sum.py", "SURVIVED"),
        ("a - b", "test_none.py", "NOT TRIED (4)"),
    ],
)
def test_a_break_is_made_judged_and_mended(course, new, tests, outcome):
    before = (course / "sum.py").read_bytes()
    row = {"area": "sums", "tests": tests, "edits": [["sum.py", "a + b", new]]}
    assert mutants.try_row(row, course)[0] == outcome
    assert (course / "sum.py").read_bytes() == before


def test_what_stands_twice_is_refused(course):
    row = {"edits": [["sum.py", "b", "c"]]}
    with pytest.raises(ValueError, match=r"sum\.py: 'b' stands there 2 times"):
        list(mutants.broken(row, course))
