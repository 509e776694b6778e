"""Lower bounds on log p(x): the ELBO with its two terms, the importance-weighted bound.

Everything is per image and in nats, and everything is sampled: two calls differ unless
``torch.manual_seed`` stands before each. Introduced in lessons 00 and 06.
"""

import math
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from vae_teach.densities import (
    kl_to_standard_normal,
    log_bernoulli,
    log_normal,
    log_standard_normal,
)
from vae_teach.guards import check_count, check_pixels

CHUNK = 64  # draws decoded at once: bounds memory at CHUNK * B * D floats


class LatentModel(Protocol):
    """What a bound needs of a model: Gaussian encoder, Bernoulli decoder."""

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, D) to mu and logvar, each (B, L)."""

    def reparameterize(self, mu: Tensor, logvar: Tensor) -> Tensor:
        """Draw z, of the shape of mu."""

    def decode_logits(self, z: Tensor) -> Tensor:
        """Map (..., L) to (..., D)."""


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

    Source: Kingma & Welling 2013, eq. 3. Introduced in lesson 00.
    """
    check_count("samples", samples)
    check_pixels("x", x)
    mu, logvar = model.encode(x)  # (B, L) each
    reconstruction = torch.zeros_like(x[..., 0])  # (B,)
    for _ in range(samples):
        z = model.reparameterize(mu, logvar)  # (B, L)
        reconstruction = reconstruction + log_bernoulli(x, model.decode_logits(z))
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

    Source: Burda, Grosse & Salakhutdinov 2015. Introduced in lesson 06.
    """
    check_count("k", k)
    check_pixels("x", x)
    mu, logvar = model.encode(x)  # (B, L) each
    total = x.new_full(x.shape[:-1], -math.inf)  # (B,) log of the sum so far
    for start in range(0, k, CHUNK):
        draws = min(CHUNK, k - start)
        mus, logvars = mu.expand(draws, *mu.shape), logvar.expand(draws, *mu.shape)
        z = model.reparameterize(mus, logvars)  # (S, B, L)
        log_joint = log_bernoulli(x, model.decode_logits(z)) + log_standard_normal(z)
        log_weights = log_joint - log_normal(z, mus, logvars)  # (S, B)
        total = torch.logaddexp(total, log_weights.logsumexp(0))  # (B,)
    return total - math.log(k)
