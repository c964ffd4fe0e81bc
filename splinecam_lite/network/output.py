"""Other outputs than what a network returns: one entry of it, or several values as one."""

from dataclasses import replace
from math import prod
from typing import Any

import torch
from torch import fx

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


def joined(graph: fx.Graph, nodes: list[fx.Node]) -> fx.Node:
    """Add a node to an exported graph that holds values, flattened, one after the other.

    Parameters
    ----------
    graph : fx.Graph
    nodes : list of fx.Node
        Floating, the samples along the first axis.

    Returns
    -------
    fx.Node
        Of shape (batch, entries).
    """
    aten = torch.ops.aten
    end = next(node for node in graph.nodes if node.op == "output")

    def add(target: torch._ops.OpOverload, *args: Any) -> fx.Node:
        node = graph.call_function(target, args)
        values: Any = fx.node.map_arg(args, lambda n: n.meta["val"])
        node.meta = dict(nodes[-1].meta) | {"val": target(*values)}
        return node

    with graph.inserting_before(end):
        flat = [
            node if node.meta["val"].ndim == 2 else add(aten.reshape.default, node, (-1, prod(_sample(node))))
            for node in nodes
        ]
        return flat[0] if len(flat) == 1 else add(aten.cat.default, flat, 1)


def _sample(node: fx.Node) -> tuple[int, ...]:
    return tuple(map(int, node.meta["val"].shape[1:]))
