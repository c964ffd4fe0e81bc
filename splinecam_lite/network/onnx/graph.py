"""From a ModelProto to the nodes that an output needs. What depends on constants alone is evaluated here."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from splinecam_lite.errors import ModelError
from splinecam_lite.network.exporting import first_line
from splinecam_lite.network.onnx.files import opset_of
from splinecam_lite.network.onnx.node import OnnxNode, is_floating
from splinecam_lite.network.onnx.operators import ON_SIZES, ON_TENSORS
from splinecam_lite.network.ops import Where
from splinecam_lite.network.weights import nearest

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto

STANDARD = ("", "ai.onnx")
"""Names of the standard domain of operators."""

RANDOM = frozenset(
    "RandomNormal RandomUniform RandomNormalLike RandomUniformLike Bernoulli Multinomial".split()
)


class Graph:
    """The graph of a model, to be cut down to what one output needs.

    Attributes
    ----------
    input : ValueInfoProto
        The only one that is no initialiser.
    outputs : tuple of str
    """

    def __init__(self, model: "ModelProto", name: str):
        self.model, self.name, self.opset = model, name, opset_of(model)
        graph = model.graph
        if graph.sparse_initializer:
            raise ModelError(f"{name} has sparse weights, which are not read; save them dense")
        self.nodes = list(graph.node)
        self.outputs = tuple(output.name for output in graph.output)
        initialisers = {tensor.name for tensor in graph.initializer}
        inputs = [given for given in graph.input if given.name not in initialisers]
        if len(inputs) != 1:
            names = ", ".join(f"'{given.name}'" for given in inputs)
            raise ModelError(
                f"{name} takes {len(inputs)} inputs{': ' + names if names else ''}; a network of one input "
                "is needed, so make the others constants (initialisers)"
            )
        self.input: ValueInfoProto = inputs[0]
        self.constants = {tensor.name: self._array(tensor) for tensor in graph.initializer}

    def _array(self, tensor: "TensorProto") -> np.ndarray:
        from onnx import numpy_helper

        try:
            array = numpy_helper.to_array(tensor)
        except Exception as error:
            raise ModelError(f"{self.name}: '{tensor.name}' cannot be read: {first_line(error)}") from error
        self._require_numbers(tensor.name, array)
        return array

    def _require_numbers(self, name: str, array: np.ndarray) -> None:
        if is_floating(array) and bool(np.isnan(array.astype(np.float64)).any()):
            raise ModelError(f"{self.name}: '{name}' holds NaN; take weights from before training diverged")

    def output_named(self, output: str | None) -> str:
        """The value that a caller names as output: a value, or a node, whose first output it is.

        Raises
        ------
        ModelError
            If there is no such value or node, or none is named and the graph has several outputs.
        """
        if output is None:
            if len(self.outputs) != 1:
                names = ", ".join(self.outputs)
                raise ModelError(f"{self.name} has {len(self.outputs)} outputs; name one as output: {names}")
            return self.outputs[0]
        choices = {n.name: n.output[0] for n in self.nodes if n.name and n.output}
        choices |= {name: name for n in self.nodes for name in n.output if name}
        if output not in choices:
            raise ModelError(f"{self.name} has no value or node '{output}'{nearest(output, choices)}")
        return choices[output]

    def needed(self, output: str) -> list[OnnxNode]:
        """The nodes between the input and an output, as modules, in their order.

        Raises
        ------
        ModelError
            If operators are not read; all of them are listed.
        """
        wanted, kept = {output}, []
        for proto in reversed(self.nodes):
            if wanted & set(proto.output):
                wanted |= {name for name in proto.input if name}
                kept.append(proto)
        kept.reverse()
        on_data = self._evaluate_constants(kept)
        if output in self.constants:
            raise ModelError(f"{self.name}: the output '{output}' does not depend on the input")
        self._require_known(on_data)
        used = {output} | {name for proto in on_data for name in proto.input}
        return [self._module(proto, used) for proto in on_data]

    def _evaluate_constants(self, nodes: Sequence["NodeProto"]) -> list["NodeProto"]:
        """Evaluate the nodes that do not depend on the input, in the file's own types; return the others."""
        on_data = []
        known = self.constants.keys() | {""}
        depends = {self.input.name}
        for proto in nodes:
            constant = not depends & set(proto.input) and known >= set(proto.input)
            if not constant or proto.op_type in RANDOM or proto.domain not in STANDARD:
                depends |= set(proto.output)
                on_data.append(proto)
                continue
            for name, array in zip(proto.output, self._evaluated(proto), strict=False):
                self._require_numbers(name, array)
                self.constants[name] = array
            known = self.constants.keys() | {""}
        return on_data

    def _evaluated(self, proto: "NodeProto") -> list[np.ndarray]:
        from onnx import TensorProto, helper
        from onnx.reference import ReferenceEvaluator

        inputs = {name: self.constants[name] for name in proto.input if name}
        unknown = TensorProto.UNDEFINED
        graph = helper.make_graph(
            [proto],
            "constants",
            [helper.make_tensor_value_info(name, unknown, None) for name in inputs],
            [helper.make_tensor_value_info(name, unknown, None) for name in proto.output if name],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)])
        try:
            return [np.asarray(array) for array in ReferenceEvaluator(model).run(None, inputs)]
        except Exception as error:
            raise ModelError(
                f"{self.place(proto)} is constant, and cannot be evaluated: {first_line(error)}"
            ) from error

    def _require_known(self, nodes: Sequence["NodeProto"]) -> None:
        unknown: dict[str, list[str]] = {}
        for proto in nodes:
            if proto.domain not in STANDARD or not {proto.op_type} & (ON_TENSORS.keys() | ON_SIZES.keys()):
                kind = proto.op_type if proto.domain in STANDARD else f"{proto.domain}.{proto.op_type}"
                unknown.setdefault(kind, []).append(proto.name or next(iter(proto.output), ""))
        if unknown:
            listed = "; ".join(
                f"{kind} ('{names[0]}'{f' and {len(names) - 1} more' if names[1:] else ''})"
                for kind, names in unknown.items()
            )
            raise ModelError(
                f"{self.name} has operators that are not read: {listed}; leave them out, or name a value "
                "before them as output"
            )

    def place(self, proto: "NodeProto") -> Where:
        """Where a node is, for layers and errors."""
        written = next((name for name in proto.output if name), proto.name)
        return Where(written, proto.name, f"ONNX {proto.op_type} in {self.name}", "", True)

    def _module(self, proto: "NodeProto", used: set[str]) -> OnnxNode:
        constants = {i: self.constants[name] for i, name in enumerate(proto.input) if name in self.constants}
        outputs = list(proto.output)
        while len(outputs) > 1 and outputs[-1] not in used:  # masks, places of maxima: written for nobody
            outputs.pop()
        return OnnxNode(
            self.place(proto),
            proto.op_type,
            self.opset,
            {a.name: self._attribute(a) for a in proto.attribute},
            list(proto.input),
            outputs,
            len(proto.output),
            constants,
            (ON_TENSORS.get(proto.op_type), ON_SIZES.get(proto.op_type)),
        )

    def _attribute(self, attribute: Any) -> Any:
        from onnx import TensorProto, helper

        value = helper.get_attribute_value(attribute)
        return self._array(value) if isinstance(value, TensorProto) else value
