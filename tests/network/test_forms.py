"""Forms of a program: equal to the rational evaluation, entry by entry, and within their bounds."""

from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import nn

from benchmarks.workloads import WORKLOADS
from splinecam_lite.errors import ModelError
from splinecam_lite.network import Program, trace
from splinecam_lite.network.exact.forms import ExactProgram, Forms
from tests.network.architectures import Concat, Residual, networks
from tests.network.rational_programs import evaluate
from tests.network.test_single_ops import AFFINE_FUNCTIONS, KNOTS, SideBySide


def random_patterns(program: Program, count: int, seed: int) -> np.ndarray:
    """Patterns of a few points, and of none: a prefix of the breakpoints of each neuron is passed."""
    rng = np.random.default_rng(seed)
    n_words = sum(-(-places * neurons // 64) for _, places, neurons in program.pattern_layout)
    words = np.zeros((count, n_words), np.uint64)
    for (first, n_places, n_neurons), op in zip(program.pattern_layout, program.pattern_ops, strict=True):
        passed = rng.integers(0, n_places + 1, (count, n_neurons))
        bits = passed[:, None, :] > np.arange(n_places)[:, None]
        shape = program.shapes[op.inputs[0]]
        knots = np.stack([torch.broadcast_to(j, shape).reshape(-1).numpy() != 0 for j in op.jumps])
        octets = np.packbits((bits & knots).reshape(count, -1), axis=1, bitorder="little")
        padded = np.zeros((count, -(-octets.shape[1] // 8) * 8), np.uint8)
        padded[:, : octets.shape[1]] = octets
        words[:, first // 64 : first // 64 + padded.shape[1] // 8] = padded.view("<u8")
    return words


def unpacked(program: Program, words: np.ndarray):
    """Bits of a layer of one pattern, (n_breakpoints, n_neurons), by layer."""

    def bits(layer: int) -> np.ndarray:
        first, n_places, n_neurons = program.pattern_layout[layer]
        flat = np.arange(first, first + n_places * n_neurons)
        return ((words[flat >> 6] >> (flat & 63).astype(np.uint64)) & np.uint64(1)).reshape(
            n_places, n_neurons
        )

    return bits


def every_bit(program: Program) -> np.ndarray:
    return np.concatenate(
        [np.arange(first, first + j * n) for first, j, n in program.pattern_layout] or [np.zeros(0, int)]
    )


def true_forms(program, columns, words, bits):
    """Fractions of preactivation minus breakpoint for all pattern bits, and of the outputs."""
    layers, output = evaluate(program, columns, unpacked(program, words))
    forms = []
    for z, op in zip(layers, program.pattern_ops, strict=True):
        shape = program.shapes[op.inputs[0]]
        for place in op.breakpoints:
            shifted = z.copy()
            shifted[:, -1] -= np.array(
                [Fraction(b) for b in torch.broadcast_to(place, shape).reshape(-1).tolist()], dtype=object
            )
            forms += [tuple(row) for row in shifted]
    return forms, [tuple(row) for row in output]


def assert_bounds(forms: Forms, truth) -> None:
    """The two floats are within the error of the truth, and that error is small."""
    for i, form in enumerate(truth):
        for j, number in enumerate(form):
            hi, lo, error = forms.hi[i, j], forms.lo[i, j], forms.error[i, j]
            assert abs(Fraction(hi) + Fraction(lo) - number) <= Fraction(error)
            assert abs(lo) <= np.spacing(abs(hi)) / 2


def assert_forms(program: Program, columns: np.ndarray, seed: int = 0, count: int = 2) -> None:
    """Exact forms are the truth; rounded ones are within their bounds."""
    exact = ExactProgram(program, columns)
    words = random_patterns(program, count, seed)
    bits = every_bit(program)
    rows, asked = np.repeat(np.arange(count), len(bits)), np.tile(bits, count)
    knots, outputs = exact.knots(words, rows, asked), exact.outputs(words)
    assert knots.exact
    assert outputs.exact
    every_knot, every_output = [], []
    for word in words:
        forms, output = true_forms(program, columns, word, bits)
        every_knot += forms
        every_output += output
    for found, truth in ((knots, every_knot), (outputs, every_output)):
        assert len(found) == len(truth)
        for i, form in enumerate(truth):
            assert found.fractions(i) == form
        assert_bounds(found, truth)
        sizes = np.abs(found.hi)
        assert (found.error <= 2.0**-95 * sizes + 2.0**-1060).all()
    for limbs in (1, 2, 3, 5):
        assert_bounds(exact.knots(words, rows, asked, limbs=limbs), every_knot)
        assert_bounds(exact.outputs(words, limbs=limbs), every_output)


def substituted(row, hinges, n: int):
    """A form of coordinates and hinges on one face, from the forms of its hinges: those off are None."""
    total = [Fraction(entry) for entry in row[:n]]
    for entry, hinge in zip(row[n:], hinges, strict=False):
        if hinge is not None and entry != 0:
            total = [t + Fraction(entry) * h for t, h in zip(total, hinge, strict=True)]
    return total


def assert_restricted(program: Program, columns: np.ndarray, seed: int = 0) -> None:
    """On each face, the hinges put in, a restricted network is the linearised one within the bounds."""
    exact, n = ExactProgram(program, columns), len(columns)
    rng, bits = np.random.default_rng(seed), every_bit(program)
    faces = random_patterns(program, 2, seed)
    flipped = faces[0] ^ faces[1]
    mixed = bits[((flipped[bits >> 6] >> (bits & 63).astype(np.uint64)) & np.uint64(1)).astype(bool)]
    for limbs in (None, 2, 4):
        found = exact.restricted(faces[int(rng.integers(2))], mixed, limbs=limbs)
        assert (np.abs(found.D_lo) <= np.spacing(np.abs(found.D_hi)) / 2).all()
        hi, error = (
            np.concatenate(part) for part in zip(*((h, e) for _, h, e in found.layers()), strict=True)
        )
        for part, again in zip((hi, error), found.rows(bits), strict=True):
            np.testing.assert_array_equal(part, again)
        for words in faces:
            truth, outputs = true_forms(program, columns, words, bits)
            on = (words[bits >> 6] >> (bits & 63).astype(np.uint64)) & np.uint64(1)
            hinges = [truth[i] if on[i] else None for i in np.flatnonzero(np.isin(bits, mixed))]
            sizes = [None if h is None else [abs(x) for x in h] for h in hinges]
            D = found.D_hi.astype(object), found.D_lo.astype(object), found.D_error
            cases = [(D, [truth[i] for i in np.flatnonzero(np.isin(bits, mixed))])]
            cases += [((hi, np.zeros_like(hi), error), truth)]
            cases += [((found.output_hi, found.output_lo, found.output_error), outputs)]
            for (high, low, bound), forms in cases:
                for h, o, e, form in zip(high, low, bound, forms, strict=True):
                    row = [Fraction(a) + Fraction(b) for a, b in zip(h, o, strict=True)]
                    allowed = substituted(e, sizes, n)
                    for got, wanted, most in zip(substituted(row, hinges, n), form, allowed, strict=True):
                        assert abs(got - wanted) <= most


@settings(max_examples=15, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(networks(), st.integers(0, 2**32 - 1))
def test_architectures(case, seed):
    model, shape = case
    program = Program.from_module(model, shape)
    columns = np.random.default_rng(seed).normal(size=(3, *shape))
    assert_forms(program, columns, seed, count=1)
    if program.n_neurons:
        assert_restricted(program, columns, seed)


# ---- single ops and large shapes ---------------------------------------------------------------

REFUSED = {"a factor in a sum"}


@pytest.fixture(scope="module")
def traced():
    return trace(SideBySide(AFFINE_FUNCTIONS | KNOTS | OTHERS).eval(), (2, 4))


OTHERS = {
    "half of a sum": lambda x: torch.add(x, x.flip(2), alpha=0.375),
    "a factor in a sum": lambda x: torch.add(x, x.flip(2), alpha=0.3),
    "divided by a fraction": lambda x: x / 0.3,
    "pooled by 4": lambda x: F.avg_pool1d(x, 4, stride=1, padding=2),
    "average of an average": lambda x: x.mean(1) / 7 + F.avg_pool1d(x, 3, stride=1, padding=1).mean(1),
    "tiny and huge": lambda x: x * torch.tensor([1e-200, 1.0, 1e200, 3e-320]),
}


@pytest.mark.parametrize("name", [*AFFINE_FUNCTIONS, *KNOTS, *OTHERS])
def test_single_ops(traced, name):
    program = traced.program(output=f"parts.{name}")
    columns = np.random.default_rng(0).normal(size=(3, 2, 4))
    if name in REFUSED:
        with pytest.raises(ModelError, match="cannot be evaluated exactly"):
            ExactProgram(program, columns)
        return
    assert_forms(program, columns, seed=1, count=1)
    if program.n_neurons:
        assert_restricted(program, columns, seed=1)


def patterns_at(program: Program, points: torch.Tensor) -> np.ndarray:
    """Packed patterns of a ReLU network at inputs."""
    values = program.run(points, keep=[op.inputs[0] for op in program.preactivation_ops])
    words = []
    for op in program.preactivation_ops:
        octets = np.packbits((values[op.inputs[0]].flatten(1) > 0).numpy(), axis=1, bitorder="little")
        words.append(np.pad(octets, ((0, 0), (0, -octets.shape[1] % 8))).view("<u8"))
    return np.concatenate(words, axis=1)


@pytest.mark.parametrize("limbs", [None, 4])
@pytest.mark.parametrize("name", ["2-256x4-1", "convnet"])
def test_large_networks_agree_with_float64(name, limbs):
    """Forms on a region, at a point of it, are what the program computes there, to its rounding."""
    model, plane = next(w for w in WORKLOADS if w.name == name).build()
    program = Program.from_module(model, plane.input_shape)
    places = np.random.default_rng(0).uniform(-0.1, 0.1, (3, 2))
    points = torch.as_tensor(plane.lift(places))
    words = patterns_at(program, points)
    exact = ExactProgram.on_slice(program, plane)
    bits = np.concatenate([first + np.arange(0, n, 37) for first, _, n in program.pattern_layout])
    forms = exact.knots(words, np.repeat(range(3), len(bits)), np.tile(bits, 3), limbs=limbs)
    outputs = exact.outputs(words, limbs=limbs)
    values = program.run(points, keep=[*(op.inputs[0] for op in program.preactivation_ops), program.output])
    for b, place in enumerate(places):
        c = np.array([*place, 1.0])
        expected = [values[op.inputs[0]][b].flatten()[::37] for op in program.preactivation_ops]
        found = forms.hi.reshape(3, len(bits), 3)[b] @ c
        np.testing.assert_allclose(found, torch.cat(expected).numpy(), rtol=0, atol=1e-12)
        found = outputs.hi.reshape(3, -1, 3)[b] @ c
        np.testing.assert_allclose(found, values[program.output][b].flatten().numpy(), rtol=0, atol=1e-12)
    scale = np.abs(forms.hi).max()
    assert (forms.error <= (2.0**-100 if limbs is None else 2.0**-60) * scale).all()


def test_branches_with_activations_of_their_own():
    """Each branch has hinges that the other does not know; their columns are numbered through."""
    torch.manual_seed(0)
    branch = [nn.Sequential(nn.Linear(3, 3), act, nn.Linear(3, 3)) for act in (nn.ReLU(), nn.Hardtanh())]
    model = nn.Sequential(
        nn.Linear(2, 3), Concat(*branch), Residual(nn.ReLU(), 6), nn.ReLU(), nn.Linear(6, 2)
    )
    program = Program.from_module(model.double().eval(), (2,))
    columns = np.random.default_rng(0).normal(size=(3, 2))
    for seed in range(10):
        assert_restricted(program, columns, seed)


def test_rounded_forms_of_small_integers_are_exact():
    model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randint(-2, 3, parameter.shape))
    program = Program.from_module(model, (2,))
    found = ExactProgram(program, np.eye(3, 2)).restricted(np.full(2, 255, np.uint64), np.arange(0, 8, 3))
    assert not found.D_error.any()
    assert not found.output_error.any()
    assert not any(forms.column_error.any() for forms in found.knots)
