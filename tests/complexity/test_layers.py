"""Layers are chosen by what a user calls them; the rest of the counts stays what it was."""

import numpy as np
import pytest
import torch
from torch import nn

from splinecam_lite.complexity import LocalComplexity
from splinecam_lite.complexity.layers import chosen_layers, with_logits
from splinecam_lite.errors import ModelError
from splinecam_lite.network.program import Program
from tests.complexity.hooked import hooked_counts


class Blocks(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(3, 7)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(7, 7), act, nn.Linear(7, 7)) for act in (nn.ReLU(), nn.GELU(), nn.Tanh())
        )
        self.head = nn.Linear(7, 5)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


NAMES = ("relu", "blocks.0.1", "blocks.1.1", "blocks.2.1")
RADIUS = 0.6


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return Blocks().double().eval()


@pytest.fixture(scope="module")
def program(model):
    return Program.from_module(model, (3,))


@pytest.fixture(scope="module")
def points():
    return torch.randn(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (None, (0, 1, 2, 3)),
        ("relu", (0,)),
        ("blocks.*", (1, 2, 3)),
        ("blocks.[02].1", (1, 3)),
        (["blocks.2.1", "relu"], (0, 3)),
        (["blocks.*", "blocks.0.1", 1], (1, 2, 3)),
        (-1, (3,)),
        (np.int64(2), (2,)),
        ((0, -2), (0, 2)),
        (lambda layer: "gelu" in layer.operator, (2,)),
        (lambda layer: layer.shape == (7,) and layer.number % 2, (1, 3)),
        ({"relu": "a dictionary's keys"}, (0,)),
    ],
)
def test_every_way_to_choose(program, points, layers, expected):
    assert chosen_layers(program, layers) == expected
    whole = LocalComplexity(program, RADIUS, 3)(points)
    some = LocalComplexity(program, RADIUS, 3, layers=layers)(points)
    assert whole.layer_names == NAMES
    assert some.layer_names == tuple(NAMES[layer] for layer in expected)
    np.testing.assert_array_equal(some.per_layer, whole.per_layer[:, expected])
    np.testing.assert_array_equal(some.n_neurons, whole.n_neurons[list(expected)])


@pytest.mark.parametrize("layers", ["block", "Relu", "blocks.?", 4, -5, lambda layer: False, ["relu", "no*"]])
def test_what_matches_nothing_is_an_error_that_lists_the_names(program, points, layers):
    with pytest.raises(ModelError, match=r"none of the network's layers: 'relu', 'blocks.0.1', 'blocks.1.1'"):
        LocalComplexity(program, RADIUS, 3, layers=layers)(points)


@pytest.mark.parametrize("layers", [1.0, True, [None], [["relu"]]])
def test_what_is_no_choice_is_a_type_error(program, points, layers):
    with pytest.raises(TypeError, match="give a name, a pattern, a number"):
        LocalComplexity(program, RADIUS, 3, layers=layers)(points)


def test_no_layer_at_all_is_refused_at_once(program):
    with pytest.raises(ValueError, match="layers is empty"):
        LocalComplexity(program, RADIUS, 3, layers=[])


def test_an_iterator_of_names_serves_every_call(program, points):
    estimate = LocalComplexity(program, RADIUS, 3, layers=iter(["relu"]))
    assert estimate(points).layer_names == estimate(points).layer_names == ("relu",)


def test_logits_are_a_last_layer_that_does_not_touch_the_others(model, program, points):
    without = LocalComplexity(program, RADIUS, 3)(points)
    estimate = LocalComplexity(program, RADIUS, 3, logits=True)
    counts = estimate(points)
    assert counts.layer_names == (*NAMES, "head")
    assert counts.n_neurons.tolist() == [7, 7, 7, 7, 5]
    np.testing.assert_array_equal(counts.per_layer[:, :-1], without.per_layer)
    vertices = torch.cat([points[:, None] + s * RADIUS * estimate.frame((3,)) for s in (1, -1)], dim=1)
    positive = model(vertices) >= 0
    expected = (positive.any(dim=1) & ~positive.all(dim=1)).sum(dim=1)
    assert 0 < expected.sum() < expected.numel() * 5
    assert counts.per_layer[:, -1].tolist() == expected.tolist()
    alone = LocalComplexity(program, RADIUS, 3, layers=(), logits=True)(points)
    assert alone.layer_names == ("head",)
    np.testing.assert_array_equal(alone.per_layer[:, 0], counts.per_layer[:, -1])


def test_logits_of_a_network_whose_output_is_used_again_or_is_its_input():
    ends_early = Program.from_module(nn.Sequential(nn.Linear(3, 4), nn.ReLU()).eval(), (3,), output="0")
    assert with_logits(ends_early).layer_names == ("0",)
    nothing = Program.from_module(nn.Identity().eval(), (3,))
    # One of three orthonormal directions has a first entry of 1 / sqrt(3) at least.
    counts = LocalComplexity(nothing, 1.0, 3, logits=True)([[0.5, 3.0, -3.0]])
    assert counts.layer_names == ("output",)
    assert counts.per_layer.tolist() == [[1]]


def test_layers_after_the_last_one_wanted_are_not_computed(model, points):
    model = Blocks().double().eval()
    model.blocks[2][0].weight.data.fill_(1e308)
    model.blocks[2][0].bias.data.fill_(1e308)
    program = Program.from_module(model, (3,))
    with pytest.raises(ModelError, match="not finite"):
        LocalComplexity(program, RADIUS, 3)(points)
    assert LocalComplexity(program, RADIUS, 3, layers="blocks.0.1")(points).per_layer.shape == (20, 1)


@pytest.mark.parametrize("frame_per_point", [False, True])
@pytest.mark.parametrize("centre", [False, True])
@pytest.mark.parametrize(("kind", "directions"), [("orthonormal", 3), ("gaussian", 2), ("gaussian", 9)])
def test_against_hooks_one_vertex_after_the_other(model, points, kind, directions, centre, frame_per_point):
    acts = (nn.ReLU, nn.GELU, nn.Tanh)
    options = {"kind": kind, "centre": centre, "frame_per_point": frame_per_point}
    estimate = LocalComplexity(model, RADIUS, directions, 5, logits=True, layers="blocks.*", **options)
    frame = estimate.frame((3,), range(20))
    expected = hooked_counts(model, points, frame, RADIUS, acts, centre=centre, logits=True)
    found = estimate(points)
    assert expected.sum() > 50
    np.testing.assert_array_equal(found.per_layer, expected)
    assert found.directions == directions
