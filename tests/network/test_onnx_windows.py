"""Convolution and pooling of ONNX: random windows, padding and strides, against a slow truth of their own.

onnx's reference evaluator is no judge here: it fails on padded windows along one axis, and reads automatic
padding in a way of its own. So the windows are walked through one by one, as the operators' documents say.
"""

import itertools
import math
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from splinecam_lite.network import Program
from tests.network.onnx_models import node, onnx_model, require_agreement

RNG = np.random.default_rng(6)
AXIS = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 2))


@st.composite
def windowed(
    draw: st.DrawFn, dilated: bool = True, ceil: bool = True
) -> tuple[dict[str, Any], tuple[int, ...]]:
    """Attributes of a node of windows along one or two axes, and sizes that they fit."""
    n = draw(st.integers(1, 2))
    kernel, strides, dilations = map(list, zip(*(draw(AXIS) for _ in range(n)), strict=True))
    dilations = dilations if dilated else [1] * n
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": strides}
    if dilated:
        attributes["dilations"] = dilations
    if draw(st.booleans()):
        attributes["auto_pad"] = draw(st.sampled_from(["SAME_UPPER", "SAME_LOWER", "VALID"]))
    else:
        # Less padding than the window's span, so that each window holds an entry.
        most = [min(k - 1, s - 1) if d == 1 else 0 for k, s, d in zip(kernel, spans, dilations, strict=True)]
        pads = [draw(st.integers(0, most[i % n])) for i in range(2 * n)]
        attributes["pads"] = pads if draw(st.booleans()) else pads[:n] * 2
        if ceil:
            attributes["ceil_mode"] = draw(st.integers(0, 1))
    return attributes, tuple(draw(st.integers(span, span + 4)) for span in spans)


def windows_along(attributes: dict[str, Any], i: int, size: int) -> tuple[list[list[int]], int, int]:
    """Places of each window along axis ``i``, and the padding before and after."""
    kernel, stride = attributes["kernel_shape"][i], attributes["strides"][i]
    dilation = attributes.get("dilations", [1] * (i + 1))[i]
    span, n = (kernel - 1) * dilation + 1, len(attributes["kernel_shape"])
    auto = attributes.get("auto_pad", "NOTSET")
    before, after = attributes.get("pads", [0] * 2 * n)[i::n]
    if auto.startswith("SAME"):
        total = max((math.ceil(size / stride) - 1) * stride + span - size, 0)
        half, rest = total // 2, total - total // 2
        before, after = (half, rest) if auto == "SAME_UPPER" else (rest, half)
    starts = list(range(-before, size + after - span + 1, stride))
    if attributes.get("ceil_mode") and (size + before + after - span) % stride:
        extra = starts[-1] + stride
        starts += [extra] if extra < size else []  # one that begins in the padding is none
    return [[start + k * dilation for k in range(kernel)] for start in starts], before, after


def pooled(x: np.ndarray, attributes: dict[str, Any], kind: str) -> np.ndarray:
    """Pooling window by window: kind "max", "mean", or "mean with padding"."""
    sizes = x.shape[2:]
    along = [windows_along(attributes, i, size) for i, size in enumerate(sizes)]
    result = np.empty((*x.shape[:2], *(len(windows) for windows, _, _ in along)))
    for index in np.ndindex(*result.shape[2:]):
        places = [along[i][0][o] for i, o in enumerate(index)]
        inside = [[p for p in ps if 0 <= p < size] for ps, size in zip(places, sizes, strict=True)]
        entries = np.stack([x[(..., *at)] for at in itertools.product(*inside)])
        counted = math.prod(
            sum(-b <= p < size + a for p in ps)
            for ps, size, (_, b, a) in zip(places, sizes, along, strict=True)
        )
        value = entries.max(0) if kind == "max" else entries.sum(0)
        result[(..., *index)] = value / {"max": 1, "mean": len(entries), "mean with padding": counted}[kind]
    return result


def require_pooling(
    op_type: str, attributes: dict[str, Any], sizes: tuple[int, ...], opset: int, kind: str
) -> Program:
    """Require that a pooling node of a program computes what the slow truth does."""
    program = Program.from_onnx(onnx_model([node(op_type, "x", **attributes)], (2, *sizes), opset=opset))
    x = RNG.normal(size=(3, 2, *sizes))
    expected = pooled(x, {k: v for k, v in attributes.items() if k != "count_include_pad"}, kind)
    np.testing.assert_allclose(program.run(x).numpy(), expected, rtol=0, atol=1e-14)
    return program


@settings(max_examples=30)
@given(windowed())
def test_max_pooling(given_: Any) -> None:
    attributes, sizes = given_
    program = require_pooling("MaxPool", attributes, sizes, 12, "max")
    assert {op.kind for op in program.ops} <= {"max", "affine"}
    x = RNG.normal(size=(2, 2, *sizes))
    np.testing.assert_allclose(program.compared().run(x).numpy(), program.run(x).numpy(), rtol=0, atol=1e-14)


@settings(max_examples=10)
@given(windowed(dilated=False, ceil=False), st.sampled_from((8, 10, 11)))
def test_max_pooling_of_old_opsets(given_: Any, opset: int) -> None:
    require_pooling("MaxPool", *given_, opset, "max")


@settings(max_examples=30)
@given(windowed(), st.booleans())
def test_average_pooling(given_: Any, with_padding: bool) -> None:
    attributes, sizes = given_
    attributes["count_include_pad"] = int(with_padding)
    kind = "mean with padding" if with_padding else "mean"
    program = require_pooling("AveragePool", attributes, sizes, 19, kind)
    assert {op.kind for op in program.ops} <= {"affine"}


@settings(max_examples=20)
@given(windowed(ceil=False), st.integers(1, 2), st.booleans(), st.sampled_from((8, 11, 21)))
def test_convolution(given_: Any, group: int, bias: bool, opset: int) -> None:
    """With the padding written out, which onnx's evaluator reads well."""
    attributes, sizes = given_
    weight = RNG.normal(size=(4, 6 // group, *attributes["kernel_shape"]))
    constants = {"w": weight, "c": RNG.normal(size=4)} if bias else {"w": weight}
    along = [windows_along(attributes, i, size) for i, size in enumerate(sizes)]
    pads = [before for _, before, _ in along] + [after for _, _, after in along]
    written_out = {k: v for k, v in attributes.items() if k not in ("auto_pad", "pads")} | {"pads": pads}
    inputs = "x w c" if bias else "x w"
    models = [
        onnx_model([node("Conv", inputs, group=group, **given)], (6, *sizes), constants, opset=opset)
        for given in (written_out, attributes)
    ]
    program = require_agreement(models[0], (6, *sizes))
    assert {op.kind for op in program.ops} == {"affine"}
    assert Program.from_onnx(models[1]).digest() == program.digest()


@settings(max_examples=20)
@given(windowed(ceil=False), st.data(), st.booleans())
def test_transposed_convolution(given_: Any, data: st.DataObject, bias: bool) -> None:
    attributes, sizes = given_
    attributes.pop("auto_pad", None)
    attributes["output_padding"] = [data.draw(st.integers(0, s - 1)) for s in attributes["strides"]]
    constants = {"w": RNG.normal(size=(2, 3, *attributes["kernel_shape"]))}
    constants |= {"c": RNG.normal(size=3)} if bias else {}
    operator = node("ConvTranspose", "x w c" if bias else "x w", **attributes)
    require_agreement(onnx_model([operator], (2, *sizes), constants, opset=13), (2, *sizes))


def test_transposed_convolution_of_a_wanted_size() -> None:
    """Strides times the size is what both ways of automatic padding give; they differ in the side cut off."""
    x, weight = RNG.normal(size=(1, 1, 3)), np.array([[[1.0, 10.0, 100.0, 1000.0]]])
    whole = np.zeros(8)
    for i, value in enumerate(x[0, 0]):
        whole[2 * i : 2 * i + 4] += value * weight[0, 0]
    for auto, first in (("SAME_UPPER", 1), ("SAME_LOWER", 1), ("VALID", 0)):
        operator = node("ConvTranspose", "x w", strides=[2], auto_pad=auto)
        program = Program.from_onnx(onnx_model([operator], (1, 3), {"w": weight}))
        expected = whole if auto == "VALID" else whole[first : first + 6]
        np.testing.assert_allclose(program.run(x)[0, 0], expected, atol=1e-12)
    operator = node("ConvTranspose", "x w", strides=[2], output_shape=[7])
    program = Program.from_onnx(onnx_model([operator], (1, 3), {"w": weight}))
    np.testing.assert_allclose(program.run(x)[0, 0], whole[1:], atol=1e-12)
