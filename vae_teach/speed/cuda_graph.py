"""A training step captured once as a CUDA graph, and replayed.

For a small network a GPU finishes each operation before the host has launched the next.
A graph is launched once: the host sends the indices of a batch, and the whole step runs
without it.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

Step = Callable[[Tensor], None]
WARM_UP = 3  # steps that let cuBLAS, autograd and Adam allocate what they keep


class CapturedStep:
    """A step for batches of one size; the others take the plain path.

    Args:
        step: takes (B,) int64 indices and changes only the model, the optimizer and
            ``totals``, in place.
        batch_size: of the batches that are replayed.
        model: its weights are restored after the warm-up,
        optimizer: and so are its moments,
        totals: and this sum, to which the step adds.

    Raises:
        RuntimeError: the step does something that cannot be captured, such as reading a
            number from the GPU; model and optimizer are unchanged.
    """

    def __init__(
        self,
        step: Step,
        batch_size: int,
        *,
        model: nn.Module,
        optimizer: Optimizer,
        totals: Tensor,
    ) -> None:
        self.plain = step
        self.chosen = torch.zeros(batch_size, dtype=torch.int64, device=totals.device)
        kept = [*model.parameters(), *model.buffers(), totals]
        before = [tensor.detach().clone() for tensor in kept]
        moments = _moments(optimizer)
        random_state = torch.cuda.get_rng_state(totals.device)
        try:
            self._warm_up()
        finally:
            for tensor, value in zip(kept, before, strict=True):
                tensor.detach().copy_(value)
            for key, tensor in _moments(optimizer, clone=False).items():
                if key in moments:
                    tensor.copy_(moments[key])
                else:
                    tensor.zero_()
            torch.cuda.set_rng_state(random_state, totals.device)
        self.graph = torch.cuda.CUDAGraph()
        optimizer.zero_grad()  # the graph allocates its own gradients
        with torch.cuda.graph(self.graph):
            step(self.chosen)

    def _warm_up(self) -> None:
        """Take steps on a side stream, as capturing requires."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                self.plain(self.chosen)
        torch.cuda.current_stream().wait_stream(stream)

    def __call__(self, chosen: Tensor) -> None:
        """Take one step with the images of the indices ``chosen``, (B,) int64."""
        if chosen.shape != self.chosen.shape:
            self.plain(chosen)
            return
        self.chosen.copy_(chosen)
        self.graph.replay()


def _moments(
    optimizer: Optimizer, *, clone: bool = True
) -> dict[tuple[int, str], Tensor]:
    """Return what the optimizer keeps for each of its parameters, or copies of it."""
    return {
        (id(parameter), name): value.clone() if clone else value
        for parameter, state in optimizer.state.items()
        for name, value in state.items()
    }
