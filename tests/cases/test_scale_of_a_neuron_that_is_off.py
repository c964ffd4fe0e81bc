"""A neuron that is off where scales are taken, and on between those points, had scale 0: nothing was snapped.

Behind a second ReLU, rounding then decided whether a knot along a seam crosses it, and the two sides
could differ: the domain had to be cut up again.
"""

import pytest
import torch
from torch import nn

from splinecam_lite import Program, partition
from splinecam_lite.engine.plan import Tuning
from splinecam_lite.partition.planning import scales_of
from tests.agreement import assert_agrees, slice_of
from tests.exact_networks import Abs
from tests.strategies import Case

# 1/8 - |u - 1/4| is positive on a strip beside the centre of the domain, and there alone.
STRIP = Case(
    layers=[([[1.0, 0.0]], [-0.25]), ([[-1.0]], [0.125]), ([[1.0]], [0.0])],
    activations=["abs", "relu twice"],
    domain=[(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)],
)


@pytest.mark.parametrize("last", ["relu", "relu twice", "relu three times"])
def test_every_neuron_has_a_scale(last):
    n = {"relu": 1, "relu twice": 2, "relu three times": 3}[last]
    model = nn.Sequential(
        nn.Linear(2, 1), Abs(), nn.Linear(1, 1), *(nn.ReLU() for _ in range(n)), nn.Linear(1, 1)
    )
    with torch.no_grad():
        for layer, (weight, bias) in zip((model[0], model[2]), STRIP.layers, strict=False):
            layer.weight[:], layer.bias[:] = torch.tensor(weight), torch.tensor(bias)
    program = Program.from_module(model.double().eval(), (2,))
    for scales in scales_of(program, slice_of(STRIP.domain))[0]:
        assert (scales > 0).all()


def test_strip():
    part = partition(
        STRIP.program(), slice_of(STRIP.domain), _tuning=Tuning(group=1, block_vertices=4, piece_vertices=4)
    )
    assert_agrees(part, STRIP.exact())
    assert part.report.attempts == 1
