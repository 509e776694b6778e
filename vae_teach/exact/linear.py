"""Probabilistic PCA: log p(x), the posterior and the best q in closed form.

Where everything is Gaussian and linear, no sum is needed at all.
"""

import math

import torch
from torch import Tensor, nn

from vae_teach.densities import LOG_TWO_PI
from vae_teach.guards import check_count, check_finite, check_floating, check_width
from vae_teach.words import say


class LinearGaussian(nn.Module):
    """Probabilistic PCA: z ~ N(0, I), x|z ~ N(W z + b, s^2 I); all of it is exact.

    The same interface as a VAE, so whatever estimates log p(x) of one can be held
    against the closed form of the other.

    Args:
        weight: (D, L), W.
        bias: (D,), b.
        variance: s^2, above zero.

    Raises:
        ValueError: shapes that do not fit, or a variance that is not above zero.

    Source: Tipping & Bishop 1999.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, variance: float) -> None:
        super().__init__()
        check_floating("weight", weight)
        _check_matrix("weight", weight)
        check_width("bias", bias, len(weight))
        if not (math.isfinite(variance) and variance > 0):
            raise ValueError(say("not-above-zero", name="variance", got=variance))
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.variance = variance

    @classmethod
    def fit(cls, x: Tensor, latent_dim: int) -> "LinearGaussian":
        """Return the model of the highest likelihood of x (N, D), by its eigenvalues.

        s^2 is the mean of the eigenvalues left out, and W = U (E - s^2 I)^(1/2). Raises
        TypeError unless x is floating, ValueError unless it is a matrix of finite
        numbers that vary along more than ``latent_dim`` directions.
        """
        latent_dim = check_count("latent_dim", latent_dim)
        check_finite("x", x)
        _check_matrix("x", x)
        bias = x.mean(0)
        values, vectors = torch.linalg.eigh(torch.cov(x.T, correction=0))
        smallest = values[-1] * len(values) * torch.finfo(x.dtype).eps
        rank = int((values > smallest).sum())
        variance = values[:-latent_dim].mean().item()
        if latent_dim >= rank:
            counts = {"latents": latent_dim, "shape": tuple(x.shape), "rank": rank}
            raise ValueError(say("linear-rank", got=max(variance, 0.0), **counts))
        scale = (values[-latent_dim:] - variance).clamp_min(0).sqrt()
        return cls(vectors[:, -latent_dim:] * scale, bias, variance)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the exact p(z|x) = N(mean, covariance): (B, L) and (L, L)."""
        precision = self.weight.T @ self.weight / self.variance
        precision = precision + torch.eye(len(precision)).to(precision)
        covariance = torch.linalg.inv(precision)  # (L, L), the same for every x
        mean = (x - self.bias) @ self.weight @ covariance / self.variance
        return mean, covariance

    def log_likelihood(self, x: Tensor) -> Tensor:
        """Return log N(x; b, W W' + s^2 I), (B, D) to (B,) nats."""
        covariance = self.weight @ self.weight.T
        covariance = covariance + self.variance * torch.eye(len(self.bias)).to(x)
        root = torch.linalg.cholesky(covariance)
        white = torch.linalg.solve_triangular(root, (x - self.bias).T, upper=False)
        volume = root.diagonal().log().sum()
        return -0.5 * (white.square().sum(0) + len(root) * LOG_TWO_PI) - volume

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the best q with independent coordinates: its mu and logvar, (B, L).

        It has the posterior's mean and the inverse of its precisions; where the columns
        of W are orthogonal it is the posterior.
        """
        mean, covariance = self.posterior(x)
        precisions = torch.linalg.inv(covariance).diagonal()
        return mean, -precisions.log().expand_as(mean)

    def reparameterize(self, mu: Tensor, logvar: Tensor) -> Tensor:
        """Draw z ~ N(mu, exp(logvar)), (B, L)."""
        return mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)

    def decode_logits(self, z: Tensor) -> Tensor:
        """Return the mean of x at z, (..., L) to (..., D): these are no logits."""
        return z @ self.weight.T + self.bias

    def log_conditional(self, x: Tensor, z: Tensor) -> Tensor:
        """Return log N(x; W z + b, s^2 I), (B, D) and (..., B, L) to (..., B)."""
        squared = (x - self.decode_logits(z)).square().sum(-1) / self.variance
        return -0.5 * (
            squared + len(self.bias) * (LOG_TWO_PI + math.log(self.variance))
        )


def _check_matrix(name: str, value: Tensor) -> None:
    if value.dim() != 2:
        raise ValueError(say("not-a-matrix", name=name, got=tuple(value.shape)))
