"""A reader's own copies of the lessons, which no update of the course touches.

What is in ``notebooks/`` changes with the course. So a reader writes in copies, in
``my-notebooks/`` or in a folder of their choice, where each lesson appears once. A
lesson that has changed since is put beside the reader's copy, under a new name; the
copy itself is renewed only where it still is what the course once put there.
"""

import hashlib
import json
import os
import sys
from itertools import count
from pathlib import Path
from typing import Any

from vae_teach.words import say

FOLDER = "my-notebooks"
PACKAGE = Path(__file__).resolve().parent
Notebook = dict[str, Any]


def course_around(package: Path = PACKAGE) -> tuple[Path, bool]:
    """Return the folder that holds ``notebooks/``, and whether it is a clone.

    A wheel brings the lessons inside of the package; in a clone they are beside it.
    """
    installed = (package / "notebooks").is_dir()
    return (package if installed else package.parent), not installed


def digest(value: Any) -> str:
    """Return a short hash of anything that JSON can say; the order of keys is one."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def lesson_hash(notebook: Notebook) -> str:
    """Return a hash of a notebook's cells as somebody wrote them, outputs left out."""
    cells = notebook["cells"]
    return digest([[cell["cell_type"], "".join(cell["source"])] for cell in cells])


def read(path: Path) -> Notebook:
    """Return a notebook. Raises ValueError, in one sentence, for whatever is none."""
    try:
        notebook: Notebook = json.loads(path.read_bytes())
        lesson_hash(notebook)
        notebook["metadata"].get("vae_teach")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ValueError(say("no-notebook", path=path)) from None
    return notebook


def origin(path: Path) -> tuple[str | None, bool]:
    """Return which lesson a copy was made of, and whether it still is as it was made.

    A file that cannot be read is the reader's, and of no lesson.
    """
    try:
        notebook = read(path)
        about = notebook["metadata"]["vae_teach"]
        lesson, untouched = about.pop("lesson"), about.pop("copy")
    except (ValueError, KeyError, TypeError, AttributeError):
        return None, False
    return lesson, untouched == digest(notebook)


def marked(notebook: Notebook) -> str:
    """Return the text of a copy, which says what it was made of and how it was.

    It names the version of Python, as JupyterLab would once the kernel has started, and
    then take the notebook for changed.
    """
    if "language_info" in notebook["metadata"]:
        notebook["metadata"]["language_info"]["version"] = sys.version.split()[0]
    about = notebook["metadata"].setdefault("vae_teach", {})
    for ours in ("lesson", "copy"):
        about.pop(ours, None)
    about |= {"copy": digest(notebook), "lesson": lesson_hash(notebook)}
    return json.dumps(notebook, ensure_ascii=False, indent=1) + "\n"


def write_new(path: Path, text: str) -> None:
    """Write a file that must not exist yet; leave no half of it where OSError stops."""
    file = path.open("x", encoding="utf-8")
    try:
        with file:
            file.write(text)
    except OSError:
        path.unlink()
        raise


def copy_lesson(source: Path, folder: Path) -> Path | None:
    """Bring one lesson into a reader's folder; return its file where it is a new one.

    A copy that nobody changed is renewed. Beside copies that somebody changed, a lesson
    comes under a new name, unless one of them was made of this very lesson. Raises
    ValueError where the lesson cannot be read, OSError where nothing can be written.
    """
    notebook = read(source)
    text, lesson = marked(notebook), lesson_hash(notebook)
    folder.mkdir(parents=True, exist_ok=True)
    origins = {p: origin(p) for p in sorted(folder.glob(f"{source.stem}*.ipynb"))}
    is_there = lesson in {made_of for made_of, _ in origins.values()}
    for old, (made_of, untouched) in origins.items():
        if untouched and (made_of == lesson or not is_there):
            part = old.with_name(f".{old.name}.part")
            part.write_text(text, encoding="utf-8")
            os.replace(part, old)
            is_there = True
    if is_there:
        return None
    names = (source.stem if n == 1 else f"{source.stem}-{n}" for n in count(1))
    paths = (folder / f"{name}.ipynb" for name in names)
    new = next(path for path in paths if not os.path.lexists(path))
    write_new(new, text)
    return new


def make_copies(course: Path, to: Path | None = None) -> tuple[list[Path], list[str]]:
    """Bring every lesson to the reader: one folder a language, as links want.

    Args:
        course: the folder that holds ``notebooks/``.
        to: the reader's folder; ``my-notebooks/`` of the course if None.

    Returns:
        The new files that stand beside one of the reader's, and one sentence for each
        lesson that cannot be read. Raises OSError where nothing can be written.
    """
    beside, unread = list[Path](), list[str]()
    for source in sorted(course.glob("notebooks/*/[!.]*.ipynb")):
        folder = (to or course / FOLDER) / source.parent.name
        has_others = any(folder.glob(f"{source.stem}*.ipynb"))
        try:
            new = copy_lesson(source, folder)
        except ValueError as error:
            unread.append(str(error))
        else:
            beside += [new] if new and has_others else []
    return beside, unread
