"""Large blocks go back to the system when they are freed, whatever was freed before."""

import subprocess
import sys

import pytest

# Two blocks of 8 MB, one after the other: of the second, how many bytes did the C
# library take from the system as a block of its own?
ASK = """
import ctypes
{first}
class Info(ctypes.Structure):
    _fields_ = [(str(i), ctypes.c_size_t) for i in range(10)]
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = (ctypes.c_size_t,)
libc.free.argtypes = (ctypes.c_void_p,)
libc.mallinfo2.restype = Info
libc.free(libc.malloc(2**23))
block = libc.malloc(2**23)
print(getattr(libc.mallinfo2(), "4"))
"""


def own_bytes(first):
    code = ASK.format(first=first)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="GNU's C library")
def test_the_package_keeps_large_blocks_out_of_the_heap():
    assert own_bytes("import vae_teach") >= 2**23 > own_bytes("")
