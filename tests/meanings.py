"""What the names in formulas are worth: random points, and what lessons define."""

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from latex import COMMON, plain
from scipy import stats

from tools import pages

ROOT = Path(__file__).resolve().parents[1]
LINE = np.linspace(-12, 12, 1201)[None, :, None]  # points z, as many as an axis takes


@dataclass(frozen=True)
class Point:
    """A random point: ``point(name, *shape)`` has the same numbers at every call."""

    shifts: tuple[tuple[str, float], ...] = ()

    def __call__(self, name, *shape):
        return self.still(name, *shape) + dict(self.shifts).get(plain(name), 0.0)

    def still(self, name, *shape):
        """Return the same numbers, wherever the point is moved."""
        random = np.random.default_rng([*name.encode()])
        return random.uniform(0.3, 1.3, shape)

    def density(self, name, *shape, axis=-2):
        numbers = self(name, *shape)
        return numbers / numbers.sum(axis, keepdims=True)

    def moved(self, name, by):
        return Point((*self.shifts, (plain(name), by)))


class Names(dict):
    """What each name is worth in a cell, at a point and at others nearby.

    ``meanings(point)`` returns these for each cell, and under "" for all.
    """

    def __init__(self, meanings, point, cell):
        self.meanings, self.point, self.cell = meanings, point, cell
        cells = meanings(point)
        found = COMMON | cells.get("", {}) | cells.get(cell, {})
        super().__init__({plain(name): value for name, value in found.items()})

    def moved(self, name, by):
        return Names(self.meanings, self.point.moved(name, by), self.cell)


@cache
def notebook(file):
    return pages.read_page(file).source


def binds(node):
    """Return the names that an import, a definition or a constant gives a meaning."""
    match node:
        case ast.Import() | ast.ImportFrom():
            return {alias.asname or alias.name for alias in node.names}
        case ast.FunctionDef() | ast.ClassDef():
            return {node.name}
        case ast.Assign([ast.Name()], ast.Constant()):
            return {node.targets[0].id}
    return set()


@cache
def compiled(lesson, wanted):
    """Compile definitions of a lesson and what they look up: no cell's work is done."""
    source = notebook(ROOT / "notebooks" / "en" / f"{lesson}.py")
    code = "\n".join(pages.python(cell.source) for cell in pages.code_cells(source))
    body, names = [], {*wanted}
    for node in reversed(ast.parse(code).body):
        if binds(node) & names:
            body.insert(0, node)
            names |= {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
    return compile(ast.Module(body, []), lesson, "exec")


def definitions(lesson, *names, **values):
    """Return functions and constants of a lesson, with values for what they look up."""
    found = dict(values)
    exec(compiled(lesson, names), found)
    found |= values
    return found


def tensor(value):
    return torch.as_tensor(value, dtype=torch.float64)


def normal(mean, width):
    """Return the probability of each point of LINE under a normal distribution."""
    return stats.norm.pdf(LINE, mean, width) * (LINE[0, 1, 0] - LINE[0, 0, 0])


def law(log_density):
    """Return mean and variance of a distribution of one dimension."""
    z = torch.linspace(-20, 20, 8001, dtype=torch.float64)[:, None]
    weights = log_density(z).reshape(-1, 1).softmax(0)
    mean = (weights * z).sum()
    return mean.item(), (weights * (z - mean) ** 2).sum().item()


def slope(function, at, step=1e-5):
    return (function(at + step) - function(at - step)) / (2 * step)


def joint(at):
    """Return three images, seven points z, and an approximate posterior of each."""
    prior, q = at.density("prior", 1, 7, 1), at.density("q", 3, 7, 1)
    likelihood = at.density("likelihood", 3, 7, 1, axis=-3)
    both = likelihood * prior
    evidence = both.sum(-2, keepdims=True)
    elbo = -stats.entropy(q, both / evidence, axis=-2)[:, None] + np.log(evidence)
    return {
        "p(z)": prior,
        r"p(x \mid z)": likelihood,
        "p(x, z)": both,
        "p(x)": evidence,
        r"p(z \mid x)": both / evidence,
        r"q(z \mid x)": q,
        "q(z)": q,
        "q": q,
        "p": prior,
        r"\mathrm{ELBO}": elbo,
        r"\mathrm{ELBO}(x)": elbo,
    }
