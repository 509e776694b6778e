"""What every lesson's checks must do, as tests made from a table of answers.

A file has the answers of its lesson and gives each test that is made of them a name:

    test_right_answers_are_right = checking.accepts(RIGHT)

``right`` maps a check to the answers that it must accept. ``wrong`` has rows: a check,
an answer as learners spell it, words of the hint that it must get. ``mistakes`` maps a
check to the package's own table of mistakes.
"""

import math

import numpy as np
import pytest
import torch
from listing import lists
from torch import Tensor

from vae_teach.checks.verdicts import correct, fresh
from vae_teach.words import CATALOGUE, LANGUAGES, use_language


def about(check, answer):
    """Return which row of a table failed: the check, and the line of the answer."""
    code = getattr(answer, "__code__", None)
    return f"{check.__name__}, {f'line {code.co_firstlineno}' if code else answer}"


def stop(error):
    raise error


class UnspeakableError(Exception):
    def __str__(self):
        raise RuntimeError


NONSENSE = [  # what is no answer to any exercise, and words of what is said of it
    (lambda *a: None, "No answer yet"),
    (lambda *a: ..., "No answer yet"),
    (lambda *a: "0", "Your function returned str"),
    (lambda *a: correct("check-right"), "Your function returned Verdict"),
    (lambda: 0, "Your function stopped with TypeError"),
    (lambda *a: 1 / 0, "stopped with ZeroDivisionError: division by zero"),
    (lambda *a: stop(SystemExit("bye")), "stopped with SystemExit: bye"),
    (lambda *a: stop(UnspeakableError()), "UnspeakableError"),
    (3, "Your function stopped with TypeError"),
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


def pairs(right):
    return [(check, answer) for check, answers in right.items() for answer in answers]


def accepts(right):
    """Right answers are right, however they are written."""

    @lists
    def test():
        for check, answer in pairs(right):
            verdict = check(answer)
            if not verdict or not repr(verdict).startswith("✔ Right."):
                yield f"{about(check, answer)}: {verdict}"

    return test


def rejects(wrong):
    """Wrong answers get their hint."""

    @lists
    def test():
        for check, answer, hint in wrong:
            verdict = check(answer)
            if verdict or hint not in verdict.message or repr(verdict)[0] != "✘":
                yield f"{about(check, answer)}: {hint!r} is not in {verdict}"

    return test


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


MAKES = {
    "spoiling": spoil,
    "float32": remake(lambda value: value.float()),
    "sparse": remake(lambda value: value.to_sparse() if value.dim() else value),
    "NumPy": remake(as_numpy),
    "flipped NumPy": remake(
        lambda value: (
            as_numpy(value.flip(-1))[..., ::-1]
            if value.dim() and not value.requires_grad
            else value
        )
    ),
    "number": remake(as_number),
}


def accepts_other_makes(right):
    """Right answers are right in another dtype, as an array, and written in place."""

    @lists
    def test():
        for check, answer in pairs(right):
            for name, make in MAKES.items():
                verdict = check(make(answer))
                if not verdict:
                    yield f"{about(check, answer)}, {name}: {verdict}"

    return test


def is_not_spoilt(wrong, but=()):
    """Wrong answers that write into their arguments get the same hint."""

    @lists
    def test():
        for check, answer, hint in wrong:
            if check not in but and hint not in check(spoil(answer)).message:
                yield f"{about(check, answer)}: {check(spoil(answer))}"

    return test


def refuses_the_unusable(right):
    """NaN and odd values are never right, and booleans of the right shape no crash."""
    values = {f"{value!r}": lambda answer, v=value: lambda *a: v for value in ODD}
    values["NaN"] = remake(lambda value: value * math.nan)
    values["complex"] = remake(lambda value: value * (1 + 1j))
    values["complex array"] = remake(lambda value: as_numpy(value) * (1 + 1j))
    values["infinite"] = remake(lambda value: value / 0.0 if value.any() else value)

    @lists
    def test():
        for check, (answer, *_) in right.items():
            for name, make in values.items():
                if check(make(answer)):
                    yield f"{about(check, answer)}: {name} is right"
            check(remake(lambda value: value > 0)(answer))
            with pytest.raises(KeyboardInterrupt):
                check(lambda *given: stop(KeyboardInterrupt()))

    return test


# --- what is said ---------------------------------------------------------------------


def survives(checks, nonsense=NONSENSE):
    """A non-answer gets a sentence that says so: nothing raises."""

    @lists
    def test():
        for check in checks:
            for answer, hint in nonsense:
                if hint not in check(answer).message:
                    yield f"{about(check, answer)}: {hint!r} is not in {check(answer)}"

    return test


def speaks_portuguese(right, wrong):
    """No answer, a right one and a wrong one are spoken of in Portuguese too."""
    first_wrong = {check: answer for check, answer, _ in reversed(wrong)}

    @lists
    def test():
        for check, (answer, *_) in right.items():
            use_language("en")
            in_english = check(first_wrong[check]).message
            use_language("pt")
            if "Ainda sem resposta" not in check(lambda *a: None).message:
                yield f"{check.__name__}: {check(lambda *a: None)}"
            if not check(answer).message.startswith("Certo. "):
                yield f"{check.__name__}: {check(answer)}"
            if check(first_wrong[check]).message == in_english:
                yield f"{check.__name__}: {in_english}"

    return test


def has_words(mistakes):
    """Every mistake that the package knows has its hint in the catalogue."""

    @lists
    def test():
        yield from {key for table in mistakes.values() for key in table} - set(
            CATALOGUE
        )

    return test


def tells_apart(mistakes):
    """Every mistake of a table gets its own hint: none passes for another."""

    @lists
    def test():
        for language in LANGUAGES:
            use_language(language)
            for check, table in mistakes.items():
                for key, mistake in table.items():
                    if check(mistake).message != CATALOGUE[key][language]:
                        yield f"{key}: {check(mistake)}"

    return test
