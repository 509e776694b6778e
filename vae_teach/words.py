"""The language in use, and every word that appears on a figure, widget or message.

The catalogue is ``words.toml`` and, for the phrases of a single lesson,
``lessons/NN_slug.toml``: one entry a phrase, Portuguese and English side by side.
Notebook cells hold no words of their own, so the same code serves both languages.
"""

import string
import tomllib
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

LANGUAGES = ("pt", "en")  # the first one where nobody chooses
_SWAP_SEPARATORS = str.maketrans(".,", ",.")  # 60,000.5 in English is 60.000,5
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

Catalogue = dict[str, dict[str, str]]


def _read_catalogue(folder: Traversable) -> Catalogue:
    """Read every file; a phrase that is in two of them raises KeyError."""
    lessons = folder.joinpath("lessons").iterdir()
    files = [file for file in lessons if file.name.endswith(".toml")]
    catalogue: Catalogue = {}
    for file in (folder.joinpath("words.toml"), *files):
        phrases: Catalogue = tomllib.loads(file.read_text(encoding="utf-8"))
        if twice := catalogue.keys() & phrases.keys():
            raise KeyError(f"{sorted(twice)}: in {file.name} and in another file too")
        catalogue |= phrases
    return catalogue


CATALOGUE = _read_catalogue(files(__package__))
_current = {"language": LANGUAGES[0]}


def use_language(language: str) -> None:
    """Set the language of figures, widgets and messages: ``"pt"`` or ``"en"``.

    Raises ValueError, naming the two, for anything else.
    """
    if language not in LANGUAGES:
        raise ValueError(say("unknown-language", got=language))
    _current["language"] = language


def current_language() -> str:
    """Return the language in use, ``"pt"`` until :func:`use_language` is called."""
    return _current["language"]


class _Numbers(string.Formatter):
    """Format strings whose numbers are set as in print: 1,234.5 or 1.234,5, −2."""

    def format_field(self, value: Any, format_spec: str) -> str:
        text = str(super().format_field(value, format_spec))
        is_one = hasattr(value, "__float__") and not getattr(value, "shape", ())
        if not is_one or isinstance(value, bool):
            return text
        if current_language() == "pt":
            text = text.translate(_SWAP_SEPARATORS)
        return _in_print(text) if format_spec else text


def _in_print(number: str) -> str:
    """Set a minus sign for a hyphen, no sign before a zero; a power of ten for an e."""
    mantissa, is_power, exponent = number.partition("e")
    if is_power and exponent[1:].isdigit():
        return f"{_in_print(mantissa)} × 10{str(int(exponent)).translate(_RAISED)}"
    if not any(digit in number for digit in "123456789in"):  # zero, and no infinity
        blank = " " if number[:1] == " " else ""
        return number.replace("-", blank).replace("+", blank)
    return number.replace("-", "−")


def say(key: str, /, **values: Any) -> str:
    """Return the phrase ``key`` in the language in use, with ``values`` filled in.

    Numbers with a format in the catalogue, such as ``{elbo:.2f}``, take the decimal
    mark of the language. Raises KeyError for a phrase the catalogue does not have.
    """
    if key not in CATALOGUE:
        raise KeyError(f"{key!r} is not in vae_teach/words.toml or lessons/")
    return _Numbers().format(CATALOGUE[key][current_language()], **values)
