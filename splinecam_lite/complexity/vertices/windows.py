"""Convolutions of images that are 0 outside a small box: of the box and its surroundings alone.

A bump (`factored`) starts as one entry of an image and grows by a kernel's width with each
convolution; in the first layers of a network it is a thousandth of the image or less.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from splinecam_lite.engine.kernels import kernel
from splinecam_lite.network.chain import BATCH_FIRST, Chain, Constant
from splinecam_lite.network.program import Op

Ints = NDArray[np.int64]

LOCAL = 0.5
"""Share of the output, up to which a box is convolved alone."""


class Convolution(NamedTuple):
    """A 2-d convolution without bias, on images (batch, channels, height, width)."""

    weight: Tensor
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @staticmethod
    def of(op: Op) -> "Convolution | None":
        """Return what the linear part of an op does, if that is a convolution."""
        chain = getattr(op, "linear", None)
        if not isinstance(chain, Chain) or len(chain.steps) != 1:
            return None
        step = chain.steps[0]
        plain = (*chain.input_axes, chain.output_axis) == (BATCH_FIRST, BATCH_FIRST) and not step.kwargs
        weight = step.args[1] if len(step.args) > 1 else None
        if step.target != "aten.conv2d.default" or not plain or not isinstance(weight, Constant):
            return None
        if len(step.args) > 2 and step.args[2] is not None:
            return None
        return Convolution(chain.constants[weight.key], *step.args[3:])

    def __call__(self, images: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Convolve images that are 0 almost everywhere; the result has shape (batch, *shape)."""
        out = images.new_zeros(len(images), *shape)
        box = boxes(images)
        spans = [_Span.of(self, 0, box[:, 0], box[:, 1], shape[1])]
        spans += [_Span.of(self, 1, box[:, 2], box[:, 3], shape[2])]
        sizes = np.stack([span.stop - span.start for span in spans], axis=1)
        sizes[box[:, 0] > box[:, 1]] = 0  # all is 0
        area = sizes.prod(axis=1)
        is_dense = area > LOCAL * shape[1] * shape[2]
        if is_dense.any():
            dense = torch.from_numpy(np.flatnonzero(is_dense))
            out[dense] = self._run(images[dense], self.padding)
        for size in np.unique(sizes[(area > 0) & ~is_dense], axis=0):
            some = np.flatnonzero((sizes == size).all(axis=1))
            read = [(int(size[axis]) - 1) * self.stride[axis] + self._width(axis) for axis in (0, 1)]
            parts = images.new_zeros(len(some), images.shape[1], *read)
            for part, number in zip(parts, some, strict=True):
                y0, y1, x0, x1 = (int(end) for span in spans for end in span.inside(int(number)))
                y, x = (int(span.first[number]) for span in spans)
                part[:, y0 - y : y1 - y, x0 - x : x1 - x] = images[number, :, y0:y1, x0:x1]
            for result, number in zip(self._run(parts, (0, 0)), some, strict=True):
                y, x = (int(span.start[number]) for span in spans)
                out[number, :, y : y + size[0], x : x + size[1]] = result
        return out

    def _run(self, images: Tensor, padding: tuple[int, int]) -> Tensor:
        return torch.nn.functional.conv2d(
            images, self.weight, None, self.stride, padding, self.dilation, self.groups
        )

    def _width(self, axis: int) -> int:
        return self.dilation[axis] * (self.weight.shape[2 + axis] - 1) + 1


class _Span(NamedTuple):
    """Along one axis, for each image: results that its box touches, and what these read. (batch,) all."""

    start: Ints
    """First result."""
    stop: Ints
    first: Ints
    """First entry that is read; negative in the padding."""
    box: tuple[Ints, Ints]
    """First and last entry that is not 0."""
    width: Ints
    """Entries that are read."""

    @staticmethod
    def of(convolution: "Convolution", axis: int, low: Ints, high: Ints, length: int) -> "_Span":
        stride, padding = convolution.stride[axis], convolution.padding[axis]
        width = convolution._width(axis)
        start = np.maximum(-(-(low + padding - width + 1) // stride), 0)
        stop = np.minimum((high + padding) // stride + 1, length)
        stop = np.maximum(stop, start)
        return _Span(start, stop, start * stride - padding, (low, high), (stop - start - 1) * stride + width)

    def inside(self, image: int) -> tuple[int, int]:
        """Return the part of the box that is read, first entry and the one after the last."""
        begin = max(self.first[image], self.box[0][image])
        return begin, max(begin, min(self.first[image] + self.width[image], self.box[1][image] + 1))


def boxes(images: Tensor) -> Ints:
    """Return the first and last row and column that are not 0, of images (batch, c, h, w) on the CPU.

    Returns
    -------
    (batch, 4) int64
        First after last where all is 0.

    Examples
    --------
    >>> image = torch.zeros(1, 1, 4, 5)
    >>> image[0, 0, 1:3, 2] = 1.0
    >>> boxes(image).tolist()
    [[1, 2, 2, 2]]
    """
    out = np.empty((len(images), 4), np.int64)
    _boxes(images.contiguous().numpy(), out)
    return out


@kernel
def _boxes(images: NDArray[np.floating], out: Ints) -> None:
    batch, channels, height, width = images.shape
    for b in range(batch):
        top, bottom, left, right = height, -1, width, -1
        for c in range(channels):
            for y in range(height):
                row = images[b, c, y]
                some = False
                for x in range(width):
                    some |= row[x] != 0.0
                if not some:
                    continue
                top, bottom = min(top, y), max(bottom, y)
                for x in range(width):
                    if row[x] != 0.0:
                        left, right = min(left, x), max(right, x)
        out[b, 0], out[b, 1], out[b, 2], out[b, 3] = top, bottom, left, right
