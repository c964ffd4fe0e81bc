"""What the tests of stored partitions share: the network of `writer`, and looks into its folders."""

from pathlib import Path

import numpy as np
import pytest

from splinecam_lite import Partition, Program, StoredPartition, partition
from splinecam_lite.partition.folder import BlockFolder
from tests.partition.writer import PLANE, TUNING


def again(model: Program, folder: Path, **options) -> StoredPartition:
    return partition(model, PLANE, store=folder, threads=1, _tuning=TUNING, **options)


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def computed_blocks(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Paths of the blocks that are written from now on."""
    paths, write = [], BlockFolder.write

    def recorded(self, block):
        paths.append(block.path)
        write(self, block)

    monkeypatch.setattr(BlockFolder, "write", recorded)
    return paths


def assert_same(one: Partition, other: Partition) -> None:
    """Two partitions that were cut up alike are one, bit for bit."""
    for a, b in zip((*one.complex, one.outputs), (*other.complex, other.outputs), strict=True):
        assert a.tobytes() == b.tobytes()
    assert np.array_equal(one.edge_knots, other.edge_knots)
    assert np.array_equal(one.edge_knot_ptr, other.edge_knot_ptr)
    assert np.array_equal(one.patterns(), other.patterns())
    assert all(np.array_equal(a, b) for a, b in zip(one.affine_maps(), other.affine_maps(), strict=True))
    assert (one.layers, one.decide, one.model_digest) == (other.layers, other.decide, other.model_digest)
    assert all(np.array_equal(a, b) for a, b in zip(one.report.snaps, other.report.snaps, strict=True))
