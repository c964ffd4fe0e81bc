"""What is measured of a network at a checkpoint, and the line that is kept of it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from splinecam_lite.complexity import LocalComplexity, exact_complexity, recall
from splinecam_lite.complexity.result import ComplexityResult
from splinecam_lite.network.program import Program
from splinecam_lite.partition.partition import partition
from splinecam_lite.partition.result import Partition
from splinecam_lite.studies.digits import Digits
from splinecam_lite.studies.migration import KnotDensity, knot_density
from splinecam_lite.studies.probes import Measures, Probes
from splinecam_lite.studies.tasks import DigitsTask
from splinecam_lite.studies.threads import one_torch_thread


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
    """Measure a network, and return the record and the partition of the first slice.

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
        part = partition(program, probes.planes[0], threads=threads, progress=False)
    with clock("linear regions"):
        part.linear_regions(program)
    with clock("decision boundary"):
        boundary = part.decision_boundary()
    with clock("knot density"):
        density = knot_density(part, measures.distances)
    with clock("other slices"):
        others = [partition(program, plane, threads=threads, progress=False) for plane in probes.planes[1:]]
        densities = [density, *(knot_density(other, measures.distances) for other in others)]
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
        "slices": [
            _in_short(*each) for each in zip(measures.slices, [part, *others], densities, strict=True)
        ],
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
    layers = [layer for layer in part.counts_by_layer() if layer.kind == "activation"]
    return {
        "activation_regions": part.n_regions,
        "linear_regions": part.n_linear_regions,
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


def _in_short(labels: tuple[int, ...], part: Partition, density: KnotDensity) -> dict[str, Any]:
    return {
        "labels": labels,
        "activation_regions": part.n_regions,
        "boundary_length": part.decision_boundary().length,
        "ratio": density.ratio,
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
