"""Piecewise-linear functions in place of smooth ones: the error that is proved is never exceeded."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from splinecam_lite.errors import ModelError
from splinecam_lite.network import Program
from splinecam_lite.network.approximation import FINEST, Knots, knots_of, proved_error
from splinecam_lite.network.intervals import Interval
from splinecam_lite.network.smooth import FUNCTIONS

mpmath = pytest.importorskip("mpmath")

TORCH = {
    "gelu": F.gelu,
    "silu": F.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "log_sigmoid": F.logsigmoid,
    "softplus": F.softplus,
    "mish": F.mish,
    "elu": F.elu,
    "selu": F.selu,
    "celu": F.celu,
    "hardswish": F.hardswish,
}
SIZES = st.floats(0.05, 20.0)
CASES = st.one_of(
    st.sampled_from(sorted(TORCH)).map(lambda name: (name, ())),
    st.just(("gelu", (("approximate", "tanh"),))),
    st.builds(lambda beta: ("softplus", (("beta", beta),)), SIZES),
    st.builds(lambda a, s: ("elu", (("alpha", a), ("input_scale", s))), st.floats(-3.0, 3.0), SIZES),
    st.builds(lambda a: ("celu", (("alpha", a),)), SIZES),
)
TOLERANCES = st.floats(-5.0, 0.0).map(lambda power: 10.0**power)
EVERY = [(name, ()) for name in sorted(TORCH)] + [("gelu", (("approximate", "tanh"),))]


def torch_function(name, arguments, x):
    arguments = dict(arguments)
    if name == "elu" and "input_scale" in arguments:
        alpha, scale = arguments["alpha"], arguments["input_scale"]
        return torch.ops.aten.elu.default(torch.from_numpy(x), alpha, 1.0, scale).numpy()
    return TORCH[name](torch.from_numpy(x), **arguments).numpy()


def adversarial_points(knots: Knots) -> np.ndarray:
    """Breakpoints, points between all of them, and far out: where errors are largest."""
    places = np.array(knots.breakpoints)
    edges = np.concatenate((places[:1] - 1.0, places, places[-1:] + 1.0))
    between = (edges[:-1, None] + np.linspace(0, 1, 33) * np.diff(edges)[:, None]).ravel()
    far = np.logspace(-3, 4, 200)
    close = np.nextafter(places, np.inf), np.nextafter(places, -np.inf)
    return np.concatenate((places, *close, between, places[-1] + far, places[0] - far, [0.0, 20.0, 20.001]))


def assert_within(name, arguments, knots, error):
    x = adversarial_points(knots)
    away = np.abs(knots(x) - torch_function(name, arguments, x))
    assert (away <= error + 1e-14 * (1 + np.abs(x)) * (1 + sum(map(abs, knots.jumps)))).all()
    return away.max()


@settings(max_examples=150)
@given(CASES, TOLERANCES)
def test_the_error_is_at_most_what_is_proved_and_that_at_most_the_tolerance(case, tolerance):
    name, arguments = case
    knots, error = knots_of(name, arguments, tolerance)
    assert error <= tolerance
    assert_within(name, arguments, knots, error)


@pytest.mark.parametrize("case", EVERY, ids=str)
def test_the_proof_is_tight_and_breakpoints_are_few(case):
    knots, error = knots_of(*case, 1e-3)
    assert assert_within(*case, knots, error) >= 0.9 * error
    x = np.linspace(knots.breakpoints[0], knots.breakpoints[-1], 20001)
    low, high = FUNCTIONS[case[0]](**dict(case[1])).curvature(Interval(x, x))
    bent = np.sqrt(np.maximum(np.abs(low), np.abs(high)) / (16 * 1e-3)).mean() * (x[-1] - x[0])
    assert len(knots.breakpoints) <= 1.1 * bent + 6


@pytest.mark.parametrize("case", EVERY, ids=str)
def test_ten_times_the_breakpoints_for_a_hundredth_of_the_error(case):
    coarse, fine = (len(knots_of(*case, tolerance)[0].breakpoints) for tolerance in (1e-3, 1e-5))
    assert 6 * coarse < fine < 11 * coarse


@given(case=CASES, seed=st.integers(0, 2**32 - 1), size=st.floats(1e-6, 0.3))
def test_no_wrong_function_is_proved(case, seed, size):
    """Whatever is done to the knots, the proved bound holds, or there is none."""
    name, arguments = case
    knots, _ = knots_of(name, arguments, 1e-2)
    assume(len(knots.breakpoints) > 1)
    rng = np.random.default_rng(seed)
    places, jumps = np.array(knots.breakpoints), np.array(knots.jumps)
    i = rng.integers(len(places))
    grid = 2.0**-20
    places[i] += grid * round(size / grid * rng.choice([-1, 1]))
    if rng.random() < 0.5:
        i = rng.integers(1, len(places))
        change = grid * round(size / grid)
        jumps[i], jumps[i - 1] = jumps[i] + change, jumps[i - 1] - change
    broken = Knots(*knots[:2], tuple(places.tolist()), tuple(jumps.tolist()))
    error = proved_error(FUNCTIONS[name](**dict(arguments)), broken)
    if math.isfinite(error):
        assert_within(name, arguments, broken, error)
        assert list(broken.breakpoints) == sorted(broken.breakpoints)


def test_what_makes_a_proof_fail():
    hardswish = FUNCTIONS["hardswish"]()
    good, _ = knots_of("hardswish", (), 1e-2)
    assert proved_error(hardswish, good) <= 1e-2
    for wrong in (
        good._replace(breakpoints=tuple(b + 2.0**-10 for b in good.breakpoints)),  # kinks are passed
        good._replace(left_slope=0.25),
        good._replace(jumps=(*good.jumps[:-1], good.jumps[-1] * 2)),
        good._replace(breakpoints=good.breakpoints[::-1]),
        good._replace(jumps=(*good.jumps[:-1], good.jumps[-1] + 2.0**-50)),
    ):
        assert proved_error(hardswish, wrong) == math.inf
    assert proved_error(hardswish, good._replace(left_intercept=0.5)) > 0.49
    gelu, _ = knots_of("gelu", (), 1e-2)
    late = gelu._replace(breakpoints=tuple(b / 8 for b in gelu.breakpoints))
    assert proved_error(FUNCTIONS["gelu"](), late) == math.inf


@pytest.mark.parametrize("case", EVERY, ids=str)
def test_slopes_are_sums_of_jumps_in_any_arithmetic(case):
    knots, _ = knots_of(*case, 1e-3)
    rounded, exact = knots.left_slope, Fraction(knots.left_slope)
    for jump in knots.jumps:
        rounded, exact = rounded + jump, exact + Fraction(jump)
        assert Fraction(rounded) == exact
    assert rounded == FUNCTIONS[case[0]](**dict(case[1])).right[0]


def high_precision(name, arguments):
    mp, arguments = mpmath.mp, dict(arguments)
    sigmoid, softplus = lambda x: 1 / (1 + mp.exp(-x)), lambda x: mp.log1p(mp.exp(x))
    alpha, scale = mp.mpf(arguments.get("alpha", 1.0)), mp.mpf(arguments.get("input_scale", 1.0))
    selu = mp.mpf(1.6732632423543772848170429916717), mp.mpf(1.0507009873554804934193349852946)
    k, c = mp.sqrt(2 / mp.pi), mp.mpf(0.044715)
    beta = mp.mpf(arguments.get("beta", 1.0))
    gelu = {
        "none": lambda x: x * mp.erfc(-x / mp.sqrt(2)) / 2,
        "tanh": lambda x: x * sigmoid(2 * k * (x + c * x**3)),  # (1 + tanh(u)) / 2, where nothing cancels
    }
    return {
        "gelu": gelu[arguments.get("approximate", "none")],
        "silu": lambda x: x * sigmoid(x),
        "tanh": mp.tanh,
        "sigmoid": sigmoid,
        "log_sigmoid": lambda x: -softplus(-x),
        "softplus": lambda x: softplus(beta * x) / beta,
        "mish": lambda x: x * mp.tanh(softplus(x)),
        "elu": lambda x: x if x > 0 else alpha * mp.expm1(scale * x),
        "celu": lambda x: x if x > 0 else alpha * mp.expm1(x / alpha),
        "selu": lambda x: selu[1] * (x if x > 0 else selu[0] * mp.expm1(x)),
        "hardswish": lambda x: x * min(max(x + 3, 0), 6) / 6,
    }[name]


@pytest.mark.parametrize("case", EVERY, ids=str)
def test_values_and_curvatures_against_high_precision(case):
    function, exact = FUNCTIONS[case[0]](**dict(case[1])), high_precision(*case)
    rng = np.random.default_rng(0)
    x = np.concatenate((rng.normal(size=60) * 3, rng.normal(size=20) * 20, [1e-8, -1e-8, 0.5, -40.0]))
    with mpmath.workdps(60):
        values = function.value(x)
        for at, value in zip(x.tolist(), values.tolist(), strict=True):
            true = exact(mpmath.mpf(at))
            assert abs(mpmath.mpf(value) - true) <= 2.0**-44 * abs(true) + mpmath.mpf(2) ** -1000
        near = x[[min(abs(a - k) for k in (*function.kinks, 1e9)) > 1e-3 for a in x]]
        widths = rng.uniform(0, 1e-3, len(near))
        low, high = function.curvature(Interval(near - widths, near + widths))
        for at, below, above in zip(near.tolist(), low.tolist(), high.tolist(), strict=True):
            step = mpmath.mpf(10) ** -15
            bent = (exact(at + step) - 2 * exact(mpmath.mpf(at)) + exact(at - step)) / step**2
            assert below - 1e-12 <= bent <= above + 1e-12


@pytest.mark.parametrize("case", EVERY, ids=str)
def test_tails_have_one_sign_of_curvature_and_vanish(case):
    function = FUNCTIONS[case[0]](**dict(case[1]))
    for start, line, side in ((function.tails[0], function.left, -1), (function.tails[1], function.right, 1)):
        x = start + side * np.concatenate((np.linspace(1e-3, 12, 4000), np.logspace(1.1, 2.4, 100)))
        low, high = function.curvature(Interval(x, x))
        assert (low >= -1e-15).all() or (high <= 1e-15).all()
        away = np.abs(function.value(x) - (line[0] * x + line[1]))
        assert (np.diff(away) <= 1e-12).all()
        assert away[-1] < 1e-12


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=2), st.floats(0, 1))
def test_intervals_enclose(ends, share):
    low, high = sorted(ends)
    x = Interval(np.array([low]), np.array([high]))
    at = min(max(low + share * (high - low), low), high)
    exact = Fraction(at)
    for found, true in (
        (x * x, exact**2),
        (x.squared(), exact**2),
        (x.size(), abs(exact)),
        (2.0 - 3.0 * x, 2 - 3 * exact),
        (-x + x * 0.1, exact * (Fraction(0.1) - 1)),
    ):
        assert Fraction(found.low[0]) <= true <= Fraction(found.high[0])
    assert x.rising(np.tanh).encloses(math.tanh(at))
    assert x.size().falling(lambda u: np.exp(-u)).encloses(math.exp(-abs(at)))


# ---- programs ----------------------------------------------------------------------------------


def network(*activations: nn.Module) -> nn.Sequential:
    torch.manual_seed(3)
    layers: list[nn.Module] = [nn.Linear(2, 5)]
    for activation in activations:
        layers += [activation, nn.Linear(5, 5)]
    return nn.Sequential(*layers).double().eval()


def test_a_program_is_as_near_to_its_module_as_weights_allow():
    model = network(nn.GELU(), nn.Tanh(), nn.GELU("tanh"))
    program = Program.from_module(model, (2,))
    close = program.approximated({"gelu": 1e-4, "tanh": 1e-5})
    assert [op.kind for op in close.ops].count("smooth") == 0
    assert {name: (a.function, a.tolerance) for name, a in close.approximations} == {
        "1": ("gelu", 1e-4), "3": ("tanh", 1e-5), "5": ("gelu", 1e-4),
    }  # fmt: skip
    x = 3 * torch.randn(200, 2, dtype=torch.float64)
    away = (close.run(x) - model(x)).abs().max()
    assert 0 < away < 1e-2
    kept = program.run(x, keep=[op.inputs[0] for op in program.preactivation_ops])
    for op in close.preactivation_ops:
        z = kept[op.inputs[0]]
        smooth = program.ops[op.output - 1]
        assert (op.run(z) - smooth.run(z)).abs().max() <= op.approximation.proved_error + 1e-13
    assert close.require_piecewise_linear() is None
    assert close.layer_names == program.layer_names
    assert close.digest() != program.digest()
    assert close.digest() == program.approximated({"gelu": 1e-4, "tanh": 1e-5}).digest()


def test_what_float32_rounds_is_not_proved():
    program = Program.from_module(network(nn.GELU()), (2,))
    single = program.approximated({"gelu": 1e-2}).to(torch.float32)
    assert single.approximations[0][1].proved_error == math.inf
    assert single.to(torch.float64).approximations[0][1].proved_error == math.inf
    with pytest.raises(ModelError, match=r"computes in torch\.float32"):
        program.to(torch.float32).approximated({"gelu": 1e-2})


def test_one_of_two_kinds_may_stay_smooth():
    program = Program.from_module(network(nn.SiLU(), nn.Tanh()), (2,))
    half = program.approximated({"silu": 1e-2})
    assert [op.kind for op in half.preactivation_ops] == ["knots", "smooth"]
    whole = half.approximated({"tanh": 1e-2})
    assert [a.function for _, a in whole.approximations] == ["silu", "tanh"]


@pytest.mark.parametrize(
    ("tolerances", "message"),
    [
        ({"relu": 1e-3}, "approximate names 'relu'; what can be approximated is celu, elu, gelu"),
        ({"silu": 1e-3}, "names 'silu', which the network does not have; it has gelu"),
        ({"gelu": 0.0}, "tolerance of 'gelu' is 0.0; it must be a number from 1e-08 up"),
        ({"gelu": -1e-3}, "tolerance of 'gelu' is -0.001"),
        ({"gelu": float("nan")}, "tolerance of 'gelu' is nan"),
        ({"gelu": math.inf}, "tolerance of 'gelu' is inf"),
        ({"gelu": FINEST / 2}, "tolerance of 'gelu' is 5e-09"),
        ({"gelu": True}, "tolerance of 'gelu' is True"),
        ({"gelu": "small"}, "tolerance of 'gelu' is 'small'"),
        ({}, "approximate is {}; give a tolerance for each activation"),
        (1e-3, "approximate is 0.001; give a tolerance for each activation"),
    ],
)
def test_errors(tolerances, message):
    program = Program.from_module(network(nn.GELU()), (2,))
    with pytest.raises(ModelError, match=message):
        program.approximated(tolerances)


def test_a_network_without_smooth_activations():
    with pytest.raises(ModelError, match="it has no smooth activation that can be"):
        Program.from_module(network(nn.ReLU()), (2,)).approximated({"gelu": 1e-3})


def test_activations_that_do_not_allow_it_are_named():
    program = Program.from_module(network(nn.Softplus(1.0, threshold=1.0)), (2,))
    with pytest.raises(
        ModelError, match=r"layer '1' .* cannot be approximated: torch's own softplus jumps by"
    ):
        program.approximated({"softplus": 1e-2})
    program = Program.from_module(network(nn.CELU(-1.0)), (2,))
    with pytest.raises(ModelError, match=r"celu with alpha = -1\.0 is not approximated"):
        program.approximated({"celu": 1e-2})
