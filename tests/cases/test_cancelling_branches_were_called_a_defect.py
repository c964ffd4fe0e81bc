"""Two branches that cancel to within a snap ended in "please report this", with no word of the cause."""

import pytest
import torch
from torch import nn

from splinecam_lite import ComplexError, Slice, partition


class Difference(nn.Module):
    """``sum(relu(a(x) - b(x)))``, where ``a`` and ``b`` differ by 5e-13 of either."""

    def __init__(self):
        super().__init__()
        self.a, self.b = (nn.Linear(2, 2, bias=False, dtype=torch.float64) for _ in range(2))
        self.last = nn.Linear(2, 1, bias=False, dtype=torch.float64)
        self.a.weight.data = (1 + 5e-13) * torch.eye(2, dtype=torch.float64)
        self.b.weight.data = torch.eye(2, dtype=torch.float64)
        self.last.weight.data = torch.ones(1, 2, dtype=torch.float64)

    def forward(self, x):
        return self.last((self.a(x) - self.b(x)).relu())


def test_the_cause_and_the_remedy_are_named():
    with pytest.raises(ComplexError, match=r"two branches that cancel.*as one layer, its weights subtracted"):
        partition(Difference().eval(), Slice.box(-1, 1))


def test_the_remedy_works():
    model, one = Difference(), nn.Linear(2, 2, bias=False, dtype=torch.float64)
    one.weight.data = model.a.weight.data - model.b.weight.data
    assert partition(nn.Sequential(one, nn.ReLU(), model.last).eval(), Slice.box(-1, 1)).n_regions == 4
