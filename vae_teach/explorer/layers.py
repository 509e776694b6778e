"""A model's layers, found by watching it at work: what a page can repeat of them."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from vae_teach.figures import side_of
from vae_teach.models import Adapted
from vae_teach.words import say

FOLLOWERS: dict[str, Callable[[Tensor], Tensor]] = {
    "nothing": lambda h: h,
    "relu": torch.relu,
    "leaky_relu": F.leaky_relu,
    "leaky_relu_0.2": partial(F.leaky_relu, negative_slope=0.2),
    "elu": F.elu,
    "silu": F.silu,
    "gelu": partial(F.gelu, approximate="tanh"),
    "softplus": F.softplus,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}
"""What may follow a layer of a decoder; the browser has the same, by these names."""
TRIED, CLOSE = 100, 1e-3
"""Points at which a decoder is watched; how far its numbers may lie from what would
follow: less than a grey level, and more than what gelu loses by tanh."""

@contextmanager
def at_rest(model: Any) -> Iterator[None]:
    """Put a model in evaluation mode; afterwards each part is in its own mode again."""
    parts = [*model.modules()] if isinstance(model, nn.Module) else []
    modes = [part.training for part in parts]
    for part in parts:
        part.training = False
    try:
        yield
    finally:
        for part, mode in zip(parts, modes, strict=True):
            part.training = mode


def decoder_layers(view: Adapted, extent: float) -> list[tuple[nn.Linear, str]]:
    """Return the layers that decode z, in their order, and what follows each.

    Nothing is taken on trust: between layer and layer, and at the end, stands what a
    follower makes of the numbers, or the model is refused.
    """
    seeded = torch.Generator().manual_seed(0)
    z = extent * (2 * torch.rand(TRIED, view.latent_dim, generator=seeded) - 1)
    z = z.to(view.like)  # (TRIED, L)
    calls, means = _watched(view, z)
    if not means.isfinite().all():
        raise ValueError(say("explorer-not-finite"))
    if view.bernoulli:
        view.decode_logits(z)  # refuses what are no probabilities
    layers = [layer for layer, _, _ in calls]
    before = [z, *(returned for _, _, returned in calls)]
    after = [*(taken for _, taken, _ in calls), means]
    found = [
        min((apart(follow(a), b), name) for name, follow in FOLLOWERS.items())
        for a, b in zip(before, after, strict=True)
    ]
    first, *names = (name for _, name in found)
    known = first == "nothing" and all(gap < CLOSE for gap, _ in found)
    if not (layers and known and all(layer.bias is not None for layer in layers)):
        takes, got = ", ".join([*FOLLOWERS][1:]), type(view.model).__name__
        raise TypeError(say("explorer-model", got=got, takes=takes))
    side_of(layers[-1].bias)  # refuses what makes no square
    return [*zip(layers, names, strict=True)]


def _watched(
    view: Adapted, z: Tensor
) -> tuple[list[tuple[nn.Linear, Tensor, Tensor]], Tensor]:
    """Decode z: each linear layer with what it takes and returns, and the means."""
    calls = []

    def note(part: nn.Module, taken: tuple[Tensor, ...], returned: Tensor) -> None:
        if isinstance(part, nn.Linear):  # copies: a ReLU may work in place
            calls.append((part, taken[0].clone(), returned.clone()))

    with register_module_forward_hook(note):
        return calls, view.decode(z)


def apart(a: Tensor, b: Tensor) -> float:
    """Return how far two tensors are apart at most; infinity for unlike shapes."""
    return (a - b).abs().max().item() if a.shape == b.shape else math.inf
