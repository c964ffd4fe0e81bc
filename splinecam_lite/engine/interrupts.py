"""Ctrl-C while kernels run: an exception, not a crash.

Compiled code hands its results over by calling Python functions, and numba (0.68) does not look whether they
failed: a signal that came while a kernel ran is handled there, raises, and the process dies of it. Signals
are handled in the main thread alone. So long work is done in another one, for which the main thread waits.
"""

import functools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from contextvars import ContextVar, copy_context
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

LOOK = 0.2
"""Seconds between looks for a signal, where waiting for a thread cannot be interrupted (Windows)."""

_stop: ContextVar[threading.Event | None] = ContextVar("stop", default=None)


def current_stop() -> threading.Event | None:
    """Return the event that tells this work to stop, for threads of its own."""
    return _stop.get()


def go_on(stop: threading.Event | None = None) -> None:
    """Raise `KeyboardInterrupt` if the main thread was told to stop; call it between kernels of long work."""
    stop = stop or _stop.get()
    if stop is not None and stop.is_set():
        raise KeyboardInterrupt


def apart(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function that is called in the main thread work in another one.

    When a signal's handler raises, the work stops at its next `go_on`, and the exception goes on its way.
    """

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        if threading.current_thread() is not threading.main_thread():
            return function(*args, **kwargs)
        stop = threading.Event()

        def work() -> R:
            _stop.set(stop)
            return function(*args, **kwargs)

        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(copy_context().run, work)
            try:
                while True:
                    try:
                        return future.result(LOOK)
                    except NotYet:
                        if future.done():  # the work's own
                            return future.result()
            finally:
                stop.set()  # if an exception of this thread's leaves work behind

    return wrapper
