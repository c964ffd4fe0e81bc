"""The exact count: which neurons change sign anywhere in a neighbourhood in a plane of the input space.

With two directions the neighbourhood of the estimate is the diamond conv(x ± r v_1, x ± r v_2), a domain
whose exact partition the engine computes; discs and squares of the same radius hold it. On each region every
preactivation ``z`` is affine, so over the closed domain ``z`` is least and largest at places that are known
(`complexity.neighbourhoods.clipping`), and a neuron crosses if there

    min z < 0 <= max z

as in the estimate, whose 2P = 4 vertices are the diamond's corners: the estimate is a lower bound, and
reaches it for diamonds on the first layer, which is affine on the whole domain (as is every layer with no
activation before it). Crossings at 0 are found whether or not the activation has a knot there.

Rounding does not break the bound. 0 counts as positive on both sides. At a vertex on its own knot a neuron
has ``z = 0`` but for rounding, so ``|z|`` up to the engine's snap (``2^-40`` of the scale of the neuron) is 0
here. The estimate knows no scales and takes signs as they come out. So what it finds at the corners, with
the very arithmetic of `vertex_ranges`, counts here, too; and on the first layer of a diamond nothing
else does.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from splinecam_lite.complexity.batches import check_batch_size, default_batch
from splinecam_lite.complexity.current import CurrentProgram
from splinecam_lite.complexity.frames import as_points, as_tensor, check_frame, check_radius
from splinecam_lite.complexity.neighbourhoods.clipping import Inside, clipped, whole
from splinecam_lite.complexity.neighbourhoods.domains import (
    AREAS,
    DomainPlans,
    Ranges,
    Shape,
    check_shape,
    ranges_on_domains,
)
from splinecam_lite.complexity.neighbourhoods.extremes import Extremes
from splinecam_lite.complexity.neighbourhoods.sheet import Network, Sheet
from splinecam_lite.complexity.neighbourhoods.together import (
    Clipper,
    common_domain,
    pays,
    places,
    require_plane,
)
from splinecam_lite.complexity.result import ComplexityResult
from splinecam_lite.engine.engine import run
from splinecam_lite.engine.interrupts import apart
from splinecam_lite.engine.predicate import knot_tolerance
from splinecam_lite.errors import ModelError, NeighbourhoodError
from splinecam_lite.network.program import Program
from splinecam_lite.partition.door import thread_count
from splinecam_lite.partition.layers import layers_of
from splinecam_lite.partition.linear import path_sums_of
from splinecam_lite.partition.staged import comparisons_of
from splinecam_lite.partition.workers import one_thread_per_worker

Array = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True, eq=False, repr=False)
class ExactComplexity(ComplexityResult):
    """Exact crossings in neighbourhoods, and what else their partitions tell; see `ComplexityResult`.

    Attributes
    ----------
    shape : "diamond", "disc" or "square"
    together : bool
        Whether one partition of a larger domain served all points.
    n_regions : (points,) int64
        Activation regions that meet the open neighbourhood.
    n_linear_regions : (points,) int64
        Linear regions: activation regions with one output map, joined across borders inside the
        neighbourhood; -1 where the network's numbers are too large for exact arithmetic to tell.
    knot_length : (points,) float64
        Length of all knots inside, in input units, those of maxima included; knots that lie on one another
        count once.
    layer_knot_length : (points, layers) float64
        Length of the knots of each layer of activations.
    n_snaps : (points,) int64
        Decisions of the engine that rest on a value within rounding of 0, in the partition that was used.
    """

    shape: Shape
    together: bool
    n_regions: Counts
    n_linear_regions: Counts
    knot_length: Array
    layer_knot_length: Array
    n_snaps: Counts

    @property
    def area(self) -> float:
        """Of each neighbourhood, in input units squared."""
        return AREAS[self.shape] * self.radius**2


@apart
def exact_complexity(
    model: nn.Module | Program | str | Path,
    points: object,
    frame: object,
    radius: float,
    *,
    shape: Shape = "diamond",
    together: bool | None = None,
    batch_size: int | None = None,
) -> ExactComplexity:
    """Count exactly the neurons that cross neighbourhoods of radius ``radius`` around points, in a plane.

    Parameters
    ----------
    model : nn.Module or Program
        Piecewise linear. A module is exported at each call; for many calls give the `Program`.
    points : (points, *input_shape) array or tensor
    frame : (2, *input_shape), or (points, 2, *input_shape) with one for each point
        Orthonormal; `random_frame` draws one.
    radius : float
        In input units: half the diagonal of a diamond, radius of a disc, half the width of a square. The
        diamond is that of the estimate; each of the three holds the one before.
    shape : "diamond", "disc" or "square"
    together : bool, optional
        Partition one domain that holds all neighbourhoods, or each by itself. The former needs points in one
        plane, and one frame. Counts are the same, lengths but for rounding. Default: the cheaper one.
    batch_size : int, optional
        Points whose corners are evaluated at once, at least 1. By default as many as `LocalComplexity` takes;
        the counts do not depend on it, but for preactivations within rounding of 0.

    Returns
    -------
    ExactComplexity

    Raises
    ------
    NotPiecewiseLinear
        If the network has no exact partition.
    NeighbourhoodError
        If points, frame, radius or shape do not fit, or the points do not lie in one plane and are to be
        taken together.

    Examples
    --------
    The neuron of the second layer is negative at all four corners, and positive in the middle: the estimate
    misses it.

    >>> model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1), nn.ReLU()).eval()
    >>> _ = model[0].weight.data.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    >>> _ = model[2].weight.data.copy_(torch.tensor([[-1.0, -1.0]]))
    >>> _ = model[0].bias.data.zero_(), model[2].bias.data.fill_(0.25)
    >>> exact = exact_complexity(model, [[0.0, 0.0]], [[0.8, 0.6], [-0.6, 0.8]], 1.0)
    >>> exact.per_layer.tolist(), exact.n_regions.tolist(), exact.n_linear_regions.tolist()
    ([[2, 1]], [4], [4])
    """
    batch_size, radius, shape = check_batch_size(batch_size), check_radius(radius), check_shape(shape)
    if together is not None and not isinstance(together, bool):
        raise TypeError(f"together is {together!r}; give True, False, or None for the cheaper one")
    x = as_points(points).cpu().double()
    program = CurrentProgram(model).program(tuple(x.shape[1:])).to(torch.float64, "cpu")
    if tuple(x.shape[1:]) != program.input_shape:
        raise ModelError(
            f"the points have shape {tuple(x.shape)}; "
            f"this network takes (points, {str(program.input_shape)[1:]}"
        )
    frames = _checked(frame, x)
    if together and frames.ndim > x.ndim:
        raise NeighbourhoodError("together=True needs one frame for all points, and each has its own")
    # The batches of the estimate for these four vertices: matrix products of other sizes round otherwise.
    step = batch_size or default_batch(program, 4)
    count = _Count(program, x, frames, radius, shape, step)
    if together is not False:
        count.share(needed=bool(together))
    for start in range(0, len(x), step):
        count.add(slice(start, start + step))
    return count.result()


def _checked(frame: object, x: Tensor) -> Tensor:
    """Return the frame, (2, *input_shape) or (points, 2, *input_shape), if it is one."""
    frames = as_tensor(frame).cpu().double()
    shape = tuple(x.shape[1:])
    check_frame(frames, shape)
    expected = (len(x), 2, *shape)
    if tuple(frames.shape) not in (expected, expected[1:]):
        raise NeighbourhoodError(
            f"the frame has shape {tuple(frames.shape)}; "
            f"exact counts need two directions, {expected[1:]}, or {expected}"
        )
    return frames


class _Shared(NamedTuple):
    """The one partition that serves all points with knots near them."""

    sheet: Sheet
    clipper: Clipper
    uv: Array
    """(points, 2): where each point lies in its chart."""


class _Count:
    """The counts around all points, filled in batch by batch.

    Parameters
    ----------
    program : Program
        Float64, on the CPU.
    x : (points, *input_shape) Tensor
    frames : (2, *input_shape) or (points, 2, *input_shape) Tensor
    radius : float
    shape : Shape
    step : int
        Points of a batch.
    """

    def __init__(self, program: Program, x: Tensor, frames: Tensor, radius: float, shape: Shape, step: int):
        self._program, self._x, self._frames = program, x, frames
        self._radius, self._shape, self._step = radius, shape, step
        self._one_frame = frames.ndim == x.ndim
        first = frames if self._one_frame else frames[0]
        self._plans = DomainPlans(program, x[0], first, radius, shape)
        bounds = (frames.abs() if self._one_frame else frames.abs().amax(dim=0)).flatten(1)
        columns = torch.cat((bounds, x.abs().amax(dim=0).flatten()[None]))
        self._network = Network(
            program.compared(),
            comparisons_of(program),
            layers_of(program, self._plans.template),
            path_sums_of(program.compared(), columns.numpy()),
        )
        self._shared: _Shared | None = None
        n, layers = len(x), len(program.n_neurons)
        self._crossings = np.zeros((n, layers), np.int64)
        self._regions, self._linear = np.ones(n, np.int64), np.ones(n, np.int64)
        self._snaps = np.zeros(n, np.int64)
        self._length, self._layer_length = np.zeros(n), np.zeros((n, layers))

    def result(self) -> ExactComplexity:
        """Return what was counted."""
        return ExactComplexity(
            self._crossings,
            np.array(self._program.n_neurons, dtype=np.int64),
            self._program.layer_names,
            self._radius,
            2,
            self._shape,
            self._shared is not None,
            self._regions,
            self._linear,
            self._length,
            self._layer_length,
            self._snaps,
        )

    def _frames_of(self, some: slice) -> Tensor:
        return self._frames if self._one_frame else self._frames[some]

    def _ranges(self, some: slice) -> list[Ranges]:
        frames = self._frames_of(some)
        return ranges_on_domains(self._program, self._x[some], frames, self._radius, self._shape)

    def share(self, *, needed: bool) -> None:
        """Partition one domain for all points, if that is needed, or possible and cheaper.

        Raises
        ------
        NeighbourhoodError
            If it is needed and not possible.
        """
        if not self._one_frame or (len(self._x) < 2 and not needed):
            return
        found = places(self._x, self._frames)
        if needed:
            require_plane(found)
        elif found.off > found.allowed:
            return
        cut, scales = self._cut_and_scales()
        if not cut.any():
            return
        domain = common_domain(found.uv[cut], self._radius, self._shape)
        near = self._x[torch.from_numpy(cut)]
        if not needed and not pays(
            self._program, near, self._frames, found.uv[cut], domain, self._radius, self._shape
        ):
            return
        plan = self._plans.plan(self._x[0], self._frames, scales, domain)
        with one_thread_per_worker():
            result = run(plan, threads=thread_count(None))
        sheet = Sheet(self._network, plan, result)
        self._shared = _Shared(sheet, Clipper(sheet, self._shape, self._radius), found.uv)

    def _cut_and_scales(self) -> tuple[NDArray[np.bool_], list[Array]]:
        """Tell which domains knots pass through (points,), and the largest scales in these, by layer."""
        cut = np.zeros(len(self._x), bool)
        scales: list[Array] = []
        for start in range(0, len(self._x), self._step):
            some = slice(start, start + self._step)
            ranges = self._ranges(some)
            cut[some] = here = self._plans.cut(ranges, len(cut[some]))
            largest = [at.scale[here].max(axis=0, initial=0.0) for at in ranges]
            scales = list(map(np.maximum, scales, largest)) if scales else largest
        return cut, scales

    def add(self, some: slice) -> None:
        """Count around the points of one batch."""
        x, frames, ranges = self._x[some], self._frames_of(some), self._ranges(some)
        cut = np.flatnonzero(self._plans.cut(ranges, len(x)))
        counted = [at for at in ranges if at.counted]
        if len(cut):
            insides = []
            for i in cut:
                sheet, inside = self._around(some.start + int(i), [at.scale[i] for at in ranges])
                self._note(some.start + int(i), sheet, inside)
                insides.append(inside)
            chosen = torch.from_numpy(cut)
            extremes = Extremes(self._program, x[chosen], frames if self._one_frame else frames[chosen])
            extremes.see(insides, self._radius, default_batch(self._program, 1))
            for layer, low in extremes.low.items():
                counted[layer].low[cut], counted[layer].high[cut] = low, extremes.high[layer]
        for layer, at in enumerate(counted):
            self._crossings[some, layer] = _crosses(at, self._shape).sum(axis=1)

    def _around(self, i: int, scales: list[Array]) -> tuple[Sheet, Inside]:
        """Return a partition of the domain around point ``i``, and what of it is inside."""
        if self._shared is not None:
            return self._shared.sheet, self._shared.clipper.inside(self._shared.uv[i])
        frame = self._frames if self._one_frame else self._frames[i]
        plan = self._plans.plan(self._x[i], frame, scales)
        sheet = Sheet(self._network, plan, run(plan))
        if self._shape != "disc":
            return sheet, whole(sheet.complex)
        nowhere = np.zeros(2)
        return sheet, clipped(sheet.complex, sheet.inner, "disc", self._radius, nowhere, sheet.extent)

    def _note(self, i: int, sheet: Sheet, inside: Inside) -> None:
        """Write down what is inside the domain of point ``i``."""
        found = sheet.measure(inside)
        self._regions[i], self._linear[i] = found.n_regions, found.n_linear_regions
        self._length[i], self._layer_length[i] = found.knot_length, found.layer_knot_length
        self._snaps[i] = len(sheet.result.snaps)


def _crosses(at: Ranges, shape: Shape) -> NDArray[np.bool_]:
    """Tell which neurons change sign in the domains, from their ranges there; (points, n_neurons)."""
    if at.affine and shape == "diamond":
        return at.estimated
    # `engine.predicate.sign`, for all points at once: -1 occurs, and 0 or +1 does
    tolerance = knot_tolerance(at.scale, 0.0)
    return at.estimated | ((at.low < -tolerance) & (at.high >= -tolerance))
