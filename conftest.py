"""What nbval needs to judge a notebook as Jupyter and the build command do."""

from typing import Any

from nbval.kernel import RunningKernel
from nbval.plugin import IPyNbCell

from tools.notebooks import without_chance


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


compare_everything = IPyNbCell.compare_outputs


def compare_without_progress(self: Any, test: Any, ref: Any, *rest: Any) -> Any:
    """Compare outputs less the progress bars, which build does not store."""
    return compare_everything(self, without_chance(test), without_chance(ref), *rest)


RunningKernel.execute_cell_input = execute_as_jupyter_does
IPyNbCell.compare_outputs = compare_without_progress
