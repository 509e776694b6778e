"""Lower bounds on log p(x): the ELBO with its two terms, the importance-weighted bound.

The decoder is Bernoulli, p(x|z) = prod_d Bernoulli(x_d; sigmoid l_d(z)), unless a model
brings a ``log_conditional(x, z)`` of its own.

Everything is per image and in nats, and everything is sampled: two calls differ unless
``torch.manual_seed`` stands before each.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from vae_teach.densities import (
    kl_to_standard_normal,
    log_bernoulli,
    log_normal,
    log_standard_normal,
)
from vae_teach.guards import check_count, check_finite, check_pixels

CHUNK = 2**23  # pixels decoded at once, 32 MB in float32: what bounds memory


class LatentModel(Protocol):
    """What a bound needs of a model: Gaussian encoder, Bernoulli decoder."""

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, D) to mu and logvar, each (B, L)."""

    def reparameterize(self, mu: Tensor, logvar: Tensor) -> Tensor:
        """Draw z, of the shape of mu."""

    def decode_logits(self, z: Tensor) -> Tensor:
        """Map (..., L) to (..., D)."""


def log_conditional(model: LatentModel, x: Tensor, z: Tensor) -> Tensor:
    """Log-likelihood log p(x|z) of the decoder, the model's own or Bernoulli.

    x (B, D) and z (..., B, L) broadcast to (..., B) nats.
    """
    own = getattr(model, "log_conditional", None)
    return own(x, z) if own else log_bernoulli(x, model.decode_logits(z))


def check_observed(model: LatentModel, x: Tensor) -> None:
    """Raise unless ``x`` is what the decoder is about: pixels, or finite numbers.

    TypeError for another dtype, ValueError for the rest.
    """
    if hasattr(model, "log_conditional"):
        check_finite("x", x)
    else:
        check_pixels("x", x)


class Bound(NamedTuple):
    """The ELBO and its two terms, each (B,) nats; ``elbo = reconstruction - kl``."""

    elbo: Tensor
    reconstruction: Tensor
    kl: Tensor


def elbo(model: LatentModel, x: Tensor, samples: int = 1) -> Bound:
    """Evidence lower bound of each image, its reconstruction term averaged over draws.

    ELBO = E_q[log p(x|z)] - KL(q(z|x) || p(z)) <= log p(x); the KL is in closed form.

    Args:
        model: anything with ``encode``, ``reparameterize`` and ``decode_logits``.
        x: (B, D) pixels in [0, 1]; binary ones for a true bound.
        samples: draws of z per image.

    Returns:
        Bound of three (B,) tensors, in nats.

    Raises:
        TypeError: x is not floating.
        ValueError: pixels outside [0, 1] or NaN, wrong shape, samples below 1.

    Source: Kingma & Welling 2013, eq. 3.
    """
    check_count("samples", samples)
    check_observed(model, x)
    mu, logvar = model.encode(x)  # (B, L) each
    reconstruction = torch.zeros_like(x[..., 0])  # (B,)
    for _ in range(samples):
        z = model.reparameterize(mu, logvar)  # (B, L)
        reconstruction = reconstruction + log_conditional(model, x, z)
    reconstruction = reconstruction / samples
    kl = kl_to_standard_normal(mu, logvar)  # (B,)
    return Bound(reconstruction - kl, reconstruction, kl)


def importance_weighted(model: LatentModel, x: Tensor, k: int) -> Tensor:
    """Importance-weighted bound log 1/k sum_i p(x, z_i) / q(z_i|x), z_i ~ q.

    Its mean grows with k towards log p(x); with k = 1 it is a one-sample ELBO.

    Args:
        model: anything with ``encode``, ``reparameterize`` and ``decode_logits``.
        x: (B, D) pixels in [0, 1].
        k: draws per image; memory does not grow with it.

    Returns:
        (B,) nats.

    Raises:
        TypeError: x is not floating.
        ValueError: pixels outside [0, 1] or NaN, wrong shape, k below 1.

    Source: Burda, Grosse & Salakhutdinov 2015.
    """
    check_observed(model, x)
    total = x.new_full(x.shape[:-1], -math.inf)  # (B,) log of the sum so far
    for log_weights in _log_weights(model, x, k):
        total = torch.logaddexp(total, log_weights.logsumexp(0))  # (B,)
    return total - math.log(k)


@torch.no_grad()
def effective_sample_size(model: LatentModel, x: Tensor, k: int) -> Tensor:
    """Effective number of the k weighted draws: (sum w)^2 / sum w^2, from 1 to k.

    With w_i = p(x, z_i) / q(z_i|x), z_i ~ q. Near k, q is close to the true posterior;
    near 1, one draw carries the whole estimate and its error bar means nothing.

    Args:
        model: anything with ``encode``, ``reparameterize`` and ``decode_logits``.
        x: (B, D) pixels in [0, 1].
        k: draws per image; memory does not grow with it.

    Returns:
        (B,) draws.

    Raises:
        TypeError: x is not floating.
        ValueError: pixels outside [0, 1] or NaN, wrong shape, k below 1.

    Source: Kong 1992.
    """
    check_observed(model, x)
    once = x.new_full(x.shape[:-1], -math.inf)  # (B,) log of sum w
    squared = once.clone()  # (B,) log of sum w^2
    for log_weights in _log_weights(model, x, k):
        once = torch.logaddexp(once, log_weights.logsumexp(0))
        squared = torch.logaddexp(squared, (2 * log_weights).logsumexp(0))
    return torch.exp(2 * once - squared)


def _log_weights(model: LatentModel, x: Tensor, k: int) -> Iterator[Tensor]:
    """Draw k times from q and yield log p(x, z) - log q(z|x), a few (S, B) at once."""
    check_count("k", k)
    mu, logvar = model.encode(x)  # (B, L) each
    at_once = max(1, CHUNK // max(1, x.numel()))
    for start in range(0, k, at_once):
        draws = min(at_once, k - start)
        mus, logvars = mu.expand(draws, *mu.shape), logvar.expand(draws, *mu.shape)
        z = model.reparameterize(mus, logvars)  # (S, B, L)
        log_joint = log_conditional(model, x, z) + log_standard_normal(z)  # (S, B)
        yield log_joint - log_normal(z, mus, logvars)
