"""Each ONNX operator against onnx's own reference evaluator, in every opset that changed it."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splinecam_lite.network import Program
from tests.network.onnx_models import node, onnx_model, require_agreement

RNG = np.random.default_rng(5)
W = RNG.normal(size=(4, 3))
KERNEL = RNG.normal(size=(4, 3, 3, 2))
INT = np.int64


def ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, dtype=INT)


IMAGE = (3, 6, 5)
ALL = (8, 11, 13, 17, 21)

CASES: dict[str, tuple[Any, tuple[int, ...], dict[str, np.ndarray], tuple[int, ...]]] = {
    # name: (node, shape of a sample, constants, opsets)
    "Gemm": (node("Gemm", "x w c", transB=1), (3,), {"w": W, "c": W[:, 0]}, ALL),
    "Gemm without bias": (node("Gemm", "x w"), (3,), {"w": W.T}, (11, 13)),
    "Gemm, scaled": (node("Gemm", "x w c", alpha=0.3, beta=-2.0), (3,), {"w": W.T, "c": W[:, 0]}, ALL),
    "Gemm, scaled, a number": (node("Gemm", "x w c", beta=0.5), (3,), {"w": W.T, "c": W[0, 0]}, (13,)),
    "MatMul": (node("MatMul", "x w"), (2, 4), {"w": W}, ALL),
    "MatMul from the left": (node("MatMul", "w x"), (3, 2), {"w": W}, ALL),
    "MatMul of a vector": (node("MatMul", "x w"), (5, 4), {"w": W[:, 0]}, (13,)),
    "Add": (node("Add", "x c"), (2, 4), {"c": W[:, 0]}, ALL),
    "Add broadcast up": (node("Add", "c x"), (1, 4), {"c": W.T}, (13,)),
    "Add itself": (node("Add", "x x"), (4,), {}, ALL),
    "Sub": (node("Sub", "x c"), (3,), {"c": W[0]}, ALL),
    "Sub from constant": (node("Sub", "c x"), (3,), {"c": W[0]}, ALL),
    "Mul": (node("Mul", "c x"), (2, 3), {"c": W[0]}, ALL),
    "Div": (node("Div", "x c"), (2, 3), {"c": W[0]}, ALL),
    "Neg": (node("Neg", "x"), (3,), {}, ALL),
    "Sum": (node("Sum", "x c x"), (3,), {"c": W[0]}, ALL),
    "Mean": (node("Mean", "x c x"), (3,), {"c": W[0]}, ALL),
    "Einsum": (node("Einsum", "x w", equation="bij,jk->bik"), (2, 4), {"w": W}, (13, 17)),
    "Conv": (node("Conv", "x w c"), IMAGE, {"w": KERNEL, "c": W[:, 0]}, ALL),
    "Conv, uneven padding": (node("Conv", "x w", pads=[1, 0, 2, 3]), IMAGE, {"w": KERNEL}, ALL),
    "BatchNormalization": (
        node("BatchNormalization", "x s b m v", epsilon=0.01),
        (4, 2, 3),
        {"s": W[:, 0], "b": W[:, 1], "m": W[:, 2], "v": W[:, 0] ** 2},
        (14, 15, 21),
    ),
    "BatchNormalization of features": (
        node("BatchNormalization", "x s b m v"),
        (4,),
        {"s": W[:, 0], "b": W[:, 1], "m": W[:, 2], "v": W[:, 0] ** 2},
        (15,),
    ),
    "Relu": (node("Relu", "x"), (2, 3), {}, ALL),
    "LeakyRelu": (node("LeakyRelu", "x", alpha=0.3), (2, 3), {}, ALL),
    "PRelu of one": (node("PRelu", "x a"), (4, 3), {"a": W[:1, 0]}, ALL),
    "PRelu of channels": (node("PRelu", "x a"), (4, 3), {"a": W[:, :1]}, ALL),
    "PRelu of all": (node("PRelu", "x a"), (4, 3), {"a": W}, ALL),
    "Abs": (node("Abs", "x"), (3,), {}, ALL),
    "Clip by attributes": (node("Clip", "x", min=-0.5, max=0.25), (3,), {}, (8, 10)),
    "Clip by nothing": (node("Clip", "x"), (3,), {}, (8, 10, 13)),
    "Clip by inputs": (node("Clip", "x l h"), (3,), {"l": np.array(-0.5), "h": np.array(0.25)}, (11, 13, 21)),
    "Clip from above": (node("Clip", "x - h"), (3,), {"h": np.array(0.25)}, (11, 13)),
    "HardSigmoid": (node("HardSigmoid", "x", alpha=0.3, beta=0.4), (3,), {}, ALL),
    "Max with a constant": (node("Max", "x c"), (3,), {"c": W[0]}, ALL),
    "Min with a constant": (node("Min", "c x"), (3,), {"c": W[0]}, ALL),
    "MaxPool": (node("MaxPool", "x", kernel_shape=[2, 2], strides=[2, 2]), (2, 4, 6), {}, (8, 10, 11, 12)),
    "MaxPool with padding": (
        node("MaxPool", "x", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        (2, 5, 5),
        {},
        (8, 12),
    ),
    "AveragePool": (node("AveragePool", "x", kernel_shape=[2, 2]), (2, 4, 6), {}, (8, 10, 11, 19)),
    "AveragePool with padding": (
        node("AveragePool", "x", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        (2, 5, 5),
        {},
        (8, 19),
    ),
    "GlobalAveragePool": (node("GlobalAveragePool", "x"), IMAGE, {}, ALL),
    "GlobalMaxPool": (node("GlobalMaxPool", "x"), (2, 2, 3), {}, ALL),
    "ReduceMean": (node("ReduceMean", "x", axes=[2, 3]), IMAGE, {}, (8, 11, 13, 17)),
    "ReduceMean from the end": (node("ReduceMean", "x", axes=[-1], keepdims=0), IMAGE, {}, (11, 13)),
    "ReduceMean by input": (node("ReduceMean", "x a", keepdims=0), IMAGE, {"a": ints(1, -1)}, (18, 21)),
    "ReduceMean of nothing": (node("ReduceMean", "x", noop_with_empty_axes=1), IMAGE, {}, (18,)),
    "ReduceSum": (node("ReduceSum", "x", axes=[1]), IMAGE, {}, (8, 11)),
    "ReduceSum by input": (node("ReduceSum", "x a"), IMAGE, {"a": ints(2)}, (13, 21)),
    "ReduceMax": (node("ReduceMax", "x", axes=[2], keepdims=0), (2, 2, 3), {}, (8, 13)),
    "ReduceMax by input": (node("ReduceMax", "x a"), (2, 2, 3), {"a": ints(2, 3)}, (18, 20)),
    "ReduceMin": (node("ReduceMin", "x", axes=[1]), (2, 2, 3), {}, (11,)),
    "Flatten": (node("Flatten", "x"), IMAGE, {}, ALL),
    "Flatten from the end": (node("Flatten", "x", axis=-3), IMAGE, {}, (11, 13)),
    "Reshape": (node("Reshape", "x s"), IMAGE, {"s": ints(0, 15, -1)}, ALL),
    "Reshape to any number": (node("Reshape", "x s"), IMAGE, {"s": ints(-1, 90)}, ALL),
    "Reshape of one sample": (node("Reshape", "x s"), IMAGE, {"s": ints(1, -1)}, ALL),
    "Transpose": (node("Transpose", "x", perm=[0, 2, 3, 1]), IMAGE, {}, ALL),
    "Concat": (node("Concat", "x x", axis=-2), IMAGE, {}, (11, 13)),
    "Concat with a constant": (node("Concat", "c x", axis=1), (3, 4), {"c": W.T[None]}, (11, 13)),
    "Slice by attributes": (
        node("Slice", "x", axes=[2, 3], starts=[1, -3], ends=[5, 2**31]),
        IMAGE,
        {},
        (8, 9),
    ),
    "Slice by inputs": (
        node("Slice", "x s e a p"),
        IMAGE,
        {"s": ints(-1, 0), "e": ints(-(2**62), 4), "a": ints(2, -1), "p": ints(-2, 3)},
        (10, 13, 21),
    ),
    "Gather": (node("Gather", "x i", axis=2), IMAGE, {"i": ints(3, 0, -1)}, ALL),
    "Gather of one": (node("Gather", "x i", axis=1), IMAGE, {"i": np.array(-1, INT)}, (11, 13)),
    "Gather of a table": (
        node("Gather", "x i", axis=1),
        IMAGE,
        {"i": np.array([[0, 1], [2, 0]], INT)},
        (11, 13),
    ),
    "Squeeze": (node("Squeeze", "x", axes=[1]), (1, 3), {}, (8, 11)),
    "Squeeze by input": (node("Squeeze", "x a"), (3, 1), {"a": ints(-1)}, (13, 21)),
    "Unsqueeze": (node("Unsqueeze", "x", axes=[1, 3]), (2,), {}, (8, 11)),
    "Unsqueeze by input": (node("Unsqueeze", "x a"), (2,), {"a": ints(-1)}, (13, 21)),
    "Expand": (node("Expand", "x s"), (1, 3), {"s": ints(1, 4, 1)}, (8, 13)),
    "Expand upwards": (node("Expand", "x s"), (1, 3), {"s": ints(2, 3)}, (8, 13)),
    "Tile": (node("Tile", "x s"), (2, 3), {"s": ints(1, 2, 3)}, (8, 13)),
    "Pad by attributes": (node("Pad", "x", pads=[0, 1, 2, 0, 0, 3], value=1.5), (2, 3), {}, (8, 10)),
    "Pad by inputs": (
        node("Pad", "x p c"),
        (2, 3),
        {"p": ints(0, 1, 2, 0, 0, 3), "c": np.array(0.5)},
        (11, 13, 19),
    ),
    "Pad along axes": (node("Pad", "x p - a"), (2, 3), {"p": ints(2, 1), "a": ints(-1)}, (18, 21)),
    "Pad by reflection": (
        node("Pad", "x p", mode="reflect"),
        (2, 3),
        {"p": ints(0, 1, 2, 0, 0, 1)},
        (11, 13),
    ),
    "Pad with the edge": (node("Pad", "x p", mode="edge"), (2, 3), {"p": ints(0, 1, 5, 0, 0, 1)}, (11, 18)),
    "Pad around": (node("Pad", "x p", mode="wrap"), (2, 3), {"p": ints(0, 1, 2, 0, 0, 1)}, (19, 21)),
    "Where": (node("Where", "c x z"), (3,), {"c": W[0] > 0, "z": W[1]}, (9, 16)),
    "DepthToSpace": (node("DepthToSpace", "x", blocksize=2), (8, 2, 3), {}, (8, 11, 13)),
    "DepthToSpace, columns first": (
        node("DepthToSpace", "x", blocksize=2, mode="CRD"),
        (8, 2, 3),
        {},
        (11, 13),
    ),
    "SpaceToDepth": (node("SpaceToDepth", "x", blocksize=2), (2, 4, 6), {}, (8, 13)),
    "Cast": (node("Cast", "x", to=11), (3,), {}, ALL),
    "Dropout": (node("Dropout", "x"), (3,), {}, (8, 10, 12, 13)),
    "Dropout by inputs": (
        node("Dropout", "x r t"),
        (3,),
        {"r": np.float32(0.5), "t": np.array(False)},
        (12, 13),
    ),
    "Identity": (node("Identity", "x"), (3,), {}, ALL),
    "Shrink": (node("Shrink", "x", lambd=0.5, bias=0.5), (3,), {}, (9, 13)),
    "Split": (node("Split", "x", "y z", axis=1, split=[2, 1]), (3, 2), {}, (8, 11)),
    "Split by input": (node("Split", "x s", "y z", axis=1), (3, 2), {"s": ints(2, 1)}, (13, 18)),
    "Split evenly": (node("Split", "x", "y z", axis=1), (4, 2), {}, (8, 11, 13)),
    "Split by number": (node("Split", "x", "y z", axis=1, num_outputs=2), (3, 2), {}, (18, 21)),
}

SMOOTH = {
    "Sigmoid": {}, "Tanh": {}, "Softplus": {}, "Elu": {"alpha": 0.5}, "Erf": {}, "Exp": {}, "HardSwish": {},
    "Mish": {}, "Softmax": {}, "LogSoftmax": {"axis": 1}, "Sin": {}, "ThresholdedRelu": {"alpha": 0.5},
    "Gelu": {"approximate": "tanh"}, "Sign": {}, "Floor": {}, "Round": {},
}  # fmt: skip


@pytest.mark.parametrize(("name", "opset"), [(n, o) for n, case in CASES.items() for o in case[-1]], ids=str)
def test_operator_is_what_onnx_computes(name: str, opset: int) -> None:
    operator, shape, constants, _ = CASES[name]
    program = require_agreement(onnx_model([operator], shape, constants, opset=opset), shape)
    program.require_piecewise_linear()


@pytest.mark.parametrize("op_type", SMOOTH)
def test_other_operators_run_and_are_refused_by_name(op_type: str) -> None:
    model = onnx_model([node(op_type, "x", **SMOOTH[op_type])], (4,), opset=20)
    # onnx computes some of these in float32.
    program = require_agreement(model, (4,), rounding=1e-6)
    with pytest.raises(Exception, match=f"layer 'the y'.*ONNX {op_type} in the model"):
        program.require_piecewise_linear()


@pytest.mark.parametrize("opset", [8, 9])
def test_batch_norm_of_old_opsets_uses_the_statistics_of_the_file(opset: int) -> None:
    """Here onnx's own evaluator computes statistics of the batch, which no runtime does."""
    scale, shift, mean, variance = W[:, 0], W[:, 1], W[:, 2], W[:, 0] ** 2
    operator = node("BatchNormalization", "x s b m v", epsilon=0.25)
    constants = {"s": scale, "b": shift, "m": mean, "v": variance}
    program = Program.from_onnx(onnx_model([operator], (4,), constants, opset=opset))
    x = RNG.normal(size=(3, 4))
    expected = (x - mean) / np.sqrt(variance + 0.25) * scale + shift
    np.testing.assert_allclose(program.run(x).numpy(), expected, rtol=0, atol=1e-13)


@given(
    st.sampled_from(["nearest", "linear"]),
    st.sampled_from(
        ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric"]
    ),
    st.sampled_from(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]),
    st.lists(st.sampled_from([0.5, 0.75, 1.0, 1.5, 2.0, 3.0]), min_size=2, max_size=2),
    st.booleans(),
)
def test_resizing(mode: str, convention: str, rounding: str, scales: list[float], by_sizes: bool) -> None:
    attributes = {"mode": mode, "coordinate_transformation_mode": convention, "nearest_mode": rounding}
    sizes = [4, 6]
    if by_sizes:
        wanted = [int(n * s) for n, s in zip(sizes, scales, strict=True)]
        constants = {"n": ints(1, 2, *wanted)}
        operator = node("Resize", "x - - n", **attributes)
    else:
        constants = {"s": np.array([1, 1, *scales], np.float32)}
        operator = node("Resize", "x - s", **attributes)
    program = require_agreement(onnx_model([operator], (2, *sizes), constants, opset=19), (2, *sizes))
    assert {op.kind for op in program.ops} <= {"affine"}


@pytest.mark.parametrize(
    ("opset", "operator"),
    [
        (8, node("Upsample", "x", scales=[1.0, 1.0, 2.0, 3.0])),
        (9, node("Upsample", "x s")),
        (10, node("Resize", "x s")),
        (11, node("Resize", "x r s", coordinate_transformation_mode="asymmetric", nearest_mode="floor")),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else value.op_type,
)
def test_nearest_upsampling_of_every_opset(opset: int, operator: Any) -> None:
    constants = {} if opset == 8 else {"s": np.array([1, 1, 2, 3], np.float32)}
    constants |= {"r": np.zeros(0, np.float32)} if opset == 11 else {}
    program = Program.from_onnx(onnx_model([operator], (2, 3, 2), constants, opset=opset))
    x = RNG.normal(size=(3, 2, 3, 2))
    np.testing.assert_array_equal(program.run(x).numpy(), x.repeat(2, 2).repeat(3, 3))


@given(st.sampled_from(["Max", "Min"]), st.integers(2, 4), st.booleans())
def test_extrema_of_several_values(op_type: str, n: int, bounded: bool) -> None:
    """Each value is an affine image of the input; one more is a constant."""
    constants = {f"w{i}": RNG.normal(size=(3, 4)) for i in range(n)} | {"c": W[:, 0]}
    affine = [node("MatMul", f"x w{i}", f"v{i}") for i in range(n)]
    values = " ".join(f"v{i}" for i in range(n)) + (" c" if bounded else "")
    model = onnx_model([*affine, node(op_type, values)], (3,), constants, opset=13)
    program = require_agreement(model, (3,))
    program.require_piecewise_linear()
    assert [op.kind for op in program.ops].count("max") == 1
