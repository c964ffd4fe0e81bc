"""A short run of `tests.fuzz`: hard cases, computed in both modes, proved, and held against the oracle.

`make fuzz` runs it long, with more and larger architectures.
"""

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import nn

from splinecam_lite import Program, Slice, partition
from tests.fuzz.cases import make_case
from tests.fuzz.judge import differences, judge
from tests.fuzz.oracle import truth
from tests.fuzz.run import command
from tests.fuzz.weights import layers_of
from tests.partition.networks import mlp

pytestmark = pytest.mark.slow


# A seed has no smaller one.
@settings(max_examples=40, phases=[Phase.explicit, Phase.generate])
@given(st.integers(0, 9_999))
def test_every_case_is_proved_and_true(seed):
    wrong = judge(make_case(seed, quick=True)).wrong
    assert not wrong, "\n".join([*wrong, f"repeat: {command(seed, quick=True)}"])


@pytest.mark.parametrize(
    ("width", "depth", "zero_bias"), [(16, 3, False), (16, 3, True), (24, 4, True)], ids=str
)
def test_ternary_networks(width, depth, zero_bias):
    """On a slice of five inputs these have regions 1e-17 wide, which only exact mode finds."""
    program = Program.from_module(ternary(mlp(5, *[width] * depth, 3), zero_bias), (5,))
    points = np.random.default_rng(1).integers(-2, 3, size=(3, 5)).astype(float)
    plane = Slice.through(*points)
    exact, true = partition(program, plane, exact=True), truth(program, plane)
    assert not differences(exact, true)
    assert exact.certify().status == "proved"
    default = partition(program, plane)
    assert default.certify().holds
    assert default.n_regions == true.n_regions or default.report.n_snaps


def ternary(model: nn.Module, zero_bias: bool) -> nn.Module:
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for layer in layers_of(model):
            for tensor in (layer.weight, layer.bias):
                tensor.copy_(torch.from_numpy(rng.integers(-1, 2, size=tuple(tensor.shape)).astype(float)))
            if zero_bias:
                layer.bias.zero_()
    return model


def test_a_case_is_its_seed():
    first, second = make_case(5, quick=True), make_case(5, quick=True)
    assert first.kinds == second.kinds
    assert first.plane.digest() == second.plane.digest()
    assert first.program().digest() == second.program().digest()


def test_another_network_is_told_apart():
    """A weight that differs by 1e-3 moves a knot, and the areas tell."""
    model, plane = mlp(2, 6, 4, 2), Slice.box(-1, 1)
    part = partition(model, plane)
    assert not differences(part, truth(part.program, plane))
    with torch.no_grad():
        model[0].weight[0, 0] += 1e-3
    assert differences(part, truth(Program.from_module(model, (2,)), plane))
