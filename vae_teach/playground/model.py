"""The playground's model in PyTorch, for weights that were trained in the page."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ENCODER_WIDTH = 32
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": F.relu,
}


class PlaneVAE(nn.Module):
    """A VAE of points in the plane with p(x|z) = N(mean(z), sigma^2 I).

    Args:
        latents: L, 1 or 2.
        width: hidden units of the decoder; the encoder has 32.
        activation: what follows both hidden layers, ``"tanh"`` or ``"relu"``.
        sigma: the standard deviation of p(x|z).
    """

    def __init__(
        self, latents: int, width: int, activation: str, sigma: float = 1.0
    ) -> None:
        super().__init__()
        self.latent_dim, self.activation = latents, ACTIVATIONS[activation]
        self.encoder_hidden = nn.Linear(2, ENCODER_WIDTH)
        self.encoder_heads = nn.Linear(ENCODER_WIDTH, 2 * latents)
        self.decoder_hidden = nn.Linear(latents, width)
        self.decoder_mean = nn.Linear(width, 2)
        self.log_sigma = nn.Parameter(torch.tensor(math.log(sigma)))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of q(z|x), (B, L) each, of points (B, 2)."""
        h = self.activation(self.encoder_hidden(x))  # (B, 32)
        mu, logvar = self.encoder_heads(h).chunk(2, -1)
        return mu, logvar

    def decode(self, z: Tensor) -> Tensor:
        """Return the mean of p(x|z), (..., 2), of codes (..., L)."""
        return self.decoder_mean(self.activation(self.decoder_hidden(z)))

    def log_conditional(self, x: Tensor, z: Tensor) -> Tensor:
        """Return log p(x|z) in nats, of points (..., 2) and codes (..., L)."""
        errors = ((x - self.decode(z)) / self.log_sigma.exp()).square().sum(-1)
        return -0.5 * errors - math.log(2 * math.pi) - 2 * self.log_sigma

    def take(self, weights: Sequence[float]) -> "PlaneVAE":
        """Take weights in the page's order, in its float64; return the model."""
        numbers = torch.tensor(weights, dtype=torch.float64)
        self.double()
        with torch.no_grad():
            for parameter in self.ordered():
                values, numbers = numbers.tensor_split([parameter.numel()])
                parameter.copy_(values.reshape(parameter.shape))
        return self

    def ordered(self) -> list[Tensor]:
        """Return the parameters in the page's order: layer by layer, then log sigma."""
        layers = [self.encoder_hidden, self.encoder_heads]
        layers += [self.decoder_hidden, self.decoder_mean]
        return [p for a in layers for p in (a.weight, a.bias)] + [self.log_sigma]
