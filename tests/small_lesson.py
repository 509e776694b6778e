"""A small lesson for the tests of tools/, and how they spoil it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import nbformat

from tools import notebooks

REPOSITORY = Path(__file__).resolve().parents[1]
NAME = "00_tiny"

SETUP = """
# %% [markdown] key="title"
# # {title}
#
# {intro} $p(x) = \\int p(x, z)\\,dz$ (Kingma, 2013).
# [{link}](../{language}/01_next.ipynb)
#
# ![{picture}](figures/line.png)

# %% key="setup" tags=["nbval-check-output"]
# {comment}
# %matplotlib inline
import ipywidgets
import matplotlib.pyplot as plt
from IPython.display import display
from tqdm import tqdm, trange
from vae_teach.words import current_language, say, use_language

use_language("{language}")
print(6 * 7)
len("abc");
"""

REST = """
# %% key="figure"
fig, ax = plt.subplots(figsize=(1, 1))
ax.plot([1, 2])
plt.close(fig)
alt = f"{current_language()}-line"
display(fig, metadata={"image/png": {"alt": alt}})

# %% key="bars" tags=["nbval-check-output"]
print(1)
for _ in tqdm(range(3)):
    pass
print(2)
for _ in trange(3):
    pass
print(3)
not_shown = ipywidgets.FloatProgress()

# %% key="slider"
slider = ipywidgets.IntSlider(min=0, max=3)


def inverse(x):
    print(1 / (x + 1))


ipywidgets.interact(inverse, x=slider)
slider.value = slider.max
slider.value = slider.min

# %% key="address" tags=["nbval-check-output"]
print(object())

# %% key="places"
import os, tempfile, numpy

print(os.getcwd(), numpy.__file__)
print(tempfile.gettempdir() + "/tmpabc/x", os.path.expanduser("~/data"))
display(ipywidgets.HBox([ipywidgets.Label("a"), ipywidgets.Label("b")]))

# %% key="phrases"
print(say("originals"), *(say(f"column-{name}") for name in ("elbo", "kl")))
print(say("-".join(["reconstructed", "means"])))
"""
WORDS = {
    "pt": {
        "title": "Um título",
        "intro": "Um codificador amostra; a célula anterior (*encoder*) não.",
        "link": "A próxima lição",
        "picture": "Uma reta",
        "comment": "O que esta lição usa",
    },
    "en": {
        "title": "A title",
        "intro": "An encoder samples; the previous cell does not.",
        "link": "The next lesson",
        "picture": "A line",
        "comment": "What this lesson uses",
    },
}


def write_pair(root: Path) -> None:
    """Write the two sources of a small lesson."""
    for language, words in WORDS.items():
        (root / language).mkdir(parents=True)
        source = SETUP.lstrip().format(language=language, **words) + REST
        (root / language / f"{NAME}.py").write_text(source, encoding="utf-8")
    for name in ("glossary.csv", "portuguese.csv"):
        shutil.copy(REPOSITORY / "notebooks" / name, root / name)


def command(root: Path, *arguments: str) -> int:
    """Call the command line and return its exit status."""
    return notebooks.main(["--root", str(root), *arguments])


def problems(root: Path) -> str:
    return "\n".join(notebooks.check(root))


def built(root: Path, language: str = "pt") -> nbformat.NotebookNode:
    return nbformat.read(root / language / f"{NAME}.ipynb", as_version=4)


def contents(root: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def edit(root: Path, language: str, old: str, new: str) -> None:
    """Change the source of one language, or of both where it is "both"."""
    for one in ("pt", "en") if language == "both" else (language,):
        path = root / one / f"{NAME}.py"
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")


def change_built(root: Path, change: Callable[[nbformat.NotebookNode], object]) -> None:
    """Change the Portuguese .ipynb."""
    notebook = built(root)
    change(notebook)
    nbformat.write(notebook, root / "pt" / f"{NAME}.ipynb")


def output(cell: int, text: str, name: str = "stdout") -> Callable:
    """Return a change that lets one cell print."""
    stream = nbformat.v4.new_output("stream", name=name, text=text)
    return lambda nb: nb.cells[cell].outputs.insert(0, stream)
