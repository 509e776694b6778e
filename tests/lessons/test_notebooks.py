"""The notebooks of the course have no problem that the check command can see."""

import pytest

from tools import notebooks
from tools.pages import ROOT, sources

NAMES = sorted({path.stem for path in sources(ROOT, [])})


def test_there_are_notebooks_and_both_languages_have_the_same_files() -> None:
    assert NAMES, "no notebooks: write notebooks/pt/NN_slug.py and en/NN_slug.py"
    assert "\n".join(notebooks.check_files(ROOT)) == ""


@pytest.mark.parametrize("name", NAMES)
def test_check_has_nothing_to_say_about(name: str) -> None:
    assert "\n".join(notebooks.check(ROOT, [name])) == ""
