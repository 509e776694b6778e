"""Log-densities and KL divergences, in nats.

One rule for the whole course: **sums run over dimensions, means over the batch**. A
function here sums over the last axis (pixels or latents) and returns one number per
example; callers take the mean over the batch explicitly. Leading axes broadcast, so
``(S, B, L)`` draws meet ``(B, L)`` parameters.
"""

import math
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from vae_teach.guards import check_floating, check_same_width

LOG_TWO_PI = math.log(2 * math.pi)


def widen(*tensors: Tensor) -> list[Tensor]:
    """Return tensors in one dtype: float32, or float64 where one of them is.

    A sum of hundreds of nats in bfloat16 would move in steps of 4.
    """
    kinds = (tensor.dtype for tensor in tensors)
    dtype = reduce(torch.promote_types, kinds, torch.float32)
    return [tensor.to(dtype) for tensor in tensors]


def log_bernoulli(x: Tensor, logits: Tensor) -> Tensor:
    """Log-probability of binary pixels under independent Bernoullis.

    log p(x|z) = sum_d x_d l_d - log(1 + exp l_d), with l the logits: the sigmoid never
    appears, so nothing overflows however confident the decoder is.

    Args:
        x: (B, D) pixels, 0 or 1. Grey values give a number that is not a
            log-likelihood (lesson 07).
        logits: (B, D) log-odds of each pixel being 1.

    Returns:
        (B,) nats, in float32 at least, as all densities here.

    Raises:
        TypeError: x or logits is not floating.
        ValueError: the numbers of pixels differ.
    """
    check_same_width("x", x, "logits", logits)
    return _LogBernoulli.apply(*widen(x, logits))  # (B,)


def log_partition(logits: Tensor) -> Tensor:
    """Log-normalizer of the pixels: sum_d log(1 + exp l_d), (B, D) to (B,) nats.

    Written as max(0, l) - log sigmoid|l|, which cannot overflow. PyTorch's softplus
    keeps digits that the sum rounds away, with a log1p that is slow on some processors.
    """
    (logits,) = widen(logits)
    # In place where autograd saves nothing: memory traffic dominates the time here.
    tail = logits.abs().sigmoid_().log_()  # (B, D), from -log 2 to 0
    return logits.clamp_min(0).sub_(tail).sum(-1)  # (B,)


class _LogBernoulli(torch.autograd.Function):
    """The value above with its gradient in one step, d/dl log p(x|z) = x - sigmoid(l).

    Without it, autograd differentiates every operation of the value and takes several
    times as long for the same numbers.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, logits: Tensor) -> Tensor:
        # Pixel by pixel: of two sums, large logits would leave only their rounding.
        value = (x * logits).sub_(logits.clamp_min(0))  # (B, D), 0 where sure and right
        return value.add_(logits.abs().sigmoid_().log_()).sum(-1)  # (B,)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, logits = ctx.saved_tensors
        to_x = to_logits = None
        if ctx.needs_input_grad[0]:
            to_x = (gradient[..., None] * logits).sum_to_size(x.shape)
        if ctx.needs_input_grad[1]:
            error = x - torch.sigmoid(logits)  # (B, D)
            to_logits = (gradient[..., None] * error).sum_to_size(logits.shape)
        return to_x, to_logits


def log_normal(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """Log-density of a normal with diagonal covariance.

    log N(z; mu, s^2) = -1/2 sum_j [log 2 pi + log s_j^2 + (z_j - mu_j)^2 / s_j^2].

    Args:
        z: (B, L) points.
        mu: (B, L) means.
        logvar: (B, L) log-variances, log s^2 (not log s).

    Returns:
        (B,) nats.

    Raises:
        TypeError: an argument is not floating.
        ValueError: the numbers of dimensions differ.
    """
    check_same_width("z", z, "mu", mu)
    check_same_width("z", z, "logvar", logvar)
    z, mu, logvar = widen(z, mu, logvar)
    # Squared after scaling, by what fits in a number: 0 times infinity is NaN.
    lowest = 0.01 - 2 * math.log(torch.finfo(z.dtype).max)
    squared = ((z - mu) * torch.exp(-0.5 * logvar.clamp_min(lowest))).square()  # (B, L)
    return -0.5 * (LOG_TWO_PI + logvar + squared).sum(-1)  # (B,)


def log_standard_normal(z: Tensor) -> Tensor:
    """Log-density of the prior N(0, I): z (B, L) to (B,) nats.

    Raises TypeError if z is not floating.
    """
    check_floating("z", z)
    (z,) = widen(z)
    return -0.5 * (LOG_TWO_PI + z.square()).sum(-1)  # (B,)


def kl_to_standard_normal(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL divergence from N(mu, diag s^2) to the prior N(0, I), in closed form.

    KL = 1/2 sum_j [mu_j^2 + s_j^2 - 1 - log s_j^2] (Kingma & Welling 2013, appendix B).

    Args:
        mu: (B, L) means.
        logvar: (B, L) log-variances, log s^2.

    Returns:
        (B,) nats, never negative.

    Raises:
        TypeError: an argument is not floating.
        ValueError: the numbers of dimensions differ.
    """
    check_same_width("mu", mu, "logvar", logvar)
    mu, logvar = widen(mu, logvar)
    # expm1 keeps s^2 - 1 - log s^2 exact near s = 1, where the terms cancel.
    return 0.5 * (mu.square() + torch.expm1(logvar) - logvar).sum(-1)  # (B,)
