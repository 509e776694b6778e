"""The training loop: ``fit`` from top to bottom, and ``History``, which remembers it.

The loop is the one a lesson writes by hand: see ``Run``. What it does not do is wait:
the dataset lives on the device, and the host asks for a number once an epoch.
"""

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam
from tqdm.auto import tqdm

from vae_teach.bounds import Bound, elbo
from vae_teach.data import Images, grey
from vae_teach.guards import check_choice, check_count, find_device, trusted_values
from vae_teach.models import alike, own_stream, own_tensor
from vae_teach.speed.cuda_graph import CapturedStep, Step
from vae_teach.speed.processes import Team
from vae_teach.speed.threads import share_cores, shares_cores
from vae_teach.train.checkpoints import Checkpoint
from vae_teach.train.fingerprint import digest_of, fingerprint
from vae_teach.train.measure import Objective, check_bound, evaluate
from vae_teach.words import say

Row = dict[str, float]
Schedule = float | Callable[[int], float]
PRECISIONS = ("highest", "high", "medium")


@dataclass
class History:
    """What a training run measured, one row per epoch.

    ``rows`` are dicts with ``epoch``, the training ``elbo``, ``reconstruction`` and
    ``kl`` (nats per image, averaged over the epoch while the weights moved; another
    objective's first number stands under ``elbo``, too),
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


@shares_cores
def fit(
    model: nn.Module,
    images: Images,
    *,
    epochs: int = 15,
    batch_size: int = 128,
    learning_rate: Schedule = 1e-3,
    objective: Objective = elbo,
    kl_weight: Schedule = 1.0,
    device: str | torch.device | None = None,
    progress: bool = True,
    checkpoint: str | Path | None = None,
    test: Images | None = None,
    precision: str = "highest",
    capture: bool = True,
) -> History:
    """Train ``model`` in place by gradient ascent on an objective, with Adam.

    ``torch.manual_seed`` before the model is made fixes the whole run on a device.
    Interrupting it (Ctrl-C, or the stop button of a notebook) ends it early: the model
    keeps what it has learnt and the history holds the epochs that were completed.

    Args:
        model: moved to the device, and left there.
        images: what to learn from, brought to the model's dtype; dynamic ones give new
            bits in each batch.
        epochs: times through the images.
        batch_size: images per step, over all processes.
        learning_rate: Adam's step size, or a function that gives it for each step,
            counted from 0 over the whole run.
        objective: what is climbed, a function of the model and images (B, D): it
            returns a ``Bound`` whose first number, (B,), is raised in the mean. The
            one-sample ELBO by default.
        kl_weight: beta: what is climbed loses (kl_weight - 1) times the Bound's kl, so
            that the ELBO becomes reconstruction - kl_weight * kl. A number, or a
            function of the step (warm-up). The history holds the Bound itself.
        device: such as ``"cpu"`` or ``"cuda"``; the accelerator if there is one.
        progress: show a bar.
        checkpoint: a file to write after each epoch, and to resume from if it exists.
        test: images on which the objective is measured after each epoch.
        precision: of float32 matrix products, in PyTorch's words: ``"highest"``,
            ``"high"`` (TF32 on a GPU) or ``"medium"`` (bfloat16 is allowed).
        capture: on a GPU, record the step once and replay it (``cuda_graph``).

    Returns:
        The history, one row per completed epoch.

    Raises:
        TypeError: the objective returns something else than a Bound, such as a loss.
        ValueError: epochs or batch_size below 1, a batch larger than the dataset or
            smaller than the number of processes, a rate or weight that is negative or
            not finite at some step, an unknown precision, a model that cannot take the
            images, a Bound of other shapes or of the wrong sign, a device that is not
            there, a checkpoint that is damaged, of another run, of other images, or in
            a place that cannot be written.
        FloatingPointError: the objective is NaN; the sentence says what to lower.
        torch.OutOfMemoryError: the accelerator's memory is full; the sentence says
            what to lower. The checkpoint keeps the last whole epoch.

    Lesson 04 is about its speed.
    """
    place = find_device(device)
    team = Team(place)
    epochs, batch_size = _check_sizes(images, epochs, batch_size, team)
    learning_rate = _number("learning_rate", learning_rate)
    kl_weight = _number("kl_weight", kl_weight)
    check_choice("precision", precision, PRECISIONS)
    steps = epochs * math.ceil(len(images) / batch_size)
    options: dict[str, Any] = {"objective": objective}
    options["learning_rate"] = _numbers("learning_rate", learning_rate, steps)
    options["kl_weight"] = _numbers("kl_weight", kl_weight, steps)
    settings = {"images": images.name, "count": len(images), "batch_size": batch_size}
    settings |= {"learning_rate": learning_rate, "precision": precision}
    settings |= {"objective": objective, "kl_weight": kl_weight}
    kept = {"images": images, "test": test} if checkpoint else {}
    digests = {name: digest_of(some) for name, some in kept.items()}
    saved = Checkpoint(checkpoint, _lasting(settings) if kept else {}, digests)
    history, was_training = History(), model.training
    try:
        with products_at(precision), _memory_explained(place, batch_size):
            model.to(place)
            run = Run(model, _brought(images, model), team=team, **options)
            run.try_objective(batch_size)
            test = test and _brought(test, model)
            history.rows = saved.restore(model, run.optimizer)
            team.check_agreement(len(history))
            left = range(len(history) + 1, epochs + 1)
            step = run.captured(batch_size) if capture and left else run.step
            for epoch in _bar(left, history, progress and team.leads):
                row = run.epoch(epoch, batch_size, step)
                if test is not None:
                    row["test_elbo"] = _on_test(model, test, objective)
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
    """What a training run holds: the model, the images, Adam, and totals in nats.

    Args:
        model: on the device of the images.
        images: what to learn from.
        learning_rate: Adam's step size, or one number for each step.
        objective: as for ``fit``.
        kl_weight: beta, or one number for each step.
        team: the processes that share the work; this one alone if None.
    """

    def __init__(
        self,
        model: nn.Module,
        images: Images,
        *,
        learning_rate: float | list[float] = 1e-3,
        objective: Objective = elbo,
        kl_weight: float | list[float] = 1.0,
        team: Team | None = None,
    ) -> None:
        device = images.pixels.device
        on_cuda = device.type == "cuda"
        self.model, self.images, self.objective = model, images, objective
        self.team = team or Team(device)
        self.net = self.team.wrap(_Climbed(model, objective))  # what a step calls
        self.rates, self.weights = learning_rate, kl_weight
        rate: float | Tensor = 0.0 if isinstance(learning_rate, list) else learning_rate
        if isinstance(learning_rate, list) and on_cuda:
            rate = torch.zeros((), device=device)  # a replayed step reads it anew
        self.optimizer = Adam(
            model.parameters(), lr=rate, fused=True, capturable=on_cuda
        )
        self.weighted = kl_weight != 1
        self.beta = torch.ones((), device=device)
        if not isinstance(kl_weight, list):
            self.beta.fill_(kl_weight)
        self.totals = torch.zeros(3, device=device)

    def epoch(self, number: int, batch_size: int, step: Step) -> Row:
        """Go through the images once, one step a batch; return what was measured."""
        start = time.perf_counter()
        self.model.train()
        self.totals.zero_()
        count = len(self.images)
        batches = self.team.shuffle(count, number).split(batch_size)
        for taken, chosen in enumerate(batches, (number - 1) * len(batches)):
            share_cores()
            self.follow_schedules(taken)
            step(chosen)
        means = self.team.add(self.totals) / count
        climbed, reconstruction, kl = means.tolist()  # the one wait for the device
        if not math.isfinite(climbed):
            raise FloatingPointError(say("elbo-nan"))
        seconds = time.perf_counter() - start
        return {
            "epoch": number,
            "elbo": climbed,
            "reconstruction": reconstruction,
            "kl": kl,
            "seconds": seconds,
            "images_per_second": count / seconds,
        }

    def step(self, chosen: Tensor) -> None:
        """Climb once: the gradient of the mean objective of the images ``chosen``."""
        x = self.images.take(self.team.share(chosen))  # (B, D)
        with trusted_values():  # they were looked at when the images were loaded
            bound = self.net(x)  # three numbers an image, each (B,)
        climbed = bound.elbo
        if self.weighted:
            climbed = climbed - (self.beta - 1) * bound.kl
        # Gradients are averaged over processes, so each share weighs `size` times more.
        loss = -climbed.sum() * (self.team.size / len(chosen))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.totals += torch.stack([part.detach().sum() for part in bound])

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

    def follow_schedules(self, taken: int) -> None:
        """Set the rate and the weight of the KL for the step after ``taken`` ones."""
        if isinstance(self.weights, list):
            self.beta.fill_(self.weights[taken])
        if isinstance(self.rates, list):
            group, rate = self.optimizer.param_groups[0], self.rates[taken]
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def try_objective(self, batch_size: int) -> None:
        """Call the objective once before it counts, and say what is wrong with it.

        Without gradients, in evaluation mode and off the random stream: the run that
        follows is the one there would be without this. Raises as ``fit`` does.
        """
        pixels = self.images.pixels
        self.model.eval()
        with torch.no_grad(), own_stream(pixels.device):
            x = self.images.take(torch.arange(batch_size, device=pixels.device))
            try:
                bound = check_bound(self.objective(self.model, x), len(x))
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                why = str(error).strip().splitlines()[0]
                sentence = say("model-refuses", got=tuple(x.shape), why=why)
                raise ValueError(sentence) from error
        elbos, reconstruction, kl = bound
        if not (elbos - kl).isfinite().all():
            sound = all(p.isfinite().all() for p in self.model.parameters())
            raise FloatingPointError(say("objective-nan" if sound else "elbo-nan"))
        if torch.allclose(elbos, kl - reconstruction):
            raise ValueError(say("objective-sign"))


class _Climbed(nn.Module):
    """The objective as a module, since several processes average what modules do."""

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, x: Tensor) -> Bound:
        return check_bound(self.objective(self.model, x), len(x))


def _brought(images: Images, model: nn.Module) -> Images:
    """Return the same images in the model's dtype, on its device.

    Bytes stay bytes for a model in float32, which is what their batches are in.
    """
    pixels = images.pixels
    like = own_tensor(model, grey(pixels[:1]))
    if pixels.dtype == torch.uint8 and like.dtype == torch.float32:
        pixels = pixels.to(like.device)
    else:
        pixels = alike(grey(pixels), like)
    return replace(images, pixels=pixels, labels=images.labels.to(pixels.device))


def _check_sizes(
    images: Images, epochs: int, batch_size: int, team: Team
) -> tuple[int, int]:
    epochs = check_count("epochs", epochs)
    batch_size = check_count("batch_size", batch_size)
    if batch_size > len(images):
        raise ValueError(say("batch-too-large", got=batch_size, images=len(images)))
    if batch_size < team.size:
        raise ValueError(say("batch-too-small", got=batch_size, size=team.size))
    return epochs, batch_size


def _number(name: str, schedule: Schedule) -> Schedule:
    """Return a number of any library as a float, checked; a function unchanged."""
    if callable(schedule):
        return schedule
    try:
        number = float(schedule)
    except (TypeError, ValueError):
        number = math.nan
    lowest_is_fine = number > 0 or (number == 0 and name == "kl_weight")
    if not (math.isfinite(number) and lowest_is_fine):
        raise ValueError(say("not-above-zero", name=name, got=schedule))
    return number


def _numbers(name: str, schedule: Schedule, steps: int) -> float | list[float]:
    """Return a schedule's number for each step, checked; a plain number as it is."""
    if not callable(schedule):
        return schedule
    numbers = []
    for step in range(steps):
        try:
            number = float(schedule(step))
        except (TypeError, ValueError):
            number = math.nan
        if not (math.isfinite(number) and number >= 0):
            got = schedule(step)
            raise ValueError(say("schedule-number", name=name, step=step, got=got))
        numbers.append(number)
    return numbers


def _lasting(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings as a checkpoint keeps them: defaults left out, code by its print.

    So a checkpoint from before there were objectives is still one of the default.
    """
    kept = dict(settings)
    if kept["objective"] is elbo:
        del kept["objective"]
    if kept["kl_weight"] == 1:
        del kept["kl_weight"]
    return {k: fingerprint(v) if callable(v) else v for k, v in kept.items()}


@contextmanager
def products_at(precision: str) -> Iterator[None]:
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
    # TQDM_DISABLE is read here, because tqdm's bar for notebooks ignores it.
    shown = shown and bool(left) and not os.environ.get("TQDM_DISABLE")
    looks: dict[str, Any] = {"desc": say("training"), "disable": not shown}
    # Without tqdm's own rate, which has a decimal point in every language.
    looks["bar_format"] = (
        "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
    )
    with tqdm(total=done + len(left), initial=done, **looks) as bar:
        for epoch in left:
            yield epoch
            bar.set_postfix_str(say("bar-elbo", elbo=history.rows[-1]["elbo"]))
            bar.update()


def _on_test(model: nn.Module, test: Images, objective: Objective) -> float:
    """Measure without moving the random stream: the training run stays the same."""
    with own_stream(test.pixels.device):
        return evaluate(model, test, objective=objective).elbo.mean().item()
