"""The parts of an op: a node as a chain, in full, only its linear part or its magnitude; and its knots."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, fx

from splinecam_lite.network import rules
from splinecam_lite.network.chain import BatchAxis, Chain, Constant, Earlier, Input, RunDtype, Step
from splinecam_lite.network.nodes import Bound, Known, Meanings, bind, flat, mixes_samples, sizes

Part = Literal["full", "linear", "magnitude"]

# A view may meet a tensor whose memory is not in order, because copies were left out.
RUNS_AS = {"aten.view.default": "aten.reshape.default", "aten._unsafe_view.default": "aten.reshape.default"}


def affine_parts(
    bound: Bound, meanings: Meanings, axis: BatchAxis, fn: Chain, shapes: Sequence[tuple[int, ...]]
) -> tuple[Chain, Tensor | None, Chain] | None:
    """Linear part, bias and magnitude of a node; None if it is not affine.

    Parameters
    ----------
    axis : BatchAxis
        Of the result.
    fn : Chain
        The node in full.
    shapes : sequence of tuple of int
        Of the values it reads, without the batch.
    """
    if not bound.node.meta["val"].is_floating_point():
        return None
    linear = ChainWriter(meanings, bound, axis, "linear")
    magnitude = ChainWriter(meanings, bound, axis, "magnitude")
    if linear.chain is None or magnitude.chain is None:
        return None
    if not linear.stripped:
        return linear.chain, None, magnitude.chain
    bias = fn(*(torch.zeros(1, *shape, dtype=torch.float64) for shape in shapes))[0]
    return linear.chain, bias if bool(bias.any()) else None, magnitude.chain


def knot_parts(bound: Bound, meanings: Meanings, axis: BatchAxis) -> dict[str, Any] | None:
    """Knots of a node, for ``KnotsOp``, if it is a piecewise-linear activation of its first argument.

    They have the shape of the result, which may be larger than the argument.
    """
    rule = rules.KNOTS.get(bound.operator)
    if rule is None:
        return None
    z, *rest = bound.arguments.values()
    if bound.operator in rules.COMMUTATIVE and meanings.is_known(z):
        z, rest = rest[0], [z]
    if any(map(meanings.is_value, rest)):
        return None
    known = [meanings.known(a).tensor if isinstance(a, fx.Node) else a for a in rest]
    rank = bound.node.meta["val"].ndim
    result = rule(z.meta["val"], **dict(zip([*bound.arguments][1:], known, strict=True)))
    if result is None:
        return None

    def entry(number: float | Tensor) -> Tensor:
        """Broadcastable to a sample, from what is broadcastable to the batch."""
        tensor = torch.as_tensor(number, dtype=torch.float64)
        if tensor.ndim == 0:
            return tensor
        tensor = tensor.reshape(*[1] * (rank - tensor.ndim), *tensor.shape)
        if tensor.shape[axis.axis] != 1:
            raise mixes_samples(bound.node)
        return tensor if axis.merged else tensor.squeeze(axis.axis)

    left_slope, left_intercept, breakpoints, jumps = result
    slope, intercept = entry(left_slope), entry(left_intercept)
    places, bends = tuple(map(entry, breakpoints)), tuple(map(entry, jumps))
    if not all(bool(t.isfinite().all()) for t in (slope, intercept, *places, *bends)):
        return None
    return {"left_slope": slope, "left_intercept": intercept, "breakpoints": places, "jumps": bends}


class ChainWriter:
    """Writes one part of a node, and of the nodes inlined in it.

    Attributes
    ----------
    chain : Chain or None
        None if the node is not affine, and not all of it was asked for.
    stripped : bool
        Whether a constant was left out of the linear part.
    """

    def __init__(self, meanings: Meanings, bound: Bound, output_axis: BatchAxis, part: Part = "full"):
        self.meanings = meanings
        self.part = part
        self.stripped = False
        values = meanings.values(bound.node)
        self.names: dict[fx.Node, Input | Earlier] = {node: Input(i) for i, node in enumerate(values)}
        self.constants: dict[str, Tensor] = {}
        self.per_sample: dict[str, BatchAxis] = {}
        self.keys = (f"c{i}" for i in itertools.count())
        steps: list[Step] = []
        for node in (*meanings.inlined(bound.node), bound.node):
            step = self.step(bind(node))
            if step is None:
                self.chain = None
                return
            self.names[node] = Earlier(len(steps))
            steps.append(step)
        axes = tuple(map(meanings.axis_of, values))
        self.chain = Chain(tuple(steps), self.constants, self.per_sample, axes, output_axis)

    def step(self, bound: Bound) -> Step | None:
        target, arguments = bound.target, bound.portable
        if self.part != "full":
            rule = rules.AFFINE.get(bound.operator)
            if rule is None or not self.is_affine(rule, arguments):
                return None
            target, arguments = self.affine_part(rule, bound, arguments)
        args, kwargs = bound.call({name: self.template(a, bound.node) for name, a in arguments.items()})
        return Step(RUNS_AS.get(target, target), tuple(args), tuple(kwargs.items()))

    def is_affine(self, rule: rules.AffineRule, arguments: Mapping[str, Any]) -> bool:
        """Whether values stand only where the operator is affine, and constants are finite."""
        meanings = self.meanings
        product = [a for name in rule.factors for a in flat(arguments.get(name))]
        values = [a for a in product if meanings.is_value(a)]
        fixed = [name for name in arguments if name not in rule.additive + rule.factors]
        if len(values) > 1 or (rule.factors and not values):
            return False
        if any(meanings.is_value(a) for name in fixed for a in flat(arguments[name])):
            return False
        if arguments.get("rounding_mode") is not None:
            return False
        constants = (
            meanings.known(a).tensor if meanings.is_known(a) else a for a in flat(list(arguments.values()))
        )
        return all(
            bool(torch.as_tensor(c).isfinite().all()) for c in constants if isinstance(c, Tensor | float)
        )

    def affine_part(
        self, rule: rules.AffineRule, bound: Bound, arguments: Mapping[str, Any]
    ) -> tuple[str, dict[str, Any]]:
        """Operator and arguments of the part: no added constants; for magnitudes, absolute weights."""
        changed = dict(arguments)
        for name in rule.additive:
            changed[name] = self.zeroed(name, changed.get(name))
        if self.adds_nothing(bound, changed):
            return "identity", {"self": changed["self"]}
        if self.part == "linear":
            return bound.target, changed
        for name in rule.factors + rule.weights:
            if name in changed:
                changed[name] = self.absolute(changed[name])
        return rule.magnitude or bound.target, changed

    def adds_nothing(self, bound: Bound, arguments: Mapping[str, Any]) -> bool:
        """Whether what is left of adding a constant is the value itself: nothing is broadcast."""
        if bound.operator not in ("add", "sub") or not self.meanings.is_value(arguments["self"]):
            return False
        added = arguments["other"]
        return not self.meanings.is_value(added) and sizes(arguments["self"]) == sizes(bound.node)

    def zeroed(self, name: str, argument: Any) -> Any:
        if isinstance(argument, list | tuple):
            return [self.zeroed(name, a) for a in argument]
        if self.meanings.is_value(argument) or argument is None:
            return argument
        self.stripped = True
        if name == "bias":
            return None
        if isinstance(argument, fx.Node):
            known = self.meanings.known(argument)
            return replace(known, tensor=torch.zeros_like(known.tensor))
        return type(argument)(0)

    def absolute(self, argument: Any) -> Any:
        if isinstance(argument, list | tuple):
            return [self.absolute(a) for a in argument]
        if self.meanings.is_known(argument):
            known = self.meanings.known(argument)
            has_sign = isinstance(known.tensor, Tensor) and known.tensor.dtype != torch.bool
            return replace(known, tensor=known.tensor.abs()) if has_sign else known
        return abs(argument) if isinstance(argument, int | float) else argument

    def template(self, argument: Any, node: fx.Node) -> Any:
        match argument:
            case fx.Node() if argument in self.names:
                return self.names[argument]
            case fx.Node():
                return self.template(self.meanings.of[argument], node)
            case Known(tensor, axis):
                return self.constant(tensor, axis) if isinstance(tensor, Tensor) else tensor
            case torch.SymInt():
                return self.meanings.size(argument, node)
            case torch.dtype() if argument.is_floating_point:
                return RunDtype()
            case list() | tuple():
                return tuple(self.template(a, node) for a in argument)
        return argument

    def constant(self, tensor: Tensor, axis: BatchAxis | None) -> Constant:
        key = next(self.keys)
        self.constants[key] = tensor
        if axis is not None:
            self.per_sample[key] = axis
        return Constant(key)
