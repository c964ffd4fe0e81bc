"""Signs of preactivations along segments inside a cross-polytope: the lower half of the bracket.

Along a segment a piecewise-linear network is exact: cut at the knots of all layers before, each preactivation
is affine from one place to the next, so the signs at the places are all the signs there are. All segments of
a point are cut at once: places of all of them lie in one array, in order along each.

    place    0      1    2       3    4    5
             +------x----+       +----x----+          two segments, cut once each
    segment  0      0    0       1    1    1

    affine op      values <- op(values)
    activation     new places where a value passes a breakpoint between two places of a segment;
                   values there  (1 - t) * left + t * right

Signs count beyond rounding only: a value within `engine.predicate.SNAP` of its scale has none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from splinecam_lite.engine.predicate import SNAP
from splinecam_lite.network.magnitudes import evaluate_with_magnitudes
from splinecam_lite.network.program import KnotsOp, Program, SmoothOp

BYTES = 2**26
"""Memory for the values of the places that are held at once; a few times that is used."""


class Seen(NamedTuple):
    """The preactivations of one layer at all places of the segments of a point, arrays (n,)."""

    low: Tensor
    """Least value, with what rounding may amount to added."""
    high: Tensor
    """Largest value, less what rounding may amount to."""
    low_at: Tensor
    """(n, 2): number of the segment, and place on it from 0 to 1."""
    high_at: Tensor

    def crosses(self) -> Tensor:
        """Tell which neurons take both signs, (n,) bool."""
        return (self.low < 0.0) & (self.high >= 0.0)


def choose_segments(directions: int, edges: int | None, seed: int) -> Tensor:
    """Return the segments between vertices of a cross-polytope that are looked at.

    Vertices ``0 .. P - 1`` are ``x + r v_p``, and ``P .. 2P - 1`` are ``x - r v_p``.

    Parameters
    ----------
    directions : int
        P.
    edges : int or None
        How many of the ``2 P (P - 1)`` edges, drawn at random; None for all.
    seed : int

    Returns
    -------
    (segments, 2) int64
        The P diagonals first.

    Examples
    --------
    >>> choose_segments(2, None, 0).tolist()
    [[0, 2], [1, 3], [0, 1], [0, 3], [1, 2], [2, 3]]
    >>> len(choose_segments(25, 40, 0))
    65
    """
    pairs = torch.combinations(torch.arange(2 * directions), 2)
    opposite = pairs[:, 1] - pairs[:, 0] == directions
    diagonals, others = pairs[opposite], pairs[~opposite]
    if edges is not None and edges < len(others):
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randperm(len(others), generator=generator)[:edges]
        others = others[chosen.sort().values]
    return torch.cat((diagonals, others))


@dataclass
class _Places:
    """Places of some segments on their way through the program, in order along each."""

    segment: Tensor  # (V,) int64
    t: Tensor  # (V,) float64
    values: dict[int, Tensor]
    step: int = 0

    def part(self, start: int, stop: int) -> "_Places":
        values = {v: x[start:stop] for v, x in self.values.items()}
        return _Places(self.segment[start:stop], self.t[start:stop], values, self.step)

    def refined(self, edge: Tensor, t: Tensor) -> "_Places":
        """Insert places at ``t`` of the way from place ``edge`` to the next."""
        all_edges = torch.cat((torch.arange(len(self.t)), edge))
        all_t = torch.cat((self.t.new_zeros(len(self.t)), t))
        order = torch.from_numpy(np.lexsort((all_t.numpy(), all_edges.numpy())))
        source = all_edges[order]
        at = torch.empty_like(order)
        at[order] = torch.arange(len(order))
        at = at[len(self.t) :]

        def between(x: Tensor) -> Tensor:
            y = x[source]
            part = t.reshape(-1, *[1] * (x.ndim - 1))
            y[at] = (1.0 - part) * x[edge] + part * x[edge + 1]
            return y

        values = {v: between(x) for v, x in self.values.items()}
        return _Places(self.segment[source], between(self.t), values, self.step)


@torch.no_grad()
def seen_along(program: Program, vertices: Tensor, segments: Tensor, scales: Sequence[Tensor]) -> list[Seen]:
    """Return the extremes of the preactivations along segments, exactly.

    Parameters
    ----------
    program : Program
        Piecewise linear, float64, on the CPU; maxima written out (`Program.compared`).
    vertices : (2P, *input_shape)
    segments : (segments, 2) int64
        Numbers of the vertices that each goes from and to.
    scales : sequence of (n,) float64
        Of the preactivations of the first layers: the unit of their rounding. Only these layers are seen.

    Returns
    -------
    list of Seen
        One for each scale.
    """
    ops = program.ops
    inputs = [op.inputs[0] for op in program.preactivation_ops][: len(scales)]
    seen = [_nothing(len(scale)) for scale in scales]
    if not scales:
        return seen
    layer_of = {id(op): i for i, op in enumerate(program.preactivation_ops[: len(scales)])}
    stop = next(i for i, op in enumerate(ops) if op is program.preactivation_ops[len(scales) - 1])
    numbers = torch.arange(len(segments)).repeat_interleave(2)
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64).repeat(len(segments))
    start = _Places(numbers, ends, {0: vertices[segments.flatten()]})
    widest = max(prod(program.shapes[v]) for v in range(max(inputs) + 1))
    most = max(4, BYTES // (8 * widest))
    todo = [start.part(k, k + most // 2 * 2) for k in range(0, len(ends), most // 2 * 2)]
    while todo:
        places = todo.pop()
        op = ops[places.step]
        if isinstance(op, KnotsOp):
            z = places.values[op.inputs[0]].flatten(1)
            if id(op) in layer_of:
                layer = layer_of[id(op)]
                seen[layer] = _merged(seen[layer], places, z, SNAP * scales[layer])
            if places.step == stop:
                continue
            parts = _cut(places, op, most)
            if len(parts) > 1:
                todo += parts
                continue
            (places,) = parts
        places.values[op.output] = op.run(*(places.values[v] for v in op.inputs))
        for v in {*op.inputs, op.output}:
            if program.last_use(v) <= places.step:
                del places.values[v]
        places.step += 1
        todo.append(places)
    return seen


def _nothing(n: int) -> Seen:
    infinite, nowhere = torch.full((n,), torch.inf, dtype=torch.float64), torch.zeros(n, 2).double()
    return Seen(infinite, -infinite, nowhere, nowhere)


def _merged(seen: Seen, places: _Places, z: Tensor, tolerance: Tensor) -> Seen:
    """Take what is beyond of what was seen and of values ``z`` (V, n)."""
    at = torch.stack((places.segment.double(), places.t), dim=1)
    (low, i), (high, j) = z.min(dim=0), z.max(dim=0)
    low, high = low + tolerance, high - tolerance
    lower, higher = low < seen.low, high > seen.high
    return Seen(
        torch.where(lower, low, seen.low),
        torch.where(higher, high, seen.high),
        torch.where(lower[:, None], at[i], seen.low_at),
        torch.where(higher[:, None], at[j], seen.high_at),
    )


def _cut(places: _Places, op: KnotsOp, most: int) -> list[_Places]:
    """Insert the places where knots are crossed; several parts, uncut, if there would be too many."""
    z = places.values[op.inputs[0]]
    joined = places.segment[1:] == places.segment[:-1]
    found: list[tuple[Tensor, Tensor]] = []
    for breakpoint_, jump in zip(op.breakpoints, op.jumps, strict=True):
        b = breakpoint_.expand(z.shape[1:]).flatten()
        d = z.flatten(1) - b
        crossed = (d[:-1] < 0.0) & (d[1:] > 0.0) | (d[:-1] > 0.0) & (d[1:] < 0.0)
        crossed &= joined[:, None] & (jump != 0.0).expand(z.shape[1:]).flatten()
        edge, neuron = crossed.nonzero(as_tuple=True)
        before, after = d[edge, neuron], d[edge + 1, neuron]
        found.append((edge, before / (before - after)))
    if not found:
        return [places]
    edge, t = (torch.cat(parts) for parts in zip(*found, strict=True))
    if len(places.t) + len(edge) > most:
        halves = _halves(places, torch.bincount(edge, minlength=len(places.t)))
        if halves:
            return halves
    return [places.refined(edge, t)]


def _halves(places: _Places, new: Tensor) -> list[_Places]:
    """Part places in two, with ``new`` (V,) to come after each; none if there is nothing to part."""
    total = (new + 1).cumsum(0)
    middle = int(torch.searchsorted(total, total[-1] // 2)) + 1
    last = len(places.t) - 1
    middle = min(max(middle, 1), last - 1)
    if middle < 1:
        if int(new[0]) < 2:
            return []
        places = places.refined(torch.zeros(1, dtype=torch.int64), torch.tensor([0.5]).double())
        middle = 1
    return [places.part(0, middle + 1), places.part(middle, len(places.t))]


@torch.no_grad()
def seen_at_samples(program: Program, vertices: Tensor, segments: Tensor, samples: int) -> list[Seen]:
    """Return the extremes of the preactivations at evenly spaced places of segments, for any network.

    As `seen_along`, with ``samples`` places on each segment, ends included; each sign counts beyond the
    rounding of that evaluation.
    """
    seen = [_nothing(n) for n in program.n_neurons]
    activations = {id(op): i for i, op in enumerate(program.preactivation_ops)}
    t = torch.linspace(0.0, 1.0, samples, dtype=torch.float64)
    each = max(1, BYTES // (8 * samples * max(prod(shape) for shape in program.shapes)))
    for numbers in torch.arange(len(segments)).split(each):
        start, end = (vertices[segments[numbers, k]].unsqueeze(1) for k in (0, 1))
        part = t.reshape(1, -1, *[1] * (vertices.ndim - 1))
        x = ((1.0 - part) * start + part * end).flatten(0, 1)
        places = _Places(numbers.repeat_interleave(samples), t.repeat(len(numbers)), {})
        for step in evaluate_with_magnitudes(program, x):
            if isinstance(step.op, KnotsOp | SmoothOp) and id(step.op) in activations:
                layer = activations[id(step.op)]
                z, scale = step.inputs[0].flatten(1), step.input_magnitudes[0].flatten(1)
                tolerance = SNAP * scale.amax(dim=0)
                seen[layer] = _merged(seen[layer], places, z, tolerance)
    return seen
