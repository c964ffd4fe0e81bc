"""How many neighbourhoods are taken through a network at once: as many as the memory is good for."""

from collections.abc import Callable, Iterator
from math import prod
from numbers import Integral
from typing import TypeVar

import torch

from splinecam_lite.network.program import AffineOp, Program

CPU_BATCH_BYTES = 2**25
"""Memory for the live values of one batch, if all vertices are held: a few times the cache, and half that is
used as long as neighbourhoods are factored. With smaller batches calls take too long, larger ones fetch every
value from memory again (784-200x4-10: 0.30 s with half, 0.28 s, 0.33 s with five times as much)."""

ACCELERATOR_BATCH_BYTES = 2**30
"""The same on any other device, where only large batches are fast; less, if less is free."""

SHARE_OF_FREE = 4
"""A batch takes the free memory of a device divided by this: operations have workspaces, and memory is in
pieces."""

Result = TypeVar("Result")


def is_int(value: object) -> bool:
    """Tell whether a value is a whole number, and no bool."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_batch_size(batch_size: int | None) -> int | None:
    """Return the batch size as it is: None, or an int of at least 1.

    Raises
    ------
    TypeError, ValueError
        If it is anything else.

    Examples
    --------
    >>> check_batch_size(-1)
    Traceback (most recent call last):
        ...
    ValueError: batch_size is -1; give at least 1, or None to leave it to the memory
    """
    if batch_size is None:
        return None
    if not is_int(batch_size):
        raise TypeError(f"batch_size is {batch_size!r}; give an int, or None to leave it to the memory")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; give at least 1, or None to leave it to the memory")
    return int(batch_size)


def default_batch(program: Program, vertices: int) -> int:
    """Return how many neighbourhoods of that many vertices are taken through a program at once.

    On the CPU it is the same on every machine, so that results are, too.
    """
    each = vertices * live_entries(program) * torch.finfo(program.dtype).bits // 8
    return max(1, batch_bytes(program.device) // max(each, 1))


def batch_bytes(device: torch.device) -> int:
    """Return how many bytes the live values of a batch may take on a device."""
    if device.type == "cpu":
        return CPU_BATCH_BYTES
    free = _free_bytes(device)
    return ACCELERATOR_BATCH_BYTES if free is None else min(ACCELERATOR_BATCH_BYTES, free // SHARE_OF_FREE)


def _free_bytes(device: torch.device) -> int | None:
    """Memory that torch can still have on a device; None if it does not tell."""
    if device.type == "cuda":
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + idle
    if device.type == "mps":
        return max(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory(), 0)
    return None


def in_batches(n: int, size: int, work: Callable[[range], Result]) -> Iterator[Result]:
    """Do work on ``n`` items, ``size`` at a time, or by halves of that where the memory does not suffice.

    Parameters
    ----------
    n, size : int
        At least 1.
    work : callable
        Given a range of items.

    Yields
    ------
    Result
        Of each range, in order.

    Examples
    --------
    >>> def work(items):
    ...     if len(items) > 2:
    ...         raise torch.OutOfMemoryError("more than two do not fit")
    ...     return list(items)
    >>> list(in_batches(5, 5, work))
    [[0, 1], [2, 3], [4]]
    """
    start = 0
    while start < n:
        some = range(start, min(start + size, n))
        try:
            result = work(some)
        except RuntimeError as error:
            if len(some) == 1 or not is_out_of_memory(error):
                raise
            # Once more below, when the error, and with it all that its frames hold, has been dropped.
            size = len(some) // 2
        else:
            yield result
            start = some.stop
            continue
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error of torch says that a device, or the machine, has no more memory.

    Examples
    --------
    >>> is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"))
    True
    """
    said = str(error)
    return (
        isinstance(error, torch.OutOfMemoryError)
        or "out of memory" in said
        or "can't allocate memory" in said
    )


def live_entries(program: Program) -> int:
    """Most entries of values that are held for one vertex at any time, spread ones aside."""
    spread, live, most = {0}, {}, 0
    for i, op in enumerate(program.ops):
        if isinstance(op, AffineOp) and spread.issuperset(op.inputs):
            spread.add(op.output)
            continue
        # An op that reads a spread value writes it out first.
        written_out = sum(prod(program.shapes[v]) for v in set(op.inputs) & spread)
        live[op.output] = prod(program.shapes[op.output])
        most = max(most, sum(live.values()) + written_out)
        live = {v: n for v, n in live.items() if program.last_use(v) > i}
    return most
