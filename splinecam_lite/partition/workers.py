"""What surrounds the engine's work: one thread of BLAS and torch in each of its own, and a progress bar."""

import contextlib
import functools
import sys
import threading
from collections.abc import Callable, Iterator

import torch
from threadpoolctl import ThreadpoolController
from tqdm import tqdm

SILENT_SECONDS = 2.0
"""Work shorter than this shows no progress."""


@contextlib.contextmanager
def one_thread_per_worker() -> Iterator[None]:
    """Keep BLAS and torch to one thread in each of the engine's own; put both back afterwards.

    Sums are then added up in the same order whatever the number of threads, and threads do not multiply.
    """
    _one_thread.enter()
    try:
        yield
    finally:
        _one_thread.leave()


@functools.cache
def _thread_pools() -> ThreadpoolController:
    """The process's thread pools; to find them takes 5 ms, as long as a small partition."""
    return ThreadpoolController()


class _OneThread:
    """One thread for BLAS and torch, while anybody needs it; what was before, when the last has left.

    The settings are the process's, so partitions that overlap in a caller's own threads share them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._restore = contextlib.ExitStack()

    def enter(self) -> None:
        with self._lock:
            if not self._users:
                with contextlib.ExitStack() as restore:
                    restore.callback(torch.set_num_threads, torch.get_num_threads())
                    torch.set_num_threads(1)
                    restore.enter_context(_thread_pools().limit(limits=1))
                    self._restore = restore.pop_all()
            self._users += 1

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                self._restore.close()


_one_thread = _OneThread()


@contextlib.contextmanager
def shown_progress(progress: bool | None, area: float) -> Iterator[Callable[[float], None] | None]:
    """A bar on stderr, once the work has taken a while, for how much of the domain's area is finished."""
    if progress is None:
        progress = sys.stderr.isatty()
    if not progress:
        yield None
        return
    layout = "{desc} {percentage:3.0f}% |{bar}| {elapsed}, {remaining} left"
    with tqdm(total=area, desc="partition", delay=SILENT_SECONDS, bar_format=layout, leave=False) as bar:

        def show(done: float) -> None:
            bar.update(done - bar.n)  # less than before where the domain is cut up anew

        yield show
