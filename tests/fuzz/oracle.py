"""The rational truth about any program: dense matrices in rationals, every polygon cut on its own.

The engine's patterns have a bit for each breakpoint of each neuron. The oracle knows activations with one
bend only, so an activation with several is written as a sum of ReLUs, one oracle layer for each breakpoint. A
pattern is then a tuple of rows of bits, in order of layers and breakpoints, on both sides.
"""

from fractions import Fraction
from math import prod

import numpy as np

from splinecam_lite import Partition, Program
from splinecam_lite.network.program import AffineOp
from tests.exact_networks import Network, Rationals, activation, affine, lift
from tests.network.rational_programs import dense, per_neuron
from tests.oracles import ExactPartition, Pattern


def network_of(program: Program, plane) -> Network:
    """The program on a slice, as the oracle reads it; the input is (u, v)."""
    network: Network = [lift(plane.origin.tolist(), plane.directions.tolist(), target="0")]
    for op in program.ops:
        target, shape = str(op.output), program.shapes[op.output]
        if isinstance(op, AffineOp):
            matrices = dense(op, tuple(program.shapes[v] for v in op.inputs))
            terms = [(str(v), matrix) for v, matrix in zip(op.inputs, matrices, strict=True)]
            bias = None if op.bias is None else per_neuron(op.bias, shape)
            network.append(affine(target, *terms, bias=bias))
        else:
            network += _bends(op, target, prod(shape), shape)
    return network


def _bends(op, target: str, n: int, shape) -> Network:
    """``intercept + left slope * z + sum of (change of slope) * max(z - breakpoint, 0)``."""
    source, steps, terms = str(op.inputs[0]), [], []
    slope = per_neuron(op.left_slope, shape)
    terms.append((source, _diagonal([Fraction(s) for s in slope])))
    for number, (places, jumps) in enumerate(zip(op.breakpoints, op.jumps, strict=True)):
        places, jumps = per_neuron(places, shape), per_neuron(jumps, shape)
        above, kink = f"{target}.{number}", f"{target}.{number}.relu"
        # A jump of 0 is no knot: a bend of slope 1 cuts nothing.
        steps.append(
            affine(above, (source, _diagonal([Fraction(1)] * n)), bias=[-Fraction(p) for p in places])
        )
        steps.append(activation(kink, above, [0 if jump else 1 for jump in jumps]))
        # Slopes are the float64 sums, so a change of slope is the difference of two of them.
        after = [s + jump for s, jump in zip(slope, jumps, strict=True)]
        change = [Fraction(t) - Fraction(s) if jump else Fraction(0)
                  for s, t, jump in zip(slope, after, jumps, strict=True)]  # fmt: skip
        terms.append((kink, _diagonal(change)))
        slope = after
    intercept = [Fraction(c) for c in per_neuron(op.left_intercept, shape)]
    return [*steps, affine(target, *terms, bias=intercept)]


def _diagonal(entries: list[Fraction]) -> Rationals:
    matrix = np.full((len(entries), len(entries)), Fraction(0), dtype=object)
    np.fill_diagonal(matrix, entries)
    return Rationals.of(matrix)


def truth(program: Program, plane) -> ExactPartition:
    """The true partition of a program on a slice."""
    return ExactPartition(network_of(program, plane), plane.domain.tolist())


def patterns_of(part: Partition) -> list[Pattern]:
    """Pattern of each region, as the oracle writes it."""
    rows = []
    for layer in range(len(part.layers)):
        bits = part.pattern_bits(layer)
        rows += [list(map(tuple, bits[:, j].tolist())) for j in range(bits.shape[1])]
    return list(zip(*rows, strict=True)) if rows else [()] * part.n_regions
