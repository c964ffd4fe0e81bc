"""The partition of a slice into activation regions."""

import importlib
import os
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from splinecam_lite.engine.complex import Complex
from splinecam_lite.engine.engine import Block, factored_patterns
from splinecam_lite.engine.hashing import hash_patterns
from splinecam_lite.engine.labels import Patterns, pack_patterns
from splinecam_lite.errors import SliceError
from splinecam_lite.network.polygon import array as as_array
from splinecam_lite.network.slices import Slice
from splinecam_lite.partition import counts, linear
from splinecam_lite.partition.formats import Formats
from splinecam_lite.partition.layers import Layer, unpack
from splinecam_lite.partition.locate import Locator
from splinecam_lite.partition.maps import maps_of
from splinecam_lite.partition.report import Report
from splinecam_lite.partition.selection import chosen_regions
from splinecam_lite.partition.shapes import Shapes
from splinecam_lite.partition.staged import Staged, canonical, shown_boundary

if TYPE_CHECKING:
    from torch import nn

    from splinecam_lite.network.program import Program
    from splinecam_lite.partition.boundary import DecisionBoundary
    from splinecam_lite.partition.certificate import Certificate

Array = NDArray[np.float64]

MAPS_AT_ONCE = 1 << 20
"""Numbers of affine maps that are held while only their norms are wanted (8 MB)."""

PLOTTER = "splinecam_lite.show.plot"
"""Who draws a partition: named, not imported, since drawing builds on this room and not the reverse."""


@dataclass(frozen=True, eq=False)
class Partition(Shapes, Formats):
    """The activation regions of a piecewise-linear network on a slice; made by `partition`.

    Regions, vertices and edges are numbered; region ``f`` is face ``f`` of ``complex``. Places, lengths and
    areas are in chart coordinates, whose unit is the input's, because charts are orthonormal. All arrays are
    read-only.

    Attributes
    ----------
    plane : Slice
    complex : Complex
        Vertices, edges and faces; `splinecam_lite.engine.complex` has the table.
    outputs : (n_vertices, n_outputs) float64
        The network's output at the vertices, flattened.
    edge_knot_ptr : (n_edges + 1,) int64
    edge_knots : (n, 3) int32
        Rows ``edge_knot_ptr[e]`` to ``edge_knot_ptr[e + 1]`` are the (layer, neuron, breakpoint) of the knots
        on edge ``e``: exactly those in which the patterns of its two regions differ (and, of comparisons,
        those that count in both). None on the border of the domain.
    blocks : tuple of Block
        The network restricted to sets of neighbouring regions; patterns and affine maps are read from them.
        Where the network has maxima, to sets of faces of ``staged.fine``.
    layers : tuple of Layer
        Name and size of each layer, in the order of ``program.compared().pattern_ops``: activations, and the
        rounds of maxima.
    output_shape : tuple of int
        Shape of the output of one sample.
    decide : {"argmax", "argmin", "zero"}
        How an output is taken for a decision: the class of the largest or smallest output, or the sign of the
        only one.
    model_digest : str
        SHA-256 of the network's operations and constants.
    report : Report
        What was snapped and merged, and residuals.
    program : Program or None
        The network, float64. A file does not hold it: None in a partition that was loaded.
    exact : bool
        Whether every sign was decided without rounding.
    thin_regions, thin_areas : (n,) int64 and float64
        In exact mode: regions so thin that the float64 places of their corners do not tell the area, and the
        areas, from integers.
    output_scale : (n_outputs,) float64 or None
        What the terms of each output add up to, at most, at some points of the domain; rounding is measured
        by it.
    staged : Staged or None
        Where the network has maxima, the finer partition that the regions were merged from.

    Examples
    --------
    One ReLU, whose knot is the line u = 0, makes two regions of a square.

    >>> import torch
    >>> from splinecam_lite import Slice, partition
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 1, bias=False), torch.nn.ReLU()).eval()
    >>> model[0].weight.data = torch.tensor([[1.0, 0.0]])
    >>> part = partition(model, Slice.box(-1, 1))
    >>> part.n_regions, part.areas().tolist(), part.knots().neurons.tolist()
    (2, [2.0, 2.0], [0])
    """

    plane: Slice
    complex: Complex
    outputs: Array
    edge_knot_ptr: np.ndarray
    edge_knots: np.ndarray
    blocks: tuple[Block, ...]
    layers: tuple[Layer, ...]
    output_shape: tuple[int, ...]
    decide: str
    model_digest: str
    report: Report
    program: "Program | None" = None
    exact: bool = False
    thin_regions: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    thin_areas: Array = field(default_factory=lambda: np.empty(0))
    output_scale: Array | None = None
    staged: Staged | None = None

    def __post_init__(self) -> None:
        own = (self.outputs, self.edge_knot_ptr, self.edge_knots, self.thin_regions, self.thin_areas)
        for array in (*own, *self.complex, *self.report.snaps):
            array.setflags(write=False)
        for block in self.blocks:
            for part in block[2:]:
                part.setflags(write=False)

    # ---- sizes and names ---------------------------------------------------------------------------

    @property
    def n_regions(self) -> int:
        """Number of activation regions: sets of points with one activation pattern, open and not empty."""
        return self.complex.n_faces

    @property
    def n_linear_regions(self) -> int:
        """Number of linear regions: adjacent activation regions with the same output map, merged."""
        return int(self.linear_regions().max()) + 1

    @property
    def n_vertices(self) -> int:
        return self.complex.n_vertices

    @property
    def n_edges(self) -> int:
        return self.complex.n_edges

    @property
    def vertices(self) -> Array:
        """Vertices in chart coordinates, (n_vertices, 2); ``plane.lift`` takes them to inputs."""
        return self.complex.xy

    @property
    def n_outputs(self) -> int:
        """Numbers in one output."""
        return self.outputs.shape[1]

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Name of each layer, rounds of maxima included."""
        return tuple(layer.name for layer in self.layers)

    @property
    def n_neurons(self) -> tuple[int, ...]:
        """Preactivations of each layer, or comparisons of a round of a maximum."""
        return tuple(layer.n_neurons for layer in self.layers)

    def __repr__(self) -> str:
        known = counts.in_words(self, compute=False)
        neurons = sum(layer.n_neurons for layer in self.layers if layer.kind == "activation")
        return f"<Partition: {known}; {counts.counted(neurons, 'neuron')}>"

    # ---- patterns and maps -------------------------------------------------------------------------

    @cached_property
    def _patterns(self) -> Patterns:
        return factored_patterns(self.blocks)

    def patterns(self, regions: ArrayLike | None = None) -> NDArray[np.uint64]:
        """Return activation patterns, packed.

        Parameters
        ----------
        regions : int, (n,) int, or (n_regions,) bool, optional
            One region, several by number, or a mask. Default: all, which for large networks is much: 8 bytes
            for 64 neurons and each region.

        Returns
        -------
        (n, n_words) uint64
            Bit ``b & 63`` of word ``b >> 6`` is pattern bit ``b``: set where the preactivation passes the
            breakpoint, and where the second of two values that a maximum compares is the larger, if it counts
            which is. `Layer` tells which bit is which; ``pattern_bits`` unpacks a layer.
        """
        words = pack_patterns(self._patterns, self._faces(chosen_regions(regions, self.n_regions)))
        return words if self.staged is None else canonical(self.staged.comparisons, words)

    def _faces(self, regions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return a face of ``blocks`` for each region: itself, or one of those that became it."""
        return regions if self.staged is None else self.staged.face[regions]

    def pattern_bits(self, layer: int, regions: ArrayLike | None = None) -> NDArray[np.bool_]:
        """Return the part of the patterns that is about one layer.

        Returns
        -------
        (n, n_breakpoints, n_neurons) bool
            True where the preactivation is above the breakpoint inside the region. False where there is no
            knot (a neuron whose activation has slope jump 0), and for neurons that are on their breakpoint
            everywhere.

        Raises
        ------
        IndexError
            If there is no such layer or region.
        """
        if not 0 <= layer < len(self.layers):
            names = ", ".join(f"{i} '{name}'" for i, name in enumerate(self.layer_names)) or "none"
            raise IndexError(f"there is no layer {layer}; layers are {names}")
        return unpack(self.layers[layer], self.patterns(regions))

    def pattern_hashes(self) -> NDArray[np.uint64]:
        """Return a 64-bit hash of every region's pattern, (n_regions,) uint64.

        The same pattern has the same hash in every partition of the same architecture, so regions can be
        followed over training and from slice to slice. Costs no unpacking of patterns.
        """
        if self.staged is not None:
            return self.staged.hashes()
        return np.concatenate([hash_patterns(b.knots, b.bits, b.frozen) for b in self.blocks])

    def affine_maps(self, regions: ArrayLike | None = None) -> tuple[Array, Array]:
        """Return the affine maps that the network is on regions.

        Parameters
        ----------
        regions : int, (n,) int, or (n_regions,) bool, optional
            One region (then n = 1), several by number, or a mask. Default: all.

        Returns
        -------
        A : (n, n_outputs, 2) float64
            Derivative of each output by the chart coordinates, per input unit.
        b : (n, n_outputs) float64
            Output at (u, v) = (0, 0), which may lie outside of the region.

        Notes
        -----
        The output at (u, v) in the region is ``A @ (u, v) + b``.
        """
        chosen = self._faces(chosen_regions(regions, self.n_regions))
        maps = maps_of(self.blocks, self._patterns.first_faces, chosen)
        return maps[:, :, :2], maps[:, :, 2]

    def linear_regions(self, model: "nn.Module | Program | None" = None) -> NDArray[np.int64]:
        """Return the linear region of every activation region: connected sets on which the output map is one.

        Parameters
        ----------
        model : nn.Module or Program, optional
            The network that was partitioned. Needed once for a partition from a file, unless they were
            counted before it was saved.

        Returns
        -------
        (n_regions,) int64
            Numbers from 0, in the order of the lowest activation region of each. Whether two maps are equal
            is decided without rounding; see `splinecam_lite.partition.linear`.

        Raises
        ------
        ModelError
            If the network is needed and missing or another one, or has a layer that cannot be evaluated
            exactly.
        """
        return linear.linear_regions(self, model).labels

    def gradient_norms(self) -> Array:
        """Return the Frobenius norm of every region's ``A``, (n_regions,): output units per input unit."""
        step = max(1, MAPS_AT_ONCE // (3 * self.n_outputs))
        regions = np.arange(self.n_regions)
        pieces = (self.affine_maps(regions[i : i + step])[0] for i in range(0, self.n_regions, step))
        return np.concatenate([np.linalg.norm(A, axis=(1, 2)) for A in pieces])

    # ---- places ------------------------------------------------------------------------------------

    @cached_property
    def _locator(self) -> Locator:
        return Locator(self.complex, self.plane.domain)

    def locate(self, points: ArrayLike) -> NDArray[np.int64]:
        """Return the region in which each point lies.

        Parameters
        ----------
        points : (N, 2)
            Chart coordinates; ``plane.project`` gives those of inputs.

        Returns
        -------
        (N,) int64
            -1 outside of the domain. A point on a border belongs to the lowest of its regions. Every point of
            the domain has a region; within rounding of the domain's border, so may points outside.

        Raises
        ------
        SliceError
            If the points have another shape, or are NaN or infinite.
        """
        places = as_array("points", points)
        if places.ndim != 2 or places.shape[1] != 2:
            raise SliceError(f"points have shape {places.shape}, but locate takes chart coordinates, (N, 2)")
        if not np.isfinite(places).all():
            raise SliceError(f"point {int(np.argwhere(~np.isfinite(places))[0, 0])} is NaN or infinite")
        return self._locator(places)

    # ---- decisions ---------------------------------------------------------------------------------

    @cached_property
    def _decision_boundary(self) -> "DecisionBoundary":
        from splinecam_lite.partition.boundary import decide
        from splinecam_lite.partition.exactness import decided_exactly

        if self.staged is not None:
            return shown_boundary(self)
        exactly = decided_exactly(self) if self.exact else None
        return decide(
            self.complex,
            self.outputs,
            self.decide,
            self.plane.domain,
            self.report.moved,
            self.output_scale,
            exactly,
        )

    def decision_boundary(self, classes: tuple[int, int] | None = None) -> "DecisionBoundary":
        """Return where the decision changes, on the whole slice or between two classes.

        Parameters
        ----------
        classes : (int, int), optional
            Default: all. For a scalar output the classes are -1 and 1.

        See Also
        --------
        splinecam_lite.partition.boundary : the rules for ties and signs. The boundary is found once and kept.
        """
        whole = self._decision_boundary
        return whole if classes is None else whole.between(*classes)

    @property
    def n_decision_cells(self) -> int:
        """Number of decision cells: connected sets of points with one class."""
        return self._decision_boundary.n_cells

    # ---- proof -------------------------------------------------------------------------------------

    def certify(self, model: "nn.Module | Program | None" = None, *, decision: bool = True) -> "Certificate":
        """Prove that this is the true partition, or find what is wrong with it.

        Shares with the engine the network and its evaluation in integers, `network.exact`.

        Parameters
        ----------
        model : nn.Module or Program, optional
            Needed for a partition that was read from a file without it.
        decision : bool
            Prove the decision boundary and its cells as well.

        Returns
        -------
        Certificate : `splinecam_lite.partition.certify` says what is checked, and why that suffices.

        Raises
        ------
        ModelError
            If the network is missing or cannot be evaluated exactly.

        Examples
        --------
        >>> import torch, splinecam_lite as sc
        >>> sc.partition(torch.nn.Linear(2, 1).eval(), sc.Slice.box(0, 1)).certify().status
        'proved'
        """
        from splinecam_lite.partition.certify import certify

        return certify(self, model, decision=decision)

    # ---- elsewhere ---------------------------------------------------------------------------------

    @staticmethod
    def load(path: str | os.PathLike[str], model: "nn.Module | Program | None" = None) -> "Partition":
        """Read a partition that ``save`` has written, and give it its network again; see `restore.load`."""
        from splinecam_lite.partition.restore import load

        return load(path, model)

    def plot(self, *args: Any, **kwargs: Any) -> Any:
        """Draw the partition and return the axes; takes the arguments of `splinecam_lite.show.plot.plot`."""
        return importlib.import_module(PLOTTER).plot(self, *args, **kwargs)

    def summary(self) -> str:
        """Return what was found as text: the three counts by name, a line for each layer, the report."""
        return counts.summary(self)
