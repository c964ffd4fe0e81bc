"""A calibration as text: what a reader of a terminal wants to know first."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from splinecam_lite.complexity.calibration.recommendation import WANTED, Recommendation
from splinecam_lite.complexity.calibration.statistics import Interval
from splinecam_lite.complexity.calibration.tables import TOTAL

if TYPE_CHECKING:
    from splinecam_lite.complexity.calibration.result import Calibration

UNDEFINED = "-"

NO_RADIUS = {"none": "not shown", "undecided": "too few crossings"}


def table_of(calibration: "Calibration") -> str:
    """Return recall, correlations and advice at the last checkpoint, and how curves over checkpoints agree.

    Returns
    -------
    str
        Lines without an end of line after the last. ``-`` stands for what is not defined: the recall where
        nothing crosses, a correlation with a constant.
    """
    parts = [_recall, _more_directions, _orientation, _trends, _advice]
    return "\n\n".join("\n".join(lines) for part in parts if (lines := list(part(calibration))))


def _recall(calibration: "Calibration") -> Iterator[str]:
    s = calibration.settings
    yield (
        f"Estimate with P = 2 against the exact count in the same diamonds: {s['n_points']:,} points, "
        f"{s['n_planes']} plane{'s' * (s['n_planes'] > 1)}, checkpoint {calibration.checkpoints[-1]}; "
        "99 % intervals"
    )
    head = ["radius", "layer", "exact", "missed", "recall", "interval", "bias", "Pearson", "Spearman"]
    rows = [head]
    for radius in calibration.radii:
        for layer in calibration.layers:
            row = calibration.row(radius, layer)
            missed = f"{row.n_exact - row.n_estimate:,}"
            rows.append(
                [
                    f"{radius:g}",
                    layer,
                    f"{row.exact:.4g}",
                    missed,
                    *_with_interval(row.ratio, 4),
                    _number(row.bias.value, 4),
                    _number(row.pearson.value, 3),
                    _number(row.spearman.value, 3),
                ]
            )
    yield from aligned(rows, left=2)


def _more_directions(calibration: "Calibration") -> Iterator[str]:
    if len(calibration.directions) == 1:
        return
    yield "More directions: estimate / exact count in the plane, and Spearman correlation with it; all layers"
    rows = [
        [
            "radius",
            *(f"P = {p}" for p in calibration.directions),
            *(f"rho {p}" for p in calibration.directions),
        ]
    ]
    for radius in calibration.radii:
        found = [calibration.row(radius, TOTAL, p) for p in calibration.directions]
        rows.append(
            [
                f"{radius:g}",
                *(_number(row.ratio.value, 3) for row in found),
                *(_number(row.spearman.value, 3) for row in found),
            ]
        )
    yield from aligned(rows)


def _orientation(calibration: "Calibration") -> Iterator[str]:
    last = [
        row
        for row in calibration.orientation
        if row.layer == TOTAL and row.checkpoint == calibration.checkpoints[-1]
    ]
    if not last:
        return
    yield "Variance for a random point and plane, by where it comes from; all layers"
    rows = [["radius", "count", "mean", "points", "planes", "residual"]]
    for row in last:
        total = sum(row.components)
        shares = [f"{part / total:.1%}" if total > 0 else UNDEFINED for part in row.components]
        name = "exact" if row.quantity == "exact" else f"P = {row.directions}"
        rows.append([f"{row.radius:g}", name, f"{row.mean:.4g}", *shares])
    yield from aligned(rows, left=2)


def _trends(calibration: "Calibration") -> Iterator[str]:
    rows = [
        [
            f"{row.radius:g}",
            f"{row.directions}",
            *_with_interval(row.pearson, 3),
            *_with_interval(row.spearman, 3),
            *_with_interval(row.pearson_changes, 3),
        ]
        for row in calibration.trends
        if row.layer == TOTAL
    ]
    if not rows:
        return
    yield (
        f"Curves over {len(calibration.checkpoints)} checkpoints, estimate against exact count in the plane; "
        "all layers"
    )
    head = ["radius", "P", "Pearson", "interval", "Spearman", "interval", "of changes", "interval"]
    yield from aligned([head, *rows])


def _advice(calibration: "Calibration") -> Iterator[str]:
    yield "Largest radius with the recall that is wanted, at every checkpoint; >=: the largest measured"
    rows = [["layer", *(f"{wanted:.0%}" for wanted in WANTED)]]
    for layer in calibration.layers:
        found = [calibration.recommended_radius(wanted, layer) for wanted in WANTED]
        rows.append([layer, *(_radius(each) for each in found)])
    yield from aligned(rows)


def _radius(found: Recommendation) -> str:
    at_least = ">= " if found.kind == "largest" else ""
    return NO_RADIUS.get(found.kind) or f"{at_least}{found.radius:.3g}"


def _with_interval(found: Interval, digits: int) -> list[str]:
    low, high = _number(found.low, digits), _number(found.high, digits)
    return [_number(found.value, digits), UNDEFINED if UNDEFINED == low else f"[{low}, {high}]"]


def _number(value: float, digits: int) -> str:
    return UNDEFINED if np.isnan(value) else f"{value:.{digits}f}"


def aligned(rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Return rows of words as lines with aligned columns: the first ``left`` to the left, others right.

    Examples
    --------
    >>> aligned([["layer", "n"], ["1", "10"]])
    ['  layer   n', '  1      10']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        words = [
            w.ljust(n) if i < left else w.rjust(n) for i, (w, n) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  " + "  ".join(words).rstrip())
    return lines
