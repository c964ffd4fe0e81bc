"""Arithmetic on shapes: the subgraphs between a Shape and the Reshape, Slice or Resize that reads them.

Arrays hold Python numbers, or torch's symbol for the number of samples; nothing here asks how large that is.
"""

from typing import Any

import numpy as np
import torch

from splinecam_lite.network.onnx.arranging import slice_arguments
from splinecam_lite.network.onnx.node import OnnxNode, Operator


def _entrywise(function: Any) -> Operator:
    """An operator from a function of Python numbers."""

    def operator(node: OnnxNode, *arrays: Any) -> np.ndarray:
        parts = np.broadcast_arrays(*(np.asarray(a, dtype=object) for a in arrays))
        result = np.empty(parts[0].shape, dtype=object)
        for index in np.ndindex(*parts[0].shape):
            result[index] = function(*(_plain(part[index]) for part in parts))
        return result

    return operator


def _plain(number: Any) -> Any:
    """A number as Python's own."""
    return number.item() if isinstance(number, np.generic) else number


def _divided(a: Any, b: Any) -> Any:
    """Division, towards zero for integers; sizes are not negative."""
    if isinstance(a, float) or isinstance(b, float):
        return a / b
    return a // b if not (isinstance(a, int) and a < 0) else -(-a // b)


def _cast(node: OnnxNode, x: Any) -> Any:
    from onnx import TensorProto

    if isinstance(x, np.ndarray) and x.dtype != object:
        x = x.astype(object)
    to = node.attribute("to")
    if to in (TensorProto.INT64, TensorProto.INT32):
        return _entrywise(lambda n: int(n) if isinstance(n, float | bool) else n)(node, x)
    if to == TensorProto.BOOL:
        return _entrywise(lambda n: bool(n) if isinstance(n, int | float) else n)(node, x)
    return _entrywise(lambda n: float(n) if isinstance(n, int) else n)(node, x)


def _gather(node: OnnxNode, x: np.ndarray, indices: Any) -> np.ndarray:
    picked = np.array(node.integers(indices), dtype=np.int64).reshape(np.shape(indices))
    return np.asarray(np.take(np.asarray(x, dtype=object), picked, axis=node.attribute("axis", 0)))


def _slice(node: OnnxNode, x: np.ndarray, *given: Any) -> np.ndarray:
    for start, end, axis, step in zip(*slice_arguments(node, x.ndim, *given), strict=True):
        x = x[(slice(None),) * axis + (slice(start, None if end < -(2**31) else end, step),)]
    return x


def _squeeze(node: OnnxNode, x: np.ndarray, axes: Any = None) -> np.ndarray:
    listed = node.listed("axes", axes)
    return np.squeeze(x, None if listed is None else tuple(listed))


def _unsqueeze(node: OnnxNode, x: np.ndarray, axes: Any = None) -> np.ndarray:
    return np.expand_dims(np.asarray(x, dtype=object), tuple(node.listed("axes", axes) or ()))


def _reshape(node: OnnxNode, x: np.ndarray, target: Any) -> np.ndarray:
    return np.asarray(x, dtype=object).reshape(node.integers(target))


def _concat(node: OnnxNode, *arrays: Any) -> np.ndarray:
    return np.concatenate([np.asarray(a, dtype=object) for a in arrays], axis=node.attribute("axis"))


def _reduced_product(node: OnnxNode, x: np.ndarray, axes: Any = None) -> np.ndarray:
    listed = node.listed("axes", axes)
    along = None if not listed else tuple(listed)
    keep = bool(node.attribute("keepdims", 1))
    return np.asarray(np.prod(np.asarray(x, dtype=object), axis=along, keepdims=keep), dtype=object)


def _constant_of_shape(node: OnnxNode, shape: Any) -> Any:
    """A constant of a shape: floats, which meet the data, as a tensor, and integers as sizes."""
    value = node.attributes.get("value")
    number = 0.0 if value is None else _plain(np.asarray(value).reshape(-1)[0])
    sizes = node.integers(shape)
    if isinstance(number, float):
        return torch.full(sizes, number, dtype=torch.float64)
    return np.full([int(n) for n in sizes], number, dtype=object)


def _range(node: OnnxNode, start: Any, limit: Any, step: Any) -> np.ndarray:
    return np.arange(*(_plain(np.asarray(n).reshape(-1)[0]) for n in (start, limit, step))).astype(object)


def _expand(node: OnnxNode, x: np.ndarray, target: Any) -> np.ndarray:
    shape = np.broadcast_shapes(x.shape, tuple(node.integers(target)))
    return np.broadcast_to(np.asarray(x, dtype=object), shape)


def _equal(a: Any, b: Any) -> Any:
    """Equality; the number of samples equals no number."""
    return a == b if not any(isinstance(n, torch.SymInt) for n in (a, b)) else a is b


SIZES: dict[str, Operator] = {
    "Add": _entrywise(lambda a, b: a + b),
    "Sub": _entrywise(lambda a, b: a - b),
    "Mul": _entrywise(lambda a, b: a * b),
    "Div": _entrywise(_divided),
    "Mod": _entrywise(lambda a, b: a % b),
    "Neg": _entrywise(lambda a: -a),
    "Max": _entrywise(max),
    "Min": _entrywise(min),
    "Floor": _entrywise(lambda a: float(np.floor(a)) if isinstance(a, float) else a),
    "Ceil": _entrywise(lambda a: float(np.ceil(a)) if isinstance(a, float) else a),
    "Equal": _entrywise(_equal),
    "Not": _entrywise(lambda a: not a),
    "And": _entrywise(lambda a, b: a and b),
    "Or": _entrywise(lambda a, b: a or b),
    "Where": _entrywise(lambda condition, a, b: a if condition else b),
    "Cast": _cast,
    "Gather": _gather,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Reshape": _reshape,
    "Concat": _concat,
    "ReduceProd": _reduced_product,
    "ConstantOfShape": _constant_of_shape,
    "Range": _range,
    "Expand": _expand,
    "Identity": lambda node, x: x,
    "Shape": lambda node, x: np.array(np.shape(x), dtype=object),
}
