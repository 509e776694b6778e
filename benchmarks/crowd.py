"""Several readers at once on the same cores: is work lost, and who waits how long?

Run: uv run python benchmarks/crowd.py [--seconds 8] [--rounds 3] [--out FOLDER]
Writes results/crowd.json.

A reader is a process of its own that does one kind of work again and again: epochs of
``fit``, exact log p(x), the explorer's preparation, or a loop as lesson 00 writes it.
All begin at one moment and stop at another. ``shared`` is the course as it comes;
``fixed`` is PyTorch as it comes: a thread for each core, which waits by spinning.

``work`` is what all of them did per second, as a share of what one reader alone did;
``wait`` is the median time of a piece of work in units of its fair share, which is the
time of one alone times the number of readers. The slowest reader counts.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from results import read_options, write

KINDS = ("fit", "exact", "explorer", "loop")
READERS = {"shared": (1, 2, 4, 8), "fixed": (1, 4)}
IMAGES = 10_000


def pieces(kind: str) -> Callable[[], Any]:
    """Return a function that does one piece of work, of some tenths of a second."""
    from vae_teach import data, exact, nets, train
    from vae_teach.bounds import elbo
    from vae_teach.explorer import LatentExplorer

    torch.manual_seed(0)
    test = data.load("auto", "test")
    images = data.Images(test.pixels[:IMAGES], test.labels[:IMAGES], dynamic=True)
    model = nets.VAE()
    if kind == "fit":
        return lambda: train.fit(model, images, epochs=1, progress=False)
    if kind == "exact":
        return lambda: exact.log_likelihood(model, test.pixels[:500])
    if kind == "explorer":
        return lambda: LatentExplorer(model, images)
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)

    def loop() -> None:
        for x, _ in images.batches(128):
            adam.zero_grad()
            (-elbo(model, x).elbo.mean()).backward()
            adam.step()

    return loop


def be_reader(kind: str, seconds: float) -> None:
    """Say that this reader is ready; once told to, work, and print each piece's time.

    The last piece that is begun within ``seconds`` is finished and counts.
    """
    piece = pieces(kind)
    piece()
    piece()
    print("ready", flush=True)
    input()
    begun, taken = time.perf_counter(), []
    while sum(taken) < seconds:
        piece()
        taken.append(time.perf_counter() - begun - sum(taken))
    print(*taken)


def measure(kind: str, policy: str, readers: int, seconds: int) -> dict[str, float]:
    """Let so many readers work at once; return pieces per second, and their time."""
    env = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    if policy == "fixed":
        env |= {"OMP_NUM_THREADS": str(os.cpu_count()), "GOMP_SPINCOUNT": "300000"}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    command = [sys.executable, __file__, "read", kind, str(seconds)]
    crowd = [
        subprocess.Popen(command, env=env, text=True, **pipes) for _ in range(readers)
    ]
    for one in crowd:
        while one.stdout.readline() != "ready\n":  # what it says of the data
            assert one.poll() is None
    time.sleep(1)
    for one in crowd:
        one.stdin.write("go\n")
        one.stdin.flush()
    each = [[float(t) for t in one.communicate()[0].split()] for one in crowd]
    rates = [len(taken) / sum(taken) for taken in each]
    return {"rate": sum(rates), "slowest": max(statistics.median(t) for t in each)}


def summary(found: dict[tuple[str, str, int], list[dict[str, float]]]) -> list[Any]:
    """Return a row for each kind, policy and number of readers: medians over rounds."""
    rows = []
    for (kind, policy, readers), rounds in found.items():
        alone = found[kind, policy, 1]
        work = [
            many["rate"] / one["rate"] for many, one in zip(rounds, alone, strict=True)
        ]
        wait = [
            many["slowest"] / (readers * one["slowest"])
            for many, one in zip(rounds, alone, strict=True)
        ]
        seconds = statistics.median(many["slowest"] for many in rounds)
        row = {"kind": kind, "policy": policy, "readers": readers}
        row |= {"seconds": round(seconds, 3)}
        row |= {"work": round(statistics.median(work), 3)}
        row |= {"wait": round(statistics.median(wait), 3)}
        rows.append(row)
    return rows


def main() -> None:
    """Measure every kind, policy and number of readers, in turns; write the table."""
    options = read_options(__doc__, seconds=8, rounds=3)
    cases = [(k, p, n) for k in KINDS for p in READERS for n in READERS[p]]
    found: dict[tuple[str, str, int], list[dict[str, float]]] = {c: [] for c in cases}
    rounds = 0
    with suppress(KeyboardInterrupt):  # what is complete by then is kept
        for number in range(options.rounds):
            turn = {}
            for case in cases[:: (-1) ** number]:
                turn[case] = measure(*case, options.seconds)
                print(number, *case, turn[case], flush=True)
            for case, one in turn.items():
                found[case].append(one)
            rounds += 1
    if not rounds:
        raise SystemExit(1)  # nothing to write
    content = {"seconds": options.seconds, "rounds": rounds}
    write("crowd", content | {"rows": summary(found)}, options.out)


if __name__ == "__main__":
    if sys.argv[1:2] == ["read"]:
        be_reader(sys.argv[2], float(sys.argv[3]))
    else:
        main()
