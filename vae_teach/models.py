"""What the course asks of a latent-variable model, and how it takes a reader's own.

A latent-variable model is three distributions. Each has a default, and a model may
bring its own by a method of this name:

- q(z|x): N(mu, diag exp logvar) of ``encode(x)``, drawn by
  ``reparameterize(mu, logvar)``; or ``q(x)``, one of ``torch.distributions``.
- p(x|z): Bernoulli pixels of ``decode_logits(z)``; or ``log_conditional(x, z)``.
- p(z): N(0, I); or ``log_prior(z)``.

``adapt`` looks which of them a model has; ``bounds``, ``exact``, ``annealing``,
``train`` and the pictures ask it, and nobody else looks. It also takes the class that
most tutorials write: ``decode`` to probabilities, images of (B, 1, H, W), a
``reparameterize`` that returns mu in evaluation mode.
"""

import copy
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from vae_teach.densities import log_bernoulli, log_normal, log_standard_normal
from vae_teach.guards import (
    as_integer,
    check_choice,
    check_finite,
    check_pixels,
    check_sound,
    values_are_trusted,
)
from vae_teach.nets import VAE
from vae_teach.words import say

DECODES = ("probabilities", "logits")
SIDES = (28, 32, 64, 16, 8)  # of images, tried where no layer tells how many pixels
# What a model may raise for images of a shape that it does not take.
WRONG_SHAPE = (RuntimeError, ValueError, TypeError, IndexError, AssertionError)
# What `reparameterize(mu, s)` may take s for: how much wider it then draws at s = 4
# than at s = 1, and the log-variance that s stands for.
SPREADS: dict[str, tuple[float, Callable[[Tensor], Tensor]]] = {
    "log-variance": (math.exp(1.5), lambda s: s),
    "log standard deviation": (math.exp(3), lambda s: 2 * s),
    "standard deviation": (4.0, lambda s: 2 * s.log()),
    "variance": (2.0, lambda s: s.log()),
}
SAME = 0.01  # relative; the ratios above differ by a tenth or more


class DiagonalNormal:
    """The course's q(z|x) = N(mu, diag exp logvar), with the model's own way to draw.

    Args:
        mean: (B, L), mu.
        logvar: (B, L).
        draw: takes both, returns z of their shape.
    """

    def __init__(
        self, mean: Tensor, logvar: Tensor, draw: Callable[[Tensor, Tensor], Tensor]
    ) -> None:
        self.mean, self.logvar, self._draw = mean, logvar, draw

    def rsample(self, shape: tuple[int, ...] = ()) -> Tensor:
        """Draw z, ``(*shape, B, L)``; gradients reach mean and logvar."""
        full = torch.Size((*shape, *self.mean.shape))
        return self._draw(self.mean.expand(full), self.logvar.expand(full))

    def log_prob(self, z: Tensor) -> Tensor:
        """Return log q(z|x), (..., B, L) to (..., B) nats."""
        return log_normal(z, self.mean.expand_as(z), self.logvar.expand_as(z))


@dataclass
class _Findings:
    """What calling a model has told about it."""

    spread: str = "log-variance"  # what the second tensor of encode stands for
    draws: tuple[bool, bool] = (True, True)  # in evaluation mode, in training mode
    side: int | None = None  # of the images it takes as (B, 1, side, side); 0 if flat


class Adapted:
    """A model as the course's functions see it; made by ``adapt``.

    Attributes:
        model: the reader's model itself.
        bernoulli: whether p(x|z) is the default, Bernoulli pixels.
        standard_prior: whether p(z) is the default, N(0, I).
    """

    def __init__(self, model: Any, findings: _Findings, decodes: str) -> None:
        self.model, self._findings, self._decodes = model, findings, decodes
        self.bernoulli = not _brings(model, "log_conditional")
        self.standard_prior = not _brings(model, "log_prior")

    def q(self, x: Tensor) -> Any:
        """Return the approximate posterior of images x (B, D), over z (B, L).

        Raises TypeError for a model without one, such as an autoencoder.
        """
        if _brings(self.model, "q"):
            return _over_vectors(self.model.q(self._images(x)))
        found = self._encode(x)
        if isinstance(found, Distribution):
            return _over_vectors(found)
        if not (isinstance(found, tuple | list) and len(found) == 2):
            raise TypeError(say("model-no-q", got=type(self.model).__name__))
        mu, spread = found
        return DiagonalNormal(mu, SPREADS[self._findings.spread][1](spread), self._draw)

    def latents(self, x: Tensor) -> int:
        """Return how many latent dimensions there are, L, by the code of an image."""
        if not self.has_q(x):
            return self.codes(x[:1]).shape[-1]
        q = self.q(x[:1])
        shape: torch.Size = getattr(q, "event_shape", None) or q.mean.shape
        return shape[-1]

    def has_q(self, x: Tensor) -> bool:
        """Tell whether the model has a q(z|x): an autoencoder has none."""
        return _brings(self.model, "q") or not isinstance(self._encode(x[:1]), Tensor)

    def codes(self, x: Tensor) -> Tensor:
        """Return the means of q(z|x), or an autoencoder's codes: (B, D) to (B, L)."""
        found = None if _brings(self.model, "q") else self._encode(x)
        mean: Tensor = found if isinstance(found, Tensor) else self.q(x).mean
        return check_sound(mean)

    def decode_logits(self, z: Tensor) -> Tensor:
        """Return the log-odds of each pixel, (..., L) to (..., D).

        Of a decoder to probabilities they are as exact as these: one that was rounded
        to 0 or 1 counts as the nearest number inside. Raises ValueError for values
        outside [0, 1].
        """
        if _brings(self.model, "decode_logits"):
            logits: Tensor = self.model.decode_logits(z)
            return logits
        out = _call(self.model, "decode", "decoder")(z.reshape(-1, z.shape[-1]))
        out = out.reshape(*z.shape[:-1], -1)  # (..., D), whatever the images' shape
        if self._decodes == "logits":
            return out
        if not values_are_trusted():
            low, high = (bound.item() for bound in out.detach().aminmax())
            if not (low >= 0 and high <= 1):
                raise ValueError(say("model-no-probabilities", low=low, high=high))
        numbers = torch.finfo(out.dtype)
        return torch.logit(out.clamp(numbers.tiny, 1 - numbers.eps / 2))

    def decode(self, z: Tensor) -> Tensor:
        """Return the mean of each pixel, (B, L) to (B, D)."""
        if not _brings(self.model, "decode") or self._decodes == "logits":
            return check_sound(torch.sigmoid(self.decode_logits(z)))
        means: Tensor = self.model.decode(z)
        return check_sound(means.flatten(1))

    def log_conditional(self, x: Tensor, z: Tensor) -> Tensor:
        """Return log p(x|z): x (B, D) and z (..., B, L) broadcast to (..., B) nats."""
        if self.bernoulli:
            return log_bernoulli(x, self.decode_logits(z))
        value: Tensor = self.model.log_conditional(x, z)
        shape = torch.broadcast_shapes(x.shape[:-1], z.shape[:-1])
        check_density("log_conditional", value, shape)
        return value

    def log_prior(self, z: Tensor) -> Tensor:
        """Return log p(z), (..., L) to (...) nats; ValueError for another shape."""
        if self.standard_prior:
            return log_standard_normal(z)
        value: Tensor = self.model.log_prior(z)
        check_density("log_prior", value, z.shape[:-1])
        return value

    @property
    def latent_dim(self) -> int:
        """Latent dimensions, L: the model's own number, or the length of a code."""
        known = as_integer(getattr(self.model, "latent_dim", None))
        return self._latents_of_a_blank() if known is None else known

    @property
    def like(self) -> Tensor:
        """A tensor of the model, for its device and dtype."""
        return own_tensor(self.model, torch.zeros(0))

    def observed(self, x: Tensor) -> Tensor:
        """Return x as (B, D), with the device and dtype of the model's own tensors.

        Images (B, 1, H, W) are flattened. Raises TypeError unless x is floating,
        ValueError unless the decoder can be about it: pixels in [0, 1] for Bernoulli
        ones, finite numbers for a model's own.
        """
        x = self._checked(x)
        return alike(x, own_tensor(self.model, x))

    def precise(
        self, x: Tensor, dtype: torch.dtype | None = None
    ) -> tuple["Adapted", Tensor]:
        """Return the view, of a copy if need be, and x as (B, D), both in one dtype.

        That is the finer of x's and the model's if None, and float32 at least. float64
        is computed on the CPU where the device has none.
        """
        x = self._checked(x)
        own = own_tensor(self.model, x)
        dtype = dtype or torch.promote_types(x.dtype, own.dtype)
        dtype = torch.promote_types(dtype, torch.float32)
        lacks = own.device.type == "mps" and dtype == torch.float64
        place = torch.device("cpu") if lacks else own.device
        view, is_there = self, (own.dtype, own.device) == (dtype, place)
        if isinstance(self.model, nn.Module) and not is_there:
            model = copy.deepcopy(self.model).to(place).to(dtype)
            view = Adapted(model, self._findings, self._decodes)
        return view, x.to(place).to(dtype)

    def check_prior(self, x: Tensor) -> None:
        """Raise TypeError for an autoencoder: it has no q(z|x) and no prior."""
        if self.standard_prior and not self.has_q(x):
            raise TypeError(say("model-no-prior", got=type(self.model).__name__))

    def _checked(self, x: Tensor) -> Tensor:
        if self.bernoulli:
            check_pixels("x", x)
        else:
            check_finite("x", x)
        strange = self._findings is not _COURSE
        return x.flatten(1) if strange and x.dim() == 4 and x.shape[1] == 1 else x

    def _encode(self, x: Tensor) -> Any:
        return _call(self.model, "encode", "encoder")(self._images(x))

    def _images(self, x: Tensor) -> Tensor:
        """Return x as the model takes it, flat or (B, 1, H, W): tried once."""
        if self._findings is _COURSE:
            return x
        if self._findings.side is None:
            self._findings.side = _side(self.model, x)
        side = self._findings.side
        return x.reshape(len(x), 1, side, side) if side else x

    def _draw(self, mu: Tensor, logvar: Tensor) -> Tensor:
        findings = self._findings
        training = bool(getattr(self.model, "training", False))
        if findings.draws[training] and findings.spread == "log-variance":
            z: Tensor = self.model.reparameterize(mu, logvar)
            return z
        return mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)

    def _latents_of_a_blank(self) -> int:
        """Return L by an empty image of the first size that the model takes."""
        module = self.model if isinstance(self.model, nn.Module) else nn.Module()
        widths = [m.in_features for m in module.modules() if isinstance(m, nn.Linear)]
        for pixels in (*widths[:1], *(side**2 for side in SIDES)):
            with suppress(*WRONG_SHAPE), torch.no_grad():
                return self.latents(self.like.new_zeros(1, pixels))
        raise TypeError(say("model-size", got=type(self.model).__name__))


_COURSE = _Findings()
_FINDINGS: WeakKeyDictionary[Any, _Findings] = WeakKeyDictionary()


def adapt(model: Any, *, decodes: str = "probabilities") -> Adapted:
    """Return the course's view of a model, whoever wrote it.

    A class that the course does not know is tried once: does it take flat images or
    (B, 1, H, W), what is the second tensor of its ``encode``, does ``reparameterize``
    draw? Where it returns mu alone, a warning says so and z is drawn here, since an
    ELBO at z = mu is no ELBO.

    Args:
        model: see the list above. Without ``encode`` or ``decode``, its ``encoder``
            and ``decoder`` are called; without ``reparameterize``, z is drawn here and
            the second tensor is the log-variance.
        decodes: what its ``decode`` returns, ``"probabilities"`` or ``"logits"``.

    Returns:
        A view that every function of the course takes in place of the model.

    Raises:
        TypeError: the model lacks a method.
        ValueError: an unknown ``decodes``, or a ``reparameterize`` that takes its
            second argument for something else than ``SPREADS`` lists.
    """
    if isinstance(model, Adapted):
        return model
    model = getattr(model, "_orig_mod", model)  # what torch.compile wraps
    check_choice("decodes", decodes, DECODES)
    if not any(_brings(model, own) for own in ("decode_logits", "log_conditional")):
        _call(model, "decode", "decoder")
    if not _brings(model, "q"):
        _call(model, "encode", "encoder")
    return Adapted(model, _find_out(model), decodes)


def _find_out(model: Any) -> _Findings:
    draw = getattr(type(model), "reparameterize", None)
    if draw is VAE.reparameterize and _brings(model, "decode_logits"):
        return _COURSE
    if model not in _FINDINGS:
        spread, draws = _how_it_draws(model)
        _FINDINGS[model] = _Findings(spread, draws)
    return _FINDINGS[model]


def _how_it_draws(model: Any) -> tuple[str, tuple[bool, bool]]:
    """Return what ``reparameterize`` takes its second argument for; when it draws."""
    if not callable(getattr(model, "reparameterize", None)):
        return "log-variance", (False, False)
    was_training = getattr(model, "training", False)
    ratios = {}
    for training in (False, True):
        model.training = training  # of the model alone: its layers stay as they are
        one, four = (_drawn(model, spread) for spread in (1.0, 4.0))
        if one.any():
            ratios[training] = (four / one).mean().item()
    model.training = was_training
    draws = (False in ratios, True in ratios)
    if not all(draws):
        warnings.warn(say("model-no-sample", got=type(model).__name__), stacklevel=5)
    for name, (ratio, _) in SPREADS.items():
        if all(abs(found / ratio - 1) < SAME for found in ratios.values()):
            return name, draws
    known = ", ".join(SPREADS)
    raise ValueError(say("model-spread", got=type(model).__name__, takes=known))


def _drawn(model: Any, spread: float) -> Tensor:
    """Draw around zero, with the same noise in every call: (1, L)."""
    latents = as_integer(getattr(model, "latent_dim", None))
    like = own_tensor(model, torch.zeros(0))
    mu = like.new_zeros(1, 2 if latents is None else latents)
    with own_stream(mu.device), torch.no_grad():
        torch.manual_seed(0)
        z: Tensor = model.reparameterize(mu, torch.full_like(mu, spread))
    return z


def _side(model: Any, x: Tensor) -> int:
    """Return 0 for a model that takes flat images x (B, D), else their side."""
    encode = _call(model, "q", "encode", "encoder")
    side = math.isqrt(x.shape[-1])
    with torch.no_grad(), own_stream(x.device):
        try:
            encode(x[:1])
        except WRONG_SHAPE:
            if side**2 != x.shape[-1]:
                raise
            try:
                encode(x[:1].reshape(1, 1, side, side))
            except WRONG_SHAPE as error:
                got, shape = type(model).__name__, tuple(x.shape)
                why = str(error).splitlines()[0]
                raise ValueError(
                    say("model-shape", got=got, shape=shape, side=side, why=why)
                ) from error
            return side
    return 0


def _brings(model: Any, name: str) -> bool:
    """Tell whether a model has a method; a number of that name is something else."""
    return callable(getattr(model, name, None))


def _call(model: Any, *names: str) -> Callable[..., Any]:
    """Return the first of these methods that a model has; TypeError if it has none."""
    for name in names:
        if callable(method := getattr(model, name, None)):
            return method
    got = type(model).__name__
    raise TypeError(say("model-lacks", got=got, method=" / ".join(names)))


def _over_vectors(q: Distribution) -> Distribution:
    """Return q over vectors z; a Normal(mu, sigma) is one over each coordinate."""
    return q if getattr(q, "event_shape", True) else Independent(q, 1)


def own_tensor(model: Any, default: Tensor) -> Tensor:
    """Return a floating tensor of a model, for its device and dtype; or the default."""
    if not isinstance(model, nn.Module):
        return default
    every = chain(model.parameters(), model.buffers())
    return next((t for t in every if t.is_floating_point()), default)


def alike(x: Tensor, like: Tensor) -> Tensor:
    """Return x with the dtype and on the device of another tensor.

    The dtype on a CPU, if x is there: not every device knows all of them.
    """
    return x.to(like.dtype).to(like.device)


def check_density(name: str, value: Any, shape: torch.Size) -> None:
    """Raise ValueError unless a log-density gave one number for each z."""
    got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
    if got != tuple(shape):
        raise ValueError(say("model-density", name=name, got=got, takes=tuple(shape)))


@contextmanager
def own_stream(place: torch.device) -> Iterator[None]:
    """Let what is inside draw without moving the random stream outside."""
    accelerators = [] if place.type == "cpu" else [place.index or 0]
    kind = "cuda" if place.type == "cpu" else place.type
    with torch.random.fork_rng(accelerators, device_type=kind):
        yield
