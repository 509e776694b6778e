"""Batch size and precision against images per second and test ELBO, for lesson 04.

Run: uv run python benchmarks/batches.py [--rounds 2] [--seeds 3] [--device cuda]
     [--threads N]
Writes results/batches_cpu.json, or results/batches_cuda.json.

Every combination trains models of its own with ``train.fit``'s epochs, in turns as the
ladder does (``training.Fit``); then the test ELBO, with the same noise for all.
"""

import argparse
from typing import Any

import report
import torch
import turns
from training import Fit, elbo_of

from vae_teach import data, train

BATCHES = (32, 128, 512, 2048)
PRECISIONS = {"cpu": ("highest", "medium"), "cuda": train.PRECISIONS}

Setting = tuple[int, str]


def asked() -> argparse.Namespace:
    """Read the command line."""
    parser = report.parser(__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--device", default=None, help="the accelerator if there is one"
    )
    parser.set_defaults(rounds=2)
    return parser.parse_args()


def summary(
    settings: dict[str, Setting],
    seconds: dict[str, list[float]],
    elbos: dict[str, list[float]],
    count: int,
) -> list[dict[str, Any]]:
    """Return a row a combination: its speed, and its ELBO with its error over seeds."""
    rows = []
    for row in turns.compare(seconds, against="128 highest"):
        size, precision = settings[row["name"]]
        own = torch.tensor(elbos[row["name"]])
        row |= {"batch_size": size, "precision": precision}
        row["images_per_second"] = round(count / row["seconds"], 1)
        row["test_elbo"] = round(own.mean().item(), 3)
        row["standard_error"] = round(train.standard_error(own), 3)
        rows.append(row)
    return rows


def main() -> None:
    """Time and judge every combination, once a seed; write what was seen."""
    options = asked()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = train.find_device(options.device)
    images = data.load("mnist", "train", device=device)
    test = data.load("mnist", "test", device=device)
    settings: dict[str, Setting] = {
        f"{size} {precision}": (size, precision)
        for size in BATCHES
        for precision in PRECISIONS.get(device.type, ("highest",))
    }
    seconds: dict[str, list[float]] = {name: [] for name in settings}
    elbos: dict[str, list[float]] = {name: [] for name in settings}
    for seed in range(options.seeds):
        rungs = {
            name: Fit(seed, device, images, batch_size=size, precision=precision)
            for name, (size, precision) in settings.items()
        }
        for name, taken in turns.in_turns(dict(rungs), options.rounds).items():
            seconds[name].extend(taken)
        for name, rung in rungs.items():
            elbos[name].append(elbo_of(rung, test))
    rows = summary(settings, seconds, elbos, len(images))
    for row in rows:
        print(row)
    results = {"images": len(images), "epochs": options.rounds + 1}
    results |= {"seeds": options.seeds, "rows": rows}
    print(report.write(f"batches_{device.type}", results))


if __name__ == "__main__":
    main()
