"""What the bracket is made of: lines around activations, transposes, bounds, signs along segments."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from splinecam_lite.complexity.bounding import bounds as bounds_module
from splinecam_lite.complexity.bounding import rays, substitution
from splinecam_lite.complexity.bounding.bounds import layer_bounds
from splinecam_lite.complexity.bounding.rays import choose_segments, seen_along
from splinecam_lite.complexity.bounding.relaxation import can_relax, lines_around
from splinecam_lite.complexity.bounding.substitution import Transposes
from splinecam_lite.complexity.frames import cross_polytope, random_frame
from splinecam_lite.network.ops import AffineOp
from splinecam_lite.network.program import Program
from splinecam_lite.network.segments import Segment
from splinecam_lite.partition.partition import partition
from tests.complexity.networks import ACTIVATIONS, STRUCTURES, Abs, random_program
from tests.strategies import Case, degenerate_cases, generic_cases

BENT = {
    "relu": nn.ReLU(),
    "leaky": nn.LeakyReLU(0.25),
    "abs": Abs(),
    "relu6": nn.ReLU6(),
    "hardtanh": nn.Hardtanh(),
    "gelu": nn.GELU(),
    "gelu tanh": nn.GELU(approximate="tanh"),
    "silu": nn.SiLU(),
    "tanh": nn.Tanh(),
    "sigmoid": nn.Sigmoid(),
    "softplus": nn.Softplus(beta=2.0),
    "elu": nn.ELU(),
    "celu": nn.CELU(0.5),
    "mish": nn.Mish(),
    "hardswish": nn.Hardswish(),
}
programs = st.builds(
    random_program,
    st.sampled_from(list(STRUCTURES)),
    st.sampled_from(list(ACTIVATIONS)),
    st.integers(0, 2**32 - 1),
)


# ---- lines around activations ------------------------------------------------------------------


@pytest.fixture(scope="module")
def ops():
    """Op of each activation, and a callable that evaluates it."""
    found = {}
    for name, module in BENT.items():
        (op,) = Program.from_module(nn.Sequential(module).eval(), (1,)).ops
        found[name] = op
    return found


@pytest.mark.parametrize("name", list(BENT))
def test_lines_enclose_the_activation(ops, name):
    """Over intervals of every size and place, degenerate ones as well."""
    op, rng = ops[name], np.random.default_rng(0)
    centre = rng.normal(size=400) * 4
    half = np.abs(rng.normal(size=400)) * 10.0 ** rng.integers(-6, 2, 400)
    half[:5] = 0.0
    low, high = (torch.from_numpy(x)[None] for x in (centre - half, centre + half))
    lines = lines_around(op, low, high)
    part = torch.linspace(0, 1, 301).double()[:, None]
    z = (low * (1 - part) + high * part).clamp(low, high)
    f = op.run(z[..., None])[..., 0]
    slack = 1e-13 * (1 + z.abs() + f.abs())  # the rounding of this evaluation itself
    assert (lines.lower_slope * z + lines.lower_intercept <= f + slack).all()
    assert (lines.upper_slope * z + lines.upper_intercept >= f - slack).all()
    assert (lines.band_slope * z + lines.band_low <= f + slack).all()
    assert (lines.band_slope * z + lines.band_high >= f - slack).all()
    assert (lines.low <= f + slack).all()
    assert (lines.high >= f - slack).all()


@pytest.mark.parametrize("name", list(BENT))
def test_lines_are_as_close_as_they_can_be(ops, name):
    """Each line touches, but for the height of the grid of a smooth one; short ones are straight."""
    op, rng = ops[name], np.random.default_rng(1)
    centre, half = rng.normal(size=200) * 3, np.abs(rng.normal(size=200))
    low, high = (torch.from_numpy(x)[None] for x in (centre - half, centre + half))
    lines = lines_around(op, low, high)
    part = torch.linspace(0, 1, 2001).double()[:, None]
    z = low * (1 - part) + high * part
    f = op.run(z[..., None])[..., 0]
    above = (lines.upper_slope * z + lines.upper_intercept - f).amin(dim=0)
    below = (f - lines.lower_slope * z - lines.lower_intercept).amin(dim=0)
    room = 0.02 * (high - low)[0] ** 2 + 2e-3
    assert (above <= room).all()
    assert (below <= room).all()
    tiny = lines_around(op, torch.from_numpy(centre)[None], torch.from_numpy(centre + 1e-7)[None])
    assert (tiny.band_high - tiny.band_low).max() < 1e-6


def test_lines_around_relu_are_those_of_deeppoly(ops):
    low, high = (
        torch.tensor([[-1.0, -3.0, 1.0, -2.0]]).double(),
        torch.tensor([[3.0, 1.0, 2.0, -1.0]]).double(),
    )
    lines = lines_around(ops["relu"], low, high)
    np.testing.assert_allclose(lines.upper_slope[0], [0.75, 0.25, 1.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(lines.upper_intercept[0], [0.75, 0.75, 0.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(lines.lower_slope[0], [1.0, 0.0, 1.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(lines.lower_intercept[0], 0.0, atol=1e-12)
    assert lines.bent[0].tolist() == [True, True, False, False]


def test_lines_around_a_clamp_are_edges_of_its_hull(ops):
    lines = lines_around(ops["hardtanh"], torch.tensor([[-5.0]]).double(), torch.tensor([[5.0]]).double())
    np.testing.assert_allclose([float(lines.upper_slope), float(lines.upper_intercept)], [1 / 3, 2 / 3])


def test_what_has_no_lines_is_told_apart(ops):
    assert all(can_relax(op) for op in ops.values())
    (op,) = Program.from_module(nn.Sequential(nn.Softmax(-1)).eval(), (3,)).ops
    assert not can_relax(op)


# ---- transposes --------------------------------------------------------------------------------


@pytest.mark.parametrize("structure", list(STRUCTURES))
@pytest.mark.parametrize("dense", [0, substitution.DENSE])
def test_transposes_are_adjoint(structure, dense, monkeypatch):
    monkeypatch.setattr(substitution, "DENSE", dense)
    program = random_program(structure, "relu", 1)
    transposes = Transposes(program)
    for op in program.ops:
        if isinstance(op, AffineOp):
            xs = [torch.randn(5, *program.shapes[v], dtype=torch.float64) for v in op.inputs]
            a = torch.randn(5, *program.shapes[op.output], dtype=torch.float64)
            forwards = (op.linear(*xs) * a).flatten(1).sum(dim=1)
            backwards = sum((x * b).flatten(1).sum(dim=1) for x, b in zip(xs, transposes(op, a), strict=True))
            torch.testing.assert_close(forwards, backwards)


# ---- bounds ------------------------------------------------------------------------------------


def bounds_of(program, points, offset, **options):
    with torch.no_grad():
        return list(layer_bounds(program, points, offset, Transposes(program), **options))


def weights_in_the_body(n: int, directions: int, rng) -> torch.Tensor:
    """Random t (n, P) with |t|_1 <= 1: inside, on faces, near vertices, vertices."""
    t = rng.dirichlet(np.full(directions, 0.3), size=n) * rng.choice([-1.0, 1.0], size=(n, directions))
    scale = rng.choice([1.0, 1.0, 0.999, 0.5], size=(n, 1)) * rng.uniform(0.2, 1.0, size=(n, 1)) ** (
        rng.random((n, 1)) < 0.5
    )
    t = t * scale
    vertices = np.concatenate((np.eye(directions), -np.eye(directions)))
    near = vertices[rng.integers(0, 2 * directions, n // 4)] * 0.99 + 0.01 * t[: n // 4]
    return torch.from_numpy(np.concatenate((t, near, vertices, np.zeros((1, directions)))))


def assert_within(program, at, z, layer):
    slack = 1e-13 * at.scale[0]  # rounding of the evaluation that the bounds are held against
    assert (z >= at.low[0] - slack).all(), f"layer {layer}: below its bound"
    assert (z <= at.high[0] + slack).all(), f"layer {layer}: above its bound"
    certain = at.certain()[0]
    positive = at.low[0] >= 0.0
    assert (z[:, certain & positive] >= -slack[certain & positive]).all()
    assert (z[:, certain & ~positive] < slack[certain & ~positive]).all()


@given(
    programs, st.sampled_from([0.01, 0.3, 1.0, 4.0]), st.integers(1, 3), st.booleans(), st.integers(0, 2**31)
)
def test_no_point_of_the_body_is_outside_the_bounds(program, radius, directions, backwards, seed):
    rng = np.random.default_rng(seed)
    point = torch.from_numpy(rng.normal(size=(1, *program.input_shape)))
    offset = radius * random_frame(program.input_shape, directions, seed)
    inputs = [op.inputs[0] for op in program.preactivation_ops]
    t = weights_in_the_body(400, directions, rng)
    values = program.run(point + torch.tensordot(t, offset, dims=1), keep=inputs)
    bounds = bounds_of(program, point, offset, backwards=backwards)
    for layer, (at, v) in enumerate(zip(bounds, inputs, strict=True)):
        assert_within(program, at, values[v].flatten(1), layer)


@pytest.mark.parametrize("name", ["hardtanh", "relu6", "gelu", "tanh", "silu", "elu"])
@pytest.mark.parametrize("radius", [0.3, 2.0, 6.0])
def test_nor_with_activations_that_are_not_convex(name, radius):
    """For convex ones through 0 many a wrong line is a right one; these tell them apart."""
    for seed in range(4):
        torch.manual_seed(seed)
        layers = [nn.Linear(3, 10), BENT[name], nn.Linear(10, 10), BENT[name], nn.Linear(10, 10), BENT[name]]
        model = nn.Sequential(*layers).double().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(3.0)
        program, rng = Program.from_module(model, (3,)), np.random.default_rng(seed)
        point, offset = torch.from_numpy(rng.normal(size=(1, 3))), radius * random_frame((3,), 2, seed)
        inputs = [op.inputs[0] for op in program.preactivation_ops]
        t = weights_in_the_body(2000, 2, rng)
        values = program.run(point + torch.tensordot(t, offset, dims=1), keep=inputs)
        for layer, (at, v) in enumerate(zip(bounds_of(program, point, offset), inputs, strict=True)):
            assert_within(program, at, values[v].flatten(1), layer)


def extreme_by_search(program, point, offset, value, sign, steps=12):
    """Look for a large ``sign * z`` of each neuron: Frank-Wolfe from the centre, (n,) values found."""
    n, directions = int(np.prod(program.shapes[value])), len(offset)
    t = torch.zeros(n, directions, dtype=torch.float64)
    best = torch.full((n,), -torch.inf, dtype=torch.float64)
    for _ in range(steps):
        t.requires_grad_()
        with torch.enable_grad():
            z = program.run(point + torch.tensordot(t, offset, dims=1), keep=[value])[value].flatten(1)
            (slope,) = torch.autograd.grad(sign * z.diagonal().sum(), t)
        t = t.detach()
        best = torch.maximum(best, sign * z.detach().diagonal())
        to = slope.abs().argmax(dim=1)
        vertex = torch.zeros_like(t)
        vertex[torch.arange(n), to] = slope[torch.arange(n), to].sign()
        parts = torch.tensor([0.1, 0.3, 0.6, 1.0], dtype=torch.float64)
        tried = t + parts[:, None, None] * (vertex - t)
        x = point + torch.tensordot(tried.flatten(0, 1), offset, dims=1)
        z = program.run(x, keep=[value])[value].flatten(1).unflatten(0, (len(parts), n))
        score = sign * z[:, torch.arange(n), torch.arange(n)]
        best = torch.maximum(best, score.amax(dim=0))
        t = tried[score.argmax(dim=0), torch.arange(n)]
    return best


@settings(max_examples=15)
@given(programs, st.sampled_from([0.1, 0.5, 2.0]), st.integers(2, 3), st.integers(0, 2**31))
def test_an_adversary_with_gradients_does_not_leave_the_bounds(program, radius, directions, seed):
    rng = np.random.default_rng(seed)
    point = torch.from_numpy(rng.normal(size=(1, *program.input_shape)))
    offset = radius * random_frame(program.input_shape, directions, seed)
    bounds = bounds_of(program, point, offset)
    for at, op in zip(bounds, program.preactivation_ops, strict=True):
        slack = 1e-13 * at.scale[0]
        highest = extreme_by_search(program, point, offset, op.inputs[0], 1.0)
        lowest = -extreme_by_search(program, point, offset, op.inputs[0], -1.0)
        assert (highest <= at.high[0] + slack).all()
        assert (lowest >= at.low[0] - slack).all()


def exact_preactivations(case, x):
    """Preactivations of each layer at a rational point, in rational arithmetic; ReLU and its kin."""
    pieces = {"relu": (0, 1), "leaky": (Fraction(1, 4), 1), "abs": (-1, 1)}
    for (matrix, bias), name in zip(case.layers, case.activations, strict=False):
        z = [sum(Fraction(w) * v for w, v in zip(row, x, strict=True)) + Fraction(b)
             for row, b in zip(matrix, bias, strict=True)]  # fmt: skip
        yield z
        left, right = pieces[name]
        x = [(right if v > 0 else left) * v for v in z]


@settings(max_examples=15)
@given(
    (generic_cases() | degenerate_cases()).filter(
        lambda case: set(case.activations) <= {"relu", "leaky", "abs"}
    ),
    st.sampled_from([2.0**-30, 0.25, 1.0]),
    st.sampled_from([1.0, 2.0**20]),
    st.integers(0, 2**31),
)
def test_bounds_hold_in_rational_arithmetic(case, radius, far, seed):
    """No slack at all: what rounding could do is in the bounds, also far out, where biases cancel."""
    rng = np.random.default_rng(seed)
    centre = np.round(rng.normal(size=2) * 64) / 64 * far
    program, offset = case.program(), radius * torch.eye(2, dtype=torch.float64)
    for backwards in (False, True):
        bounds = bounds_of(program, torch.from_numpy(centre)[None], offset, backwards=backwards)
        for t in [
            (0, 0),
            (1, 0),
            (0, -1),
            (Fraction(1, 3), Fraction(-2, 3)),
            (Fraction(-1, 2), Fraction(1, 2)),
        ]:
            x = [Fraction(c) + Fraction(radius) * Fraction(s) for c, s in zip(centre, t, strict=True)]
            for at, z in zip(bounds, exact_preactivations(case, x), strict=False):
                lows, highs = at.low[0].tolist(), at.high[0].tolist()
                for low, value, high in zip(lows, z, highs, strict=True):
                    assert Fraction(low) <= value <= Fraction(high)


@pytest.mark.parametrize("radius", [1e-9, 0.05, 0.5])
def test_substitution_allows_for_its_own_rounding(radius, monkeypatch):
    """Weights are no dyadic numbers, and bounds that are reached at vertices are held against rationals."""
    monkeypatch.setattr(bounds_module, "ROUNDED", -1.0)  # substitutes where the forms would do as well
    monkeypatch.setattr(bounds_module.Form, "range", lambda form: (form.centre - 1e3, form.centre + 1e3))
    for seed in range(6):
        rng = np.random.default_rng(seed)
        shapes = [(5, 2), (5, 5), (5, 5)]
        layers = [(rng.normal(size=s).tolist(), rng.normal(size=s[0]).tolist()) for s in shapes]
        case, centre = Case(layers, ["relu"] * 3, []), rng.normal(size=2)
        offset = radius * torch.eye(2, dtype=torch.float64)
        bounds = bounds_of(case.program(), torch.from_numpy(centre)[None], offset)
        for p, sign in [(0, 1), (0, -1), (1, 1), (1, -1)]:
            x = [Fraction(c) for c in centre]
            x[p] += sign * Fraction(radius)
            for at, z in zip(bounds, exact_preactivations(case, x), strict=True):
                for low, value, high in zip(at.low[0].tolist(), z, at.high[0].tolist(), strict=True):
                    assert Fraction(low) <= value <= Fraction(high)


@given(programs, st.sampled_from([0.3, 2.0]), st.integers(0, 2**31))
def test_substitution_never_loosens_a_bound(program, radius, seed):
    """A layer's own bounds, from the same lines before it, get tighter; so the first bent layer shows it."""
    torch.manual_seed(seed)
    point = torch.randn(1, *program.input_shape, dtype=torch.float64)
    offset = radius * random_frame(program.input_shape, 2, seed)
    forms = bounds_of(program, point, offset, backwards=False)
    both = bounds_of(program, point, offset)
    first = next((i for i, at in enumerate(forms) if not at.affine), None)
    if first is not None:
        assert (both[first].low >= forms[first].low).all()
        assert (both[first].high <= forms[first].high).all()


def test_the_geometry_of_l1_is_used():
    """One affine neuron that all directions move alike: its range is that of one of them, not of the sum."""
    model = nn.Sequential(nn.Linear(9, 1), nn.ReLU()).double().eval()
    with torch.no_grad():
        model[0].weight.fill_(1.0)
        model[0].bias.zero_()
    program = Program.from_module(model, (9,))
    (at,) = bounds_of(program, torch.zeros(1, 9).double(), torch.eye(9).double())
    np.testing.assert_allclose([float(at.low), float(at.high)], [-1.0, 1.0], rtol=1e-12)


# ---- segments ----------------------------------------------------------------------------------


def both_signs_by_partition(program, start, end):
    """Slow: the partition of the segment, and preactivations at its breaks, list of (n,) bool."""
    part = partition(program, Segment.between(start.numpy(), end.numpy()))
    inputs = [op.inputs[0] for op in program.preactivation_ops]
    values = program.run(torch.from_numpy(part.segment.lift(part.t)), keep=inputs)
    found = []
    for v in inputs:
        z = values[v].flatten(1)
        tolerance = 1e-11 * (1 + z.abs().amax())
        found.append((z.amin(dim=0) < -tolerance) & (z.amax(dim=0) > tolerance))
    return found


@settings(max_examples=10)
@given(programs, st.sampled_from([0.1, 0.5, 3.0]), st.integers(0, 2**31))
def test_signs_along_segments_are_those_of_their_partitions(program, radius, seed):
    torch.manual_seed(seed)
    point = torch.randn(program.input_shape, dtype=torch.float64)
    offset = radius * random_frame(program.input_shape, 2, seed)
    vertices = cross_polytope(point[None], offset, 1.0)[0]
    scales = [at.scale[0] for at in bounds_of(program, point[None], offset)]
    for pair in choose_segments(2, None, 0):
        seen = seen_along(program, vertices, pair[None], scales)
        expected = both_signs_by_partition(program, *vertices[pair])
        for one, other in zip(seen, expected, strict=True):
            assert one.crosses().tolist() == other.tolist()


@settings(max_examples=20)
@given(programs, st.sampled_from([0.5, 3.0]), st.integers(0, 2**31))
def test_every_sign_has_a_witness(program, radius, seed):
    """Where a neuron is said to be negative, or positive, the network itself says so too."""
    torch.manual_seed(seed)
    point = torch.randn(program.input_shape, dtype=torch.float64)
    offset = radius * random_frame(program.input_shape, 3, seed)
    vertices, segments = cross_polytope(point[None], offset, 1.0)[0], choose_segments(3, 5, seed)
    scales = [at.scale[0] for at in bounds_of(program, point[None], offset)]
    inputs = [op.inputs[0] for op in program.preactivation_ops]
    for layer, one in enumerate(seen_along(program, vertices, segments, scales)):
        for sign, value, at in ((-1, one.low, one.low_at), (1, one.high, one.high_at)):
            start, end = vertices[segments[at[:, 0].long()]].unbind(dim=1)
            part = at[:, 1].reshape(-1, *[1] * point.ndim)
            z = program.run((1 - part) * start + part * end, keep=inputs)[inputs[layer]].flatten(1).diagonal()
            torch.testing.assert_close(z, value, rtol=1e-9, atol=1e-10)
            surely = one.crosses()
            assert (sign * z[surely] >= 0).all()


def test_parts_of_segments_see_what_whole_ones_see(monkeypatch):
    program = random_program("mlp", "hardtanh", 5)
    point, offset = torch.randn(1, 3).double(), 3.0 * random_frame((3,), 3, 0)
    vertices, segments = cross_polytope(point, offset, 1.0)[0], choose_segments(3, None, 0)
    scales = [at.scale[0] for at in bounds_of(program, point, offset)]
    whole = seen_along(program, vertices, segments, scales)
    cuts = []
    halves = rays._halves
    monkeypatch.setattr(rays, "_halves", lambda *given: cuts.append(1) or halves(*given))
    monkeypatch.setattr(rays, "BYTES", 1)
    parts = seen_along(program, vertices, segments, scales)
    assert len(cuts) > 20
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one.low, other.low, rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(one.high, other.high, rtol=1e-9, atol=1e-10)


def test_edges_are_drawn_once_and_diagonals_always_there():
    pairs = choose_segments(6, 20, 3).tolist()
    assert len({tuple(p) for p in pairs}) == 26
    assert [p for p in pairs if p[1] - p[0] == 6] == pairs[:6]
    assert len(choose_segments(6, None, 0)) == 6 + 2 * 6 * 5 == len(choose_segments(6, 1000, 0))
