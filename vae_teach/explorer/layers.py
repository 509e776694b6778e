"""A model's layers, found by watching it at work: what a page can repeat of them."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from vae_teach.figures import side_of
from vae_teach.models import SPREADS, Adapted, DiagonalNormal
from vae_teach.nets import LOGVAR_LIMIT
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
    calls, means = _watched(lambda: view.decode(z))
    if not means.isfinite().all():
        raise ValueError(say("explorer-not-finite"))
    if view.bernoulli:
        view.decode_logits(z)  # refuses what are no probabilities
    layers = [layer for layer, _, _ in calls]
    before = [z, *(returned for _, _, returned in calls)]
    after = [*(taken for _, taken, _ in calls), means]
    first, *names = (_follower(a, b) for a, b in zip(before, after, strict=True))
    known = first == "nothing" and all(names)
    if not (layers and known and all(layer.bias is not None for layer in layers)):
        takes, got = ", ".join([*FOLLOWERS][1:]), type(view.model).__name__
        raise TypeError(say("explorer-model", got=got, takes=takes))
    side_of(layers[-1].bias)  # refuses what makes no square
    return [*zip(layers, names, strict=True)]


class Encoder(NamedTuple):
    """A model's encoder as a page repeats it: hidden layers, and two heads on them.

    Attributes:
        hidden: the layers before the heads, with what follows each.
        weights: of the heads, one below the other, mu's first: (2 * L, H).
        biases: of the heads, (2 * L,).
        follower: what follows the second head, by the names of ``FOLLOWERS``.
        spread: what that gives, by the names of ``models.SPREADS``.
    """

    hidden: list[tuple[nn.Linear, str]]
    weights: Tensor
    biases: Tensor
    follower: str
    spread: str


def encoder_layers(view: Adapted, x: Tensor) -> Encoder:
    """Return the layers that encode images x (B, D), found as the decoder's are.

    Raises TypeError for an encoder that does anything else.
    """
    calls, q = _watched(lambda: view.q(x))
    refusal = TypeError(say("drawing-encoder", got=type(view.model).__name__))
    if not (calls and isinstance(q, DiagonalNormal)):
        raise refusal
    count = 1 if calls[-1][0].out_features == 2 * q.mean.shape[-1] else 2
    body, ends = calls[:-count], calls[-count:]
    before = [x, *(returned for _, _, returned in body)]
    after = [*(taken for _, taken, _ in body), ends[0][1]]
    first, *names = (_follower(a, b) for a, b in zip(before, after, strict=True))
    together = all(apart(taken, ends[0][1]) == 0 for _, taken, _ in ends)
    biased = all(layer.bias is not None for layer, _, _ in calls)
    if not (len(ends) == count and together and biased and all(names)):
        raise refusal
    heads = [part for end in ends for part in _parts(end, 2 // count)]
    heads.sort(key=lambda head: apart(head[2], q.mean))  # mu first
    (w, b, mu), (v, c, second) = heads
    follower, spread = _spread(second, q.logvar)
    if first != "nothing" or apart(mu, q.mean) >= CLOSE or not follower:
        raise refusal
    hidden = [(layer, name) for (layer, _, _), name in zip(body, names, strict=True)]
    return Encoder(hidden, torch.cat([w, v]), torch.cat([b, c]), follower, spread)


def _parts(end: tuple[nn.Linear, Tensor, Tensor], count: int) -> Iterator[Any]:
    """Yield weights, biases and outputs of a last layer cut into so many heads."""
    layer, _, returned = end
    cut = (layer.weight.chunk(count), layer.bias.chunk(count), returned.chunk(count, 1))
    return zip(*cut, strict=True)


def _spread(second: Tensor, logvar: Tensor) -> tuple[str, str]:
    """Return what follows a second head and what it then gives; "" if it is unknown.

    Where the log-variances reach the course's limit, they are not compared.
    """
    inside = logvar.abs() < LOGVAR_LIMIT
    for spread, (_, to_logvar) in SPREADS.items():
        for name, follow in FOLLOWERS.items():
            found = to_logvar(follow(second))
            if inside.any() and apart(found[inside], logvar[inside]) < CLOSE:
                return name, spread
    return "", ""


def _follower(before: Tensor, after: Tensor) -> str:
    """Return which of ``FOLLOWERS`` stands between two tensors; "" if none does.

    Of several, as between pixels that are 0 or 1, it is the first of the list.
    """
    gaps = {name: apart(follow(before), after) for name, follow in FOLLOWERS.items()}
    name = min(gaps, key=gaps.__getitem__)
    return name if gaps[name] < CLOSE else ""


def _watched(
    work: Callable[[], Any],
) -> tuple[list[tuple[nn.Linear, Tensor, Tensor]], Any]:
    """Do some work: each linear layer with what it takes and returns, and the result.

    The layers are in the order in which they are called.
    """
    calls = []

    def note(part: nn.Module, taken: tuple[Tensor, ...], returned: Tensor) -> None:
        if isinstance(part, nn.Linear):  # copies: a ReLU may work in place
            calls.append((part, taken[0].clone(), returned.clone()))

    with register_module_forward_hook(note):
        return calls, work()


def apart(a: Tensor, b: Tensor) -> float:
    """Return how far two tensors are apart at most; infinity for unlike shapes."""
    return (a - b).abs().max().item() if a.shape == b.shape else math.inf
