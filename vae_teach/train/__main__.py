"""What ``python -m vae_teach.train`` does: train one model from a terminal.

It reads the data, trains on one device or on all that ``torchrun`` gives it, and leaves
a checkpoint and a picture. Stopped at any moment, the same command goes on.
"""

import argparse
import io
import json
import os
import sys
import time
from contextlib import nullcontext, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NoReturn

import torch

from vae_teach import data, figures
from vae_teach.nets import VAE
from vae_teach.speed.processes import Team, processes
from vae_teach.train.loop import fit
from vae_teach.words import LANGUAGES, say, use_language

# name: its type and its default
OPTIONS: dict[str, tuple[type, object]] = {
    "data": (str, "auto"),
    "hidden-dim": (int, 400),
    "latent-dim": (int, 2),
    "epochs": (int, 15),
    "batch-size": (int, 128),
    "learning-rate": (float, 1e-3),
    "precision": (str, "highest"),
    "seed": (int, 0),
    "device": (str, None),
    "checkpoint": (Path, Path("vae.safetensors")),
}
PNG = b"\x89PNG\r\n\x1a\n"  # how such a file begins


def main(arguments: list[str] | None = None) -> None:
    """Train as the arguments say; the ones of the command line by default.

    Leaves with one sentence, and status 1, where a setting cannot be served. Of several
    processes the first alone speaks; the others fail with it, or name what they lack.
    """
    for stream in (sys.stdout, sys.stderr):  # a console may lack some letters
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    leads = os.environ.get("RANK", "0") == "0"
    silence = nullcontext() if leads else redirect_stdout(io.StringIO())
    with silence, nullcontext() if leads else redirect_stderr(io.StringIO()):
        options = _read(sys.argv[1:] if arguments is None else arguments)
    try:
        with silence, processes(options.device) as place:
            _run(options, place)
    except ValueError as error:  # the same in all processes
        _leave(str(error), aloud=leads)
    except (OSError, FloatingPointError, torch.OutOfMemoryError) as error:
        _leave(str(error), aloud=True)


def _leave(sentence: str, *, aloud: bool) -> NoReturn:
    """End with status 1; torchrun closes its own report with the sentence."""
    if report := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        when = {"timestamp": str(int(time.time()))}
        told = {"message": {"message": sentence, "extraInfo": when}}
        Path(report).write_text(json.dumps(told), encoding="utf-8")
    sys.exit(sentence if aloud else 1)


class _Help(argparse.RawDescriptionHelpFormatter):
    """The help in the reader's language, the word before the usage included."""

    def add_usage(self, *arguments: Any, **named: Any) -> None:
        """Add the usage under our own word for it."""
        super().add_usage(*arguments, **{"prefix": say("usage"), **named})


def _read(arguments: list[str]) -> argparse.Namespace:
    """Return the options; the language is read first, since the help speaks it."""
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--language", choices=LANGUAGES, default=LANGUAGES[0])
    language = first.parse_known_args(arguments)[0].language
    use_language(language)
    parser = argparse.ArgumentParser(
        prog="python -m vae_teach.train",
        description=say("command"),
        epilog=say("command-several"),
        formatter_class=_Help,
        add_help=False,
    )
    group = parser.add_argument_group(say("options"))
    group.add_argument("-h", "--help", action="help", help=say("option-help"))
    group.add_argument("--language", choices=LANGUAGES, help=say("option-language"))
    for name, (kind, default) in OPTIONS.items():
        shown = "" if default is None else f" [{default}]"
        group.add_argument(
            f"--{name}", type=kind, default=default, help=say(f"option-{name}") + shown
        )
    return parser.parse_args(arguments)


def _run(options: argparse.Namespace, place: torch.device) -> None:
    """Train, and let the first process print, write the checkpoint and the picture."""
    team = Team(place)
    picture = _picture_beside(options.checkpoint)
    images = data.load(options.data, "train")
    test = data.load(images.name, "test")
    torch.manual_seed(options.seed)
    model = VAE(images.pixels.shape[-1], options.hidden_dim, options.latent_dim)
    history = fit(
        model,
        images,
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        device=place,
        checkpoint=options.checkpoint,
        test=test,
        precision=options.precision,
    )
    if not (team.leads and len(history)):
        return
    print(history)
    drawn = figures.manifold(model) if model.latent_dim == 2 else figures.samples(model)
    drawn.savefig(picture)
    print(say("command-written", checkpoint=options.checkpoint, picture=picture))


def _picture_beside(checkpoint: Path) -> Path:
    """Return where the picture goes; ValueError where it would erase something else."""
    path = Path(str(checkpoint).removesuffix(".safetensors") + ".png")
    if path.exists() and not (path.is_file() and path.read_bytes()[:8] == PNG):
        raise ValueError(say("command-picture", path=path))
    return path


if __name__ == "__main__":
    main()
