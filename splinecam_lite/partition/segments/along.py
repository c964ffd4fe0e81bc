"""Cut a segment at the knots of a network, layer by layer, by the engine's predicate and kernels.

    affine op      values at the vertices <- op(values)
    activation     sign_words, cut_edges    the engine's kernels, in groups of 64 knots
                   values at new vertices   (1 - place) * value at the left + place * value at the right
                   values at all vertices   <- activation(values), those on a knot exactly at its breakpoint

Vertices and edges are in order along the segment: edge ``e`` goes from vertex ``e`` to vertex ``e + 1``. On a
plane the values are kept in factors, because vertices outnumber knots; here there are as many knots as
vertices, and values at vertices are as few numbers. A *stretch* of the segment whose values would not fit in
`BUDGET` is cut in parts, each taken to the end by itself. They meet in vertices, and the knots at a vertex
are read from the patterns on its two sides, so parts that decide the same knot differently cannot contradict
each other: it passes through their common vertex.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from splinecam_lite.engine.crossings import NO_ORDERS, cut_edges
from splinecam_lite.engine.predicate import WORD, knot_tolerance, sign_words
from splinecam_lite.errors import ModelError
from splinecam_lite.network.magnitudes import evaluate_with_magnitudes
from splinecam_lite.network.program import KnotsOp, Program
from splinecam_lite.network.segments import Segment
from splinecam_lite.partition.layers import Layer, approximation_of, kind_of

Array = NDArray[np.float64]

BUDGET = 1 << 26
"""Bytes of values that a stretch may hold when it is made."""

SCALE_PLACES = np.array([0.0, 1.0, 0.5, 0.25, 0.75])
"""Where the scales of the preactivations are taken: ends, middle, and half-way between, as on a slice."""

NO_SNAPS = np.empty((0, 3))


class Knots(NamedTuple):
    """The knots of one layer as flat arrays (n_breakpoints * n_neurons,)."""

    layer: Layer
    breakpoints: Array
    live: NDArray[np.bool_]  # False where there is no knot
    tolerance: Array


class March(NamedTuple):
    """The segment, cut.

    Snaps are rows (pattern bit, t, displacement in units of t).
    """

    t: Array  # (V,): from 0 to 1
    outputs: Array  # (V, n_outputs)
    patterns: NDArray[np.uint64]  # (V - 1, n_words)
    snaps: Array  # (n, 3)


@dataclass
class _Stretch:
    """Consecutive pieces of the segment on their way through the program."""

    t: Array
    values: dict[int, Tensor]
    patterns: NDArray[np.uint64]
    step: int


@dataclass
class _Refinement:
    """New vertices on the edges of a stretch, all in order.

    Vertex ``v`` lies at ``place[v]`` in [0, 1) of the old edge ``edge[v]``; an old vertex at 0 of its own.
    ``words[g]`` are the signs of group ``g`` on the new edges, and ``on[g]`` the vertices (n,) and knots (n,)
    where its knots are exactly 0.
    """

    edge: NDArray[np.int64]
    place: Array
    words: list[NDArray[np.uint64]]
    on: list[tuple[NDArray[np.int64], NDArray[np.int64]]]


def layers_along(program: Program) -> tuple[Layer, ...]:
    """Return the layers of a piecewise-linear program without maxima, with their place in a pattern."""
    return tuple(
        Layer(name, n_neurons, n_breakpoints, first_bit, kind_of(op), approximation_of(op))
        for name, op, (first_bit, n_breakpoints, n_neurons) in zip(
            program.pattern_names, program.pattern_ops, program.pattern_layout, strict=True
        )
    )


def flat_per_neuron(tensors: tuple[Tensor, ...], shape: tuple[int, ...]) -> Array:
    """Return constants of an activation as one array (len(tensors) * n_neurons,)."""
    return np.concatenate([torch.broadcast_to(t.detach(), shape).reshape(-1).numpy() for t in tensors])


def knot_bits(program: Program, layers: tuple[Layer, ...]) -> NDArray[np.int64]:
    """Return the pattern bits of all knots, ascending: of breakpoints where the slope jumps."""
    found = [np.empty(0, np.int64)]
    for layer, op in zip(layers, program.pattern_ops, strict=True):
        assert isinstance(op, KnotsOp)
        jumps = flat_per_neuron(op.jumps, program.shapes[op.inputs[0]])
        found.append(layer.first_bit + np.flatnonzero(jumps))
    return np.concatenate(found)


@torch.inference_mode()
def knots_along(program: Program, segment: Segment, layers: tuple[Layer, ...]) -> tuple[Knots, ...]:
    """Return the knots of all layers, with the tolerance of each on a segment."""
    points = torch.from_numpy(segment.lift(SCALE_PLACES))
    found: list[Knots] = []
    for step in evaluate_with_magnitudes(program, points):
        if isinstance(step.op, KnotsOp):
            layer, shape = layers[len(found)], program.shapes[step.op.inputs[0]]
            breakpoints = flat_per_neuron(step.op.breakpoints, shape)
            live = flat_per_neuron(step.op.jumps, shape) != 0.0
            scale = step.input_magnitudes[0].amax(dim=0).flatten().numpy()
            tolerance = knot_tolerance(np.tile(scale, layer.n_breakpoints), breakpoints)
            found.append(Knots(layer, breakpoints, live, tolerance))
    return tuple(found)


@torch.inference_mode()
def march(program: Program, segment: Segment, layers: tuple[Layer, ...]) -> March:
    """Cut a segment at all knots of a piecewise-linear program.

    Parameters
    ----------
    program : Program
        Float64, on the CPU.
    segment : Segment
    layers : tuple of Layer
        As `layers_along` gives them.

    Raises
    ------
    ModelError
        If a preactivation is not finite.
    """
    knots = knots_along(program, segment, layers)
    ends = np.array([0.0, 1.0])
    n_words = sum(-(-layer.n_neurons * layer.n_breakpoints // WORD) for layer in layers)
    start = _Stretch(ends, {0: torch.from_numpy(segment.lift(ends))}, np.zeros((1, n_words), np.uint64), 0)
    left_to_do, done, snaps = [start], [], [NO_SNAPS]
    n_layers_before = np.cumsum([0] + [isinstance(op, KnotsOp) for op in program.ops])
    while left_to_do:
        stretch = left_to_do.pop()
        if stretch.step == len(program.ops):
            done.append(stretch)
            continue
        op = program.ops[stretch.step]
        if isinstance(op, KnotsOp):
            parts = _activate(stretch, program, op, knots[n_layers_before[stretch.step]], snaps)
            left_to_do += reversed(parts)
        else:
            stretch.values[op.output] = op.run(*(stretch.values[v] for v in op.inputs))
            stretch.values = {v: x for v, x in stretch.values.items() if program.last_use(v) > stretch.step}
            stretch.step += 1
            left_to_do.append(stretch)
    outputs = [s.values[program.output].reshape(len(s.t), -1).numpy() for s in done]
    last = len(done) - 1
    return March(
        np.concatenate([s.t if i == last else s.t[:-1] for i, s in enumerate(done)]),
        np.concatenate([y if i == last else y[:-1] for i, y in enumerate(outputs)]),
        np.concatenate([s.patterns for s in done]),
        np.concatenate(snaps),
    )


def _activate(
    stretch: _Stretch, program: Program, op: KnotsOp, knots: Knots, snaps: list[Array]
) -> list[_Stretch]:
    """Cut a stretch at the knots of one activation and apply it; return the parts, in order."""
    z = stretch.values[op.inputs[0]].reshape(len(stretch.t), -1).numpy()
    if not np.isfinite(z).all():
        neuron = int(np.flatnonzero(~np.isfinite(z).all(axis=0))[0])
        raise ModelError(
            f"layer {knots.layer.name!r}, neuron {neuron} has preactivations that are not finite: too large "
            "for float64; scale the weights down"
        )
    Z = np.tile(z, knots.layer.n_breakpoints) - knots.breakpoints
    above, below = Z > knots.tolerance, Z < -knots.tolerance
    crossed = (above[:-1] & below[1:] | below[:-1] & above[1:]).any(axis=0) & knots.live
    bits = (above[:-1] | above[1:]) & knots.live
    candidates = np.flatnonzero(crossed)
    snaps.append(_wrong_sides(Z, bits, stretch.t, np.flatnonzero(knots.live & ~crossed), knots))
    refined = _refine(Z, stretch.t, candidates, knots, snaps)

    def on_edges(first: int, last: int) -> NDArray[np.uint64]:
        """Patterns of the new edges ``first`` to ``last - 1``."""
        old = refined.edge[first:last]
        here = bits[old]
        for g, words in enumerate(refined.words):
            group = candidates[g * WORD : (g + 1) * WORD]
            octets = words[first:last, None].astype("<u8").view(np.uint8)
            here[:, group] = np.unpackbits(octets, axis=1, count=len(group), bitorder="little")
        patterns = stretch.patterns[old]
        packed = np.packbits(here, axis=1, bitorder="little")
        start = knots.layer.first_bit // WORD
        room = patterns[:, start : start + -(-here.shape[1] // WORD)]
        padded = np.zeros((len(here), 8 * room.shape[1]), np.uint8)
        padded[:, : packed.shape[1]] = packed
        room[:] = padded.view("<u8")
        return patterns

    return _parts(stretch, program, op, knots, candidates, refined, on_edges)


def _refine(
    Z: Array, t: Array, candidates: NDArray[np.int64], knots: Knots, snaps: list[Array]
) -> _Refinement:
    """Cut the edges at the candidates, 64 at a time."""
    n_old = len(Z)
    refined = _Refinement(np.arange(n_old), np.zeros(n_old), [], [])
    for start in range(0, len(candidates), WORD):
        group = candidates[start : start + WORD]
        bits, tolerance = knots.layer.first_bit + group, knots.tolerance[group]
        edge, place = refined.edge, refined.place
        Zg = (1.0 - place)[:, None] * Z[np.ix_(edge, group)]
        Zg += place[:, None] * Z[np.ix_(np.minimum(edge + 1, n_old - 1), group)]
        here = t[edge] + place * (t[np.minimum(edge + 1, n_old - 1)] - t[edge])
        before = Zg.copy()
        positive, negative, snapped, _ = sign_words(Zg, tolerance)
        snaps.append(_snap_rows(before, here, snapped[:, 0], snapped[:, 1], bits))
        n = len(Zg)
        edges = np.stack((np.arange(n - 1), np.arange(1, n)), axis=1).astype(np.int32)
        cuts = cut_edges(edges, positive, negative, Zg, tolerance, NO_ORDERS)
        before_vertex = cuts.first - n  # how many new vertices come before each
        at = cuts.parents[:, 0]
        high = np.where(edge[at + 1] == edge[at], place[at + 1], 1.0)
        new_place = (1.0 - cuts.place) * place[at] + cuts.place * high
        if len(cuts.merged):
            vertex, knot = cuts.merged.T
            width = here[at + 1] - here[at]
            where = here[at] + cuts.place * width
            rows = (bits[knot], where[vertex - n], cuts.moved * width[vertex - n])
            snaps.append(np.column_stack(rows))
        positive = np.insert(positive, at + 1, cuts.positive)
        negative = np.insert(negative, at + 1, cuts.negative)
        repeats = 1 + np.diff(before_vertex)
        refined.words = [np.repeat(words, repeats) for words in refined.words]
        refined.on = [(vertices + before_vertex[vertices], on) for vertices, on in refined.on]
        refined.words.append(positive[:-1] | positive[1:])
        zero = ~(positive | negative)[:, None].astype("<u8").view(np.uint8)
        vertices, on = np.nonzero(np.unpackbits(zero, axis=1, count=len(group), bitorder="little"))
        refined.on.append((vertices, start + on))
        refined.edge = np.insert(edge, at + 1, edge[at])
        refined.place = np.insert(place, at + 1, new_place)
    return refined


def _parts(
    stretch: _Stretch,
    program: Program,
    op: KnotsOp,
    knots: Knots,
    candidates: NDArray[np.int64],
    refined: _Refinement,
    on_edges: Callable[[int, int], NDArray[np.uint64]],
) -> list[_Stretch]:
    """Carry the values over to the new vertices and apply the activation, part by part."""
    live = [v for v in stretch.values if program.last_use(v) > stretch.step]
    numbers = sum(prod(program.shapes[v]) for v in {*live, op.inputs[0], op.output})
    n_edges = len(refined.edge) - 1
    n_parts = min(n_edges, -(-8 * numbers * len(refined.edge) // BUDGET))
    bounds = np.linspace(0, n_edges, n_parts + 1).astype(int)
    vertices = np.concatenate([on[0] for on in refined.on] or [np.empty(0, np.int64)])
    flat = candidates[np.concatenate([on[1] for on in refined.on] or [np.empty(0, np.int64)])]
    parts = []
    for first, last in pairwise(bounds.tolist()):
        some = slice(first, last + 1)
        edge, place = refined.edge[some], torch.from_numpy(refined.place[some])
        following = np.minimum(edge + 1, len(stretch.t) - 1)

        def carried(
            x: Tensor,
            edge: NDArray[np.int64] = edge,
            following: NDArray[np.int64] = following,
            place: Tensor = place,
        ) -> Tensor:
            weight = place.reshape(-1, *[1] * (x.ndim - 1))
            return (1.0 - weight) * x[edge] + weight * x[following]

        z = carried(stretch.values[op.inputs[0]])
        here = (vertices >= first) & (vertices <= last)
        neurons = flat[here] % knots.layer.n_neurons
        z.reshape(len(z), -1).numpy()[vertices[here] - first, neurons] = knots.breakpoints[flat[here]]
        values = {v: carried(stretch.values[v]) for v in live}
        if program.last_use(op.output) > stretch.step:
            values[op.output] = op.run(z)
        t = carried(torch.from_numpy(stretch.t)).numpy()
        parts.append(_Stretch(t, values, on_edges(first, last), stretch.step + 1))
    return parts


def _wrong_sides(
    Z: Array, bits: NDArray[np.bool_], t: Array, chosen: NDArray[np.int64], knots: Knots
) -> Array:
    """Return the snaps of knots that cross no edge: values on the other side of 0 than their edge is."""
    inside = Z[:, chosen]
    right = bits[:, chosen]
    wrong = np.zeros(inside.shape, bool)
    wrong[:-1] |= np.where(right, inside[:-1] < 0.0, inside[:-1] > 0.0)
    wrong[1:] |= np.where(right, inside[1:] < 0.0, inside[1:] > 0.0)
    vertices, columns = np.nonzero(wrong)
    return _snap_rows(inside, t, vertices, columns, knots.layer.first_bit + chosen)


def _snap_rows(
    Z: Array, t: Array, vertices: NDArray[np.int64], columns: NDArray[np.int64], bits: NDArray[np.int64]
) -> Array:
    """Return (pattern bit, t, |z| / |dz/dt|) of snapped values; the slope is the less steep of both sides."""
    if not len(vertices):
        return NO_SNAPS
    with np.errstate(divide="ignore", invalid="ignore"):
        slopes = np.abs(np.diff(Z, axis=0) / np.diff(t)[:, None])
    slopes = np.vstack((np.full((1, Z.shape[1]), np.inf), slopes, np.full((1, Z.shape[1]), np.inf)))
    sides = np.stack((slopes[vertices, columns], slopes[vertices + 1, columns]))
    slope = np.where(sides > 0.0, sides, np.inf).min(axis=0)
    return np.column_stack((bits[columns], t[vertices], np.abs(Z[vertices, columns]) / slope))
