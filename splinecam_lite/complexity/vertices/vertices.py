"""Preactivations at the vertices of neighbourhoods: the one arithmetic that decides which neurons cross.

The estimate and the exact count both take it from here. With the same points, frame, radius and batches they
get the same bits, so that a preactivation within rounding of 0 is on the same side in both.

Up to the first nonlinearity the network is affine, and a value at ``x ± r v`` is ``A(x) ± r A_0(v)``
(``A_0``: ``A`` without bias). It is kept in these two parts, a `Spread`, so that the first and widest layers
see ``points + P`` inputs and not ``points * 2P``. From there on points with few bends go on in a form of
``1 + P + k`` rows (`factored`), the others vertex by vertex (`pushing`).

What is guaranteed in float64: counts are those of the vertices ``A(x) ± r A_0(v)``, pushed through the
network one by one. The factored form rounds otherwise, but decides no sign where an end of a range is within
2^-36 of the layer's largest preactivation in the neighbourhood: such points are pushed once more, vertex by
vertex. So a count could differ only where the factored form is wrong by more than 2^17 units of rounding, or
a neuron is 0 at all vertices there and almost 0 otherwise. As with any two ways to multiply matrices, values
within rounding of 0 may be on either side in other batches, or if ``x ± r v`` itself is rounded first.
"""

from collections.abc import Iterator
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from splinecam_lite.complexity.vertices.affine import affine_values
from splinecam_lite.complexity.vertices.pushing import Neighbourhoods
from splinecam_lite.complexity.vertices.ranges import compiled_for, count_crossings
from splinecam_lite.complexity.vertices.spread import Spread
from splinecam_lite.errors import ModelError
from splinecam_lite.network.program import Program

__all__ = ["Spread", "VertexRange", "vertex_ranges"]


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

    def n_crossings(self) -> Tensor:
        """How many neurons of each neighbourhood cross, (batch,) int64."""
        low, high = (end.reshape(len(end), -1) for end in (self.low, self.high))
        if not compiled_for(low):
            return ((low < 0) & (high >= 0)).sum(dim=1)
        count = torch.empty(len(low), dtype=torch.int64)
        count_crossings(low.contiguous().numpy(), high.contiguous().numpy(), count.numpy())
        return count


@torch.inference_mode()
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
    spread, left = _affine_part(program, inputs), len(program.preactivation_ops)
    activations = {id(op) for op in program.preactivation_ops}
    batch = Neighbourhoods(program, spread)
    for i, op in enumerate(program.ops):
        if not left:  # nobody asks for what comes after the last layer
            return
        if id(op) in activations:
            affine = op.inputs[0] in spread
            low, high = spread[op.inputs[0]].range() if affine else batch.ranges(i)
            if low.numel() and not bool(low.amin().isfinite() & high.amax().isfinite()):
                raise ModelError(
                    f"the preactivations of {op.where} are not finite; look for weights that diverged"
                )
            yield VertexRange(low, high, affine)
            left -= 1
        if left and op.output not in spread:
            batch.apply(i)


_frames: WeakKeyDictionary[Program, dict[int, Spread]] = WeakKeyDictionary()
"""The last shared frame of each program, after all that is affine. With batches of a few points it would be
most of the work there."""


def _affine_part(program: Program, inputs: Spread) -> dict[int, Spread]:
    """Evaluate all that is affine in the input; no caller changes an offset in place."""
    if not inputs.is_shared:
        return affine_values(program, inputs)
    known = _frames.get(program)
    if known is None or known[0].offset is not inputs.offset:
        found = affine_values(program, Spread(inputs.centre[:1], inputs.offset))
        known = {v: Spread(s.centre[:0], s.offset, s.reach()) for v, s in found.items()}
        _frames[program] = known
    centres = {0: inputs.centre}
    for op in program.ops:
        if op.output in known:
            centres[op.output] = op.run(*(centres[v] for v in op.inputs))
    return {v: Spread(centre, known[v].offset, known[v].known_reach) for v, centre in centres.items()}
