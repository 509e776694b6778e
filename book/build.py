"""Build the book: both languages, offline, warnings as errors, in less than a minute.

    npm ci                            # once: formulas and fonts come from npm packages
    uv run python book/build.py       # writes build/book, the folder to upload

Open ``build/book/index.html``, from a disk or from any static host. Every notebook in
``notebooks/pt`` and ``notebooks/en`` is a page; no list has to be edited. Nothing is
executed: the pages show what the notebooks store.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

BOOK = Path(__file__).resolve().parent
ROOT = BOOK.parent
sys.path[:0] = [str(BOOK), str(ROOT)]

import prepare  # noqa: E402

from tools.handing import hand_out  # noqa: E402
from tools.pages import CourseError  # noqa: E402

NO_NODE = (
    "The book needs Node.js and its npm packages. Install them once: "
    "apt-get install nodejs npm (on Debian), then npm ci in the repository."
)
FONTS = ("source-code-pro", "source-sans-3", "source-serif-4")
LEFTOVERS = (".buildinfo*", "objects.inv", "*.map", "searchtools.js", "debug.css")
# What Pygments marks as a name, punctuation or a space has the colour of plain code in
# both styles of conf.py; without these marks a lesson weighs a tenth less.
PLAIN = re.compile(r'<span class="(?:n|p|w)">([^<]*)</span>')
MODULES = ROOT / "node_modules"


def missing() -> str:
    """Return what must be installed before a book can be built; nothing if all is."""
    packages = ["katex", *(f"@fontsource-variable/{font}" for font in FONTS)]
    there = all((MODULES / name / "package.json").exists() for name in packages)
    return "" if there and shutil.which("node") else NO_NODE


def copy_fonts(static: Path) -> None:
    """Copy the fonts of Latin letters, with their licence and a style sheet."""
    static.mkdir(parents=True)
    styles = []
    for font in FONTS:
        package = MODULES / "@fontsource-variable" / font
        for style in ("", "-italic"):
            sheet = (package / f"wght{style}.css").read_text(encoding="utf-8")
            for face in re.findall(r"@font-face \{[^}]*\}", sheet):
                name = re.search(r"files/([\w-]+-latin(?:-ext)?-wght[\w-]*)\.", face)
                if name is None:
                    continue
                file = f"{name[1]}.woff2"
                shutil.copy(package / "files" / file, static / file)
                styles.append(re.sub(r"url\(\./files/", "url(", face))
        shutil.copy(package / "LICENSE", static / f"{font}-LICENSE.txt")
    (static / "fonts.css").write_text("\n".join(styles), encoding="utf-8")


def copy_formulas(static: Path) -> None:
    """Copy KaTeX's style sheet, its licence and its fonts, in the newest format."""
    package = MODULES / "katex"
    others = shutil.ignore_patterns("*.ttf", "*.woff")
    shutil.copytree(package / "dist" / "fonts", static / "fonts", ignore=others)
    sheet = (package / "dist" / "katex.min.css").read_text(encoding="utf-8")
    newest = re.sub(r',url\([^)]*\) format\("(?:woff|truetype)"\)', "", sheet)
    (static / "katex.min.css").write_text(newest, encoding="utf-8")
    shutil.copy(package / "LICENSE", static / "LICENSE.txt")


def sphinx(language: str, work: Path, out: Path) -> "subprocess.Popen[bytes]":
    """Start the build of one language, which says what it finds in its log."""
    options = ["-W", "--keep-going", "-q", "-E", "-b", "html", "-c", str(BOOK)]
    folders = [str(work / language), str(out / language)]
    command = [sys.executable, "-m", "sphinx", *options, "-d", str(work / "trees")]
    command[-1] += f"-{language}"
    about = {"COURSE_LANGUAGE": language, "COURSE_WORK": str(work)}
    with (work / f"{language}.log").open("wb") as log:  # Node.js may outlive a pipe
        return subprocess.Popen(
            [*command, *folders], env=os.environ | about, stdout=log, stderr=log
        )


def build(out: Path, notebooks: Path, pages: Path, *, reference: bool = True) -> int:
    """Build the book into ``out``; return 1 if a page of it is wrong."""
    if reason := missing():
        print(reason, file=sys.stderr)
        return 1
    work = out.with_name(f"{out.name}-work")
    for folder in (out, work):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    copy_fonts(work / "static" / "fonts")
    copy_formulas(work / "static" / "katex")
    try:
        prepare.prepare(work, notebooks, pages, reference=reference)
        hand_out(notebooks, work, pages)  # beside the pages that offer them
    except (prepare.SourceError, CourseError) as error:
        print(error, file=sys.stderr)
        return 1
    running = {language: sphinx(language, work, out) for language in prepare.LANGUAGES}
    failed = 0
    for language, process in running.items():
        if process.wait():
            failed = 1
            said = (work / f"{language}.log").read_text(encoding="utf-8")
            print(f"{language}: not built\n{said}", file=sys.stderr)
    # myst-nb keeps the pictures of notebooks here; the pages have their own copies.
    shutil.rmtree(out / "jupyter_execute", ignore_errors=True)
    shutil.copytree(BOOK / "site", out, dirs_exist_ok=True)
    images = out / "images"
    images.mkdir()
    for picture in (BOOK / "images").glob("*.png"):
        shutil.copy(picture, images)
    for page in out.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        page.write_text(PLAIN.sub(r"\1", text), encoding="utf-8")
    (out / ".nojekyll").touch()  # or GitHub Pages leaves out folders such as _static
    for leftover in LEFTOVERS:
        for file in out.rglob(leftover):
            file.unlink()
    return failed


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "book")
    parser.add_argument("--notebooks", type=Path, default=ROOT / "notebooks")
    parser.add_argument("--pages", type=Path, default=BOOK / "pages")
    parser.add_argument(
        "--no-reference",
        action="store_true",
        help="leave out the reference of vae_teach, which takes half the time",
    )
    o = parser.parse_args(arguments)
    start = time.monotonic()
    folders = (path.resolve() for path in (o.out, o.notebooks, o.pages))
    failed = build(*folders, reference=not o.no_reference)
    if not failed:
        print(f"{o.out / 'index.html'}: built in {time.monotonic() - start:.0f} s")
    return failed


if __name__ == "__main__":
    sys.exit(main())
