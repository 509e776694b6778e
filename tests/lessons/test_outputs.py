"""What the notebooks store, held without running them: texts, numbers and pictures."""

import ast
import base64
import contextlib
import functools
import io
import re
import string
import tomllib

import numpy as np
import pytest
from listing import lists
from PIL import Image

from tools import pages
from tools.pages import ROOT, code_cells, output_lists, python

PACKAGE = ROOT.parent / "vae_teach"
LESSONS = sorted({path.stem for path in pages.sources(ROOT, [])})
LANGUAGES = ("pt", "en")


@functools.cache
def page(language, lesson):
    return pages.read_page(ROOT / language / f"{lesson}.py")


@functools.cache
def catalogue(lesson):
    """Return the phrases that a lesson may say: its own and the package's."""
    files = (PACKAGE / "words.toml", PACKAGE / "lessons" / f"{lesson}.toml")
    texts = [file.read_text(encoding="utf-8") for file in files]
    return functools.reduce(dict.__or__, map(tomllib.loads, texts))


def every_page():
    return [(language, lesson) for lesson in LESSONS for language in LANGUAGES]


# --- texts --------------------------------------------------------------------------


def shown(language, lesson):
    """Return (key of the cell, text) of all that is printed, displayed or described."""
    found = []
    for key, outputs in output_lists(page(language, lesson).built):
        texts = [output.get("text", "") for output in outputs]
        texts += [output.get("data", {}).get("text/plain", "") for output in outputs]
        found += [(key, text) for text in (*texts, *pages.image_texts(outputs)) if text]
    return found


MARKS = {"pt": (r"\.", ","), "en": (",", r"\.")}  # of thousands and of decimals


def pattern(phrase, language):
    """Return what a phrase may have become, its decimals as many as it says."""
    thousands, decimal = MARKS[language]
    made = ""
    for literal, name, spec, _ in string.Formatter().parse(phrase):
        made += re.escape(literal)
        if found := re.search(r"\.(\d+)([fe%])", spec or ""):
            places, kind = int(found[1]), found[2]
            number = rf"\d[\d{thousands}]*" + rf"{decimal}\d{{{places}}}" * bool(places)
            number += {"e": " × 10[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+", "%": "%", "f": ""}[kind]
            made += rf"\s*[−+]?(?:{number}|inf|nan)\s*"
        elif name is not None:
            made += ".*?"
    return re.compile(made, re.DOTALL)


@functools.cache
def patterns(language, lesson):
    """Return those of phrases that say something: a word, or a decimal number."""
    phrases = [entry[language] for entry in catalogue(lesson).values()]
    tells = re.compile(r"[^\W\d](?![^{}]*\})|\.\d+[fe%]\}")
    return [pattern(p.strip(), language) for p in phrases if tells.search(p)]


VERDICT = re.compile(r"^[✔✘] (?:(?:Right|Certo)\. )?")
NUMBER = re.compile(r"[−+]?\d[\d.,]*%?|\[0\]|")  # [0]: an interval without width


def is_said(text, language, lesson):
    """Return whether a text is a phrase, a number, or some: in columns, a: b, a ± b."""
    text = VERDICT.sub("", text.strip())
    if NUMBER.fullmatch(text):
        return True
    if any(each.fullmatch(text) for each in patterns(language, lesson)):
        return True
    columns = re.split(r"\s{2,}|: | ± | (?=\[)", text)
    return len(columns) > 1 and all(is_said(c, language, lesson) for c in columns)


@lists
def test_each_stored_text_is_a_phrase_of_today():
    for language, lesson in every_page():
        for key, text in shown(language, lesson):
            whole = is_said(text, language, lesson)  # a description has no lines
            for line in () if whole else text.splitlines():
                if not is_said(line, language, lesson):
                    yield f"{language}/{lesson}: [{key}] {line!r}"


# --- numbers ------------------------------------------------------------------------

CLOCKED = {  # cells that say how long something took, whatever the language
    *("training-fit", "limit-products", "table-printed", "table-drawn"),
    *("larger-checked", "where-measured", "where-drawn", "answer-measured"),
}


def numbers(language, lesson):
    """Return the numbers that each cell shows, as they are set in English."""
    swap = str.maketrans(".,", ",.") if language == "pt" else {}
    found = {}
    for key, text in shown(language, lesson):
        text = re.sub(r"\b\d+\.\d{1,2}\.\d{1,2}\b", "", text)  # a version
        here = re.findall(r"[−+]?\d+(?:[.,]\d+)*", text.translate(swap))
        found.setdefault(key, []).extend(here)
    return {key: sorted(each) for key, each in found.items()}


@lists
def test_both_languages_show_the_numbers_of_one_run():
    for lesson in LESSONS:
        pt, en = (numbers(language, lesson) for language in LANGUAGES)
        for key in sorted((pt.keys() | en.keys()) - CLOCKED):
            if pt.get(key) != en.get(key):
                both = f"{pt.get(key)} in Portuguese, {en.get(key)} in English"
                yield f"{lesson}: [{key}] {both}; build both, or is it CLOCKED?"


@lists
def test_no_number_is_shown_as_the_machine_has_it():
    for language, lesson in every_page():
        for key, text in shown(language, lesson):
            if raw := re.search(r"\d[.,]\d{7,}", text):
                yield f"{language}/{lesson}: [{key}] {raw[0]}: give it a format"


# --- pictures -----------------------------------------------------------------------


def pictures(language, lesson):
    """Return the stored pictures by the keys of their cells."""
    return {
        key: base64.b64decode(output["data"]["image/png"])
        for key, outputs in output_lists(page(language, lesson).built)
        for output in outputs
        if "image/png" in output.get("data", {})
    }


def greys(png, *, part=1):
    """Return a picture in grey levels, or its ``part`` in each direction."""
    image = Image.open(io.BytesIO(png)).convert("L")
    across, down = image.size
    size = (across // part, down // part)
    return np.asarray(image.resize(size, Image.Resampling.BOX), dtype=float)


PATCH, REACH = 16, 4  # of pictures at half their size
MOVED = {"traversal"}  # the names of its rows, of other lengths, move and scale it


def patches(levels):
    down, across = (side // PATCH for side in levels.shape)
    kept = levels[: down * PATCH, : across * PATCH]
    return kept.reshape(down, PATCH, across, PATCH)


def shared(one, other):
    """Return how many patches with something drawn are in the other picture too.

    Texts differ between the languages and push what is drawn a few pixels.
    """
    frame = np.pad(other, REACH, constant_values=255)
    spread = patches(one).std((1, 3))
    best = np.full(spread.shape, np.inf)
    for down, across in np.ndindex(2 * REACH + 1, 2 * REACH + 1):
        moved = frame[down : down + one.shape[0], across : across + one.shape[1]]
        best = np.minimum(best, patches(np.abs(one - moved)).mean((1, 3)))
    drawn = spread > 12
    return (best[drawn] < 0.25 * spread[drawn]).mean()


@lists
def test_both_languages_show_the_pictures_of_one_run():
    for lesson in LESSONS:
        pt, en = (pictures(language, lesson) for language in LANGUAGES)
        if pt.keys() != en.keys():
            yield f"{lesson}: pictures of {sorted(pt.keys() ^ en.keys())} in one only"
        for key in pt.keys() & en.keys() - MOVED - CLOCKED:
            one, other = (greys(png, part=2) for png in (pt[key], en[key]))
            if one.shape != other.shape or shared(one, other) < 0.7:
                yield f"{lesson}: [{key}] other pictures in one language; build both"


LEARNS = re.compile(r"\bdata\.load\(|\btrain\.(?:trained|fit)\(|\bin range\(steps\)")
DRAWS = re.compile(
    r"manual_seed|rand|sample"
)  # of random numbers: the next depend on it
MOVES = re.compile(r"\bsweep\(")  # moves a widget and puts it back


def light(cells, wanted):
    """Return the cells that pictures need, of those before anything is learnt.

    The pictures after that depend on weights, which differ from machine to machine.
    """
    first = next((i for i, c in enumerate(cells) if LEARNS.search(c.source)), None)
    kept, names = [], set()
    for cell in reversed(cells[:first]):
        if MOVES.search(cell.source):
            continue
        nodes = [*ast.walk(ast.parse(python(cell.source)))]
        binds = {n.id for n in nodes if isinstance(n, ast.Name) and n.id in names}
        binds |= {getattr(n, "name", None) for n in nodes} & names
        binds |= {n.asname for n in nodes if isinstance(n, ast.alias)} & names
        if cell.id in wanted or binds or (kept and DRAWS.search(cell.source)):
            kept.insert(0, cell)
            names |= {n.id for n in nodes if isinstance(n, ast.Name)}
    return kept


def run(cell, names):
    """Run a cell and return what it displays."""
    tree = ast.parse(python(cell.source))
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(tree, cell.id, "exec"), names)
        return last and eval(
            compile(ast.Expression(last.value), cell.id, "eval"), names
        )


@pytest.mark.parametrize("lesson", LESSONS)
def test_the_code_of_today_draws_what_is_stored(lesson):
    stored, names = pictures("en", lesson), {}
    for cell in light(code_cells(page("en", lesson).source), stored.keys()):
        drawn = run(cell, names)
        if cell.id in stored:
            png = drawn.still()[0] if hasattr(drawn, "still") else drawn.png()
            apart = np.abs(greys(png) - greys(stored[cell.id]))
            near = sum(np.roll(apart, at, (0, 1)) for at in np.ndindex(3, 3)) / 9
            assert near.max() < 40, f"[{cell.id}] is out of date: build {lesson}"


# --- colours and names --------------------------------------------------------------

MEANINGS = {  # what a legend names, and the colours that it may have
    r"\bq\b|^ELBO": {"q"},
    r"\\mid x|\bposterior\b": {"posterior"},
    r"\bprior\b|p\(z\)": {"prior"},
    r"\bKL\b": {"kl"},
    r"\breconstruction\b": {"reconstruction"},
    r"\bf\(z\)": {"prior", "reconstruction"},  # what a decoder makes of z
}
BLACK = {"tour-minus-kl"}  # the exact value that a curve is held against
SYMBOLS = {  # what an axis may show, and how each language says it
    r"\\mu": r"\bmu\b|\bm[eé]dia|\bmean\b",
    r"\\sigma": r"\bsigma\b|vari[aâ]n|width|largura",
    r"\\varepsilon": r"\b[eé]psilon\b",
    r"E\}\[f": r"(?:average of|média de) f\b",
}


def role(node, names):
    """Return the thing whose colour an expression is, or None."""
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        holder = node.value
        where = getattr(holder, "attr", getattr(holder, "id", None))
        return node.slice.value if where == "COLORS" else None
    return names.get(getattr(node, "id", None))


def assigned(tree):
    """Return (name, expression) of each assignment, those of several at once too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            target, value = node.targets[0], node.value
            pairs = [(target, value)]
            if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                pairs = zip(target.elts, value.elts, strict=True)
            yield from ((name.id, v) for name, v in pairs if isinstance(name, ast.Name))


def words_of(node, names):
    """Return (key, None) of what is said, or (None, text) of what is written."""
    node = names.get(getattr(node, "id", None), node)
    if isinstance(node, ast.Constant):
        return None, node.value
    if isinstance(node, ast.Call) and pages.called(node) == "say":
        return getattr(node.args[0], "value", None), None
    return None, None


def drawn_calls(lesson):
    """Return (cell, what names it, the thing whose colour it has) of all legends."""
    colors = {}
    for cell in code_cells(page("en", lesson).source):
        tree = ast.parse(python(cell.source))
        texts = dict(assigned(tree))
        colors |= {name: role(value, colors) for name, value in texts.items()}
        for node in ast.walk(tree):
            given = {k.arg: k.value for k in getattr(node, "keywords", ())}
            if {"label", "color"} <= given.keys():
                key, text = words_of(given["label"], texts)
                text = catalogue(lesson)[key]["en"] if key else text
                yield cell.id, key, text, role(given["color"], colors)


@lists
def test_each_thing_in_a_legend_has_its_colour():
    found = [(lesson, *call) for lesson in LESSONS for call in drawn_calls(lesson)]
    assert len([color for *_, text, color in found if color and text]) > 15
    for lesson, cell, key, text, color in found:
        for meaning, colors in MEANINGS.items():
            named = text and re.search(meaning, text) and key not in BLACK
            if named and color not in colors:
                yield f"{lesson}: [{cell}] {text!r} is drawn in the colour of {color}"


def labels(source, which="[xy]"):
    return re.findall(rf'\b{which}label=r?"([^"]*)"', source)


@lists
def test_the_symbols_on_the_axes_are_in_the_description():
    for language, lesson in every_page():
        described = {
            key: " ".join(pages.image_texts(outputs))
            for key, outputs in output_lists(page(language, lesson).built)
        }
        for cell in code_cells(page(language, lesson).source):
            alt = described.get(cell.id)
            for symbol, said in SYMBOLS.items():
                on_axis = any(re.search(symbol, text) for text in labels(cell.source))
                if on_axis and alt and not re.search(said, alt):
                    yield f"{language}/{lesson}: [{cell.id}] {symbol} is not in {alt!r}"


@lists
def test_the_first_coordinate_runs_right_and_the_second_up():
    """And no symbol on both axes."""
    symbols = re.compile(r"\\(?:mu|sigma|varepsilon)|[a-z]_\d")
    for lesson in LESSONS:
        for cell in code_cells(page("en", lesson).source):
            for call in re.findall(r"\.set\((.*)\)", cell.source):
                right, up = ("".join(labels(call, which)) for which in "xy")
                both = {*symbols.findall(right)} & {*symbols.findall(up)}
                if both or "_2" in right or "_1" in up:
                    yield f"{lesson}: [{cell.id}] {right} runs right, and {up} up"


SIZES = {"fontsize", "labelsize", "size"}


@lists
def test_no_text_of_a_picture_is_smaller_than_seven_points():
    for lesson in LESSONS:
        for cell in code_cells(page("en", lesson).source):
            for node in ast.walk(ast.parse(python(cell.source))):
                size = getattr(getattr(node, "value", None), "value", None)
                small = isinstance(size, (int, float)) and size < 7
                if isinstance(node, ast.keyword) and node.arg in SIZES and small:
                    yield f"{lesson}: [{cell.id}] {node.arg}={size}"
