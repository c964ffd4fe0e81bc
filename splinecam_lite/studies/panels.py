"""The records of a run as panels of curves, for the animation and the report."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splinecam_lite.show.colours import INK, SERIES
from splinecam_lite.show.curves import Curve, Panel, numbered_colour
from splinecam_lite.studies.folder import Record

SETS = {"train": SERIES[0], "test": SERIES[1], "random": SERIES[3]}
"""Colours of the sets of points."""

PER_AREA = "knot length per area (1 / input unit)"

NAMES = {"train": "training images", "test": "test images", "random": "random inputs"}


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


def mean_ratio(settings: Record, records: Sequence[Record]) -> NDArray[np.float64]:
    """Return the mean over the slices of near / far; NaN where one of them has no boundary."""
    i, n_slices = near_column(settings), len(records[0]["slices"])
    return np.mean([column(records, "slices", s, "ratio", i) for s in range(n_slices)], axis=0)


def accuracy(records: Sequence[Record]) -> Panel:
    """Accuracy at training and test images."""
    curves = [Curve(NAMES[s], column(records, "accuracy", s), SETS[s]) for s in ("train", "test")]
    return Panel("accuracy", curves, "share of images right")


def loss(records: Sequence[Record]) -> Panel:
    """Mean loss over training and test images."""
    curves = [Curve(NAMES[s], column(records, "loss", s), SETS[s]) for s in ("train", "test")]
    return Panel("loss", curves, "mean loss", log=True)


def complexity(records: Sequence[Record]) -> Panel:
    """Sampled local complexity at the three sets of points, with 99 % intervals."""

    def of(points: str, name: str) -> NDArray[np.float64]:
        return column(records, "local_complexity", points, name)

    curves = [Curve(NAMES[s], of(s, "mean"), SETS[s], band=(of(s, "low"), of(s, "high"))) for s in SETS]
    return Panel("local complexity", curves, "neurons that cross, all layers")


def complexity_by_layer(records: Sequence[Record]) -> Panel:
    """Sampled local complexity at training images, layer by layer."""
    curves = _by_layer(records, "local_complexity", "train", "layer_means")
    return Panel("the same at training images, by layer", curves, "neurons that cross, of the layer")


def regions(records: Sequence[Record]) -> Panel:
    """Numbers of activation regions and of linear regions in the first slice; decision cells are too few."""
    curves = [
        Curve("activation regions", column(records, "partition", "activation_regions"), INK),
        Curve("linear regions", column(records, "partition", "linear_regions"), SERIES[0], "--"),
    ]
    return Panel("activation and linear regions in the slice", curves, "number")


def knots(records: Sequence[Record]) -> Panel:
    """Knot length per area of each layer, in the first slice."""
    area = records[0]["partition"]["area"]
    curves = [
        curve._replace(values=curve.values / area) for curve in _by_layer(records, "partition", "knot_length")
    ]
    return Panel("knots by layer", curves, PER_AREA)


def boundary(records: Sequence[Record]) -> Panel:
    """Length of the decision boundary in the first slice."""
    curve = Curve("boundary", column(records, "decision_boundary", "length"), INK)
    return Panel("decision boundary in the slice", [curve], "length (input units)")


def density(settings: Record, records: Sequence[Record]) -> Panel:
    """Knot density near the decision boundary and away from it, in the first slice."""
    d, i = settings["measures"]["near"], near_column(settings)
    curves = [
        Curve(f"within {d:g} of the boundary", column(records, "knot_density", "near", i), SERIES[2]),
        Curve("farther away", column(records, "knot_density", "far", i), SERIES[8]),
    ]
    return Panel("knot density in the slice", curves, PER_AREA)


def ratio_by_distance(settings: Record, records: Sequence[Record]) -> Panel:
    """Near / far in the first slice, for every distance that may count as near."""
    distances = settings["measures"]["distances"]
    shades = np.linspace(0.0, 0.7, len(distances))
    curves = [
        Curve(f"d = {d:g}", column(records, "knot_density", "ratio", i), str(shade))
        for i, (d, shade) in enumerate(zip(distances, shades, strict=True))
    ]
    return Panel("near / far, for several distances d", curves, "ratio of densities", level=1.0)


def ratio_by_slice(settings: Record, records: Sequence[Record]) -> Panel:
    """Near / far in each slice, and its mean over them."""
    i = near_column(settings)
    curves = [
        Curve("-".join(map(str, labels)), column(records, "slices", s, "ratio", i), numbered_colour(s))
        for s, labels in enumerate(settings["measures"]["slices"])
    ]
    curves.append(Curve("mean", mean_ratio(settings, records), INK, "--"))
    return Panel(f"near / far in each slice, d = {settings['measures']['near']:g}", curves, level=1.0)


def counts(records: Sequence[Record]) -> Panel:
    """Exact crossings in diamonds, and their estimate, layer by layer."""
    exact = [c._replace(label=f"{c.label}, exact") for c in _by_layer(records, "diamonds", "exact")]
    estimate = [
        c._replace(label=f"{c.label}, estimate", style=":")
        for c in _by_layer(records, "diamonds", "estimate")
    ]
    return Panel("exact count and estimate", exact + estimate, "neurons that cross, of the layer")


def recall(records: Sequence[Record]) -> Panel:
    """Share of the exact crossings that the estimate finds, layer by layer."""
    return Panel("recall of the estimate", _by_layer(records, "diamonds", "recall"), "estimate / exact")


def _by_layer(records: Sequence[Record], *path: str) -> list[Curve]:
    n_layers = len(records[0]["partition"]["layers"])
    return [Curve(f"layer {i + 1}", column(records, *path, i), numbered_colour(i)) for i in range(n_layers)]
