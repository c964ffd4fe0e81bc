"""A knot that missed a corner or a side by less than the snap was frozen, and nothing was recorded."""

import numpy as np
import pytest

from splinecam_lite.engine.engine import run
from splinecam_lite.engine.plan import Tuning
from tests.engine.plans import lines_plan

CORNER, SIDE = (1.0, 1.0, -2.0), (1.0, 0.0, -1.0)


def shifted(line, by: float) -> np.ndarray:
    return np.array(line) + np.array([0.0, 0.0, by])


@pytest.mark.parametrize("line", [CORNER, SIDE])
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("tuning", [Tuning(), Tuning(block_vertices=4, piece_vertices=4)])
def test_it_is_recorded(line, sign, tuning):
    shaved = sign * shifted(line, 1e-13)
    result = run(lines_plan([shaved, (0.3, 1.0, 0.1)]), tuning)
    assert result.complex.n_faces == 2
    assert len(result.snaps) >= 1
    assert set(result.snaps[:, 0]) == {0.0}
    assert 1e-14 < result.snaps[:, 3].max() < 1e-12


@pytest.mark.parametrize("line", [CORNER, SIDE])
def test_an_exact_touch_is_no_snap_and_a_real_sliver_is_a_region(line):
    assert len(run(lines_plan([line])).snaps) == 0
    assert run(lines_plan([shifted(line, 1e-10)])).complex.n_faces == 2


def test_repeated_knots_are_no_snaps():
    lines = [(0.5, 1.0, 0.25), (0.5, 1.0, 0.25), (-1.0, -2.0, -0.5), (1.0, -0.3, 0.2)]
    result = run(lines_plan(lines))
    assert result.complex.n_faces == 4
    assert len(result.snaps) == 0
