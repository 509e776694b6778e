"""Training: ``fit`` raises the ELBO, ``History`` remembers how, ``evaluate`` tests it.

The loop is the one a lesson writes by hand. What it does not do is wait: the dataset
lives on the device, and the host asks for a number once an epoch. Introduced in
lesson 00; lesson 04 is about its speed.
"""

import math
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer
from tqdm.auto import tqdm

from vae_teach.bounds import Bound, elbo
from vae_teach.checkpoints import Checkpoint
from vae_teach.data import Images
from vae_teach.densities import kl_to_standard_normal, log_bernoulli
from vae_teach.guards import check_count, find_device
from vae_teach.nets import VAE
from vae_teach.words import say

Row = dict[str, float]


@dataclass
class History:
    """What a training run measured, one row per epoch.

    ``rows`` are dicts with ``epoch``, the training ``elbo``, ``reconstruction`` and
    ``kl`` (nats per image, averaged over the epoch while the weights moved),
    ``seconds``, ``images_per_second``, and ``test_elbo`` where test images were given.
    ``interrupted`` tells that the run was stopped by hand. Introduced in lesson 00.
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
) -> History:
    """Train ``model`` in place by gradient ascent on the ELBO, with Adam.

    ``torch.manual_seed`` before the model is made fixes the whole run on a device.
    Interrupting it (Ctrl-C, or the stop button of a notebook) ends it early: the model
    keeps what it has learnt and the history holds the epochs that were completed.

    Args:
        model: moved to the device, and left there.
        images: what to learn from; dynamic ones give new bits in each batch.
        epochs: times through the images.
        batch_size: images per step.
        learning_rate: Adam's step size.
        device: such as ``"cpu"`` or ``"cuda"``; the accelerator if there is one.
        progress: show a bar.
        checkpoint: a file to write after each epoch, and to resume from if it exists.
        test: images whose ELBO is measured after each epoch.

    Returns:
        The history, one row per completed epoch.

    Raises:
        ValueError: epochs or batch_size below 1, a batch larger than the dataset, a
            learning rate that is not positive, a device that is not there, a
            checkpoint that is damaged or of another run.
        FloatingPointError: the ELBO became NaN; the sentence says what to lower.

    Introduced in lesson 00.
    """
    _check_settings(images, epochs, batch_size, learning_rate)
    place = find_device(device)
    model.to(place)
    images = images.to(place)
    optimizer = Adam(model.parameters(), lr=learning_rate, fused=True)
    history = History()
    settings = {"images": images.name, "count": len(images), "batch_size": batch_size}
    saved = Checkpoint(checkpoint, settings | {"learning_rate": learning_rate})
    history.rows = saved.restore(model, optimizer)
    was_training = model.training
    bar = tqdm(total=epochs, initial=len(history), disable=not progress)
    bar.set_description(say("training"))
    try:
        for epoch in range(len(history) + 1, epochs + 1):
            row = {"epoch": epoch} | _one_epoch(model, images, optimizer, batch_size)
            if test is not None:
                row["test_elbo"] = _test_elbo(model, test.to(place))
            history.rows.append(row)
            saved.write(model, optimizer, history.rows)
            bar.set_postfix_str(say("bar-elbo", elbo=row["elbo"]))
            bar.update()
    except KeyboardInterrupt:
        history.interrupted = True
        print(say("interrupted", done=len(history), epochs=epochs))
    finally:
        bar.close()
        model.train(was_training)
    return history


def _check_settings(
    images: Images, epochs: int, batch_size: int, learning_rate: float
) -> None:
    check_count("epochs", epochs)
    check_count("batch_size", batch_size)
    if batch_size > len(images):
        raise ValueError(say("batch-too-large", got=batch_size, images=len(images)))
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise ValueError(say("not-above-zero", name="learning_rate", got=learning_rate))


def _one_epoch(
    model: VAE, images: Images, optimizer: Optimizer, batch_size: int
) -> Row:
    """Go through the images once, one step a batch; return what was measured."""
    start = time.perf_counter()
    model.train()
    totals = torch.zeros(2, device=images.pixels.device)  # nats, on the device
    for x, _ in images.batches(batch_size):
        logits, mu, logvar = model(x)  # (B, D), (B, L), (B, L)
        reconstruction = log_bernoulli(x, logits)  # (B,)
        kl = kl_to_standard_normal(mu, logvar)  # (B,)
        loss = (kl - reconstruction).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        totals += torch.stack((reconstruction.detach().sum(), kl.detach().sum()))
    reconstruction_mean, kl_mean = (totals / len(images)).tolist()  # the one wait
    if math.isnan(reconstruction_mean - kl_mean):
        raise FloatingPointError(say("elbo-nan"))
    seconds = time.perf_counter() - start
    return {
        "elbo": reconstruction_mean - kl_mean,
        "reconstruction": reconstruction_mean,
        "kl": kl_mean,
        "seconds": seconds,
        "images_per_second": len(images) / seconds,
    }


def _test_elbo(model: VAE, test: Images) -> float:
    """Measure without moving the random stream: the training run stays the same."""
    device = test.pixels.device
    accelerators = [] if device.type == "cpu" else [device.index or 0]
    kind = "cuda" if device.type == "cpu" else device.type
    with torch.random.fork_rng(accelerators, device_type=kind):
        return evaluate(model, test).elbo.mean().item()


@torch.no_grad()
def evaluate(
    model: VAE, images: Images, *, samples: int = 1, batch_size: int = 1000
) -> Bound:
    """Return the ELBO of every image and its two terms, sampled, in evaluation mode.

    Args:
        model: on any device; the images are brought to it.
        images: N images; dynamic ones are drawn anew.
        samples: draws of z per image.
        batch_size: images decoded at once.

    Returns:
        Bound of three (N,) tensors in nats, in the order of the images.

    Raises:
        ValueError: samples or batch_size below 1.

    Introduced in lesson 00.
    """
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    batches = images.batches(batch_size, shuffle=False)
    bounds = [elbo(model, x.to(device), samples) for x, _ in batches]
    model.train(was_training)
    return Bound(*(torch.cat(parts) for parts in zip(*bounds, strict=True)))


def standard_error(values: Tensor) -> float:
    """Return the standard error of the mean of ``values`` (N,), in their unit."""
    return (values.std() / math.sqrt(values.numel())).item()
