"""Two partitions that overlapped in a thread pool left torch, and BLAS, with one thread for good.

The first one in restored what it had found, then the second one the single thread that it had found.
"""

import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from splinecam_lite.partition.workers import one_thread_per_worker


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with threadpool_limits(limits=2):
        yield
    torch.set_num_threads(before)


def settings():
    return torch.get_num_threads(), [pool["num_threads"] for pool in threadpool_info()]


def test_the_last_one_restores():
    before = settings()
    first, second = one_thread_per_worker(), one_thread_per_worker()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert set(settings()[1]) | {settings()[0]} == {1}  # the second one still needs it
    second.__exit__(None, None, None)
    assert settings() == before


def test_an_error_restores_too():
    before = settings()
    with pytest.raises(ZeroDivisionError), one_thread_per_worker():
        1 / 0  # noqa: B018
    assert settings() == before
