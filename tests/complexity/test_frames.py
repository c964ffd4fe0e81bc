"""Frames are orthonormal, reproducible and nobody else's random numbers; what is no neighbourhood is
refused."""

import numpy as np
import pytest
import torch

from splinecam_lite.complexity import LocalComplexity, random_frame
from splinecam_lite.complexity.frames import cross_polytope, random_frames
from splinecam_lite.errors import NeighbourhoodError
from tests.complexity.networks import random_network


@pytest.mark.parametrize(("shape", "directions"), [((2,), 1), ((2,), 2), ((1, 28, 28), 25), ((5,), 5)])
def test_frames_are_orthonormal(shape, directions):
    rows = random_frame(shape, directions, seed=3).flatten(1)
    torch.testing.assert_close(rows @ rows.T, torch.eye(directions, dtype=torch.float64))


def test_the_same_seed_gives_the_same_frame():
    assert torch.equal(random_frame((7,), 3, seed=1), random_frame((7,), 3, seed=1))
    assert not torch.equal(random_frame((7,), 3, seed=1), random_frame((7,), 3, seed=2))


def test_the_frame_of_a_point_does_not_depend_on_the_others():
    every = random_frames((6,), 2, seed=5, numbers=range(4))
    assert torch.equal(every[1:3], random_frames((6,), 2, seed=5, numbers=range(1, 3)))
    assert not torch.equal(every[0], every[1])


def test_frames_have_no_preferred_orientation():
    first = random_frames((2,), 1, numbers=range(400)).reshape(400, 2)
    quadrants = np.bincount((first > 0).numpy() @ [1, 2], minlength=4)
    assert quadrants.min() > 60  # 100 expected, standard deviation below 9


def test_vertices_lie_at_the_radius_around_their_point():
    points, frame = torch.randn(3, 4, 2, dtype=torch.float64), random_frame((4, 2), 5)
    vertices = cross_polytope(points, frame, 0.25)
    assert vertices.shape == (3, 10, 4, 2)
    distances = (vertices - points[:, None]).flatten(2).norm(dim=2)
    torch.testing.assert_close(distances, torch.full((3, 10), 0.25, dtype=torch.float64))


@pytest.mark.parametrize(
    ("arguments", "points", "message"),
    [
        ({"directions": 4}, torch.zeros(1, 3), r"4 directions .* inputs of shape \(3,\) have 1 to 3"),
        ({"directions": 0}, torch.zeros(1, 3), "0 directions"),
        ({"frame": torch.eye(4)[:, :3]}, torch.zeros(1, 3), "shape"),
        ({"frame": torch.eye(4)}, torch.zeros(1, 3), "shape"),
        ({"frame": 2 * torch.eye(3)}, torch.zeros(1, 3), "not orthonormal"),
        ({"frame": torch.full((2, 3), torch.nan)}, torch.zeros(1, 3), "not orthonormal"),
        ({"directions": 2}, torch.zeros(0, 3), "at least one"),
        ({"directions": 2}, torch.tensor([[0.0, 0.0, 0.0], [0.0, torch.inf, 0.0]]), "point 1 holds NaN"),
    ],
)
def test_what_makes_no_neighbourhood_is_refused(arguments, points, message):
    network, _ = random_network("mlp", "relu", 0)
    with pytest.raises(NeighbourhoodError, match=message):
        LocalComplexity(network, **arguments)(points)


@pytest.mark.parametrize("directions", [2.0, True, "2", None])
def test_directions_are_a_number(directions):
    with pytest.raises(TypeError, match=r"directions is .*; give how many, an int"):
        LocalComplexity(random_network("mlp", "relu", 0)[0], 0.1, directions)


@pytest.mark.parametrize("radius", [0.0, -1.0, float("nan"), float("inf")])
def test_the_radius_must_be_positive(radius):
    with pytest.raises(NeighbourhoodError, match="radius"):
        LocalComplexity(random_network("mlp", "relu", 0)[0], radius=radius)
