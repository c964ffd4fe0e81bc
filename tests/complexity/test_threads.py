"""To bind new weights changes nothing that other threads of the process would see."""

import contextlib
import logging
import random
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from splinecam_lite.complexity import LocalComplexity
from splinecam_lite.complexity.monitor import LCMonitor
from splinecam_lite.network.trace import trace


class Literals(nn.Module):
    """Makes tensors in its forward, of the default dtype; with a quotient of whole numbers, if it is to."""

    def __init__(self, quotient: bool = False):
        super().__init__()
        self.first, self.last, self.quotient = nn.Linear(5, 5), nn.Linear(5, 2), quotient
        self.register_buffer("mean", torch.zeros(5))

    def forward(self, x):
        made = torch.full((5,), 0.1) + torch.linspace(0, 0.7, 5) + torch.zeros(5) + torch.arange(0, 0.45, 0.1)
        if self.quotient:
            made = made + torch.arange(5) / 3
        return self.last(torch.relu(self.first(x - self.mean) + made * torch.tensor(0.3)))


SHARED = [
    (torch, "set_default_dtype"),
    (torch.random, "fork_rng"),
    (torch.random, "set_rng_state"),
    (torch, "set_rng_state"),
    (random, "setstate"),
    (np.random, "set_state"),
    (logging, "disable"),
    (contextlib, "redirect_stdout"),
    (contextlib, "redirect_stderr"),
    (warnings, "catch_warnings"),
]


@pytest.fixture
def nothing_shared(monkeypatch):
    """From when it is called on, what is of the whole process cannot be set."""

    def forbid():
        for module, name in SHARED:

            def refuse(*_, name=name, **__):
                raise AssertionError(f"{name} is of the whole process")

            monkeypatch.setattr(module, name, refuse)

    return forbid


def test_new_weights_are_measured_without_a_trace_in_the_process(nothing_shared):
    torch.manual_seed(0)
    model, points = Literals(), torch.randn(9, 5)
    monitor = LCMonitor(model, {"x": points}, range(9), 0.5, 3)
    estimate = LocalComplexity(model.eval(), 0.5, 3)
    before = monitor(0), estimate(points)
    model.first.weight.data.normal_()
    expected = LCMonitor(model, {"x": points}, range(9), 0.5, 3)(0)
    nothing_shared()
    assert monitor(1) == expected != before[0]
    assert estimate(points).mean.value == pytest.approx(expected["lc/x/sum"])


def test_start_is_bound_the_same_way(nothing_shared):
    model, ids = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 6), nn.ReLU()), torch.tensor([[1, 2, 6]])
    monitor = LCMonitor(model, {"x": ids}, range(9), 0.5, 3, start="0")
    before = monitor(0)
    nothing_shared()
    assert monitor(1) == before


@pytest.mark.parametrize("quotient", [False, True])
def test_literals_are_float64_when_weights_are_bound_again(quotient):
    model = Literals(quotient).eval()
    traced = trace(model, (5,))
    x = torch.randn(6, 5, dtype=torch.float64)
    first = traced.program().run(x)
    other = Literals(quotient)
    assert torch.equal(traced.rebound(model.state_dict()).run(x), first)
    assert torch.equal(traced.rebound(other.state_dict()).run(x), traced.program(other.state_dict()).run(x))
    assert torch.get_default_dtype() == torch.float32
