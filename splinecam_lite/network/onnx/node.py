"""One node of an ONNX graph as a module.

Values are of two sorts. *Tensors* depend on the input, or are floating constants. *Sizes* are numpy arrays:
constants of integers or booleans, and what is computed from shapes. Among the latter the number of samples
may be a symbol, so they are arrays of objects, which numpy adds, multiplies and picks from like any others.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from splinecam_lite.errors import ModelError, TraceError
from splinecam_lite.network.nodewise import FileNode
from splinecam_lite.network.ops import Where

Operator = Callable[..., Any]
"""Takes the node and the values it reads, in order, None for those left out; returns what it writes."""

_REQUIRED = object()

MOVES = frozenset(("Expand", "Tile", "Reshape", "Slice", "Gather"))
"""Operators that arrange their first input by sizes; that may be a constant to be met by data."""


class OnnxNode(FileNode):
    """One node of an ONNX graph.

    Attributes
    ----------
    op_type : str
        ``"Conv"``.
    opset : int
    attributes : dict
        As plain numbers, bytes, lists and arrays.
    n_outputs : int
        Outputs of the node, with those that nobody reads; only the others are written.
    constants : dict from int to array
        Those of the inputs that are constant, in the file's own type, by their position.
    """

    def __init__(
        self,
        place: Where,
        op_type: str,
        opset: int,
        attributes: dict[str, Any],
        inputs: Sequence[str],
        outputs: Sequence[str],
        n_outputs: int,
        constants: dict[int, np.ndarray],
        operators: tuple[Operator | None, Operator | None],
    ):
        reads = [name for i, name in enumerate(inputs) if name and i not in constants]
        super().__init__(place, reads, outputs)
        self.op_type, self.opset, self.attributes, self.constants = op_type, opset, attributes, constants
        self.positions = tuple(i for i, name in enumerate(inputs) if name and i not in constants)
        self.n_inputs, self.n_outputs = len(inputs), n_outputs
        self.on_tensors, self.on_sizes = operators
        for i, array in constants.items():
            if is_floating(array):
                self.register_buffer(f"constant_{i}", torch.from_numpy(array.astype(np.float64)))

    def forward(self, *read: Any) -> Any:
        moves_floats = self.op_type in MOVES and 0 in self.constants and is_floating(self.constants[0])
        on_sizes = bool(read) and not any(isinstance(value, Tensor) for value in read) and not moves_floats
        values: list[Any] = [None] * self.n_inputs
        for i, array in self.constants.items():
            values[i] = array if on_sizes or not is_floating(array) else getattr(self, f"constant_{i}")
        for i, value in zip(self.positions, read, strict=True):
            values[i] = value
        operator = self.on_sizes if on_sizes and self.on_sizes else self.on_tensors
        if operator is None:
            raise TraceError(
                f"{self.place} computes with data what can only be computed with shapes; write the network "
                "as one fixed sequence of operations on floating numbers"
            )
        return operator(self, *values)

    def attribute(self, name: str, default: Any = _REQUIRED) -> Any:
        """An attribute, or its default, which like every attribute is a float32: 0.01 is 0.0099999998."""
        if name not in self.attributes and default is _REQUIRED:
            raise self.error(f"has no attribute '{name}', which it must have")
        if isinstance(default, float):
            default = float(np.float32(default))
        value = self.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def error(self, problem: str) -> ModelError:
        """Return the error that this node has a problem."""
        return ModelError(f"{self.place} {problem}")

    def number(self, i: int, default: float | None = None) -> float | None:
        """Input ``i`` as a constant number; the default if it is left out.

        Raises
        ------
        ModelError
            If it is computed from data, or an array.
        """
        if i not in self.constants:
            if i in self.positions:
                raise self.error(f"computes its input {i}, which must be constant")
            return default
        array = self.constants[i]
        if array.size != 1:
            raise self.error(f"has an input {i} of shape {array.shape}, which must be one number")
        return float(array.reshape(()))

    def integers(self, value: Any) -> list[Any]:
        """An input of sizes as a list, symbols among them.

        Raises
        ------
        ModelError
            If it is computed from data.
        """
        if isinstance(value, Tensor):
            raise self.error(
                "takes a shape, axes or indices from data; they must be constant, or from shapes"
            )
        return [int(n) if isinstance(n, np.integer | np.bool_) else n for n in np.asarray(value).reshape(-1)]

    def listed(self, name: str, value: Any) -> list[Any] | None:
        """Integers given as an input since some opset, and as an attribute before; None if in neither way."""
        if value is not None:
            return self.integers(value)
        listed = self.attributes.get(name)
        return None if listed is None else list(np.atleast_1d(listed))


def is_floating(array: np.ndarray) -> bool:
    """Whether an array holds floating numbers, those that numpy does not know (bfloat16) among them."""
    return array.dtype.kind == "f" or array.dtype.name in ("bfloat16",)


def as_tensor(value: Any) -> Any:
    """Sizes as a constant tensor, where an operator mixes them with data; floating ones in float64."""
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype == object:
        value = np.array([int(n) for n in value.reshape(-1)]).reshape(value.shape)
    return torch.from_numpy(value.astype(np.float64) if is_floating(value) else value)
