"""Maxima in programs: they run as torch's own, and written out as comparisons they are the same function."""

import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from splinecam_lite.complexity import LocalComplexity
from splinecam_lite.network import KnotsOp, MaxOp, Program, trace
from splinecam_lite.network.exact.forms import ExactProgram
from splinecam_lite.network.magnitudes import evaluate_with_magnitudes
from tests.complexity.test_estimator import plain_counts
from tests.network.architectures import Apply
from tests.network.test_architectures import check_op
from tests.network.test_forms import assert_forms, assert_restricted
from tests.network.test_single_ops import SideBySide

FORMS = {
    # name: function of a (batch, 2, 4) tensor
    "max_pool1d": lambda x: F.max_pool1d(x, 2),
    "max_pool1d overlapping": lambda x: F.max_pool1d(x, 3, 1, 1),
    "max_pool1d with gaps": lambda x: F.max_pool1d(x, 1, 2),
    "max_pool1d dilated": lambda x: F.max_pool1d(x, 2, 1, dilation=2),
    "max_pool1d of one": lambda x: F.max_pool1d(x, 1),
    "max_pool2d": lambda x: F.max_pool2d(x[:, None], 2, ceil_mode=True),
    "max_pool2d of the whole": lambda x: F.max_pool2d(x, (2, 4)),
    "max_pool2d, the batch as channels": lambda x: F.max_pool2d(x, (2, 3), (1, 1)),
    "max_pool3d": lambda x: F.max_pool3d(x[:, None, :, :, None], (2, 2, 1)),
    "values next to indices": lambda x: F.max_pool1d(x, 2, return_indices=True)[0],
    "adaptive, uneven": lambda x: F.adaptive_max_pool1d(x, 3),
    "adaptive, repeated": lambda x: F.adaptive_max_pool1d(x, 7),
    "adaptive 2d": lambda x: F.adaptive_max_pool2d(x[:, None], (1, 3)),
    "adaptive 3d": lambda x: F.adaptive_max_pool3d(x[:, None, None], (1, 2, 3)),
    "amax": lambda x: x.amax(-1),
    "amax of a channel": lambda x: x.amax(1, keepdim=True),
    "amax of both": lambda x: x.amax((1, 2)),
    "amin": lambda x: x.amin(1),
    "max along an axis": lambda x: x.max(2)[0],
    "min along an axis": lambda x: x.min(dim=2, keepdim=True).values,
    "aminmax": lambda x: torch.sub(*x.aminmax(dim=2)),
    "maximum": lambda x: torch.maximum(x, x.flip(2)),
    "maximum of one": lambda x: torch.maximum(x, x),
    "minimum": lambda x: torch.minimum(x, 2 - x),
    "max of two": lambda x: torch.max(x, -x),
    "min of two": lambda x: torch.min(x[:, :1], x),
    "fmax": lambda x: torch.fmax(x.sum(1, keepdim=True), x),
    "fmin, of other ranks": lambda x: torch.fmin(x.permute(2, 0, 1), x[:, :, 1]).transpose(0, 1),
    "clamp below a value": lambda x: x.clamp_min(x.flip(1)),
    "maxout": lambda x: torch.maximum(*(2 * x).chunk(2, 2)),
    "maxout by reshape": lambda x: x.unflatten(2, (2, 2)).amax(3),
    "of three": lambda x: torch.maximum(torch.maximum(x[:, 0], x[:, 1]), 1 - x[:, 0]),
    "batch second": lambda x: x.transpose(0, 1).amax(0),
    "batch second, pooled": lambda x: F.max_pool1d(x.transpose(0, 1), 2).transpose(0, 1),
    "batch last": lambda x: x.permute(1, 2, 0).amax(1).T,
    "batch merged": lambda x: x.reshape(-1, 4).amax(1).reshape(-1, 2),
    "batch merged, of two": lambda x: torch.maximum(y := x.reshape(-1, 4), y.flip(1)).reshape(-1, 8),
    "after relu": lambda x: F.max_pool1d(x.relu(), 3, 2, 1),
}  # fmt: skip


@pytest.fixture(scope="module")
def traced():
    return trace(SideBySide(FORMS).eval(), (2, 4))


def integers(n, *shape):
    """Small integers, with ties in nearly every window."""
    return torch.randint(-2, 3, (n, *shape), dtype=torch.float64)


def assert_compared(program: Program, fn) -> None:
    """Written out as comparisons the program is the same: exactly on integers, else to rounding."""
    compared = program.compared()
    compared.require_piecewise_linear()
    assert not any(isinstance(op, MaxOp) for op in compared.ops)
    assert [op.output for op in compared.ops] == list(range(1, len(compared.shapes)))
    assert compared.compared() is compared
    x = integers(9, *program.input_shape)
    assert torch.equal(compared.run(x), fn(x))
    assert torch.equal(program.run(x), fn(x))
    x = torch.randn(9, *program.input_shape, dtype=torch.float64)
    values = compared.run(x, keep=range(len(compared.shapes)))
    found, expected = values[compared.output], fn(x)
    assert torch.equal(program.run(x), expected)
    assert (found - expected).abs().max() <= 16 * torch.finfo(torch.float64).eps * (1 + x.abs().max())
    assert torch.equal(torch.cat([compared.run(row) for row in x.split(2)]), found)
    assert compared.run(x[:0]).shape == expected[:0].shape
    for op in compared.ops:
        assert tuple(values[op.output].shape[1:]) == compared.shapes[op.output]
        check_op(op, [values[v] for v in op.inputs], values[op.output])


@pytest.mark.parametrize("name", FORMS)
def test_forms(traced, name):
    program = traced.program(output=f"parts.{name}")
    assert {op.kind for op in program.ops} <= {"affine", "knots", "max"}
    assert any(op.kind == "max" for op in program.ops)
    assert_compared(program, FORMS[name])
    columns = np.random.default_rng(0).normal(size=(3, 2, 4))
    assert_forms(program.compared(), columns, seed=1, count=1)
    if program.compared().pattern_ops:
        assert_restricted(program.compared(), columns, seed=1)


# ---- every pooling -----------------------------------------------------------------------------


@st.composite
def pools(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
    """A max pooling module, and the shape of its input, with a channel axis."""
    n_axes = draw(st.integers(1, 3))
    size = tuple(draw(st.integers(1, 7 if n_axes < 3 else 4)) for _ in range(n_axes))
    shape = (draw(st.integers(1, 2)), *size)
    if draw(st.integers(0, 3)) == 0:
        out = tuple(draw(st.integers(1, 5)) for _ in range(n_axes))
        return (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)[n_axes - 1](out), shape
    kernel = tuple(draw(st.integers(1, 4)) for _ in size)
    stride = tuple(draw(st.integers(1, 4)) for _ in size)
    dilation = tuple(draw(st.sampled_from((1, 1, 2))) for _ in size)
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    for n, k, p, d in zip(size, kernel, padding, dilation, strict=True):
        assume(n + 2 * p >= d * (k - 1) + 1)
    module = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)[n_axes - 1](
        kernel, stride, padding, dilation, ceil_mode=draw(st.booleans())
    )
    return module, shape


@pytest.mark.slow
@settings(max_examples=40)
@given(pools())
def test_every_pooling(case):
    module, shape = case
    x = torch.zeros(1, *shape, dtype=torch.float64)
    assume(bool(module(x).isfinite().all()))  # no window of nothing but padding
    program = Program.from_module(module.eval(), shape)
    assert [op.kind for op in program.ops] == ["max"]
    assert_compared(program, module)


@pytest.mark.slow
@settings(max_examples=20)
@given(pools(), st.integers(0, 2**31))
def test_zeros_after_relu_tie_without_knots(case, seed):
    module, shape = case
    torch.manual_seed(seed)
    x = integers(5, *shape)
    assume(bool(module(x).isfinite().all()))
    compared = Program.from_module(nn.Sequential(nn.ReLU(), module).eval(), shape).compared()
    assert torch.equal(compared.run(x), module(x.relu()))
    zeros = compared.run(-x.abs(), keep=[op.inputs[0] for op in compared.pattern_ops[1:]])
    assert not any(z.any() for z in zeros.values())  # on the whole region: no bit, and no knot


# ---- what comparisons say of themselves --------------------------------------------------------


def bits_of(program: Program, x: torch.Tensor) -> dict[int, np.ndarray]:
    """Bits of each of the pattern ops at one point, by number of the op."""
    values = program.run(x[None], keep=[op.inputs[0] for op in program.pattern_ops])
    return {i: (values[op.inputs[0]] > 0).numpy().ravel() for i, op in enumerate(program.pattern_ops)}


def relevant(program: Program, bits: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
    """The comparisons on the way to a result, by number of the op: one by one, from the last on."""
    found = {i: np.zeros(len(b), bool) for i, b in bits.items()}
    rounds = [(i, op.comparison) for i, op in enumerate(program.pattern_ops) if op.comparison]
    place = {(c.max_number, c.offset + k): (i, k) for i, c in rounds for k in range(len(c.left))}
    for (max_number, _), (i, k) in sorted(place.items(), reverse=True):
        c = program.pattern_ops[i].comparison
        found[i][k] |= c.top[k]
        won = c.right[k] if bits[i][k] else c.left[k]
        if found[i][k] and won >= 0:
            reader, loser = place[max_number, int(won)]
            found[reader][loser] = True
    return found


def packed(program: Program, bits: dict[int, np.ndarray]) -> np.ndarray:
    n_words = sum(-(-n // 64) for _, _, n in program.pattern_layout)
    flat = np.zeros(64 * n_words, bool)
    for (first, _, n), b in zip(program.pattern_layout, bits.values(), strict=True):
        flat[first : first + n] = b
    return np.packbits(flat, bitorder="little").view("<u8")[None]


@pytest.mark.slow
@settings(max_examples=20)
@given(pools(), st.integers(0, 2**31))
def test_relevant_comparisons_choose_the_maximum(case, seed):
    """The bits pick an entry for each result; those of irrelevant comparisons change nothing, others do."""
    module, shape = case
    torch.manual_seed(seed)
    x = integers(1, *shape)[0]
    assume(bool(module(x[None]).isfinite().all()))
    program = Program.from_module(module.eval(), shape).compared()
    assume(program.pattern_ops)
    columns = np.concatenate((np.eye(x.numel()), np.zeros((1, x.numel())))).reshape(-1, *shape)
    exact = ExactProgram(program, columns)

    def chosen(bits) -> np.ndarray:
        """The entry that each result is, as a number."""
        forms = exact.outputs(packed(program, bits)).hi
        assert ((forms != 0).sum(1) == 1).all()
        assert forms.max() == 1
        return forms.argmax(1)

    bits = bits_of(program, x)
    kept = relevant(program, bits)
    entries = chosen(bits)
    assert torch.equal(x.ravel()[entries], module(x[None]).ravel())
    canonical = {i: b & kept[i] for i, b in bits.items()}
    assert (chosen(canonical) == entries).all()
    everything = {i: b | ~kept[i] for i, b in bits.items()}
    assert (chosen(everything) == entries).all()
    for i, op in enumerate(program.pattern_ops):
        for k in np.flatnonzero(kept[i])[:3]:
            flipped = {j: b.copy() for j, b in bits.items()}
            flipped[i][k] ^= True
            assert (chosen(flipped) != entries).any()
        assert op.comparison.top.any() or i < len(program.pattern_ops) - 1


def test_every_comparison_is_read():
    """None is played for nothing: each is a result, or a side of a later one of the same maximum."""
    model = nn.Sequential(nn.MaxPool2d(2, 3), nn.MaxPool2d(3, 1), nn.AdaptiveMaxPool2d((2, 3))).eval()
    program = Program.from_module(model, (2, 17, 20)).compared()
    ops = program.pattern_ops
    assert not any(op.is_activation for op in ops)
    assert program.preactivation_ops == ()
    for number in range(3):
        rounds = [op.comparison for op in ops if op.comparison.max_number == number]
        assert [c.offset for c in rounds] == list(np.cumsum([0] + [len(c.left) for c in rounds])[:-1])
        read = {int(side) for c in rounds for side in (*c.left, *c.right)} - {-1}
        tops = {int(c.offset + k) for c in rounds for k in np.flatnonzero(c.top)}
        assert read | tops == set(range(sum(len(c.left) for c in rounds)))
        for c in rounds:
            assert (c.left < c.offset).all()
            assert (c.right < c.offset).all()
    assert len([op for op in ops if op.comparison.max_number == 1]) == 4  # two rounds of three along an axis
    assert len([op for op in ops if op.comparison.max_number == 0]) == 2


def test_overlapping_windows_share_matches():
    program = Program.from_module(nn.MaxPool1d(4, 1).eval(), (1, 11)).compared()
    assert program.pattern_layout == ((0, 1, 10), (64, 1, 8))


# ---- the program around it ---------------------------------------------------------------------


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Conv2d(3, 2, 1), nn.MaxPool2d(2),
        nn.Flatten(), nn.LazyLinear(4), Apply(lambda x: x.unflatten(1, (2, 2)).amax(2)), nn.ReLU(),
    )  # fmt: skip


def small_network() -> tuple[nn.Module, Program]:
    model = network().eval()
    model(torch.zeros(1, 1, 8, 8))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randint(-2, 3, parameter.shape))
    return model, Program.from_module(model, (1, 8, 8))


def test_layers_and_patterns_of_a_network():
    _, program = small_network()
    compared = program.compared()
    assert program.layer_names == compared.layer_names == ("1", "8")
    assert program.n_neurons == compared.n_neurons == (108, 2)
    assert compared.pattern_names == ("1", "2", "2:2", "2:3", "2:4", "4", "4:2", "7.amax", "8")
    firsts = [first for first, _, _ in compared.pattern_layout]
    assert firsts == list(np.cumsum([0] + [-(-n // 64) * 64 for _, _, n in compared.pattern_layout])[:-1])
    assert [op.comparison.max_number for op in compared.pattern_ops if op.comparison] == [0] * 4 + [1, 1, 2]
    assert [op.where.label for op in compared.ops if op.where.target == "aten.amax.default"] == ["7.amax"] * 3


def test_small_integers_are_evaluated_exactly():
    _, program = small_network()
    columns = np.random.default_rng(0).integers(-3, 4, (3, 1, 8, 8)).astype(float)
    assert_forms(program.compared(), columns, seed=0, count=1)
    assert_restricted(program.compared(), columns, seed=0)
    found = ExactProgram(program, columns)
    assert found.program.digest() == program.compared().digest()


def test_ends_of_a_network():
    """A maximum of the input itself, one that is the output, and one that nobody reads."""
    model = nn.Sequential(nn.MaxPool1d(2), nn.MaxPool1d(1), nn.Linear(2, 3), nn.MaxPool1d(3)).eval()
    program = Program.from_module(model, (1, 4))
    compared = program.compared()
    assert compared.shapes[0] == (1, 4)
    assert compared.output_shape == (1, 1)
    x = torch.randn(6, 1, 4, dtype=torch.float64)
    torch.testing.assert_close(compared.run(x), model.double()(x), rtol=1e-14, atol=1e-14)
    only = Program.from_module(nn.MaxPool1d(1).eval(), (1, 4)).compared()
    assert only.ops == ()
    assert torch.equal(only.run(x), x)


def test_programs_pickle_cast_and_hash():
    model, program = small_network()
    x = integers(4, 1, 8, 8)
    for form in (program, program.compared()):
        twin = pickle.loads(pickle.dumps(form))
        assert twin.digest() == form.digest()
        assert torch.equal(twin.run(x), form.run(x))
        single = form.to(torch.float32)
        assert single.run(x).dtype == torch.float32
        assert torch.equal(single.run(x).double(), form.run(x))
    assert program.to(torch.float32).compared().run(x).dtype == torch.float32
    assert program.digest() != program.compared().digest()
    model[4].kernel_size = (1, 2)
    assert Program.from_module(nn.MaxPool1d(2, 1).eval(), (1, 4)).digest() != Program.from_module(
        nn.MaxPool1d(3, 1, 1).eval(), (1, 4)
    ).digest()  # fmt: skip


def test_digest_tells_a_maximum_from_a_minimum():
    digests = {
        Program.from_module(Apply(fn).eval(), (2, 4)).digest()
        for fn in (lambda x: x.amax(1), lambda x: x.amin(1), lambda x: x[:, 0], lambda x: x.max(1)[0])
    }
    assert len(digests) == 4


def test_scales_of_comparisons_are_what_their_sides_add_up_to():
    """A difference of two sums of large terms rounds like their terms, not like itself."""
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Unflatten(1, (1, 2)), nn.MaxPool1d(2)).eval()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1000.0, -1000.0], [1000.0, -999.0]]))
    program = Program.from_module(model, (2,)).compared()
    steps = [*evaluate_with_magnitudes(program, torch.ones(1, 2, dtype=torch.float64))]
    (hinge,) = [s for s in steps if isinstance(s.op, KnotsOp)]
    assert hinge.inputs[0].item() == 1
    assert hinge.input_magnitudes[0].item() == 2000 + 1999
    assert steps[-1].added.item() >= 2000


@pytest.mark.parametrize("fn", [lambda x: x.amax(1), lambda x: x.amin(1)])
def test_magnitudes_pass_through_a_maximum(fn):
    program = Program.from_module(nn.Sequential(Apply(lambda x: x - 1000.0), Apply(fn)).eval(), (4,))
    *_, last = evaluate_with_magnitudes(program, torch.tensor([[1.0, 999.0, 1000.0, 1001.0]]).double())
    assert last.added.item() == 2001


def test_scales_grow_by_no_more_than_the_rounds():
    program = Program.from_module(nn.MaxPool2d(16).eval(), (1, 16, 16)).compared()
    x = torch.rand(3, 1, 16, 16, dtype=torch.float64)
    steps = evaluate_with_magnitudes(program, x)
    added = [s.input_magnitudes[0].max() for s in steps if isinstance(s.op, KnotsOp)]
    assert len(added) == 8
    assert max(added) <= 2 * (1 + 8)


@pytest.mark.parametrize("inputs", ["points", "frame per point"])
def test_the_estimate_runs_maxima_as_they_are(inputs):
    """Crossings of the activations alone, as a plain forward pass over all vertices counts them."""
    _, program = small_network()
    points = torch.randn(9, 1, 8, 8, dtype=torch.float64)
    estimate = LocalComplexity(program, 0.3, 3, frame_per_point=inputs != "points")
    found = estimate(points)
    frame = estimate.frame(program.input_shape, range(9))
    assert found.layer_names == program.layer_names == ("1", "8")
    assert found.per_layer.sum() > 0
    np.testing.assert_array_equal(found.per_layer, plain_counts(program, points, frame, 0.3))
