"""Break the course on purpose, one thing at a time, and see which tests notice.

``tests/mutants.toml`` has a row a break: an area, the edits, the tests that must turn
red, and for a break that changes nothing the reason why none can. Each is made in a
copy of the working tree, so nothing here changes. A row that stays green survived.
"""

import argparse
import os
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "tests" / "mutants.toml"
LIMIT = 900  # seconds for one break
RED, GREEN = 1, 0  # pytest's exit codes; any other says that no test was run

Row = dict[str, Any]


def read_table(path: Path = TABLE) -> list[Row]:
    """Return the rows, in the order of the file."""
    rows: list[Row] = tomllib.loads(path.read_text(encoding="utf-8"))["break"]
    return rows


def broken(row: Row, root: Path) -> Iterator[tuple[Path, str]]:
    """Yield each file that a row edits, with its text after the edits.

    Raises ValueError where what is to be replaced does not stand there exactly once.
    """
    texts: dict[Path, str] = {}
    for name, old, new in row["edits"]:
        path = root / name
        text = texts.get(path) or path.read_text(encoding="utf-8")
        if (count := text.count(old)) != 1:
            raise ValueError(f"{name}: {old!r} stands there {count} times, not once")
        texts[path] = text.replace(old, new)
    yield from texts.items()


def copy_of_tree(folder: Path) -> Path:
    """Copy what git sees of the working tree, new files included."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, names.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    if (ROOT / "node_modules").is_dir():
        (folder / "node_modules").symlink_to(ROOT / "node_modules")
    return folder


def run_tests(root: Path, tests: str) -> tuple[int, str]:
    """Run tests of a copy, up to the first that fails; return exit code and output."""
    env = os.environ | {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    env.setdefault("VAE_TEACH_DATA", str(ROOT.parent / "shared" / "data"))
    env["OMP_NUM_THREADS"] = "1"
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "--tb=line"]
    command += ["-p", "no:cacheprovider", *shlex.split(tests)]
    try:
        done = subprocess.run(
            command, cwd=root, env=env, capture_output=True, text=True, timeout=LIMIT
        )
    except subprocess.TimeoutExpired:
        return RED, f"not done after {LIMIT} s"
    return done.returncode, done.stdout + done.stderr


def try_row(row: Row, root: Path) -> tuple[str, str]:
    """Break, test and mend; return the outcome and why, in a line."""
    mended = {path: path.read_bytes() for path, _ in broken(row, root)}
    try:
        for path, text in broken(row, root):
            path.write_text(text, encoding="utf-8")
        code, output = run_tests(root, row["tests"])
    finally:
        for path, content in mended.items():
            path.write_bytes(content)
    outcome = {RED: "killed", GREEN: "SURVIVED"}.get(code, f"NOT TRIED ({code})")
    failed = [line for line in output.splitlines() if line.startswith("FAILED")]
    return outcome, (failed or output.splitlines() or ["no output"])[-1]


def chosen(rows: Sequence[Row], areas: Sequence[str], sample: int | None) -> list[Row]:
    """Return the rows to try: of some areas, and of these so many, drawn by lot."""
    some = [row for row in rows if "equivalent" not in row]
    some = [row for row in some if not areas or row["area"] in areas]
    return some if sample is None else random.sample(some, min(sample, len(some)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Try the chosen rows, print a line each and a table by area; 1 if one survived."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("areas", nargs="*", help="areas of the table; all if none")
    parser.add_argument("--sample", type=int, help="so many rows, drawn by lot")
    parser.add_argument("--green", action="store_true", help="first the tests unbroken")
    options = parser.parse_args(arguments)
    rows = chosen(read_table(), options.areas, options.sample)
    counts: Counter[tuple[str, bool]] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        root = copy_of_tree(Path(folder).resolve() / "course")
        for tests in dict.fromkeys(row["tests"] for row in rows if options.green):
            code, output = run_tests(root, tests)
            print(
                "green" if code == GREEN else f"NOT GREEN\n{output}", tests, flush=True
            )
        for row in rows:
            start = time.monotonic()
            outcome, why = try_row(row, root)
            counts[row["area"], outcome == "killed"] += 1
            seconds = time.monotonic() - start
            name, old, new = row["edits"][0]
            print(f"{outcome:9} {seconds:4.0f} s  {row['area']}: {name}", flush=True)
            print(f"          {old!r} -> {new!r}\n          {why[:150]}", flush=True)
    for area in dict.fromkeys(row["area"] for row in rows):
        killed, survived = counts[area, True], counts[area, False]
        print(f"{area:28} {killed:4} killed {survived:4} survived")
    return int(any(counts[area, False] for area, _ in counts))


if __name__ == "__main__":
    sys.exit(main())
