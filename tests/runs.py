"""Runs of the training loop that several tests watch."""

import os
import subprocess
import sys

import torch

from vae_teach import train
from vae_teach.data import Images
from vae_teach.nets import VAE


def make_run(device="cpu", count=70):
    torch.manual_seed(0)
    pixels = torch.rand(count, 16)
    images = Images(pixels, torch.zeros(count, dtype=torch.int64), dynamic=True)
    place = torch.device(device)
    model = VAE(16, 8).to(place)
    return train.Run(model, images.to(place), learning_rate=1e-2)


def launch(*arguments, several=2, cwd=None, status=0):
    """Start a program with torchrun, as several processes."""
    how = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    how += [f"--nproc-per-node={several}"]
    done = subprocess.run(
        [*how, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        cwd=cwd,
    )
    assert done.returncode == status, done.stderr
    return done
