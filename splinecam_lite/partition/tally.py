"""What can be said of a partition without holding it: blocks are counted as they come, and forgotten."""

import time
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import nn

from splinecam_lite.engine.blocks import stream_blocks
from splinecam_lite.engine.comparisons import Comparisons, irrelevant_edges, kept_knots
from splinecam_lite.engine.complex import AREA_ROUNDING, OUTER, PLACE_ROUNDING, check_faces, polygon_area
from splinecam_lite.engine.engine import retried
from splinecam_lite.engine.finished import Finished
from splinecam_lite.engine.interrupts import apart
from splinecam_lite.engine.labels import Patterns, edge_knots
from splinecam_lite.engine.plan import Plan, Tuning, tuning_for
from splinecam_lite.engine.rims import Rim, pair_rims, rim_of, rim_patterns
from splinecam_lite.errors import ComplexError, SliceError
from splinecam_lite.network.program import Program
from splinecam_lite.network.segments import Segment
from splinecam_lite.network.slices import Slice
from splinecam_lite.partition.approximations import briefly
from splinecam_lite.partition.counts import counted
from splinecam_lite.partition.door import as_program, thread_count
from splinecam_lite.partition.layers import Layer, layers_of
from splinecam_lite.partition.memory import memory_budget, within
from splinecam_lite.partition.planning import make_plan
from splinecam_lite.partition.report import output_residual
from splinecam_lite.partition.staged import comparisons_of
from splinecam_lite.partition.workers import one_thread_per_worker, shown_progress

SMALLEST_SHARE = -60
"""The first bin of the histogram of areas holds all below 2^-60 of the domain's."""

SAMPLED = 4
"""Vertices of a block whose outputs are compared with the network's."""


class LayerTally(NamedTuple):
    """What one layer contributes to a partition."""

    name: str
    n_neurons: int
    n_knots: int
    """Different (neuron, breakpoint) pairs that have a knot in the domain."""
    knot_length: float
    """Length of the set where some neuron of the layer has a knot, in input units."""
    kind: str = "activation"
    """``"activation"``, or ``"max"`` for a round of a maximum: its neurons are comparisons of two values."""


@dataclass(frozen=True, eq=False)
class Tally:
    """The counts of a partition that was never held as a whole; made by `count`.

    Attributes
    ----------
    plane : Slice
    n_regions : int
        Activation regions, as `Partition.n_regions`.
    layers : tuple of LayerTally
    area_histogram : (61,) int64
        Regions whose area is 2^(i - 61) to 2^(i - 60) of the domain's; the first bin has all below that.
    smallest_area, largest_area : float
        Square input units.
    area_residual : float
        Relative difference between the sum of the areas and the area of the domain.
    output_residual : float
        Largest difference between outputs and the network's own, over ``n_checked`` vertices, in units of
        what the last layer adds up.
    n_checked : int
    n_snaps : int
        Knots that were moved onto a vertex; one on a seam counts on each side.
    n_blocks : int
    seconds : float
    approximation : str
        Where smooth activations were replaced by piecewise-linear ones: which, and by how much they differ.

    Examples
    --------
    >>> import torch
    >>> from splinecam_lite import Slice, count
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 1, bias=False), torch.nn.ReLU()).eval()
    >>> model[0].weight.data = torch.tensor([[1.0, 0.0]])
    >>> found = count(model, Slice.box(-1, 1))
    >>> found.n_regions, found.layers[0].knot_length, found.area_histogram[-1]
    (2, 2.0, np.int64(2))
    """

    plane: Slice
    n_regions: int
    layers: tuple[LayerTally, ...]
    area_histogram: np.ndarray
    smallest_area: float
    largest_area: float
    area_residual: float
    output_residual: float
    n_checked: int
    n_snaps: int
    n_blocks: int
    seconds: float
    approximation: str = ""

    def __repr__(self) -> str:
        """``Tally(2 activation regions, ...)``."""
        length = sum(layer.knot_length for layer in self.layers)
        return (
            f"Tally({self._regions()} on {self.plane.area:.6g} square input units, knots {length:.6g} input "
            f"units long, {self.n_blocks:,} blocks, {self.seconds:.2f} s)"
        )

    def _regions(self) -> str:
        words = counted(self.n_regions, "activation region")
        return f"{words}, {self.approximation}" if self.approximation else words

    def summary(self) -> str:
        """Return what was counted as text: regions, a line for each layer, residuals."""
        lines = [
            self._regions(),
            f"  areas from {self.smallest_area:.3g} to {self.largest_area:.3g} of {self.plane.area:.6g} "
            "square input units",
        ]
        for number, layer in enumerate(self.layers):
            lines.append(
                f"  layer {number} '{layer.name}': {layer.n_knots:,} knots of {layer.n_neurons:,} "
                f"{'neurons' if layer.kind == 'activation' else 'comparisons'}, "
                f"{layer.knot_length:.6g} input units long"
            )
        lines.append(
            f"outputs right to {self.output_residual:.1e} of their scale at {self.n_checked} vertices, "
            f"areas to {self.area_residual:.1e}; {self.n_snaps:,} snaps; {self.n_blocks:,} blocks, "
            f"{self.seconds:.2f} s"
        )
        return "\n".join(lines)


@apart
def count(
    model: "nn.Module | Program | str",
    plane: Slice,
    *,
    output: str | int | None = None,
    normalise: tuple[Any, Any] | None = None,
    memory: str | int | None = None,
    threads: int | None = None,
    progress: bool | None = None,
    _tuning: Tuning | None = None,
) -> Tally:
    """Count the activation regions of a slice, and measure them and the knots, in little memory.

    The partition is computed exactly, as by `partition`, a block at a time, and each block is forgotten once
    it is counted. Ten million regions need no more memory than a hundred thousand, but for the borders of the
    blocks: about ten bytes for each region.

    Parameters
    ----------
    model, plane, output, normalise, threads, progress
        As in `partition`.
    memory : str or int, optional
        What the work may take beyond what the process has taken already: ``"2GB"``, or bytes. Default: half
        of what is free.

    Raises
    ------
    ModelError, SliceError, ValueError, PredicateError, ComplexError
        As `partition` does.
    """
    if isinstance(plane, Segment):
        raise SliceError("count takes a Slice; the few pieces of a Segment are counted by partition")
    budget = memory_budget(memory)
    program = as_program(model, plane, output, normalise, None)
    n_threads = thread_count(threads)
    begin = time.perf_counter()
    with one_thread_per_worker(), shown_progress(progress, plane.area) as show:
        plan = make_plan(program, plane)
        tuning = _tuning or within(tuning_for(plan), budget, n_threads)

        def all_counted(tuning: Tuning) -> Counts:
            counts = Counts.of(program, plan)
            stream_blocks(plan, tuning, counts, n_threads, show)
            counts.close()
            return counts

        counts, _ = retried(all_counted, tuning)
        return counts.tally(program, plane, time.perf_counter() - begin)


NOTHING = np.empty(0, np.int64)


class Counted(NamedTuple):
    """What is kept of one block."""

    path: tuple[int, ...]
    rim: Rim
    n_regions: int
    area: float
    histogram: np.ndarray
    extremes: tuple[float, float]  # smallest and largest area
    open_regions: np.ndarray  # (n,) int64: of the rim's edges, the region at each, from 0
    open_areas: np.ndarray  # (m,) float64: areas of the regions at the rim, where they may go on beyond it
    lengths: np.ndarray  # (layers,) float64
    knots: np.ndarray  # (n_words,) uint64: pattern bits that have a knot
    sample: tuple[np.ndarray, np.ndarray]  # vertices (n, 2) and outputs (n, n_outputs)
    n_snaps: int


class Counts:
    """A sink that counts."""

    @staticmethod
    def of(program: Program, plan: Plan) -> "Counts":
        """Return a sink for the blocks of a plan."""
        return Counts(plan, layers_of(program, plan), comparisons_of(program))

    def __init__(self, plan: Plan, layers: tuple[Layer, ...], compared: Comparisons | None):
        self.area = 0.0
        self._plan, self._layers, self._compared = plan, layers, compared
        self._first_bits = np.array([layer.first_bit for layer in layers], np.int64)
        self._domain_area = polygon_area(plan.domain)
        self._blocks: list[Counted] = []
        self._lengths = np.zeros(len(layers))
        self._knots = np.zeros(plan.n_words, np.uint64)
        self._histogram = np.zeros(1 - SMALLEST_SHARE, np.int64)
        self._smallest, self._largest = np.inf, 0.0
        self.n_regions = self._n_snaps = 0

    def cut(self, path: tuple[int, ...], n_pieces: int) -> None:
        """Forget it."""

    def done(self, path: tuple[int, ...]) -> bool:
        """Return False."""
        return False

    def prepared(self, block: Finished) -> Counted:
        """Check and count a block."""
        moved = float(block.snaps[:, 3].max(initial=0.0))
        areas, sides = check_faces(block.xy, *block.mesh, self._plan.domain, moved)
        if ((sides.min(axis=1) == OUTER) != (block.seam >= 0)).any():
            raise ComplexError("an edge of a block has one face, but lies neither on a seam nor on a side")
        inner = np.flatnonzero(block.seam < 0)
        patterns = Patterns(
            np.array([0, block.n_faces]), block.frozen[None], block.knots, np.array([0, len(block.knots)]),
            block.bits.ravel(), np.array([0, block.bits.size]),
        )  # fmt: skip
        ptr, knots = edge_knots(patterns, sides[inner])
        if (np.diff(ptr) == 0).any():
            raise ComplexError("no knot lies on an inner edge of a block")
        rim = rim_of(block, len(self._plan.domain))
        regions = np.arange(block.n_faces)
        region_areas = areas
        if self._compared is not None:
            dropped = irrelevant_edges(self._compared, patterns, sides[inner], ptr, knots)
            regions = _components(block.n_faces, sides[inner][dropped])
            region_areas = np.bincount(regions, areas)
            kept, ptr, knots = kept_knots(self._compared, patterns, sides[inner], ptr, knots)
            inner = inner[kept]
        ends = block.xy[block.mesh.edge_vertices[inner]]
        lengths, found = self._measured(np.hypot(*(ends[:, 1] - ends[:, 0]).T), ptr, knots)
        at_rim = np.empty(0, np.int64)
        open_regions = np.empty(0, np.int64)
        if self._compared is not None:
            at_rim, open_regions = np.unique(regions[rim.faces], return_inverse=True)
        closed = np.delete(region_areas, at_rim)
        chosen = np.linspace(0, len(block.xy) - 1, min(SAMPLED, len(block.xy))).astype(np.int64)
        return Counted(
            path=block.path,
            rim=rim,
            n_regions=len(region_areas),
            area=float(areas.sum()),
            histogram=self._binned(closed),
            extremes=(float(closed.min(initial=np.inf)), float(closed.max(initial=0.0))),
            open_regions=open_regions,
            open_areas=region_areas[at_rim],
            lengths=lengths,
            knots=found,
            sample=(block.xy[chosen], block.outputs[chosen]),
            n_snaps=len(block.snaps),
        )

    def add(self, prepared: Counted) -> None:
        """Add the counts of a block to those of all; what is left is its rim."""
        self.n_regions += prepared.n_regions
        self.area += prepared.area
        self._n_snaps += prepared.n_snaps
        self._add_areas(prepared.histogram, *prepared.extremes)
        self._knots |= prepared.knots
        self._blocks.append(prepared._replace(histogram=NOTHING, knots=NOTHING))

    def _add_areas(self, histogram: np.ndarray, smallest: float, largest: float) -> None:
        self._histogram += histogram
        self._smallest, self._largest = min(self._smallest, smallest), max(self._largest, largest)

    def _binned(self, areas: np.ndarray) -> np.ndarray:
        exponent = np.frexp(areas / self._domain_area)[1]  # 2^(e-1) <= share < 2^e
        return np.bincount(
            np.clip(exponent, SMALLEST_SHARE, 0) - SMALLEST_SHARE, minlength=1 - SMALLEST_SHARE
        )

    def _measured(
        self, lengths: np.ndarray, ptr: np.ndarray, knots: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the length of edges on which knots of each layer lie, and which knots there are."""
        layer = np.searchsorted(self._first_bits, knots, side="right") - 1
        edge = np.repeat(np.arange(len(lengths)), np.diff(ptr))
        pair = np.unique(edge * len(self._layers) + layer)
        edge, layer = np.divmod(pair, max(len(self._layers), 1))
        words = np.zeros(self._plan.n_words, np.uint64)
        found = np.unique(knots)
        np.bitwise_or.at(words, found >> 6, np.uint64(1) << (found & 63).astype(np.uint64))
        # Of no edges at all bincount makes integers.
        return np.bincount(layer, lengths[edge], len(self._layers)).astype(np.float64), words

    def close(self) -> None:
        """Pair both sides of all seams.

        Raises
        ------
        SeamMismatch
            If they disagree.
        ComplexError
            If the areas do not add up to the domain's, or no knot lies on a seam.
        """
        self._blocks.sort(key=lambda block: block.path)
        self._lengths = np.sum([block.lengths for block in self._blocks], axis=0)
        domain = self._plan.domain
        perimeter = float(np.hypot(*(domain - np.roll(domain, 1, axis=0)).T).sum())
        place = PLACE_ROUNDING * float(np.abs(domain).max())
        total = float(np.sum([block.area for block in self._blocks]))
        if not abs(total - self._domain_area) <= AREA_ROUNDING * self._domain_area + place * perimeter:
            raise ComplexError(f"the areas sum to {total:.17g}, the domain's is {self._domain_area:.17g}")
        self.area = total
        rims = [block.rim for block in self._blocks]
        paired = pair_rims(rims)
        if (np.diff(paired.knot_ptr) == 0).any():
            raise ComplexError("no knot lies on an edge between two blocks")
        lengths, ptr, knots = paired.lengths, paired.knot_ptr, paired.knots
        if self._compared is not None:
            patterns, sides = rim_patterns(rims), np.column_stack((paired.one, paired.other))
            kept, ptr, knots = kept_knots(self._compared, patterns, sides, ptr, knots)
            self._join(np.delete(sides, kept, axis=0))
            lengths = lengths[kept]
        more, found = self._measured(lengths, ptr, knots)
        self._lengths += more
        self._knots |= found

    def _join(self, same: np.ndarray) -> None:
        """Count regions that lie in several blocks once; ``same`` are pairs of edges of rims."""
        first = np.concatenate(([0], np.cumsum([len(block.open_areas) for block in self._blocks])))
        region = np.concatenate(
            [block.open_regions + o for block, o in zip(self._blocks, first[:-1], strict=True)]
        )
        areas = np.concatenate([block.open_areas for block in self._blocks])
        if not len(areas):
            return
        whole = _components(len(areas), region[same])
        joined = np.bincount(whole, areas)
        self.n_regions -= len(areas) - len(joined)
        self._add_areas(self._binned(joined), float(joined.min()), float(joined.max()))

    def tally(self, program: Program, plane: Slice, seconds: float) -> Tally:
        """Return what was counted, after a look at the network's own outputs."""
        xy, outputs = (np.concatenate(part) for part in zip(*(b.sample for b in self._blocks), strict=True))
        residual, n_checked = output_residual(program.compared(), plane, xy, outputs)
        bits = np.unpackbits(self._knots.view(np.uint8), bitorder="little")
        layers = tuple(
            LayerTally(
                layer.name,
                layer.n_neurons,
                int(bits[layer.first_bit : layer.first_bit + layer.n_breakpoints * layer.n_neurons].sum()),
                float(length),
                layer.kind,
            )
            for layer, length in zip(self._layers, self._lengths, strict=True)
        )
        return Tally(
            plane=plane,
            n_regions=self.n_regions,
            layers=layers,
            area_histogram=self._histogram,
            smallest_area=self._smallest,
            largest_area=self._largest,
            area_residual=abs(self.area - self._domain_area) / self._domain_area,
            output_residual=residual,
            n_checked=n_checked,
            n_snaps=self._n_snaps,
            n_blocks=len(self._blocks),
            seconds=seconds,
            approximation=briefly(self._layers),
        )


def _components(n: int, pairs: np.ndarray) -> np.ndarray:
    """Number the connected sets of ``n`` things of which pairs (m, 2) belong together."""
    graph = coo_array((np.ones(len(pairs), np.int8), tuple(pairs.T)), shape=(n, n))
    return connected_components(graph, directed=False)[1].astype(np.int64)
