"""Layers as a partition remembers them: which bit of a pattern is which breakpoint of which neuron."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from splinecam_lite.engine.plan import KnotStep, Plan
from splinecam_lite.network.ops import Approximation
from splinecam_lite.network.program import KnotsOp, Program, SmoothOp


class Layer(NamedTuple):
    """One layer of preactivations, or one round of a maximum.

    Breakpoint ``j`` of neuron ``i`` has bit ``first_bit + j * n_neurons + i`` of the pattern. The neurons of
    a round are its comparisons of two values, whose bit says that the second one wins.
    """

    name: str
    n_neurons: int
    n_breakpoints: int
    first_bit: int
    kind: str = "activation"
    """``"activation"`` or ``"max"``."""
    approximation: Approximation | None = None
    """What the layer stands for, if it replaces a smooth activation."""


def kind_of(op: KnotsOp | SmoothOp) -> str:
    """Return the kind of the layer of an op."""
    return "max" if isinstance(op, KnotsOp) and op.comparison is not None else "activation"


def approximation_of(op: KnotsOp | SmoothOp) -> Approximation | None:
    """Return what an op stands for, if it replaces a smooth activation."""
    return op.approximation if isinstance(op, KnotsOp) else None


def as_row(layer: Layer) -> list[Any]:
    """Return a layer as files and digests have it: without its kind, as ever, if it is of activations."""
    if layer.approximation is not None:
        return [*layer[:5], list(layer.approximation)]
    return list(layer[:4] if layer.kind == "activation" else layer[:5])


def of_row(row: Sequence[Any]) -> Layer:
    """Return the layer of a row that `as_row` has made; one that is none raises TypeError or ValueError."""
    if len(row) < 6:
        return Layer._make([*row, "activation", None] if len(row) == 4 else [*row, None])
    function, tolerance, error = row[5]
    return Layer._make([*row[:5], Approximation(str(function), float(tolerance), float(error))])


def activations(layers: tuple[Layer, ...]) -> list[int]:
    """Return the numbers of the layers that are no rounds of a maximum: those of the estimator, in order."""
    return [number for number, layer in enumerate(layers) if layer.kind == "activation"]


def layers_of(program: Program, plan: Plan) -> tuple[Layer, ...]:
    """Return the layers of a plan, with the names they have in its program."""
    program = program.compared()
    steps = [step for step in plan.steps if isinstance(step, KnotStep)]
    return tuple(
        Layer(
            name,
            step.breakpoints.shape[1],
            step.breakpoints.shape[0],
            step.first_bit,
            kind_of(op),
            approximation_of(op),
        )
        for name, op, step in zip(program.pattern_names, program.pattern_ops, steps, strict=True)
    )


def decode(layers: tuple[Layer, ...], bits: np.ndarray) -> np.ndarray:
    """Return the (layer, neuron, breakpoint) of pattern bits, (n, 3) int32."""
    first = np.array([layer.first_bit for layer in layers], np.int64)
    width = np.array([layer.n_neurons for layer in layers], np.int64)
    layer = np.searchsorted(first, bits, side="right") - 1
    flat = bits - first[layer]
    return np.stack((layer, flat % width[layer], flat // width[layer]), axis=1).astype(np.int32)


def encode(layers: tuple[Layer, ...], knots: np.ndarray) -> np.ndarray:
    """Return the pattern bits (n,) int64 of (layer, neuron, breakpoint) rows (n, 3)."""
    first = np.array([layer.first_bit for layer in layers], np.int64)
    width = np.array([layer.n_neurons for layer in layers], np.int64)
    layer, neuron, breakpoint = knots.T.astype(np.int64)
    return first[layer] + breakpoint * width[layer] + neuron


def first_bits(layers: tuple[Layer, ...], ptr: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """Return the lowest pattern bit among the knots of each edge, -1 where there is none, (E,) int64.

    ``ptr`` and ``knots`` as in `Partition.edge_knots`. The layers before that knot's are in the same state on
    both sides of the edge.
    """
    out = np.full(len(ptr) - 1, -1, np.int64)
    some = np.flatnonzero(np.diff(ptr))
    if len(some):
        out[some] = np.minimum.reduceat(encode(layers, knots), ptr[:-1][some])
    return out


def unpack(layer: Layer, patterns: np.ndarray) -> np.ndarray:
    """Return one layer, (n, n_breakpoints, n_neurons) bool, of packed patterns (n, n_words) uint64."""
    n_bits = layer.n_breakpoints * layer.n_neurons
    words = patterns[:, layer.first_bit // 64 : -(-(layer.first_bit + n_bits) // 64)]
    octets = np.ascontiguousarray(words).astype("<u8", copy=False).view(np.uint8)
    bits = np.unpackbits(octets, axis=1, count=n_bits, bitorder="little")
    return bits.astype(bool).reshape(len(patterns), layer.n_breakpoints, layer.n_neurons)
