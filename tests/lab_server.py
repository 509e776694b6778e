"""A real JupyterLab for the tests, started by the course's own command on a copy."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parent.parent
COMMAND = "from vae_teach.lab import main; main()"
JUNK = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")


class Lab(NamedTuple):
    """A running JupyterLab: where it answers, and what to show to be let in."""

    url: str
    token: str
    pid: int


def copy_course(folder):
    """Copy the notebooks and the package, so that autosave edits nothing of ours."""
    for name in ("notebooks", "vae_teach"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=JUNK)
    return folder


@contextlib.contextmanager
def running_lab(course, home, *arguments):
    """Run ``lab`` with these arguments in a copy of the course; yield a Lab.

    Its settings are all in ``home``; the token is the one that the server made.
    """
    folders = {
        f"JUPYTER_{name}_DIR": str(home / name)
        for name in ("CONFIG", "DATA", "RUNTIME")
    }
    env = {k: v for k, v in os.environ.items() if not k.startswith("JUPYTER")}
    env.pop("MPLBACKEND", None)  # the kernel chooses its own
    folders |= {"IPYTHONDIR": str(home / "IPYTHON")}
    folders |= {"XDG_CONFIG_HOME": str(home / "XDG_CONFIG")}  # the cache stays in use
    env |= folders | {"PYTHONPATH": str(course)}
    options = ["--no-browser", "--allow-root", "--port=0"]
    home.mkdir(exist_ok=True)
    with (home / "lab.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, *arguments, *options],
            cwd=course / "vae_teach",  # any folder will do: the course is found
            env=env,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield wait_for(process, home)
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:  # a kernel that does not let go
                process.kill()
                process.wait()


def wait_for(process, home, patience=120):
    """Return the Lab that the server describes in Jupyter's runtime folder.

    It writes the description before it opens its port, so the port is asked too.
    """
    for _ in range(5 * patience):
        for file in (home / "RUNTIME").glob("jpserver-*.json"):
            with contextlib.suppress(json.JSONDecodeError, ConnectionRefusedError):
                about = json.loads(file.read_text(encoding="utf-8"))
                socket.create_connection(("127.0.0.1", about["port"]), 30).close()
                url = f"http://127.0.0.1:{about['port']}"
                return Lab(url, about["token"], about["pid"])
        if process.poll() is not None:
            break
        time.sleep(0.2)
    raise RuntimeError((home / "lab.log").read_text(encoding="utf-8"))
