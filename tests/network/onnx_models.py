"""Small ONNX models, and the check that a program computes what onnx's own reference evaluator does."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from splinecam_lite.network import Program

ROUNDING = 1e-12
"""Largest difference, of the scale of the output, in graphs that are float64 throughout."""

Array = np.ndarray


def onnx_model(
    nodes: Sequence[NodeProto],
    shape: Sequence[int | str],
    constants: Mapping[str, Array] | None = None,
    *,
    opset: int = 17,
    batch: int | str | None = "batch",
    dtype: int = TensorProto.DOUBLE,
    outputs: Sequence[str] | None = None,
) -> ModelProto:
    """A model of one input "x" of shape (batch, *shape), whose output is that of the last node."""
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", dtype, [batch, *shape])],
        [helper.make_tensor_value_info(n, dtype, None) for n in outputs or [nodes[-1].output[0]]],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in (constants or {}).items()],
    )
    version = min(10, 3 + max(opset - 6, 0)) if opset > 8 else 4
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=version)


def node(op_type: str, inputs: str, output: str = "y", **attributes: Any) -> NodeProto:
    """A node named after its output; inputs as words, "-" for one that is left out."""
    names = ["" if name == "-" else name for name in inputs.split()]
    return helper.make_node(op_type, names, output.split(), name=f"the {output.split()[0]}", **attributes)


def reference(model: ModelProto, x: Array) -> Array:
    """What onnx computes for each sample by itself, stacked."""
    evaluator = ReferenceEvaluator(model)
    return np.concatenate([np.asarray(evaluator.run(None, {"x": row[None]})[0]) for row in x])


def require_agreement(
    model: ModelProto, shape: Sequence[int], seed: int = 0, rounding: float = ROUNDING
) -> Program:
    """Require that the program of a model computes what onnx does; return it."""
    program = Program.from_onnx(model, shape)
    x = np.random.default_rng(seed).normal(size=(3, *shape)) * 2
    expected, found = reference(model, x), program.run(x).numpy()
    assert found.shape == expected.shape
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=rounding * scale)
    return program
