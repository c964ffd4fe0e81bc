"""The exact pieces of a network on a segment, in rational arithmetic: slow, short, and obviously right.

Notation::

    form   (a, b)   rationals: the affine function a t + b

An interval is cut by one neuron after the other, where its form is zero strictly inside. Tie rules as in
`tests.oracles`: a neuron is on in a piece where its preactivation is positive inside; one that is zero on a
whole piece is off.
"""

from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from tests.exact_networks import Affine, Network, Rationals, affine

Pattern = tuple[tuple[bool, ...], ...]


class Piece(NamedTuple):
    """An interval on which the network has one activation pattern, and its values as forms."""

    low: Fraction
    high: Fraction
    pattern: Pattern
    values: dict[str, Rationals]


def exact_pieces(network: Network, start, end) -> list[Piece]:
    """Cut the segment from ``start`` to ``end`` (floats, taken as they are) at all knots, in order.

    The network reads the input as ``"point"``.
    """
    direction = [[Fraction(b) - Fraction(a)] for a, b in zip(start, end, strict=True)]
    lift = affine("point", ("x", direction), bias=[Fraction(a) for a in start])
    pieces = [Piece(Fraction(0), Fraction(1), (), {"x": Rationals.of([[1, 0]])})]
    for op in [lift, *network]:
        pieces = [part for piece in pieces for part in _step(op, piece)]
    return pieces


def slopes_and_intercepts(network: Network, piece: Piece) -> list[list[Fraction]]:
    """Rows (slope, intercept) of the outputs on a piece."""
    return piece.values[network[-1].target].fractions()


def n_linear_pieces(network: Network, pieces: list[Piece]) -> int:
    """Number of pieces after merging neighbours with one output map."""
    maps = [slopes_and_intercepts(network, piece) for piece in pieces]
    return 1 + sum(one != other for one, other in pairwise(maps))


def _step(op, piece: Piece) -> list[Piece]:
    if isinstance(op, Affine):
        constant = np.array([[0, n] for n in op.bias.numerators], dtype=object)
        total = Rationals(constant, op.bias.denominator)
        for source, matrix in op.terms:
            total = total + matrix @ piece.values[source]
        return [piece._replace(values={**piece.values, op.target: total})]
    z = piece.values[op.source]
    one = op.slopes.denominator
    parts: list[tuple[Fraction, Fraction, tuple[bool, ...]]] = [(piece.low, piece.high, ())]
    for (a, b), slope in zip(z.numerators, op.slopes.numerators, strict=True):
        bends = slope != one
        parts = [
            (low, high, (*bits, on))
            for start, stop, bits in parts
            for low, high, on in (_cut(start, stop, a, b) if bends else [(start, stop, False)])
        ]
    found = []
    for low, high, bits in parts:
        gains = [[one if on else slope] for on, slope in zip(bits, op.slopes.numerators, strict=True)]
        values = {**piece.values, op.target: Rationals(np.array(gains, dtype=object), one) * z}
        found.append(Piece(low, high, (*piece.pattern, bits), values))
    return found


def _cut(low: Fraction, high: Fraction, a: int, b: int) -> list[tuple[Fraction, Fraction, bool]]:
    """One or two parts of an interval, each with whether ``a t + b`` is positive inside it."""
    if a != 0 and low < Fraction(-b, a) < high:
        zero = Fraction(-b, a)
        return [(low, zero, a < 0), (zero, high, a > 0)]
    return [(low, high, a * (low + high) / 2 + b > 0)]
