"""The numbers of benchmarks/results, as the prose writes them."""

from results import read
from show import number

__all__ = ["number", "results"]


def results(name):
    return read(name)["results"]
