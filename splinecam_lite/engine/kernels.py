"""``@kernel``: numba compilation with a cache that cannot serve stale machine code.

numba keys a cached kernel by its own file only: when a callee in *another* file changes, the caller's old
machine code, with the old callee inlined, is loaded again without a word. All kernels of the engine are
therefore cached under one directory whose name is a digest of every source file of this room, so that a
change anywhere recompiles everything. Where no such directory can be written (a read-only home, a container
without one) kernels are compiled afresh in every process; nothing else changes.

Kernels release the interpreter's lock (``nogil``), so that blocks run on a plain thread pool.
``parallel=True`` is not used: it multiplies the compile time, and its threads compete with torch's.
"""

import hashlib
import os
import sys
import tempfile
from pathlib import Path

import numba
import numpy as np


def source_digest() -> str:
    """Return a digest of all sources of this room and of the versions that compile them."""
    digest = hashlib.sha256(f"{sys.version_info[:2]} {numba.__version__} {np.__version__}".encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _cache_directory() -> Path | None:
    """Return a writable directory for this version of the kernels, or None where there is none."""
    chosen = os.environ.get("SPLINECAM_CACHE_DIR")
    base = Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    directory = base / "splinecam_lite" / f"kernels-{source_digest()}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            return directory
    except (OSError, RuntimeError):
        return None


CACHE_DIRECTORY = _cache_directory()


def kernel(function):
    """Compile ``function`` lazily, without the lock, cached by the digest of the room.

    With ``NUMBA_DISABLE_JIT=1`` kernels run as plain Python, for the debugger and for tests that check
    indices.
    """
    return _compiled(function)


def inner_kernel(function):
    """Compile a function that makes no array and returns none; otherwise as `kernel`.

    It does not count references to the arrays in the tuples that it is given. Counting is atomic, happens at
    each ``tuple.array[i]``, and took most of the time of the code that cuts one face.
    """
    return _compiled(function, _nrt=False)


def _compiled(function, **options):
    if numba.config.DISABLE_JIT:
        return np.errstate(over="ignore")(function)  # words wrap around, as they do when compiled
    before = numba.config.CACHE_DIR
    try:
        numba.config.CACHE_DIR = "" if CACHE_DIRECTORY is None else str(CACHE_DIRECTORY)
        cache = CACHE_DIRECTORY is not None
        return numba.njit(function, cache=cache, nogil=True, error_model="numpy", **options)
    finally:
        numba.config.CACHE_DIR = before


def is_compiled() -> bool:
    """Tell whether an earlier process has left compiled kernels of this very version."""
    # The largest kernel, which is compiled last: the others alone are what an interrupted first use leaves.
    return CACHE_DIRECTORY is not None and any(CACHE_DIRECTORY.rglob("*_cut_faces*.nbi"))
