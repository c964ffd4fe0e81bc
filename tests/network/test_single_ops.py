"""Each operator by itself: its kind, its value, and the promises of its kind."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from splinecam_lite.network import Program, trace
from tests.network.architectures import Apply
from tests.network.test_architectures import check_op

MATRIX = torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
VECTOR = MATRIX[0]

AFFINE = {
    # name: (function of a (batch, 2, 4) tensor, number of ops)
    "matmul right": (lambda x: x @ MATRIX, 1),
    "matmul vector": (lambda x: x @ VECTOR, 1),
    "matmul left": (lambda x: MATRIX[:, :2] @ x, 1),
    "einsum": (lambda x: torch.einsum("bij,kj->bki", x, MATRIX), 1),
    "addmm": (lambda x: torch.addmm(VECTOR, x[:, 0], MATRIX, beta=2, alpha=-0.5), 2),
    "mul": (lambda x: -2 * x * VECTOR, 2),
    "mul broadcast up": (lambda x: x[:, :1] * MATRIX, 2),
    "mask": (lambda x: x * (VECTOR > 0), 1),
    "div": (lambda x: x / VECTOR, 1),
    "add": (lambda x: x + VECTOR + 1, 2),
    "add broadcast up": (lambda x: x[:, :1] + MATRIX, 2),
    "add alpha": (lambda x: torch.add(x, x.flip(2), alpha=-3), 2),
    "add itself": (lambda x: x + x, 1),
    "sub": (lambda x: torch.sub(x.flip(2), x, alpha=2), 2),
    "sub from constant": (lambda x: VECTOR - x, 1),
    "rsub": (lambda x: 1 - x, 1),
    "neg": (lambda x: -x, 1),
    "mean": (lambda x: x.mean(-1), 1),
    "mean keepdim": (lambda x: x.mean((1, 2), keepdim=True), 1),
    "sum": (lambda x: x.sum(2), 1),
    "sum to a number": (lambda x: x.sum((1, 2)), 1),
    "cumsum": (lambda x: x.cumsum(2), 1),
    "pad": (lambda x: F.pad(x, (1, 2)), 1),
    "pad with a number": (lambda x: F.pad(x, (1, 0, 0, 1), value=3.0), 1),
    "cat": (lambda x: torch.cat([x, x[:, :1]], 1), 2),
    "cat with a constant": (lambda x: torch.cat([x, MATRIX.expand(x.shape[0], 4, 4)], 1), 1),
    "stack": (lambda x: torch.stack([x, 2 * x], 1), 2),
    "stack before the batch": (lambda x: torch.stack([x, 2 * x]).transpose(0, 1), 3),
    "split": (lambda x: x.split([1, 3], dim=2)[1], 1),
    "chunk and add": (lambda x: sum(x.chunk(2, dim=2)), 4),
    "unbind": (lambda x: x.unbind(1)[1], 1),
    "select": (lambda x: x[:, 1], 1),
    "slice": (lambda x: x[:, :, 1::2], 1),
    "index": (lambda x: x[:, :, [3, 0, 0]], 1),
    "permute": (lambda x: x.permute(0, 2, 1).reshape(x.shape[0], 8), 2),
    "batch second": (lambda x: (x.transpose(0, 1) @ MATRIX + 1).transpose(0, 1), 4),
    "batch merged": (lambda x: F.linear(x.reshape(-1, 4), MATRIX, VECTOR).reshape(-1, 2, 4), 3),
    "batch merged after an axis": (
        lambda x: (2 * x.transpose(0, 1).reshape(-1, 4)).reshape(2, -1, 4).transpose(0, 1),
        5,
    ),
    "unsqueeze, expand": (lambda x: x.unsqueeze(1).expand(-1, 3, -1, -1), 2),
    "squeeze": (lambda x: x[:, :1].squeeze(1), 2),
    "where": (lambda x: torch.where(VECTOR > 0, x, 2.0), 1),
    "masked_fill": (lambda x: x.masked_fill(VECTOR > 0, -1.0), 1),
    "zeros_like": (lambda x: x + torch.ones_like(x), 1),
    "conv1d": (lambda x: F.conv1d(x, MATRIX[:, :2, None], VECTOR, stride=2), 1),
    "conv_transpose1d": (lambda x: F.conv_transpose1d(x, MATRIX[:2, :, None], VECTOR), 1),
    "avg_pool1d": (lambda x: F.avg_pool1d(x, 2, padding=1, count_include_pad=False), None),
    "adaptive pooling, uneven": (lambda x: F.adaptive_avg_pool1d(x, 3), None),
    "upsample": (lambda x: F.interpolate(x, scale_factor=2, mode="linear"), 1),
    "cast": (lambda x: x.to(torch.float64).contiguous().clone() + 1, 1),
    "write into a copy": (lambda x: _written(x), None),
}

KNOTS = {
    "relu": F.relu,
    "leaky relu": lambda x: F.leaky_relu(x, 0.3),
    "negative leaky relu": lambda x: F.leaky_relu(x, -0.3),
    "prelu of one": lambda x: F.prelu(x, VECTOR[:1]),
    "prelu by channel": lambda x: F.prelu(x, VECTOR[:2]),
    "rrelu": lambda x: F.rrelu(x, 0.1, 0.3, training=False),
    "abs": torch.abs,
    "hardtanh": lambda x: F.hardtanh(x, -0.5, 0.25),
    "relu6": F.relu6,
    "clamp": lambda x: x.clamp(-0.5, 0.5),
    "clamp below": lambda x: x.clamp(min=-0.1),
    "clamp above": lambda x: x.clamp(max=0.1),
    "clamp with tensors": lambda x: x.clamp(VECTOR - 1, VECTOR),
    "clamp the wrong way round": lambda x: x.clamp(0.5, -0.5),
    "maximum": lambda x: torch.maximum(x, VECTOR),
    "maximum of constant": lambda x: torch.maximum(VECTOR, x),
    "minimum": lambda x: torch.minimum(x, VECTOR),
    "max with a constant": lambda x: torch.max(VECTOR, x),
    "min with a constant": lambda x: torch.min(x, VECTOR),
    "hardsigmoid": F.hardsigmoid,
    "threshold": lambda x: F.threshold(x, 0.3, 0.3),
}

BROADCAST_UP = {
    "maximum that broadcasts up": lambda x: torch.maximum(x[:, :1], MATRIX),
    "minimum of other rank": lambda x: torch.minimum(MATRIX[:, None], x[:, None]),
    "clamp that broadcasts up": lambda x: x[:, :1].clamp(min=MATRIX - 1, max=MATRIX),
    "broadcast up, batch second": lambda x: torch.maximum(MATRIX[:, None], x[:, 0]).transpose(0, 1),
    "broadcast up, batch merged": lambda x: torch.minimum(x.reshape(-1, 1, 4), MATRIX).reshape(-1, 2, 16),
}

SMOOTH = {
    "gelu": F.gelu,
    "silu": F.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "softplus": F.softplus,
    "elu": F.elu,
    "selu": F.selu,
    "mish": F.mish,
    "logsigmoid": F.logsigmoid,
    "hardswish": F.hardswish,
    "sine": torch.sin,
}

OTHER = {
    "softmax": lambda x: x.softmax(-1),
    "layer norm": lambda x: F.layer_norm(x, (4,)),
    "product": lambda x: x * x.flip(2),
    "square": lambda x: x * x,
    "quotient": lambda x: 1 / (3 + x.abs()),
    "argmax": lambda x: x.argmax(-1),
    "sorting": lambda x: x.sort(-1)[0],
    "jump": lambda x: F.threshold(x, 0.3, 0.0),
    "hardshrink": F.hardshrink,
    "attention": lambda x: F.scaled_dot_product_attention(x, x, x),
    "sign": lambda x: (x > 0).to(x.dtype),
    "infinite mask": lambda x: (x + torch.tensor([0.0, 0.0, 0.0, -torch.inf])).exp(),
}


def _written(x):
    y = x * 2
    y[:, 0] = 1.0
    y[:, 1] += x[:, 1]
    return y


class SideBySide(nn.Module):
    """All functions on the same input: one export serves them all."""

    def __init__(self, functions):
        super().__init__()
        self.parts = nn.ModuleDict({name: Apply(fn) for name, fn in functions.items()})

    def forward(self, x):
        return [part(x) for part in self.parts.values()]


AFFINE_FUNCTIONS = {name: fn for name, (fn, _) in AFFINE.items()}


@pytest.fixture(scope="module")
def traced():
    return trace(SideBySide(AFFINE_FUNCTIONS | KNOTS | BROADCAST_UP | SMOOTH | OTHER).eval(), (2, 4))


def run_and_check(traced, name, fn):
    """Program of one function, after checking its output and all of its ops on one batch."""
    program = traced.program(output=f"parts.{name}")
    x = torch.randn(7, 2, 4, dtype=torch.float64)
    values = program.run(x, keep=range(len(program.shapes)))
    assert torch.allclose(values[program.output], fn(x), rtol=1e-13, atol=1e-13)
    assert torch.equal(program.run(x[:0]), values[program.output][:0])
    for op in program.ops:
        check_op(op, [values[v] for v in op.inputs], values[op.output])
    return program


@pytest.mark.parametrize("name", AFFINE)
def test_affine(traced, name):
    fn, n_ops = AFFINE[name]
    program = run_and_check(traced, name, fn)
    assert {op.kind for op in program.ops} == {"affine"}
    assert n_ops is None or len(program.ops) == n_ops


@pytest.mark.parametrize("name", KNOTS)
def test_knots(traced, name):
    program = run_and_check(traced, name, KNOTS[name])
    assert [op.kind for op in program.ops] == ["knots"]
    assert program.preactivation_ops == program.ops


@pytest.mark.parametrize("name", BROADCAST_UP)
def test_knots_of_repeated_entries(traced, name):
    program = run_and_check(traced, name, BROADCAST_UP[name])
    kinds = [op.kind for op in program.ops]
    assert kinds.count("knots") == 1
    assert kinds.count("affine") == len(kinds) - 1


@pytest.mark.parametrize("name", SMOOTH)
def test_smooth(traced, name):
    program = run_and_check(traced, name, SMOOTH[name])
    assert [op.kind for op in program.ops] == ["smooth"]
    assert program.n_neurons == (8,)


@pytest.mark.parametrize("name", OTHER)
def test_other(traced, name):
    program = run_and_check(traced, name, OTHER[name])
    assert {"other", "smooth"} & {op.kind for op in program.ops}
    assert not any(op.kind == "smooth" and op.is_activation for op in program.ops)


def test_literals_are_float64():
    model = Apply(lambda x: x + 0.1 * torch.ones(4) + torch.tensor([0.1, 0.2, 0.3, 0.4])).eval()
    program = Program.from_module(model, (2, 4))
    x = torch.zeros(1, 2, 4, dtype=torch.float64)
    assert program.run(x)[0, 0].tolist() == [0.1 + 0.1, 0.1 + 0.2, 0.1 + 0.3, 0.1 + 0.4]
