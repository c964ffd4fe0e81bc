"""Segments: ends as they are given, true lengths, and clear refusals."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from splinecam_lite.errors import SliceError
from splinecam_lite.network.segments import Segment

pairs = st.integers(1, 6).flatmap(
    lambda n: arrays(np.float64, (2, n), elements=st.floats(-100, 100, allow_subnormal=False))
)


@given(pairs, st.floats(-1, 2))
def test_ends_come_back_bit_for_bit_and_places_are_found_again(points, t):
    assume(np.abs(points[1] - points[0]).max() > 1e-3)
    segment = Segment.between(*points)
    np.testing.assert_array_equal(segment.lift([0.0, 1.0]), points)
    assert segment.length == pytest.approx(np.linalg.norm(points[1] - points[0]), rel=1e-14)
    assert segment.project(segment.lift(t)) == pytest.approx(t, abs=1e-10)


@given(pairs, st.floats(0, 3))
def test_margin_grows_the_segment_at_both_ends(points, margin):
    assume(np.abs(points[1] - points[0]).max() > 1e-3)
    segment = Segment.through(*points, margin=margin)
    assert segment.length == pytest.approx((1 + 2 * margin) * Segment.between(*points).length, rel=1e-9)
    expected = [margin / (1 + 2 * margin), (1 + margin) / (1 + 2 * margin)]
    assert segment.project(points) == pytest.approx(expected, abs=1e-9)


def test_digest_tells_the_ends_and_the_shape_apart():
    a, b = np.zeros(4), np.arange(4.0)
    segments = [
        Segment.between(a, b),
        Segment.between(b, a),
        Segment.between(a, np.nextafter(b, 9)),
        Segment.between(a.reshape(2, 2), b.reshape(2, 2)),
    ]
    assert len({segment.digest() for segment in segments}) == 4
    assert segments[0].digest() == Segment.between(torch.zeros(4), torch.arange(4)).digest()


def test_the_caller_keeps_his_arrays():
    start = np.zeros(2)
    segment = Segment.between(start, [1.0, 1.0])
    start[0] = 7.0
    assert segment.start.tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match="read-only"):
        segment.end[0] = 1.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Segment.between([1.0, 2.0], [1.0, 2.0]), "same input"),
        (lambda: Segment.between([1e20, 0.0], [1e20, 1.0]), "same input"),
        (lambda: Segment.between([1.0], [1.0, 2.0]), r"different shapes: \(1,\) and \(2,\)"),
        (lambda: Segment.between([0.0, np.nan], [1.0, 2.0]), r"start holds nan at \(1,\)"),
        (lambda: Segment.through([0.0], [1.0], margin=-1), "margin is -1"),
        (lambda: Segment(np.zeros(2), np.ones(2), (3,)), r"inputs of shape \(3,\) hold 3"),
        (lambda: Segment.between([0.0], [1.0]).project([1.0, 2.0]), r"this segment needs"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(SliceError, match=message):
        make()
