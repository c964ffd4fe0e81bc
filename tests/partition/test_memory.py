"""The memory budget: how it is read, that no result depends on it, and what is said where it is too small."""

import errno
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from splinecam_lite import MemoryBudgetError, Partition, Program, Slice, count, partition
from splinecam_lite.engine import blocks, waiting
from splinecam_lite.engine.plan import Tuning, tuning_for
from splinecam_lite.engine.propagate import Block
from splinecam_lite.partition import memory, planning
from splinecam_lite.partition.batches import ENTRIES_AT_ONCE, batch_size
from splinecam_lite.partition.memory import SMALLEST, available, memory_budget, within
from splinecam_lite.partition.planning import make_plan, scales_of
from tests.partition.networks import mlp
from tests.partition.test_max import network

CUT = Tuning(group=8, block_vertices=80, piece_vertices=30)
SMALL = Tuning(group=3, block_vertices=20, piece_vertices=8)

# ---- what is asked for -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "n_bytes"),
    [
        ("2GB", 2 * 10**9),
        ("2gb", 2 * 10**9),
        (" 2 G ", 2 * 10**9),
        ("1.5 GiB", 3 * 2**29),
        ("0.5T", 5 * 10**11),
        ("64MiB", 2**26),
        ("500M", 5 * 10**8),
        ("100000KB", 10**8),
        ("40000000", 4 * 10**7),
        ("40000000B", 4 * 10**7),
        (10**9, 10**9),
        (1e9, 10**9),
        (np.int64(10**9), 10**9),
        (SMALLEST, SMALLEST),
    ],
)
def test_amounts(asked, n_bytes):
    assert memory_budget(asked) == n_bytes
    assert isinstance(memory_budget(asked), int)


@pytest.mark.parametrize(
    "asked",
    [
        "much",
        "",
        "GB",
        "2 PB",
        "2GBs",
        "-2GB",
        "1.2.3GB",
        ".",
        "2,5GB",
        True,
        False,
        float("nan"),
        float("inf"),
        [1],
    ],
)
def test_what_is_no_amount(asked):
    with pytest.raises(ValueError, match="give bytes, or an amount such as '2GB'"):
        memory_budget(asked)


@pytest.mark.parametrize("asked", [0, 1, "1MB", SMALLEST - 1, "2", 2.5])
def test_what_is_too_little_to_work_with(asked):
    with pytest.raises(ValueError, match=f"memory is {asked!r}; it must be at least 32 MB"):
        memory_budget(asked)


def test_a_wrong_amount_is_refused_before_any_work(tmp_path):
    for run in (partition, count):
        with pytest.raises(ValueError, match="memory is 'much'"):
            run(mlp(2, 4, 1), Slice.box(-1, 1), memory="much")
    with pytest.raises(ValueError, match="memory is 'much'"):
        partition(mlp(2, 4, 1), Slice.box(-1, 1), memory="much", store=tmp_path / "a")
    assert not (tmp_path / "a").exists()


def container(folder: Path, limit: str, used: str, **stat: int) -> Path:
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text("".join(f"{name} {n}\n" for name, n in stat.items()))
    return folder


def test_what_is_free_in_a_container(monkeypatch, tmp_path):
    free = psutil.virtual_memory().available
    monkeypatch.setattr(memory, "CGROUP", tmp_path / "none")
    assert available() > free // 2
    monkeypatch.setattr(memory, "CGROUP", container(tmp_path, "200000000", "50000000"))
    assert available() == 150_000_000
    assert memory_budget(None) == 75_000_000
    container(tmp_path, "200000000", "50000000", anon=10, inactive_file=20_000_000)
    assert available() == 170_000_000  # the kernel drops files that it has read before it refuses memory
    container(tmp_path, "100", "200")
    assert available() == 0
    assert memory_budget(None) == SMALLEST  # as little as there can be, and not none
    container(tmp_path, "max", "200")
    assert available() > free // 2
    container(tmp_path, str(1 << 60), "0")
    assert available() < 1 << 50  # a limit above what the machine has


@given(st.integers(SMALLEST, 1 << 50), st.integers(1, 64))
def test_the_parts_of_a_budget_are_not_more_than_it(budget, threads):
    parts = within(Tuning(), budget, threads)
    assert threads * parts.block_bytes + parts.waiting_bytes + parts.result_bytes // 3 <= budget
    assert min(parts.block_bytes, parts.waiting_bytes, parts.result_bytes) > 0
    assert parts[:3] == Tuning()[:3]


# ---- the result ------------------------------------------------------------------------------------------


@cache
def convnet() -> tuple[Program, Slice]:
    """Wide at first, so that columns are most of a block."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3, stride=2), nn.LeakyReLU(0.1),
        nn.Flatten(), nn.Linear(36, 8), nn.ReLU(), nn.Linear(8, 3),
    )  # fmt: skip
    return Program.from_module(model.double().eval(), (1, 8, 8)), Slice.around(
        np.zeros((1, 8, 8)), 0.7, seed=0
    )


def described(part: Partition) -> tuple[set, dict]:
    """Regions and labelled adjacencies, whatever their order."""
    of = [row.tobytes() for row in part.patterns()]
    assert len(set(of)) == len(of), "two regions share a pattern"
    borders: dict = {}
    for e, (f, g) in enumerate(part.complex.edge_faces):
        if f >= 0 and g >= 0:
            knots = part.edge_knots[part.edge_knot_ptr[e] : part.edge_knot_ptr[e + 1]]
            borders[frozenset((of[f], of[g]))] = tuple(sorted(map(tuple, knots.tolist())))
    return set(of), borders


NETWORKS = {
    "dense": lambda: (Program.from_module(mlp(2, 20, 20, 3), (2,)), Slice.box(-1, 1)),
    "convolutional": convnet,
    "maxout": lambda: network("maxout", "generic"),
    "degenerate": lambda: network("minimum of two", "integers"),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_regions_and_neighbours_do_not_depend_on_memory(name):
    program, plane = NETWORKS[name]()
    expected = partition(program, plane, threads=1)
    n_blocks = set()
    for block_bytes in (1, 20_000, 1 << 40):
        for limit, threads in ((1 << 40, 1), (0, 2)):
            tuning = CUT._replace(block_bytes=block_bytes, waiting_bytes=limit, result_bytes=10**9)
            part = partition(program, plane, _tuning=tuning, threads=threads)
            assert described(part) == described(expected)
            assert part.areas().sum() == pytest.approx(plane.area, rel=1e-12)
            n_blocks.add(part.report.n_blocks)
    assert len(n_blocks) > 1


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_set_aside_on_disk_changes_no_bit(name, monkeypatch):
    program, plane = NETWORKS[name]()
    written, original = [], waiting._on_disk
    monkeypatch.setattr(waiting, "_on_disk", lambda array: written.append(array.nbytes) or original(array))
    results = [
        partition(program, plane, _tuning=SMALL._replace(waiting_bytes=limit), threads=1)
        for limit in (1 << 40, 0)
    ]
    assert written
    one, other = results
    arrays = [(*part.complex, part.outputs, part.edge_knots) for part in results]
    for a, b in zip(*arrays, strict=True):
        assert a.tobytes() == b.tobytes()
    assert all(
        a.tobytes() == b.tobytes() for a, b in zip(one.affine_maps(), other.affine_maps(), strict=True)
    )


def test_memory_is_an_argument():
    program, plane = convnet()
    assert described(partition(program, plane, memory="64MB")) == described(partition(program, plane))
    assert count(program, plane, memory="64MB").n_regions == count(program, plane).n_regions


def test_the_default_is_half_of_what_is_free(monkeypatch, tmp_path):
    """In a container that is nearly full the same work is refused that else succeeds."""
    program, plane = Program.from_module(mlp(2, 60, 60, 60, 2), (2,)), Slice.box(-1, 1)
    monkeypatch.setattr(memory, "CGROUP", container(tmp_path, "100", "200"))
    monkeypatch.setattr(memory, "SMALLEST", 1_000_000)
    with pytest.raises(MemoryBudgetError):
        partition(program, plane)
    container(tmp_path, str(10**9), "0")
    assert partition(program, plane).n_regions > 1000


# ---- too little ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
def test_a_result_that_does_not_fit_names_the_remedies(threads):
    program, plane = convnet()
    with pytest.raises(MemoryBudgetError) as caught:
        partition(program, plane, _tuning=CUT._replace(result_bytes=100_000), threads=threads)
    said = str(caught.value)
    for words in ("regions, on", "square units of the domain", "0 MB, but may take 0", "store=",
                  "splinecam_lite.count", "memory=", "smaller domain"):  # fmt: skip
        assert words in said


def test_what_does_not_fit_can_be_counted_and_stored(tmp_path):
    program, plane = convnet()
    tuning = CUT._replace(result_bytes=100_000)
    stored = partition(program, plane, _tuning=tuning, store=tmp_path)
    assert (
        count(program, plane, _tuning=tuning).n_regions
        == stored.n_regions
        == partition(program, plane).n_regions
    )


def test_no_room_for_temporary_files(monkeypatch, tmp_path):
    program, plane = convnet()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(OSError, match=r"did not fit in '.*gone'; .*TMPDIR, or allow more memory") as caught:
        partition(program, plane, _tuning=CUT._replace(waiting_bytes=0))
    assert caught.value.errno == errno.ENOENT


def test_nothing_is_left_of_temporary_files(monkeypatch, tmp_path):
    program, plane = convnet()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    partition(program, plane, _tuning=CUT._replace(waiting_bytes=0))
    with pytest.raises(MemoryBudgetError):
        partition(program, plane, _tuning=CUT._replace(waiting_bytes=0, result_bytes=100_000))
    assert not list(tmp_path.iterdir())


def test_a_block_takes_no_more_than_its_part(monkeypatch):
    """But for the rows of the one group of knots that was cut last."""
    program, plane = convnet()
    plan, sizes, original = make_plan(program, plane), [], blocks.cut

    def recorded(block: Block, tuning: Tuning) -> list:
        sizes.append(block.C.nbytes + sum(columns.nbytes for columns in block.columns.values()))
        return original(block, tuning)

    monkeypatch.setattr(blocks, "cut", recorded)
    tuning, limit = Tuning(group=8, block_vertices=10**6), 150_000
    partition(program, plane, _tuning=tuning, threads=1)
    assert not sizes
    partition(program, plane, _tuning=tuning._replace(block_bytes=limit), threads=1)
    group = 8 * (max(plan.schedule().row_bytes) + 16 * 300)
    assert len(sizes) > 5
    assert max(sizes) < limit + group
    assert count(program, plane, _tuning=tuning).n_blocks == 1


def test_tuning_of_a_network_keeps_to_its_part():
    program, plane = convnet()
    tuning = tuning_for(make_plan(program, plane))
    assert within(tuning, 10**9, 2)[:3] == tuning[:3]


def test_more_memory_than_any_number():
    with pytest.raises(ValueError, match="give bytes, or an amount"):
        memory_budget("9" * 400)


def test_convolutions_get_few_points_at_once():
    """What a network's own checks run through it fits in the memory too: 64 points at once took 180 MB."""
    wide = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 32 * 32, 2))
    program = Program.from_module(wide.eval(), (3, 32, 32))
    assert 1 <= batch_size(program, 64) * (3 + 32) * 32 * 32 <= ENTRIES_AT_ONCE
    plane = Slice.around(np.zeros((3, 32, 32)), 0.01, seed=0)
    scales, outputs = scales_of(program, plane)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "batch_size", lambda program, most: most)
        for few, all_ in zip(scales, scales_of(program, plane)[0], strict=True):
            np.testing.assert_allclose(few, all_, rtol=1e-12)
        np.testing.assert_allclose(outputs, scales_of(program, plane)[1], rtol=1e-12)
