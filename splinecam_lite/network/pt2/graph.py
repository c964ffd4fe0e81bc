"""The graph of an archive, cut down to what one output needs."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from splinecam_lite.errors import ModelError
from splinecam_lite.network.nodewise import FileNode
from splinecam_lite.network.pt2.archive import DTYPES, Archive
from splinecam_lite.network.pt2.node import (
    BY_NAME,
    IGNORED,
    PLAIN,
    SAMPLES,
    ArchiveNode,
    Name,
    function_named,
    operator_name,
    place_of,
    symbol,
    written,
)
from splinecam_lite.network.weights import nearest

SCHEMA = 8
"""Version of the graph's format that is read."""

NO_RESULT = ("_assert", "sym_constrain", "_functional_assert")
"""Beginnings of operators that only check."""

REGROUPS = frozenset("view reshape _unsafe_view expand".split())
"""Operators whose sizes may name a fixed number of samples."""


class Graph:
    """The graph of an archive.

    Attributes
    ----------
    input : str
        Name of the tensor that the caller gives.
    outputs : list of str
        Names of what the network returns.
    weights : dict from str to Tensor
        By their names in the graph.
    """

    def __init__(self, archive: Archive):
        self.archive, self.path = archive, archive.path
        program = archive.json(f"models/{archive.model}.json")
        version = program["schema_version"]["major"]
        if version != SCHEMA:
            raise ModelError(
                f"{self.path} has a graph of format {version}, but {SCHEMA} is read; load it with the torch "
                f"that wrote it, and save it with torch {torch.__version__.partition('+')[0]}"
            )
        self.graph = program["graph_module"]["graph"]
        signature = program["graph_module"]["signature"]
        self.values = self.graph["tensor_values"]
        inputs, self.weights = self._read_inputs(signature["input_specs"])
        if len(inputs) != 1:
            raise ModelError(
                f"{self.path} takes {len(inputs)} inputs ({', '.join(inputs)}); a network of one is needed"
            )
        (self.input,) = inputs
        self.outputs = [
            spec["user_output"]["arg"]["as_tensor"]["name"]
            for spec in signature["output_specs"]
            if "user_output" in spec and "as_tensor" in spec["user_output"]["arg"]
        ]

    def _read_inputs(self, specs: list[dict[str, Any]]) -> tuple[list[str], dict[str, Tensor]]:
        """Names of what the caller gives, and the network's own tensors, by their names in the graph."""
        stored = self.archive.tensors("weights") | self.archive.tensors("constants")
        inputs, weights = [], {}
        for spec in specs:
            ((kind, content),) = spec.items()
            if kind == "user_input":
                inputs.append(content["arg"]["as_tensor"]["name"])
            elif kind in ("parameter", "buffer", "tensor_constant"):
                weights[content["arg"]["name"]] = stored[content[f"{kind}_name"]]
            else:
                raise ModelError(f"{self.path} takes a {kind}, which is not read; export tensors alone")
        return inputs, weights

    def sample_shape(self, wanted: Sequence[int] | None) -> tuple[int, ...]:
        """The shape of one sample; the caller's must be the file's."""
        given = self.values[self.input]
        if DTYPES.get(given["dtype"], torch.bool).is_floating_point is False:
            raise ModelError(f"{self.path}: the input '{self.input}' is no tensor of floating numbers")
        sizes = [size.get("as_int") for size in given["sizes"]][1:]
        if wanted is None:
            if None in sizes:
                raise ModelError(f"{self.path} leaves the shape of its input open; give it as input_shape")
            return tuple(sizes)
        shape = tuple(int(n) for n in wanted)
        if len(shape) != len(sizes) or any(n not in (None, w) for n, w in zip(sizes, shape, strict=True)):
            expected = ", ".join(str(n or "any") for n in sizes)
            raise ModelError(f"{self.path} takes inputs of shape ({expected}), not {shape}")
        return shape

    def output_named(self, output: str | None) -> str:
        """The value that a caller names, or the only one that the network returns."""
        if output is None:
            if len(self.outputs) != 1:
                raise ModelError(
                    f"{self.path} returns {len(self.outputs)} tensors; name one as output: "
                    f"{', '.join(self.outputs)}"
                )
            return self.outputs[0]
        choices = {name: name for node in self.graph["nodes"] for name in written(node)}
        if output not in choices:
            raise ModelError(f"{self.path} has no node '{output}'{nearest(output, choices)}")
        return output

    def nodes(self, output: str) -> list[FileNode]:
        """The nodes that an output needs, as modules; those that write in place stay.

        Raises
        ------
        ModelError
            If they call functions that are not read; all of them are listed.
        """
        kept: list[FileNode] = []
        wanted, unknown = {output}, dict[str, str]()
        for node in reversed(self.graph["nodes"]):
            name = operator_name(node["target"])
            if name.startswith(NO_RESULT):
                continue
            if wanted.isdisjoint(written(node)) and not name.endswith("_"):
                continue
            function = function_named(node["target"])
            if function is None:
                unknown[node["target"]] = written(node)[0]
                continue
            made = self._node(node, function)
            wanted |= set(made.reads)
            kept.append(made)
        if unknown:
            listed = "; ".join(f"{target} ('{name}')" for target, name in reversed(unknown.items()))
            raise ModelError(f"{self.path} calls what is not read: {listed}; leave it out")
        return kept[::-1]

    def _node(self, node: dict[str, Any], function: Any) -> ArchiveNode:
        positional: list[Any] = []
        named: dict[str, Any] = {}
        for given in node["inputs"]:
            ((kind, value),) = given["arg"].items()
            if kind in IGNORED:
                continue
            argument = self._argument(node, kind, value)
            if given.get("kind") == BY_NAME or named:
                named[given["name"]] = argument
            else:
                positional.append(argument)
        if operator_name(node["target"]) in REGROUPS and self._names_samples(positional):
            positional[1] = [SAMPLES, *positional[1][1:]]
        return ArchiveNode(place_of(node), function, positional, named, written(node), self.weights)

    def _names_samples(self, positional: list[Any]) -> bool:
        """Whether a regrouping names the number of samples, in a file exported for just that many."""
        samples = self.values[self.input]["sizes"][0].get("as_int")
        source, sizes = positional[:2]
        if samples is None or not isinstance(source, Name) or not isinstance(sizes, list):
            return False
        first = self.values[source.name]["sizes"][:1]
        return bool(first) and first[0].get("as_int") == samples and sizes[:1] == [samples]

    def _argument(self, node: dict[str, Any], kind: str, value: Any) -> Any:
        if kind in PLAIN:
            return value
        match kind:
            case "as_none":
                return None
            case "as_tensor":
                return Name(value["name"])
            case "as_tensors":
                return [Name(one["name"]) for one in value]
            case "as_sym_int" | "as_sym_float" | "as_sym_bool":
                return symbol(value)
            case "as_sym_ints":
                return [symbol(one) for one in value]
            case "as_optional_tensor" | "as_optional_tensors":
                ones = value if isinstance(value, list) else [value]
                read = [Name(one["as_tensor"]["name"]) if "as_tensor" in one else None for one in ones]
                return read if isinstance(value, list) else read[0]
            case "as_scalar_type" if value in DTYPES:
                return torch.float64 if DTYPES[value].is_floating_point else DTYPES[value]
        raise ModelError(
            f"{self.path}: node '{node['name']}' ({node['target']}) has an argument of kind {kind}, which is "
            "not read"
        )
