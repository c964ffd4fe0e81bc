"""One entry of a network's output as an output of its own."""

from dataclasses import replace
from math import prod

from splinecam_lite.errors import ModelError
from splinecam_lite.network.chain import Batch, Chain, Earlier, Input, Step
from splinecam_lite.network.ops import AffineOp, Where
from splinecam_lite.network.program import Program


def one_entry(program: Program, entry: int) -> Program:
    """Return a program whose output is one number: an entry of the flattened output of ``program``.

    Raises
    ------
    ModelError
        If there is no such entry; they are counted from 0, and not from the end.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> program = one_entry(Program.from_module(nn.Unflatten(1, (2, 2)).eval(), (4,)), 2)
    >>> program.run(torch.tensor([[5.0, 6.0, 7.0, 8.0]])), program.output_shape
    (tensor([7.], dtype=torch.float64), ())
    """
    n_entries = prod(program.output_shape)
    if not 0 <= entry < n_entries:
        raise ModelError(
            f"output={entry}, but the output has shape {program.output_shape}: its entries are 0 to "
            f"{n_entries - 1}"
        )
    flat = Step("aten.reshape.default", (Input(0), (Batch(1), n_entries)))
    select = Chain((flat, Step("aten.select.int", (Earlier(0), 1, entry))), dtype=program.dtype)
    op = AffineOp(
        inputs=(program.output,),
        output=len(program.shapes),
        where=Where("output", "", "", f"entry {entry}"),
        linear=select,
        bias=None,
        magnitude=select,
    )
    return replace(program, ops=(*program.ops, op), shapes=(*program.shapes, ()), output=op.output)
