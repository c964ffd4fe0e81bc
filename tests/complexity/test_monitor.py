"""The monitor says what the estimate says of the weights of the moment, and training never knows of it."""

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn

from splinecam_lite.complexity import LocalComplexity
from splinecam_lite.complexity import current as current_module
from splinecam_lite.complexity.frames import cross_polytope, random_frame
from splinecam_lite.complexity.monitor import LCMonitor
from splinecam_lite.complexity.result import mean_interval
from splinecam_lite.errors import ModelError, NeighbourhoodError


class Network(nn.Module):
    """All that a training run can be disturbed in: statistics, dropout, every random state, a kept result."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.drop = nn.Linear(5, 12), nn.BatchNorm1d(12), nn.Dropout(0.3)
        self.second, self.last = nn.Linear(12, 12), nn.Linear(12, 3)
        self.act = nn.LeakyReLU(0.1)
        self.slope = 1.0

    def forward(self, x):
        drawn = 0.0 * (np.random.rand() + random.random())  # noqa: NPY002 - in eval mode as well
        self.kept = self.act(self.norm(self.first(x))) + drawn
        return self.last(torch.relu(self.slope * self.second(self.drop(self.kept))))


def probes(*sizes: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    return {f"set{i}": torch.randn(n, 5, generator=generator) for i, n in enumerate(sizes)}


def monitor_of(model: nn.Module, sizes=(9, 4), at=range(1000), **options) -> LCMonitor:
    return LCMonitor(model, probes(*sizes), at, 0.5, 4, **options)


def anew(model: Network, points: dict[str, torch.Tensor]) -> dict[str, float]:
    """What the monitor must return: all vertices through a copy, layer by layer, and signs compared."""
    twin, frame = detached_copy(model).double().eval(), random_frame((5,), 4)
    expected = {}
    with torch.no_grad():
        for name, some in points.items():
            first = twin.norm(twin.first(cross_polytope(some.double(), frame, 0.5).flatten(0, 1)))
            second = twin.slope * twin.second(twin.act(first))
            positive = [(z >= 0).reshape(len(some), 8, -1) for z in (first, second)]
            counts = [(p.any(dim=1) & ~p.all(dim=1)).sum(dim=1).numpy() for p in positive]
            expected |= summed(f"lc/{name}/", np.stack(counts, axis=1))
    return expected


def summed(prefix: str, per_layer: np.ndarray) -> dict[str, float]:
    means = {f"{prefix}layer{i}": column.mean() for i, column in enumerate(per_layer.T, 1)}
    mean = mean_interval(per_layer.sum(axis=1))
    return {**means, f"{prefix}sum": mean.value, f"{prefix}sum_ci99": mean.high - mean.value}


def detached_copy(model: nn.Module) -> nn.Module:
    kept = {id(t): t.detach() for t in [getattr(model, "kept", None)] if t is not None}
    return copy.deepcopy(model, kept)


def random_states() -> list:
    return [torch.random.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()]  # noqa: NPY002


def seed_everything() -> None:
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002
    random.seed(3)


def trained(place: str | None, autocast: bool) -> list:
    """A training run, and everything there is to know of it; measured after the update or before it."""
    seed_everything()
    model = Network().train()
    monitor = monitor_of(model, at=(0, 1, 4)) if place else (lambda step: {})
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.05)
    values, log = [], []
    for step in range(6):
        x = torch.randn(8, 5) + np.random.rand() * random.random()  # noqa: NPY002
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = model(x).float().square().mean()
            if place == "forward":
                values.append(monitor(step))
        loss.backward()
        if place == "gradients":
            values.append(monitor(step))
        optimiser.step()
        if place == "update":
            values.append(monitor(step))
        log += [loss.detach(), *(p.grad.clone() for p in model.parameters()), *random_states()]
    if place:
        assert [bool(v) for v in values] == [True, True, False, False, True, False]
        assert values[0] != values[4]
    log += [*model.state_dict().values(), model.kept.detach()]
    log += [t for state in optimiser.state.values() for t in state.values()]
    return log


@pytest.mark.parametrize("autocast", [False, True])
def test_training_is_the_same_bit_for_bit_with_and_without(autocast):
    alone = trained(None, autocast)
    for place in ("forward", "gradients", "update") if autocast else ("update",):
        watched = trained(place, autocast)
        assert len(watched) == len(alone)
        for ours, theirs in zip(watched, alone, strict=True):
            if isinstance(ours, torch.Tensor):
                assert torch.equal(ours, theirs)
            else:
                assert np.array_equal(ours, theirs) if isinstance(ours, np.ndarray) else ours == theirs


def test_nothing_of_the_module_is_touched():
    model = Network().train()
    model.drop.eval()
    model.second.weight.requires_grad_(False)
    calls = []
    handle = model.norm.register_forward_pre_hook(lambda module, x: calls.append(module))
    model.first.weight.register_hook(lambda gradient: gradient * 2)
    model(torch.randn(6, 5)).sum().backward()
    kept, gradients = model.kept, {name: p.grad for name, p in model.named_parameters()}
    bits = {name: t.clone() for name, t in model.state_dict().items()}
    seen = [(vars(part).copy(), part.training) for part in model.modules()]
    hooks = [
        {key: dict(value) for key, value in vars(part).items() if "hooks" in key} for part in model.modules()
    ]
    of_weights = {
        name: (id(p), p._version, p.requires_grad, p.grad is None or p.grad._version)
        for name, p in model.named_parameters()
    }
    seed_everything()
    states, default = random_states(), torch.get_default_dtype()

    monitor = monitor_of(model)
    with pytest.warns(UserWarning, match="forward hooks are not run"):
        assert monitor(0)
    assert monitor(1)

    for before, now in zip(states, random_states(), strict=True):
        assert np.array_equal(before, now) if not isinstance(now, tuple) else before == now
    assert torch.get_default_dtype() == default
    assert torch.is_grad_enabled()
    assert model.kept is kept
    for name, t in model.state_dict().items():
        assert torch.equal(t, bits[name]), name
    for name, p in model.named_parameters():
        assert p.grad is gradients[name]
        grad_version = p.grad is None or p.grad._version
        assert of_weights[name] == (id(p), p._version, p.requires_grad, grad_version)
    for part, (attributes, training), own in zip(model.modules(), seen, hooks, strict=True):
        assert part.training == training
        assert vars(part).keys() == attributes.keys()
        assert all(vars(part)[key] is value for key, value in attributes.items())
        assert {key: dict(value) for key, value in vars(part).items() if "hooks" in key} == own
    assert calls == [model.norm]  # by the training
    handle.remove()


def test_values_are_those_of_the_estimate():
    model = Network()
    monitor = monitor_of(model, (9, 1))
    values = monitor(0)
    expected = anew(model, probes(9, 1))
    assert values.keys() == expected.keys()
    assert values == pytest.approx(expected, rel=1e-12, nan_ok=True)
    assert all(type(value) is float for value in values.values())
    assert np.isnan(values["lc/set1/sum_ci99"])
    assert sum(values[f"lc/set0/layer{i}"] for i in (1, 2)) == pytest.approx(values["lc/set0/sum"])
    assert 0 < values["lc/set0/layer2"] < 12
    assert len(monitor.layer_names) == 2
    assert monitor.history == [{"step": 0, **values}]


def test_keys_are_those_of_a_result():
    model = Network()
    values = monitor_of(model, (9,))(0)
    result = LocalComplexity(model.eval(), 0.5, 4)(probes(9)["set0"]).to_dict("lc/set0")
    assert values == pytest.approx({key: result[key] for key in values}, rel=1e-12)


def test_options_are_those_of_the_estimate():
    model = Network()
    options = {"layers": 1, "centre": True, "dtype": torch.float32, "logits": True, "kind": "gaussian"}
    monitor = monitor_of(model, (9,), **options)
    values = monitor(0)
    expected = LocalComplexity(copy.deepcopy(model).eval(), 0.5, 4, **options)(probes(9)["set0"])
    assert values == pytest.approx(summed("lc/set0/", expected.per_layer), rel=1e-12)
    assert monitor.layer_names == expected.layer_names
    assert set(values) == {f"lc/set0/{key}" for key in ("layer1", "layer2", "sum", "sum_ci99")}
    frame = random_frame((5,), 4)
    assert monitor_of(model, (9,), frame=frame, seed=5)(0) == pytest.approx(anew(model, probes(9)), rel=1e-12)


def change_in_place(model):
    with torch.no_grad():
        model.first.bias += 0.5
    return model


def change_data(model):
    model.first.weight.data = torch.randn(12, 5)
    return model


def change_statistics(model):
    model.train()(torch.randn(20, 5) * 3 + 1)
    return model


def load_a_checkpoint(model):
    model.load_state_dict(Network().state_dict())
    return model


def assign_a_checkpoint(model):
    model.load_state_dict(Network().state_dict(), assign=True)
    return model


def a_new_parameter(model):
    model.second.weight = nn.Parameter(torch.randn(12, 12))
    return model


def another_activation(model):
    model.act = nn.Tanh()
    return model


def another_slope_of_a_part(model):
    model.act.negative_slope = -0.9
    return model


def another_number(model):
    model.slope = 0.0
    return model


def wider_weights(model):
    model.second.weight = nn.Parameter(torch.randn(30, 12))
    model.second.bias = nn.Parameter(torch.randn(30))
    model.last.weight = nn.Parameter(torch.randn(3, 30))
    return model


WRITTEN = [change_in_place, change_data, change_statistics, load_a_checkpoint, assign_a_checkpoint]
REBUILT = [another_activation, another_slope_of_a_part, another_number, wider_weights]


@pytest.fixture
def exports(monkeypatch) -> list:
    """A list that grows with each export."""
    done, trace = [], current_module.trace
    monkeypatch.setattr(current_module, "trace", lambda *given: done.append(1) or trace(*given))
    return done


def test_weights_of_the_moment_are_measured_with_one_export(exports):
    model = Network().train()
    monitor, points = monitor_of(model), probes(9, 4)
    before = monitor(0)
    for step, change in enumerate([*WRITTEN, a_new_parameter], 1):
        change(model)
        now = monitor(step)
        assert now != before, change.__name__
        assert len(exports) == 1, change.__name__
        before = now
    assert before == pytest.approx(anew(model, points), rel=1e-12)


@pytest.mark.parametrize("change", REBUILT)
def test_another_structure_is_exported_anew(change, exports):
    model = Network()
    monitor = monitor_of(model, (9,))
    before = monitor(0)
    change(model)
    after = monitor(1)
    assert after != before
    assert len(exports) == 2
    assert after == pytest.approx(anew(model, probes(9)), rel=1e-12)


def test_another_model_is_followed():
    first, second = Network(), Network()
    monitor = monitor_of(first, (9,))
    before = monitor(0)
    monitor.model = second
    assert monitor.model is second
    after = monitor(1)
    assert after == pytest.approx(anew(second, probes(9)), rel=1e-12)
    assert after != before


def test_tensors_outside_the_state_dict_are_followed(exports):
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(5, 8)
            self.register_buffer("mask", torch.ones(8), persistent=False)
            self.shift = torch.zeros(8)

        def forward(self, x):
            return torch.relu(self.linear(x) * self.mask + self.shift)

    model = Masked()
    monitor = monitor_of(model, (9,))
    assert monitor(0)["lc/set0/sum"] > 0
    monitor(1)
    assert len(exports) == 1
    model.mask.zero_()
    model.shift.fill_(1.0)
    assert monitor(2)["lc/set0/sum"] == 0
    model.shift = torch.zeros(8)
    model.mask = torch.ones(8)
    monitor(3)
    assert monitor.history[3] == monitor.history[0] | {"step": 3}


@pytest.mark.parametrize("how", ["in place", "both"])
def test_wrappers_are_looked_through(how):
    model = Network().train()
    wrapped = {
        "in place": lambda: model.compile(backend="eager") or model,
        "both": lambda: nn.DataParallel(torch.compile(model, backend="eager")),
    }[how]()
    monitor = monitor_of(wrapped, (9,))
    before = monitor(0)
    assert before == pytest.approx(anew(model, probes(9)), rel=1e-12)
    change_in_place(model)
    assert monitor(1) != before
    assert wrapped.training


def test_a_compiled_module_is_not_compiled_again():
    compilations = []

    def backend(graph, example_inputs):
        compilations.append(graph)
        return graph.forward

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2))
    compiled = torch.compile(model, backend=backend)
    monitor, x = monitor_of(compiled, (9,)), torch.randn(6, 5)
    for step in range(3):
        compiled(x).sum().backward()
        assert monitor(step)
    assert len(compilations) == 1


CONTEXTS = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "default dtype": lambda: default_dtype(torch.bfloat16),
    "default device": lambda: torch.device("meta"),
}


@pytest.mark.parametrize("inside", CONTEXTS)
def test_contexts_around_the_first_call_change_nothing(inside):
    model = Network()
    monitor = monitor_of(model, (9,))
    with CONTEXTS[inside]():
        first, autocast = monitor(0), torch.is_autocast_enabled("cpu")
    assert autocast == (inside == "autocast")
    assert first == pytest.approx(anew(model, probes(9)), rel=1e-12)
    # What was made inside can be written to outside.
    change_in_place(model)
    assert monitor(1) == pytest.approx(anew(model, probes(9)), rel=1e-12)


def test_attention_is_not_fused_without_gradients():
    block = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    with torch.no_grad():
        values = LCMonitor(block, {"x": torch.randn(5, 2, 4)}, (0,), 0.5, 4)(0)
    assert values["lc/x/layer1"] > 0


class default_dtype:
    def __init__(self, dtype):
        self.dtype = dtype

    def __enter__(self):
        self.before = torch.get_default_dtype()
        torch.set_default_dtype(self.dtype)

    def __exit__(self, *_):
        torch.set_default_dtype(self.before)


def test_only_chosen_steps_are_measured_and_once():
    model = Network()
    monitor = monitor_of(model, (3,), at=[2, 5])
    steps = (0, 1, 2, 2, 3, np.int64(5), 5, 6)
    assert [i for i, step in enumerate(steps) if monitor(step)] == [2, 5]
    assert [record["step"] for record in monitor.history] == [2, 5]
    assert monitor.measure() == {k: v for k, v in monitor.history[-1].items() if k != "step"}
    assert len(monitor.history) == 2
    with pytest.raises(TypeError):
        monitor(2.0)


def test_probes_are_the_callers_no_more():
    model, points = Network(), probes(9)
    monitor = LCMonitor(model, points, range(9), 0.5, 4)
    before = monitor(0)
    points["set0"].zero_()
    assert monitor(1) == before


def test_a_failed_measurement_is_not_recorded(tmp_path):
    model = Network()
    monitor = monitor_of(model, (3,), path=tmp_path / "lc.jsonl")
    monitor(0)
    model.second.weight.data[0, 0] = torch.nan
    for _ in range(2):
        with pytest.raises(ModelError, match=r"'second.weight' is NaN"):
            monitor(1)
    model.second.weight.data[0, 0] = 0.0
    assert monitor(1)
    assert len(monitor.history) == len((tmp_path / "lc.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"model": "model.onnx"}, TypeError, "the model is a str; give the nn.Module that is trained"),
        ({"probes": torch.zeros(2, 5)}, TypeError, "the probes are not named"),
        ({"probes": {}}, NeighbourhoodError, "there are no probes"),
        (
            {"probes": {"a": torch.zeros(0, 5)}},
            NeighbourhoodError,
            r"probe 'a': the points have shape \(0, 5\)",
        ),
        (
            {"probes": {"a": torch.zeros(2, 5), "b": torch.zeros(2, 4)}},
            NeighbourhoodError,
            r"different shapes \({'a': \(5,\), 'b': \(4,\)}\)",
        ),
        ({"radius": -1.0}, NeighbourhoodError, "the radius is -1.0"),
        ({"radius": "0.1"}, TypeError, "the radius is '0.1'; give a number"),
        ({"radius": None}, TypeError, "the radius is None; give a number"),
        ({"at": [1.5]}, TypeError, "float"),
        ({"at": 100}, TypeError, r"at is 100; give the steps to measure at, e.g. range\("),
        ({"at": None}, TypeError, "at is None; give the steps"),
        ({"at": "100"}, TypeError, "at is '100'; give the steps"),
        ({"seed": -1}, NeighbourhoodError, "the seed is -1; give a whole number from 0 to"),
        ({"directions": 6}, NeighbourhoodError, r"6 directions asked for, but inputs of shape \(5,\)"),
        ({"directions": 0}, NeighbourhoodError, "0 directions asked for"),
        ({"frame": torch.eye(4)}, NeighbourhoodError, r"the frame has shape \(4, 4\)"),
        ({"frame": torch.ones(2, 5)}, NeighbourhoodError, "not orthonormal"),
        ({"probes": {"a": torch.zeros(2, 5, dtype=torch.complex64)}}, NeighbourhoodError, "'a': .* complex"),
    ],
)
def test_what_cannot_be_measured_is_said_at_once(given, error, message):
    with pytest.raises(error, match=message):
        LCMonitor(**{"model": Network(), "probes": probes(2), "directions": 4, **given})
