"""The shapes of neighbourhoods on a plane, many at a time, as domains of the engine.

    square  max(|u|, |v|) <= r        of the frame's two directions: the disc's circumscribed square
    disc    u^2 + v^2 <= r^2          partitioned with its square, and clipped (`clipping`)
    diamond |u| + |v| <= r            the neighbourhood of the estimate with P = 2

Each holds the ones below. What can be is done for all points of a batch in one pass: the scales of the
preactivations, their values at four places on the border, and with these the question whether any knot passes
through a domain at all. By induction over the layers: as long as none does, the network is affine on the
domain, and the four places tell all about the next layer. At the radii used in training most domains are like
that, and never reach the engine.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from splinecam_lite.complexity.vertices.affine import affine_values, spread_out
from splinecam_lite.complexity.vertices.spread import Spread
from splinecam_lite.complexity.vertices.vertices import vertex_ranges
from splinecam_lite.engine.plan import KnotStep, Plan
from splinecam_lite.engine.predicate import knot_tolerance
from splinecam_lite.errors import NeighbourhoodError
from splinecam_lite.network.magnitudes import steepest
from splinecam_lite.network.program import AffineOp, KnotsOp, Program
from splinecam_lite.network.slices import Slice
from splinecam_lite.partition.planning import make_plan

Shape = Literal["diamond", "disc", "square"]
Array = NDArray[np.float64]

DIAMOND = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
"""Corners for radius 1, counter-clockwise."""

SQUARE = np.array([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]])

CENTRE = torch.zeros(1, 2, dtype=torch.float64)

AREAS: dict[Shape, float] = {"diamond": 2.0, "disc": np.pi, "square": 4.0}
"""For radius 1."""


def check_shape(shape: object) -> Shape:
    """Return the shape, or raise `NeighbourhoodError` unless there is one of that name.

    Examples
    --------
    >>> check_shape("circle")
    Traceback (most recent call last):
        ...
    splinecam_lite.errors.NeighbourhoodError: the shape is 'circle'; give 'diamond', 'disc' or 'square'
    """
    for known in get_args(Shape):
        if shape == known:
            return known
    raise NeighbourhoodError(f"the shape is {shape!r}; give 'diamond', 'disc' or 'square'")


def polygon(shape: Shape) -> Array:
    """Return the corners (4, 2), for radius 1, of the polygon that is partitioned for a shape."""
    return DIAMOND if shape == "diamond" else SQUARE


class Ranges(NamedTuple):
    """The preactivations of one layer over the domains of a batch of points, arrays (points, n_neurons)."""

    low: Array
    """Right where the network is affine on the domain."""
    high: Array
    scale: Array  # S_k of `engine.predicate`: the unit of rounding
    estimated: NDArray[np.bool_]
    """Whether the estimate counts the neuron: it changes sign among the diamond's corners."""
    affine: bool
    """No activation comes before: ``low`` and ``high`` are right, whatever cuts the domain."""
    counted: bool = True
    """A layer of the estimate; False for the comparisons of a maximum."""


class Seen(NamedTuple):
    """The preactivations of one layer at a few places of each domain."""

    op: KnotsOp
    z: Tensor
    """(n, places, n_neurons)"""
    scale: Tensor
    """(n, n_neurons): what the affine ops since the last activation can add up to, ``|W| |x| + |b|`` with the
    largest ``|x|`` that any of the places has, entry by entry."""


def at_places(program: Program, points: Tensor, steps: Tensor, places: Tensor) -> Iterator[Seen]:
    """Evaluate a piecewise-linear program at the same places around many points.

    As `network.magnitudes`, but the magnitudes are one for each point, and what is affine in the input is
    evaluated for points and directions only.

    Parameters
    ----------
    program : Program
        Of affine ops and activations alone.
    points : (n, *input_shape)
    steps : (2, *input_shape) or (n, 2, *input_shape)
    places : (k, 2)
        Place (a, b) is ``point + a steps[0] + b steps[1]``.
    """
    n, k = len(points), len(places)
    owner, uv = torch.arange(n).repeat_interleave(k), places.repeat(n, 1)
    spread = affine_values(program, Spread(points, steps))
    reach = torch.einsum("kp,...pi->...ki", places.abs(), steps.abs().flatten(steps.ndim - points.ndim + 1))
    size = {0: points.abs() + reach.amax(dim=-2).unflatten(-1, points.shape[1:])}
    value: dict[int, Tensor] = {}
    bent: set[int] = set()
    for i, op in enumerate(program.ops):
        for v in op.inputs:
            if v not in value and op.output not in spread:
                value[v] = spread_out(spread[v], owner, uv)
        if isinstance(op, KnotsOp):
            z, before = value[op.inputs[0]], size[op.inputs[0]]
            yield Seen(op, z.flatten(1).unflatten(0, (n, k)), before.flatten(1))
            y = value[op.output] = op.run(z)
            at = before if op.inputs[0] in bent else z.abs().unflatten(0, (n, k)).amax(dim=1)
            largest = y.abs().unflatten(0, (n, k)).amax(dim=1)
            size[op.output] = torch.maximum(largest, steepest(op) * at)
            bent.add(op.output)
        elif isinstance(op, AffineOp):
            added = op.magnitude(*(size[v] for v in op.inputs))
            size[op.output] = added if op.bias is None else added + op.bias.abs()
            if op.output not in spread:
                value[op.output] = op.run(*(value[v] for v in op.inputs))
        for v in {*op.inputs, op.output}:
            if program.last_use(v) <= i:
                size.pop(v, None)
                value.pop(v, None)


@torch.inference_mode()
def ranges_on_domains(
    program: Program, points: Tensor, frame: Tensor, radius: float, shape: Shape
) -> list[Ranges]:
    """Return least and largest preactivations on the domains, were they affine there, and their scales.

    One for each layer of the exact side, ``program.compared().pattern_ops``: between the layers of the
    estimate, in their order, are the comparisons of maxima.

    Parameters
    ----------
    program : Program
        Piecewise linear, float64, on the CPU.
    points : (n, *input_shape)
    frame : (2, *input_shape) or (n, 2, *input_shape)
    radius : float
    shape : Shape
    """
    corners = torch.from_numpy(SQUARE if shape == "square" else DIAMOND)
    steps, compared = radius * frame, program.compared()
    # The estimate's own arithmetic for what it counts; comparisons have none there.
    counted, ranges = vertex_ranges(program, Spread(points, steps)), []
    for op, values, magnitude in at_places(compared, points, steps, torch.cat((corners, CENTRE))):
        z, scale = values[:, :4].numpy(), magnitude.numpy()
        low, high = z.min(axis=1), z.max(axis=1)
        if shape == "disc":
            low, high = _on_disc(z, low, high)
        if op.is_activation:
            at = next(counted)
            if shape == "diamond":
                low, high = (part.flatten(1).numpy() for part in (at.low, at.high))
            ranges.append(Ranges(low, high, scale, at.crosses().flatten(1).numpy(), at.affine))
        else:
            ranges.append(Ranges(low, high, scale, np.zeros(low.shape, bool), False, counted=False))
    return ranges


def _on_disc(z: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """Return the range of affine functions on the disc from their values at the diamond's corners (n, 4, N).

    At (u, v) one has ``z = c + (a u + b v) / r``: on the disc between ``c - |(a, b)|`` and ``c + |(a, b)|``.
    """
    reach = np.hypot(0.5 * (z[:, 0] - z[:, 2]), 0.5 * (z[:, 1] - z[:, 3]))
    centre = z.mean(axis=1)
    return np.minimum(low, centre - reach), np.maximum(high, centre + reach)


class DomainPlans:
    """Plans of the engine for the domains around many points of one network.

    Everything but place and tolerances is worked out once.

    Parameters
    ----------
    program : Program
        Float64, on the CPU.
    point : (*input_shape) Tensor
        Any of the points.
    frame : (2, *input_shape)
        Any of the frames.
    radius : float
    shape : Shape

    Attributes
    ----------
    template : Plan
        Of some domain.

    Raises
    ------
    NotPiecewiseLinear
        If the program has no exact partition.
    """

    def __init__(self, program: Program, point: Tensor, frame: Tensor, radius: float, shape: Shape):
        self.template = make_plan(program, Slice.around(point.numpy(), radius, frame.numpy()))
        self._domain = radius * polygon(shape)
        self._layers = [step for step in self.template.steps if isinstance(step, KnotStep)]

    def cut(self, ranges: list[Ranges], n: int) -> NDArray[np.bool_]:
        """Tell which of ``n`` domains some knot passes through, from the ranges on them (n,)."""
        cut = np.zeros(n, bool)
        for step, at in zip(self._layers, ranges, strict=True):
            for breakpoints, jumps in zip(step.breakpoints, step.jumps, strict=True):
                # `engine.predicate.sign` of z - breakpoint, for all points at once: -1 and +1 both occur
                tolerance = knot_tolerance(at.scale, breakpoints)
                below, above = at.low - breakpoints < -tolerance, at.high - breakpoints > tolerance
                cut |= (below & above & (jumps != 0)).any(axis=1)
        return cut

    def plan(self, point: Tensor, frame: Tensor, scales: list[Array], domain: Array | None = None) -> Plan:
        """Return the plan for the domain of ``frame`` (2, *input_shape) around ``point``.

        Parameters
        ----------
        point, frame : Tensor
        scales : list of (n_neurons,) float64
            Of each layer, for this domain, comparisons of maxima included.
        domain : (corners, 2) float64, optional
            Another convex polygon than that of the shape, counter-clockwise.
        """
        steps = []
        for step in self.template.steps:
            if isinstance(step, KnotStep):
                step = step._replace(tolerance=knot_tolerance(scales[step.layer], step.breakpoints))
            steps.append(step)
        columns = torch.cat((frame, point.unsqueeze(0))).numpy()
        domain = self._domain if domain is None else domain
        return self.template._replace(steps=tuple(steps), input_columns=columns, domain=domain)
