"""What the formulas of lesson 01 are about."""

import numpy as np
from meanings import joint, law, tensor
from scipy import stats

from vae_teach import exact


class Matrix(np.ndarray):
    """A matrix whose power -1 is its inverse."""

    def __pow__(self, exponent):
        return np.linalg.matrix_power(np.asarray(self), int(exponent))


def meanings(at):
    decoder, turn = at("D", 4, 2), at("A", 2, 2).view(Matrix)
    encoder = np.linalg.pinv(decoder)
    images = at("images", 30, 4)
    images = images - images.mean(0)
    errors = images - images @ encoder.T @ decoder.T

    width, z, noise = at("W"), at("z"), at("sigma") ** 2
    line = exact.LinearGaussian(tensor([[width]]), tensor([at("b")]), float(noise))
    values = 1 + at("values", 3)
    spreads = np.sqrt([*values, *np.full(784 - 3, noise)])

    every = joint(at)
    other = at.density("g", 1, 7, 1)
    root, code = np.tril(at("root", 2, 2)), at("code", 2, 1)
    moved = {"m": at("m", 2, 1), "L": root, "c": code}
    moved["u"] = np.linalg.solve(root, code - moved["m"])
    return {
        "": every,
        "linear-text": {
            "E": encoder,
            "D": decoder,
            "C": np.cov(images.T, bias=True),
            r"\mathrm{tr}": np.trace,
            r"\mathrm{tr}(C) - 2\,\mathrm{tr}(E\,C\,D)"
            r"+ \mathrm{tr}(E\,C\,E^\top D^\top D).": np.square(errors).sum(1).mean(),
            r"\lVert x - D E x \rVert^2": "of one image, before the average",
        },
        "axes-text": {
            "A": turn,
            "D": decoder,
            "E": encoder,
            "I": np.eye(2),
        },
        "ppca-text": {
            "W": width,
            "z": z,
            "b": at("b"),
            "q": 3,
            r"\sigma": np.sqrt(noise),
            r"\lambda_j": values,
            r"z \sim": (0, 1),
            r"x \mid z \sim": (line.decode_logits(tensor([z])).item(), line.variance),
            r"x \sim": law(line.log_likelihood),
            r"-\frac{1}{2}\Big(\sum_{j \le q} \log \lambda_j"
            r"+ (784 - q) \log \sigma^2 + 784 \log 2\pi + 784\Big).": -stats.norm(
                scale=spreads
            )
            .entropy()
            .sum(),
            r"\sqrt{784\,\lambda_j}": np.sqrt(values)
            / np.linalg.norm(np.ones(784) / 784),
        },
        "standard-text": moved
        | {
            "S": np.cov(root @ [[1, -1, 1, -1], [1, 1, -1, -1]], bias=True),
            r"u \mapsto \mathrm{dec}(m + L u)": "what the decoder becomes",
        },
        "draws-text": {
            "g(z)": other,
            r"p(x \mid z)\,p(z) / g(z)": np.exp(
                np.log(every["p(x, z)"]) - np.log(other)
            ),
        },
        "walk-text": {
            "w": at("w") / 2,
            r"-\log(1 - w)": -np.log1p(-at("w") / 2),
            "w = 0.3": "an example of such a share",
        },
        "exercise-density-text": {"N - 1": "what the answer may divide by, too"},
        "exercise-moved-text": moved,
    }
