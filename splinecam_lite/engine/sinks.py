"""Where finished blocks go: kept in memory, or wherever a caller's own sink puts them.

A sink hears of every block once: that it was cut into so many pieces, or that it is finished. Which of the
two depends on the plan and the tuning alone, so a sink that writes it down can tell, after an interruption,
which parts of the domain are done; these are not computed again.
"""

from typing import Any, Protocol

from splinecam_lite.engine.finished import Finished
from splinecam_lite.errors import MemoryBudgetError

SEWN = 3
"""Memory at the end, in units of the blocks': they, all their arrays end to end, and the complex."""

Path = tuple[int, ...]
"""Which piece of which piece of the domain a block is."""


class Sink(Protocol):
    """Takes finished blocks. Only one thread at a time calls it, but for `prepared`."""

    @property
    def area(self) -> float:
        """Area of the domain that is done, square chart units."""

    def prepared(self, block: Finished) -> Any:
        """Do what takes time with a block, in the thread that finished it; return what `add` needs."""

    def add(self, prepared: Any) -> None:
        """Take a finished block."""

    def cut(self, path: Path, n_pieces: int) -> None:
        """Hear that the block at ``path`` goes on as pieces ``(*path, 0)`` to ``(*path, n_pieces - 1)``."""

    def done(self, path: Path) -> bool:
        """Tell whether all that belongs to the block at ``path`` was finished in an earlier run."""


class Collected:
    """Keeps all blocks in memory.

    Parameters
    ----------
    limit : int, optional
        Bytes that the blocks may take together with their sewing.

    Attributes
    ----------
    blocks : list of Finished
    area : float
    """

    def __init__(self, limit: int | None = None):
        self.blocks: list[Finished] = []
        self.area = 0.0
        self._limit, self._bytes, self._faces = limit, 0, 0

    def prepared(self, block: Finished) -> tuple[Finished, float]:
        """Return the block and its area."""
        return block, float(block.areas().sum())

    def add(self, prepared: tuple[Finished, float]) -> None:
        """Keep a block.

        Raises
        ------
        MemoryBudgetError
            If all of them take more memory than they may.
        """
        block, area = prepared
        self.blocks.append(block)
        self.area += area
        self._bytes += block.n_bytes
        self._faces += block.n_faces
        if self._limit is not None and SEWN * self._bytes > self._limit:
            raise MemoryBudgetError(
                f"the first {self._faces:,} regions, on {self.area:.3g} square units of the domain, take "
                f"{SEWN * self._bytes / 1e6:,.0f} MB, but may take {self._limit / 1e6:,.0f}; write them to "
                "disk (store=), only count them (splinecam_lite.count), allow more (memory=), or take a "
                "smaller domain"
            )

    def cut(self, path: Path, n_pieces: int) -> None:
        """Forget it: an interrupted run in memory is begun anew."""

    def done(self, path: Path) -> bool:
        """Return False."""
        return False
