"""What every lesson's checks must do with the answers that its tests list.

``tests/lessons/test_WORD.py`` holds tables alone; ``test_answers.py`` runs every
function of ``FAULTS`` over the tables of every lesson. Each yields what is wrong.

``RIGHT`` maps a check to the answers that it must accept. ``WRONG`` has rows: a check,
an answer as learners spell it, words of the hint that it must get. ``MISTAKES`` maps a
check to the package's own table of mistakes. ``PRAISE`` has the words that follow
"Right" in English and in Portuguese, and ``IN_PORTUGUESE`` those of each hint.
``RIGHT_MODELS`` and ``WRONG_MODELS`` are like ``RIGHT`` and ``WRONG`` for checks whose
answer is a trained model, and ``BY_DEED`` names the checks that judge what an answer
does, not what it returns.
"""

import ast
import contextlib
import functools
import inspect
import math
import signal
import sys
from itertools import combinations
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from vae_teach.checks import verdicts
from vae_teach.checks.verdicts import correct, fresh
from vae_teach.words import CATALOGUE, LANGUAGES, say, use_language


def about(check, answer):
    """Return which row of a table failed: the check, and the line of the answer."""
    code = getattr(answer, "__code__", None)
    return f"{check.__name__}, {f'line {code.co_firstlineno}' if code else answer}"


def stop(error):
    raise error


def endless(*given):
    return endless(*given)


class UnspeakableError(Exception):
    def __str__(self):
        raise RuntimeError


NONSENSE = [  # what is no answer to any exercise, and words of what is said of it
    (lambda: 0, "Your function stopped with TypeError"),
    (lambda *a: 1 / 0, "stopped with ZeroDivisionError: division by zero"),
    (lambda *a: sys.exit(), "Your function stopped with SystemExit"),
    (lambda *a: stop(SystemExit("bye")), "stopped with SystemExit: bye"),
    (lambda *a: stop(UnspeakableError()), "UnspeakableError"),
    (endless, "stopped with RecursionError"),
    (3, "Your function stopped with TypeError"),
    (lambda *a: None, "No answer yet"),
    (lambda *a: ..., "No answer yet"),
]
NO_VALUES = [  # the same for a check that looks at what is returned
    (lambda *a: "0", "Your function returned str"),
    (lambda *a: correct("check-right"), "Your function returned Verdict"),
]
ODD = [  # values that are right nowhere, and must stop no check
    [1.0, 2.0],
    torch.ones(2, dtype=torch.complex64),
    torch.tensor(1j),
    torch.ones(3, device="meta"),
    torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged),
    torch.empty(0),
    np.array(["a"]),
    np.array([None]),
    np.array(1j),
]


# --- the same answers, made in another way --------------------------------------------


def tensors(values):
    """Yield the tensors among some arguments, those in lists too."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list):
            yield from tensors(value)


def is_leaf(value):
    return isinstance(value, Tensor) and value.is_leaf and value.requires_grad


def spoil(answer):
    """Return the same answer, which leaves NaN in the arguments that it was given."""

    def spoiling(*given):
        value = answer(*(v if is_leaf(v) else fresh(v) for v in given))
        for tensor in tensors(given):
            if not is_leaf(tensor):
                tensor.detach().fill_(math.nan)
        return value

    return spoiling


def remake(change):
    """Return a way to change the tensor, or the number, that an answer returns."""

    def remade(answer):
        return lambda *given: change(torch.as_tensor(answer(*given)))

    return remade


def as_numpy(value):
    return value if value.requires_grad else value.numpy()


def as_number(value):
    return value.item() if value.dim() == 0 and not value.requires_grad else value


ONE = torch.ones((), dtype=torch.float64, requires_grad=True)
MAKES = {
    "spoiling": spoil,
    "printing": lambda answer: lambda *given: (print("so far"), answer(*given))[1],
    "float32": remake(lambda value: value.float()),
    "float64": remake(lambda value: value.double()),
    "with gradient": remake(lambda value: value.double() * ONE),
    "sparse": remake(lambda value: value.to_sparse() if value.dim() else value),
    "NumPy": remake(as_numpy),
    "big-endian NumPy": remake(
        lambda value: (
            as_numpy(value.double()).astype(">f8") if not value.requires_grad else value
        )
    ),
    "flipped NumPy": remake(
        lambda value: (
            as_numpy(value.flip(-1))[..., ::-1]
            if value.dim() and not value.requires_grad
            else value
        )
    ),
    "number": remake(as_number),
}
UNUSABLE = {f"{value!r}": lambda answer, v=value: lambda *a: v for value in ODD} | {
    "NaN": remake(lambda value: value * math.nan),
    "complex": remake(lambda value: value * (1 + 1j)),
    "complex array": remake(lambda value: as_numpy(value) * (1 + 1j)),
    "infinite": remake(lambda value: value / 0.0 if value.any() else value),
}


# --- what every check does ------------------------------------------------------------


def pairs(right):
    return [(check, answer) for check, answers in right.items() for answer in answers]


def with_values(lesson):
    """Return the right answers that are judged by what they return."""
    by_deed = getattr(lesson, "BY_DEED", ())
    return {check: row for check, row in lesson.RIGHT.items() if check not in by_deed}


def right_answers(lesson):
    return lesson.RIGHT | getattr(lesson, "RIGHT_MODELS", {})


def right_answers_are_right(lesson):
    for check, answer in pairs(right_answers(lesson)):
        verdict = check(answer)
        if not verdict or not repr(verdict).startswith("✔ Right."):
            yield f"{about(check, answer)}: {verdict}"


def wrong_answers_get_their_hint(lesson):
    for check, answer, hint in wrong_answers(lesson):
        verdict = check(answer)
        if verdict or hint not in verdict.message or repr(verdict)[0] != "✘":
            yield f"{about(check, answer)}: {hint!r} is not in {verdict}"


def other_makes_are_right_too(lesson):
    """Right answers are right in another dtype, as an array, and written in place."""
    for check, answer in pairs(with_values(lesson)):
        for name, make in MAKES.items():
            verdict = check(make(answer))
            if not verdict:
                yield f"{about(check, answer)}, {name}: {verdict}"


def wrong_answers_in_place_are_wrong(lesson):
    """Wrong answers that write into their arguments get the same hint."""
    checks = with_values(lesson)
    for check, answer, hint in lesson.WRONG:
        if check in checks and hint not in (verdict := check(spoil(answer))).message:
            yield f"{about(check, answer)}: {verdict}"


def the_unusable_is_never_right(lesson):
    """NaN and odd values are never right; another dtype of the right shape no crash."""
    for check, (answer, *_) in with_values(lesson).items():
        for name, make in UNUSABLE.items():
            if check(make(answer)):
                yield f"{about(check, answer)}: {name} is right"
        for change in (Tensor.bool, Tensor.half, Tensor.bfloat16, Tensor.long):
            check(remake(change)(answer))


def no_answer_raises(lesson):
    """A non-answer gets a sentence that says so: nothing raises."""
    checks = with_values(lesson)
    for check in lesson.RIGHT:
        for answer, hint in NONSENSE + (NO_VALUES if check in checks else []):
            if hint not in (verdict := check(answer)).message:
                yield f"{about(check, answer)}: {hint!r} is not in {verdict}"


def an_answer_that_hangs_is_ended(lesson):
    """After a while; and whoever interrupts the kernel gets out of a check at once."""

    def hang(*given):
        while True:
            with contextlib.suppress(Exception):  # as an answer may have it
                sum(range(1000))

    limit, verdicts.SECONDS = verdicts.SECONDS, 0.05
    timer = signal.getitimer(signal.ITIMER_REAL)[0]
    try:
        for check in lesson.RIGHT:
            if "had not returned anything" not in check(hang).message:
                yield f"{check.__name__}: {check(hang)}"
            with contextlib.suppress(KeyboardInterrupt):
                yield f"{check.__name__}: {check(lambda *_: stop(KeyboardInterrupt()))}"
    finally:
        verdicts.SECONDS = limit
    left = signal.getitimer(signal.ITIMER_REAL)[0]
    if bool(timer) != bool(left) or timer - left > 60:  # seconds; a test has more
        yield "a timer that was set before is gone, or one is left behind"


# --- what is said ---------------------------------------------------------------------


def wrong_answers(lesson):
    return [*lesson.WRONG, *getattr(lesson, "WRONG_MODELS", [])]


def no_answer_is_told_in_both_languages(lesson):
    for language, words in (("en", "No answer yet: "), ("pt", "Ainda sem resposta: ")):
        use_language(language)
        for check in lesson.RIGHT:
            if not check(lambda *a: None).message.startswith(words):
                yield f"{check.__name__}: {check(lambda *a: None)}"


def right_answers_are_praised_in_both_languages(lesson):
    for check, (answer, *_) in right_answers(lesson).items():
        for language, right, words in zip(
            ("en", "pt"), ("Right. ", "Certo. "), lesson.PRAISE[check], strict=True
        ):
            use_language(language)
            message = check(answer).message
            if not message.startswith(right) or words not in message:
                yield f"{check.__name__}: {words!r} is not in {message}"


def hints_say_the_same_in_portuguese(lesson):
    use_language("pt")
    for name, values, hint in hints(lesson):
        words = translated(lesson, hint)
        if words not in (message := say(name, **values)):
            yield f"{words!r} is not in {message}"


def every_hint_is_reached(lesson):
    """Every phrase that the checks name is said of an answer in the tables."""
    tree = ast.parse(inspect.getsource(lesson.checks))
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    named = {text for text in texts if text in CATALOGUE}
    for check, (answer, *_) in right_answers(lesson).items():
        named -= {name for name, _ in said(check, answer)}
    yield from sorted(named - {name for name, *_ in hints(lesson)})


def no_two_hints_can_change_places(lesson):
    """The words of the tests tell a hint from every other, in each language."""
    for (a, _, hint), (b, _, other) in combinations(hints(lesson), 2):
        for language in LANGUAGES:
            one, two = hint, other
            if language == "pt":
                one, two = translated(lesson, hint), translated(lesson, other)
            mine, theirs = CATALOGUE[a][language], CATALOGUE[b][language]
            if mine != theirs and one in theirs and two in mine:
                yield f"{one!r} and {two!r} hold both of {a} and of {b}"


def translated(lesson, hint):
    """Return the Portuguese words for those of a hint: the same for ``(item)``."""
    return (COMMON | lesson.IN_PORTUGUESE).get(hint, hint)


@functools.cache
def hints(lesson):
    """Return what is said of the wrong answers: key, values and words of each hint."""
    rows = wrong_answers(lesson)
    return [(*said(check, answer)[-1], hint) for check, answer, hint in rows]


def said(check, answer):
    """Return the phrases that a check says of an answer: keys and values."""
    phrases = []

    def note(name, **values):
        phrases.append((name, values))
        return ""

    with patch.object(verdicts, "say", note):
        check(answer)
    return phrases


COMMON = {  # words of the hints that all checks share
    "values differ": "valores diferem",
    "infinities or NaN": "infinitos ou NaN",
    "axis did you sum": "que eixo você somou",
    "that of the argument": "a mesma do argumento",
    "No answer yet": "Ainda sem resposta",
    "stopped with SystemExit: bye": "parou com SystemExit: bye",
}


# --- the package's own mistakes -------------------------------------------------------


def no_mistake_passes_for_another(lesson):
    """Every mistake of a table gets its own hint."""
    for check, table in lesson.MISTAKES.items():
        for name, mistake in table.items():
            if said(check, mistake) != [(name, {})]:
                yield f"{name}: {check(mistake)}"


def every_table_of_mistakes_is_tried(lesson):
    tried = [set(table) for table in lesson.MISTAKES.values()]
    for name, table in vars(lesson.checks).items():
        if name.endswith("_MISTAKES") and set(table) not in tried:
            yield name


FAULTS = (
    right_answers_are_right,
    wrong_answers_get_their_hint,
    other_makes_are_right_too,
    wrong_answers_in_place_are_wrong,
    the_unusable_is_never_right,
    no_answer_raises,
    an_answer_that_hangs_is_ended,
    no_answer_is_told_in_both_languages,
    right_answers_are_praised_in_both_languages,
    hints_say_the_same_in_portuguese,
    every_hint_is_reached,
    no_two_hints_can_change_places,
    no_mistake_passes_for_another,
    every_table_of_mistakes_is_tried,
)
