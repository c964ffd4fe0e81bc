"""Outputs were checked at evenly spaced vertices, so a small block that was wrong could lie between them."""

import numpy as np
import pytest

from splinecam_lite import ComplexError, Program, Slice, partition
from splinecam_lite.engine.plan import Tuning
from splinecam_lite.partition import report
from tests.partition.networks import mlp

BOX = Slice.box(-1, 1)
PROGRAM = Program.from_module(mlp(2, 16, 16, 3), (2,))
PART = partition(PROGRAM, BOX, threads=1, _tuning=Tuning(8, 20, 10))
FIRST_FACES = np.array([block.first_face for block in PART.blocks])
CORNERS = report.corner_of_each_block(PART.complex, FIRST_FACES)


def vertices_of(block: int) -> set[int]:
    first, stop = PART.complex.face_ptr[np.append(FIRST_FACES, PART.n_regions)[[block, block + 1]]]
    return set(PART.complex.face_vertex[first:stop].tolist())


def test_each_block_has_a_vertex_of_its_own_if_it_can():
    vertices = [vertices_of(block) for block in range(len(FIRST_FACES))]
    assert len(vertices) > 4
    for block, corner in enumerate(CORNERS.tolist()):
        own = vertices[block].difference(*vertices[:block], *vertices[block + 1 :])
        assert corner in (own or vertices[block])


def test_a_wrong_block_is_found(monkeypatch):
    monkeypatch.setattr(report, "FEWEST_CHECKED", 1)
    for corner in CORNERS:
        wrong = PART.outputs.copy()
        wrong[corner] += 1e-3
        with pytest.raises(ComplexError, match="differ from the network's"):
            report.output_residual(PROGRAM, BOX, PART.vertices, wrong, CORNERS)
    residual, n_checked = report.output_residual(PROGRAM, BOX, PART.vertices, PART.outputs, CORNERS)
    assert residual < 1e-14
    assert len(np.unique(CORNERS)) <= n_checked <= len(CORNERS) + PART.n_vertices // 128 + 1


def test_no_more_than_the_most(monkeypatch):
    monkeypatch.setattr(report, "FEWEST_CHECKED", 1)
    monkeypatch.setattr(report, "MOST_CHECKED", 3)
    assert report.output_residual(PROGRAM, BOX, PART.vertices, PART.outputs, CORNERS)[1] <= 6
