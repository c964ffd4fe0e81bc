"""Batches fit the memory there is, and shrink where it is less than it seemed."""

import weakref
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from splinecam_lite.complexity import LocalComplexity, batches, estimator
from splinecam_lite.complexity.batches import batch_bytes, default_batch, in_batches, is_out_of_memory
from tests.complexity.networks import STRUCTURES, random_program

CUDA = torch.device("cuda", 0)


@given(st.integers(1, 60), st.integers(1, 80), st.integers(1, 9))
def test_every_item_is_done_once_in_order_whatever_fits(n, size, fits):
    tried = []

    def work(some):
        tried.append(len(some))
        if len(some) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return list(some)

    done = list(in_batches(n, size, work))
    assert [item for some in done for item in some] == list(range(n))
    refused = [k for k in tried if k > fits]
    assert refused == sorted(refused, reverse=True)  # once too large is not tried again
    assert all(2 * later <= earlier for earlier, later in pairwise(refused))


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("MPS backend out of memory")]
)
def test_one_item_that_does_not_fit_is_the_callers_error(error):
    def work(some):
        raise error

    with pytest.raises(RuntimeError, match="out of memory"):
        list(in_batches(3, 2, work))


def test_other_errors_are_not_tried_again():
    calls = []

    def work(some):
        calls.append(some)
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        list(in_batches(8, 8, work))
    assert len(calls) == 1
    assert not is_out_of_memory(RuntimeError("mat1 and mat2"))
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"))


def test_what_a_failed_batch_held_is_free_before_the_next_try():
    class Held:
        pass

    left = []

    def work(some):
        assert all(held() is None for held in left)
        held = Held()
        left.append(weakref.ref(held))
        if len(some) > 1:
            raise torch.OutOfMemoryError("out of memory")
        return held

    assert sum(1 for _ in in_batches(4, 4, lambda some: bool(work(some)))) == 4


def test_counts_do_not_change_when_memory_is_short(monkeypatch):
    program, points = random_program("mlp", "relu", 2), np.random.default_rng(0).normal(size=(23, 3))
    estimate = LocalComplexity(program, 0.5, 3, frame_per_point=True)
    whole, count, sizes = estimate(points).per_layer, estimator.count_crossings, []

    def short_of_memory(program, inputs, layers=None):
        sizes.append(len(inputs.centre))
        if len(inputs.centre) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return count(program, inputs, layers)

    monkeypatch.setattr(estimator, "count_crossings", short_of_memory)
    np.testing.assert_array_equal(estimate(points).per_layer, whole)
    assert sizes == [23, 11, 5, 5, 5, 5, 3]


@pytest.mark.parametrize("structure", STRUCTURES)
def test_batches_are_sized_to_memory(structure):
    program = random_program(structure, "relu", 0)
    assert default_batch(program, 10**9) == 1
    assert default_batch(program, 50) > default_batch(program, 100) > 1
    assert default_batch(program.to(torch.float32), 50) == pytest.approx(
        2 * default_batch(program, 50), abs=1
    )


def test_on_the_cpu_the_batch_does_not_depend_on_the_machine(monkeypatch):
    monkeypatch.setattr(batches, "_free_bytes", None)
    assert batch_bytes(torch.device("cpu")) == batches.CPU_BATCH_BYTES


@pytest.mark.parametrize(
    ("free", "expected"),
    [(8 * 2**30, batches.ACCELERATOR_BATCH_BYTES), (2**28, 2**26), (0, 0), (None, 2**30)],
)
def test_on_an_accelerator_it_is_a_share_of_what_is_free(monkeypatch, free, expected):
    monkeypatch.setattr(batches, "_free_bytes", lambda device: free)
    assert batch_bytes(CUDA) == expected


def test_memory_that_torch_keeps_for_later_is_free(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100, 1000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 500)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 200)
    assert batches._free_bytes(CUDA) == 400
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 900, raising=False)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 300, raising=False)
    assert batches._free_bytes(torch.device("mps")) == 600
    assert batches._free_bytes(torch.device("xpu")) is None
