"""Networks that return several values: their layers are counted all the same, and one can be named."""

import numpy as np
import pytest
import torch
from torch import nn

from splinecam_lite.complexity import LocalComplexity
from splinecam_lite.complexity.bracket import bracket
from splinecam_lite.complexity.maps import complexity_map
from splinecam_lite.complexity.monitor import LCMonitor
from splinecam_lite.errors import ModelError
from splinecam_lite.network.program import Program
from splinecam_lite.network.slices import Slice
from splinecam_lite.network.trace import trace


class TwoHeads(nn.Module):
    """Every head has layers of its own; beside them values that are none of single samples."""

    def __init__(self):
        super().__init__()
        self.trunk, self.act = nn.Linear(5, 8), nn.ReLU()
        self.left, self.left_act, self.right = nn.Linear(8, 6), nn.LeakyReLU(0.1), nn.Linear(8, 4)
        self.right_act = nn.Tanh()

    def parts(self, x):
        h = self.act(self.trunk(x))
        return self.left_act(self.left(h)), self.right_act(self.right(h)).reshape(-1, 2, 2)

    def forward(self, x):
        left, right = self.parts(x)
        return {"left": left, "others": (right, left.mean(), left.argmax(1), None), "same": left}


class Joined(TwoHeads):
    def forward(self, x):
        left, right = self.parts(x)
        return torch.cat((left, right.flatten(1)), 1)


@pytest.fixture(scope="module")
def heads() -> tuple[TwoHeads, Joined, torch.Tensor]:
    torch.manual_seed(0)
    several, one = TwoHeads().eval(), Joined().eval()
    one.load_state_dict(several.state_dict())
    return several, one, torch.randn(9, 5)


def test_layers_before_any_output_are_counted(heads):
    several, one, points = heads
    estimate = LocalComplexity(several, 0.5, 3)
    for _ in range(2):
        found, expected = estimate(points), LocalComplexity(one, 0.5, 3)(points)
        assert found.layer_names == expected.layer_names == ("act", "left_act", "right_act")
        np.testing.assert_array_equal(found.per_layer, expected.per_layer)
    assert LCMonitor(several, {"x": points}, (0,), 0.5, 3)(0) == pytest.approx(
        LCMonitor(one, {"x": points}, (0,), 0.5, 3)(0)
    )
    plane = Slice.through(*points[:3].double().numpy())
    maps = [complexity_map(model, plane, 5, 0.5, progress=False).per_layer for model in (several, one)]
    np.testing.assert_array_equal(*maps)
    np.testing.assert_array_equal(
        bracket(several, points[:2], 0.5, 2).upper, bracket(one, points[:2], 0.5, 2).upper
    )


def test_an_output_that_is_named_is_the_end(heads):
    several, _, points = heads
    for output, layers in (("left_act", ("act", "left_act")), ("right", ("act",))):
        estimate = LocalComplexity(several, 0.5, 3, output=output)
        assert [estimate(points).layer_names for _ in range(2)] == [layers] * 2
        monitor = LCMonitor(several, {"x": points}, (0, 1), 0.5, 3, output=output)
        assert monitor(0)["lc/x/sum"] == pytest.approx(estimate(points).mean.value)
        assert monitor.layer_names == layers
        plane = Slice.through(*points[:3].double().numpy())
        assert complexity_map(several, plane, 3, output=output, progress=False).layer_names == layers
    with_logits = LocalComplexity(several, 0.5, 3, output="right", logits=True)(points)
    assert with_logits.layer_names == ("act", "right")


def test_one_entry_is_an_output(heads):
    several, one, points = heads
    found, expected = LocalComplexity(one, 0.5, 3, output=2)(points), LocalComplexity(one, 0.5, 3)(points)
    np.testing.assert_array_equal(found.per_layer, expected.per_layer)
    with pytest.raises(ModelError, match="output=10, but the output has shape"):
        LocalComplexity(one, 0.5, 3, output=10)(points)
    with pytest.raises(ModelError, match="the module returns 5 values"):
        trace(several, (5,)).program(output=2)


def test_what_is_not_one_output_is_refused(heads):
    several, _, points = heads
    with pytest.raises(ModelError, match="the module returns 5 values; name one as output"):
        LocalComplexity(several, 0.5, 3, logits=True)(points)
    with pytest.raises(ModelError, match="no node or module 'middle'"):
        LocalComplexity(several, 0.5, 3, output="middle")(points)
    program = Program.from_module(several, (5,), output="left")
    with pytest.raises(TypeError, match=r"output='left', but the model is a Program; make it with"):
        LocalComplexity(program, output="left")


def test_all_outputs_are_those_of_the_module_one_after_the_other(heads):
    several, _, points = heads
    traced = trace(several, (5,)).with_all_outputs()
    with torch.no_grad():
        returned = several.double()(points.double())
    flat = [returned["left"], returned["others"][0].flatten(1)]
    several.float()
    torch.testing.assert_close(traced.program().run(points)[:, :10], torch.cat(flat, 1))


def test_one_output_is_left_as_it_is():
    traced = trace(nn.Linear(2, 1).eval(), (2,))
    assert traced.with_all_outputs() is traced
