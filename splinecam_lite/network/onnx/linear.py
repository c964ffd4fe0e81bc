"""Products, sums, convolutions and averages: what is affine in the data."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from splinecam_lite.network.onnx.node import OnnxNode, Operator, as_tensor

CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def gemm(node: OnnxNode, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    """``alpha A' B' + beta C``."""
    a = a.transpose(0, 1) if node.attribute("transA", 0) else a
    alpha, beta = node.attribute("alpha", 1.0), node.attribute("beta", 1.0)
    c = None if c is None or beta == 0 else c
    if c is None or (c.ndim == 1 and alpha == beta == 1):
        y = F.linear(a, b if node.attribute("transB", 0) else b.transpose(0, 1), c)
        return y if alpha == 1 else y * alpha
    y = a @ (b.transpose(0, 1) if node.attribute("transB", 0) else b)
    y = y if alpha == 1 else y * alpha
    return y + (c if beta == 1 else c * beta)


def matmul(node: OnnxNode, a: Tensor, b: Tensor) -> Tensor:
    """``A B`` over the last two axes."""
    return torch.matmul(a, b)


def add_all(node: OnnxNode, *terms: Tensor) -> Tensor:
    """Sum of any number of values."""
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def mean_of_all(node: OnnxNode, *terms: Tensor) -> Tensor:
    """Mean of any number of values."""
    return add_all(node, *terms) / len(terms)


def einsum(node: OnnxNode, *values: Tensor) -> Tensor:
    """Sum of products by index letters."""
    return torch.einsum(node.attribute("equation"), *values)


def batch_normalization(
    node: OnnxNode, x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, variance: Tensor
) -> Any:
    """Batch norm with the statistics of the file."""
    if node.attribute("training_mode", 0) or len(node.writes) > 1:
        raise node.error("normalises by statistics of the batch; export the model in eval mode")
    if not node.attribute("spatial", 1):
        raise node.error("has spatial=0, statistics for each pixel, which is not read; use spatial=1")
    if any(i not in node.constants for i in range(1, 5)):
        raise node.error("normalises by numbers that are computed; they must be constant")
    return F.batch_norm(x, mean, variance, scale, shift, False, 0.0, node.attribute("epsilon", 1e-5))


def pads_of(
    node: OnnxNode, sizes: list[int], kernel: list[int], strides: list[int], dilations: list[int]
) -> tuple[list[int], list[int]]:
    """Padding before and after each axis, from ``pads`` or ``auto_pad``."""
    n, auto = len(kernel), node.attribute("auto_pad", "NOTSET")
    if auto == "NOTSET":
        pads = list(node.attribute("pads", [0] * 2 * n))
        return pads[:n], pads[n:]
    if auto == "VALID":
        return [0] * n, [0] * n
    before, after = [], []
    for size, k, s, d in zip(sizes, kernel, strides, dilations, strict=True):
        total = max((math.ceil(size / s) - 1) * s + (k - 1) * d + 1 - size, 0)
        less, more = total // 2, total - total // 2
        before.append(less if auto == "SAME_UPPER" else more)
        after.append(more if auto == "SAME_UPPER" else less)
    return before, after


def convolution(node: OnnxNode, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolution along one, two or three axes."""
    if as_tensor(weight) is not weight or weight.ndim - 2 not in CONVOLUTIONS:
        raise node.error(f"has a kernel of shape {tuple(weight.shape)}; one to three axes are read")
    kernel = list(weight.shape[2:])
    n = len(kernel)
    strides, dilations = node.attribute("strides", [1] * n), node.attribute("dilations", [1] * n)
    before, after = pads_of(node, list(x.shape[2:]), kernel, strides, dilations)
    padding = before
    if before != after:
        x, padding = F.pad(x, _torch_pads(before, after)), [0] * n
    return CONVOLUTIONS[n](
        x, weight, bias, list(strides), padding, list(dilations), node.attribute("group", 1)
    )


def transposed_convolution(node: OnnxNode, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Transposed convolution; what ``pads`` cut off is cut off at the end where it is not symmetric."""
    n = weight.ndim - 2
    if n not in TRANSPOSED:
        raise node.error(f"has a kernel of shape {tuple(weight.shape)}; one to three axes are read")
    strides, dilations = node.attribute("strides", [1] * n), node.attribute("dilations", [1] * n)
    extra = list(node.attribute("output_padding", [0] * n))
    whole = [
        s * (size - 1) + e + (k - 1) * d + 1
        for size, s, e, k, d in zip(x.shape[2:], strides, extra, weight.shape[2:], dilations, strict=True)
    ]
    before, after = _cut_off(node, list(x.shape[2:]), list(strides), whole)
    symmetric = before == after and min(before) >= 0
    y = TRANSPOSED[n](
        x,
        weight,
        bias,
        list(strides),
        before if symmetric else 0,
        [0] * n if not symmetric else extra,
        node.attribute("group", 1),
        list(dilations),
    )
    if symmetric:
        return y
    if bias is not None and any(e > a for e, a in zip(extra, after, strict=True)):
        raise node.error("pads its output beyond what it computes; use symmetric pads")
    return F.pad(y, _torch_pads([-b for b in before], [e - a for e, a in zip(extra, after, strict=True)]))


def _cut_off(
    node: OnnxNode, sizes: list[int], strides: list[int], whole: list[int]
) -> tuple[list[int], list[int]]:
    """What a transposed convolution cuts off before and after each axis."""
    n, auto = len(sizes), node.attribute("auto_pad", "NOTSET")
    wanted = node.attribute("output_shape", None)
    if wanted is None and auto == "NOTSET":
        pads = list(node.attribute("pads", [0] * 2 * n))
        return pads[:n], pads[n:]
    if wanted is None and auto == "VALID":
        return [0] * n, [0] * n
    wanted = (
        [size * s for size, s in zip(sizes, strides, strict=True)] if wanted is None else list(wanted)[-n:]
    )
    total = [w - o for w, o in zip(whole, wanted, strict=True)]
    less = [t // 2 for t in total]
    more = [t - half for t, half in zip(total, less, strict=True)]
    return (less, more) if auto == "SAME_UPPER" else (more, less)


def _torch_pads(before: list[int], after: list[int]) -> list[int]:
    """Torch pads from the last axis to the first."""
    return [n for pair in zip(reversed(before), reversed(after), strict=True) for n in pair]


def axes_of(node: OnnxNode, axes: Any, rank: int) -> list[int] | None:
    """The axes of a reduction, from 0; None if it reduces none."""
    listed = node.listed("axes", axes)
    if not listed:
        return None if node.attribute("noop_with_empty_axes", 0) else list(range(rank))
    return sorted(int(a) % rank for a in listed)


def reduced_sum(node: OnnxNode, x: Tensor, axes: Any = None) -> Tensor:
    """Sum over axes."""
    along = axes_of(node, axes, x.ndim)
    return x if along is None else x.sum(along, keepdim=bool(node.attribute("keepdims", 1)))


def reduced_mean(node: OnnxNode, x: Tensor, axes: Any = None) -> Tensor:
    """Mean over axes."""
    along = axes_of(node, axes, x.ndim)
    return x if along is None else x.mean(along, keepdim=bool(node.attribute("keepdims", 1)))


LINEAR: dict[str, Operator] = {
    "Gemm": gemm,
    "MatMul": matmul,
    "Add": add_all,
    "Sum": add_all,
    "Mean": mean_of_all,
    "Sub": lambda node, a, b: a - b,
    "Mul": lambda node, a, b: a * b,
    "Div": lambda node, a, b: a / b,
    "Neg": lambda node, x: -x,
    "Einsum": einsum,
    "Conv": convolution,
    "ConvTranspose": transposed_convolution,
    "BatchNormalization": batch_normalization,
    "ReduceSum": reduced_sum,
    "ReduceMean": reduced_mean,
    "GlobalAveragePool": lambda node, x: x.mean(list(range(2, x.ndim)), keepdim=True),
}
