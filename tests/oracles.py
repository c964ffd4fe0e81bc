"""Exact answers in rational arithmetic: slow, short, and obviously right.

Nothing here knows how the engine works. The domain is cut by one neuron after the other, each polygon on its
own, and a cut is decided by the sign of an integer.

Notation::

    point   (X, Y, W)   integers without a common divisor, W > 0: the place (X/W, Y/W).
                        Equal places are equal tuples.
    form    (a, b, c)   integers: the affine function a x + b y + c, up to a positive factor.
                        Its sign at a point is the sign of a X + b Y + c W.

Tie rules, the same as the library's: a neuron is *on* in a region where its preactivation is positive inside;
one that is zero on a whole region is off. Of several outputs, or entries of a maximum, that tie on a whole
region the first one wins. The pattern of a maximum is, for each of its windows, the entry that wins.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from fractions import Fraction
from functools import cached_property
from math import gcd, hypot
from typing import NamedTuple

import numpy as np

from tests.exact_networks import Activation, Affine, Maximum, Network, Rationals

OUTER = -1

Point = tuple[int, int, int]
Polygon = list[Point]
Pattern = tuple[tuple[bool | int, ...], ...]


# ---- line arrangements ---------------------------------------------------------------------------


def count_regions(lines, box):
    """Count the regions that lines ``a x + b y + c = 0`` make of a box, exactly.

    Each new line is cut by the earlier ones into (distinct crossing points + 1) pieces inside the box, and
    each piece splits one region. Parallel, concurrent and repeated lines need no special case.

    Examples
    --------
    >>> count_regions([(1, 0, 0), (0, 1, 0), (1, 1, 0), (2, 2, 0)], (-1, 1, -1, 1))
    6
    """
    x0, x1, y0, y1 = map(Fraction, box)
    placed, regions = [], 1
    for a, b, c in lines:
        a, b, c = Fraction(a), Fraction(b), Fraction(c)
        sides = [a * x + b * y + c for x in (x0, x1) for y in (y0, y1)]
        if not min(sides) < 0 < max(sides):
            continue  # misses the box, or only touches its border
        points, repeated = set(), False
        for d, e, f in placed:
            det = a * e - b * d
            if det == 0:
                repeated |= a * f == c * d and b * f == c * e
                continue
            x, y = (b * f - c * e) / det, (c * d - a * f) / det
            if x0 < x < x1 and y0 < y < y1:
                points.add((x, y))
        if not repeated:
            placed.append((a, b, c))
            regions += 1 + len(points)
    return regions


# ---- polygons ------------------------------------------------------------------------------------


def place(x, y) -> Point:
    """Point of the coordinates, whatever their type, without rounding."""
    x, y = Fraction(x), Fraction(y)
    return _reduced(x.numerator * y.denominator, y.numerator * x.denominator, x.denominator * y.denominator)


def xy(point: Point) -> tuple[Fraction, Fraction]:
    """Coordinates of a point."""
    return Fraction(point[0], point[2]), Fraction(point[1], point[2])


def area(polygon: Polygon) -> Fraction:
    """Signed area: positive when the corners run counter-clockwise."""
    corners = [xy(point) for point in polygon]
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(corners, _rotated(corners), strict=True)) / 2


def _reduced(x: int, y: int, w: int) -> Point:
    divisor = gcd(x, y, w) * (1 if w > 0 else -1)
    return x // divisor, y // divisor, w // divisor


def _rotated(items: list) -> list:
    return items[1:] + items[:1]


def _heights(polygon: Polygon, form: Sequence[int]) -> list[int]:
    """The form at the corners, each up to a positive factor."""
    a, b, c = form
    return [a * x + b * y + c * w for x, y, w in polygon]


def _clip(polygon: Polygon, heights: list[int]) -> Polygon:
    """Part of a convex polygon where a form, of these heights at the corners, is not negative."""
    part = []
    for p, q, at_p, at_q in zip(polygon, _rotated(polygon), heights, _rotated(heights), strict=True):
        if at_p >= 0:
            part.append(p)
        if at_p * at_q < 0:  # the form is zero at at_p q - at_q p, and there alone on this side
            part.append(_reduced(*(at_p * j - at_q * i for i, j in zip(p, q, strict=True))))
    return part


def _split(polygon: Polygon, form: Sequence[int]) -> list[tuple[Polygon, bool]]:
    """One or two parts of a polygon, each with whether the form is positive inside it."""
    heights = _heights(polygon, form)
    if max(heights) <= 0:
        return [(polygon, False)]
    if min(heights) >= 0:
        return [(polygon, True)]
    return [(_clip(polygon, [-height for height in heights]), False), (_clip(polygon, heights), True)]


class Border(NamedTuple):
    """A segment where polygon ``left`` meets polygon ``right`` (``OUTER``: the outside of the domain)."""

    left: int
    right: int
    start: Point
    end: Point

    @property
    def length(self) -> float:
        (x0, y0), (x1, y1) = xy(self.start), xy(self.end)
        return hypot(x1 - x0, y1 - y0)


def shared_borders(polygons: Sequence[Polygon]) -> list[Border]:
    """Every segment of positive length in which two polygons meet, or one meets the outside.

    The polygons are convex, counter-clockwise and tile a convex domain. Their sides are sorted by the line
    they lie on and by direction; two sides of one line with opposite directions share what their ranges
    have in common.
    """
    sides = defaultdict(lambda: ([], []))
    for number, polygon in enumerate(polygons):
        for p, q in zip(polygon, _rotated(polygon), strict=True):
            a, b, c = p[1] * q[2] - p[2] * q[1], p[2] * q[0] - p[0] * q[2], p[0] * q[1] - p[1] * q[0]
            divisor = gcd(a, b, c) * (1 if (a, b) > (0, 0) else -1)
            backward = divisor < 0
            along = 0 if b else 1  # y tells the places of a vertical line apart, x those of any other
            ends = sorted((xy(point)[along], point) for point in (p, q))
            sides[a // divisor, b // divisor, c // divisor][backward].append((ends[0], ends[1], number))
    borders = []
    for forward, backward in sides.values():
        met = set()
        for start, end, left in forward:
            for other_start, other_end, right in backward:
                low, high = max(start, other_start), min(end, other_end)
                if low < high:
                    borders.append(Border(left, right, low[1], high[1]))
                    met |= {left, right}
        borders += [Border(n, OUTER, s[1], e[1]) for s, e, n in forward + backward if n not in met]
    return borders


def _components(n: int, links: Iterable[tuple[int, int]]) -> int:
    """Number of connected sets of ``n`` things of which pairs are linked."""
    group = list(range(n))
    for first, second in links:
        old, new = group[second], group[first]
        group = [new if label == old else label for label in group]
    return len(set(group))


# ---- partitions ----------------------------------------------------------------------------------


class Region(NamedTuple):
    """A convex polygon on which the network has one activation pattern, and its values there.

    ``values[name]`` holds a form with rational coefficients for every component, on one common denominator.
    """

    corners: Polygon
    pattern: Pattern
    values: dict[str, Rationals]


class Decision(NamedTuple):
    """Where which output is largest: convex cells with a winner each, and the segments between winners."""

    cells: list[Polygon]
    winners: list[int]
    segments: list[Border]
    n_connected: int

    @property
    def length(self) -> float:
        return sum(segment.length for segment in self.segments)


class ExactPartition:
    """All activation regions of a network on a convex polygon, by recursive clipping.

    Parameters
    ----------
    network : list of Affine, Activation and Maximum
        For a slice of a larger space, begin with the affine map that lifts the chart (see `lift`).
    domain : sequence of (x, y)
        Counter-clockwise corners of a strictly convex polygon; ints, floats or Fractions.
    """

    def __init__(self, network: Network, domain: Sequence[tuple]):
        start = Region([place(x, y) for x, y in domain], (), {"x": Rationals.of([[1, 0, 0], [0, 1, 0]])})
        assert area(start.corners) > 0, "the domain's corners must run counter-clockwise"
        self.domain = start.corners
        self.output = network[-1].target
        self.regions = [start]
        for op in network:
            self.regions = [part for region in self.regions for part in _step(op, region)]

    @property
    def n_regions(self) -> int:
        return len(self.regions)

    @cached_property
    def borders(self) -> list[Border]:
        return shared_borders([region.corners for region in self.regions])

    def areas(self) -> dict[Pattern, Fraction]:
        """Area of each region, by its pattern. A pattern's region is convex, so no pattern has two."""
        areas = {region.pattern: area(region.corners) for region in self.regions}
        assert len(areas) == self.n_regions
        return areas

    def adjacency(self) -> dict[frozenset[Pattern], set[tuple[int, int]]]:
        """Pairs of regions that share a border of positive length; in which (layer, neuron) they differ."""
        pairs = {}
        for left, right, *_ in self.borders:
            if right != OUTER:
                first, second = self.regions[left].pattern, self.regions[right].pattern
                pairs[frozenset((first, second))] = {
                    (layer, neuron)
                    for layer, bits in enumerate(first)
                    for neuron, bit in enumerate(bits)
                    if bit != second[layer][neuron]
                }
        return pairs

    def euler_characteristic(self) -> int:
        """V - E + F without the outer face; 1 for every subdivision of a convex domain."""
        vertices = {point for region in self.regions for point in region.corners}
        return len(vertices) - len(self.borders) + self.n_regions

    def affine_maps(self) -> dict[Pattern, list[list[Fraction]]]:
        """For each pattern the output's rows (a, b, c): output = a x + b y + c on that region."""
        return {region.pattern: region.values[self.output].fractions() for region in self.regions}

    def n_linear_regions(self) -> int:
        """Number of sets of regions that are connected by borders and have one output map."""
        maps = self.affine_maps()
        maps = [maps[region.pattern] for region in self.regions]
        inner = [(left, right) for left, right, *_ in self.borders if right != OUTER]
        equal = [(left, right) for left, right in inner if maps[left] == maps[right]]
        return _components(self.n_regions, equal)

    def decision(self) -> Decision:
        """Cells of the largest output; one output alone is held against zero: winner 1 where positive."""
        cells, winners = [], []
        for region in self.regions:
            rows = region.values[self.output].numerators
            if len(rows) == 1:
                rows = np.vstack([[0, 0, 0], rows])
            for winner, cell in _winning_cells(region.corners, rows):
                cells.append(cell)
                winners.append(winner)
        inner = [border for border in shared_borders(cells) if border.right != OUTER]
        same = [(left, right) for left, right, *_ in inner if winners[left] == winners[right]]
        segments = [border for border in inner if winners[border.left] != winners[border.right]]
        return Decision(cells, winners, segments, _components(len(cells), same))


def _step(op: Affine | Activation | Maximum, region: Region) -> list[Region]:
    match op:
        case Affine():
            return _apply(op, region)
        case Activation():
            return _activate(op, region)
        case Maximum():
            return _choose(op, region)


def _apply(op: Affine, region: Region) -> list[Region]:
    total = Rationals(np.array([[0, 0, n] for n in op.bias.numerators], dtype=object), op.bias.denominator)
    for source, matrix in op.terms:
        total = total + matrix @ region.values[source]
    return [Region(region.corners, region.pattern, {**region.values, op.target: total})]


def _activate(op: Activation, region: Region) -> list[Region]:
    preact = region.values[op.source]
    parts: list[tuple[Polygon, tuple[bool, ...]]] = [(region.corners, ())]
    for form, slope in zip(preact.numerators, op.slopes.numerators, strict=True):
        bends = slope != op.slopes.denominator
        parts = [
            (part, (*bits, on))
            for polygon, bits in parts
            for part, on in (_split(polygon, form) if bends else [(polygon, False)])
        ]
    regions = []
    for polygon, bits in parts:
        one = op.slopes.denominator
        gains = [[one if on else slope] for on, slope in zip(bits, op.slopes.numerators, strict=True)]
        gain = Rationals(np.array(gains, dtype=object), one)
        regions.append(Region(polygon, (*region.pattern, bits), {**region.values, op.target: gain * preact}))
    return regions


def _choose(op: Maximum, region: Region) -> list[Region]:
    """Cut a region where the winner of some window changes, window after window."""
    entries = Rationals.joined([region.values[source] for source in op.sources])
    parts: list[tuple[Polygon, tuple[int, ...]]] = [(region.corners, ())]
    for window in op.windows:
        rows = op.sign * entries.numerators[list(window)]
        parts = [
            (cell, (*winners, window[winner]))
            for polygon, winners in parts
            for winner, cell in _winning_cells(polygon, rows)
        ]
    return [
        Region(
            polygon,
            (*region.pattern, winners),
            {**region.values, op.target: Rationals(entries.numerators[list(winners)], entries.denominator)},
        )
        for polygon, winners in parts
    ]


def _winning_cells(polygon: Polygon, rows: np.ndarray):
    """Yield (winner, cell) for each row that is largest on some open part of the polygon."""
    for winner, row in enumerate(rows):
        cell = polygon
        for rival, other in enumerate(rows):
            heights = _heights(cell, row - other)
            beaten = max(heights) <= 0 and not (max(heights) == min(heights) == 0 and winner <= rival)
            if beaten:
                break
            cell = _clip(cell, heights)
        else:
            yield winner, cell
