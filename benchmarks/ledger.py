"""Whose is the gap between log p(x) and the ELBO? Its two parts, for three seeds.

Run: uv run python benchmarks/ledger.py [--seeds 3] [--images 50] [--threads N]
Writes results/ledger.json, which lesson 06 reads.

The models are lesson 00's (784-400-2, 15 epochs) with other seeds; the images are taken
evenly from the test set. The best Gaussian is that of ``exact.best_gaussian``, in
float64. Where its grid is too coarse for a posterior, it is tried again on a finer one.
"""

from typing import Any

import torch
from results import read_options, write

from vae_teach import data, densities, exact, nets, train

EXTENT = 5.0
GRIDS = (200, 400, 800)  # of the search; the first that a posterior allows
EVEN = 61  # points of q along each axis, from -6 to 6 of its widths


def best(model: nets.VAE, image: torch.Tensor) -> float:
    """Return the ELBO of the best Gaussian with independent coordinates: (1, D) in."""
    for grid in GRIDS[:-1]:
        try:
            found = exact.best_gaussian(model, image, grid=grid, extent=EXTENT)
        except ValueError:  # too coarse
            continue
        return found.elbo.item()
    found = exact.best_gaussian(model, image, grid=GRIDS[-1], extent=EXTENT)
    return found.elbo.item()


@torch.no_grad()
def elbo(model: nets.VAE, image: torch.Tensor) -> float:
    """Return the ELBO of the encoder's q, by points in equal steps: (1, D) in."""
    mu, logvar = model.encode(image)  # (1, 2) each
    points = torch.linspace(-6, 6, EVEN, dtype=image.dtype)
    eps = torch.cartesian_prod(points, points)  # (S, 2)
    share = (-0.5 * eps.square().sum(-1)).softmax(0)  # (S,)
    logits = model.decode_logits(mu + torch.exp(0.5 * logvar) * eps)  # (S, D)
    kl = densities.kl_to_standard_normal(mu, logvar)
    return (share @ densities.log_bernoulli(image, logits) - kl).item()


def split(model: nets.VAE, x: torch.Tensor) -> dict[str, Any]:
    """Return the mean gap, the family's share of it, and both with standard errors."""
    log_p = exact.log_likelihood(model, x, grid=1200, extent=7.5)  # (B,)
    images = x.split(1)
    own = torch.tensor([elbo(model, image) for image in images], dtype=x.dtype)
    top = torch.tensor([best(model, image) for image in images], dtype=x.dtype)
    gap, missed = log_p - own, log_p - top  # (B,) nats each
    share = missed.mean() / gap.mean()
    error = train.standard_error(missed - share * gap) / gap.mean().item()
    return {
        "gap": round(gap.mean().item(), 4),
        "gap_error": round(train.standard_error(gap), 4),
        "gap_median": round(gap.median().item(), 4),
        "approximation": round(missed.mean().item(), 4),
        "approximation_error": round(train.standard_error(missed), 4),
        "share": round(share.item(), 5),
        "share_error": round(error, 5),
        "least": round(min(missed.min().item(), (gap - missed).min().item()), 5),
    }


def main() -> None:
    """Split the gap for each seed, and write what was measured."""
    options = read_options(__doc__, seeds=3, images=50)
    train_images, test = data.load("mnist", "train"), data.load("mnist", "test")
    order = torch.linspace(0, len(test) - 1, options.images).long()
    x = test.pixels[order].double()  # (images, 784)
    rows = []
    for seed in range(options.seeds):
        model, _ = train.trained(train_images, device="cpu", seed=seed)
        rows.append({"seed": seed} | split(model.cpu().double(), x))
        print(rows[-1])
    write("ledger", {"images": len(x), "epochs": 15, "rows": rows}, options.out)


if __name__ == "__main__":
    main()
