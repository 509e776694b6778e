"""How an epoch grows with images, latents, batch size, threads and processes.

Run: uv run python benchmarks/growth.py [--rounds 5] [--seeds 3] [--device cuda]
     [--threads N]
Writes results/growth_cpu.json, or results/growth_cuda.json.

All kinds in the same turns, one epoch each of ``train.fit`` with a fresh model. Several
processes are started by torchrun with one thread each, and their own clock counts.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import contest
import torch
from results import read_options, write
from safetensors import safe_open

from vae_teach import data, nets, train
from vae_teach.guards import find_device

BASE = {"images": 60_000, "latents": 2, "batch": 128}
KINDS = {
    "images": (7_500, 15_000, 30_000),
    "latents": (10, 50),
    "batch": (32, 512, 2048),
}
THREADS = (1, 2)
PROCESSES = (1, 2)
EPOCHS = 3  # of the runs of several processes whose ELBO is compared


def epoch_of(
    images: data.Images, device: torch.device, changed: dict[str, int]
) -> Callable[[], float]:
    """Return a contestant: one epoch with one thing changed."""
    how = BASE | changed
    pixels, labels = images.pixels[: how["images"]], images.labels[: how["images"]]
    some = replace(images, pixels=pixels, labels=labels)

    def once() -> float:
        torch.manual_seed(0)
        model, threads = nets.VAE(latent_dim=how["latents"]), torch.get_num_threads()
        torch.set_num_threads(how.get("threads", threads))
        options = {"epochs": 1, "device": device, "progress": False}
        history = train.fit(model, some, batch_size=how["batch"], **options)
        torch.set_num_threads(threads)
        return history.column("seconds")[0]

    return once


def processes(count: int, device: str, seed: int = 0, epochs: int = 1) -> list[dict]:
    """Train with torchrun; return the rows of its history."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.safetensors"
        launcher = ["-m", "torch.distributed.run", "--standalone"]
        launcher += [f"--nproc-per-node={count}", "-m", "vae_teach.train"]
        options = {"data": "mnist", "epochs": epochs, "seed": seed, "device": device}
        arguments = [f"--{name}={value}" for name, value in options.items()]
        command = [sys.executable, *launcher, *arguments, f"--checkpoint={path}"]
        threads = {"OMP_NUM_THREADS": "1"}
        subprocess.run(
            command, check=True, capture_output=True, env=os.environ | threads
        )
        with safe_open(path, framework="pt") as file:
            return json.loads(file.metadata()["rows"])


def same_elbo(device: str, seeds: int) -> list[dict[str, float]]:
    """Return the test ELBO for each number of processes, over seeds."""
    rows = []
    for count in PROCESSES:
        runs = [processes(count, device, seed, EPOCHS) for seed in range(seeds)]
        elbos = torch.tensor([run[-1]["test_elbo"] for run in runs])
        error = round(train.standard_error(elbos), 3)
        mean = round(elbos.mean().item(), 3)
        rows.append({"processes": count, "test_elbo": mean, "standard_error": error})
        print(rows[-1])
    return rows


def main() -> None:
    """Time all kinds in turns; compare what several processes learn."""
    options = read_options(__doc__, device=True, rounds=5, seeds=3)
    device = find_device(options.device)
    images = data.load("mnist", "train", device=device)
    found = {"base": epoch_of(images, device, {})}
    for kind, values in KINDS.items():
        for value in values:
            found[f"{kind} {value}"] = epoch_of(images, device, {kind: value})
    if device.type == "cpu":
        for count in THREADS:
            found[f"threads {count}"] = epoch_of(images, device, {"threads": count})
    there = torch.cuda.device_count() if device.type == "cuda" else max(PROCESSES)
    for count in (count for count in PROCESSES if count <= there):
        found[f"processes {count}"] = lambda count=count: processes(count, device.type)[
            0
        ]["seconds"]
    seconds = contest.in_turns(found, options.rounds)
    rows = contest.compare(seconds, against="base")
    for row in rows:
        print(row)
    content = {"base": BASE, "rounds": options.rounds, "epochs": EPOCHS, "rows": rows}
    if there >= max(PROCESSES):
        content["processes"] = same_elbo(device.type, options.seeds)
    write(f"growth_{device.type}", content, options.out)


if __name__ == "__main__":
    main()
