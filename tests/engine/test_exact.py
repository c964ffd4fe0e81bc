"""Exact mode of the engine: every coincidence and every near miss as rational arithmetic has it."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splinecam_lite.engine.complex import check_complex
from splinecam_lite.engine.determinants import (
    UNDECIDED,
    sides_of_crossings,
    triples,
    values_at_crossings,
)
from splinecam_lite.engine.engine import EngineResult, run
from splinecam_lite.engine.lines import exact_line
from splinecam_lite.engine.plan import Tuning
from tests.engine.plans import BOX, dense_plan, random_layers
from tests.engine.rational_forms import exactly
from tests.engine.test_blocks import described, patterns
from tests.exact_networks import mlp
from tests.oracles import ExactPartition

TINY = Tuning(group=3, block_vertices=16, piece_vertices=6)
WIDTHS = (2, 6, 6, 1)


def integer_layers(rng):
    """Small integers: exact concurrencies, duplicates, neurons that are zero on whole regions."""
    return [
        (rng.integers(-1, 2, size=(n, m)).astype(float), rng.integers(-1, 2, size=n).astype(float))
        for m, n in pairwise(WIDTHS)
    ]


def without_bias(rng):
    return [(weight, np.zeros(len(bias))) for weight, bias in random_layers(rng, *WIDTHS)]


def through_a_point(rng):
    """All lines of the first layer through (3/10, 1/5), biases rounded: they miss each other by 1e-17."""
    (weight, _), *rest = random_layers(rng, *WIDTHS)
    return [(weight, -(weight @ np.array([0.3, 0.2]))), *rest]


def nearly_the_same(rng):
    """Neurons that differ from others by 2^-15 to 2^-52 of their size, and a line through where two cross."""
    layers = random_layers(rng, *WIDTHS)
    off = 2.0 ** -rng.integers(15, 53)
    for weight, bias in layers[:2]:
        for first, second in ((0, 1), (2, 3)):
            weight[second] = weight[first] * (1.0 + off * rng.integers(-3, 4, size=weight.shape[1]))
            bias[second] = bias[first] + off * rng.normal()
    weight, bias = layers[0]
    if abs(np.linalg.det(weight[:2])) > 0.0:
        bias[4] = -(weight[4] @ np.linalg.solve(weight[:2], -bias[:2]))
    return layers


KINDS = [integer_layers, without_bias, through_a_point, nearly_the_same]


def borders_of(result: EngineResult) -> dict:
    """Labels of the borders between regions, by their patterns; a border may be several edges."""
    return described(result)[1]


@pytest.mark.parametrize("tuning", [None, TINY], ids=["one block", "blocks"])
@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 2**32 - 1))
def test_regions_and_borders_are_the_true_ones(kind, tuning, seed):
    layers = kind(np.random.default_rng(seed))
    plan = exactly(dense_plan(layers), layers)
    result = run(plan, tuning)
    check_complex(result.complex, plan.domain, result.moved, result.thin)
    exact = ExactPartition(mlp(layers), BOX.tolist())
    first = [64 * layer for layer in range(len(layers) - 1)]

    def as_words(pattern) -> bytes:
        words = [sum(bit << i for i, bit in enumerate(bits)) for bits in pattern]
        return np.array(words, np.uint64).tobytes()

    assert {row.tobytes() for row in patterns(result)} == {as_words(r.pattern) for r in exact.regions}
    truth = {
        frozenset(map(as_words, pair)): tuple(sorted(first[layer] + neuron for layer, neuron in knots))
        for pair, knots in exact.adjacency().items()
    }
    assert borders_of(result) == truth


@given(seed=st.integers(0, 2**32 - 1))
def test_generic_networks_have_the_same_regions_in_both_modes(seed):
    layers = random_layers(np.random.default_rng(seed), 2, 8, 7, 6, 2)
    plan = dense_plan(layers)
    usual, exact = run(plan), run(exactly(plan, layers))
    assert described(usual) == described(exact)
    assert exact.decisions.float64 > 0
    assert not len(exact.snaps)


def test_twenty_lines_that_miss_one_point_by_rounding():
    """Default: they meet. Exact mode: slivers 1e-17 wide, as many as the rational oracle counts."""
    angle = np.pi * np.arange(20) / 20 + 0.05
    weight = np.column_stack((np.cos(angle), np.sin(angle)))
    layers = [(weight, -(weight @ np.array([0.3, 0.2]))), (np.ones((1, 20)), np.zeros(1))]
    plan = dense_plan(layers)
    usual = run(plan)
    assert usual.complex.n_faces == 40
    assert len(usual.snaps)
    exact = run(exactly(plan, layers))
    assert exact.complex.n_faces == ExactPartition(mlp(layers), BOX.tolist()).n_regions > 150
    assert len(exact.thin) == exact.complex.n_faces - 40
    assert exact.decisions.rational + exact.decisions.double_double > 0


def rational_value(p, q, r):
    """Value of line ``r`` where ``p`` and ``q`` cross; None where they do not."""
    x, y, w = (p[i - 2] * q[i - 1] - p[i - 1] * q[i - 2] for i in range(3))
    return (r[0] * x + r[1] * y + r[2] * w) / w if w else None


small = st.integers(-4, 4)
lines = st.tuples(small, small, small).filter(any)


@given(lines, lines, lines, st.integers(0, 100))
def test_values_at_crossings(p, q, r, exponent):
    """Never a wrong sign, whatever is added at 2^-exponent; what is undecided is tiny."""
    tiny = Fraction(1, 2**exponent)
    exact = [[Fraction(c) for c in line] for line in (p, q, r)]
    exact[2] = [c + tiny * d for c, d in zip(exact[2], (3, -5, 7), strict=True)]
    made = [exact_line(tuple(line)) for line in exact]
    arrays = [part[None] for line in made for part in (line.hi, line.lo)]
    sign, value = values_at_crossings(*arrays)
    truth = rational_value(*exact)
    if truth is None:
        assert sign[0] in (UNDECIDED, 0)
        return
    if sign[0] != UNDECIDED:
        assert sign[0] == (truth > 0) - (truth < 0)
        numbers = made[2].integers()
        scale = Fraction(numbers[0] or numbers[1] or numbers[2]) / next(c for c in exact[2] if c)
        size = 2 ** max(map(abs, numbers)).bit_length()
        assert value[0] == pytest.approx(float(truth * scale / size), rel=2.0**-20)
    else:
        assert abs(truth) < Fraction(1, 2**50)


@given(st.lists(lines, min_size=3, max_size=6, unique=True))
def test_tables_of_sides(some):
    made = [exact_line(tuple(map(Fraction, line))) for line in some]
    three, two = triples(np.array([line.hi for line in made]), np.array([line.lo for line in made]))
    for index in np.argwhere(two == UNDECIDED):
        two[tuple(index)] = 0  # parallel: whole numbers leave nothing else undecided
    for i, j, k in np.argwhere(three == UNDECIDED):
        three[i, j, k] = 0
    side = sides_of_crossings(three, two)
    for i, j, k in np.ndindex(side.shape):
        value = (
            None if len({i, j, k}) < 3 else rational_value(*(list(map(Fraction, some[n])) for n in (i, j, k)))
        )
        if value is not None:
            assert side[i, j, k] == (value > 0) - (value < 0)
