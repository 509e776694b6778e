"""What every benchmark shares: its options, and its results with the machine's name."""

import argparse
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).resolve().parent / "results"
BFLOAT16_FLAGS = ("amx_bf16", "avx512_bf16", "bf16")  # the last is ARM's


def read_options(
    description: str,
    *,
    device: bool = False,
    flags: Sequence[str] = (),
    **counts: int,
) -> argparse.Namespace:
    """Read the command line, and set the number of threads.

    Args:
        description: the script's docstring, shown by ``--help``.
        device: whether the script takes ``--device``.
        flags: names of options that are on or off.
        counts: names of options that are whole numbers, with their defaults.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, help="PyTorch's choice if not set")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where JSON goes")
    if device:
        parser.add_argument("--device", help="the accelerator if there is one")
    for name in flags:
        parser.add_argument(f"--{name}", action="store_true")
    for name, default in counts.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    return options


def machine() -> dict[str, Any]:
    """Return what a reader needs to judge a number: processor, versions, commit.

    ``bfloat16`` lists the processor's flags for that format, and is None where the
    system does not tell.
    """
    about = _processor_lines()
    git = ["git", "rev-parse", "--short", "HEAD"]
    done = subprocess.run(git, cwd=RESULTS, capture_output=True, text=True, check=False)
    named = about.get("model name") or platform.processor() or platform.machine()
    known = about.get("flags", about.get("Features"))
    return {
        "processor": named,
        "bfloat16": known and [f for f in BFLOAT16_FLAGS if f in known.split()],
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "date": date.today().isoformat(),
        "commit": done.stdout.strip(),
    }


def _processor_lines() -> dict[str, str]:
    """Return what Linux says of a processor, by name; nothing on other systems."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    pairs = (line.partition(":") for line in lines)
    return {name.strip(): value.strip() for name, _, value in pairs}


def write(name: str, content: Any, folder: Path = RESULTS) -> None:
    """Write ``NAME.json`` with the machine into ``folder``, and print its path."""
    path = folder / f"{name}.json"
    text = json.dumps({"machine": machine(), "results": content}, indent=2)
    path.write_text(text + "\n", encoding="utf-8")
    print(path)


def read(name: str) -> dict[str, Any] | None:
    """Return what a benchmark wrote, or None where nobody has run it."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else None
