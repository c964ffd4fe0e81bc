"""A neuron that is off at the points where scales are taken, and on between them, had scale 0: nothing was snapped.

Behind a second ReLU, rounding then decided whether a knot that runs along a seam crosses it, and the two sides could
differ: the domain had to be cut up again.
"""

from splinecam_lite import partition
from splinecam_lite.engine.plan import Tuning
from splinecam_lite.partition.planning import preactivation_scales
from tests.agreement import assert_agrees, slice_of
from tests.strategies import Case

# 1/8 - |u - 1/4| is positive on a strip beside the centre of the domain, and there alone.
STRIP = Case(
    layers=[([[1.0, 0.0]], [-0.25]), ([[-1.0]], [0.125]), ([[1.0]], [0.0])],
    activations=["abs", "relu twice"],
    domain=[(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)],
)


def test_every_neuron_has_a_scale():
    for scales in preactivation_scales(STRIP.program(), slice_of(STRIP.domain)):
        assert (scales > 0).all()


def test_strip():
    part = partition(
        STRIP.program(), slice_of(STRIP.domain), _tuning=Tuning(group=1, block_vertices=4, piece_vertices=4)
    )
    assert_agrees(part, STRIP.exact())
    assert part.report.attempts == 1
