"""The verdict on an exercise, and the comparison with an oracle that leads to it.

A check calls the learner's function on cases of its own, compares with an independent
implementation, and knows the usual mistakes by their values. It never shows the answer
and never raises.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vae_teach.words import say

Answer = Callable[..., Any]
TOLERANCE = 1e-4  # relative; the smallest mistake in the tables changes values by 1e-2


@dataclass(frozen=True)
class Verdict:
    """What a check found: ``right``, and a sentence in the learner's language."""

    right: bool
    message: str

    def __bool__(self) -> bool:
        return self.right

    def __repr__(self) -> str:
        return f"{'✔' if self.right else '✘'} {self.message}"


def wrong(key: str, **values: Any) -> Verdict:
    """Return the verdict on a wrong answer: the hint ``key`` of the catalogue."""
    return Verdict(False, say(key, **values))


def correct(key: str, **values: Any) -> Verdict:
    """Return the verdict on a right answer: "Right", then the phrase ``key``."""
    return Verdict(True, say("check-right") + " " + say(key, **values))


def compare(
    answer: Answer,
    oracle: Answer,
    mistakes: dict[str, Answer],
    cases: Sequence[tuple[Any, ...]],
    right: str,
) -> Verdict:
    """Return the verdict on a function that returns a tensor.

    Args:
        answer: the learner's function; what it raises becomes a hint.
        oracle: the right one, of another make than the answer is likely to be.
        mistakes: usual wrong functions, by the hint that each deserves.
        cases: arguments to call them all with, chosen so that no two agree.
        right: the phrase that follows "Right".
    """
    found = []
    for case in cases:
        try:
            found.append(answer(*case))
        except Exception as error:
            return wrong("check-raised", kind=type(error).__name__, error=error)
    if any(value is None or value is ... for value in found):
        return wrong("check-empty")
    if not all(isinstance(value, Tensor) for value in found):
        return wrong("check-not-tensor", got=type(found[0]).__name__)
    if _same(found, [oracle(*case) for case in cases]):
        return correct(right)
    for key, mistake in mistakes.items():
        if _same(found, [mistake(*case) for case in cases]):
            return wrong(key)
    return _differs(found, [oracle(*case) for case in cases])


def _same(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> bool:
    return all(
        a.shape == b.shape
        and torch.allclose(a.double(), b.double(), rtol=TOLERANCE, atol=TOLERANCE)
        for a, b in zip(found, wanted, strict=True)
    )


def _differs(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> Verdict:
    for a, b in zip(found, wanted, strict=True):
        if a.shape != b.shape:
            return wrong("check-shape", got=tuple(a.shape), takes=tuple(b.shape))
        if not a.isfinite().all():
            return wrong("check-not-finite")
    gaps = [(a - b).abs().max().item() for a, b in zip(found, wanted, strict=True)]
    return wrong("check-value", gap=max(gaps))
