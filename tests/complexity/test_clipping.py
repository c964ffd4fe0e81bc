"""Edges inside a shape, against shapely; extremes on arcs, against many values of the same function."""

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from splinecam_lite.complexity.neighbourhoods.clipping import arc_extremes, arc_places, clipped, whole
from splinecam_lite.complexity.neighbourhoods.domains import AREAS, DIAMOND, SQUARE, polygon
from splinecam_lite.engine.complex import OUTER, Complex

SHAPES = ["diamond", "disc", "square"]


def of_segments(ends):
    """A `Complex` that has these segments (n, 2, 2) as inner edges, and nothing else that clipping reads."""
    n = len(ends)
    none = np.empty(0, np.int64)
    numbers = np.arange(2 * n).reshape(n, 2)
    sides = np.full((n, 2), OUTER)
    return Complex(ends.reshape(-1, 2), numbers, sides, np.full(n, -1), none, none, none)


def clip(ends, shape, radius, centre=(0.0, 0.0)):
    ends = np.array(ends, float)
    extent = float(np.abs(ends).max())
    return clipped(of_segments(ends), np.arange(len(ends)), shape, radius, np.array(centre), extent)


def drawn(shape, radius, centre):
    """The shape for shapely; of a disc, a polygon that is too small by 1e-7."""
    if shape == "disc":
        return shapely.Point(centre).buffer(radius, quad_segs=2000)
    return shapely.Polygon(radius * polygon(shape) + centre)


@given(st.sampled_from(SHAPES), st.sampled_from([0.01, 1.0, 30.0]), st.integers(0, 2**32 - 1))
def test_segments_inside_a_shape_are_those_of_shapely(shape, radius, seed):
    rng = np.random.default_rng(seed)
    centre = radius * rng.normal(size=2)
    ends = centre + radius * rng.normal(size=(60, 2, 2)) * rng.choice([0.2, 1.0, 5.0], size=(60, 1, 1))
    inside = clip(ends, shape, radius, centre)
    expected = shapely.length(shapely.intersection(shapely.linestrings(ends), drawn(shape, radius, centre)))
    found = np.zeros(60)
    found[inside.edges] = inside.lengths
    np.testing.assert_allclose(found, expected, atol=2e-5 * radius, rtol=1e-6)
    assert set(np.flatnonzero(expected > 1e-4 * radius)) <= set(inside.edges)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
@pytest.mark.parametrize("shape", SHAPES)
def test_what_only_touches_is_outside(shape, scale):
    """The circle's tangent, the sides of the polygons, and lines through single corners."""
    touching = [[[1.0, -3.0], [1.0, 3.0]], [[-1.0, 1.0], [0.3, 1.0]]]
    if shape == "square":
        touching += [[[0.0, 2.0], [2.0, 0.0]], [[1.0, 1.0], [4.0, 4.0]]]
    if shape == "diamond":
        touching += [[[1.0, 0.0], [0.0, 1.0]], [[1.5, -0.5], [0.0, 1.0]], [[1.0, 0.0], [3.0, 0.0]]]
    assert not len(clip(scale * np.array(touching), shape, scale).edges)
    inside = [[[0.999, -3.0], [0.999, 3.0]], [[0.0, 0.0], [5.0, 5.0]], [[0.1, 0.1], [0.2, 0.1]]]
    assert clip(scale * np.array(inside), shape, scale).edges.tolist() == [0, 1, 2]


def rounded(points):
    return {tuple(place) for place in points.round(9).tolist()}


def test_places_where_a_line_leaves():
    line = [[[-3.0, 0.25], [3.0, 0.25]]]
    square, diamond, disc = (clip(line, shape, 1.0) for shape in ("square", "diamond", "disc"))
    assert rounded(square.points) == {(-1.0, 0.25), (1.0, 0.25)} | rounded(SQUARE)
    assert rounded(diamond.points) == {(-0.75, 0.25), (0.75, 0.25)} | rounded(DIAMOND)
    assert not len(disc.points)
    angles = {round(a, 9) for a in disc.arcs[:, 0]}
    assert {round(np.arcsin(0.25), 9), round(np.pi - np.arcsin(0.25), 9)} < angles


@given(st.integers(0, 2**32 - 1))
def test_arcs_go_round_the_circle_once(seed):
    ends = np.random.default_rng(seed).normal(size=(5, 2, 2))
    arcs = clip(ends, "disc", 1.0).arcs
    widths = arcs[:, 1] - arcs[:, 0]
    assert (widths >= 0.0).all()
    assert (widths <= np.pi / 4 + 1e-12).all()
    np.testing.assert_allclose(widths.sum(), 2.0 * np.pi)
    np.testing.assert_allclose(arcs[1:, 0], arcs[:-1, 1])


@given(st.floats(1e-12, np.pi / 4), st.integers(0, 2**32 - 1))
def test_extremes_on_arcs_are_those_of_many_values(width, seed):
    """However short the arc; and never beyond what the function has there, but for rounding."""
    rng = np.random.default_rng(seed)
    start, radius = rng.uniform(0, 2 * np.pi), 3.0
    gradient, constant = rng.normal(size=(2, 8)), rng.normal(size=8)
    gradient[:, 0] = 0.0  # a constant
    arcs = np.array([[start, start + width]])
    low, high = arc_extremes(arc_places(arcs, radius) @ gradient + constant, arcs)
    t = start + width * np.linspace(0, 1, 2001)
    many = radius * np.column_stack((np.cos(t), np.sin(t))) @ gradient + constant
    slack = 1e-12 + 3.0 * radius * (width / 2000) ** 2
    for beyond in (many.min(axis=0) - low[0], high[0] - many.max(axis=0)):
        assert (beyond >= -1e-12).all()
        assert (beyond <= slack).all()


def test_an_arc_of_no_width_has_its_own_value():
    low, high = arc_extremes(np.full((1, 3, 1), 2.0), np.array([[0.5, 0.5]]))
    assert low.tolist() == high.tolist() == [[2.0]]


def test_a_whole_complex_is_inside():
    ends = np.array([[[0.0, 0.0], [3.0, 4.0]]])
    inside = whole(of_segments(ends))
    assert (inside.edges.tolist(), inside.lengths.tolist(), len(inside.arcs)) == ([0], [5.0], 0)


@pytest.mark.parametrize("shape", SHAPES)
def test_areas(shape):
    assert drawn(shape, 1.0, (0.0, 0.0)).area == pytest.approx(AREAS[shape], rel=1e-6)
