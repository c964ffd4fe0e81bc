"""A network as a straight line of operations over numbered values.

Value 0 is the input; each op reads values and writes one more. Layer ``l`` means the ``l``-th op of
``program.preactivation_ops``, everywhere in the package.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from splinecam_lite.errors import ModelError, NotPiecewiseLinear
from splinecam_lite.network.chain import Chain
from splinecam_lite.network.digest import feed
from splinecam_lite.network.maxima import written_out
from splinecam_lite.network.ops import (
    AffineOp,
    Approximation,
    Comparison,
    KnotsOp,
    MaxOp,
    Op,
    OtherOp,
    SmoothOp,
    Where,
)
from splinecam_lite.network.remedies import why_refused

WORD = 64
"""Bits of a word of a packed activation pattern."""

__all__ = [
    "AffineOp",
    "Comparison",
    "KnotsOp",
    "MaxOp",
    "Op",
    "OtherOp",
    "Program",
    "SmoothOp",
    "Where",
]


@dataclass(frozen=True, eq=False, repr=False)
class Program:
    """A network as straight-line ops over numbered values.

    Attributes
    ----------
    ops : tuple of Op
        In the order in which they run. Op ``i`` writes value ``i + 1``.
    shapes : tuple of tuple of int
        Shape of each value, without the batch; ``shapes[0]`` is the input's.
    output : int
        The value that is the network's output.
    dtype, device
        Of all floating constants, and of the values when the program runs.

    Examples
    --------
    >>> program = Program.from_module(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)).eval(), (2,))
    >>> [op.kind for op in program.ops], program.shapes
    (['affine', 'knots', 'affine'], ((2,), (3,), (3,), (1,)))
    >>> program
    Program((2,) -> (1,), 3 ops, 1 layers, 3 neurons)
    >>> program.run(torch.zeros(5, 2)).shape
    torch.Size([5, 1])
    """

    ops: tuple[Op, ...]
    shapes: tuple[tuple[int, ...], ...]
    output: int
    dtype: torch.dtype = torch.float64
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @staticmethod
    def from_module(
        module: nn.Module,
        input_shape: tuple[int, ...] | Tensor,
        *,
        normalise: tuple[Any, Any] | None = None,
        output: str | int | None = None,
        start: str | None = None,
    ) -> "Program":
        """Write a module in eval mode as a program; short for ``trace(...).program(...)``, which see."""
        from splinecam_lite.network.trace import trace

        return trace(module, input_shape).program(normalise=normalise, output=output, start=start)

    @staticmethod
    def from_onnx(
        model: Any,
        input_shape: Sequence[int] | None = None,
        *,
        normalise: tuple[Any, Any] | None = None,
        output: str | int | None = None,
    ) -> "Program":
        """Read an ONNX model (extra ``onnx``); short for `network.onnx.read_onnx`, which see."""
        from splinecam_lite.network.onnx import read_onnx

        return read_onnx(model, input_shape, normalise=normalise, output=output)

    @staticmethod
    def from_file(path: str | Path, input_shape: Sequence[int] | None = None, **options: Any) -> "Program":
        """Read an ``.onnx`` or ``.pt2`` file; short for `network.files.read_file`, which see."""
        from splinecam_lite.network.files import read_file

        return read_file(path, input_shape, **options)

    def then(self, head: "Program") -> "Program":
        """Run ``head`` on this one's output; short for `network.pipelines.chained`, which see."""
        from splinecam_lite.network.pipelines import chained

        return chained(self, head)

    def __repr__(self) -> str:
        """``Program((2,) -> (1,), 3 ops, 1 layers, 3 neurons)``."""
        return (
            f"Program({self.input_shape} -> {self.output_shape}, {len(self.ops)} ops, "
            f"{len(self.n_neurons)} layers, {sum(self.n_neurons)} neurons)"
        )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input sample."""
        return self.shapes[0]

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output for one sample."""
        return self.shapes[self.output]

    @cached_property
    def preactivation_ops(self) -> tuple[KnotsOp | SmoothOp, ...]:
        """The activations, in order; the input of each is a layer of preactivations."""
        return tuple(op for op in self.ops if isinstance(op, KnotsOp | SmoothOp) and op.is_activation)

    @cached_property
    def n_neurons(self) -> tuple[int, ...]:
        """Number of preactivations of each layer."""
        return tuple(prod(self.shapes[op.inputs[0]]) for op in self.preactivation_ops)

    @cached_property
    def pattern_ops(self) -> tuple[KnotsOp | SmoothOp, ...]:
        """The activations and, of a program that is `compared`, the hinges of its comparisons, in order."""
        return tuple(
            op
            for op in self.ops
            if isinstance(op, KnotsOp) or (isinstance(op, SmoothOp) and op.is_activation)
        )

    @cached_property
    def pattern_names(self) -> tuple[str, ...]:
        """A name for each of `pattern_ops`, all different: as `layer_names`, for comparisons as well.

        The rounds of a maximum are ``"pool"``, ``"pool:2"``, ``"pool:3"``.

        Examples
        --------
        >>> model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(), nn.MaxPool2d(2)).eval()
        >>> program = Program.from_module(model, (1, 2, 2)).compared()
        >>> program.pattern_names, program.layer_names
        (('1', '2', '2:2'), ('1',))
        """
        return tuple(unique_names([op.where.label for op in self.pattern_ops]))

    @cached_property
    def pattern_layout(self) -> tuple[tuple[int, int, int], ...]:
        """``(first_bit, n_breakpoints, n_neurons)`` of each of `pattern_ops`, in packed activation patterns.

        Breakpoint ``j`` of neuron ``i`` has bit ``first_bit + j * n_neurons + i``; layers start at whole
        words of 64 bits. A smooth activation has no bits.

        Examples
        --------
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 3), nn.ReLU6()).eval()
        >>> Program.from_module(model, (2,)).pattern_layout
        ((0, 1, 3), (64, 2, 3))
        """
        layout, first_bit = [], 0
        for op in self.pattern_ops:
            n_neurons = prod(self.shapes[op.inputs[0]])
            n_breakpoints = len(op.breakpoints) if isinstance(op, KnotsOp) else 0
            layout.append((first_bit, n_breakpoints, n_neurons))
            first_bit += -(-n_breakpoints * n_neurons // WORD) * WORD
        return tuple(layout)

    @cached_property
    def layer_names(self) -> tuple[str, ...]:
        """A name for each layer, all different: its module path if it is a module of its own, or its node.

        A module that is used again appears as ``"act"``, ``"act:2"``, ``"act:3"``.

        Examples
        --------
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 3), nn.ReLU()).eval()
        >>> Program.from_module(model, (2,)).layer_names
        ('1', '3')
        """
        return tuple(unique_names([op.where.label for op in self.preactivation_ops]))

    @cached_property
    def _last_use(self) -> tuple[int, ...]:
        last = list(range(-1, len(self.ops)))
        for i, op in enumerate(self.ops):
            for value in op.inputs:
                last[value] = i
        last[self.output] = len(self.ops)
        return tuple(last)

    def last_use(self, value: int) -> int:
        """Number of the last op that reads ``value``; ``len(ops)`` for the output.

        A value that nobody reads dies with the op that writes it (-1: an input that nobody reads).
        """
        return self._last_use[value]

    @cached_property
    def multiplications(self) -> dict[int, int]:
        """Multiplications of matrix products and convolutions for one input, by the value they are for."""
        counts = {}
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            for op in self.ops:
                if isinstance(op, AffineOp):
                    before = counter.get_total_flops()
                    inputs = [torch.zeros(1, *self.shapes[v]) for v in op.inputs]
                    op.linear(*(x.to(self.device, self.dtype) for x in inputs))
                    counts[op.output] = (counter.get_total_flops() - before) // 2
        return counts

    @overload
    def run(self, x: Tensor | np.ndarray) -> Tensor: ...
    @overload
    def run(self, x: Tensor | np.ndarray, *, keep: Collection[int]) -> dict[int, Tensor]: ...
    def run(
        self, x: Tensor | np.ndarray, *, keep: Collection[int] | None = None
    ) -> Tensor | dict[int, Tensor]:
        """Evaluate the network on a batch.

        Parameters
        ----------
        x : (batch, *input_shape)
            Cast to the program's dtype and device.
        keep : collection of int, optional
            Values to return instead of the output.

        Returns
        -------
        (batch, *output_shape) Tensor, or dict from value number to (batch, *shape) Tensor
            The latter if ``keep`` is given. Values that are not kept are freed after their last use.

        Raises
        ------
        ModelError
            If ``x`` has another shape.

        Examples
        --------
        >>> program = Program.from_module(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval(), (2, 2))
        >>> {v: tuple(t.shape) for v, t in program.run(torch.zeros(3, 2, 2), keep=(1, 2)).items()}
        {1: (3, 4), 2: (3, 2)}
        """
        x = torch.as_tensor(x).to(device=self.device, dtype=self.dtype)
        if tuple(x.shape[1:]) != self.input_shape or x.ndim == 0:
            raise ModelError(
                f"the network takes inputs of shape (batch, {', '.join(map(str, self.input_shape))}), "
                f"but was given {tuple(x.shape)}"
            )
        wanted = {self.output} if keep is None else set(keep)
        live = {0: x}
        for i, op in enumerate(self.ops):
            live[op.output] = op.run(*(live[v] for v in op.inputs))
            for v in {*op.inputs, op.output} - wanted:
                if self._last_use[v] <= i:
                    del live[v]
        return live[self.output] if keep is None else {v: live[v] for v in keep}

    def compared(self) -> "Program":
        """Return the same network with its maxima written out as comparisons; cached.

        Each `MaxOp` becomes a tournament: ``max(l, r) = l + max(r - l, 0)``, an affine op for the
        differences, a `KnotsOp` whose ``comparison`` says what it decides, an affine op for the winners,
        round after round. Everything exact works on this form. Values have other numbers in it. The results
        differ from those of the program by the rounding of a difference and a sum in each round.

        Returns
        -------
        Program
            Itself, if it has no maxima.

        Examples
        --------
        >>> program = Program.from_module(nn.MaxPool1d(3).eval(), (1, 3))
        >>> [op.kind for op in program.ops], [op.kind for op in program.compared().ops]
        (['max'], ['affine', 'knots', 'affine', 'affine', 'knots', 'affine'])
        >>> program.compared().run([[[3.0, 1.0, 5.0]]])
        tensor([[[5.]]], dtype=torch.float64)
        >>> [op.comparison.right.tolist() for op in program.compared().pattern_ops]
        [[-1], [-1]]
        """
        return self._compared

    @cached_property
    def _compared(self) -> "Program":
        if not any(isinstance(op, MaxOp) for op in self.ops):
            return self
        like = torch.empty(0, dtype=self.dtype, device=self.device)
        ops, shapes, output = written_out(self.ops, self.shapes, self.output, like)
        return replace(self, ops=ops, shapes=shapes, output=output)

    def approximated(self, tolerances: Mapping[str, float]) -> "Program":
        """Return the network with smooth activations replaced by piecewise-linear ones, up to a proved error.

        Parameters
        ----------
        tolerances : mapping from str to float
            For each activation, by torch's name for it, the largest error of what replaces it, for any
            number: gelu (both forms), silu, tanh, sigmoid, log_sigmoid, softplus, mish, elu, selu, celu,
            hardswish. 1e-8 at least. A tolerance a hundred times smaller takes ten times as many breakpoints.

        Raises
        ------
        ModelError
            If a name is unknown or does not occur in the network, or a tolerance is not positive.

        Notes
        -----
        The error is that of the activation, not of the output: layers after it multiply it by their weights.
        `splinecam_lite.network.approximation` says how it is proved.

        Examples
        --------
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.GELU(), nn.Linear(3, 1)).eval()
        >>> program = Program.from_module(model, (2,)).approximated({"gelu": 1e-2})
        >>> (name, approximation), = program.approximations
        >>> name, approximation.function, approximation.proved_error <= 1e-2
        ('1', 'gelu', True)
        """
        from splinecam_lite.network.approximation import approximated

        return approximated(self, tolerances)

    @cached_property
    def approximations(self) -> tuple[tuple[str, Approximation], ...]:
        """Name of each layer that stands for a smooth activation, and how well it does."""
        return tuple(
            (name, op.approximation)
            for name, op in zip(self.layer_names, self.preactivation_ops, strict=True)
            if isinstance(op, KnotsOp) and op.approximation is not None
        )

    def to(self, dtype: torch.dtype, device: torch.device | str = "cpu") -> "Program":
        """Return the same program with constants of another floating dtype, on another device.

        Examples
        --------
        >>> program = Program.from_module(nn.Linear(2, 1).eval(), (2,)).to(torch.float32)
        >>> program.run(torch.zeros(1, 2)).dtype
        torch.float32
        """
        device = torch.device(device)
        return replace(
            self, ops=tuple(_cast(op, dtype, device) for op in self.ops), dtype=dtype, device=device
        )

    def require_piecewise_linear(self) -> None:
        """Raise unless every op is affine, a piecewise-linear activation or a maximum.

        Raises
        ------
        NotPiecewiseLinear
            Names the first op that is neither, its module and source line, and what to do instead.

        Examples
        --------
        >>> model = nn.Sequential(nn.Linear(2, 1), nn.GELU()).eval()
        >>> Program.from_module(model, (2,)).require_piecewise_linear()
        Traceback (most recent call last):
            ...
        splinecam_lite.errors.NotPiecewiseLinear: layer '1' (node 'gelu', aten.gelu.default...) is GELU, ...
        """
        for i, op in enumerate(self.ops):
            if isinstance(op, SmoothOp | OtherOp):
                before = next((o.where.name for o in self.ops[:i] if o.output == op.inputs[0]), None)
                raise NotPiecewiseLinear(f"{op.where} is {why_refused(op.where.target, before)}")

    def digest(self) -> str:
        """SHA-256 of what is computed: ops, shapes and constants, not their names.

        Returns
        -------
        str
            64 hexadecimal digits; equal for programs that agree in all constants, bit for bit.
        """
        return self._digest

    @cached_property
    def _digest(self) -> str:
        digest = hashlib.sha256(repr((self.shapes, self.output, str(self.dtype))).encode())
        for op in self.ops:
            digest.update(repr((op.kind, op.inputs, op.output)).encode())
            for name, part in sorted(vars(op).items()):
                if name not in ("where", "approximation") and not (name == "comparison" and part is None):
                    feed(digest, name, part)
        return digest.hexdigest()


def unique_names(names: list[str]) -> list[str]:
    """Number the repetitions of a name: ``["act", "act"]`` becomes ``["act", "act:2"]``."""
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name}:{seen[name]}")
    return unique


def _cast(op: Op, dtype: torch.dtype, device: torch.device) -> Op:
    """Cast every tensor and chain of an op."""

    def cast(part: Any) -> Any:
        match part:
            case Tensor():
                return part.to(device=device, dtype=dtype)
            case Chain():
                return part.to(dtype, device)
            case tuple() if part and isinstance(part[0], Tensor):
                return tuple(map(cast, part))
        return part

    parts = {name: cast(part) for name, part in vars(op).items()}
    if isinstance(op, KnotsOp) and op.approximation is not None and dtype != torch.float64:
        parts["approximation"] = op.approximation._replace(proved_error=float("inf"))  # rounded
    return replace(op, **parts)
