"""Lower bounds on log p(x): the ELBO with its two terms, the importance-weighted bound.

A model is what ``models`` says: q(z|x), p(x|z) and p(z), each the course's default or
the model's own. Everything is per image and in nats, and everything is sampled: two
calls differ unless ``torch.manual_seed`` stands before each.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from vae_teach.densities import kl_to_standard_normal
from vae_teach.guards import check_count, check_sound
from vae_teach.models import Adapted, DiagonalNormal, adapt

PIXELS_AT_ONCE = 2**23  # decoded at once, 32 MB in float32: what bounds memory


class Bound(NamedTuple):
    """The ELBO and its two terms, each (B,) nats; ``elbo = reconstruction - kl``."""

    elbo: Tensor
    reconstruction: Tensor
    kl: Tensor


def elbo(model: Any, x: Tensor, samples: int = 1) -> Bound:
    """Evidence lower bound of each image, its reconstruction term averaged over draws.

    ELBO = E_q[log p(x|z)] - KL(q(z|x) || p(z)) <= log p(x). The KL is in closed form
    for the course's q and prior; for a model's own it is the average of
    log q(z|x) - log p(z) over the same draws.

    Args:
        model: a VAE, or whatever ``models.adapt`` takes.
        x: (B, D) pixels in [0, 1]; binary ones for a true bound.
        samples: draws of z per image.

    Returns:
        Bound of three (B,) tensors, in nats.

    Raises:
        TypeError: x is not floating, or the model has no q(z|x).
        ValueError: pixels outside [0, 1] or NaN, wrong shape, samples below 1.

    Source: Kingma & Welling 2013, eq. 3.
    """
    samples = check_count("samples", samples)
    model = adapt(model)
    x = model.observed(x)
    q = model.q(x)
    closed = isinstance(q, DiagonalNormal) and model.standard_prior
    reconstruction = kl = torch.zeros_like(x[..., 0])  # (B,)
    for _ in range(samples):
        z = draw(q)  # (B, L)
        reconstruction = reconstruction + model.log_conditional(x, z)
        if not closed:
            kl = kl + q.log_prob(z) - model.log_prior(z)
    reconstruction, kl = reconstruction / samples, kl / samples
    if closed:
        kl = kl_to_standard_normal(q.mean, q.logvar)  # (B,)
    return Bound(check_sound(reconstruction - kl), reconstruction, kl)


def reconstruction(model: Any, x: Tensor) -> Bound:
    """What an autoencoder is trained on: log p(x|z) at the one code of each image.

    There is no noise and no KL, so this is no lower bound on log p(x): at the best z it
    is an upper one, whatever the prior. It has the form of a ``Bound`` with a KL of
    zero, which ``train.fit`` takes as an objective.

    Args:
        model: an autoencoder, or whatever ``models.adapt`` takes; of a q(z|x), the mean
            is the code.
        x: (B, D) pixels in [0, 1].

    Returns:
        Bound of three (B,) tensors, in nats.

    Raises:
        TypeError: x is not floating.
        ValueError: pixels outside [0, 1] or NaN, wrong shape.
    """
    model = adapt(model)
    x = model.observed(x)
    at_code = check_sound(model.log_conditional(x, model.codes(x)))  # (B,)
    return Bound(at_code, at_code, torch.zeros_like(at_code))


def draw(q: Any, shape: tuple[int, ...] = ()) -> Tensor:
    """Draw z from q(z|x), ``(*shape, B, L)``, along its path where q has one."""
    has_path = getattr(q, "has_rsample", True)
    z: Tensor = (
        q.rsample(torch.Size(shape)) if has_path else q.sample(torch.Size(shape))
    )
    return z


def importance_weighted(model: Any, x: Tensor, k: int) -> Tensor:
    """Importance-weighted bound log 1/k sum_i p(x, z_i) / q(z_i|x), z_i ~ q.

    Its mean grows with k towards log p(x); with k = 1 it is a one-sample ELBO.

    Args:
        model: a VAE, or whatever ``models.adapt`` takes.
        x: (B, D) pixels in [0, 1].
        k: draws per image; memory does not grow with it, since what gradients need is
            computed again in their turn.

    Returns:
        (B,) nats.

    Raises:
        TypeError: x is not floating, or the model has no q(z|x).
        ValueError: pixels outside [0, 1] or NaN, wrong shape, k below 1.

    Source: Burda, Grosse & Salakhutdinov 2015.
    """
    model = adapt(model)
    x = model.observed(x)
    total = x.new_full(x.shape[:-1], -math.inf)  # (B,) log of the sum so far
    for log_weights in _log_weights(model, x, k):
        total = torch.logaddexp(total, log_weights.logsumexp(0))  # (B,)
    return check_sound(total - math.log(k))


@torch.no_grad()
def effective_sample_size(model: Any, x: Tensor, k: int) -> Tensor:
    """Effective number of the k weighted draws: (sum w)^2 / sum w^2, from 1 to k.

    With w_i = p(x, z_i) / q(z_i|x), z_i ~ q. Near k, q is close to the true posterior;
    near 1, one draw carries the whole estimate and its error bar means nothing.

    Args:
        model: a VAE, or whatever ``models.adapt`` takes.
        x: (B, D) pixels in [0, 1].
        k: draws per image; memory does not grow with it.

    Returns:
        (B,) draws.

    Raises:
        TypeError: x is not floating, or the model has no q(z|x).
        ValueError: pixels outside [0, 1] or NaN, wrong shape, k below 1.

    Source: Kong 1992.
    """
    model = adapt(model)
    x = model.observed(x)
    once = x.new_full(x.shape[:-1], -math.inf)  # (B,) log of sum w
    squared = once.clone()  # (B,) log of sum w^2
    for log_weights in _log_weights(model, x, k):
        once = torch.logaddexp(once, log_weights.logsumexp(0))
        squared = torch.logaddexp(squared, (2 * log_weights).logsumexp(0))
    return check_sound(torch.exp(2 * once - squared))


def _log_weights(model: Adapted, x: Tensor, k: int) -> Iterator[Tensor]:
    """Draw k times from q and yield log p(x, z) - log q(z|x), a few (S, B) at once."""
    k = check_count("k", k)
    q = model.q(x)

    def some(count: int) -> Tensor:
        z = draw(q, (count,))  # (S, B, L)
        log_joint = model.log_conditional(x, z) + model.log_prior(z)  # (S, B)
        return log_joint - q.log_prob(z)

    at_once = max(1, PIXELS_AT_ONCE // max(1, x.numel()))
    again = k > at_once and torch.is_grad_enabled()  # let backward draw them again
    for start in range(0, k, at_once):
        count = min(at_once, k - start)
        yield checkpoint(some, count, use_reentrant=False) if again else some(count)
