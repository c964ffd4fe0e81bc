"""The five kinds of op that a ``Program`` is made of.

    kind     what it computes                                          exact partition
    affine   linear(x, ...) + bias                                     yes
    knots    a piecewise-linear function of each entry: ReLU, abs ...  yes; its input is a preactivation
    max      the largest of several entries: pooling, maxout ...       yes; written out as comparisons
    smooth   a smooth function of each entry: GELU, tanh ...           refused, by name
    other    whatever else runs: LayerNorm, softmax, x * y ...         refused, by name

Tensors are *batch first*: a value of shape (8, 5, 5) is held as (batch, 8, 5, 5), and no op lets one sample
see another.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from torch import Tensor

from splinecam_lite.network.chain import Chain


@dataclass(frozen=True)
class Where:
    """The place of an op in the user's code.

    Attributes
    ----------
    name : str
        Node of the exported graph, e.g. ``"relu_1"``.
    module_path : str
        Innermost module that ran it, e.g. ``"encoder.act2"``; empty for the module itself.
    source : str
        ``"file.py:12"``, the innermost line outside torch; empty if there is none.
    target : str
        The torch operator, e.g. ``"aten.gelu.default"``.
    is_whole_module : bool
        The innermost module is one of torch's layers, so that its path is name enough.
    """

    name: str
    module_path: str
    source: str
    target: str
    is_whole_module: bool = False

    @property
    def label(self) -> str:
        """Short name of the op: ``"encoder.act2"``, or ``"encoder.relu_1"`` if it is no module of its own."""
        if self.is_whole_module:
            return self.module_path or self.name
        return f"{self.module_path}.{self.name}" if self.module_path else self.name

    def __str__(self) -> str:
        """``layer 'encoder.act2' (node 'relu_1', aten.relu.default, file.py:12)``."""
        source = f", {self.source}" if self.source else ""
        return f"layer '{self.label}' (node '{self.name}', {self.target}{source})"


@dataclass(frozen=True, eq=False)
class AffineOp:
    """``linear(x, ...) + bias``.

    Attributes
    ----------
    linear : callable
        The linear part, (batch, *shape_in) ... -> (batch, *shape_out), without bias; any batch size.
    bias : Tensor or None
        Broadcastable to shape_out; None is 0.
    magnitude : callable
        As ``linear`` with the absolute values of the weights: ``|linear(x)| <= magnitude(|x|)``.
    fn : callable or None
        Both parts in one pass, if there is a faster way than ``linear(x) + bias``.
    """

    kind: ClassVar[Literal["affine"]] = "affine"
    inputs: tuple[int, ...]
    output: int
    where: Where
    linear: Callable[..., Tensor]
    bias: Tensor | None
    magnitude: Callable[..., Tensor]
    fn: Callable[..., Tensor] | None = None

    def run(self, *inputs: Tensor) -> Tensor:
        if self.fn is not None:
            return self.fn(*inputs)
        y = self.linear(*inputs)
        return y if self.bias is None else y + self.bias


class Comparison(NamedTuple):
    """What the hinges of a `KnotsOp` decide that is one round of a maximum, written out as comparisons.

    A maximum is a tournament: ``max(l, r) = l + max(r - l, 0)``, and a minimum ``l - max(l - r, 0)``. Hinge
    ``i`` compares the two sides ``l`` and ``r`` of its neuron; its bit is 1 where the right one wins, and the
    left one wins ties. The comparisons of one maximum are numbered through all its rounds.

    Attributes
    ----------
    left, right : (n_neurons,) int64
        Number of the comparison whose winner that side is; -1 for an entry of what the maximum is taken of.
    top : (n_neurons,) bool
        Its winner is a result of the maximum, and so is read outside of it.
    offset : int
        Number of the first comparison of this round.
    max_number : int
        Which maximum of the program this is, from 0, in the order of the ops.
    """

    left: np.ndarray
    right: np.ndarray
    top: np.ndarray
    offset: int
    max_number: int


class Approximation(NamedTuple):
    """What a `KnotsOp` stands for that replaces a smooth activation.

    Attributes
    ----------
    function : str
        torch's operator, e.g. ``"gelu"``.
    tolerance : float
        What was asked for.
    proved_error : float
        The op differs from that function by no more than this, for any number; at most the tolerance.
    """

    function: str
    tolerance: float
    proved_error: float


@dataclass(frozen=True, eq=False)
class KnotsOp:
    """``left_slope * z + left_intercept + sum_j jumps[j] * max(z - breakpoints[j], 0)`` of each entry ``z``.

    All tensors are broadcastable to the value's shape. A jump of 0 is no knot.

    ==============  ==========  ==============  ===========  =======
    activation      left_slope  left_intercept  breakpoints  jumps
    ==============  ==========  ==============  ===========  =======
    ReLU            0           0               0            1
    LeakyReLU(a)    a           0               0            1 - a
    abs             -1          0               0            2
    ReLU6           0           0               0, 6         1, -1
    ==============  ==========  ==============  ===========  =======

    With ``comparison`` it is the hinge of a comparison, and no activation of the network; with
    ``approximation`` it replaces a smooth one.
    """

    kind: ClassVar[Literal["knots"]] = "knots"
    inputs: tuple[int]
    output: int
    where: Where
    left_slope: Tensor
    left_intercept: Tensor
    breakpoints: tuple[Tensor, ...]
    jumps: tuple[Tensor, ...]
    fn: Callable[..., Tensor] | None = None
    comparison: Comparison | None = None
    approximation: Approximation | None = None

    @property
    def is_activation(self) -> bool:
        """Whether its inputs are preactivations of the network itself."""
        return self.comparison is None

    def run(self, z: Tensor) -> Tensor:
        if self.fn is not None:
            return self.fn(z)
        y = self.left_slope * z + self.left_intercept
        for breakpoint_, jump in zip(self.breakpoints, self.jumps, strict=True):
            y = y + jump * (z - breakpoint_).clamp(min=0)
        return y


class Windows(NamedTuple):
    """Windows along one axis: result ``i`` is the maximum of ``entries[i]``.

    Attributes
    ----------
    axis : int
        Of a sample, so without the batch.
    entries : tuple of tuple of int
        Places along the axis, at least one for each result; padding is none.
    """

    axis: int
    entries: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class MaxOp:
    """The largest, or smallest, entry of each window of a value; or of two values, entry by entry.

    It runs as torch's own operation. `Program.compared` writes it out as comparisons.

    Attributes
    ----------
    fn : Chain
        Computes the result. Without windows its last step is a torch operator of two arguments, the sides
        ``l`` and ``r``, each an ``Input`` of the chain; ties go to ``l``.
    windows : tuple of Windows
        Along one axis after the other, each at most once; empty for the maximum of two values.
    is_minimum : bool
        The smallest entry, not the largest.
    """

    kind: ClassVar[Literal["max"]] = "max"
    inputs: tuple[int, ...]
    output: int
    where: Where
    fn: Chain
    windows: tuple[Windows, ...] = ()
    is_minimum: bool = False

    def run(self, *inputs: Tensor) -> Tensor:
        return self.fn(*inputs)


@dataclass(frozen=True, eq=False)
class SmoothOp:
    """A smooth function of each entry; an activation if networks use it as one (GELU yes, exp no)."""

    kind: ClassVar[Literal["smooth"]] = "smooth"
    inputs: tuple[int, ...]
    output: int
    where: Where
    fn: Callable[..., Tensor]
    is_activation: bool = True

    def run(self, *inputs: Tensor) -> Tensor:
        return self.fn(*inputs)


@dataclass(frozen=True, eq=False)
class OtherOp:
    """An op that runs, and of which nothing more is known."""

    kind: ClassVar[Literal["other"]] = "other"
    inputs: tuple[int, ...]
    output: int
    where: Where
    fn: Callable[..., Tensor]
    is_activation: bool = False

    def run(self, *inputs: Tensor) -> Tensor:
        return self.fn(*inputs)


Op = AffineOp | KnotsOp | MaxOp | SmoothOp | OtherOp
