"""How long each notebook takes to run, and how much memory its kernel needs at most.

Run: uv run python benchmarks/notebooks.py [names such as en/00_tour]
Writes results/notebooks.json. Linux counts memory in kB, macOS in bytes.
"""

import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from results import write

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
PEAK = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"


def measure(path: Path) -> dict[str, object]:
    """Run a copy of one notebook in a fresh kernel; nothing is written."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(PEAK))
    start = time.perf_counter()
    NotebookClient(notebook, resources={"metadata": {"path": path.parent}}).execute()
    seconds = time.perf_counter() - start
    peak = int(notebook.cells[-1].outputs[0].text)
    megabytes = peak / (1024 if sys.platform == "linux" else 1024**2)
    return {
        "notebook": f"{path.parent.name}/{path.stem}",
        "seconds": round(seconds, 1),
        "peak_memory_mb": round(megabytes),
        "size_kb": round(path.stat().st_size / 1000),
    }


def main() -> None:
    """Measure the notebooks named on the command line, or all of them."""
    names = sys.argv[1:] or ["*/*"]
    paths = sorted(p for name in names for p in FOLDER.glob(f"{name}.ipynb"))
    rows = []
    for path in paths:
        rows.append(measure(path))
        print(rows[-1])
    write("notebooks", rows)


if __name__ == "__main__":
    main()
