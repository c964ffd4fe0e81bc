"""Slices: an orthonormal chart whatever the points, true areas, and clear refusals."""

import re

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from splinecam_lite.errors import SliceError
from splinecam_lite.network import Slice

coordinates = st.floats(-100, 100, allow_subnormal=False)


@st.composite
def triangles(draw):
    """Three points of 2 to 6 coordinates whose triangle has some area for its size."""
    n = draw(st.integers(2, 6))
    points = draw(arrays(np.float64, (3, n), elements=coordinates))
    a, b, c = points
    gram = np.array([[p @ q for q in (b - a, c - a)] for p in (b - a, c - a)])
    assume(np.linalg.det(gram) > 1e-6 * gram.trace() ** 2 > 1e-6)
    return points * 10.0 ** draw(st.integers(-6, 6))


def area_of_triangle(a, b, c):
    """Area in n dimensions, by Gram's determinant."""
    p, q = b - a, c - a
    return 0.5 * np.sqrt((p @ p) * (q @ q) - (p @ q) ** 2)


@given(triangles())
def test_chart_through_three_points_is_orthonormal_and_passes_through_them(points):
    plane = Slice.through(*points, margin=0)
    size = np.abs(points).max()
    assert np.abs(plane.directions @ plane.directions.T - np.eye(2)).max() < 1e-14
    assert np.abs(plane.lift(plane.project(points)) - points).max() < 1e-12 * size
    assert plane.distance(points).max() < 1e-12 * size
    (u1, v1), (u2, v2), (_, v3) = plane.project(points)
    assert abs(u1) + abs(v1) + abs(v2) < 1e-12 * size
    assert u2 > 0
    assert v3 > 0


@given(triangles())
def test_areas_and_lengths_are_those_of_input_space(points):
    plane = Slice.through(*points, margin=0)
    triangle = plane.with_domain(plane.project(points))
    assert triangle.area == pytest.approx(area_of_triangle(*points), rel=1e-6)
    assert np.linalg.norm(plane.project(points[1]) - plane.project(points[0])) == pytest.approx(
        np.linalg.norm(points[1] - points[0]), rel=1e-9
    )


@given(triangles(), arrays(np.float64, (5, 2), elements=coordinates))
def test_lift_then_project_is_the_identity(points, uv):
    plane = Slice.through(*points)
    size = np.abs(points).max() + 100
    assert np.abs(plane.project(plane.lift(uv)) - uv).max() < 1e-12 * size


@given(triangles(), st.floats(0, 2))
def test_margin_grows_the_bounding_box(points, margin):
    tight, wide = Slice.through(*points, margin=0), Slice.through(*points, margin=margin)
    assert wide.area == pytest.approx(tight.area * (1 + 2 * margin) ** 2, rel=1e-9)


def test_skew_points_give_the_area_of_the_rectangle_they_span():
    # (1, 1, 0) and (1, 0, 0) are not at right angles; the chart is.
    plane = Slice.through([0, 0, 0], [1, 1, 0], [1, 0, 0], margin=0)
    assert plane.project([1.0, 0.0, 0.0]).tolist() == pytest.approx([np.sqrt(0.5), np.sqrt(0.5)])
    assert plane.area == pytest.approx(1.0)


def test_images_keep_their_shape():
    images = np.random.default_rng(0).random((3, 1, 28, 28))
    plane = Slice.through(*torch.as_tensor(images, dtype=torch.float64))
    assert plane.input_shape == (1, 28, 28)
    assert plane.lift(np.zeros((7, 2))).shape == (7, 1, 28, 28)
    assert plane.lift([0.0, 0.0]).shape == (1, 28, 28)
    assert plane.corners.shape == (4, 1, 28, 28)
    assert plane.project(images).shape == (3, 2)
    assert plane.distance(images[0]).shape == ()
    assert np.allclose(plane.lift([0.0, 0.0]), images[0], atol=1e-15)


def test_float32_points_are_cast_exactly():
    points = np.random.default_rng(0).random((3, 4)).astype(np.float32)
    assert np.array_equal(Slice.through(*points).origin, points[0].astype(np.float64))


def test_around_is_centred_and_reproducible():
    x = np.random.default_rng(0).random((3, 5))
    plane = Slice.around(x, 0.5, seed=3)
    assert np.array_equal(plane.lift([0.0, 0.0]), x)
    assert plane.area == 1.0
    assert np.allclose(plane.directions @ plane.directions.T, np.eye(2), atol=1e-15)
    assert plane.digest() == Slice.around(x, 0.5, seed=3).digest() != Slice.around(x, 0.5, seed=4).digest()
    assert Slice.around(x, 0.5, shape="diamond").area == pytest.approx(0.5)
    assert np.allclose(np.linalg.norm(Slice.around(x, 0.5, shape="diamond").corners - x, axis=(1, 2)), 0.5)


def test_around_keeps_the_first_direction():
    plane = Slice.around(np.zeros(3), 1.0, [[0, 0, -2], [1, 0, 5]])
    assert np.allclose(plane.directions, [[0, 0, -1], [1, 0, 0]])


def test_box_has_the_identity_as_chart():
    plane = Slice.box([-1, 0], [1, 0.5])
    uv = np.array([[0.3, 0.1]])
    assert np.array_equal(plane.lift(uv), uv)
    assert plane.area == 1.0


def test_arrays_are_copied_and_frozen():
    x = np.zeros(2)
    plane = Slice.around(x, 1.0)
    x[0] = 9
    assert plane.origin[0] == 0
    with pytest.raises(ValueError, match="read-only"):
        plane.origin[0] = 1


CLOCKWISE_SQUARE = [[0, 0], [0, 1], [1, 1], [1, 0]]


@pytest.mark.parametrize(
    ("polygon", "corners", "area"),
    [
        (CLOCKWISE_SQUARE, 4, 1),
        ([[0, 0], [1, 0], [1, 0], [1, 1], [0, 1], [0, 0]], 4, 1),
        ([[0, 0], [0.5, 0], [1, 0], [1, 1], [0.3, 1], [0, 1], [0, 0.2]], 4, 1),
        ([[0, 0], [2, 0], [0, 1]], 3, 1),
        ([[0, 0], [1e-9, 0], [0, 1e-9]], 3, 5e-19),
        ([[1e6, 1e6], [1e6 + 1, 1e6], [1e6, 1e6 + 1]], 3, 0.5),
        (
            [[np.cos(t), np.sin(t)] for t in np.linspace(0, 2 * np.pi, 100, endpoint=False)],
            100,
            3.1395259764656687,
        ),
    ],
)
def test_domains_that_are_taken(polygon, corners, area):
    plane = Slice.box(-1, 1).with_domain(polygon)
    assert len(plane.domain) == corners
    assert plane.area == pytest.approx(area)


@pytest.mark.parametrize(
    ("polygon", "message"),
    [
        ([[0, 0], [2, 0], [2, 2], [1, 0.5], [0, 2]], "not convex at corner [1.0, 0.5]"),
        ([[0, 0], [0, 2], [1, 0.5], [2, 2], [2, 0]], "not convex at corner [1.0, 0.5]"),
        ([[0, 0], [1, 1], [1, 0], [0, 1]], "no area"),
        ([[0, 0], [1, 1], [2, 2]], "no area"),
        ([[0, 0], [1, 1], [1, 1], [0, 0]], "no area"),
        ([[0, 0], [1, 0]], "shape (2, 2); give at least three corners"),
        ([[0, 0, 0], [1, 0, 0], [0, 1, 0]], "shape (3, 3)"),
        ([[0, 0], [1, 0], [0, np.nan]], "the domain holds nan at (2, 1)"),
        ([[0, 0], [3, 0], [2, 0], [2, 1], [0, 1]], "not convex at corner [3.0, 0.0]"),
        ([[np.cos(t), np.sin(t)] for t in 4 * np.pi / 5 * np.arange(5)], "crosses itself"),
    ],
)
def test_domains_that_are_refused(polygon, message):
    with pytest.raises(SliceError, match=re.escape(message)):
        Slice.box(-1, 1).with_domain(polygon)


ZERO = np.zeros(3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Slice.through([0, 0], [1, 1], [2, 2]),
            "the three points lie on one line (angle 0.0e+00 rad)",
        ),
        (lambda: Slice.through([0, 0], [1, 1], [2, 2 + 1e-12]), "lie on one line"),
        (lambda: Slice.through([0, 0], [1, 1], [1, 1]), "points 2 and 3 are the same input"),
        (lambda: Slice.through([1, 0], [1, 0], [1, 1]), "points 1 and 2 are the same input"),
        (lambda: Slice.through([1e9, 0], [1e9 + 1e-7, 0], [1e9, 1]), "points 1 and 2 are the same input"),
        (lambda: Slice.through([0, np.nan], [1, 0], [0, 1]), "point 1 holds nan at (1,)"),
        (lambda: Slice.through([0, 0], [1, np.inf], [0, 1]), "point 2 holds inf at (1,)"),
        (lambda: Slice.through([0, 0], [1, 0], [0, 1, 2]), "different shapes: (2,), (2,), (3,)"),
        (lambda: Slice.through([0, 0], [1, 0], [0, 1], margin=-1), "the margin is -1"),
        (lambda: Slice.through([0], [1], [2]), "needs inputs of at least two"),
        (lambda: Slice.through(["a", "b"], [1, 0], [0, 1]), "point 1 is not an array of numbers"),
        (lambda: Slice.around(ZERO, 0.0), "the radius is 0.0"),
        (lambda: Slice.around(ZERO, np.nan), "the radius is nan"),
        (
            lambda: Slice.around(ZERO, 1, [[1, 0, 0], [2, 0, 0]]),
            "slice directions are parallel (angle 0.0e+00 rad)",
        ),
        (lambda: Slice.around(ZERO, 1, [[1, 0, 0], [0, 0, 0]]), "one of the directions is zero"),
        (lambda: Slice.around(ZERO, 1, [[1, 0], [0, 1]]), "shape (2, 2), but x needs (2, 3)"),
        (lambda: Slice.around(ZERO, 1, shape="ring"), "must be 'square', 'diamond' or 'disc'"),
        (lambda: Slice.around([0.0], 1), "at least two"),
        (lambda: Slice.strip([0.0, 1.0], [0.0, 1.0], 1), "the two inputs are the same"),
        (lambda: Slice.strip([0.0, 1.0], [0.0, 1.0, 2.0], 1), "different shapes: (2,) and (3,)"),
        (lambda: Slice.strip([0.0, 1.0], [1.0, 1.0], 0), "the width is 0"),
        (lambda: Slice.strip([0.0, 1.0], [1.0, 1.0], 1, margin=-1), "the margin is -1"),
        (lambda: Slice.strip([0.0, 1.0], [1.0, 1.0], 1, direction=[2, 0]), "is along the segment"),
        (lambda: Slice.strip([0.0, 1.0], [1.0, 1.0], 1, direction=[1, 2, 3]), "the direction holds 3"),
        (lambda: Slice.box(1, -1), "low must be below high"),
        (lambda: Slice.box(0, [1, 0]), "is empty"),
        (lambda: Slice.box([0, 0, 0], 1), "give a number or two"),
        (lambda: Slice(np.zeros(2), np.array([[1, 0], [1, 1]]), np.eye(3)[:, :2], (2,)), "not orthonormal"),
        (lambda: Slice(np.zeros(3), np.eye(2), np.eye(3)[:, :2], (2,)), "need (2,) and (2, 2)"),
        (lambda: Slice.box(0, 1).lift([1.0, 2.0, 3.0]), "they need (..., 2)"),
        (lambda: Slice.box(0, 1).project(np.zeros((4, 3))), "needs (..., 2)"),
    ],
)
def test_slices_that_are_refused(make, message):
    with pytest.raises(SliceError, match=re.escape(message)):
        make()


def test_a_disc_is_a_polygon_of_its_radius() -> None:
    disc = Slice.around(np.full((2, 3), 0.5), 2.0, shape="disc")
    assert np.linalg.norm(disc.domain, axis=1) == pytest.approx(np.full(16, 2.0))
    assert disc.area == pytest.approx(8 * np.sin(np.pi / 8) * 4)


def test_a_strip_runs_from_one_input_to_the_other_and_beyond() -> None:
    x1, x2 = np.array([1.0, 2.0, 3.0]), np.array([1.0, 5.0, 7.0])
    strip = Slice.strip(x1, x2, width=0.5, margin=0.1, seed=4)
    assert strip.project(x1) == pytest.approx([0.0, 0.0])
    assert strip.project(x2) == pytest.approx([5.0, 0.0])
    assert strip.domain.min(axis=0) == pytest.approx([-0.5, -0.25])
    assert strip.domain.max(axis=0) == pytest.approx([5.5, 0.25])
    assert Slice.strip(x1, x2, 0.5, seed=5).digest() != Slice.strip(x1, x2, 0.5, seed=4).digest()
