"""The ladder of lesson 04: one epoch of MNIST, from the usual loop to ``train.fit``.

Run: uv run python benchmarks/training.py [--rounds 5] [--seeds 3] [--device cuda]
     [--threads N] [--compile]
Writes results/training_cpu.json, or results/training_cuda.json.

Each rung changes one thing of the rung before, and trains a model of its own through
all rounds, one epoch a turn, so that its test ELBO stands beside its speed. The limit
is the time of the step's matrix products alone, same shapes, in the same turns, in the
faster of two ways: all digits of float32, or bfloat16 allowed.
"""

import inspect
import math
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import contest
import torch
import torch.nn.functional as F
from results import read_options, write
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from vae_teach import data, nets, train
from vae_teach.densities import kl_to_standard_normal, log_bernoulli
from vae_teach.guards import find_device
from vae_teach.train.loop import PRECISIONS

BATCH_SIZE = 128
LARGER = (512, 2048)  # batches that cost ELBO at the same learning rate
LEARNING_RATE = 1e-3
TEST_SEED = 0
WARM = 20  # products before the limit is timed
LIMITS = ("highest", "medium")  # precisions at which the limit is timed
DEFAULT = inspect.signature(train.fit).parameters["precision"].default

Batches = Callable[[], Iterator[Tensor]]
Loss = Callable[[nn.Module, Tensor], Tensor]
Seconds = dict[str, list[float]]


def wait(device: torch.device) -> None:
    """Let the device finish, so that the clock sees all of its work."""
    if device.type == "cuda":
        torch.cuda.synchronize()


class Rung:
    """One way to train; a call trains the same model one epoch on: its seconds."""

    def __init__(self, seed: int, device: torch.device) -> None:
        torch.manual_seed(seed)
        self.model = nets.VAE().to(device)
        self.device, self.seed, self.epochs = device, seed, 0

    def __call__(self) -> float:
        """Train one epoch and return the seconds it took.

        Its noise depends on seed and epoch alone, so that rungs which draw alike draw
        the same, whoever had the turn before.
        """
        self.epochs += 1
        torch.manual_seed(1_000 * (1 + self.seed) + self.epochs)
        start = time.perf_counter()
        self.epoch()
        wait(self.device)
        return time.perf_counter() - start

    def epoch(self) -> None:
        """Go through the images once."""
        raise NotImplementedError


class Loop(Rung):
    """A loop written out: where batches come from, the loss, and what it waits for."""

    def __init__(
        self,
        seed: int,
        device: torch.device,
        *,
        batches: Batches,
        loss: Loss,
        waits: bool = False,
        fused: bool = False,
        compiled: bool = False,
        precision: str = "highest",
    ) -> None:
        super().__init__(seed, device)
        self.batches, self.loss, self.waits = batches, loss, waits
        self.precision = precision
        self.called = torch.compile(self.model) if compiled else self.model
        rate = {"lr": LEARNING_RATE, "fused": fused}
        self.optimizer = torch.optim.Adam(self.model.parameters(), **rate)

    def epoch(self) -> None:
        """Encode, draw, decode, differentiate, step; add up the loss."""
        total: float | Tensor = 0.0
        with train.products_at(self.precision):
            for x in self.batches():
                loss = self.loss(self.called, x.to(self.device))
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                total = total + (loss.item() if self.waits else loss.detach())
        float(total)


class Fit(Rung):
    """An epoch as ``train.fit`` takes it, on one run that lives through all turns."""

    def __init__(
        self,
        seed: int,
        device: torch.device,
        images: data.Images,
        *,
        batch_size: int = BATCH_SIZE,
        precision: str = DEFAULT,
        capture: bool = True,
    ) -> None:
        super().__init__(seed, device)
        self.batch_size, self.precision = batch_size, precision
        # fit makes this object and calls its epochs; here turns come in between.
        self.run = train.Run(self.model, images, learning_rate=LEARNING_RATE)
        with train.products_at(precision):
            take = self.run.captured if capture else lambda size: self.run.step
            self.step = take(batch_size)

    def epoch(self) -> None:
        """Go through the images once."""
        with train.products_at(self.precision):
            self.run.epoch(self.epochs, self.batch_size, self.step)


def probabilities(model: nn.Module, x: Tensor) -> Tensor:
    """Return minus the mean ELBO as most write it: a sigmoid, then cross-entropy."""
    logits, mu, logvar = model(x)
    misfit = F.binary_cross_entropy(torch.sigmoid(logits), x, reduction="sum")
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return (misfit + kl) / len(x)


def from_logits(model: nn.Module, x: Tensor) -> Tensor:
    """Return minus the mean ELBO as the course writes it."""
    logits, mu, logvar = model(x)
    kl = kl_to_standard_normal(mu, logvar)
    return (kl - log_bernoulli(x, logits)).mean()


def one_by_one() -> Batches:
    """Read image by image, as torchvision and a DataLoader do when simply put together.

    Each image becomes a picture, a tensor, bits, and then part of a batch.
    """
    steps = [transforms.ToTensor(), torch.bernoulli, torch.flatten]
    root = str(data._find_root("mnist"))
    stored = datasets.MNIST(root, train=True, transform=transforms.Compose(steps))
    loader = DataLoader(stored, batch_size=BATCH_SIZE, shuffle=True)
    return lambda: (x for x, _ in loader)


def resident(images: data.Images) -> Batches:
    """Take batches out of a tensor that lives on the device."""
    return lambda: (x for x, _ in images.batches(BATCH_SIZE))


def ladder(
    seed: int, images: data.Images, *, compiled: bool
) -> dict[str, Callable[[], float]]:
    """Return every rung with its own fresh model, and the limit."""
    device = images.pixels.device
    near, on_cuda = resident(images), device.type == "cuda"

    def loop(batches: Batches, loss: Loss, **options: Any) -> Loop:
        return Loop(seed, device, batches=batches, loss=loss, **options)

    rungs: dict[str, Callable[[], float]] = {
        "usual": loop(one_by_one(), probabilities, waits=True),
        "resident": loop(near, probabilities, waits=True),
        "no-waiting": loop(near, probabilities),
        "logits": loop(near, from_logits),
        "fused": loop(near, from_logits, fused=True),
        "medium": loop(near, from_logits, fused=True, precision="medium"),
    }
    if compiled:
        rungs["compiled"] = loop(near, from_logits, fused=True, compiled=True)
    if on_cuda:
        rungs["plain-fit"] = Fit(seed, device, images, capture=False)
    rungs["fit"] = Fit(seed, device, images)
    for precision in PRECISIONS:
        if precision != DEFAULT and (on_cuda or precision != "high"):
            rungs[f"fit-{precision}"] = Fit(seed, device, images, precision=precision)
    for size in LARGER:
        rungs[f"fit-{size}"] = Fit(seed, device, images, batch_size=size)
    for precision in LIMITS:
        rungs[f"limit-{precision}"] = partial(limit, device, len(images), precision)
    return rungs


def limit(device: torch.device, count: int, precision: str) -> float:
    """Return the seconds of an epoch's matrix products at a precision, nothing else.

    Forward one product a layer; backward one for its weights and, but for the first
    layer, one for its input. Each result has a place from the beginning.
    """
    sizes = [(784, 400), (400, 4), (2, 400), (400, 784)]  # mu and logvar side by side
    pairs: list[tuple[Tensor, Tensor]] = []
    for number, (wide, narrow) in enumerate(sizes):
        x = torch.randn(BATCH_SIZE, wide, device=device)
        weight = torch.randn(narrow, wide, device=device)
        y = torch.randn(BATCH_SIZE, narrow, device=device)
        pairs += [(x, weight.T), (y.T, x)] + ([(y, weight)] if number else [])
    step = [(a, b, a @ b) for a, b in pairs]

    def take(steps: int) -> None:
        for _ in range(steps):
            for a, b, out in step:
                torch.mm(a, b, out=out)
        wait(device)

    with train.products_at(precision):
        take(WARM)
        start = time.perf_counter()
        take(math.ceil(count / BATCH_SIZE))
        return time.perf_counter() - start


def name_limit(seconds: Seconds) -> tuple[Seconds, str]:
    """Call the faster limit ``limit``, put it last, and return its precision too."""
    limits = [f"limit-{precision}" for precision in LIMITS]
    fastest = min(limits, key=lambda name: statistics.median(seconds[name]))
    others = {name: own for name, own in seconds.items() if name != fastest}
    return others | {"limit": seconds[fastest]}, fastest.removeprefix("limit-")


def elbo_of(rung: Rung, test: data.Images) -> float:
    """Return the test ELBO of a rung's model, with the same noise for all."""
    torch.manual_seed(TEST_SEED)
    return train.evaluate(rung.model, test).elbo.mean().item()


def is_rung(name: str) -> bool:
    """Tell whether the answer is to stay: not the first, and no larger batch."""
    return name != "usual" and not name.removeprefix("fit-").isdigit()


def summary(
    seconds: Seconds, elbos: dict[str, list[float]], epochs: int
) -> list[dict[str, Any]]:
    """Return a row a rung: speed beside ELBO, and how far it is from the first's.

    ``elbo_difference`` is the mean over seeds of its ELBO minus that of the usual loop,
    with the standard error of that mean. A few seeds tell little of a spread: rungs
    with the usual batch, which ought to be alike, share the mean of their variances.
    """
    rows = contest.compare(seconds, against="usual")
    for name in [name for name in seconds if name.startswith("limit")]:
        shares = contest.compare(seconds, against=name)
        for row, share in zip(rows, shares, strict=True):
            row[f"share_of_{name}"] = share["times_faster"]
    first = torch.tensor(elbos["usual"])
    apart = {name: torch.tensor(own) - first for name, own in elbos.items()}
    alike = [own.var() for name, own in apart.items() if is_rung(name)]
    shared = (torch.stack(alike).mean() / len(first)).sqrt().item()
    for row in rows:
        if row["name"] in elbos:
            own = apart[row["name"]]
            error = shared if is_rung(row["name"]) else train.standard_error(own)
            row["test_elbo"] = round((own + first).mean().item(), 3)
            row["elbo_difference"] = round(own.mean().item(), 3)
            row["standard_error"] = round(error, 3)
            row["epochs"] = epochs
    return rows


def over_seeds(
    make: Callable[[int], dict[str, Callable[[], float]]],
    *,
    seeds: int,
    rounds: int,
    test: data.Images,
) -> tuple[Seconds, dict[str, list[float]]]:
    """Run what ``make`` returns for each seed in turns; return seconds and ELBOs.

    Both are lists by name: a number of seconds a seed and round, a test ELBO a seed.
    """
    seconds: Seconds = {}
    elbos: dict[str, list[float]] = {}
    for seed in range(seeds):
        rungs = make(seed)
        for name, taken in contest.in_turns(rungs, rounds).items():
            seconds.setdefault(name, []).extend(taken)
        for name, rung in rungs.items():
            if isinstance(rung, Rung):
                elbos.setdefault(name, []).append(elbo_of(rung, test))
    return seconds, elbos


def load(device: str | None) -> tuple[torch.device, data.Images, data.Images]:
    """Return the device, and MNIST's training and test images on it."""
    place = find_device(device)
    train_images, test = (
        data.load("mnist", split, device=place) for split in ("train", "test")
    )
    return place, train_images, test


def main() -> None:
    """Climb the ladder once a seed, all rungs in turns; write what was measured."""
    options = read_options(__doc__, device=True, flags=["compile"], rounds=5, seeds=3)
    device, images, test = load(options.device)
    settings = {"rounds": options.rounds, "seeds": options.seeds}
    make = partial(ladder, images=images, compiled=options.compile)
    seconds, elbos = over_seeds(make, test=test, **settings)
    seconds, fastest = name_limit(seconds)
    rows = summary(seconds, elbos, options.rounds + 1)
    for row in rows:
        print(row)
    settings |= {"images": len(images), "batch_size": BATCH_SIZE}
    settings |= {"limit_precision": fastest, "rows": rows}
    write(f"training_{device.type}", settings, options.out)


if __name__ == "__main__":
    main()
