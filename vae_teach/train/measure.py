"""What a trained model is worth: its ELBO on images, and the error of a mean."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vae_teach.bounds import Bound, elbo
from vae_teach.data import Images, grey
from vae_teach.models import adapt, alike, own_tensor
from vae_teach.speed.threads import share_cores, shares_cores
from vae_teach.words import say

Objective = Callable[[Any, Tensor], Bound]


@shares_cores
@torch.no_grad()
def evaluate(
    model: Any,
    images: Images,
    *,
    samples: int = 1,
    batch_size: int = 1000,
    objective: Objective | None = None,
) -> Bound:
    """Return the ELBO of every image and its two terms, sampled, in evaluation mode.

    Args:
        model: on any device; the images are brought to it and to its dtype.
        images: N images; dynamic ones are drawn anew.
        samples: draws of z per image.
        batch_size: images decoded at once.
        objective: another function of model and images (B, D) to measure; the ELBO of
            so many samples if None.

    Returns:
        Bound of three (N,) tensors in nats, in the order of the images.

    Raises:
        TypeError: the objective returns something else than a Bound.
        ValueError: samples or batch_size below 1, a Bound of other shapes, a model that
            computes NaN.
    """
    view = adapt(model)
    measured = objective or partial(elbo, samples=samples)
    subject = model if objective else view
    was_training = getattr(view.model, "training", False)
    if was_training:
        view.model.eval()
    like = own_tensor(view.model, grey(images.pixels[:1]))
    batches = images.batches(batch_size, shuffle=False)
    bounds = []
    for x, _ in batches:
        share_cores()
        bounds.append(check_bound(measured(subject, alike(x, like)), len(x)))
    if was_training:
        view.model.train()
    return Bound(*(torch.cat(parts) for parts in zip(*bounds, strict=True)))


def check_bound(bound: Any, count: int) -> Bound:
    """Return what an objective gave, if it is a Bound of three (count,) tensors.

    Raises TypeError for anything else, such as a loss, ValueError for other shapes.
    """
    is_triple = isinstance(bound, tuple) and len(bound) == len(Bound._fields)
    if not (is_triple and all(isinstance(part, Tensor) for part in bound)):
        raise TypeError(say("objective-no-bound", got=_kind(bound)))
    shapes = [tuple(part.shape) for part in bound]
    if any(shape != (count,) for shape in shapes):
        raise ValueError(say("objective-shapes", got=shapes, takes=(count,)))
    return Bound(*bound)


def _kind(value: Any) -> str:
    shape = f" {tuple(value.shape)}" if isinstance(value, Tensor) else ""
    return type(value).__name__ + shape


def standard_error(values: Tensor) -> float:
    """Return the standard error of the mean of ``values`` (N,), in their unit."""
    return (values.std() / math.sqrt(values.numel())).item()
