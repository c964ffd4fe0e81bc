"""A second ReLU whose first is 0 at all points where scales are taken had scale 0: nothing was a snap.

A knot along an existing edge then missed one of its corners by rounding and cut off a region 1e-17 wide.
Found by the certificate.
"""

import pytest

from splinecam_lite.engine.plan import Tuning
from tests.agreement import assert_agrees
from tests.partition.networks import compute
from tests.strategies import Case

# fmt: off
CASE = Case(layers=[([[2.0, -3.0], [1.0, -2.0], [1.0, 3.0], [-8.0, 12.0], [-3.0, 2.0], [8.0, -12.0]], [-0.0, 0.0, 0.0, 0.0, 0.0, -0.0]), ([[-1.0, 1.0, -1.0, 0.0, -1.0, 0.0], [0.0, -1.0, 1.0, -1.0, 0.0, 1.0], [-1.0, 1.0, 0.0, 1.0, 0.0, -1.0], [0.0, 0.0, -1.0, -1.0, -1.0, 0.0], [1.0, -1.0, 0.0, -1.0, 1.0, -1.0], [-1.0, 1.0, 0.0, 1.0, 1.0, 1.0], [1.0, 0.0, 0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0, 0.0, 0.0, -1.0]], [-1.0, -1.0, -1.0, 1.0, 1.0, 1.0, -1.0, -1.0]), ([[-1.0, -1.0, 1.0, 0.0, -1.0, 1.0, 1.0, 0.0], [0.0, -1.0, -1.0, -1.0, 1.0, -1.0, 0.0, 0.0], [-1.0, 0.0, -1.0, 1.0, 1.0, 0.0, 1.0, 0.0], [0.0, -1.0, 1.0, 1.0, 0.0, 1.0, -1.0, -1.0], [0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 1.0, -1.0], [0.0, 0.0, 0.0, -1.0, 1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 0.0, -1.0, -1.0, 0.0, 0.0], [1.0, 0.0, -1.0, 1.0, 0.0, 0.0, -1.0, -1.0]], [0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0]), ([[1.0, -1.0, -1.0, 1.0, -1.0, -1.0, 1.0, 0.0], [1.0, -1.0, -1.0, 1.0, -1.0, 0.0, 0.0, -1.0], [1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, -1.0]], [1.0, -1.0, -1.0])], activations=['relu twice', 'relu twice', 'relu twice'], domain=[(0.25, 0.5), (1.25, 0.5), (1.25, 2.0), (0.25, 2.0)])  # noqa: E501
# fmt: on


@pytest.mark.parametrize("exact", [False, True])
def test_a_knot_along_an_edge_in_small_blocks(exact):
    part = compute(CASE, Tuning(group=2, block_vertices=8, piece_vertices=4), exact=exact)
    assert_agrees(part, CASE.exact())
    assert part.certify().status == "proved"
