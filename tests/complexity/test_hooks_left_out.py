"""Hooks are of the training: the measurement does not run them, and says so."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from splinecam_lite.complexity import LocalComplexity
from splinecam_lite.complexity.calibrate import calibrate
from splinecam_lite.complexity.monitor import LCMonitor
from splinecam_lite.complexity.monitoring.copying import eval_copy, hooks_left_out

POINTS = torch.randn(7, 5, generator=torch.Generator().manual_seed(1))


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))


def monitor_of(model: nn.Module) -> LCMonitor:
    return LCMonitor(model, {"x": POINTS}, range(9), 0.5, 3)


RECORDERS = {
    "number": lambda store: lambda module, given, result: store.append(result.mean().item()),
    "array": lambda store: lambda module, given, result: store.append(result.detach().cpu().numpy()),
    "tensor": lambda store: lambda module, given, result: store.append(result),
}


@pytest.mark.parametrize("record", RECORDERS)
@pytest.mark.parametrize("training", [True, False])
def test_a_hook_that_records_sees_the_training_alone(record, training):
    model, store = network().train(training), []
    expected = monitor_of(model).measure()
    model[0].register_forward_hook(RECORDERS[record](store))
    model(POINTS)
    monitor = monitor_of(model)
    with pytest.warns(UserWarning, match=r"without them: .*<lambda> of '0'; .* into its forward"):
        assert monitor(0) == expected
    assert monitor(1) == expected
    with pytest.warns(UserWarning, match="of '0'"):
        assert LocalComplexity(model, 0.5, 3)(POINTS).mean.value == pytest.approx(expected["lc/x/sum"])
    assert len(store) == 1
    model(POINTS)
    assert len(store) == 2


def test_each_hook_is_named_once():
    model = network()
    monitor = monitor_of(model)
    monitor(0)
    model[0].register_forward_hook(lambda module, given, result: result + 2.0)
    with pytest.warns(UserWarning, match="of '0';"):
        monitor(1)
    model.register_forward_pre_hook(lambda module, given: None)
    with pytest.warns(UserWarning, match="them: .* of the module itself;") as said:
        monitor(2)
    assert len(said) == 1
    assert said[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monitor(3)
        model[0].register_full_backward_hook(lambda *_: None)
        monitor(4)
    assert len({record["lc/x/sum"] for record in monitor.history}) == 1


def test_hooks_of_calibrated_modules_are_left_out():
    model, calls = network(), []
    model[1].register_forward_hook(lambda *_: calls.append(1))
    with pytest.warns(UserWarning, match="of '1'"):
        calibrate(model, POINTS, 0.1, checkpoints={"a": model.state_dict()}, progress=False)
    assert calls == []


NORMS = {
    "weight_norm": lambda part: nn.utils.weight_norm(part),
    "spectral_norm": lambda part: nn.utils.spectral_norm(part),
    "pruning": lambda part: prune.l1_unstructured(part, "weight", 0.5),
    "parametrization": lambda part: nn.utils.parametrizations.weight_norm(part),
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("how", NORMS)
def test_hooks_that_make_weights_remain(how):
    model = network()
    model[2] = NORMS[how](model[2])
    model.train()(POINTS)
    assert hooks_left_out(model) == ()
    monitor = monitor_of(model)
    monitor(0)
    with torch.no_grad():
        for weight in model[2].parameters():
            weight.normal_()
    plain, made = network(), eval_copy(model)
    made(POINTS)
    plain.load_state_dict({f"{i}.{n}": getattr(made[i], n) for i in (0, 2, 4) for n in ("weight", "bias")})
    assert monitor(1) == pytest.approx(monitor_of(plain).measure())


def test_a_hook_that_cannot_be_copied_is_no_hindrance():
    class Recorder:
        def __init__(self):
            self.lock, self.calls = (x for x in ()), 0  # generators cannot be copied

        def __call__(self, module, given, result):
            self.calls += 1

    model, recorder = network(), Recorder()
    model[0].register_forward_hook(recorder)
    with pytest.warns(UserWarning, match="Recorder of '0'"):
        assert monitor_of(model)(0)
    assert recorder.calls == 0
