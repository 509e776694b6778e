"""The matrix products of a training step on an x86 processor, by oneDNN.

PyTorch brings two libraries for products in float32 and sends a linear layer to the one
called MKL. The other, oneDNN, is PyTorch's own choice where it compiles or quantizes.
On processors that MKL was not written for, oneDNN may take half the time, with as many
digits: ``benchmarks/training.py`` measures it.
"""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

X86 = ("x86_64", "AMD64")
SMALLEST = 64  # rows or columns of a product; below, calling oneDNN takes longer


@cache
def available() -> bool:
    """Tell whether PyTorch reaches oneDNN here: on x86, in a build that has it.

    The operation is one that PyTorch's compiler calls. It is not documented, so it is
    tried once, and whoever lacks it keeps PyTorch's own products.
    """
    if platform.machine() not in X86 or not torch.backends.mkldnn.is_available():
        return False
    x, weight = torch.eye(2), torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    try:
        return torch.equal(_product(x, weight, None), weight.T)
    except (AttributeError, RuntimeError):
        return False


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x W^T + b, as ``F.linear``: by oneDNN where that is faster.

    That is for float32 matrices on a CPU with no side below ``SMALLEST``, unless the
    precision of products was set to ``"medium"``: PyTorch has a way of its own there.
    Gradients of any order are products again, and take the same way.

    Args:
        x: (B, K).
        weight: (N, K).
        bias: (N,), or None.

    Returns:
        (B, N).
    """
    if available() and _suits(x, weight):
        return _Linear.apply(x, weight, bias)
    return F.linear(x, weight, bias)


@contextmanager
def by_onednn(model: nn.Module) -> Iterator[None]:
    """Let the linear layers of ``model`` on the CPU call ``linear``, for a while.

    It changes nothing but the time that they take, within float32's rounding: the
    weights and their names stay, and at the end the layers are as they were.
    """
    layers = [
        layer
        for layer in model.modules()
        if type(layer) is nn.Linear
        and layer.weight.is_cpu
        and available()
        and "forward" not in vars(layer)
    ]
    for layer in layers:
        layer.forward = partial(_forward, layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _forward(layer: nn.Linear, x: Tensor) -> Tensor:
    return linear(x, layer.weight, layer.bias)


class _Linear(torch.autograd.Function):
    """A linear layer whose value and two gradients are one product each."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        to_x, to_weight, to_bias = ctx.needs_input_grad
        return (
            linear(gradient, weight.T) if to_x else None,  # (B, K)
            linear(gradient.T, x.T) if to_weight else None,  # (N, K)
            gradient.sum(0) if to_bias else None,  # (N,)
        )


def _suits(x: Tensor, weight: Tensor) -> bool:
    return (
        x.is_cpu
        and x.dim() == 2
        and x.dtype == weight.dtype == torch.float32
        and min(*x.shape, *weight.shape) >= SMALLEST
        and torch.get_float32_matmul_precision() != "medium"
        and not torch.is_autocast_enabled("cpu")
    )


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
