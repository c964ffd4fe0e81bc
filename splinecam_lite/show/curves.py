"""Numbers over training as curves, all over the same axis of steps."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import StrMethodFormatter
from numpy.typing import ArrayLike, NDArray

from splinecam_lite.show.colours import INK, SERIES

NUMBERED = (SERIES[0], SERIES[2], SERIES[4], SERIES[6], SERIES[5], SERIES[8])
"""Colours of layers, and of other things that are counted."""

THOUSANDS = 1_000
"""Range of values from which their thousands are set apart by commas."""

ZERO_AT = -0.6
"""Where step 0 stands on an axis of decades, on which step 1 is at 0."""


class Curve(NamedTuple):
    """One curve of a panel.

    Attributes
    ----------
    label : str
    values : (n_steps,) float
        NaN where there is no value.
    colour : str
    style : str
        Of the line, as in matplotlib.
    band : (low, high), optional
        Bounds of an interval, (n_steps,) each.
    """

    label: str
    values: ArrayLike
    colour: str
    style: str = "-"
    band: tuple[ArrayLike, ArrayLike] | None = None


class Panel(NamedTuple):
    """Curves with common axes."""

    title: str
    curves: Sequence[Curve]
    ylabel: str = ""
    log: bool = False
    level: float | None = None
    """A value to mark with a dotted line."""


def draw_panel(ax: Axes, steps: Sequence[int], panel: Panel, *, mark: int | None = None) -> None:
    """Draw a panel over training steps, on a logarithmic axis that has a place for step 0.

    Parameters
    ----------
    ax : Axes
    steps : (n_steps,) int
        Ascending.
    panel : Panel
    mark : int, optional
        Number of the checkpoint to mark.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> ax = Figure().subplots()
    >>> draw_panel(ax, [0, 1, 10], Panel("accuracy", [Curve("train", [0.1, 0.5, 0.9], "black")]))
    >>> [label.get_text() for label in ax.get_xticklabels()]
    ['0', '1', '10']
    """
    at = positions(steps)
    for curve in panel.curves:
        values = np.asarray(curve.values, float)
        if curve.band is not None:
            ax.fill_between(
                at, *(np.asarray(b, float) for b in curve.band), color=curve.colour, alpha=0.2, linewidth=0
            )
        ax.plot(at, values, curve.style, color=curve.colour, linewidth=1.5, label=curve.label)
        if mark is not None:
            ax.plot(at[mark], values[mark], "o", color=curve.colour, markersize=4.5)
    if mark is not None:
        ax.axvline(at[mark], color=INK, linewidth=0.8)
    if panel.level is not None:
        ax.axhline(panel.level, color=INK, linewidth=0.8, linestyle=":")
    if panel.log:
        ax.set_yscale("log")
    decades = np.arange(int(np.floor(at[-1])) + 1)
    ax.set_xticks([ZERO_AT, *decades], ["0", *(f"{10**d:,}" for d in decades.tolist())])
    ax.set_xlim(ZERO_AT - 0.1, at[-1] + 0.1)
    ax.set_title(panel.title, fontsize="medium")
    ax.set_ylabel(panel.ylabel)
    if not panel.log and np.ptp(ax.get_ylim()) > THOUSANDS:
        ax.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    ax.grid(axis="y", linewidth=0.4, alpha=0.5)
    ax.spines[["top", "right"]].set_visible(False)


def numbered_colour(i: int) -> str:
    """Return the colour of layer ``i``, counted from 0; there are six, and then the first comes again.

    Examples
    --------
    >>> numbered_colour(0), numbered_colour(6)
    ('#3f90da', '#3f90da')
    """
    return NUMBERED[i % len(NUMBERED)]


def positions(steps: Sequence[int]) -> NDArray[np.float64]:
    """Return where steps stand on the axis: the decimal logarithm, and `ZERO_AT` for step 0.

    Examples
    --------
    >>> positions([0, 1, 100]).tolist()
    [-0.6, 0.0, 2.0]
    """
    steps = np.asarray(steps)
    return np.where(steps > 0, np.log10(np.maximum(steps, 1)), ZERO_AT)
