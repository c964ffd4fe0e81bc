"""The checker must find whatever is wrong with a complex."""

import numpy as np
import pytest

from splinecam_lite.engine.complex import check_complex, signed_areas
from splinecam_lite.engine.engine import run
from splinecam_lite.errors import ComplexError
from tests.engine.plans import BOX, dense_plan, random_layers


@pytest.fixture(scope="module")
def complex():
    return run(dense_plan(random_layers(np.random.default_rng(4), 2, 10, 8, 1))).complex


def changed(complex, **arrays):
    """Copy a complex with some arrays edited in place by functions."""
    edited = {}
    for name, edit in arrays.items():
        array = getattr(complex, name).copy()
        edited[name] = array if edit(array) is None else edit(getattr(complex, name).copy())
    return complex._replace(**edited)


def test_a_sound_complex_passes(complex):
    check_complex(complex, BOX)
    assert signed_areas(complex.xy, complex.face_ptr, complex.face_vertex).sum() == pytest.approx(4.0)


def _inner_vertex(complex) -> int:
    inside = (np.abs(complex.xy) < 0.999).all(axis=1)
    return int(np.flatnonzero(inside)[0])


def test_a_moved_vertex_is_found(complex):
    v = _inner_vertex(complex)
    with pytest.raises(ComplexError, match=r"convex|area"):
        check_complex(changed(complex, xy=lambda xy: xy.__setitem__(v, xy[v] + 0.3)), BOX)


def test_a_face_turned_over_is_found(complex):
    def swap(corners):
        corners[[0, 1]] = corners[[1, 0]]

    with pytest.raises(ComplexError):
        check_complex(changed(complex, face_vertex=swap), BOX)


def test_swapped_neighbours_are_found(complex):
    with pytest.raises(ComplexError, match="edge_faces"):
        check_complex(changed(complex, edge_faces=lambda faces: faces[:, ::-1]), BOX)


def test_an_edge_at_the_wrong_corner_is_found(complex):
    def roll(edges):
        start, stop = complex.face_ptr[0], complex.face_ptr[1]
        edges[start:stop] = np.roll(edges[start:stop], 1)

    with pytest.raises(ComplexError):
        check_complex(changed(complex, face_edge=roll), BOX)


def test_a_missing_face_is_found(complex):
    last = complex.face_ptr[-2]
    smaller = complex._replace(
        face_ptr=complex.face_ptr[:-1],
        face_vertex=complex.face_vertex[:last],
        face_edge=complex.face_edge[:last],
    )
    with pytest.raises(ComplexError):
        check_complex(smaller, BOX)


def test_a_border_edge_called_inner_is_found(complex):
    with pytest.raises(ComplexError, match="side"):
        check_complex(changed(complex, edge_side=lambda side: side.__setitem__(side.argmax(), -1)), BOX)


def test_another_domain_is_found(complex):
    with pytest.raises(ComplexError, match="sum to"):
        check_complex(complex, 1.5 * BOX)


def test_a_lost_vertex_is_found(complex):
    with pytest.raises(ComplexError, match="V - E"):
        check_complex(complex._replace(xy=np.concatenate((complex.xy, [[0.0, 0.0]]))), BOX)
