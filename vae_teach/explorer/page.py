"""What a widget sends to its page: code in one piece, numbers in few bytes."""

from pathlib import Path

from torch import Tensor

from vae_teach.words import say

SHARED = Path(__file__).with_name("shared.js"), Path(__file__).with_name("shared.css")


def code(folder: Path, *names: str) -> tuple[str, str]:
    """Return the JavaScript and the style of a widget, what all share in front.

    Args:
        folder: where the widget's files lie.
        names: of the files, without their endings; one without a style has none.

    Returns:
        Two texts for ``_esm`` and ``_css``. The first is a module without imports,
        since a page opened from a disk cannot load any.
    """
    texts = []
    for shared, ending in zip(SHARED, ("js", "css"), strict=True):
        files = [shared, *(folder / f"{name}.{ending}" for name in names)]
        there = [file for file in files if file.exists()]
        texts.append("\n".join(file.read_text(encoding="utf-8") for file in there))
    return texts[0], texts[1]


def half(tensor: Tensor) -> bytes:
    """Pack numbers as little-endian float16; ValueError if one is not finite there."""
    numbers = tensor.detach().cpu().half()
    if not numbers.isfinite().all():
        raise ValueError(say("explorer-not-finite"))
    return numbers.numpy().astype("<f2").tobytes()
