"""As many threads as the machine has free cores, looked at four times a second.

PyTorch takes a thread for each core, whoever else is at work. Its threads wait for each
other at the end of each operation, and wait by spinning: with four readers on two cores
each epoch takes ten times its fair share (``benchmarks/crowd.py``). So the package's
long loops ask ``share_cores`` at each step. Alone, they keep all the threads; beside
others, they take what is left, one at least.

Sums over more threads are rounded otherwise, so runs of one seed agree to the last
digit on one number of threads. ``OMP_NUM_THREADS`` fixes it; what
``torch.set_num_threads`` set is the most that is taken, and one is always kept.
"""

import os
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import psutil
import torch

SECONDS = 0.25  # between two looks: the counters of Linux tick each 0.01 s
CGROUPS = Path("/sys/fs/cgroup")
P = ParamSpec("P")
R = TypeVar("R")


def quota() -> float:
    """Return how many cores a container may use, by its control group; else infinity.

    PyTorch does not ask: in a container of two cores it takes a thread for each core of
    the machine. Of control groups, version 1 has two files, version 2 has one.
    """
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            texts = [(CGROUPS / name).read_text(encoding="ascii") for name in names]
            most, period = map(float, " ".join(texts).split())
        except (OSError, ValueError):  # not there, or "max"
            continue
        if most > 0:
            return most / period
    return float("inf")


class Meter:
    """How many cores are not used by others, since the last look and before it."""

    def __init__(self) -> None:
        self.own = psutil.Process()
        self.limit = quota()
        self.at, self.idle, self.used = self.read()

    def read(self) -> tuple[float, float, float]:
        """Return the time, and seconds of cores: idle, and used by this process."""
        cores: list[Any] = psutil.cpu_times(percpu=True)
        if hasattr(self.own, "cpu_affinity"):  # not on macOS
            cores = [cores[i] for i in self.own.cpu_affinity() if i < len(cores)]
        idle = sum(core.idle + getattr(core, "iowait", 0) for core in cores)
        return time.perf_counter(), idle, time.process_time()

    def is_due(self) -> bool:
        """Return whether the last look was long enough ago for another."""
        return time.perf_counter() - self.at >= SECONDS

    def free(self) -> float:
        """Return the cores that this process has or could have; look from now on."""
        before = self.at, self.idle, self.used
        self.at, self.idle, self.used = self.read()
        seconds, idle, used = (
            now - then
            for now, then in zip((self.at, self.idle, self.used), before, strict=True)
        )
        return min((idle + used) / seconds, self.limit)


_meter = Meter()
_most: list[
    int
] = []  # threads that the running computations were given; outermost first


def shares_cores(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function's loops follow the free cores; its caller's threads come back."""

    @wraps(function)
    def sharing(*args: P.args, **kwargs: P.kwargs) -> R:
        threads = torch.get_num_threads()
        _most.append(_most[0] if _most else threads)
        try:
            share_cores()
            return function(*args, **kwargs)
        finally:
            _most.pop()
            torch.set_num_threads(threads)

    return sharing


def share_cores() -> None:
    """Take as many threads as there are free cores, if the last look was long ago.

    For each step of a loop: between two looks it costs a comparison. Outside a function
    that ``shares_cores``, or where ``OMP_NUM_THREADS`` is set, it does nothing.
    """
    if not _most or "OMP_NUM_THREADS" in os.environ or not _meter.is_due():
        return
    threads = max(1, min(round(_meter.free()), _most[0]))
    if threads != torch.get_num_threads():
        torch.set_num_threads(threads)
