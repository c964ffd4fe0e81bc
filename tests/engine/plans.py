"""Plans for the engine without torch: dense networks on a polygon, straight from their matrices."""

from functools import partial
from itertools import pairwise

import numpy as np

from splinecam_lite.engine.plan import AffineStep, KnotStep, Plan
from splinecam_lite.engine.predicate import SNAP, WORD

BOX = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])


def _apply(weight, columns):
    return columns @ weight.T


def dense_plan(layers, domain=BOX, slope=0.0, breakpoints=(0.0,), jumps=None) -> Plan:
    """Plan of a dense network; every layer but the last is followed by the activation.

    Parameters
    ----------
    layers : list of (weight (out, in), bias (out,))
    domain : (m, 2)
    slope : float
        Slope of the leftmost piece.
    breakpoints, jumps : sequences of float
        Where the activation bends, and by how much; one bend to slope 1 by default.
    """
    jumps = (1.0 - slope,) if jumps is None else jumps
    points = np.concatenate((domain, domain.mean(axis=0, keepdims=True)))
    magnitude = np.abs(points)
    steps, value, bit = [], 0, 0
    for number, (weight, bias) in enumerate(layers):
        weight, bias = np.asarray(weight, float), np.asarray(bias, float)
        steps.append(AffineStep((value,), value + 1, partial(_apply, weight), bias))
        scale = (magnitude @ np.abs(weight.T) + np.abs(bias)).max(axis=0)
        points = points @ weight.T + bias
        value += 1
        if number == len(layers) - 1:
            break
        n = len(bias)
        at = np.repeat(np.array(breakpoints)[:, None], n, axis=1)
        by = np.repeat(np.array(jumps)[:, None], n, axis=1)
        tolerance = SNAP * np.maximum(scale, np.abs(at))
        steps.append(
            KnotStep(value, value + 1, number, bit, np.full(n, slope), np.zeros(n), at, by, tolerance)
        )
        bends = sum(j * np.maximum(points - b, 0.0) for b, j in zip(breakpoints, jumps, strict=True))
        points = slope * points + bends
        magnitude = np.abs(points)
        bit += -(-at.size // WORD) * WORD
        value += 1
    columns = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    sizes = [2]
    for step in steps:
        sizes.append(len(step.bias) if isinstance(step, AffineStep) else len(step.left_slope))
    return Plan(tuple(steps), columns, np.asarray(domain, float), value, bit // WORD, tuple(sizes))


def lines_plan(lines, domain=BOX) -> Plan:
    """Plan of one layer whose knots are the lines ``a x + b y + c = 0``."""
    lines = np.atleast_2d(np.asarray(lines, float))
    return dense_plan([(lines[:, :2], lines[:, 2]), (np.ones((1, len(lines))), np.zeros(1))], domain)


def random_layers(rng: np.random.Generator, *widths: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Layers with weights and biases of about the size that networks start with."""
    return [(rng.normal(size=(n, m)) / np.sqrt(m), 0.3 * rng.normal(size=n)) for m, n in pairwise(widths)]


def evaluate(layers, points, slope=0.0) -> np.ndarray:
    """The network's outputs at points, layer by layer."""
    for weight, bias in layers[:-1]:
        z = points @ np.asarray(weight, float).T + bias
        points = np.maximum(z, slope * z)
    weight, bias = layers[-1]
    return points @ np.asarray(weight, float).T + bias
