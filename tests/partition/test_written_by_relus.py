"""Activations with two breakpoints give the partition of the same network written by ReLUs."""

import numpy as np
import pytest
import torch
from torch import nn

from splinecam_lite import Slice, partition
from tests.partition.networks import TINY, mlp


class Clamp(nn.Module):
    """``min(max(z, low), high)`` by ReLUs."""

    def __init__(self, low, high):
        super().__init__()
        self.low, self.high = low, high

    def forward(self, z):
        return torch.relu(z - self.low) - torch.relu(z - self.high) + self.low


@pytest.mark.parametrize("tuning", [None, TINY], ids=["one block", "blocks"])
@pytest.mark.parametrize(
    ("activation", "low", "high"),
    [(nn.Hardtanh(), -1.0, 1.0), (nn.Hardtanh(-0.25, 0.5), -0.25, 0.5), (nn.ReLU6(), 0.0, 6.0)],
    ids=["hardtanh", "narrow hardtanh", "relu6"],
)
def test_two_breakpoints(activation, low, high, tuning):
    layers = mlp(2, 12, 12, 2)
    with torch.no_grad():
        for layer in layers[::2]:
            layer.weight *= 4.0  # so that both breakpoints are reached

    def network(between):
        return nn.Sequential(layers[0], between, layers[2], between, layers[4]).eval()

    plane = Slice.box(-1.5, 1.5)
    whole, written = (partition(network(a), plane, _tuning=tuning) for a in (activation, Clamp(low, high)))
    assert whole.n_regions == written.n_regions > 50
    found = written.locate(whole.interior_points())
    assert len(np.unique(found)) == whole.n_regions
    np.testing.assert_allclose(written.areas()[found], whole.areas(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(written.affine_maps(found)[0], whole.affine_maps()[0], rtol=0, atol=1e-10)
    assert set(np.unique(whole.knots().breakpoints)) == {0, 1}
