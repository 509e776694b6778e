"""The networks: an autoencoder and a variational autoencoder, one hidden layer a side.

The attributes are named after what they compute, so that a lesson can write the same
class by hand and load the same weights.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vae_teach.guards import check_count, check_width

LOGVAR_LIMIT = 10.0
"""Log-variances stay within +-10: standard deviations from 0.0067 to 148.

No posterior under the prior N(0, I) needs more, and exp(10) still fits in the smallest
float format in use (float16), so one strange image cannot turn a training run into NaN.
"""


def _check_sizes(**sizes: int) -> list[int]:
    return [check_count(name, size) for name, size in sizes.items()]


class AE(nn.Module):
    """Autoencoder: each image becomes one point z, with no distribution around it.

    Args:
        input_dim: pixels per image, D.
        hidden_dim: units of each hidden layer.
        latent_dim: latent dimensions, L.

    Raises:
        ValueError: a size is not a positive integer.

    Lesson 01 is about it.
    """

    def __init__(
        self, input_dim: int = 784, hidden_dim: int = 400, latent_dim: int = 2
    ) -> None:
        super().__init__()
        input_dim, hidden_dim, latent_dim = _check_sizes(
            input_dim=input_dim, hidden_dim=hidden_dim, latent_dim=latent_dim
        )
        self.input_dim, self.latent_dim = input_dim, latent_dim
        self.encoder_hidden = nn.Linear(input_dim, hidden_dim)
        self.encoder_code = nn.Linear(hidden_dim, latent_dim)
        self.decoder_hidden = nn.Linear(latent_dim, hidden_dim)
        self.decoder_logits = nn.Linear(hidden_dim, input_dim)

    def encode(self, x: Tensor) -> Tensor:
        """Map images x (B, D) to codes z (B, L)."""
        check_width("x", x, self.input_dim)
        h = F.relu(self.encoder_hidden(x))  # (B, H)
        return self.encoder_code(h)  # (B, L)

    def decode_logits(self, z: Tensor) -> Tensor:
        """Map codes z (B, L) to the log-odds of each pixel (B, D)."""
        check_width("z", z, self.latent_dim)
        h = F.relu(self.decoder_hidden(z))  # (B, H)
        return self.decoder_logits(h)  # (B, D)

    def decode(self, z: Tensor) -> Tensor:
        """Map codes z (B, L) to the probability of each pixel (B, D), in [0, 1]."""
        return torch.sigmoid(self.decode_logits(z))  # (B, D)

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruct x (B, D): the logits (B, D) at its code."""
        return self.decode_logits(self.encode(x))


class VAE(nn.Module):
    """Variational autoencoder with Gaussian q(z|x) and Bernoulli p(x|z).

    The encoder gives q(z|x) = N(mu, diag exp(logvar)), the decoder the log-odds of each
    pixel (Kingma & Welling 2013).

    Args:
        input_dim: pixels per image, D.
        hidden_dim: units of each hidden layer, H.
        latent_dim: latent dimensions, L.

    Raises:
        ValueError: a size is not a positive integer.
    """

    def __init__(
        self, input_dim: int = 784, hidden_dim: int = 400, latent_dim: int = 2
    ) -> None:
        super().__init__()
        input_dim, hidden_dim, latent_dim = _check_sizes(
            input_dim=input_dim, hidden_dim=hidden_dim, latent_dim=latent_dim
        )
        self.input_dim, self.latent_dim = input_dim, latent_dim
        self.encoder_hidden = nn.Linear(input_dim, hidden_dim)
        self.encoder_mu = nn.Linear(hidden_dim, latent_dim)
        self.encoder_logvar = nn.Linear(hidden_dim, latent_dim)
        self.decoder_hidden = nn.Linear(latent_dim, hidden_dim)
        self.decoder_logits = nn.Linear(hidden_dim, input_dim)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map images x (B, D) to q(z|x): its mean and log-variance, each (B, L).

        The log-variance is kept within +-LOGVAR_LIMIT. Raises TypeError if x is not
        floating, ValueError if it is not (B, D).
        """
        check_width("x", x, self.input_dim)
        h = F.relu(self.encoder_hidden(x))  # (B, H)
        mu = self.encoder_mu(h)  # (B, L)
        logvar = self.encoder_logvar(h)  # (B, L)
        return mu, logvar.clamp(-LOGVAR_LIMIT, LOGVAR_LIMIT)

    def reparameterize(self, mu: Tensor, logvar: Tensor) -> Tensor:
        """Draw z ~ N(mu, exp(logvar)) as mu + std * eps: (B, L) to (B, L).

        It draws in training *and* in evaluation: an ELBO at z = mu is not an ELBO.
        """
        eps = torch.randn_like(mu)  # (B, L), the randomness, free of parameters
        return mu + torch.exp(0.5 * logvar) * eps  # (B, L)

    def decode_logits(self, z: Tensor) -> Tensor:
        """Map latents z (B, L) to the log-odds of each pixel (B, D).

        Raises TypeError if z is not floating, ValueError if it is not (B, L).
        """
        check_width("z", z, self.latent_dim)
        h = F.relu(self.decoder_hidden(z))  # (B, H)
        return self.decoder_logits(h)  # (B, D)

    def decode(self, z: Tensor) -> Tensor:
        """Map latents z (B, L) to the mean of each pixel (B, D), in [0, 1]."""
        return torch.sigmoid(self.decode_logits(z))  # (B, D)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Encode, draw once, decode: x (B, D) to logits (B, D), mu, logvar (B, L)."""
        mu, logvar = self.encode(x)
        z = self.reparameterize(mu, logvar)  # (B, L)
        return self.decode_logits(z), mu, logvar
