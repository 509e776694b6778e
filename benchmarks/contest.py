"""Contestants in turns, so that slow phases affect every contestant equally.

A laptop slows down when it gets warm, a virtual machine when its neighbours are busy.
So no contestant is timed alone: each round runs all of them once, in another order each
time, and what is reported is the median of the ratios within rounds.
"""

import random
import statistics
from collections.abc import Callable
from typing import Any


def in_turns(
    contestants: dict[str, Callable[[], float]], rounds: int = 5
) -> dict[str, list[float]]:
    """Run every contestant once a round; each returns its own seconds.

    One round before them is thrown away: it loads code and fills caches.
    """
    order = list(contestants)
    seconds: dict[str, list[float]] = {name: [] for name in order}
    shuffle = random.Random(0).shuffle
    for number in range(rounds + 1):
        shuffle(order)
        for name in order:
            taken = contestants[name]()
            if number:
                seconds[name].append(taken)
        if number:
            shown = "  ".join(f"{name} {seconds[name][-1]:.3f}" for name in seconds)
            print(f"round {number}: {shown}", flush=True)
    return seconds


def compare(seconds: dict[str, list[float]], against: str) -> list[dict[str, Any]]:
    """Return one row a contestant: its median, and how often it fits in ``against``.

    ``times_faster`` is the median over rounds of seconds of ``against`` divided by its
    own in the same round, ``lowest`` and ``highest`` are the extremes of these ratios.
    """
    rows = []
    for name, own in seconds.items():
        ratios = [a / b for a, b in zip(seconds[against], own, strict=True)]
        rows.append(
            {
                "name": name,
                "seconds": round(statistics.median(own), 4),
                "times_faster": round(statistics.median(ratios), 3),
                "lowest": round(min(ratios), 3),
                "highest": round(max(ratios), 3),
                "rounds": len(own),
            }
        )
    return rows
