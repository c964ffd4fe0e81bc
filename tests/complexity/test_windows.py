"""A convolution of what is 0 almost everywhere is the convolution."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from splinecam_lite.complexity.vertices.windows import Convolution, boxes
from splinecam_lite.network.program import Program


@st.composite
def sparse_images(draw):
    """A convolution, its module, and images with none, one, a few or many entries that are not 0."""
    kernel, stride, dilation = (draw(st.tuples(*[st.integers(1, 3)] * 2)) for _ in range(3))
    padding, groups = draw(st.tuples(*[st.integers(0, 4)] * 2)), draw(st.sampled_from([1, 2]))
    height, width = draw(st.integers(7, 14)), draw(st.integers(7, 14))
    module = nn.Conv2d(2, 4, kernel, stride, padding, dilation, groups, bias=False).double()
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    images = torch.zeros(6, 2, height, width, dtype=torch.float64)
    for image, n in zip(images, (0, 1, 1, 2, 4, 60), strict=True):
        for _ in range(n):
            image[rng.integers(2), rng.integers(height), rng.integers(width)] = rng.normal()
    convolution = Convolution(module.weight.detach(), stride, padding, dilation, groups)
    return module, convolution, images


@given(sparse_images())
def test_it_is_the_convolution(case):
    module, convolution, images = case
    with torch.no_grad():
        expected = module(images)
    torch.testing.assert_close(
        convolution(images, tuple(expected.shape[1:])), expected, rtol=1e-12, atol=1e-13
    )


@given(sparse_images())
def test_boxes_hold_what_is_not_0(case):
    _, _, images = case
    for image, (top, bottom, left, right) in zip(images, boxes(images), strict=True):
        _, y, x = image.nonzero(as_tuple=True)
        if not len(y):
            assert top > bottom
            continue
        assert (top, bottom, left, right) == (y.min(), y.max(), x.min(), x.max())


@pytest.mark.parametrize(
    ("module", "is_one"),
    [
        (nn.Conv2d(2, 3, 3, padding=1, stride=2), True),
        (nn.Conv2d(2, 2, 3, groups=2, bias=False), True),
        (nn.Conv2d(2, 3, 3, padding="same"), False),
        (nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), False),
        (nn.AvgPool2d(2), False),
    ],
)
def test_which_ops_are_taken(module, is_one):
    op = Program.from_module(nn.Sequential(module, nn.ReLU()).eval(), (2, 9, 9)).ops[0]
    convolution = Convolution.of(op)
    assert (convolution is not None) == is_one
    if convolution is not None:
        images = torch.zeros(2, 2, 9, 9, dtype=torch.float64)
        images[0, 1, 4, 5] = images[1, 0, 0, 8] = 1.0
        expected = op.linear(images)
        torch.testing.assert_close(convolution(images, tuple(expected.shape[1:])), expected)
