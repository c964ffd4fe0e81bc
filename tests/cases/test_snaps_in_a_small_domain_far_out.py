"""In a small domain far from the origin a snap moves a knot visibly, and the check of convexity refused it.

Values near 1000 are rounded to 1e-13 and snapped within 1e-9; on a domain of 1e-3 that is a millionth.
"""

import numpy as np

from splinecam_lite.engine.complex import check_complex
from splinecam_lite.engine.engine import run
from splinecam_lite.engine.plan import Tuning
from tests.engine.plans import BOX, lines_plan

CENTRE, RADIUS = 1000.0, 1e-3
DOMAIN = CENTRE + RADIUS * BOX
ANGLES = np.arange(5) * 0.6 + 0.1


def nearly_concurrent(apart: float) -> np.ndarray:
    """Five lines that miss the centre of the domain by up to ``apart``."""
    a, b = np.cos(ANGLES), np.sin(ANGLES)
    return np.stack((a, b, -(a + b) * CENTRE + apart * np.array([-1.0, 0.3, 0.7, -0.2, 1.0])), axis=1)


def test_snapped_in_every_size_of_block():
    for tuning in (Tuning(), Tuning(group=1), Tuning(group=2, block_vertices=6, piece_vertices=4)):
        plan = lines_plan(nearly_concurrent(2e-10), DOMAIN)
        result = run(plan, tuning)
        assert result.complex.n_faces == 10
        assert 1e-11 < result.moved < 1e-9
        check_complex(result.complex, DOMAIN, result.moved)


def test_told_apart_where_they_are():
    assert run(lines_plan(nearly_concurrent(1e-6), DOMAIN)).complex.n_faces == 16
