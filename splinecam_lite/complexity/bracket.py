"""Local complexity in the full input dimension, between two certain bounds.

How many neurons cross a whole cross-polytope, P dimensions and all, cannot be counted exactly, but each
neuron can be asked two questions.

* Does it take both signs at places that can be looked at: the vertices, and every point of some segments
  between them? Then it crosses: ``lower`` counts these, and ``estimate`` those seen at the vertices alone.
* Can it be 0 at all? Where a bound on its preactivation over the whole neighbourhood leaves 0 out, it does
  not cross; ``upper`` counts the others.

The truth lies between, for each layer and point. Neurons that are counted above and not below are undecided.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from splinecam_lite.complexity.batches import default_batch, is_int
from splinecam_lite.complexity.bounding.bounds import LayerBounds, layer_bounds, points_at_once
from splinecam_lite.complexity.bounding.rays import Seen, choose_segments, seen_along, seen_at_samples
from splinecam_lite.complexity.bounding.substitution import Transposes
from splinecam_lite.complexity.current import CurrentProgram
from splinecam_lite.complexity.frames import (
    as_points,
    as_tensor,
    check_frame,
    check_radius,
    check_seed,
    cross_polytope,
    random_frame,
)
from splinecam_lite.complexity.layers import Layers, chosen_layers
from splinecam_lite.complexity.vertices.vertices import Spread, vertex_ranges
from splinecam_lite.engine.interrupts import apart
from splinecam_lite.errors import ModelError, NeighbourhoodError
from splinecam_lite.network.program import AffineOp, KnotsOp, MaxOp, Program

SAMPLES = 9
"""Places on each segment at which a network is looked at that is not piecewise linear, ends included."""

Counts = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Bracket:
    """Crossings in whole cross-polytopes, from below and above.

    Attributes
    ----------
    lower : (points, layers) int64
        Neurons seen with both signs at the vertices or along segments.
    estimate : (points, layers) int64
        Those seen with both signs at the vertices: `LocalComplexity`. Never more than ``lower``.
    upper : (points, layers) int64
        All neurons but those that certainly do not cross. Never less than ``lower``.
    n_neurons : (layers,) int64
    layer_names : tuple of str
    radius : float
        In input units.
    directions : int
        P.
    segments : int
        Looked at around each point, the P diagonals included; those on which bounds leave no neuron a second
        sign need not be cut, and are not.
    exact_segments : bool
        Every point of the segments is looked at; else the network is not piecewise linear, and some are.
    bounded : (layers,) bool
        False where an operation comes before of which no bound is known: ``upper`` is all neurons there.

    Examples
    --------
    >>> names, neurons = ("0", "2"), np.array([8, 4])
    >>> counts = [np.array([row]) for row in ([2, 1], [2, 2], [2, 3])]
    >>> result = Bracket(counts[1], counts[0], counts[2], neurons, names, 0.005, 25, 125)
    >>> result.undecided.tolist(), result.recall.tolist(), result.excess.tolist()
    ([0.0, 0.25], [1.0, 0.5], [1.0, 1.5])
    """

    lower: Counts
    estimate: Counts
    upper: Counts
    n_neurons: Counts
    layer_names: tuple[str, ...]
    radius: float
    directions: int
    segments: int
    exact_segments: bool = True
    bounded: NDArray[np.bool_] = field(default_factory=lambda: np.ones(0, bool))

    def __post_init__(self) -> None:
        if len(self.bounded) != len(self.n_neurons):
            object.__setattr__(self, "bounded", np.ones(len(self.n_neurons), bool))
        for counts in (self.lower, self.estimate, self.upper, self.bounded):
            counts.setflags(write=False)

    def __repr__(self) -> str:
        points, layers = self.lower.shape
        means = [float(counts.sum(axis=1).mean()) for counts in (self.estimate, self.lower, self.upper)]
        return (
            f"Bracket({points} points, {layers} layers, r = {self.radius:g}, P = {self.directions}: "
            f"estimate {means[0]:.4g}, between {means[1]:.4g} and {means[2]:.4g} crossings on average)"
        )

    @property
    def undecided(self) -> NDArray[np.float64]:
        """Share of neurons of each layer that are not known to cross, nor known not to, (layers,)."""
        return (self.upper - self.lower).mean(axis=0) / self.n_neurons

    @property
    def recall(self) -> NDArray[np.float64]:
        """``estimate / lower`` for each layer, over all points: at most what its recall of the truth may be.

        NaN where nothing crosses.
        """
        return _ratio(self.estimate, self.lower)

    @property
    def least_recall(self) -> NDArray[np.float64]:
        """``estimate / upper`` for each layer: the estimate finds at least this share of the truth."""
        return _ratio(self.estimate, self.upper)

    @property
    def excess(self) -> NDArray[np.float64]:
        """``upper / lower`` for each layer, over all points: infinite or NaN where nothing is seen."""
        return _ratio(self.upper, self.lower)

    def summary(self) -> str:
        """Return a table of one line for each layer: means over the points, ratios, share undecided."""
        width = max([5, *(len(name) for name in self.layer_names)])
        head = f"{'layer':<{width}}  neurons  estimate     lower     upper  est/lower  est/upper  undecided"
        lines = [head]
        columns = zip(
            self.layer_names,
            self.n_neurons,
            *(counts.mean(axis=0) for counts in (self.estimate, self.lower, self.upper)),
            self.recall,
            self.least_recall,
            self.undecided,
            strict=True,
        )
        for name, n, estimate, lower, upper, recall, least, undecided in columns:
            lines.append(
                f"{name:<{width}}  {n:7d}  {estimate:8.4g}  {lower:8.4g}  {upper:8.4g}  {recall:9.4f}  "
                f"{least:9.4f}  {undecided:9.2%}"
            )
        if not self.exact_segments:
            lines.append(f"not piecewise linear: segments were looked at in {SAMPLES} places each")
        if not self.bounded.all():
            first = self.layer_names[int(np.flatnonzero(~self.bounded)[0])]
            lines.append(f"no bounds from layer {first!r} on: an operation before it has none")
        return "\n".join(lines)


def _ratio(above: Counts, below: Counts) -> NDArray[np.float64]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return above.sum(axis=0) / below.sum(axis=0)


@apart
def bracket(
    model: nn.Module | Program | str | Path,
    points: object,
    radius: float = 0.005,
    directions: int = 25,
    seed: int = 0,
    *,
    frame: object = None,
    segments: int | None = 100,
    layers: Layers | None = None,
) -> Bracket:
    """Bracket the number of neurons that cross the cross-polytopes around points.

    It is computed in float64 on the CPU, whatever the model's dtype.

    Parameters
    ----------
    model : nn.Module, Program, str or Path
        A network that is not piecewise linear has a bracket as well: signs are looked for at some places of
        each segment only, and layers after an operation of which no bound is known are left open above.
    points : (points, *input_shape) array or tensor
    radius : float
        Of the neighbourhoods, in input units.
    directions : int
        P.
    seed : int
        Of the frame, as in `LocalComplexity`, and of the choice of edges.
    frame : (P, *input_shape), or (points, P, *input_shape) with one for each point, optional
        Orthonormal directions to use instead of random ones.
    segments : int or None
        Edges of each cross-polytope that are looked at beside its P diagonals; None for all 2P(P - 1).
    layers : str, int, callable, several of these, or None
        Layers that are wanted, as in `LocalComplexity`; None for all. What comes after the last of them is
        not computed.

    Returns
    -------
    Bracket

    Raises
    ------
    NeighbourhoodError
        If points, frame or radius do not fit, or there are fewer than P directions.
    ModelError
        If the points do not fit the network, a layer is none of it, or preactivations are not finite.

    Notes
    -----
    Layers that no activation comes before are affine: their vertices tell all, and lower and upper are the
    estimate, as in `exact_complexity`. Elsewhere a neuron certainly does not cross if bounds that allow for
    every rounding error of their own leave out 0, under the model of rounding that
    `splinecam_lite.complexity.bounding.forms` states. A sign along a segment counts if it is beyond 2^-40 of
    what the neuron's terms add up to; one at a vertex as it comes out, as in the estimate.

    Larger radii mostly have larger upper counts, but not by necessity: lines around activations are chosen
    for their area, neuron by neuron.

    Time grows with what is left open. In deep convolutional networks, where every open neuron is substituted
    through all layers before it, that is minutes a point; give few points, or ``layers`` near the input.

    Examples
    --------
    The neuron of the second layer is negative at all four vertices, and positive in the middle.

    >>> model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1), nn.ReLU()).eval()
    >>> _ = model[0].weight.data.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    >>> _ = model[2].weight.data.copy_(torch.tensor([[-1.0, -1.0]]))
    >>> _ = model[0].bias.data.zero_(), model[2].bias.data.fill_(0.25)
    >>> result = bracket(model, [[0.0, 0.0]], 1.0, frame=[[0.8, 0.6], [-0.6, 0.8]])
    >>> result.estimate.tolist(), result.lower.tolist(), result.upper.tolist()
    ([[2, 0]], [[2, 1]], [[2, 1]])
    """
    x, radius, seed = as_points(points).cpu().double(), check_radius(radius), check_seed(seed)
    shape = tuple(x.shape[1:])
    program = CurrentProgram(model, all_outputs=True).program(shape).to(torch.float64)
    if shape != program.input_shape:
        raise ModelError(
            f"the points have shape {tuple(x.shape)}; "
            f"this network takes (points, {str(program.input_shape)[1:]}"
        )
    if segments is not None and not is_int(segments):
        raise TypeError(f"segments is {segments!r}; give how many edges to look at, or None for all")
    if segments is not None and segments < 0:
        raise ValueError(f"segments is {segments}; give how many edges to look at, or None for all")
    vectors = random_frame(shape, directions, seed) if frame is None else _checked(frame, x)
    wanted = list(chosen_layers(program, layers))
    work = _Work(program, vectors.shape[vectors.ndim - x.ndim], segments, seed, max(wanted, default=-1) + 1)
    found = []
    step = points_at_once(work.compared, work.directions)
    for start in range(0, len(x), step):
        some = slice(start, start + step)
        offset = radius * (vectors if vectors.ndim == x.ndim else vectors[some])
        found.append(work.counts(x[some], offset))
    counts = np.concatenate(found, axis=1)[:, :, wanted]
    return Bracket(
        counts[0].copy(),
        counts[1].copy(),
        counts[2].copy(),
        np.array(program.n_neurons, dtype=np.int64)[wanted],
        tuple(program.layer_names[layer] for layer in wanted),
        radius,
        work.directions,
        len(work.segments),
        work.exact,
        np.array([work.bounded[layer] for layer in wanted], dtype=bool),
    )


def _checked(frame: object, x: Tensor) -> Tensor:
    vectors = as_tensor(frame).cpu().double()
    check_frame(vectors, tuple(x.shape[1:]))
    if vectors.ndim > x.ndim + 1 or (vectors.ndim == x.ndim + 1 and len(vectors) != len(x)):
        raise NeighbourhoodError(
            f"the frame has shape {tuple(vectors.shape)}; for {len(x)} points of their own it needs "
            f"({len(x)}, P, {str(tuple(x.shape[1:]))[1:]}"
        )
    return vectors


class _Work:
    """What is the same for all points of a call."""

    def __init__(self, program: Program, directions: int, edges: int | None, seed: int, n_layers: int):
        self.program, self.compared = program, program.compared()
        self.directions, self.n_layers = directions, n_layers
        self.exact = all(isinstance(op, AffineOp | KnotsOp | MaxOp) for op in program.ops)
        self.segments = choose_segments(directions, edges, seed)
        self.transposes = Transposes(self.compared)
        self.bounded = [True] * len(program.n_neurons)

    @torch.no_grad()
    def counts(self, x: Tensor, offset: Tensor) -> Counts:
        """Return lower, estimate and upper counts (3, points, layers) around points ``x``."""
        counts = np.zeros((3, len(x), len(self.program.n_neurons)), np.int64)
        estimate = self._estimate(x, offset)
        bounds: list[LayerBounds] = []
        open_: list[Tensor] = []
        for layer, at in zip(
            range(self.n_layers), layer_bounds(self.compared, x, offset, self.transposes), strict=False
        ):
            self.bounded[layer] &= at.known
            possible = estimate[layer] if at.affine else ~at.certain() | estimate[layer]
            counts[1, :, layer] = estimate[layer].sum(dim=1)
            counts[2, :, layer] = possible.sum(dim=1)
            open_.append(possible & ~estimate[layer])
            bounds.append(at)
        counts[0] = counts[1]
        frames = offset.expand(len(x), *offset.shape[offset.ndim - x.ndim :])
        for point in range(len(x)):
            layers = [layer for layer, neurons in enumerate(open_) if neurons[point].any()]
            if layers:
                depth = layers[-1] + 1
                segments = self._open_segments(bounds[:depth], open_, point)
                seen = self._seen(
                    x[point], frames[point], segments, [at.scale[point] for at in bounds[:depth]]
                )
                for layer in layers:
                    counts[0, point, layer] = (seen[layer].crosses() | estimate[layer][point]).sum()
        return counts

    def _estimate(self, x: Tensor, offset: Tensor) -> list[Tensor]:
        """Which neurons of each layer cross at the vertices, (points, n) bool."""
        step = default_batch(self.program, 2 * self.directions)
        parts: list[list[Tensor]] = []
        for start in range(0, len(x), step):
            some = slice(start, start + step)
            spread = Spread(x[some], offset if offset.ndim == x.ndim else offset[some])
            ranges = zip(range(self.n_layers), vertex_ranges(self.program, spread), strict=False)
            parts.append([at.crosses().flatten(1) for _, at in ranges])
        return [torch.cat(layer) for layer in zip(*parts, strict=True)]

    def _open_segments(self, bounds: list[LayerBounds], open_: list[Tensor], point: int) -> Tensor:
        """Those segments on which some neuron ``open_`` (layers) (points, n) may yet take its other sign."""
        possible = torch.zeros(2 * self.directions, dtype=torch.bool)
        for at, neurons in zip(bounds, open_, strict=False):
            wanted = neurons[point].clone()
            if at.near and point in at.near:
                numbers, vertices = at.near[point]
                possible |= vertices[wanted[numbers]].any(dim=0)
                wanted[numbers] = False
            possible |= wanted.any()
        return self.segments[possible[self.segments].any(dim=1)]

    def _seen(self, x: Tensor, offset: Tensor, segments: Tensor, scales: list[Tensor]) -> list[Seen]:
        vertices = cross_polytope(x[None], offset, 1.0)[0]
        if self.exact:
            return seen_along(self.compared, vertices, segments, scales)
        return seen_at_samples(self.program, vertices, segments, SAMPLES)
