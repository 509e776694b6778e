"""Give large blocks of memory back to the system as soon as they are freed.

The C library of Linux keeps freed blocks of up to 32 MB for later, and the aligned ones
that PyTorch asks for fit badly into what was kept: a lesson that decodes a plane in
parts came to hold half a gigabyte that nobody used. Blocks of 4 MB or more now come
from the system and go back to it. Those of a training step are smaller.
"""

import ctypes
import sys
from contextlib import suppress

M_MMAP_THRESHOLD = -3  # in malloc.h
LARGE = 4 * 2**20  # bytes


def return_large_blocks() -> None:
    """Set the limit, for this process; does nothing where the C library has none."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library than GNU's
            ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE)
