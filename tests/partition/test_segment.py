"""Pieces of segments: against the rational oracle, against the partition of a plane, and what must add up."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from splinecam_lite import Program, Segment, partition
from splinecam_lite.errors import ModelError, NotPiecewiseLinear, SliceError
from splinecam_lite.partition.segments import along, pieces, walk
from splinecam_lite.partition.segments.partition import partition_segment
from splinecam_lite.partition.segments.result import SegmentPartition
from tests.agreement import slice_of
from tests.exact_networks import read_sequential
from tests.network.architectures import networks
from tests.partition.networks import cases, mlp
from tests.segment_oracle import Piece, exact_pieces, n_linear_pieces, slopes_and_intercepts

ENDS = st.tuples(*[st.integers(-8, 8).map(lambda n: n / 4)] * 4).filter(lambda e: e[:2] != e[2:])
"""Two points of the plane with coordinates that are multiples of 1/4."""


def segment_of(ends) -> Segment:
    return Segment.between(ends[:2], ends[2:])


def oracle_of(model, segment: Segment) -> tuple[list, list[Piece]]:
    network = read_sequential(model, "point")
    return network, exact_pieces(network, segment.start.tolist(), segment.end.tolist())


def patterns_of(part: SegmentPartition) -> list:
    layers = [map(tuple, part.pattern_bits(i)[:, 0].tolist()) for i in range(len(part.layers))]
    return list(zip(*layers, strict=True))


def assert_agrees(part: SegmentPartition, model) -> None:
    """Same pieces, patterns, places, maps and knots as the oracle's."""
    network, truth = oracle_of(model, part.segment)
    assert part.n_pieces == len(truth)
    assert patterns_of(part) == [piece.pattern for piece in truth]
    places = np.array([float(piece.low) for piece in truth] + [1.0])
    np.testing.assert_allclose(part.t, places, rtol=0, atol=1e-12)
    widths = [float(piece.high - piece.low) for piece in truth]
    exact = part.report.decisions is not None
    np.testing.assert_allclose(part.widths, widths, rtol=1e-12 if exact else 1, atol=0 if exact else 1e-12)
    maps = np.array([slopes_and_intercepts(network, piece) for piece in truth], dtype=float)
    size = np.abs(maps).max(initial=1e-300)
    np.testing.assert_allclose(np.dstack(part.affine_maps()), maps, rtol=0, atol=1e-11 * size)
    knots = part.knots()
    for at, (left, right) in enumerate(pairwise(truth), 1):
        rows = knots.breaks == at
        found = set(zip(knots.layers[rows].tolist(), knots.neurons[rows].tolist(), strict=True))
        assert found == {
            (layer, neuron)
            for layer, bits in enumerate(left.pattern)
            for neuron, bit in enumerate(bits)
            if bit != right.pattern[layer][neuron]
        }
    assert part.crossings().sum() == len(knots.t)
    assert part.n_linear_pieces == n_linear_pieces(network, truth)


@given(cases, ENDS)
def test_pieces_are_the_oracles(case, ends):
    assert_agrees(partition_segment(case.program(), segment_of(ends)), case.model())


@given(cases, ENDS)
def test_pieces_are_the_oracles_in_the_exact_mode(case, ends):
    assert_agrees(partition_segment(case.program(), segment_of(ends), exact=True), case.model())


@settings(max_examples=20)
@given(cases, ENDS)
def test_pieces_are_those_of_the_plane(case, ends):
    segment = segment_of(ends)
    corners = np.array([ends[:2], ends[2:]])
    low, high = corners.min(axis=0) - 1, corners.max(axis=0) + 1
    box = [(low[0], low[1]), (high[0], low[1]), (high[0], high[1]), (low[0], high[1])]
    plane = partition(case.program(), slice_of(box), threads=1)
    part = partition_segment(case.program(), segment)
    middles = segment.lift(0.5 * (part.t[1:] + part.t[:-1]))
    distance, normal = np.inf, np.array([ends[3] - ends[1], ends[0] - ends[2]])
    for start, end in plane.complex.xy[plane.complex.edge_vertices]:  # the segment may run along an edge
        distance = min(distance, np.abs((np.array([start, end]) - ends[:2]) @ normal).max())
    if distance > 1e-9:
        np.testing.assert_array_equal(part.patterns, plane.patterns(plane.locate(middles)))


# ---- what floats cannot tell --------------------------------------------------------------------


def lines_through(place, n: int, second: int = 0) -> nn.Sequential:
    """A first layer whose knots all pass through one place but for rounding, and perhaps a second layer."""
    angles = 0.1 + np.pi * np.arange(n) / n
    normals = np.stack((np.cos(angles), np.sin(angles)), axis=1)
    model = mlp(2, n, *[second] * bool(second), 1)
    model[0].weight.data = torch.from_numpy(normals)
    model[0].bias.data = torch.from_numpy(-(normals @ place))
    return model


@pytest.mark.parametrize("second", [0, 6])
@pytest.mark.parametrize("n", [1, 2, 5, 20])
def test_exact_mode_tells_knots_apart_that_miss_each_other_by_rounding(n, second):
    model = lines_through((0.3, 0.2), n, second)
    part = partition_segment(
        Program.from_module(model, (2,)), Segment.through([0.0, 0.0], [0.6, 0.4]), exact=True
    )
    assert_agrees(part, model)
    assert part.n_pieces > n
    assert (part.widths > 0).all()


def test_default_mode_takes_them_for_one_and_says_so():
    program = Program.from_module(lines_through((0.3, 0.2), 20), (2,))
    part = partition_segment(program, Segment.through([0.0, 0.0], [0.6, 0.4]))
    assert part.n_pieces == 2
    assert part.crossings().tolist() == [20]
    assert part.report.n_snaps > 0
    assert 0 < part.report.snaps.displacements.max() < 1e-14
    assert part.report.snaps.t == pytest.approx(0.5)


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(4,), (6, 6), (5, 4, 5)]))
def test_decimal_weights_in_the_exact_mode(seed, widths):
    # Multiples of 1/10 are no binary fractions: what is one point on paper is a bundle of slivers.
    rng = np.random.default_rng(seed)
    model = mlp(2, *widths, 2)
    for module in model[::2]:
        module.weight.data = torch.from_numpy(rng.integers(-3, 3, module.weight.shape, endpoint=True) / 10)
        module.bias.data = torch.from_numpy(rng.integers(-3, 3, module.bias.shape, endpoint=True) / 10)
    ends = rng.integers(-9, 9, 4, endpoint=True) / 10
    if (ends[:2] != ends[2:]).any():
        assert_agrees(
            partition_segment(Program.from_module(model, (2,)), segment_of(ends), exact=True), model
        )


@settings(max_examples=15)
@given(cases, ENDS, st.randoms(use_true_random=False))
def test_what_is_guessed_changes_nothing_that_is_proved(case, ends, random):
    program, segment = case.program(), segment_of(ends)
    part = partition_segment(program, segment, exact=True)
    bits = along.knot_bits(program, part.layers)
    guesses = part.patterns[[random.random() < 0.5 for _ in range(part.n_pieces)]]
    for some in (guesses, guesses[:0], guesses[::-1]):
        again = walk.walk(program, segment, bits, np.ascontiguousarray(some))
        np.testing.assert_array_equal(again.patterns, part.patterns)
        np.testing.assert_allclose(again.widths, part.widths, rtol=1e-12, atol=0)


def test_knots_closer_than_float64_places_are_put_in_order_by_the_exact_mode():
    # The first layer is a ramp from 0 to 1 of width 2^-38 at t = 1/2. On it two neurons of the second have
    # their knots: 2^-30 apart in their values, 2^-68 in t.
    model = nn.Sequential(nn.Linear(1, 1), nn.Hardtanh(0.0, 1.0), nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
    model = model.double().eval()
    steep = 2.0**38
    for module, weight, bias in ((0, [steep], [-steep / 2]), (2, [1.0, 1.0], [-0.25, -0.25 - 2.0**-30])):
        model[module].weight.data = torch.tensor(weight, dtype=torch.float64)[:, None]
        model[module].bias.data = torch.tensor(bias, dtype=torch.float64)
    program, segment = Program.from_module(model, (1,)), Segment.between([0.0], [1.0])
    part = partition_segment(program, segment, exact=True)
    assert part.widths.tolist() == [0.5, 2.0**-40, 2.0**-68, 0.75 * 2.0**-38 - 2.0**-68, 0.5 - 2.0**-38]
    knots = part.knots()
    assert knots.layers.tolist() == [0, 1, 1, 0]
    assert knots.neurons.tolist() == [0, 0, 1, 0]
    assert knots.breakpoints.tolist() == [0, 0, 0, 1]


# ---- any architecture ---------------------------------------------------------------------------


@pytest.mark.slow
@settings(max_examples=15)
@given(networks(), st.integers(0, 2**32 - 1))
def test_random_architectures(network, seed):
    module, shape = network
    program = Program.from_module(module, shape)
    rng = np.random.default_rng(seed)
    segment = Segment.between(*rng.normal(size=(2, *shape)))
    part = partition_segment(program, segment)
    proved = partition_segment(program, segment, exact=True)
    np.testing.assert_array_equal(part.patterns, proved.patterns)
    np.testing.assert_allclose(part.t, proved.t, rtol=0, atol=1e-11)
    assert part.n_linear_pieces == proved.n_linear_pieces
    t = np.sort(rng.uniform(size=50))
    slope, intercept = part.affine_maps()
    piece = part.locate(t)
    expected = program.run(segment.lift(t)).reshape(50, -1).numpy()
    found = slope[piece] * t[:, None] + intercept[piece]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * (1 + np.abs(expected).max()))
    values = program.run(segment.lift(part.t), keep=[op.inputs[0] for op in program.preactivation_ops])
    for t, layer, neuron, point, at in zip(*part.knots(), strict=True):
        op = program.preactivation_ops[layer]
        z = values[op.inputs[0]][at].reshape(-1)[neuron]
        breakpoints = torch.broadcast_to(op.breakpoints[point], program.shapes[op.inputs[0]]).reshape(-1)
        assert abs(z - breakpoints[neuron]) < 1e-9 * (1 + abs(z))
        assert t == part.t[at]


@settings(max_examples=15)
@given(cases, ENDS)
def test_a_small_budget_changes_nothing(case, ends):
    whole = partition_segment(case.program(), segment_of(ends))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(along, "BUDGET", 1000)
        patch.setattr(pieces, "AT_ONCE", 1000)
        patch.setattr(walk, "AT_ONCE", 1000)
        parts = partition_segment(case.program(), segment_of(ends))
        np.testing.assert_array_equal(parts.patterns, whole.patterns)
        np.testing.assert_allclose(parts.t, whole.t, rtol=0, atol=1e-13)
        np.testing.assert_allclose(
            parts.outputs, whole.outputs, rtol=1e-12, atol=1e-12 * np.abs(whole.outputs).max()
        )
        total = [parts.integrated_gradients(i) for i in range(parts.n_outputs)]
        proved = partition_segment(case.program(), segment_of(ends), exact=True)
    np.testing.assert_array_equal(proved.patterns, whole.patterns)
    for i, found in enumerate(total):
        np.testing.assert_allclose(found, whole.integrated_gradients(i), rtol=1e-12, atol=1e-12)


@settings(max_examples=15)
@given(cases, ENDS)
def test_the_way_back_has_the_same_pieces(case, ends):
    there, back = (
        partition_segment(case.program(), segment_of(way), exact=True) for way in (ends, ends[2:] + ends[:2])
    )
    np.testing.assert_array_equal(there.patterns, back.patterns[::-1])
    np.testing.assert_allclose(there.t, 1 - back.t[::-1], rtol=0, atol=1e-15)


# ---- integrals ----------------------------------------------------------------------------------


@given(cases, ENDS, st.booleans())
def test_integrated_gradients_sum_to_the_difference_of_the_outputs(case, ends, exact):
    part = partition_segment(case.program(), segment_of(ends), exact=exact)
    program = case.program()
    size = float(np.abs(part.outputs).max())
    ends_of = program.run(part.segment.lift([0.0, 1.0])).numpy()
    for output in range(part.n_outputs):
        total = part.integrated_gradients(output)
        work = np.abs(total).sum() + size
        assert abs(total.sum() - (ends_of[1] - ends_of[0])[output]) <= 1e-13 * work


def test_integrated_gradients_are_the_sum_of_the_gradients_at_the_middles():
    model = (
        nn.Sequential(
            nn.Conv2d(1, 4, 3),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(36, 8),
            nn.Hardtanh(),
            nn.Linear(8, 3),
        )
        .double()
        .eval()
    )
    segment = Segment.between(torch.zeros(1, 8, 8), torch.randn(1, 8, 8))
    part = partition_segment(Program.from_module(model, (1, 8, 8)), segment)
    x = torch.from_numpy(segment.lift(0.5 * (part.t[1:] + part.t[:-1]))).requires_grad_()
    (gradients,) = torch.autograd.grad(model(x)[:, 2].sum(), x)
    expected = np.tensordot(np.diff(part.t), gradients.numpy(), 1) * (segment.end - segment.start).reshape(
        1, 8, 8
    )
    found = part.integrated_gradients(2)
    assert found.shape == (1, 8, 8)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)
    with torch.no_grad():
        ends = model(torch.from_numpy(segment.lift([0.0, 1.0])))[:, 2]
    assert found.sum() == pytest.approx((ends[1] - ends[0]).item(), abs=1e-14)


def test_a_segment_on_a_knot_takes_the_side_on_which_the_neuron_is_off():
    model = mlp(2, 1, 1)
    model[0].weight.data, model[0].bias.data = torch.tensor([[0.0, 1.0]]).double(), torch.zeros(1).double()
    part = partition_segment(Program.from_module(model, (2,)), Segment.between([-1.0, 0.0], [1.0, 0.0]))
    assert part.n_pieces == 1
    assert not part.pattern_bits(0).any()
    assert part.integrated_gradients().tolist() == [0.0, 0.0]


# ---- counts and refusals ------------------------------------------------------------------------


def test_knots_of_neurons_that_nothing_reads_make_no_linear_piece():
    model = mlp(2, 12, 3)
    model[2].weight.data[:, 4:] = 0.0
    part = partition_segment(Program.from_module(model, (2,)), Segment.between([-3.0, -2.0], [2.0, 3.0]))
    read = part.knots().neurons < 4
    assert 0 < read.sum() < len(read)
    assert part.n_pieces == len(read) + 1
    assert part.n_linear_pieces == read.sum() + 1
    assert f"{part.n_linear_pieces} linear pieces" in part.summary()
    assert f"{part.n_linear_pieces} linear pieces" in repr(part)


def test_a_network_without_a_knot_is_one_piece():
    part = partition_segment(
        Program.from_module(nn.Linear(2, 2).eval(), (2,)), Segment.between([0.0, 0.0], [1.0, 1.0]), exact=True
    )
    assert (part.n_pieces, part.n_linear_pieces, len(part.knots().t)) == (1, 1, 0)
    assert part.locate([-0.1, 0.0, 1.0, 1.1]).tolist() == [-1, 0, 0, -1]


def test_refusals():
    program = Program.from_module(mlp(2, 3, 2), (2,))
    segment = Segment.between([0.0, 0.0], [1.0, 1.0])
    with pytest.raises(SliceError, match=r"shape \(3,\), but the network takes \(2,\)"):
        partition_segment(program, Segment.between([0.0] * 3, [1.0] * 3))
    with pytest.raises(NotPiecewiseLinear):
        partition_segment(
            Program.from_module(nn.Sequential(nn.Linear(2, 1), nn.GELU()).eval(), (2,)), segment
        )
    with pytest.raises(ModelError, match="say which one"):
        partition_segment(program, segment).integrated_gradients()
    with pytest.raises(ModelError, match="outputs are 0 to 1"):
        partition_segment(program, segment).integrated_gradients(2)
    for wrong in ("x", 0.5):
        with pytest.raises(ModelError, match="give its number, 0 to 1"):
            partition_segment(program, segment).integrated_gradients(wrong)
    for layer in (-1, 1):
        with pytest.raises(IndexError, match=f"there is no layer {layer}; layers are 0 '1'"):
            partition_segment(program, segment).pattern_bits(layer)
    huge = mlp(2, 3, 3, 1)
    huge[0].weight.data *= 1e200
    huge[2].weight.data *= 1e200
    with pytest.raises(ModelError, match="not finite"):
        partition_segment(Program.from_module(huge, (2,)), segment)
