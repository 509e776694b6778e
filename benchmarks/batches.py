"""Batch size and precision: images per second, and seconds to the same test ELBO.

Run: uv run python benchmarks/batches.py [--rounds 5] [--seeds 3] [--device cuda]
     [--threads N]
Writes results/batches_cpu.json, or results/batches_cuda.json.

At one learning rate for all, a batch size and a rate are compared at once. So first
each batch size gets a rate of its own: every one of ``RATES``, in models whose seeds
are not used again, as many epochs as the target below, and the best mean test ELBO.
Then every batch size and precision trains at that rate, in turns as the ladder does,
and after each epoch its test ELBO is taken, with the same noise for all, off the clock.

The target is what batches of 128 in float32 reach after half of the epochs, seed by
seed. A model's epochs to there, interpolated, times the median seconds of an epoch are
its seconds to the ELBO. Differences are paired: a seed gives all the same first weights
and the same order of images. What is written:

- ``images``, ``epochs``, ``seeds``, ``target_epoch``, and ``target``, the mean ELBO;
- ``tuning``: ``batch_size``, ``learning_rate``, ``test_elbo``, ``standard_error``;
- ``rows``: what ``contest.compare`` gives, and ``batch_size``, ``precision``,
  ``learning_rate``, ``rate_at_edge`` (of those tried), ``images_per_second``,
  ``test_elbo`` after all epochs with its ``standard_error``, ``elbo_difference`` from
  the first with its ``difference_error``, ``curve`` (the mean test ELBO after each
  epoch), ``reached`` (in how many seeds), and where that is all of them
  ``seconds_to_target`` with its ``seconds_error`` over seeds, else null.
"""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import contest
import torch
from results import read_options, write
from training import Fit, Seconds, elbo_of, load

from vae_teach import data, train

BATCHES = (32, 128, 512, 2048)
RATES = tuple(5e-4 * 2**k for k in range(7))  # up to 0.032
CHOICES = {"cpu": ("highest", "medium"), "cuda": train.PRECISIONS}
BASE = "128 highest"
TUNING_SEEDS = 1_000  # from here on: other seeds than those that are compared

Curves = dict[str, list[list[float]]]  # by name: a seed, then an epoch


@dataclass(frozen=True)
class Setting:
    """A batch size, the precision of its products, and its learning rate."""

    batch_size: int
    precision: str
    learning_rate: float


class Tuned(Fit):
    """``fit`` at a learning rate of its own; ``curve`` keeps the test ELBOs."""

    def __init__(
        self,
        seed: int,
        device: torch.device,
        images: data.Images,
        test: data.Images,
        setting: Setting,
    ) -> None:
        size, precision = setting.batch_size, setting.precision
        how: dict[str, Any] = {"batch_size": size, "precision": precision}
        super().__init__(seed, device, images, capture=False, **how)
        rate = setting.learning_rate
        self.run = train.Run(self.model, images, learning_rate=rate)
        with train.products_at(precision):
            self.step = self.run.captured(size)
        self.test = test
        self.curve: list[float] = []

    def __call__(self) -> float:
        """Train one epoch and return its seconds; the evaluation is not in them."""
        seconds = super().__call__()
        self.curve.append(elbo_of(self, self.test))
        return seconds


def tuning(
    device: torch.device,
    images: data.Images,
    test: data.Images,
    *,
    epochs: int,
    seeds: int,
) -> Iterator[dict[str, Any]]:
    """Yield a row for each batch size and rate: its test ELBO after so many epochs."""
    for size in BATCHES:
        for rate in RATES:
            elbos = []
            for seed in range(TUNING_SEEDS, TUNING_SEEDS + seeds):
                setting = Setting(size, "highest", rate)
                rung = Tuned(seed, device, images, test, setting)
                for _ in range(epochs):
                    rung()
                elbos.append(rung.curve[-1])
            row = {"batch_size": size, "learning_rate": rate}
            row |= with_error("test_elbo", "standard_error", elbos)
            print(row, flush=True)
            yield row


def best_rates(tried: list[dict[str, Any]]) -> dict[int, float]:
    """Return the learning rate of the best mean test ELBO, by batch size."""
    rates = {}
    for size in sorted({row["batch_size"] for row in tried}):
        own = [row for row in tried if row["batch_size"] == size]
        rates[size] = max(own, key=lambda row: row["test_elbo"])["learning_rate"]
    return rates


def epochs_to(target: float, curve: list[float]) -> float | None:
    """Return after how many epochs a curve first reaches a test ELBO, if it does.

    Linear between epochs; a first epoch that is enough counts as a whole one.
    """
    for epoch, (before, after) in enumerate(pairwise(curve), 1):
        if before >= target:
            return float(epoch)
        if after >= target:
            return epoch + (target - before) / (after - before)
    return float(len(curve)) if curve[-1] >= target else None


def with_error(name: str, error: str, values: list[float]) -> dict[str, float]:
    """Return a mean over seeds and its standard error, under these names."""
    own = torch.tensor(values, dtype=torch.float64)
    mean, spread = own.mean().item(), train.standard_error(own)
    return {name: round(mean, 3), error: round(spread, 3)}


def summary(
    settings: dict[str, Setting],
    seconds: Seconds,
    curves: Curves,
    *,
    count: int,
    target_epoch: int,
) -> list[dict[str, Any]]:
    """Return a row for each setting: its speed, its ELBO, its seconds to the target."""
    rows, first = [], curves[BASE]
    for row in contest.compare(seconds, against=BASE):
        setting, own = settings[row["name"]], curves[row["name"]]
        row |= vars(setting)
        row["rate_at_edge"] = setting.learning_rate in (RATES[0], RATES[-1])
        row["images_per_second"] = round(count / row["seconds"], 1)
        last = [curve[-1] for curve in own]
        apart = [a - curve[-1] for a, curve in zip(last, first, strict=True)]
        row |= with_error("test_elbo", "standard_error", last)
        row |= with_error("elbo_difference", "difference_error", apart)
        each = zip(*own, strict=True)
        row["curve"] = [round(statistics.mean(epoch), 3) for epoch in each]
        targets = [curve[target_epoch - 1] for curve in first]
        epochs = [epochs_to(t, curve) for t, curve in zip(targets, own, strict=True)]
        there = [e * row["seconds"] for e in epochs if e is not None]
        row |= {"reached": len(there), "seconds_to_target": None, "seconds_error": None}
        if len(there) == len(own):
            row |= with_error("seconds_to_target", "seconds_error", there)
        rows.append(row)
    return rows


def main() -> None:
    """Tune every batch size, then time and judge every combination; write it down."""
    options = read_options(__doc__, device=True, rounds=5, seeds=3)
    device, images, test = load(options.device)
    target_epoch = (options.rounds + 1) // 2
    how = {"epochs": target_epoch, "seeds": options.seeds}
    tried = list(tuning(device, images, test, **how))
    settings = {
        f"{size} {precision}": Setting(size, precision, rate)
        for size, rate in best_rates(tried).items()
        for precision in CHOICES.get(device.type, ("highest",))
    }
    seconds: Seconds = {name: [] for name in settings}
    curves: Curves = {name: [] for name in settings}
    for seed in range(options.seeds):
        rungs = {
            name: Tuned(seed, device, images, test, setting)
            for name, setting in settings.items()
        }
        for name, taken in contest.in_turns(rungs, options.rounds).items():
            seconds[name] += taken
            curves[name].append(rungs[name].curve)
    about = {"count": len(images), "target_epoch": target_epoch}
    rows = summary(settings, seconds, curves, **about)
    for row in rows:
        print(row)
    content: dict[str, Any] = {"images": len(images), "epochs": options.rounds + 1}
    content |= {"seeds": options.seeds, "target_epoch": target_epoch}
    base = next(row for row in rows if row["name"] == BASE)
    content |= {"target": base["curve"][target_epoch - 1]}
    write(
        f"batches_{device.type}", content | {"tuning": tried, "rows": rows}, options.out
    )


if __name__ == "__main__":
    main()
