"""Images: a whole dataset as two tensors in memory, and where it comes from.

MNIST has 60,000 images of 784 numbers: 188 MB as float32. That fits in any memory,
so files are read once.
"""

import hashlib
import math
import os
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import platformdirs
import torch
from torch import Tensor

from vae_teach import strokes
from vae_teach.guards import check_choice, check_count, check_pixels, find_device
from vae_teach.words import say

NAMES = ("mnist", "fashion", "strokes", "auto")
SPLITS = ("train", "test")
BINARIZATIONS = ("auto", "dynamic", "fixed", None)
FOLDERS = {"mnist": "MNIST", "fashion": "FashionMNIST"}  # torchvision's layout
TEST_BITS_SEED = 0  # evaluation draws its bits once, the same on every machine
DOWNLOAD_TIMEOUT = 30  # seconds without an answer, after which a mirror is given up
FILE_BYTES = {
    "train-images-idx3-ubyte": 16 + 60_000 * 784,
    "train-labels-idx1-ubyte": 8 + 60_000,
    "t10k-images-idx3-ubyte": 16 + 10_000 * 784,
    "t10k-labels-idx1-ubyte": 8 + 10_000,
}
MNIST_SHA256 = {
    "train-images-idx3-ubyte": (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
    ),
    "train-labels-idx1-ubyte": (
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"
    ),
    "t10k-images-idx3-ubyte": (
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
    ),
    "t10k-labels-idx1-ubyte": (
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"
    ),
}


@dataclass(frozen=True, eq=False)
class Images:
    """A dataset in memory.

    Args:
        pixels: (N, D) float in [0, 1]; D is 784 for every dataset of the course.
        labels: (N,) int64, the digit in each image.
        name: where it comes from, such as ``"mnist"``.
        dynamic: draw new bits from the grey levels each time a batch is taken.

    Raises:
        TypeError: pixels that are not floating, labels that are no tensor.
        ValueError: pixels outside [0, 1] or NaN, no image, images that are not flat,
            more or fewer labels than images.
    """

    pixels: Tensor
    labels: Tensor
    name: str = "images"
    dynamic: bool = False

    def __post_init__(self) -> None:
        check_pixels("pixels", self.pixels)
        shape = tuple(self.pixels.shape)
        if len(shape) != 2:
            width = self.pixels[0].numel()
            raise ValueError(say("not-flat", name="pixels", got=shape, width=width))
        labels: object = self.labels
        if not isinstance(labels, Tensor):
            raise TypeError(say("labels-no-tensor", got=type(labels).__name__))
        if tuple(self.labels.shape) != shape[:1]:
            raise ValueError(
                say("labels-differ", images=shape[0], got=tuple(self.labels.shape))
            )

    def __len__(self) -> int:
        return len(self.pixels)

    def to(self, device: str | torch.device) -> "Images":
        """Return the same images on ``device``."""
        pixels, labels = self.pixels.to(device), self.labels.to(device)
        return replace(self, pixels=pixels, labels=labels)

    def batches(
        self,
        batch_size: int,
        shuffle: bool = True,
        generator: torch.Generator | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Go through the images once, as pairs (x, labels) of at most ``batch_size``.

        Shuffling, gathering and the drawing of bits happen where the images are.

        Args:
            batch_size: images per batch; the last one may be smaller.
            shuffle: in random order.
            generator: the source of randomness, on the images' device.

        Returns:
            Pairs (B, D) float and (B,) int64.

        Raises:
            ValueError: batch_size is not an integer of 1 or more.
        """
        check_count("batch_size", batch_size)
        return self._batches(batch_size, shuffle, generator)

    def _batches(
        self, batch_size: int, shuffle: bool, generator: torch.Generator | None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        n, device = len(self), self.pixels.device
        order = torch.arange(n, device=device)
        if shuffle:
            order = torch.randperm(n, device=device, generator=generator)
        for chosen in torch.split(order, batch_size):
            yield self.take(chosen, generator), self.labels[chosen]

    def take(self, chosen: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the images (B, D) at some indices, (B,) int64, as ``batches`` does."""
        x = self.pixels.index_select(0, chosen)  # (B, D)
        return draw_bits(x, generator) if self.dynamic else x


def draw_bits(grey: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw each pixel, 1 with probability its grey level: (B, D) to (B, D) of 0 and 1.

    On a CPU, which makes random numbers one by one, each pixel takes 16 random bits of
    a 64-bit draw: a third of the time, and no probability is off by more than 2^-16.
    """
    if grey.device.type != "cpu":
        uniform = torch.rand(grey.shape, generator=generator, device=grey.device)
        return (uniform < grey).to(grey.dtype)  # (B, D)
    draws = torch.empty(math.ceil(grey.numel() / 4), dtype=torch.int64)  # 4 pixels each
    draws.random_(-(2**63), None, generator=generator)
    noise = draws.view(torch.int16)[: grey.numel()].view(grey.shape)  # (B, D)
    lowest = torch.tensor(-(2.0**15))  # the lowest value of the noise
    levels = torch.add(lowest, grey.detach().float(), alpha=2**16)  # in one pass
    return torch.lt(noise.float(), levels, out=levels).to(grey.dtype)  # (B, D)


def load(
    name: str = "mnist",
    split: str = "train",
    *,
    binarize: str | bool | None = "auto",
    device: str | torch.device | None = None,
) -> Images:
    """Load a whole dataset into memory.

    Files are looked for in the folder of the variable ``VAE_TEACH_DATA``, then in the
    user's cache, then fetched by torchvision into that cache (unless the variable
    ``VAE_TEACH_DOWNLOAD`` is 0). A damaged file is reported and never used.

    Args:
        name: ``"mnist"``, ``"fashion"``, ``"strokes"`` (drawn by the package), or
            ``"auto"``: MNIST where it is available, else strokes, saying why.
        split: ``"train"`` or ``"test"``.
        binarize: ``"dynamic"`` draws binary pixels anew for each batch, ``"fixed"``
            once, from one seed; None keeps grey levels. ``"auto"``, as the course
            trains and tests: dynamic for training images, fixed for test images. True
            and False are accepted for ``"auto"`` and None.
        device: where the tensors go; the CPU if None.

    Returns:
        Images with pixels (N, 784) and labels (N,). Dynamic ones keep their grey
        levels in ``pixels``; their batches are binary.

    Raises:
        ValueError: an unknown name, split, binarization or device.
        FileNotFoundError: a dataset asked for by name is not available; the sentence
            says where it looked, what failed, and the two ways out.
    """
    if isinstance(binarize, bool):
        binarize = "auto" if binarize else None
    check_choice("name", name, NAMES)
    check_choice("split", split, SPLITS)
    check_choice("binarize", binarize, BINARIZATIONS)
    place = find_device(device or "cpu")
    if binarize == "auto":
        binarize = "dynamic" if split == "train" else "fixed"
    name, pixels, labels = _read_either(name, split)
    if binarize == "fixed":
        pixels = draw_bits(pixels, torch.Generator().manual_seed(TEST_BITS_SEED))
    return Images(pixels.to(place), labels.to(place), name, binarize == "dynamic")


def _read_either(name: str, split: str) -> tuple[str, Tensor, Tensor]:
    if name == "auto":
        try:
            return "mnist", *_read_files("mnist", split)
        except FileNotFoundError as error:
            print(say("auto-falls-back", why=error.__cause__))
            name = "strokes"
    if name == "strokes":
        count, seed = (60_000, 0) if split == "train" else (10_000, 1)
        pixels, factors = strokes.digits(count, seed=seed)
        return name, pixels, factors.label
    return name, *_read_files(name, split)


def _read_files(name: str, split: str) -> tuple[Tensor, Tensor]:
    from torchvision import datasets  # takes a second: only those who need it wait

    kind = getattr(datasets, FOLDERS[name])
    stored = kind(str(_find_root(name)), train=split == "train", download=False)
    pixels = stored.data.reshape(-1, 784).float().div_(255)  # (N, 784)
    return pixels, stored.targets.to(torch.int64)


def _find_root(name: str) -> Path:
    """Return a folder that holds a whole dataset, fetching it where none does."""
    cache = platformdirs.user_cache_path("vae_teach")
    given = os.environ.get("VAE_TEACH_DATA")
    roots = ([Path(given)] if given else []) + [cache]
    for root in roots:
        problems = _problems(root / FOLDERS[name] / "raw", name)
        if not problems:
            return root
        if any(reason != "missing" for reason in problems.values()):
            files = ", ".join(problems)
            print(say("damaged-files", files=files, folder=str(root)))
    try:
        _fetch(name, cache)
    except (OSError, RuntimeError) as error:
        looked = ", ".join(str(root) for root in roots)
        sentence = say("no-dataset", name=name, looked=looked, why=_one_line(error))
        raise FileNotFoundError(sentence) from OSError(_one_line(error))
    return cache


def _problems(raw: Path, name: str) -> dict[str, str]:
    """Return what is wrong with each file of a dataset; empty if nothing is."""
    problems = {}
    for file, size in FILE_BYTES.items():
        path = raw / file
        if not path.is_file():
            problems[file] = "missing"
        elif path.stat().st_size != size:
            problems[file] = "truncated"
        elif name == "mnist":
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            if digest != MNIST_SHA256[file]:
                problems[file] = "altered"
    return problems


def _fetch(name: str, cache: Path) -> None:
    """Download into a temporary folder; move complete files into the cache.

    So neither a broken connection nor a second process leaves a partial file behind.
    """
    if os.environ.get("VAE_TEACH_DOWNLOAD") == "0":
        raise OSError(say("download-forbidden"))
    from torchvision import datasets

    raw = cache / FOLDERS[name] / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
    try:
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            getattr(datasets, FOLDERS[name])(folder, download=True)
            fetched = Path(folder) / FOLDERS[name] / "raw"
            if problems := _problems(fetched, name):
                raise OSError(say("fetched-damaged", files=", ".join(problems)))
            for file in FILE_BYTES:
                (fetched / file).replace(raw / file)
    finally:
        socket.setdefaulttimeout(timeout)


def _one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__
