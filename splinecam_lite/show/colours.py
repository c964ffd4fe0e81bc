"""Colours that mean the same in every figure, and that a colour-blind reader can tell apart.

Class ``c`` has one colour whatever classes a figure shows, and so has an activation pattern: figures of two
checkpoints, or of two slices, can be laid side by side.
"""

import colorsys

import numpy as np
from numpy.typing import NDArray

INK = "#1a1a1a"
"""Edges, the decision boundary and text."""

SERIES = (
    "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6",
    "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd",
)  # fmt: skip
"""Ten colours that stay apart under the three kinds of colour blindness (M. Petroff, arXiv 2107.02270)."""

GOLDEN = 0.618033988749895
"""Step on the hue circle that keeps any number of hues apart."""

PALE = 0.5
"""Part of white in the colour of a class's regions, so that edges and points stay visible on it."""

N_PATTERN_COLOURS = 256

DEPTHS = ((0.30, 0.95), (0.42, 0.86), (0.18, 0.97))
"""Saturation and value of pattern colours: none is as dark as an edge or as light as paper."""


def class_colours(classes: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return the colour of each class, (..., 3) RGB in [0, 1], for drawing points and lines.

    Classes 0 to 9 have the colours of `SERIES`; others take hues that never come round.

    Examples
    --------
    >>> class_colours(np.array([0, 0, 12])).round(2).tolist()
    [[0.25, 0.56, 0.85], [0.25, 0.56, 0.85], [0.72, 0.31, 0.2]]
    """
    classes = np.asarray(classes)
    unique, inverse = np.unique(classes, return_inverse=True)
    table = np.array([_class_colour(int(c)) for c in unique]).reshape(-1, 3)
    return table[inverse].reshape(*classes.shape, 3)


def pale(colours: NDArray[np.float64], part: float = PALE) -> NDArray[np.float64]:
    """Return colours (..., 3) mixed with a part of white, for areas.

    Examples
    --------
    >>> pale(np.zeros((1, 3)), 0.25).tolist()
    [[0.25, 0.25, 0.25]]
    """
    return colours + part * (1.0 - colours)


def pattern_palette() -> NDArray[np.float64]:
    """Return the colours of patterns, (N_PATTERN_COLOURS, 3): all hues, in three depths."""
    numbers = np.arange(N_PATTERN_COLOURS)
    hues = numbers * GOLDEN % 1.0
    depths = np.array(DEPTHS)[numbers % len(DEPTHS)]
    return np.array([colorsys.hsv_to_rgb(h, s, v) for h, (s, v) in zip(hues, depths, strict=True)])


def _class_colour(number: int) -> tuple[float, ...]:
    if 0 <= number < len(SERIES):
        return tuple(int(SERIES[number][i : i + 2], 16) / 255 for i in (1, 3, 5))
    return colorsys.hsv_to_rgb((number + 1) * GOLDEN % 1.0, 0.72, 0.72)
