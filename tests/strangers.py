"""Variational autoencoders as other people write them, none for this course."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Normal


class Tutorial(nn.Module):
    """The class of most tutorials: probabilities, and mu in evaluation mode."""

    def __init__(self, pixels=784, hidden=400, latents=2):
        super().__init__()
        self.fc1 = nn.Linear(pixels, hidden)
        self.fc21 = nn.Linear(hidden, latents)
        self.fc22 = nn.Linear(hidden, latents)
        self.fc3 = nn.Linear(latents, hidden)
        self.fc4 = nn.Linear(hidden, pixels)

    def encode(self, x):
        h1 = F.relu(self.fc1(x))
        return self.fc21(h1), self.fc22(h1)

    def reparameterize(self, mu, logvar):
        if self.training:
            std = torch.exp(0.5 * logvar)
            return mu + torch.randn_like(std) * std
        return mu

    def decode(self, z):
        return torch.sigmoid(self.fc4(F.relu(self.fc3(z))))

    def forward(self, x):
        mu, logvar = self.encode(x)
        return self.decode(self.reparameterize(mu, logvar)), mu, logvar


class Sampling(Tutorial):
    """The same, and it draws in evaluation mode, too."""

    def reparameterize(self, mu, logvar):
        return mu + torch.randn_like(mu) * torch.exp(logvar / 2)


class Logits(Sampling):
    """Its decoder returns logits, under the name of decode."""

    def decode(self, z):
        return self.fc4(F.relu(self.fc3(z)))


class Pictures(Sampling):
    """Takes and returns images (B, 1, H, W)."""

    def encode(self, x):
        assert x.dim() == 4, x.shape
        return super().encode(x.flatten(1))

    def decode(self, z):
        side = int(self.fc4.out_features**0.5)
        return super().decode(z).reshape(-1, 1, side, side)


class Convolutions(nn.Module):
    """Convolutions, 16 x 16, encoder and decoder as modules, no reparameterize."""

    def __init__(self, latents=2):
        super().__init__()
        down = (
            nn.Conv2d(1, 4, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(4, 8, 3, 2, 1),
            nn.ReLU(),
        )
        self.body = nn.Sequential(*down, nn.Flatten(), nn.Linear(128, 2 * latents))
        up = (nn.Linear(latents, 128), nn.ReLU(), nn.Unflatten(1, (8, 4, 4)))
        up += (nn.ConvTranspose2d(8, 4, 4, 2, 1), nn.ReLU())
        self.decoder = nn.Sequential(
            *up, nn.ConvTranspose2d(4, 1, 4, 2, 1), nn.Sigmoid()
        )

    def encoder(self, x):
        return self.body(x).chunk(2, 1)


class Layers(Sampling):
    """Its decoder is the list of layers that it is given, under its own name."""

    def __init__(self, *layers, pixels=25, latents=2):
        super().__init__(pixels, 12, latents)
        del self.fc3, self.fc4
        self.generator = nn.Sequential(*layers)

    def decode(self, z):
        return self.generator(z)


class Deviation(Sampling):
    """The encoder's second tensor is a standard deviation."""

    def encode(self, x):
        mu, logvar = super().encode(x)
        return mu, torch.exp(logvar / 2)

    def reparameterize(self, mu, sigma):
        return mu + sigma * torch.randn_like(sigma)


class LogDeviation(Deviation):
    """Its second tensor is the logarithm of a standard deviation."""

    def encode(self, x):
        mu, sigma = super().encode(x)
        return mu, sigma.log()

    def reparameterize(self, mu, log_sigma):
        return mu + log_sigma.exp() * torch.randn_like(mu)


class Variance(Deviation):
    """Its second tensor is a variance."""

    def encode(self, x):
        mu, sigma = super().encode(x)
        return mu, sigma**2

    def reparameterize(self, mu, variance):
        return mu + variance.sqrt() * torch.randn_like(mu)


class Softplus(Deviation):
    """Its second tensor is something that the course does not know."""

    def reparameterize(self, mu, raw):
        return mu + F.softplus(raw) * torch.randn_like(mu)


class Distribution(Tutorial):
    """Its encoder returns a distribution of PyTorch."""

    reparameterize = None

    def encode(self, x):
        mu, logvar = super().encode(x)
        return Normal(mu, torch.exp(logvar / 2))
