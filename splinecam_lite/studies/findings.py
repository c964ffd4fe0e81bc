"""What the numbers of a run say, in sentences that are true whatever they are."""

from collections.abc import Sequence

import numpy as np

from splinecam_lite.studies.folder import Record
from splinecam_lite.studies.panels import column, mean_ratio, near_column

FITTED = 0.99
"""Training accuracy from which the training set is called fitted."""


def findings(settings: Record, records: Sequence[Record]) -> list[str]:
    """What the numbers say, whatever they are."""
    return [
        _fit(records),
        _phases(records),
        _gathering(settings, records),
        _recalls(records),
        _trust(records),
    ]


def _fit(records: Sequence[Record]) -> str:
    train, test = column(records, "accuracy", "train"), column(records, "accuracy", "test")
    fitted = np.flatnonzero(train >= FITTED)
    if not len(fitted):
        return (
            f"The training set is not fitted: at the end {train[-1]:.1%} of it are right, and {test[-1]:.1%} "
            "of the test set."
        )
    i = fitted[0]
    return (
        f"The training set is fitted ({FITTED:.0%} right) by step {records[i]['step']:,}; {test[i]:.1%} of "
        f"the test images are right then, and {test[-1]:.1%} at the end."
    )


def _phases(records: Sequence[Record]) -> str:
    """Start, lowest value until fitted, highest after it, and end."""
    mean, test = (column(records, "local_complexity", s, "mean") for s in ("train", "test"))
    train = column(records, "accuracy", "train")
    fitted = int(np.flatnonzero(train >= FITTED)[0]) if (train >= FITTED).any() else len(records) - 1
    low = int(mean[: fitted + 1].argmin())
    high = low + int(mean[low:].argmax())
    stages = sorted({0, low, high, len(records) - 1})
    course = ", ".join(f"{mean[i]:.1f} at step {records[i]['step']:,}" for i in stages)
    return (
        f"Local complexity at training images (neurons, of {_n_neurons(records)}, with a knot in a small "
        f"neighbourhood): {course}; that is the start, the lowest until the training set is fitted, the "
        f"highest after that, and the end. At test images: {test[0]:.1f} at the start, {test[-1]:.1f} at "
        "the end."
    )


def _gathering(settings: Record, records: Sequence[Record]) -> str:
    ratio = mean_ratio(settings, records)
    there = np.flatnonzero(np.isfinite(ratio))
    if not len(there):
        return "At no checkpoint do all slices have a decision boundary, so there are no knots near it."
    first, top, last = there[0], there[ratio[there].argmax()], there[-1]
    i = near_column(settings)
    final = ", ".join(f"{s['ratio'][i]:.2f}" for s in records[last]["slices"])
    return (
        f"Within {settings['measures']['near']:g} input units of the decision boundary there is "
        f"{ratio[first]:.2f} times as much knot length per area as farther away at step "
        f"{records[first]['step']:,}, {ratio[top]:.2f} times at step {records[top]['step']:,}, where it is "
        f"most, and {ratio[last]:.2f} times at step {records[last]['step']:,}: means over "
        f"{len(records[last]['slices'])} slices, which have {final} at that step."
    )


def _recalls(records: Sequence[Record]) -> str:
    n_layers = len(records[0]["partition"]["layers"])
    found = [np.nanmin(column(records, "diamonds", "recall", i), initial=1.0) for i in range(n_layers)]
    lowest = ", ".join(f"{value:.1%}" for value in found)
    return (
        "The cheap estimate of local complexity, held against the exact count in the same neighbourhoods, "
        f"finds at least this share of the neurons that cross in layers 1 to {n_layers}: {lowest}. It can "
        "miss neurons but never invent one."
    )


def _trust(records: Sequence[Record]) -> str:
    snaps = int(column(records, "partition", "snaps").sum())
    residual = column(records, "partition", "output_residual").max()
    regions, linear = (
        int(column(records, "partition", f"{kind}_regions").sum()) for kind in ("activation", "linear")
    )
    cells = int(column(records, "decision_boundary", "cells").sum())
    decided = "none" if snaps == 0 else f"{snaps:,}"
    return (
        f"The partitions of the first slice hold {regions:,} activation regions, {linear:,} linear regions "
        f"and {cells:,} decision cells. Of the decisions behind them, "
        f"{decided} rested on a number within rounding of zero; the outputs that they carry differ from the "
        f"network's own by at most {residual:.0e} of their scale."
    )


def _n_neurons(records: Sequence[Record]) -> int:
    return sum(records[0]["partition"]["neurons"])
