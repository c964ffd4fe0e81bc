"""The checks that arXiv 2402.15555 makes of its estimate, on networks whose complexity is known."""

import numpy as np
import pytest
import torch
from torch import nn

from splinecam_lite.complexity import LocalComplexity
from splinecam_lite.network.program import Program
from tests.complexity.hooked import hooked_counts

RADII = (1e-4, 1e-2, 1.0, 10.0)


def mlp(inputs: int, width: int, depth: int, slope: float, *, bias: bool) -> nn.Module:
    """A random network of leaky ReLUs, as torch initialises it; with slope 1 it is linear."""
    layers: list[nn.Module] = []
    for fan_in in (inputs, *[width] * (depth - 1)):
        layers += [nn.Linear(fan_in, width, bias=bias), nn.LeakyReLU(slope)]
    return nn.Sequential(*layers).eval()


@pytest.mark.parametrize(
    ("inputs", "width", "depth", "directions"),
    [
        (40, 30, 8, (1, 2, 40)),
        pytest.param(784, 400, 50, (2, 25, 200), marks=pytest.mark.slow),  # the paper's
    ],
)
def test_without_biases_all_hyperplanes_of_a_linear_network_meet_at_the_origin(
    inputs, width, depth, directions
):
    """And the estimate finds all, at every radius and for every P: no value there is a difference of two, so
    that each has its sign although layers shrink it to 1e-12."""
    torch.manual_seed(0)
    program = Program.from_module(mlp(inputs, width, depth, 1.0, bias=False), (inputs,))
    for radius in RADII:
        for some in directions:
            result = LocalComplexity(program, radius, some)(torch.zeros(1, inputs))
            assert result.per_layer.tolist() == [[width] * depth], (radius, some)
            assert result.total.tolist() == [width * depth]


def test_so_do_they_in_a_network_of_leaky_relus_that_flips_no_sign():
    """z and its mirror image have opposite signs in the first layer, whatever comes after."""
    torch.manual_seed(0)
    model = mlp(12, 10, 3, 0.01, bias=False)
    found = LocalComplexity(model, 1e-3, 12)(torch.zeros(1, 12))
    assert found.per_layer[0, 0] == 10
    frame = LocalComplexity(model, 1e-3, 12).frame((12,))
    expected = hooked_counts(model, torch.zeros(1, 12), frame, 1e-3, (nn.LeakyReLU,))
    np.testing.assert_array_equal(found.per_layer, expected)


def test_away_from_the_origin_they_are_found_where_they_are():
    """The estimate at (1, .., 1) finds exactly the neurons of the linear network whose hyperplane, through
    the origin, passes within reach of a vertex."""
    torch.manual_seed(1)
    model = mlp(30, 20, 4, 1.0, bias=False).double()
    point, counts = torch.ones(1, 30, dtype=torch.float64), []
    for radius in (0.01, 0.3, 3.0):
        estimate = LocalComplexity(model, radius, 30)
        matrix, expected, frame = torch.eye(30, dtype=torch.float64), [], estimate.frame((30,))
        for layer in model[::2]:
            matrix = layer.weight.detach() @ matrix
            reach = radius * (matrix @ frame.T).abs().amax(dim=1)
            expected.append(int(((matrix @ point[0]).abs() < reach).sum()))
        counts.append(estimate(point).per_layer[0].tolist())
        assert counts[-1] == expected
    assert sum(counts[0]) < sum(counts[1]) < sum(counts[2])


@pytest.mark.parametrize(
    ("inputs", "width", "depth"), [(100, 30, 6), pytest.param(784, 100, 18, marks=pytest.mark.slow)]
)
def test_complexity_falls_as_the_centre_leaves_the_origin(inputs, width, depth):
    """Knots of a random network are near the origin; from 0 to (10, .., 10) the estimate falls."""
    steps, totals = torch.tensor([0.0, 1.0, 3.0, 10.0]), []
    points = steps[:, None] * torch.ones(inputs)
    for seed in range(3):
        torch.manual_seed(seed)
        program = Program.from_module(mlp(inputs, width, depth, 0.01, bias=True), (inputs,))
        totals.append(LocalComplexity(program, 1.0, 20, seed)(points).total)
    mean = np.mean(totals, axis=0)
    assert (np.diff(mean) < 0).all(), mean
    assert mean[-1] < mean[0] / 4
