"""Work on parts of arrays in several threads: kernels release the interpreter's lock."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

FEWEST = 20_000
"""Entries of an array below which it is not worth while to divide it."""


def in_threads(work: Callable[[Item], Result], items: Sequence[Item], threads: int) -> list[Result]:
    """Return ``work`` of every item, in their order."""
    if threads <= 1 or len(items) <= 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, items))


def ranges(n: int, threads: int) -> list[tuple[int, int]]:
    """Divide ``range(n)`` into parts for so many threads, at least one."""
    parts = max(1, min(threads, n // FEWEST))
    return [(n * i // parts, n * (i + 1) // parts) for i in range(parts)]
