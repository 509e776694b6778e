"""What the formulas of the lessons say is true, at random points.

Each side of a formula is computed from its LaTeX. What names are worth stands in
``formulas/NN_slug.py``, as does the value of a formula that has one side only, from an
independent implementation; or, in a few words, why a formula has no value.
"""

import ast
import math
import re
import runpy
import tomllib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from latex import agree, plain, read
from listing import lists
from meanings import Names, Point, notebook

from tools import pages

TABLES = Path(__file__).resolve().parent / "formulas"
ROOT = TABLES.parents[2]
ADVICE = "correct it, or say what it is worth, or why it has no value, in"
LESSONS = sorted((ROOT / "notebooks").glob("*/*.py"))
PROSE = sorted((ROOT / "book" / "pages").glob("*/*.md"))
PHRASES = sorted((ROOT / "vae_teach" / "lessons").glob("*.toml"))


def typeset(text):
    """Every formula of a markdown text."""
    for token in pages.tokens(text):
        if token.type.startswith(("math", "amsmath")):
            yield token.content


def written(file):
    """Every formula of a file, after the cell or the phrase it stands in."""
    if file.suffix == ".py":
        for cell in notebook(file).cells:
            if cell.cell_type == "markdown":
                yield from ((cell.id, formula) for formula in typeset(cell.source))
    elif file.suffix == ".md":
        yield from (
            (file.stem, formula) for formula in typeset(file.read_text("utf-8"))
        )
    else:
        for key, phrase in tomllib.loads(file.read_text("utf-8")).items():
            for text in phrase.values() if isinstance(phrase, dict) else ():
                filled = re.sub(r"\{\w[^{}]*\}", "1", str(text))
                for formula in re.findall(r"\$([^$]+)\$", filled):
                    yield key, re.sub(r"(\{)\{|(\})\}", r"\1\2", formula)


def point_decimal(formula, language):
    """Write numbers as English does, without marks between thousands."""
    if language == "en":
        return formula.replace("{,}", "")
    return re.sub(r"(?<=\d)\.(?=\d{3})", "", formula).replace("{,}", ".")


@cache
def constants(file):
    """Return the numbers in the code around each cell, from heading to heading."""
    sections, found = [set()], {}
    for cell in notebook(file).cells if file.suffix == ".py" else ():
        if cell.cell_type == "markdown":
            sections += [set()] if re.search("(?m)^##", cell.source) else []
            found[cell.id] = sections[-1]
            continue
        for node in ast.walk(ast.parse(pages.python(cell.source))):
            value = node.value if isinstance(node, ast.Constant) else None
            sections[-1] |= {value} if type(value) in (int, float) else set()
    return found


@cache
def said(file):
    """Return every formula of a file, as {cell: {formula: as it is written}}."""
    cells = {}
    for cell, formula in written(file):
        formula = point_decimal(formula, file.parent.name)
        cells.setdefault(cell, {})[plain(formula)] = formula
    return cells


def is_in_code(value, numbers):
    """Return whether the code has a number, or each of a tuple, whatever its sign."""
    parts = value if isinstance(value, tuple) else (value,)
    return all(np.ndim(part) == 0 and abs(part) in numbers for part in parts)


def is_setting(left, right, numbers):
    """Return whether one name is compared with a number that the code has too."""
    name = re.fullmatch(r"(\\[a-z]+|[a-zA-Z])( \^ 2)?", " ".join(left.parts))
    return name and not right.named and is_in_code(right.value, numbers)


def brief(value):
    """Show a value, or the first of many."""
    if isinstance(value, tuple):
        return f"({', '.join(map(brief, value))})"
    numbers = np.ravel(value)
    return f"{numbers[0]:.6g}{', ...' if numbers.size > 1 else ''}"


def wrong(formula, told, others, names, numbers):
    """Yield what is not true in a formula, or what is not known of it."""
    for left, relation, right in read(formula, names):
        if relation and is_setting(left, right, numbers):
            continue
        if not relation and left.work == 0 and left.named:
            continue
        if not relation and told is None:
            fragment = any(plain(formula) in other for other in others)
            if not fragment and not (
                left.work == 0 and is_in_code(left.value, numbers)
            ):
                yield "has a value, and nothing to compare it with"
            continue
        sides = [side for side in (left, right) if side]
        unknown = sorted(set().union(*(side.unknown for side in sides)))
        value = right.value if relation else told
        if unknown:
            yield f"has names without a value: {unknown}"
        elif not agree(left.value, relation, value, sides[-1].rounding):
            yield f"is not true: {brief(left.value)} {relation or '='} {brief(value)}"
        elif not all(agree(a, "=", b) for side in sides for a, b in side.claims):
            yield "is not true of an underbrace, or at the ends of a sum"


def table(file):
    """Return the file that says what names are worth in a lesson, or on all pages."""
    stem = "pages" if file.suffix == ".md" else file.stem
    return TABLES / f"{stem}.py"


@cache
def meanings(file):
    """Return what a table says, as a function of a point."""
    if not file.exists():
        return lambda point: {}
    return cache(runpy.run_path(str(file))["meanings"])


def problems(file):
    advised = table(file).relative_to(ROOT)
    for cell, formulas in said(file).items():
        numbers = constants(file).get(cell, set())
        names = Names(meanings(table(file)), Point(), cell)
        for text, formula in formulas.items():
            told = names.get(text)
            if isinstance(told, str):
                continue  # the reason why it has no value
            others = formulas.keys() - {text}
            try:
                with np.errstate(all="ignore"):
                    found = [*wrong(formula, told, others, names, numbers)]
            except Exception as error:  # whatever a formula that makes no sense raises
                found = [f"cannot be computed ({error})"]
            where = f"{file.parent.name}/{file.name} [{cell}] ${formula}$"
            yield from (f"{where} {problem}; {ADVICE} {advised}" for problem in found)


READ = {  # with a = 2, b = 5 and f = sqrt
    "a b / 4 a": 5.0,
    "-a^2 + 3": -1.0,
    r"\log a b - \log(a) b": math.log(10) - 5 * math.log(2),
    r"\sin 3 a / 2": math.sin(6) / 2,
    r"\cos^2 a \sin b": math.cos(2) ** 2 * math.sin(5),
    r"e^{-a/2} b": 5 / math.e,
    r"\frac{1}{a} |a - b|": 1.5,
    "f(a + 2) a": 4.0,
    "a(b + 1)": 12.0,
    r"\sqrt{a + 2} b": 10.0,
    r"\nabla_{a} a^3": 12.0,
    r"\frac{\partial a b}{\partial a}": 5.0,
    r"da/db": 0.0,
    r"\log_2 (a a)": 2.0,
}


@lists
def test_latex_is_read_as_it_is_meant():
    """Values are written here by hand, in Python's own notation."""

    def point_and_values(at):
        return {"": {"a": 2 + at("a") - at.still("a"), "b": 5, "f": np.sqrt}}

    for formula, value in READ.items():
        ((found, _, _),) = read(formula, Names(point_and_values, Point(), ""))
        if not agree(found.value, "=", value):
            yield f"{formula} is read as {found.value}, not {value}"


@pytest.mark.parametrize(
    "file",
    [*LESSONS, *PHRASES, *PROSE],
    ids=lambda file: f"{file.parent.name}/{file.name}",
)
def test_formulas_are_true(file):
    found = [*problems(file)]
    assert not found, "\n".join(found)


@lists
def test_tables_name_what_is_there():
    """No cell and no reason outlives the formula that it was written for."""
    for file in sorted(TABLES.glob("*.py")):
        cells = {}
        for page in (*LESSONS, *PHRASES, *PROSE):
            for cell, formulas in said(page).items() if table(page) == file else ():
                cells.setdefault(cell, set()).update(formulas)
        for cell, names in meanings(file)(Point()).items():
            if cell and cell not in cells:
                yield f"{file.name}: no cell {cell} has formulas"
            reasons = [name for name, told in names.items() if isinstance(told, str)]
            for name in {*reasons} if cell else ():
                if plain(name) not in cells.get(cell, ()):
                    yield f"{file.name} [{cell}] has a reason for {name}, which is gone"
