"""Batch norm and input normalisation as one scale and one shift, each rounded to float64 once."""

from decimal import Context, Decimal

import torch
from torch import Tensor

DIGITS = Context(prec=60)
"""Exact for products of two float64 (34 digits) and far beyond float64 for quotients and roots."""


def fold(
    weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, eps: float | None = None
) -> tuple[Tensor, Tensor]:
    """Scale and shift of ``weight * (x - mean) / deviation + bias``.

    Parameters
    ----------
    weight, bias, mean, variance : Tensor
        Broadcastable to each other.
    eps : float or None
        The deviation is ``sqrt(variance + eps)``; with None, ``variance`` is the deviation itself.

    Returns
    -------
    scale, shift : float64 Tensors of the common shape
        Rounded once, from decimals of 60 digits, and so the same on every platform.

    Examples
    --------
    >>> one = torch.ones(1)
    >>> fold(one, one, 3 * one, 4 * one, 0.0)
    (tensor([0.5000], dtype=torch.float64), tensor([-0.5000], dtype=torch.float64))
    """
    parts = torch.broadcast_tensors(weight, bias, mean, variance)
    scales, shifts = [], []
    for w, b, m, v in zip(*(p.double().flatten().tolist() for p in parts), strict=True):
        deviation = Decimal(v) if eps is None else DIGITS.sqrt(DIGITS.add(Decimal(v), Decimal(eps)))
        scale = DIGITS.divide(Decimal(w), deviation)
        scales.append(float(scale))
        shifts.append(float(DIGITS.subtract(Decimal(b), DIGITS.multiply(Decimal(m), scale))))
    scale, shift = torch.tensor([scales, shifts], dtype=torch.float64)
    return scale.reshape(parts[0].shape), shift.reshape(parts[0].shape)
