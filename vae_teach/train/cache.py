"""Trained models that are kept: ``trained`` trains once and reads afterwards."""

import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import nn

from vae_teach.bounds import elbo
from vae_teach.data import Images, in_one_line, user_cache
from vae_teach.guards import find_device
from vae_teach.models import own_stream
from vae_teach.nets import VAE
from vae_teach.train.checkpoints import DamagedError
from vae_teach.train.fingerprint import code_that_trains, digest_of, fingerprint
from vae_teach.train.loop import History, Schedule, fit
from vae_teach.train.measure import Objective
from vae_teach.words import say


def trained(
    images: Images,
    *,
    hidden_dim: int = 400,
    latent_dim: int = 2,
    make: Callable[[], nn.Module] | None = None,
    objective: Objective = elbo,
    kl_weight: Schedule = 1.0,
    seed: int = 0,
    epochs: int = 15,
    batch_size: int = 128,
    learning_rate: Schedule = 1e-3,
    device: str | torch.device | None = None,
    progress: bool = True,
    test: Images | None = None,
) -> tuple[Any, History]:
    """Return a trained model and its history: from the user's cache, or trained now.

    The model is what ``fit`` makes of ``make()`` after ``torch.manual_seed(seed)``; the
    caller's random stream does not move. Its file is named after everything that
    determines it: the images, the model as it was made, these arguments with the code
    of those that are functions, the code that trains, the versions of Python and
    PyTorch, and the kind of device. Two processes that want the same model train it
    once. A run that was stopped goes on where it was; a damaged file is reported and
    the model trained again. Where nothing can be kept, a sentence says why, and the
    model is trained all the same.

    Args:
        images: what to learn from.
        hidden_dim: units of each hidden layer of a ``VAE``.
        latent_dim: its latent dimensions.
        make: makes another model, on the CPU; the two sizes then have no part in it.
        objective: as for ``fit``.
        kl_weight: as for ``fit``.
        seed: of the weights and of the noise.
        epochs: as for ``fit``, and so are the following.
        batch_size: images per step.
        learning_rate: Adam's step size.
        device: the accelerator if there is one.
        progress: show a bar while training.
        test: images whose ELBO is measured after each epoch.

    Returns:
        The model in evaluation mode, and the history of its training.

    Raises:
        KeyboardInterrupt: training was stopped; the epochs that were completed are
            kept, and the next call goes on from there.
        ValueError: as ``fit`` raises it, and so are its other errors; or a function
            that uses something without a lasting description.
    """
    place = find_device(device)

    def made() -> nn.Module:
        torch.manual_seed(seed)
        return make() if make else VAE(images.pixels.shape[-1], hidden_dim, latent_dim)

    with own_stream(place):
        model = made()
        options: dict[str, Any] = {"epochs": epochs, "batch_size": batch_size}
        options |= {"learning_rate": learning_rate, "kl_weight": kl_weight}
        options |= {"objective": objective}
        pixels = [_digest(part) for part in (images, test) if part]
        what = (model, options, seed, pixels, place.type, torch.__version__)
        key = fingerprint(*what, code_that_trains())
        options |= {"device": place, "progress": progress, "test": test}
        try:
            history = _fit_kept(key, model, images, options)
        except OSError as error:  # no place, no lock, or a disk that is full
            print(say("cache-unkept", why=in_one_line(error)))
            model = made()
            history = fit(model, images, checkpoint=None, **options)
    if history.interrupted:
        raise KeyboardInterrupt
    return model.eval(), history


def _fit_kept(
    key: str, model: nn.Module, images: Images, options: dict[str, Any]
) -> History:
    """Fit a model with the file of its key; OSError where that cannot be written."""
    folder = user_cache() / "models"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{key}.safetensors"
    with _lock(path):
        tempfile.TemporaryFile(dir=folder).close()  # fails where a checkpoint would
        if path.exists():
            path.open("r+b").close()
        try:
            return fit(model, images, checkpoint=path, **options)
        except DamagedError:  # found before anything was read or drawn
            print(say("cache-damaged", path=path))
            path.unlink()
            return fit(model, images, checkpoint=path, **options)


def _lock(path: Path) -> AbstractContextManager[object]:
    """Lock a file, and say so where another process holds it; OSError if refused."""
    lock = FileLock(f"{path}.lock")
    try:
        return lock.acquire(timeout=1)
    except Timeout:
        print(say("cache-waits", path=path))
        return lock.acquire()
    except NotImplementedError as error:  # a file system without locks
        raise OSError(str(error)) from error


def _digest(images: Images) -> str:
    """Return a digest of all but the labels, which training does not see."""
    return digest_of(images) + images.name
