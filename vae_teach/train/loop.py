"""Training: ``fit`` raises the ELBO, ``History`` remembers how, ``evaluate`` tests it.

The loop is the one a lesson writes by hand: see ``Run``. What it does not do is wait:
the dataset lives on the device, and the host asks for a number once an epoch.
``trained`` keeps finished models, and ``python -m vae_teach.train`` trains from a
terminal. Lesson 04 is about its speed.
"""

import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.optim import Adam
from tqdm.auto import tqdm

from vae_teach.data import Images
from vae_teach.densities import kl_to_standard_normal, log_bernoulli
from vae_teach.guards import check_choice, check_count, find_device
from vae_teach.nets import VAE
from vae_teach.products import by_onednn
from vae_teach.speed.cuda_graph import CapturedStep, Step
from vae_teach.speed.processes import Team
from vae_teach.train.checkpoints import Checkpoint
from vae_teach.train.measure import evaluate, own_stream
from vae_teach.words import say

Row = dict[str, float]
PRECISIONS = ("highest", "high", "medium")


@dataclass
class History:
    """What a training run measured, one row per epoch.

    ``rows`` are dicts with ``epoch``, the training ``elbo``, ``reconstruction`` and
    ``kl`` (nats per image, averaged over the epoch while the weights moved),
    ``seconds``, ``images_per_second``, and ``test_elbo`` where test images were given.
    ``interrupted`` tells that the run was stopped by hand.
    """

    rows: list[Row] = field(default_factory=list)
    interrupted: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, name: str) -> list[float]:
        """Return one quantity for all epochs, such as ``column("elbo")``."""
        return [row[name] for row in self.rows]

    def __str__(self) -> str:
        """Return the rows as a table, headed in the language in use."""
        shown = ("elbo", "reconstruction", "kl", "test_elbo", "seconds")
        names = [name for name in shown if self.rows and name in self.rows[0]]
        heads = [say("epoch"), *(say(f"column-{name}") for name in names)]
        lines = ["  ".join(f"{head:>13}" for head in heads)]
        for row in self.rows:
            numbers = [say("cell", value=float(row[name])) for name in names]
            cells = [str(int(row["epoch"])), *numbers]
            lines.append("  ".join(f"{cell:>13}" for cell in cells))
        return "\n".join(lines)


def fit(
    model: VAE,
    images: Images,
    *,
    epochs: int = 15,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    device: str | torch.device | None = None,
    progress: bool = True,
    checkpoint: str | Path | None = None,
    test: Images | None = None,
    precision: str = "highest",
    capture: bool = True,
) -> History:
    """Train ``model`` in place by gradient ascent on the ELBO, with Adam.

    ``torch.manual_seed`` before the model is made fixes the whole run on a device.
    Interrupting it (Ctrl-C, or the stop button of a notebook) ends it early: the model
    keeps what it has learnt and the history holds the epochs that were completed.

    Args:
        model: moved to the device, and left there.
        images: what to learn from; dynamic ones give new bits in each batch.
        epochs: times through the images.
        batch_size: images per step, over all processes.
        learning_rate: Adam's step size.
        device: such as ``"cpu"`` or ``"cuda"``; the accelerator if there is one.
        progress: show a bar.
        checkpoint: a file to write after each epoch, and to resume from if it exists.
        test: images whose ELBO is measured after each epoch.
        precision: of float32 matrix products, in PyTorch's words: ``"highest"``,
            ``"high"`` (TF32 on a GPU) or ``"medium"`` (bfloat16 is allowed).
        capture: on a GPU, record the step once and replay it (``graphs``).

    Returns:
        The history, one row per completed epoch.

    Raises:
        ValueError: epochs or batch_size below 1, a batch larger than the dataset or
            smaller than the number of processes, a learning rate that is not positive,
            an unknown precision, a device that is not there, a checkpoint that is
            damaged, of another run, or in a place that cannot be written.
        FloatingPointError: the ELBO became NaN; the sentence says what to lower.
        torch.OutOfMemoryError: the accelerator's memory is full; the sentence says
            what to lower. The checkpoint keeps the last whole epoch.

    Lesson 04 is about its speed.
    """
    place = find_device(device)
    team = Team(place)
    _check_settings(images, epochs, batch_size, learning_rate, precision, team)
    settings = {"images": images.name, "count": len(images), "batch_size": batch_size}
    settings |= {"learning_rate": learning_rate, "precision": precision}
    saved = Checkpoint(checkpoint, settings)
    history, was_training = History(), model.training
    try:
        with _products_at(precision), _memory_explained(place, batch_size):
            run = Run(model.to(place), images.to(place), learning_rate, team)
            test = test and test.to(place)
            history.rows = saved.restore(model, run.optimizer)
            team.check_agreement(len(history))
            left = range(len(history) + 1, epochs + 1)
            step = run.captured(batch_size) if capture and left else run.step
            for epoch in _bar(left, history, progress and team.leads):
                with by_onednn(model):
                    row = run.epoch(epoch, batch_size, step)
                if test is not None:
                    row["test_elbo"] = _test_elbo(model, test)
                history.rows.append(row)
                if team.leads:
                    saved.write(model, run.optimizer, history.rows)
    except KeyboardInterrupt:
        history.interrupted = True
        if team.leads:
            print(say("interrupted", done=len(history), epochs=epochs))
    finally:
        model.train(was_training)
    return history


class Run:
    """What a training run holds: the model, the images, Adam, and totals in nats."""

    def __init__(
        self, model: VAE, images: Images, learning_rate: float, team: Team
    ) -> None:
        self.model, self.images, self.team = model, images, team
        self.net = team.wrap(model)  # what a step calls
        on_cuda = images.pixels.is_cuda
        self.optimizer = Adam(
            model.parameters(), lr=learning_rate, fused=True, capturable=on_cuda
        )
        self.totals = torch.zeros(2, device=images.pixels.device)

    def epoch(self, number: int, batch_size: int, step: Step) -> Row:
        """Go through the images once, one step a batch; return what was measured."""
        start = time.perf_counter()
        self.model.train()
        self.totals.zero_()
        count = len(self.images)
        for chosen in self.team.shuffle(count, number).split(batch_size):
            step(chosen)
        means = self.team.add(self.totals) / count
        reconstruction, kl = means.tolist()  # the one wait for the device
        if math.isnan(reconstruction - kl):
            raise FloatingPointError(say("elbo-nan"))
        seconds = time.perf_counter() - start
        return {
            "epoch": number,
            "elbo": reconstruction - kl,
            "reconstruction": reconstruction,
            "kl": kl,
            "seconds": seconds,
            "images_per_second": count / seconds,
        }

    def step(self, chosen: Tensor) -> None:
        """Climb once: the gradient of the mean ELBO of the images ``chosen``, (B,)."""
        x = self.images.take(self.team.share(chosen))  # (B, D)
        logits, mu, logvar = self.net(x)  # (B, D), (B, L), (B, L)
        reconstruction = log_bernoulli(x, logits).sum()
        kl = kl_to_standard_normal(mu, logvar).sum()
        # Gradients are averaged over processes, so each share weighs `size` times more.
        loss = (kl - reconstruction) * (self.team.size / len(chosen))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.totals += torch.stack((reconstruction.detach(), kl.detach()))

    def captured(self, batch_size: int) -> Step:
        """Return the same step as a CUDA graph, or the plain one where that cannot be.

        Not on other devices, nor where processes talk to each other within a step, nor
        for a model that asks the device for numbers.
        """
        if not self.totals.is_cuda or self.team.size > 1:
            return self.step
        self.model.train()
        try:
            return CapturedStep(
                self.step,
                batch_size,
                model=self.model,
                optimizer=self.optimizer,
                totals=self.totals,
            )
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            return self.step


def _check_settings(
    images: Images,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    precision: str,
    team: Team,
) -> None:
    check_count("epochs", epochs)
    check_count("batch_size", batch_size)
    if batch_size > len(images):
        raise ValueError(say("batch-too-large", got=batch_size, images=len(images)))
    if batch_size < team.size:
        raise ValueError(say("batch-too-small", got=batch_size, size=team.size))
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise ValueError(say("not-above-zero", name="learning_rate", got=learning_rate))
    check_choice("precision", precision, PRECISIONS)


@contextmanager
def _products_at(precision: str) -> Iterator[None]:
    """Set the precision of float32 matrix products, and give it back."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def _memory_explained(place: torch.device, batch_size: int) -> Iterator[None]:
    """Say what to lower where the accelerator's memory does not suffice."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        sentence = say("out-of-memory", device=place, batch_size=batch_size)
        raise torch.OutOfMemoryError(sentence) from error


def _bar(left: range, history: History, shown: bool) -> Iterator[int]:
    """Go through the epochs that are left, under a bar with the ELBO of the last."""
    done = len(history)
    # Said here, because tqdm's bar for notebooks does not obey it.
    shown = shown and bool(left) and not os.environ.get("TQDM_DISABLE")
    total, name = done + len(left), say("training")
    with tqdm(total=total, initial=done, desc=name, disable=not shown) as bar:
        for epoch in left:
            yield epoch
            bar.set_postfix_str(say("bar-elbo", elbo=history.rows[-1]["elbo"]))
            bar.update()


def _test_elbo(model: VAE, test: Images) -> float:
    """Measure without moving the random stream: the training run stays the same."""
    with own_stream(test.pixels.device):
        return evaluate(model, test).elbo.mean().item()
