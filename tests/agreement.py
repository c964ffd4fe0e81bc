"""Hold a computed partition against the oracle's, or against another one."""

from collections.abc import Iterator

import numpy as np

from splinecam_lite import Partition, Slice
from splinecam_lite.engine.complex import OUTER, check_complex
from tests.oracles import ExactPartition, Pattern, area

ROUNDING = 1e-10
"""Largest error allowed in an area or a length, as a share of the domain's: vertices are rounded."""


def slice_of(domain) -> Slice:
    """The slice of a network with two inputs, in input coordinates, with this domain."""
    domain = np.array(domain, dtype=float)
    return Slice.box(domain.min(axis=0), domain.max(axis=0)).with_domain(domain)


def patterns_of(part: Partition) -> list[Pattern]:
    """Pattern of each region, in region order, as the oracle writes it."""
    layers = [map(tuple, part.pattern_bits(layer)[:, 0].tolist()) for layer in range(len(part.layers))]
    return list(zip(*layers, strict=True)) if layers else [()] * part.n_regions


def labelled_borders(part: Partition) -> Iterator[tuple[frozenset[Pattern], set[tuple[int, int]]]]:
    """Yield for each inner edge the patterns of its regions, and the (layer, neuron) of the knots on it."""
    patterns = patterns_of(part)
    for edge, (left, right) in enumerate(part.complex.edge_faces):
        if OUTER not in (left, right):
            rows = part.edge_knots[part.edge_knot_ptr[edge] : part.edge_knot_ptr[edge + 1]]
            yield frozenset((patterns[left], patterns[right])), set(map(tuple, rows[:, :2].tolist()))


def assert_agrees(part: Partition, exact: ExactPartition) -> None:
    """Same regions, areas, borders and output maps; a complex without a flaw."""
    check_complex(part.complex, part.plane.domain, part.report.moved)
    patterns, truth = patterns_of(part), exact.areas()
    assert len(patterns) == len(truth)
    assert set(patterns) == set(truth)
    expected = np.array([float(truth[pattern]) for pattern in patterns])
    np.testing.assert_allclose(part.areas(), expected, rtol=0, atol=ROUNDING * expected.sum())

    borders = exact.adjacency()
    for pair, knots in labelled_borders(part):
        assert borders.get(pair) == knots
    assert {pair for pair, _ in labelled_borders(part)} == set(borders)

    maps = exact.affine_maps()
    expected = np.array([maps[pattern] for pattern in patterns], dtype=float)
    computed = np.dstack(part.affine_maps())
    np.testing.assert_allclose(
        computed, expected, rtol=0, atol=ROUNDING * np.abs(expected).max(initial=1e-300)
    )


def assert_decides(part: Partition, exact: ExactPartition) -> None:
    """Same decision boundary, decision cells and areas of the classes."""
    boundary, truth = part.decision_boundary(), exact.decision()
    size = part.plane.area**0.5
    assert abs(boundary.length - truth.length) <= ROUNDING * max(size, truth.length)
    assert boundary.n_cells == truth.n_connected
    areas = np.zeros(len(boundary.labels))
    for cell, winner in zip(truth.cells, truth.winners, strict=True):
        areas[winner] += float(area(cell))
    np.testing.assert_allclose(boundary.class_areas, areas, rtol=0, atol=ROUNDING * part.plane.area)


def assert_same(first: Partition, second: Partition) -> None:
    """Two partitions of one network: the same regions, areas and labelled borders, in whatever order."""
    areas = [dict(zip(patterns_of(part), part.areas(), strict=True)) for part in (first, second)]
    assert areas[0].keys() == areas[1].keys()
    pairs = np.array([(areas[0][pattern], areas[1][pattern]) for pattern in areas[0]])
    np.testing.assert_allclose(*pairs.T, rtol=0, atol=ROUNDING * first.areas().sum())
    borders = [dict(labelled_borders(part)) for part in (first, second)]
    assert borders[0] == borders[1]
