"""The demo: the paper's MNIST MLP on real digits, followed through training, from data to report."""

import sys
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from splinecam_lite.network.trace import trace
from splinecam_lite.partition.result import Partition
from splinecam_lite.show.animate import View, animate
from splinecam_lite.studies.digits import N_PIXELS, Digits, load_digits
from splinecam_lite.studies.figures import write_curves, write_images, write_slices
from splinecam_lite.studies.folder import Record, RunFolder
from splinecam_lite.studies.panels import accuracy, complexity, density
from splinecam_lite.studies.probes import Measures, Probes, choose_probes
from splinecam_lite.studies.record import measure
from splinecam_lite.studies.story import write_story
from splinecam_lite.studies.tasks import N_CLASSES, DigitsTask
from splinecam_lite.studies.train import log_spaced, train

BAR = "{desc} {n_fmt}/{total_fmt} |{bar}| {elapsed}, {remaining} left{postfix}"

ZOOM = 0.06
"""Half-width of the close-up in the animation, as a part of the slice's: some hundred regions."""


@dataclass(frozen=True)
class Demo:
    """A task, what is measured of it, and how often."""

    task: DigitsTask
    measures: Measures
    checkpoints: int


# With the paper's eight times torch's initial weights, generalisation sets in only after some 10^5 steps;
# with twice, local complexity at training images falls, rises and falls again within 10,000.
FULL = Demo(DigitsTask(init_scale=2.0, steps=10_000), Measures(), checkpoints=20)
QUICK = Demo(
    DigitsTask(n_train=200, widths=(24, 24, 24), init_scale=2.0, steps=60, batch=100),
    Measures(n_points=40, n_diamonds=10),
    checkpoints=5,
)


def run_demo(out: str | Path, *, quick: bool = False, seed: int = 0, threads: int | None = None) -> Path:
    """Train, measure, draw, and return the report.

    Parameters
    ----------
    out : path
        Folder to write: `RunFolder` tells what may be there already. A run that was interrupted goes on.
    quick : bool
        A tenth of the network and a hundredth of the steps: seconds, to see what comes out.
    seed : int
        Of everything that is drawn. The records of two runs with a seed differ in their times only.
    threads : int, optional
        Of the engine. Default: all cores.

    Returns
    -------
    Path
        ``out/report.html``.

    Raises
    ------
    DataError
        If the digits are not installed.
    RunFolderError
        If the folder holds something else.
    """
    demo = QUICK if quick else FULL
    demo = replace(demo, task=replace(demo.task, seed=seed), measures=replace(demo.measures, seed=seed))
    digits = load_digits(demo.task.n_train, seed)
    probes = choose_probes(demo.measures, digits)
    folder = RunFolder(Path(out), _settings(demo, digits, probes))
    _follow(demo, digits, probes, folder, threads)
    return _show(folder.settings, probes, digits, folder)


def _settings(demo: Demo, digits: Digits, probes: Probes) -> Record:
    """Everything that determines the records."""
    return {
        **asdict(demo),
        "digits": {"train": len(digits.train_y), "test": len(digits.test_y), "sha256": digits.digest()},
        "slices": [
            {"images": images, "sha256": plane.digest()}
            for images, plane in zip(probes.images, probes.planes, strict=True)
        ],
        "versions": {name: version(name) for name in ("splinecam-lite", "torch", "numpy")},
    }


def _follow(demo: Demo, digits: Digits, probes: Probes, folder: RunFolder, threads: int | None) -> None:
    """Train, and measure at the checkpoints that the folder does not have yet."""
    pauses = log_spaced(demo.task.steps, demo.checkpoints)
    known = {record["step"] for record in folder.records()}
    if known.issuperset(pauses):
        return
    traced = trace(demo.task.network().eval(), (N_PIXELS,))
    begin = perf_counter()
    measuring = 0.0
    with tqdm(total=len(pauses), desc="checkpoints", bar_format=BAR, file=sys.stderr) as bar:
        for step, network in train(demo.task, digits, pauses):
            training = perf_counter() - begin - measuring
            if step not in known:
                program = traced.program(network.state_dict())
                record, part = measure(
                    demo.task, demo.measures, digits, probes, network, program, threads=threads
                )
                record["seconds"] = {"training so far": round(training, 3), **record["seconds"]}
                part.save(folder.partition_file(step))
                folder.append({"step": step, **record})
            measuring = perf_counter() - begin - training
            bar.update()
            bar.set_postfix_str(f"step {step:,}")


def _show(settings: Record, probes: Probes, digits: Digits, folder: RunFolder) -> Path:
    """Draw the figures and write the page."""
    records = folder.records()
    steps = [record["step"] for record in records]
    chosen = list(probes.images[0])
    images, labels = digits.train_x[chosen].numpy(), digits.train_y[chosen].numpy()
    write_images(folder.path / "images.png", images, labels.tolist())
    write_curves(settings, records, folder.path)
    write_slices(folder, records, images, labels)
    view = View(images, labels, N_CLASSES, _window(Partition.load(folder.partition_file(steps[-1])), images))
    panels = [accuracy(records), complexity(records), density(settings, records)]
    parts = folder.partitions(tqdm(steps, desc="frames", bar_format=BAR, file=sys.stderr))
    animate(folder.path / "slice.gif", parts, steps, view, panels)
    return write_story(folder.path, settings, records)


def _window(last: Partition, images: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return a window on the final decision boundary, where it comes closest to the middle of the images."""
    centre = last.plane.project(images).mean(axis=0)
    border = last.decision_boundary().segments.mean(axis=1)
    if len(border):
        centre = border[((border - centre) ** 2).sum(axis=1).argmin()]
    half = ZOOM * np.ptp(last.plane.domain, axis=0)
    return np.stack((centre - half, centre + half))
