"""Where the model lives is where it is measured; what a device cannot do is said, with the remedy."""

import numpy as np
import pytest
import torch
from torch import nn

from splinecam_lite.complexity import LocalComplexity, random_frame
from splinecam_lite.complexity.current import CurrentProgram
from splinecam_lite.complexity.estimator import check_device
from splinecam_lite.complexity.maps import complexity_map
from splinecam_lite.complexity.precision import without_tf32
from splinecam_lite.errors import ModelError
from splinecam_lite.network.slices import Slice
from tests.complexity.networks import random_network

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
needs_mps = pytest.mark.skipif(not torch.backends.mps.is_available(), reason="no Apple device")


def test_mps_has_no_float64(monkeypatch):
    network, shape = random_network("mlp", "relu", 0)
    monkeypatch.setattr(CurrentProgram, "device", torch.device("mps", 0))
    with pytest.raises(ModelError, match=r"on mps:0, which has no float64; take dtype=torch.float32"):
        LocalComplexity(network, 0.3, 2)(torch.zeros(1, *shape))
    with pytest.raises(ModelError, match="take dtype="):
        complexity_map(network, Slice.around(np.zeros(3), 1.0), 3)
    check_device(torch.device("mps"), torch.float32)
    check_device(torch.device("cuda"), torch.float64)


def test_a_model_without_weights_is_named():
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU()).eval().to("meta")
    with pytest.raises(ModelError, match="meta device"):
        LocalComplexity(network, 0.3, 2)(torch.zeros(1, 3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64, "float64"])
def test_other_dtypes_are_refused(dtype):
    with pytest.raises(TypeError, match=r"give torch.float64 or torch.float32"):
        LocalComplexity(random_network("mlp", "relu", 0)[0], dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64])
def test_points_of_any_dtype_are_taken_as_the_numbers_they_are(dtype):
    network, _ = random_network("mlp", "relu", 0)
    points = torch.arange(12).reshape(4, 3).sub(5)
    estimate = LocalComplexity(network, 0.7, 2)
    np.testing.assert_array_equal(estimate(points.to(dtype)).per_layer, estimate(points.double()).per_layer)


def test_arrays_that_cannot_be_written_to_are_taken_without_a_warning():
    network, _ = random_network("mlp", "relu", 0)
    points, frame = np.zeros((2, 3)), np.eye(3)
    for array in (points, frame):
        array.setflags(write=False)
    assert LocalComplexity(network, 0.7, frame=frame)(points).per_layer.shape == (2, 3)


def test_a_default_device_elsewhere_changes_nothing():
    network, _ = random_network("mlp", "relu", 0)
    points = torch.randn(5, 3)
    alone = LocalComplexity(network, 0.7, 2)(points).per_layer
    with torch.device("meta"):
        np.testing.assert_array_equal(LocalComplexity(network, 0.7, 2)(points).per_layer, alone)
        assert random_frame((3,), 2).device.type == "cpu"
    assert torch.get_default_device().type == "cpu"


@pytest.fixture(scope="module")
def measured():
    """A model with a fused path of its own for when there are no gradients, points, and their counts."""
    block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu", norm_first=True).eval()
    points = torch.randn(3, 5, 8)
    return block, points, LocalComplexity(block, 0.5, 4)(points).per_layer


@pytest.mark.parametrize("around", ["no_grad", "inference_mode", "autocast"])
def test_what_a_training_loop_is_inside_of_changes_nothing(measured, around):
    block, points, alone = measured
    context = {
        "no_grad": torch.no_grad,
        "inference_mode": torch.inference_mode,
        "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    }[around]
    with context():
        again = LocalComplexity(block, 0.5, 4)(points).per_layer
        assert again.sum() > 0
    np.testing.assert_array_equal(again, alone)


@pytest.mark.parametrize("setting", ["ieee", "tf32"])
def test_tf32_is_off_while_a_cuda_device_measures_and_as_before_afterwards(setting):
    places = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    before = [place.fp32_precision for place in places]
    try:
        for place in places:
            place.fp32_precision = setting
        with without_tf32(torch.device("cuda")):
            assert [place.fp32_precision for place in places] == ["ieee", "ieee"]
        with without_tf32(torch.device("cpu")):
            assert [place.fp32_precision for place in places] == [setting, setting]
        with pytest.raises(KeyError), without_tf32(torch.device("cuda")):
            raise KeyError
        assert [place.fp32_precision for place in places] == [setting, setting]
    finally:
        for place, value in zip(places, before, strict=True):
            place.fp32_precision = value


@needs_cuda
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_cuda_finds_what_the_cpu_finds(dtype):
    network, shape = random_network("conv", "relu", 5)
    points = torch.randn(40, *shape)
    on_cpu = LocalComplexity(network, 0.4, 5, dtype=dtype)(points).per_layer
    near = LocalComplexity(network, 0.005, 5, dtype=dtype)(points).per_layer  # where TF32 would show
    network.cuda()
    assert (LocalComplexity(network, 0.005, 5, dtype=dtype)(points).per_layer != near).mean() < 0.01
    for given in (points, points.cuda()):
        with torch.autocast("cuda", dtype=torch.float16):
            on_cuda = LocalComplexity(network, 0.4, 5, dtype=dtype)(given).per_layer
        assert (on_cuda != on_cpu).mean() < (0.0 if dtype == torch.float64 else 0.05) + 1e-9
    assert next(network.parameters()).is_cuda


@needs_mps
def test_apple_devices_find_what_the_cpu_finds():
    network, shape = random_network("conv", "relu", 5)
    points = torch.randn(40, *shape)
    on_cpu = LocalComplexity(network, 0.4, 5, dtype=torch.float32)(points).per_layer
    network.float().to("mps")
    on_mps = LocalComplexity(network, 0.4, 5, dtype=torch.float32)(points).per_layer
    assert (on_mps != on_cpu).mean() < 0.05
