"""Bounds on preactivations by substitution backwards through the network: CROWN, on a cross-polytope.

An upper bound on ``a · z`` is carried backwards, from the layer of ``z`` to the first values that are affine
in the input: an affine op replaces ``a`` by its transpose applied to ``a``; an activation replaces each
positive coefficient by its upper line and each negative one by its lower line (`relaxation`). There it is
``constant + sum_p t_p g_p`` with ``|t|_1 <= 1``, so at most ``constant + max_p |g_p|``: the norm dual to l1.
Sources: DeepPoly (Singh et al., POPL 2019), CROWN (Zhang et al., NeurIPS 2018, section 3).

Rounding does not multiply from layer to layer here. Coefficients as computed are taken for what they are;
the transpose of an affine op is off by ``gamma_n |W|^T |a|``, which changes the bound by
``gamma_n |a| · (|W| |x|)`` at most, and that is added up: ``|W| |x| + |b|`` over the neighbourhood is the
form's magnitude.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod

import torch
from torch import Tensor

from splinecam_lite.complexity.bounding.forms import SAFETY, SPARE, Form, terms
from splinecam_lite.complexity.bounding.relaxation import UNIT, Lines, gamma
from splinecam_lite.network.program import AffineOp, Program

BYTES = 2**25
"""Memory for the coefficients of one batch of rows at one value; a few such are held."""

DENSE = 2**22
"""Entries of a matrix that is written out; only of ops between vectors, for which it is the op's own."""


class Transposes:
    """The transposes of the affine ops of a program.

    An op is known as a function only. Between vectors its matrix is what it makes of the unit vectors;
    else the transpose is its derivative, which is a transposed convolution for a convolution.
    """

    def __init__(self, program: Program):
        self._program = program
        self._matrices: dict[int, Tensor] = {}

    def __call__(self, op: AffineOp, rows: Tensor) -> Sequence[Tensor]:
        """Apply to coefficients (rows, *shape_out); one result (rows, *shape_in) for each input."""
        matrix = self._matrix(op)
        if matrix is not None:
            return (rows @ matrix,)
        shapes = [self._program.shapes[v] for v in op.inputs]
        with torch.inference_mode(False), torch.enable_grad():
            zeros = [rows.new_zeros(len(rows), *shape).requires_grad_() for shape in shapes]
            return torch.autograd.grad(op.linear(*zeros), zeros, rows.clone())

    def _matrix(self, op: AffineOp) -> Tensor | None:
        """(n_out, n_in), or None if the op is not between two vectors."""
        shapes = [self._program.shapes[v] for v in (*op.inputs, op.output)]
        if len(shapes) != 2 or any(len(s) != 1 for s in shapes) or prod(s[0] for s in shapes) > DENSE:
            return None
        if op.output not in self._matrices:
            units = torch.eye(shapes[0][0], dtype=self._program.dtype)
            self._matrices[op.output] = op.linear(units).T.contiguous()
        return self._matrices[op.output]


@dataclass
class Substitution:
    """What is needed to go backwards through a program, for a batch of neighbourhoods.

    Attributes
    ----------
    program : Program
    transposes : Transposes
    directions : int
        P.
    ends : dict of int to Form
        Values that are affine in the input, where substitution ends.
    magnitudes : dict of int to Tensor
        Of the other results of affine ops, (batch, n).
    lines : dict of int to Lines
        Around activations, by the value that they write; tensors (batch, n).
    weights : dict of int to Tensor
        With them: what ``|a|`` is multiplied by to bound rounding, (batch, n).
    """

    program: Program
    transposes: Transposes
    directions: int
    ends: dict[int, Form] = field(default_factory=dict)
    magnitudes: dict[int, Tensor] = field(default_factory=dict)
    lines: dict[int, Lines] = field(default_factory=dict)
    weights: dict[int, Tensor] = field(default_factory=dict)

    def activate(self, value: int, size: Tensor, lines: Lines) -> None:
        """Take note of an activation that writes ``value``; ``size`` bounds its input, (batch, *shape)."""
        flat = Lines(*(part.flatten(1) for part in lines))
        slope = torch.maximum(flat.lower_slope.abs(), flat.upper_slope.abs())
        shift = torch.maximum(flat.lower_intercept.abs(), flat.upper_intercept.abs())
        self.lines[value] = flat
        n = gamma(size[0].numel() + len(self.program.ops) + SPARE)
        self.weights[value] = n * (slope * size.flatten(1) + shift)

    def upper(self, point: int, value: int, neurons: Tensor, signs: Tensor) -> Tensor:
        """Bound ``signs * z[neurons]`` from above by affine functions, in the neighbourhood of one point.

        Parameters
        ----------
        point : int
        value : int
            ``z``, flattened.
        neurons : (rows,) int64
        signs : (rows,) float64
            1 or -1.

        Returns
        -------
        (rows, 2P) float64
            The functions at the vertices ``x + r v_p``, then ``x - r v_p``, rounded upwards: the largest of a
            row bounds the whole neighbourhood, the larger of two the segment between them.
        """
        widest = max(prod(self.program.shapes[v]) for v in range(value + 1))
        found = []
        for some in torch.arange(len(neurons)).split(max(1, BYTES // (8 * widest))):
            rows = torch.zeros(len(some), prod(self.program.shapes[value]), dtype=torch.float64)
            rows[torch.arange(len(some)), neurons[some]] = signs[some]
            found.append(self._upper(point, value, rows))
        return torch.cat(found)

    def _upper(self, point: int, value: int, rows: Tensor) -> Tensor:
        constant, error = rows.new_zeros(len(rows)), rows.new_zeros(len(rows))
        slopes: Tensor | None = None
        left: dict[int, Tensor] = {value: rows}
        while left:
            v = max(left)
            a = left.pop(v)
            if v in self.ends:
                form = self.ends[v]
                at = form.slope[min(point, len(form.slope) - 1)].flatten(1)
                g = a @ at.T
                slopes = g if slopes is None else slopes + g
                constant += a @ form.centre[point].flatten()
                n = gamma(a.shape[1] + len(self.program.ops) + SPARE)
                error += a.abs() @ (form.error[point] + n * form.size()[point]).flatten()
                continue
            op = self.program.ops[v - 1]
            if isinstance(op, AffineOp):
                shape = self.program.shapes[v]
                if op.bias is not None:
                    constant += a @ op.bias.expand(shape).flatten()
                error += a.abs() @ (gamma(terms(self.program, op)) * self.magnitudes[v][point])
                before = self.transposes(op, a.unflatten(1, shape))
                for source, b in zip(op.inputs, before, strict=True):
                    left[source] = left[source] + b.flatten(1) if source in left else b.flatten(1)
            else:
                lines, (source,) = self.lines[v], op.inputs
                above = a.clamp(min=0.0)
                below = a - above
                constant += above @ lines.upper_intercept[point] + below @ lines.lower_intercept[point]
                error += a.abs() @ self.weights[v][point]
                b = above.mul_(lines.upper_slope[point]).add_(below.mul_(lines.lower_slope[point]))
                left[source] = left[source] + b if source in left else b
        if slopes is None:  # nothing depends on the input
            slopes = rows.new_zeros(len(rows), self.directions)
        slack = SAFETY * error + 8 * UNIT * (constant.abs() + slopes.abs().amax(dim=1) + error)
        return (constant + slack).unsqueeze(1) + torch.cat((slopes, -slopes), dim=1)
