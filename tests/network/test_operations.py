"""Each piecewise-linear operation of torch: its program computes the module, and keeps its promises."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from splinecam_lite.network import Program, trace
from splinecam_lite.network.exact.integer_ops import read
from splinecam_lite.network.ops import AffineOp, KnotsOp
from tests.network.architectures import Apply
from tests.network.operations import AFFINE, WITHOUT_KNOTS, SideBySide, activations
from tests.network.test_architectures import check_op

CASES = [(shape, name) for shape, make in AFFINE.items() for name in make()] + [
    ((5,), name) for name in activations()
]


@pytest.fixture(scope="module")
def traced():
    """By input shape: the modules side by side, and what is exported of them."""
    torch.manual_seed(0)
    found = {}
    for shape, make in {**AFFINE, (5,): activations}.items():
        both = SideBySide(make(), shape).double().eval()
        found[shape] = both, trace(both, shape)
    return found


@pytest.mark.parametrize(("shape", "name"), CASES, ids=[f"{name} {shape}" for shape, name in CASES])
def test_program_equals_module(traced, shape, name):
    both, exported = traced[shape]
    part = both.parts[name]
    program = exported.program(output=f"parts.{name}")
    program.require_piecewise_linear()
    x = 2 * torch.randn(7, *shape, dtype=torch.float64)
    with torch.no_grad():
        values = program.run(x, keep=range(len(program.shapes)))
        expected = part(x.clone())
        assert torch.allclose(values[program.output], expected, rtol=1e-12, atol=1e-12)
        for op in program.ops:
            check_op(op, [values[v] for v in op.inputs], values[op.output])
            if isinstance(op, AffineOp):
                read(op, tuple(program.shapes[v] for v in op.inputs)).build(12)  # exact mode knows it
    bends = [op for op in program.ops if isinstance(op, KnotsOp)]
    own = [op for op in bends if any(bool(jump.any()) for jump in op.jumps)]
    expected_knots = 3 if name == "two in a row" else 2
    assert len(own) == expected_knots - (name in WITHOUT_KNOTS)


def test_softshrink_is_one_op_with_two_knots():
    program = Program.from_module(nn.Sequential(nn.Linear(2, 3), nn.Softshrink(0.3)).eval(), (2,))
    _, op = program.ops
    assert (op.kind, op.where.label, op.where.target) == ("knots", "1", "aten.softshrink.default")
    assert [b.item() for b in op.breakpoints] == [-0.3, 0.3]
    assert [j.item() for j in op.jumps] == [-1.0, 1.0]
    assert (op.left_slope.item(), op.left_intercept.item()) == (1.0, 0.3)


def test_an_rrelu_in_place_changes_what_was_read_before_it():
    def forward(x):
        y = x + 0
        z = F.rrelu(y, 0.2, 0.4, training=False, inplace=True)
        return y + 2 * z

    program = Program.from_module(Apply(forward).eval(), (4,))
    x = torch.randn(5, 4, dtype=torch.float64)
    assert torch.allclose(program.run(x), 3 * F.leaky_relu(x, 0.3))
    assert sum(op.kind == "knots" for op in program.ops) == 1


@pytest.mark.parametrize("order", ["batch second", "batch merged", "few axes"])
def test_interpolation_wherever_the_batch_lies(order):
    def forward(x):  # (batch, 2, 4, 5)
        if order == "batch second":
            return F.interpolate(x.transpose(0, 1), size=(6, 7), mode="bilinear").transpose(0, 1)
        if order == "batch merged":
            return F.interpolate(x.flatten(0, 1)[:, None], scale_factor=1.5, mode="bicubic").reshape(
                -1, 2, 6, 7
            )
        return F.interpolate(x.mean(3), size=9, mode="linear")

    program = Program.from_module(Apply(forward).eval(), (2, 4, 5))
    program.require_piecewise_linear()
    x = torch.randn(3, 2, 4, 5, dtype=torch.float64)
    assert torch.allclose(program.run(x), forward(x), atol=1e-13)


def test_interpolation_is_a_constant_matrix_for_each_axis():
    program = Program.from_module(nn.Upsample(size=(3, 8), mode="bilinear").eval(), (1, 3, 4))
    (op,) = program.ops  # the other axis keeps its size
    (matrix,) = op.linear.constants.values()
    assert matrix.shape == (8, 4)
    assert matrix.dtype == torch.float64
    assert torch.allclose(matrix.sum(dim=1), torch.ones(8, dtype=torch.float64))
    assert program.shapes == ((1, 3, 4), (1, 3, 8))
    assert not Program.from_module(nn.Upsample(size=(3, 4), mode="bilinear").eval(), (1, 3, 4)).ops


def test_programs_with_interpolation_change_type_and_pickle():
    import pickle

    program = Program.from_module(nn.Upsample(scale_factor=2, mode="bilinear").eval(), (1, 3, 4))
    x = torch.randn(2, 1, 3, 4)
    single = pickle.loads(pickle.dumps(program)).to(torch.float32)
    assert single.run(x).dtype == torch.float32
    assert torch.allclose(single.run(x), F.interpolate(x, scale_factor=2, mode="bilinear"), atol=1e-6)
