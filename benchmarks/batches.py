"""Batch size and precision against images per second and test ELBO, for lesson 04.

Run: uv run python benchmarks/batches.py [--rounds 2] [--seeds 3] [--device cuda]
     [--threads N]
Writes results/batches_cpu.json, or results/batches_cuda.json.

Every combination trains models of its own with ``train.fit``'s epochs, in turns as the
ladder does (``training.Fit``); then the test ELBO, with the same noise for all.
"""

from typing import Any

import contest
import torch
from results import read_options, write
from training import Fit, Seconds, load, over_seeds

from vae_teach import train
from vae_teach.train.loop import PRECISIONS

BATCHES = (32, 128, 512, 2048)
CHOICES = {"cpu": ("highest", "medium"), "cuda": PRECISIONS}

Setting = tuple[int, str]


def summary(
    settings: dict[str, Setting],
    seconds: Seconds,
    elbos: dict[str, list[float]],
    count: int,
) -> list[dict[str, Any]]:
    """Return a row a combination: its speed, and its ELBO with its error over seeds."""
    rows = []
    for row in contest.compare(seconds, against="128 highest"):
        size, precision = settings[row["name"]]
        own = torch.tensor(elbos[row["name"]])
        row |= {"batch_size": size, "precision": precision}
        row["images_per_second"] = round(count / row["seconds"], 1)
        row["test_elbo"] = round(own.mean().item(), 3)
        row["standard_error"] = round(train.standard_error(own), 3)
        rows.append(row)
    return rows


def main() -> None:
    """Time and judge every combination, once a seed; write what was measured."""
    options = read_options(__doc__, device=True, rounds=2, seeds=3)
    device, images, test = load(options.device)
    settings: dict[str, Setting] = {
        f"{size} {precision}": (size, precision)
        for size in BATCHES
        for precision in CHOICES.get(device.type, ("highest",))
    }

    def make(seed: int) -> dict[str, Fit]:
        return {
            name: Fit(seed, device, images, batch_size=size, precision=precision)
            for name, (size, precision) in settings.items()
        }

    seconds, elbos = over_seeds(
        make, seeds=options.seeds, rounds=options.rounds, test=test
    )
    rows = summary(settings, seconds, elbos, len(images))
    for row in rows:
        print(row)
    content = {"images": len(images), "epochs": options.rounds + 1}
    content |= {"seeds": options.seeds, "rows": rows}
    write(f"batches_{device.type}", content, options.out)


if __name__ == "__main__":
    main()
