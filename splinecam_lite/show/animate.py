"""A slice over training as an animated GIF: its regions, a close-up of its knots, and how training goes."""

import os
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from scipy.spatial import cKDTree

from splinecam_lite.partition.counts import in_words
from splinecam_lite.partition.result import Partition
from splinecam_lite.show.colours import INK, class_colours, pale
from splinecam_lite.show.curves import Panel, draw_panel, numbered_colour
from splinecam_lite.show.plot import plot

FRAME_MS, LAST_FRAME_MS = 700, 4000
"""How long a frame stays, and the last one before the animation begins anew."""

SIZE, DPI = (10.0, 7.6), 90
"""Inches, and pixels an inch."""

LEFT, RIGHT, LEGENDS = 0.065, 0.565, 0.345
"""Left ends of slice and close-up, and top of the legends, as parts of the figure."""

LEGEND_ROOM = 0.4
"""Room above the curves, as a part of their range."""

PALETTE_FRAMES = 5
"""Frames from which the GIF's 256 colours are taken; all frames share them, so that no colour flickers."""


class View(NamedTuple):
    """What is the same in every frame.

    Attributes
    ----------
    points : (n, *input_shape)
        Inputs to mark in the slice.
    labels : (n,) int
        Their classes.
    n_classes : int
        Classes that the legend lists.
    zoom : (2, 2) float
        Lower left and upper right corner of the close-up, in chart coordinates.
    """

    points: ArrayLike
    labels: ArrayLike
    n_classes: int
    zoom: NDArray[np.float64]


def animate(
    path: str | os.PathLike[str],
    partitions: Iterable[Partition],
    steps: Sequence[int],
    view: View,
    panels: Sequence[Panel],
) -> None:
    """Write an animation of a slice over training.

    Parameters
    ----------
    path : path
        The GIF, there when it is complete.
    partitions : iterable of Partition
        One a frame, of the same slice. Each is let go before the next is taken.
    steps : sequence of int
        Training step of each.
    view : View
    panels : sequence of Panel
        Curves over the same steps, drawn below the slice with a mark at the frame's step.

    Raises
    ------
    ValueError
        If there is no partition, or their number is not that of the steps.
    """
    frames, n_layers = [], 0
    for number, (part, _) in enumerate(zip(partitions, steps, strict=True)):
        frames.append(draw_frame(part, number, steps, view, panels))
        n_layers = len(part.layers)
    if not frames:
        raise ValueError("an animation needs at least one partition")
    write_gif(Path(path), frames, _fixed_colours(view.n_classes, n_layers))


def draw_frame(
    part: Partition, number: int, steps: Sequence[int], view: View, panels: Sequence[Panel]
) -> Image.Image:
    """Return frame ``number`` of an animation; see `animate`."""
    figure = Figure(SIZE, DPI)
    figure.suptitle(f"Training step {steps[number]:,}", x=LEFT, ha="left", fontsize=14, fontweight="bold")
    whole, close = (figure.add_axes((x, 0.41, 0.41, 0.47)) for x in (LEFT, RIGHT))
    plot(part, "class", points=view.points, labels=view.labels, title="", ax=whole)
    _draw_window(whole, view.zoom)
    _draw_close_up(close, part, view.zoom)
    whole.get_legend().remove()
    close.get_legend().remove()
    activation_regions, others = in_words(part).split(", ", 1)
    whole.set_title(f"the slice: {activation_regions},\n{others}", fontsize="medium")
    close.set_title("the rectangle, enlarged: knots by layer", fontsize="medium")
    _draw_legends(figure, part, view.n_classes)
    width = (1.0 - LEFT) / len(panels)
    for i, panel in enumerate(panels):
        ax = figure.add_axes((LEFT + i * width, 0.06, width - 0.055, 0.19))
        draw_panel(ax, steps, panel._replace(ylabel=""), mark=number)
        ax.tick_params(labelsize=8)
        low, high = ax.get_ylim()
        ax.set_yticks([tick for tick in ax.get_yticks() if low <= tick <= high])
        ax.set_ylim(low, high + LEGEND_ROOM * (high - low))
        ax.legend(fontsize=7, frameon=False, handlelength=1.0, columnspacing=0.8, ncols=2, loc="upper left")
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return Image.open(buffer).convert("RGB")


def _draw_window(ax: Axes, zoom: NDArray[np.float64]) -> None:
    for colour, width in (("white", 2.6), (INK, 1.1)):
        window = Rectangle(
            zoom[0], *(zoom[1] - zoom[0]), fill=False, edgecolor=colour, linewidth=width, zorder=7
        )
        ax.add_patch(window)


def _draw_close_up(ax: Axes, part: Partition, zoom: NDArray[np.float64]) -> None:
    """Draw the knots in the window in the colours of their layers, over the classes."""
    plot(part, "class", edges=False, title="", ax=ax)
    knots = part.knots()
    ends = part.vertices[part.complex.edge_vertices[knots.edges]]
    seen = ((ends.max(axis=1) >= zoom[0]) & (ends.min(axis=1) <= zoom[1])).all(axis=1)
    colours = np.array([numbered_colour(i) for i in range(len(part.layers))])[knots.layers[seen]]
    ax.add_collection(LineCollection(ends[seen], colors=colours, linewidths=0.7), autolim=False)
    ax.set_xlim(*zoom[:, 0])
    ax.set_ylim(*zoom[:, 1])


def _draw_legends(figure: Figure, part: Partition, n_classes: int) -> None:
    """Name all classes and layers, whatever a frame shows, below the slice and the close-up."""
    classes = np.arange(n_classes)
    style = {"loc": "upper left", "frameon": False, "fontsize": 8, "columnspacing": 0.9, "handlelength": 1.2}
    patches = [
        Patch(facecolor=colour, edgecolor=INK, linewidth=0.5, label=str(c))
        for c, colour in zip(classes, pale(class_colours(classes)), strict=True)
    ]
    figure.text(LEFT, LEGENDS - 0.024, "class", fontsize=8)
    figure.legend(handles=patches, bbox_to_anchor=(LEFT + 0.035, LEGENDS), ncols=n_classes, **style)
    numbers = iter(range(1, 1 + len(part.layers)))
    names = ["max" if layer.kind == "max" else f"layer {next(numbers)}" for layer in part.layers]
    lines = [Line2D([], [], color=numbered_colour(i), label=name) for i, name in enumerate(names)]
    lines.append(Line2D([], [], color=INK, linewidth=2.0, label="decision boundary"))
    figure.legend(handles=lines, bbox_to_anchor=(RIGHT - 0.01, LEGENDS), ncols=len(lines), **style)


def write_gif(path: Path, frames: Sequence[Image.Image], colours: ArrayLike = ()) -> None:
    """Write frames of one size as a GIF that repeats, all in one palette of 256 colours.

    Parameters
    ----------
    path : Path
    frames : sequence of RGB images
    colours : (n, 3) RGB in [0, 1], optional
        Colours to keep as they are, however little of a frame they take; the others are those of the frames.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_gif(Path(folder) / "a.gif", [Image.new("RGB", (8, 8), c) for c in ("red", "blue")])
    ...     with Image.open(Path(folder) / "a.gif") as image:
    ...         image.n_frames
    2
    """
    palette = _palette(frames, colours)
    indexed = [_indexed(frame, palette) for frame in frames]
    times = [FRAME_MS] * (len(frames) - 1) + [LAST_FRAME_MS]
    beside = path.with_name(f".{path.name}.part")
    indexed[0].save(beside, format="GIF", save_all=True, append_images=indexed[1:], duration=times, loop=0)
    os.replace(beside, path)


def _palette(frames: Sequence[Image.Image], colours: ArrayLike) -> NDArray[np.uint8]:
    """Return the palette for all frames, (at most 256, 3)."""
    kept = (255 * np.asarray(colours, float)).round().astype(np.uint8).reshape(-1, 3)
    chosen = [frames[i] for i in np.unique(np.linspace(0, len(frames) - 1, PALETTE_FRAMES).astype(int))]
    sheet = Image.fromarray(np.concatenate([np.asarray(frame) for frame in chosen]))
    room = 256 - len(kept)
    common = sheet.quantize(room, method=Image.Quantize.MEDIANCUT).getpalette() or []
    return np.concatenate((kept, np.array(common[: 3 * room], np.uint8).reshape(-1, 3)))


def _indexed(frame: Image.Image, palette: NDArray[np.uint8]) -> Image.Image:
    """Return a frame in the nearest colours of the palette; Pillow's search takes near-white for white."""
    pixels = np.asarray(frame).astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    present, place = np.unique(pixels, return_inverse=True)
    colours = np.stack((present >> 16, present >> 8 & 255, present & 255), axis=1)
    nearest = cKDTree(palette.astype(float)).query(colours)[1].astype(np.uint8)
    indexed = Image.fromarray(nearest[place].reshape(pixels.shape), mode="P")
    indexed.putpalette(palette.ravel().tolist())
    return indexed


def _fixed_colours(n_classes: int, n_layers: int) -> NDArray[np.float64]:
    """Paper, ink, classes and layers, (n, 3) RGB."""
    strong = class_colours(np.arange(n_classes))
    layers = [to_rgb(numbered_colour(i)) for i in range(n_layers)]
    return np.concatenate((((1.0, 1.0, 1.0), to_rgb(INK)), strong, pale(strong), layers))
