"""One node of an archive as a module: the function it calls, out of a short list, and its arguments."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from splinecam_lite.network import rules
from splinecam_lite.network.location import whole_module, written_at
from splinecam_lite.network.nodewise import FileNode
from splinecam_lite.network.ops import Where

PLAIN = frozenset(
    "as_int as_ints as_float as_floats as_bool as_bools as_string as_int_lists as_float_lists".split()
)
IGNORED = frozenset("as_memory_format as_layout as_device".split())
"""Arguments that tie a result to a device or a memory layout."""

ON_SIZES = {
    name: getattr(operator, name)
    for name in "getitem add sub mul floordiv mod neg truediv pow eq ne lt le gt ge".split()
}
"""Functions on sizes, and the choice of one of several results."""

PRIVATE = frozenset(name for name in rules.AFFINE.keys() | rules.IDENTITIES if name.startswith("_")) | {
    "_softmax",
    "_log_softmax",
    "_native_batch_norm_legit_no_training",
}
"""Operators that are read although their names say that they are torch's own."""

UNSAFE = frozenset("from_file save set_ set resize_ resize_as_ as_strided_".split())
"""Operators that touch files, or memory beside that of their tensors."""


@dataclass(frozen=True)
class Name:
    """Stands for a value of the graph in the arguments of a node."""

    name: str


SAMPLES = Name("the number of samples")
"""Stands for the first size of a node's first argument."""

BY_NAME = 2
"""How the format says that an argument is given by name."""


class ArchiveNode(FileNode):
    """One node of an archive."""

    def __init__(
        self,
        place: Where,
        function: Any,
        positional: list[Any],
        named: dict[str, Any],
        writes: Sequence[str],
        weights: dict[str, Tensor],
    ):
        used = list(dict.fromkeys(_names((positional, list(named.values())))))
        super().__init__(place, [name for name in used if name not in weights], writes)
        self.function, self.positional, self.named = function, positional, named
        self.weights = {name: f"weight_{i}" for i, name in enumerate(used) if name in weights}
        for name, buffer in self.weights.items():
            self.register_buffer(buffer, weights[name])

    def forward(self, *read: Any) -> Any:
        values = dict(zip(self.reads, read, strict=True))
        values |= {name: getattr(self, buffer) for name, buffer in self.weights.items()}

        def fill(argument: Any) -> Any:
            if argument == SAMPLES:
                return fill(self.positional[0]).shape[0]
            if isinstance(argument, Name):
                return values[argument.name]
            return [fill(one) for one in argument] if isinstance(argument, list) else argument

        named = {name: fill(argument) for name, argument in self.named.items()}
        return self.function(*map(fill, self.positional), **named)


def function_named(target: str) -> Any:
    """The function that a node calls; None if it is none of those that are read.

    Examples
    --------
    >>> function_named("torch.ops.aten.relu.default"), function_named("torch.os.system")
    (<OpOverload(op='aten.relu', overload='default')>, None)
    """
    if target.startswith("_operator."):
        return ON_SIZES.get(target.removeprefix("_operator."))
    parts = target.split(".")
    if parts[:3] != ["torch", "ops", "aten"] or len(parts) != 5:
        return None
    name, overload = parts[3:]
    if name in UNSAFE or (name.startswith("_") and name not in PRIVATE):
        return None
    found = getattr(getattr(torch.ops.aten, name, None), overload, None)
    return found if isinstance(found, torch._ops.OpOverload) else None


def operator_name(target: str) -> str:
    """``"relu"`` for ``"torch.ops.aten.relu.default"``; empty for other functions."""
    return target.split(".")[3] if target.startswith("torch.ops.aten.") else ""


def symbol(value: dict[str, Any]) -> Any:
    """A size: a number, or the name of one that a node computes."""
    return Name(value["as_name"]) if "as_name" in value else next(iter(value.values()))


def written(node: dict[str, Any]) -> tuple[str, ...]:
    """Names of the values that a node writes."""
    names: list[str] = []
    for given in node["outputs"]:
        ((_, value),) = given.items()
        for one in value if isinstance(value, list) else [value]:
            entry = one if isinstance(one, dict) else {}
            entry = entry.get("as_tensor", entry)
            names.append(entry.get("name") or entry.get("as_name") or f"{node['target']}, {len(names)}")
    return tuple(names)


def _names(arguments: Any) -> list[str]:
    """Names of values anywhere in arguments."""
    if isinstance(arguments, Name):
        return [] if arguments == SAMPLES else [arguments.name]
    if isinstance(arguments, list | tuple):
        return [name for argument in arguments for name in _names(argument)]
    return []


def place_of(node: dict[str, Any]) -> Where:
    """Where a node came from: module, line and operator, as they were exported."""
    metadata = node.get("metadata") or {}
    # "key,path,class;..." from the outermost module to the innermost.
    *_, last = (metadata.get("nn_module_stack") or "").split(";")
    _, path, kind = (*last.split(",", 2), "", "")[:3]
    source = written_at(metadata.get("stack_trace") or "")
    return Where(
        node.get("name") or written(node)[0],
        path,
        source,
        node["target"].removeprefix("torch.ops."),
        whole_module(kind),
    )
