"""What the formulas of lesson 00 are about."""

import numpy as np
from meanings import LINE, definitions, joint, law, normal, slope, tensor
from scipy import special, stats
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from vae_teach import densities, figures

TRIED = "a value for the reader to think about"


def meanings(at):
    mu, sigma, tau, noise = map(at, (r"\mu", r"\sigma", "tau", "s"))
    lesson = definitions(
        "00_tour",
        "true_posterior",
        "kl_term",
        noise=noise,
        MultivariateNormal=lambda mean, *, precision_matrix: precision_matrix,
    )
    gaussian = {
        r"\mu": mu,
        r"\sigma": sigma,
        r"\mathbb{E}": normal(mu, sigma),
        r"\mathcal{N}(\mu, \sigma^2)": law(Normal(mu, sigma).log_prob),
    }

    # the linear model: three pixels, two latents
    weights, z, eta = at("W", 3, 2), at("z", 2, 1), at("eta", 3, 1)
    both = np.hstack([weights, noise * np.eye(3)])  # of z and the noise together
    precision = lesson["true_posterior"](tensor(weights), tensor(eta)[:, 0])
    linear = {
        "W": weights,
        "s": noise,
        "z": z,
        r"\eta": eta,
        "x": stats.norm.ppf(stats.norm.cdf(eta), weights @ z, noise),
        r"\eta \sim": (0, 1),
    }

    bits, logits = np.array([[[0.0, 1.0, 1.0, 0.0]]]), at("logits", 1, 1, 4) - 1
    p, x = at("p") / 2, at("x") / 2
    mus, logvars = at("mus", 1, 1, 4), at("logvars", 1, 1, 4) - 1
    q = Normal(tensor(mus), (0.5 * tensor(logvars)).exp())
    seen, clouds = np.array([1.0, 0.0, 1.0])[:, None, None], at("clouds", 3, 1, 1)
    cross_entropy = F.binary_cross_entropy
    return {
        "": joint(at),
        "formulation": linear
        | {
            "p(z) =": law(densities.log_standard_normal),
            r"\mathcal{N}(0,\, WW^\top + s^2 I)": (0, both @ both.T),
            "I": np.eye(3),
        },
        "naive-noticed": linear
        | {
            "10^{-23}": "printed by the next cell",
            r"I + W^\top W / s^2": precision,
            "I": np.eye(2),
        },
        "why-binary": {
            r"p(x \mid z)": densities.log_bernoulli(tensor(bits), tensor(logits)).exp(),
            "p_d": special.expit(logits),
            "x_d": bits,
        },
        "grey-floor": {
            "p": p,
            "x": x,
            r"x \log p + (1 - x) \log(1 - p)": -cross_entropy(tensor(p), tensor(x)),
            "p^x (1 - p)^{1 - x}": (-cross_entropy(tensor(p), tensor(x))).exp(),
        },
        "architecture": gaussian
        | {
            r"q(z \mid x) =": law(
                lambda z: densities.log_normal(
                    z, tensor([mu]), tensor([2 * np.log(sigma)])
                )
            ),
        },
        "trick": gaussian
        | {
            r"\varepsilon": eta[0, 0],
            "z": stats.norm.ppf(stats.norm.cdf(eta[0, 0]), mu, sigma),
            r"\mathbb{E}[z^2]": stats.norm(mu, sigma).moment(2),
            r"2\mu": slope(lambda mu: stats.norm(mu, sigma).moment(2), mu),
        },
        "loss": gaussian
        | {
            "z": LINE,
            "x_d": bits,
            r"\ell_d": logits,
            r"\sum_d [x_d \ell_d - \log(1 + e^{\ell_d})]": densities.log_bernoulli(
                tensor(bits), tensor(logits)
            ),
            r"\ell": logits,
            "p": special.expit(logits),
            r"\log(1 + e^\ell)": F.softplus(tensor(logits)),
            r"\mu_j": mus,
            r"\sigma_j": np.exp(logvars / 2),
            r"\frac{1}{2} \sum_j (\mu_j^2 + \sigma_j^2 - 1 - \log \sigma_j^2)": (
                kl_divergence(q, Normal(0.0, 1.0)).sum()
            ),
            r"\log q - \log p": "p is another one above; see the next",
            r"\frac{1}{2}[z^2 - (z - \mu)^2 / \sigma^2 - \log \sigma^2]": (
                stats.norm.logpdf(LINE, mu, sigma) - stats.norm.logpdf(LINE)
            ),
            r"\frac{1}{2}(1^2 + 2^2)": lesson["kl_term"](
                tensor([1, -2]), tensor([0, 0])
            ),
        },
        "why-soft": {
            "x_n": seen,
            r"q(z \mid x_n)": clouds,
            "w_n": clouds,
            "p": p,
            r"\sum_n w_n [x_n \log p + (1 - x_n) \log(1 - p)]": -cross_entropy(
                tensor(np.full_like(seen, p)),
                tensor(seen),
                tensor(clouds),
                reduction="sum",
            ),
            r"\bar{x}(z)": np.average(seen, weights=clouds),
        },
        "manifold": {
            "i": np.arange(20),
            r"(i + \frac{1}{2}) / 20": special.ndtr(
                figures.normal_quantiles(20).double().numpy()
            ),
        },
        "exercises": gaussian
        | {
            r"\tau": tau,
            r"\mathcal{N}(0, \tau^2 I)": law(Normal(0.0, tau).log_prob),
            r"\tau = 1": "the prior of the lesson",
        },
        "exercise-beta-text": dict.fromkeys(
            (r"\beta = 1", r"\beta = 4", r"\beta = \frac{1}{2}"), TRIED
        ),
        "solution-beta-text": dict.fromkeys((r"\beta > 1", r"\beta < 1"), TRIED),
        "exercise-mass-text": {"a = 2": TRIED},
        "solution-mass-text": {"a = 2": TRIED},
    }
