"""One partition, of which parts are looked at: what regions, linear regions and knots a neighbourhood holds.

Regions inside a domain are joined across edges *inside* of it alone: two parts of one linear region that only
meet outside are two.
"""

from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from splinecam_lite.complexity.neighbourhoods.clipping import Array, Inside, Integers
from splinecam_lite.engine.comparisons import Comparisons, irrelevant_edges
from splinecam_lite.engine.engine import Block, EngineResult, factored_patterns
from splinecam_lite.engine.labels import pack_patterns
from splinecam_lite.engine.plan import Plan
from splinecam_lite.errors import ModelError, SliceError
from splinecam_lite.network.program import Program
from splinecam_lite.network.slices import Slice
from splinecam_lite.partition.layers import Layer, activations, decode
from splinecam_lite.partition.linear import same_maps
from splinecam_lite.partition.maps import maps_of

UNKNOWN, DIFFER, SAME = -1, 0, 1
"""Whether the output maps on the two sides of an edge are one."""

NOT_TOLD = -1
"""Linear regions of a network that rational arithmetic cannot follow."""


class Network(NamedTuple):
    """What all partitions of one network share."""

    compared: Program
    """With its maxima written out."""
    comparisons: Comparisons | None
    layers: tuple[Layer, ...]
    path_sums: Array
    """A bound on the terms of the coefficients of the output, on all slices: `partition.linear.path_sums`."""


class Measured(NamedTuple):
    """What a neighbourhood holds."""

    n_regions: int
    n_linear_regions: int
    knot_length: float
    layer_knot_length: Array


class Sheet:
    """The partition of one domain; `partition.linear.Regions` of its fine faces.

    Parameters
    ----------
    network : Network
    plan : Plan
    result : EngineResult
        Of the plan.
    """

    def __init__(self, network: Network, plan: Plan, result: EngineResult):
        self._network, self._plan, self.result = network, plan, result
        self.complex = result.complex
        self.inner = np.flatnonzero(self.complex.edge_side < 0)
        self.extent = float(np.abs(self.complex.xy).max())
        self._same = np.full(self.complex.n_edges, UNKNOWN, np.int8)

    def measure(self, inside: Inside) -> Measured:
        """Return what is inside a domain."""
        edges, layers = inside.edges, self._network.layers
        of_estimate = activations(layers)
        if not len(edges):
            return Measured(1, 1, 0.0, np.zeros(len(of_estimate)))
        faces, numbers = np.unique(self.complex.edge_faces[edges], return_inverse=True)
        numbers, merged = numbers.reshape(-1, 2), self._merged[edges]
        regions = _parts(len(faces), numbers[merged])
        linear = NOT_TOLD
        if self._decide(edges):
            linear = _parts(len(faces), numbers[self._same[edges] == SAME])
        lies_on = self._lies_on[:, edges]
        length = float(inside.lengths[lies_on.any(axis=0)].sum())
        return Measured(regions, linear, length, lies_on[of_estimate] @ inside.lengths)

    @cached_property
    def _merged(self) -> NDArray[np.bool_]:
        """Tell which edges part nothing but losers of a maximum, (E,)."""
        result, sides = self.result, self.complex.edge_faces
        if self._network.comparisons is None:
            return np.zeros(len(sides), bool)
        patterns = factored_patterns(result.blocks)
        knots = result.edge_knot_ptr, result.edge_knots
        return irrelevant_edges(self._network.comparisons, patterns, sides, *knots)

    @cached_property
    def _lies_on(self) -> NDArray[np.bool_]:
        """Tell on which edges each layer has a knot, (layers, E)."""
        layers, result = self._network.layers, self.result
        edge = np.repeat(np.arange(self.complex.n_edges), np.diff(result.edge_knot_ptr))
        lies_on = np.zeros((len(layers), self.complex.n_edges), bool)
        lies_on[decode(layers, result.edge_knots)[:, 0], edge] = True
        lies_on[:, self._merged] = False
        return lies_on

    # ---- linear regions ----------------------------------------------------------------------------

    def _decide(self, edges: Integers) -> bool:
        """Decide for edges whether the maps on both sides are one; False where that cannot be told."""
        self._same[edges[self._merged[edges]]] = SAME
        undecided = edges[self._same[edges] == UNKNOWN]
        if len(undecided):
            n = self.complex.n_faces
            left, right = np.sort(self.complex.edge_faces[undecided], axis=1).T
            numbers, which = np.unique(left * n + right, return_inverse=True)
            pairs = np.stack(np.divmod(numbers, n), axis=1)
            try:
                same, _ = same_maps(self, self._network.compared, pairs, self._network.path_sums)
            except ModelError:
                return False
            self._same[undecided] = np.where(same, SAME, DIFFER)[which.reshape(-1)]
        return True

    @property
    def plane(self) -> Slice:
        """The slice, its directions made orthonormal if they are so within float32 only."""
        columns = self._plan.input_columns
        shape = columns.shape[1:]
        try:
            return Slice(columns[2].reshape(-1), columns[:2].reshape(2, -1), self._plan.domain, shape)
        except SliceError:
            return Slice.around(columns[2], 1.0, columns[:2]).with_domain(self._plan.domain)

    @property
    def layers(self) -> tuple[Layer, ...]:
        return self._network.layers

    @property
    def blocks(self) -> tuple[Block, ...]:
        return self.result.blocks

    @property
    def n_outputs(self) -> int:
        return self.result.outputs.shape[1]

    def patterns(self, regions: Integers, /) -> NDArray[np.uint64]:
        """Return the packed patterns (n, n_words) of faces (n,)."""
        return pack_patterns(factored_patterns(self.blocks), regions)

    def affine_maps(self, regions: Integers, /) -> tuple[Array, Array]:
        """Return the output on faces (n,) as A (n, n_outputs, 2) and b (n, n_outputs)."""
        first = np.array([block.first_face for block in self.blocks] + [self.complex.n_faces])
        maps = maps_of(self.blocks, first, regions)
        return maps[:, :, :2], maps[:, :, 2]


def _parts(n: int, links: Integers) -> int:
    """Return the number of connected sets of ``n`` faces that ``links`` (m, 2) join."""
    if not len(links):
        return n
    graph = coo_array((np.ones(len(links), np.int8), tuple(links.T)), shape=(n, n))
    return int(connected_components(graph, directed=False)[0])
