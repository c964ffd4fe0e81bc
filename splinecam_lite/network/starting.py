"""Networks that begin later than their module: after the Embedding of a transformer, say.

The exported graph is cut at one node, whose value becomes the program's input. All that comes after it must
depend on the module's own input through that node alone, or by its shape (positions are ``arange(T)``).

    ids --> embedding --> add --> blocks ...          x --> add --> blocks ...
    ids.shape --> arange --/                    arange --/
"""

from collections.abc import Container

import torch
from torch import Tensor, fx

from splinecam_lite.errors import ModelError, TraceError
from splinecam_lite.network import rules
from splinecam_lite.network.location import where
from splinecam_lite.network.nodes import bind, sizes


def input_node(graph: fx.Graph, tensors: Container[str]) -> fx.Node:
    """Return the module's input among the placeholders; ``tensors`` are the names of the others."""
    return next(n for n in graph.nodes if n.op == "placeholder" and n.name not in tensors)


def needed_after(start: fx.Node, output: fx.Node) -> set[fx.Node]:
    """All nodes whose values are needed if that of ``start`` is given; it is one of them, if any needs it."""
    found, stack = {output}, [output]
    while stack:
        node = stack.pop()
        for source in [] if node is start else _read_by(node):
            if source not in found:
                found.add(source)
                stack.append(source)
    return found


def _read_by(node: fx.Node) -> list[fx.Node]:
    """The nodes of which a node needs more than the shape."""
    if isinstance(node.meta.get("val"), int | torch.SymInt):
        # A size, or what is computed from sizes.
        return [n for n in node.all_input_nodes if not isinstance(n.meta.get("val"), Tensor)]
    if node.op == "call_function" and bind(node).operator in rules.ONLY_SHAPE:
        return [n for n in node.all_input_nodes if n is not node.args[0]]
    return node.all_input_nodes


def require_start(start: fx.Node, name: str, output: fx.Node, given: fx.Node) -> None:
    """Raise unless a graph can be cut at a node.

    Parameters
    ----------
    start : fx.Node
        Where it is cut.
    name : str
        What the caller calls this node.
    output : fx.Node
        Where the network ends.
    given : fx.Node
        The module's input.

    Raises
    ------
    ModelError
        If the node's value is not floating, or does not have the samples along its first axis.
    TraceError
        If the network reads its input beside it, or ends before it.
    """
    value, batch = start.meta["val"], given.meta["val"].shape[0].node.expr
    shape = sizes(start)
    if not value.is_floating_point():
        raise ModelError(
            f"start='{name}' gives {value.dtype}, not real numbers; start after an Embedding, or later"
        )
    if not shape or shape[0] != batch or not all(isinstance(n, int) for n in shape[1:]):
        raise ModelError(
            f"start='{name}' gives a value of shape ({', '.join(map(str, shape))}), whose first axis is not "
            "the batch; start where it is"
        )
    needed = needed_after(start, output)
    if start not in needed:
        raise TraceError(f"start='{name}' does not come before the output; start earlier")
    for node in needed:
        if node is not start and given in _read_by(node):
            raise TraceError(
                f"{where(node)} takes the input of the module past start='{name}'; start at a place that "
                "everything passes through"
            )


def stand_in(given: fx.Node, batch: int) -> Tensor:
    """Zeros for the input of a module, of which only the shape counts."""
    value = given.meta["val"]
    return torch.zeros(batch, *map(int, value.shape[1:]), dtype=value.dtype)
