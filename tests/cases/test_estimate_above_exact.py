"""The estimate counted more neurons than the exact count, even on the first layer.

One of the two took a value of -3e-17 at a corner of the diamond for negative, the other for 0.
"""

import numpy as np
import torch

from splinecam_lite.complexity import LocalComplexity, exact_complexity
from tests.strategies import Case

FRAME = torch.eye(2, dtype=torch.float64)
TENTHS = torch.arange(-10, 11).double() / 10


def both(case: Case, points) -> tuple[np.ndarray, np.ndarray]:
    program = case.program()
    estimate = LocalComplexity(program, 0.1, frame=FRAME)(points)
    return estimate.per_layer, exact_complexity(program, points, FRAME, 0.1).per_layer


def test_a_knot_through_a_corner():
    """u = -0.9 through the left corner of the diamond around (-0.8, 0)."""
    case = Case([([[1.0, 0.0]], [0.9]), ([[1.0]], [-0.2]), ([[1.0]], [0.0])], ["relu", "relu"], [])
    estimate, exact = both(case, torch.tensor([[-0.8, 0.0]]).double())
    assert estimate[0, 0] == exact[0, 0] == 1
    assert estimate[0, 1] <= exact[0, 1]


def test_on_a_grid():
    """Integer weights, biases in tenths, points at tenths: 2-12-12."""
    rng = np.random.default_rng(0)
    layers = [
        (rng.integers(-3, 4, (n, m)).astype(float).tolist(), (rng.integers(-10, 11, n) / 10).tolist())
        for n, m in ((12, 2), (12, 12), (1, 12))
    ]
    estimate, exact = both(Case(layers, ["relu", "relu"], []), torch.cartesian_prod(TENTHS, TENTHS))
    assert (estimate <= exact).all()
    np.testing.assert_array_equal(estimate[:, 0], exact[:, 0])
