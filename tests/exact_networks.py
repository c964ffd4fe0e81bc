"""Small networks with exact rational entries: what the oracle partitions.

A network is a list of `Affine`, `Activation` and `Maximum` steps over named values; ``"x"`` is the input and
the last target the output. Every float is taken at its exact value; nothing is rounded.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from typing import NamedTuple

import numpy as np
import torch
from torch import nn


@dataclass(frozen=True, eq=False)
class Rationals:
    """An array of rationals over one denominator: as exact as Fractions, without a gcd at every step."""

    numerators: np.ndarray
    denominator: int

    @classmethod
    def of(cls, values) -> "Rationals":
        """Read an array of ints, floats or Fractions (nested lists, NumPy or torch), without rounding."""
        if isinstance(values, Rationals):
            return values
        array = np.array(values.tolist() if hasattr(values, "tolist") else values, dtype=object)
        exact = [Fraction(value) for value in array.ravel()]
        denominator = lcm(*(value.denominator for value in exact))
        numerators = np.empty(len(exact), dtype=object)
        numerators[:] = [int(value * denominator) for value in exact]
        return cls(numerators.reshape(array.shape), denominator)

    def __add__(self, other: "Rationals") -> "Rationals":
        common = lcm(self.denominator, other.denominator)
        first, second = common // self.denominator, common // other.denominator
        return Rationals(self.numerators * first + other.numerators * second, common)

    @classmethod
    def joined(cls, parts: Sequence["Rationals"]) -> "Rationals":
        """Put arrays one after the other, along the first axis."""
        common = lcm(*(part.denominator for part in parts))
        rows = [part.numerators * (common // part.denominator) for part in parts]
        return cls(np.concatenate(rows), common)

    def __matmul__(self, other: "Rationals") -> "Rationals":
        return Rationals(self.numerators @ other.numerators, self.denominator * other.denominator)

    def __mul__(self, other: "Rationals") -> "Rationals":
        return Rationals(self.numerators * other.numerators, self.denominator * other.denominator)

    def fractions(self) -> list:
        """The same numbers as nested lists of Fractions."""
        exact = np.vectorize(lambda n: Fraction(n, self.denominator), otypes=[object])
        return exact(self.numerators).tolist()


class Affine(NamedTuple):
    """``target = sum of matrix @ source over the terms + bias``; several terms make a residual sum."""

    target: str
    terms: tuple[tuple[str, Rationals], ...]
    bias: Rationals


class Activation(NamedTuple):
    """``target = max(source, 0) + slope * min(source, 0)``; slope 0 is ReLU, -1 the absolute value.

    One slope a neuron. A slope of 1 makes no knot: such a neuron cuts nothing and is off everywhere.
    """

    target: str
    source: str
    slopes: Rationals


class Maximum(NamedTuple):
    """``target[w]`` is the largest of the entries ``windows[w]`` of the sources, flat and one after another.

    Of entries that tie on a whole region the first one wins. With ``sign`` -1 it is the smallest.
    """

    target: str
    sources: tuple[str, ...]
    windows: tuple[tuple[int, ...], ...]
    sign: int = 1


Network = list[Affine | Activation | Maximum]


def affine(target: str, *terms: tuple[str, object], bias=None) -> Affine:
    """``Affine`` from anything `Rationals.of` can read; without a bias it is zero.

    Examples
    --------
    >>> affine("sum", ("a", [[1, 0]]), ("b", [[0.5, 0]])).terms[1][1].fractions()
    [[Fraction(1, 2), Fraction(0, 1)]]
    """
    read = tuple((source, Rationals.of(matrix)) for source, matrix in terms)
    rows = len(read[0][1].numerators)
    return Affine(target, read, Rationals.of([0] * rows if bias is None else bias))


def activation(target: str, source: str, slopes: Sequence) -> Activation:
    """``Activation`` with one left slope for each neuron."""
    return Activation(target, source, Rationals.of(slopes))


def mlp(layers: Iterable[tuple], slope=0) -> Network:
    """Turn ``(matrix, bias)`` pairs into a network: an activation after each but the last.

    ``slope`` is the left slope of every activation.
    """
    network: Network = []
    source, layers = "x", list(layers)
    for number, (matrix, bias) in enumerate(layers):
        network.append(affine(f"z{number}", (source, matrix), bias=bias))
        source = f"z{number}"
        if number < len(layers) - 1:
            network.append(activation(f"a{number}", source, [slope] * len(bias)))
            source = f"a{number}"
    return network


class Abs(nn.Module):
    """The absolute value as a module; torch has none."""

    def forward(self, x):
        return x.abs()


def read_sequential(model: nn.Sequential, source: str = "x") -> Network:
    """Read Linear, ReLU, LeakyReLU, PReLU and `Abs` modules into a network."""
    network: Network = []
    width = 0
    for number, module in enumerate(model):
        target = f"{source}.{number}"
        if isinstance(module, nn.Linear):
            width = module.out_features
            network.append(affine(target, (source, module.weight), bias=module.bias))
        else:
            network.append(activation(target, source, _left_slopes(module, width)))
        source = target
    return network


def _left_slopes(module: nn.Module, width: int) -> list:
    match module:
        case nn.ReLU():
            return [0] * width
        case nn.LeakyReLU():
            return [module.negative_slope] * width
        case nn.PReLU():
            return module.weight.expand(width).tolist()
        case Abs():
            return [-1] * width
    raise TypeError(f"the oracle does not know {type(module).__name__}; add its left slopes")


def unroll(linear: Callable, shape: Sequence[int]) -> torch.Tensor:
    """Dense matrix of a linear map on tensors of ``shape`` (batch first, no bias).

    Exact for convolutions and other maps that only place weights: every entry is one weight plus zeros.

    Examples
    --------
    >>> unroll(lambda x: x.flip(1), (2,)).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    n = int(np.prod(shape))
    with torch.no_grad():
        return linear(torch.eye(n, dtype=torch.float64).reshape(n, *shape)).reshape(n, -1).T


def lift(origin: Sequence, directions: Sequence[Sequence], target: str = "point") -> Affine:
    """Chart of a slice as the first step of a network: ``origin + u * directions[0] + v * directions[1]``."""
    return affine(target, ("x", [list(pair) for pair in zip(*directions, strict=True)]), bias=origin)
