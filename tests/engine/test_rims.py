"""Rims against sewing: what is kept of a block says the same of its seams as the whole complex does."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splinecam_lite.engine.blocks import run_blocks
from splinecam_lite.engine.engine import assembled
from splinecam_lite.engine.finished import Finished
from splinecam_lite.engine.plan import Plan, Tuning
from splinecam_lite.engine.rims import Rim, pair_rims, rim_of
from splinecam_lite.engine.sewing import SeamMismatch, sew
from tests.engine.plans import BOX, dense_plan, random_layers

TINY = Tuning(group=3, block_vertices=16, piece_vertices=6)


def blocks_of(plan: Plan, tuning: Tuning = TINY) -> tuple[list[Finished], list[Rim]]:
    blocks = run_blocks(plan, tuning)
    return blocks, [rim_of(block, len(plan.domain)) for block in blocks]


def integer_layers(seed: int) -> list:
    """Knots that meet in one point, and repeat."""
    rng = np.random.default_rng(seed)
    return [(rng.integers(-1, 2, (n, m)), rng.integers(-1, 2, n)) for m, n in pairwise((2, 6, 6, 1))]


def by_sewing(plan: Plan, blocks: list[Finished]) -> Counter:
    """(faces on the left and right, knots) of all edges between two blocks, and their lengths."""
    sewn = sew(blocks, len(plan.domain))
    result = assembled(plan, blocks, sewn, 1)
    complex = result.complex
    block = np.searchsorted(sewn.first_faces, complex.edge_faces, side="right")
    found = []
    for e in np.flatnonzero((complex.edge_faces.min(axis=1) >= 0) & (block[:, 0] != block[:, 1])):
        knots = result.edge_knots[result.edge_knot_ptr[e] : result.edge_knot_ptr[e + 1]]
        start, end = complex.xy[complex.edge_vertices[e]]
        found.append((frozenset(complex.edge_faces[e].tolist()), tuple(sorted(knots.tolist())), end - start))
    return Counter((faces, knots, round(float(np.hypot(*along)), 10)) for faces, knots, along in found)


def by_rims(blocks: list[Finished], rims: list[Rim]) -> Counter:
    """The same, from the rims alone."""
    paired = pair_rims(rims)
    first = np.cumsum([0, *(block.n_faces for block in blocks)])
    faces = np.concatenate([rim.faces + o for rim, o in zip(rims, first[:-1], strict=True)])
    return Counter(
        (
            frozenset((int(faces[one]), int(faces[other]))),
            tuple(sorted(paired.knots[paired.knot_ptr[i] : paired.knot_ptr[i + 1]].tolist())),
            round(float(paired.lengths[i]), 10),
        )
        for i, (one, other) in enumerate(zip(paired.one, paired.other, strict=True))
    )


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_rims_pair_as_sewing_does(seed, degenerate):
    layers = integer_layers(seed) if degenerate else random_layers(np.random.default_rng(seed), 2, 8, 7, 2)
    plan = dense_plan(layers)
    blocks, rims = blocks_of(plan)
    assert by_rims(blocks, rims) == by_sewing(plan, blocks)


def test_there_are_seams_to_pair():
    plan = dense_plan(random_layers(np.random.default_rng(1), 2, 8, 7, 2))
    blocks, rims = blocks_of(plan)
    assert len(blocks) > 5
    assert by_rims(blocks, rims).total() > 20
    # Each seam has two sides; both are there, and each is on the left of its edge just once.
    assert sum(len(rim.seam) for rim in rims) == 2 * by_rims(blocks, rims).total()
    assert sum(rim.left.sum() for rim in rims) == by_rims(blocks, rims).total()


def test_a_single_block_has_no_rim():
    for layers in (
        random_layers(np.random.default_rng(0), 2, 5, 1),
        random_layers(np.random.default_rng(0), 2, 1),
    ):
        _, (rim,) = blocks_of(dense_plan(layers), Tuning())
        assert len(rim.seam) == len(rim.faces) == rim.n_vertices == 0
        assert len(pair_rims([rim]).lengths) == 0


def test_the_sides_of_the_domain_are_no_seams():
    """Also where the domain has as many sides as a seam has numbers below it."""
    angles = np.linspace(0.0, 2.0 * np.pi, 65)[:-1]
    circle = np.column_stack((np.cos(angles), np.sin(angles)))
    plan = dense_plan(random_layers(np.random.default_rng(3), 2, 8, 7, 1), circle)
    blocks, rims = blocks_of(plan)
    assert len(blocks) > 2
    assert by_rims(blocks, rims) == by_sewing(plan, blocks)
    assert all((rim.seam >= len(circle)).all() for rim in rims)


def test_a_rim_s_face_is_on_the_side_that_it_says():
    _, blocks = BOX, run_blocks(dense_plan(random_layers(np.random.default_rng(4), 2, 8, 7, 1)), TINY)
    for block in blocks:
        rim = rim_of(block, 4)
        edges = np.flatnonzero(block.seam >= 4)
        for e, face, left in zip(edges, rim.faces, rim.left, strict=True):
            corners = block.mesh.face_vertex[block.mesh.face_ptr[face] : block.mesh.face_ptr[face + 1]]
            start, end = block.xy[block.mesh.edge_vertices[e]]
            centre = block.xy[corners].mean(axis=0)
            turn = (end - start)[0] * (centre - start)[1] - (end - start)[1] * (centre - start)[0]
            assert (turn > 0.0) == left


@pytest.mark.parametrize("wrong", ["missing", "moved", "turned"])
def test_sides_that_disagree_are_found(wrong):
    _, rims = blocks_of(dense_plan(random_layers(np.random.default_rng(1), 2, 8, 7, 2)))
    worst = int(np.argmax([len(rim.seam) for rim in rims]))
    rim = rims[worst]
    if wrong == "missing":
        some = np.arange(len(rim.seam)) > 0
        rim = rim._replace(
            seam=rim.seam[some], place=rim.place[some], left=rim.left[some], edges=rim.edges[some],
            lengths=rim.lengths[some], faces=rim.faces[some], bits=rim.bits[some],
        )  # fmt: skip
    elif wrong == "moved":
        rim = rim._replace(place=rim.place + 0.25)
    else:
        rim = rim._replace(left=~rim.left)
    rims[worst] = rim
    with pytest.raises(SeamMismatch):
        pair_rims(rims)
