"""Linear regions: as many as the rational oracle finds, and the same sets; each stage decides what it can."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from splinecam_lite import ModelError, Partition, Program, Slice, partition
from splinecam_lite.engine.complex import OUTER
from splinecam_lite.partition import linear
from tests.agreement import patterns_of
from tests.network.architectures import Apply
from tests.partition.networks import cases, compute, constant, deep, mlp, tunings
from tests.strategies import Case

SQUARE = [(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)]


def labels_of(case: Case) -> tuple[Partition, linear.LinearRegions]:
    part = compute(case)
    return part, linear.linear_regions(part)


def case(first, second, bias=None, activation="relu") -> Case:
    """One hidden layer without bias in front of a linear one."""
    return Case([(first, [0.0] * len(first)), (second, bias or [0.0] * len(second))], [activation], SQUARE)


@given(cases, tunings, st.booleans())
def test_as_many_as_the_oracle_finds(case, tuning, exactly):
    part = compute(case, tuning, exact=exactly)
    found = linear.linear_regions(part)
    exact = case.exact()
    assert found.labels.max() + 1 == exact.n_linear_regions()
    maps = exact.affine_maps()
    of_region = [maps[pattern] for pattern in patterns_of(part)]
    sides = part.complex.edge_faces[(part.complex.edge_faces != OUTER).all(axis=1)]
    for left, right in sides.tolist():
        assert (found.labels[left] == found.labels[right]) == (of_region[left] == of_region[right])


@given(cases)
def test_labels_are_numbered_in_the_order_of_regions(case):
    labels = labels_of(case)[1].labels
    first = np.unique(labels, return_index=True)[1]
    assert (np.diff(first) > 0).all()
    assert labels[0] == 0


def test_a_neuron_without_outgoing_weights_makes_no_linear_region():
    _, found = labels_of(case([[1.0, 0.0], [0.0, 1.0]], [[3.0, 0.0]]))
    assert found.labels.max() + 1 == 2
    assert (found.by_float64, found.by_structure, found.by_rationals) == (2, 2, 0)


def test_a_neuron_that_feeds_only_neurons_that_are_off_makes_none():
    """The second layer is on only where u > 0.5; elsewhere the knot v = 0 of the first is not seen."""
    layers = [
        ([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0]),
        ([[1.0, -0.25]], [-0.5]),
        ([[2.0]], [1.0]),
    ]
    _, found = labels_of(Case(layers, ["relu", "relu"], SQUARE))
    exact = Case(layers, ["relu", "relu"], SQUARE).exact()
    assert found.labels.max() + 1 == exact.n_linear_regions() < exact.n_regions
    assert found.by_rationals == 0


@pytest.mark.parametrize("weights", [[1.0, -1.0], [0.1, -0.1], [1e-200, -1e-200]])
def test_duplicates_that_cancel_make_none(weights):
    part, found = labels_of(case([[1.0, 0.5], [1.0, 0.5], [0.0, 1.0]], [[*weights, 1.0]]))
    assert part.n_regions == 4
    assert found.labels.max() + 1 == 2
    assert found.by_rationals == 2


@pytest.mark.parametrize("ulps", [1, -1])
def test_a_difference_of_one_ulp_is_a_difference(ulps):
    """Two neurons with one knot whose outgoing weights differ in the last bit."""
    weight = 1.0 + ulps * 2.0**-52
    _, found = labels_of(case([[1.0, 0.0], [1.0, 0.0]], [[1.0, -weight]], bias=[1e6]))
    assert found.labels.max() + 1 == 2
    assert found.by_rationals == 1


def test_relu_of_x_minus_relu_of_minus_x_is_x():
    """Two knots on one line, on at opposite sides, that make a line of the whole."""
    for slopes in ([1.0, -1.0], [0.3, -0.3]):
        _, found = labels_of(case([[1.0, 0.0], [-1.0, 0.0]], [slopes]))
        assert found.labels.tolist() == [0, 0]


def test_the_same_map_in_places_that_do_not_touch_is_two_linear_regions():
    """relu(u - 0.5) + relu(-u - 0.5) is 0 between two strips; with outputs equal left and right of it."""
    hat = Case([([[1.0, 0.0], [1.0, 0.0]], [-0.5, 0.5]), ([[0.0, 1.0]], [-2.0]), ([[1.0]], [0.0])],
               ["abs", "relu"], SQUARE)  # fmt: skip
    part, found = labels_of(hat)
    assert found.labels.max() + 1 == hat.exact().n_linear_regions() < part.n_regions


def test_every_constant_network_has_one():
    part = partition(constant(0.5, 3), Slice.box(-1, 1), threads=1)
    assert part.linear_regions(constant(0.5, 3)).tolist() == [0] * part.n_regions


def test_no_output_hides_the_difference_of_another():
    """Of two outputs one is blind to each knot."""
    _, found = labels_of(case([[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]))
    assert found.labels.tolist() == [0, 1, 2, 3]


class Branches(nn.Module):
    """Convolution, batch norm, average pooling, a residual sum and a concatenation."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2)
        self.again, self.pool = nn.Conv2d(2, 2, 3, padding=1), nn.AvgPool2d(2)
        self.last = nn.Linear(16, 2)

    def forward(self, x):
        y = torch.relu(self.norm(self.conv(x)))
        z = self.pool(y + nn.functional.hardtanh(self.again(y)))
        return self.last(torch.cat([z, -z], dim=1).flatten(1))


def test_branches_that_cancel_in_a_convolutional_network():
    """The last layer sees z and -z with the same weights: a constant. With others it bends."""
    torch.manual_seed(0)
    model = Branches().double().eval()
    plane = Slice.around(torch.rand(1, 4, 4).double(), 1.0, seed=0)
    part = partition(model, plane, threads=1)
    assert linear.linear_regions(part, model).labels.max() + 1 > part.n_regions // 2
    with torch.no_grad():
        model.last.weight[:, 8:] = model.last.weight[:, :8]
    part = partition(model, plane, threads=1)
    found = linear.linear_regions(part, model)
    assert not found.labels.any()
    assert found.by_float64 == 0 < found.by_rationals


def test_what_float64_calls_different_is_different(monkeypatch):
    """Leaving everything to the rationals changes nothing."""
    model = mlp(2, 12, 12, 2)
    part = partition(model, Slice.box(-2, 2), threads=1)
    expected = linear.merge(part, linear.program_of(part, model))
    monkeypatch.setattr(
        linear, "_differ_in_float64", lambda part, program, pairs, sums: np.zeros(len(pairs), bool)
    )
    found = linear.merge(part, linear.program_of(part, model))
    np.testing.assert_array_equal(found.labels, expected.labels)
    assert found.by_float64 == 0 < found.by_rationals


def test_path_sums_bound_every_map():
    model = mlp(2, 16, 16, 3)
    part = deep()
    program = Program.from_module(model, (2,))
    maps = np.abs(np.dstack(part.affine_maps()))
    assert (maps <= linear.path_sums(program, part.plane) * (1 + 1e-12)).all()


def test_a_partition_from_a_file_needs_its_network(tmp_path):
    part = deep()
    vars(part).pop(linear.KEPT, None)
    part.save(tmp_path / "p.npz")
    loaded = Partition.load(tmp_path / "p.npz")
    with pytest.raises(ModelError, match="linear_regions"):
        _ = loaded.n_linear_regions
    with pytest.raises(ModelError, match="not the network that was partitioned"):
        loaded.linear_regions(mlp(2, 16, 16, 3, seed=1))
    labels = loaded.linear_regions(mlp(2, 16, 16, 3))
    assert loaded.n_linear_regions == labels.max() + 1
    assert not labels.flags.writeable
    loaded.save(tmp_path / "q.npz")
    again = Partition.load(tmp_path / "q.npz")
    np.testing.assert_array_equal(again.linear_regions(), labels)
    assert linear.kept(again)[1:] == linear.kept(loaded)[1:]


def test_normalisation_and_output_are_given_by_a_program():
    model = mlp(2, 8, 3)
    program = Program.from_module(model, (2,), normalise=(0.5, 0.25), output=1)
    part = partition(program, Slice.box(0, 1), threads=1)
    assert len(part.linear_regions(program)) == part.n_regions


def test_a_layer_that_cannot_be_followed_exactly_is_named():
    """A factor of 0.3 in a sum is rounded in ways that are not undone; the other stages may do without."""
    torch.manual_seed(0)
    add = Apply(lambda x: torch.add(x, x.flip(1), alpha=0.3))
    model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), add, nn.Linear(4, 1)).double().eval()
    part = partition(model, Slice.box(-2, 2), threads=1)
    assert part.n_linear_regions == part.n_regions
    with torch.no_grad():
        model[0].weight[1], model[0].bias[1] = model[0].weight[0], model[0].bias[0]
        model[3].weight[:] = torch.tensor([1.0, -1.0, 0.0, 0.0])  # sees the difference of two equals
    part = partition(model, Slice.box(-2, 2), threads=1)
    with pytest.raises(ModelError, match="cannot be evaluated exactly"):
        _ = part.n_linear_regions
    assert "linear regions are not counted: layer '2.add" in part.summary()
    assert "linear region" not in repr(part)
