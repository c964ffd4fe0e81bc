"""Tracing leaves the module alone, weights can be exchanged, and outputs and inputs chosen."""

import copy
import itertools
import logging
import pickle
import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from splinecam_lite.errors import ModelError
from splinecam_lite.network import AffineOp, Program, trace


def mlp(*widths):
    layers = [part for a, b in itertools.pairwise(widths) for part in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers[:-1]).eval()


def test_the_module_is_left_as_it_was():
    norm = nn.BatchNorm1d(4)
    model = nn.Sequential(nn.Linear(3, 4), norm, nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(4, 1)).eval()
    model[0].weight.requires_grad_(False)
    model(torch.randn(2, 3)).sum().backward()
    before, gradient = copy.deepcopy(model), model[4].weight.grad.clone()
    random_state, default = torch.random.get_rng_state(), torch.get_default_dtype()
    program = Program.from_module(model, (3,))
    program.run(torch.zeros(1, 3))
    assert torch.equal(torch.random.get_rng_state(), random_state)
    assert torch.get_default_dtype() == default
    assert not model.training
    assert str(model) == str(before)
    for now, then in zip(model.state_dict().values(), before.state_dict().values(), strict=True):
        assert torch.equal(now, then)
        assert now.dtype == then.dtype
    assert [p.requires_grad for p in model.parameters()] == [p.requires_grad for p in before.parameters()]
    assert torch.equal(model[4].weight.grad, gradient)
    assert model[0].weight.grad is None
    assert vars(model).keys() == vars(before).keys()


def test_nothing_is_printed_logged_or_warned_of(capfd, caplog):
    class Branches(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with caplog.at_level(logging.DEBUG), warnings.catch_warnings():
        warnings.simplefilter("error")
        Program.from_module(mlp(2, 3, 1), (2,))
        with pytest.raises(ModelError):
            trace(Branches().eval(), (2,))
    assert capfd.readouterr() == ("", "")
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_are_cast_exactly(dtype):
    model = mlp(3, 5, 2).to(dtype)
    program = Program.from_module(model, (3,))
    x = torch.randn(4, 3, dtype=torch.float64)
    assert torch.allclose(program.run(x), copy.deepcopy(model).double()(x), rtol=1e-14)
    constants = program.ops[0].fn.constants.values()
    assert any(torch.equal(c, model[0].weight.double()) for c in constants)


def test_module_paths_and_lines_name_the_layers():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.act = nn.Linear(3, 3), nn.ReLU()

        def forward(self, x):
            return F.relu(self.linear(self.act(self.linear(x))) + x)

    model = nn.Sequential(Block(), Block()).eval()
    program = Program.from_module(model, (3,))
    assert program.layer_names == ("0.act", "0.relu_1", "1.act", "1.relu_3")
    where = program.preactivation_ops[1].where
    assert where.module_path == "0"
    lines = Path(__file__).read_text().splitlines()
    line = 1 + next(i for i, text in enumerate(lines) if "return F.relu(self.linear" in text)
    assert where.source.endswith(f"test_trace.py:{line}")


def test_a_module_used_again_is_another_layer():
    act = nn.ReLU()

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.act, self.linear = act, nn.Linear(2, 2)

        def forward(self, x):
            return self.act(self.linear(self.act(self.linear(x))))

    program = Program.from_module(Twice().eval(), (2,))
    assert program.layer_names == ("act", "act:2")
    assert program.n_neurons == (2, 2)
    assert [op.inputs for op in program.preactivation_ops] == [(1,), (3,)]


def test_normalisation_is_one_affine_op_before_the_network():
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU()).eval().double()
    mean, std = [0.5, 0.4, 0.3], [0.2, 0.3, 0.1]
    program = Program.from_module(model, (3, 5, 5), normalise=(mean, std))
    x = torch.rand(2, 3, 5, 5, dtype=torch.float64)
    m, s = (torch.tensor(t, dtype=torch.float64).reshape(3, 1, 1) for t in (mean, std))
    assert torch.allclose(program.run(x), model((x - m) / s), rtol=1e-12, atol=1e-12)
    assert isinstance(program.ops[0], AffineOp)
    assert program.layer_names == ("1",)
    with pytest.raises(ModelError, match=r"the mean of normalise has shape \(2,\)"):
        Program.from_module(model, (3, 5, 5), normalise=([0.5, 0.5], 1.0))
    with pytest.raises(ModelError, match=r"std of normalise is \[0.0\].*positive"):
        Program.from_module(model, (3, 5, 5), normalise=(0.5, 0.0))


def test_output_may_be_a_node_or_a_module():
    model = mlp(2, 3, 4, 1)
    traced = trace(model, torch.zeros(7, 2))
    x = torch.randn(5, 2, dtype=torch.float64)
    expected = copy.deepcopy(model).double()[:3](x)
    for name in ("2", "linear_1"):
        program = traced.program(output=name)
        assert torch.allclose(program.run(x), expected, rtol=1e-14)
        assert len(program.ops) == 3
    with pytest.raises(ModelError, match="no node or module 'linear_9'; there is 'linear"):
        traced.program(output="linear_9")


def test_several_outputs_must_be_chosen_from():
    class Two(nn.Module):
        def forward(self, x):
            return {"twice": 2 * x, "relu": x.relu()}

    traced = trace(Two().eval(), (3,))
    with pytest.raises(ModelError, match="returns 2 values; name one as output: mul, relu"):
        traced.program()
    assert traced.program(output="mul").run(torch.ones(1, 3)).tolist() == [[2, 2, 2]]


def test_one_value_in_a_container_is_the_output():
    class Wrapped(nn.Module):
        def forward(self, x):
            return {"logits": x.relu()}

    assert Program.from_module(Wrapped().eval(), (3,)).run(-torch.ones(1, 3)).tolist() == [[0, 0, 0]]


def test_identity_has_no_ops():
    program = Program.from_module(nn.Sequential(nn.Identity(), nn.Dropout()).eval(), (3,))
    assert program.ops == ()
    assert program.output == 0
    assert program.run(torch.ones(2, 3)).tolist() == [[1, 1, 1]] * 2
    assert program.last_use(0) == 0


def test_shared_weights_are_bound_by_either_name():
    model = mlp(3, 3, 3)
    model[2].weight = model[0].weight
    traced = trace(model, (3,))
    state = {name: 2 * tensor for name, tensor in model.state_dict().items()}
    x = torch.randn(2, 3, dtype=torch.float64)
    other = copy.deepcopy(model).double()
    other.load_state_dict(state)
    assert torch.allclose(traced.program(state).run(x), other(x), rtol=1e-13)


def test_later_changes_to_the_module_need_its_state_dict():
    model = mlp(2, 3, 1)
    traced = trace(model, (2,))
    before = traced.program().digest()
    with torch.no_grad():
        model[0].weight.add_(1)
    assert traced.program().digest() == before
    assert traced.program(model.state_dict()).digest() == Program.from_module(model, (2,)).digest() != before


def test_transformers_run():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu")
    model = nn.Sequential(nn.TransformerEncoder(layer, 2), nn.Flatten(), nn.Linear(24, 3)).eval()
    program = Program.from_module(model, (3, 8))
    assert [op.where.target for op in program.preactivation_ops] == ["aten.gelu.default"] * 2
    assert program.n_neurons == (48, 48)


def test_recurrent_networks_run():
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.head = nn.LSTM(2, 4, batch_first=True), nn.Linear(4, 1)

        def forward(self, x):
            return self.head(self.cell(x)[0][:, -1]).relu()

    program = Program.from_module(Last().eval(), (5, 2))
    assert [op.kind for op in program.ops] == ["other", "affine", "affine", "knots"]


def test_live_ranges():
    class Skip(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x):
            return x + self.b(self.a(x).relu())

    program = Program.from_module(Skip().eval(), (2,))
    assert [op.inputs for op in program.ops] == [(0,), (1,), (2,), (0, 3)]
    assert [program.last_use(v) for v in range(5)] == [3, 1, 2, 3, 4]
    assert set(program.run(torch.zeros(1, 2), keep=(1, 4))) == {1, 4}


def test_a_program_keeps_the_weights_it_was_given():
    model = mlp(2, 4, 1).double().eval()
    program = trace(model, (2,)).program(model.state_dict())
    before = program.digest()
    with torch.no_grad():
        model[0].weight += 1.0
    assert program.digest() == before


def test_one_entry_of_the_output():
    model = (
        nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 4), nn.Unflatten(1, (2, 2))).double().eval()
    )
    x = torch.randn(5, 3, dtype=torch.float64)
    for entry in range(4):
        program = Program.from_module(model, (3,), output=entry)
        assert program.output_shape == ()
        assert torch.equal(program.run(x), model(x).flatten(1)[:, entry])
        assert pickle.loads(pickle.dumps(program)).digest() == program.digest()
        assert program.to(torch.float32).run(x).dtype == torch.float32
    assert len({Program.from_module(model, (3,), output=entry).digest() for entry in range(4)}) == 4
    program.require_piecewise_linear()


def test_the_only_entry_of_a_scalar():
    model = nn.Sequential(nn.Linear(2, 1), nn.Flatten(0)).double().eval()
    x = torch.randn(5, 2, dtype=torch.float64)
    assert torch.equal(Program.from_module(model, (2,), output=0).run(x), model(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output": 4}, r"output=4, but the output has shape \(4,\): its entries are 0 to 3"),
        ({"output": -1}, "output=-1, but .* its entries are 0 to 3"),
        ({"output": 1.5}, "the output is 1.5; give the name of a node or module, or the number"),
        ({"output": True}, "the output is True; give the name"),
        ({"output": ["0"]}, r"the output is \['0'\]"),
        ({"normalise": 0.5}, r"normalise is 0.5; give a pair \(mean, std\)"),
        ({"normalise": (0.5, 1.0, 2.0)}, r"give a pair \(mean, std\)"),
        ({"normalise": "ab"}, r"normalise is 'ab'; give a pair"),
        ({"normalise": (None, 1.0)}, "the mean of normalise is None; give a number"),
        ({"normalise": (0.5, "x")}, "the std of normalise is 'x'"),
    ],
)
def test_options_that_are_none(options, message):
    with pytest.raises(ModelError, match=message):
        Program.from_module(nn.Linear(2, 4).eval(), (2,), **options)
