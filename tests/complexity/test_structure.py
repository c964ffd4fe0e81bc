"""What an export takes for fixed is seen when it changes; what it does not is not exported again."""

import types
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from splinecam_lite.complexity import LocalComplexity
from splinecam_lite.complexity import current as current_module
from splinecam_lite.complexity.monitor import LCMonitor
from splinecam_lite.complexity.monitoring.structure import structure


@dataclass
class Settings:
    gain: float


class Configured(nn.Module):
    """All that a forward may read besides its weights."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(5, 20), nn.Linear(20, 20), nn.Linear(20, 2)
        self.norm = nn.utils.parametrizations.weight_norm(nn.Linear(20, 20))
        self.act = torch.relu
        self.scales = [1.0, (1.0, 1.0)]
        self.named = {"inner": {"shift": 0.0}}
        self.settings = Settings(1.0)
        self.space = types.SimpleNamespace(shift=0.0)
        self.array = np.ones(20, np.float32)
        self.masks = [torch.ones(20)]
        self.chosen = {"first"}
        self.unread = object()
        self.step, self.kept, self.seen = 0, [], {}

    def forward(self, x):
        h = self.act(self.first(x)) * self.scales[1][0] * self.masks[0]
        self.kept.append(h)
        self.seen["first"] = h
        h = h * torch.as_tensor(self.array) + self.named["inner"]["shift"] + self.space.shift
        h = h if "first" in self.chosen else -h
        return self.last(torch.relu(self.norm(self.second(h) * self.settings.gain) + self.scales[0] - 1))


def act(m):
    m.act = torch.abs


def entry_of_a_list(m):
    m.scales[0] = -1.0


def tuple_in_a_list(m):
    m.scales[1] = (-1.0, 1.0)


def value_in_dicts(m):
    m.named["inner"]["shift"] = -2.0


def dataclass_field(m):
    m.settings.gain = -3.0


def namespace(m):
    m.space.shift = -2.0


def array(m):
    m.array[3:] = -1.0


def tensor_in_a_list(m):
    m.masks[0][:10] = 0.0


def set_entry(m):
    m.chosen.remove("first")


def patched_forward(m):
    m.first.forward = types.MethodType(lambda self, x: x @ self.weight.T - 0.5, m.first)


def forward_of_the_class(m):
    class Shifted(nn.Linear):
        def forward(self, x):
            return super().forward(x) - 1.0

    m.second.__class__ = Shifted


def parametrization(m):
    nn.utils.parametrizations.orthogonal(m.second)


def legacy_hook(m):
    nn.utils.spectral_norm(m.second, n_power_iterations=3)


CHANGES = [
    act, entry_of_a_list, tuple_in_a_list, value_in_dicts, dataclass_field, namespace, array,
    tensor_in_a_list, set_entry, patched_forward, forward_of_the_class, parametrization, legacy_hook,
]  # fmt: skip


@pytest.fixture
def points():
    return torch.randn(20, 5, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def exports(monkeypatch) -> list:
    """A list that grows with each export."""
    done, trace = [], current_module.trace
    monkeypatch.setattr(current_module, "trace", lambda *given: done.append(1) or trace(*given))
    return done


def measured(model, points):
    return LCMonitor(model, {"x": points}, (0,), 0.5, 3).measure()


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_changes_beside_the_weights_are_followed(change, points):
    torch.manual_seed(0)
    model = Configured()
    monitor = LCMonitor(model, {"x": points}, range(9), 0.5, 3)
    before = monitor.measure()
    change(model)
    after = monitor.measure()
    assert after == measured(model, points)
    assert after != before


def test_the_estimate_follows_as_well(points):
    torch.manual_seed(0)
    model = Configured().eval()
    with torch.no_grad():
        estimate = LocalComplexity(model, 0.5, 3)
        for change in (act, value_in_dicts, patched_forward):
            before = estimate(points).per_layer
            change(model)
            found = estimate(points).per_layer
            np.testing.assert_array_equal(found, LocalComplexity(model, 0.5, 3)(points).per_layer)
            assert (found != before).any()


def test_training_does_not_export_again(points, exports):
    model = Configured()
    model.unread = model.method = model.forward
    optimiser = torch.optim.Adam(model.parameters())
    monitor = LCMonitor(model, {"x": points}, range(9), 0.5, 3)
    for step in range(3):
        model(points).square().sum().backward()
        optimiser.step()
        model.method = model.forward  # another object, the same method
        handle = model.first.register_full_backward_hook(lambda *_: None)
        model.first.weight = nn.Parameter(model.first.weight.detach().clone())
        assert monitor(step)
        handle.remove()
    assert len(exports) == 1
    model.step += 1
    monitor.measure()
    assert len(exports) == 2


def test_weights_that_were_tied_and_are_no_longer(points):
    model = nn.Sequential(nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 5), nn.ReLU())
    model[2].weight = model[0].weight
    monitor = LCMonitor(model, {"x": points}, range(9), 0.5, 3)
    monitor.measure()
    model[2].weight = nn.Parameter(torch.randn(5, 5))
    assert monitor.measure() == measured(model, points)


def test_modules_that_change_places(points):
    first, second = nn.Linear(5, 5), nn.Linear(5, 5)
    model = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), first, nn.ReLU())
    monitor = LCMonitor(model, {"x": points}, range(9), 0.5, 3)
    monitor.measure()
    model[4] = second
    assert monitor.measure() == measured(model, points)


def test_what_holds_itself_has_an_end():
    model = nn.Linear(2, 1)
    model.loop = [1, {"again": None}]
    model.loop[1]["again"] = model.loop
    model.kind = Settings
    before = structure(model)
    assert before == structure(model)
    model.loop[0] = 2
    assert before != structure(model)
