"""How much memory a partition may take, and how that is divided."""

import re
from pathlib import Path

import psutil

from splinecam_lite.engine.plan import Tuning

SMALLEST = 32_000_000
"""Bytes below which no budget is kept: one array of a small network may be as large."""

CGROUP = Path("/sys/fs/cgroup")
"""Where Linux tells a container its limits."""


def memory_budget(memory: str | float | None) -> int:
    """Return a number of bytes.

    Parameters
    ----------
    memory : str, int or None
        ``"2GB"``, ``"1.5 GiB"``, ``"500M"``, or bytes. None: half of what is free.

    Raises
    ------
    ValueError
        If it is no amount of memory, or too little to work with.

    Examples
    --------
    >>> memory_budget("2GB"), memory_budget("1.5 GiB"), memory_budget(10**9)
    (2000000000, 1610612736, 1000000000)
    """
    if memory is None:
        return max(available() // 2, SMALLEST)
    match = re.fullmatch(r"\s*([0-9.]+)\s*([KMGT]?)(I?)B?\s*", str(memory).upper())
    try:
        if match is None or isinstance(memory, bool):
            raise ValueError
        n_bytes = int(float(match[1]) * (1024 if match[3] else 1000) ** " KMGT".index(match[2] or " "))
    except (ValueError, OverflowError):
        raise ValueError(f"memory is {memory!r}; give bytes, or an amount such as '2GB'") from None
    if n_bytes < SMALLEST:
        raise ValueError(f"memory is {memory!r}; it must be at least {SMALLEST // 10**6} MB")
    return n_bytes


def available() -> int:
    """Return how many bytes this process may still take: what the machine, or its container, has free."""
    free = psutil.virtual_memory().available
    try:
        limit, used = (int((CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        return int(free)
    return min(int(free), max(limit - used + _cached_files(), 0))


def _cached_files() -> int:
    """Return the bytes of a container's use that the kernel gives back when they are needed."""
    try:
        lines = (CGROUP / "memory.stat").read_text().splitlines()
        return int(dict(line.split() for line in lines).get("inactive_file", 0))
    except (OSError, ValueError):
        return 0


def within(tuning: Tuning, budget: int, threads: int) -> Tuning:
    """Return the tuning that keeps all of the engine's work within ``budget`` bytes.

    Half is for blocks being worked on, whatever the number of threads up to two, a quarter for those that
    wait, a quarter for those that are finished and kept. Sewing takes these three times, when nothing else is
    left.
    """
    return tuning._replace(
        block_bytes=budget // (2 * max(threads, 2)),
        waiting_bytes=budget // 4,
        held_bytes=budget // 2,
        result_bytes=3 * budget // 4,
    )
