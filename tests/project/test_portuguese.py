"""Portuguese as a lecturer would write it: no calque that has stood here before.

``notebooks/portuguese.csv`` holds a pattern a row, with an example and a better way to
say it. The lessons are held to the rows marked ``yes``, all other texts to every row.
"""

import csv
import re
import tomllib
from pathlib import Path

from listing import lists

ROOT = Path(__file__).resolve().parents[2]
LESSONS = [
    *sorted((ROOT / "notebooks/pt").glob("*.py")),
    *sorted((ROOT / "vae_teach/lessons").glob("*.toml")),
]
OTHERS = [
    ROOT / "vae_teach/words.toml",
    ROOT / "book/words.toml",
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
    for rule in rules:
        for found in re.finditer(f"(?i){rule['pattern']}", text):
            yield f"{found[0]!r}: rather {rule['better']!r}"


def all_ruled_out(paths, rules):
    for path in paths:
        text, name = text_of(path), path.relative_to(ROOT)
        if len(text) < 500:
            yield f"{name}: the search finds next to no Portuguese"
        yield from (f"{name}: {line}" for line in ruled_out(text, rules))


@lists
def test_a_rule_finds_its_example_and_not_the_better_way():
    for rule in RULES:
        if not any(ruled_out(rule["stands"], [rule])):
            yield f"{rule['pattern']} does not find {rule['stands']!r}"
        yield from ruled_out(rule["better"], RULES)
        if rule["lessons"] not in ("", "yes"):
            yield f"{rule['pattern']}: in the last column stands yes or nothing"


@lists
def test_pages_and_phrases_say_it_as_a_lecturer_would():
    yield from all_ruled_out(OTHERS, RULES)


@lists
def test_lessons_say_it_as_a_lecturer_would():
    yield from all_ruled_out(LESSONS, [r for r in RULES if r["lessons"] == "yes"])
