"""What the engine is measured against: RegionCam, and one forward pass over the final vertices."""

import copy
import time

import numpy as np
import torch
from torch import nn

from splinecam_lite import Slice

BATCH_SIZES = (256, 512, 1024, 2048, 4096)
# A batch size is timed again, up to five times, until its runs took this long together.
SHORT_SECONDS = 0.5


def run_regioncam(model: nn.Sequential, plane: Slice):
    """RegionCam's partition of the square domain of ``plane``; it has ``num_faces`` and ``num_vertices``.

    The chart is folded into the first linear layer in float64 and rounded to float32 once, so that RegionCam
    carries no input-sized layer: the kindest form for it.
    """
    import regioncam

    half_width = float(np.abs(plane.domain).max())
    result = regioncam.Regioncam(size=half_width)
    for number, layer in enumerate(model):
        if isinstance(layer, nn.Linear):
            weight = layer.weight.detach().double().numpy()
            bias = layer.bias.detach().double().numpy()
            if number == 0:
                weight, bias = weight @ plane.directions.T, bias + weight @ plane.origin
            # RegionCam multiplies from the right and keeps no reference to what it is given.
            result.linear(np.ascontiguousarray(weight.T, dtype=np.float32), bias.astype(np.float32))
        elif isinstance(layer, nn.ReLU):
            result.relu()
        else:
            raise TypeError(f"RegionCam is given Linear and ReLU only, not {type(layer).__name__}")
    return result


def forward_pass(
    model: nn.Module, plane: Slice, vertices: np.ndarray, batch_size: int
) -> tuple[float, np.ndarray]:
    """Seconds and outputs (n, n_out) of the float64 network over ``vertices`` (n, 2), on the current threads.

    ``batch_size`` vertices go through at a time; lifting them into the input space is not in the time.
    """
    outputs, seconds = [], 0.0
    with torch.inference_mode():
        for start in range(0, len(vertices), batch_size):
            x = torch.from_numpy(plane.lift(vertices[start : start + batch_size]))
            begin = time.perf_counter()
            y = model(x)
            seconds += time.perf_counter() - begin
            outputs.append(y.reshape(len(x), -1).numpy())
    return seconds, np.concatenate(outputs)


def fastest_batch_size(model: nn.Module, plane: Slice, vertices: np.ndarray) -> int:
    """The batch size with the least time per vertex, found on one batch of each size after a warm-up."""
    forward_pass(model, plane, vertices[:256], 256)
    per_vertex = {}
    for size in BATCH_SIZES:
        batch = vertices[:size]
        seconds = [forward_pass(model, plane, batch, size)[0]]
        while sum(seconds) < SHORT_SECONDS and len(seconds) < 5:
            seconds.append(forward_pass(model, plane, batch, size)[0])
        per_vertex[size] = min(seconds) / len(batch)
    return min(per_vertex, key=per_vertex.__getitem__)


def as_float64(model: nn.Module) -> nn.Module:
    """A float64 copy of ``model``."""
    return copy.deepcopy(model).double()
