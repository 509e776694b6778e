"""What lesson 01 finds, for three seeds: its own cells, run once for each.

Run: uv run python benchmarks/autoencoders.py [--seeds 3] [--threads N] [--out FOLDER]
Writes results/autoencoders.json.

The lesson trains the models of seed 0 and shows what they give; training the others
takes too long there. So this script takes the lesson's cells out of it and runs them
with another ``SEED``, without their assertions: the lesson asserts on all seeds when
it reads the file. Two things are added that are too dear for the lesson: the second
grid for all rows of the table, and the contest on 1,000 training images.

A seed is ``[mean, standard error over images]``, or ``[number]``; ``over_images`` has
the same after the seeds were averaged image by image, and ``spread`` over seeds.
"""

import ast
import re
from pathlib import Path
from typing import Any

import jupytext
import torch
from results import read_options, write

from vae_teach import data, train

LESSON = Path(__file__).parents[1] / "notebooks" / "en" / "01_autoencoders.py"
KEYS = (
    *("setup", "moments", "models", "results-read", "holes", "strawman", "mixture"),
    *("standardized", "contest", "seeds", "grids", "draws", "ledger", "noise"),
    *("rubbish", "walk"),
)
ON_TRAINING = ("vae-gaussian", "ae-gaussian")

Names = dict[str, Any]


def sources() -> dict[str, str]:
    """Return the lesson's cells, by key."""
    return {c.metadata["key"]: c.source for c in jupytext.read(LESSON).cells}


def with_seed(source: str, seed: int) -> str:
    """Return a cell with another seed in the line that sets it."""
    return re.sub(r"^SEED = \d+", f"SEED = {seed}", source, flags=re.MULTILINE)


def run_lesson(seed: int) -> Names:
    """Run the cells for a seed, without their assertions; return what they define."""
    cells = sources()
    names: Names = {"__name__": "lesson"}
    for key in KEYS:
        tree = ast.parse(with_seed(cells[key], seed))
        exec(compile(tree, key, "exec", optimize=1), names)  # 1: no assertions
        if key == "results-read":
            names["measured"] = None  # an older file has no part in this
    return names


def add_dear(names: Names) -> None:
    """Add the second grid for the other rows, and the contest on training images."""
    for name in names["contestants"]:
        if f"grid-{name}" not in names["found"]:
            names["second_grid"](name)
    pixels = names["train_images"].pixels[::60]  # (1000, 784), grey
    torch.manual_seed(0)
    bits = data.draw_bits(pixels)
    one, other = (
        names["value"](*names["contestants"][name], images=bits)[0]
        for name in reversed(ON_TRAINING)
    )
    names["note"]("train-ae-gaussian-minus-vae-gaussian", one - other)


def over_seeds(tables: list[dict[str, torch.Tensor]], pairs: Any) -> list[Names]:
    """Return a row a pair of the contest: seeds averaged image by image."""
    rows = []
    for one, other in pairs:
        apart = torch.stack([table[one] - table[other] for table in tables])  # (S, B)
        rows.append(
            {
                "name": one,
                "against": other,
                "mean": round(apart.mean().item(), 4),
                "over_images": round(train.standard_error(apart.mean(0)), 4),
                "spread": round(apart.mean(1).std().item(), 4),
            }
        )
    return rows


def main() -> None:
    """Run the lesson's cells once a seed, and write what they found."""
    options = read_options(__doc__, seeds=3)
    found: dict[str, list[list[float]]] = {}
    tables = []
    for seed in range(options.seeds):
        names = run_lesson(seed)
        if not names["on_mnist"]:
            raise SystemExit("MNIST is needed")
        add_dear(names)
        tables.append(names["table"])
        for key, numbers in names["found"].items():
            found.setdefault(key, []).append([round(n, 5) for n in numbers])
        print(f"seed {seed}: {len(names['found'])} numbers", flush=True)
    content = {"images": len(names["x"]), "seeds": options.seeds, "found": found}
    content["over_seeds"] = over_seeds(tables, names["PAIRS"])
    write("autoencoders", content, options.out)


if __name__ == "__main__":
    main()
