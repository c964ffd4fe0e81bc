"""The partition of a segment into pieces of one activation pattern."""

import importlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from splinecam_lite.engine.comparisons import Comparisons
from splinecam_lite.errors import ModelError
from splinecam_lite.network.polygon import array as as_array
from splinecam_lite.network.program import Program
from splinecam_lite.network.segments import Segment
from splinecam_lite.partition.approximations import briefly
from splinecam_lite.partition.layers import Layer, decode, unpack
from splinecam_lite.partition.segments.pieces import (
    Maps,
    equal_neighbours,
    integral_of_gradient,
    maps_of_pieces,
)
from splinecam_lite.partition.segments.report import SegmentReport
from splinecam_lite.partition.staged import border_bits

Array = NDArray[np.float64]

PLOTTER = "splinecam_lite.show.segment"
"""Who draws it: named, not imported, since drawing builds on this room and not the reverse."""


class SegmentKnots(NamedTuple):
    """The knots that a segment crosses, in order; one row for each knot."""

    t: np.ndarray
    """(n,) float64, ascending; equal where several knots are crossed at once."""
    layers: np.ndarray
    """(n,) int32."""
    neurons: np.ndarray
    """(n,) int32: flat number in its layer."""
    breakpoints: np.ndarray
    """(n,) int32: 0 for activations with one breakpoint."""
    breaks: np.ndarray
    """(n,) int64: number of the place among ``partition.t``; knots crossed at once share it."""


@dataclass(frozen=True, eq=False)
class SegmentPartition:
    """The pieces of a segment on which a piecewise-linear network has one activation pattern.

    Piece ``i`` goes from ``t[i]`` to ``t[i + 1]``, where t is 0 at the start of the segment and 1 at its end.
    All arrays are read-only.

    Attributes
    ----------
    segment : Segment
    program : Program
    t : (n_pieces + 1,) float64
        Where the segment crosses knots, with 0 before and 1 after them. Ascending; in the exact mode pieces
        may be thinner than float64 can tell, and then two entries are equal.
    widths : (n_pieces,) float64
        ``t[i + 1] - t[i]``, rounded once in the exact mode: positive for the thinnest piece, too.
    outputs : (n_pieces + 1, n_outputs) float64
        The network's output at ``t``, flattened.
    patterns : (n_pieces, n_words) uint64
        Activation patterns, packed as those of a `Partition`.
    layers : tuple of Layer
    report : SegmentReport
    comparisons : Comparisons or None
        Where the network has maxima, what their patterns' bits compare.

    Examples
    --------
    One ReLU, whose knot is at x = 0, makes two pieces.

    >>> import torch
    >>> from splinecam_lite.partition.segments.partition import partition_segment
    >>> model = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.ReLU()).eval()
    >>> _ = model[0].weight.data.fill_(1.0), model[0].bias.data.zero_()
    >>> part = partition_segment(Program.from_module(model, (1,)), Segment.between([-1.0], [3.0]))
    >>> part.n_pieces, part.t.tolist(), part.knots().neurons.tolist()
    (2, [0.0, 0.25, 1.0], [0])
    """

    segment: Segment
    program: Program
    t: Array
    widths: Array
    outputs: Array
    patterns: NDArray[np.uint64]
    layers: tuple[Layer, ...]
    report: SegmentReport
    comparisons: Comparisons | None = None

    def __post_init__(self) -> None:
        for numbers in (self.t, self.widths, self.outputs, self.patterns, *self.report.snaps):
            numbers.setflags(write=False)

    # ---- counts ------------------------------------------------------------------------------------

    @property
    def n_pieces(self) -> int:
        """Number of activation pieces: intervals of one activation pattern."""
        return len(self.patterns)

    @property
    def n_linear_pieces(self) -> int:
        """Number of linear pieces: neighbouring activation pieces with one output map, merged."""
        return int(self.linear_pieces()[-1]) + 1

    @property
    def n_outputs(self) -> int:
        """Numbers in one output."""
        return self.outputs.shape[1]

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Name of each layer."""
        return tuple(layer.name for layer in self.layers)

    def linear_pieces(self) -> NDArray[np.int64]:
        """Return the linear piece of every activation piece, (n_pieces,): 0 for the first, ascending.

        Two neighbours belong to one if their outputs are one affine map of t, as where a knot belongs to a
        neuron that nothing reads. Maps that float64 cannot tell apart are compared in rational arithmetic.

        Raises
        ------
        ModelError
            If that is needed, and the network cannot be evaluated without rounding.
        """
        return self._linear_pieces

    @cached_property
    def _linear_pieces(self) -> NDArray[np.int64]:
        equal = equal_neighbours(self.program.compared(), self.segment, self._maps, self.patterns)
        labels = np.concatenate(([0], np.cumsum(~equal)))
        labels.setflags(write=False)
        return labels

    def crossings(self) -> NDArray[np.int64]:
        """Return how many knots of each layer the segment crosses, (n_layers,)."""
        return np.bincount(self.knots().layers, minlength=len(self.layers))

    def __repr__(self) -> str:
        known = f", {self.n_linear_pieces:,} linear pieces" if "_linear_pieces" in vars(self) else ""
        approximation = briefly(self.layers)
        return (
            f"<SegmentPartition: {self.n_pieces:,} activation pieces{known}"
            f"{', ' if approximation else ''}{approximation}>"
        )

    # ---- places ------------------------------------------------------------------------------------

    @cached_property
    def _knots(self) -> SegmentKnots:
        changed = border_bits(self.comparisons, self.patterns)
        octets = np.ascontiguousarray(changed).astype("<u8", copy=False).view(np.uint8)
        rows, words = np.nonzero(changed)
        inside = np.unpackbits(octets.reshape(*changed.shape, 8)[rows, words], axis=1, bitorder="little")
        which, bit = np.nonzero(inside)
        breaks = 1 + rows[which]
        knots = decode(self.layers, 64 * words[which] + bit) if self.layers else np.empty((0, 3), np.int32)
        layers, neurons, breakpoints = np.ascontiguousarray(knots.T)
        found = SegmentKnots(self.t[breaks], layers, neurons, breakpoints, breaks)
        for numbers in found:
            numbers.setflags(write=False)
        return found

    def knots(self) -> SegmentKnots:
        """Return the knots that the segment crosses, in order.

        Knots crossed at one place come in order of layer and neuron. A preactivation that touches its
        breakpoint and turns back crosses nothing.
        """
        return self._knots

    def locate(self, t: ArrayLike) -> NDArray[np.int64]:
        """Return the piece of each place, (...) int64: the later where two meet, -1 outside of [0, 1]."""
        places = as_array("t", t)
        piece = np.minimum(np.searchsorted(self.t, places, side="right") - 1, self.n_pieces - 1)
        return np.where((places >= 0.0) & (places <= 1.0), piece, -1)

    def pattern_bits(self, layer: int, pieces: ArrayLike | None = None) -> NDArray[np.bool_]:
        """Return the part of the patterns that is about one layer, (n, n_breakpoints, n_neurons) bool.

        True where the preactivation is above the breakpoint inside the piece; see `Partition.pattern_bits`.

        Raises
        ------
        IndexError
            If there is no such layer or piece.
        """
        if not 0 <= layer < len(self.layers):
            names = ", ".join(f"{i} '{name}'" for i, name in enumerate(self.layer_names)) or "none"
            raise IndexError(f"there is no layer {layer}; layers are {names}")
        patterns = self.patterns if pieces is None else self.patterns[np.atleast_1d(np.asarray(pieces))]
        return unpack(self.layers[layer], patterns)

    # ---- maps --------------------------------------------------------------------------------------

    @cached_property
    def _maps(self) -> Maps:
        maps = maps_of_pieces(self.program.compared(), self.layers, self.segment, self.t, self.patterns)
        for numbers in maps:
            numbers.setflags(write=False)
        return maps

    def affine_maps(self) -> tuple[Array, Array]:
        """Return the affine maps that the network is on the pieces.

        Returns
        -------
        slope : (n_pieces, n_outputs) float64
            Derivative of each output by t; divide by ``segment.length`` for output units per input unit.
        intercept : (n_pieces, n_outputs) float64
            Output at t = 0, which may lie outside of the piece.
        """
        return self._maps.slope, self._maps.value - self._maps.slope * self._maps.middle[:, None]

    # ---- integrals ---------------------------------------------------------------------------------

    def integrated_gradients(self, output: int | None = None) -> Array:
        """Return the integrated gradients of one output from the segment's start to its end.

        The *attribution* of input entry ``i`` is ``(end - start)[i]`` times the integral over t of the
        derivative of the output by that entry (Sundararajan, Taly, Yan, arXiv 1703.01365, section 3). The
        derivative is constant on every piece, so the integral is a finite sum, and no step size enters.

        Parameters
        ----------
        output : int, optional
            Number of the output, flattened. Default: the only one.

        Returns
        -------
        (*input_shape) float64
            Sums to the output at the end minus the output at the start, up to rounding.

        Raises
        ------
        ModelError
            If there is no such output, it is no whole number, or there are several and none is chosen.

        Notes
        -----
        Where the whole segment lies on a knot, the gradient jumps across it; the side on which the neuron is
        off counts then. The sum is the same on either side.

        Examples
        --------
        >>> import torch
        >>> from splinecam_lite.partition.segments.partition import partition_segment
        >>> program = Program.from_module(torch.nn.Linear(2, 1, bias=False).eval(), (2,))
        >>> part = partition_segment(program, Segment.between([0.0, 0.0], [1.0, 2.0]))
        >>> gap = part.integrated_gradients().sum() - (part.outputs[-1] - part.outputs[0]).item()
        >>> abs(float(gap)) < 1e-15
        True
        """
        if output is None and self.n_outputs > 1:
            raise ModelError(
                f"the network has {self.n_outputs} outputs; say which one, e.g. "
                "integrated_gradients(output=0)"
            )
        chosen = 0 if output is None else output
        if isinstance(chosen, bool) or not isinstance(chosen, int | np.integer):
            raise ModelError(f"output is {output!r}; give its number, 0 to {self.n_outputs - 1}")
        if not 0 <= chosen < self.n_outputs:
            raise ModelError(f"output={output}, but the outputs are 0 to {self.n_outputs - 1}")
        mean = integral_of_gradient(
            self.program.compared(), self.layers, self.segment, self.t, self.widths, self.patterns, chosen
        )
        return (self.segment.end - self.segment.start).reshape(mean.shape) * mean

    # ---- elsewhere ---------------------------------------------------------------------------------

    def plot(self, *args: Any, **kwargs: Any) -> Any:
        """Draw it and return the axes; takes the arguments of `splinecam_lite.show.segment.plot_segment`."""
        return importlib.import_module(PLOTTER).plot_segment(self, *args, **kwargs)

    def summary(self) -> str:
        """Return what was found as text: counts by their full names, a line for each layer, the report."""
        lines = [f"{self.n_pieces:,} activation pieces on {self.segment.length:.6g} input units"]
        try:
            lines.append(f"  {self.n_linear_pieces:,} linear pieces")
        except ModelError as error:
            lines.append(f"  linear pieces are not counted: {error}")
        for number, (layer, n) in enumerate(zip(self.layers, self.crossings(), strict=True)):
            of = "neurons" if layer.kind == "activation" else "comparisons"
            lines.append(f"  layer {number} '{layer.name}': {n:,} knots crossed, {layer.n_neurons:,} {of}")
        return "\n".join([*lines, str(self.report)])
