"""The verdict on an exercise, and the comparison with an oracle that leads to it.

A check calls the learner's function on cases of its own, compares the values with those
of an independent implementation, and recognizes the usual mistakes by their values. It
never shows the answer, and whatever the learner's code does becomes a verdict: only
KeyboardInterrupt passes.
"""

import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vae_teach.records import KIND, Record, now
from vae_teach.words import say

Answer = Callable[..., Any]
Case = tuple[Any, ...]
SECONDS = 60.0  # for one call of an answer; those of the course take well below one
TOLERANCE = 1e-4  # relative; the smallest mistake in the tables changes values by 1e-2


@dataclass(frozen=True)
class Verdict:
    """What a check found: ``right``, and a sentence in the learner's language.

    Args:
        right: whether the answer is.
        message: the sentence.
        hint: its key in the catalogue.
        check: which check was asked, such as "tour.kl".
    """

    right: bool
    message: str
    hint: str = field(default="", compare=False)
    check: str = field(default="", compare=False)

    def __bool__(self) -> bool:
        return self.right

    def __repr__(self) -> str:
        text = f"{'✔' if self.right else '✘'} {self.message}"
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        try:
            text.encode(encoding)
        except UnicodeEncodeError:  # an old console, as of Windows
            text = text.replace("✔", "+").replace("✘", "-")
            text = text.encode(encoding, "replace").decode(encoding)
        return text

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        """Show the sentence, and beside it a record that a program can read."""
        return {"text/plain": repr(self), KIND: self.record().as_json()}

    def record(self) -> Record:
        """Return the verdict without words; its time is that of the call.

        ``python -m vae_teach.checks collect`` reads what notebooks stored of these.
        """
        return Record(self.check, self.right, self.hint, now())


def wrong(key: str, **values: Any) -> Verdict:
    """Return the verdict on a wrong answer: the hint ``key`` of the catalogue."""
    return Verdict(False, say(key, **values), key, _check_asked())


def correct(key: str, **values: Any) -> Verdict:
    """Return the verdict on a right answer: "Right", then the phrase ``key``."""
    sentence = say("check-right") + " " + say(key, **values)
    return Verdict(True, sentence, key, _check_asked())


def _check_asked() -> str:
    """Return the check that somebody called, such as "tour.kl"; "" outside of any.

    It is the outermost function of a lesson's module in the stack. So a new lesson's
    checks need not say who they are.
    """
    asked, frame = "", sys._getframe().f_back
    package = __name__.rpartition(".")[0] + "."
    while frame:
        module = str(frame.f_globals.get("__name__"))
        if module.startswith(package) and module != __name__:
            asked = f"{module.removeprefix(package)}.{frame.f_code.co_name}"
        frame = frame.f_back
    return asked


def fresh(value: Any) -> Any:
    """Return a copy of a tensor, or of a list of tensors; the rest unchanged.

    So a function may write into its arguments. Gradients flow through the copy.
    """
    if isinstance(value, list):
        return [fresh(part) for part in value]
    return value.clone() if isinstance(value, Tensor) else value


def call(answer: Answer, *arguments: Any) -> Any:
    """Return what a learner's function returns for fresh copies of its arguments.

    A function that stops, does not end or returns nothing gives a Verdict instead.
    """
    try:
        with _time_limit():
            value = answer(*map(fresh, arguments))
    except _TooLongError:
        return wrong("check-endless", seconds=SECONDS)
    except (Exception, SystemExit) as error:
        lines = traceback.format_exception_only(error)
        return wrong("check-raised", error="".join(lines).strip())
    if value is None or value is ...:
        return wrong("check-empty")
    return _not_a_tensor(value) if isinstance(value, Verdict) else value


class _TooLongError(BaseException):  # no `except Exception` of an answer catches it
    pass


@contextmanager
def _time_limit() -> Iterator[None]:
    """Raise _TooLongError in what runs inside after SECONDS, where there are timers.

    Timers are Unix's, and reach the main thread alone, where a notebook's cells run.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not (hasattr(signal, "setitimer") and in_main_thread):
        yield
        return

    def stop(*_: Any) -> None:
        raise _TooLongError

    before = signal.signal(signal.SIGALRM, stop)
    rest, _ = signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, rest)  # somebody else's timer goes on
        signal.signal(signal.SIGALRM, before)


def as_tensor(value: Any, *, number: bool = False) -> Tensor:
    """Return a copy of a tensor, a NumPy array or a number, in float64 on the CPU.

    With ``number``, a single element loses its axes. Raises TypeError for complex
    values and for anything else, or what PyTorch raises where it cannot convert.
    """
    if isinstance(value, Tensor) and not value.is_complex():
        value = value.detach().to_dense().cpu().double().numpy()
    elif isinstance(value, np.generic):
        value = np.asarray(value)
    elif not isinstance(value, Tensor | np.ndarray) and hasattr(value, "__float__"):
        value = np.array(float(value))
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "biuf":
        raise TypeError(f"no tensor of real numbers: {type(value).__name__}")
    tensor = torch.from_numpy(np.array(value, dtype=np.float64, order="C"))
    return tensor.reshape(()) if number and tensor.numel() == 1 else tensor


def values_of(
    answer: Answer,
    cases: Sequence[Case],
    *,
    number: bool = False,
    like: Tensor | None = None,
) -> list[Tensor] | Verdict:
    """Return the value of a learner's function for each case, or a Verdict.

    A Verdict where one is no tensor or, with ``like``, another shape or not finite.
    """
    values = []
    for case in cases:
        value = call(answer, *case)
        if isinstance(value, Verdict):
            return value
        try:
            values.append(as_tensor(value, number=number))
        except Exception:
            return _not_a_tensor(value)
    if like is None:
        return values
    flaw = _flaw(values, [like] * len(values), "check-same-shape")
    return values if flaw is None else flaw


def compare(
    answer: Answer,
    oracle: Answer,
    mistakes: Mapping[str, Answer],
    cases: Sequence[Case],
    right: str,
    *,
    number: bool = False,
    changes: str | None = None,
    cut: str | None = None,
) -> Verdict:
    """Return the verdict on a function whose values are tensors, arrays or numbers.

    Args:
        answer: the learner's function; what it raises becomes a hint.
        oracle: the right one, implemented in another way than the learner is likely to.
        mistakes: usual wrong functions, by the hint that each deserves.
        cases: arguments to call them all with, chosen so that no two agree.
        right: the phrase that follows "Right".
        number: a value of one element may have any axes.
        changes: the hint for an answer that differs from one call to the next.
        cut: the hint where no gradient reaches one of the arguments that require it;
            the gradients of the sum are then compared too.
    """
    values = values_of(answer, cases, number=number)
    if isinstance(values, Verdict):
        return values
    if changes is not None:
        again = values_of(answer, cases, number=number)
        if isinstance(again, Verdict):
            return again
        if not all(map(_identical, values, again)):
            return wrong(changes)
    wanted = _known(oracle, cases, number)
    if _same(values, wanted):
        if cut is None:
            return correct(right)
        return _compare_gradients(answer, oracle, cases[0], cut, right)
    for key, mistake in mistakes.items():
        if _same(values, _known(mistake, cases, number)):
            return wrong(key)
    flaw = _flaw(values, wanted, "check-shape")
    if flaw is not None:
        return flaw
    gaps = [(a - b).abs().max().item() for a, b in zip(values, wanted, strict=True)]
    return wrong("check-value", gap=max(gaps))


def _compare_gradients(
    answer: Answer, oracle: Answer, case: Case, cut: str, right: str
) -> Verdict:
    found = _gradients(answer, case)
    if isinstance(found, Verdict):
        return found
    if any(gradient is None for gradient in found):
        return wrong(cut)
    wanted = _gradients(oracle, case)
    return compare(
        lambda: torch.stack(found), lambda: torch.stack(wanted), {}, [()], right
    )


def _gradients(function: Answer, case: Case) -> Any:
    """Return the gradient of a function's sum in each argument that requires one.

    None where none reaches, and a Verdict if the function or its gradient stops.
    """
    sources = [v for v in case if isinstance(v, Tensor) and v.requires_grad]
    value = call(function, *case)
    if isinstance(value, Verdict):
        return value
    if not isinstance(value, Tensor) or not value.requires_grad:
        return [None]
    return call(lambda: torch.autograd.grad(value.sum(), sources, allow_unused=True))


def _known(function: Answer, cases: Sequence[Case], number: bool) -> list[Tensor]:
    values = (function(*map(fresh, case)) for case in cases)
    return [as_tensor(value, number=number) for value in values]


def _not_a_tensor(value: Any) -> Verdict:
    got = value.dtype if isinstance(value, Tensor) else type(value).__name__
    return wrong("check-not-tensor", got=got)


def _identical(a: Tensor, b: Tensor) -> bool:
    return torch.equal(a.nan_to_num(), b.nan_to_num())


def close(a: Tensor, b: Tensor) -> bool:
    """Return whether two float64 tensors agree, within rounding in float32."""
    return a.shape == b.shape and torch.allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE)


def _same(values: Sequence[Tensor], wanted: Sequence[Tensor]) -> bool:
    return all(map(close, values, wanted))


def _flaw(
    values: Sequence[Tensor], wanted: Sequence[Tensor], shape: str
) -> Verdict | None:
    """Return the verdict on a value of another shape (hint ``shape``) or not finite."""
    for a, b in zip(values, wanted, strict=True):
        if a.shape != b.shape:
            return wrong(shape, got=tuple(a.shape), takes=tuple(b.shape))
        if not a.isfinite().all():
            return wrong("check-not-finite")
    return None
