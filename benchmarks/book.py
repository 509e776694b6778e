"""The book: seconds to build it, what its pages weigh, how fast the explorer decodes.

Run: uv run python benchmarks/book.py [--rounds 5]
Writes results/book.json.

The build is the command that readers use, both languages at once. A page's weight is
its HTML, its pictures and its explorer's state; what all pages share is counted apart.
One decode is a call of the explorer's own JavaScript in headless Chromium on the built
page, at points drawn from the prior: the median of a thousand, after a hundred to warm
up.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from browser import open_page
from results import read_options, write

ROOT = Path(__file__).resolve().parent.parent
WARM, CALLS = 100, 1_000
MEASURE = """async ([warm, calls]) => {
  const place = document.querySelector(".course-widget");
  place.scrollIntoView();
  while (!place.dataset.alive) await new Promise(done => setTimeout(done, 20));
  const { module } = courseWidgets.stored(place.dataset.model);
  const type = "text/javascript", blob = new Blob([module._esm], { type });
  const code = URL.createObjectURL(blob);
  const { decode, unpackFloat16 } = await import(code);
  const weights = unpackFloat16(place.model.get("weights"));
  const { layers } = place.model.get("spec");
  const normal = () => Math.sqrt(-2 * Math.log(1 - Math.random()))
    * Math.cos(2 * Math.PI * Math.random());
  const times = [];
  for (let k = 0; k < warm + calls; k++) {
    const z = Array.from({ length: layers[0][0] }, normal), begin = performance.now();
    decode(weights, layers, z);
    if (k >= warm) times.push(performance.now() - begin);
  }
  return [layers, times];
}"""


def built(out: Path) -> float:
    """Build the book and return the seconds that it took."""
    start = time.perf_counter()
    command = [sys.executable, str(ROOT / "book" / "build.py"), "--out", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def weights(site: Path) -> dict[str, Any]:
    """Return bytes of each lesson's page with what it needs, and of what all share."""
    lessons = {}
    for page in sorted(site.glob("*/[0-9][0-9]_*.html")):
        text = page.read_text(encoding="utf-8")
        parts = {page, page.parent / "_static" / f"state-{page.stem}.js"}
        parts |= {file for file in page.parent.glob("_images/*") if file.name in text}
        size = sum(file.stat().st_size for file in parts if file.exists())
        lessons[page.relative_to(site).as_posix()] = size
    files = [file for file in site.rglob("_static/**/*") if file.is_file()]
    shared = [file for file in files if not file.name.startswith("state-")]
    return {"lessons": lessons, "shared": sum(file.stat().st_size for file in shared)}


def decoding(site: Path) -> dict[str, Any]:
    """Return milliseconds of one decode in the browser, from a page on the disk."""
    with open_page() as (page, version):
        page.goto((site / "en" / "00_tour.html").as_uri())
        layers, times = page.evaluate(MEASURE, [WARM, CALLS])
    median, tail = statistics.median(times), sorted(times)[int(0.99 * len(times))]
    return {
        "layers": layers,
        "median_ms": round(median, 3),
        "ms_99_percent": round(tail, 3),
        "chromium": version,
    }


def main() -> None:
    """Measure and write."""
    options = read_options(__doc__, rounds=5)
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder) / "book"
        seconds = [built(site) for _ in range(options.rounds)]
        content = {
            "build_seconds": [round(s, 1) for s in seconds],
            "build_median": round(statistics.median(seconds), 1),
            **weights(site),
            "decode": decoding(site),
        }
    write("book", content, options.out)


if __name__ == "__main__":
    main()
