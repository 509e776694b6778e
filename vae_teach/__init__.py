"""vae_teach: what the lessons on variational autoencoders import, one idea a module."""

import ctypes
import sys
from contextlib import suppress

__version__ = "0.1.0"

M_MMAP_THRESHOLD = -3  # in malloc.h
LARGE_BLOCK = 4 * 2**20  # bytes, more than a step of training asks for


def _return_large_blocks() -> None:
    """Let large blocks of memory go back to the system as soon as they are freed.

    Linux's C library keeps freed blocks of up to 32 MB for later, and the aligned ones
    that PyTorch asks for fit badly into what was kept: a lesson that decodes a plane in
    parts came to hold half a gigabyte that nobody used.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library than GNU's
            ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK)


_return_large_blocks()
