"""The test ELBO that the tour's training reaches, for several seeds.

Run: uv run python benchmarks/tour_elbo.py [mnist|strokes]
Writes results/tour_elbo_NAME.json.
"""

import sys

import torch
from results import write

from vae_teach import data, nets, train

SEEDS = (0, 1, 2)


def main() -> None:
    """Train once a seed, as lesson 00 does, and measure on the test images."""
    name = sys.argv[1] if len(sys.argv) > 1 else "mnist"
    images, test = data.load(name, "train"), data.load(name, "test")
    rows = []
    for seed in SEEDS:
        torch.manual_seed(seed)
        model = nets.VAE()
        history = train.fit(model, images)
        torch.manual_seed(0)
        elbo = train.evaluate(model, test).elbo
        rows.append(
            {
                "seed": seed,
                "test_elbo": round(elbo.mean().item(), 3),
                "standard_error": round(train.standard_error(elbo), 3),
                "seconds": round(sum(history.column("seconds")), 1),
            }
        )
        print(rows[-1])
    write(f"tour_elbo_{name}", rows)


if __name__ == "__main__":
    main()
