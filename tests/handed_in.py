"""Small notebooks as students hand them in, for the tests of collect and hand-outs."""

import json

from vae_teach.records import KIND

WHEN = "2026-11-01T10:00:00+00:00"
SETUP = "import math\nfrom vae_teach.checks import latents as checks"
RIGHT = "def my_radius(mass):\n    return math.sqrt(-2 * math.log(1 - mass))\n\n\n"
WRONG = "def my_radius(mass):\n    return -2 * math.log(1 - mass)\n\n\n"  # squared
EMPTY = "def my_radius(mass): ...\n\n\n"
ASK = "checks.ring_radius(my_radius)"


def record(right, hint, check="latents.ring_radius", when=WHEN, **more):
    """Return an output as a verdict leaves it."""
    about = {"version": 1, "check": check, "right": right, "hint": hint, "when": when}
    data = {"text/plain": ["✔ Right."], KIND: about | more}
    kind = {"output_type": "execute_result", "execution_count": 1}
    return kind | {"metadata": {}, "data": data}


SAID_RIGHT = record(True, "latents-radius-right")
SAID_SQUARED = record(False, "latents-radius-squared")
SAID_EMPTY = record(False, "check-empty")


def cell(key, source, *outputs, tags=(), **metadata):
    about = {"key": key} if key else {}
    about |= {"tags": [*tags]} if tags else {}
    return {
        "cell_type": "code",
        "id": key or "own",
        "metadata": about | metadata,
        "source": source,
        "outputs": [*outputs],
        "execution_count": 1,
    }


def text(key, source, **more):
    about = {"key": key}
    return {"cell_type": "markdown", "id": key, "metadata": about} | {
        "source": source,
        **more,
    }


def notebook(*cells, **metadata):
    whole = {"cells": [*cells], "metadata": metadata}
    return whole | {"nbformat": 4, "nbformat_minor": 5}


def answered(source, *outputs, before=()):
    """Return lesson 05 as far as its first exercise."""
    setup = cell("setup", SETUP)
    return notebook(setup, *before, cell("exercise-radius", source + ASK, *outputs))


def hand_in(folder, name, content):
    """Write a file below a folder: JSON, or the bytes that are given."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    path.write_bytes(raw)
    return path
