"""The table of `crossings`, row by row, and several knots on one edge."""

import numpy as np
import pytest

from splinecam_lite.engine.crossings import NO_ORDERS, cut_edges
from splinecam_lite.engine.predicate import SNAP, sign_words

EDGE = np.array([[0, 1]], np.int32)


def cut(at_start, at_end):
    """Cut one edge at knots whose values at its ends are given."""
    Z = np.array([at_start, at_end], float)
    tolerance = np.full(Z.shape[1], SNAP)
    positive, negative, _, _ = sign_words(Z, tolerance)
    return cut_edges(EDGE, positive, negative, Z, tolerance, NO_ORDERS)


@pytest.mark.parametrize(
    ("start", "end", "crosses"),
    [
        (-1, 1, True),
        (1, -1, True),
        (-1, 0, False),
        (0, -1, False),
        (1, 0, False),
        (0, 1, False),
        (0, 0, False),
        (-1, -1, False),
        (1, 1, False),
    ],
)
def test_every_pair_of_signs(start, end, crosses):
    cuts = cut([start], [end])
    assert len(cuts.place) == crosses
    if crosses:
        assert cuts.place.tolist() == [0.5]
        assert cuts.first.tolist() == [2, 3]
        assert cuts.on.tolist() == [1]
        assert cuts.positive.tolist() == cuts.negative.tolist() == [0]


def test_crossings_are_in_order_and_signs_change_one_by_one():
    cuts = cut([-3, 1, -1], [1, -3, 1])  # crossings at 3/4, 1/4, 1/2
    assert cuts.place.tolist() == [0.25, 0.5, 0.75]
    assert cuts.on.tolist() == [0b010, 0b100, 0b001]
    assert cuts.positive.tolist() == [0, 0, 0b100]
    assert cuts.negative.tolist() == [0b101, 0b011, 0b010]


def test_a_knot_along_the_edge_and_one_through_its_end_keep_their_signs():
    cuts = cut([-1, 0, 0, 0], [1, 0, 1, -1])
    assert cuts.place.tolist() == [0.5]
    assert cuts.positive.tolist() == [0b0100]
    assert cuts.negative.tolist() == [0b1000]


def test_crossings_closer_than_the_snap_are_one_vertex():
    shift = SNAP / 8
    cuts = cut([-1, -1 + shift, 2], [1, 1 + shift, -2])
    assert len(cuts.place) == 1
    assert cuts.on.tolist() == [0b111]
    assert cuts.merged[:, 0].tolist() == [2, 2]
    assert cuts.moved.max() <= shift


def test_a_cluster_does_not_creep_along_the_edge():
    step = 0.6 * SNAP  # each is within the snap of the one before, the third is not of the first
    cuts = cut([-1, -1 - 2 * step, -1 - 4 * step], [1, 1 - 2 * step, 1 - 4 * step])
    assert cuts.on.tolist() == [0b001, 0b010, 0b100] or cuts.on.tolist() == [0b011, 0b100]
    assert len(cuts.place) >= 2


@pytest.mark.parametrize("scale", [1e-200, 1e-9, 1.0, 1e9, 1e200])
def test_places_do_not_depend_on_the_scale_of_a_knot(scale):
    Z = np.array([[-1.0 * scale, 3.0], [2.0 * scale, -1.0]])
    tolerance = np.array([SNAP * 2 * scale, SNAP * 3])
    positive, negative, _, _ = sign_words(Z, tolerance)
    cuts = cut_edges(EDGE, positive, negative, Z, tolerance, NO_ORDERS)
    assert cuts.place == pytest.approx([1 / 3, 3 / 4], rel=1e-15)
