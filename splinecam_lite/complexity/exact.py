"""The exact count: which neurons change sign anywhere in a diamond of the input space.

With two directions the neighbourhood of the estimate is the diamond conv(x ± r v_1, x ± r v_2), a domain
whose exact partition the engine computes. On each of its regions every preactivation ``z`` is affine, so over
the closed diamond ``z`` is least and largest at vertices of the partition, and a neuron crosses if there

    min z < 0 <= max z

as in the estimate, whose 2P = 4 vertices are the diamond's corners: the estimate is a lower bound, and
reaches it on the first layer, which is affine on the whole diamond (as is every layer with no activation
before it).

Rounding does not break the bound. 0 counts as positive on both sides. At a vertex on its own knot a neuron
has ``z = 0`` but for rounding, so ``|z|`` up to the engine's snap (``2^-40`` of the scale of the neuron) is 0
here. The estimate knows no scales and takes signs as they come out. So what it finds at the corners, with
the very arithmetic of `complexity.vertices`, counts here, too; and on the first layer nothing else does.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor, nn

from splinecam_lite.complexity.current import CurrentProgram
from splinecam_lite.complexity.diamonds import DiamondPlans, Ranges, corner_ranges
from splinecam_lite.complexity.estimator import check_batch_size, default_batch
from splinecam_lite.complexity.frames import as_points, check_frame, check_radius
from splinecam_lite.complexity.result import ComplexityResult
from splinecam_lite.engine.comparisons import Comparisons, irrelevant_edges
from splinecam_lite.engine.engine import EngineResult, factored_patterns, run
from splinecam_lite.engine.predicate import knot_tolerance
from splinecam_lite.errors import ModelError, NeighbourhoodError
from splinecam_lite.network.program import Program
from splinecam_lite.partition.layers import Layer, activations, decode, layers_of
from splinecam_lite.partition.staged import comparisons_of

Array = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True, eq=False, repr=False)
class ExactComplexity(ComplexityResult):
    """Exact crossings in diamonds, and what else their partitions tell; see `ComplexityResult`.

    Attributes
    ----------
    n_regions : (points,) int64
        Activation regions.
    knot_length : (points,) float64
        Length of all knots inside, in input units, those of maxima included; knots that lie on one another
        count once.
    layer_knot_length : (points, layers) float64
        Length of the knots of each layer of activations.
    n_snaps : (points,) int64
        Decisions of the engine that rest on a value within rounding of 0.
    """

    n_regions: Counts
    knot_length: Array
    layer_knot_length: Array
    n_snaps: Counts

    @property
    def area(self) -> float:
        """Of each diamond, in input units squared."""
        return 2.0 * self.radius**2


def exact_complexity(
    model: nn.Module | Program | str | Path,
    points: object,
    frame: object,
    radius: float,
    *,
    batch_size: int | None = None,
) -> ExactComplexity:
    """Count exactly the neurons that cross the diamonds of radius ``radius`` around points.

    Parameters
    ----------
    model : nn.Module or Program
        Piecewise linear. A module is exported at each call; for many calls give the `Program`.
    points : (points, *input_shape) array or tensor
    frame : (2, *input_shape), or (points, 2, *input_shape) with one for each point
        Orthonormal; `random_frame` draws one.
    radius : float
        Half the diagonal of the diamonds, in input units.
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
        If points, frame or radius do not fit.

    Examples
    --------
    The neuron of the second layer is negative at all four corners, and positive in the middle: the estimate
    misses it.

    >>> model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1), nn.ReLU()).eval()
    >>> _ = model[0].weight.data.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    >>> _ = model[2].weight.data.copy_(torch.tensor([[-1.0, -1.0]]))
    >>> _ = model[0].bias.data.zero_(), model[2].bias.data.fill_(0.25)
    >>> exact = exact_complexity(model, [[0.0, 0.0]], torch.eye(2), 1.0)
    >>> exact.per_layer.tolist(), exact.n_regions.tolist()
    ([[2, 1]], [4])
    """
    batch_size, radius = check_batch_size(batch_size), check_radius(radius)
    x = as_points(points).cpu().double()
    program = CurrentProgram(model).program(tuple(x.shape[1:])).to(torch.float64)
    if tuple(x.shape[1:]) != program.input_shape:
        raise ModelError(
            f"the points have shape {tuple(x.shape)}; "
            f"this network takes (points, {str(program.input_shape)[1:]}"
        )
    frames = _checked(frame, x)
    shared = frames.ndim == x.ndim
    plans = DiamondPlans(program, x[0], frames if shared else frames[0], radius)
    found = _Found.nothing(len(x), len(program.n_neurons))
    # The batches of the estimate for these four vertices: matrix products of other sizes round otherwise.
    step = batch_size or default_batch(program, 4)
    for start in range(0, len(x), step):
        some = slice(start, start + step)
        _count(program, plans, x[some], frames if shared else frames[some], radius, found, start)
    return ExactComplexity(
        found.crossings,
        np.array(program.n_neurons, dtype=np.int64),
        program.layer_names,
        radius,
        2,
        found.n_regions,
        found.knot_length,
        found.layer_knot_length,
        found.n_snaps,
    )


def _checked(frame: object, x: Tensor) -> Tensor:
    """Return the frame, (2, *input_shape) or (points, 2, *input_shape), if it is one."""
    frames = torch.as_tensor(frame).detach().cpu().double()
    shape = tuple(x.shape[1:])
    check_frame(frames, shape)
    expected = (len(x), 2, *shape)
    if tuple(frames.shape) not in (expected, expected[1:]):
        raise NeighbourhoodError(
            f"the frame has shape {tuple(frames.shape)}; "
            f"diamonds need two directions, {expected[1:]}, or {expected}"
        )
    return frames


@dataclass(frozen=True)
class _Found:
    """Arrays that are filled point by point; see `ExactComplexity`."""

    crossings: Counts
    n_regions: Counts
    knot_length: Array
    layer_knot_length: Array
    n_snaps: Counts

    @staticmethod
    def nothing(points: int, layers: int) -> "_Found":
        """Diamonds of one region each."""
        return _Found(
            np.zeros((points, layers), np.int64),
            np.ones(points, np.int64),
            np.zeros(points),
            np.zeros((points, layers)),
            np.zeros(points, np.int64),
        )


def _count(
    program: Program, plans: DiamondPlans, x: Tensor, frames: Tensor, radius: float, found: _Found, start: int
) -> None:
    """Fill in what is found in the diamonds around ``x``, points ``start`` and on."""
    ranges, rows = corner_ranges(program, x, frames, radius), default_batch(program, 1)
    counted, compared = [at for at in ranges if at.counted], comparisons_of(program)
    frames = frames.expand(len(x), 2, *x.shape[1:])
    for i in np.flatnonzero(plans.cut(ranges)):
        plan = plans.plan(x[i], frames[i], [at.scale[i] for at in ranges])
        result = run(plan)
        inside = _vertex_ranges(program, x[i], frames[i], result.complex.xy, rows)
        for at, (low, high) in zip(counted, inside, strict=True):
            at.low[i], at.high[i] = low, high
        inner = _inside_regions(compared, result)
        found.n_regions[start + i] = _n_regions(result, inner)
        found.n_snaps[start + i] = len(result.snaps)
        found.knot_length[start + i], found.layer_knot_length[start + i] = _knot_lengths(
            layers_of(program, plan), result, inner
        )
    for layer, at in enumerate(counted):
        found.crossings[start : start + len(x), layer] = _crosses(at).sum(axis=1)


def _crosses(at: Ranges) -> NDArray[np.bool_]:
    """Tell which neurons change sign in the diamonds, from their ranges there; (points, n_neurons)."""
    if at.affine:
        return at.crosses
    # `engine.predicate.sign`, for all points at once: -1 occurs, and 0 or +1 does
    tolerance = knot_tolerance(at.scale, 0.0)
    return at.crosses | ((at.low < -tolerance) & (at.high >= -tolerance))


@torch.inference_mode()
def _vertex_ranges(
    program: Program, x: Tensor, frame: Tensor, xy: Array, rows: int
) -> list[tuple[Array, Array]]:
    """Return for each layer the least and largest preactivations (n_neurons,) over vertices ``xy`` (V, 2).

    They are evaluated ``rows`` at a time.
    """
    inputs = [op.inputs[0] for op in program.preactivation_ops]
    low: list[Tensor] = [torch.full((n,), torch.inf, dtype=torch.float64) for n in program.n_neurons]
    high = [-bound for bound in low]
    for uv in torch.from_numpy(xy).split(rows):
        values = program.run(x + torch.tensordot(uv, frame, dims=1), keep=inputs)
        for layer, value in enumerate(inputs):
            z = values[value].flatten(1)
            torch.minimum(low[layer], z.amin(dim=0), out=low[layer])
            torch.maximum(high[layer], z.amax(dim=0), out=high[layer])
    return [(a.numpy(), b.numpy()) for a, b in zip(low, high, strict=True)]


def _inside_regions(compared: Comparisons | None, result: EngineResult) -> NDArray[np.bool_]:
    """Tell which edges part nothing but losers of a maximum, (E,)."""
    sides = result.complex.edge_faces
    if compared is None:
        return np.zeros(len(sides), bool)
    patterns = factored_patterns(result.blocks)
    return irrelevant_edges(compared, patterns, sides, result.edge_knot_ptr, result.edge_knots)


def _n_regions(result: EngineResult, inner: NDArray[np.bool_]) -> int:
    """Return the number of sets of faces that the edges ``inner`` (E,) connect."""
    n, sides = result.complex.n_faces, result.complex.edge_faces[inner]
    links = coo_array((np.ones(len(sides), np.int8), tuple(sides.T)), shape=(n, n))
    return int(connected_components(links, directed=False)[0]) if len(sides) else n


def _knot_lengths(
    layers: tuple[Layer, ...], result: EngineResult, inner: NDArray[np.bool_]
) -> tuple[float, Array]:
    """Return the length of all knots, and of those of each layer of activations (layers,)."""
    ends = result.complex.xy[result.complex.edge_vertices]
    length = np.hypot(*(ends[:, 1] - ends[:, 0]).T)
    edge = np.repeat(np.arange(len(length)), np.diff(result.edge_knot_ptr))
    lies_on = np.zeros((len(layers), len(length)), bool)
    lies_on[decode(layers, result.edge_knots)[:, 0], edge] = True
    lies_on[:, inner] = False
    return float(length[lies_on.any(axis=0)].sum()), lies_on[activations(layers)] @ length
