"""One partition for many points gives what one for each gives."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from splinecam_lite.complexity import exact_complexity, random_frame
from splinecam_lite.complexity.frames import random_frames
from splinecam_lite.complexity.neighbourhoods.together import common_domain, places
from splinecam_lite.errors import NeighbourhoodError
from tests.complexity.networks import STRUCTURES, random_program
from tests.strategies import degenerate_cases

SHAPES = ["diamond", "disc", "square"]


def assert_same(first, second):
    for name in ("per_layer", "n_regions", "n_linear_regions"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), err_msg=name)
    for name in ("knot_length", "layer_knot_length"):
        np.testing.assert_allclose(getattr(first, name), getattr(second, name), rtol=1e-9, atol=1e-10)


def on_a_plane(program, uv, seed=0):
    """Inputs at places (n, 2) of a random plane, and its frame."""
    frame = random_frame(program.input_shape, 2, seed)
    origin = torch.randn(program.input_shape, generator=torch.Generator().manual_seed(seed)).double()
    return origin + torch.tensordot(torch.as_tensor(uv, dtype=torch.float64), frame, dims=1), frame


@settings(max_examples=30)
@given(
    st.sampled_from(list(STRUCTURES)),
    st.sampled_from(["relu", "prelu", "hardtanh"]),
    st.sampled_from(SHAPES),
    st.sampled_from([0.02, 0.3, 1.0]),
    st.integers(0, 2**32 - 1),
)
def test_together_is_separate(structure, activation, shape, radius, seed):
    program = random_program(structure, activation, seed)
    points, frame = on_a_plane(program, np.random.default_rng(seed).normal(size=(6, 2)), seed % 1000)
    together = exact_complexity(program, points, frame, radius, shape=shape, together=True)
    separate = exact_complexity(program, points, frame, radius, shape=shape, together=False)
    assert not separate.together
    assert together.together or (separate.n_regions == 1).all()
    assert_same(together, separate)


@settings(max_examples=12)
@given(degenerate_cases(), st.sampled_from([0.25, 1.0]), st.sampled_from(SHAPES))
def test_together_is_separate_where_knots_touch_the_domains(case, radius, shape):
    """Knots along sides, through corners, tangent to the circle; neighbourhoods that share a side."""
    program = case.program()
    points = torch.tensor([[0.0, 0.0], [0.5, 0.0], [2.0, 0.0], [-1.0, 2.0]])
    together, separate = (
        exact_complexity(program, points, torch.eye(2), radius, shape=shape, together=choice)
        for choice in (True, False)
    )
    assert_same(together, separate)


def test_frames_in_float32_are_as_they_are():
    """They are orthonormal within rounding of float32 only, and both ways go along them."""
    program = random_program("conv", "relu", 2)
    frame = random_frame(program.input_shape, 2).float().double()
    uv = torch.tensor([[0.0, 0.0], [1.0, 0.5], [-0.5, 1.0]], dtype=torch.float64)
    points = torch.tensordot(uv, frame, dims=1)
    both = [exact_complexity(program, points, frame, 0.5, shape="disc", together=c) for c in (True, False)]
    assert both[0].together
    assert_same(*both)


def test_what_is_cheaper_is_chosen():
    """Neighbourhoods on one another share a partition; small ones far apart do not."""
    program = random_program("mlp", "relu", 3)
    close, frame = on_a_plane(program, 0.1 * np.random.default_rng(0).normal(size=(20, 2)))
    far, _ = on_a_plane(program, 3.0 * np.random.default_rng(0).normal(size=(20, 2)))
    chosen = exact_complexity(program, close, frame, 1.0)
    assert chosen.together
    assert_same(chosen, exact_complexity(program, close, frame, 1.0, together=False))
    one = exact_complexity(program, far[:1], frame, 1.0)
    assert not one.together


def test_points_in_general_position_go_separately():
    program = random_program("mlp", "relu", 3)
    points, frame = torch.randn(5, 3, dtype=torch.float64), random_frame((3,), 2)
    assert not exact_complexity(program, points, frame, 0.5).together
    with pytest.raises(NeighbourhoodError, match=r"point \d is .* off the plane of point 0"):
        exact_complexity(program, points, frame, 0.5, together=True)


def test_frames_of_their_own_go_separately():
    program, points = random_program("mlp", "relu", 3), torch.zeros(4, 3)
    frames = random_frames((3,), 2, numbers=range(4))
    assert not exact_complexity(program, points, frames, 0.5).together
    with pytest.raises(NeighbourhoodError, match="one frame for all points"):
        exact_complexity(program, points, frames, 0.5, together=True)


def test_points_in_float32_say_so():
    program = random_program("mlp", "relu", 3)
    points, frame = on_a_plane(program, np.random.default_rng(0).normal(size=(5, 2)))
    with pytest.raises(NeighbourhoodError, match="in float64"):
        exact_complexity(program, points.float(), frame, 0.5, together=True)


def test_together_is_a_choice():
    program = random_program("mlp", "relu", 3)
    with pytest.raises(TypeError, match="together is 'yes'"):
        exact_complexity(program, torch.zeros(1, 3), random_frame((3,), 2), 0.5, together="yes")


def test_batches_do_not_matter():
    program = random_program("conv", "relu", 3)
    points, frame = on_a_plane(program, np.random.default_rng(1).normal(size=(9, 2)))
    whole = exact_complexity(program, points, frame, 0.3, shape="disc", together=True)
    parts = exact_complexity(program, points, frame, 0.3, shape="disc", together=True, batch_size=2)
    assert_same(whole, parts)


@pytest.mark.parametrize("far", [1.0, 1e6])
def test_places_in_a_plane(far):
    program = random_program("mlp", "relu", 3)
    uv = far * np.random.default_rng(0).normal(size=(7, 2))
    points, frame = on_a_plane(program, uv)
    found = places(points, frame)
    np.testing.assert_allclose(found.uv, uv - uv[0], atol=1e-12 * far)
    assert found.off <= found.allowed
    points[4] += 1e-6 * far * torch.linalg.cross(frame[0], frame[1])
    moved = places(points, frame)
    assert moved.off > moved.allowed
    assert moved.farthest == 4


def test_the_common_domain_holds_all():
    domain = common_domain(np.array([[0.0, 0.0], [4.0, 0.0], [2.0, 0.5]]), 1.0, "disc")
    assert {tuple(corner) for corner in domain} == {
        (-1.0, -1.0), (5.0, -1.0), (5.0, 1.0), (3.0, 1.5), (1.0, 1.5), (-1.0, 1.0)
    }  # fmt: skip
