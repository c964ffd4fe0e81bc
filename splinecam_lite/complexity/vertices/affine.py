"""What of a network is affine in the input: evaluated for points and directions, written out at places."""

import torch
from torch import Tensor

from splinecam_lite.complexity.vertices.spread import Spread
from splinecam_lite.network.program import AffineOp, Program


@torch.inference_mode()
def affine_values(program: Program, inputs: Spread) -> dict[int, Spread]:
    """Return all values of a program that are affine in the input, by number."""
    spread = {0: inputs}
    for op in program.ops:
        if isinstance(op, AffineOp) and spread.keys() >= set(op.inputs):
            first, *others = (spread[v] for v in op.inputs)
            spread[op.output] = first.apply(op, others)
    return spread


def spread_out(value: Spread, owner: Tensor, uv: Tensor) -> Tensor:
    """Return a value around points at places: ``centre + u offset[0] + v offset[1]``, (m, *shape).

    Parameters
    ----------
    value : Spread
        With two directions.
    owner : (m,) int64
        Of which point each place is.
    uv : (m, 2) float64

    Examples
    --------
    >>> value = Spread(torch.tensor([[1.0], [2.0]]), torch.tensor([[0.5], [0.25]]))
    >>> spread_out(value, torch.tensor([0, 1]), torch.tensor([[1.0, 0.0], [0.0, 2.0]])).tolist()
    [[1.5], [2.5]]
    """
    if value.is_shared:
        moved = uv @ value.offset.flatten(1)
    else:
        moved = torch.bmm(uv.unsqueeze(1), value.offset.flatten(2)[owner]).squeeze(1)
    return (value.centre.flatten(1)[owner] + moved).unflatten(1, value.centre.shape[1:])
