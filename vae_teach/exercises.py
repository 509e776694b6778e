"""The exercises of a lesson, found in its notebook: no list names them.

An exercise is a cell that ends in a call of ``checks``, and is no solution. Nothing
here runs a notebook, so that those of strangers can be looked at too.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vae_teach.copies import Notebook

SOLUTION = "solution"  # the tag of a cell that answers an exercise
Cell = dict[str, Any]


@dataclass(frozen=True)
class Exercise:
    """One exercise of a lesson.

    Args:
        key: that of its cell.
        module: of the checks, such as "tour".
        check: the name of its check, such as "kl".
        call: the code that asks for the verdict, such as "checks.kl(my_kl)".
    """

    key: str
    module: str
    check: str
    call: str

    @property
    def asks(self) -> str:
        """The code that asks the course's own check, whatever ``checks`` has become."""
        return f"from vae_teach.checks import {self.module} as checks\n{self.call}"


def source_of(cell: Cell) -> str:
    """Return what is written in a cell: notebooks store a text or its lines.

    Raises TypeError where it is neither.
    """
    return "".join(cell["source"])


def key_of(cell: Cell) -> str:
    """Return the name of a cell in the course, or "" for a cell that has none.

    It is in the metadata too: some programs give every cell a new id.
    """
    metadata = cell.get("metadata")
    named = metadata.get("key") if isinstance(metadata, dict) else None
    key = named or cell.get("id")
    return key if isinstance(key, str) else ""


def is_solution(cell: Cell) -> bool:
    """Return whether a cell shows the answer to an exercise."""
    metadata = cell.get("metadata")
    tags = metadata.get("tags") if isinstance(metadata, dict) else None
    return isinstance(tags, list) and SOLUTION in tags


def code_cells(notebook: Notebook) -> Iterator[Cell]:
    """Yield the cells of code that are no solutions, in order."""
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code" and not is_solution(cell):
            yield cell


def tree_of(cell: Cell) -> ast.Module:
    """Return the code of a cell as a tree, an empty one where it is no plain Python."""
    try:
        return ast.parse(source_of(cell))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ast.Module([], [])


def exercises_of(notebook: Notebook) -> dict[str, Exercise]:
    """Return the exercises of one of the course's own lessons, by their cells' keys.

    Raises what :func:`source_of` does, and KeyError where the JSON is no notebook.
    """
    found, module = dict[str, Exercise](), ""
    for cell in code_cells(notebook):
        tree = tree_of(cell)
        module = imported_checks(tree) or module
        match tree.body[-1:]:
            case [ast.Expr(ast.Call(ast.Attribute(ast.Name("checks"), name)) as call)]:
                key = key_of(cell)
                found[key] = Exercise(key, module, name, ast.unparse(call))
    return found


def imported_checks(tree: ast.Module) -> str:
    """Return which module of checks a cell imports as ``checks``, or ""."""
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module == "vae_teach.checks":
            for alias in node.names:
                if alias.asname == "checks":
                    return alias.name
    return ""
