"""Threads follow the free cores: judged by counters that the tests set themselves."""

import os
import subprocess
import sys
import time

import pytest
import torch

from vae_teach.speed import threads
from vae_teach.speed.threads import Meter, quota, share_cores, shares_cores


class Machine:
    """Counters of a machine of so many cores, and what others and we use of them."""

    def __init__(self, cores):
        self.cores, self.others, self.own = cores, 0.0, 0.0
        self.now = self.idle = self.used = 0.0

    def passes(self, seconds):
        self.now += seconds
        self.used += self.own * seconds
        self.idle += max(self.cores - self.own - self.others, 0) * seconds

    def read(self):
        return self.now, self.idle, self.used


@pytest.fixture
def machine(monkeypatch):
    """Return a machine of 8 cores whose clock the test moves; 8 threads are set."""
    machine = Machine(8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads.time, "perf_counter", lambda: machine.now)
    meter = Meter()
    meter.limit = float("inf")
    monkeypatch.setattr(meter, "read", machine.read)
    meter.at = meter.idle = meter.used = 0.0
    monkeypatch.setattr(threads, "_meter", meter)
    before = torch.get_num_threads()
    torch.set_num_threads(8)
    yield machine
    torch.set_num_threads(before)


def taken(machine, *, own, others, seconds=1.0):
    """Return the threads after some time in which the machine was used like this."""
    machine.own, machine.others = own, others
    machine.passes(seconds)
    share_cores()
    return torch.get_num_threads()


@pytest.mark.parametrize(
    ("own", "others", "expected"),
    [
        (8, 0, 8),  # alone, at work
        (0, 0, 8),  # alone, and not yet at work
        (0, 0.4, 8),  # a browser beside it
        (4, 4, 4),  # another reader who shares
        (1, 7, 1),
        (0.5, 7.5, 1),  # a crowd: one thread at least
        (0, 8, 1),
        (0, 3, 5),
    ],
)
def test_threads_are_what_others_leave(machine, own, others, expected):
    @shares_cores
    def compute():
        return taken(machine, own=own, others=others)

    assert compute() == expected
    assert torch.get_num_threads() == 8  # given back


def test_they_come_back_when_the_others_leave(machine):
    @shares_cores
    def compute():
        return [
            taken(machine, own=1, others=7),
            taken(machine, own=1, others=7),
            taken(machine, own=1, others=0),
        ]

    assert compute() == [1, 1, 8]


def test_between_two_looks_nothing_is_read(machine, monkeypatch):
    @shares_cores
    def compute():
        assert taken(machine, own=0, others=8) == 1
        monkeypatch.setattr(threads._meter, "free", None)  # a look would fail
        assert taken(machine, own=0, others=0, seconds=threads.SECONDS / 2) == 1

    compute()


def test_an_inner_computation_takes_no_more_than_the_outer_was_given(machine):
    torch.set_num_threads(3)

    @shares_cores
    def inner():
        return taken(machine, own=0, others=0)

    @shares_cores
    def outer():
        few = taken(machine, own=0, others=8)
        return few, inner(), torch.get_num_threads()

    assert outer() == (1, 3, 1)
    assert torch.get_num_threads() == 3


def test_what_somebody_fixed_is_kept(machine, monkeypatch):
    @shares_cores
    def compute():
        return taken(machine, own=0, others=8)

    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    assert compute() == 8
    monkeypatch.delenv("OMP_NUM_THREADS")
    torch.set_num_threads(1)
    machine.own = machine.others = 0
    machine.passes(1)
    assert compute() == 1


def test_outside_a_computation_and_after_an_error_threads_are_the_callers(machine):
    assert taken(machine, own=0, others=8) == 8

    @shares_cores
    def stopped():
        assert taken(machine, own=0, others=8) == 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert torch.get_num_threads() == 8
    assert taken(machine, own=0, others=0) == 8


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "max 100000\n"}, float("inf")),
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2),
        ({"cpu.max": "rubbish"}, None),
        ({}, None),
    ],
)
def test_a_container_s_limit_is_read(files, cores, tmp_path, monkeypatch):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(threads, "CGROUPS", tmp_path)
    assert quota() == (cores or float("inf"))


def test_a_container_of_two_cores_takes_two_threads(machine):
    threads._meter.limit = 2.0

    @shares_cores
    def compute():
        return taken(machine, own=0, others=0)

    assert compute() == 2


def test_the_real_counters_agree_with_a_process_that_spins():
    """Beside three spinning processes for each core, less than half of them is left."""
    meter = Meter()
    idle = sum(c.idle for c in threads.psutil.cpu_times(percpu=True))
    cores = len(threads.psutil.cpu_times(percpu=True))
    spin = "import time\nend = time.time() + 2\nwhile time.time() < end: pass"
    spinning = [
        subprocess.Popen([sys.executable, "-c", spin]) for _ in range(3 * cores)
    ]
    time.sleep(1.2)
    free = meter.free()
    for process in spinning:
        process.wait()
    assert sum(c.idle for c in threads.psutil.cpu_times(percpu=True)) >= idle
    assert 0 <= free <= 0.6 * cores


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, "3000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "")],
)
def test_waiting_threads_of_every_python_of_the_course_spin_less(given, expected):
    """Of any program that starts one: what somebody set themselves is kept."""
    ours = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    env = {k: v for k, v in os.environ.items() if k not in ours}
    code = "import os; print(os.environ.get('GOMP_SPINCOUNT', ''))"
    command = [sys.executable, "-c", code]
    said = subprocess.check_output(command, env=env | given, text=True)
    assert said.strip() == expected
