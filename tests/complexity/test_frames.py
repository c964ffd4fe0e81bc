"""Frames are orthonormal, reproducible and nobody else's random numbers; what is no neighbourhood is
refused."""

import numpy as np
import pytest
import torch
from torch import nn

from splinecam_lite.complexity import LocalComplexity, exact_complexity, random_frame
from splinecam_lite.complexity.bracket import bracket
from splinecam_lite.complexity.calibrate import calibrate
from splinecam_lite.complexity.deformation import neighbourhood_shape
from splinecam_lite.complexity.frames import (
    as_points,
    check_radius,
    cross_polytope,
    expected_length,
    random_frames,
)
from splinecam_lite.errors import NeighbourhoodError
from tests.complexity.networks import random_network, random_program


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


SEEDS = [
    (-1, NeighbourhoodError, "the seed is -1; give a whole number"),
    (2**64, NeighbourhoodError, "the seed is 18446744073709551616; give"),
    (0.5, TypeError, "the seed is 0.5; give an int"),
    (True, TypeError, "the seed is True"),
    (None, TypeError, "the seed is None"),
]
SEEDED = {
    "random_frame": lambda seed: random_frame((3,), 2, seed),
    "random_frames": lambda seed: random_frames((3,), 2, seed, numbers=[0]),
    "estimate": lambda seed: LocalComplexity(nn.Linear(3, 2), seed=seed),
    "bracket": lambda seed: bracket(nn.Linear(3, 2), torch.zeros(1, 3), 0.1, 2, seed),
    "calibrate": lambda seed: calibrate(nn.Linear(3, 2), torch.zeros(1, 3), seed=seed),
    "deformation": lambda seed: neighbourhood_shape(nn.Linear(3, 2).eval(), torch.zeros(1, 3), 0.1, 2, seed),
}


@pytest.mark.parametrize(("seed", "error", "message"), SEEDS)
@pytest.mark.parametrize("seeded", SEEDED)
def test_seeds_are_checked_everywhere(seeded, seed, error, message):
    with pytest.raises(error, match=message):
        SEEDED[seeded](seed)


def test_the_largest_seed_is_one():
    assert random_frame((3,), 2, np.uint64(2**64 - 1)).shape == (2, 3)


@pytest.mark.parametrize("radius", ["0.1", None, [1.0, 2.0], True])
def test_a_radius_is_a_number(radius):
    with pytest.raises(TypeError, match=r"the radius is .*; give a number"):
        check_radius(radius)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (None, TypeError, "a NoneType holds no numbers"),
        ("points", TypeError, "a str holds no numbers"),
        ([["a", "b"]], TypeError, "a list holds no numbers"),
        (np.ones((2, 3), complex), NeighbourhoodError, "complex"),
        (torch.ones(2, 3, dtype=torch.complex64), NeighbourhoodError, r"complex \(torch.complex64\)"),
    ],
)
def test_what_is_no_array_of_real_numbers_is_refused(given, error, message):
    with pytest.raises(error, match=message):
        as_points(given)
    with pytest.raises(error, match=message):
        exact_complexity(nn.Linear(3, 2).eval(), torch.zeros(1, 3), given, 1.0)


@pytest.mark.parametrize("directions", [2.5, True, "2", None])
def test_directions_are_a_number_of_frames_as_well(directions):
    with pytest.raises(TypeError, match=r"directions is .*; give how many, an int"):
        random_frame((3,), directions)
    with pytest.raises(TypeError, match=r"directions is .*; give how many, an int"):
        bracket(nn.Linear(3, 2).eval(), torch.zeros(1, 3), 0.1, directions)


@pytest.mark.parametrize("directions", [2.0, True, "2", None])
def test_directions_are_a_number(directions):
    with pytest.raises(TypeError, match=r"directions is .*; give how many, an int"):
        LocalComplexity(random_network("mlp", "relu", 0)[0], 0.1, directions)


@pytest.mark.parametrize("radius", [0.0, -1.0, float("nan"), float("inf")])
def test_the_radius_must_be_positive(radius):
    with pytest.raises(NeighbourhoodError, match="radius"):
        LocalComplexity(random_network("mlp", "relu", 0)[0], radius=radius)


@pytest.mark.parametrize(("shape", "directions"), [((1,), 4000), ((2,), 3000), ((3, 4), 1000), ((784,), 50)])
def test_gaussian_directions_have_length_one_on_average(shape, directions):
    rows = random_frame(shape, directions, seed=1, kind="gaussian").flatten(1)
    n = rows.shape[1]
    assert rows.shape == (directions, n)
    # Five standard errors: a length deviates by less than sqrt(1 / 2n) from its mean, for n = 1 by 0.76.
    error = 0.8 * n**-0.5 / directions**0.5
    assert abs(float(rows.norm(dim=1).mean()) - 1.0) < 5 * error
    assert abs(float(rows.mean())) < 5 * n**-0.5 / (directions * n) ** 0.5
    # Independent, not orthogonal: their products spread by 1 / sqrt(n).
    products = (rows @ rows.T)[~torch.eye(directions, dtype=torch.bool)]
    assert float(products.std()) == pytest.approx(expected_length(n) ** -2 * n**0.5, rel=0.1)


def test_gaussian_directions_may_be_more_than_the_inputs_entries():
    network, _ = random_network("mlp", "relu", 0)
    points = torch.randn(10, 3)
    estimate = LocalComplexity(network, 0.5, 40, 1, kind="gaussian")
    assert estimate.frame((3,)).shape == (40, 3)
    many, few = estimate(points), LocalComplexity(network, 0.5, frame=torch.eye(3))(points)
    assert many.directions == 40
    assert many.per_layer.sum() > few.per_layer.sum() > 0
    own = LocalComplexity(network, 0.5, 4, 1, kind="gaussian", frame_per_point=True)
    assert torch.equal(own.frame((3,), range(10))[7], own.frame((3,), range(7, 8))[0])
    with pytest.raises(NeighbourhoodError, match="0 directions"):
        LocalComplexity(network, 0.5, 0, kind="gaussian")(points)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"kind": "normal"}, ValueError, "kind is 'normal'; give 'orthonormal' or 'gaussian'"),
        (
            {"kind": "gaussian", "frame": torch.eye(3)},
            TypeError,
            "a frame and kind='gaussian' were both given",
        ),
        (
            {"frame_per_point": True, "frame": torch.eye(3)},
            TypeError,
            "a frame and frame_per_point were both",
        ),
    ],
)
def test_kinds_are_known_and_do_not_contradict_a_frame(options, error, message):
    with pytest.raises(error, match=message):
        LocalComplexity(random_network("mlp", "relu", 0)[0], **options)


def test_the_centre_finds_what_comes_back_in_between():
    """|u| + |v| < 1/2 is where the second layer is positive: the origin alone, of these five."""
    network = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1), nn.ReLU()).eval()
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
        network[0].bias.zero_()
        network[2].weight.fill_(-1.0)
        network[2].bias.fill_(0.5)
    points = torch.tensor([[0.0, 0.0], [5.0, 5.0]])
    without = LocalComplexity(network, 1.0, frame=torch.eye(2))(points).per_layer
    with_it = LocalComplexity(network, 1.0, frame=torch.eye(2), centre=True)(points).per_layer
    assert without.tolist() == [[4, 0], [0, 0]]
    assert with_it.tolist() == [[4, 1], [0, 0]]


def test_the_centre_never_loses_a_neuron():
    for seed in range(5):
        program = random_program("residual", "hardtanh", seed)
        points = torch.randn(20, *program.input_shape)
        without, with_it = (LocalComplexity(program, 2.0, 2, seed, centre=c)(points) for c in (False, True))
        assert (without.per_layer <= with_it.per_layer).all()
        assert with_it.directions == 2
