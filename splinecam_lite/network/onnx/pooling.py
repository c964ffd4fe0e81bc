"""Max and average pooling over windows along one, two or three axes."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from splinecam_lite.network.onnx.linear import pads_of
from splinecam_lite.network.onnx.node import OnnxNode, Operator

MAX_POOLS = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
AVERAGE_POOLS = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}

Along = list[int]


class Windows:
    """The windows of a pooling node: kernel, strides, dilations, padding and number, for each axis."""

    def __init__(self, node: OnnxNode, x: Tensor):
        self.kernel: Along = list(node.attribute("kernel_shape"))
        n = len(self.kernel)
        if n not in MAX_POOLS or x.ndim != n + 2:
            raise node.error(f"pools {n} axes of a value of shape {tuple(x.shape)}; one to three are read")
        self.strides: Along = list(node.attribute("strides", [1] * n))
        self.dilations: Along = list(node.attribute("dilations", [1] * n))
        self.sizes: Along = list(map(int, x.shape[2:]))
        self.before, self.after = pads_of(node, self.sizes, self.kernel, self.strides, self.dilations)
        self.rounds_up = bool(node.attribute("ceil_mode", 0))
        self.counts = [self._count(i) for i in range(n)]

    def span(self, i: int) -> int:
        """Entries from the first to the last of a window."""
        return (self.kernel[i] - 1) * self.dilations[i] + 1

    def _count(self, i: int) -> int:
        room = self.sizes[i] + self.before[i] + self.after[i] - self.span(i)
        count = (math.ceil if self.rounds_up else math.floor)(room / self.strides[i]) + 1
        # A window that lies in the padding after the entries is none.
        past = self.rounds_up and (count - 1) * self.strides[i] >= self.sizes[i] + self.before[i]
        return count - past

    def entries(self, i: int) -> list[list[int]]:
        """Places along axis ``i`` of each window; outside of the value where that is padding."""
        return [
            [o * self.strides[i] - self.before[i] + k * self.dilations[i] for k in range(self.kernel[i])]
            for o in range(self.counts[i])
        ]

    @property
    def is_torch_padding(self) -> bool:
        """Whether torch has this padding: the same on both sides, at most half a window."""
        half = all(b <= self.span(i) / 2 and b <= self.kernel[i] // 2 for i, b in enumerate(self.before))
        return self.before == self.after and half


def max_pool(node: OnnxNode, x: Tensor) -> Any:
    """Max pooling. Padding never wins, so windows may as well repeat an entry that they have."""
    if len(node.writes) > 1:
        raise node.error("writes the places of its maxima, which is not read; take its first output only")
    w = Windows(node, x)
    n = len(w.kernel)
    if w.is_torch_padding:
        return MAX_POOLS[n](x, w.kernel, w.strides, w.before, w.dilations, w.rounds_up)
    for i in range(n):
        windows = []
        for places in w.entries(i):
            valid = [p for p in places if 0 <= p < w.sizes[i]]
            if not valid:
                raise node.error("has windows that lie in the padding altogether; use less padding")
            windows += [p if 0 <= p < w.sizes[i] else valid[0] for p in places]
        x = _gathered(x, i + 2, windows, w.kernel[i]).amax(i + 3)
    return x


def average_pool(node: OnnxNode, x: Tensor) -> Tensor:
    """Average pooling; padding counts if ``count_include_pad``."""
    w = Windows(node, x)
    n, with_padding = len(w.kernel), bool(node.attribute("count_include_pad", 0))
    if w.is_torch_padding and set(w.dilations) == {1}:
        return AVERAGE_POOLS[n](x, w.kernel, w.strides, w.before, w.rounds_up, with_padding)
    counts = torch.ones((), dtype=torch.float64)
    for i in range(n):
        # A zero after the last entry stands for all padding; it is added, and does not count.
        x = F.pad(x, [0, 0] * (n - 1 - i) + [0, 1])
        size, end = w.sizes[i], w.sizes[i] + w.after[i] if with_padding else w.sizes[i]
        start = -w.before[i] if with_padding else 0
        windows = w.entries(i)
        along = [sum(start <= p < end for p in places) for places in windows]
        x = _gathered(x, i + 2, [p if 0 <= p < size else size for ps in windows for p in ps], w.kernel[i])
        x = x.sum(i + 3)
        counts = counts[..., None] * torch.tensor(along, dtype=torch.float64)
    return x / counts


def _gathered(x: Tensor, axis: int, places: list[int], length: int) -> Tensor:
    """The entries of windows of one length, in an axis after that of the windows."""
    picked = x.index_select(axis, torch.tensor(places))
    return picked.unflatten(axis, (len(places) // length, length))


POOLING: dict[str, Operator] = {"MaxPool": max_pool, "AveragePool": average_pool}
