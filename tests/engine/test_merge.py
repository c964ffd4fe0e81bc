"""Edges dropped from a mesh, and complexes cut along the largest of several values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splinecam_lite.engine import winners
from splinecam_lite.engine.complex import OUTER, Complex, check_complex, edge_faces, signed_areas
from splinecam_lite.engine.merge import drop_edges
from splinecam_lite.engine.predicate import SNAP
from splinecam_lite.engine.subdivide import Mesh
from splinecam_lite.engine.winners import largest_values, tied

SQUARE = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
TRIANGLE = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])


def grid(columns: int, rows: int) -> tuple[np.ndarray, Mesh]:
    """Unit squares: vertices ``x + y (columns + 1)``, faces row by row."""
    places = [(x, y) for y in range(rows + 1) for x in range(columns + 1)]
    first = [x + y * (columns + 1) for y in range(rows) for x in range(columns)]
    cycles = [[v, v + 1, v + columns + 2, v + columns + 1] for v in first]
    return np.array(places, dtype=float), mesh_of(cycles)


def mesh_of(cycles: list[list[int]]) -> Mesh:
    """Mesh of the given faces; an edge runs as in the first of its faces."""
    ends: list[tuple[int, int]] = []
    edges = []
    for cycle in cycles:
        for u, w in zip(cycle, cycle[1:] + cycle[:1], strict=True):
            if (w, u) not in ends:
                ends.append((u, w))
            edges.append(ends.index((u, w) if (u, w) in ends else (w, u)))
    ptr = np.cumsum([0, *map(len, cycles)]).astype(np.int32)
    corners = np.concatenate(cycles).astype(np.int32)
    return Mesh(np.array(ends, np.int32), ptr, corners, np.array(edges, np.int32))


def complex_of(xy: np.ndarray, mesh: Mesh) -> Complex:
    """Complex of a mesh, its whole border taken for one side."""
    whole = [a.astype(np.int64) for a in mesh]
    sides = edge_faces(*whole)
    return Complex(xy, whole[0], sides, np.where((sides == OUTER).any(axis=1), 0, -1), *whole[1:])


def polygon(corners: np.ndarray) -> Complex:
    return complex_of(corners, mesh_of([list(range(len(corners)))]))


# ---- dropping edges ----------------------------------------------------------------------------------


def test_dropping_nothing_changes_nothing():
    xy, mesh = grid(3, 2)
    merged = drop_edges(mesh, np.zeros(len(mesh.edge_vertices), bool), np.zeros(len(xy), bool))
    for before, after in zip(mesh, merged.mesh, strict=True):
        np.testing.assert_array_equal(before, after)
    assert merged.face.tolist() == list(range(6))


@pytest.mark.parametrize(("dissolvable", "n_corners"), [([], 6), ([1], 5), ([1, 4], 4)])
def test_two_faces_become_one(dissolvable, n_corners):
    xy, mesh = grid(2, 1)
    inner = (edge_faces(*mesh) >= 0).all(axis=1)
    merged = drop_edges(mesh, inner, np.isin(np.arange(6), dissolvable))
    assert (len(merged.vertex), len(merged.edge), len(merged.face)) == (n_corners, n_corners, 1)
    check_complex(complex_of(xy[merged.vertex], merged.mesh), np.array([[0, 0], [2, 0], [2, 1], [0, 1.0]]))


def test_a_vertex_inside_goes_with_its_edges():
    xy, mesh = grid(3, 3)
    sides = edge_faces(*mesh)
    merged = drop_edges(mesh, (sides >= 0).all(axis=1), np.zeros(len(xy), bool))
    assert len(merged.face) == 1
    assert len(merged.vertex) == 12  # the four inside are gone
    check_complex(complex_of(xy[merged.vertex], merged.mesh), 3 * SQUARE)


@given(st.lists(st.integers(0, 4), min_size=20, max_size=20), st.booleans())
def test_rows_joined_at_random(colours, dissolve):
    """Neighbours in a row that have one colour become one rectangle; vertices inside columns may go."""
    xy, mesh = grid(5, 4)
    sides = edge_faces(*mesh)
    inner = (sides >= 0).all(axis=1)
    colours = np.array(colours)
    row = np.arange(20) // 5
    dropped = inner & (row[sides[:, 0]] == row[sides[:, 1]]) & (colours[sides[:, 0]] == colours[sides[:, 1]])
    straight = (xy[:, 0] > 0) & (xy[:, 0] < 5)
    merged = drop_edges(mesh, dropped, straight & dissolve)
    complex = complex_of(xy[merged.vertex], merged.mesh)
    check_complex(complex, np.array([[0, 0], [5, 0], [5, 4], [0, 4.0]]))
    assert complex.n_faces == 20 - dropped.sum()
    runs = 1 + (np.diff(colours.reshape(4, 5), axis=1) != 0).sum(axis=1)
    np.testing.assert_array_equal(np.bincount(row[merged.face]), runs)
    degree = np.bincount(complex.edge_vertices.ravel())
    inside = straight[merged.vertex]
    assert not dissolve or (degree[inside] > 2).all()
    assert (merged.mesh.edge_vertices >= 0).all()


# ---- the largest value -------------------------------------------------------------------------------


def test_a_value_may_win_the_middle_and_no_corner():
    u, v = TRIANGLE.T
    found = largest_values(polygon(TRIANGLE), np.column_stack((1 - u - v, u, v, np.full(3, 0.4))))
    check_complex(found.complex, TRIANGLE)
    areas = np.bincount(found.winner, signed_areas(found.complex.xy, *found.complex[4:6]))
    np.testing.assert_allclose(areas, [0.16, 0.16, 0.16, 0.02], rtol=1e-14)
    # Three corners and the middle; no traces of intermediate cuts.
    assert (found.complex.n_faces, found.complex.n_vertices, found.complex.n_edges) == (4, 9, 12)


def test_one_winner_leaves_the_complex_as_it_is():
    xy, mesh = grid(2, 2)
    before = complex_of(xy, mesh)
    found = largest_values(before, np.column_stack((xy, xy.sum(axis=1))))
    assert (found.winner == 2).all()
    for old, new in zip(before, found.complex, strict=True):
        np.testing.assert_array_equal(old, new)


def test_old_things_keep_their_numbers():
    xy, mesh = grid(4, 4)
    before = complex_of(xy, mesh)
    found = largest_values(before, np.column_stack((xy[:, 0], np.full(len(xy), 1.5))))
    after = found.complex
    check_complex(after, 4 * SQUARE)
    np.testing.assert_array_equal(after.xy[: len(xy)], xy)
    np.testing.assert_array_equal(found.face_parent[:16], np.arange(16))
    assert after.n_faces == 20
    np.testing.assert_array_equal(found.edge_parent[: before.n_edges], np.arange(before.n_edges))
    whole = np.bincount(found.edge_parent[found.edge_parent >= 0]) == 1
    assert whole.sum() == before.n_edges - 5
    np.testing.assert_array_equal(after.edge_vertices[: before.n_edges][whole], before.edge_vertices[whole])


@given(st.integers(0, 2**32 - 1), st.integers(2, 6), st.booleans())
def test_leaving_out_faces_with_one_winner_changes_nothing(seed, n, integer):
    """Cutting every face gives what cutting only the undecided ones gives."""
    rng = np.random.default_rng(seed)
    xy, mesh = grid(3, 3)
    slopes = rng.normal(size=(3, n))
    if integer:
        slopes = np.round(slopes)
    complex = complex_of(xy, mesh)
    values = np.column_stack((xy - 1.5, np.ones(len(xy)))) @ slopes
    some = largest_values(complex, values)
    among = np.ascontiguousarray(values[:, some.contenders])
    pieces = winners._cut_up(mesh, xy, among, np.arange(9), some.tolerance)
    every, winner, _, parent = winners._put_back(complex, np.full(9, -1), pieces)
    check_complex(some.complex, 3 * SQUARE)
    check_complex(every, 3 * SQUARE)
    assert (some.complex.n_vertices, some.complex.n_edges) == (every.n_vertices, every.n_edges)
    areas = [
        np.bincount(best + n * region, signed_areas(whole.xy, *whole[4:6]), 9 * n)
        for whole, best, region in (
            (some.complex, some.winner, some.face_parent),
            (every, some.contenders[winner], parent),
        )
    ]
    np.testing.assert_allclose(*areas, atol=1e-13)


def test_a_masked_value_does_not_coarsen_the_comparison_of_the_others():
    u = SQUARE[:, 0]
    found = largest_values(polygon(SQUARE), np.column_stack((1e-6 * u, 5e-7 + 0 * u, np.full(4, -1e9))))
    assert found.contenders.tolist() == [0, 1]
    assert found.complex.n_faces == 2


def test_ties_go_to_the_first_and_are_listed():
    u = SQUARE[:, 0]
    found = largest_values(polygon(SQUARE), np.column_stack((u - 0.5, 0 * u, 0 * u, 0.5 - u)))
    # 0 wins on the right, 3 on the left; 1 and 2 tie with each other, but are the largest on no whole face.
    assert sorted(found.winner.tolist()) == [0, 3]
    assert not len(tied(found))
    found = largest_values(polygon(SQUARE), np.column_stack((u - 0.5, 0 * u, 0 * u)))
    assert sorted(found.winner.tolist()) == [0, 1]
    assert tied(found).tolist() == [[int(np.flatnonzero(found.winner == 1)[0]), 2]]


def test_rounding_of_a_tie_is_no_border():
    rng = np.random.default_rng(0)
    xy, mesh = grid(6, 6)
    value = xy @ [0.3, 0.7]
    noise = rng.integers(-4, 5, (len(xy), 3)) * 2.0**-52
    found = largest_values(complex_of(xy, mesh), value[:, None] + noise)
    assert (found.winner == 0).all()
    assert len(tied(found)) == 2 * 36
    assert len(found.snaps) == 0


@pytest.mark.parametrize(("distance", "n_faces", "n_snaps"), [(0.5, 1, 1), (4.0, 2, 0)])
def test_a_border_that_passes_a_corner_within_the_snap_passes_through_it(distance, n_faces, n_snaps):
    u, v = SQUARE.T
    z = 1.0 - u - v  # 0 on a diagonal, 1 at a corner
    shift = 1.0 - distance * SNAP * 2.0
    found = largest_values(polygon(SQUARE), np.column_stack((z, np.full(4, shift))))
    assert (found.complex.n_faces, len(found.snaps)) == (n_faces, n_snaps)
    if n_snaps:
        j, *place, moved = found.snaps[0]
        assert (j, place) == (1, [0.0, 0.0])
        assert moved == pytest.approx(distance * SNAP * 2.0 / 2**0.5, rel=1e-3)
