"""What is said on stderr while work goes on; results go to stdout."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stage(what: str) -> Iterator[None]:
    """Say what is going on, and how long it took."""
    print(f"{what} ...", end="", file=sys.stderr, flush=True)
    begin = time.perf_counter()
    try:
        yield
    except BaseException:
        print(file=sys.stderr)  # what is said next begins a line of its own
        raise
    print(f" {time.perf_counter() - begin:.1f} s", file=sys.stderr)
