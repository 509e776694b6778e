"""The code on the book's pages runs as it stands and prints what stands below it."""

import io
import re
import warnings
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from vae_teach.words import LANGUAGES, use_language

PAGES = Path(__file__).resolve().parents[2] / "book" / "pages"
BLOCK = re.compile(r"(?ms)^```python\n(.*?)^```\n(?:\n```output\n(.*?)^```\n)?")
NUMBER = re.compile(r"-?\d+(?:[.,]\d+)?")
NEAR = {"rel": 0.03, "abs": 0.3}  # what rounding on another machine may do to training
NAMES = [
    p.name for p in (PAGES / "en").glob("*.md") if BLOCK.search(p.read_text("utf-8"))
]


def blocks(language, name):
    """Return the code of a page, block by block, each with what it says is printed."""
    return BLOCK.findall((PAGES / language / name).read_text(encoding="utf-8"))


def printed(code, names):
    """Run code; return what a reader sees of it, warnings included."""
    with redirect_stdout(io.StringIO()) as out, warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_, **__: print(message)
        exec(code, names)
    return out.getvalue()


def same(found, shown):
    """Tell whether two texts have the same words, and numbers close to each other."""
    words, others = (NUMBER.sub("#", text).split() for text in (found, shown))
    numbers, near = (
        [float(number.replace(",", ".")) for number in NUMBER.findall(text)]
        for text in (found, shown)
    )
    return words == others and numbers == pytest.approx(near, **NEAR)


def test_there_is_code_to_run():
    assert NAMES == ["your-model.md"]


@pytest.mark.parametrize("name", NAMES)
def test_the_code_is_the_same_in_both_languages(name):
    pt, en = ([code for code, _ in blocks(language, name)] for language in LANGUAGES)
    assert pt == en
    text = (PAGES / "en" / name).read_text(encoding="utf-8")
    assert len(en) == text.count("```python")
    assert sum(1 for _, shown in blocks("en", name) if shown) == text.count("```output")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", NAMES)
def test_the_code_prints_what_the_page_shows(name, language):
    use_language(language)
    names = {}
    for code, shown in blocks(language, name):
        found = printed(code, names)
        assert same(found, shown), found


@pytest.mark.parametrize(
    ("shown", "equal"),
    [
        ("ELBO = -140.1, a bound", True),
        ("ELBO =  -138,9, a\nbound", True),
        ("ELBO = 140.1, a bound", False),
        ("ELBO = -151.0, a bound", False),
        ("ELBO = -140.1, no bound", False),
        ("ELBO = -140.1, a bound of 2", False),
        ("", False),
    ],
)
def test_another_word_or_another_number_is_seen(shown, equal):
    assert same("ELBO = -140.1, a bound\n", shown) == equal
