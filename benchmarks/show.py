"""Tables and plots of what the benchmarks measured, in both languages.

Run: uv run python benchmarks/show.py
Reads results/*.json; fills templates/README.md.j2 with them and with the phrases of
words.toml, and writes README.md, README.pt.md and plots/{pt,en}/*.png. A test holds the
pages equal to what this makes of the results.
"""

import tomllib
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib import pyplot as plt
from matplotlib.ticker import MaxNLocator
from results import read

HERE = Path(__file__).resolve().parent
LANGUAGES = ("en", "pt")
DEVICES = {"cpu": "CPU", "cuda": "GPU"}
CATALOGUE = tomllib.loads((HERE / "words.toml").read_text(encoding="utf-8"))
INK, OURS, OTHERS, LIMIT = "#444444", "#0072B2", "#999999", "#D55E00"

Results = dict[str, Any]


def phrase(key: str, language: str, **values: Any) -> str:
    """Return a phrase of the catalogue, with ``values`` filled in."""
    return CATALOGUE[key][language].format(**values)


def number(value: float, digits: int = 2, language: str = "en") -> str:
    """Write a number with the language's decimal mark and a true minus sign."""
    text = f"{value:,.{digits}f}".replace("-", "−")
    return text.translate(str.maketrans(".,", ",.")) if language == "pt" else text


def rung(name: str, results: Results, language: str) -> str:
    """Name a rung of the ladder; the limit by the precision that it was reached at."""
    at = results.get("limit_precision") if name == "limit" else None
    return phrase(f"rung-{name}-{at}" if at else f"rung-{name}", language)


def page(language: str) -> str:
    """Return the whole page."""
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = partial(number, language=language)
    names = {"load": read, "devices": DEVICES, "language": language}
    names |= {f.__name__: partial(f, language=language) for f in (phrase, rung)}
    return environment.get_template("README.md.j2").render(names).rstrip() + "\n"


# --- plots ---------------------------------------------------------------------------


def draw_ladder(found: Results, language: str) -> plt.Figure:
    """Draw a bar a rung: seconds an epoch, and a line where the limit is."""
    results, rows = found["results"], found["results"]["rows"]
    rungs = [row for row in rows if not row["name"].startswith("limit")][::-1]
    (limit,) = (row["seconds"] for row in rows if row["name"] == "limit")
    figure, ax = plt.subplots(figsize=(8, 0.42 * len(rungs) + 1.2))
    names = [rung(row["name"], results, language).replace("`", "") for row in rungs]
    colors = [OURS if "fit" in row["name"] else OTHERS for row in rungs]
    bars = ax.barh(names, [row["seconds"] for row in rungs], color=colors)
    ax.bar_label(
        bars,
        [number(row["seconds"], 2, language) for row in rungs],
        padding=3,
        color=INK,
    )
    name = rung("limit", results, language)
    ax.axvline(limit, color=LIMIT, linestyle="--", label=name)
    ax.legend(loc="lower right")
    ax.set_xlim(0, 1.12 * max(row["seconds"] for row in rungs))
    ax.set_xlabel(phrase("seconds", language))
    return figure


def draw_exact(found: Results, language: str) -> plt.Figure:
    """Draw error against seconds, a point a grid."""
    rows = found["results"]["rows"]
    figure, ax = plt.subplots(figsize=(6, 4))
    seconds = [row["seconds"] for row in rows]
    ax.semilogy(seconds, [row["mean_error"] for row in rows], "o", color=OURS)
    for row in rows:
        name = f"  {row['name']} × {row['name']}"
        ax.text(row["seconds"], row["mean_error"], name, color=INK, fontsize=8)
    ax.axhline(1e-3, color=LIMIT, linestyle="--")
    ax.set_xlim(0, 1.25 * max(seconds))
    ax.set_xlabel(phrase("seconds-all", language))
    ax.set_ylabel(phrase("error", language))
    return figure


def draw_growth(found: Results, language: str) -> plt.Figure:
    """Draw seconds an epoch against images, latents and batch size."""
    results = found["results"]
    rows = {row["name"]: row["seconds"] for row in results["rows"]}
    kinds = ("images", "latents", "batch")
    figure, axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained")
    for ax, kind in zip(axes, kinds, strict=True):
        points = {results["base"][kind]: rows["base"]}
        for name, seconds in rows.items():
            if name.startswith(kind):
                points[int(name.split()[1])] = seconds
        values = sorted(points)
        ax.semilogx(values, [points[value] for value in values], "o-", color=OURS)
        ax.set_xticks(values, [str(value) for value in values], rotation=60)
        ax.minorticks_off()
        ax.set_ylim(0, None)
        ax.set_xlabel(phrase(f"growth-{kind}", language))
        ax.yaxis.set_major_formatter(lambda value, _: number(value, 1, language))
        ax.yaxis.set_major_locator(MaxNLocator(5))
    axes[0].set_ylabel(phrase("seconds", language))
    return figure


PLOTS = {
    "training_cpu": draw_ladder,
    "training_cuda": draw_ladder,
    "exact": draw_exact,
    "growth_cpu": draw_growth,
}


def main() -> None:
    """Write both pages and all plots."""
    for language in LANGUAGES:
        suffix = "" if language == "en" else f".{language}"
        (HERE / f"README{suffix}.md").write_text(page(language), encoding="utf-8")
        folder = HERE / "plots" / language
        folder.mkdir(parents=True, exist_ok=True)
        for name, draw in PLOTS.items():
            if found := read(name):
                figure = draw(found, language)
                figure.savefig(folder / f"{name}.png", dpi=110, bbox_inches="tight")
                plt.close(figure)


if __name__ == "__main__":
    main()
