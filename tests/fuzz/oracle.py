"""The rational truth about any program: dense matrices in rationals, every polygon cut on its own.

The engine's patterns have a bit for each breakpoint of each neuron. The oracle knows activations with one
bend only, so an activation with several is written as a sum of ReLUs, one oracle layer for each breakpoint. A
pattern is then a tuple of rows of bits, in order of layers and breakpoints, on both sides.

Of a maximum a pattern has one row: the winner of each window. The oracle learns the windows by asking torch
which entries each result depends on; and the engine's bits are turned into winners by sending the numbers of
the entries through the tournament.
"""

from fractions import Fraction
from math import prod

import numpy as np
import torch

from splinecam_lite import Partition, Program
from splinecam_lite.network.program import AffineOp, KnotsOp, MaxOp
from tests.exact_networks import Maximum, Network, Rationals, activation, affine, lift
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
        elif isinstance(op, MaxOp):
            sources = tuple(str(v) for v in op.inputs)
            windows = windows_of(op, [program.shapes[v] for v in op.inputs])
            network.append(Maximum(target, sources, windows, -1 if op.is_minimum else 1))
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
    """Pattern of each region, as the oracle writes it; of a network with maxima, it needs its program."""
    rows = []
    for layers in rows_of(part):
        if part.layers[layers[0]].kind == "max":
            rows.append(list(map(tuple, winners(part, layers).tolist())))
            continue
        bits = part.pattern_bits(layers[0])
        rows += [list(map(tuple, bits[:, j].tolist())) for j in range(bits.shape[1])]
    return list(zip(*rows, strict=True)) if rows else [()] * part.n_regions


def rows_of(part: Partition) -> list[list[int]]:
    """Return the layers of the partition in the oracle's order: all rounds of one maximum together."""
    if part.program is None or part.staged is None:
        return [[layer] for layer in range(len(part.layers))]
    groups: dict[int, list[int]] = {}
    for layer, op in enumerate(part.program.compared().pattern_ops):
        assert isinstance(op, KnotsOp)
        own = -1 - layer if op.comparison is None else op.comparison.max_number
        groups.setdefault(own, []).append(layer)
    return list(groups.values())


def windows_of(op: MaxOp, shapes: list[tuple[int, ...]]) -> tuple[tuple[int, ...], ...]:
    """Return the entries that each result of a maximum depends on, in order of their numbers."""
    sizes = [prod(shape) for shape in shapes]
    raised = torch.eye(sum(sizes), dtype=torch.float64) * (-1 if op.is_minimum else 1)
    inputs = [x.reshape(-1, *shape) for x, shape in zip(raised.split(sizes, dim=1), shapes, strict=True)]
    seen = (op.run(*inputs) != 0).flatten(1).T
    return tuple(tuple(row.nonzero().flatten().tolist()) for row in seen)


def winners(part: Partition, rounds: list[int]) -> np.ndarray:
    """Return which entry wins each window of a maximum in each region, (n_regions, n_windows).

    ``rounds`` are the layers of its rounds. Entries are numbered as in `Maximum`. Every comparison passes on
    what its bit says, whatever it is given: so given the numbers of the entries it passes on the winner's.
    """
    assert part.program is not None
    program = part.program.compared()
    hinges = [program.pattern_ops[layer] for layer in rounds]
    bits = {op.output: torch.from_numpy(part.pattern_bits(layer)[:, 0]).double()
            for op, layer in zip(hinges, rounds, strict=True)}  # fmt: skip
    own = [op for op in program.ops if op.where is hinges[0].where]
    inputs = own[0].inputs
    n, start, value = part.n_regions, 0, {}
    for v in inputs:
        size = prod(program.shapes[v])
        value[v] = torch.arange(start, start + size, dtype=torch.float64).expand(n, -1)
        value[v] = value[v].reshape(n, *program.shapes[v])
        start += size
    for op in own:
        if op.output in bits:
            (z,) = (value[v] for v in op.inputs)
            value[op.output] = bits[op.output].reshape(z.shape) * z
        else:
            value[op.output] = op.run(*(value[v] for v in op.inputs))
    return value[own[-1].output].reshape(n, -1).numpy().round().astype(int)
