"""The tables that say what each torch operator is: affine in which arguments, piecewise linear how, or
smooth.

Keys are operator names without namespace and overload: ``"conv2d"`` stands for ``aten.conv2d.default`` and
``aten.conv2d.padding``. An operator in none of the tables still runs; it is of kind "other".
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Number = float | Tensor
Knots = tuple[Number, Number, tuple[Number, ...], tuple[Number, ...]]
"""Left slope, left intercept, breakpoints, jumps: see ``KnotsOp``."""


@dataclass(frozen=True)
class AffineRule:
    """How an operator is affine in its arguments, named as in its schema.

    Attributes
    ----------
    additive : tuple of str
        The operator is jointly affine in these. Constants among them are zeroed in the linear part.
    factors : tuple of str
        The operator adds the product of these. All but one must be constant; magnitudes take their absolute
        values.
    weights : tuple of str
        Must be constant; magnitudes take their absolute values.
    magnitude : str
        The operator that bounds the linear part, if it is another one.
    """

    additive: tuple[str, ...] = ()
    factors: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    magnitude: str = ""


_LINEAR = AffineRule(additive=("self", "input"))
_PRODUCT = AffineRule(factors=("self", "other"))
_CONVOLUTION = AffineRule(additive=("bias",), factors=("input", "weight"))

AFFINE: dict[str, AffineRule] = {
    "linear": _CONVOLUTION,
    "conv1d": _CONVOLUTION,
    "conv2d": _CONVOLUTION,
    "conv3d": _CONVOLUTION,
    "convolution": _CONVOLUTION,
    "conv_transpose1d": _CONVOLUTION,
    "conv_transpose2d": _CONVOLUTION,
    "conv_transpose3d": _CONVOLUTION,
    "matmul": _PRODUCT,
    "mm": AffineRule(factors=("self", "mat2")),
    "bmm": AffineRule(factors=("self", "mat2")),
    "mv": AffineRule(factors=("self", "vec")),
    "addmm": AffineRule(additive=("self",), factors=("mat1", "mat2"), weights=("alpha", "beta")),
    "baddbmm": AffineRule(additive=("self",), factors=("batch1", "batch2"), weights=("alpha", "beta")),
    "einsum": AffineRule(factors=("tensors",)),
    "mul": _PRODUCT,
    "div": AffineRule(additive=("self",), weights=("other",)),
    "add": AffineRule(additive=("self", "other"), weights=("alpha",)),
    "sub": AffineRule(additive=("self", "other"), weights=("alpha",), magnitude="aten.add.Tensor"),
    "rsub": AffineRule(additive=("self", "other"), weights=("alpha",), magnitude="absolute_rsub"),
    "neg": AffineRule(additive=("self",), magnitude="identity"),
    "scale_and_shift": AffineRule(additive=("shift",), factors=("x", "factor")),
    "cat": AffineRule(additive=("tensors",)),
    "stack": AffineRule(additive=("tensors",)),
    "where": AffineRule(additive=("self", "other")),
    "masked_fill": AffineRule(additive=("self", "value")),
    "pad": AffineRule(additive=("self", "value")),
    "constant_pad_nd": AffineRule(additive=("self", "value")),
    "select_scatter": AffineRule(additive=("self", "src")),
    "slice_scatter": AffineRule(additive=("self", "src")),
    # Linear in their first argument, with weights that are not negative, so that they bound themselves.
    **dict.fromkeys(
        """sum mean avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d
        adaptive_avg_pool3d _adaptive_avg_pool2d cumsum view reshape _unsafe_view flatten unflatten permute
        transpose movedim t squeeze unsqueeze expand repeat slice select narrow split split_with_sizes chunk
        unbind getitem index index_select flip roll tril triu diagonal im2col unfold pixel_shuffle
        pixel_unshuffle upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d
        _upsample_nearest_exact2d _upsample_nearest_exact3d reflection_pad1d reflection_pad2d reflection_pad3d
        replication_pad1d replication_pad2d replication_pad3d channel_shuffle repeat_interleave identity
        """.split(),
        _LINEAR,
    ),
}

IDENTITIES = frozenset(
    """identity clone alias detach contiguous lift_fresh lift_fresh_copy dropout feature_dropout alpha_dropout
    positive to _to_copy""".split()
)
"""Operators that return their first argument, if it is floating and stays so."""

RESHAPES = frozenset("view reshape _unsafe_view flatten unflatten expand slice squeeze unsqueeze".split())
"""Operators that change nothing where the shape stays the same."""

VIEWS = frozenset("view reshape _unsafe_view flatten unflatten".split())
"""Operators that regroup the entries of a tensor in their order."""

AXIS_MOVES = frozenset(
    """transpose permute movedim swapaxes unsqueeze squeeze slice select narrow split split_with_sizes chunk
    unbind
    cat stack flatten unflatten select_scatter slice_scatter""".split()
)
"""Operators whose ``dim`` may be the batch's: if that mixed samples, the shape of the result would tell."""

UNINITIALISED = frozenset("empty empty_like new_empty empty_strided new_empty_strided".split())
"""Operators that return memory as it is; read as zeros, so that nothing depends on it."""

ONLY_SHAPE = UNINITIALISED | set(
    "fill copy zeros_like ones_like full_like new_zeros new_ones new_full".split()
)
"""Operators whose result depends on their first argument by its shape only."""

BATCH_STATISTICS = frozenset(
    "_native_batch_norm_legit _native_batch_norm_legit_functional native_batch_norm batch_norm".split()
)
"""Batch norm in train mode, or without running statistics."""

SMOOTH_ACTIVATIONS = frozenset(
    """gelu silu mish tanh sigmoid log_sigmoid softplus elu selu celu hardswish sin cos""".split()
)
SMOOTH_FUNCTIONS = frozenset(
    "exp expm1 log log1p sqrt rsqrt reciprocal square pow erf sinh cosh atan".split()
)


def _relu(z: Tensor) -> Knots:
    return 0.0, 0.0, (0.0,), (1.0,)


def _leaky_relu(z: Tensor, negative_slope: float = 0.01) -> Knots:
    return negative_slope, 0.0, (0.0,), (1.0 - negative_slope,)


def _prelu(z: Tensor, weight: Tensor) -> Knots:
    """One slope for each entry of axis 1, or one for all."""
    slope = weight.reshape(1, -1, *[1] * (z.ndim - 2)) if weight.numel() > 1 else weight.reshape(())
    return slope, 0.0, (0.0,), (1.0 - slope,)


def _rrelu(
    z: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, generator: Any = None
) -> Knots | None:
    return None if training else _leaky_relu(z, (lower + upper) / 2)


def _absolute(z: Tensor) -> Knots:
    return -1.0, 0.0, (0.0,), (2.0,)


def _clamp(z: Tensor, min: Number | None = None, max: Number | None = None) -> Knots | None:
    """Torch's clamp: where ``min > max`` the result is ``max``."""
    low = None if _is_infinite(min) else min
    high = None if _is_infinite(max) else max
    if low is not None and high is not None:
        low = _minimum(low, high)
        bends = high > low  # constant where both are equal, and then without a knot
        jump = bends.double() if isinstance(bends, Tensor) else float(bends)
        return 0.0, low, (low, high), (jump, -jump)
    if low is not None:
        return 0.0, low, (low,), (1.0,)
    return None if high is None else (1.0, 0.0, (high,), (-1.0,))


def _hardtanh(z: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> Knots | None:
    return _clamp(z, min_val, max_val)


def _relu6(z: Tensor) -> Knots | None:
    return _clamp(z, 0.0, 6.0)


def _hardsigmoid(z: Tensor) -> Knots:
    return 0.0, 0.0, (-3.0, 3.0), (1 / 6, -1 / 6)


def _softshrink(z: Tensor, lambd: float = 0.5) -> Knots:
    """Nearer to 0 by ``lambd``, and 0 within; without knots if ``lambd`` is 0."""
    jump = float(lambd > 0)
    return 1.0, lambd, (-lambd, lambd), (-jump, jump)


def _threshold(z: Tensor, threshold: float, value: float) -> Knots | None:
    """Continuous only if the value below the threshold is the threshold itself."""
    return _clamp(z, threshold) if threshold == value else None


KNOTS: dict[str, Callable[..., Knots | None]] = {
    "relu": _relu,
    "leaky_relu": _leaky_relu,
    "prelu": _prelu,
    "_prelu_kernel": lambda z, weight: (weight, 0.0, (0.0,), (1.0 - weight,)),
    "rrelu": _rrelu,
    "abs": _absolute,
    "clamp": _clamp,
    "clip": _clamp,
    "clamp_min": lambda z, min: _clamp(z, min),
    "clamp_max": lambda z, max: _clamp(z, None, max),
    **dict.fromkeys(("maximum", "max", "fmax"), lambda z, other: _clamp(z, other)),
    **dict.fromkeys(("minimum", "min", "fmin"), lambda z, other: _clamp(z, None, other)),
    "hardtanh": _hardtanh,
    "relu6": _relu6,
    "hardsigmoid": _hardsigmoid,
    "softshrink": _softshrink,
    "threshold": _threshold,
}
"""Operator -> its knots as an activation of its first argument; None if these arguments make it none."""

COMMUTATIVE = frozenset("maximum max fmax minimum min fmin".split())


def _is_infinite(bound: Number | None) -> bool:
    return isinstance(bound, float) and math.isinf(bound)


def _minimum(a: Number, b: Number) -> Number:
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return torch.minimum(torch.as_tensor(a, dtype=torch.float64), torch.as_tensor(b, dtype=torch.float64))
    return min(a, b)
