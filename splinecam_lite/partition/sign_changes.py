"""How many knots lie between points, from the signs of preactivations at the points alone."""

from typing import Any

import numpy as np
import torch

from splinecam_lite.network.polygon import Array
from splinecam_lite.network.program import KnotsOp, Program

HELD = 1 << 20
"""Preactivations held at once while signs are taken (8 MB); a network of 125,000 takes 2.3 times as long for
each point where it is eight times as much."""


class SignChanges:
    """How many knots lie between neighbouring points, at least: those whose sign differs.

    Of comparisons of a maximum those count that decide its result on both sides.

    Attributes
    ----------
    n_points : int
        Points that went through the network so far.
    """

    def __init__(self, program: Program) -> None:
        self.program = program.compared()
        self.n_points = 0
        self._ops = [op for op in self.program.ops if isinstance(op, KnotsOp)]
        neurons = sum(int(np.prod(self.program.shapes[op.inputs[0]])) for op in self._ops)
        self._batch = int(np.clip(HELD // max(neurons, 1), 2, 1024))

    def between(self, x: Array) -> Array:
        """Return the number of knots between each point and the next: (n, *input_shape) -> (n - 1,)."""
        self.n_points += len(x)
        changes = []
        # Batches share one point.
        for start in range(0, len(x) - 1, self._batch - 1):
            some = torch.from_numpy(x[start : start + self._batch])
            changes.append(self._between(some))
        return np.concatenate(changes) if changes else np.zeros(0)

    def _between(self, x: torch.Tensor) -> Array:
        total = torch.zeros(len(x) - 1, dtype=torch.int64)
        with torch.inference_mode():
            values = self.program.run(x, keep={op.inputs[0] for op in self._ops})
            relevant: dict[int, torch.Tensor] = {}
            for op in reversed(self._ops):
                z = values.pop(op.inputs[0]) if op.comparison is not None else values[op.inputs[0]]
                decides = None if op.comparison is None else _deciding(op.comparison, z, relevant)
                for breakpoint, jump in zip(op.breakpoints, op.jumps, strict=True):
                    above = z > breakpoint
                    differ = (above[1:] != above[:-1]) & (jump != 0)
                    if decides is not None:
                        # Not where a tie of two zeros ends: there the knot is that of the ReLU before.
                        apart = decides & (z != 0).flatten(1)
                        differ &= (apart[1:] & apart[:-1]).reshape(differ.shape)
                    total += differ.flatten(1).sum(dim=1)
        return total.numpy().astype(np.float64)


def _deciding(comparison: Any, z: torch.Tensor, relevant: dict[int, torch.Tensor]) -> torch.Tensor:
    """Tell which comparisons of a round decide the result of their max, (n, n_neurons) bool.

    ``relevant`` holds for each max which of its comparisons a later round reads; rounds come last to first.
    """
    right = (z > 0).flatten(1)
    n_before = comparison.offset
    known = relevant.get(comparison.max_number)
    here = torch.as_tensor(comparison.top).expand_as(right)
    if known is not None:
        here = here | known[:, n_before : n_before + right.shape[1]]
        known = known[:, :n_before]
    else:
        known = torch.zeros(len(right), n_before, dtype=torch.bool)
    read = torch.where(right, torch.as_tensor(comparison.right), torch.as_tensor(comparison.left))
    row, column = torch.nonzero(here & (read >= 0), as_tuple=True)
    known[row, read[row, column]] = True
    relevant[comparison.max_number] = known
    return here
