"""The records of a run as tables."""

from collections.abc import Sequence

import numpy as np

from splinecam_lite.show.report import Table
from splinecam_lite.studies.folder import Record
from splinecam_lite.studies.panels import column, near_column

Column = tuple[str, str, tuple[str | int, ...]]
"""Heading, format, and where in a record the number is."""


def tables(settings: Record, records: Sequence[Record]) -> list[str | Table]:
    """Return the tables of the report, each after a sentence that says what is in it."""
    i = near_column(settings)
    layers = range(len(records[0]["partition"]["layers"]))
    slice_columns: list[Column] = [
        ("step", ",.0f", ("step",)),
        ("train accuracy", ".1%", ("accuracy", "train")),
        ("test accuracy", ".1%", ("accuracy", "test")),
        ("train loss", ".1e", ("loss", "train")),
        ("activation regions", ",.0f", ("partition", "activation_regions")),
        ("linear regions", ",.0f", ("partition", "linear_regions")),
        ("decision cells", ".0f", ("decision_boundary", "cells")),
        ("boundary length", ".1f", ("decision_boundary", "length")),
        ("near density", ".1f", ("knot_density", "near", i)),
        ("far density", ".1f", ("knot_density", "far", i)),
        ("near / far", ".2f", ("knot_density", "ratio", i)),
    ]
    point_columns: list[Column] = [
        ("step", ",.0f", ("step",)),
        *((f"complexity, {s}", ".2f", ("local_complexity", s, "mean")) for s in ("train", "test", "random")),
        *((f"exact count, layer {j + 1}", ".2f", ("diamonds", "exact", j)) for j in layers),
        *((f"recall, layer {j + 1}", ".3f", ("diamonds", "recall", j)) for j in layers),
    ]
    return [
        _table(
            records,
            slice_columns,
            "Accuracy, and the slice. Lengths in input units, densities in length per area.",
        ),
        _table(
            records,
            point_columns,
            "Local complexity and its check: means over points. More is in `records.jsonl`.",
        ),
        "A dash means not defined: no decision boundary in the slice, or no neuron that crosses.",
    ]


def _table(records: Sequence[Record], columns: Sequence[Column], caption: str) -> Table:
    values = [[_number(v, form) for v in column(records, *path)] for _, form, path in columns]
    return Table([name for name, _, _ in columns], list(zip(*values, strict=True)), caption)


def _number(value: float, form: str) -> str:
    return "–" if np.isnan(value) else format(value, form)
