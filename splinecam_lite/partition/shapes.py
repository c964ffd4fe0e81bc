"""What a partition tells about shapes and knots: places, lengths, areas and neighbours."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from splinecam_lite.engine.complex import Complex, signed_areas
from splinecam_lite.partition import measures
from splinecam_lite.partition.layers import Layer
from splinecam_lite.partition.measures import Knots, LayerCounts

Array = NDArray[np.float64]


class Shapes:
    """The methods of a partition that need its complex and the knots on its edges alone."""

    complex: Complex
    edge_knot_ptr: np.ndarray
    edge_knots: np.ndarray
    layers: tuple[Layer, ...]
    thin_regions: np.ndarray
    thin_areas: Array

    def polygon(self, region: int) -> Array:
        """Return the corners of one region (n, 2), counter-clockwise, in chart coordinates."""
        start, stop = self.complex.face_ptr[region : region + 2]
        return self.complex.xy[self.complex.face_vertex[start:stop]]

    def areas(self) -> Array:
        """Return the area of every region (n_regions,), in input units squared; the sum is ``plane.area``."""
        areas = signed_areas(self.complex.xy, self.complex.face_ptr, self.complex.face_vertex)
        areas[self.thin_regions] = self.thin_areas
        return areas

    def perimeters(self) -> Array:
        """Return the length of every region's border (n_regions,), in input units, the domain's included."""
        return measures.perimeters(self.complex)

    def centroids(self) -> Array:
        """Return the centre of mass of every region (n_regions, 2)."""
        return measures.centroids(self.complex)

    def interior_points(self) -> Array:
        """Return a point inside every region (n_regions, 2), the mean of its corners, up to rounding."""
        return measures.interior_points(self.complex)

    def neighbours(self) -> csr_array:
        """Return the lengths of common borders, a symmetric (n_regions, n_regions) csr_array, input units."""
        return measures.neighbours(self.complex)

    def adjacency(self) -> csr_array:
        """Return which regions share a border, as a (n_regions, n_regions) csr_array of bool, symmetric."""
        return measures.adjacency(self.complex)

    def knots(self) -> Knots:
        """Return which knots lie on which edges."""
        edges = np.repeat(np.arange(self.complex.n_edges), np.diff(self.edge_knot_ptr))
        return Knots(edges, *np.ascontiguousarray(self.edge_knots.T))

    def knot_lengths(self) -> Array:
        """Return the length of each layer's knots, (n_layers,), in input units; equal knots count once."""
        return np.array([counts.knot_length for counts in self.counts_by_layer()])

    def counts_by_layer(self) -> tuple[LayerCounts, ...]:
        """Return for each layer its name, neurons, different knots, edges, and the length of its knots.

        Of a maximum, the knots are those where another entry wins, and each round is a layer of its own.
        """
        return measures.counts_by_layer(self.complex, self.layers, self.edge_knot_ptr, self.edge_knots)
