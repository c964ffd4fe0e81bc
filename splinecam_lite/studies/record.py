"""What is measured of a network at a checkpoint, and the line that is kept of it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from splinecam_lite.complexity import LocalComplexity, exact_complexity, random_frame, recall
from splinecam_lite.complexity.result import ComplexityResult
from splinecam_lite.network.program import Program
from splinecam_lite.network.slices import Slice
from splinecam_lite.partition.partition import partition
from splinecam_lite.partition.result import Partition
from splinecam_lite.studies.digits import Digits
from splinecam_lite.studies.migration import KnotDensity, knot_density
from splinecam_lite.studies.tasks import DigitsTask
from splinecam_lite.studies.threads import one_torch_thread


@dataclass(frozen=True)
class Measures:
    """What to measure, besides loss and accuracy.

    Attributes
    ----------
    slice_labels : tuple of three int
        The slice goes through the first training image of each of these classes.
    margin : float
        Its domain is the bounding box of the three, grown on each side by this part of its size.
    distances : tuple of float
        Values of d for knot densities near the decision boundary, in input units.
    near : float
        The one of them that curves and tables show.
    n_points : int
        Training images, test images and random inputs whose local complexity is sampled, of each.
    radius, directions : float, int
        Of the neighbourhoods of that estimate; ``radius`` in input units.
    n_diamonds : int
        Training images around which the estimate is held against the exact count.
    diamond_radius : float
        Radius of these neighbourhoods, which have two directions, in input units.
    seed : int
        Of frames and random inputs.
    """

    slice_labels: tuple[int, int, int] = (4, 7, 9)
    margin: float = 0.25
    distances: tuple[float, ...] = (0.125, 0.25, 0.5, 1.0, 2.0)
    near: float = 0.5
    n_points: int = 300
    radius: float = 0.1
    directions: int = 25
    n_diamonds: int = 50
    diamond_radius: float = 1.0
    seed: int = 0


class Probes:
    """The places that are looked at, the same at every checkpoint.

    Attributes
    ----------
    numbers : tuple of three int
        Training images in the slice.
    plane : Slice
    points : dict from str to (n_points, 784) Tensor
        Inputs around which local complexity is sampled: "train", "test", and "random", uniform in [0, 1].
    frame : (2, 784) Tensor
        Directions of the diamonds.
    """

    def __init__(self, measures: Measures, digits: Digits):
        first = {label: (digits.train_y == label).nonzero()[0].item() for label in measures.slice_labels}
        self.numbers = tuple(int(n) for n in first.values())
        self.plane = Slice.through(*digits.train_x[list(self.numbers)], margin=measures.margin)
        n, size = measures.n_points, digits.train_x.shape[1]
        uniform = torch.rand(n, size, generator=torch.Generator().manual_seed(measures.seed))
        self.points = {"train": digits.train_x[:n], "test": digits.test_x[:n], "random": uniform}
        self.frame = random_frame((size,), 2, measures.seed)


class Clock:
    """Seconds that each kind of measurement took.

    Examples
    --------
    >>> clock = Clock()
    >>> with clock("nothing"):
    ...     pass
    >>> list(clock.seconds)
    ['nothing']
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, what: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.seconds[what] = round(time.perf_counter() - begin, 3)


def measure(
    task: DigitsTask,
    measures: Measures,
    digits: Digits,
    probes: Probes,
    network: nn.Module,
    program: Program,
    *,
    threads: int | None = None,
) -> tuple[dict[str, Any], Partition]:
    """Measure a network, and return the record and the partition of the slice.

    Parameters
    ----------
    network, program : nn.Module, Program
        The same network, as torch runs it in training and as the engine takes it.
    threads : int, optional
        Of the engine. The record does not depend on it.

    Returns
    -------
    record : dict
        Numbers, strings, lists and dicts of them, as JSON has them; None where something is not defined, such
        as the distance to a decision boundary where there is none. Only ``record["seconds"]`` differs from
        run to run.
    Partition
    """
    clock = Clock()
    with one_torch_thread(), clock("accuracy"):
        fit = _loss_and_accuracy(task, network, digits)
    with clock("partition"):
        part = partition(program, probes.plane, threads=threads, progress=False)
    with clock("decision boundary"):
        boundary = part.decision_boundary()
    with clock("knot density"):
        density = knot_density(part, measures.distances)
    with one_torch_thread(), clock("local complexity"):
        sampled = LocalComplexity(program, measures.radius, measures.directions, measures.seed)
        complexity = {name: _crossings(sampled(points)) for name, points in probes.points.items()}
    with one_torch_thread(), clock("estimate against exact"):
        diamonds = _diamonds(measures, probes, program)
    record = {
        **fit,
        "partition": _counts(part),
        "decision_boundary": {
            "length": boundary.length,
            "cells": boundary.n_cells,
            "class_areas": boundary.class_areas,
        },
        "knot_density": _densities(density),
        "local_complexity": complexity,
        "diamonds": diamonds,
        "seconds": clock.seconds,
    }
    return _plain(record), part


@torch.inference_mode()
def _loss_and_accuracy(task: DigitsTask, network: nn.Module, digits: Digits) -> dict[str, Any]:
    loss, accuracy = {}, {}
    for name, x, y in (("train", digits.train_x, digits.train_y), ("test", digits.test_x, digits.test_y)):
        outputs = network(x)
        loss[name] = float(task.loss_of(outputs, y))
        accuracy[name] = float((outputs.argmax(dim=1) == y).double().mean())
    return {"loss": loss, "accuracy": accuracy}


def _counts(part: Partition) -> dict[str, Any]:
    layers = part.counts_by_layer()
    return {
        "activation_regions": part.n_regions,
        "vertices": part.n_vertices,
        "edges": part.n_edges,
        "area": part.plane.area,
        "layers": [layer.name for layer in layers],
        "neurons": [layer.n_neurons for layer in layers],
        "neurons_with_knot": [layer.n_knots for layer in layers],
        "knot_length": [layer.knot_length for layer in layers],
        "snaps": part.report.n_snaps,
        "output_residual": part.report.output_residual,
    }


def _densities(density: KnotDensity) -> dict[str, Any]:
    return {
        "distances": density.distances,
        "near": density.near,
        "far": density.far,
        "ratio": density.ratio,
        "layer_ratios": density.layer_ratios,
        "bands": density.bands,
        "area_within": density.area_within,
    }


def _crossings(result: ComplexityResult) -> dict[str, Any]:
    mean = result.mean
    return {
        "mean": mean.value,
        "low": mean.low,
        "high": mean.high,
        "layer_means": [layer.value for layer in result.layer_means],
    }


def _diamonds(measures: Measures, probes: Probes, program: Program) -> dict[str, Any]:
    """Hold the estimate against the exact count, in the same diamonds around training images."""
    points, radius = probes.points["train"][: measures.n_diamonds], measures.diamond_radius
    estimate = LocalComplexity(program, radius, frame=probes.frame)(points)
    exact = exact_complexity(program, points, probes.frame, radius)
    return {
        "estimate": [layer.value for layer in estimate.layer_means],
        "exact": [layer.value for layer in exact.layer_means],
        "recall": recall(estimate, exact),
        "touching": int(exact.touching.sum()),
        "activation_regions": float(exact.n_regions.mean()),
    }


def _plain(value: Any) -> Any:
    """Turn arrays into lists, and NaN and infinity into None: neither is JSON."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
