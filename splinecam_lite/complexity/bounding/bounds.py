"""Bounds on every preactivation over whole cross-polytopes: forms forwards, substitution backwards.

Layer by layer, each neuron gets the tighter of two bounds: that of its affine form (`forms`), and for
neurons that this leaves on both sides of 0 or of a breakpoint, that of `substitution`. Lines around the
activation (`relaxation`) are laid over what comes out, so that later layers gain as well.

Where no activation bends in the neighbourhood of a point, the forms are exact, and nothing is substituted.
"""

from collections.abc import Iterator
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from splinecam_lite.complexity.bounding.forms import Form, apply_affine, apply_lines
from splinecam_lite.complexity.bounding.relaxation import can_relax, lines_around, steepest
from splinecam_lite.complexity.bounding.substitution import Substitution, Transposes
from splinecam_lite.network.program import AffineOp, KnotsOp, Program, SmoothOp

ROUNDED = 2.0**-30
"""Share of its magnitude up to which the error of a form is rounding, and not worth a substitution."""

BYTES = 2**28
"""Memory for the forms and lines of one batch of points."""


Near = dict[int, tuple[Tensor, Tensor]]
"""By point: neurons (k,), and at which vertices (k, 2P) the affine bounds of each leave both signs possible.

Where both ends of a segment leave one sign only, all of it does: the bounds are affine. Points and neurons
that are missing were not substituted, and no vertex of theirs is ruled out."""


class LayerBounds(NamedTuple):
    """Bounds on the preactivations of one layer in the neighbourhoods of a batch of points, (batch, n)."""

    low: Tensor
    high: Tensor
    scale: Tensor
    """Bound on what the terms of a preactivation come to: the unit of its rounding."""
    affine: bool
    """No activation comes before."""
    known: bool = True
    """False if the network has an operation before the layer that no bound is known of."""
    near: Near | None = None

    def certain(self) -> Tensor:
        """Tell which neurons do not cross, (batch, n) bool: nowhere negative, or nowhere else."""
        return (self.low >= 0.0) | (self.high < 0.0)


def points_at_once(program: Program, directions: int) -> int:
    """Return how many points of a program are bounded at once."""
    sizes = [prod(shape) for shape in program.shapes]
    kept = sum(sizes[op.output] * (1 if isinstance(op, AffineOp) else 12) for op in program.ops)
    most = max((len(op.breakpoints) for op in program.ops if isinstance(op, KnotsOp)), default=0)
    return max(1, BYTES // (8 * (max(sizes) * (4 * directions + 8 * most + 64) + kept)))


def layer_bounds(
    program: Program, points: Tensor, offset: Tensor, transposes: Transposes, *, backwards: bool = True
) -> Iterator[LayerBounds]:
    """Bound the preactivations of a network over the cross-polytopes around points.

    Parameters
    ----------
    program : Program
        Float64, on the CPU; maxima written out (`Program.compared`).
    points : (batch, *input_shape) float64
    offset : (P, *input_shape), or (batch, P, *input_shape)
        The frame times the radius.
    transposes : Transposes
        Of the same program.
    backwards : bool
        False for the forms alone: faster, and wider by far after several layers.

    Yields
    ------
    LayerBounds
        For each of `Program.preactivation_ops`.
    """
    work = Substitution(program, transposes, offset.shape[offset.ndim - points.ndim])
    forms: dict[int, Form | None] = {0: Form.of_input(points, offset)}
    bent: set[int] = set()  # values of activations: a second one in a row has the magnitude of the first
    left = len(program.preactivation_ops)
    for i, op in enumerate(program.ops):
        if not left:
            return
        inputs = [forms[v] for v in op.inputs]
        known = [form for form in inputs if form is not None]
        result: Form | None = None
        whole = len(known) == len(inputs)
        if isinstance(op, AffineOp) and whole:
            result = apply_affine(program, op, known)
            if not result.affine:
                work.magnitudes[op.output] = result.magnitude.flatten(1)
                work.ends |= {v: f for v, f in zip(op.inputs, known, strict=True) if f.affine}
        elif isinstance(op, KnotsOp | SmoothOp) and whole and len(inputs) == 1 and can_relax(op):
            form = known[0]
            if form.affine:
                work.ends[op.inputs[0]] = form
            low, high = form.range()
            near: Near = {}
            if backwards:
                low, high, near = _refined(work, op, form, low, high)
            if op.is_activation:
                left -= 1
                scale = form.magnitude.flatten(1)
                yield LayerBounds(low.flatten(1), high.flatten(1), scale, form.affine, near=near)
            result = _activated(work, op, form, low, high, op.inputs[0] in bent)
            bent.add(op.output)
        elif isinstance(op, KnotsOp | SmoothOp) and op.is_activation:
            left -= 1
            yield _bounded_input(inputs[0], len(points), prod(program.shapes[op.inputs[0]]))
        forms[op.output] = result
        for v in {*op.inputs, op.output}:
            if program.last_use(v) <= i:
                del forms[v]


def _bounded_input(form: Form | None, batch: int, n: int) -> LayerBounds:
    """Return what is known of the input of an activation that is unknown itself."""
    if form is not None:
        low, high = form.range()
        return LayerBounds(low.flatten(1), high.flatten(1), form.magnitude.flatten(1), form.affine)
    infinite = torch.full((batch, n), torch.inf, dtype=torch.float64)
    return LayerBounds(-infinite, infinite, infinite, affine=False, known=False)


def _activated(
    work: Substitution, op: KnotsOp | SmoothOp, form: Form, low: Tensor, high: Tensor, again: bool
) -> Form:
    """Return the form of an activation's result, and take note of its lines."""
    lines = lines_around(op, low, high)
    size = torch.maximum(low.abs(), high.abs())
    work.activate(op.output, size, lines)
    sizes = form.magnitude if again else size
    largest = torch.maximum(lines.low.abs(), lines.high.abs())
    return apply_lines(form, lines, torch.maximum(largest, steepest(op, lines) * sizes))


def _refined(
    work: Substitution, op: KnotsOp | SmoothOp, form: Form, low: Tensor, high: Tensor
) -> tuple[Tensor, Tensor, Near]:
    """Tighten bounds (batch, *shape) by substitution, where that can change what they tell."""
    open_ = (low < 0.0) & (high >= 0.0)
    if isinstance(op, SmoothOp):
        open_ = torch.ones_like(open_)
    else:
        for breakpoint_, jump in zip(op.breakpoints, op.jumps, strict=True):
            open_ |= (low < breakpoint_) & (breakpoint_ < high) & (jump != 0.0)
    loose = form.error > ROUNDED * form.magnitude
    open_ = (open_ & loose).flatten(1)
    new_low, new_high = low.flatten(1).clone(), high.flatten(1).clone()
    near: Near = {}
    for point in open_.any(dim=1).nonzero().flatten().tolist():
        neurons = open_[point].nonzero().flatten()
        both = torch.cat((neurons, neurons))
        signs = torch.ones(len(both), dtype=torch.float64)
        signs[len(neurons) :] = -1.0
        above, below = work.upper(point, op.inputs[0], both, signs).split(len(neurons))
        near[point] = neurons, (above >= 0.0) & (below > 0.0)
        new_high[point, neurons] = torch.fmin(new_high[point, neurons], above.amax(dim=1))
        new_low[point, neurons] = torch.fmax(new_low[point, neurons], -below.amax(dim=1))
    return new_low.reshape(low.shape), new_high.reshape(high.shape), near
