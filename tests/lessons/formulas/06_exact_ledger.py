"""What the formulas of lesson 06 are about."""

import math

import numpy as np
import torch
from meanings import definitions, joint, tensor
from scipy import stats
from torch.distributions import MultivariateNormal, kl_divergence

SOLUTIONS = ("solution_size", "solution_bound", "solution_price")


def meanings(at):
    lesson = definitions("06_exact_ledger", *SOLUTIONS)
    every = joint(at)
    q, posterior = every["q"], every[r"p(z \mid x)"]
    divergence = stats.entropy(q, posterior, axis=-2)[:, None]
    other = at.density("other", 3, 7, 1)  # a better q, by its name
    exact = np.log(every["p(x)"])

    lit = (at("lit", 3, 1, 5) > 0.8).astype(float)
    logits = at("logits", 1, 7, 5) - 0.8
    chance = stats.bernoulli.pmf(lit, 1 / (1 + np.exp(-logits))).prod(-1, keepdims=True)

    root = np.tril(at("root", 2, 2))
    mean = at("mean", 2)
    gaussian = MultivariateNormal(tensor(mean), scale_tril=tensor(root))
    standard = MultivariateNormal(torch.zeros(2).double(), torch.eye(2).double())

    rho = at("rho") / 2
    leaning = tensor([[1.0, rho], [rho, 1.0]])
    weights = at("weights", 9, 1, 1)
    log_weights = tensor(np.log(weights)).reshape(9, 1)
    own_error = weights.std(0) / weights.mean(0) / 3  # of 9 draws

    b = at("b") / 2
    path = every["p(z)"] * every[r"p(x \mid z)"] ** b
    inverse = np.exp(-exact)
    reference = "from the table of the references"
    return {
        "": every | {r"\rho": rho},
        "exact-text": {
            "x_d": lit,
            r"\ell_d(z)": logits,
            r"p(x \mid z)": chance,
            "-6": "an end of the chart",
            "6": "an end of the chart",
        },
        "ledger-text": {
            r"\mathrm{KL}(q(z \mid x) \,\|\, p(z \mid x))": divergence,
            r"\log q(z \mid x) - \log p(z \mid x)": np.log(q / posterior),
            "R": root,
            r"R R^\top": gaussian.covariance_matrix.numpy(),
            r"z = \mu + R\,\varepsilon": "how z is made, with a matrix and a vector",
            r"\mu": mean.reshape(1, 1, 2),
            "R_{ij}": root.reshape(4, 1, 1),
            "R_{jj}": root.diagonal().reshape(1, 1, 2),
            "L": 2,
            r"\mathrm{KL}(q \,\|\, p(z))": kl_divergence(gaussian, standard).item(),
        },
        "split-text": {
            "q^*": "a name: the best q of the family",
            r"\mathrm{ELBO}(q)": exact - divergence,
            r"\mathrm{ELBO}(q^*)": exact
            - stats.entropy(other, posterior, axis=-2)[:, None],
            r"\mathrm{KL}(q(z \mid x) \,\|\, p(z \mid x))": divergence,
        },
        "lean-text": {
            r"-\tfrac{1}{2} \log(1 - \rho^2)": lesson["solution_price"](leaning).item(),
        },
        "lean-noticed": {"L": 4, "L(L-1)/2": len(np.tril_indices(4, -1)[0])},
        "weights-text": {
            "k": 9,
            "w_i": weights,
            "p(x, z_i)": 2 * weights,
            r"q(z_i \mid x)": 2.0,
            r"z_1, \dots, z_k": "draws",
            r"\log \frac{1}{k} \sum_{i=1}^{k} w_i, \qquad w_i ="
            r"\frac{p(x, z_i)}{q(z_i \mid x)},": np.log(weights.mean()),
        },
        "size-text": {
            "k": 9,
            "w_i": weights,
            r"\mathrm{ESS}": lesson["solution_size"](log_weights).item(),
            r"1 / \mathrm{ESS} - 1 / k": own_error.item() ** 2,
        },
        "trained-noticed": {
            "k = 5": "a number of draws",
            "k = 50": "a number of draws",
        },
        "theta-noticed": {"a = 1": "the model itself"},
        "size-noticed": {"t": 2.0, "e^{-t}": math.exp(-2.0)},
        "path-text": {
            "b": b,
            r"\pi_b(z)": path / path.sum(-2, keepdims=True),
            "Z_b": path.sum(-2, keepdims=True),
            "Z_0": every["p(z)"].sum(),
            "Z_1": every["p(x, z)"].sum(-2, keepdims=True),
            "b = 0": "an end of the path",
            "b = 1": "an end of the path",
            r"\log p(x) = \int_0^1 \mathbb{E}_{\pi_b}[\log p(x \mid z)]\, db.": (
                "the cell after it computes both sides"
            ),
        },
        "sandwich-text": {"1 / p(x)": inverse},
        "wide-noticed": {"-86.35": reference, "-87.78": reference},
        "exercises": {
            "e^{-900}": "a small number",
            r"\log p(x \mid z_i)": "one of the arguments",
        },
        "exercise-size-text": {"e^{-900}": "a small number"},
        "exercise-sandwich-text": {"1 / p(x)": inverse},
        "solution-sandwich-text": {"w": weights, "1 / w": np.reciprocal(weights)},
        "exercise-lean-text": {
            r"\mathrm{KL}(q \,\|\, p)": stats.entropy(q, every["p"], axis=-2)[:, None],
        },
    }
