"""Exact complexity of networks with maxima: layers as in the estimate, regions as in the partition."""

import numpy as np
import pytest
import torch
from torch import nn

from splinecam_lite import Program, Slice, partition
from splinecam_lite.complexity.estimator import LocalComplexity
from splinecam_lite.complexity.exact import exact_complexity
from splinecam_lite.partition.layers import activations


@pytest.fixture(scope="module")
def program() -> Program:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=1),
        nn.Flatten(),
        nn.Linear(27, 6),
        nn.ReLU(),
    )
    return Program.from_module(model.double().eval(), (1, 5, 5))


@pytest.mark.parametrize("radius", [0.05, 0.4, 2.0])
def test_against_partitions_of_the_diamonds(program, radius):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(12, 1, 5, 5))
    frame = np.linalg.qr(rng.normal(size=(25, 2)))[0].T.reshape(2, 1, 5, 5)
    exact = exact_complexity(program, points, frame, radius)
    assert exact.layer_names == program.layer_names
    assert exact.per_layer.shape == (12, 2) == exact.layer_knot_length.shape
    for i, point in enumerate(points):
        part = partition(program, Slice.around(point, radius, frame, shape="diamond"))
        assert exact.n_regions[i] == part.n_regions
        lengths = part.knot_lengths()
        np.testing.assert_allclose(exact.layer_knot_length[i], lengths[activations(part.layers)], atol=1e-12)
        inner = (part.complex.edge_faces >= 0).all(axis=1)
        ends = part.vertices[part.complex.edge_vertices[inner]]
        assert exact.knot_length[i] == pytest.approx(np.hypot(*(ends[:, 1] - ends[:, 0]).T).sum(), abs=1e-12)
        knots = part.knots()
        for row, layer in enumerate(activations(part.layers)):
            crossed = np.unique(knots.neurons[knots.layers == layer])
            assert exact.per_layer[i, row] == len(crossed)
    assert exact.n_regions.max() > 1


def test_the_estimate_is_a_lower_bound(program):
    points = np.random.default_rng(1).normal(size=(20, 1, 5, 5))
    estimator = LocalComplexity(program, radius=1.0, directions=2, seed=0)
    estimate = estimator(points)
    exact = exact_complexity(program, points, estimator.frame((1, 5, 5)), 1.0)
    assert (estimate.per_layer <= exact.per_layer).all()
    np.testing.assert_array_equal(estimate.per_layer[:, 0], exact.per_layer[:, 0])
