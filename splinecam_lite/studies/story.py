"""The report of a run: what was done, the words used, and what to see in each figure."""

from collections.abc import Sequence
from pathlib import Path

from splinecam_lite.show.report import Picture, Points, Section, Table, Terms, write_report
from splinecam_lite.studies.digits import N_PIXELS
from splinecam_lite.studies.findings import findings
from splinecam_lite.studies.folder import Record
from splinecam_lite.studies.panels import column
from splinecam_lite.studies.tables import tables
from splinecam_lite.studies.tasks import N_CLASSES

TITLE = "How a network's linear regions move while it learns digits"

LEAD = (
    "A network of ReLU neurons is piecewise linear: its input space falls into regions, and on each region "
    "the network is one affine map. This page follows the regions of a small digit classifier through its "
    "training: exactly, on a flat two-dimensional slice of the space of images."
)


def write_story(folder: Path, settings: Record, records: Sequence[Record]) -> Path:
    """Write ``folder/report.html`` from the figures that are in the folder; return its path."""
    sections = [
        Section("In short", [Points(findings(settings, records))]),
        Section("What was done", _method(settings, records, folder)),
        Section("The slice over training", _slice(folder)),
        Section("Does it learn?", _accuracy(folder)),
        Section("Local complexity", _complexity(settings, folder)),
        Section("How many regions, and knots of which layer?", _regions(folder)),
        Section("Do knots gather at the decision boundary?", _migration(settings, folder)),
        Section("Is the estimate right?", _estimate(settings, folder)),
        Section("Words", [Terms(_terms(settings))]),
        Section("The numbers", tables(settings, records)),
        Section("Settings, files and times", _files(settings, records)),
    ]
    return write_report(folder / "report.html", TITLE, LEAD, sections)


def _method(settings: Record, records: Sequence[Record], folder: Path) -> list[str | Picture | Table]:
    task, digits, measures = settings["task"], settings["digits"], settings["measures"]
    sizes = "-".join(map(str, (N_PIXELS, *task["widths"], N_CLASSES)))
    loss = "mean squared error against one-hot labels" if task["loss"] == "mse" else "cross-entropy"
    labels = measures["slices"][0]
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
            "The three training images that span the slice. Every point of the slice is an image, too: these "
            "three, added up with weights that sum to one.",
            "Three handwritten digits",
        ),
        f"How knots lie around the decision boundary was measured on {len(measures['slices'])} such slices. "
        "Words with a meaning of their own are explained in the section Words.",
    ]


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
            "linear region",
            "Neighbouring activation regions with the same output map, merged: a largest connected set on "
            "which the network is one affine map. Knots that the output does not see are inside.",
        ),
        ("decision cell", "A largest connected set of points with one answer."),
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
            "lines, those of deeper layers bend where they meet the knots before them; and whether the "
            "boundary settles sooner than the knots.",
            "Animation of the slice over training",
        ),
        Picture(
            folder / "slices.png",
            "The same slice at some of the checkpoints. What to see: whether each of the three images comes "
            "to lie in a cell of its own class, and where lines are dense.",
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
    near = settings["measures"]["near"]
    return [
        "The paper finds that late in training knots leave the data and gather at the decision boundary. "
        "If they do, there is more knot length per area near it than elsewhere. Both are computed from "
        "exact partitions.",
        Picture(
            folder / "migration.png",
            f"Left: knot density within {near:g} input units of the decision boundary, and farther away, in "
            "the slice shown above. Middle: their ratio, for several distances that count as near. Right: "
            "the ratio in each of the slices, named by the classes of their images, and its mean. The "
            "dotted line is 1, where knots do not care about the boundary. What to see: whether the ratio "
            "is above 1 and rises, and how much slices differ. There is no value where a slice has no "
            "boundary.",
            "Knot density near and far, and their ratio, over training",
        ),
        Picture(
            folder / "profile.png",
            "Knot density in bands of distance to the decision boundary, in the slice shown above. What to "
            "see: a line that falls from left to right means that knots gather at the boundary; a level "
            "one, that they do not.",
            "Knot density by distance to the boundary",
        ),
    ]


def _regions(folder: Path) -> list[str | Picture]:
    return [
        Picture(
            folder / "regions.png",
            "Numbers of activation regions, and of linear regions: neighbours with the same map, merged; "
            "knot length per area of each layer; length of the decision boundary. What to see: whether "
            "training takes knots out of the slice at first and brings them back later, and in which layers.",
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
            "the training set is fitted, and a second fall, at all three kinds of points; which of them are "
            "here.",
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


def _files(settings: Record, records: Sequence[Record]) -> list[str | Terms | Table]:
    kinds = [name for name in records[0]["seconds"] if name != "training so far"]
    rows = [["training", f"{records[-1]['seconds']['training so far']:.1f}"]]
    rows += [[kind, f"{column(records, 'seconds', kind).sum():.1f}"] for kind in kinds]
    return [
        Table(
            ["setting", "value"],
            [
                [f"{part}: {name.replace('_', ' ')}", _value(value)]
                for part, group in (("training", settings["task"]), ("measuring", settings["measures"]))
                for name, value in group.items()
            ],
            "All settings. They determine every number on this page but the times.",
        ),
        Terms(
            [
                ("records.jsonl", "One line of JSON for each checkpoint, with all numbers."),
                ("run.json", "All settings, versions, and hashes of the data and the slices."),
                (
                    "partitions/",
                    "The partition of the first slice at each checkpoint. "
                    "`splinecam_lite.Partition.load('partitions/step_000000.npz')` gives its polygons, "
                    "patterns, affine maps, knots and decision boundary.",
                ),
                ("slice.gif, *.png", "The figures, which this page also holds inside."),
            ]
        ),
        Table(["work", "seconds, all checkpoints"], rows, "Where the time went, figures aside."),
    ]


def _value(value: object) -> str:
    """A setting as text; lists without brackets, and those of classes as they are in figures, e.g. 4-7-9."""
    if not isinstance(value, list):
        return str(value)
    return ", ".join("-".join(map(str, v)) if isinstance(v, list) else str(v) for v in value)
