"""Torch on one thread, for work that comes in small pieces."""

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def one_torch_thread() -> Iterator[None]:
    """Run torch on one thread inside, and on as many as before afterwards.

    Small tensors gain nothing from a second thread, and on cores that other work shares, threads that wait
    for one another made a checkpoint 20 times slower to measure. Sums are then also added up in one order.

    Examples
    --------
    >>> with one_torch_thread():
    ...     torch.get_num_threads()
    1
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
