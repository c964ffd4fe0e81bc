"""What the nodes of an exported graph stand for while it is lowered."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx

from splinecam_lite.errors import TraceError
from splinecam_lite.network.chain import Batch, BatchAxis
from splinecam_lite.network.location import where


@dataclass(frozen=True)
class Value:
    """A node that is value ``number`` of the program."""

    number: int
    axis: BatchAxis


@dataclass(frozen=True, eq=False)
class Known:
    """A node that does not depend on the input.

    With ``axis``, it has one entry for every sample, all the same, and size 1 along that axis.
    """

    tensor: Any
    axis: BatchAxis | None = None

    def for_batch(self, batch: int) -> Any:
        """The constant as the graph sees it in a batch of this size."""
        if isinstance(self.tensor, Batch):
            return self.tensor.multiple * batch
        if self.axis is None:
            return self.tensor
        sample = self.axis.to_value(self.tensor)
        return self.axis.to_graph(sample.expand(batch, *sample.shape[1:]))


@dataclass(frozen=True)
class Inlined:
    """A node of several tensors, computed by each of its consumers."""


@dataclass
class Meanings:
    """The nodes read so far; ``symbol`` is the batch size in their shapes."""

    symbol: Any = None
    of: dict[fx.Node, Value | Known | Inlined] = field(default_factory=dict)

    def is_value(self, argument: Any) -> bool:
        """Whether an argument is a node that depends on the input."""
        return isinstance(argument, fx.Node) and not isinstance(self.of[argument], Known)

    def is_known(self, argument: Any) -> bool:
        """Whether an argument is a node that does not depend on the input."""
        return isinstance(argument, fx.Node) and isinstance(self.of[argument], Known)

    def values(self, node: fx.Node) -> list[fx.Node]:
        """Nodes that are values of the program and that this one reads, through inlined nodes as well."""
        found: dict[fx.Node, None] = {}
        for n in node.all_input_nodes:
            if isinstance(self.of[n], Value):
                found[n] = None
            elif isinstance(self.of[n], Inlined):
                found.update(dict.fromkeys(self.values(n)))
        return list(found)

    def inlined(self, node: fx.Node) -> list[fx.Node]:
        """Inlined nodes that a node needs, in the order in which they run."""
        found: dict[fx.Node, None] = {}
        for n in node.all_input_nodes:
            if isinstance(self.of[n], Inlined):
                found.update(dict.fromkeys(self.inlined(n)))
                found[n] = None
        return list(found)

    def known(self, node: fx.Node) -> Known:
        """What a node that does not depend on the input stands for."""
        meaning = self.of[node]
        assert isinstance(meaning, Known)
        return meaning

    def axis_of(self, node: fx.Node) -> BatchAxis:
        """Where the samples lie in a node that is a value."""
        meaning = self.of[node]
        assert isinstance(meaning, Value)
        return meaning.axis

    def size(self, number: Any, node: fx.Node) -> Any:
        """A number of the graph: itself, or a multiple of the batch size.

        Raises
        ------
        TraceError
            If it is anything else, such as the batch size plus one or an entry of a tensor.
        """
        if not isinstance(number, torch.SymInt | torch.SymFloat | torch.SymBool):
            return number
        expression = number.node.expr
        if isinstance(number, torch.SymInt) and (multiple := expression / self.symbol).is_Integer:
            return Batch(int(multiple))
        if self.symbol in expression.free_symbols:
            raise TraceError(f"{where(node)} computes with the batch size; treat each sample by itself")
        raise TraceError(
            f"{where(node)} reads a number out of the data; write the network as one fixed sequence"
        )


@dataclass(frozen=True)
class Bound:
    """A node's operator, with its arguments by the names of its schema."""

    node: fx.Node
    target: str
    arguments: dict[str, Any]
    keyword_only: frozenset[str]

    @property
    def operator(self) -> str:
        """``"conv2d"`` for ``"aten.conv2d.default"``."""
        return self.target.split(".")[1] if "." in self.target else self.target

    @property
    def portable(self) -> dict[str, Any]:
        """The arguments without those that tie the result to a device or a memory layout."""
        tied = ("device", "pin_memory", "layout", "memory_format")
        return {name: a for name, a in self.arguments.items() if name not in tied}

    def call(self, arguments: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Arguments as the operator takes them: by position while they follow the schema, then by keyword."""
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        for name, expected in zip(arguments, self.arguments, strict=False):
            if name == expected and name not in self.keyword_only and not kwargs:
                args.append(arguments[name])
            else:
                kwargs[name] = arguments[name]
        return args, kwargs


def bind(node: fx.Node) -> Bound:
    """Name the arguments of a node by the schema of its operator."""
    if not isinstance(node.target, torch._ops.OpOverload):
        name = getattr(node.target, "__name__", str(node.target))
        return Bound(node, name, dict(zip(("self", "other"), node.args, strict=False)), frozenset())
    schema = node.target._schema.arguments
    arguments = dict(zip((a.name for a in schema), node.args, strict=False)) | dict(node.kwargs)
    return Bound(node, str(node.target), arguments, frozenset(a.name for a in schema if a.kwarg_only))


def sizes(node: fx.Node) -> tuple[Any, ...]:
    """Shape of a node as integers and symbolic expressions.

    Comparing torch's own symbolic sizes would compare the sizes of the example, and note that as an
    assumption.
    """
    return tuple(n.node.expr if isinstance(n, torch.SymInt) else n for n in node.meta["val"].shape)


def symbolic_axes(node: fx.Node) -> list[int]:
    """Axes of a node whose size depends on the batch."""
    return [i for i, n in enumerate(node.meta["val"].shape) if isinstance(n, torch.SymInt)]


def flat(argument: Any) -> Iterator[Any]:
    """Yield the leaves of nested lists."""
    if isinstance(argument, list | tuple):
        for item in argument:
            yield from flat(item)
    else:
        yield argument


def ancestors(output: fx.Node) -> set[fx.Node]:
    """All nodes that a node needs, itself included."""
    found, stack = {output}, [output]
    while stack:
        for node in stack.pop().all_input_nodes:
            if node not in found:
                found.add(node)
                stack.append(node)
    return found


def mixes_samples(node: fx.Node) -> TraceError:
    """Return the error that says that a node lets one sample see another."""
    return TraceError(
        f"{where(node)} mixes the samples of a batch; treat each sample by itself, and keep the first axis "
        "for the samples, whatever their number"
    )
