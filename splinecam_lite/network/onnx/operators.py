"""Every operator that is read, by its ONNX name."""

from splinecam_lite.network.onnx.activations import ACTIVATIONS
from splinecam_lite.network.onnx.arranging import ARRANGING
from splinecam_lite.network.onnx.linear import LINEAR
from splinecam_lite.network.onnx.node import Operator
from splinecam_lite.network.onnx.pooling import POOLING
from splinecam_lite.network.onnx.resizing import RESIZING
from splinecam_lite.network.onnx.sizes import SIZES

ON_TENSORS: dict[str, Operator] = LINEAR | ACTIVATIONS | POOLING | ARRANGING | RESIZING

ON_SIZES: dict[str, Operator] = SIZES
