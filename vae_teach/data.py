"""Images: a whole dataset as two tensors in memory, and where it comes from.

MNIST has 60,000 images of 784 grey levels: 47 MB as bytes, 188 MB as float32. That fits
in any memory, so files are read once, and bytes suffice until a batch is taken.
"""

import gzip
import hashlib
import math
import os
import socket
import tempfile
import zlib
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread

import numpy as np
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
PATIENCE = 4  # times as long, after which a whole download is no longer waited for
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
FASHION_MD5 = {  # of the files that the published archives unpack to
    "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}
QUOTES = "\"'“”‘’ \t\r\n"  # what a pasted path may bring along


@dataclass(frozen=True, eq=False)
class Images:
    """A dataset in memory.

    Args:
        pixels: (N, D) float in [0, 1], or grey levels from 0 to 255 as bytes (uint8),
            which become floats in the batches; D is 784 in all data of the course.
        labels: (N,) int64, the digit in each image.
        name: where it comes from, such as ``"mnist"``.
        dynamic: draw new bits from the grey levels each time a batch is taken.

    Raises:
        TypeError: pixels that are neither, labels that are no tensor.
        ValueError: pixels outside [0, 1] or NaN, no image, images that are not flat,
            more or fewer labels than images.
    """

    pixels: Tensor
    labels: Tensor
    name: str = "images"
    dynamic: bool = False

    def __post_init__(self) -> None:
        check_pixels("pixels", self.pixels, bytes_too=True)
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
        batch_size = check_count("batch_size", batch_size)
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
        x = grey(self.pixels.index_select(0, chosen))  # (B, D)
        return draw_bits(x, generator) if self.dynamic else x


def grey(pixels: Tensor) -> Tensor:
    """Return pixels as floats in [0, 1]: bytes as float32, floats as they are."""
    return pixels.float().div_(255) if pixels.dtype == torch.uint8 else pixels


def draw_bits(pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw each pixel, 1 with probability its grey level: (B, D) to (B, D) of 0 and 1.

    Grey levels are floats in [0, 1], or bytes, whose bits are float32.

    On a CPU, which makes random numbers one by one, each pixel takes 16 random bits of
    a 64-bit draw: a third of the time, and no probability is off by more than 2^-16.
    """
    x = grey(pixels)
    if x.device.type != "cpu":
        uniform = torch.rand(x.shape, generator=generator, device=x.device)
        return (uniform < x).to(x.dtype)  # (B, D)
    draws = torch.empty(math.ceil(x.numel() / 4), dtype=torch.int64)  # 4 pixels each
    draws.random_(-(2**63), None, generator=generator)
    noise = draws.view(torch.int16)[: x.numel()].view(x.shape)  # (B, D)
    lowest = torch.tensor(-(2.0**15))  # the lowest value of the noise
    levels = torch.add(lowest, x.detach().float(), alpha=2**16)  # in one pass
    return torch.lt(noise.float(), levels, out=levels).to(x.dtype)  # (B, D)


def load(
    name: str = "mnist",
    split: str = "train",
    *,
    binarize: str | bool | None = "auto",
    device: str | torch.device | None = None,
) -> Images:
    """Load a whole dataset into memory.

    Files, packed (.gz) or not, are looked for in the folder of the variable
    ``VAE_TEACH_DATA``, which may be a level too deep or too high, then in the user's
    cache, then fetched by torchvision into that cache (unless the variable
    ``VAE_TEACH_DOWNLOAD`` is 0). Each is known by its checksum: a damaged one is
    reported and never used.

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
        levels in ``pixels``, as bytes, and their batches are binary; others are floats.

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
    pixels = pixels if binarize == "dynamic" else grey(pixels)
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
        factors = strokes.sample_factors(count, seed=seed)
        parts = zip(*(value.split(6000) for value in factors), strict=True)
        drawn = (strokes.draw(strokes.Factors(*some)) for some in parts)
        levels = [pixels.mul_(255).round_().byte() for pixels in drawn]  # as in files
        return name, torch.cat(levels), factors.label
    return name, *_read_files(name, split)


def _read_files(name: str, split: str) -> tuple[Tensor, Tensor]:
    files, part = _find(name), "train" if split == "train" else "t10k"
    # The format idx: a header of 16 or 8 bytes, whose content the checksum vouches for.
    levels = np.frombuffer(files[f"{part}-images-idx3-ubyte"], np.uint8, offset=16)
    digits = np.frombuffer(files[f"{part}-labels-idx1-ubyte"], np.uint8, offset=8)
    pixels = torch.tensor(levels).reshape(-1, 784)  # (N, 784), a byte each
    return pixels, torch.tensor(digits, dtype=torch.int64)


def _find(name: str) -> dict[str, bytes]:
    """Return the files of a dataset, fetching them where no folder has them all."""
    value = os.environ.get("VAE_TEACH_DATA", "")
    given, looked = _expand(value), []
    if given:
        files, lacks = _search(_folders(given, name), name)
        if files:
            return files
        looked = [f"VAE_TEACH_DATA={value!r} ({lacks or _listing(given)})"]
    why = looked.copy()
    try:
        cache = user_cache()
        raw = cache / FOLDERS[name] / "raw"
        files, lacks = _search([raw], name)
        looked.append(f"{cache} ({lacks})" if lacks else str(cache))
        if not files:
            _fetch(name, cache)
            files, lacks = _search([raw], name)
            if not files:
                raise OSError(lacks)
    except Exception as error:  # a download has no end of ways to fail
        why.append(in_one_line(error))
        places, reason = ", ".join(looked), in_one_line(error)
        sentence = say("no-dataset", name=name, looked=places, why=reason)
        raise FileNotFoundError(sentence) from OSError("; ".join(why))
    return files


def user_cache() -> Path:
    """Return the course's folder in the user's cache; OSError if there is no home."""
    try:
        return platformdirs.user_cache_path("vae_teach")
    except RuntimeError as error:
        raise OSError(str(error)) from error


def _expand(value: str) -> Path | None:
    """Return the path that a variable means, None if it is blank."""
    value = os.path.expanduser(os.path.expandvars(value.strip(QUOTES)))
    return Path(value).absolute() if value else None


def _folders(given: Path, name: str) -> list[Path]:
    """Return the folders at, above and below ``given`` that may hold a dataset.

    Checksums decide, so a folder that is one level off can be taken at its word.
    """
    inside = Path(FOLDERS[name], "raw")
    flat = [given / inside, given / FOLDERS[name], given / "raw", given]
    above = [parent / inside for parent in given.parents[:2]]
    below: list[Path] = []
    with suppress(OSError):  # a folder that cannot be listed
        below = sorted(given.glob(f"*/{inside}"))
    return list(dict.fromkeys([*flat, *above, *below]))


def _search(folders: list[Path], name: str) -> tuple[dict[str, bytes], str]:
    """Return the files of the first folder that has them all, or none and what lacks.

    The second is about the folder that lacks fewest, empty where all have nothing.
    """
    lacks, fewest = "", len(FILE_BYTES)
    for folder in folders:
        found = {file: _read_file(folder, file, name) for file in FILE_BYTES}
        files = {file: got for file, got in found.items() if isinstance(got, bytes)}
        if len(files) == len(FILE_BYTES):
            return files, ""
        wrong: dict[str, list[str]] = {}
        for file, got in found.items():
            if isinstance(got, str):
                wrong.setdefault(got, []).append(file)
        if damaged := wrong.get(say("file-damaged")):
            print(say("damaged-files", files=", ".join(damaged), folder=str(folder)))
        if len(missing := wrong.get(say("file-missing"), [])) < fewest:
            fewest = len(missing)
            lacks = "; ".join(f"{why}: {', '.join(bad)}" for why, bad in wrong.items())
            lacks = f"{folder}: {lacks}"
    return {}, lacks


def _read_file(folder: Path, file: str, name: str) -> bytes | str:
    """Return the content of a file, packed or not, or say in a word what is wrong."""
    wrong = say("file-missing")
    for path in (folder / file, folder / f"{file}.gz"):
        try:
            if not path.is_file():
                continue
            with gzip.open(path) if path.suffix else path.open("rb") as stream:
                content = stream.read(FILE_BYTES[file] + 1)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            wrong = say("file-damaged")
        except OSError as error:
            wrong = in_one_line(error)
        else:
            owner = _owner(content, file)
            if owner == name:
                return content
            wrong = say("file-of-other", name=owner) if owner else say("file-damaged")
    return wrong


def _owner(content: bytes, file: str) -> str | None:
    """Return the dataset whose file this is, by its checksum."""
    if len(content) == FILE_BYTES[file]:
        if hashlib.sha256(content).hexdigest() == MNIST_SHA256[file]:
            return "mnist"
        if hashlib.md5(content, usedforsecurity=False).hexdigest() == FASHION_MD5[file]:
            return "fashion"
    return None


def _listing(given: Path) -> str:
    """Say what is at a path where no file of a dataset was found."""
    try:
        names = sorted(e.name for e in given.iterdir() if e.name[0] != ".")
    except FileNotFoundError:
        return say("found-nothing", path=given)
    except NotADirectoryError:
        return say("found-file")
    except OSError as error:
        return in_one_line(error)
    shown = ", ".join(names[:5] + ["…"] * (len(names) > 5))
    return say("found-names", names=shown) if names else say("found-empty")


_downloads: dict[Path, Future[None]] = {}


def _fetch(name: str, cache: Path) -> None:
    """Download into the cache; raises TimeoutError where that takes too long.

    A server that sends a byte now and then never times out. So the download has a
    thread of its own, which is not waited for any longer after a while; what it brings
    later is there the next time.
    """
    if os.environ.get("VAE_TEACH_DOWNLOAD") == "0":
        raise OSError(say("download-forbidden"))
    seconds, place = DOWNLOAD_TIMEOUT, cache / FOLDERS[name]
    running = _downloads.get(place)
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
    try:
        if running is None or running.done():
            running = _downloads[place] = Future()
            Thread(target=_download, args=(name, cache, running), daemon=True).start()
            seconds *= PATIENCE
        if wait([running], seconds).not_done:
            raise TimeoutError(say("download-slow", seconds=seconds))
        running.result()
    finally:
        socket.setdefaulttimeout(timeout)


def _download(name: str, cache: Path, done: Future[None]) -> None:
    """Download into a temporary folder; move complete files into the cache.

    So neither a broken connection nor a second process leaves a partial file behind.
    """
    try:
        from torchvision import datasets  # takes a second: only those who need it wait

        raw = cache / FOLDERS[name] / "raw"
        raw.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            getattr(datasets, FOLDERS[name])(folder, download=True)
            fetched = Path(folder) / FOLDERS[name] / "raw"
            found = {file: _read_file(fetched, file, name) for file in FILE_BYTES}
            bad = [file for file, got in found.items() if isinstance(got, str)]
            if bad:
                raise OSError(say("fetched-damaged", files=", ".join(bad)))
            for file in FILE_BYTES:
                (fetched / file).replace(raw / file)
        done.set_result(None)
    except BaseException as error:
        done.set_exception(error)


def in_one_line(error: BaseException) -> str:
    """Return the last line of an error, after its kind where that says more."""
    lines = str(error).strip().splitlines()
    text = lines[-1].strip()[:200] if lines else ""
    if text and isinstance(error, OSError | RuntimeError):
        return text
    return f"{type(error).__name__}: {text}".removesuffix(": ")
