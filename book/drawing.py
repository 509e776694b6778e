"""Store the drawing explorer of the start page: its model, and its still pictures.

    uv run python book/drawing.py        # writes book/widgets/drawing.json

The book executes nothing, so what the page needs is committed: the course's model with
two latents, trained on MNIST (from the cache, where it was trained before). Words and
JavaScript are not in the file: the build takes those of the package.
"""

import base64
import json
import zlib
from pathlib import Path
from typing import Any

FILE = Path(__file__).resolve().parent / "widgets" / "drawing.json"
LANGUAGES = ("pt", "en")


def stored() -> dict[str, Any]:
    """Return what the file holds."""
    from vae_teach import data, train, words
    from vae_teach.explorer import DrawingExplorer

    model, _ = train.trained(data.load("mnist", "train"), device="cpu")
    images = data.load("mnist", "test")
    stills = {}
    for language in LANGUAGES:
        words.use_language(language)
        widget = DrawingExplorer(model, images)
        png, alt, width = widget.still()
        picture = base64.b64encode(png).decode()
        stills[language] = {"png": picture, "alt": alt, "width": width}
    traits = {name: getattr(widget, name) for name in widget.keys if name[0] != "_"}
    packed = {
        name: base64.b64encode(zlib.compress(value, 9)).decode()
        for name, value in traits.items()
        if isinstance(value, bytes)
    }
    return {"spec": widget.spec, "bytes": packed, "stills": stills}


def alive(language: str, content: dict[str, Any]) -> dict[str, Any]:
    """Return the state that a page brings to life, in one language."""
    from vae_teach import words
    from vae_teach.explorer import DrawingExplorer

    before = words.current_language()
    words.use_language(language)
    labels = DrawingExplorer.words()
    words.use_language(before)
    return {
        "module": {"_esm": DrawingExplorer._esm, "_css": DrawingExplorer._css},
        "plain": {"spec": content["spec"], "labels": labels},
        "bytes": content["bytes"],
    }


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    text = json.dumps(stored(), indent=1, sort_keys=True)
    FILE.write_text(f"{text}\n", encoding="utf-8")
    print(f"{FILE}: {FILE.stat().st_size / 1e6:.2f} MB")
