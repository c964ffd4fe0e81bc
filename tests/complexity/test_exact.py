"""The exact count bounds the estimate, agrees with it on the first layer, and with a dense sample of the
diamond."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from splinecam_lite.complexity import LocalComplexity, exact_complexity, random_frame, recall
from splinecam_lite.complexity.frames import random_frames
from splinecam_lite.errors import ModelError, NeighbourhoodError, NotPiecewiseLinear
from splinecam_lite.network.program import Program
from splinecam_lite.network.slices import Slice
from splinecam_lite.partition.partition import partition
from tests.complexity.networks import ACTIVATIONS, STRUCTURES, random_program
from tests.strategies import Case, degenerate_cases

RADII = (0.001, 0.1, 0.5, 2.0)


def assert_bounded(program, points, frame, radius):
    """The estimate is at most the exact count everywhere, and equal to it on the first layer."""
    estimate = LocalComplexity(program, radius, frame=frame)(points)
    exact = exact_complexity(program, points, frame, radius)
    assert (estimate.per_layer <= exact.per_layer).all()
    np.testing.assert_array_equal(estimate.per_layer[:, 0], exact.per_layer[:, 0])


@given(
    st.sampled_from(list(STRUCTURES)),
    st.sampled_from(list(ACTIVATIONS)),
    st.sampled_from(RADII),
    st.integers(0, 2**32 - 1),
)
def test_the_estimate_is_a_lower_bound_and_exact_on_the_first_layer(structure, activation, radius, seed):
    program = random_program(structure, activation, seed)
    shape = program.input_shape
    points, frame = torch.randn(5, *shape, dtype=torch.float64), random_frame(shape, 2, seed)
    assert_bounded(program, points, frame, radius)


@settings(max_examples=20)
@given(degenerate_cases(), st.sampled_from([0.25, 1.0, 2.0]))
def test_knots_through_corners_do_not_break_the_bound(case, radius):
    """Integer networks around integer points: knots pass through corners, along sides and through one
    another."""
    points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [-1.0, 2.0]])
    assert_bounded(case.program(), points, torch.eye(2), radius)


@st.composite
def decimal_cases(draw):
    """Networks with integer weights and biases in tenths, and points on a grid of tenths (points, 2).

    Tenths are not floats: knots pass through corners of diamonds of radius 0.1 within rounding, on either
    side.
    """
    widths = draw(st.sampled_from([(4,), (12, 12), (6, 8, 6)]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    layers = [
        (
            rng.integers(-3, 4, (n_out, n_in)).astype(float).tolist(),
            (rng.integers(-9, 10, n_out) / 10).tolist(),
        )
        for n_in, n_out in pairwise((2, *widths, 1))
    ]
    activation = draw(st.sampled_from(["relu", "leaky", "abs"]))
    points = torch.from_numpy(rng.integers(-10, 11, (16, 2)) / 10)
    return Case(layers, [activation] * len(widths), []), points


@given(decimal_cases(), st.sampled_from([0.1, 0.2, 0.3]))
def test_rounding_does_not_break_the_bound(decimal, radius):
    case, points = decimal
    assert_bounded(case.program(), points, torch.eye(2), radius)


def test_rounding_does_not_break_the_bound_with_frames_of_their_own():
    program = random_program("mlp", "relu", 3)
    points = torch.randint(-3, 4, (40, 3)) / 10
    frames = random_frames((3,), 2, numbers=range(40))
    estimate = LocalComplexity(program, 0.1, 2, frame_per_point=True)(points)
    exact = exact_complexity(program, points, frames, 0.1)
    assert (estimate.per_layer <= exact.per_layer).all()
    np.testing.assert_array_equal(estimate.per_layer[:, 0], exact.per_layer[:, 0])


def test_every_layer_before_the_first_activation_is_a_first_layer():
    """Two activations read the input, and what comes after one of them is affine nowhere."""

    class Branches(nn.Module):
        def forward(self, x):
            return (x - 0.3).relu() + ((x + 0.1).abs() - 0.2).relu()

    estimates, exacts = [], []
    points = torch.cartesian_prod(torch.arange(-6, 7), torch.arange(-6, 7)).double() / 10
    program = Program.from_module(Branches().eval(), (2,))
    for radius in (0.1, 0.2, 0.3):
        estimates.append(LocalComplexity(program, radius, frame=torch.eye(2))(points).per_layer)
        exacts.append(exact_complexity(program, points, torch.eye(2), radius).per_layer)
    estimate, exact = np.concatenate(estimates), np.concatenate(exacts)
    np.testing.assert_array_equal(estimate[:, :2], exact[:, :2])
    assert (estimate[:, 2] <= exact[:, 2]).all()


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_dense_sample_of_the_diamond_finds_the_same(structure, activation):
    program = random_program(structure, activation, 7)
    shape, radius = program.input_shape, 0.6
    points, frame = torch.randn(4, *shape, dtype=torch.float64), random_frame(shape, 2)
    exact = exact_complexity(program, points, frame, radius)
    side = torch.linspace(-1, 1, 150, dtype=torch.float64)
    square = torch.cartesian_prod(side, side)
    uv = (
        radius * square @ torch.tensor([[0.5, 0.5], [0.5, -0.5]], dtype=torch.float64)
    )  # turned into the diamond
    inputs = [op.inputs[0] for op in program.preactivation_ops]
    for point, counts in zip(points, exact.per_layer, strict=True):
        values = program.run(point + torch.tensordot(uv, frame, dims=1), keep=inputs)
        found = [int(((values[v].amin(0) < 0) & (values[v].amax(0) >= 0)).sum()) for v in inputs]
        assert (np.array(found) <= counts).all()
        assert counts.sum() - sum(found) <= 1  # a corner that the grid misses


@pytest.mark.parametrize("structure", STRUCTURES)
def test_the_partition_of_the_same_diamond_tells_the_same(structure):
    program = random_program(structure, "relu", 4)
    shape, radius = program.input_shape, 0.8
    points, frame = torch.randn(3, *shape, dtype=torch.float64), random_frame(shape, 2)
    exact = exact_complexity(program, points, frame, radius)
    for i, point in enumerate(points.numpy()):
        part = partition(program, Slice.around(point, radius, frame.numpy(), shape="diamond"))
        assert exact.n_regions[i] == part.n_regions
        np.testing.assert_allclose(exact.layer_knot_length[i], part.knot_lengths(), rtol=1e-9, atol=1e-12)
        for layer, count in enumerate(exact.per_layer[i]):
            bits = part.pattern_bits(layer)
            assert count == (bits.any(axis=0) & ~bits.all(axis=0)).sum()


def test_each_point_may_have_a_frame_of_its_own():
    program, points = random_program("mlp", "relu", 3), torch.randn(6, 3)
    frames = random_frames((3,), 2, numbers=range(6))
    every = exact_complexity(program, points, frames, 0.5)
    alone = exact_complexity(program, points[4:5], frames[4], 0.5)
    np.testing.assert_array_equal(every.per_layer[4], alone.per_layer[0])
    assert every.n_regions[4] == alone.n_regions[0]
    assert every.knot_length[4] == alone.knot_length[0]


def test_batches_do_not_matter():
    program = random_program("conv", "relu", 3)
    points, frame = torch.randn(9, *program.input_shape), random_frame(program.input_shape, 2)
    whole = exact_complexity(program, points, frame, 0.3)
    parts = exact_complexity(program, points, frame, 0.3, batch_size=4)
    np.testing.assert_array_equal(whole.per_layer, parts.per_layer)
    np.testing.assert_array_equal(whole.n_regions, parts.n_regions)
    np.testing.assert_allclose(whole.layer_knot_length, parts.layer_knot_length, rtol=1e-12)


def test_regions_and_knot_length_of_lines_that_are_known():
    # In the unit diamond: the axes (length 2 each), and in the second layer |u| = 1/4 where v > 0, twice.
    network = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1), nn.ReLU()).double().eval()
    with torch.no_grad():
        network[0].weight.copy_(torch.eye(2))
        network[0].bias.zero_()
        network[2].weight.copy_(torch.tensor([[-1.0, -1.0]]))
        network[2].bias.fill_(0.25)
    exact = exact_complexity(network, torch.tensor([[0.0, 0.0], [5.0, 5.0]]), torch.eye(2), 1.0)
    assert exact.n_regions.tolist() == [7, 1]
    assert exact.per_layer.tolist() == [[2, 1], [0, 0]]
    # relu(u) + relu(v) = 1/4: down from (1/4, -3/4), across, and out at (-3/4, 1/4)
    np.testing.assert_allclose(exact.layer_knot_length, [[4.0, 1.5 + 2**0.5 / 4], [0.0, 0.0]])
    np.testing.assert_allclose(exact.knot_length, [5.5 + 2**0.5 / 4, 0.0])
    assert exact.area == 2.0


def test_knots_on_one_another_count_once_in_the_total():
    network = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.ReLU(), nn.Linear(2, 1)).double().eval()
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[1.0, 0.0], [2.0, 0.0]]))
        network[0].bias.zero_()
    exact = exact_complexity(network, torch.zeros(1, 2), torch.eye(2), 1.0)
    assert exact.n_regions.tolist() == [2]
    assert exact.per_layer.tolist()[0][0] == 2
    np.testing.assert_allclose(exact.knot_length, [2.0])
    np.testing.assert_allclose(exact.layer_knot_length[:, 0], [2.0])


def test_a_network_without_activations_has_one_region():
    exact = exact_complexity(nn.Linear(3, 2).eval(), torch.zeros(2, 3), random_frame((3,), 2), 1.0)
    assert exact.n_regions.tolist() == [1, 1]
    assert exact.per_layer.shape == (2, 0)
    assert exact.total.tolist() == [0, 0]


def test_smooth_networks_are_refused_by_name():
    network = nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 2)).eval()
    with pytest.raises(NotPiecewiseLinear, match=r"layer '1'.*GELU"):
        exact_complexity(network, torch.zeros(1, 3), random_frame((3,), 2), 1.0)


@pytest.mark.parametrize(
    ("points", "frame", "error", "message"),
    [
        (torch.zeros(2, 3), torch.eye(3), NeighbourhoodError, "two directions"),
        (torch.zeros(2, 3), torch.eye(3)[:1], NeighbourhoodError, "two directions"),
        (torch.zeros(2, 3), torch.eye(3)[:2].expand(3, 2, 3), NeighbourhoodError, "two directions"),
        (torch.zeros(2, 3), torch.ones(2, 3), NeighbourhoodError, "not orthonormal"),
        (torch.zeros(2, 4), torch.eye(4)[:2], ModelError, "the points have shape"),
    ],
)
def test_what_does_not_fit_is_named(points, frame, error, message):
    program = random_program("mlp", "relu", 0)
    with pytest.raises(error, match=message):
        exact_complexity(program, points, frame, 1.0)


@pytest.mark.parametrize(
    ("batch_size", "error", "message"),
    [
        (-1, ValueError, "batch_size is -1; give at least 1"),
        (0, ValueError, "batch_size is 0"),
        (2.0, TypeError, "batch_size is 2.0; give an int"),
        (True, TypeError, "batch_size is True"),
    ],
)
def test_batch_sizes_are_positive_numbers(batch_size, error, message):
    program, points, frame = random_program("mlp", "relu", 0), torch.zeros(2, 3), random_frame((3,), 2)
    with pytest.raises(error, match=message):
        exact_complexity(program, points, frame, 1.0, batch_size=batch_size)
    with pytest.raises(error, match=message):
        LocalComplexity(program, 1.0, 2)(points, batch_size=batch_size)


def test_recall_is_one_on_the_first_layer_and_less_further_on():
    program, points, frame = random_program("mlp", "relu", 8), torch.randn(30, 3), random_frame((3,), 2)
    exact = exact_complexity(program, points, frame, 2.0)
    found = recall(LocalComplexity(program, 2.0, frame=frame)(points), exact)
    assert found[0] == 1.0
    assert 0 < found[2] < 1
    with pytest.raises(ValueError, match="radius"):
        recall(LocalComplexity(program, 1.0, frame=frame)(points), exact)
    with pytest.raises(ValueError, match="same points"):
        recall(LocalComplexity(program, 2.0, frame=frame)(points[:3]), exact)
