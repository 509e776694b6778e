"""What every benchmark writes: results as JSON, with the machine that made them."""

import argparse
import json
import os
import platform
import subprocess
from datetime import date
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).resolve().parent / "results"


def machine() -> dict[str, Any]:
    """Return what a reader needs to judge a number: processor, versions, commit."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if "model name" in line]
        cpu = names[0].split(":")[1].strip() if names else cpu
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=RESULTS,
        capture_output=True,
        text=True,
    ).stdout.strip()
    accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "processor": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "accelerator": accelerator,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "date": date.today().isoformat(),
        "commit": commit,
    }


def parser(description: str) -> argparse.ArgumentParser:
    """Return a parser of what all timing scripts take: rounds and threads."""
    arguments = argparse.ArgumentParser(description=description.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--threads", type=int, help="as PyTorch likes if not set")
    return arguments


def write(name: str, results: Any) -> Path:
    """Write ``results/NAME.json`` and return its path."""
    path = RESULTS / f"{name}.json"
    content = {"machine": machine(), "results": results}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return path
