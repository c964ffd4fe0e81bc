"""How knots and lines are numbered in the proof: read from the program alone."""

from typing import NamedTuple

import numpy as np

from splinecam_lite.network.program import Program


class BitLayout(NamedTuple):
    """What the bits of a pattern are, read from the program alone."""

    first: np.ndarray  # (layers,) int64: first bit
    n_neurons: np.ndarray  # (layers,) int64
    n_breakpoints: np.ndarray  # (layers,) int64
    is_knot: np.ndarray  # (n_words * 64,) bool: False for padding and where the slope does not jump

    @property
    def n_bits(self) -> int:
        return len(self.is_knot)

    def bits(self, rows: np.ndarray) -> np.ndarray:
        """Return the pattern bits (n,) int64 of (layer, neuron, breakpoint) rows (n, 3)."""
        layer, neuron, point = rows.astype(np.int64).T
        return self.first[layer] + point * self.n_neurons[layer] + neuron

    def name(self, bit: int) -> tuple[int, int, int]:
        """Return (layer, neuron, breakpoint) of a pattern bit; (-1, side, 0) for a side of the domain."""
        if bit >= self.n_bits:
            return -1, int(bit - self.n_bits), 0
        layer = int(np.searchsorted(self.first, bit, side="right")) - 1
        rest = int(bit - self.first[layer])
        return layer, rest % int(self.n_neurons[layer]), rest // int(self.n_neurons[layer])


def layout_of(program: Program) -> BitLayout:
    """Return the layout of the patterns of a program without maxima."""
    layout = np.array(program.pattern_layout, np.int64).reshape(-1, 3)
    first, n_breakpoints, n_neurons = layout.T.copy()
    last = first + n_breakpoints * n_neurons
    is_knot = np.zeros(int(-(-last.max(initial=0) // 64) * 64), bool)
    for op, start, n in zip(program.pattern_ops, first, n_neurons, strict=True):
        shape = program.shapes[op.inputs[0]]
        for jump in op.jumps:  # type: ignore[union-attr]
            is_knot[start : start + n] = jump.detach().broadcast_to(shape).reshape(-1).cpu().numpy() != 0
            start += n
    return BitLayout(first, n_neurons, n_breakpoints, is_knot)


class Codes(NamedTuple):
    """Numbers of lines: knots are below ``n_bits``, then the domain's sides, then ties of two outputs.

    The tie of outputs ``i < j`` is ``first_tie + i * n_outputs + j``: the form ``y_j - y_i``. Where there is
    one output, its tie with 0 is ``first_tie``.
    """

    n_bits: int
    n_sides: int
    n_outputs: int

    @property
    def first_tie(self) -> int:
        return self.n_bits + self.n_sides

    @property
    def n(self) -> int:
        return self.first_tie + self.n_outputs**2

    def tied(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the two outputs of ties."""
        return (codes - self.first_tie) // self.n_outputs, (codes - self.first_tie) % self.n_outputs


class Incidences(NamedTuple):
    """Lists of numbers for each row: those of row ``i`` are ``of[ptr[i] : ptr[i + 1]]``, ascending."""

    ptr: np.ndarray
    of: np.ndarray
