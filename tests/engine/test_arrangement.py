"""Lines in a box: `subdivide` and `chords` against the rational count, generic and degenerate."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splinecam_lite.engine.complex import check_complex
from splinecam_lite.engine.engine import run
from splinecam_lite.engine.plan import Tuning
from tests.engine.plans import BOX, lines_plan
from tests.oracles import count_regions

SMALL = st.integers(-3, 3)
LINES = st.lists(st.tuples(SMALL, SMALL, SMALL), min_size=1, max_size=14)


def regions(lines, **tuning) -> int:
    result = run(lines_plan(lines), Tuning(**tuning))
    check_complex(result.complex, BOX)
    return result.complex.n_faces


@given(LINES)
def test_integer_lines(lines):
    assert regions(lines) == count_regions(lines, (-1, 1, -1, 1))


@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_generic_lines(seed, n):
    lines = np.random.default_rng(seed).normal(size=(n, 3)) * [1, 1, 0.5]
    assert regions(lines) == count_regions(lines.tolist(), (-1, 1, -1, 1))


@given(LINES, st.integers(1, 5), st.integers(4, 12))
def test_groups_and_blocks_change_nothing(lines, group, block_vertices):
    whole = regions(lines)
    assert regions(lines, group=group) == whole
    assert regions(lines, group=group, block_vertices=block_vertices, piece_vertices=4) == whole


@given(st.integers(0, 2**32 - 1), st.integers(2, 24))
def test_pencils_of_lines_through_one_point(seed, n):
    rng = np.random.default_rng(seed)
    directions = rng.permutation(n) * np.pi / n + 0.1
    x, y = 0.25, -0.5
    a, b = np.cos(directions), np.sin(directions)
    assert regions(np.stack((a, b, -(a * x + b * y)), axis=1)) == 2 * n


def test_order_of_the_lines_does_not_matter():
    rng = np.random.default_rng(3)
    lines = np.concatenate((rng.normal(size=(9, 3)), rng.integers(-2, 3, size=(9, 3))))
    expected = count_regions(lines.tolist(), (-1, 1, -1, 1))
    assert {regions(rng.permutation(lines)) for _ in range(10)} == {expected}


@pytest.mark.parametrize("exponent", [-300, -30, 0, 30, 300])
def test_scale_of_the_lines_does_not_matter(exponent):
    lines = np.random.default_rng(1).integers(-3, 4, size=(12, 3)) * 2.0**exponent
    assert regions(lines) == count_regions(lines.tolist(), (-1, 1, -1, 1))


def test_two_knots_crossing_at_a_tiny_angle_are_told_apart_or_reported():
    lines = [(0.0, 1.0, 0.0), (1e-9, 1.0, 0.0), (1.0, 0.0, 0.25), (1.0, 0.0, -0.25)]
    assert regions(lines) == count_regions(lines, (-1, 1, -1, 1))


def test_lines_nearer_than_the_snap_are_one_line_and_are_reported():
    lines = [(0.0, 1.0, 0.0), (0.0, 1.0, 1e-14), (1.0, 0.3, 0.1)]
    result = run(lines_plan(lines))
    assert result.complex.n_faces == 4
    assert len(result.snaps) >= 2
    assert 0 < result.snaps[:, 3].max() <= 2e-14


def test_a_hundred_lines_in_one_group_after_the_other():
    lines = np.random.default_rng(7).normal(size=(100, 3)) * [1, 1, 0.3]
    assert regions(lines) == count_regions(lines.tolist(), (-1, 1, -1, 1))
