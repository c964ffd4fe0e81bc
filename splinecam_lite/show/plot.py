"""A partition as a figure: its regions in colour, its edges, the decision boundary and data points."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import LogNorm
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator, NullLocator
from numpy.typing import ArrayLike

from splinecam_lite.partition.approximations import briefly
from splinecam_lite.partition.counts import decision_known, in_words
from splinecam_lite.partition.result import Partition
from splinecam_lite.show.colours import INK, class_colours
from splinecam_lite.show.fills import ColorBy, Fill, fill_of
from splinecam_lite.show.paths import breadths, edge_widths, polygons_by_number, segment_paths

PLAIN, WITH_BAR = (6.2, 6.6), (7.2, 6.4)
"""Size of a new figure without and with a colour bar, in inches: the axes are about as large in both."""

LEGEND_DROP, LEGEND_COLUMNS = 4.0, 4
"""Distance of the legend below the axes in heights of a letter, with room for the axis label; its columns."""

TITLE_SIZE = 10
"""Points; three counts of six digits fit above the axes."""

MOST_SHAPES = 2_000
"""Regions up to which a PDF or SVG keeps them as shapes; more than these become one image in it."""

ON_PLANE = 1e-3
"""Distance from the slice, as a part of its size, up to which a data point is drawn as lying in it."""

BOUNDARY_WIDTH, HALO_WIDTH = 1.8, 3.4
"""Points; the white halo keeps the boundary apart from dark regions and dense edges."""

DOT_INK, DOT_SIZES = 9_000, (6, 30)
"""Area that all data points together may cover, and the least and largest one of them, in points squared."""


def plot(
    partition: Partition,
    color_by: ColorBy | ArrayLike = "class",
    *,
    boundary: bool = True,
    edges: bool = True,
    points: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    value_label: str = "value",
    limits: tuple[float, float] | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a partition in its chart and return the axes.

    Parameters
    ----------
    partition : Partition
    color_by : "class", "area", "norm", "pattern", "none" or (n_regions,) array
        What the colour of a region says: the predicted class (a region that the decision boundary crosses has
        several; an exact partition loaded without its network has none, with a warning); its area;
        the Frobenius norm of its affine map, the length of the gradient if there is one output;
        its activation pattern, which has the same colour in every figure; nothing; or a number.
    boundary : bool
        Draw the decision boundary.
    edges : bool
        Draw the edges of the regions. Where regions are fine, edges are thin and fade.
    points : (N, *input_shape) array or tensor, optional
        Inputs, drawn where they project to; hollow if they do not lie in the slice.
    labels : (N,) integers, optional
        Their classes, which give them their colours. With a decision at zero: positive, or not.
    value_label : str
        What ``color_by`` holds, with its unit, if it is an array.
    limits : (low, high), optional
        Ends of the colour scale, to compare figures. Default: a hundredth of the area lies beyond each.
    title : str, optional
        Default: the three counts, those that are known (`splinecam_lite.partition.counts`). That the network
        is an approximation is said below in any case.
    ax : Axes, optional
        Default: the axes of a new figure.

    Returns
    -------
    Axes
        Both axes in chart units, which are input units.

    Raises
    ------
    ValueError
        If ``color_by``, ``labels`` or ``limits`` do not fit.
    SliceError
        If the points do not have the input's shape.

    Examples
    --------
    >>> import torch, splinecam_lite as sc
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)).eval()
    >>> ax = plot(sc.partition(model, sc.Slice.box(-1, 1)), color_by="norm")
    >>> ax.get_xlabel()
    'input 1'
    """
    fill = fill_of(partition, color_by, value_label, limits)
    if ax is None:
        _, ax = plt.subplots(figsize=PLAIN if fill.bar is None else WITH_BAR, layout="constrained")
    _set_axes(ax, partition)
    raster = partition.n_regions > MOST_SHAPES
    _draw_regions(ax, partition, fill, raster)
    if edges:
        _draw_edges(ax, partition, raster)
    handles: list[Patch | Line2D] = list(fill.entries)
    if boundary and decision_known(partition):
        handles += _draw_boundary(ax, partition, raster)
    if points is not None:
        handles += _draw_points(ax, partition, points, labels)
    if fill.bar is not None:
        _draw_bar(ax, fill)
    if handles:
        below = {"loc": "upper center", "bbox_to_anchor": (0.5, 0.0), "borderaxespad": LEGEND_DROP}
        ax.legend(
            handles=handles, ncols=min(len(handles), LEGEND_COLUMNS), frameon=False, fontsize=9, **below
        )
    ax.set_title(_title(partition, color_by, title), fontsize=TITLE_SIZE)
    return ax


def _set_axes(ax: Axes, partition: Partition) -> None:
    plane = partition.plane
    identity = plane.directions.shape == (2, 2) and np.array_equal(plane.directions, np.eye(2))
    same = identity and not plane.origin.any()
    ax.set_xlabel("input 1" if same else "u (input units)")
    ax.set_ylabel("input 2" if same else "v (input units)")
    (u0, v0), (u1, v1) = plane.domain.min(axis=0), plane.domain.max(axis=0)
    ax.set_xlim(u0, u1)
    ax.set_ylim(v0, v1)
    ax.set_aspect("equal")


def _draw_regions(ax: Axes, partition: Partition, fill: Fill, raster: bool) -> None:
    cells = partition.decision_boundary().complex if fill.by_decision else partition.complex
    shapes = polygons_by_number(cells.xy, cells.face_ptr, cells.face_vertex, fill.numbers)
    numbers, paths = zip(*shapes, strict=True)
    # Antialiased fills would let the background shine through between neighbours.
    style = {"edgecolors": "none", "antialiaseds": False, "rasterized": raster}
    _add(ax, paths, facecolors=fill.palette[list(numbers)], **style)


def _draw_edges(ax: Axes, partition: Partition, raster: bool) -> None:
    cells = partition.complex
    window, size = ax.get_window_extent(), np.ptp(partition.plane.domain, axis=0)
    points_per_unit = 72 / ax.figure.dpi * min(window.width / size[0], window.height / size[1])
    breadth = points_per_unit * breadths(partition.areas(), partition.perimeters())
    widths = edge_widths(breadth, cells.edge_faces)
    for width in np.unique(widths):
        paths = segment_paths(cells.xy[cells.edge_vertices[widths == width]])
        _add(ax, paths, facecolors="none", edgecolors=INK, linewidths=width, rasterized=raster)


def _draw_boundary(ax: Axes, partition: Partition, raster: bool) -> list[Line2D]:
    paths = segment_paths(partition.decision_boundary().segments)
    if not paths:
        return []
    style = {"facecolors": "none", "capstyle": "round", "rasterized": raster}
    for colour, width in (("white", HALO_WIDTH), (INK, BOUNDARY_WIDTH)):
        _add(ax, paths, edgecolors=colour, linewidths=width, **style)
    return [Line2D([], [], color=INK, linewidth=BOUNDARY_WIDTH, label="decision boundary")]


def _draw_points(ax: Axes, partition: Partition, points: ArrayLike, labels: ArrayLike | None) -> list[Line2D]:
    plane = partition.plane
    uv = plane.project(points).reshape(-1, 2)
    inside = np.ravel(plane.distance(points)) <= ON_PLANE * np.sqrt(plane.area)
    if labels is None:
        colours = np.zeros((len(uv), 3))
    else:
        labels = np.asarray(labels)
        if labels.shape != (len(uv),) or labels.dtype.kind not in "iub":
            raise ValueError(f"labels are {labels.dtype} of shape {labels.shape}; give {len(uv)} integers")
        classes = labels > 0 if partition.decide == "zero" else labels
        colours = class_colours(classes.astype(int))
    said = "" if labels is None else " by class"
    size = np.clip(DOT_INK / len(uv), *DOT_SIZES) if len(uv) else 0.0
    handles = []
    for chosen, name in ((inside, f"data{said}"), (~inside, "data off the slice")):
        if chosen.any():
            hollow = chosen is not inside
            face = "white" if hollow else colours[chosen]
            rim = colours[chosen] if hollow else "white"
            ax.scatter(*uv[chosen].T, s=size, c=face, edgecolors=rim, linewidths=1.2, zorder=6)
            dot = {"markerfacecolor": "white", "markeredgecolor": INK} if hollow else {"color": INK}
            handles.append(Line2D([], [], marker="o", linestyle="", markersize=6, label=name, **dot))
    return handles


def _draw_bar(ax: Axes, fill: Fill) -> None:
    bar = ax.figure.colorbar(fill.bar, ax=ax, label=fill.bar_label, extend=fill.extend, shrink=0.85, pad=0.02)
    low, high = fill.bar.get_clim()
    if isinstance(fill.bar.norm, LogNorm) and high < 10 * low:
        # Within one decade, powers of ten label almost nothing.
        bar.ax.yaxis.set_major_locator(MaxNLocator(6))
        bar.ax.yaxis.set_major_formatter("{x:g}")
        bar.ax.yaxis.set_minor_locator(NullLocator())


def _title(partition: Partition, color_by: object, title: str | None) -> str:
    """The title; on a line of its own that smooth activations were approximated, if they were."""
    approximation = briefly(partition.layers)
    if not approximation:
        return _counts(partition, color_by) if title is None else title
    counts = _counts(partition, color_by).replace(f", {approximation}", "")
    return f"{counts if title is None else title}\n{approximation}"


def _counts(partition: Partition, color_by: object) -> str:
    by_pattern = isinstance(color_by, str) and color_by == "pattern"
    return f"{in_words(partition)}{', coloured by pattern' if by_pattern else ''}"


def _add(ax: Axes, paths: Sequence[Path], **style: Any) -> None:
    ax.add_collection(PathCollection(paths, **style), autolim=False)
