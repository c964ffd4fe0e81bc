"""From an exported graph to a ``Program``: each node becomes one op, a constant, or nothing.

The graph was traced with a symbolic batch size, so the shape of every node tells where the samples lie
(``axes.py``). A node becomes, in this order of preference,

1. nothing, if it returns its input (clone, dropout in eval mode, a view of the same shape);
2. a constant, if it depends on the input at most by its shape; evaluated once, in float64;
3. a part of its consumers, if it returns several tensors (split, unbind);
4. an op: knots, affine, max, smooth or other, by the tables of ``rules.py``.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx

from splinecam_lite.errors import ModelError, TraceError
from splinecam_lite.network import interpolation, rules
from splinecam_lite.network.axes import batch_axis
from splinecam_lite.network.chain import BATCH_FIRST, BatchAxis, Chain, Constant, Input, Step, operation
from splinecam_lite.network.folding import fold
from splinecam_lite.network.location import where
from splinecam_lite.network.nodes import (
    Bound,
    Inlined,
    Known,
    Meanings,
    Value,
    ancestors,
    bind,
    mixes_samples,
    sizes,
    symbolic_axes,
)
from splinecam_lite.network.ops import AffineOp, KnotsOp, MaxOp, Op, OtherOp, SmoothOp, Where
from splinecam_lite.network.parts import ChainWriter, affine_parts, knot_parts
from splinecam_lite.network.pooling import computed_by, max_parts
from splinecam_lite.network.program import Program
from splinecam_lite.network.starting import input_node, needed_after

NOT_READ = -1
"""Number of values that come before the program's input, and give no more than a shape."""

PROBE_BATCH = 2
"""Batch size at which constants with an entry per sample are evaluated, to see that they are all the same."""


def lower(
    graph: fx.Graph,
    tensors: Mapping[str, Tensor],
    output: fx.Node,
    *,
    normalise: tuple[Tensor, Tensor] | None = None,
    start: fx.Node | None = None,
) -> Program:
    """Write the part of a graph that ``output`` needs as a program.

    Parameters
    ----------
    graph : fx.Graph
        Exported with a symbolic batch size, functional, one tensor input.
    tensors : mapping from placeholder name to Tensor
        All parameters, buffers and lifted constants, in float64.
    output : fx.Node
        The node that becomes the program's output.
    normalise : (mean, std), optional
        The program computes ``network((x - mean) / std)``; both broadcastable to a sample.
    start : fx.Node, optional
        The node whose value is the program's input, one that `starting.require_start` lets pass. Default: the
        graph's own input.

    Raises
    ------
    TraceError
        If a node mixes samples of the batch, draws random numbers, or branches on data.
    """
    lowering = _Lowering(tensors)
    given = input_node(graph, tensors)
    needed = ancestors(output) if start is None else needed_after(start, output)
    lowering.meanings.symbol = given.meta["val"].shape[0].node.expr
    for node in graph.nodes:
        if node is (start or given):
            lowering.input(node, normalise)
        elif node in needed and node is not given and node.op != "output":
            for source in node.all_input_nodes:  # one that is not needed is read by its shape alone
                lowering.meanings.of.setdefault(source, Value(NOT_READ, BATCH_FIRST))
            lowering.meanings.of[node] = lowering.read(node)
    return lowering.program(output)


class _Lowering:
    """The state of one pass over a graph: what nodes mean, and the ops so far."""

    def __init__(self, tensors: Mapping[str, Tensor]):
        self.tensors = tensors
        self.meanings = Meanings()
        self.ops: list[Op] = []
        self.shapes: list[tuple[int, ...]] = []

    def program(self, output: fx.Node) -> Program:
        value = self.meanings.of[output]
        if not isinstance(value, Value):
            raise ModelError(f"the output '{output.name}' does not depend on the input")
        if value.axis.merged:
            raise mixes_samples(output)
        if value.axis != BATCH_FIRST:
            raise TraceError(
                f"{where(output)} is the output, but its first axis is not the batch; move it there"
            )
        return Program(tuple(self.ops), tuple(self.shapes), value.number)

    def input(self, node: fx.Node, normalise: tuple[Tensor, Tensor] | None) -> None:
        shape = node.meta["val"].shape[1:]
        self.shapes.append(tuple(map(int, shape)))
        self.meanings.of[node] = Value(0, BATCH_FIRST)
        if normalise is not None:
            scale, shift = fold(torch.ones(()), torch.zeros(()), *normalise)
            place = Where("normalise", "", "", "normalise")
            self.meanings.of[node] = self.scale_and_shift(0, scale, shift, place)

    def read(self, node: fx.Node) -> Value | Known | Inlined:
        """Say what a node means, after all those before it."""
        if node.op == "placeholder":
            return Known(self.tensors[node.name])
        if node.op != "call_function" or isinstance(node.target, torch._ops.HigherOrderOperator):
            raise TraceError(f"{where(node)} branches or loops; write the network as one fixed sequence")
        result = node.meta.get("val")
        if isinstance(result, int | float | bool | torch.SymInt | torch.SymFloat | torch.SymBool):
            return Known(self.meanings.size(result, node))
        bound = bind(node)
        refuse_random(bound)
        source = node.args[0] if node.args else None
        read = [n for n in node.all_input_nodes if n is not source or bound.operator not in rules.ONLY_SHAPE]
        if not any(map(self.meanings.is_value, read)):
            return self.evaluate(bound)
        if bound.operator in rules.BATCH_STATISTICS:
            raise TraceError(
                f"{where(node)} normalises by statistics of the batch, and so mixes its samples; keep "
                "running statistics (track_running_stats=True), and use them in eval mode"
            )
        if bound.operator == "_native_batch_norm_legit_no_training" or uses_running_statistics(bound):
            return self.batch_norm(bound)
        if bound.operator in interpolation.AXES:
            return self.resize(bound)
        if isinstance(source, fx.Node) and isinstance(self.meanings.of[source], Value):
            if bound.operator == "getitem" or self.returns_its_input(bound, source):
                return self.meanings.of[source]
        if bound.operator == "copy" and sizes(read[0]) == sizes(node):  # an assignment to a part of a tensor
            return self.meanings.of[read[0]]
        return Inlined() if isinstance(result, tuple | list) else self.emit(bound)

    def returns_its_input(self, bound: Bound, source: fx.Node) -> bool:
        if bound.operator in rules.IDENTITIES:
            return source.meta["val"].is_floating_point() and bound.node.meta["val"].is_floating_point()
        return bound.operator in rules.RESHAPES and sizes(source) == sizes(bound.node)

    def evaluate(self, bound: Bound) -> Known:
        """Evaluate a node that depends on the input at most by its shape, in float64."""

        def fill(argument: Any) -> Any:
            match argument:
                case fx.Node():
                    meaning = self.meanings.of[argument]
                    return meaning.for_batch(PROBE_BATCH) if isinstance(meaning, Known) else zeros(argument)
                case torch.SymInt():
                    return int(argument.node.expr.subs(self.meanings.symbol, PROBE_BATCH))
                case torch.dtype():
                    return torch.float64 if argument.is_floating_point else argument
                case list() | tuple():
                    return [fill(a) for a in argument]
            return argument

        def zeros(node: fx.Node) -> Tensor:
            dtype = node.meta["val"].dtype
            return torch.zeros(list(map(fill, node.meta["val"].shape)), dtype=fill(dtype))

        args, kwargs = bound.call({name: fill(a) for name, a in bound.portable.items()})
        result = operation(bound.target)(*args, **kwargs)
        if not isinstance(result, Tensor):
            return Known(result)
        result = result.double() if result.is_floating_point() else result
        if bound.operator in rules.UNINITIALISED:
            result.zero_()
        if not symbolic_axes(bound.node):
            return Known(result)
        axis = batch_axis(bound, self.meanings)
        first, second = axis.to_value(result)
        if not torch.equal(first, second):
            raise TraceError(
                f"{where(bound.node)} gives each sample of a batch another constant; treat all alike"
            )
        return Known(axis.to_graph(first[None]), axis)

    def batch_norm(self, bound: Bound) -> Value:
        """Batch norm in eval mode: one scale and one shift for each channel."""
        a = bound.arguments
        source = self.meanings.of[a["input"]]
        if not isinstance(source, Value) or source.axis != BATCH_FIRST:
            raise TraceError(f"{where(bound.node)} needs the batch as first axis of its input")

        def tensor(name: str, default: float) -> Tensor:
            return torch.tensor(default) if a[name] is None else self.meanings.known(a[name]).tensor

        variance = tensor("running_var", 1.0)
        if not bool((variance + a["eps"] > 0).all()):
            raise ModelError(
                f"{where(bound.node)} has a running variance of {float(variance.min())}; it must be positive"
            )
        scale, shift = fold(
            tensor("weight", 1.0), tensor("bias", 0.0), tensor("running_mean", 0.0), variance, a["eps"]
        )
        channels = (-1, *[1] * (len(self.shapes[source.number]) - 1))
        return self.scale_and_shift(
            source.number, scale.reshape(channels), shift.reshape(channels), where(bound.node)
        )

    def resize(self, bound: Bound) -> Value:
        """Interpolation: one product with a constant matrix for each axis that changes."""
        batch = batch_axis(bound, self.meanings)
        (source,) = self.meanings.values(bound.node)
        value, shape = self.meanings.of[source], list(source.meta["val"].shape)
        assert isinstance(value, Value)
        for axis, matrix in interpolation.matrices(bound).items():
            shape[axis] = len(matrix)
            op = AffineOp(
                inputs=(value.number,),
                output=len(self.ops) + 1,
                where=self.place(bound),
                **interpolation.product(matrix, axis, len(shape), batch),
            )
            value = self.append(op, batch.sample_shape(tuple(shape)), batch)
        return value

    def scale_and_shift(self, source: int, scale: Tensor, shift: Tensor, place: Where) -> Value:
        def chain(target: str, **constants: Tensor) -> Chain:
            return Chain((Step(target, (Input(0), *map(Constant, constants))),), constants)

        op = AffineOp(
            inputs=(source,),
            output=len(self.ops) + 1,
            where=place,
            linear=chain("scale", factor=scale),
            bias=shift if bool(shift.any()) else None,
            magnitude=chain("scale", factor=scale.abs()),
            fn=chain("scale_and_shift", factor=scale, shift=shift),
        )
        return self.append(op, self.shapes[source], BATCH_FIRST)

    def emit(self, bound: Bound) -> Value:
        """Write a node as an op of the first kind that fits."""
        axis = batch_axis(bound, self.meanings)
        values = self.meanings.values(bound.node)
        numbers = tuple(v.number for v in map(self.meanings.of.__getitem__, values) if isinstance(v, Value))
        fn = ChainWriter(self.meanings, bound, axis).chain
        assert fn is not None
        common: dict[str, Any] = {
            "inputs": numbers,
            "output": len(self.ops) + 1,
            "where": self.place(bound),
            "fn": fn,
        }
        op: Op
        if len(values) == 1 and (knots := knot_parts(bound, self.meanings, axis)) is not None:
            if sizes(values[0]) != sizes(bound.node):
                common |= self.broadcast_up(bound.node, values[0], axis, fn)
            op = KnotsOp(**common, **knots)
        elif (maximum := max_parts(bound, self.meanings)) is not None:
            op = MaxOp(**common, **maximum)
        elif parts := affine_parts(bound, self.meanings, axis, fn, [self.shapes[v] for v in numbers]):
            op = AffineOp(**common, linear=parts[0], bias=parts[1], magnitude=parts[2])
        elif len(values) == 1 and bound.operator in rules.SMOOTH_ACTIVATIONS | rules.SMOOTH_FUNCTIONS:
            op = SmoothOp(**common, is_activation=bound.operator in rules.SMOOTH_ACTIVATIONS)
        else:
            op = OtherOp(**common)
        return self.append(op, axis.sample_shape(tuple(bound.node.meta["val"].shape)), axis)

    def broadcast_up(self, node: fx.Node, source: fx.Node, axis: BatchAxis, fn: Chain) -> dict[str, Any]:
        """Repeat the entries of what an activation reads, because its constants have more; what changes."""
        shape = tuple(self.meanings.size(n, node) for n in node.meta["val"].shape)
        step = Step("aten.expand.default", (Input(0), shape))
        chain = Chain((step,), input_axes=(self.meanings.axis_of(source),), output_axis=axis)
        value = self.meanings.of[source]
        assert isinstance(value, Value)
        op = AffineOp((value.number,), len(self.ops) + 1, where(node), chain, None, magnitude=chain, fn=chain)
        number = self.append(op, axis.sample_shape(tuple(node.meta["val"].shape)), axis).number
        return {"inputs": (number,), "output": number + 1, "fn": replace(fn, input_axes=(axis,))}

    def place(self, bound: Bound) -> Where:
        """Place of a node; of one of several results, with the operator that computes them."""
        call, _ = computed_by(bound, self.meanings)
        return replace(where(bound.node), target=where(call.node).target)

    def append(self, op: Op, shape: tuple[int, ...], axis: BatchAxis) -> Value:
        self.ops.append(op)
        self.shapes.append(shape)
        return Value(op.output, axis)


def uses_running_statistics(bound: Bound) -> bool:
    """Whether a node is an InstanceNorm in eval mode, with running statistics: batch norm, then."""
    return bound.operator == "instance_norm" and bound.arguments.get("use_input_stats") is False


def refuse_random(bound: Bound) -> None:
    """Refuse operators that draw random numbers, unless they are switched off."""
    target = bound.node.target
    if not isinstance(target, torch._ops.OpOverload) or torch.Tag.nondeterministic_seeded not in target.tags:
        return
    defaults = {a.name: a.default_value for a in target._schema.arguments}
    switches = [
        bound.arguments.get(s, defaults[s]) for s in ("train", "training", "dropout_p") if s in defaults
    ]
    if not switches or any(s is None or s for s in switches):
        raise TraceError(
            f"{where(bound.node)} draws random numbers; switch it off in eval mode, "
            "e.g. with training=self.training"
        )
