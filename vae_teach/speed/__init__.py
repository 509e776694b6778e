"""Faster training whose answers differ by rounding only.

Without this folder every number of the course stays the same: ``cuda_graph`` captures
a step for a GPU, ``processes`` divides each batch among several processes, and
``threads`` takes as many threads as the machine has free cores.
"""
