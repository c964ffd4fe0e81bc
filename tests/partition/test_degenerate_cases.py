"""Cases that other tools get wrong, most of them silently: one test each.

Where lines are concurrent by intention, the truth comes from the unrounded rationals.
"""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from splinecam_lite import Slice, partition
from splinecam_lite.engine.plan import Tuning
from tests.agreement import assert_agrees, assert_same, slice_of
from tests.exact_networks import lift, read_sequential
from tests.oracles import ExactPartition, count_regions
from tests.strategies import Case

BOX = [(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)]
OFF_CENTRE = [(-0.25, -0.75), (1.5, -0.75), (1.5, 0.5), (-0.25, 0.5)]
UNIT = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)]

TINY = Tuning(group=2, block_vertices=8, piece_vertices=4)

both_sizes = pytest.mark.parametrize("tuning", [Tuning(), TINY], ids=["one block", "tiny blocks"])


def lines_network(lines) -> nn.Sequential:
    """ReLU network with one neuron a line ``a x + b y + c``, rounded to float64."""
    matrix = [[float(a), float(b)] for a, b, _ in lines]
    bias = [float(c) for *_, c in lines]
    return Case([(matrix, bias), ([[1.0] * len(lines)], [0.0])], ["relu"], BOX).model()


def random_lines(seed: int, n: int) -> list[tuple[float, float, float]]:
    """Lines in general position, most of them through the middle of the box."""
    rng = np.random.default_rng(seed)
    angles, offsets = rng.uniform(0, 7, n), rng.uniform(-0.3, 0.3, n)
    return [(np.cos(t), np.sin(t), c) for t, c in zip(angles, offsets, strict=True)]


def concurrent_lines(x: Fraction, y: Fraction, n: int) -> list[tuple[Fraction, Fraction, Fraction]]:
    """``n`` different lines through a point."""
    normals = [(Fraction(7), Fraction(k)) for k in range(-(n // 2), n - n // 2)]
    return [(a, b, -a * x - b * y) for a, b in normals]


def mlp(widths, seed=0, bias=True) -> nn.Sequential:
    """Float64 ReLU network with torch's default initialisation."""
    torch.manual_seed(seed)
    modules: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise(widths):
        modules += [nn.Linear(n_in, n_out, bias=bias, dtype=torch.float64), nn.ReLU()]
    return nn.Sequential(*modules[:-1]).eval()


# ---- concurrent lines --------------------------------------------------------------------------


@both_sizes
@pytest.mark.parametrize(("n", "truth"), [(6, 12), (20, 40)])
def test_lines_through_the_origin(n, truth, tuning):
    model = lines_network([(a, b, 0) for a, b, _ in random_lines(0, n)])
    part = partition(model, slice_of(BOX), _tuning=tuning)
    assert part.n_regions == truth
    assert_agrees(part, ExactPartition(read_sequential(model), BOX))


@both_sizes
@pytest.mark.parametrize("n", [5, 20])
def test_lines_through_a_point_that_floats_miss(n, tuning):
    lines = concurrent_lines(Fraction(3, 10), Fraction(1, 5), n)
    truth = count_regions(lines, (-1, 1, -1, 1))
    assert truth == 2 * n
    model = lines_network(lines)
    part = partition(model, slice_of(BOX), _tuning=tuning)
    assert part.n_regions == truth
    exact = ExactPartition(read_sequential(model), BOX)
    assert exact.n_regions > truth  # the rounded lines miss each other,
    assert part.report.n_snaps > 0  # and the result says that it took them to meet


# ---- repeated lines ----------------------------------------------------------------------------


@both_sizes
def test_one_of_four_lines_twice(tuning):
    lines = [(1, 0, 0.25), (0, 1, -0.125), (1, 1, 0.0), (1, -2, 0.125)]
    part = partition(lines_network([*lines, lines[2]]), slice_of(BOX), _tuning=tuning)
    assert part.n_regions == 11 == count_regions(lines, (-1, 1, -1, 1))


@both_sizes
@pytest.mark.parametrize("factor", [1.0, -1.0, 2.0, -0.5, 1024.0])
def test_multiples_of_neurons_change_nothing(factor, tuning):
    lines = random_lines(2, 8)
    multiples = [tuple(factor * value for value in line) for line in lines]
    part = partition(lines_network(lines + multiples), slice_of(BOX), _tuning=tuning)
    alone = partition(lines_network(lines), slice_of(BOX), _tuning=tuning)
    assert part.n_regions == alone.n_regions == count_regions(lines, (-1, 1, -1, 1))
    assert_agrees(part, ExactPartition(read_sequential(lines_network(lines + multiples)), BOX))


# ---- bias-free and integer networks ------------------------------------------------------------


@both_sizes
@pytest.mark.parametrize("domain", [BOX, OFF_CENTRE, UNIT], ids=["centred", "off-centre", "corner at 0"])
@pytest.mark.parametrize("seed", range(3))
def test_bias_free_network(seed, domain, tuning):
    model = mlp([2, 12, 12, 1], seed, bias=False)
    part = partition(model, slice_of(domain), _tuning=tuning)
    assert_agrees(part, ExactPartition(read_sequential(model), domain))


@both_sizes
@pytest.mark.parametrize("largest", [1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_integer_weights(seed, largest, tuning):
    model = mlp([2, 12, 12, 8, 2])
    rng = np.random.default_rng(seed)
    for parameter in model.parameters():
        weights = rng.integers(-largest, largest, parameter.shape, endpoint=True)
        parameter.data = torch.tensor(weights, dtype=torch.float64)
    part = partition(model, slice_of(BOX), _tuning=tuning)
    assert_agrees(part, ExactPartition(read_sequential(model), BOX))


# ---- lines and the domain's border -------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "truth"),
    [
        ((1, -1, 0), 2),  # through two corners
        ((2, 1, 1), 2),  # through one corner, across
        ((1, 1, 2), 1),  # touches a corner from outside, the domain on its positive side
        ((-1, -1, -2), 1),  # the same, the domain on its negative side
        ((1, 0, 1), 1),  # along a side
        ((-1, 0, -1), 1),
        ((1, 0, 2), 1),  # passes outside
        ((0, 0, 0), 1),  # no line at all
        ((0, 0, 1), 1),
    ],
)
def test_a_line_and_the_border(line, truth):
    for lines in ([line], [line, (3, 5, 0.125)]):
        model = lines_network(lines)
        part = partition(model, slice_of(BOX))
        assert part.n_regions == count_regions(lines, (-1, 1, -1, 1)) == truth * len(lines)
        assert_agrees(part, ExactPartition(read_sequential(model), BOX))


def test_corners_that_are_not_dyadic():
    domain = [(0.1, 0.1), (0.7, 0.1), (0.3, 0.6)]
    (x0, y0), (x1, y1), (x2, y2) = domain

    def line(xa, ya, xb, yb):
        return ya - yb, xb - xa, xa * yb - xb * ya

    two_sides = [line(x0, y0, x2, y2), line(x1, y1, x2, y2)]
    median = line((x0 + x1) / 2, (y0 + y1) / 2, x2, y2)
    part = partition(lines_network([*two_sides, median]), slice_of(domain))
    assert part.n_regions == 2
    np.testing.assert_allclose(part.areas(), part.plane.area / 2)


# ---- scales ------------------------------------------------------------------------------------


@pytest.mark.parametrize("c", [1e-10, 1e10])
@pytest.mark.parametrize("bias", [True, False])
def test_scaled_weights(c, bias):
    model, scaled = mlp([2, 12, 12, 8, 2], bias=bias), mlp([2, 12, 12, 8, 2], bias=bias)
    depth = 0
    for module in scaled:
        if isinstance(module, nn.Linear):
            depth += 1
            module.weight.data *= c
            if bias:
                module.bias.data *= c**depth
    part = partition(model, slice_of(BOX))
    assert_same(part, partition(scaled, slice_of(BOX)))
    assert_agrees(part, ExactPartition(read_sequential(model), BOX))


@pytest.mark.parametrize("c", [1e-9, 1e9])
def test_scaled_domain(c):
    model, scaled = mlp([2, 12, 12, 1]), mlp([2, 12, 12, 1])
    scaled[0].weight.data /= c
    part = partition(model, slice_of(BOX))
    far = partition(scaled, slice_of([(c * x, c * y) for x, y in BOX]))
    assert far.n_regions == part.n_regions
    np.testing.assert_allclose(np.sort(far.areas()) / c**2, np.sort(part.areas()), rtol=0, atol=1e-10)


# ---- slices ------------------------------------------------------------------------------------


def test_skew_points_give_input_space_areas():
    """The area of a region is that of its lifted polygon, however skew the points that span the slice."""
    rng = np.random.default_rng(0)
    x1 = rng.normal(size=7)
    x2 = x1 + 3 * np.eye(7)[0]
    x3 = x1 + np.eye(7)[0] + 0.1 * np.eye(7)[1]  # six degrees from the other
    plane = Slice.through(x1, x2, x3)
    points = np.stack([x1, x2, x3])
    np.testing.assert_allclose(plane.lift(plane.project(points)), points, atol=1e-12)

    model = mlp([7, 10, 10, 3])
    part = partition(model, plane)
    network = [lift(plane.origin, plane.directions), *read_sequential(model, "point")]
    assert_agrees(part, ExactPartition(network, plane.domain))
    for region, area in enumerate(part.areas()):
        corners = plane.lift(part.polygon(region))
        assert area == pytest.approx(lifted_area(corners), rel=1e-9, abs=1e-12)


def lifted_area(corners):
    """Area of a planar polygon in n dimensions: a fan of triangles, each from its Gram determinant."""
    sides = corners[1:] - corners[0]
    grams = [np.array([[a @ a, a @ b], [a @ b, b @ b]]) for a, b in itertools.pairwise(sides)]
    return sum(max(np.linalg.det(gram), 0) ** 0.5 / 2 for gram in grams)
