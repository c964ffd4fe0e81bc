"""The migration statistic on networks whose knots and boundaries are known."""

import numpy as np
import pytest
import torch
from torch import nn

from splinecam_lite.network.slices import Slice
from splinecam_lite.partition.partition import partition
from splinecam_lite.partition.result import Partition
from splinecam_lite.studies.migration import knot_density


def upright(places: list[float]) -> nn.Sequential:
    """Return a network with one vertical knot at each place, and the decision boundary u = 0.

    Output 0 is 0, and output 1 is u: relu(u - p) - relu(p - u) + p for the first place p. Other neurons have
    no influence.
    """
    first, n = places[0], len(places)
    network = nn.Sequential(nn.Linear(2, n + 1), nn.ReLU(), nn.Linear(n + 1, 2)).double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network[0].weight[:, 0] = 1.0
        network[0].bias[:n] = -torch.tensor(places, dtype=torch.float64)
        network[0].weight[n, 0], network[0].bias[n] = -1.0, first
        network[2].weight[1, 0], network[2].weight[1, n], network[2].bias[1] = 1.0, -1.0, first
    return network


def vertical_knots(places: list[float], half_width: float = 1.0) -> Partition:
    """Partition a square about the origin."""
    return partition(upright(places), Slice.box(-half_width, half_width))


def test_known_densities() -> None:
    # Within 0.25 of u = 0: an area of 1, and two knots of length 2. Outside: an area of 3, and one knot.
    density = knot_density(vertical_knots([0.1, -0.2, 0.7]), [0.25])
    assert density.area == 4.0
    np.testing.assert_allclose(density.area_within, [1.0], rtol=1e-3)
    np.testing.assert_allclose(density.length, [6.0])
    np.testing.assert_allclose(density.length_within, [[4.0]], rtol=1e-3)
    np.testing.assert_allclose(density.near, [4.0], rtol=0.01)
    np.testing.assert_allclose(density.far, [2.0 / 3.0], rtol=0.01)
    np.testing.assert_allclose(density.ratio, [6.0], rtol=0.02)


def test_bands_partition_the_slice() -> None:
    density = knot_density(vertical_knots([0.1, -0.2, 0.7]), [0.15, 0.25, 0.5])
    areas = np.diff(density.area_within, prepend=0.0, append=density.area)
    np.testing.assert_allclose(density.bands * areas, [2.0, 2.0, 0.0, 2.0], atol=0.01)


def test_even_knots_have_ratio_one() -> None:
    even = knot_density(vertical_knots(np.arange(-0.95, 1.0, 0.1).round(2).tolist()), [0.3, 0.5])
    np.testing.assert_allclose(even.ratio, 1.0, rtol=0.003)
    np.testing.assert_allclose(even.layer_ratios, even.ratio[None])


def test_ratio_does_not_depend_on_the_unit() -> None:
    small = knot_density(vertical_knots([0.1, -0.2, 0.7]), [0.25])
    large = knot_density(vertical_knots([10.0, -20.0, 70.0], half_width=100.0), [25.0])
    np.testing.assert_allclose(large.ratio, small.ratio, rtol=1e-9)
    np.testing.assert_allclose(large.near, small.near / 100, rtol=1e-9)


def test_samples_decide_little() -> None:
    part = vertical_knots([0.1, -0.2, 0.7])
    few, many = (knot_density(part, [0.25], samples=n).ratio for n in (20_000, 160_000))
    np.testing.assert_allclose(few, many, rtol=0.002)


def test_domain_that_is_no_rectangle() -> None:
    # The triangle (-1, -1), (1, -1), (0, 1), cut by u = 0.5: the knot is 1 long.
    triangle = partition(upright([0.5]), Slice.box(-1, 1).with_domain([[-1, -1], [1, -1], [0, 1]]))
    density = knot_density(triangle, [0.25])
    assert density.area == 2.0
    np.testing.assert_allclose(density.length, [1.0])
    # |u| <= 0.25 leaves two triangles of width 0.75 and height 1.5.
    np.testing.assert_allclose(density.area_within, [2.0 - 2 * 0.5 * 0.75 * 1.5], rtol=0.01)


def test_no_boundary_and_no_knots() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)).eval()
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    density = knot_density(partition(network, Slice.box(0, 1)), [0.1])
    assert density.length.tolist() == [0.0]
    assert np.isnan(density.near).all()
    assert np.isnan(density.ratio).all()
    assert density.far.tolist() == [0.0]


@pytest.mark.parametrize("distances", [[], [0.0, 1.0], [1.0, 0.5], [np.nan], [np.inf]])
def test_distances_are_checked(distances: list[float]) -> None:
    with pytest.raises(ValueError, match="ascending"):
        knot_density(vertical_knots([0.1]), distances)
