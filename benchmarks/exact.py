"""Exact log p(x) of the MNIST test images: seconds and error against the grid.

Run: uv run python benchmarks/exact.py [--rounds 5] [--threads N]
Writes results/exact.json.

The model is lesson 00's (784-400-2, 15 epochs). The error is against a grid four times
as fine as the default in float64, over the same plane, on the first 1,000 images; the
peak of memory is that of a process that loads the test images and does nothing else.
"""

import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import contest
import torch
from results import read_options, write

from vae_teach import data, exact, nets, train

GRIDS = (50, 100, 150, 200, 300, 400, 600)
DEFAULT = 400
EXTENT = 5.0
FAR = 8.0  # a plane that no posterior leaves
CHECKED = 1000  # images whose error is measured
FINE = 1600


def trained(progress: bool = True) -> nets.VAE:
    """Return the model of lesson 00, from the cache after the first time."""
    images = data.load("mnist", "train")
    return train.trained(images, device="cpu", progress=progress)[0]


def timed(model: nets.VAE, x: torch.Tensor, grid: int) -> Callable[[], float]:
    """Return a contestant: all images on a grid."""

    def once() -> float:
        start = time.perf_counter()
        exact.log_likelihood_with_error(model, x, grid=grid, extent=EXTENT)
        return time.perf_counter() - start

    return once


def errors(model: nets.VAE, x: torch.Tensor) -> dict[int, dict[str, float]]:
    """Return for each grid how far its answers are from the fine one's, in nats."""
    few = x[:CHECKED]
    fine, _ = exact.log_likelihood_with_error(
        model, few, grid=FINE, extent=EXTENT, dtype=torch.float64
    )
    found = {}
    for grid in GRIDS:
        value, told = exact.log_likelihood_with_error(
            model, few, grid=grid, extent=EXTENT
        )
        off = (value - fine).abs()
        found[grid] = {
            "mean_error": off.mean().item(),
            "largest_error": off.max().item(),
            "mean_estimate": told.mean().item(),
        }
    return found


def peak_memory() -> dict[str, float]:
    """Return MB that a process holds at most, before and after it has the answer."""
    done = subprocess.run(
        [sys.executable, __file__, "--memory"],
        capture_output=True,
        text=True,
        check=True,
    )
    before, after = map(float, done.stdout.split())
    return {"peak_mb": after, "of_which_before_mb": before}


def measure_memory() -> None:
    """Print the peak before and after, in MB."""
    torch.manual_seed(0)
    model = nets.VAE()  # untrained posteriors are wide: more tiles, not fewer
    x = data.load("mnist", "test").pixels
    before = peak()
    exact.log_likelihood_with_error(model, x)
    print(round(before), round(peak()))


def peak() -> float:
    """Return the most memory this process has held so far, in MB.

    Linux counts for getrusage what the parent held when it started us, so ask the
    process itself there.
    """
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (s for s in status.read_text().splitlines() if s.startswith("VmHWM"))
        return int(line.split()[1]) / 1024  # kB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2  # macOS: bytes


def main() -> None:
    """Time the grids in turns, measure errors and memory, write it all down."""
    options = read_options(__doc__, rounds=5, flags=["memory"])
    warnings.simplefilter("ignore")  # that a few posteriors touch the edge is reported
    if options.memory:
        measure_memory()
        return
    model, test = trained(), data.load("mnist", "test")
    grids = {str(grid): timed(model, test.pixels, grid) for grid in GRIDS}
    seconds = contest.in_turns(grids, options.rounds)
    found = errors(model, test.pixels)
    rows: list[dict[str, Any]] = []
    for row in contest.compare(seconds, against=str(DEFAULT)):
        rows.append(row | {k: round(v, 7) for k, v in found[int(row["name"])].items()})
        print(rows[-1])
    value = exact.log_likelihood(model, test.pixels)
    far = exact.log_likelihood(model, test.pixels, grid=640, extent=FAR)
    content = {
        "images": len(test),
        "extent": EXTENT,
        "rounds": options.rounds,
        "log_likelihood": round(value.mean().item(), 4),
        "standard_error": round(train.standard_error(value), 3),
        "log_likelihood_on_a_wider_plane": round(far.mean().item(), 4),
        **peak_memory(),
        "rows": rows,
    }
    print({name: value for name, value in content.items() if name != "rows"})
    write("exact", content, options.out)


if __name__ == "__main__":
    main()
