"""What the methods of a partition take: numbers, masks and tensors; and what they refuse, by name."""

import numpy as np
import pytest
import torch

from splinecam_lite import ModelError, Slice, SliceError, partition
from tests.partition.networks import deep, mlp

BOX = Slice.box(-1, 1)


def test_one_region_and_masks():
    part = deep()
    A, b = part.affine_maps(7)
    assert (A.shape, b.shape) == ((1, 3, 2), (1, 3))
    np.testing.assert_array_equal(A, part.affine_maps([7])[0])
    large = part.areas() > np.median(part.areas())
    np.testing.assert_array_equal(part.patterns(large), part.patterns(np.flatnonzero(large)))
    assert part.pattern_bits(1, large).shape == (large.sum(), 1, 16)
    with pytest.raises(
        IndexError, match=rf"mask of regions has shape \(3,\), but there are {part.n_regions}"
    ):
        part.patterns(np.ones(3, bool))


@pytest.mark.parametrize("layer", [2, -1])
def test_there_is_no_such_layer(layer):
    with pytest.raises(IndexError, match=f"there is no layer {layer}; layers are 0 '1', 1 '3'"):
        deep().pattern_bits(layer)


def test_places_may_be_tensors():
    part = deep()
    points = np.random.default_rng(0).uniform(-1, 1, (20, 2))
    tensor = torch.from_numpy(points).requires_grad_()
    np.testing.assert_array_equal(part.locate(tensor), part.locate(points))
    boundary = part.decision_boundary()
    np.testing.assert_array_equal(boundary.distance(tensor), boundary.distance(points))


def test_places_that_are_no_numbers():
    part = deep()
    for method in (part.locate, part.decision_boundary().distance):
        with pytest.raises(SliceError, match=r"NaN|nan"):
            method([[0.0, np.nan]])
        with pytest.raises(SliceError, match="not an array of numbers"):
            method([["a", "b"]])


def test_there_is_no_such_class():
    boundary = deep().decision_boundary()
    with pytest.raises(ValueError, match="there is no class 9: classes are 0 to 2"):
        boundary.between(0, 9)
    with pytest.raises(ValueError, match="there is no class 0: classes are -1 and 1"):
        partition(mlp(2, 4, 1), BOX).decision_boundary((0, 1))


def test_one_entry_of_the_output():
    model = mlp(2, 16, 16, 3)
    whole, one = partition(model, BOX), partition(model, BOX, output=2)
    assert (one.decide, one.output_shape, one.n_outputs) == ("zero", (), 1)
    assert one.n_regions == whole.n_regions
    np.testing.assert_allclose(one.affine_maps()[0], whole.affine_maps()[0][:, 2:], rtol=0, atol=1e-13)
    assert set(one.decision_boundary().labels) == {-1, 1}


@pytest.mark.parametrize("exact", ["no", None, 1])
def test_exact_is_a_bool(exact):
    with pytest.raises(ValueError, match=r"exact is .*; it must be True or False"):
        partition(mlp(2, 3, 1), BOX, exact=exact)


def test_what_is_no_network():
    with pytest.raises(ModelError, match="model is a str"):
        deep().linear_regions("x")


def test_an_exact_partition_without_knots_says_that_it_is_exact():
    assert "snaps" not in str(partition(mlp(2, 3), BOX, exact=True).report)
