"""Eccentricity and diameter of deformed neighbourhoods, held against a search for shortest paths."""

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from splinecam_lite.complexity.deformation import graph_shape, neighbourhood_shape
from splinecam_lite.complexity.frames import cross_polytope, random_frame
from splinecam_lite.errors import ModelError, NeighbourhoodError
from tests.complexity.networks import STRUCTURES, random_program


def searched(images: np.ndarray) -> tuple[float, float]:
    """Mean eccentricity and diameter of one cross-polytope, images (2P, n), by Dijkstra from every vertex."""
    n = len(images)
    graph = nx.Graph()
    for i in range(n):
        for j in range(i):
            if i - j != n // 2:
                graph.add_edge(i, j, weight=float(np.linalg.norm(images[i] - images[j])))
    lengths = dict(nx.all_pairs_dijkstra_path_length(graph))
    found = [max(to.values()) for to in lengths.values()]
    return float(np.mean(found)), max(found)


@given(
    st.integers(2, 6),
    st.integers(1, 4),
    st.sampled_from([0.0, 1.0, 1e6]),
    st.sampled_from([1e-4, 1.0]),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_shortest_paths_are_those_of_a_search(directions, n, away, size, coarse, seed):
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(3, 2 * directions, n))
    if coarse:  # vertices that fall together, and ties between paths
        images = np.round(images)
    images = away + size * images
    eccentricity, diameter = graph_shape(torch.from_numpy(images))
    expected = np.array([searched(one) for one in images])
    tolerance = 1e-9 * size + 1e-14 * away
    np.testing.assert_allclose(eccentricity, expected[:, 0], rtol=1e-9, atol=tolerance)
    np.testing.assert_allclose(diameter, expected[:, 1], rtol=1e-9, atol=tolerance)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_layers_of_a_network(structure):
    program = random_program(structure, "relu", 1)
    shape = program.input_shape
    points, frame, radius = torch.randn(5, *shape, dtype=torch.float64), random_frame(shape, 3, 9), 0.4
    found = neighbourhood_shape(program, points, radius, 3, 9)
    assert found.layer_names == program.layer_names
    values = [op.inputs[0] for op in program.preactivation_ops]
    for i, vertices in enumerate(cross_polytope(points, frame, radius)):
        images = program.run(vertices, keep=values)
        for layer, v in enumerate(values):
            expected = searched(images[v].flatten(1).numpy())
            np.testing.assert_allclose(found.eccentricity[i, layer], expected[0], rtol=1e-9)
            np.testing.assert_allclose(found.diameter[i, layer], expected[1], rtol=1e-9)


@pytest.mark.parametrize("radius", [1e-4, 1.0, 50.0])
def test_a_layer_that_keeps_lengths_leaves_the_relative_shape_as_it_is(radius):
    turn = torch.linalg.qr(
        torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    )[0]
    network = nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU()).double().eval()
    network[0].weight.data.copy_(turn)
    found = neighbourhood_shape(network, torch.randn(3, 4), radius, 4)
    np.testing.assert_allclose(found.relative_diameter, 2**0.5, rtol=1e-9)
    np.testing.assert_allclose(found.relative_eccentricity, 2**0.5, rtol=1e-9)


def test_lengths_scale_with_the_layer_and_batches_do_not_matter():
    program, points = random_program("conv", "relu", 2), torch.randn(7, 1, 4, 4)
    whole = neighbourhood_shape(program, points, 0.3, 5)
    parts = neighbourhood_shape(program, points, 0.3, 5, batch_size=2)
    np.testing.assert_allclose(whole.diameter, parts.diameter, rtol=1e-12)
    assert (whole.eccentricity <= whole.diameter).all()
    # up to the first activation all is linear: twice the radius is twice the size
    twice = neighbourhood_shape(program, points, 0.6, 5)
    np.testing.assert_allclose(twice.diameter[:, 0], 2 * whole.diameter[:, 0], rtol=1e-9)
    assert not np.allclose(twice.diameter[:, 1], 2 * whole.diameter[:, 1], rtol=1e-3)


def test_smooth_networks_and_networks_without_layers():
    network = nn.Sequential(nn.Linear(3, 6), nn.LayerNorm(6), nn.GELU(), nn.Linear(6, 2)).eval()
    assert neighbourhood_shape(network, torch.randn(2, 3), 0.1, 3).diameter.shape == (2, 1)
    assert neighbourhood_shape(nn.Linear(3, 2).eval(), torch.zeros(2, 3), 0.1, 3).diameter.shape == (2, 0)


def test_what_does_not_fit_is_named():
    program = random_program("mlp", "relu", 0)
    points = torch.zeros(2, 3)
    with pytest.raises(NeighbourhoodError, match="at least 2 directions"):
        neighbourhood_shape(program, points, 0.1, 1)
    with pytest.raises(NeighbourhoodError, match="4 directions asked for"):
        neighbourhood_shape(program, points, 0.1, 4)
    with pytest.raises(NeighbourhoodError, match="one frame of at least 2"):
        neighbourhood_shape(program, points, 0.1, frame=torch.eye(3)[:2].expand(2, 2, 3))
    with pytest.raises(NeighbourhoodError, match="the radius is 0"):
        neighbourhood_shape(program, points, 0.0, 2)
    with pytest.raises(ModelError, match="this network takes"):
        neighbourhood_shape(program, torch.zeros(2, 4), 0.1, 2)
