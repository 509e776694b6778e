"""Checks of lesson 04: a step that never waits, a mean, shares of a batch, a speed-up.

The oracles are independent implementations: ``torch.distributions`` and a step of plain
subtraction, one mean over everything, a gradient in closed form, seconds added up.
``HostReads``, which records that a program reads a number, is here because the lesson
uses it too.
"""

import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Bernoulli, Normal, kl_divergence
from torch.nn.utils import parameters_to_vector
from torch.optim import SGD, Optimizer
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from vae_teach.checks.verdicts import Answer, Verdict, compare, wrong
from vae_teach.densities import kl_to_standard_normal
from vae_teach.nets import VAE

ASKING = {  # methods that hand a tensor's numbers to Python, whatever the device
    *("item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__"),
    *("__index__", "__array__", "__repr__", "__format__"),
}
RATE = 0.1  # of the plain descent that the step is checked with
SIZES = (5, 5, 2)  # images per batch: the last one is smaller, as in a dataset


class HostReads:
    """Records, while it is active, every read of a tensor's numbers by the host.

    ``with HostReads() as reads: ...`` leaves the names of the operations in
    ``reads.asked``. Below Python, a dispatch mode sees the operations whose result, or
    its shape, the host has to know, and copies that leave an accelerator; in Python, a
    function mode sees ``tolist`` and ``numpy``, which on a CPU read memory without the
    dispatcher. What fused Adam reads in C++ neither of them sees.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._modes = (_DispatchReads(self.asked), _MethodReads(self.asked))

    def __enter__(self) -> "HostReads":
        for mode in self._modes:
            mode.__enter__()
        return self

    def __exit__(self, *what: Any) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(*what)


class _DispatchReads(TorchDispatchMode):
    """Sees every operation that reaches the dispatcher, the backward pass included."""

    def __init__(self, asked: list[str]) -> None:
        super().__init__()
        self.asked = asked

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if _tells_the_host(func, args):
            name = func.overloadpacket.__name__
            self.asked.append("item" if name == "_local_scalar_dense" else name)
        elif func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default):
            devices = {v.device.type for v in args if isinstance(v, Tensor)}
            if result.device.type == "cpu" and devices - {"cpu"}:
                self.asked.append("cpu")
        return result


def _tells_the_host(func: Any, args: Any) -> bool:
    """Whether the host learns a number, or a shape that depends on the numbers.

    PyTorch marks such operations; of indices, those that are masks alone do so.
    """
    if func is torch.ops.aten.index.Tensor:
        kinds = {index.dtype for index in args[1] if index is not None}
        return bool(kinds & {torch.bool, torch.uint8})
    telling = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
    return bool(telling & {*func.tags})


class _MethodReads(TorchFunctionMode):
    """Sees the methods that Python calls on a tensor."""

    def __init__(self, asked: list[str]) -> None:
        super().__init__()
        self.asked = asked

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        # A device in a variable may be the CPU; "cpu" in the code is always the host.
        name, given = (
            getattr(func, "__name__", ""),
            (*args[1:], *(kwargs or {}).values()),
        )
        to_host = name == "to" and "cpu" in [v for v in given if isinstance(v, str)]
        if (name in ASKING or to_host) and getattr(Tensor, name, None) is func:
            self.asked.append(name)
        return func(*args, **(kwargs or {}))


# --- a step that never waits ----------------------------------------------------------

TrainingStep = Callable[[VAE, Optimizer, Tensor, Tensor], Any]


def _losses(model: VAE, x: Tensor) -> Tensor:
    logits, mu, logvar = model(x)
    misfit = F.binary_cross_entropy_with_logits(logits, x, reduction="none")
    return misfit.sum(-1) + kl_to_standard_normal(mu, logvar)  # (B,)


def _variant(
    *,
    loss: Callable[[Tensor], Tensor] = torch.mean,
    clears: bool = True,
    steps: bool = True,
    noted: Callable[[Tensor], Any] = torch.sum,
    losses: Callable[[VAE, Tensor], Tensor] = _losses,
) -> TrainingStep:
    """Return a training step that differs from the right one in what is named."""

    def step(model: VAE, optimizer: Optimizer, x: Tensor, total: Tensor) -> None:
        nats = losses(model, x)
        if clears:
            optimizer.zero_grad()
        loss(nats).backward()
        if steps:
            optimizer.step()
        total += noted(nats.detach())

    return step


def _without_kl(model: VAE, x: Tensor) -> Tensor:
    logits, _, _ = model(x)
    misfit = F.binary_cross_entropy_with_logits(logits, x, reduction="none")
    return misfit.sum(-1)


STEP_MISTAKES: dict[str, TrainingStep] = {
    "training-step-sum": _variant(loss=torch.sum),
    "training-step-sign": _variant(loss=lambda nats: -nats.mean()),
    "training-step-no-zero": _variant(clears=False),
    "training-step-no-step": _variant(steps=False),
    "training-step-no-total": _variant(noted=lambda nats: 0),
    "training-step-total-mean": _variant(noted=torch.mean),
    "training-step-total-sign": _variant(noted=lambda nats: -nats.sum()),
    "training-step-no-kl": _variant(losses=_without_kl),
}


def _batches() -> list[Tensor]:
    stream = torch.Generator().manual_seed(3)
    bits = torch.rand(sum(SIZES), 6, generator=stream) < 0.4
    return [*bits.double().split(SIZES)]


def _practice() -> tuple[VAE, Tensor]:
    """Return a small model and its total, always the same, and set the noise."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        model = VAE(6, 5, 2).double()
    torch.manual_seed(5)  # the noise of the latents
    return model, torch.zeros((), dtype=torch.float64)


def _after(model: VAE, total: Tensor) -> Tensor:
    return torch.cat([parameters_to_vector(model.parameters()).detach(), total[None]])


def _taken(step: TrainingStep) -> Tensor:
    """Return weights and total after a step on each batch."""
    model, total = _practice()
    optimizer = SGD(model.parameters(), lr=RATE)
    for x in _batches():
        step(model, optimizer, x, total)
    return _after(model, total.detach())


def _step_oracle() -> Tensor:
    """Return the same by hand: distributions, and a subtraction per parameter."""
    model, total = _practice()
    for x in _batches():
        logits, mu, logvar = model(x)
        pixels = Bernoulli(logits=logits).log_prob(x).sum(-1)
        q, prior = Normal(mu, logvar.exp().sqrt()), Normal(0.0, 1.0)
        nats = kl_divergence(q, prior).sum(-1) - pixels  # (B,)
        parameters = [*model.parameters()]
        gradients = torch.autograd.grad(nats.sum() / len(x), parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.sub_(RATE * gradient)
        total += nats.detach().sum()
    return _after(model, total)


def step(answer: TrainingStep) -> Verdict:
    """Check ``answer(model, optimizer, x, total)``: one step, and no wait.

    It descends the mean loss of ``x`` (B, D), adds the summed loss of the batch to
    ``total`` in place, and reads no number from the device.
    """
    asked: list[str] = []
    graph: list[bool] = []

    def taken() -> Tensor | None:
        model, total = _practice()
        before = _after(model, total)
        optimizer = SGD(model.parameters(), lr=RATE)
        for x in _batches():
            with HostReads() as reads:
                answer(model, optimizer, x, total)
            asked.extend(reads.asked)
        graph.append(total.requires_grad)
        after = _after(model, total.detach())
        return None if torch.equal(before, after) else after

    with torch.random.fork_rng(devices=[]):
        mistakes = {k: partial(_taken, mistake) for k, mistake in STEP_MISTAKES.items()}
        verdict = compare(taken, _step_oracle, mistakes, [()], "training-step-right")
    if asked:
        return wrong("training-step-waits", asked=asked[0])
    if verdict and any(graph):
        return wrong("training-step-graph")
    return verdict


# --- the mean over batches ------------------------------------------------------------

Score = Callable[[Tensor], Tensor]


def _mean_oracle(score: Score, batches: list[Tensor]) -> Tensor:
    return score(torch.cat(batches)).mean()


def _each(score: Score, batches: list[Tensor]) -> Tensor:
    return torch.stack([score(x).mean() for x in batches])


def _all(score: Score, batches: list[Tensor]) -> Tensor:
    return score(torch.cat(batches)).sum()


MEAN_MISTAKES: dict[str, Answer] = {
    "training-mean-return": lambda s, b: s(b[0]).mean() / len(b),
    "training-mean-return-sum": lambda s, b: s(b[0]).sum() / len(torch.cat(b)),
    "training-mean-first": lambda s, b: s(b[0]).mean(),
    "training-mean-last": lambda s, b: s(b[-1]).mean(),
    "training-mean-of-means": lambda s, b: _each(s, b).mean(),
    "training-mean-sum-means": lambda s, b: _each(s, b).sum(),
    "training-mean-sum": _all,
    "training-mean-batches": lambda s, b: _all(s, b) / len(b),
    "training-mean-full": lambda s, b: _all(s, b) / (len(b) * len(b[0])),
}


def mean_elbo(answer: Answer) -> Verdict:
    """Check ``answer(score, batches)``: the mean score of all images, a number.

    ``score`` maps a batch (B, D) to (B,); the last batch is smaller than the others.
    """

    def score(x: Tensor) -> Tensor:
        return -(x.square().sum(-1) + 1)

    stream = torch.Generator().manual_seed(6)
    cases = []
    for sizes in (SIZES, (7, 7, 7, 1)):
        x = torch.randn(sum(sizes), 3, dtype=torch.float64, generator=stream)
        scale = torch.linspace(0.5, 2, len(x)).double()[:, None]
        cases.append((score, [*(scale * x).split(sizes)]))
    right = "training-mean-right"
    return compare(answer, _mean_oracle, MEAN_MISTAKES, cases, right, number=True)


# --- gradients in shares --------------------------------------------------------------


def _gradient(w: Tensor, x: Tensor) -> Tensor:
    """Return the gradient of the sum of squares, in closed form."""
    return 2 * x.T @ (x @ w)


def _shares(w: Tensor, x: Tensor, size: int) -> list[tuple[Tensor, int]]:
    return [(_gradient(w, part), len(part)) for part in x.split(size)]


ACCUMULATE_MISTAKES: dict[str, Answer] = {
    "training-shares-sum-means": lambda w, x, s: sum(
        g / n for g, n in _shares(w, x, s)
    ),
    "training-shares-mean-means": lambda w, x, s: (
        sum(g / n for g, n in _shares(w, x, s)) / len(_shares(w, x, s))
    ),
    "training-shares-last": lambda w, x, s: (
        _shares(w, x, s)[-1][0] / _shares(w, x, s)[-1][1]
    ),
    "training-shares-first": lambda w, x, s: _shares(w, x, s)[0][0] / s,
    "training-shares-sum": lambda w, x, s: _gradient(w, x),
    "training-shares-size": lambda w, x, s: _gradient(w, x) / s,
    "training-shares-count": lambda w, x, s: _gradient(w, x) / len(_shares(w, x, s)),
}


def accumulate(answer: Answer) -> Verdict:
    """Check ``answer(loss, w, x, size)``: the gradient of the mean loss over ``x``.

    ``loss(w, x)`` maps (B, D) to (B,) and is called with at most ``size`` images, and
    while no graph of an earlier call is alive; the gradient comes out (D,).
    """
    largest: list[int] = []
    graphs: list[int] = []  # of earlier pieces, alive when the next one began

    def answered(w: Tensor, x: Tensor, size: int) -> Any:
        kept: list[weakref.ref[Tensor]] = []

        def loss(w: Tensor, part: Tensor) -> Tensor:
            largest.append(len(part) - size)
            graphs.append(sum(one() is not None for one in kept))
            inner = part @ w  # (B,), which the graph of the square keeps
            kept.append(weakref.ref(inner))
            return inner.square()

        return answer(loss, w.requires_grad_(), x, size)

    stream = torch.Generator().manual_seed(7)
    cases = []
    for count, size in ((10, 4), (9, 2)):
        w = torch.randn(3, dtype=torch.float64, generator=stream)
        cases.append((w, torch.randn(count, 3, generator=stream).double(), size))
    verdict = compare(
        answered,
        lambda w, x, size: _gradient(w, x) / len(x),
        ACCUMULATE_MISTAKES,
        cases,
        right="training-shares-right",
    )
    if verdict and not largest:
        return wrong("training-shares-unused")
    if largest and max(largest) > 0:
        return wrong("training-shares-whole")
    if verdict and max(graphs) > 0:
        return wrong("training-shares-kept")
    return verdict


# --- Amdahl's law ---------------------------------------------------------------------


def _amdahl_oracle(share: float, factor: float) -> Tensor:
    """Return by how much a day of work shrinks, second by second."""
    day = torch.ones(86_400, dtype=torch.float64)
    day[: round(share * len(day))] /= factor
    return len(day) / day.sum()


AMDAHL_MISTAKES: dict[str, Answer] = {
    "training-amdahl-factor": lambda s, f: f,
    "training-amdahl-product": lambda s, f: s * f,
    "training-amdahl-average": lambda s, f: 1 - s + s * f,
    "training-amdahl-limit": lambda s, f: 1 / (1 - s),
    "training-amdahl-time": lambda s, f: 1 - s + s / f,
    "training-amdahl-swapped": lambda s, f: 1 / (s + (1 - s) / f),
    "training-amdahl-part": lambda s, f: f / s,
    "training-amdahl-left": lambda s, f: 1 / (1 - s / f),
}


def amdahl(answer: Answer) -> Verdict:
    """Check ``answer(share, factor)``: how many times faster the whole becomes.

    The part that took ``share`` of the time, in [0, 1], becomes ``factor`` times as
    fast.
    """
    cases, right = [(0.25, 3.0), (0.75, 8.0), (0.5, 100.0)], "training-amdahl-right"
    return compare(answer, _amdahl_oracle, AMDAHL_MISTAKES, cases, right, number=True)
