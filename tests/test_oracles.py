"""The oracle against answers known by hand, and against itself."""

import time
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from tests.exact_networks import Abs, activation, affine, lift, mlp, read_sequential, unroll
from tests.oracles import ExactPartition, count_regions

BOX = [(-1, -1), (1, -1), (1, 1), (-1, 1)]
TRIANGLE = [(0, 0), (1, 0), (0, 1)]


def through(point, n):
    """``n`` different lines through a rational point."""
    x, y = map(Fraction, point)
    normals = [(1, k) for k in range(-(n // 2), n - n // 2)]
    return [(a, b, -a * x - b * y) for a, b in normals]


def one_layer(lines):
    """The network whose first and only activation has these lines as knots; the output sums its neurons."""
    matrix = [line[:2] for line in lines]
    return mlp([(matrix, [line[2] for line in lines]), ([[1] * len(lines)], [0])])


def random_lines(seed, n):
    return np.random.default_rng(seed).integers(-5, 6, size=(n, 3)).tolist()


def random_mlp(seed, widths):
    torch.manual_seed(seed)
    layers = []
    for n_in, n_out in zip((2, *widths), (*widths, 3), strict=True):
        layers += [nn.Linear(n_in, n_out, dtype=torch.float64), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


# ---- lines ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "truth"),
    [
        ([], 1),
        ([(1, 0, 0)], 2),
        ([(1, 0, 5)], 1),  # misses the box
        ([(1, 0, 1)], 1),  # lies along a side
        ([(1, 1, 2)], 1),  # touches a corner
        ([(1, -1, 0)], 2),  # the diagonal
        ([(1, 0, 0), (0, 1, 0)], 4),
        ([(1, 0, 0), (2, 0, 0), (-4, 0, 0)], 2),  # one line three times
        (through((0, 0), 6), 12),
        (through((0, 0), 20), 40),
        (through((Fraction(3, 10), Fraction(1, 5)), 5), 10),
        (through((Fraction(3, 10), Fraction(1, 5)), 20), 40),
        ([(1, 0, 0), (0, 1, 0), (1, 1, Fraction(-1, 2))], 7),
        ([(4, 0, 1), (4, 0, -1), (0, 4, 1), (0, 4, -1)], 9),
    ],
)
def test_lines_give_the_known_number_of_regions(lines, truth):
    assert count_regions(lines, (-1, 1, -1, 1)) == truth
    if lines:
        assert ExactPartition(one_layer(lines), BOX).n_regions == truth


@pytest.mark.parametrize("seed", range(10))
def test_clipping_and_counting_agree_on_degenerate_lines(seed):
    lines = random_lines(seed, 14)
    partition = ExactPartition(one_layer(lines), BOX)
    assert partition.n_regions == count_regions(lines, (-1, 1, -1, 1))
    assert partition.euler_characteristic() == 1


def test_rounded_lines_through_a_point_miss_each_other():
    lines = [(a, b, float(c)) for a, b, c in through((Fraction(3, 10), Fraction(1, 5)), 20)]
    assert count_regions(lines, (-1, 1, -1, 1)) > 40


# ---- deeper networks -----------------------------------------------------------------------------


def test_second_layer_bends_at_the_first():
    # z0 = x; z1 = relu(x) - y - 1/2: its knot is level left of x = 0 and rises on the right.
    network = mlp([([[1, 0], [0, 1], [0, -1]], [0, 0, 0]), ([[1, -1, 1]], ["-1/2"]), ([[1]], [0])])
    partition = ExactPartition(network, BOX)
    assert partition.areas() == {
        ((False, False, True), (False,)): Fraction(1, 2),
        ((False, True, False), (False,)): Fraction(1),
        ((True, False, True), (True,)): Fraction(7, 8),
        ((True, False, True), (False,)): Fraction(1, 8),
        ((False, False, True), (True,)): Fraction(1, 2),
        ((True, True, False), (True,)): Fraction(1, 8),
        ((True, True, False), (False,)): Fraction(7, 8),
    }


def test_a_neuron_that_is_zero_on_a_region_is_off_and_cuts_nothing():
    network = mlp([([[1, 0]], [0]), ([[1]], [0]), ([[1]], [0])])
    partition = ExactPartition(network, BOX)
    assert set(partition.areas()) == {((False,), (False,)), ((True,), (True,))}
    (differing,) = partition.adjacency().values()
    assert differing == {(0, 0), (1, 0)}


@pytest.mark.parametrize("slope", [0, Fraction(1, 4), -1])
def test_output_maps_follow_the_slopes(slope):
    partition = ExactPartition(mlp([([[1, 0]], [0]), ([[1]], [0])], slope), BOX)
    assert partition.affine_maps() == {((False,),): [[slope, 0, 0]], ((True,),): [[1, 0, 0]]}


def test_a_slope_of_one_makes_no_knot():
    partition = ExactPartition(mlp([([[1, 0], [0, 1]], [0, 0]), ([[1, 1]], [0])], slope=1), BOX)
    assert partition.n_regions == 1


def test_residual_sum_and_lift():
    # The chart point (u, v) is the input (u + 1, v, 0); the output is z + relu(z) for z its three components.
    network = [
        lift([1, 0, 0], [[1, 0, 0], [0, 1, 0]]),
        affine("z", ("point", np.eye(3))),
        activation("a", "z", [0, 0, 0]),
        affine("sum", ("z", np.eye(3)), ("a", np.eye(3))),
    ]
    partition = ExactPartition(network, BOX)
    assert partition.affine_maps() == {
        ((True, False, False),): [[2, 0, 2], [0, 1, 0], [0, 0, 0]],
        ((True, True, False),): [[2, 0, 2], [0, 2, 0], [0, 0, 0]],
    }


def test_unrolled_convolution_is_the_convolution():
    conv = nn.Conv2d(1, 2, 3, padding=1, bias=False, dtype=torch.float64)
    matrix = unroll(conv, (1, 4, 4))
    x = torch.randn(3, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(x @ matrix.T, conv(x.reshape(3, 1, 4, 4)).flatten(1))


# ---- what holds for every network ----------------------------------------------------------------


@pytest.mark.parametrize("domain", [BOX, TRIANGLE])
@pytest.mark.parametrize("seed", range(3))
def test_regions_tile_the_domain_and_carry_the_network(seed, domain):
    model = random_mlp(seed, (6, 5))
    partition = ExactPartition(read_sequential(model), domain)
    assert sum(partition.areas().values()) == (4 if domain is BOX else Fraction(1, 2))
    assert partition.euler_characteristic() == 1
    maps = partition.affine_maps()
    for region in partition.regions:
        inside = np.mean([[x / w, y / w] for x, y, w in region.corners], axis=0)
        truth = np.array(maps[region.pattern], dtype=float) @ [*inside, 1]
        with torch.no_grad():
            np.testing.assert_allclose(model(torch.tensor(inside)).numpy(), truth, atol=1e-12)
            hidden = [model[:1](torch.tensor(inside)), model[:3](torch.tensor(inside))]
        assert tuple(tuple((z > 0).tolist()) for z in hidden) == region.pattern


@pytest.mark.parametrize("module", [nn.LeakyReLU(0.25), nn.PReLU(5, 0.5, dtype=torch.float64), Abs()])
def test_slopes_do_not_move_the_first_layer(module):
    torch.manual_seed(0)
    first, last = nn.Linear(2, 5, dtype=torch.float64), nn.Linear(5, 1, dtype=torch.float64)
    bent = ExactPartition(read_sequential(nn.Sequential(first, module, last)), BOX)
    relu = ExactPartition(read_sequential(nn.Sequential(first, nn.ReLU(), last)), BOX)
    assert bent.areas() == relu.areas()
    point = torch.tensor([0.3, -0.2], dtype=torch.float64)
    on = tuple((first(point) > 0).tolist())
    with torch.no_grad():
        value = nn.Sequential(first, module, last)(point[None]).numpy()[0]
    np.testing.assert_allclose(np.array(bent.affine_maps()[(on,)], dtype=float) @ [0.3, -0.2, 1], value)


def test_neighbours_differ_in_the_neurons_of_their_border():
    partition = ExactPartition(one_layer(through((0, 0), 6)), BOX)
    adjacency = partition.adjacency()
    assert len(adjacency) == 12  # a ring; regions that meet in the centre alone are no neighbours
    assert all(len(differing) == 1 for differing in adjacency.values())
    repeated = ExactPartition(one_layer([(1, 0, 0), (-2, 0, 0)]), BOX)
    assert list(repeated.adjacency().values()) == [{(0, 0), (0, 1)}]


# ---- decisions and linear regions ----------------------------------------------------------------


def test_decision_of_two_linear_outputs():
    decision = ExactPartition(mlp([([[1, 0], [0, 1]], [0, 0])]), BOX).decision()
    assert decision.n_connected == 2
    assert decision.length == pytest.approx(8**0.5)


def test_decision_of_one_output_is_its_zero_level_set():
    # |x| - |y|: the two diagonals; four cells, none of which touch in more than a point.
    network = mlp([([[1, 0], [0, 1]], [0, 0]), ([[1, -1]], [0])], slope=-1)
    decision = ExactPartition(network, BOX).decision()
    assert decision.n_connected == 4
    assert decision.length == pytest.approx(2 * 8**0.5)


def test_a_tie_on_a_whole_region_goes_to_the_first_output():
    # relu(x) against 0: a tie on the left, which is no border by itself.
    network = mlp([([[1, 0]], [0]), ([[0], [1]], [0, 0])])
    decision = ExactPartition(network, BOX).decision()
    assert sorted(decision.winners) == [0, 1]
    assert decision.length == pytest.approx(2)
    assert ExactPartition(mlp([([[1, 0]], [0]), ([[1], [1]], [0, 0])]), BOX).decision().segments == []


def test_decision_against_sampling():
    model = random_mlp(1, (6, 6))
    decision = ExactPartition(read_sequential(model), BOX).decision()
    for cell, winner in zip(decision.cells, decision.winners, strict=True):
        inside = np.mean([[x / w, y / w] for x, y, w in cell], axis=0)
        assert int(model(torch.tensor(inside)).argmax()) == winner


def test_linear_regions_merge_what_the_output_does_not_see():
    # relu(x) - relu(-x) = x and an unused neuron: four activation regions, one linear region.
    network = mlp([([[1, 0], [-1, 0], [0, 1]], [0, 0, 0]), ([[1, -1, 0]], [0])])
    partition = ExactPartition(network, BOX)
    assert partition.n_regions == 4
    assert partition.n_linear_regions() == 1


@pytest.mark.slow
def test_oracle_is_fast_enough_for_three_layers_of_sixteen():
    start = time.perf_counter()
    partition = ExactPartition(read_sequential(random_mlp(0, (16, 16, 16))), BOX)
    assert partition.n_regions > 100
    assert partition.euler_characteristic() == 1
    assert time.perf_counter() - start < 30
