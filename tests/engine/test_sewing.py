"""Seams: two sides that agree are sewn, two that do not are found, and the domain is cut elsewhere."""

import numpy as np
import pytest

from splinecam_lite.engine import engine
from splinecam_lite.engine.blocks import run_blocks
from splinecam_lite.engine.plan import Tuning
from splinecam_lite.engine.sewing import SeamMismatch, sew
from splinecam_lite.errors import ComplexError
from tests.engine.plans import dense_plan, random_layers

TUNING = Tuning(group=8, block_vertices=60, piece_vertices=30)


@pytest.fixture
def plan():
    return dense_plan(random_layers(np.random.default_rng(11), 2, 12, 12, 1))


def test_sewing_counts_every_seam_edge_once(plan):
    blocks = run_blocks(plan, TUNING)
    assert len(blocks) > 2
    sewn = sew(blocks, 4)
    both = sum(int((b.seam >= 4).sum()) for b in blocks)
    assert sum(len(b.mesh.edge_vertices) for b in blocks) - both // 2 == sewn.complex.n_edges


def _without_a_piece(blocks):
    """Let one side of a seam forget that an edge lies on it."""
    b = blocks[0]
    seam = b.seam.copy()
    seam[np.flatnonzero(seam >= 4)[0]] = -1
    return [b._replace(seam=seam), *blocks[1:]]


def _moved(blocks):
    """Let one side of a seam see its vertices elsewhere."""
    b = blocks[0]
    place = b.seam_place.copy()
    place[b.seam >= 4] *= 0.75
    return [b._replace(seam_place=place), *blocks[1:]]


@pytest.mark.parametrize("spoil", [_without_a_piece, _moved])
def test_sides_that_disagree_are_found(plan, spoil):
    with pytest.raises(SeamMismatch):
        sew(spoil(run_blocks(plan, TUNING)), 4)


def test_a_mismatch_is_met_by_cutting_elsewhere(plan, monkeypatch):
    tried = []

    def disagree_once(blocks, *rest):
        tried.append(len(blocks))
        if len(tried) == 1:
            raise SeamMismatch("two sides")
        return sew(blocks, *rest)

    monkeypatch.setattr(engine, "sew", disagree_once)
    result = engine.run(plan, TUNING)
    assert result.attempts == 2
    assert tried[0] != tried[1]


def test_a_mismatch_that_stays_is_an_error(plan, monkeypatch):
    def disagree(blocks, *rest):
        raise SeamMismatch("two sides")

    monkeypatch.setattr(engine, "sew", disagree)
    with pytest.raises(ComplexError, match="move the slice"):
        engine.run(plan, TUNING)
