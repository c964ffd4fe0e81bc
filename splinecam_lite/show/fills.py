"""What the colour of a region says: class, area, norm of its map, pattern, or a number of the caller's."""

import warnings
from typing import Literal, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, LogNorm, Normalize
from matplotlib.patches import Patch
from numpy.typing import ArrayLike, NDArray

from splinecam_lite.partition.counts import decision_known
from splinecam_lite.partition.linear import NEEDS_NETWORK
from splinecam_lite.partition.result import Partition
from splinecam_lite.show.colours import INK, N_PATTERN_COLOURS, class_colours, pale, pattern_palette

ColorBy = Literal["class", "area", "norm", "pattern", "none"]
COLOR_BY = ("class", "area", "norm", "pattern", "none")

SHADES = ListedColormap(plt.get_cmap("viridis")(np.linspace(0.15, 1.0, 256)))
"""Viridis without its darkest part, on which the edges of regions would not be seen."""

EXTREME = 0.01
"""Part of the slice's area beyond each end of a colour scale; else slivers would take up most of it."""

NO_SHADE = (0.82, 0.82, 0.82)
"""A value that the scale cannot show: NaN, or 0 on a logarithmic one."""

SIGN_NAMES = {-1: "output ≤ 0", 1: "output > 0"}

MOST_CLASSES = 20
"""Classes that a legend lists."""


class Fill(NamedTuple):
    """Colours of regions, and what explains them: a colour bar or legend entries."""

    numbers: NDArray[np.int64]  # row of the palette, for each region, or each face of the decision's complex
    palette: NDArray[np.float64]  # (n, 3) RGB
    entries: tuple[Patch, ...] = ()
    bar: ScalarMappable | None = None
    bar_label: str = ""
    extend: str = "neither"  # ends of the bar beyond which there are values
    by_decision: bool = False  # numbers are of faces: regions cut along the decision boundary


def fill_of(
    partition: Partition, color_by: ColorBy | ArrayLike, value_label: str, limits: tuple[float, float] | None
) -> Fill:
    """Decide the colour of every region; see `splinecam_lite.show.plot.plot` for the arguments.

    Raises
    ------
    ValueError
        If ``color_by`` is no known word and no array with one number a region, or the limits make no scale.
    """
    if not isinstance(color_by, str):
        values = np.asarray(color_by, float)
        if values.shape != (partition.n_regions,):
            raise ValueError(
                f"color_by has shape {values.shape}; give a number for each of {partition.n_regions} regions"
            )
        return _by_value(partition, values, value_label, limits, log=False)
    if color_by == "class" and decision_known(partition):
        return _by_class(partition)
    if color_by == "area":
        return _by_value(partition, partition.areas(), "area of the region (input units²)", limits, log=True)
    if color_by == "norm":
        label = "norm of the region's affine map (output units per input unit)"
        return _by_value(partition, partition.gradient_norms(), label, limits, log=True)
    if color_by == "pattern":
        numbers = partition.pattern_hashes() % np.uint64(N_PATTERN_COLOURS)
        return Fill(numbers.astype(np.int64), pattern_palette())
    if color_by == "class":
        warnings.warn(f"the regions are drawn without their classes: {NEEDS_NETWORK}", stacklevel=3)
    if color_by in ("class", "none"):
        return Fill(np.zeros(partition.n_regions, np.int64), np.ones((1, 3)))
    raise ValueError(f"color_by is {color_by!r}; it must be one of {', '.join(COLOR_BY)}, or an array")


def _by_value(
    partition: Partition,
    values: NDArray[np.float64],
    label: str,
    limits: tuple[float, float] | None,
    *,
    log: bool,
) -> Fill:
    """Shade by a number; what the scale cannot show is grey, and the legend says so."""
    usable = np.isfinite(values) & (values > 0 if log else True)
    low, high = limits or visible_range(values[usable], partition.areas()[usable])
    if not (low <= high and np.isfinite((low, high)).all() and (low > 0 or not log)):
        raise ValueError(f"the limits are {limits}; give (low, high){', both above 0' if log else ''}")
    if low == high:  # one value: the middle of a scale of some width
        low, high = (low / 2, high * 2) if log else (low - 0.5, high + 0.5)
    norm = (LogNorm if log else Normalize)(low, high, clip=True)
    shade = np.minimum(np.asarray(norm(np.where(usable, values, low))) * SHADES.N, SHADES.N - 1)
    beyond = bool((values[usable] < low).any()), bool((values[usable] > high).any())
    return Fill(
        np.where(usable, shade, SHADES.N).astype(np.int64),
        np.vstack((SHADES(np.arange(SHADES.N))[:, :3], NO_SHADE)),
        () if usable.all() else (Patch(facecolor=NO_SHADE, edgecolor=INK, label="0" if log else "no value"),),
        ScalarMappable(norm, SHADES),
        label,
        {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[beyond],
    )


def visible_range(values: NDArray[np.float64], areas: NDArray[np.float64]) -> tuple[float, float]:
    """Return the range of values (n,), but for the part `EXTREME` of the area at each end; (1, 1) of none.

    Examples
    --------
    >>> visible_range(np.array([3.0, 1.0, 2.0]), np.array([1.0, 1e-6, 1.0]))
    (2.0, 3.0)
    """
    if not len(values):
        return 1.0, 1.0
    order = np.argsort(values)
    passed = np.cumsum(areas[order])
    low, high = np.searchsorted(passed, [EXTREME * passed[-1], (1 - EXTREME) * passed[-1]])
    return float(values[order[low]]), float(values[order[high]])


def _by_class(partition: Partition) -> Fill:
    """Fill by predicted class, in the pieces into which the decision boundary cuts the regions."""
    decision = partition.decision_boundary()
    present, numbers = np.unique(decision.face_classes, return_inverse=True)
    signs = partition.decide == "zero"
    palette = pale(class_colours((present > 0).astype(int) if signs else present))
    entries = [
        Patch(facecolor=colour, edgecolor=INK, linewidth=0.5, label=SIGN_NAMES[c] if signs else f"class {c}")
        for c, colour in zip(present[:MOST_CLASSES].tolist(), palette, strict=False)
    ]
    if len(present) > MOST_CLASSES:
        entries.append(Patch(alpha=0, label=f"and {len(present) - MOST_CLASSES} more"))
    return Fill(numbers, palette, tuple(entries), by_decision=True)
