"""Slices sized by a wanted number of regions: the radius of a disc or square, the width of a strip.

The number of regions is foretold from how often neurons change sign between neighbouring points on a few
lines; nothing is partitioned for it.

    R = 1 + n + X      regions of a domain that n knots meet, of which X pairs cross (no three at once)
    c                  mean number of knots that a random line through the domain crosses
    q = P^2 / (4 pi A) perimeter and area of the domain: 1 for a disc, 1.27 for a square

For lines that fall like random ones (isotropic, independent), Crofton's formula gives n = 2 q c and
X = q c^2 in the mean (Santalo, Integral Geometry and Geometric Probability, ch. 3), so

    R = 1 + q (2 c + c^2)

Knots of networks are no such lines, but as many cross: on the workloads R is 0.85 to 1.1 of that from 5,000
regions on. A strip is thin, so that knots cross it as they cross its axis; with ``cu`` and ``cv`` knots for
each unit of length along and across, it has

    R = 1 + n + X,    n = (cu + w cv / l) l,    X = pi/4 w (integral of cu cv along the axis)

which is the same after stretching v until the knots have no preferred direction.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from splinecam_lite.errors import SliceError
from splinecam_lite.network.polygon import Array, signed_area
from splinecam_lite.network.program import Program
from splinecam_lite.network.slices import Slice
from splinecam_lite.partition.report import Sizing
from splinecam_lite.partition.result import Partition
from splinecam_lite.partition.sign_changes import SignChanges

TOLERANCE = 0.25
"""How far the number of regions may be from the wanted one, relative to that."""

FORETOLD = 0.98
"""R - 1 over q (2 c + c^2): the mean over MLPs, convolutional networks and ResNets; 0.85 to 1.1."""

RAYS, RATIO, STEPS_IN, STEPS_OUT = 2, 8.0, 8, 6
"""Directions, ratio and numbers of the radii, inwards and outwards of the size of the input, at which the
first guess looks."""

STEP = 4.0
"""Largest factor between a size and the next."""

FAR = 2.0**10
"""No domain is tried that is so many times as large as the distance of the last knot on the rays: knots would
only cross at ever smaller angles, and regions be too small for the places of a domain so large."""

LINES = ((5, 7), (8, 8))
"""Lines and points on each: of the looks that bring the guess near, and of the last one."""

LOOKS = 4
"""Looks at most; each costs as many points as `LINES` says."""

ALONG, PLACES, ACROSS = 192, 8, 6
"""Strips: points along the axis; places on it, and points at each, across it."""

CHEAP = 2000
"""Regions that are found as quickly as their number is foretold: so many do not count as effort."""

EFFORT = 3
"""Partitions are repeated while all together have no more than so many times the wanted regions ..."""

RUNS = 40
"""... and never more often than this, where the partition is small."""


@dataclass(frozen=True)
class Wanted:
    """What is asked for: a family of domains with one free size, and the number of regions.

    Attributes
    ----------
    regions : int
    centre : ArrayLike or None
        Of a disc or square; its size is the radius, as of `Slice.around`.
    ends : pair of ArrayLike or None
        Of a strip; its size is the width, as of `Slice.strip`.
    shape : "disc" or "square"
    directions : ArrayLike or None
        Of the plane; of a strip, the one direction across.
    seed : int
        Of random directions.
    """

    regions: int
    centre: Any = None
    ends: tuple[Any, Any] | None = None
    shape: Literal["disc", "square"] = "disc"
    directions: ArrayLike | None = None
    seed: int = 0

    def plane(self, size: float) -> Slice:
        """Return the slice of the given radius or width."""
        if self.ends is not None:
            return Slice.strip(*self.ends, size, direction=self.directions, seed=self.seed)
        return Slice.around(self.centre, size, self.directions, seed=self.seed, shape=self.shape)

    @property
    def what(self) -> str:
        return "width" if self.ends is not None else "radius"


def wanted(
    around: Any, between: Any, regions: Any, shape: Literal["disc", "square"], directions: Any, seed: int
) -> Wanted:
    """Check what `partition` was asked for without a slice.

    Raises
    ------
    SliceError
        Unless it is one of ``around`` and ``between``, with a number of regions.
    """
    if (around is None) == (between is None):
        raise SliceError("give a slice, or around=x and regions=n, or between=(x1, x2) and regions=n")
    name = "around" if between is None else "between"
    if regions is None:
        raise SliceError(f"{name}= needs the number of regions wanted, e.g. regions=50_000")
    if isinstance(regions, bool) or not isinstance(regions, int | np.integer) or regions < 1:
        raise SliceError(f"regions is {regions!r}; it must be a whole number from 1 up")
    if shape != "disc" and shape != "square":
        raise SliceError(f"the shape is {shape!r}; it must be 'disc' or 'square'")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise SliceError(f"seed is {seed!r}; it must be a whole number from 0 up")
    if between is None:
        return Wanted(int(regions), centre=around, shape=shape, directions=directions, seed=seed)
    if not hasattr(between, "__len__") or len(between) != 2:
        raise SliceError(f"between is {between!r:.60}; it must be two inputs, (x1, x2)")
    return Wanted(int(regions), ends=(between[0], between[1]), directions=directions, seed=seed)


def sized(program: Program, target: Wanted, run: Callable[[Slice], Partition]) -> Partition:
    """Return the partition of the domain that has about the wanted number of regions.

    Parameters
    ----------
    program : Program
        Piecewise linear, float64.
    target : Wanted
    run : callable
        Partitions a slice.

    Returns
    -------
    Partition
        Within a quarter of the wanted number; ``report.sizing`` says how its size was found.

    Raises
    ------
    SliceError
        If no size has that many regions; the error says what the largest, or smallest, has.

    Notes
    -----
    Domains of one family hold each other, so the number of regions only grows with the size; it is a step
    function, and where one step passes over the wanted range its nearer side is returned.
    """
    program.require_piecewise_linear()
    begin = time.perf_counter()
    signs = SignChanges(program)
    search = (_Strips if target.ends is not None else _Discs)(signs, target)
    size = search.first_guess()
    seconds = time.perf_counter() - begin
    runs: list[tuple[float, int]] = []
    part: Partition | None = None
    effort = 0
    while effort <= EFFORT * max(target.regions, CHEAP) and len(runs) < RUNS:
        part = None  # one at a time: each may take all the memory there is
        part = run(target.plane(size))
        runs.append((size, part.n_regions))
        effort += max(0, part.n_regions - CHEAP)
        if _misses(part.n_regions, target) <= np.log1p(TOLERANCE):
            break
        following = search.next_size(runs)
        if following is None:
            break
        size = following
    _require_reached(search, runs, target)
    best = min(runs, key=lambda run: _misses(run[1], target))[0]
    if part is None or best != runs[-1][0]:
        part = None
        part = run(target.plane(best))
    found = Sizing(target.regions, target.what, runs, signs.n_points, seconds)
    return replace(part, report=replace(part.report, sizing=found))


def _misses(n_regions: int, target: Wanted) -> float:
    """How far a number of regions is from the wanted one: of the ratio, the logarithm without its sign."""
    return abs(float(np.log(n_regions / target.regions)))


def _require_reached(search: "_Discs | _Strips", runs: list[tuple[float, int]], target: Wanted) -> None:
    """Raise if every size has too few regions, or every one too many."""
    counts = [n for _, n in runs]
    if min(_misses(n, target) for n in counts) <= np.log1p(TOLERANCE):
        return
    few, many = max(counts) < target.regions, min(counts) > target.regions
    size = max(runs)[0] if few else min(runs)[0]
    found = f"{max(counts) if few else min(counts):,} region{'s' if max(counts) > 1 else ''}"
    if few:
        raise SliceError(
            f"{target.regions:,} regions are wanted, but up to the {target.what} {size:.3g} there are "
            f"{found}: {search.why_few}; ask for fewer, take other directions, or give a Slice"
        )
    if many:
        raise SliceError(
            f"{target.regions:,} region{'s are' if target.regions > 1 else ' is'} wanted, but down to the "
            f"{target.what} {size:.3g} there are {found}: {search.why_many}; ask for more, or give a Slice"
        )


class _Discs:
    """The search for the radius of a disc or square."""

    why_few = "too few knots meet this plane"
    why_many = "knots meet at its centre"

    def __init__(self, signs: SignChanges, target: Wanted) -> None:
        self._signs, self._target = signs, target
        self._unit = target.plane(1.0)
        self._length = float(np.linalg.norm(self._unit.origin)) or 1.0
        self._q = _perimeter(self._unit.domain) ** 2 / (4 * np.pi * signed_area(self._unit.domain))
        self._lowest, self._highest = self._length * 2.0**-34, self._length * 2.0**100

    def first_guess(self) -> float:
        """Return a radius with about the wanted number of regions, from sign changes on rays and lines."""
        crossed = np.sqrt(1 + (self._target.regions - 1) / (FORETOLD * self._q)) - 1
        radius = self._from_rays(crossed)
        if crossed < 1:
            return radius
        n_looks = 0
        for n_lines, n_points in [LINES[0]] * (LOOKS - 1) + [LINES[1]]:
            found = self._crossings(radius, n_lines, n_points)
            if found == 0:
                break  # the lines miss what the rays have met
            factor = float(np.clip(crossed / found, 1 / STEP, STEP))
            radius = float(np.clip(radius * factor, self._lowest, self._highest))
            n_looks += 1
            if n_lines == LINES[0][0] and 0.8 < factor < 1.25:
                found = self._crossings(radius, *LINES[1])
                return float(radius * np.clip(crossed / max(found, 1.0), 0.5, 2.0))
        return radius

    def _from_rays(self, crossed: float) -> float:
        """The radius at which the rays have crossed as many knots as lines are to cross."""
        angles = 2 * np.pi * (np.arange(RAYS) + 0.25) / RAYS + np.array([0.0, 0.9])[:RAYS]
        centre = self._length
        for _ in range(3):
            radii = centre * RATIO ** np.arange(-STEPS_IN, STEPS_OUT + 1.0)
            mean = np.zeros(len(radii))
            for angle in angles:
                uv = np.concatenate(([0.0], radii))[:, None] * (np.cos(angle), np.sin(angle))
                mean += np.cumsum(self._signs.between(self._unit.lift(uv))) / RAYS
            mean *= np.pi / 2  # a random line crosses so many times what a ray from the centre does
            if mean[0] > crossed and centre > self._length:
                return float(radii[0])
            if mean[-1] >= crossed or centre > self._length:
                break
            centre *= RATIO**STEPS_OUT
        met = np.flatnonzero(np.diff(mean, prepend=0.0))
        if not len(met):
            return self._length  # no knots anywhere: one size is as good as another
        self._highest = min(self._highest, FAR * float(radii[met[-1]]))
        beyond = np.flatnonzero(mean > crossed)
        if not len(beyond):
            return self._highest
        last = beyond[0]
        if last == 0 or crossed == 0.0:
            return float(radii[max(last - 1, 0)])
        # Straight knots: their number grows as the radius does, less what passes through the centre.
        low, high = mean[last - 1], mean[last]
        share = (crossed - low) / (high - low)
        return float(radii[last - 1] + share * (radii[last] - radii[last - 1]))

    def _crossings(self, radius: float, n_lines: int, n_points: int) -> float:
        """Knots that a random line through the domain of that radius crosses in the mean."""
        return _mean_crossings(self._signs, self._unit, radius * self._unit.domain, n_lines, n_points)

    def next_size(self, runs: list[tuple[float, int]]) -> float | None:
        """Return the radius to try after ``runs``, of (radius, regions); None if there is none to try."""
        size, n = runs[-1]
        factor = float(np.clip(np.sqrt(self._target.regions / n), 1 / STEP, STEP))
        return _between_bounds(runs, self._target, size * factor, self._lowest, self._highest)


class _Strips:
    """The search for the width of a strip."""

    why_few = "a strip is at most as wide as long"
    why_many = "its axis alone crosses so many knots"

    def __init__(self, signs: SignChanges, target: Wanted) -> None:
        self._signs, self._target = signs, target
        self._unit = target.plane(1.0)
        self._length = float(np.ptp(self._unit.domain[:, 0]))
        self._on_axis = 0.0
        self._lowest, self._highest = self._length * 2.0**-34, self._length

    def first_guess(self) -> float:
        """Return a width with about the wanted number of regions, from signs along and across the axis."""
        along = np.linspace(0.0, self._length, ALONG)
        changes = self._signs.between(self._unit.lift(np.column_stack((along, np.zeros(ALONG)))))
        self._on_axis = float(changes.sum())
        left = self._target.regions - 1 - self._on_axis
        if left <= 0 or not self._on_axis:
            return self._lowest if left <= 0 else self._highest
        groups = np.array_split(changes, PLACES)
        per_length = np.array([g.sum() / len(g) for g in groups]) * (ALONG - 1) / self._length
        places = self._length * (np.arange(PLACES) + 0.5) / PLACES
        width = left / (np.pi / 4 * float((per_length**2).mean()) * self._length)  # as if none were steeper
        for _ in range(2):
            width = min(width, self._highest)
            across = np.array([self._across(u, width) for u in places]) / width
            grows = across.mean() + np.pi / 4 * float((per_length * across).mean()) * self._length
            width = left / (FORETOLD * grows) if grows > 0 else self._highest
        return float(np.clip(width, self._lowest, self._highest))

    def _across(self, u: float, width: float) -> float:
        """Knots that the line across the strip at ``u`` crosses."""
        v = width * np.linspace(-0.5, 0.5, ACROSS)
        return float(self._signs.between(self._unit.lift(np.column_stack((np.full(ACROSS, u), v)))).sum())

    def next_size(self, runs: list[tuple[float, int]]) -> float | None:
        """Return the width to try after ``runs``, of (width, regions): all but the axis's regions grow."""
        size, n = runs[-1]
        narrowest = min(1 + self._on_axis, n - 1, self._target.regions - 1)
        factor = float(np.clip((self._target.regions - narrowest) / (n - narrowest), 1 / STEP**2, STEP**2))
        return _between_bounds(runs, self._target, size * factor, self._lowest, self._highest)


def _between_bounds(
    runs: list[tuple[float, int]], target: Wanted, guess: float, lowest: float, highest: float
) -> float | None:
    """Put a guess between the largest size that is too small and the smallest that is too large.

    None where these two are next to each other, or the guess could only be tried again.
    """
    low = max((size for size, n in runs if n < target.regions), default=0.0)
    high = min((size for size, n in runs if n > target.regions), default=np.inf)
    if low and high < np.inf:
        if high <= low * (1 + 1e-6):
            return None
        # Near a bound the next guess would be near as well; and where steps are high, it has no sense.
        inside = low * 1.1 < guess < high / 1.1 and len(runs) < 6
        return guess if inside else float(np.sqrt(low * high))
    unchanged = sum(n == runs[-1][1] for _, n in runs) - 1
    # The number has not changed: other knots may be far away, or far within.
    guess *= STEP ** (unchanged if runs[-1][1] < target.regions else -unchanged)
    guess = float(np.clip(guess, lowest, highest))
    return None if guess in [size for size, _ in runs] else guess


def foretold_regions(signs: SignChanges, plane: Slice) -> float:
    """Return about how many regions a slice has, from sign changes on a few lines through its domain.

    Examples
    --------
    >>> from torch import nn
    >>> program = Program.from_module(nn.Sequential(nn.Linear(2, 3), nn.ReLU()).eval(), (2,))
    >>> foretold_regions(SignChanges(program), Slice.box(100, 101))
    1.0
    """
    crossed = _mean_crossings(signs, plane, plane.domain, *LINES[1])
    return 1 + FORETOLD * _perimeter(plane.domain) ** 2 / (4 * np.pi * plane.area) * (2 + crossed) * crossed


def _mean_crossings(signs: SignChanges, plane: Slice, domain: Array, n_lines: int, n_points: int) -> float:
    """Knots that a random line through a domain crosses in the mean, from a fixed choice of lines."""
    crossed = lengths = 0.0
    for uv, width in _random_lines(domain, n_lines, n_points):
        crossed += width * float(signs.between(plane.lift(uv)).sum())
        lengths += width * float(np.hypot(*(uv[-1] - uv[0])))
    # Per length, times the mean length: that is known, and so these few need not have it.
    return crossed / lengths * np.pi * signed_area(domain) / _perimeter(domain)


def _perimeter(domain: Array) -> float:
    return float(np.hypot(*(domain - np.roll(domain, 1, axis=0)).T).sum())


def _random_lines(domain: Array, n_lines: int, n_points: int) -> list[tuple[Array, float]]:
    """Lines that meet a convex domain, spread evenly over all directions and places.

    Returns
    -------
    list of (uv, width)
        Points of each line inside the domain, (n_points, 2), and its weight: the domain's width across it.
    """
    lines = []
    for i in range(n_lines):
        angle = np.pi * (i + 0.5) / n_lines
        along, normal = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
        heights = domain @ normal
        share = (0.5 + i * 0.6180339887498949) % 1.0  # the golden ratio: all places, in no order
        height = heights.min() + share * np.ptp(heights)
        before, after = np.roll(heights, 1) - height, heights - height
        cut = np.flatnonzero((before < 0) != (after < 0))
        t = (before[cut] / (before[cut] - after[cut]))[:, None]
        ends = ((1 - t) * np.roll(domain, 1, axis=0)[cut] + t * domain[cut]) @ along
        places = np.linspace(ends.min(), ends.max(), n_points)
        lines.append((places[:, None] * along + height * normal, float(np.ptp(heights))))
    return lines
