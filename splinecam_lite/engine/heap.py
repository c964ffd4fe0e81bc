"""Memory that has been freed, given back to the system.

Blocks come and go in all sizes, and what they free stays with the process in pieces: on a wide convolutional
network a run whose blocks take 8 MB held 500. Where the C library can be asked for free pages, it is.
"""

import ctypes
import mmap
from functools import cache
from pathlib import Path
from typing import Any

_STATUS = Path("/proc/self/statm")


def resident_bytes() -> int | None:
    """Return the memory that this process holds; None where the system does not tell."""
    try:
        return int(_STATUS.read_text().split()[1]) * mmap.PAGESIZE
    except (OSError, ValueError, IndexError):
        return None


@cache
def _trim() -> Any:
    try:
        return getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
    except (OSError, TypeError):
        return None


def give_back() -> None:
    """Give freed memory back to the system, if it can take it."""
    trim = _trim()
    if trim is not None:
        trim(0)
