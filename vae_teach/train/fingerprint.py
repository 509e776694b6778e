"""What determines a training run, as a short text that comes out the same tomorrow.

A model, an objective or a schedule may be a reader's own code. What it does is told by
its compiled code and by the values that it uses, and by theirs in turn: a comment
changes nothing, a constant does. Code of libraries is known by its name.
"""

import dis
import hashlib
import json
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vae_teach.words import say

PACKAGE = Path(__file__).resolve().parents[1]
TRAINS = ("bounds", "data", "densities", "models", "nets", "speed", "train")
LIBRARIES = (PACKAGE, *(Path(sysconfig.get_path(p)) for p in ("stdlib", "purelib")))
PLAIN = (str, bytes, int, float, complex, type(None), type(...), range, slice)
TORCH = (torch.device, torch.dtype)
OF_EVERY_CLASS = ("__dict__", "__weakref__", "__module__", "__doc__")


def fingerprint(*parts: Any) -> str:
    """Return 32 hexadecimal digits that change with whatever ``parts`` compute.

    Args:
        parts: plain values and containers of them, tensors, arrays, functions, classes,
            modules of PyTorch and other objects that are described by these.

    Raises:
        ValueError: something without a lasting description, which the sentence names.
    """
    described = [_describe(part, ()) for part in (*parts, sys.version_info[:2])]
    return _digest(json.dumps(described).encode())


def code_that_trains() -> str:
    """Return a digest of the package's modules that decide what training makes."""
    paths = [PACKAGE / name for name in TRAINS]
    files = [file for path in paths for file in sorted(path.glob("*.py"))]
    files += [path.with_suffix(".py") for path in paths if not path.is_dir()]
    return _digest(b"".join(file.read_bytes() for file in files))


def digest_of(images: Any) -> str:
    """Return a digest of what training sees of ``Images``; of None, an empty text.

    That is all but their labels, and their name, which has a sentence of its own.
    """
    if images is None:
        return ""
    numbers = describe_numbers(images.pixels)
    return _digest(json.dumps([*numbers, images.dynamic]).encode())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def _describe(thing: Any, around: tuple[int, ...]) -> Any:
    """Return something that JSON can hold; ``around`` are the things it is part of."""
    if isinstance(thing, np.generic):
        thing = thing.item()  # a number is a number
    if isinstance(thing, (*PLAIN, *TORCH)):
        return repr(thing)
    if id(thing) in around:  # a function that calls itself
        return "itself"
    inside = (*around, id(thing))
    if isinstance(thing, Tensor | np.ndarray):
        return describe_numbers(thing)
    if isinstance(thing, Mapping):
        return [[_describe(part, inside) for part in item] for item in thing.items()]
    if isinstance(thing, set | frozenset):
        return sorted(json.dumps(_describe(item, inside)) for item in thing)
    if isinstance(thing, tuple | list):
        return [_describe(item, inside) for item in thing]
    if name := _library_name(thing):
        return name
    parts = _parts(thing)
    if parts is None:
        raise ValueError(say("no-fingerprint", got=type(thing).__name__))
    return [type(thing).__qualname__, _describe(parts, inside)]


def describe_numbers(thing: Any) -> list[str]:
    """Return dtype, shape and a digest of the numbers of a tensor or an array."""
    array = thing.detach().cpu() if isinstance(thing, Tensor) else torch.tensor(thing)
    numbers: Any = array.contiguous().flatten().view(torch.uint8).numpy()  # a buffer
    return [str(array.dtype), str(tuple(array.shape)), _digest(numbers)]


def _library_name(thing: Any) -> str | None:
    """Return the name of a library's function, class or module, None for the rest."""
    if isinstance(thing, ModuleType):
        return thing.__name__
    home = getattr(thing, "__module__", None)
    if not (isinstance(home, str) and hasattr(thing, "__qualname__")):
        return None
    file = getattr(sys.modules.get(home), "__file__", None)
    own = home == "__main__" or file is not None
    if own and not (file and any(p in Path(file).parents for p in LIBRARIES)):
        return None
    return f"{home}.{thing.__qualname__}"


def _parts(thing: Any) -> Any:
    """Return what describes a reader's function, class or object, None if nothing."""
    if isinstance(thing, partial):
        return thing.func, thing.args, thing.keywords
    if isinstance(thing, MethodType):
        return thing.__func__, thing.__self__
    if isinstance(thing, CodeType):
        return thing.co_code, thing.co_names, thing.co_consts
    if isinstance(thing, FunctionType):
        cells = [cell.cell_contents for cell in thing.__closure__ or ()]
        used = {name: thing.__globals__[name] for name in _globals(thing)}
        return thing.__code__, thing.__defaults__, thing.__kwdefaults__, cells, used
    if isinstance(thing, type):
        own = {k: v for k, v in vars(thing).items() if k not in OF_EVERY_CLASS}
        return thing.__bases__, own
    if isinstance(thing, property | classmethod | staticmethod):
        return thing.fget if isinstance(thing, property) else thing.__func__
    return (type(thing), vars(thing)) if hasattr(thing, "__dict__") else None


def _globals(function: FunctionType) -> list[str]:
    """Return the global names that a function reads, and those defined inside it."""
    names = {
        step.argval
        for code in _codes(function.__code__)
        for step in dis.get_instructions(code)
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    }
    return sorted(names & function.__globals__.keys())


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)
