"""Small models whose log p(x) is known, for the tests of ``exact``."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from scipy import special, stats
from torch.distributions import Normal

from vae_teach import exact
from vae_teach.nets import VAE

PRIOR = Normal(0.0, 1.0)


def random_vae(seed=3, pixels=6, scale=2.0, latents=2):
    torch.manual_seed(seed)
    model = VAE(input_dim=pixels, hidden_dim=8, latent_dim=latents).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)  # so that the latent matters
    return model


def random_bits(count, pixels=6, seed=0):
    stream = torch.Generator().manual_seed(seed)
    return (torch.rand(count, pixels, generator=stream) < 0.5).double()


def rulers(sharpness, thresholds, fold=False):
    """A VAE whose pixels are lit as z1, or |z1|, and z2 pass a row of thresholds."""
    count = len(thresholds)
    model = VAE(input_dim=2 * count, hidden_dim=4, latent_dim=2).double()
    back = 1.0 if fold else -1.0
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.decoder_hidden.weight.copy_(
            torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        )  # the rectified parts of z1 and of z2
        model.decoder_logits.weight[:count, :2] = torch.tensor([1.0, back])
        model.decoder_logits.weight[count:, 2:] = torch.tensor([1.0, -1.0])
        model.decoder_logits.weight.mul_(sharpness)
        model.decoder_logits.bias.copy_(-sharpness * thresholds.repeat(2))
    return model


def lit(thresholds, places):
    """The images that thresholds show for places (B, 2)."""
    places = torch.as_tensor(places, dtype=torch.float64)
    return (thresholds < places[..., None]).double().flatten(1)


def two_modes():
    thresholds = torch.linspace(0.1, 4, 12, dtype=torch.float64)
    return rulers(4.0, thresholds, fold=True), lit(thresholds, [[2.5, 1.0], [3, 0.5]])


def line(pixels=5, latents=2, seed=0, variance=0.5, scale=1.0):
    torch.manual_seed(seed)
    weight = scale * torch.randn(pixels, latents, dtype=torch.float64)
    bias = torch.randn(pixels, dtype=torch.float64)
    return exact.LinearGaussian(weight, bias, variance)


def points_of(model, count, seed=1):
    """Draws from a LinearGaussian, in NumPy."""
    rng = np.random.default_rng(seed)
    weight, bias = model.weight.numpy(), model.bias.numpy()
    z = rng.standard_normal((count, weight.shape[1]))
    noise = rng.standard_normal((count, len(bias)))
    return torch.from_numpy(z @ weight.T + bias + math.sqrt(model.variance) * noise)


def joint_on(model, x, z):
    """Return log p(x, z) for images (B, D) at points (G, 2), by PyTorch: (B, G)."""
    with torch.no_grad():
        logits = model.decode_logits(z)
        likelihood = x @ logits.T - F.softplus(logits).sum(1)
    return likelihood + PRIOR.log_prob(z).sum(1)


def density(model, image):
    """Return p(x|z) p(z) as a function of z1 and z2, in NumPy from the weights."""
    w1, b1 = (p.detach().numpy() for p in model.decoder_hidden.parameters())
    w2, b2 = (p.detach().numpy() for p in model.decoder_logits.parameters())

    def joint(z2, z1):
        logits = w2 @ np.maximum(w1 @ (z1, z2) + b1, 0) + b2
        likelihood = special.expit(np.where(image > 0, logits, -logits)).prod()
        return likelihood * math.exp(-(z1 * z1 + z2 * z2) / 2) / (2 * math.pi)

    return joint


def condition(model, image):
    """Condition the joint Gaussian of (z, x) on x by its blocks, in NumPy."""
    weight, bias = model.weight.numpy(), model.bias.numpy()
    latents = weight.shape[1]
    every = np.vstack([np.eye(latents), weight])
    joint = every @ every.T
    joint[latents:, latents:] += model.variance * np.eye(len(bias))
    gain = joint[:latents, latents:] @ np.linalg.inv(joint[latents:, latents:])
    covariance = joint[:latents, :latents] - gain @ joint[latents:, :latents]
    return gain @ (image - bias), covariance


def evidence(model, image):
    weight = model.weight.numpy()
    covariance = weight @ weight.T + model.variance * np.eye(len(weight))
    return stats.multivariate_normal.logpdf(image, model.bias.numpy(), covariance)
