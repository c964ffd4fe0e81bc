"""What only moves, picks, repeats or joins entries."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from splinecam_lite.network.onnx.node import OnnxNode, Operator, as_tensor


def reshape(node: OnnxNode, x: Tensor, target: Any) -> Tensor:
    """Regroup entries in their order. A leading 1 that was the number of samples stays their number."""
    sizes = node.integers(target)
    if not node.attribute("allowzero", 0):
        sizes = [x.shape[i] if is_number(n, 0) else n for i, n in enumerate(sizes)]
    if keeps_first_axis(node) and sizes and is_number(sizes[0], 1):
        sizes[0] = x.shape[0]
    return x.reshape(sizes)


def keeps_first_axis(node: OnnxNode) -> bool:
    """Whether the first axis of a node's input has one entry for one sample, and so is the samples' own."""
    shape = node.shapes[0] if node.shapes else None
    return shape is not None and shape[:1] == (1,)


def is_number(size: Any, number: int) -> bool:
    """Whether a size is a certain number; the number of samples, a symbol, is not compared with any."""
    return isinstance(size, int) and size == number


def flatten(node: OnnxNode, x: Tensor) -> Tensor:
    """Two axes: those before ``axis``, and those from there on."""
    axis = node.attribute("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    if axis == 0:
        return x.flatten(1) if keeps_first_axis(node) else x.reshape(1, -1)
    y = x.flatten(0, axis - 1) if axis > 1 else x
    return y.flatten(1) if y.ndim > 1 else y.unsqueeze(1)


def transpose(node: OnnxNode, x: Tensor) -> Tensor:
    """Order the axes anew; by default in reverse."""
    return x.permute(list(node.attribute("perm", range(x.ndim - 1, -1, -1))))


def squeeze(node: OnnxNode, x: Tensor, axes: Any = None) -> Tensor:
    """Leave out axes of size 1; by default all, but that of the samples."""
    listed = node.listed("axes", axes)
    if listed is None:
        listed = [i for i in range(1, x.ndim) if is_number(x.shape[i], 1)]
    return x.squeeze([int(axis) % x.ndim for axis in listed])


def unsqueeze(node: OnnxNode, x: Tensor, axes: Any = None) -> Tensor:
    """Put in axes of size 1."""
    listed = node.listed("axes", axes)
    if listed is None:
        raise node.error("has no axes")
    rank = x.ndim + len(listed)
    for axis in sorted(int(a) % rank for a in listed):
        x = x.unsqueeze(axis)
    return x


def concat(node: OnnxNode, *values: Any) -> Tensor:
    """Join along an axis; a constant of one sample is joined to every sample."""
    tensors = [as_tensor(v) for v in values]
    axis = node.attribute("axis") % tensors[0].ndim
    samples = tensors[node.positions[0]].shape[0]
    if axis != 0:
        tensors = [
            t.expand(samples, *t.shape[1:]) if i in node.constants and t.shape[0] == 1 else t
            for i, t in enumerate(tensors)
        ]
    return torch.cat(tensors, axis)


def split(node: OnnxNode, x: Tensor, sizes: Any = None) -> Any:
    """Cut along an axis into parts of given sizes, or into as many equal ones as there are outputs."""
    axis = node.attribute("axis", 0)
    listed = node.listed("split", sizes)
    if listed is None:
        n = node.attribute("num_outputs", node.n_outputs)
        each = -(-int(x.shape[axis]) // n)
        listed = [min(each, int(x.shape[axis]) - i * each) for i in range(n)]
    parts = x.split(listed, axis)
    return parts[0] if len(node.writes) == 1 else parts[: len(node.writes)]


def slice_(node: OnnxNode, x: Tensor, *given: Any) -> Tensor:
    """Pick ranges along axes, backwards where a step is negative."""
    starts, ends, axes, steps = slice_arguments(node, x.ndim, *given)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step > 0:
            x = x[(slice(None),) * axis + (slice(start, end, step),)]
        else:
            places = range(int(x.shape[axis]))[slice(start, None if end < -(2**31) else end, step)]
            x = x.index_select(axis, torch.tensor(list(places), dtype=torch.int64))
    return x


def slice_arguments(node: OnnxNode, rank: int, *given: Any) -> tuple[list[Any], ...]:
    """Starts, ends, axes and steps: inputs since opset 10, attributes before."""
    starts, ends, axes, steps = (*given, None, None, None, None)[:4]
    first = node.listed("starts", starts) or []
    along = node.listed("axes", axes) or list(range(len(first)))
    by = node.listed("steps", steps) or [1] * len(first)
    return first, node.listed("ends", ends) or [], [a % rank for a in along], by


def gather(node: OnnxNode, x: Tensor, indices: Any) -> Tensor:
    """Pick entries along an axis by constant indices."""
    if not isinstance(x, Tensor):
        x = as_tensor(x)
    axis = node.attribute("axis", 0) % x.ndim
    size, shape = x.shape[axis], np.shape(indices)
    picked = [i + int(size) if i < 0 else i for i in node.integers(indices)]
    if shape == ():
        return x.select(axis, picked[0])
    y = x.index_select(axis, torch.tensor(picked, dtype=torch.int64))
    return y if len(shape) == 1 else y.unflatten(axis, shape)


def expand(node: OnnxNode, x: Tensor, target: Any) -> Tensor:
    """Repeat along axes of size 1, as broadcasting does."""
    sizes = node.integers(target)
    missing = x.ndim - len(sizes)
    sizes = [1] * missing + sizes
    own = [1] * -missing + list(x.shape)
    return x.expand([n if is_number(size, 1) else size for n, size in zip(own, sizes, strict=True)])


def tile(node: OnnxNode, x: Tensor, repeats: Any) -> Tensor:
    """Repeat along axes."""
    return x.repeat(node.integers(repeats))


def pad(node: OnnxNode, x: Tensor, pads: Any = None, value: Any = None, axes: Any = None) -> Tensor:
    """Pad with a constant, by reflection, with the edge, or around; negative pads cut off."""
    listed = node.listed("pads", pads)
    if listed is None:
        raise node.error("has no pads")
    n = len(listed) // 2
    along = [int(a) % x.ndim for a in (node.integers(axes) if axes is not None else range(n))]
    before, after = [0] * x.ndim, [0] * x.ndim
    for axis, b, a in zip(along, listed[:n], listed[n:], strict=True):
        before[axis], after[axis] = b, a
    mode = node.attribute("mode", "constant")
    if mode == "constant":
        number = node.attribute("value", 0.0) if node.opset < 11 else node.number(2, 0.0)
        ends = [size for pair in zip(reversed(before), reversed(after), strict=True) for size in pair]
        return F.pad(x, ends, value=number)
    for axis, (b, a) in enumerate(zip(before, after, strict=True)):
        if b or a:
            places = np.pad(np.arange(int(x.shape[axis])), (b, a), mode=mode)  # the same words as numpy's
            x = x.index_select(axis, torch.from_numpy(places))
    return x


def where(node: OnnxNode, condition: Any, x: Any, y: Any) -> Tensor:
    """Pick entries of two values by a constant condition."""
    if 0 not in node.constants and isinstance(condition, Tensor):
        raise node.error("chooses by data; write the network as one fixed sequence of operations")
    return torch.where(as_tensor(condition).bool(), as_tensor(x), as_tensor(y))


def depth_to_space(node: OnnxNode, x: Tensor) -> Tensor:
    """Move channels into blocks of pixels."""
    b = node.attribute("blocksize")
    if node.attribute("mode", "DCR") == "CRD":
        return F.pixel_shuffle(x, b)
    n, c, h, w = x.shape
    y = x.reshape(n, b, b, c // (b * b), h, w).permute(0, 3, 4, 1, 5, 2)
    return y.reshape(n, c // (b * b), h * b, w * b)


def space_to_depth(node: OnnxNode, x: Tensor) -> Tensor:
    """Move blocks of pixels into channels."""
    b = node.attribute("blocksize")
    n, c, h, w = x.shape
    y = x.reshape(n, c, h // b, b, w // b, b).permute(0, 3, 5, 1, 2, 4)
    return y.reshape(n, c * b * b, h // b, w // b)


def cast(node: OnnxNode, x: Tensor) -> Tensor:
    """Keep floating numbers as they are: all are float64 here."""
    from onnx import TensorProto

    wanted = node.attribute("to", TensorProto.FLOAT)  # CastLike has none, and is only met with floats
    if wanted not in (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16):
        name = TensorProto.DataType.Name(wanted)
        raise node.error(f"casts data to {name}, which rounds it and is not piecewise linear; leave it out")
    return x


def dropout(node: OnnxNode, x: Tensor, ratio: Any = None, training: Any = None) -> Any:
    """Do nothing, as in inference."""
    if training is not None and node.number(2):
        raise node.error("is in train mode, and draws random numbers; export the model in eval mode")
    if len(node.writes) > 1:
        raise node.error("writes its mask, which is not read; export the model in eval mode")
    return x


ARRANGING: dict[str, Operator] = {
    "Reshape": reshape,
    "Flatten": flatten,
    "Transpose": transpose,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Concat": concat,
    "Split": split,
    "Slice": slice_,
    "Gather": gather,
    "Expand": expand,
    "Tile": tile,
    "Pad": pad,
    "Where": where,
    "DepthToSpace": depth_to_space,
    "SpaceToDepth": space_to_depth,
    "Cast": cast,
    "CastLike": lambda node, x, like: x,
    "Dropout": dropout,
    "Identity": lambda node, x: x,
    "Shape": lambda node, x: shape_of(node, x),
    "Size": lambda node, x: np.array(x.numel(), dtype=object),
}


def shape_of(node: OnnxNode, x: Tensor) -> np.ndarray:
    """The sizes of a value's axes, or of a range of them."""
    sizes = np.empty(x.ndim, dtype=object)
    sizes[:] = list(x.shape)
    return sizes[node.attribute("start", 0) : node.attributes.get("end")]
