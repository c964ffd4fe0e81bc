"""Which two of the lines at a vertex define it, chosen exactly, and the place where they cross."""

import numpy as np

from splinecam_lite.partition.proof.exact import ExactStage, Point

SLANT = 2.0**-10
"""Sine of the angle below which two lines are almost parallel."""


def rounded(point: Point) -> tuple[tuple[float, float], float]:
    """Return an exact place as float64, and a bound on the distance of the two."""
    x, y, w = point
    place = x / w, y / w
    # Each coordinate is rounded once: by at most 2^-53 of it, or by half of the smallest number.
    return place, (abs(place[0]) + abs(place[1])) * 2.0**-52 + 2.0**-1070


def best_crossing(
    stage: ExactStage,
    faces: np.ndarray,
    knots: np.ndarray,
    reported: set[int],
    near: np.ndarray | None = None,
) -> tuple[int, np.ndarray, Point, np.ndarray] | None:
    """Return face, pair of lines, crossing, and how far it moves with each line; None if all are parallel.

    The steepest crossing of lines that are not reported as snapped, with sides of the domain if there are;
    or, of those that are not almost parallel, the one nearest to a place.
    """
    n = len(knots)
    first, second = np.triu_indices(n, 1)
    on_side = (knots >= stage.codes.n_bits) & (knots < stage.codes.first_tie)
    best: tuple[float, int, np.ndarray, Point, np.ndarray] | None = None
    for f in faces.tolist():
        forms = stage.lines(np.full(n, f), knots, None)
        gradient = forms.hi[:, :2]
        length = np.hypot(*gradient.T)
        with np.errstate(divide="ignore", invalid="ignore"):
            unit = np.where(length[:, None] > 0, gradient / length[:, None], 0.0)
        score = np.abs(unit[first, 0] * unit[second, 1] - unit[first, 1] * unit[second, 0])
        for i in range(n):
            favour = 4.0 * on_side[i] - 2.0 * (int(knots[i]) in reported)
            score[(first == i) | (second == i)] += favour
        if near is not None:
            steep = np.flatnonzero(score > SLANT if (score > SLANT).any() else score >= 0.0)
            for i in steep.tolist():
                point = stage.crossing(forms, int(first[i]), int(second[i]))
                if point is not None:
                    (u, v), _ = rounded(point)
                    score[i] = -float(np.hypot(u - near[0], v - near[1]))
                else:
                    score[i] = -np.inf
            score[score > 0.0] = -np.inf
        for i in np.argsort(-score):
            if best is not None and best[0] >= score[i]:
                break
            a, b = int(first[i]), int(second[i])
            point = stage.crossing(forms, a, b)
            if point is not None:
                best = float(score[i]), f, knots[[a, b]], point, stage.steepness(forms, a, b)
                break
    return None if best is None else best[1:]
