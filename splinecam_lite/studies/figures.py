"""The figures of a run, drawn from its records and partitions."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from splinecam_lite.show.colours import INK, SERIES
from splinecam_lite.show.curves import LAYER_COLOURS, Curve, Panel, draw_panel
from splinecam_lite.show.plot import plot
from splinecam_lite.studies.folder import Record, RunFolder

DPI = 110

SETS = {"train": SERIES[0], "test": SERIES[1], "random": SERIES[3]}
"""Colours of the sets of points."""

NAMES = {"train": "training images", "test": "test images", "random": "random inputs"}

SHOWN = 6
"""Checkpoints that the still figure of the slice shows."""


def column(records: Sequence[Record], *path: str | int) -> NDArray[np.float64]:
    """Return one number of every record, by the names that lead to it; NaN where it is None.

    Examples
    --------
    >>> column([{"loss": {"train": 2}}, {"loss": {"train": None}}], "loss", "train").tolist()
    [2.0, nan]
    """

    def number(record: Any) -> float:
        for name in path:
            record = record[name]
        return np.nan if record is None else float(record)

    return np.array([number(record) for record in records])


def near_column(settings: Record) -> int:
    """Return which of the distances is the one that curves and tables show."""
    measures = settings["measures"]
    return measures["distances"].index(measures["near"])


# ---- panels ----------------------------------------------------------------------------------------


def accuracy(records: Sequence[Record]) -> Panel:
    """Accuracy at training and test images."""
    curves = [Curve(NAMES[s], column(records, "accuracy", s), SETS[s]) for s in ("train", "test")]
    return Panel("accuracy", curves, "share of images right")


def complexity(records: Sequence[Record]) -> Panel:
    """Sampled local complexity at the three sets of points, with 99 % intervals."""
    curves = [
        Curve(
            NAMES[s],
            column(records, "local_complexity", s, "mean"),
            SETS[s],
            band=(
                column(records, "local_complexity", s, "low"),
                column(records, "local_complexity", s, "high"),
            ),
        )
        for s in SETS
    ]
    return Panel("local complexity", curves, "neurons that cross, all layers")


def density(settings: Record, records: Sequence[Record]) -> Panel:
    """Knot density near the decision boundary and away from it."""
    d, i = settings["measures"]["near"], near_column(settings)
    curves = [
        Curve(f"within {d:g} of the boundary", column(records, "knot_density", "near", i), SERIES[2]),
        Curve("farther away", column(records, "knot_density", "far", i), SERIES[8]),
    ]
    return Panel("knot density in the slice", curves, "knot length per area (1 / input unit)")


def _losses(records: Sequence[Record]) -> Panel:
    curves = [Curve(NAMES[s], column(records, "loss", s), SETS[s]) for s in ("train", "test")]
    return Panel("loss", curves, "mean loss", log=True)


def _layers(records: Sequence[Record], title: str, ylabel: str, *path: str, scale: float = 1.0) -> Panel:
    """A number of each layer."""
    n_layers = len(records[0]["partition"]["layers"])
    curves = [
        Curve(f"layer {i + 1}", scale * column(records, *path, i), LAYER_COLOURS[i % len(LAYER_COLOURS)])
        for i in range(n_layers)
    ]
    return Panel(title, curves, ylabel)


def _ratios(settings: Record, records: Sequence[Record]) -> Panel:
    distances = settings["measures"]["distances"]
    shades = np.linspace(0.0, 0.7, len(distances))
    curves = [
        Curve(f"d = {d:g}", column(records, "knot_density", "ratio", i), str(shade))
        for i, (d, shade) in enumerate(zip(distances, shades, strict=True))
    ]
    return Panel("near / far, for several distances d", curves, "ratio of densities", level=1.0)


def _recall(records: Sequence[Record]) -> Panel:
    return _layers(records, "recall of the estimate", "estimate / exact", "diamonds", "recall")


def _estimates(records: Sequence[Record]) -> Panel:
    exact = _layers(records, "", "", "diamonds", "exact").curves
    estimate = _layers(records, "", "", "diamonds", "estimate").curves
    curves = [c._replace(label=f"{c.label}, exact") for c in exact]
    curves += [c._replace(label=f"{c.label}, estimate", style=":") for c in estimate]
    return Panel("exact count and estimate", curves, "neurons that cross, mean")


# ---- files -----------------------------------------------------------------------------------------


def write_curves(settings: Record, records: Sequence[Record], folder: Path) -> None:
    """Write every figure of curves as a PNG file."""
    steps = [record["step"] for record in records]
    area = records[0]["partition"]["area"]
    count = Curve("all", column(records, "partition", "activation_regions"), INK)
    border = Curve("boundary", column(records, "decision_boundary", "length"), INK)
    figures = {
        "accuracy.png": [accuracy(records), _losses(records)],
        "complexity.png": [
            complexity(records),
            _layers(
                records,
                "the same at training images, by layer",
                "",
                "local_complexity",
                "train",
                "layer_means",
            ),
        ],
        "regions.png": [
            Panel("activation regions in the slice", [count], "number"),
            _layers(
                records,
                "knots by layer",
                "length per area (1 / input unit)",
                "partition",
                "knot_length",
                scale=1 / area,
            ),
            Panel("decision boundary in the slice", [border], "length (input units)"),
        ],
        "migration.png": [density(settings, records), _ratios(settings, records)],
        "estimate.png": [_estimates(records), _recall(records)],
    }
    for name, panels in figures.items():
        _write(
            folder / name,
            (4.9 * len(panels) if len(panels) == 2 else 11.4, 3.9),
            lambda f, p=panels: _panels(f, steps, p),
        )
    _write(folder / "profile.png", (6.4, 3.9), lambda f: _profile(f.subplots(), settings, records))


def _panels(figure: Figure, steps: Sequence[int], panels: Sequence[Panel]) -> None:
    for ax, panel in zip(figure.subplots(1, len(panels)), panels, strict=True):
        draw_panel(ax, steps, panel)
        ax.set_xlabel("training step")
        if len(panel.curves) > 1:
            ax.legend(frameon=False, fontsize="small", loc="best")


def _profile(ax: Axes, settings: Record, records: Sequence[Record]) -> None:
    """Density as a function of distance to the boundary, at some checkpoints."""
    ends = [0.0, *settings["measures"]["distances"]]
    bounded = [r for r in records if r["knot_density"]["bands"][0] is not None]
    for i, record in enumerate(_spread(bounded, 4)):
        bands = record["knot_density"]["bands"]
        beyond = ends[-1] * 1.5
        values = [np.nan if b is None else b for b in bands]
        ax.stairs(
            values,
            [*ends, beyond],
            color=LAYER_COLOURS[i],
            baseline=None,
            linewidth=1.8,
            label=f"step {record['step']:,}",
        )
    ax.set_xticks([*ends, ends[-1] * 1.25], [*(f"{d:g}" for d in ends), "farther"], fontsize="small")
    ax.set_xlabel("distance to the decision boundary, within the slice (input units)")
    ax.set_ylabel("knot length per area (1 / input unit)")
    ax.set_title("knot density by distance", fontsize="medium")
    ax.legend(frameon=False, fontsize="small")
    ax.spines[["top", "right"]].set_visible(False)


def write_slices(
    folder: RunFolder, records: Sequence[Record], images: NDArray[np.float32], labels: NDArray[np.int64]
) -> None:
    """Write the slice at some checkpoints, side by side, as a PNG file."""
    steps = [record["step"] for record in _spread(records, SHOWN)]

    def draw(figure: Figure) -> None:
        axes = figure.subplots(2, 3).ravel()
        for ax, step, part in zip(axes, steps, folder.partitions(steps), strict=False):
            plot(part, "class", points=images, labels=labels, title=f"step {step:,}", ax=ax)
            ax.get_legend().remove()
            ax.set_title(f"step {step:,}: {part.n_regions:,} regions", fontsize="medium")
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
    """Return about ``n`` records, evenly from the first to the last."""
    return [records[i] for i in np.unique(np.linspace(0, len(records) - 1, n).round().astype(int))]


def _write(path: Path, size: tuple[float, float], draw: Callable[[Figure], Any]) -> None:
    """Draw a figure into a file that is there when it is complete."""
    figure = Figure(size, DPI, layout="constrained")
    draw(figure)
    beside = path.with_name(f".{path.name}.part")
    figure.savefig(beside, format="png")
    os.replace(beside, path)
