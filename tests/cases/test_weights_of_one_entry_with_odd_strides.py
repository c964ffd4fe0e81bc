"""A bias of one entry, cut out of a larger tensor, could not be hashed: its stride is not 1."""

import pytest
import torch
from torch import nn

from splinecam_lite import Program, Slice, partition


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_strides_do_not_count(dtype):
    model, same = (nn.Linear(2, 1, dtype=torch.float64).eval() for _ in range(2))
    column = torch.arange(3.0, dtype=torch.float64).reshape(1, 3)[:, 2].clone()
    assert column.stride() == (3,)
    same.weight.data = model.weight.data
    model.bias.data, same.bias.data = column, torch.tensor([2.0], dtype=torch.float64)
    first, second = (Program.from_module(m, (2,)).to(dtype).digest() for m in (model, same))
    assert first == second
    assert partition(model, Slice.box(0, 1)).n_regions == 1
