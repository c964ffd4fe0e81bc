"""Small networks and their partitions for the tests of what a partition tells."""

from itertools import pairwise

import numpy as np
import torch
from hypothesis import strategies as st
from torch import nn

from splinecam_lite import Partition, Slice, partition
from splinecam_lite.engine.plan import Tuning
from tests.agreement import slice_of
from tests.strategies import degenerate_cases, generic_cases

TINY = Tuning(group=2, block_vertices=8, piece_vertices=4)
cases = generic_cases() | degenerate_cases()
tunings = st.sampled_from([None, TINY])


def compute(case, tuning=None, **options) -> Partition:
    return partition(case.program(), slice_of(case.domain), threads=1, _tuning=tuning, **options)


def mlp(*widths: int, seed: int = 0) -> nn.Sequential:
    """Linear layers with ReLUs between them, in eval mode."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        layers += [nn.Linear(n_in, n_out, dtype=torch.float64), nn.ReLU()]
    return nn.Sequential(*layers[:-1]).eval()


def deep() -> Partition:
    """Some hundred regions, three outputs, in several blocks."""
    return partition(mlp(2, 16, 16, 3), Slice.box(-1, 1), threads=1, _tuning=Tuning(8, 60, 30))


def constant(value: float, n_outputs: int = 1) -> nn.Module:
    """A network whose output does not depend on its input."""
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, n_outputs)).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model[2].bias.fill_(value)
    return model


def run(model: nn.Module, points: np.ndarray) -> np.ndarray:
    """Outputs of a module, (n, n_outputs), in float64."""
    with torch.no_grad():
        return model.double()(torch.from_numpy(np.ascontiguousarray(points))).numpy()
