"""Programs of random architectures against the modules themselves, and what is promised of every op."""

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from torch import nn

from splinecam_lite.network import AffineOp, KnotsOp, Program, trace
from tests.network.architectures import networks

ROUNDING = 2.0**-40
"""Relative to the largest magnitude added up; float32 anywhere would show as 2^-24."""


def inputs_of(program, n=5):
    return 3 * torch.randn(n, *program.input_shape, dtype=torch.float64)


@pytest.mark.slow
@settings(max_examples=12)
@given(networks())
def test_program_equals_module_and_its_ops_keep_their_promises(network):
    module, shape = network
    program = Program.from_module(module, shape)
    program.require_piecewise_linear()
    x = inputs_of(program)
    expected = copy.deepcopy(module).double()(x)
    values = program.run(x, keep=range(len(program.shapes)))
    assert values[program.output].shape == expected.shape
    assert torch.allclose(values[program.output], expected, rtol=1e-10, atol=1e-10)
    for number, value in values.items():
        assert tuple(value.shape) == (len(x), *program.shapes[number])
    for op in program.ops:
        check_op(op, [values[v] for v in op.inputs], values[op.output])


def check_op(op, inputs, output):
    """Check the decomposition of an affine op, the bound of its magnitude, and the formula of a knots op."""
    if isinstance(op, AffineOp):
        linear, bound = op.linear(*inputs), op.magnitude(*(x.abs() for x in inputs))
        total = linear if op.bias is None else linear + op.bias
        scale = bound + output.abs()
        assert (linear.abs() <= bound * (1 + ROUNDING)).all()
        assert ((total - output).abs() <= ROUNDING * scale + 1e-300).all()
        assert (op.linear(*(0 * x for x in inputs)) == 0).all()
        doubled = op.linear(*(-2 * x for x in inputs))
        assert ((doubled + 2 * linear).abs() <= ROUNDING * scale + 1e-300).all()
        alone = torch.cat([op.linear(*(x[i : i + 1] for x in inputs)) for i in range(len(output))])
        assert ((alone - linear).abs() <= ROUNDING * scale + 1e-300).all()
        assert op.bias is None or torch.broadcast_shapes(op.bias.shape, output.shape[1:]) == output.shape[1:]
    elif isinstance(op, KnotsOp):
        (z,) = inputs
        formula = op.left_slope * z + op.left_intercept
        for place, jump in zip(op.breakpoints, op.jumps, strict=True):
            formula = formula + jump * (z - place).clamp(min=0)
            for part in (place, jump, op.left_slope, op.left_intercept):
                assert torch.broadcast_shapes(part.shape, z.shape[1:]) == z.shape[1:]
        assert torch.allclose(formula, output, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@settings(max_examples=4)
@given(networks())
def test_rebinding_gives_the_result_of_the_new_weights(network):
    module, shape = network
    traced = trace(module, shape)
    other = copy.deepcopy(module)
    with torch.no_grad():
        for tensor in other.state_dict().values():
            if tensor.is_floating_point():
                tensor.uniform_(0.5, 1.5)
    program = traced.program(other.state_dict())
    x = inputs_of(program)
    assert torch.allclose(program.run(x), other.double()(x), rtol=1e-10, atol=1e-10)
    if module.state_dict():
        assert program.digest() != traced.program().digest()
    assert traced.program().digest() == Program.from_module(module, shape).digest()


def test_batch_norm_may_stand_before_any_other_layer():
    model = nn.Sequential(
        nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.BatchNorm1d(48), nn.Linear(48, 2)
    ).eval()
    model[0].running_mean.normal_()
    model[3].running_var.uniform_(0.5, 2)
    program = Program.from_module(model, (3, 4, 4))
    x = torch.randn(4, 3, 4, 4, dtype=torch.float64)
    assert torch.allclose(program.run(x), model.double()(x), rtol=1e-13)
    assert program.ops[0].linear(x).shape == x.shape
    assert [op.kind for op in program.ops] == ["affine", "knots", "affine", "affine", "affine"]


def test_batch_norm_scale_is_rounded_once():
    norm = nn.BatchNorm1d(1, eps=0.0).eval().double()
    norm.running_var.fill_(3.0)
    norm.running_mean.fill_(1.0)
    op = Program.from_module(norm, (1,)).ops[0]
    # 1 / sqrt(3) to float64: sqrt rounded and then divided gives 0.5773502691896258 instead.
    assert op.linear(torch.ones(1, 1, dtype=torch.float64)).item() == 0.5773502691896257
    assert op.bias.item() == -0.5773502691896257


def test_programs_pickle_and_hash_alike():
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.PReLU(2), nn.Flatten(), nn.Linear(8, 2)
    ).eval()
    program = Program.from_module(model, (1, 4, 4))
    twin = pickle.loads(pickle.dumps(program))
    x = torch.randn(3, 1, 4, 4)
    assert torch.equal(twin.run(x), program.run(x))
    assert twin.digest() == program.digest()
    with torch.no_grad():
        model[0].weight[0, 0, 0, 0] += 1e-3
    assert Program.from_module(model, (1, 4, 4)).digest() != program.digest()


def test_float32_run_agrees_to_float32():
    model = nn.Sequential(nn.Linear(3, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 2)).eval()
    program = Program.from_module(model, (3,)).to(torch.float32)
    x = torch.randn(5, 3)
    assert program.run(x).dtype == torch.float32
    assert torch.allclose(program.run(x), model(x), atol=1e-5)
