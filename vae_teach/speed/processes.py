"""Several processes that train one model: each takes its share of every batch.

``torchrun`` starts the processes and PyTorch's DistributedDataParallel averages their
gradients, so they all take the same step, which is that of a single process with the
whole batch.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vae_teach.guards import find_device
from vae_teach.words import say

SEEDS = 2**62  # seeds stay below this, to travel between processes as int64


@contextmanager
def processes(device: str | torch.device | None = None) -> Iterator[torch.device]:
    """Join the processes that ``torchrun`` started; alone, do nothing.

    Yields the device of this process: a GPU of its own where there are GPUs, which then
    communicate by NCCL, else the CPU, by gloo. Raises ValueError for a device that is
    not available, or for more processes on a machine than it has GPUs.
    """
    place = find_device(device)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield place
        return
    if place.type == "cuda":
        local, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= there:
            raise ValueError(say("too-few-gpus", got=local + 1, there=there))
        place = torch.device("cuda", local)
        torch.cuda.set_device(place)
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo")
    try:
        yield place
    finally:
        dist.destroy_process_group()


class Team:
    """The processes of this run, of which this one is number ``rank`` of ``size``.

    Without a process group it is a team of one, and its methods change nothing. The
    random draws of a team of several depend on the seed of its first process, on the
    epoch and on its size, so a resumed run draws what it would have drawn.
    """

    def __init__(self, device: torch.device) -> None:
        several = dist.is_available() and dist.is_initialized()
        self.rank = dist.get_rank() if several else 0
        self.size = dist.get_world_size() if several else 1
        self.device = device
        if several:
            seed = torch.tensor(torch.initial_seed() % SEEDS, device=device)
            dist.broadcast(seed, src=0)
            self.seed = int(seed)

    @property
    def leads(self) -> bool:
        """Whether this is the process that prints and writes."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return what to call in a step: all start from the first one's weights."""
        if self.size == 1:
            return model
        devices = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(
            model, device_ids=devices, gradient_as_bucket_view=True
        )

    def shuffle(self, count: int, epoch: int) -> Tensor:
        """Return an order of ``count`` images, the same in all; then seed each apart.

        A team of one draws it from PyTorch's stream, as ``Images.batches`` does.
        """
        if self.size == 1:
            return torch.randperm(count, device=self.device)
        first = (self.seed + epoch * (self.size + 1)) % SEEDS
        torch.manual_seed(first)
        order = torch.randperm(count, device=self.device)
        torch.manual_seed(first + 1 + self.rank)
        return order

    def share(self, chosen: Tensor) -> Tensor:
        """Return this process's share of a batch, which may be empty in the last."""
        return chosen if self.size == 1 else chosen[self.rank :: self.size]

    def add(self, totals: Tensor) -> Tensor:
        """Return the sum of ``totals`` over all processes."""
        if self.size > 1:
            totals = totals.clone()
            dist.all_reduce(totals)
        return totals

    def check_agreement(self, epochs: int) -> None:
        """Raise ValueError unless all processes resume after the same epoch."""
        if self.size == 1:
            return
        both = torch.tensor([epochs, -epochs], device=self.device)
        dist.all_reduce(both, dist.ReduceOp.MAX)
        most, fewest = int(both[0]), -int(both[1])
        if most != fewest:
            raise ValueError(say("checkpoint-unshared", most=most, fewest=fewest))
