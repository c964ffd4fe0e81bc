"""Local complexity, sampled: which neurons change sign among the vertices of a cross-polytope.

Source: "Deep Networks Always Grok and Here is Why" (arXiv 2402.15555, section 2.2, Eq. 6). The 2P vertices of
the neighbourhood of a point are pushed through the network; a neuron *crosses* if its preactivation ``z`` is
not on one side of 0 at all of them, 0 itself counting as positive:

    min z < 0 <= max z      over the vertices
"""

from collections.abc import Iterator
from math import prod
from numbers import Integral
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from splinecam_lite.complexity.current import CurrentProgram
from splinecam_lite.complexity.frames import as_points, check_frame, check_radius, random_frame, random_frames
from splinecam_lite.complexity.result import ComplexityResult
from splinecam_lite.complexity.vertices import Spread, vertex_ranges
from splinecam_lite.errors import ModelError
from splinecam_lite.network.program import AffineOp, Program

CPU_BATCH_BYTES = 2**24
"""Memory for the live values of one batch: a few times the cache. Smaller batches make matrix products slow,
larger ones fetch every value from memory again."""

ACCELERATOR_BATCH_BYTES = 2**30
"""The same on any other device, where only large batches are fast."""


class LocalComplexity:
    """The sampled local complexity of a network.

    Call it with points of shape (points, *input_shape), an array or a tensor; it returns a
    `ComplexityResult`. Any network that torch can export will do, GELU and attention included: a layer of
    preactivations is the input of one activation. The network is measured in eval mode, with the weights that
    it has at the time of the call; it and torch's random state are left as they are.

    The count is a lower bound on the neurons whose zero set meets the whole neighbourhood, and equal to it on
    the first layer; `exact_complexity` tells how much is missed.

    Parameters
    ----------
    model : nn.Module, Program, str or Path
        A module is exported at the first call, once; an ``.onnx`` or ``.pt2`` file is read then.
    radius : float
        Of the neighbourhoods, in input units.
    directions : int
        P: 2P vertices a neighbourhood. At most the number of entries of an input.
    seed : int
        Of the frame. The same at every call, so that a curve over training does not depend on when it was
        measured.
    frame : (P, *input_shape), optional
        Orthonormal directions to use instead of random ones.
    frame_per_point : bool
        Draw a random frame for each point of a call, instead of one for all. Slower.
    dtype : torch.dtype
        float64, or float32: faster, and right but for preactivations within rounding of 0.

    Raises
    ------
    NeighbourhoodError
        If the radius is not positive; when called, if points or frame do not fit the network, or there are
        fewer than P directions.

    Examples
    --------
    Two lines cross the neighbourhood of the origin; the third passes at a distance.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)).eval()
    >>> _ = model[0].weight.data.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
    >>> _ = model[0].bias.data.copy_(torch.tensor([0.0, 0.0, 1.0]))
    >>> result = LocalComplexity(model, radius=0.5, directions=2)([[0.0, 0.0], [5.0, 5.0]])
    >>> result.per_layer.tolist(), result.layer_names
    ([[2], [0]], ('1',))
    """

    def __init__(
        self,
        model: nn.Module | Program | str | Path,
        radius: float = 0.005,
        directions: int = 25,
        seed: int = 0,
        *,
        frame: object = None,
        frame_per_point: bool = False,
        dtype: torch.dtype = torch.float64,
    ):
        if dtype not in (torch.float64, torch.float32):
            raise TypeError(f"the dtype is {dtype}; give torch.float64 or torch.float32")
        if frame is not None and frame_per_point:
            raise TypeError("a frame and frame_per_point were both given; give one")
        if not _is_int(directions):
            raise TypeError(f"directions is {directions!r}; give how many, an int")
        self.radius, self.seed, self.dtype = check_radius(radius), seed, dtype
        self.frame_per_point = frame_per_point
        self._frame = None if frame is None else torch.as_tensor(frame).detach().cpu().double()
        self.directions = int(directions) if self._frame is None else len(self._frame)
        self._network = CurrentProgram(model)

    def __call__(self, points: object, *, batch_size: int | None = None) -> ComplexityResult:
        """Count crossings around each point.

        Parameters
        ----------
        points : (points, *input_shape) array or tensor
        batch_size : int, optional
            Points at once, at least 1; the counts do not depend on it, but for preactivations within
            rounding of 0. Default: by the memory that they take.

        Returns
        -------
        ComplexityResult
        """
        x, batch_size = as_points(points), check_batch_size(batch_size)
        shape = tuple(x.shape[1:])
        program = self._network.program(shape).to(self.dtype, self._network.device)
        if shape != program.input_shape:
            raise ModelError(
                f"the points have shape {tuple(x.shape)}; "
                f"this network takes (points, {str(program.input_shape)[1:]}"
            )
        shared = None if self.frame_per_point else self._offset(program)
        counts = []
        for some in _chunks(len(x), batch_size or default_batch(program, 2 * self.directions)):
            centre = x[some.start : some.stop].to(program.device, self.dtype)
            offset = self._offset(program, some) if shared is None else shared
            counts.append(count_crossings(program, Spread(centre, offset)))
        return ComplexityResult(
            torch.cat(counts).cpu().numpy(),
            np.array(program.n_neurons, dtype=np.int64),
            program.layer_names,
            self.radius,
            self.directions,
        )

    def frame(self, input_shape: tuple[int, ...], points: range | None = None) -> Tensor:
        """Return the frame that is used for inputs of this shape, or those of the given points.

        Returns
        -------
        (P, *input_shape) float64 Tensor, or (len(points), P, *input_shape) if each point has its own
        """
        if self._frame is not None:
            check_frame(self._frame, input_shape)
            return self._frame
        if self.frame_per_point:
            if points is None:
                raise TypeError("every point has a frame of its own; say of which points")
            return random_frames(input_shape, self.directions, self.seed, numbers=points)
        return random_frame(input_shape, self.directions, self.seed)

    def _offset(self, program: Program, points: range | None = None) -> Tensor:
        return (self.radius * self.frame(program.input_shape, points)).to(program.device, program.dtype)


def _chunks(n: int, size: int) -> Iterator[range]:
    for start in range(0, n, size):
        yield range(start, min(start + size, n))


def _is_int(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_batch_size(batch_size: int | None) -> int | None:
    """Return the batch size as it is: None, or an int of at least 1.

    Raises
    ------
    TypeError, ValueError
        If it is anything else.

    Examples
    --------
    >>> check_batch_size(-1)
    Traceback (most recent call last):
        ...
    ValueError: batch_size is -1; give at least 1, or None to leave it to the memory
    """
    if batch_size is None:
        return None
    if not _is_int(batch_size):
        raise TypeError(f"batch_size is {batch_size!r}; give an int, or None to leave it to the memory")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; give at least 1, or None to leave it to the memory")
    return int(batch_size)


def default_batch(program: Program, vertices: int) -> int:
    """Return how many neighbourhoods of that many vertices are taken through a program at once."""
    on_cpu = program.device.type == "cpu"
    each = vertices * _live_entries(program) * torch.finfo(program.dtype).bits // 8
    return max(1, (CPU_BATCH_BYTES if on_cpu else ACCELERATOR_BATCH_BYTES) // max(each, 1))


def _live_entries(program: Program) -> int:
    """Most entries of values that are held for one vertex at any time, spread ones aside."""
    spread, live, most = {0}, {}, 0
    for i, op in enumerate(program.ops):
        if isinstance(op, AffineOp) and spread.issuperset(op.inputs):
            spread.add(op.output)
            continue
        # An op that reads a spread value writes it out first.
        written_out = sum(prod(program.shapes[v]) for v in set(op.inputs) & spread)
        live[op.output] = prod(program.shapes[op.output])
        most = max(most, sum(live.values()) + written_out)
        live = {v: n for v, n in live.items() if program.last_use(v) > i}
    return most


@torch.inference_mode()
def count_crossings(program: Program, inputs: Spread) -> Tensor:
    """Count the neurons of each layer that cross in a batch of neighbourhoods.

    Parameters
    ----------
    program : Program
    inputs : Spread
        The points as centre, and the frame times the radius as offset.

    Returns
    -------
    (batch, layers) int64 Tensor

    Raises
    ------
    ModelError
        If a preactivation is NaN or infinite.
    """
    counts = torch.zeros(len(inputs.centre), len(program.n_neurons), dtype=torch.int64, device=program.device)
    with torch.autocast(program.device.type, enabled=False):
        for layer, found in enumerate(vertex_ranges(program, inputs)):
            counts[:, layer] = found.crosses().flatten(1).sum(dim=1)
    return counts
