"""What the formulas of lesson 02 are about."""

import numpy as np
from meanings import definitions, joint, law, tensor
from scipy import stats
from torch.distributions import Normal


def meanings(at):
    lesson = definitions("02_elbo", "decode", "log_prior", "noise", "solution_bound")
    curve = tuple(lesson["decode"](tensor(at("z"))).numpy())
    sigma, mu, z = map(at, ("sigma", "mu", "z"))

    every = joint(at)
    prior, likelihood, q = (every[name] for name in ("p(z)", r"p(x \mid z)", "q"))
    evidence, posterior = every["p(x)"], every[r"p(z \mid x)"]
    other = at.density("r", 3, 7, 1)
    divergence = stats.entropy(q, posterior, axis=-2)[:, None]
    relative = likelihood / evidence
    rho = np.sum(prior * (relative - 1) ** 2, -2, keepdims=True)
    drawn = at("drawn", 5, 1, 1)

    data = at.density("data", 3, 1, 1, axis=-3)
    wide = stats.entropy((data * q).ravel(), every["p(x, z)"].ravel())
    weights = at("weights", 9, 1, 1)
    return {
        "": every | {"p(x, z) / q(z)": np.exp(np.log(every["p(x, z)"]) - np.log(q))},
        "toy": {
            "z": at("z"),
            "f(z)": curve,
            r"z \sim": law(lesson["log_prior"]),
            r"x \mid z \sim": (curve, lesson["noise"] ** 2),
        },
        "naive": {
            "n": 5,
            r"p(x \mid z_i)": drawn,
            r"\hat p(x)": drawn.mean(),
            r"z_i \sim": prior,
            r"p(z_i \mid x)": posterior,
            "p(z_i)": prior,
            r"p(z_i \mid x) / p(z_i)": relative,
            r"\mathrm{Var}[\hat p(x)]": evidence**2 * rho / 5,
            r"\rho": rho,
            "n =": 100 * rho,  # for an error of a tenth
        },
        "importance": {
            "g": other,
            "q =": np.exp(np.logaddexp(np.log(other), np.log(prior)) - np.log(2)),
            "q": (other + prior) / 2,
            r"2\, p(x \mid z)": every["p(x, z)"] / (prior / 2),
        },
        "importance-noticed": {
            "n": 16,
            r"1/\sqrt n": np.linalg.norm(np.full(16, 1 / 16)),
        },
        "jensen": {"w": np.exp(np.log(every["p(x, z)"]) - np.log(q))},
        "kl-route": {
            "r": 0.9 * other,  # the rest lies where q has nothing
            "r(z)": 0.9 * other,
            r"\mathrm{KL}(q \,\|\, p(z \mid x))": divergence,
            "q = r": "a condition",
        },
        "two-terms": {
            r"z \;\; \underset{\textstyle q(z \mid x)}{\overset{\textstyle p(x \mid z)}"
            r"{\rightleftarrows}} \;\; x, \qquad z \sim p(z).": "a picture",
        },
        "two-modes": {"p": posterior},
        "theta": {
            "a": 2,
            "z": at("z"),
            "f_a(z)": curve,
            "a = 0.8": "where a curve has its peak",
        },
        "theta-noticed": {
            r"p_{\mathrm{data}}": data,
            r"p_{\mathrm{data}}(x)": data,
            r"\bar q(z)": np.sum(data * q, -3, keepdims=True),
            r"\mathrm{KL}(p_{\mathrm{data}}(x)\, q(z \mid x)"
            r"\,\|\, p(z)\, p(x \mid z))": wide,
        },
        "digit-cost": {
            "z": z,
            r"\sigma": sigma,
            r"e^{-|z|^2/2 - b|z|}": "how a tail falls, with a b that nobody knows",
            r"p(z \mid x)^2 / q(z)": q * (every["p(x, z)"] / q / evidence) ** 2,
            r"-|z|^2 + |z|^2 / (2 \sigma^2)": (
                2 * stats.norm.logpdf(z)
                - 2 * stats.norm.logpdf(0)
                - stats.norm.logpdf(z, 0, sigma)
                + stats.norm.logpdf(0, 0, sigma)
            ),
        },
        "exercise-kl-text": {
            r"\mu": mu,
            r"\sigma": sigma,
            "q =": law(Normal(mu, sigma).log_prob),
        },
        "exercise-bound-text": {
            "k": 9,
            "w_i": weights,
            r"\log \frac{1}{k} \sum_i w_i": lesson["solution_bound"](
                tensor(np.log(weights))
            ),
            "e^{-900}": "a small number",
        },
    }
