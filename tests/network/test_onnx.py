"""ONNX files as networks: batches, shapes computed in the graph, constants, names, and what is refused."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper
from torch import nn

import splinecam_lite as sc
from splinecam_lite.errors import ModelError, NotPiecewiseLinear, SplineCamError
from splinecam_lite.network import Program
from tests.network.onnx_models import node, onnx_model, require_agreement

RNG = np.random.default_rng(7)
W1, B1, W2, B2 = RNG.normal(size=(6, 2)), RNG.normal(size=6), RNG.normal(size=(3, 6)), RNG.normal(size=3)
CONSTANTS = {"w1": W1, "b1": B1, "w2": W2, "b2": B2}
MLP = [
    node("Gemm", "x w1 b1", "z", transB=1),
    node("Relu", "z", "h"),
    node("Gemm", "h w2 b2", "y", transB=1),
]


def ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def constant(name: str, array: Any, **attributes: Any) -> Any:
    """A Constant node."""
    tensor = {} if attributes else {"value": numpy_helper.from_array(np.asarray(array))}
    return helper.make_node("Constant", [], [name], **tensor, **attributes)


def mlp(**options: Any) -> ModelProto:
    return onnx_model(MLP, (2,), CONSTANTS, **options)


def as_module() -> nn.Module:
    """The same network as a module."""
    module = nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 3)).double().eval()
    with torch.no_grad():
        for parameter, array in zip(module.parameters(), CONSTANTS.values(), strict=True):
            parameter.copy_(torch.from_numpy(array))
    return module


def test_a_network_from_a_file_has_the_partition_of_the_same_module(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(mlp(), path)
    module, plane = as_module(), sc.Slice.box(-2, 2)
    expected, found = sc.partition(module, plane), sc.partition(path, plane)
    assert Program.from_file(path).digest() == Program.from_module(module, (2,)).digest()
    assert found.n_regions == expected.n_regions > 5
    np.testing.assert_array_equal(found.vertices, expected.vertices)
    points = RNG.normal(size=(4, 2))
    estimates = [sc.LocalComplexity(model, directions=2)(points) for model in (str(path), module)]
    np.testing.assert_array_equal(estimates[0].per_layer, estimates[1].per_layer)


def test_a_convolutional_network_is_the_same_module() -> None:
    """Convolution, batch norm, ReLU, max pooling, a residual sum, average, linear head: bit for bit."""

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.pool = (
                nn.Conv2d(1, 3, 3, padding=1),
                nn.BatchNorm2d(3),
                nn.MaxPool2d(2),
            )
            self.again, self.head = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.pool(self.norm(self.conv(x)).relu())
            y = (self.again(y) + y).relu()
            return self.head(y.mean([2, 3], keepdim=True).flatten(1))

    module = Residual().eval()
    module.norm.running_mean.normal_()
    module.norm.running_var.uniform_(0.5, 2)
    nodes = [
        node("Conv", "x conv.weight conv.bias", "a", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("BatchNormalization", "a norm.weight norm.bias norm.running_mean norm.running_var", "b"),
        node("Relu", "b", "c"),
        node("MaxPool", "c", "d", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", "d again.weight again.bias", "e", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("Add", "e d", "f"),
        node("Relu", "f", "g"),
        node("GlobalAveragePool", "g", "h"),
        node("Flatten", "h", "i"),
        node("Gemm", "i head.weight head.bias", transB=1),
    ]
    used = {name for n in nodes for name in n.input}
    constants = {name: t.numpy() for name, t in module.state_dict().items() if name in used}
    model = onnx_model(nodes, (1, 4, 4), constants, dtype=TensorProto.FLOAT, opset=15)
    # Attributes are float32, those that a node leaves out as well.
    module.norm.eps = float(np.float32(1e-5))
    program = Program.from_onnx(model)
    assert program.digest() == Program.from_module(module, (1, 4, 4)).digest()
    assert program.layer_names == ("the c", "the g")
    plane = sc.Slice.around(RNG.normal(size=(1, 4, 4)), 2.0, seed=0)
    part = sc.partition(program, plane, exact=True)
    assert part.n_regions > 10
    assert part.certify().status == "proved"


@pytest.mark.parametrize("source", ["path", "bytes", "model"])
def test_a_model_is_given_as_a_path_as_bytes_or_as_itself(source: str, tmp_path: Path) -> None:
    model = mlp()
    onnx.save(model, tmp_path / "net.onnx")
    given_ = {"path": tmp_path / "net.onnx", "bytes": model.SerializeToString(), "model": model}[source]
    assert Program.from_onnx(given_).digest() == Program.from_module(as_module(), (2,)).digest()


def test_layers_have_the_names_of_nodes_or_of_the_values_they_write() -> None:
    assert Program.from_onnx(mlp()).layer_names == ("the h",)
    unnamed = mlp()
    unnamed.graph.node[1].name = ""
    assert Program.from_onnx(unnamed).layer_names == ("h",)
    dotted = mlp()
    dotted.graph.node[1].name = "/layers/layers.0/Relu"
    assert Program.from_onnx(dotted).layer_names == ("/layers/layers.0/Relu",)


@settings(max_examples=15)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=3), st.sampled_from([8, 13, 21]), st.integers(0, 99))
def test_random_perceptrons_in_float32(widths: list[int], opset: int, seed: int) -> None:
    """Weights are cast exactly: run in float64 by hand, nothing but rounding of float64 differs."""
    rng = np.random.default_rng(seed)
    sizes, nodes, constants, value = [2, *widths], [], {}, "x"
    x = y = rng.normal(size=(4, 2))
    for i, (n, m) in enumerate(pairwise(sizes)):
        w, b = (rng.normal(size=s).astype(np.float32) for s in ((n, m), m))
        constants |= {f"w{i}": w, f"b{i}": b}
        nodes += [
            node("MatMul", f"{value} w{i}", f"p{i}"),
            node("Add", f"b{i} p{i}", f"z{i}"),
            node("Relu", f"z{i}", f"h{i}"),
        ]
        value, y = f"h{i}", np.maximum(y @ w.astype(np.float64) + b.astype(np.float64), 0)
    model = onnx_model(nodes, (2,), constants, opset=opset, dtype=TensorProto.FLOAT)
    np.testing.assert_allclose(
        Program.from_onnx(model).run(x).numpy(), y, rtol=0, atol=1e-13 * (1 + abs(y).max())
    )


# ---- batches and shapes ------------------------------------------------------------------------

FLATTENED = [
    [node("Reshape", "x s", "f")],
    [
        node("Shape", "x", "shape"),
        node("Gather", "shape zero", "n"),
        node("Unsqueeze", "n axis", "n1"),
        node("Concat", "n1 rest", "s2", axis=0),
        node("Reshape", "x s2", "f"),
    ],
    [
        node("Shape", "x", "shape"),
        node("Slice", "shape axis one", "n1"),
        node("Concat", "n1 rest", "s2", axis=0),
        node("Cast", "s2", "s3", to=TensorProto.INT64),
        node("Reshape", "x s3", "f"),
    ],
    [node("Flatten", "x", "f", axis=1)],
    [node("Transpose", "x", "t", perm=[0, 2, 3, 1]), node("Reshape", "t any", "f")],
]
SIZES = {
    "s": ints(1, 12),
    "any": ints(-1, 12),
    "zero": np.array(0, np.int64),
    "axis": ints(0),
    "one": ints(1),
    "rest": ints(-1),
}


@pytest.mark.parametrize("batch", ["batch", 1, None])
@pytest.mark.parametrize("flatten", FLATTENED, ids=lambda nodes: " ".join(n.op_type for n in nodes))
def test_the_first_axis_is_that_of_the_samples(flatten: list[Any], batch: Any) -> None:
    """Symbolic, or fixed to 1, as an export from one example leaves it."""
    weight = RNG.normal(size=(12, 3))
    used = {name for n in flatten for name in n.input}
    constants = {k: v for k, v in SIZES.items() if k in used} | {"w": weight}
    model = onnx_model([*flatten, node("MatMul", "f w")], (3, 2, 2), constants, batch=batch)
    program = require_agreement(model, (3, 2, 2))
    assert (program.input_shape, program.output_shape) == ((3, 2, 2), (3,))


def test_a_shape_computed_from_two_axes() -> None:
    nodes = [
        node("Shape", "x", "shape"),
        constant("i1", ints(1)),
        constant("i2", ints(2)),
        node("Gather", "shape i1", "a"),
        node("Gather", "shape i2", "b"),
        node("Mul", "a b", "ab"),
        node("Div", "ab two", "half"),
        node("Gather", "shape zeros", "n"),
        node("Concat", "n half two", "target", axis=0),
        node("Reshape", "x target", "r"),
        node("ReduceProd", "ab", "p", keepdims=0),
        node(
            "ConstantOfShape", "target", "ones", value=helper.make_tensor("v", TensorProto.DOUBLE, [1], [1.0])
        ),
        node("Add", "r ones"),
    ]
    program = require_agreement(onnx_model(nodes, (4, 3), {"two": ints(2), "zeros": ints(0)}), (4, 3))
    assert program.output_shape == (6, 2)


def test_expanding_by_a_computed_shape() -> None:
    """What exporters write for ``expand(batch, -1, -1)``."""
    nodes = [
        node("Shape", "x", "shape"),
        node("Gather", "shape zero", "n"),
        node("Concat", "n rest", "wanted", axis=0),
        node("Equal", "wanted minus", "open"),
        node("Where", "open ones wanted", "target"),
        node("Expand", "token target", "tokens"),
        node("Concat", "tokens x", axis=1),
    ]
    constants = {
        "zero": ints(0), "rest": ints(-1, -1), "minus": ints(-1, -1, -1), "ones": ints(1, 1, 1),
        "token": RNG.normal(size=(1, 1, 3)),
    }  # fmt: skip
    assert require_agreement(onnx_model(nodes, (2, 3), constants), (2, 3)).output_shape == (3, 3)


def test_open_sizes_are_given_by_the_caller() -> None:
    model = onnx_model([node("GlobalAveragePool", "x")], (2, "h", "w"))
    assert Program.from_onnx(model, (2, 4, 5)).output_shape == (2, 1, 1)
    with pytest.raises(ModelError, match=r"leaves the shape of its input open: \(batch, 2, \?, \?\)"):
        Program.from_onnx(model)
    with pytest.raises(ModelError, match=r"takes inputs of shape \(2, any, any\), not \(3, 4, 4\)"):
        Program.from_onnx(model, (3, 4, 4))


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([node("Reshape", "x s")], "the y.*does not run on 2 samples|first axis must be theirs"),
        ([node("ReduceSum", "x", axes=[0])], "mixes|first axis must be theirs"),
        ([node("Softmax", "x", axis=0)], "mixes the samples"),
    ],
    ids=["reshape", "sum", "softmax"],
)
def test_graphs_that_are_not_for_single_samples_are_refused(nodes: list[Any], message: str) -> None:
    opset = 11 if nodes[0].op_type == "ReduceSum" else 13
    with pytest.raises(ModelError, match=message):
        Program.from_onnx(onnx_model(nodes, (3, 2), {"s": ints(6)}, batch=1, opset=opset))


def test_an_input_without_samples_is_refused() -> None:
    with pytest.raises(ModelError, match=r"shape \(5, 3\), whose first axis is not that of the samples"):
        Program.from_onnx(onnx_model([node("Relu", "x")], (3,), batch=5))


# ---- constants ---------------------------------------------------------------------------------


def test_constants_are_computed_as_in_the_file() -> None:
    """Weights that are transposed, scaled and looked up in the graph are constants like any others."""
    nodes = [
        constant("half", np.float64(0.5)),
        constant("axes", None, value_ints=[1, 0]),
        node("Transpose", "w", "wt", perm=[1, 0]),
        node("Mul", "wt half", "scaled"),
        node("Gather", "scaled axes", "picked"),
        node("Identity", "picked", "last"),
        node("MatMul", "x last"),
    ]
    program = require_agreement(onnx_model(nodes, (2,), {"w": W1}), (2,))
    assert len(program.ops) == 1
    np.testing.assert_array_equal(program.run(np.eye(2)).numpy(), W1.T[::-1] / 2)


def test_weights_among_the_inputs_are_no_inputs() -> None:
    """As in files of old exporters."""
    model = mlp(opset=8)
    model.graph.input.append(helper.make_tensor_value_info("w1", TensorProto.DOUBLE, W1.shape))
    assert Program.from_onnx(model).digest() == Program.from_onnx(mlp()).digest()


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_narrow_weights_are_cast_exactly(dtype: Any) -> None:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    weight = W1.astype(dtype)
    program = Program.from_onnx(onnx_model([node("MatMul", "x w")], (6,), {"w": weight}, dtype=kind))
    np.testing.assert_array_equal(program.run(np.eye(6)).numpy(), weight.astype(np.float64))


def test_bfloat16_weights_are_cast_exactly() -> None:
    numbers = np.array([[1.0, 3.140625], [-0.0078125, 2.0**100]])
    tensor = helper.make_tensor("w", TensorProto.BFLOAT16, [2, 2], numbers.flatten())
    model = onnx_model([node("MatMul", "x w")], (2,), dtype=TensorProto.BFLOAT16)
    model.graph.initializer.append(tensor)
    np.testing.assert_array_equal(Program.from_onnx(model).run(np.eye(2)).numpy(), numbers)


def test_functions_of_the_model_are_written_out() -> None:
    body = [helper.make_node("Neg", ["a"], ["b"]), helper.make_node("Relu", ["b"], ["c"])]
    version = [helper.make_opsetid("", 17)]
    function = helper.make_function("mine", "NegRelu", ["a"], ["c"], body, version)
    model = onnx_model([helper.make_node("NegRelu", ["x"], ["y"], domain="mine")], (3,))
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("mine", 1))
    np.testing.assert_array_equal(Program.from_onnx(model).run([[1.0, -2.0, 0.0]]).numpy(), [[0.0, 2.0, 0.0]])


def test_weights_in_another_file(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(mlp(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert Program.from_file(path).digest() == Program.from_onnx(mlp()).digest()
    with pytest.raises(ModelError, match="in another file; give the path of the model"):
        Program.from_onnx(path.read_bytes())
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ModelError, match="keeps weights in other files, which cannot be read"):
        Program.from_file(path)


def test_weights_outside_of_the_folder_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "secret").write_bytes(bytes(96))
    model = mlp()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    path = tmp_path / "inner" / "net.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="cannot be read"):
        Program.from_file(path)


# ---- outputs -----------------------------------------------------------------------------------


def test_the_output_is_named_by_a_value_a_node_or_an_entry() -> None:
    model = mlp(outputs=["y", "h"])
    for output in (None, 2):
        with pytest.raises(ModelError, match="has 2 outputs; name one as output: y, h"):
            Program.from_onnx(model, output=output)
    whole = Program.from_onnx(model, output="y")
    assert whole.output_shape == (3,)
    x = RNG.normal(size=(4, 2))
    for name in ("z", "the z"):
        cut = Program.from_onnx(model, output=name)
        np.testing.assert_allclose(cut.run(x).numpy(), x @ W1.T + B1, atol=1e-14)
        assert cut.layer_names == ()
    entry = Program.from_onnx(mlp(), output=2)
    np.testing.assert_array_equal(entry.run(x).numpy(), whole.run(x)[:, 2].numpy())
    with pytest.raises(ModelError, match="no value or node 'hh'; there is 'h'"):
        Program.from_onnx(model, output="hh")


def test_operators_after_the_output_are_not_read() -> None:
    nodes = [*MLP, node("ArgMax", "y", "class")]
    model = onnx_model(nodes, (2,), CONSTANTS, outputs=["class"])
    with pytest.raises(ModelError, match="not read: ArgMax"):
        Program.from_onnx(model)
    assert Program.from_onnx(model, output="y").output_shape == (3,)


def test_normalisation_comes_first() -> None:
    program = Program.from_onnx(mlp(), normalise=([1.0, 2.0], 4.0))
    x = RNG.normal(size=(3, 2))
    expected = Program.from_onnx(mlp()).run((x - [1.0, 2.0]) / 4.0)
    np.testing.assert_allclose(program.run(x).numpy(), expected.numpy(), rtol=0, atol=1e-13)


# ---- what is refused ---------------------------------------------------------------------------


def test_smooth_operators_are_refused_by_node_with_a_place_to_stop() -> None:
    nodes = [*MLP[:1], node("Gelu", "z", "h"), *MLP[2:]]
    program = Program.from_onnx(onnx_model(nodes, (2,), CONSTANTS, opset=20))
    with pytest.raises(
        NotPiecewiseLinear, match=r"layer 'the h' .*ONNX Gelu in the model\) is GELU.*output='z'"
    ):
        program.require_piecewise_linear()


def test_all_operators_that_are_not_read_are_listed() -> None:
    nodes = [
        node("NonZero", "x", "a"),
        node("TopK", "x k", "b c"),
        node("TopK", "b k", "d e"),
        helper.make_node("FusedThing", ["d"], ["f"], domain="com.microsoft"),
        node("Add", "f x", "g"),
        node("Add", "g a"),
    ]
    model = onnx_model(nodes, (3,), {"k": ints(1)})
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    with pytest.raises(ModelError) as caught:
        Program.from_onnx(model)
    for named in ("NonZero ('the a')", "TopK ('the b' and 1 more)", "com.microsoft.FusedThing ('f')"):
        assert named in str(caught.value)


def with_inputs(*names: str) -> ModelProto:
    model = onnx_model([node("Sum", " ".join(["x", *names]))], (2,))
    for name in names:
        model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.DOUBLE, ["batch", 2]))
    return model


def with_nan() -> ModelProto:
    return onnx_model([node("Add", "x bias")], (2,), {"bias": np.array([0.0, np.nan])})


REFUSED = {
    "several inputs": (with_inputs("mask", "state"), "takes 3 inputs: 'x', 'mask', 'state'"),
    "NaN": (with_nan(), "'bias' holds NaN"),
    "opset too old": (mlp(opset=7), "is of opset 7; opsets 8 to 21 are read"),
    "opset too new": (mlp(opset=23), "is of opset 23"),
    "input of integers": (
        onnx_model([node("Cast", "x", to=1)], (2,), dtype=TensorProto.INT64), "no tensor of floating"
    ),
    "train mode": (
        onnx_model([node("Dropout", "x r t")], (2,), {"r": np.float32(0.5), "t": np.array(True)}),
        "layer 'the y'.*train mode",
    ),
    "batch statistics": (
        onnx_model(
            [node("BatchNormalization", "x s s s s", training_mode=1)], (2,), {"s": np.ones(2)}, opset=15
        ),
        "layer 'the y'.*statistics of the batch",
    ),
    "cast to integers": (
        onnx_model([node("Cast", "x", to=TensorProto.INT64)], (2,)), "layer 'the y'.*casts data to INT64"
    ),
    "shape from data": (
        onnx_model([node("Cast", "x", "i", to=TensorProto.DOUBLE), node("Clip", "x i")], (1,)),
        "layer 'the y'.*must be constant",
    ),
    "sizes do not fit": (onnx_model([node("MatMul", "x w")], (3,), {"w": W1}), "layer 'the y'.*does not run"),
    "places of maxima": (
        onnx_model([node("MaxPool", "x", "v i", kernel_shape=[2])], (1, 4), outputs=["i"]),
        "layer 'the v'.*places of its maxima",
    ),
    "constant output": (
        onnx_model([node("Relu", "x", "h"), node("Neg", "c")], (2,), {"c": np.ones(2)}), "does not depend on"
    ),
    "a node twice": (onnx_model([node("Relu", "x"), node("Relu", "x")], (2,)), "no valid ONNX model"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_model_that_cannot_be_read_is_refused(name: str) -> None:
    model, message = REFUSED[name]
    with pytest.raises(ModelError, match=f"(?s){message}"):
        Program.from_onnx(model)


@pytest.mark.parametrize("content", [b"", b"hello", bytes(100), mlp().SerializeToString()[:-40]])
def test_what_is_no_onnx_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"net\.onnx (is no ONNX file|is no valid ONNX)"):
        Program.from_file(path)
    with pytest.raises(SplineCamError):
        sc.partition(path, sc.Slice.box(-1, 1))


def test_a_missing_file_and_another_type_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"there is no file .*none\.onnx"):
        Program.from_file(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match="the model is a int"):
        Program.from_onnx(3)
    with pytest.raises(ModelError, match=r"neither \.onnx nor \.pt2"):
        sc.partition("net.pth", sc.Slice.box(-1, 1))


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(ModelError, match=r"pip install 'splinecam-lite\[onnx\]'"):
        Program.from_onnx("net.onnx")
