"""A neuron that is zero on some regions of a block and positive on others counted as on in all of them.

A ReLU of a ReLU, or of a sum of ReLUs as after a residual sum, is never negative, and zero on whole regions.
How much of the domain was taken to be on depended on how it was cut into blocks.
"""

import pytest

from splinecam_lite import partition
from splinecam_lite.engine.plan import Tuning
from tests.agreement import assert_agrees, slice_of
from tests.strategies import Case

BOX = [(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)]
TWICE = Case([([[1.0, 0.0]], [0.0]), ([[1.0]], [0.0])], ["relu twice"], BOX)
SUM = Case(
    [([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], [0.0, 0.0, -0.5]), ([[1.0, 1.0, 0.0]], [0.0]), ([[1.0]], [0.0])],
    ["relu", "relu"],
    BOX,
)


@pytest.mark.parametrize("case", [TWICE, SUM], ids=["second relu", "sum of relus"])
@pytest.mark.parametrize("block_vertices", [6000, 4])
def test_zero_is_off(case, block_vertices):
    tuning = Tuning(block_vertices=block_vertices, piece_vertices=4)
    assert_agrees(partition(case.model(), slice_of(BOX), _tuning=tuning), case.exact())
