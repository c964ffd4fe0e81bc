"""A program evaluated in rationals, op by op, from dense matrices: slow, and nothing to do with limbs."""

import functools
from fractions import Fraction

import numpy as np
import torch

from splinecam_lite.network import Program
from splinecam_lite.network.program import AffineOp
from tests.exact_networks import Rationals

AVERAGES = ("mean", "avg_pool", "adaptive_avg_pool", "div")


def objects(values: Rationals) -> np.ndarray:
    """An array of Fractions."""
    return np.array(values.fractions(), dtype=object).reshape(values.numerators.shape)


@functools.lru_cache(maxsize=64)
def dense(op: AffineOp, shapes) -> list[Rationals]:
    """Matrix of the linear part of an op for each of its inputs, (outputs, inputs)."""
    total = sum(int(np.prod(shape)) for shape in shapes)
    inputs, start = [], 0
    for shape in shapes:
        n = int(np.prod(shape))
        units = torch.zeros(total, n, dtype=torch.float64)
        units[start : start + n] = torch.eye(n, dtype=torch.float64)
        inputs.append(units.reshape(total, *shape))
        start += n
    with torch.no_grad():
        matrix = op.linear(*inputs).reshape(total, -1).T.numpy()
    if any(name in op.where.target for name in AVERAGES):
        quotients = op.where.target.startswith("aten.div")
        exact = [[rational(entry, quotients, op) for entry in row] for row in matrix.tolist()]
    else:
        exact = matrix
    exact = Rationals.of(exact)
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]
    return [Rationals(part, exact.denominator) for part in np.split(exact.numerators, ends, axis=1)]


def rational(entry: float, quotient: bool, op: AffineOp) -> Fraction:
    """The coefficient that torch rounded to ``entry``: a reciprocal of a float, or a small fraction."""
    if not quotient or entry == 0:
        return Fraction(entry).limit_denominator(10_000)
    constants = list(op.linear.constants.values())
    numbers = [a for a in op.linear.steps[-1].args[1:] if isinstance(a, int | float)]
    divisors = [d for c in constants for d in c.flatten().tolist()] + numbers
    (found,) = {1 / Fraction(d) for d in divisors if 1 / d == entry}
    return found


def evaluate(program: Program, columns, bits):
    """Columns of all layers' preactivations and of the output, as (entries, n) of Fractions.

    ``bits(layer)`` is the (n_breakpoints, n_neurons) pattern of a layer. The last column is the constant's.
    """
    shapes = program.shapes
    flat = np.asarray(columns, dtype=float).reshape(len(columns), -1).T
    values = {0: objects(Rationals.of(flat))}
    layers = []
    for op in program.ops:
        if isinstance(op, AffineOp):
            y = 0
            for v, matrix in zip(op.inputs, dense(op, tuple(shapes[v] for v in op.inputs)), strict=True):
                y = y + objects(matrix @ Rationals.of(values[v]))
            if op.bias is not None:
                bias = torch.broadcast_to(op.bias, shapes[op.output]).reshape(-1).tolist()
                y = y.copy()
                y[:, -1] += np.array([Fraction(b) for b in bias], dtype=object)
        else:
            z = values[op.inputs[0]]
            layers.append(z)
            y = bend(op, shapes[op.output], z, bits(len(layers) - 1))
        values[op.output] = y
    return layers, values[program.output]


def per_neuron(tensor, shape) -> list[float]:
    return torch.broadcast_to(tensor.detach(), shape).reshape(-1).double().tolist()


def bend(op, shape, z, bits):
    """Take the piece of each neuron that its bits say."""
    left, intercept = per_neuron(op.left_slope, shape), per_neuron(op.left_intercept, shape)
    places, jumps = ([per_neuron(t, shape) for t in ts] for ts in (op.breakpoints, op.jumps))
    y = z.copy()
    for i in range(len(left)):
        slopes = [left[i]]
        for jump in jumps:
            slopes.append(slopes[-1] + jump[i])
        piece, shift = 0, Fraction(intercept[i])
        for j in range(len(jumps)):
            if bits[j, i]:
                piece = j + 1
        for j in range(piece):
            shift += (Fraction(slopes[j]) - Fraction(slopes[j + 1])) * Fraction(places[j][i])
        y[i] = z[i] * Fraction(slopes[piece])
        y[i, -1] += shift
    return y
