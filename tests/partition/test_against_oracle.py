"""Partitions of random small networks, generic and degenerate, against the rational oracle."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from splinecam_lite import Slice, partition
from splinecam_lite.engine.plan import Tuning
from tests.agreement import assert_agrees, assert_decides, assert_same, slice_of
from tests.exact_networks import Abs, activation, affine, lift, read_sequential, unroll
from tests.oracles import ExactPartition
from tests.strategies import Case, degenerate_cases, generic_cases

BOX = [(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)]
TINY = Tuning(group=2, block_vertices=8, piece_vertices=4)

cases = generic_cases() | degenerate_cases()


def compute(case: Case, **options):
    return partition(case.program(), slice_of(case.domain), **options)


@given(generic_cases())
def test_generic_networks(case):
    assert_agrees(compute(case), case.exact())


@given(degenerate_cases())
def test_degenerate_networks(case):
    assert_agrees(compute(case), case.exact())


@given(cases)
def test_decision_boundaries(case):
    assert_decides(compute(case), case.exact())


@given(cases)
def test_block_and_group_size_change_nothing(case):
    whole, pieces = compute(case), compute(case, _tuning=TINY)
    assert_agrees(pieces, case.exact())
    assert_same(whole, pieces)


@given(cases)
def test_threads_change_no_bit(case):
    one, two = (compute(case, threads=threads, _tuning=TINY) for threads in (1, 2))
    for first, second in zip((*one.complex, one.edge_knots), (*two.complex, two.edge_knots), strict=True):
        np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(one.patterns(), two.patterns())


# ---- relations that need no oracle -------------------------------------------------------------


@given(cases, st.randoms(use_true_random=False))
def test_order_of_neurons_changes_nothing(case, random):
    (matrix, bias), (after, last), *rest = case.layers
    order = list(range(len(bias)))
    random.shuffle(order)
    shuffled = [
        ([matrix[i] for i in order], [bias[i] for i in order]),
        ([[row[i] for i in order] for row in after], last),
        *rest,
    ]
    activations = ["relu"] * len(case.activations)  # slopes of their own would have to move along
    first = compute(Case(case.layers, activations, case.domain))
    second = compute(Case(shuffled, activations, case.domain))
    assert sorted_areas(first) == pytest.approx(sorted_areas(second), abs=1e-9)


@given(cases)
def test_scaling_a_neuron_and_undoing_it_changes_nothing(case):
    (matrix, bias), (after, last), *rest = case.layers
    matrix = [[2 * w for w in matrix[0]], *matrix[1:]]
    after = [[row[0] / 2, *row[1:]] for row in after]
    scaled = [(matrix, [2 * bias[0], *bias[1:]]), (after, last), *rest]
    assert_same(compute(case), compute(Case(scaled, case.activations, case.domain)))


@given(cases)
def test_a_second_relu_changes_nothing(case):
    depth = len(case.activations)
    once = compute(Case(case.layers, ["relu"] * depth, case.domain))
    twice = compute(Case(case.layers, ["relu twice"] * depth, case.domain))
    assert twice.n_regions == once.n_regions
    assert sorted_areas(once) == pytest.approx(sorted_areas(twice), abs=1e-9)


def sorted_areas(part):
    return sorted(part.areas().tolist())


# ---- other graphs and slices -------------------------------------------------------------------


class Residual(nn.Module):
    """Two blocks ``x + W2 relu(W1 x)`` between linear maps, their results concatenated."""

    def __init__(self, width=6):
        super().__init__()
        self.first = nn.Linear(2, width, dtype=torch.float64)
        self.inner = nn.ModuleList(nn.Linear(width, width, dtype=torch.float64) for _ in range(4))
        self.last = nn.Linear(2 * width, 3, dtype=torch.float64)

    def forward(self, x):
        a = self.first(x)
        b = a + self.inner[1](torch.relu(self.inner[0](a)))
        c = b + self.inner[3](torch.relu(self.inner[2](b)))
        return self.last(torch.cat([b, c], dim=1))

    def exact(self):
        eye = np.eye(self.first.out_features)
        w, v = self.last.weight.tensor_split(2, dim=1)
        inner = self.inner
        return [
            affine("a", ("x", self.first.weight), bias=self.first.bias),
            affine("z0", ("a", inner[0].weight), bias=inner[0].bias),
            activation("h0", "z0", [0] * len(eye)),
            affine("b", ("a", eye), ("h0", inner[1].weight), bias=inner[1].bias),
            affine("z1", ("b", inner[2].weight), bias=inner[2].bias),
            activation("h1", "z1", [0] * len(eye)),
            affine("c", ("b", eye), ("h1", inner[3].weight), bias=inner[3].bias),
            affine("y", ("b", w), ("c", v), bias=self.last.bias),
        ]


@pytest.mark.parametrize("integer_weights", [False, True])
def test_residual_sums_and_concatenation(integer_weights):
    model = Residual().eval()
    if integer_weights:
        round_weights(model, 4)
    exact = ExactPartition(model.exact(), BOX)
    for options in ({}, {"_tuning": TINY}):
        assert_agrees(partition(model, slice_of(BOX), **options), exact)


@pytest.mark.parametrize("integer_weights", [False, True])
def test_convolution_and_pooling_on_a_slice(integer_weights):
    conv = nn.Conv2d(1, 2, 3, padding=1, dtype=torch.float64)
    head = nn.Linear(8, 2, dtype=torch.float64)
    model = nn.Sequential(conv, nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), head, Abs()).eval()
    if integer_weights:
        round_weights(model, 3)
    rng = np.random.default_rng(0)
    origin, axes = rng.integers(-4, 5, 16) / 4, np.eye(16)[[3, 6]]
    plane = Slice(origin=origin, directions=axes, domain=np.array(BOX), input_shape=(1, 4, 4))
    stencil = nn.Conv2d(1, 2, 3, padding=1, bias=False, dtype=torch.float64)
    stencil.weight = conv.weight
    exact = [
        lift(origin, axes),
        affine("z", ("point", unroll(stencil, (1, 4, 4))), bias=conv.bias.repeat_interleave(16)),
        activation("a", "z", [0] * 32),
        affine("pooled", ("a", unroll(nn.AvgPool2d(2), (2, 4, 4)))),
        *read_sequential(nn.Sequential(head, Abs()), "pooled"),
    ]
    assert_agrees(partition(model, plane), ExactPartition(exact, BOX))


def round_weights(model, unit):
    """Make every parameter a multiple of ``1 / unit``."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_((parameter * unit).round() / unit)
