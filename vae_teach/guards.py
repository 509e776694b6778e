"""Input checks at the public entry points: bad input gets one clear sentence.

It names the argument, what it got and what it takes, in the reader's language. Checks
of values wait for the device, so only entry points make them; checks of shapes and
dtypes may stand anywhere.
"""

import math
import operator
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

from vae_teach.words import say


class DivergedError(ValueError, FloatingPointError):
    """A model computes NaN. ``fit`` calls that a FloatingPointError, too."""


def as_integer(value: Any) -> int | None:
    """Return an integer of any library as Python's own, None for anything else."""
    if isinstance(value, bool) or getattr(value, "dtype", None) == torch.bool:
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def check_count(name: str, value: Any) -> int:
    """Return ``value`` as an int; ValueError unless it is an integer of 1 or more."""
    count = as_integer(value)
    if count is None or count < 1:
        raise ValueError(say("not-positive", name=name, got=value))
    return count


def check_choice(name: str, value: object, takes: tuple[object, ...]) -> None:
    """Raise ValueError, naming the choices, unless ``value`` is one of them."""
    if value not in takes:
        choices = ", ".join(repr(choice) for choice in takes)
        raise ValueError(say("unknown-choice", name=name, got=value, takes=choices))


def check_floating(name: str, value: Tensor) -> None:
    """Raise TypeError unless ``value`` is a floating tensor."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        got = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(say("not-floating", name=name, got=got))


def check_width(name: str, value: Tensor, width: int) -> None:
    """Raise unless ``value`` is a floating tensor of shape (..., width).

    TypeError for another dtype; ValueError for another shape, which says how to flatten
    images where that is what is meant.
    """
    check_floating(name, value)
    shape = tuple(value.shape)
    if shape and shape[-1] == width:
        return
    is_image = len(shape) > 1 and math.prod(shape[-2:]) == width
    key = "not-flat" if is_image else "wrong-width"
    raise ValueError(say(key, name=name, got=shape, width=width))


def check_same_width(name: str, value: Tensor, other_name: str, other: Tensor) -> None:
    """Raise unless both are floating and their last axes have the same length.

    TypeError names the one that is not floating, ValueError the shapes that differ.
    """
    check_floating(name, value)
    check_floating(other_name, other)
    if value.shape[-1:] != other.shape[-1:]:
        shapes = {"got": tuple(value.shape), "other": tuple(other.shape)}
        raise ValueError(
            say("shapes-differ", name=name, other_name=other_name, **shapes)
        )


_trusted = ContextVar("_trusted", default=False)


@contextmanager
def trusted_values() -> Iterator[None]:
    """Let the guards that look at values pass: what is inside has been checked.

    A training step uses it. To look at a value it would have to wait for the device,
    and its images were checked when they were loaded.
    """
    before = _trusted.set(True)
    try:
        yield
    finally:
        _trusted.reset(before)


def values_are_trusted() -> bool:
    """Tell whether the code runs inside ``trusted_values``."""
    return _trusted.get()


def check_finite(name: str, value: Tensor) -> None:
    """Raise unless ``value`` is a floating tensor of finite numbers, and not empty.

    TypeError for another dtype, ValueError for the rest. Waits for the device.
    """
    check_floating(name, value)
    if values_are_trusted():
        return
    if value.numel() == 0 or not value.isfinite().all():
        raise ValueError(say("not-finite", name=name, got=tuple(value.shape)))


def check_sound(value: Tensor) -> Tensor:
    """Return what a model computed; DivergedError if there is NaN in it."""
    if not values_are_trusted() and value.isnan().any():
        raise DivergedError(say("model-nan"))
    return value


def check_pixels(name: str, value: Tensor, *, bytes_too: bool = False) -> None:
    """Raise unless ``value`` holds floating pixels in [0, 1], without NaN, not empty.

    With ``bytes_too``, grey levels from 0 to 255 in uint8 will do. TypeError for
    another dtype, ValueError for the rest. Waits for the device.
    """
    are_bytes = bytes_too and isinstance(value, Tensor) and value.dtype == torch.uint8
    if not are_bytes and not (isinstance(value, Tensor) and value.is_floating_point()):
        got = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(say("pixels-not-floating", name=name, got=got))
    if values_are_trusted():
        return
    if value.numel() == 0:
        raise ValueError(say("empty-images", name=name, got=tuple(value.shape)))
    if are_bytes:
        return
    low, high = (bound.item() for bound in value.aminmax())
    if math.isnan(low) or math.isnan(high):
        raise ValueError(say("pixels-nan", name=name))
    if low < 0 or high > 1:
        raise ValueError(say("pixels-out-of-range", name=name, low=low, high=high))


def find_device(device: str | torch.device | None = None) -> torch.device:
    """Return the device asked for, or the accelerator if there is one, else the CPU.

    Raises ValueError for a device that this machine does not have.
    """
    there = torch.accelerator.current_accelerator() if _has_accelerator() else None
    if device is None:
        return there or torch.device("cpu")
    try:
        wanted = torch.device(device)
    except (RuntimeError, TypeError):
        wanted = torch.device("meta")  # which no machine has, like an unknown name
    counts = {"cpu": 1}  # devices of each kind; of CPUs there is one, by any index
    if there is not None:
        counts[there.type] = torch.accelerator.device_count()
    index = 0 if wanted.type == "cpu" else wanted.index or 0
    if index >= counts.get(wanted.type, 0):
        raise ValueError(say("no-device", got=str(device), takes=", ".join(counts)))
    return wanted


def _has_accelerator() -> bool:
    return torch.accelerator.is_available()
