"""What makes training faster and changes no answer beyond rounding.

Delete this folder and every number of the course stays the same: ``cuda_graph``
records a step for a GPU, ``processes`` shares each batch among several.
"""
