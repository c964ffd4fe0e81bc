"""The bracket: estimate <= lower <= truth <= upper, held against every case in which the truth is known."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from splinecam_lite.complexity import LocalComplexity, exact_complexity
from splinecam_lite.complexity.bracket import _Work, bracket
from splinecam_lite.complexity.frames import random_frame, random_frames
from splinecam_lite.errors import ModelError, NeighbourhoodError
from splinecam_lite.network.program import Program
from splinecam_lite.network.segments import Segment
from splinecam_lite.partition.partition import partition
from tests.complexity.networks import ACTIVATIONS, STRUCTURES, random_program
from tests.strategies import degenerate_cases, generic_cases

RADII = (0.001, 0.1, 0.5, 2.0)
programs = st.builds(
    random_program,
    st.sampled_from(list(STRUCTURES)),
    st.sampled_from(list(ACTIVATIONS)),
    st.integers(0, 2**32 - 1),
)


def points_for(program, n, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, *program.input_shape)))


def assert_ordered(result):
    assert (result.estimate <= result.lower).all()
    assert (result.lower <= result.upper).all()
    assert (result.upper <= result.n_neurons).all()


# ---- where the truth is known ------------------------------------------------------------------


@settings(max_examples=15)
@given(programs, st.sampled_from(RADII), st.integers(0, 2**31))
def test_in_two_directions_the_exact_count_lies_between(program, radius, seed):
    points, frame = points_for(program, 3, seed), random_frame(program.input_shape, 2, seed)
    result = bracket(program, points, radius, frame=frame)
    exact = exact_complexity(program, points, frame, radius)
    assert_ordered(result)
    assert (result.lower <= exact.per_layer).all()
    assert (exact.per_layer <= result.upper).all()
    np.testing.assert_array_equal(result.lower[:, 0], exact.per_layer[:, 0])
    np.testing.assert_array_equal(result.upper[:, 0], exact.per_layer[:, 0])


@settings(max_examples=8)
@given(generic_cases() | degenerate_cases(), st.sampled_from([0.25, 1.0, 2.0]))
def test_degenerate_networks_are_bracketed_too(case, radius):
    """Knots through vertices, along edges and on one another, neurons that are 0 on whole regions."""
    points, program = torch.tensor([[0.0, 0.0], [1.0, 0.0], [-1.0, 2.0]]), case.program()
    result = bracket(program, points, radius, frame=torch.eye(2))
    exact = exact_complexity(program, points, torch.eye(2), radius)
    assert_ordered(result)
    assert (result.lower <= exact.per_layer).all()
    assert (exact.per_layer <= result.upper).all()


@settings(max_examples=12)
@given(programs, st.sampled_from(RADII), st.integers(0, 2**31))
def test_in_one_direction_the_lower_bound_is_the_truth(program, radius, seed):
    points, frame = points_for(program, 2, seed), random_frame(program.input_shape, 1, seed)
    result = bracket(program, points, radius, frame=frame)
    inputs = [op.inputs[0] for op in program.preactivation_ops]
    for i, point in enumerate(points):
        ends = [(point + sign * radius * frame[0]).numpy() for sign in (-1, 1)]
        part = partition(program, Segment.between(*ends))
        values = program.run(torch.from_numpy(part.segment.lift(part.t)), keep=inputs)
        truth = [int(((values[v].amin(0) < 0) & (values[v].amax(0) >= 0)).sum()) for v in inputs]
        assert result.lower[i].tolist() == truth
        assert (result.upper[i] >= truth).all()


@given(programs, st.sampled_from(RADII), st.integers(1, 3), st.integers(0, 2**31))
def test_the_estimate_is_the_estimate_and_layers_before_activations_are_exact(
    program, radius, directions, seed
):
    points = points_for(program, 4, seed)
    result = bracket(program, points, radius, directions, seed, segments=4)
    estimate = LocalComplexity(program, radius, directions, seed)(points)
    assert_ordered(result)
    np.testing.assert_array_equal(result.estimate, estimate.per_layer)
    np.testing.assert_array_equal(result.lower[:, 0], estimate.per_layer[:, 0])
    np.testing.assert_array_equal(result.upper[:, 0], estimate.per_layer[:, 0])
    assert result.layer_names == estimate.layer_names


def test_maxima_are_bracketed_as_in_the_exact_count():
    torch.manual_seed(0)
    conv, head = nn.Conv2d(1, 3, 3, padding=1), nn.Linear(12, 6)
    model = nn.Sequential(conv, nn.ReLU(), nn.MaxPool2d(3, stride=2), nn.Flatten(), head, nn.ReLU())
    program = Program.from_module(model.double().eval(), (1, 5, 5))
    points, frame = points_for(program, 8), random_frame((1, 5, 5), 2)
    for radius in (0.05, 0.5, 2.0):
        result, exact = (
            bracket(program, points, radius, frame=frame),
            exact_complexity(program, points, frame, radius),
        )
        assert result.layer_names == exact.layer_names
        assert (result.lower <= exact.per_layer).all()
        assert (exact.per_layer <= result.upper).all()


def test_segments_find_what_vertices_do_not():
    program, found = random_program("mlp", "abs", 8), []
    for segments in (0, None):
        found.append(bracket(program, points_for(program, 40), 2.0, 3, segments=segments))
    assert (found[0].lower <= found[1].lower).all()
    assert found[1].lower.sum() > found[1].estimate.sum()
    np.testing.assert_array_equal(found[0].upper, found[1].upper)


@settings(max_examples=15)
@given(programs, st.sampled_from([0.3, 1.0, 3.0]), st.integers(0, 2**31))
def test_segments_that_bounds_rule_out_had_nothing_to_show(program, radius, seed):
    points = points_for(program, 5, seed)
    pruned = bracket(program, points, radius, 3, seed, segments=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Work, "_open_segments", lambda work, *given: work.segments)
        whole = bracket(program, points, radius, 3, seed, segments=None)
    np.testing.assert_array_equal(pruned.lower, whole.lower)


# ---- how it changes with the radius ------------------------------------------------------------


@settings(max_examples=20)
@given(programs, st.integers(0, 2**31))
def test_small_neighbourhoods_leave_nothing_undecided(program, seed):
    result = bracket(program, points_for(program, 5, seed), 1e-9, 3, seed)
    assert (result.undecided == 0.0).all()


def test_more_is_undecided_the_larger_the_radius_and_the_deeper_the_layer():
    program = random_program("mlp", "relu", 2)
    points, radii = points_for(program, 60), (0.01, 0.1, 0.3, 1.0, 3.0)
    results = [bracket(program, points, radius, 3) for radius in radii]
    uppers = np.array([result.upper.sum(axis=0) for result in results])
    assert (np.diff(uppers, axis=0) >= 0).all()
    assert results[-1].undecided[-1] > results[1].undecided[-1]
    assert results[2].undecided[0] == 0.0


# ---- networks of other kinds -------------------------------------------------------------------


@pytest.mark.parametrize("activation", [nn.GELU(), nn.Tanh(), nn.SiLU(), nn.Softplus()], ids=str)
def test_smooth_networks_are_bounded_and_their_lower_bound_is_sampled(activation):
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Linear(4, 12), activation, nn.Linear(12, 12), activation, nn.Linear(12, 8), nn.ReLU()
    )
    program = Program.from_module(model.double().eval(), (4,))
    inputs = [op.inputs[0] for op in program.preactivation_ops]
    points, frame = points_for(program, 6), random_frame((4,), 3)
    for radius in (0.02, 0.3):
        result = bracket(program, points, radius, frame=frame)
        assert_ordered(result)
        assert result.bounded.all()
        assert not result.exact_segments
        assert "9 places" in result.summary()
        t = torch.from_numpy(np.random.default_rng(0).dirichlet(np.full(3, 0.5), 3000))
        t = t * torch.from_numpy(np.random.default_rng(1).choice([-1.0, 1.0], (3000, 3)))
        for point, upper in zip(points, result.upper, strict=True):
            values = program.run(point + radius * t @ frame, keep=inputs)
            dense = [int(((values[v].amin(0) < 0) & (values[v].amax(0) >= 0)).sum()) for v in inputs]
            assert (dense <= upper).all()
    assert bracket(program, points, 1e-6, frame=frame).undecided.max() == 0.0


def test_layers_after_an_unknown_operation_are_left_open():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 5)

        def forward(self, x):
            return self.second(self.first(x).relu().softmax(-1)).relu()

    torch.manual_seed(0)
    result = bracket(Attention().double().eval(), torch.randn(3, 4), 0.01, 2)
    assert result.bounded.tolist() == [True, False]
    assert (result.upper[:, 1] == 5).all()
    assert_ordered(result)
    assert "no bounds from layer" in result.summary()


# ---- the door ----------------------------------------------------------------------------------


def test_batches_do_not_matter(monkeypatch):
    program = random_program("conv", "relu", 3)
    points = points_for(program, 7)
    whole = bracket(program, points, 0.5, 3)
    monkeypatch.setattr("splinecam_lite.complexity.bounding.bounds.BYTES", 1)
    monkeypatch.setattr("splinecam_lite.complexity.bounding.substitution.BYTES", 1)
    parts = bracket(program, points, 0.5, 3)
    for name in ("lower", "estimate", "upper"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))


def test_each_point_may_have_a_frame_of_its_own():
    program, points = random_program("mlp", "relu", 3), torch.randn(5, 3)
    frames = random_frames((3,), 2, numbers=range(5))
    every = bracket(program, points, 0.5, frame=frames)
    alone = bracket(program, points[3:4], 0.5, frame=frames[3])
    for name in ("lower", "estimate", "upper"):
        np.testing.assert_array_equal(getattr(every, name)[3], getattr(alone, name)[0])


def test_some_layers_are_as_among_all():
    program, points = random_program("mlp", "relu", 3), torch.randn(5, 3)
    every = bracket(program, points, 0.5, 3)
    second = bracket(program, points, 0.5, 3, layers=every.layer_names[1])
    assert second.layer_names == every.layer_names[1:2]
    np.testing.assert_array_equal(second.upper, every.upper[:, 1:2])
    np.testing.assert_array_equal(second.lower, every.lower[:, 1:2])


def test_a_network_without_activations_has_nothing_to_count():
    result = bracket(nn.Linear(3, 2).eval(), torch.zeros(2, 3), 1.0, 3)
    assert result.lower.shape == result.upper.shape == (2, 0)


def test_the_result_cannot_be_changed_and_says_what_it_found():
    program = random_program("mlp", "relu", 0)
    result = bracket(program, torch.zeros(2, 3), 1.0, 3)
    with pytest.raises(ValueError, match="read-only"):
        result.lower[0, 0] = 1
    assert len(result.summary().splitlines()) == 1 + len(program.layer_names)
    assert "between" in repr(result)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"radius": 0.0}, NeighbourhoodError, "radius is 0.0"),
        ({"directions": 4}, NeighbourhoodError, "4 directions"),
        ({"frame": torch.ones(2, 3)}, NeighbourhoodError, "not orthonormal"),
        ({"frame": torch.eye(3).expand(3, 3, 3)}, NeighbourhoodError, "points of their own"),
        ({"layers": ["nowhere"]}, ModelError, "nowhere"),
        ({"segments": -1}, ValueError, "segments is -1"),
        ({"segments": 1.5}, TypeError, "segments is 1.5"),
    ],
)
def test_what_does_not_fit_is_named(options, error, message):
    program = random_program("mlp", "relu", 0)
    with pytest.raises(error, match=message):
        bracket(program, torch.zeros(2, 3), **{"directions": 2, **options})
