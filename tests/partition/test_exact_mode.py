"""Exact mode: counts, areas and decisions as rational arithmetic has them, slivers included."""

from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from torch import nn

from splinecam_lite import Partition, Program, Slice, partition
from splinecam_lite.errors import ModelError
from tests.agreement import assert_agrees, assert_decides, assert_same, patterns_of, slice_of
from tests.exact_networks import read_sequential
from tests.oracles import ExactPartition
from tests.partition.networks import TINY
from tests.strategies import degenerate_cases, generic_cases

BOX = [(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)]
OFF_CENTRE = [(-0.5, -1.0), (1.25, -1.0), (1.25, 0.75), (-0.5, 0.75)]
SHAPES = {"3x16": (2, 16, 16, 16, 3), "4x24": (2, 24, 24, 24, 24, 3)}


def layered(widths, draw) -> nn.Sequential:
    modules: list[nn.Module] = []
    for number, (n_in, n_out) in enumerate(pairwise(widths)):
        linear = nn.Linear(n_in, n_out, dtype=torch.float64)
        weight, bias = draw(n_out, n_in)
        linear.weight.data, linear.bias.data = torch.tensor(weight), torch.tensor(bias)
        modules += [linear, nn.ReLU()] if number < len(widths) - 2 else [linear]
    return nn.Sequential(*modules).eval()


@cache
def network(kind: str, shape: str, seed: int) -> nn.Sequential:
    rng = np.random.default_rng(seed)

    def draw(n_out, n_in):
        if kind == "generic weights, zero bias":
            return rng.normal(size=(n_out, n_in)), np.zeros(n_out)
        weight = rng.integers(-1, 2, size=(n_out, n_in)).astype(float)
        bias = (
            np.zeros(n_out) if kind == "ternary, zero bias" else rng.integers(-1, 2, size=n_out).astype(float)
        )
        return weight, bias

    return layered(SHAPES[shape], draw)


KINDS = ["ternary", "ternary, zero bias", "generic weights, zero bias"]


@pytest.mark.parametrize("domain", [BOX, OFF_CENTRE], ids=["centred", "off centre"])
@pytest.mark.parametrize("shape", list(SHAPES))
@pytest.mark.parametrize("kind", KINDS)
def test_ternary_and_zero_bias_networks(kind, shape, domain):
    """All three counts; and those of the default mode, as no true sliver is below its resolution here."""
    for seed in range(1 if shape == "4x24" else 2):
        model = network(kind, shape, seed)
        truth = ExactPartition(read_sequential(model), domain)
        for exact in (True, False):
            part = partition(model, slice_of(domain), exact=exact)
            assert_agrees(part, truth)
            assert_decides(part, truth)
            assert part.n_linear_regions == truth.n_linear_regions()


@given(case=degenerate_cases())
def test_degenerate_networks(case):
    part, truth = partition(case.program(), slice_of(case.domain), exact=True), case.exact()
    assert_agrees(part, truth)
    assert_decides(part, truth)
    assert not part.report.n_snaps


@given(case=degenerate_cases())
def test_blocks_change_nothing(case):
    program, plane = case.program(), slice_of(case.domain)
    assert_same(partition(program, plane, exact=True), partition(program, plane, exact=True, _tuning=TINY))


@given(case=generic_cases())
def test_generic_networks_are_the_same_in_both_modes(case):
    program, plane = case.program(), slice_of(case.domain)
    assert_same(partition(program, plane, exact=True), partition(program, plane))


def lines_through_a_point(n: int) -> nn.Sequential:
    """Lines through (3/10, 1/5); their biases are rounded, so that they miss it by about 1e-17."""
    angle = np.pi * np.arange(n) / n + 0.05
    weight = np.column_stack((np.cos(angle), np.sin(angle)))
    layers = iter([(weight, -(weight @ np.array([0.3, 0.2]))), (np.ones((1, n)), np.zeros(1))])
    return layered((2, n, 1), lambda n_out, n_in: next(layers))


@pytest.fixture(scope="module")
def slivers() -> Partition:
    return partition(lines_through_a_point(20), slice_of(BOX), exact=True)


def test_slivers_are_regions_with_exact_areas(slivers):
    truth = ExactPartition(read_sequential(lines_through_a_point(20)), BOX)
    assert slivers.n_regions == truth.n_regions > 150
    areas = truth.areas()
    expected = np.array([float(areas[pattern]) for pattern in patterns_of(slivers)])
    thin = slivers.thin_regions
    assert len(thin) == slivers.n_regions - 40
    assert 0.0 < expected[thin].min() < expected[thin].max() < 1e-30
    np.testing.assert_array_equal(slivers.areas()[thin], expected[thin])
    assert "by integers" in str(slivers.report)


def test_slivers_survive_a_file(slivers, tmp_path):
    slivers.save(tmp_path / "slivers.npz")
    loaded = Partition.load(tmp_path / "slivers.npz", lines_through_a_point(20))
    assert loaded.exact
    np.testing.assert_array_equal(loaded.areas(), slivers.areas())
    assert loaded.decision_boundary().length == slivers.decision_boundary().length
    without = Partition.load(tmp_path / "slivers.npz")
    with pytest.raises(ModelError, match="load\\(path, model\\)"):
        without.decision_boundary()
    with pytest.raises(ModelError, match="not the network that was partitioned"):
        Partition.load(tmp_path / "slivers.npz", lines_through_a_point(19))


def test_the_number_of_threads_changes_nothing():
    model, plane = network("ternary", "4x24", 0), slice_of(BOX)
    one, two = (partition(model, plane, exact=True, threads=n, _tuning=TINY) for n in (1, 2))
    np.testing.assert_array_equal(one.complex.xy, two.complex.xy)
    np.testing.assert_array_equal(one.patterns(), two.patterns())


def test_convolution_average_and_residual():
    """What has no dense oracle here agrees with the default mode, and every sign is accounted for."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
            self.last = nn.Linear(16, 3)

        def forward(self, x):
            x = self.first(x).relu()
            x = x + self.second(x).relu()
            return self.last(nn.functional.avg_pool2d(x, 3).flatten(1))

    torch.manual_seed(0)
    program = Program.from_module(Net().eval(), (1, 6, 6))
    points = torch.randn(3, 1, 6, 6, generator=torch.Generator().manual_seed(1)).double().numpy()
    plane = Slice.through(*points)
    usual, exact = partition(program, plane), partition(program, plane, exact=True)
    assert usual.n_regions > 100
    assert_same(usual, exact)
    assert exact.decision_boundary().n_cells == usual.decision_boundary().n_cells
    assert exact.report.float64 > exact.n_vertices
