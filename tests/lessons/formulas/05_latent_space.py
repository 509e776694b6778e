"""What the formulas of lesson 05 are about."""

import itertools

import numpy as np
import torch
from meanings import definitions, joint, law, tensor
from scipy import special, stats
from torch.distributions import Normal

from vae_teach import densities

WRITTEN = ("grey", "equal_mass", "equal_steps", "tile_masses", "straight", "spherical")


def meanings(at):
    lesson = definitions("05_latent_space", *WRITTEN)

    def grey(means):
        return np.asarray(lesson["grey"](tensor(means)))[..., None]

    means = at("means", 1, 1, 5) / 2
    images = at("images", 4, 1, 5) / 2
    bits = np.array([*itertools.product((0.0, 1.0), repeat=5)])[:, None]  # (32, 1, 5)
    chances = stats.bernoulli.pmf(bits, means).prod(-1, keepdims=True)

    every = joint(at)
    p, q = every["p(z)"], every[r"q(z \mid x)"]
    aggregate = q.mean(-3, keepdims=True)
    clouds = {r"q(z \mid x_n)": q, "q(z)": aggregate, "q": aggregate, "N": 3}

    n, extent, t, temperature = 6, at("a"), at("t") / 2, at("T")
    a, b = tensor(at("a", 5)), tensor(at("b", 5) - 1)
    angle = torch.cosine_similarity(a, b, dim=0).acos()
    right = lesson["spherical"](tensor([1.0, 0.0]), tensor([0.0, 1.0]), tensor(t))
    path = {"a": a.numpy(), "b": b.numpy(), "t": t, r"\theta": angle.item()}
    return {
        "": every | clouds | {"q(z) - p(z)": -np.subtract(p, aggregate)},
        "blur-cause": {
            "m_d": means,
            "G(m)": grey(means),
            r"\log 2": -densities.log_bernoulli(tensor([1]), tensor([0])),
            r"\frac{1}{4}": grey([0.5]),
        },
        "verdict-text": {
            "x": bits,
            "m": means,
            r"\lVert x - m \rVert^2": np.linalg.norm(bits - means, axis=-1)[..., None]
            ** 2,
        },
        "samples-by-hand": {
            "x": bits,
            "m": means,
            "m_d": means,
            "G(m)": grey(means),
            r"\mathbb{E}": chances,
        },
        "temperature-text": {
            "T": temperature,
            r"z \sim": law(Normal(0.0, temperature).log_prob),
            r"\varepsilon \sim": (0, 1),
            r"\varepsilon": t,
            "z": stats.norm.ppf(stats.norm.cdf(t), 0, temperature),
        },
        "diversity-text": {
            "m": images,
            "m_d": images,
            r"\bar m": images.mean(0),
            r"\mathbb{E}": np.full((4, 1, 1), 1 / 4),
            "G": grey,
        },
        "temperature-moral": {"T = 0.5": "a temperature of the table above"},
        "grids-text": {"n": n, "n + 1": len(lesson["equal_mass"](n)[0])},
        "coverage-text": {
            "a": extent,
            r"(2\Phi(a) - 1)^2": lesson["tile_masses"](
                lesson["equal_steps"](n, extent)[0]
            ).sum(),
        },
        "tiles-text": {r"\pm 1.53": lesson["equal_mass"](8)[1].max()},
        "wide-text": {"401^{30}": 401.0**30},
        "aggregate-text": {"N =": 60_000},
        "distance-text": {
            "t": at("t", 9, 1, 1),
            "t = p / q": "one of two cases",
            "t = q / p": "one of two cases",
        },
        "distance-noticed": {
            "0.40": special.kl_div(1 / 4, 1),
            "0.64": special.kl_div(1, 1 / 4),
        },
        "split-text": {r"z \sim": q},
        "holes-text": {"q / p": np.exp(np.log(aggregate) - np.log(p))},
        "walks-text": path
        | {
            r"(1 - t)\,a + t\,b": lesson["straight"](a, b, t),
            r"\frac{\sin((1 - t)\,\theta)}{\sin \theta}\, a"
            r"+ \frac{\sin(t\,\theta)}{\sin \theta}\, b.": lesson["spherical"](
                a, b, tensor(t)
            ),
        },
        "shell-text": {
            "L": 1e6,
            r"\sqrt{L}": stats.chi(1e6).mean(),
            r"\mathcal{N}(0, I/2)": (0, np.square([0.5, 0.5]).sum()),  # of an average
            r"\sqrt{2}": 1 / np.linalg.norm([0.5, 0.5]),
        },
        "shell-measured-text": {r"1/\sqrt{2}": np.linalg.norm([0.5, 0.5])},
        "exercise-walk-text": dict.fromkeys(("t = 0", "t = 1"), "an end of the walk"),
        "solution-walk-text": {
            "t": t,
            r"\theta =": np.arccos(0.0),
            r"\cos(t\,\pi / 2)": right[0],
            r"\sin(t\,\pi / 2)": right[1],
        },
    }
