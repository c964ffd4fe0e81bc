"""Following the batch through a graph: where the samples lie in the result of each node.

The batch size is one symbol in the shapes of the graph. A shape that has lost it, has it twice, or has it in
a sum belongs to a node that mixes samples. Softmax along the batch and its like keep the shape; they are
known by their ``dim``.
"""

from collections.abc import Sequence
from math import prod

from torch import fx

from splinecam_lite.network import rules
from splinecam_lite.network.chain import BatchAxis
from splinecam_lite.network.nodes import Bound, Meanings, mixes_samples, symbolic_axes


def batch_axis(bound: Bound, meanings: Meanings) -> BatchAxis:
    """Find where the samples lie in the result of a node that depends on the input.

    Raises
    ------
    TraceError
        If samples are mixed: the shape has no batch axis, two, or one that belongs to no input.
    """
    node = bound.node
    axes = symbolic_axes(node)
    inputs = meanings.values(node)
    if len(axes) != 1 or works_along_batch(bound, inputs, meanings):
        raise mixes_samples(node)
    multiple = meanings.size(node.meta["val"].shape[axes[0]], node).multiple
    if bound.operator in rules.VIEWS:
        return axis_after_view(node, axes[0], multiple, inputs[0], meanings.axis_of(inputs[0]))
    if multiple == 1:
        return BatchAxis(axes[0])
    factors = {(axis.before, axis.after) for axis in map(meanings.axis_of, inputs) if axis.merged}
    if len(factors) != 1 or prod(*factors) != multiple:
        raise mixes_samples(node)
    return BatchAxis(axes[0], *factors.pop())


def axis_after_view(node: fx.Node, axis: int, multiple: int, source: fx.Node, old: BatchAxis) -> BatchAxis:
    """Follow the batch through a regrouping of entries in their order.

    The batch keeps the number of entries that lie outside of it:

        source   (a, b, batch, c)       a * b entries outside, multiple 1
        result   (a, b * batch * c)     a of them in axes of their own, so before = b, after = c
    """
    outside = prod(map(int, source.meta["val"].shape[: old.axis])) * old.before
    in_own_axes = prod(map(int, node.meta["val"].shape[:axis]))
    before, rest = divmod(outside, max(in_own_axes, 1))
    if rest or before == 0 or multiple % before:
        raise mixes_samples(node)
    return BatchAxis(axis, before, multiple // before)


def works_along_batch(bound: Bound, inputs: Sequence[fx.Node], meanings: Meanings) -> bool:
    """Whether an operator of unchanged shape works along the batch: softmax over dim 0, cumsum, flip ..."""
    if bound.operator in rules.AXIS_MOVES or not inputs:
        return False
    rank = inputs[0].meta["val"].ndim
    dims = bound.arguments.get("dim", bound.arguments.get("dims"))
    along = dims if isinstance(dims, Sequence) else [dims]
    return meanings.axis_of(inputs[0]).axis in {d % rank for d in along if isinstance(d, int)}
