"""log p(x) without approximation: quadrature for two latents, closed forms for lines.

All that the course says about the ELBO is held against this. ``grid`` sums over the
plane of two latents, ``gaussian`` finds the best Gaussian q there, ``linear`` has the
model whose log p(x) is a formula.
"""

from vae_teach.exact.gaussian import BestGaussian, best_gaussian
from vae_teach.exact.grid import (
    axis,
    log_likelihood,
    log_likelihood_with_error,
    posterior,
    prior_mass,
)
from vae_teach.exact.linear import LinearGaussian

__all__ = [
    "BestGaussian",
    "LinearGaussian",
    "axis",
    "best_gaussian",
    "log_likelihood",
    "log_likelihood_with_error",
    "posterior",
    "prior_mass",
]
