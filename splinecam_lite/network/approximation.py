r"""Smooth activations replaced by continuous piecewise-linear functions, with a proved error everywhere.

The piecewise-linear p of a smooth f is f's own asymptotes far out and chords in between. `proved_error`
proves its error on all of the real line, from the float64 numbers of p, in rationals and intervals:

* Between two breakpoints a < b, let e = f - p at the breakpoints and m <= f'' <= M in between. Chord and p
  are straight, and f leaves its chord by -(x - a)(b - x) f''(y) / 2 for a y in between, so that

      min(e_a, e_b) - max(M, 0) h^2 / 8  <=  f - p  <=  max(e_a, e_b) + max(-m, 0) h^2 / 8,     h = b - a.

  m and M come from interval arithmetic on f'' (`smooth`); each e from an exact p and an f that is right to
  2^-44 of itself.
* In the tails p runs parallel to the asymptote, and f minus its asymptote is monotone (`smooth` says why), so
  f - p lies between its value at the outermost breakpoint and its limit.

Where f is convex p may lie below f at the breakpoints by as much as it lies above it in between: h is then
sqrt(16 tolerance / f'') instead of sqrt(8 tolerance / f''), and there are 0.7 times as many breakpoints.

Breakpoints are multiples of 2^-20 (of the function's own length) and slopes multiples of 2^-40, so that sums
of jumps are slopes without rounding, and p is what float64 and rational arithmetic both say it is.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from numbers import Real
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from splinecam_lite.errors import ModelError
from splinecam_lite.network.chain import Chain, Input, operation
from splinecam_lite.network.intervals import ROUNDING, Interval
from splinecam_lite.network.ops import Approximation, KnotsOp, Op, SmoothOp
from splinecam_lite.network.smooth import FUNCTIONS, Line, SmoothFunction

if TYPE_CHECKING:
    from splinecam_lite.network.program import Program

FINEST = 1e-8
"""Smallest tolerance. Some thousand breakpoints; beyond it the rounding of slopes begins to count."""

GRID, SLOPE_GRID = 2.0**-20, 2.0**-40

PARTS = 64
"""Parts of an interval on which the second derivative is enclosed: that is then 1/64 too wide or so."""

AIM, LIMIT = 1.0 - 2.0**-5, 1.0 - 2.0**-10
"""Of the tolerance: error at a breakpoint, and error in between. What is left takes up the enclosures."""

TRIES = 12
"""Lengths tried for an interval; each one is solved for with the curvature on the one before."""

MOST_DOUBLINGS = 64


class Knots(NamedTuple):
    """A continuous piecewise-linear function as `KnotsOp` has it."""

    left_slope: float
    left_intercept: float
    breakpoints: tuple[float, ...]
    jumps: tuple[float, ...]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Evaluate at (n,) float64."""
        y = self.left_slope * x + self.left_intercept
        for place, jump in zip(self.breakpoints, self.jumps, strict=True):
            y = y + jump * np.maximum(x - place, 0.0)
        return y


def approximated(program: "Program", tolerances: Mapping[str, float]) -> "Program":
    """Replace smooth activations of a program; see `Program.approximated`."""
    wanted = _checked(tolerances)
    if program.dtype != torch.float64:
        raise ModelError(
            f"the program computes in {program.dtype}, which would round what is proved; approximate the "
            "float64 program"
        )
    ops: list[Op] = []
    found: set[str] = set()
    for op in program.ops:
        name = operator_of(op) if isinstance(op, SmoothOp) else ""
        if name in wanted:
            assert isinstance(op, SmoothOp)
            found.add(name)
            op = _replacement(op, name, wanted[name], program)
        ops.append(op)
    missing = [name for name in wanted if name not in found]
    if missing:
        present = sorted(
            {operator_of(op) for op in program.ops if isinstance(op, SmoothOp)} & FUNCTIONS.keys()
        )
        there = f"it has {', '.join(present)}" if present else "it has no smooth activation that can be"
        raise ModelError(f"approximate names '{missing[0]}', which the network does not have; {there}")
    return replace(program, ops=tuple(ops))


def operator_of(op: SmoothOp) -> str:
    """``"gelu"`` for an op of ``aten.gelu.default``."""
    target = op.where.target
    return target.split(".")[1] if "." in target else target


def _checked(tolerances: Mapping[str, float]) -> dict[str, float]:
    if not isinstance(tolerances, Mapping) or not tolerances:
        raise ModelError(
            f"approximate is {tolerances!r}; give a tolerance for each activation, e.g. {{'gelu': 1e-3}}"
        )
    for name, tolerance in tolerances.items():
        if name not in FUNCTIONS:
            raise ModelError(
                f"approximate names {name!r}; what can be approximated is {', '.join(sorted(FUNCTIONS))}"
            )
        number = isinstance(tolerance, Real) and not isinstance(tolerance, bool)
        if not (number and FINEST <= float(tolerance) < math.inf):
            raise ModelError(
                f"the tolerance of '{name}' is {tolerance!r}; it must be a number from {FINEST:g} up: the "
                "largest error of the approximation"
            )
    return {name: float(tolerance) for name, tolerance in tolerances.items()}


def _replacement(op: SmoothOp, name: str, tolerance: float, program: "Program") -> KnotsOp:
    arguments = arguments_of(op)
    try:
        knots, error = knots_of(name, tuple(sorted(arguments.items())), tolerance)
    except ModelError as failure:
        raise ModelError(f"{op.where} cannot be approximated: {failure}") from failure

    def tensor(number: float) -> torch.Tensor:
        return torch.tensor(number, dtype=program.dtype, device=program.device)

    return KnotsOp(
        inputs=(op.inputs[0],),
        output=op.output,
        where=op.where,
        left_slope=tensor(knots.left_slope),
        left_intercept=tensor(knots.left_intercept),
        breakpoints=tuple(map(tensor, knots.breakpoints)),
        jumps=tuple(map(tensor, knots.jumps)),
        approximation=Approximation(name, tolerance, error),
    )


def arguments_of(op: SmoothOp) -> dict[str, float | str]:
    """Arguments of the operator after the first, by name; those that have their default may be missing."""
    if not isinstance(op.fn, Chain) or len(op.fn.steps) != 1 or op.fn.steps[0].args[:1] != (Input(0),):
        raise ModelError(f"{op.where} cannot be approximated: it is not one torch operation on one value")
    (step,) = op.fn.steps
    names = [argument.name for argument in operation(step.target)._schema.arguments]
    return dict(zip(names[1:], step.args[1:], strict=False)) | dict(step.kwargs)


@lru_cache(maxsize=256)
def knots_of(
    name: str, arguments: tuple[tuple[str, float | str], ...], tolerance: float
) -> tuple[Knots, float]:
    """Return a piecewise-linear function within a tolerance of a smooth one, and its proved error.

    Parameters
    ----------
    name : str
        One of `smooth.FUNCTIONS`.
    arguments : tuple of (name, value)
        Of the torch operator, without its first; missing ones have torch's defaults.
    tolerance : float
        At least `FINEST`.

    Returns
    -------
    knots : Knots
    error : float
        Bound on ``|f - p|`` on the whole real line; at most the tolerance.

    Raises
    ------
    ModelError
        If the arguments or the tolerance do not allow it.

    Examples
    --------
    >>> knots, error = knots_of("gelu", (), 1e-2)
    >>> len(knots.breakpoints), knots.left_slope, sum(knots.jumps), error <= 1e-2
    (11, 0.0, 1.0, True)
    """
    function = FUNCTIONS[name](**dict(arguments))
    if function.defect > tolerance / 4:
        raise ModelError(
            f"torch's own {name} jumps by {function.defect:.1e} at its threshold, too much for a tolerance "
            f"of {tolerance:g}; raise either"
        )
    wanted = tolerance - function.defect
    # A tolerance that leaves hardly anything to bend, as 1 of a sigmoid, is met by what a finer one gives.
    for finer in (1.0, 0.5, 0.25):
        knots = _construct(function, finer * wanted)
        error = proved_error(function, knots)
        if error <= tolerance:
            return knots, error
    raise ModelError(
        f"an error of {error:.3e} is what can be proved of its approximation within {tolerance:g}; choose "
        "another tolerance"
    )


# ---- construction ------------------------------------------------------------------------------


def _construct(function: SmoothFunction, tolerance: float) -> Knots:
    """Breakpoints from the left tail to the right one, each as far from the last as the tolerance allows.

    Nothing here is trusted: `proved_error` looks at the result alone.
    """
    aim, limit, grid = AIM * tolerance, LIMIT * tolerance, GRID * function.length
    first, last = _end(function, aim, -1.0, grid), _end(function, aim, 1.0, grid)
    marks = sorted({grid * round(x / grid) for x in (*function.bends, *function.kinks) if first < x < last})
    places, errors = [first], [_difference(function, first, function.left)]
    for start, stop in zip([first, *marks], [*marks, last], strict=True):
        sign = _sign(function, start, stop)
        # Where the sign changes p meets f, and at kinks, so that what is straight there stays as it is.
        at_stop = _difference(function, last, function.right) if stop == last else 0.0
        while places[-1] < stop:
            place, error = _next(function, places[-1], errors[-1], stop, at_stop, sign * aim, limit, grid)
            places.append(place)
            errors.append(error)
    return _through(function, places, errors)


def _sign(function: SmoothFunction, start: float, stop: float) -> float:
    """Sign of the second derivative half-way."""
    middle = np.array([(start + stop) / 2.0])
    low, high = function.curvature(Interval(middle, middle))
    return float(np.sign(low[0] + high[0]))


def _difference(function: SmoothFunction, x: float, line: Line) -> float:
    return float(function.value(np.array([x]))[0]) - (line[0] * x + line[1])


def _end(function: SmoothFunction, aim: float, side: float, grid: float) -> float:
    """The outermost breakpoint of one side: in the tail, and f no farther from its asymptote than ``aim``."""
    start, line = (function.tails[0], function.left) if side < 0 else (function.tails[1], function.right)
    step = 0.0
    near, far = start, start
    for _ in range(MOST_DOUBLINGS):
        if abs(_difference(function, far, line)) <= aim:
            break
        near, step = far, max(2.0 * step, function.length)
        far = start + side * step
    else:
        raise ModelError("it is too far from its asymptotes")
    while abs(far - near) > grid:
        middle = (near + far) / 2.0
        if abs(_difference(function, middle, line)) <= aim:
            far = middle
        else:
            near = middle
    return grid * (math.floor(far / grid) if side < 0 else math.ceil(far / grid))


def _next(
    function: SmoothFunction, a: float, error: float, stop: float, at_stop: float, aim: float, limit: float,
    grid: float,
) -> tuple[float, float]:  # fmt: skip
    """The next breakpoint after ``a``, at ``stop`` at the latest, and f - p there."""
    best, length = 0.0, stop - a
    for _ in range(TRIES):
        at_end = at_stop if a + length == stop else aim
        low, high = _range(function, a, a + length, (error, error), (at_end, at_end))
        if max(high, -low) <= limit:
            if a + length == stop:
                return stop, at_stop
            best = max(best, length)
        enclosed = function.curvature(_parts(a, a + length))
        below, above = limit + min(error, at_end), limit - max(error, at_end)
        bent = max(
            float(enclosed.high.max()) / max(below, 1e-300), float(-enclosed.low.min()) / max(above, 1e-300)
        )
        solved = 0.999 * math.sqrt(8.0 / bent) if bent > 0.0 else stop - a
        length = min(grid * math.floor(solved / grid), stop - a)
        if length <= best:
            break
    if best <= 0.0:
        raise ModelError("its breakpoints would be too close together")
    return a + best, aim


def _through(function: SmoothFunction, places: list[float], errors: list[float]) -> Knots:
    """The piecewise-linear function that misses f by ``errors`` at ``places``, up to the grid of slopes."""
    exact = [Fraction(x) for x in places]
    height = Fraction(function.left[0]) * exact[0] + Fraction(function.left[1])
    wanted = function.value(np.array(places)) - np.array(errors)
    slopes = [function.left[0]]
    for i, (a, b) in enumerate(pairwise(exact)):
        slope = SLOPE_GRID * round((Fraction(float(wanted[i + 1])) - height) / (b - a) / Fraction(SLOPE_GRID))
        height += Fraction(slope) * (b - a)
        slopes.append(slope)
    slopes.append(function.right[0])
    jumps = tuple(after - before for before, after in pairwise(slopes))
    return Knots(*function.left, tuple(places), jumps)


# ---- proof -------------------------------------------------------------------------------------


def proved_error(function: SmoothFunction, knots: Knots) -> float:
    """Return a bound on ``|f - p|`` over all real numbers; infinity where there is none.

    Parameters
    ----------
    function : SmoothFunction
    knots : Knots
        Any continuous piecewise-linear function; breakpoints ascend.

    Returns
    -------
    float
        The module says how it is proved. Infinite if a kink of f is no breakpoint, the tails begin too late
        or are not parallel to the asymptotes, or the slopes are not exact sums of the jumps in float64.

    Examples
    --------
    The largest distance of softplus and ReLU is log 2, at 0.

    >>> softplus = FUNCTIONS["softplus"](threshold=40)
    >>> round(proved_error(softplus, Knots(0.0, 0.0, (0.0,), (1.0,))), 9) == round(math.log(2), 9)
    True
    >>> proved_error(softplus, Knots(0.0, 0.0, (0.0,), (0.75,)))
    inf
    """
    places = knots.breakpoints
    slopes = _exact_slopes(knots)
    if slopes is None or slopes[-1] != Fraction(function.right[0]) or slopes[0] != Fraction(function.left[0]):
        return math.inf
    if any(a >= b for a, b in pairwise(places)):
        return math.inf
    if places[0] > function.tails[0] or places[-1] < function.tails[1]:
        return math.inf
    if any(kink not in places for kink in function.kinks):
        return math.inf
    heights = [slopes[0] * Fraction(places[0]) + Fraction(knots.left_intercept)]
    for i in range(1, len(places)):
        heights.append(heights[-1] + slopes[i] * (Fraction(places[i]) - Fraction(places[i - 1])))
    errors = _errors(function, places, heights)
    worst = max(
        _tail(places[0], heights[0], function.left, errors[0]),
        _tail(places[-1], heights[-1], function.right, errors[-1]),
    )
    for i in range(len(places) - 1):
        low, high = _range(function, places[i], places[i + 1], errors[i], errors[i + 1])
        worst = max(worst, high, -low)
    # A few roundings of float64 have gone into `worst`.
    return (worst + function.defect) * (1.0 + 2.0**-40)


def _exact_slopes(knots: Knots) -> list[Fraction] | None:
    """Slopes of the pieces; None if float64 would not add them up exactly, as evaluating them does."""
    slopes, rounded = [Fraction(knots.left_slope)], knots.left_slope
    for jump in knots.jumps:
        slopes.append(slopes[-1] + Fraction(jump))
        rounded += jump
        if Fraction(rounded) != slopes[-1]:
            return None
    return slopes


def _errors(
    function: SmoothFunction, places: tuple[float, ...], heights: list[Fraction]
) -> list[tuple[float, float]]:
    """Enclose f - p at the breakpoints."""
    enclosed = []
    for f, height in zip(function.value(np.array(places)).tolist(), heights, strict=True):
        middle, margin = float(Fraction(f) - height), 2.0 * ROUNDING * abs(f) + 2.0**-1000
        margin += abs(middle) * 2.0**-50
        enclosed.append((middle - margin, middle + margin))
    return enclosed


def _tail(place: float, height: Fraction, line: Line, error: tuple[float, float]) -> float:
    """Bound on f - p beyond an outermost breakpoint: between its value there and its limit."""
    limit = Fraction(line[0]) * Fraction(place) + Fraction(line[1]) - height
    return max(error[1], -error[0], abs(float(limit)) * (1.0 + 2.0**-50))


def _parts(a: float, b: float) -> Interval:
    ends = np.linspace(a, b, PARTS + 1)
    return Interval(ends[:-1], ends[1:])


def _range(
    function: SmoothFunction, a: float, b: float, at_a: tuple[float, float], at_b: tuple[float, float]
) -> tuple[float, float]:
    """Enclose f - p between neighbouring breakpoints, from enclosures at both."""
    curvature = function.curvature(_parts(a, b))
    room = (b - a) ** 2 / 8.0 * (1.0 + 2.0**-50)
    low = min(at_a[0], at_b[0]) - max(float(curvature.high.max()), 0.0) * room
    high = max(at_a[1], at_b[1]) + max(-float(curvature.low.min()), 0.0) * room
    return low, high
