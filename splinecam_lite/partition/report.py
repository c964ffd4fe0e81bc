"""What a partition says about its own correctness; a residual beyond its bound is an error."""

from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import numpy as np
import torch
from scipy.spatial import cKDTree

from splinecam_lite.engine.complex import PLACE_ROUNDING, Complex, polygon_area, signed_areas
from splinecam_lite.engine.engine import EngineResult
from splinecam_lite.errors import ComplexError
from splinecam_lite.network.magnitudes import evaluate_with_magnitudes
from splinecam_lite.network.program import Program
from splinecam_lite.network.segments import Segment
from splinecam_lite.network.slices import Slice
from splinecam_lite.partition.approximations import Approximated, approximated_layers, in_full
from splinecam_lite.partition.batches import batch_size
from splinecam_lite.partition.layers import Layer, decode

OUTPUT_ROUNDING = 2.0**-30
"""Largest difference of an output from the network's own that is taken for rounding, relative to its scale.

Values snapped to a knot move by up to 2^-40 of their scale, and layers amplify that by 2^10 at most; a vertex
in the wrong place differs by far more.
"""

MOST_CHECKED = 4096
"""Vertices whose outputs are checked, at most ..."""

CHECKED_SHARE = 256
"""... and one in 256 of a large partition: the check then costs less than a hundredth of a forward pass over
all vertices, where the engine costs a thirtieth (54,528 neurons) to a third of one."""

FEWEST_CHECKED = 64
"""All vertices of a partition with no more than these are checked."""

SCALE_POINTS = 16
"""Vertices at which the scale of the outputs is taken; that takes 3 times as long as running the network."""

BATCH = 64
"""Fewest vertices that run through the network at once; 256 take 1.7 times as long for each where there are
54,528 neurons ..."""

BATCH_ENTRIES = 1 << 19
"""... and more where the network's values are small: 4 MB of them, which stay in the cache."""


class Snaps(NamedTuple):
    """Knots that were taken to pass through a vertex that they miss by rounding."""

    knots: np.ndarray
    """(n, 3) int32: layer, neuron, breakpoint."""
    vertices: np.ndarray
    """(n,) int64: -1 for one inside a border or region that was merged, where the network has maxima."""
    displacements: np.ndarray
    """(n,) float64: distance of knot and vertex, in input units."""


class Sizing(NamedTuple):
    """How the size of a domain was found that has about the wanted number of regions."""

    wanted: int
    """Regions."""
    what: str
    """"radius" of a disc or square, "width" of a strip."""
    runs: list[tuple[float, int]]
    """(size in input units, regions) of each partition that was computed."""
    n_points: int
    """Points that went through the network to foretell the first size ..."""
    seconds: float
    """... and how long that took."""

    def __str__(self) -> str:
        tries = ", ".join(f"{n:,} at {size:.4g}" for size, n in self.runs)
        return f"{self.wanted:,} regions wanted: {self.what} foretold from {self.n_points} points, {tries}"


@dataclass(frozen=True, eq=False)
class Report:
    """How a partition was computed, and how well it holds.

    Attributes
    ----------
    snaps : Snaps
        Every knot that was moved onto a vertex. A vertex on a seam counts once.
    n_merged_edges : int
        Edges on which several knots lie: duplicates, multiples, and what was snapped together.
    output_residual : float
        Largest difference between outputs here and the network's own, over ``n_checked`` vertices, in units
        of what the last layer adds up.
    area_residual : float
        Relative difference between the sum of the regions' areas and the area of the domain.
    moved : float
        Largest distance over which a vertex was moved, in input units: snapped, or to where the other side of
        a seam has it.
    euler : int
        V - E + F without the outer face: 1.
    n_blocks, attempts : int
        Blocks at the end, and how often the domain was cut up anew because two sides of a seam disagreed.
    float64, double_double, rational : int
        In exact mode: signs that each of the three stages has decided; 0 otherwise.
    exact : bool
        Whether the partition is one of the exact mode.
    threads : int
    seconds : float
        Wall time of the engine, without tracing the module and without kernel compilation done before.
    sizing : Sizing or None
        How the domain was sized, if a number of regions was asked for. A file does not hold it.
    approximated : tuple of (str, Approximation)
        Layers that stand for a smooth activation, with its name, the tolerance asked for and the proved
        error: where there are any, everything here is said of the approximation. Outputs were compared with
        its, not with the smooth network's.
    """

    snaps: Snaps
    n_merged_edges: int
    output_residual: float
    n_checked: int
    area_residual: float
    moved: float
    euler: int
    n_blocks: int
    attempts: int
    threads: int
    seconds: float
    float64: int = 0
    double_double: int = 0
    rational: int = 0
    exact: bool = False
    sizing: Sizing | None = None
    approximated: Approximated = ()

    @property
    def n_snaps(self) -> int:
        """Knots that were moved onto a vertex."""
        return len(self.snaps.vertices)

    @property
    def largest_displacement(self) -> float:
        """Largest distance over which a knot was moved, in input units; 0 if none was."""
        return float(self.snaps.displacements.max(initial=0.0))

    def __str__(self) -> str:
        moved = f", at most {self.largest_displacement:.1e} input units" if self.n_snaps else ""
        snaps = f"{self.n_snaps} snaps{moved}"
        if self.exact:
            snaps = (
                f"signs decided by float64 {self.float64:,}, by double-double {self.double_double:,}, by "
                f"integers {self.rational:,}"
            )
        return (
            f"outputs right to {self.output_residual:.1e} of their scale at {self.n_checked} vertices, "
            f"areas to {self.area_residual:.1e}, V - E + F = {self.euler}; {snaps}; "
            f"{self.n_merged_edges} edges with several knots; {self.n_blocks} blocks, {self.seconds:.2f} s "
            f"on {self.threads} thread{'s' if self.threads > 1 else ''}"
            + (f"; {self.sizing}" if self.sizing else "")
            + (f"\n{in_full(self.approximated)}" if self.approximated else "")
        )


def make_report(
    result: EngineResult,
    program: Program,
    plane: Slice,
    layers: tuple[Layer, ...],
    threads: int,
    seconds: float,
    exact: bool,
    output_scale: np.ndarray | None = None,
) -> Report:
    """Check a result of the engine against the network and the domain; ``output_scale`` as in `Plan`.

    Raises
    ------
    ComplexError
        If the outputs differ from the network's own by more than `OUTPUT_ROUNDING`.
    """
    complex = result.complex
    corners = corner_of_each_block(complex, np.array([block.first_face for block in result.blocks]))
    residual, n_checked = output_residual(program, plane, complex.xy, result.outputs, corners, output_scale)
    domain = polygon_area(plane.domain)
    areas = signed_areas(complex.xy, complex.face_ptr, complex.face_vertex)
    return Report(
        snaps=_distinct_snaps(result.snaps, complex, layers),
        n_merged_edges=int((np.diff(result.edge_knot_ptr) > 1).sum()),
        output_residual=residual,
        n_checked=n_checked,
        area_residual=float(abs(areas.sum() - domain)) / domain,
        moved=result.moved,
        euler=complex.n_vertices - complex.n_edges + complex.n_faces,
        n_blocks=len(result.blocks),
        attempts=result.attempts,
        threads=threads,
        seconds=seconds,
        exact=exact,
        approximated=approximated_layers(layers),
        **vars(result.decisions),
    )


def _distinct_snaps(rows: np.ndarray, complex: Complex, layers: tuple[Layer, ...]) -> Snaps:
    """Find the vertices of the engine's rows (pattern bit, u, v, displacement), and keep one row for each.

    Both sides of a seam report a vertex on it, with places that agree to rounding; so vertices are found by
    place.
    """
    if not len(rows):
        return Snaps(np.empty((0, 3), np.int32), np.empty(0, np.int64), np.empty(0))
    _, vertices = cKDTree(complex.xy).query(rows[:, 1:3])
    order = np.argsort(-rows[:, 3], kind="stable")  # of two sides, the larger displacement counts
    bits = rows[:, 0].astype(np.int64)
    _, kept = np.unique(np.stack((vertices, bits))[:, order], axis=1, return_index=True)
    kept = order[kept]
    return Snaps(decode(layers, bits[kept]), vertices[kept].astype(np.int64), rows[kept, 3])


def corner_of_each_block(complex: Complex, first_faces: np.ndarray) -> np.ndarray:
    """Return a vertex of every block (n,), given the first face of each: one on no seam, if there is any."""
    starts = complex.face_ptr[first_faces]
    stops = np.append(starts[1:], len(complex.face_vertex))
    block = np.repeat(np.arange(len(starts)), stops - starts)
    lowest, highest = np.empty((2, complex.n_vertices), np.int64)
    highest[complex.face_vertex] = block  # of several assignments to a place the last one stays
    lowest[complex.face_vertex[::-1]] = block[::-1]
    inner = np.flatnonzero((lowest == highest)[complex.face_vertex])
    first_inner = np.append(inner, len(complex.face_vertex))[np.searchsorted(inner, starts)]
    return complex.face_vertex[np.where(first_inner < stops, first_inner, starts)]


def output_residual(
    program: Program,
    plane: Slice | Segment,
    xy: np.ndarray,
    outputs: np.ndarray,
    required: np.ndarray | None = None,
    output_scale: np.ndarray | None = None,
) -> tuple[float, int]:
    """Compare outputs (V, n_outputs) at vertices, (V, 2) or (V,), with the network's own, at some of them.

    Parameters
    ----------
    required : (n,) int64, optional
        Vertices that are compared in any case, unless they are more than `MOST_CHECKED`.
    output_scale : (n_outputs,) float64, optional
        What is added up to give each output, where that is known; else it is taken at `SCALE_POINTS` of them.

    Returns
    -------
    residual : float
        Largest difference, in units of what is added up to give the output.
    n_checked : int

    Raises
    ------
    ComplexError
        If the residual is beyond `OUTPUT_ROUNDING`.
    """
    n = min(len(xy), MOST_CHECKED, max(FEWEST_CHECKED, len(xy) // CHECKED_SHARE))
    sample = np.linspace(0, len(xy) - 1, n).astype(np.int64)
    if required is not None:
        step = -(-len(required) // MOST_CHECKED)
        sample = np.concatenate((sample, required[::step]))
    sample = np.unique(sample)
    at_once = batch_size(program, max(BATCH, BATCH_ENTRIES // sum(map(prod, program.shapes))))
    batches = [sample[i : i + at_once] for i in range(0, len(sample), at_once)]
    with torch.inference_mode():
        expected = np.concatenate([program.run(plane.lift(xy[some])).flatten().numpy() for some in batches])
        if output_scale is None:
            scale = _output_scale(program, plane.lift(xy[sample[:: -(-len(sample) // SCALE_POINTS)]]))
        else:
            scale = max(float(output_scale.max()), float(np.abs(expected).max()))
    away = np.abs(expected.reshape(len(sample), -1) - outputs[sample]).max(axis=1, initial=0.0)
    steep = np.flatnonzero(~(away <= OUTPUT_ROUNDING * scale))
    away[steep] -= _changes_nearby(program, plane, xy[sample[steep]])
    worst = float(away.max(initial=0.0))
    residual = worst / scale if worst > 0.0 and scale else max(worst, 0.0)
    if not residual <= OUTPUT_ROUNDING:
        raise ComplexError(
            f"the outputs at the vertices differ from the network's by {residual:.1e} of their scale "
            f"(rounding is below {OUTPUT_ROUNDING:.1e}). The likely cause is two branches that cancel: a "
            "preactivation that is a difference of numbers 2^40 times as large is taken for 0. Write the "
            "difference as one layer, its weights subtracted, or ask for a smaller domain; if nothing "
            "cancels, please report this"
        )
    return residual, len(sample)


def _changes_nearby(program: Program, plane: Slice | Segment, xy: np.ndarray) -> np.ndarray:
    """How much the outputs change, (n,), within the rounding of the vertices (n, 2) or (n,).

    Where a network is steep, its output at a rounded vertex is not its output at the vertex.
    """
    if not len(xy):
        return np.zeros(0)
    step = PLACE_ROUNDING * float(np.abs(plane.domain if isinstance(plane, Slice) else 1.0).max())
    axes = step * np.eye(2) if xy.ndim == 2 else np.array([step])
    moves = [way * axis for axis in axes for way in (1.0, -1.0)]
    changes, at_once = [], batch_size(program, BATCH)
    with torch.inference_mode():
        for start in range(0, len(xy), at_once):
            some = xy[start : start + at_once]
            here = program.run(plane.lift(some)).flatten(1)
            near = [program.run(plane.lift(some + move)).flatten(1) for move in moves]
            changes.append(torch.stack([(y - here).abs().amax(dim=1) for y in near]).amax(dim=0))
    return torch.cat(changes).numpy()


def _output_scale(program: Program, x: np.ndarray) -> float:
    """What the network's last operations add up to, at most, over a batch of inputs."""
    program, largest = program.compared(), 0.0
    for points in torch.from_numpy(x).split(batch_size(program, len(x))):
        added = points.abs()
        for step in evaluate_with_magnitudes(program, points):
            if step.op.output == program.output:
                added = step.added
        largest = max(largest, float(added.max()))
    return largest
