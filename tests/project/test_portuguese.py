"""Portuguese as a lecturer would write it: no calque that has stood here before.

``notebooks/portuguese.csv`` holds a pattern a row, with an example and a better way to
say it. The lessons are held to the rows marked ``yes``, all other texts to every row.
"""

import csv
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LESSONS = [
    *sorted((ROOT / "notebooks/pt").glob("*.py")),
    *sorted((ROOT / "vae_teach/lessons").glob("*.toml")),
]
OTHERS = [
    ROOT / "vae_teach/words.toml",
    ROOT / "notebooks/glossary.csv",
    *sorted(ROOT.glob("*.pt.md")),
    *sorted((ROOT / "book/pages/pt").glob("*.md")),
]
CODE = re.compile(r"(?ms)^ *```.*?^ *```|`[^`\n]+`|\{[^{}\n]*\}|\]\([^)\n]*\)")
with (ROOT / "notebooks/portuguese.csv").open(encoding="utf-8", newline="") as file:
    RULES = [*csv.DictReader(file)]


def text_of(path):
    """Return what a file says in Portuguese, without code and placeholders."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".toml":
        text = "\n".join(phrase["pt"] for phrase in tomllib.loads(text).values())
    elif path.suffix == ".csv":
        text = "\n".join(row["pt"] for row in csv.DictReader(text.splitlines()))
    elif path.suffix == ".py":
        cells = text.partition("# %%")[2]  # after the header
        text = "\n".join(re.findall(r"(?m)^ *# (?!%%)(.*)$", cells))
    return CODE.sub(" … ", text)


def ruled_out(text, rules):
    return [
        f"{found[0]!r}: rather {rule['better']!r}"
        for rule in rules
        for found in re.finditer(rf"(?i){rule['pattern']}", text)
    ]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["stands"])
def test_a_rule_finds_its_example_and_not_the_better_way(rule):
    assert ruled_out(rule["stands"], [rule])
    assert ruled_out(rule["better"], RULES) == []
    assert rule["lessons"] in ("", "yes")


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: path.name)
def test_pages_and_phrases_say_it_as_a_lecturer_would(path):
    assert len(text_of(path)) > 500  # the search itself works
    assert ruled_out(text_of(path), RULES) == []


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.name)
def test_lessons_say_it_as_a_lecturer_would(path):
    rules = [rule for rule in RULES if rule["lessons"] == "yes"]
    assert len(text_of(path)) > 500
    assert ruled_out(text_of(path), rules) == []
