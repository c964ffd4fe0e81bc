"""The exact partition of a network on a segment: the march, the proof where it is asked for, and checks."""

import time

import numpy as np
from numpy.typing import NDArray

from splinecam_lite.engine.comparisons import Comparisons
from splinecam_lite.errors import ComplexError, PredicateError, SliceError
from splinecam_lite.network.program import Program
from splinecam_lite.network.segments import Segment
from splinecam_lite.partition.approximations import approximated_layers
from splinecam_lite.partition.layers import Layer, decode
from splinecam_lite.partition.report import output_residual
from splinecam_lite.partition.segments.along import knot_bits, layers_along, march
from splinecam_lite.partition.segments.pieces import Maps, maps_of_pieces
from splinecam_lite.partition.segments.report import Decisions, SegmentReport, SegmentSnaps
from splinecam_lite.partition.segments.result import SegmentPartition
from splinecam_lite.partition.segments.walk import walk
from splinecam_lite.partition.staged import canonical, comparisons_of

Array = NDArray[np.float64]

NARROW = 2.0**-30
"""Proved pieces up to this width (in t) are not held against the network, which may not see them: float64 has
no point inside the thinnest, and the next may be on another side of a steep knot."""


def partition_segment(program: Program, segment: Segment, *, exact: bool = False) -> SegmentPartition:
    """Return the exact partition of a segment into activation pieces.

    Parameters
    ----------
    program : Program
        Piecewise linear, float64, on the CPU.
    segment : Segment
        Of the program's input shape.
    exact : bool
        Decide in rational arithmetic what floats leave in doubt: in which order knots are crossed, and which
        at once. By default a knot within 2^-40 of its scale of another's place is taken to pass through it,
        and ``report.snaps`` lists every case.

    Returns
    -------
    SegmentPartition

    Raises
    ------
    NotPiecewiseLinear
        If the program has an operation that is neither affine nor a piecewise-linear activation.
    SliceError
        If the segment is of another shape than the input.
    PredicateError, ComplexError
        If float64 does not suffice to tell what the partition is; nothing is returned then.
    """
    if segment.input_shape != program.input_shape:
        raise SliceError(
            f"the segment is in inputs of shape {segment.input_shape}, but the network takes "
            f"{program.input_shape}"
        )
    program.require_piecewise_linear()
    begin = time.perf_counter()
    compared, comparisons = program.compared(), comparisons_of(program)
    layers = layers_along(compared)
    found = march(compared, segment, layers)
    if exact:
        proved = walk(compared, segment, knot_bits(compared, layers), found.patterns)
        t, widths, patterns = _joined(comparisons, proved.t, proved.widths, proved.patterns)
        maps = maps_of_pieces(compared, layers, segment, t, patterns)
        outputs = _at_breaks(maps, t)
        wide = widths > NARROW
        residual, n_checked = output_residual(program, segment, maps.middle[wide], maps.value[wide])
        snaps, decisions = found.snaps[:0], Decisions(proved.n_float, proved.n_rational)
    else:
        _check_order(found.t, found.patterns)
        t, widths, patterns = _joined(comparisons, found.t, np.diff(found.t), found.patterns)
        outputs = found.outputs if comparisons is None else found.outputs[np.searchsorted(found.t, t)]
        snaps, decisions = found.snaps, None
        residual, n_checked = output_residual(program, segment, t, outputs)
    seconds = time.perf_counter() - begin
    report = SegmentReport(
        _decoded(snaps, layers, segment), decisions, residual, n_checked, seconds, approximated_layers(layers)
    )
    return SegmentPartition(segment, program, t, widths, outputs, patterns, layers, report, comparisons)


def _joined(
    comparisons: Comparisons | None, t: Array, widths: Array, patterns: NDArray[np.uint64]
) -> tuple[Array, Array, NDArray[np.uint64]]:
    """Join neighbouring pieces with the same winners of all maxima: breaks, widths, canonical patterns."""
    if comparisons is None:
        return t, widths, patterns
    patterns = canonical(comparisons, patterns.copy())
    first = np.flatnonzero(np.r_[True, (patterns[1:] != patterns[:-1]).any(axis=1)])
    return np.append(t[first], t[-1]), np.add.reduceat(widths, first), patterns[first]


def _at_breaks(maps: Maps, t: Array) -> Array:
    """Outputs at the breaks (n_pieces + 1, n_outputs): by the piece after each, or the last one."""
    starts = maps.value + maps.slope * (t[:-1] - maps.middle)[:, None]
    return np.concatenate((starts, maps.value[-1:] + maps.slope[-1:] * (t[-1] - maps.middle[-1])))


def _decoded(rows: Array, layers: tuple[Layer, ...], segment: Segment) -> SegmentSnaps:
    knots = decode(layers, rows[:, 0].astype(np.int64)) if len(rows) else np.empty((0, 3), np.int32)
    order = np.lexsort((rows[:, 0], rows[:, 1]))
    return SegmentSnaps(knots[order], rows[order, 1], rows[order, 2] * segment.length)


def _check_order(t: Array, patterns: NDArray[np.uint64]) -> None:
    """Refuse what float64 cannot tell apart."""
    if not (np.diff(t) > 0.0).all():
        i = int(np.flatnonzero(~(np.diff(t) > 0.0))[0])
        raise PredicateError(
            f"two knots are crossed at t = {t[i]!r} that are apart by more than the snap, but by less than "
            "float64 can tell; ask for exact=True"
        )
    if len(patterns) > 1 and not (patterns[1:] ^ patterns[:-1]).any(axis=1).all():
        i = int(np.flatnonzero(~(patterns[1:] ^ patterns[:-1]).any(axis=1))[0])
        raise ComplexError(f"no knot is crossed at t = {t[i + 1]!r}")
