r"""Straight lines around an activation, over an interval of its input: the step of linear bound propagation
that is not exact.

For any slope ``s`` the lines ``s z + min (f - s z)`` and ``s z + max (f - s z)`` enclose a function ``f``
between them, so slopes may be chosen freely, and rounding them costs nothing:

* A piecewise-linear ``f`` has both extremes of ``f - s z`` at an end of the interval or at a breakpoint.
* A smooth ``f`` is looked at on a grid that holds its kinks. Between neighbours at a distance ``h`` it rises
  above their chord by ``max(-m, 0) h^2 / 8`` at most and sinks below it by ``max(M, 0) h^2 / 8``, where
  ``m <= f'' <= M`` comes from interval arithmetic (`network.smooth`).

Of some candidate slopes (the chord, the slopes at the ends, with few breakpoints the edges of the convex
hull) the upper line takes the one that is lowest in the middle of the interval, so that it encloses the least
area; the lower line likewise. For ReLU that is DeepPoly's choice (Singh et al., POPL 2019; CROWN, Zhang et
al., NeurIPS 2018): the chord above, and below it the slope 0 or 1.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from splinecam_lite.errors import ModelError
from splinecam_lite.network.approximation import arguments_of, operator_of
from splinecam_lite.network.intervals import ROUNDING, Interval
from splinecam_lite.network.program import KnotsOp, SmoothOp
from splinecam_lite.network.smooth import FUNCTIONS, SmoothFunction

UNIT = 2.0**-53
"""Largest relative error of one rounding to float64."""

GRID = 16
"""Intervals of the grid on which a smooth activation is looked at; its error falls with the square."""

FEW = 4
"""Breakpoints of an activation up to which all edges of the convex hull are among the candidates."""


class Lines(NamedTuple):
    """Lines around an activation, tensors (batch, *shape) of its input.

    ``lower_slope z + lower_intercept <= f(z) <= upper_slope z + upper_intercept``, and ``band_slope z`` plus
    something between ``band_low`` and ``band_high`` is ``f(z)``.
    """

    lower_slope: Tensor
    lower_intercept: Tensor
    upper_slope: Tensor
    upper_intercept: Tensor
    band_slope: Tensor
    band_low: Tensor
    band_high: Tensor
    low: Tensor
    """Bounds on ``f`` itself."""
    high: Tensor
    bent: Tensor
    """bool: ``f`` is not one straight line over the interval."""


class Graph(NamedTuple):
    """An activation over intervals, as points on its graph, the two ends first."""

    places: Tensor
    """(k, batch, *shape)"""
    values: Tensor
    above: Tensor
    """(batch, *shape): how far the function may rise above the polygon through the points."""
    below: Tensor
    rounding: Tensor
    """(batch, *shape): bound on the error of the values."""
    bent: Tensor
    slopes: list[Tensor]
    """Candidates beside the chord, the first one for where the function is straight."""


def gamma(n: int) -> float:
    """Return the bound on the relative error of a sum of ``n`` products in float64, in any order.

    ``n u / (1 - n u)`` of the sum of the absolute values (Higham, Accuracy and Stability, section 3.1).
    """
    return n * UNIT / (1.0 - n * UNIT)


def can_relax(op: object) -> bool:
    """Tell whether lines around this op are known: piecewise-linear ones, and `smooth.FUNCTIONS`."""
    if isinstance(op, SmoothOp) and operator_of(op) in FUNCTIONS:
        try:
            _function(op)
        except (ModelError, TypeError):
            return False
        return True
    return isinstance(op, KnotsOp)


def lines_around(op: KnotsOp | SmoothOp, low: Tensor, high: Tensor) -> Lines:
    """Enclose an activation over ``low <= z <= high``.

    Parameters
    ----------
    op : KnotsOp or SmoothOp
        One for which `can_relax` holds.
    low, high : (batch, *shape) float64 Tensors

    Examples
    --------
    ReLU between -1 and 3: the chord above, the identity below.

    >>> zero, one = torch.zeros(()).double(), torch.ones(()).double()
    >>> relu = KnotsOp((0,), 1, None, zero, zero, (zero,), (one,))
    >>> lines = lines_around(relu, torch.tensor([[-1.0]]).double(), torch.tensor([[3.0]]).double())
    >>> [round(float(part), 9) + 0.0 for part in lines[:4]]
    [1.0, 0.0, 0.75, 0.75]
    """
    graph = _graph_of_knots(op, low, high) if isinstance(op, KnotsOp) else _graph_of_smooth(op, low, high)
    middle, size = 0.5 * low + 0.5 * high, torch.maximum(low.abs(), high.abs())
    largest = graph.values.abs().amax(dim=0)
    flat = _between(graph, torch.zeros_like(low), size, largest)
    lower: list[Tensor] = []
    upper: list[Tensor] = []
    band: list[Tensor] = []
    for slope in _candidates(graph):
        least, most = _between(graph, slope, size, largest)
        # What is better by rounding only is not taken: where f is straight its own slope comes first.
        pad = 8 * UNIT * (largest + slope.abs() * size) + graph.rounding
        lower = _better(lower, [slope, least], -(slope * middle + least), pad)
        upper = _better(upper, [slope, most], slope * middle + most, pad)
        band = _better(band, [slope, least, most], most - least, 2 * pad)
    return Lines._make([*lower[:2], *upper[:2], *band[:3], *flat, graph.bent])


def _better(best: list[Tensor], new: list[Tensor], cost: Tensor, pad: Tensor) -> list[Tensor]:
    """Take, entry by entry, what costs less; the cost comes last."""
    if not best:
        return [*new, cost]
    wins = cost < best[-1] - pad
    return [torch.where(wins, a, b) for a, b in zip([*new, cost], best, strict=True)]


def _between(graph: Graph, slope: Tensor, size: Tensor, largest: Tensor) -> tuple[Tensor, Tensor]:
    """Bound ``f - slope z`` from both sides."""
    rest = graph.values - slope * graph.places
    pad = graph.rounding + 4 * UNIT * (largest + slope.abs() * size)
    return rest.amin(dim=0) - graph.below - pad, rest.amax(dim=0) + graph.above + pad


def _candidates(graph: Graph) -> Iterator[Tensor]:
    yield from graph.slopes
    first = graph.slopes[0]
    yield _quotient(graph, 0, 1, first)
    if 4 <= len(graph.places) <= FEW + 2:
        for k in range(2, len(graph.places)):
            yield _quotient(graph, 0, k, first)
            yield _quotient(graph, k, 1, first)


def _quotient(graph: Graph, a: int, b: int, otherwise: Tensor) -> Tensor:
    """Slope from point ``a`` to point ``b``, where they differ."""
    run, rise = graph.places[b] - graph.places[a], graph.values[b] - graph.values[a]
    slope = rise / torch.where(run != 0.0, run, 1.0)
    return torch.where((run != 0.0) & slope.isfinite(), slope, otherwise)


# ---- piecewise linear --------------------------------------------------------------------------


def _evaluate(op: KnotsOp, z: Tensor) -> Tensor:
    y = op.left_slope * z + op.left_intercept
    for breakpoint_, jump in zip(op.breakpoints, op.jumps, strict=True):
        y = y + jump * (z - breakpoint_).clamp(min=0)
    return y


def _graph_of_knots(op: KnotsOp, low: Tensor, high: Tensor) -> Graph:
    size = torch.maximum(low.abs(), high.abs())
    at_low, at_high = _evaluate(op, low), _evaluate(op, high)
    places, values = [low, high], [at_low, at_high]
    terms = op.left_slope.abs() * size + op.left_intercept.abs()
    first, last = op.left_slope.expand_as(low), op.left_slope.expand_as(low)
    bent = torch.zeros_like(low, dtype=torch.bool)
    for breakpoint_, jump in zip(op.breakpoints, op.jumps, strict=True):
        inside = (low < breakpoint_) & (breakpoint_ < high)
        places.append(torch.where(inside, breakpoint_, low))
        values.append(torch.where(inside, _evaluate(op, breakpoint_), at_low))
        terms = terms + jump.abs() * (size + breakpoint_.abs())
        first = first + torch.where(breakpoint_ <= low, jump, 0.0)
        last = last + torch.where(breakpoint_ < high, jump, 0.0)
        bent |= inside & (jump != 0.0)
    none, rounding = torch.zeros_like(low), gamma(3 * len(op.breakpoints) + 4) * terms
    return Graph(torch.stack(places), torch.stack(values), none, none, rounding, bent, [first, last])


def steepest(op: KnotsOp | SmoothOp, lines: Lines) -> Tensor:
    """Return a bound on the slopes of an activation, as `network.magnitudes` has it; 0 if it is smooth."""
    if isinstance(op, SmoothOp):
        return torch.zeros_like(lines.low)
    total = op.left_slope.abs()
    for jump in op.jumps:
        total = total + jump.abs()
    return total


# ---- smooth ------------------------------------------------------------------------------------


def _function(op: SmoothOp) -> SmoothFunction:
    return FUNCTIONS[operator_of(op)](**arguments_of(op))


def _graph_of_smooth(op: SmoothOp, low: Tensor, high: Tensor) -> Graph:
    function = _function(op)
    a, b = low.detach().cpu().numpy(), high.detach().cpu().numpy()
    steps = np.linspace(0.0, 1.0, GRID + 1).reshape(-1, *[1] * a.ndim)
    places = np.clip((1.0 - steps) * a + steps * b, a, b)
    if function.kinks:
        kinks = [np.clip(np.full_like(a, kink), a, b)[None] for kink in function.kinks]
        places = np.sort(np.concatenate((places, *kinks)), axis=0)
    with np.errstate(over="ignore", under="ignore"):
        values = function.value(places)
        bend = function.curvature(Interval(places[:-1], places[1:]))
        arch = (places[1:] - places[:-1]) ** 2 * (0.125 + 2.0**-40)
        above = (np.maximum(-bend.low, 0.0) * arch).max(axis=0)
        below = (np.maximum(bend.high, 0.0) * arch).max(axis=0)
    rounding = 2.0 * ROUNDING * np.abs(values).max(axis=0) + function.defect
    run, rise = np.diff(places, axis=0), np.diff(values, axis=0)
    slopes = np.divide(rise, run, out=np.zeros_like(rise), where=run > 0.0)
    order = [0, len(places) - 1, *range(1, len(places) - 1)]
    return Graph(
        torch.from_numpy(places[order]),
        torch.from_numpy(values[order]),
        above=torch.from_numpy(np.ascontiguousarray(above)),
        below=torch.from_numpy(np.ascontiguousarray(below)),
        rounding=torch.from_numpy(np.ascontiguousarray(rounding)),
        bent=torch.ones_like(low, dtype=torch.bool),
        slopes=[torch.from_numpy(slopes[k].copy()) for k in (len(slopes) // 2, 0, len(slopes) - 1)],
    )
