"""Diamonds, discs and squares: exact counts against formulas, sampling, and slow clipping of partitions."""

import numpy as np
import pytest
import shapely
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from splinecam_lite.complexity import LocalComplexity, exact_complexity, random_frame
from splinecam_lite.complexity.neighbourhoods.domains import polygon
from splinecam_lite.errors import NeighbourhoodError
from splinecam_lite.network.program import Program
from splinecam_lite.network.slices import Slice
from splinecam_lite.partition.partition import partition
from tests.complexity.networks import STRUCTURES, random_program
from tests.strategies import degenerate_cases

SHAPES = ["diamond", "disc", "square"]
INTEGERS = ("per_layer", "n_regions", "n_linear_regions")

drawn_programs = st.builds(
    random_program,
    st.sampled_from(list(STRUCTURES)),
    st.sampled_from(["relu", "prelu", "hardtanh"]),
    st.integers(0, 2**32 - 1),
)


def points_and_frame(program, n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(n, *program.input_shape, generator=generator, dtype=torch.float64)
    return points, random_frame(program.input_shape, 2, seed)


def assert_same_integers(first, second):
    for name in INTEGERS:
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), err_msg=name)


@settings(max_examples=25)
@given(drawn_programs, st.sampled_from([0.001, 0.1, 0.5, 2.0]))
def test_shapes_hold_one_another_and_the_estimate(program, radius):
    """diamond < disc < square, in every count."""
    points, frame = points_and_frame(program, 5)
    estimate = LocalComplexity(program, radius, frame=frame)(points).per_layer
    diamond, disc, square = (exact_complexity(program, points, frame, radius, shape=s) for s in SHAPES)
    assert (estimate <= diamond.per_layer).all()
    for smaller, larger in ((diamond, disc), (disc, square)):
        for name in (*INTEGERS, "knot_length", "layer_knot_length"):
            assert (getattr(smaller, name) <= getattr(larger, name) * (1 + 1e-12)).all(), name
    for found in (diamond, disc, square):
        assert (found.n_linear_regions <= found.n_regions).all()


@settings(max_examples=12)
@given(degenerate_cases(), st.sampled_from([0.25, 1.0]), st.sampled_from(SHAPES))
def test_a_quarter_turn_of_the_frame_changes_nothing(case, radius, shape):
    """Also where knots touch the domains and pass through their corners."""
    program = case.program()
    points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [-1.0, 2.0]])
    turned = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    found = exact_complexity(program, points, torch.eye(2), radius, shape=shape)
    again = exact_complexity(program, points, turned, radius, shape=shape)
    assert_same_integers(found, again)
    np.testing.assert_allclose(found.layer_knot_length, again.layer_knot_length, atol=1e-9)


@settings(max_examples=40)
@given(st.sampled_from(["relu", "hardtanh"]), st.sampled_from([0.01, 0.3, 1.0]), st.integers(0, 2**32 - 1))
def test_the_first_layer_by_formula(activation, radius, seed):
    """z is affine with gradient (a, b) on the plane: a disc is crossed iff |z| < r |(a, b)|, and so on."""
    program = random_program("mlp", activation, seed)
    points, frame = points_and_frame(program, 6, seed % 1000)
    first = program.preactivation_ops[0].inputs[0]
    z, z_u, z_v = (
        program.run(points + step, keep=[first])[first].numpy() for step in (0 * frame[0], frame[0], frame[1])
    )
    a, b = np.abs(z_u - z), np.abs(z_v - z)
    reach = {"diamond": np.maximum(a, b), "disc": np.hypot(a, b), "square": a + b}
    for shape in SHAPES:
        found = exact_complexity(program, points, frame, radius, shape=shape)
        np.testing.assert_array_equal(found.per_layer[:, 0], (np.abs(z) < radius * reach[shape]).sum(axis=1))


def sampled_places(shape, radius):
    """A grid in the shape, and its border more densely."""
    side = np.linspace(-1, 1, 81)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    t = np.linspace(0, 2 * np.pi, 2001)
    circle = np.column_stack((np.cos(t), np.sin(t)))
    if shape == "disc":
        border = circle
        grid = grid[np.hypot(*grid.T) <= 1]
    else:
        norm = np.abs(circle).sum(axis=1) if shape == "diamond" else np.abs(circle).max(axis=1)
        border = np.concatenate((circle / norm[:, None], polygon(shape)))
        grid = grid[np.abs(grid).sum(axis=1) <= 1] if shape == "diamond" else grid
    return torch.from_numpy(radius * (1 - 1e-12) * np.concatenate((grid, border)))


@pytest.mark.parametrize("activation", ["relu", "hardtanh", "prelu"])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_dense_sample_finds_no_more_and_hardly_less(structure, activation):
    program, radius = random_program(structure, activation, 11), 0.6
    points, frame = points_and_frame(program, 4)
    inputs = [op.inputs[0] for op in program.preactivation_ops]
    missed = 0
    for shape in SHAPES:
        exact = exact_complexity(program, points, frame, radius, shape=shape)
        uv = sampled_places(shape, radius)
        for point, counts in zip(points, exact.per_layer, strict=True):
            values = program.run(point + torch.tensordot(uv, frame, dims=1), keep=inputs)
            found = [int(((values[v].amin(0) < 0) & (values[v].amax(0) >= 0)).sum()) for v in inputs]
            assert (np.array(found) <= counts).all(), shape
            missed += int(counts.sum()) - sum(found)
    assert missed <= 1  # a corner between the places


def arc_network(c):
    """A first layer with a knot through the origin, and a neuron 0.6 u + 0.8 v - c that no knot bends."""
    network = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1), nn.ReLU()).double().eval()
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, -0.75]]))
        network[0].bias.copy_(torch.tensor([10.0, 10.0, 0.0]))
        network[2].weight.copy_(torch.tensor([[0.6, 0.8, 0.0]], dtype=torch.float64))
        network[2].bias.fill_(-14.0 - c)
    return network


@pytest.mark.parametrize("radius", [1e-3, 1.0])
def test_a_neuron_that_is_positive_in_the_middle_of_an_arc_alone(radius):
    """Its zero set meets the disc within 1e-6 r of one place on the circle, far from all vertices."""
    for share, crossed in ((1 - 1e-6, 1), (1 + 1e-6, 0)):
        network = arc_network(share * radius)
        found = exact_complexity(network, torch.zeros(1, 2), torch.eye(2), radius, shape="disc")
        assert found.per_layer.tolist() == [[1, crossed]]
    assert found.n_regions.tolist() == [2]
    np.testing.assert_allclose(found.knot_length, [2 * radius])


def test_zero_is_crossed_where_there_is_no_knot():
    """Hardtanh bends at -1 and 1; around 0 it is linear: one region, no knots, one crossing."""
    network = nn.Sequential(nn.Linear(2, 1, bias=False), nn.Hardtanh()).double().eval()
    network[0].weight.data = torch.tensor([[1.0, 1.0]], dtype=torch.float64)
    points = torch.tensor([[0.0, 0.0], [0.5, 0.5], [0.1, 0.0]])
    for shape, crossed in (("diamond", [1, 0, 1]), ("disc", [1, 0, 1]), ("square", [1, 0, 1])):
        found = exact_complexity(network, points, torch.eye(2), 0.125, shape=shape)
        assert found.per_layer[:, 0].tolist() == crossed
        # The second point lies on the knot u + v = 1.
        assert found.n_regions.tolist() == [1, 2, 1]
    assert found.n_linear_regions.tolist() == [1, 2, 1]


def test_zero_is_crossed_in_a_later_layer_where_there_is_no_knot():
    """Beside the knot u = 0 of the first layer, z = u + v + 3 - 3 crosses 0 and has its knots elsewhere."""
    network = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1), nn.Hardtanh()).double().eval()
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
        network[0].bias.copy_(torch.tensor([0.0, 3.0]))
        network[2].weight.copy_(torch.tensor([[0.0, 1.0]]))
        network[2].bias.fill_(-3.0)
    for shape in SHAPES:
        found = exact_complexity(network, torch.zeros(1, 2), torch.eye(2), 0.25, shape=shape)
        assert found.per_layer.tolist() == [[1, 1]]
        assert (found.n_regions.tolist(), found.n_linear_regions.tolist()) == ([2], [1])


# ---- the slow way: partition the square, clip every region ---------------------------------------------


def blind(program_seed, structure="mlp"):
    """A program whose output sees half of the last layer: regions that differ elsewhere are one."""
    program = random_program(structure, "relu", program_seed)
    last = [op for op in program.ops if op.kind == "affine"][-1]
    for constant in last.linear.constants.values():
        if constant.ndim == 2:
            constant[:, ::2] = 0.0
    return program


def clipped_slowly(program, point, frame, radius, shape):
    """Regions, linear regions, lengths by layer from shapely, in two domains: in the shape, and around it.

    They are one for polygons, and differ by 1e-5 for a disc.
    """
    part = partition(program, Slice.around(point.numpy(), radius, frame.numpy()), threads=1)
    domains = [shapely.Polygon(radius * polygon(shape))] * 2
    if shape == "disc":
        around = 1.0 / np.cos(np.pi / 1500)
        domains = [shapely.Point(0, 0).buffer(radius * k, quad_segs=500) for k in (1.0, around)]
    labels, counts, linear = part.linear_regions(), [], []
    for domain in domains:
        pieces = [
            shapely.intersection(shapely.Polygon(part.polygon(f)), domain) for f in range(part.n_regions)
        ]
        there = np.array([piece.area > 1e-13 * radius**2 for piece in pieces])
        counts.append(int(there.sum()))
        found = 0
        for label in np.unique(labels[there]):
            some = [pieces[f].buffer(1e-9 * radius) for f in np.flatnonzero(there & (labels == label))]
            found += len(shapely.get_parts(shapely.union_all(some)))
        linear.append(found)
    knots, ends = part.knots(), part.vertices[part.complex.edge_vertices]
    edges = [np.unique(knots.edges[knots.layers == layer]) for layer in range(len(part.layers))]
    lengths = [shapely.length(shapely.intersection(shapely.linestrings(ends), d)) for d in domains]
    return counts, linear, [np.array([each[some].sum() for some in edges]) for each in lengths]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("make", [blind, lambda seed: random_program("residual", "relu6", seed)])
def test_regions_and_lengths_are_those_of_a_partition_clipped_slowly(make, shape):
    radius, several = 0.7, 0
    for seed in range(3):
        program = make(seed)
        points, frame = points_and_frame(program, 2, seed)
        exact = exact_complexity(program, points, frame, radius, shape=shape)
        for i, point in enumerate(points):
            regions, linear, lengths = clipped_slowly(program, point, frame, radius, shape)
            assert regions[0] <= exact.n_regions[i] <= regions[1]
            assert min(linear) <= exact.n_linear_regions[i] <= max(linear)
            assert (exact.layer_knot_length[i] >= lengths[0] - 1e-9).all()
            assert (exact.layer_knot_length[i] <= lengths[1] + 1e-9).all()
            several += int(exact.n_regions[i] > exact.n_linear_regions[i] > 1)
    assert several  # linear regions were put to the test


def test_max_pooling_has_its_regions_in_discs():
    """max(u, v): one border, the diagonal; the comparison of losers parts nothing."""
    network = nn.Sequential(nn.Unflatten(1, (1, 2)), nn.MaxPool1d(2)).double().eval()
    found = exact_complexity(network, torch.zeros(1, 2), torch.eye(2), 1.0, shape="disc")
    assert (found.n_regions.tolist(), found.n_linear_regions.tolist()) == ([2], [2])
    np.testing.assert_allclose(found.knot_length, [2.0])


def test_two_parts_that_only_meet_outside_are_two_linear_regions():
    """relu(1 - |u| - 2 |v|) is 0 outside of a rhomb: around it in the square, on two sides in a flat one."""
    network = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1), nn.ReLU()).double().eval()
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]]))
        network[0].bias.zero_()
        network[2].weight.fill_(-1.0)
        network[2].bias.fill_(1.0)
    # Four quadrants inside the rhomb, and outside of it: one linear region in a square of radius 2, and above
    # and below, which only meet at |u| > 1, are two where the radius is 0.75.
    counts = {}
    for radius in (2.0, 0.75):
        for together in (False, True):
            points = torch.tensor([[0.0, 0.0], [2.0, 0.0]])  # the second makes a shared domain larger
            found = exact_complexity(network, points, torch.eye(2), radius, shape="square", together=together)
            counts.setdefault(radius, []).append((int(found.n_regions[0]), int(found.n_linear_regions[0])))
    assert counts == {2.0: [(8, 5)] * 2, 0.75: [(8, 6)] * 2}


@pytest.mark.parametrize("shape", ["circle", "Disc", None, 2])
def test_other_shapes_are_refused(shape):
    program = Program.from_module(nn.Linear(2, 1).eval(), (2,))
    with pytest.raises(NeighbourhoodError, match="give 'diamond', 'disc' or 'square'"):
        exact_complexity(program, torch.zeros(1, 2), torch.eye(2), 1.0, shape=shape)


@pytest.mark.parametrize(("shape", "area"), [("diamond", 0.5), ("disc", np.pi / 4), ("square", 1.0)])
def test_area(shape, area):
    found = exact_complexity(nn.Linear(2, 1).eval(), torch.zeros(1, 2), torch.eye(2), 0.5, shape=shape)
    assert found.area == pytest.approx(area)
