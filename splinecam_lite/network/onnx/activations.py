"""Functions of each entry. Those that are not piecewise linear run, and are refused by name when asked for
an exact partition."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from splinecam_lite.network.onnx.arranging import is_number
from splinecam_lite.network.onnx.linear import axes_of
from splinecam_lite.network.onnx.node import OnnxNode, Operator

LARGEST_FLOAT32 = torch.finfo(torch.float32).max
"""Bounds that far out, the defaults of old opsets, are none."""


def clip(node: OnnxNode, x: Tensor, low: object = None, high: object = None) -> Tensor:
    """Clip to constant bounds: attributes before opset 11, inputs since."""
    if node.opset < 11:
        lowest, highest = node.attribute("min", None), node.attribute("max", None)
    else:
        lowest, highest = node.number(1), node.number(2)
    lowest = None if lowest is None or lowest <= -LARGEST_FLOAT32 else lowest
    highest = None if highest is None or highest >= LARGEST_FLOAT32 else highest
    return x if lowest is None and highest is None else x.clamp(lowest, highest)


def hard_sigmoid(node: OnnxNode, x: Tensor) -> Tensor:
    """``max(0, min(1, alpha x + beta))`` with the slope of the file, which is a float32."""
    return (x * node.attribute("alpha", 0.2) + node.attribute("beta", 0.5)).clamp(0.0, 1.0)


def prelu(node: OnnxNode, x: Tensor, slope: Tensor) -> Tensor:
    """LeakyReLU with a slope for each entry, broadcast to it."""
    return torch.ops.aten._prelu_kernel(x, slope.expand(x.shape[1:]) if slope.ndim < x.ndim else slope)


def extremum(largest: bool) -> Operator:
    """The largest, or smallest, of any number of values, entry by entry.

    Several values that depend on the data are compared in one tournament, so that no comparison is made
    that does not matter; constants bound its result.
    """
    pair = torch.maximum if largest else torch.minimum

    def operator(node: OnnxNode, *values: Tensor) -> Tensor:
        data = [values[i] for i in node.positions]
        constants = [v for i, v in enumerate(values) if i in node.constants]
        result = data[0]
        if len(data) == 2:
            result = pair(*data)
        elif len(data) > 2:
            shape = broadcast_shape(data)
            stacked = torch.stack([value.expand(shape) for value in data], dim=-1)
            result = stacked.amax(-1) if largest else stacked.amin(-1)
        for constant in constants:
            result = pair(result, constant)
        return result

    return operator


def broadcast_shape(values: Sequence[Tensor]) -> list[Any]:
    """The common shape of values, the number of samples among its sizes not compared with any."""
    rank = max(value.ndim for value in values)
    along = [[v.shape[axis] for v in values if v.ndim >= -axis] for axis in range(-rank, 0)]
    return [next((n for n in sizes if not is_number(n, 1)), 1) for sizes in along]


def reduced_extremum(largest: bool) -> Operator:
    """The largest, or smallest, entry over axes."""

    def operator(node: OnnxNode, x: Tensor, axes: object = None) -> Tensor:
        along = axes_of(node, axes, x.ndim)
        if along is None:
            return x
        keep = bool(node.attribute("keepdims", 1))
        return x.amax(along, keepdim=keep) if largest else x.amin(along, keepdim=keep)

    return operator


def shrink(node: OnnxNode, x: Tensor) -> Tensor:
    """0 between ``-lambd`` and ``lambd``, moved towards 0 by ``bias`` outside."""
    bias, width = node.attribute("bias", 0.0), node.attribute("lambd", 0.5)
    if bias == width:
        return F.softshrink(x, width)
    if bias == 0:
        return F.hardshrink(x, width)
    return torch.where(x > width, x - bias, torch.where(x < -width, x + bias, 0.0))


def softmax(node: OnnxNode, x: Tensor) -> Tensor:
    """Softmax along an axis; before opset 13 along all from there on."""
    if node.opset >= 13:
        return torch.softmax(x, node.attribute("axis", -1))
    axis = node.attribute("axis", 1) % x.ndim
    return torch.softmax(x.flatten(axis), axis).reshape(x.shape)


def log_softmax(node: OnnxNode, x: Tensor) -> Tensor:
    """Logarithm of softmax."""
    return torch.log(softmax(node, x))


def layer_normalization(node: OnnxNode, x: Tensor, scale: Tensor, shift: Tensor | None = None) -> Tensor:
    """Layer norm over all axes from one on."""
    if len(node.writes) > 1:
        raise node.error("writes its mean and deviation, which is not read; take its first output only")
    shape = list(x.shape[node.attribute("axis", -1) % x.ndim :])
    bias = None if shift is None else shift.expand(shape)
    return F.layer_norm(x, shape, scale.expand(shape), bias, node.attribute("epsilon", 1e-5))


def instance_normalization(node: OnnxNode, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Instance norm."""
    return F.instance_norm(x, weight=scale, bias=shift, eps=node.attribute("epsilon", 1e-5))


ACTIVATIONS: dict[str, Operator] = {
    "Relu": lambda node, x: torch.relu(x),
    "LeakyRelu": lambda node, x: F.leaky_relu(x, node.attribute("alpha", 0.01)),
    "PRelu": prelu,
    "Abs": lambda node, x: x.abs(),
    "Clip": clip,
    "HardSigmoid": hard_sigmoid,
    "Max": extremum(largest=True),
    "Min": extremum(largest=False),
    "ReduceMax": reduced_extremum(largest=True),
    "ReduceMin": reduced_extremum(largest=False),
    "GlobalMaxPool": lambda node, x: x.amax(list(range(2, x.ndim)), keepdim=True),
    "Shrink": shrink,
    "ThresholdedRelu": lambda node, x: F.threshold(x, node.attribute("alpha", 1.0), 0.0),
    "HardSwish": lambda node, x: F.hardswish(x),
    "Sigmoid": lambda node, x: torch.sigmoid(x),
    "Tanh": lambda node, x: torch.tanh(x),
    "Softplus": lambda node, x: F.softplus(x),
    "Elu": lambda node, x: F.elu(x, node.attribute("alpha", 1.0)),
    "Gelu": lambda node, x: F.gelu(x, approximate=node.attribute("approximate", "none")),
    "Mish": lambda node, x: F.mish(x),
    "Erf": lambda node, x: torch.erf(x),
    "Exp": lambda node, x: torch.exp(x),
    "Log": lambda node, x: torch.log(x),
    "Sqrt": lambda node, x: torch.sqrt(x),
    "Reciprocal": lambda node, x: torch.reciprocal(x),
    "Sin": lambda node, x: torch.sin(x),
    "Cos": lambda node, x: torch.cos(x),
    "Pow": lambda node, x, exponent: x**exponent,
    "Sign": lambda node, x: torch.sign(x),
    "Floor": lambda node, x: torch.floor(x),
    "Ceil": lambda node, x: torch.ceil(x),
    "Round": lambda node, x: torch.round(x),
    "Softmax": softmax,
    "LogSoftmax": log_softmax,
    "LayerNormalization": layer_normalization,
    "InstanceNormalization": instance_normalization,
}
