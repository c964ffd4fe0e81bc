"""What the engine is given: a program as plain steps over numbered values.

The engine knows no network and no tensor library. An affine step is a callable that applies a linear map to a
batch of columns; a knot step is six arrays. `splinecam_lite.partition.planning` makes a plan from a
`Program`.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from splinecam_lite.engine.lines import FormsOf


class AffineStep(NamedTuple):
    """``output = linear(*inputs) + bias``."""

    inputs: tuple[int, ...]
    output: int
    linear: Callable[..., np.ndarray]  # ((rows, *shape), ...) -> (rows, *output shape): no bias, rows apart
    bias: np.ndarray | None  # (*output shape)
    multiplications: int = 0  # of one row


class KnotStep(NamedTuple):
    """``output = left_slope z + left_intercept + sum_j jumps[j] max(z - breakpoints[j], 0)``, per neuron.

    Knot ``j`` of neuron ``i`` has bit ``first_bit + j n_neurons + i`` of the pattern; ``first_bit`` is a
    multiple of 64, so that layers start at whole words.
    """

    input: int
    output: int
    layer: int
    first_bit: int
    left_slope: np.ndarray  # (n_neurons,)
    left_intercept: np.ndarray  # (n_neurons,)
    breakpoints: np.ndarray  # (n_breakpoints, n_neurons)
    jumps: np.ndarray  # (n_breakpoints, n_neurons); 0 = no knot
    tolerance: np.ndarray  # (n_breakpoints, n_neurons): SNAP * S_k; below it, 0 or, in exact mode, a question


class Schedule(NamedTuple):
    """What a plan tells of its values beforehand."""

    last_uses: dict[int, int]
    """The last step that reads each value; ``len(steps)`` for the output."""
    row_bytes: list[int]
    """Of each step: what one row of columns takes at most until the next knot step is reached. All values
    that are alive count, and a second copy of an operation's result, for what it allocates inside."""


class Plan(NamedTuple):
    """A piecewise-linear network on a slice."""

    steps: tuple[AffineStep | KnotStep, ...]
    input_columns: np.ndarray  # (3, *input shape): two directions and the origin of the slice
    domain: np.ndarray  # (m, 2): convex polygon, counter-clockwise
    output: int
    n_words: int  # words of a pattern
    sizes: tuple[int, ...]  # entries of each value
    forms_of: FormsOf | None = None  # exact mode: who computes coefficients without rounding
    output_scale: np.ndarray | None = None  # (n_outputs,): what the terms of each output add up to

    def last_uses(self) -> dict[int, int]:
        """Return for each value the last step that reads it; ``len(steps)`` for the output."""
        last: dict[int, int] = {}
        for i, step in enumerate(self.steps):
            for v in step.inputs if isinstance(step, AffineStep) else (step.input,):
                last[v] = i
        last[self.output] = len(self.steps)
        return last

    def schedule(self) -> "Schedule":
        """Return when values die, and what memory a row of columns takes."""
        last, live = self.last_uses(), {0}
        at_step = []
        for i, step in enumerate(self.steps):
            live.add(step.output)
            at_step.append(8 * (sum(self.sizes[v] for v in live) + self.sizes[step.output]))
            live = {v for v in live if last.get(v, -1) > i}
        for i in range(len(self.steps) - 2, -1, -1):
            if isinstance(self.steps[i + 1], AffineStep):
                at_step[i] = max(at_step[i], at_step[i + 1])
        return Schedule(last, at_step)


class Tuning(NamedTuple):
    """How the work is cut up. Results do not depend on it; speed and memory do."""

    group: int = 64
    """Knots cut at once (1 to 64)."""
    block_vertices: int = 3000
    """A block with more vertices is cut into pieces ..."""
    piece_vertices: int = 1000
    """... of about this many."""
    block_bytes: int = 1 << 32
    """A block whose columns, on the way through the next operations, take more is cut as well."""
    waiting_bytes: int = 1 << 32
    """What blocks hold that were cut and wait for their pieces; the rest of them goes to a file."""
    held_bytes: int = 1 << 62
    """What the process may hold beyond what it did at the start, before freed memory is given back."""
    result_bytes: int | None = None
    """What finished blocks may take that are kept in memory, sewing included; None is no limit."""


ENTRY = 20
"""What an activation takes for one entry of one row: bounds and slopes; in multiplications of a product."""

MOVE = 240
"""What cutting takes for one coordinate of one vertex and activation: its values, copies and ranges."""

START = 5_000_000
"""What a block takes for each activation whatever its size."""

KNOTS = 2.3
"""Knots of a block as a multiple of the root of its vertices: nearly straight lines across a round part."""

PIECES = np.geomspace(1000, 12_000, 11)
"""Sizes that are compared. Beyond, blocks are too few for many threads, and memory grows."""


def _costs(plan: Plan, vertices: np.ndarray) -> np.ndarray:
    """Return what a vertex costs, in multiplications, in blocks of so many; see `tuning_for`."""
    seen, row, activations = False, 0, 0
    for step in plan.steps:
        if isinstance(step, KnotStep):
            seen, row, activations = True, row + ENTRY * step.breakpoints.size, activations + 1
        elif seen:  # what comes before has three rows
            row += step.multiplications
    knots = KNOTS * np.sqrt(vertices)
    return (knots * row + activations * START) / vertices + activations * MOVE * knots


def tuning_for(plan: Plan) -> Tuning:
    """Return the block sizes that a model of the costs finds best for a network.

    A block of V vertices has K = 2.3 sqrt(V) knots. It passes K columns through what is left of the network,
    shared by its V vertices, and moves K coordinates of each vertex for each activation: large blocks spare
    passes, small ones spare coordinates. The constants were measured on 2-256x4 and on a convolutional
    network of 54,500 neurons; the minimum is flat. Blocks grow to three times that size and are cut into
    three, folded once where halves of halves would be folded twice.
    """
    best = int(PIECES[_costs(plan, PIECES).argmin()])
    return Tuning(block_vertices=3 * best, piece_vertices=best)
