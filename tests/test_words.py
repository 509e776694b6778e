"""The catalogue of words: complete, paired, used, and numbers in the reader's way."""

import ast
import collections
import functools
import math
import re
import string
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from listing import lists
from scipy import stats

from vae_teach import words
from vae_teach.words import CATALOGUE, LANGUAGES, current_language, say, use_language

ROOT = Path(__file__).resolve().parent.parent
LESSONS = ROOT / "vae_teach" / "lessons"
FOLDERS = ("vae_teach", "notebooks", "tools", "benchmarks")
# The same in both languages, and rightly so: names and symbols.
ALIKE = {"bar-elbo", "column-elbo", "column-kl", "explorer-across", "explorer-up"}
ALIKE |= {"elbo-answer-elbo", "elbo-digit-elbo", "copy-failed", "growth-threads"}
ALIKE |= {"rung-compiled", "rung-fit-highest", "rung-fit-high"}
ALIKE |= {"drawing-elbo", "drawing-point"}
FOREIGN = {("switch", "en"), ("other", "pt"), ("other", "en")}  # name the other one
NOT_IN_CODE = {"command-several", "training-stored-fit-2048"}  # a port; a benchmark
NOT_IN_CODE |= {"latents-alt-shell"}  # where two curves have their peaks
BARE = {"gradients-ratio"}  # its {a} is an interval, that of another phrase a number
ONE_SIDED = {"licence"}  # a version


# --- the module ---------------------------------------------------------------------


@pytest.mark.parametrize("language", ["fr", "PT", "", None, 3])
@pytest.mark.parametrize("current", ["pt", "en"])
def test_another_language_gets_a_sentence_that_names_both(current, language):
    use_language(current)
    with pytest.raises(ValueError, match=r"'pt'.*'en'") as caught:
        use_language(language)
    assert repr(language) in str(caught.value)
    assert current_language() == current


def test_where_nobody_chose_everything_speaks_portuguese():
    chosen = "from vae_teach.words import current_language as now; print(now())"
    done = subprocess.run(
        [sys.executable, "-c", chosen], capture_output=True, text=True
    )
    assert (done.stdout.strip(), LANGUAGES[0]) == ("pt", "pt")


def test_a_phrase_follows_the_language(monkeypatch):
    monkeypatch.setitem(CATALOGUE, "test", {"pt": "olá {name}", "en": "hello {name}"})
    assert say("test", name="Ana") == "hello Ana"
    use_language("pt")
    assert say("test", name="Ana") == "olá Ana"


@pytest.mark.parametrize(
    ("placeholder", "value", "en", "pt"),
    [
        ("{x:.2f}", 3.14159, "3.14", "3,14"),
        ("{x:,.1f}", -60_000.5, "−60,000.5", "−60.000,5"),
        ("{x:8.2f}", -1.5, "   −1.50", "   −1,50"),
        ("{x:.2f}", -0.001, "0.00", "0,00"),
        ("{x:+.1f}", -0.01, "0.0", "0,0"),
        ("{x:+.1f}", 0.01, "0.0", "0,0"),
        ("{x:+6.1f}", 0.0, "   0.0", "   0,0"),
        ("{x:.1e}", -4.04e-7, "−4.0 × 10⁻⁷", "−4,0 × 10⁻⁷"),
        ("{x:.1f}", -math.inf, "−inf", "−inf"),
        ("{x}", -3, "-3", "-3"),  # as code, where it has no format
        ("{x:,}", 1_234_567, "1,234,567", "1.234.567"),
        ("{x}", 0.5, "0.5", "0,5"),
        ("{x:g}", 1e-5, "1 × 10⁻⁵", "1 × 10⁻⁵"),
        ("{x:.1f}", np.float64(2.5), "2.5", "2,5"),
        ("{x}", "1.5, text", "1.5, text", "1.5, text"),
        ("{x!r}", "a.b", "'a.b'", "'a.b'"),
        ("{x}", True, "True", "True"),
        ("{x}", (1.5, 2), "(1.5, 2)", "(1.5, 2)"),
    ],
)
def test_numbers_take_the_decimal_mark_of_the_language(
    monkeypatch, placeholder, value, en, pt
):
    monkeypatch.setitem(CATALOGUE, "test", {"pt": placeholder, "en": placeholder})
    assert say("test", x=value) == en
    use_language("pt")
    assert say("test", x=value) == pt


def test_an_unknown_phrase_is_named():
    with pytest.raises(KeyError, match=r"no-such-phrase.*words\.toml"):
        say("no-such-phrase")


def test_a_value_that_is_missing_is_not_passed_over():
    with pytest.raises(KeyError, match="got"):
        say("unknown-language")


# --- the catalogue ------------------------------------------------------------------


def test_a_phrase_that_stands_in_two_files_is_named(tmp_path):
    (tmp_path / "lessons").mkdir()
    phrase = '[greeting]\npt = "olá"\nen = "hello"\n'
    (tmp_path / "words.toml").write_text(phrase, encoding="utf-8")
    assert set(words._read_catalogue(tmp_path)) == {"greeting"}
    (tmp_path / "lessons" / "99_twice.toml").write_text(phrase, encoding="utf-8")
    with pytest.raises(KeyError, match=r"greeting.*99_twice\.toml"):
        words._read_catalogue(tmp_path)


def placeholders(text):
    """Return what the code fills in: (name, conversion, format) of each."""
    parts = string.Formatter().parse(text)
    return {(name, conversion, spec) for _, name, spec, conversion in parts if name}


CATALOGUES = [ROOT / folder / "words.toml" for folder in ("vae_teach", "book")]
CATALOGUES += [*sorted(LESSONS.glob("*.toml")), ROOT / "benchmarks" / "words.toml"]
PHRASES = {file: tomllib.loads(file.read_text(encoding="utf-8")) for file in CATALOGUES}


def every_phrase():
    """Return (file, key, its two sides) of all phrases, those of book and pages too."""
    found = [
        (f, k, entry) for f, phrases in PHRASES.items() for k, entry in phrases.items()
    ]
    assert len(found) > 900
    return found


def filled_in(text):
    """Return every placeholder as it is written; the browser's have double braces."""
    return sorted(re.findall(r"\{+[^{}]*\}+", text))


@lists
def test_a_phrase_says_the_same_in_both_languages():
    for _, key, entry in every_phrase():
        if set(entry) != set(words.LANGUAGES):
            yield f"{key}: it is in {', '.join(entry)}"
        elif not all(text.strip() for text in entry.values()):
            yield f"{key}: it is empty"
        elif filled_in(entry["pt"]) != filled_in(entry["en"]):
            yield f"{key}: the two languages fill in other values"
        elif (entry["pt"] == entry["en"] and has_letters(entry)) != (key in ALIKE):
            yield f"{key}: translate it, or bring ALIKE up to date"


def has_letters(entry):
    return bool(re.search("[A-Za-z]", re.sub("{[^}]*}|`[^`]*`", "", entry["pt"])))


# --- what a phrase says -------------------------------------------------------------


def said(text):
    """Return the words of a text, less formulas, code, placeholders and tags."""
    bare = re.sub(r"\$[^$]*\$|`[^`]*`|\{[^}]*\}|</?[^>]*>", " ", text)
    return re.findall(r"[^\W\d_]+", bare.lower())


@functools.cache
def prose():
    """Return how often each word stands in the lessons and pages of each language."""
    counts = {}
    for language, readme in (("pt", "README.pt.md"), ("en", "README.md")):
        text = (ROOT / readme).read_text(encoding="utf-8")
        for file in (ROOT / "book" / "pages" / language).glob("*.md"):
            text += file.read_text(encoding="utf-8")
        for file in (ROOT / "notebooks" / language).glob("*.py"):
            lines = file.read_text(encoding="utf-8").splitlines()
            text += "\n".join(line for line in lines if re.match("# (?!%%)", line))
        counts[language] = collections.Counter(said(text))
        assert counts[language].total() > 10_000
    return counts


def belongs(word, language):
    """Return whether a word is five times as frequent in the prose of one language."""
    other = {"pt": "en", "en": "pt"}[language]
    return prose()[language][word] > 5 * prose()[other][word]


@lists
def test_a_phrase_is_in_its_language():
    """Its words are those of the lessons' prose in that language, on the whole."""
    for _, key, entry in every_phrase():
        for own, other in (("pt", "en"), ("en", "pt")):
            found = said(entry[own]) if entry["pt"] != entry["en"] else []
            here, there = (
                sum(belongs(w, each) for w in found) for each in (own, other)
            )
            if (there > here) != ((key, own) in FOREIGN):
                yield f"{key}: is this {own}? {entry[own]}"


def numbers(text, language):
    """Return the numbers that a phrase itself says, as they are set in English."""
    found = re.findall(r"\d+(?:[.,]\d+)*%?", re.sub(r"\{[^{}]*\}", " ", text))
    swap = str.maketrans(".,", ",.") if language == "pt" else {}
    return sorted(number.translate(swap) for number in found)


@lists
def test_the_numbers_of_a_phrase_are_the_same_in_both_languages():
    for _, key, entry in every_phrase():
        pt, en = (numbers(entry[language], language) for language in ("pt", "en"))
        if (pt != en) != (key in ONE_SIDED):
            yield f"{key}: {pt} in Portuguese, {en} in English"


@lists
def test_formulas_and_code_of_a_phrase_are_the_same_in_both_languages():
    for _, key, entry in every_phrase():
        pt, en = (
            sorted(re.findall(r"\$[^$]*\$|`[^`]*`|\b(?:Home|End|Shift|Ctrl)\b", text))
            for text in (entry["pt"].replace("lição", "lesson"), entry["en"])
        )
        if pt != [text.replace("lab en", "lab pt") for text in en]:
            yield f"{key}: {pt} in Portuguese, {en} in English"


@lists
def test_what_was_given_is_named_before_what_is_taken():
    for _, key, entry in every_phrase():
        for language, text in entry.items():
            names = re.findall(r"\{(got|takes)\b", text)
            if names not in (["got", "takes"], ["got"], ["got", "got"], ["takes"], []):
                yield f"{key}: {' before '.join(names)} in {language}"


@lists
def test_a_measured_number_has_decimals_wherever_a_lesson_says_it():
    for file in LESSONS.glob("*.toml"):
        each = [(k, placeholders(entry["en"])) for k, entry in PHRASES[file].items()]
        measured = {name for _, found in each for name, _, spec in found if "." in spec}
        for key, found in each:
            for name, _, spec in found:
                if name in measured and not spec and key not in BARE:
                    yield f"{key}: {{{name}}} has no format, as it has elsewhere"


def constants(files):
    """Return every number of some code, those in short strings too: "fit-512"."""
    nodes = (node for file in files for node in ast.walk(trees()[file]))
    values = [node.value for node in nodes if isinstance(node, ast.Constant)]
    short = [v for v in values if isinstance(v, str) and len(v) < 40]
    found = {value for value in values if isinstance(value, (int, float))}
    return found | {
        float(n) for text in short for n in re.findall(r"\d+(?:\.\d+)?", text)
    }


def code_of(file):
    """Return the files whose numbers a catalogue quotes."""
    if file.name == "words.toml":
        return [path for path in trees() if path.parts[0] == "vae_teach"]
    word = next(iter(PHRASES[file])).partition("-")[0]
    return map(Path, (f"notebooks/en/{file.stem}.py", f"vae_teach/checks/{word}.py"))


def known(number, there):
    """Return whether code has a number, or a share as one, or its two tails."""
    value = float(number.rstrip("%").replace(",", ""))
    if number.endswith("%"):
        value /= 100
        return value in there or round((1 - value) / 2, 6) in there
    return value in there or value < 3  # two rows, one axis: nobody's constants


@lists
def test_the_numbers_that_a_phrase_quotes_stand_in_the_code():
    for file in (ROOT / "vae_teach" / "words.toml", *LESSONS.glob("*.toml")):
        there = constants(code_of(file))
        for key, entry in PHRASES[file].items():
            bare = re.sub(r"(?<!\w)[^\W\d]+\d+|\d+[^\W\d]+", " ", entry["en"])  # z1, 3b
            strange = [n for n in numbers(bare, "en") if not known(n, there)]
            if bool(strange) != (key in NOT_IN_CODE):
                yield f"{key}: {', '.join(strange) or 'nothing'} is not in the code"


def test_the_explorers_help_says_what_its_code_does():
    code = (ROOT / "vae_teach/explorer/explorer.js").read_text(encoding="utf-8")
    assert 'event.key === "Home") { event.preventDefault(); moveOnPad(0, 0); }' in code
    assert "event.shiftKey ? 0.5 : 0.1" in code
    lines = [*map(float, re.search(r"PRIOR_QUANTILES = \[(.*)\]", code)[1].split(","))]
    masses = stats.norm.cdf([0.0, *lines])
    assert np.diff(masses) == pytest.approx(0.10, abs=1e-4)
    for language, larger, origin in (
        ("pt", "a tecla Shift dá passos maiores", "e Home volta à origem"),
        ("en", "Shift takes larger steps", "Home goes to the origin"),
    ):
        assert f"; {larger}, {origin}." in CATALOGUE["explorer-help"][language]
        assert " 10% " in CATALOGUE["explorer-grid"][language]


# --- the files ----------------------------------------------------------------------


@lists
def test_a_lesson_has_one_word():
    """Its phrases, its checks and the test of these have the same name."""
    words_of = {}
    for file in sorted(LESSONS.glob("*.toml")):
        keys = tomllib.loads(file.read_text(encoding="utf-8"))
        (word, *others) = sorted({key.partition("-")[0] for key in keys})
        if others or word in words_of:
            yield f"{file.name}: its keys begin with {', '.join([word, *others])}"
        words_of[word] = file.stem
        for needed in (
            f"notebooks/en/{file.stem}.py",
            f"vae_teach/checks/{word}.py",
            f"tests/lessons/test_{word}.py",
        ):
            if not (ROOT / needed).is_file():
                yield f"{file.name}: {needed} is missing"
    if not {"tour", "elbo"} <= words_of.keys():
        yield f"the search found {words_of}"
    for file in (ROOT / "vae_teach" / "checks").glob("*.py"):
        if file.stem not in {"__init__", "__main__", "verdicts", *words_of}:
            yield f"{file.name}: no file in lessons/ has this word"


@functools.cache
def trees():
    """Return every file that may speak: its path to its syntax tree."""
    files = [file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py")]
    return {
        f.relative_to(ROOT): ast.parse(f.read_text(encoding="utf-8")) for f in files
    }


def name_of(function):
    return getattr(function, "attr", getattr(function, "id", None))


def calls(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def speakers():
    """Return the functions that take a key: ``say`` and those that pass one on to it.

    Each name comes with the position of the key among the arguments.
    """
    positions = {"say": 0}
    for tree in trees().values():
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef):
                names = [argument.arg for argument in function.args.args]
                for call in calls(function):
                    key = call.args[0] if call.args else None
                    if name_of(call.func) == "say" and name_of(key) in names:
                        positions[function.name] = names.index(name_of(key))
    return positions


def keys_of(node):
    """Return the keys that an expression can stand for; none for a variable."""
    if isinstance(node, ast.Constant):
        return {node.value}
    if isinstance(node, ast.IfExp):
        return keys_of(node.body) | keys_of(node.orelse)
    if isinstance(node, ast.JoinedStr):
        parts = (getattr(part, "value", None) for part in node.values)
        text = (re.escape(p) if isinstance(p, str) else ".+" for p in parts)
        pattern = "".join(text)
        return {k for k in CATALOGUE if re.fullmatch(pattern, k)} or {pattern}
    return set()


def asked_by(key):
    """Return the names of the values that a phrase takes."""
    english = CATALOGUE.get(key, {}).get("en", "")
    return {name for name, _, _ in placeholders(english)}


def spoken():
    """Return what is said: (where, key, names of the values, or None where unknown)."""
    positions, found = speakers(), []
    for path, tree in trees().items():
        for call in calls(tree):
            position = positions.get(name_of(call.func), len(call.args))
            for node in call.args[position : position + 1]:
                names = {keyword.arg for keyword in call.keywords}
                direct = name_of(call.func) == "say" and None not in names
                where, keys = f"{path}:{call.lineno}", keys_of(node)
                if direct and any(isinstance(n, ast.JoinedStr) for n in ast.walk(node)):
                    keys = {k for k in keys if asked_by(k) == names} or keys  # its own
                found += [(where, key, names if direct else None) for key in keys]
    return found


def test_whatever_is_said_is_in_the_catalogue_with_its_values():
    said = spoken()
    assert len(said) > 100  # the search itself works
    assert [(where, key) for where, key, _ in said if key not in CATALOGUE] == []
    for where, key, given in said:
        assert given is None or given == asked_by(key), f"{where}: {key}"


def test_whatever_is_in_the_catalogue_is_said():
    constants = {
        node.value
        for tree in trees().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
    }
    used = constants | {key for _, key, _ in spoken()}
    assert sorted(set(CATALOGUE) - used) == []
