"""The report of a run in words: what was done, what to see in each figure, and what the numbers say."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from splinecam_lite.show.report import Picture, Points, Section, Table, Terms, write_report
from splinecam_lite.studies.digits import N_PIXELS
from splinecam_lite.studies.figures import column, near_column
from splinecam_lite.studies.folder import Record
from splinecam_lite.studies.tasks import N_CLASSES

FITTED = 0.99
"""Training accuracy from which the training set is called fitted."""

TITLE = "How a network's linear regions move while it learns digits"

LEAD = (
    "A network of ReLU neurons is piecewise linear: its input space falls into regions, and on each region "
    "the network is one affine map. This page follows the regions of a small digit classifier through its "
    "training: exactly, on a flat two-dimensional slice of the space of images."
)


def write_story(folder: Path, settings: Record, records: Sequence[Record]) -> Path:
    """Write ``folder/report.html`` from the figures that are in the folder; return its path."""
    sections = [
        Section("In short", [Points(_findings(settings, records))]),
        Section("What was done", _method(settings, records, folder)),
        Section("Words", [Terms(_terms(settings))]),
        Section("The slice over training", _slice(folder)),
        Section("Does it learn?", _accuracy(folder)),
        Section("Where are the knots?", _migration(settings, folder)),
        Section("How many, and of which layer?", _regions(folder)),
        Section("Local complexity", _complexity(settings, folder)),
        Section("Is the estimate right?", _estimate(settings, folder)),
        Section("The numbers", [_table(settings, records)]),
        Section("Files and times", _files(records)),
    ]
    return write_report(folder / "report.html", TITLE, LEAD, sections)


# ---- findings --------------------------------------------------------------------------------------


def _findings(settings: Record, records: Sequence[Record]) -> list[str]:
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
    where = [
        f"{mean[i]:.1f} at step {records[i]['step']:,}" for i in sorted({0, low, high, len(records) - 1})
    ]
    return (
        "Local complexity at training images (neurons that cross a small neighbourhood, of "
        f"{_n_neurons(records)}) goes from {', to '.join(where)}. At test images it begins at {test[0]:.1f} "
        f"and ends at {test[-1]:.1f}."
    )


def _gathering(settings: Record, records: Sequence[Record]) -> str:
    ratio = column(records, "knot_density", "ratio", near_column(settings))
    there = np.flatnonzero(np.isfinite(ratio))
    if not len(there):
        return "One class wins the whole slice at every checkpoint, so it has no decision boundary."
    first, top, last = there[0], there[ratio[there].argmax()], there[-1]
    return (
        f"Knots and the decision boundary: within {settings['measures']['near']:g} input units of it there "
        f"is {ratio[first]:.2f} times as much knot length per area as farther away at step "
        f"{records[first]['step']:,}, at most {ratio[top]:.2f} times (step {records[top]['step']:,}), and "
        f"{ratio[last]:.2f} times at step {records[last]['step']:,}."
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
    regions = int(column(records, "partition", "activation_regions").sum())
    decided = "none" if snaps == 0 else f"{snaps:,}"
    return (
        f"{regions:,} regions were computed in all. Of the decisions behind them, {decided} rested on a "
        "number within rounding of zero; the outputs that the partitions carry differ from the network's "
        f"own by at most {residual:.0e} of their scale."
    )


def _n_neurons(records: Sequence[Record]) -> int:
    return sum(records[0]["partition"]["neurons"])


# ---- sections --------------------------------------------------------------------------------------


def _method(settings: Record, records: Sequence[Record], folder: Path) -> list[str | Picture | Table]:
    task, digits, measures = settings["task"], settings["digits"], settings["measures"]
    sizes = "-".join(map(str, (N_PIXELS, *task["widths"], N_CLASSES)))
    loss = "mean squared error against one-hot labels" if task["loss"] == "mse" else "cross-entropy"
    labels = settings["slice"]["labels"]
    return [
        f"A fully connected ReLU network, {sizes}, was trained on {digits['train']:,} real handwritten "
        f"digits (MNIST) for {task['steps']:,} steps of {task['batch']} images, with AdamW (learning rate "
        f"{task['learning_rate']:g}, weight decay {task['weight_decay']:g}) and {loss}. Its initial weights "
        f"are {task['init_scale']:g} times torch's default. The {digits['test']:,} other digits are the "
        "test set. The experiment is that of arXiv 2402.15555, shorter.",
        f"At {len(records)} checkpoints, evenly spaced in the logarithm of the step, the network was cut by "
        f"the plane through three training images, a {labels[0]}, a {labels[1]} and a {labels[2]}, and the "
        f"exact partition of a rectangle around them was computed: {records[0]['partition']['area']:.0f} "
        "square input units, where an input unit is the step of one pixel from black to white.",
        Picture(
            folder / "images.png",
            "The three training images that span the slice. Every point of it is an image: a mixture of "
            "these three.",
            "Three handwritten digits",
        ),
        Table(
            ["setting", "value"],
            [
                [name.replace("_", " "), _value(value)]
                for part in (task, measures)
                for name, value in part.items()
            ],
            "All settings. Together with the seed they determine every number on this page but the times.",
        ),
    ]


def _value(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _terms(settings: Record) -> list[tuple[str, str]]:
    measures = settings["measures"]
    near = measures["near"]
    return [
        ("step", "One update of the weights. Step 0 is the untrained network."),
        (
            "input unit",
            "Length in the space of images, where each of the 784 pixels is a coordinate from 0 to 1.",
        ),
        ("slice", "A plane in the space of images. Lengths and areas on it are true ones, in input units."),
        ("layer", "One of the network's hidden layers of ReLU neurons, counted from the input."),
        (
            "knot",
            "Where the number that goes into a ReLU is zero: there the neuron switches on or off, and the "
            "network bends.",
        ),
        (
            "activation region",
            "A largest set of points at which the same neurons are on. Knots are the borders between them.",
        ),
        (
            "decision boundary",
            "Where the network's answer, the class with the largest output, changes. It is not a knot.",
        ),
        (
            "knot density",
            f"Length of knots per area. Near: within {near:g} input units of the decision boundary, in the "
            "slice. Far: the rest of the slice. Near / far is 1 if knots do not care where the boundary is.",
        ),
        (
            "region migration",
            "The claim that late in training knots leave the data and gather at the decision boundary.",
        ),
        (
            "local complexity",
            "How many neurons have a knot close to an input, estimated: the network is evaluated at "
            f"{2 * measures['directions']} points at distance {measures['radius']:g} from it, in "
            f"{measures['directions']} random directions and their opposites, and a neuron crosses if its "
            "input is not of the same sign at all of them.",
        ),
        (
            "exact count, recall",
            "With two directions the neighbourhood is a diamond, here of radius "
            f"{measures['diamond_radius']:g}, whose exact partition tells all neurons that change sign "
            "anywhere inside. Recall is the share of them that the estimate finds.",
        ),
    ]


def _slice(folder: Path) -> list[str | Picture]:
    return [
        Picture(
            folder / "slice.gif",
            "Left: the slice, coloured by the class that the network predicts; thin lines are the borders "
            "of activation regions, the thick line is the decision boundary, dots are the three training "
            "images. Right: the rectangle from the left, enlarged, with each knot in the colour of its "
            "layer. Below: where training stands. What to see: knots of the first layer are straight "
            "lines, those of deeper layers bend at the knots before them; the boundary is thrown about in "
            "the first steps and then settles, while knots go on moving.",
            "Animation of the slice over training",
        ),
        Picture(
            folder / "slices.png",
            "The same slice at some of the checkpoints. What to see: each of the three images gets a cell "
            "of its own class, and lines are denser in some places than in others. Axes are in input units.",
            "The slice at six checkpoints",
        ),
    ]


def _accuracy(folder: Path) -> list[str | Picture]:
    return [
        Picture(
            folder / "accuracy.png",
            "Share of images that are classified right, and the loss, which is drawn on a logarithmic "
            "axis. What to see: whether the test accuracy stops rising when the training set is fitted, or "
            "goes on (delayed generalisation).",
            "Accuracy and loss over training",
        )
    ]


def _migration(settings: Record, folder: Path) -> list[str | Picture]:
    return [
        "If knots gather at the decision boundary, there is more knot length per area near it than "
        "elsewhere. Both are computed from the exact partition.",
        Picture(
            folder / "migration.png",
            f"Left: knot density within {settings['measures']['near']:g} input units of the decision "
            "boundary, and farther away. Right: their ratio, for several distances that count as near; the "
            "dotted line is 1, where knots would not care. What to see: whether the ratio is above 1, and "
            "whether it rises. There is no value where the slice has no boundary.",
            "Knot density near and far, and their ratio, over training",
        ),
        Picture(
            folder / "profile.png",
            "Knot density in bands of distance to the decision boundary, from first to last checkpoint "
            "that has one. What to see: a line that falls from left to right means that knots gather at "
            "the boundary; a flat one, that they do not.",
            "Knot density by distance to the boundary",
        ),
    ]


def _regions(folder: Path) -> list[str | Picture]:
    return [
        Picture(
            folder / "regions.png",
            "Number of activation regions in the slice; knot length per area of each layer; length of the "
            "decision boundary. What to see: training first removes knots and regions from the slice, and "
            "then brings some back.",
            "Regions, knots by layer and boundary length over training",
        )
    ]


def _complexity(settings: Record, folder: Path) -> list[str | Picture]:
    measures = settings["measures"]
    return [
        Picture(
            folder / "complexity.png",
            f"Left: local complexity, mean over {measures['n_points']} training images, as many test "
            "images, and as many random inputs; bands are 99 % confidence intervals of the mean. Right: "
            "the same at training images, by layer. What to see: the paper describes a fall, a rise until "
            "the training set is fitted, and a second fall, at all three kinds of points.",
            "Local complexity over training",
        )
    ]


def _estimate(settings: Record, folder: Path) -> list[str | Picture]:
    measures = settings["measures"]
    return [
        Picture(
            folder / "estimate.png",
            f"Left: neurons that cross the diamonds around {measures['n_diamonds']} training images, "
            "counted exactly, and by the estimate (dotted), which looks at the four corners only. Right: "
            "recall. What to see: in the first layer, whose knots are straight, the estimate is exact; in "
            "deeper layers it misses the neurons that are on both sides of a diamond only between its "
            "corners.",
            "Estimate, exact count and recall over training",
        )
    ]


def _table(settings: Record, records: Sequence[Record]) -> Table:
    i = near_column(settings)
    n_layers = len(records[0]["partition"]["layers"])
    columns: list[tuple[str, str, tuple[str | int, ...]]] = [
        ("step", ",.0f", ("step",)),
        ("train accuracy", ".1%", ("accuracy", "train")),
        ("test accuracy", ".1%", ("accuracy", "test")),
        ("train loss", ".1e", ("loss", "train")),
        ("activation regions", ",.0f", ("partition", "activation_regions")),
        ("decision cells", ".0f", ("decision_boundary", "cells")),
        ("boundary length", ".1f", ("decision_boundary", "length")),
        ("near density", ".1f", ("knot_density", "near", i)),
        ("far density", ".1f", ("knot_density", "far", i)),
        ("near / far", ".2f", ("knot_density", "ratio", i)),
        ("complexity, train", ".2f", ("local_complexity", "train", "mean")),
        ("test", ".2f", ("local_complexity", "test", "mean")),
        ("random", ".2f", ("local_complexity", "random", "mean")),
        *((f"recall, layer {j + 1}", ".3f", ("diamonds", "recall", j)) for j in range(n_layers)),
    ]
    values = [[_number(v, form) for v in column(records, *path)] for _, form, path in columns]
    return Table(
        [name for name, _, _ in columns],
        list(zip(*values, strict=True)),
        "A dash means not defined: no decision boundary in the slice, or nothing that crosses. Lengths in "
        "input units, densities in length per area. More is in `records.jsonl`.",
    )


def _number(value: float, form: str) -> str:
    return "–" if np.isnan(value) else format(value, form)


def _files(records: Sequence[Record]) -> list[str | Terms | Table]:
    kinds = [name for name in records[0]["seconds"] if name != "training so far"]
    rows = [["training", f"{records[-1]['seconds']['training so far']:.1f}"]]
    rows += [[kind, f"{column(records, 'seconds', kind).sum():.1f}"] for kind in kinds]
    return [
        Terms(
            [
                ("records.jsonl", "One line of JSON for each checkpoint, with all numbers."),
                ("run.json", "All settings, versions, and hashes of the data and the slice."),
                (
                    "partitions/",
                    "The partition of each checkpoint: "
                    "`splinecam_lite.Partition.load('partitions/step_000000.npz')` gives its polygons, "
                    "patterns, affine maps, knots and decision boundary.",
                ),
                ("slice.gif, *.png", "The figures, which this page also holds inside."),
            ]
        ),
        Table(["work", "seconds, all checkpoints"], rows, "Where the time went."),
    ]
