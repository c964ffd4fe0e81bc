"""Layers as a partition remembers them: which bit of a pattern is which breakpoint of which neuron."""

from typing import NamedTuple

import numpy as np

from splinecam_lite.engine.plan import KnotStep, Plan
from splinecam_lite.network.program import Program


class Layer(NamedTuple):
    """One layer of preactivations.

    Breakpoint ``j`` of neuron ``i`` has bit ``first_bit + j * n_neurons + i`` of the pattern.
    """

    name: str
    n_neurons: int
    n_breakpoints: int
    first_bit: int


def layers_of(program: Program, plan: Plan) -> tuple[Layer, ...]:
    """Return the layers of a plan, with the names they have in its program."""
    steps = [step for step in plan.steps if isinstance(step, KnotStep)]
    return tuple(
        Layer(name, step.breakpoints.shape[1], step.breakpoints.shape[0], step.first_bit)
        for name, step in zip(program.layer_names, steps, strict=True)
    )


def decode(layers: tuple[Layer, ...], bits: np.ndarray) -> np.ndarray:
    """Return the (layer, neuron, breakpoint) of pattern bits, (n, 3) int32."""
    first = np.array([layer.first_bit for layer in layers], np.int64)
    width = np.array([layer.n_neurons for layer in layers], np.int64)
    layer = np.searchsorted(first, bits, side="right") - 1
    flat = bits - first[layer]
    return np.stack((layer, flat % width[layer], flat // width[layer]), axis=1).astype(np.int32)


def first_bits(layers: tuple[Layer, ...], ptr: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """Return the lowest pattern bit among the knots of each edge, -1 where there is none, (E,) int64.

    ``ptr`` and ``knots`` as in `Partition.edge_knots`. The layers before that knot's are in the same state on
    both sides of the edge.
    """
    out = np.full(len(ptr) - 1, -1, np.int64)
    some = np.flatnonzero(np.diff(ptr))
    if len(some):
        first = np.array([layer.first_bit for layer in layers], np.int64)
        width = np.array([layer.n_neurons for layer in layers], np.int64)
        layer, neuron, breakpoint = knots.T.astype(np.int64)
        bits = first[layer] + breakpoint * width[layer] + neuron
        out[some] = np.minimum.reduceat(bits, ptr[:-1][some])
    return out


def unpack(layer: Layer, patterns: np.ndarray) -> np.ndarray:
    """Return one layer, (n, n_breakpoints, n_neurons) bool, of packed patterns (n, n_words) uint64."""
    n_bits = layer.n_breakpoints * layer.n_neurons
    words = patterns[:, layer.first_bit // 64 : -(-(layer.first_bit + n_bits) // 64)]
    octets = np.ascontiguousarray(words).astype("<u8", copy=False).view(np.uint8)
    bits = np.unpackbits(octets, axis=1, count=n_bits, bitorder="little")
    return bits.astype(bool).reshape(len(patterns), layer.n_breakpoints, layer.n_neurons)
