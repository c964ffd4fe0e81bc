"""Factored or vertex by vertex, with kernels or without: the same values at the same vertices."""

import functools
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from splinecam_lite.complexity.frames import random_frame, random_frames
from splinecam_lite.complexity.vertices import pushing, ranges
from splinecam_lite.complexity.vertices.pushing import Neighbourhoods
from splinecam_lite.complexity.vertices.spread import Spread
from splinecam_lite.complexity.vertices.vertices import vertex_ranges
from splinecam_lite.errors import ModelError
from splinecam_lite.network.program import Program
from tests.complexity.networks import ACTIVATIONS, STRUCTURES, random_program
from tests.strategies import degenerate_cases

ALWAYS, NEVER = -1e9, 2.0
"""`pushing.ROWS_SAVED` with which points stay factored to the end, or leave at the first activation."""


@pytest.fixture(autouse=True)
def factored_at_any_size(monkeypatch):
    """The networks here are small: they would go vertex by vertex from the start."""
    monkeypatch.setattr(pushing, "FEW_PRODUCTS", 0.0)


@pytest.fixture
def saved(monkeypatch):
    return lambda value: monkeypatch.setattr(pushing, "ROWS_SAVED", value)


def plain_ranges(program: Program, inputs: Spread) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Every vertex through the whole network."""
    axis = 0 if inputs.is_shared else 1
    vertices = inputs.centre.unsqueeze(1) + torch.cat((inputs.offset, -inputs.offset), dim=axis)
    values = [op.inputs[0] for op in program.preactivation_ops]
    found = program.run(vertices.flatten(0, 1), keep=values)
    split = [found[v].unflatten(0, vertices.shape[:2]) for v in values]
    return [(z.amin(dim=1), z.amax(dim=1)) for z in split]


def assert_equal_ranges(program: Program, inputs: Spread) -> int:
    """Ranges are those of a plain pass, up to rounding; the number of crossings."""
    crossings = 0
    for found, (low, high) in zip(vertex_ranges(program, inputs), plain_ranges(program, inputs), strict=True):
        torch.testing.assert_close(found.low, low, rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(found.high, high, rtol=1e-9, atol=1e-11)
        crossings += int(found.crosses().sum())
    return crossings


def neighbourhoods(
    program: Program, points: int, directions: int, radius: float, *, own: bool = False
) -> Spread:
    shape = program.input_shape
    generator = torch.Generator().manual_seed(0)
    centre = torch.randn(points, *shape, dtype=torch.float64, generator=generator)
    frame = (
        random_frames(shape, directions, numbers=range(points)) if own else random_frame(shape, directions)
    )
    return Spread(centre, radius * frame)


class Shortcuts(nn.Module):
    """The input, affine in itself, and bent values are read late and in several places; images of 10 x 10."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 3, 3, padding=1)
        self.first = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.second = nn.Conv2d(3, 4, 3, stride=2, padding=1, dilation=2)
        self.past = nn.Conv2d(3, 4, 1, stride=2, padding=0)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x):
        affine = self.stem(x)
        a = affine.relu()
        b = nn.functional.leaky_relu(self.first(a) + affine, 0.1)
        c = self.second(b.relu() + x.mean(dim=1, keepdim=True))
        past = self.past(a)[..., : c.shape[-2], : c.shape[-1]]
        return self.norm(nn.functional.pad(c[..., :4, :4] + past[..., :4, :4], (1, 0, 0, 1))).relu()


@functools.cache
def shortcuts() -> Program:
    torch.manual_seed(3)
    return Program.from_module(Shortcuts().double().eval(), (2, 10, 10))


NETWORKS = {
    "shortcuts": shortcuts,
    **{
        f"{structure} {activation}": lambda structure=structure, activation=activation: random_program(
            structure, activation, 5
        )
        for structure in STRUCTURES
        for activation in ACTIVATIONS
    },
}


@pytest.mark.parametrize("rows_saved", [ALWAYS, 0.1, NEVER])
@pytest.mark.parametrize("network", NETWORKS)
def test_ranges_are_those_of_a_plain_pass(network, rows_saved, saved):
    saved(rows_saved)
    program = NETWORKS[network]()
    directions = 2 if network == "shortcuts" else 3
    crossings = [
        assert_equal_ranges(program, neighbourhoods(program, 6, directions, radius, own=own))
        for radius in (1e-3, 0.1, 2.0)
        for own in (False, True)
    ]
    assert crossings[-1] > 0


@pytest.mark.parametrize("rows_saved", [ALWAYS, 0.1, NEVER])
def test_without_kernels_the_ranges_are_the_same(rows_saved, saved, monkeypatch):
    saved(rows_saved)
    monkeypatch.setattr(ranges, "compiled_for", lambda x: False)
    for program in (shortcuts(), random_program("residual", "abs", 2)):
        for radius in (1e-4, 0.05, 2.0):
            assert_equal_ranges(program, neighbourhoods(program, 5, 2, radius))


@pytest.mark.parametrize("cache_bytes", [1, 3000, 2**22])
def test_pieces_of_any_size_give_the_same(cache_bytes, saved, monkeypatch):
    monkeypatch.setattr(pushing, "CACHE_BYTES", cache_bytes)
    monkeypatch.setattr(pushing, "AFFINE_BYTES", cache_bytes)
    for rows_saved in (ALWAYS, NEVER):
        saved(rows_saved)
        program = random_program("mlp", "relu", 4)
        assert assert_equal_ranges(program, neighbourhoods(program, 9, 3, 0.5)) > 0
        assert_equal_ranges(shortcuts(), neighbourhoods(shortcuts(), 2, 2, 0.5))


def mixture() -> nn.Module:
    """Ops of all kinds: what is neither affine nor has one breakpoint ends the factored form."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.PReLU(4), nn.MaxPool2d(2),
        nn.Conv2d(4, 4, 2), nn.ReLU6(), nn.Flatten(), nn.Linear(36, 8), nn.LayerNorm(8), nn.GELU(),
        nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2),
    )  # fmt: skip


def test_values_without_axes():
    """One number a sample, no axis: after a squeeze."""

    class Squeezed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 1)

        def forward(self, x):
            y = self.second(self.first(x).relu()).squeeze(-1).relu()
            return x[:, 0].relu() + y

    torch.manual_seed(0)
    program = Program.from_module(Squeezed().double().eval(), (3,))
    for radius in (1e-3, 0.5):
        assert_equal_ranges(program, neighbourhoods(program, 20, 3, radius))


def test_ops_of_all_kinds(saved):
    torch.manual_seed(0)
    program = Program.from_module(mixture().double().eval(), (1, 10, 10))
    for rows_saved in (ALWAYS, 0.1, NEVER):
        saved(rows_saved)
        for radius in (1e-3, 0.3):
            assert_equal_ranges(program, neighbourhoods(program, 4, 5, radius))


@pytest.mark.jit
def test_points_leave_one_by_one():
    """Within one batch some points stay to the end, others leave at each of the layers."""
    torch.manual_seed(1)
    widths = [40, 30, 30, 30, 30, 2]
    layers = [part for n, m in pairwise(widths) for part in (nn.Linear(n, m), nn.ReLU())]
    program = Program.from_module(nn.Sequential(*layers).double().eval(), (40,))
    inputs, left = neighbourhoods(program, 60, 12, 0.5), []

    class Watched(Neighbourhoods):
        def apply(self, number):
            super().apply(number)
            left.append(len(self._stay))

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("splinecam_lite.complexity.vertices.vertices.Neighbourhoods", Watched)
        assert_equal_ranges(program, inputs)
    assert 60 > left[0] > left[-1] > 0
    assert len(set(left)) > 2


@settings(max_examples=25)
@given(degenerate_cases(), st.sampled_from([0.25, 1.0, 2.0]))
def test_integer_networks_are_decided_as_plainly(case, radius):
    """All values are exact in either form, and many are 0: the counts are equal, not almost so."""
    program = case.program()
    centre = torch.tensor([[0.0, 0.0], [1.0, 0.0], [-1.0, 2.0], [0.5, 0.25]], dtype=torch.float64)
    inputs = Spread(centre, radius * torch.eye(2, dtype=torch.float64))
    plain = [(low < 0) & (high >= 0) for low, high in plain_ranges(program, inputs)]
    with pytest.MonkeyPatch.context() as patched:
        for rows_saved in (ALWAYS, 0.1, NEVER):
            patched.setattr(pushing, "ROWS_SAVED", rows_saved)
            for found, expected in zip(vertex_ranges(program, inputs), plain, strict=True):
                assert torch.equal(found.crosses(), expected)


def dead_and_alive() -> tuple[Program, Spread]:
    """The neuron of the second layer reads two that are both 0 at one vertex: 0 there, negative elsewhere.

    Weights of a third: the factored form has the 0 as a difference, and rounding makes it one or the other.
    """
    network = nn.Sequential(nn.Linear(2, 9, bias=False), nn.ReLU(), nn.Linear(9, 64, bias=False), nn.ReLU())
    network = network.double().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        rows = torch.rand(9, 1, generator=generator, dtype=torch.float64) + 1 / 3
        network[0].weight.copy_(rows * torch.tensor([1.0, 1 / 7]))
        network[2].weight.copy_(torch.rand(64, 9, generator=generator, dtype=torch.float64) / 3 + 0.01)
    program = Program.from_module(network, (2,))
    centre = torch.rand(50, 2, generator=generator, dtype=torch.float64)
    return program, Spread(centre, 2.0 * torch.eye(2, dtype=torch.float64))


def test_an_exact_0_is_not_lost_to_rounding(saved):
    """Where all inputs of a neuron are dead it is 0 and counts as positive, so that it does not cross."""
    program, inputs = dead_and_alive()
    saved(ALWAYS)
    (_, second), (_, plain) = list(vertex_ranges(program, inputs)), plain_ranges(program, inputs)
    assert not bool(((plain[0] < 0) & (plain[1] >= 0)).any())
    assert bool((plain[0] == 0).any())
    assert not bool(second.crosses().any())


@pytest.mark.jit
def test_it_takes_the_second_look_to_keep_an_exact_0(saved, monkeypatch):
    """The test before this one can fail: without the second look the sign of a rounding decides."""
    program, inputs = dead_and_alive()
    saved(ALWAYS)
    monkeypatch.setitem(pushing.NEAR, torch.float64, -1.0)
    _, second = vertex_ranges(program, inputs)
    assert bool(second.crosses().any())


@pytest.mark.parametrize("place", [0, 3, 5])
@pytest.mark.parametrize("rows_saved", [ALWAYS, NEVER])
@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan])
def test_one_value_that_is_not_finite_is_found(place, rows_saved, value, saved):
    """At any one vertex, first, last or in between; a NaN must survive the comparisons with others."""
    saved(rows_saved)
    program = random_program("mlp", "relu", 0)
    inputs = neighbourhoods(program, 4, 3, 0.2)
    offset = inputs.offset.expand(4, 3, 3).clone()
    offset[2, place % 3, 1] = value if place < 3 or value != value else -value
    with pytest.raises(ModelError, match="not finite"):
        list(vertex_ranges(program, Spread(inputs.centre, offset)))


@pytest.mark.jit
@pytest.mark.parametrize("widths", [(2, 30, 30, 1), (12, 8, 8, 3)])
def test_small_networks_go_vertex_by_vertex_from_the_start(widths, monkeypatch):
    monkeypatch.undo()
    torch.manual_seed(0)
    layers = [part for n, m in pairwise(widths) for part in (nn.Linear(n, m), nn.ReLU())]
    program = Program.from_module(nn.Sequential(*layers).double().eval(), widths[:1])
    inputs = neighbourhoods(program, 40, 2, 0.7)
    monkeypatch.setattr(pushing, "ranges_of", None)  # the factored form asks for ranges
    assert assert_equal_ranges(program, inputs) > 0
    for found in vertex_ranges(program, inputs):
        assert torch.equal(found.n_crossings(), found.crosses().flatten(1).sum(dim=1))


@given(
    st.integers(0, 2**32 - 1), st.sampled_from([torch.float32, torch.float64]), st.booleans(), st.booleans()
)
@settings(max_examples=40)
def test_widening_keeps_least_and_largest_and_every_nan(seed, dtype, clamp, fresh):
    rng = np.random.default_rng(seed)
    m, q, n = rng.integers(1, 5), rng.integers(1, 6), int(rng.choice([1, 7, 512, 700]))
    z = torch.from_numpy(rng.normal(size=(m, q, n))).to(dtype)
    bad = rng.random((m, q, n)) < 0.02
    z[torch.from_numpy(bad)] = torch.nan
    low, high = torch.full((6, n), torch.finfo(dtype).max, dtype=dtype), torch.full((6, n), -1.0, dtype=dtype)
    high *= torch.finfo(dtype).max
    if fresh:  # what stands there does not count
        low, high = torch.full_like(low, torch.nan), torch.zeros_like(high)
    points = torch.from_numpy(rng.permutation(6)[:m].copy())
    before = z.clone()
    ranges.widen(z.numpy(), points.numpy(), low.numpy(), high.numpy(), fresh, clamp)
    torch.testing.assert_close(z, before.relu() if clamp else before, equal_nan=True, rtol=0, atol=0)
    has_nan = before.isnan().any(dim=1)
    assert torch.equal(low[points].isnan(), has_nan)
    assert torch.equal(low[points][~has_nan], before.amin(dim=1)[~has_nan])
    assert torch.equal(high[points][~has_nan], before.amax(dim=1)[~has_nan])
