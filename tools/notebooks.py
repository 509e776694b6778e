"""Build, check, accept and hand out the notebooks of the course.

A notebook is a pair: the percent .py that is written and reviewed, and the executed
.ipynb beside it. The .py always wins, and build refuses to replace an .ipynb that
somebody wrote into. To edit a lesson in JupyterLab, open the .py as a notebook (Open
With, Notebook). Contents decide and never file times. build runs a notebook again where
its code cells changed, its outputs, or a phrase that it says; after a change of
vae_teach use --force.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tools.building import build
from tools.checking import check_page
from tools.handing import hand_out
from tools.pages import LANGUAGES, ROOT, CourseError, read_page, sources, visible
from tools.translating import accept, check_pair, pairs, read_lock

OUT = ROOT.parent / "build" / "handout"


def check(root: Path, names: Sequence[str] = ()) -> Iterator[str]:
    """Every problem, as "file: [key] what is wrong and what to do"; runs nothing."""
    try:
        for path in sources(root, names):
            try:
                page = read_page(path)
            except CourseError as error:
                yield f"{path.parent.name}/{path.name}: [-] {error}"
            else:
                yield from check_page(page)
        for pt, en in pairs(root, names):
            yield from check_pair(pt, en)
        if not names:
            yield from check_files(root)
    except CourseError as error:  # of a file that every lesson needs
        yield f"{root.name}: [-] {error}"


def check_files(root: Path) -> Iterator[str]:
    """Both languages have the same files, and every .ipynb its .py."""
    pt, en = ({p.name for p in visible(root / language)} for language in LANGUAGES)
    for file in sorted(pt ^ en):
        yield f"{file}: [-] in one language only; a lesson has one name in both"
    for file in sorted(pt | en):
        if file.endswith(".ipynb") and f"{file[:-5]}py" not in pt | en:
            yield f"{file}: [-] has no .py; save it once in JupyterLab"
    for name in sorted({name for name, _ in read_lock(root)}):
        if f"{name}.py" not in pt | en:
            yield f"translations.lock: [-] names {name}, which is gone; run: accept"
    if not pt | en:
        yield f"{root.name}: [-] no notebooks; write pt/NN_slug.py and en/NN_slug.py"


def run_build(root: Path, names: Sequence[str], *, force: bool, timeout: int) -> int:
    """Build what was named, and go on where one notebook fails."""
    failed = 0
    for path in sources(root, names):
        name, start = f"{path.parent.name}/{path.stem}", time.monotonic()
        try:
            done = build(path, force=force, timeout=timeout)
            print(f"{name}: {done}, {time.monotonic() - start:.0f} s", flush=True)
        except CourseError as error:
            failed = 1
            print(f"{name}: {error}", file=sys.stderr, flush=True)
    return failed


def read_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--root", type=Path, default=ROOT, help="default: notebooks/")
    commands = parser.add_subparsers(dest="command", required=True)
    a = commands.add_parser("build", help="bring each .ipynb up to date, run if stale")
    a.add_argument("names", nargs="*", help="00_tour or pt/00_tour; default: all")
    a.add_argument("--force", action="store_true", help="run also what is fresh")
    a.add_argument("--timeout", type=int, default=900, help="seconds for a cell (900)")
    a = commands.add_parser("check", help="print every problem in a line, run nothing")
    a.add_argument("names", nargs="*", help="00_tour or pt/00_tour; default: all")
    a = commands.add_parser("accept", help="record that two texts say the same")
    a.add_argument("keys", nargs="*", help="names of cells you read in both languages")
    a.add_argument("--all", action="store_true", help="every cell")
    a.add_argument("--notebook", default="", help="only in this notebook: 00_tour")
    a = commands.add_parser("handout", help="zips for students and for lecturers")
    a.add_argument("--out", type=Path, default=OUT, help="default: build/handout")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; return 1 where something is wrong."""
    o = read_arguments(arguments)
    root = o.root.resolve()
    try:
        if o.command == "build":
            return run_build(root, o.names, force=o.force, timeout=o.timeout)
        if o.command == "check":
            lines = [*check(root, o.names)]
        elif o.command == "handout":
            lines = [f"{path}" for path in hand_out(root, o.out)]
        else:
            lines = accept(root, o.keys, every=o.all, notebook=o.notebook)
    except CourseError as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join(lines) or "nothing to say")
    return int(o.command == "check" and bool(lines))


if __name__ == "__main__":
    sys.exit(main())
