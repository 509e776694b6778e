"""What a trained model is worth: its ELBO on images, and the error of a mean."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from vae_teach.bounds import Bound, elbo
from vae_teach.data import Images
from vae_teach.nets import VAE


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


@contextmanager
def own_stream(place: torch.device) -> Iterator[None]:
    """Let what is inside draw without moving the random stream outside."""
    accelerators = [] if place.type == "cpu" else [place.index or 0]
    kind = "cuda" if place.type == "cpu" else place.type
    with torch.random.fork_rng(accelerators, device_type=kind):
        yield
