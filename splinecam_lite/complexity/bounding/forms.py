"""Values of a network over a whole cross-polytope as affine forms: the forward half of the bounds.

Over the neighbourhood ``x + sum_p t_p r v_p`` with ``|t|_1 <= 1`` a value is

    centre + sum_p t_p slope_p + something of size at most ``error``,

which ranges over ``centre ± (max_p |slope_p| + error)``: the largest and not the sum, since ``t`` lies in a
cross-polytope and not in its box. An affine op maps the three parts each by itself; an activation adds the
width of its band (`relaxation`) to the error. The errors of a value are kept as a box, so what they have in
common is lost from layer to layer: `substitution` makes up for that.

Rounding is part of ``error``. Model: an entry of an affine op is a sum of ``n`` products or fewer, computed
in float64 in any order, where n is the number of entries that it reads, and nothing under- or overflows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from splinecam_lite.complexity.bounding.relaxation import UNIT, Lines, gamma
from splinecam_lite.network.program import AffineOp, Program

SAFETY = 1.0 + 2.0**-20
"""Bounds on errors are sums of positive numbers that are rounded themselves."""

SPARE = 32
"""Roundings beside the long sums: a bias, a slope, a difference, each counted generously."""


@dataclass(frozen=True)
class Form:
    """A value over the neighbourhoods of a batch of points.

    Attributes
    ----------
    centre, error : (batch, *shape)
    slope : (batch or 1, P, *shape)
        One for all points while it does not depend on the point.
    magnitude : (batch, *shape)
        Bound on what its terms come to if none cancels, as in `network.magnitudes`, anywhere in the
        neighbourhood.
    straight : (batch,) bool
        The network is affine up to here in the whole neighbourhood: ``error`` is rounding.
    affine : bool
        No activation comes before.
    """

    centre: Tensor
    slope: Tensor
    error: Tensor
    magnitude: Tensor
    straight: Tensor
    affine: bool

    @staticmethod
    def of_input(points: Tensor, offset: Tensor) -> "Form":
        """Return the form of the input.

        Parameters
        ----------
        points : (batch, *input_shape)
        offset : (P, *input_shape), or (batch, P, *input_shape)
            The frame times the radius.
        """
        slope = offset.unsqueeze(0) if offset.ndim == points.ndim else offset
        size = points.abs() + slope.abs().amax(dim=1)
        straight = torch.ones(len(points), dtype=torch.bool)
        return Form(points, slope, torch.zeros_like(points), size, straight, affine=True)

    def size(self) -> Tensor:
        """Bound on the centre and the reach of the slopes together, (batch, *shape)."""
        return self.centre.abs() + self.slope.abs().amax(dim=1)

    def range(self) -> tuple[Tensor, Tensor]:
        """Bounds on the value over each neighbourhood, (batch, *shape), rounded outwards."""
        reach = self.slope.abs().amax(dim=1) + self.error
        reach = reach + 4 * UNIT * (reach + self.centre.abs())
        return self.centre - reach, self.centre + reach


def terms(program: Program, op: AffineOp) -> int:
    """Return how many terms an entry of the result, or of the transpose, has at most."""
    read = sum(prod(program.shapes[v]) for v in op.inputs)
    return read + prod(program.shapes[op.output]) + len(program.ops) + SPARE


def apply_affine(program: Program, op: AffineOp, inputs: Sequence[Form]) -> Form:
    """Return the form of an affine op's result."""
    n = max(len(form.slope) for form in inputs)
    slopes = [form.slope.expand(n, *form.slope.shape[1:]) for form in inputs]
    slope = op.linear(*(s.flatten(0, 1) for s in slopes)).unflatten(0, slopes[0].shape[:2])
    rounding = gamma(terms(program, op))
    error = op.magnitude(*(form.error + rounding * form.size() for form in inputs))
    magnitude = op.magnitude(*(form.magnitude for form in inputs))
    if op.bias is not None:
        error, magnitude = error + rounding * op.bias.abs(), magnitude + op.bias.abs()
    straight = torch.stack([form.straight for form in inputs]).all(dim=0)
    return Form(
        op.run(*(form.centre for form in inputs)),
        slope,
        SAFETY * error,
        magnitude,
        straight,
        all(form.affine for form in inputs),
    )


def apply_lines(form: Form, lines: Lines, magnitude: Tensor) -> Form:
    """Return the form of an activation's result, from lines around it."""
    width = 0.5 * (lines.band_high - lines.band_low)
    shift = 0.5 * (lines.band_high + lines.band_low)
    slope = lines.band_slope
    rounding = 8 * UNIT * (slope.abs() * (form.size() + form.error) + shift.abs() + width)
    return Form(
        slope * form.centre + shift,
        slope.unsqueeze(1) * form.slope,
        SAFETY * (slope.abs() * form.error + width + rounding),
        magnitude,
        form.straight & ~lines.bent.flatten(1).any(dim=1),
        affine=False,
    )
