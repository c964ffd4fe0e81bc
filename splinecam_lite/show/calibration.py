"""Figures of a calibration of local complexity, drawn from its record.

The record is what ``calibration.json`` holds, a dictionary: figures can be drawn anew without the network.
"""

import os
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from splinecam_lite.show.colours import INK
from splinecam_lite.show.curves import numbered_colour, positions

Record = dict[str, Any]

DPI = 110

PANEL = (3.9, 3.7)
"""Size of one panel, in inches."""

MOST_PANELS = 4

TOTAL = "all layers"

LEGEND = {"frameon": False, "fontsize": "small"}

RADIUS = "radius of the diamond (input units)"


def write_figures(record: Record, folder: Path) -> list[Path]:
    """Write every figure that the record has numbers for as a PNG file, and return their paths.

    Parameters
    ----------
    record : dict
        ``Calibration.to_dict()``, or the JSON file that it was saved to.
    folder : Path
        Must exist.
    """
    drawn: list[tuple[str, int, Callable[[Figure], None]]] = [
        ("recall.png", 2, lambda figure: _recall(figure, record)),
        ("scatter.png", min(len(record["scatter"]), MOST_PANELS), lambda figure: _scatter(figure, record)),
    ]
    if len(record["settings"]["directions"]) > 1:
        drawn.append(("directions.png", 2, lambda figure: _directions(figure, record)))
    if record["orientation"]:
        drawn.append(("orientation.png", 2, lambda figure: _orientation(figure, record)))
    if record["trends"]:
        panels = min(len(record["settings"]["radii"]), MOST_PANELS)
        drawn.append(("checkpoints.png", panels, lambda figure: _checkpoints(figure, record)))
    paths = []
    for name, panels, draw in drawn:
        figure = Figure((panels * PANEL[0], PANEL[1]), DPI, layout="constrained")
        draw(figure)
        beside = folder / f".{name}.part"
        figure.savefig(beside, format="png")
        os.replace(beside, folder / name)
        paths.append(folder / name)
    return paths


def _recall(figure: Figure, record: Record) -> None:
    """Left: recall by radius, a curve a layer. Right: what is there and what is found."""
    left, right = figure.subplots(1, 2)
    layers = [*record["settings"]["layer_names"], TOTAL]
    names = _short(layers)
    low = 1.0
    for i, layer in enumerate(layers):
        rows = list(_rows(record, layer=layer, directions=2, checkpoint=_last(record)))
        radius, style = np.array([row["radius"] for row in rows]), _style(i, layer)
        value, bottom, top = _intervals(rows, "ratio")
        known = ~np.isnan(value)
        # Side by side, by a few per cent of the radius: else intervals at 1 cover one another.
        at = radius[known] * 1.05 ** (i - len(layers) / 2)
        error = np.stack((value - bottom, top - value))[:, known]
        left.errorbar(at, value[known], error, label=names[i], capsize=2, markersize=4, **style)
        low = min(low, float(np.nanmin(np.append(value, 1.0))))
        exact, found = (np.array([row[key] for row in rows]) for key in ("exact", "estimate"))
        right.plot(radius, _positive(exact), label=names[i], markersize=4, **style)
        right.plot(radius, _positive(found), marker="x", linestyle="", color=style["color"], markersize=5)
    left.axhline(1.0, color=INK, linewidth=0.8, linestyle=":")
    # Where next to nothing crosses, intervals go down to 0; they are cut, for the others to be seen.
    left.set_ylim(low - 0.1, 1.01)
    left.set_ylabel("recall: found by the estimate / exact")
    left.set_title(f"recall, P = 2, 99 % intervals, {_where(record)}", fontsize="medium")
    right.set_yscale("log")
    right.set_ylabel("crossing neurons, mean over points")
    right.set_title("exact (line), estimate with P = 2 (x)", fontsize="medium")
    for ax in (left, right):
        _by_radius(ax, record)
    low_end, high_end = right.get_ylim()
    right.set_ylim(low_end, high_end * (high_end / low_end) ** 0.25)  # room for the legend
    right.legend(
        **LEGEND, loc="upper left", ncols=1 + (len(layers) > 4), title="layer"
    )  # of both; on the left, intervals are everywhere


def _scatter(figure: Figure, record: Record) -> None:
    """Single points, for the largest radii: estimates with P = 2 and the largest P over the exact count."""
    chosen = record["scatter"][-MOST_PANELS:]
    directions = record["settings"]["directions"]
    for ax, each in zip(np.atleast_1d(figure.subplots(1, len(chosen))), chosen, strict=True):
        exact = np.array(each["exact"])
        for p, colour, marker in ((0, numbered_colour(0), "o"), (-1, numbered_colour(1), "^")):
            if p == -1 and len(directions) == 1:
                continue
            estimate = np.array(each["estimates"][p])
            pairs, times = np.unique(np.stack((exact, estimate), axis=1), axis=0, return_counts=True)
            area = 8 + 60 * np.sqrt(times / times.max()) if times.max() > 1 else 10
            wanted = {"layer": TOTAL, "directions": directions[p], "radius": each["radius"]}
            (row,) = _rows(record, checkpoint=_last(record), **wanted)
            label = f"P = {directions[p]}: " + _rho(row["spearman"][0])
            ax.scatter(*pairs.T, s=area, color=colour, marker=marker, alpha=0.5, linewidths=0, label=label)
        top = max(exact.max(), 1)
        ax.plot([0, top], [0, top], color=INK, linewidth=0.8, linestyle=":")
        ax.set_title(f"radius {each['radius']:g}", fontsize="medium")
        ax.set_xlabel("exact crossings in the plane")
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        ax.yaxis.set_major_locator(MaxNLocator(6, integer=True))
        ax.legend(**LEGEND, loc="upper left")
        ax.set_ylim(bottom=-0.03 * ax.get_ylim()[1], top=1.3 * ax.get_ylim()[1])  # room for the legend
        _finish(ax)
    figure.axes[0].set_ylabel("estimate, all layers")
    figure.suptitle(f"one mark a point (larger where several coincide), {_where(record)}", fontsize="medium")


def _directions(figure: Figure, record: Record) -> None:
    """Left: how the estimate grows with P. Right: its correlation with the exact count in the plane."""
    left, right = figure.subplots(1, 2)
    directions = record["settings"]["directions"]
    for i, radius in enumerate(record["settings"]["radii"]):
        rows = list(_rows(record, layer=TOTAL, radius=radius, checkpoint=_last(record)))
        if not rows[0]["n_exact"]:
            continue  # nothing crosses
        for ax, key in ((left, "ratio"), (right, "spearman")):
            value, bottom, top = _intervals(rows, key)
            error = np.nan_to_num(np.stack((value - bottom, top - value)))
            at = np.array(directions) * 1.04 ** (i - 1.5)
            ax.errorbar(
                at,
                value,
                error,
                marker="o",
                markersize=4,
                capsize=2,
                color=numbered_colour(i),
                label=f"{radius:g}",
            )
    left.set_ylabel("estimate / exact count in the plane")
    left.set_title(f"what more directions find, {_where(record)}", fontsize="medium")
    left.axhline(1.0, color=INK, linewidth=0.8, linestyle=":")
    right.set_ylabel("Spearman's ρ over points")
    right.set_title("agreement with the exact count in the plane", fontsize="medium")
    right.set_ylim(min(0.0, right.get_ylim()[0]), 1.03)
    for ax in (left, right):
        ax.set_xscale("log")
        ax.set_xticks(directions, [str(p) for p in directions])
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_xlabel("P, directions of the estimate")
        ax.legend(**LEGEND, title="radius", loc="best")
        _finish(ax)


def _orientation(figure: Figure, record: Record) -> None:
    """Left: means over the points, plane by plane. Right: parts of the variance, by radius."""
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.3))
    rows = [r for r in record["orientation"] if r["layer"] == TOTAL and r["checkpoint"] == _last(record)]
    exact = [row for row in rows if row["quantity"] == "exact"]
    for row in exact:
        relative = np.array(row["plane_means"]) / row["mean"] if row["mean"] else np.full(1, np.nan)
        left.plot(
            np.full(len(relative), row["radius"]),
            relative,
            "o",
            color=numbered_colour(0),
            alpha=0.5,
            markersize=5,
        )
    left.axhline(1.0, color=INK, linewidth=0.8, linestyle=":")
    left.set_ylabel("mean over points in one plane / in all")
    left.set_title("exact crossings, one mark a plane", fontsize="medium")
    _by_radius(left, record)
    counts = [("exact", 2), *(("estimate", p) for p in record["settings"]["directions"])]
    width = 0.8 / len(counts)
    parts = ("points", "planes", "residual")
    for j, (quantity, p) in enumerate(counts):
        chosen = [row for row in rows if (row["quantity"], row["directions"]) == (quantity, p)]
        shares = np.array([_shares(row["components"]) for row in chosen])
        at = np.arange(len(chosen)) + (j - (len(counts) - 1) / 2) * width
        floor = np.zeros(len(chosen))
        for k, part in enumerate(parts):
            label = part if j == 0 else None
            right.bar(at, shares[:, k], 0.9 * width, floor, color=numbered_colour(k), label=label)
            floor = floor + shares[:, k]
        for x in at:
            name = "exact" if quantity == "exact" else f"P = {p}"
            right.text(x, 0.02, name, rotation=90, ha="center", va="bottom", fontsize=6.5, color="white")
    right.set_xticks(range(len(exact)), [f"{row['radius']:g}" for row in exact])
    right.set_xlabel(RADIUS)
    right.set_ylabel("share of the variance")
    right.set_ylim(0, 1.16)
    right.set_yticks(np.linspace(0, 1, 6))
    right.set_title("variance between points, between planes, rest", fontsize="medium")
    right.legend(**LEGEND, ncols=3, loc="upper center")
    _finish(right)


def _checkpoints(figure: Figure, record: Record) -> None:
    """Mean counts over the checkpoints, a panel for each of the smallest radii."""
    settings = record["settings"]
    labels = settings["checkpoints"]
    steps = [int(label) for label in labels] if all(map(str.isdecimal, labels)) else None
    at = positions(steps) if steps else np.arange(len(labels))
    radii = settings["radii"][:MOST_PANELS]
    for ax, radius in zip(np.atleast_1d(figure.subplots(1, len(radii))), radii, strict=True):
        exact = list(_rows(record, layer=TOTAL, radius=radius, directions=2))
        ax.plot(at, [row["exact"] for row in exact], color=INK, linewidth=2.2, label="exact, in the plane")
        for i, p in enumerate(settings["directions"]):
            rows = list(_rows(record, layer=TOTAL, radius=radius, directions=p))
            trend = next(
                t
                for t in record["trends"]
                if (t["radius"], t["layer"], t["directions"]) == (radius, TOTAL, p)
            )
            label = f"P = {p}: r = " + ("-" if trend["pearson"][0] is None else f"{trend['pearson'][0]:.3f}")
            style = {"linestyle": "--" if p == 2 else "-", "color": numbered_colour(i)}
            ax.plot(at, [row["estimate"] for row in rows], linewidth=1.4, label=label, **style)
        ax.set_title(f"radius {radius:g}", fontsize="medium")
        if steps:
            decades = np.arange(int(np.floor(at[-1])) + 1)
            ax.set_xticks([positions([0])[0], *decades], ["0", *(f"$10^{d}$" for d in decades)])
        ax.set_xlabel("training step" if steps else "checkpoint")
        ax.set_ylim(0, 1.45 * ax.get_ylim()[1])  # room for the legend
        ax.legend(**LEGEND, loc="upper right")
        _finish(ax)
    figure.axes[0].set_ylabel("crossing neurons, mean over points")


def _rows(record: Record, **wanted: Any) -> Iterator[Record]:
    for row in record["rows"]:
        if all(row[key] == value for key, value in wanted.items()):
            yield row


def _last(record: Record) -> str:
    return record["settings"]["checkpoints"][-1]


def _where(record: Record) -> str:
    last = _last(record)
    return f"step {int(last):,}" if last.isdecimal() else last


def _intervals(rows: list[Record], key: str) -> NDArray[np.float64]:
    """Value, low and high end, (3, rows); NaN where undefined."""
    return np.array([[np.nan if v is None else v for v in row[key]] for row in rows]).T


def _shares(components: Record) -> list[float]:
    total = sum(components.values())
    return [part / total if total else 0.0 for part in components.values()]


def _short(layers: list[str]) -> list[str]:
    """Numbers before the names, which say little by themselves: '1' is often the first activation."""
    return [layer if layer == TOTAL else f"{i} ({layer})" for i, layer in enumerate(layers, 1)]


def _style(i: int, layer: str) -> dict[str, Any]:
    if layer == TOTAL:
        return {"color": INK, "marker": "s", "linewidth": 2.0}
    return {"color": numbered_colour(i), "marker": "o", "linewidth": 1.3, "linestyle": "-" if i < 6 else "--"}


def _positive(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """A logarithmic axis has no 0."""
    return np.where(values > 0, values, np.nan)


def _rho(value: float | None) -> str:
    return "ρ not defined" if value is None else f"ρ = {value:.3f}"


def _by_radius(ax: Axes, record: Record) -> None:
    ax.set_xscale("log")
    radii = record["settings"]["radii"]
    ax.set_xticks(radii)
    if any(b < 2 * a for a, b in pairwise(radii)):
        ax.tick_params(axis="x", rotation=45)  # side by side, labels would touch
    ax.xaxis.set_major_formatter(FuncFormatter(lambda radius, _: f"{radius:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel(RADIUS)
    _finish(ax)


def _finish(ax: Axes) -> None:
    ax.grid(axis="y", linewidth=0.4, alpha=0.5)
    ax.spines[["top", "right"]].set_visible(False)
