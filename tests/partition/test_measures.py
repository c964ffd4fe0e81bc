"""Areas, lengths, points, neighbours and counts."""

import numpy as np
import pytest
import shapely
import torch
from hypothesis import given
from torch import nn

from splinecam_lite import Slice, partition
from splinecam_lite.errors import SliceError
from tests.partition.networks import cases, compute, deep, mlp, tunings


@given(cases, tunings)
def test_areas_and_lengths_agree_with_shapely(case, tuning):
    part = compute(case, tuning)
    polygons = part.to_shapely()
    size = np.sqrt(part.plane.area)
    np.testing.assert_allclose(part.areas(), shapely.area(polygons), rtol=0, atol=1e-13 * size**2)
    np.testing.assert_allclose(part.perimeters(), shapely.length(polygons), rtol=1e-12)
    assert part.areas().sum() == pytest.approx(part.plane.area, rel=1e-12)
    neighbours = part.neighbours()
    border = part.perimeters().sum() - shapely.Polygon(part.plane.domain).length
    assert neighbours.sum() == pytest.approx(border, rel=1e-9, abs=1e-12)


@given(cases, tunings)
def test_every_region_holds_its_own_points(case, tuning):
    part = compute(case, tuning)
    np.testing.assert_array_equal(part.locate(part.interior_points()), np.arange(part.n_regions))
    centroids = shapely.get_coordinates(shapely.centroid(part.to_shapely()))
    large = part.areas() > 1e-6 * part.plane.area
    np.testing.assert_allclose(part.centroids()[large], centroids[large], rtol=0, atol=1e-8)


@given(cases, tunings)
def test_neighbours_differ_in_exactly_the_labels_of_their_border(case, tuning):
    part = compute(case, tuning)
    patterns = np.unpackbits(part.patterns().view(np.uint8), axis=1, bitorder="little")
    knots = part.knots()
    first = np.array([layer.first_bit for layer in part.layers])
    width = np.array([layer.n_neurons for layer in part.layers])
    for edge, (left, right) in enumerate(part.complex.edge_faces):
        here = knots.edges == edge
        bits = (
            first[knots.layers[here]]
            + knots.breakpoints[here] * width[knots.layers[here]]
            + knots.neurons[here]
        )
        if right < 0 or left < 0:
            assert not here.any()
        else:
            assert sorted(bits) == np.flatnonzero(patterns[left] != patterns[right]).tolist()
    inner = (part.complex.edge_faces >= 0).all(axis=1)
    pairs = {frozenset(pair) for pair in part.complex.edge_faces[inner].tolist()}
    matrix = part.neighbours()
    assert (matrix != matrix.T).nnz == 0
    assert {frozenset(map(int, pair)) for pair in zip(*matrix.nonzero(), strict=True)} == pairs


def test_counts_by_layer():
    """One knot u = 0 twice, one v = 1/2, one outside of the box, and a layer without knots."""
    model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2), nn.ReLU()).double().eval()
    with torch.no_grad():
        model[0].weight[:] = torch.tensor([[1, 0], [-2, 0], [0, 1], [0, 1]])
        model[0].bias[:] = torch.tensor([0, 0, -0.5, 7])
        model[2].weight.zero_()
        model[2].bias.fill_(1.0)
    part = partition(model, Slice.box(-1, 1))
    first, second = part.counts_by_layer()
    assert first == ("1", 4, 3, 4, 4.0, "activation")
    assert second == ("3", 2, 0, 0, 0.0, "activation")
    assert part.knot_lengths().tolist() == [4.0, 0.0]
    assert part.report.n_merged_edges == 2
    assert "layer 0 '1': 3 knots of 4 neurons, 4 input units long, on 4 edges" in part.summary()


def test_lengths_are_those_of_input_space():
    """A skew pair of directions: the chart is orthonormal all the same."""
    model = mlp(3, 12, 1)
    plane = Slice.through([0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [1.0, 3.0, 1.0])
    part = partition(model, plane)
    for region in range(part.n_regions):
        corners = plane.lift(part.polygon(region))
        sides = np.linalg.norm(corners - np.roll(corners, -1, axis=0), axis=1)
        assert part.perimeters()[region] == pytest.approx(sides.sum(), rel=1e-12)


# ---- places ------------------------------------------------------------------------------------


def test_a_point_on_a_border_belongs_to_the_lowest_region():
    part = deep()
    for edge in range(part.n_edges):
        ends = part.vertices[part.complex.edge_vertices[edge]]
        found = part.locate(ends)
        for vertex, region in zip(part.complex.edge_vertices[edge], found, strict=True):
            around = np.flatnonzero(
                np.add.reduceat(part.complex.face_vertex == vertex, part.complex.face_ptr[:-1])
            )
            assert region == around.min()


def test_points_outside_of_the_domain_are_in_no_region():
    part = deep()
    assert part.locate([[1.5, 0.0], [0.0, -1.0 - 1e-9], [np.nextafter(1.0, 2.0), 0.0]]).tolist() == [
        -1,
        -1,
        -1,
    ]
    assert part.locate(np.empty((0, 2))).tolist() == []


def test_the_border_of_a_skew_domain_belongs_to_it():
    """Vertices on the border are rounded; a point of the domain between them is found all the same."""
    plane = Slice.box(-1, 1).with_domain([[-0.9, -0.7], [0.8, -0.3], [0.1, 0.95]])
    part = partition(mlp(2, 32, 1), plane)
    t = np.linspace(0, 1, 1001)[:, None]
    for start, end in zip(plane.domain, np.roll(plane.domain, -1, axis=0), strict=True):
        points = (1 - t) * start + t * end
        inside = shapely.intersects(shapely.Polygon(plane.domain), shapely.points(points))
        assert inside.any()
        assert not inside.all()
        assert (part.locate(points[inside]) >= 0).all()


def test_places_that_are_none_are_refused():
    part = deep()
    with pytest.raises(SliceError, match=r"points have shape \(3,\)"):
        part.locate([1.0, 2.0, 3.0])
    with pytest.raises(SliceError, match="point 1 is NaN or infinite"):
        part.locate([[0.0, 0.0], [np.nan, 0.0]])


def test_graph():
    part = deep()
    graph, matrix = part.to_networkx(), part.neighbours()
    assert graph.number_of_nodes() == part.n_regions
    assert graph.number_of_edges() == matrix.nnz // 2
    for left, right, data in graph.edges(data=True):
        assert data["length"] == pytest.approx(matrix[left, right], rel=1e-12)
        assert all(
            part.pattern_bits(layer, [left, right])[:, j, i].sum() == 1 for layer, i, j in data["knots"]
        )
    assert graph.nodes[3]["area"] == part.areas()[3]
