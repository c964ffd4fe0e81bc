"""The figures of a run, drawn from its records and partitions."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from splinecam_lite.partition.counts import in_words
from splinecam_lite.show.curves import Panel, draw_panel, numbered_colour
from splinecam_lite.show.plot import plot
from splinecam_lite.studies import panels
from splinecam_lite.studies.folder import Record, RunFolder

DPI = 110

ROW_SIZES = {2: (9.8, 3.9), 3: (11.4, 3.7)}
"""Size of a figure, in inches, by its number of panels."""

SHOWN = 6
"""Checkpoints that the still figure of the slice shows."""


def write_curves(settings: Record, records: Sequence[Record], folder: Path) -> None:
    """Write every figure of curves as a PNG file."""
    steps = [record["step"] for record in records]
    figures = {
        "accuracy.png": [panels.accuracy(records), panels.loss(records)],
        "complexity.png": [panels.complexity(records), panels.complexity_by_layer(records)],
        "regions.png": [panels.regions(records), panels.knots(records), panels.boundary(records)],
        "migration.png": [
            panels.density(settings, records),
            panels.ratio_by_distance(settings, records),
            panels.ratio_by_slice(settings, records),
        ],
        "estimate.png": [panels.counts(records), panels.recall(records)],
    }
    for name, row in figures.items():
        _write(folder / name, ROW_SIZES[len(row)], lambda figure, row=row: _draw_row(figure, steps, row))
    _write(folder / "profile.png", (6.4, 3.9), lambda figure: _profile(figure.subplots(), settings, records))


def _draw_row(figure: Figure, steps: Sequence[int], row: Sequence[Panel]) -> None:
    for ax, panel in zip(figure.subplots(1, len(row)), row, strict=True):
        draw_panel(ax, steps, panel)
        ax.set_xlabel("training step")
        if len(panel.curves) > 1:
            ax.legend(frameon=False, fontsize="small", loc="best")


def _profile(ax: Axes, settings: Record, records: Sequence[Record]) -> None:
    """Density by distance to the boundary, at some checkpoints; bands are drawn equally wide."""
    ends = ["0", *(f"{d:g}" for d in settings["measures"]["distances"])]
    bounded = [r for r in records if r["knot_density"]["bands"][0] is not None]
    for i, record in enumerate(_spread(bounded, 4)):
        bands = [np.nan if b is None else b for b in record["knot_density"]["bands"]]
        ax.stairs(
            bands,
            np.arange(len(bands) + 1) + 0.02 * i,  # side by side where they coincide
            color=numbered_colour(i),
            baseline=None,
            linewidth=1.8,
            label=f"step {record['step']:,}",
        )
    ax.set_xticks([*range(len(ends)), len(ends) - 0.5], [*ends, "farther"])
    ax.set_ylim(bottom=0)
    ax.set_xlabel("distance to the decision boundary, within the slice (input units)")
    ax.set_ylabel(panels.PER_AREA)
    ax.set_title("knot density by distance", fontsize="medium")
    if bounded:
        ax.legend(frameon=False, fontsize="small", ncols=4, loc="lower center")
    ax.spines[["top", "right"]].set_visible(False)


def write_slices(
    folder: RunFolder, records: Sequence[Record], images: NDArray[np.float32], labels: NDArray[np.int64]
) -> None:
    """Write the slice at some checkpoints, side by side, as a PNG file."""
    steps = [record["step"] for record in _spread(records, SHOWN)]

    def draw(figure: Figure) -> None:
        axes = figure.subplots(2, SHOWN // 2).ravel()
        for ax in axes[len(steps) :]:
            ax.set_axis_off()
        for ax, step, part in zip(axes, steps, folder.partitions(steps), strict=False):
            plot(part, "class", points=images, labels=labels, title=f"step {step:,}", ax=ax)
            ax.get_legend().remove()
            activation_regions, others = in_words(part).split(", ", 1)
            ax.set_title(f"step {step:,}: {activation_regions},\n{others}", fontsize="medium")
            ax.label_outer()

    _write(folder.path / "slices.png", (11.4, 7.2), draw)


def write_images(path: Path, images: NDArray[np.float32], labels: Sequence[int]) -> None:
    """Write the training images that the slice goes through."""

    def draw(figure: Figure) -> None:
        for ax, image, label in zip(figure.subplots(1, len(images)), images, labels, strict=True):
            ax.imshow(image.reshape(28, 28), cmap="gray_r", vmin=0, vmax=1)
            ax.set_title(f"class {label}", fontsize="medium")
            ax.set_xticks([])
            ax.set_yticks([])

    _write(path, (4.6, 1.9), draw)


def _spread(records: Sequence[Record], n: int) -> list[Record]:
    """Return up to about ``n`` records, evenly from the first to the last."""
    if not records:
        return []
    return [records[i] for i in np.unique(np.linspace(0, len(records) - 1, n).round().astype(int))]


def _write(path: Path, size: tuple[float, float], draw: Callable[[Figure], Any]) -> None:
    """Draw a figure into a file that is there when it is complete."""
    figure = Figure(size, DPI, layout="constrained")
    draw(figure)
    beside = path.with_name(f".{path.name}.part")
    figure.savefig(beside, format="png")
    os.replace(beside, path)
