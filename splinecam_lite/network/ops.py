"""The four kinds of op that a ``Program`` is made of.

    kind     what it computes                                          exact partition
    affine   linear(x, ...) + bias                                     yes
    knots    a piecewise-linear function of each entry: ReLU, abs ...  yes; its input is a preactivation
    smooth   a smooth function of each entry: GELU, tanh ...           refused, by name
    other    whatever else runs: LayerNorm, softmax, x * y ...         refused, by name

Tensors are *batch first*: a value of shape (8, 5, 5) is held as (batch, 8, 5, 5), and no op lets one sample
see another.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor


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
    is_activation: ClassVar[bool] = True

    def run(self, z: Tensor) -> Tensor:
        if self.fn is not None:
            return self.fn(z)
        y = self.left_slope * z + self.left_intercept
        for breakpoint_, jump in zip(self.breakpoints, self.jumps, strict=True):
            y = y + jump * (z - breakpoint_).clamp(min=0)
        return y


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


Op = AffineOp | KnotsOp | SmoothOp | OtherOp
