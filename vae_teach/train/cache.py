"""Trained models that are kept: ``trained`` trains once and reads afterwards."""

import hashlib
import json
from pathlib import Path

import platformdirs
import torch
from filelock import FileLock

from vae_teach.data import Images
from vae_teach.guards import find_device
from vae_teach.nets import VAE
from vae_teach.train.checkpoints import DamagedError
from vae_teach.train.loop import History, fit
from vae_teach.train.measure import own_stream
from vae_teach.words import say


def trained(
    images: Images,
    *,
    hidden_dim: int = 400,
    latent_dim: int = 2,
    seed: int = 0,
    epochs: int = 15,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    device: str | torch.device | None = None,
    progress: bool = True,
    test: Images | None = None,
) -> tuple[VAE, History]:
    """Return a trained VAE and its history: from the user's cache, or trained now.

    The model is what ``fit`` makes of ``VAE`` after ``torch.manual_seed(seed)``; the
    caller's random stream does not move. Its file is named after everything that
    determines it: the images, these arguments, the code that trains, PyTorch's version
    and the kind of device. Two processes that want the same model train it once. A run
    that was stopped goes on where it was; a damaged file is told and made again.

    Args:
        images: what to learn from.
        hidden_dim: units of each hidden layer.
        latent_dim: latent dimensions.
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
        ValueError: as ``fit`` raises it; so do its other errors.
    """
    place = find_device(device)
    numbers = (hidden_dim, latent_dim, seed, epochs, batch_size, learning_rate)
    pixels = [_digest(part) for part in (images, test) if part]
    made_of = [numbers, pixels, place.type, torch.__version__, _code()]
    key = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:32]
    path = platformdirs.user_cache_path("vae_teach") / "models" / f"{key}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)

    def read_or_train() -> tuple[VAE, History]:
        torch.manual_seed(seed)
        model = VAE(images.pixels.shape[-1], hidden_dim, latent_dim)
        history = fit(
            model,
            images,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            device=place,
            progress=progress,
            checkpoint=path,
            test=test,
        )
        return model.eval(), history

    with FileLock(f"{path}.lock"), own_stream(place):
        try:
            model, history = read_or_train()
        except DamagedError:
            print(say("cache-damaged", path=path))
            path.unlink()
            model, history = read_or_train()
    if history.interrupted:
        raise KeyboardInterrupt
    return model, history


def _code() -> str:
    """Return a digest of the modules that decide what training makes."""
    names = ("bounds", "data", "densities", "graphs", "nets", "products", "train")
    sources = [Path(__file__).with_name(f"{name}.py").read_bytes() for name in names]
    return hashlib.sha256(b"".join(sources)).hexdigest()


def _digest(images: Images) -> str:
    """Return a digest of all but the labels, which training does not see."""
    pixels = images.pixels.cpu().contiguous().numpy()
    digest = hashlib.sha256(pixels.data)
    how = (pixels.shape, pixels.dtype, images.dynamic, images.name)
    digest.update(str(how).encode())
    return digest.hexdigest()
