"""What nbval needs to judge a notebook as Jupyter and the build command do."""

import os
from typing import Any

import nbval.kernel
import nbval.plugin

from vae_teach.records import KIND


def execute_as_jupyter_does(
    self: Any, cell_input: str, allow_stdin: bool | None = None
) -> Any:
    """Run a cell with history: without it, IPython ignores a trailing semicolon."""
    return self.kc.execute(
        cell_input,
        allow_stdin=bool(allow_stdin),
        stop_on_error=False,
        store_history=True,
    )


compare_stored = nbval.plugin.IPyNbCell.compare_outputs


def compare_without_records(
    self: Any, test: Any, ref: Any, skip_compare: Any = None
) -> Any:
    """Compare a cell's outputs less the records of verdicts, which hold a time."""
    skipped = (*(skip_compare or self.parent.skip_compare), KIND)
    return compare_stored(self, test, ref, skipped)


start_kernel = nbval.kernel.start_new_kernel


def start_without_progress_bars(**options: Any) -> Any:
    """Start a kernel in which tqdm draws nothing, as build does."""
    return start_kernel(env={**os.environ, "TQDM_DISABLE": "1"}, **options)


nbval.kernel.RunningKernel.execute_cell_input = execute_as_jupyter_does
nbval.kernel.start_new_kernel = start_without_progress_bars
nbval.plugin.IPyNbCell.compare_outputs = compare_without_records
