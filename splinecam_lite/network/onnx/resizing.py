"""Resizing: along each axis an entry of the result is one entry of the value, or a mean of two neighbours.

Nearest picks entries; linear multiplies by a matrix of weights along one axis after the other. Both are
affine, and exact in exact mode, whatever the convention for coordinates.
"""

import math
from typing import Any

import torch
from torch import Tensor

from splinecam_lite.network.onnx.node import OnnxNode, Operator

ROUNDING = {
    "round_prefer_floor": lambda x: math.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: math.floor(x + 0.5),
    "floor": math.floor,
    "ceil": math.ceil,
}


def resize(node: OnnxNode, x: Tensor, *given: Any) -> Tensor:
    """Upsample (opsets 7 and 9) and Resize."""
    mode = node.attribute("mode", "nearest")
    mode = "linear" if mode == "bilinear" else mode
    if mode not in ("nearest", "linear"):
        raise node.error(f"resizes with mode '{mode}'; nearest and linear are read")
    for name in ("antialias", "exclude_outside"):
        if node.attribute(name, 0):
            raise node.error(f"resizes with {name}=1, which is not read; leave it out")
    for axis, (size, scale) in _targets(node, x, given).items():
        places = [_place(node, o, int(x.shape[axis]), size, scale) for o in range(size)]
        x = _nearest(node, x, axis, places) if mode == "nearest" else _linear(x, axis, places)
    return x


def _targets(node: OnnxNode, x: Tensor, given: tuple[Any, ...]) -> dict[int, tuple[int, float]]:
    """Size and scale of each axis that changes."""
    old = node.op_type == "Upsample" or node.opset < 11
    position, sizes = (1, None) if old else (2, given[2] if len(given) > 2 else None)
    axes = [a % x.ndim for a in node.attribute("axes", range(x.ndim))]
    if sizes is not None and len(node.integers(sizes)):
        if node.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
            raise node.error("resizes by keep_aspect_ratio_policy, which is not read; give the sizes")
        listed = zip(axes, node.integers(sizes), strict=True)
        wanted = {a: int(n) for a, n in listed if a > 0 and x.shape[a] != n}
        return {a: (n, n / int(x.shape[a])) for a, n in wanted.items()}
    scales = node.attributes.get("scales")
    if scales is None:
        scales = _scales(node, position, given[position - 1] if len(given) >= position else None)
    changed = {a: float(s) for a, s in zip(axes, scales, strict=True) if s != 1}
    if 0 in changed:
        raise node.error("resizes the axis of the samples")
    return {a: (math.floor(int(x.shape[a]) * s), s) for a, s in changed.items()}


def _scales(node: OnnxNode, position: int, value: Any) -> list[float]:
    if position in node.constants:
        return [float(s) for s in node.constants[position].reshape(-1)]
    if value is None or isinstance(value, Tensor):
        raise node.error("resizes by scales that are not constant")
    return [float(s) for s in value.reshape(-1)]


def _place(node: OnnxNode, o: int, size: int, wanted: int, scale: float) -> float:
    """Where entry ``o`` of the result lies among those of the value."""
    before = "asymmetric" if node.op_type == "Upsample" or node.opset < 11 else "half_pixel"
    convention = node.attribute("coordinate_transformation_mode", before)
    if convention == "asymmetric":
        return o / scale
    if convention == "align_corners":
        return o * (size - 1) / (size * scale - 1) if wanted > 1 else 0.0
    if convention == "half_pixel" or (convention == "pytorch_half_pixel" and wanted > 1):
        return (o + 0.5) / scale - 0.5
    if convention == "pytorch_half_pixel":
        return 0.0
    if convention == "half_pixel_symmetric":
        adjustment = wanted / (scale * size)
        return size / 2 * (1 - adjustment) + (o + 0.5) / scale - 0.5
    raise node.error(f"resizes with coordinates '{convention}', which are not read; use half_pixel")


def _nearest(node: OnnxNode, x: Tensor, axis: int, places: list[float]) -> Tensor:
    old = node.op_type == "Upsample" or node.opset < 11
    rounding = ROUNDING[node.attribute("nearest_mode", "floor" if old else "round_prefer_floor")]
    last = int(x.shape[axis]) - 1
    return x.index_select(axis, torch.tensor([min(max(rounding(p), 0), last) for p in places]))


def _linear(x: Tensor, axis: int, places: list[float]) -> Tensor:
    size = int(x.shape[axis])
    weights = torch.zeros(len(places), size, dtype=torch.float64)
    for o, place in enumerate(places):
        lower = math.floor(place)
        for entry, weight in ((lower, 1 - (place - lower)), (lower + 1, place - lower)):
            weights[o, min(max(entry, 0), size - 1)] += weight
    return torch.matmul(x.transpose(axis, -1), weights.T).transpose(axis, -1)


RESIZING: dict[str, Operator] = {"Resize": resize, "Upsample": resize}
