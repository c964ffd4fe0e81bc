"""Preactivations at the vertices of neighbourhoods: the one arithmetic that decides which neurons cross.

The estimate and the exact count both take it from here. With the same points, frame, radius and batches they
get the same bits, so that a preactivation within rounding of 0 is on the same side in both.

Up to the first nonlinearity the network is affine, and a value at ``x ± r v`` is ``A(x) ± r A_0(v)``
(``A_0``: ``A`` without bias). It is kept in these two parts, a `Spread`, so that the first and widest layers
see ``points + P`` inputs and not ``points * 2P``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from splinecam_lite.errors import ModelError
from splinecam_lite.network.program import AffineOp, Op, Program


@dataclass(frozen=True)
class Spread:
    """A value at the vertices of a batch of neighbourhoods, while it is affine in the input.

    Attributes
    ----------
    centre : (batch, *shape)
    offset : (P, *shape), or (batch, P, *shape) with one frame for each point
        The value at vertex ``x ± r v_p`` is ``centre ± offset[p]``.
    """

    centre: Tensor
    offset: Tensor

    @property
    def _axis(self) -> int:
        return self.offset.ndim - self.centre.ndim

    def apply(self, op: AffineOp, others: "list[Spread]") -> "Spread":
        """Apply an affine op to this and its further inputs."""
        parts = [self, *others]
        centre = op.run(*(s.centre for s in parts))
        if self._axis == 0:
            return Spread(centre, op.linear(*(s.offset for s in parts)))
        rows = op.linear(*(s.offset.flatten(0, 1) for s in parts))
        return Spread(centre, rows.unflatten(0, self.offset.shape[:2]))

    def values(self) -> Tensor:
        """The value at every vertex, (batch * 2P, *shape)."""
        directions = self.offset.shape[self._axis]
        shape = self.centre.shape
        values = self.centre.new_empty(shape[0], 2 * directions, *shape[1:])
        centre = self.centre.unsqueeze(1)
        torch.add(centre, self.offset, out=values[:, :directions])
        torch.sub(centre, self.offset, out=values[:, directions:])
        return values.flatten(0, 1)

    def range(self) -> tuple[Tensor, Tensor]:
        """Least and largest value over the vertices of each neighbourhood, (batch, *shape)."""
        reach = self.offset.abs().amax(dim=self._axis)
        return self.centre - reach, self.centre + reach


Value = Spread | Tensor


class VertexRange(NamedTuple):
    """The preactivations of one layer over the vertices of each neighbourhood."""

    low: Tensor
    """(batch, *shape)"""
    high: Tensor
    affine: bool
    """No activation comes before: on the whole neighbourhood they stay between ``low`` and ``high``."""

    def crosses(self) -> Tensor:
        """Tell which neurons change sign among the vertices, 0 counting as positive; (batch, *shape) bool."""
        return (self.low < 0) & (self.high >= 0)


def vertex_ranges(program: Program, inputs: Spread) -> Iterator[VertexRange]:
    """Push the vertices of a batch of neighbourhoods through a network.

    Parameters
    ----------
    program : Program
    inputs : Spread
        The points as centre, and the frame times the radius as offset.

    Yields
    ------
    VertexRange
        For each layer. Values are freed after their last use.

    Raises
    ------
    ModelError
        If a preactivation is NaN or infinite.
    """
    batch, left = len(inputs.centre), len(program.preactivation_ops)
    activations = {id(op) for op in program.preactivation_ops}
    live: dict[int, Value] = {0: inputs}
    for i, op in enumerate(program.ops):
        if id(op) in activations:
            value = live[op.inputs[0]]
            low, high = _range(value, batch)
            if low.numel() and not bool(low.amin().isfinite() & high.amax().isfinite()):
                raise ModelError(
                    f"the preactivations of {op.where} are not finite; look for weights that diverged"
                )
            yield VertexRange(low, high, isinstance(value, Spread))
            left -= 1
        if not left:  # nobody asks for what comes after the last layer
            return
        live[op.output] = _applied(op, [live[v] for v in op.inputs])
        for v in {*op.inputs, op.output}:
            if program.last_use(v) <= i:
                del live[v]


def _applied(op: Op, inputs: list[Value]) -> Value:
    """Apply one op; what it writes stays spread if it is affine and all that it reads is spread."""
    spread = [v for v in inputs if isinstance(v, Spread)]
    if isinstance(op, AffineOp) and len(spread) == len(inputs):
        return spread[0].apply(op, spread[1:])
    return op.run(*(v.values() if isinstance(v, Spread) else v for v in inputs))


def _range(value: Value, batch: int) -> tuple[Tensor, Tensor]:
    """Least and largest value over the vertices of each neighbourhood, (batch, *shape)."""
    if isinstance(value, Spread):
        return value.range()
    # Two passes: torch's aminmax over this axis is three times slower than amin and amax together.
    vertices = value.unflatten(0, (batch, -1))
    return vertices.amin(dim=1), vertices.amax(dim=1)
