"""The stack of waiting pieces: order, what goes to disk and when, and that no result tells."""

import errno
import os
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splinecam_lite.engine import waiting
from splinecam_lite.engine.blocks import cut, run_blocks
from splinecam_lite.engine.plan import Plan, Tuning
from splinecam_lite.engine.propagate import Block, advance, whole_domain
from splinecam_lite.engine.waiting import Piece, Waiting
from tests.engine.plans import dense_plan, random_layers

TINY = Tuning(group=3, block_vertices=16, piece_vertices=6)


def plan_of(seed: int, *widths: int) -> Plan:
    return dense_plan(random_layers(np.random.default_rng(seed), *(widths or (2, 9, 9, 2))))


def large_block(path: tuple[int, ...] = ()) -> Block:
    """A block in the middle of a plan, too large to go on."""
    plan = plan_of(0, 2, 40, 5, 1)
    block = whole_domain(plan)
    assert not advance(block, plan, plan.schedule(), Tuning(group=8, block_vertices=200, piece_vertices=50))
    block.path = path
    return block


def pieces_of(block: Block) -> list[Piece]:
    pieces = cut(block, Tuning(piece_vertices=60))
    assert len(pieces) > 2
    return pieces


def arrays_of(block: Block) -> list[np.ndarray]:
    return [block.C, *block.columns.values()]


def size_of(block: Block) -> int:
    return sum(array.nbytes for array in arrays_of(block))


def is_on_disk(block: Block) -> bool:
    """Whether all that can be set aside is a mapped file."""

    def mapped(array: np.ndarray) -> bool:
        while array is not None and not isinstance(array, np.memmap):
            array = getattr(array, "base", None)
        return array is not None

    return all(map(mapped, arrays_of(block)))


@pytest.fixture
def set_aside(monkeypatch) -> list[tuple[int, ...]]:
    """Paths of the blocks that are written to disk, in order."""
    paths, original = [], waiting._set_aside

    def recorded(block: Block) -> None:
        before = block.C
        original(block)
        if block.C is not before:
            paths.append(block.path)

    monkeypatch.setattr(waiting, "_set_aside", recorded)
    return paths


def test_the_last_pushed_are_taken_first_and_in_order():
    stack = Waiting(1 << 40)
    first, second = pieces_of(large_block((0,))), pieces_of(large_block((1,)))
    stack.push(first)
    assert stack.pop() is first[0]
    stack.push(second)
    stack.push([])
    left = []
    while stack:
        left.append(stack.pop())
    assert left == [*second, *first[1:]]


@pytest.mark.parametrize(
    ("n_kept", "on_disk"), [(3, []), (2, [(0,)]), (1, [(0,), (1,)]), (0, [(0,), (1,), (2,)])]
)
def test_what_waits_longest_goes_to_disk_and_no_more_than_must(n_kept, on_disk, set_aside):
    blocks = [large_block((i,)) for i in range(3)]
    before = [[array.copy() for array in arrays_of(block)] for block in blocks]
    stack = Waiting(n_kept * size_of(blocks[0]))
    for block in blocks:
        stack.push(pieces_of(block))
    assert set_aside == on_disk
    assert [block.path for block in blocks if is_on_disk(block)] == on_disk
    for block, copies in zip(blocks, before, strict=True):
        for array, copy in zip(arrays_of(block), copies, strict=True):
            assert type(array) is np.ndarray
            assert array.flags.c_contiguous
            assert np.array_equal(array, copy)


def test_a_block_is_set_aside_once(set_aside):
    """What is on disk takes no memory: it does not count again, and is not written again."""
    block = large_block((0,))
    stack = Waiting(0)
    stack.push(pieces_of(block))
    for i in range(1, 4):
        stack.push(pieces_of(large_block((i,))))
    assert sorted(set_aside) == [(i,) for i in range(4)]


def test_what_is_on_disk_leaves_room_for_others(set_aside):
    blocks = [large_block((i,)) for i in range(3)]
    stack = Waiting(2 * size_of(blocks[0]) - 1)
    for block in blocks:
        stack.push(pieces_of(block))
    assert set_aside == [(0,), (1,)]
    assert not is_on_disk(blocks[2])


def test_a_whole_block_is_not_set_aside(set_aside):
    """The domain before the first cut: it is taken up at once."""
    stack = Waiting(0)
    stack.push([large_block()])
    assert not set_aside


def test_arrays_of_every_form_survive():
    for array in (
        np.arange(6.0).reshape(2, 3).T,
        np.broadcast_to(np.arange(3.0), (4, 3)),
        np.arange(10.0)[::-2],
        np.empty((3, 0, 2)),
        np.full((2, 2), np.nan),
    ):
        again = waiting._on_disk(array)
        assert again.shape == array.shape
        assert np.array_equal(again, array, equal_nan=True)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 3000, 20_000]), st.sampled_from([1, 2]))
def test_no_bit_of_the_result_tells(seed, limit, threads):
    plan = plan_of(seed)
    kept = run_blocks(plan, TINY)
    aside = run_blocks(plan, TINY._replace(waiting_bytes=limit), threads)
    assert [block.path for block in kept] == [block.path for block in aside]
    for one, other in zip(kept, aside, strict=True):
        for name in ("xy", "seam", "seam_place", "knots", "D", "bits", "frozen", "outputs", "snaps"):
            assert getattr(one, name).tobytes() == getattr(other, name).tobytes(), name
        assert all(np.array_equal(a, b) for a, b in zip(one.mesh, other.mesh, strict=True))


def test_there_is_something_to_set_aside(set_aside):
    run_blocks(plan_of(1), TINY._replace(waiting_bytes=0))
    assert len(set_aside) > 3
    assert len(set(set_aside)) == len(set_aside)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_full_disk_is_named_with_the_remedy(threads, monkeypatch):
    def full(*_args, **_options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(waiting.tempfile, "TemporaryFile", full)
    with pytest.raises(OSError, match=r"No space left.* MB of unfinished work .*TMPDIR.*memory=") as caught:
        run_blocks(plan_of(1), TINY._replace(waiting_bytes=0), threads)
    assert caught.value.errno == errno.ENOSPC


def test_a_folder_for_temporary_files_that_is_gone(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(
        OSError, match=r"did not fit in '.*gone'; free space there, name another folder in TMPDIR"
    ):
        run_blocks(plan_of(1), TINY._replace(waiting_bytes=0))


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_stays_behind(fails, monkeypatch, tmp_path):
    """Neither files nor open ones: of a run that ends well, and of one that does not."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir())) if descriptors.exists() else None
    plan = plan_of(1)
    if fails:
        bad = plan.steps[2]._replace(linear=lambda columns: columns @ np.full((9, 9), np.nan))
        plan = plan._replace(steps=(*plan.steps[:2], bad, *plan.steps[3:]))
        with pytest.raises(Exception, match="layer 1"):
            run_blocks(plan, TINY._replace(waiting_bytes=0))
    else:
        run_blocks(plan, TINY._replace(waiting_bytes=0))
    assert not list(tmp_path.iterdir())
    if before is not None and not fails:  # the traceback of an error holds on to its blocks
        assert len(list(descriptors.iterdir())) == before
    assert threading.active_count() < 20
