"""Hundreds of thousands of polygons and segments as a few hundred matplotlib paths.

A `LineCollection` of the edges of 360,000 regions takes 15 s, most of it to make Python objects. Here all
polygons of one colour, and all edges of one width, share compound paths: 2 s for each.
"""

from collections.abc import Iterator

import numpy as np
from matplotlib.path import Path
from numpy.typing import NDArray

SUBPATHS = 2_000
"""Polygons or segments in a compound path. Agg fails on much longer ones ("cell block limit exceeded")."""

EDGE_INK = 0.25
"""Part of a region that the lines around it cover; where regions are finer, lines are thinner and fade."""

WIDEST, N_WIDTHS, WIDTH_STEP = 0.6, 12, 0.7
"""Widths of edges: points, number of widths, and the ratio of each to the one before."""


def polygons_by_number(
    xy: NDArray[np.float64], ptr: NDArray[np.int64], corner: NDArray[np.int64], numbers: NDArray[np.int64]
) -> Iterator[tuple[int, Path]]:
    """Yield compound paths of polygons that have one number.

    Parameters
    ----------
    xy : (V, 2)
        Vertices.
    ptr, corner : (n + 1,), (m,)
        Polygon ``i`` has vertices ``corner[ptr[i]:ptr[i + 1]]``.
    numbers : (n,)

    Yields
    ------
    number, Path
        Every polygon is in one path.

    Examples
    --------
    >>> square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    >>> halves = np.array([0, 3, 6]), np.array([0, 1, 2, 0, 2, 3])
    >>> [(n, len(path.vertices)) for n, path in polygons_by_number(square, *halves, np.array([7, 7]))]
    [(7, 8)]
    """
    order = np.argsort(numbers, kind="stable")
    size = np.diff(ptr)[order]
    end = np.cumsum(size + 1)  # each polygon closes with its first corner
    place = np.arange(end[-1] if len(end) else 0) - np.repeat(end - size - 1, size + 1)
    closing = place == np.repeat(size, size + 1)
    vertices = xy[corner[np.repeat(ptr[:-1][order], size + 1) + np.where(closing, 0, place)]]
    drawn = np.where(place == 0, Path.MOVETO, Path.LINETO)
    codes = np.where(closing, Path.CLOSEPOLY, drawn).astype(Path.code_type)
    start = end - size - 1
    ordered = numbers[order]
    runs = np.flatnonzero(np.diff(ordered, prepend=ordered[:1] - 1))
    for first, last in zip(runs, [*runs[1:], len(order)], strict=True):
        for i in range(first, last, SUBPATHS):
            span = slice(start[i], end[min(i + SUBPATHS, last) - 1])
            yield int(ordered[i]), _path(vertices[span], codes[span])


def segment_paths(segments: NDArray[np.float64]) -> list[Path]:
    """Return compound paths of segments (n, 2, 2).

    Examples
    --------
    >>> segment_paths(np.zeros((0, 2, 2)))
    []
    """
    codes = np.tile(np.array([Path.MOVETO, Path.LINETO], Path.code_type), SUBPATHS)
    pieces = [segments[i : i + SUBPATHS].reshape(-1, 2) for i in range(0, len(segments), SUBPATHS)]
    return [_path(piece, codes[: len(piece)]) for piece in pieces]


def breadths(areas: NDArray[np.float64], perimeters: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return twice the area over the perimeter; 0 for a region that rounding has left no area or border.

    Examples
    --------
    >>> breadths(np.array([1.0, -1e-20, 0.0]), np.array([4.0, 1.0, 0.0])).tolist()
    [0.5, 0.0, 0.0]
    """
    return 2 * np.maximum(areas, 0.0) / np.maximum(perimeters, np.finfo(float).tiny)


def edge_widths(breadth: NDArray[np.float64], edge_faces: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the width at which each edge is drawn, one of `N_WIDTHS` values.

    Parameters
    ----------
    breadth : (n_regions,)
        Twice the area of each region over its perimeter, in points of the figure.
    edge_faces : (n_edges, 2)
        Regions on both sides; negative outside.

    Returns
    -------
    (n_edges,) float64
        In points. The lines around regions of one size cover about `EDGE_INK` of them, or less.

    Examples
    --------
    >>> edge_widths(np.array([100.0, 0.01]), np.array([[0, -1], [0, 1]])).round(2).tolist()
    [0.6, 0.21]
    """
    # A region of breadth b whose lines have width w on either side is covered to the part w / b.
    # The geometric mean of both sides keeps a line even where it passes a single sliver.
    left, right = np.where(edge_faces < 0, edge_faces[:, ::-1], edge_faces).T
    around = np.sqrt(breadth[left] * breadth[right])
    steps = np.log(np.maximum(EDGE_INK * around, np.finfo(float).tiny) / WIDEST) / np.log(WIDTH_STEP)
    return WIDEST * WIDTH_STEP ** np.clip(np.ceil(steps), 0, N_WIDTHS - 1)


def _path(vertices: NDArray[np.float64], codes: NDArray[np.uint8]) -> Path:
    path = Path(vertices, codes)
    path.should_simplify = False  # simplification would join subpaths that meet
    return path
