"""The numbers of benchmarks/results, as the prose writes them."""

import json
from pathlib import Path

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results"


def results(name):
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))["results"]


def number(value, digits, language):
    text = f"{value:.{digits}f}".replace("-", "−")
    return text.replace(".", ",") if language == "pt" else text
