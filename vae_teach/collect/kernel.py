"""The process that runs one notebook of a stranger; ``running`` starts and watches it.

It reads a job from standard input: cells, and what to ask after some of them. The
course asks for each verdict itself, and takes only the answer to its own question, so
that what a notebook displays, or has stored, is worth nothing. Each answer is one line
of JSON.
"""

import json
import os
import queue
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from vae_teach.records import KIND

Job = dict[str, Any]


PARENT = os.getppid()


class DeadError(Exception):
    """The kernel is gone, or nobody waits for its answers any more."""


def ask(
    manager: KernelManager, client: BlockingKernelClient, code: str
) -> dict[str, Any]:
    """Run code to its end; return what its last line shows, nothing if it stopped.

    What else the code sends is dropped as it comes. Raises DeadError if the kernel
    dies.
    """
    sent, shown = client.execute(code, allow_stdin=False, stop_on_error=False), {}
    while True:
        try:
            message = client.get_iopub_msg(timeout=1)
        except queue.Empty:
            if not manager.is_alive() or os.getppid() != PARENT:
                raise DeadError from None
            continue
        if message["parent_header"].get("msg_id") != sent:
            continue
        kind, content = message["msg_type"], message["content"]
        if kind == "execute_result":
            shown = content["data"]
        if kind == "status" and content["execution_state"] == "idle":
            return shown


def judge(job: Job, tell: Callable[[str, Any], None]) -> None:
    """Run the cells of a job; tell of each exercise the record of its verdict, or None.

    The verdict is asked for right after the exercise's cell, and where that cell is
    gone, at the end. Raises DeadError if the kernel dies.
    """
    manager = KernelManager(kernel_name="python3")
    left = dict(job["asks"])
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        manager.start_kernel(
            cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        client = manager.client()
        client.start_channels()
        try:
            client.wait_for_ready(timeout=300)
            for key, source in job["cells"]:
                ask(manager, client, source)
                if key in left:
                    tell(key, ask(manager, client, left.pop(key)).get(KIND))
                if not left:
                    return
            for key, question in left.items():
                tell(key, ask(manager, client, question).get(KIND))
        except RuntimeError:  # not ready
            raise DeadError from None
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)


def main() -> None:
    """Serve the job of standard input; status 1 if the kernel died."""
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"  # this Python's own kernel
    job = json.loads(sys.stdin.buffer.read())
    try:
        judge(job, lambda key, found: print(json.dumps([key, found]), flush=True))
    except DeadError:
        sys.exit(1)


if __name__ == "__main__":
    main()
