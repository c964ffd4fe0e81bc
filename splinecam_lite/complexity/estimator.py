"""Local complexity, sampled: which neurons change sign among the vertices of a cross-polytope.

Source: "Deep Networks Always Grok and Here is Why" (arXiv 2402.15555, section 2.2, Eq. 6). The 2P vertices of
the neighbourhood of a point are pushed through the network; a neuron *crosses* if its preactivation ``z`` is
not on one side of 0 at all of them, 0 itself counting as positive:

    min z < 0 <= max z      over the vertices

Up to the first nonlinearity the network is affine, and a value at ``x ± r v`` is ``A(x) ± r A_0(v)``
(``A_0``: ``A`` without bias). It is kept in these two parts, a `Spread`, so that the first and widest layers
see ``points + P`` inputs and not ``points * 2P``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor, nn

from splinecam_lite.complexity.current import CurrentProgram
from splinecam_lite.complexity.frames import as_points, check_frame, check_radius, random_frame, random_frames
from splinecam_lite.complexity.result import ComplexityResult
from splinecam_lite.errors import ModelError
from splinecam_lite.network.program import AffineOp, Op, Program

CPU_BATCH_BYTES = 2**24
"""Memory for the live values of one batch: a few times the cache. Smaller batches make matrix products slow,
larger ones fetch every value from memory again."""

ACCELERATOR_BATCH_BYTES = 2**30
"""The same on any other device, where only large batches are fast."""


@dataclass(frozen=True)
class Spread:
    """A value at the vertices of a batch of neighbourhoods, while it is affine in the input.

    Attributes
    ----------
    centre : (batch, *shape)
    offset : (P, *shape), or (batch, P, *shape) with one frame for each point
        The value at vertex ``x ± r v_p`` is ``centre ± offset[p]``.
    """

    centre: Tensor
    offset: Tensor

    @property
    def _axis(self) -> int:
        return self.offset.ndim - self.centre.ndim

    def apply(self, op: AffineOp, others: "list[Spread]") -> "Spread":
        """Apply an affine op to this and its further inputs."""
        parts = [self, *others]
        centre = op.run(*(s.centre for s in parts))
        if self._axis == 0:
            return Spread(centre, op.linear(*(s.offset for s in parts)))
        rows = op.linear(*(s.offset.flatten(0, 1) for s in parts))
        return Spread(centre, rows.unflatten(0, self.offset.shape[:2]))

    def values(self) -> Tensor:
        """The value at every vertex, (batch * 2P, *shape)."""
        directions = self.offset.shape[self._axis]
        shape = self.centre.shape
        values = self.centre.new_empty(shape[0], 2 * directions, *shape[1:])
        centre = self.centre.unsqueeze(1)
        torch.add(centre, self.offset, out=values[:, :directions])
        torch.sub(centre, self.offset, out=values[:, directions:])
        return values.flatten(0, 1)

    def range(self) -> tuple[Tensor, Tensor]:
        """Least and largest value over the vertices of each neighbourhood, (batch, *shape)."""
        reach = self.offset.abs().amax(dim=self._axis)
        return self.centre - reach, self.centre + reach


Value = Spread | Tensor


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
    model : nn.Module or Program
        A module is exported at the first call, once.
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
        model: nn.Module | Program,
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
        self.radius, self.seed, self.dtype = check_radius(radius), seed, dtype
        self.frame_per_point = frame_per_point
        self._frame = None if frame is None else torch.as_tensor(frame).detach().cpu().double()
        self.directions = directions if self._frame is None else len(self._frame)
        self._network = CurrentProgram(model)

    def __call__(self, points: object, *, batch_size: int | None = None) -> ComplexityResult:
        """Count crossings around each point.

        Parameters
        ----------
        points : (points, *input_shape) array or tensor
        batch_size : int, optional
            Points at once; the counts do not depend on it. Default: by the memory that they take.

        Returns
        -------
        ComplexityResult
        """
        x = as_points(points)
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
    batch = len(inputs.centre)
    layer_of = {id(op): layer for layer, op in enumerate(program.preactivation_ops)}
    counts = torch.zeros(batch, len(layer_of), dtype=torch.int64, device=program.device)
    live: dict[int, Value] = {0: inputs}
    with torch.autocast(program.device.type, enabled=False):
        for i, op in enumerate(program.ops):
            if id(op) in layer_of:
                layer = layer_of[id(op)]
                low, high = _range(live[op.inputs[0]], batch)
                if low.numel() and not bool(low.amin().isfinite() & high.amax().isfinite()):
                    raise ModelError(
                        f"the preactivations of {op.where} are not finite; look for weights that diverged"
                    )
                counts[:, layer] = ((low < 0) & (high >= 0)).flatten(1).sum(dim=1)
                if layer == len(layer_of) - 1:
                    break
            live[op.output] = _applied(op, [live[v] for v in op.inputs])
            for v in {*op.inputs, op.output}:
                if program.last_use(v) <= i:
                    del live[v]
    return counts


def _applied(op: Op, inputs: list[Value]) -> Value:
    """Apply one op; what it writes stays spread if it is affine and all that it reads is spread."""
    spread = [v for v in inputs if isinstance(v, Spread)]
    if isinstance(op, AffineOp) and len(spread) == len(inputs):
        return spread[0].apply(op, spread[1:])
    return op.run(*(v.values() if isinstance(v, Spread) else v for v in inputs))


def _range(value: Value, batch: int) -> tuple[Tensor, Tensor]:
    """Least and largest value over the vertices of each neighbourhood, (batch, *shape)."""
    if isinstance(value, Spread):
        return value.range()
    # Two passes: torch's aminmax over this axis is three times slower than amin and amax together.
    vertices = value.unflatten(0, (batch, -1))
    return vertices.amin(dim=1), vertices.amax(dim=1)
