"""The playground: a VAE of points in the plane that trains in the browser.

Networks, gradients, Adam and the exact log p(x) are JavaScript, in ``network.js``, so
the widget is alive without a kernel; ``PlaneVAE`` is the same model in PyTorch, and
takes the weights that were trained in the page.
"""

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import torch
import traitlets
from torch import Tensor

from vae_teach.explorer import page
from vae_teach.figures import COLORS, SHOWN_DPI, Pictured, picture
from vae_teach.guards import as_integer, check_choice
from vae_teach.playground.model import PlaneVAE
from vae_teach.words import current_language, say

__all__ = ["CHOICES", "DEFAULTS", "PRESETS", "PlaneVAE", "Playground"]

CHOICES: dict[str, tuple[Any, ...]] = {
    "data": ("ring", "moons", "spiral", "gaussian", "own"),
    "latents": (1, 2),
    "width": (2, 4, 8, 16, 32, 64),
    "activation": ("tanh", "relu"),
    "beta": (0, 0.1, 0.3, 0.5, 1, 2, 4, 8),
    "samples": (1, 2, 5, 20),
    "rate": (0.0003, 0.001, 0.003, 0.005, 0.01, 0.03, 0.1),
}
"""What the page's levers offer."""
DEFAULTS: dict[str, Any] = {
    "data": "ring",
    "latents": 1,
    "width": 32,
    "activation": "tanh",
    "sigma": 0.3,
    "learnt": False,
    "beta": 1,
    "samples": 1,
    "rate": 0.005,
    "seed": 1,
}
PRESETS: dict[str, dict[str, Any]] = {
    "modes": {"rate": 0.01, "steps": 3000},
    "hole": {"latents": 2, "sigma": 0.15, "beta": 0.1, "steps": 3000},
    "collapse": {"data": "gaussian", "latents": 2, "sigma": 0.6, "steps": 3000},
    "beta": {"data": "moons", "sigma": 0.25, "beta": 4, "steps": 3000},
    "twin": {"data": "moons", "sigma": 0.5, "steps": 3000},
}
"""What each shows is in its sentence on the page; ``steps`` is when it pauses."""
SIGMAS = (0.05, 2.0)  # as network.js and playground.js have them
SEEDS = 2**32
REACH, MOST_OWN = 3.0, 64  # as playground.js has them
LABELS = (
    "playground-about-beta",
    "playground-about-collapse",
    "playground-about-hole",
    "playground-about-modes",
    "playground-about-own",
    "playground-about-twin",
    "playground-activation",
    "playground-alt-data",
    "playground-alt-line",
    "playground-alt-plane",
    "playground-alt-time",
    "playground-bad-seed",
    "playground-beta",
    "playground-chosen",
    "playground-chosen-gap",
    "playground-chosen-posterior",
    "playground-chosen-q",
    "playground-clear",
    "playground-clouds",
    "playground-cursor",
    "playground-data",
    "playground-data-plane",
    "playground-diverged",
    "playground-facts",
    "playground-gap",
    "playground-help",
    "playground-help-own",
    "playground-holes",
    "playground-is-gaussian",
    "playground-is-moons",
    "playground-is-own",
    "playground-is-ring",
    "playground-is-spiral",
    "playground-latent-plane",
    "playground-latents",
    "playground-learnt",
    "playground-ledger",
    "playground-levers",
    "playground-many-points",
    "playground-modes",
    "playground-no-points",
    "playground-pace",
    "playground-pace-full",
    "playground-pace-medium",
    "playground-pace-slow",
    "playground-pause",
    "playground-paused",
    "playground-paused-numbers",
    "playground-points",
    "playground-preset",
    "playground-preset-beta",
    "playground-preset-collapse",
    "playground-preset-hole",
    "playground-preset-modes",
    "playground-preset-twin",
    "playground-prior",
    "playground-rate",
    "playground-reconstruction",
    "playground-reset",
    "playground-run",
    "playground-samples",
    "playground-seed",
    "playground-sigma",
    "playground-step",
    "playground-steps",
    "playground-sum",
    "playground-time-caption",
    "playground-title",
    "playground-too-narrow",
    "playground-undo",
    "playground-widest",
    "playground-width",
    "playground-yes",
)


class Playground(Pictured, anywidget.AnyWidget):
    """A small VAE of points in the plane, with every lever in the reader's hand.

    The page trains 2-32-2L and L-width-2 with Adam on batches of 128, and computes
    ELBO, exact log p(x) and gap of all points by quadrature.

    Args:
        preset: one of ``PRESETS``, which the page starts from; None if settings are
            given, and ``"modes"`` if not.
        settings: any of ``DEFAULTS``, for settings of one's own; and ``points``, up to
            64 pairs of numbers from -3 to 3, for ``data="own"``.

    Attributes:
        state: what the page last sent, when training paused: ``step``, ``elbo``,
            ``log_p``, ``gap``, ``weights``, ``points``, ``settings``. Empty before.

    Raises:
        ValueError: a preset, a setting or a value that the page does not have.
    """

    _esm, _css = page.code(Path(__file__).parent, "network", "playground")

    spec = traitlets.Dict().tag(sync=True)  # presets, defaults, choices
    settings = traitlets.Dict().tag(sync=True)
    labels = traitlets.Dict().tag(sync=True)
    state = traitlets.Dict().tag(sync=True)

    def __init__(self, preset: str | None = None, **settings: Any) -> None:
        if preset is not None:
            check_choice("preset", preset, tuple(PRESETS))
        elif not settings:
            preset = next(iter(PRESETS))
        own = {name: _checked(name, value) for name, value in settings.items()}
        if "points" in own:
            check_choice("data", own.setdefault("data", "own"), ("own",))
        asked = {} if preset is None else PRESETS[preset]
        start = {**DEFAULTS, **asked, **own, "preset": None if own else preset}
        start.pop("steps", None)
        labels = {key.removeprefix("playground-"): say(key) for key in LABELS}
        super().__init__(
            spec={"presets": PRESETS, "defaults": DEFAULTS, "choices": CHOICES},
            settings=start,
            labels=labels | {"language": current_language()},
        )

    def __repr__(self) -> str:
        """Say what to do, where Jupyter shows text in place of an unknown widget."""
        return say("playground-as-text")

    def still(self) -> tuple[bytes, str, int]:
        """Return a trained model's picture, its description and width."""
        drawn = _picture(current_language())
        return drawn.png(), drawn.alt, round(drawn.get_size_inches()[0] * SHOWN_DPI)

    def model(self) -> PlaneVAE:
        """Return the model that was trained in the page, in PyTorch and float64.

        Raises ValueError before the page has sent any.
        """
        weights = self.state.get("weights")
        if not weights:
            raise ValueError(say("playground-no-state"))
        used = self.state["settings"]
        shape = (used["latents"], used["width"], used["activation"])
        return PlaneVAE(*shape).take(weights)


def _checked(name: str, value: Any) -> Any:
    """Return a setting that the page has, or raise ValueError."""
    if name in CHOICES:
        check_choice(name, value, CHOICES[name])
    elif name == "learnt":
        check_choice(name, value, (False, True))
    elif name == "sigma":
        if not SIGMAS[0] <= value <= SIGMAS[1]:
            low, high = SIGMAS
            raise ValueError(say("playground-range", got=value, low=low, high=high))
    elif name == "seed":
        count = as_integer(value)
        if count is None or not 0 <= count < SEEDS:
            raise ValueError(say("playground-seed-range", got=value, most=SEEDS - 1))
        return count
    elif name == "points":
        return _points(value)
    else:
        check_choice("settings", name, (*DEFAULTS, "points"))
    return value


def _points(value: Any) -> list[list[float]]:
    """Return points of the reader's own as pairs of numbers, or raise ValueError."""
    try:
        points = [[float(a), float(b)] for a, b in value]
    except (TypeError, ValueError):
        points = []
    inside = all(abs(number) <= REACH for point in points for number in point)
    if not inside or not 0 < len(points) <= MOST_OWN:
        raise ValueError(say("playground-own", most=MOST_OWN, reach=REACH))
    return points


# --- the picture for pages without JavaScript -----------------------------------------


@cache
def _trained() -> tuple[Tensor, PlaneVAE]:
    """Return the first preset's points and the model that the page makes of them."""
    stored = json.loads(Path(__file__).with_name("still.json").read_text("utf-8"))
    preset = DEFAULTS | PRESETS["modes"]
    model = PlaneVAE(preset["latents"], preset["width"], preset["activation"])
    return torch.tensor(stored["points"]).reshape(-1, 2), model.take(stored["weights"])


@cache
def _picture(language: str) -> Any:
    """Return data and decoder's curve beside the prior and the sum of all q."""
    points, model = _trained()
    with torch.no_grad():
        line = torch.linspace(-4, 4, 401).double()[:, None]
        curve = model.decode(line[50:351])
        mu, logvar = model.encode(points.double())  # (N, 1)
        q = torch.distributions.Normal(mu, (0.5 * logvar).exp())
        total = q.log_prob(line[:, 0]).exp().mean(0)  # (G)
    drawn, (left, right) = picture(say("playground-alt"), height=3.4, columns=2)
    left.plot(*points.T.numpy(), "o", ms=2, color=COLORS["data"])
    left.plot(*curve.T.numpy(), color=COLORS["reconstruction"], lw=2)
    left.set(xlabel="$x_1$", ylabel="$x_2$", title=say("playground-data-plane"))
    left.set_aspect("equal")
    z = line[:, 0].numpy()
    prior = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    right.plot(
        z, prior, ":", color=COLORS["prior"], lw=2, label=say("playground-prior")
    )
    right.plot(z, total.numpy(), color=COLORS["q"], lw=2, label=say("playground-sum"))
    right.set(xlabel="$z$", title=say("playground-latent-plane"))
    right.legend(frameon=False, loc="lower center")
    return drawn
