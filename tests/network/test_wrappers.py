"""Modules that are compiled, or spread over devices, are what they wrap."""

import pytest
import torch
from torch import nn

from splinecam_lite.errors import TraceError
from splinecam_lite.network import Program, trace

MODEL = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3)).eval()
WRAPPERS = {
    "compiled": torch.compile,
    "parallel": nn.DataParallel,
    "both": lambda model: torch.compile(nn.DataParallel(model)),
    "both, the other way round": lambda model: nn.DataParallel(torch.compile(model)),
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_wrapper_changes_nothing(name):
    wrapped = WRAPPERS[name](MODEL)
    traced = trace(wrapped, (2,))
    expected = Program.from_module(MODEL, (2,))
    assert traced.program().digest() == expected.digest()
    assert traced.program().layer_names == expected.layer_names
    assert traced.program(wrapped.state_dict()).digest() == expected.digest()


def test_distributed():
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(MODEL).eval()
        assert Program.from_module(wrapped, (2,)).digest() == Program.from_module(MODEL, (2,)).digest()
    finally:
        torch.distributed.destroy_process_group()


def test_checkpoints_of_a_compiled_module_fit_the_module():
    state = torch.compile(MODEL).state_dict()
    assert trace(MODEL, (2,)).program(state).digest() == Program.from_module(MODEL, (2,)).digest()


@pytest.mark.parametrize("name", WRAPPERS)
def test_wrappers_inside(name):
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = WRAPPERS[name](MODEL)

        def forward(self, x):
            return self.inner(x)

    model = Outer().eval()
    inner, traced, expected = model.inner, trace(model, (2,)), Program.from_module(MODEL, (2,)).digest()
    assert traced.program().digest() == expected
    assert traced.program(model.state_dict()).digest() == expected
    assert model.inner is inner


def test_wrappers_in_wrappers():
    inner = nn.Sequential(nn.DataParallel(nn.Linear(2, 4)), torch.compile(nn.ReLU()), nn.Linear(4, 3))
    model = nn.DataParallel(nn.Sequential(nn.DataParallel(inner))).eval()
    traced = trace(model, (2,))
    assert traced.program(model.state_dict()).digest() == traced.program().digest()
    assert traced.program().layer_names == ("0.1",)


def test_compiled_in_place():
    model = nn.Sequential(nn.Linear(2, 4), nn.ReLU()).eval()
    digest = Program.from_module(model, (2,)).digest()
    model.compile()
    assert Program.from_module(model, (2,)).digest() == digest


def test_an_input_without_a_name_is_refused():
    class Nameless(nn.Module):
        def forward(self, *inputs):
            return inputs[0]

    with pytest.raises(TraceError, match=r"the forward of Nameless takes \*inputs; give its input a name"):
        trace(Nameless().eval(), (2,))
    with pytest.raises(TraceError, match=r"Nameless takes \*inputs"):
        trace(nn.DataParallel(Nameless()).eval(), (2,))
