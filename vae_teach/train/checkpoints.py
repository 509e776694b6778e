"""A training run on disk, whole or not at all.

One safetensors file holds the weights, Adam's moments and the random state as tensors,
and the history and settings as JSON in its header: nothing in it can run code. It is
written beside its place and moved there in one step, so a run killed at any moment
leaves the file of the last whole epoch.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import Optimizer

from vae_teach.train.fingerprint import describe_numbers
from vae_teach.words import say

FORMAT = "vae_teach 1"
COMPILED = "_orig_mod."  # what torch.compile puts into the names of a model's tensors


class DamagedError(ValueError):
    """A file that is not whole, or never was a checkpoint."""


class Checkpoint:
    """The file of one training run, or of none if ``path`` is None.

    Args:
        path: where it is kept; its folder must exist.
        settings: what determines the run besides the model, compared on resuming.
        pixels: digests of the images that ``fit`` was given, compared, too.

    Raises:
        ValueError: ``path`` is a folder, lies in a folder that does not exist, or
            cannot be written.
    """

    def __init__(
        self,
        path: str | Path | None,
        settings: dict[str, Any],
        pixels: dict[str, str],
    ) -> None:
        self.path = None if path is None else Path(path)
        self.settings, self.pixels = settings, pixels
        if self.path and (self.path.is_dir() or not self.path.parent.is_dir()):
            raise ValueError(say("checkpoint-place", path=self.path))
        if self.path and not _is_writable(self.path):
            raise ValueError(say("checkpoint-read-only", path=self.path))

    def write(
        self, model: nn.Module, optimizer: Optimizer, rows: list[dict[str, float]]
    ) -> None:
        """Save the run as it stands after an epoch; raises OSError if the disk cannot.

        Whatever was there before stays until the new file is whole.
        """
        if self.path is None:
            return
        tensors = _gather(model, optimizer)
        header = {"format": FORMAT, "pixels": json.dumps(self.pixels)}
        header |= {"settings": json.dumps(self.settings), "rows": json.dumps(rows)}
        header["digest"] = _digest(header, tensors)
        part = self.path.with_name(f".{self.path.name}.part")
        try:
            with part.open("wb") as file:
                file.write(save(tensors, header))
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise OSError(
                say("checkpoint-unwritten", path=self.path, why=error.strerror)
            ) from error

    def restore(self, model: nn.Module, optimizer: Optimizer) -> list[dict[str, float]]:
        """Bring model, optimizer and randomness back; return the rows, [] if no file.

        Raises DamagedError if the file is, ValueError if it is of another model, other
        images or other settings; then nothing is changed, neither the file nor the
        model.
        """
        if self.path is None or not self.path.exists():
            return []
        header, tensors = self._read()
        settings = json.loads(header["settings"])
        for name in self.settings | settings:
            got, stored = self.settings.get(name), settings.get(name)
            if got != stored:
                raise ValueError(
                    say("checkpoint-settings", name=name, got=got, stored=stored)
                )
        for name, stored in json.loads(header["pixels"]).items():
            if self.pixels[name] != stored:
                raise ValueError(say("checkpoint-images", name=name, path=self.path))
        expected, found = (
            {
                name: (t.shape, t.dtype)
                for name, t in some.items()
                if name[:6] == "model."
            }
            for some in (_named(model), tensors)
        )
        if expected != found:
            raise ValueError(say("checkpoint-model", path=self.path))
        _scatter(tensors, model, optimizer)
        rows: list[dict[str, float]] = json.loads(header["rows"])
        return rows

    def _read(self) -> tuple[dict[str, str], dict[str, Tensor]]:
        assert self.path is not None
        try:
            with safe_open(self.path, framework="pt") as file:
                header = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, ValueError) as error:
            raise DamagedError(say("checkpoint-damaged", path=self.path)) from error
        digest = header.pop("digest", None)
        if header.get("format") != FORMAT or digest != _digest(header, tensors):
            raise DamagedError(say("checkpoint-damaged", path=self.path))
        return header, tensors


def _is_writable(path: Path) -> bool:
    """Tell before the first epoch what would fail after it."""
    places = [path.parent, path] if path.exists() else [path.parent]
    return all(os.access(place, os.W_OK) for place in places)


def _named(model: nn.Module) -> dict[str, Tensor]:
    """Return a model's tensors by name, the same whether it is compiled or not."""
    state = model.state_dict()
    return {f"model.{name.replace(COMPILED, '')}": state[name] for name in state}


def _gather(model: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    tensors = _named(model)
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            tensors[f"optimizer.{index}.{name}"] = value
    tensors["random.cpu"] = torch.get_rng_state()
    if next(model.parameters()).is_cuda:
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    whole = torch.contiguous_format  # in a row, as a file is
    return {
        name: value.detach().cpu().clone(memory_format=whole)
        for name, value in tensors.items()
    }


def _scatter(
    tensors: dict[str, Tensor], model: nn.Module, optimizer: Optimizer
) -> None:
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}, "random": {}}
    for name, value in tensors.items():
        part, rest = name.split(".", 1)
        parts[part][rest] = value
    names = {name: name.replace(COMPILED, "") for name in model.state_dict()}
    model.load_state_dict({own: parts["model"][n] for own, n in names.items()})
    state: dict[int, dict[str, Tensor]] = {}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for name, value in parts["optimizer"].items():
        index, kind = name.split(".")
        parameter = parameters[int(index)]
        if value.shape == parameter.shape:  # and in the same order in memory
            value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        state.setdefault(int(index), {})[kind] = value
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
    torch.set_rng_state(parts["random"]["cpu"])
    if "cuda" in parts["random"] and torch.cuda.is_available():
        torch.cuda.set_rng_state(parts["random"]["cuda"])


def _digest(header: dict[str, str], tensors: dict[str, Tensor]) -> str:
    """Return a digest of all that a file says: of a header without one, and tensors."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(json.dumps([name, *describe_numbers(tensors[name])]).encode())
    return digest.hexdigest()
