"""Which precision should be the default of ``train.fit``? Seconds and test ELBO.

Run: uv run python benchmarks/precision.py [--seeds 6] [--epochs 3] [--device cuda]
     [--threads N] [--out FOLDER]
Writes results/precision_cpu.json, or results/precision_cuda.json.

For each seed one model a precision, with the same initial weights and the same noise,
trains on MNIST in turns with the others. So ELBOs are compared seed by seed, and what
is left between them is the precision alone. The first epoch is not timed.
"""

from typing import Any

import contest
import torch
from results import read_options, write
from training import BATCH_SIZE, Fit, Seconds, load, over_seeds

from vae_teach import train
from vae_teach.train.loop import PRECISIONS

AGAINST = "highest"
SHAPE = (128, 784, 400)  # the largest product of a step: batch, pixels, hidden units


def product_error(precision: str, device: torch.device) -> float:
    """Return how far a product in float32 is from float64's, relative to its norm."""
    rows, inner, columns = SHAPE
    source = torch.Generator().manual_seed(0)
    a = torch.randn(rows, inner, generator=source)
    b = torch.randn(inner, columns, generator=source)
    exact = a.double() @ b.double()
    with train.products_at(precision):
        product = (a.to(device) @ b.to(device)).cpu()
    return ((product - exact).norm() / exact.norm()).item()


def summary(
    seconds: Seconds, elbos: dict[str, list[float]], errors: dict[str, float]
) -> list[dict[str, Any]]:
    """Return a row a precision: its speed, its ELBO, and the differences seed by seed.

    ``elbo_difference`` is the mean over seeds of its test ELBO minus that of the model
    trained at ``"highest"`` from the same seed, with the standard error of that mean.
    """
    rows = []
    for row in contest.compare(seconds, against=AGAINST):
        own = torch.tensor(elbos[row["name"]], dtype=torch.float64)
        apart = own - torch.tensor(elbos[AGAINST], dtype=torch.float64)
        row["product_error"] = errors[row["name"]]
        row["test_elbo"] = round(own.mean().item(), 3)
        row["elbo_difference"] = round(apart.mean().item(), 4)
        row["standard_error"] = round(train.standard_error(apart), 4)
        row["elbos"] = [round(elbo, 4) for elbo in own.tolist()]
        row["elbo_differences"] = [round(far, 4) for far in apart.tolist()]
        rows.append(row)
    return rows


def main() -> None:
    """Train at each precision, once a seed, in turns; write what was measured."""
    options = read_options(__doc__, device=True, seeds=6, epochs=3)
    device, images, test = load(options.device)

    def make(seed: int) -> dict[str, Fit]:
        return {p: Fit(seed, device, images, precision=p) for p in PRECISIONS}

    seconds, elbos = over_seeds(
        make, seeds=options.seeds, rounds=options.epochs - 1, test=test
    )
    errors = {p: product_error(p, device) for p in PRECISIONS}
    rows = summary(seconds, elbos, errors)
    for row in rows:
        print(row)
    content = {"images": len(images), "batch_size": BATCH_SIZE, "product": SHAPE}
    content |= {"epochs": options.epochs, "seeds": options.seeds, "rows": rows}
    write(f"precision_{device.type}", content, options.out)


if __name__ == "__main__":
    main()
