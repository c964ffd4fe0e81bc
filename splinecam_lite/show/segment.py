"""The partition of a segment as a figure: outputs along it; below them the knots, a row for each layer."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from splinecam_lite.errors import ModelError
from splinecam_lite.partition.approximations import briefly
from splinecam_lite.partition.segments.result import SegmentPartition
from splinecam_lite.show.colours import INK, class_colours
from splinecam_lite.show.curves import numbered_colour

MOST_CURVES = 10
"""Outputs that are drawn if none are chosen."""

ROW, CURVES, WIDTH = 0.32, 2.9, 7.2
"""Height of a row of knots, height of the curves, and width of a new figure, in inches."""

FEW, FAINTEST = 100, 0.35
"""Knots in a row up to which they are drawn with full strength, and how faint more of them may become."""

LETTERS = 9
"""Size of the names of curves and rows, in points."""


def plot_segment(
    partition: SegmentPartition,
    outputs: Sequence[int] | None = None,
    *,
    names: Sequence[str] | None = None,
    title: str | None = None,
    axes: tuple[Axes, Axes] | None = None,
) -> tuple[Axes, Axes]:
    """Draw outputs along a segment and the knots that it crosses, and return the two axes.

    Between two breaks outputs are straight lines, so the curves are exact.

    Parameters
    ----------
    partition : SegmentPartition
    outputs : sequence of int, optional
        Which outputs to draw. Default: all up to ten; of more, those that are the largest at some break, and
        ten at most.
    names : sequence of str, optional
        Names of the drawn outputs. Default: their numbers, if there are several.
    title : str, optional
        Default: the counts. That the network is an approximation is said below in any case.
    axes : (Axes, Axes), optional
        For the curves and for the knots. Default: those of a new figure.

    Returns
    -------
    curves, knots : Axes
        Both over t. Row ``l`` of ``knots`` is layer ``l``, the first on top.

    Raises
    ------
    ValueError
        If the numbers of names and of outputs differ, or there is no such output.

    Examples
    --------
    >>> import torch, splinecam_lite as sc
    >>> from splinecam_lite.partition.segments.partition import partition_segment
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1)).eval()
    >>> program = sc.Program.from_module(model, (2,))
    >>> curves, knots = plot_segment(partition_segment(program, sc.Segment.between([-1, -1], [1, 1])))
    >>> knots.get_xlabel(), len(curves.lines)
    ('t, from 0 at the start to 1 at the end', 1)
    """
    chosen = _chosen(partition, outputs)
    if names is not None and len(names) != len(chosen):
        raise ValueError(f"{len(names)} names for {len(chosen)} outputs; give one for each")
    if axes is None:
        rows = ROW * max(1, len(partition.layers))
        _, axes = plt.subplots(
            2, 1, sharex=True, figsize=(WIDTH, CURVES + rows + 0.9), height_ratios=(CURVES, rows),
            layout="constrained",
        )  # fmt: skip
    curves, knots = axes
    _draw_outputs(curves, partition, chosen, names)
    _draw_knots(knots, partition)
    titles = _counts(partition) if title is None else title, briefly(partition.layers)
    curves.set_title("\n".join(filter(None, titles)))
    return curves, knots


def _counts(partition: SegmentPartition) -> str:
    counts = f"{partition.n_pieces:,} activation pieces"
    try:
        return f"{counts}, {partition.n_linear_pieces:,} linear pieces"
    except ModelError:  # some maps can only be compared without rounding, which this network does not allow
        return counts


def _chosen(partition: SegmentPartition, outputs: Sequence[int] | None) -> list[int]:
    if outputs is None:
        if partition.n_outputs <= MOST_CURVES:
            return list(range(partition.n_outputs))
        largest, times = np.unique(partition.outputs.argmax(axis=1), return_counts=True)
        return sorted(largest[np.argsort(-times, kind="stable")][:MOST_CURVES].tolist())
    wrong = [i for i in outputs if not 0 <= i < partition.n_outputs]
    if wrong:
        raise ValueError(f"there is no output {wrong[0]}; they are 0 to {partition.n_outputs - 1}")
    return list(outputs)


def _draw_outputs(
    ax: Axes, partition: SegmentPartition, chosen: list[int], names: Sequence[str] | None
) -> None:
    alone = len(chosen) == 1
    colours = [INK] if alone else class_colours(np.array(chosen))
    for number, colour in zip(chosen, colours, strict=True):
        ax.plot(partition.t, partition.outputs[:, number], color=colour, linewidth=1.6)
    ax.set_xlim(0.0, 1.0)
    ax.set_ylabel("output")
    ax.spines[["top", "right"]].set_visible(False)
    if names is None:
        names = [] if alone else [str(number) for number in chosen]
    height = ax.get_window_extent().height * 72 / ax.figure.dpi
    heights = _spread(partition.outputs[-1, chosen], np.ptp(ax.get_ylim()) * 1.1 * LETTERS / height)
    for name, height, colour in zip(names, heights, colours, strict=False):
        ax.annotate(
            name,
            (1.0, height),
            (5, 0),
            textcoords="offset points",
            color=colour,
            va="center",
            fontsize=LETTERS,
        )


def _spread(heights: np.ndarray, apart: float) -> np.ndarray:
    """Move heights as little as it takes for each to be ``apart`` from the next.

    Examples
    --------
    >>> _spread(np.array([5.0, 0.0, 0.0]), 1.0).tolist()
    [5.0, -0.5, 0.5]
    """
    order = np.argsort(heights, kind="stable")
    groups = [[heights[i], 1] for i in order]  # mean height and size of runs that touch
    merged: list[list[float]] = []
    for group in groups:
        merged.append(group)
        while len(merged) > 1 and merged[-1][0] - merged[-2][0] < apart * (merged[-1][1] + merged[-2][1]) / 2:
            (high, m), (low, n) = merged.pop(), merged.pop()
            merged.append([(high * m + low * n) / (m + n), m + n])
    placed = [mean + apart * (i - (n - 1) / 2) for mean, n in merged for i in range(int(n))]
    spread = np.empty(len(heights))
    spread[order] = placed
    return spread


def _draw_knots(ax: Axes, partition: SegmentPartition) -> None:
    crossed, layers = partition.knots(), partition.layers
    counts = partition.crossings().tolist()
    for layer, count in enumerate(counts):
        t = crossed.t[crossed.layers == layer]
        strength = max(FAINTEST, min(1.0, FEW / max(1, count)))
        ax.vlines(t, layer - 0.4, layer + 0.4, color=numbered_colour(layer), linewidth=0.9, alpha=strength)
    ax.set_ylim(max(1, len(layers)) - 0.5, -0.5)
    labels = [
        f"layer {i}{' (max)' * (layer.kind == 'max')}: {n:,} knot{'s' * (n != 1)}"
        for i, (layer, n) in enumerate(zip(layers, counts, strict=True))
    ]
    ax.set_yticks(range(len(layers)), labels, fontsize=LETTERS)
    ax.tick_params(axis="y", length=0)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.set_xlabel("t, from 0 at the start to 1 at the end")
