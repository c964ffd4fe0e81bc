"""Pieces of blocks that wait to be taken up, and what they hold in memory.

Work goes on depth first, from the top of a stack. What lies at its bottom waits longest: when the blocks that
wait take more memory than they may, their coordinates and columns go to a file, lowest first, and are mapped
back as they are needed. The file has no name: it is gone with the block, or with the process.
"""

import mmap
import tempfile
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from splinecam_lite.engine.propagate import Block


class Piece(NamedTuple):
    """Faces of a block, waiting to be taken up as a block of their own."""

    path: tuple[int, ...]
    block: Block
    faces: np.ndarray  # (n,) int64


class Waiting:
    """A stack of pieces.

    Parameters
    ----------
    limit : int
        Bytes that the blocks of waiting pieces may take.
    """

    def __init__(self, limit: int):
        self._items: list[Piece | Block] = []
        self._limit = limit

    def __bool__(self) -> bool:
        return bool(self._items)

    def pop(self) -> "Piece | Block":
        """Take what is to be done next."""
        return self._items.pop()

    def push(self, items: "Sequence[Piece | Block]") -> None:
        """Add items, the first to be taken up first, and set aside what is too much.

        Raises
        ------
        OSError
            If there is no room on disk for what does not fit in memory.
        """
        self._items.extend(reversed(items))
        blocks = list(self._blocks())
        total = sum(map(_n_bytes, blocks))
        for block in blocks:
            if total <= self._limit:
                return
            total -= _n_bytes(block)
            _set_aside(block)

    def _blocks(self) -> Iterator[Block]:
        """Yield the blocks that pieces were cut from, the lowest first; a whole one is not large yet."""
        last = None
        for item in self._items:
            if isinstance(item, Piece) and item.block is not last:
                last = item.block
                yield last


def _n_bytes(block: Block) -> int:
    """Memory of the arrays that can be set aside."""
    return sum(a.nbytes for a in (block.C, *block.columns.values()) if not isinstance(a.base, np.memmap))


def _set_aside(block: Block) -> None:
    """Move coordinates and columns to a file, from which they are read as they are used."""
    try:
        block.C = _on_disk(block.C)
        block.columns = {value: _on_disk(columns) for value, columns in block.columns.items()}
    except OSError as error:
        raise OSError(
            error.errno,
            f"{error.strerror}: {_n_bytes(block) / 1e6:,.0f} MB of unfinished work did not fit in "
            f"'{tempfile.gettempdir()}'; free space there, name another folder in TMPDIR, or allow more "
            "memory (memory=)",
        ) from error


def _on_disk(array: np.ndarray) -> np.ndarray:
    """Return the array as a mapped file without a name."""
    if isinstance(array.base, np.memmap) or not array.size:
        return array
    with tempfile.TemporaryFile(prefix="splinecam_lite-") as file:
        np.ascontiguousarray(array).tofile(file)
        file.flush()
        # mode "c": kernels are compiled for arrays that can be written; nobody writes here.
        return np.memmap(file, array.dtype, "c", shape=array.shape).view(np.ndarray)


def let_go(block: Block) -> None:
    """Give back the memory into which arrays that are set aside were read; they are read again if need be."""
    if hasattr(mmap, "MADV_DONTNEED"):
        for array in (block.C, *block.columns.values()):
            if isinstance(array.base, np.memmap):
                array.base._mmap.madvise(mmap.MADV_DONTNEED)
