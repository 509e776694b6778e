"""What ``python -m vae_teach.checks collect FOLDER`` does: a table of marks.

It reads the notebooks below a folder and writes a row an answer: who, which exercise,
right or which hint, and when. Nothing of them runs, unless ``--run`` asks for it.
"""

import argparse
import io
import sys
from pathlib import Path
from typing import Any

from vae_teach.collect import Limits, Mark, find, lessons, marks, rerun, table
from vae_teach.collect.reading import Handed, read_all, recorded, who_handed
from vae_teach.words import LANGUAGES, say, use_language

MINUTES, GIGABYTES = 20.0, 4.0


class _Help(argparse.RawDescriptionHelpFormatter):
    """The help in the reader's language, the word before the usage included."""

    def add_usage(self, *arguments: Any, **named: Any) -> None:
        """Add the usage under our own word for it."""
        super().add_usage(*arguments, **{"prefix": say("usage"), **named})


def _read(arguments: list[str]) -> argparse.Namespace:
    """Return the options; the language is read first, since the help speaks it."""
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--language", choices=LANGUAGES, default=LANGUAGES[0])
    use_language(first.parse_known_args(arguments)[0].language)
    parser = argparse.ArgumentParser(
        prog="python -m vae_teach.checks",
        description=say("collect"),
        epilog=say("collect-danger"),
        formatter_class=_Help,
        add_help=False,
    )
    group = parser.add_argument_group(say("options"))
    group.add_argument("-h", "--help", action="help", help=say("option-help"))
    group.add_argument("--language", choices=LANGUAGES, help=say("option-language"))
    parser.add_argument("collect", choices=["collect"], help=say("collect-command"))
    parser.add_argument("folder", type=Path, help=say("collect-folder"))
    group.add_argument("--run", action="store_true", help=say("collect-run"))
    group.add_argument("--out", type=Path, help=say("collect-out"))
    for name, default in (("minutes", MINUTES), ("memory", GIGABYTES)):
        told = f"{say(f'collect-{name}')} [{default:g}]"
        group.add_argument(f"--{name}", type=float, default=default, help=told)
    return parser.parse_args(arguments)


def _marks_of(handed: Handed, options: argparse.Namespace) -> list[Mark]:
    """Return the rows of one notebook, run anew where that was asked for."""
    said, found = recorded(handed), None
    if options.run:
        print(say("collect-runs", file=handed.file), file=sys.stderr, flush=True)
        limits = Limits(60 * options.minutes, 2**30 * options.memory)
        found = rerun(handed, said, limits)
    return [*marks(handed, said, found)]


def main(arguments: list[str] | None = None) -> None:
    """Collect as the arguments say; the ones of the command line by default.

    Leaves with one sentence, and status 1, where the folder is none, the course cannot
    be read or the table cannot be written. What is skipped is told, and has a row.
    """
    for stream in (sys.stdout, sys.stderr):  # a console may lack some letters
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    options = _read(sys.argv[1:] if arguments is None else arguments)
    folder = options.folder
    if not folder.is_dir():
        sys.exit(say("collect-no-folder", folder=folder))
    rows = list[Mark]()
    try:
        for path, handed in read_all(folder, lessons()):
            if isinstance(handed, Handed):
                rows += _marks_of(handed, options)
            else:
                print(handed, file=sys.stderr)
                file = str(path.relative_to(folder))
                rows.append(Mark(who_handed(path, folder), file, note=str(handed)))
        if not rows:
            print(say("collect-nothing", folder=folder), file=sys.stderr)
        if others := find(folder)[1]:
            print(say("collect-others", count=others), file=sys.stderr)
        _write(table(rows), options.out)
    except (OSError, ValueError) as error:
        sys.exit(str(error))


def _write(text: str, out: Path | None) -> None:
    """Write the table to a file, marked as UTF-8 for spreadsheets, or to the screen."""
    if out is None:
        print(text, end="")
    else:
        out.write_text(text, encoding="utf-8-sig", newline="")
        print(say("collect-written", out=out), file=sys.stderr)


if __name__ == "__main__":
    main()
