"""Resizing by interpolation, written out as a product with a constant matrix along one axis after the other.

torch's kernels round in ways of their own, so that what they compute is a linear map only up to rounding.
Bilinear, trilinear and bicubic interpolation, antialiased or not, are separable: the weight of an entry is a
product of weights along the axes. The matrix of an axis is what torch's own operator makes of the unit
vectors along it, in float64, while the other axes keep two entries; from then on it defines the network.

    y[o_1, .., o_k] = sum M_1[o_1, i_1] .. M_k[o_k, i_k] x[i_1, .., i_k]
"""

from typing import Any

import torch
from torch import Tensor

from splinecam_lite.network.chain import BatchAxis, Chain, Constant, Input, Step, operation
from splinecam_lite.network.nodes import Bound

AXES = {
    "upsample_linear1d": 1,
    "upsample_bilinear2d": 2,
    "upsample_trilinear3d": 3,
    "upsample_bicubic2d": 2,
    "_upsample_bilinear2d_aa": 2,
    "_upsample_bicubic2d_aa": 2,
}
"""Operator -> number of axes, the last ones, that it resizes. Nearest neighbours only place entries."""

LETTERS = "abcdefgh"


def matrices(bound: Bound) -> dict[int, Tensor]:
    """Return the matrix (entries out, entries in) of each axis of a node that is changed, float64.

    Parameters
    ----------
    bound : Bound
        Of an operator in `AXES`.

    Returns
    -------
    dict
        From axis of the graph's tensor, counted from 0; empty if the node returns its input.
    """
    before = tuple(bound.arguments[_resized(bound)].meta["val"].shape)
    after = tuple(bound.node.meta["val"].shape)
    n_axes, rank = AXES[bound.operator], len(before)
    found = {}
    for number in range(n_axes):
        axis = rank - n_axes + number
        matrix = _along(bound, number, n_axes, int(before[axis]), int(after[axis]))
        if matrix.shape[0] != matrix.shape[1] or not torch.equal(matrix, torch.eye(len(matrix))):
            found[axis] = matrix
    return found


def _resized(bound: Bound) -> str:
    """Name of the argument that is resized: torch's overloads disagree."""
    return "input" if "input" in bound.arguments else "self"


def _along(bound: Bound, number: int, n_axes: int, n_in: int, n_out: int) -> Tensor:
    """Matrix of one axis: torch's operator on unit vectors along it, which are the same along other axes.

    Those keep their two entries, with weights 1 and 0. With one, antialiased kernels of torch 2.13 err.
    """
    shape = [1] * n_axes
    shape[number] = n_in
    units = torch.eye(n_in, dtype=torch.float64).reshape(n_in, 1, *shape)
    arguments = dict(bound.portable)
    arguments[_resized(bound)] = units.expand(
        n_in, 1, *(n_in if i == number else 2 for i in range(n_axes))
    ).contiguous()
    for name, given in arguments.items():
        if name == "output_size" and given is not None:
            arguments[name] = [n_out if i == number else 2 for i in range(n_axes)]
        elif name == "scale_factors" and given is not None:
            arguments[name] = [float(s) if i == number else 1.0 for i, s in enumerate(given)]
        elif name in SCALES[n_axes] and SCALES[n_axes].index(name) != number:
            arguments[name] = None
    args, kwargs = bound.call(arguments)
    resized = operation(bound.target)(*args, **kwargs)[:, 0].movedim(number + 1, 1)
    return resized.reshape(n_in, n_out, -1)[..., 0].T.contiguous()


SCALES = {1: ("scales",), 2: ("scales_h", "scales_w"), 3: ("scales_d", "scales_h", "scales_w")}
"""Names of the scale factors of each axis, in the operators that have one argument for each."""


def product(matrix: Tensor, axis: int, rank: int, batch: BatchAxis) -> dict[str, Any]:
    """Return the parts of an ``AffineOp`` that multiplies along an axis of a tensor of ``rank`` axes.

    Parameters
    ----------
    matrix : (out, in) float64 Tensor
    axis, rank : int
        Of the graph's tensor.
    batch : BatchAxis
        Where the samples lie in it, before and after.
    """
    letters = LETTERS[:rank]
    out = letters.replace(letters[axis], "z")
    equation = f"{letters},z{letters[axis]}->{out}"

    def chain(factor: Tensor) -> Chain:
        step = Step("aten.einsum.default", (equation, (Input(0), Constant("matrix"))))
        return Chain((step,), {"matrix": factor}, {}, (batch,), batch)

    return {"linear": chain(matrix), "bias": None, "magnitude": chain(matrix.abs())}
