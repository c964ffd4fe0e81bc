"""Chains of aten operations as plain data: they run, pickle, hash, and change dtype or device.

A node of an exported graph becomes a ``Chain``: mostly one step, two where an operation returns several
tensors and one is picked. The arguments of a step are a template in which placeholders stand for what is
known only when the chain runs:

    Input(i)       the i-th tensor the chain is called with
    Earlier(i)     the result of step i of the same chain
    Constant(key)  a tensor of ``chain.constants``
    Batch(k)       the integer k times the batch size
    RunDtype()     the floating dtype the chain runs in

Operations are kept by name (``"aten.relu.default"``), because torch's operator objects cannot be pickled.
"""

import functools
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Input:
    """Stands for an input of the chain."""

    index: int


@dataclass(frozen=True)
class Earlier:
    """Stands for the result of an earlier step."""

    index: int


@dataclass(frozen=True)
class Constant:
    """Stands for a constant of the chain, by name."""

    key: str


@dataclass(frozen=True)
class Batch:
    """Stands for a multiple of the number of samples."""

    multiple: int


@dataclass(frozen=True)
class RunDtype:
    """Stands for the dtype in which the chain runs."""


@dataclass(frozen=True)
class Step:
    """One operation: its name, and its arguments as templates."""

    target: str
    args: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class BatchAxis:
    """Where the samples of a batch lie in a tensor of the traced graph.

    Axis ``axis`` has ``before * batch * after`` entries, in that order: a sample is one index of the middle
    factor. Usually both factors are 1. ``x.view(batch * time, features)`` gives ``BatchAxis(0, 1, time)``.

    Values of a program lie *batch first*, the other axes in their order; ``to_graph`` and ``to_value``
    convert.
    """

    axis: int = 0
    before: int = 1
    after: int = 1

    @property
    def merged(self) -> bool:
        return self.before * self.after > 1

    def to_graph(self, x: Tensor) -> Tensor:
        """Rearrange a batch-first tensor into the layout that the traced graph works in."""
        if not self.merged:
            return x if self.axis == 0 else x.movedim(0, self.axis)
        x = x.unflatten(self.axis + 1, (self.before, self.after)).movedim(0, self.axis + 1)
        return x.flatten(self.axis, self.axis + 2)

    def to_value(self, x: Tensor) -> Tensor:
        """Rearrange a tensor of the traced graph into batch-first layout; the inverse of ``to_graph``."""
        if not self.merged:
            return x if self.axis == 0 else x.movedim(self.axis, 0)
        x = x.unflatten(self.axis, (self.before, -1, self.after)).movedim(self.axis + 1, 0)
        return x.flatten(self.axis + 1, self.axis + 2)

    def sample_shape(self, graph_shape: tuple[Any, ...]) -> tuple[int, ...]:
        """Shape of one sample, from the shape in the graph, whose entry at ``axis`` is not read."""
        middle = (self.before * self.after,) if self.merged else ()
        return (*map(int, graph_shape[: self.axis]), *middle, *map(int, graph_shape[self.axis + 1 :]))


BATCH_FIRST = BatchAxis()


@dataclass(frozen=True, eq=False)
class Chain:
    """A callable on batch-first tensors, made of aten steps.

    Attributes
    ----------
    steps : tuple of Step
        Run in order; the result of the last one is returned.
    constants : mapping from str to Tensor
        Tensors named in the templates, in the layout of the graph.
    per_sample : mapping from str to int
        Those constants that hold one entry for every sample, the same for all, with the axis (of size 1 in
        ``constants``) that is expanded to the batch when the chain runs.
    input_axes, output_axis : BatchAxis
        Layouts of the inputs and of the result in the graph.
    dtype : torch.dtype
        Floating dtype of the result.
    """

    steps: tuple[Step, ...]
    constants: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    per_sample: Mapping[str, BatchAxis] = field(default_factory=dict)
    input_axes: tuple[BatchAxis, ...] = (BATCH_FIRST,)
    output_axis: BatchAxis = BATCH_FIRST
    dtype: torch.dtype = torch.float64

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Run on tensors of shape (batch, *sample_shape) and return one of shape (batch, *output_shape)."""
        batch = inputs[0].shape[0]
        scope = _Scope(
            tuple(axis.to_graph(x) for axis, x in zip(self.input_axes, inputs, strict=True)), self, batch
        )
        for step in self.steps:
            scope.results.append(
                operation(step.target)(
                    *map(scope.fill, step.args), **{k: scope.fill(v) for k, v in step.kwargs}
                )
            )
        result = self.output_axis.to_value(scope.results[-1])
        if result.is_floating_point() and result.dtype != self.dtype:
            result = result.to(self.dtype)
        return result

    def to(self, dtype: torch.dtype, device: torch.device | str) -> "Chain":
        """Return the same chain with its floating constants in another dtype, all on ``device``."""
        constants = {
            key: c.to(device=device, dtype=dtype if c.is_floating_point() else c.dtype)
            for key, c in self.constants.items()
        }
        return replace(self, constants=constants, dtype=dtype)

    def signature(self) -> str:
        """Text that is equal for chains that do the same, the values of constants aside."""
        return repr((self.steps, sorted(self.per_sample.items()), self.input_axes, self.output_axis))


class _Scope:
    """What the placeholders of one run stand for."""

    def __init__(self, inputs: tuple[Tensor, ...], chain: Chain, batch: int):
        self.inputs, self.chain, self.batch = inputs, chain, batch
        self.results: list[Any] = []

    def fill(self, template: Any) -> Any:
        match template:
            case Input(index):
                return self.inputs[index]
            case Earlier(index):
                return self.results[index]
            case Constant(key):
                return self._constant(key)
            case Batch(multiple):
                return multiple * self.batch
            case RunDtype():
                return self.chain.dtype
            case tuple():
                return [self.fill(item) for item in template]
        return template

    def _constant(self, key: str) -> Tensor:
        constant, axis = self.chain.constants[key], self.chain.per_sample.get(key)
        if axis is None:
            return constant
        return axis.to_graph(
            axis.to_value(constant).expand(self.batch, *[-1] * (constant.ndim - 1 + axis.merged))
        )


@functools.cache
def operation(target: str) -> Any:
    """Return the operation of a name: ``"aten.relu.default"``, or one of ``LOCAL``."""
    if target in LOCAL:
        return LOCAL[target]
    return functools.reduce(getattr, target.split("."), torch.ops)


def _scale(x: Tensor, factor: Tensor) -> Tensor:
    return x * factor


def _scale_and_shift(x: Tensor, factor: Tensor, shift: Tensor) -> Tensor:
    return torch.addcmul(shift, x, factor)


def _absolute_rsub(x: Tensor, other: Tensor | float, alpha: float = 1) -> Tensor:
    return alpha * x + other


def _identity(x: Tensor) -> Tensor:
    return x


LOCAL: dict[str, Callable[..., Any]] = {
    "getitem": operator.getitem,
    "identity": _identity,
    "scale": _scale,
    "scale_and_shift": _scale_and_shift,
    "absolute_rsub": _absolute_rsub,
}
"""Steps that are not torch operators."""
