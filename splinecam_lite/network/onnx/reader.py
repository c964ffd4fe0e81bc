"""From an ONNX file to a Program."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from splinecam_lite.errors import ModelError
from splinecam_lite.network.nodewise import Network
from splinecam_lite.network.onnx.files import Source, load
from splinecam_lite.network.onnx.graph import Graph
from splinecam_lite.network.program import Program

if TYPE_CHECKING:
    from onnx import ValueInfoProto

REMEDY = "export it for any number, e.g. torch.onnx.export(..., dynamic_axes={'input': {0: 'batch'}})"


def read_onnx(
    source: Source,
    input_shape: Sequence[int] | None = None,
    *,
    normalise: tuple[Any, Any] | None = None,
    output: str | int | None = None,
) -> Program:
    """Read an ONNX model of opset 8 to 21 as a program.

    Parameters
    ----------
    source : str, Path, bytes or onnx.ModelProto
        One floating input, whose first axis is that of the samples: symbolic, or fixed to 1. Floating
        constants are cast exactly to float64; what the file computes from constants alone is computed in its
        own types.
    input_shape : sequence of int, optional
        Of one sample. Needed only where the file leaves it open.
    normalise : (mean, std), optional
        The program computes ``network((x - mean) / std)``; as in `splinecam_lite.Traced.program`.
    output : str or int, optional
        Name of a value or a node of the graph, or the number of an entry of its only output, flattened.
        Default: the only one.

    Returns
    -------
    Program
        Its layers have the names of the nodes, or of the values they write where they have none.

    Raises
    ------
    ModelError
        If it is no valid ONNX model, has operators that are not read (all of them are listed), several
        inputs, or constants that are NaN; or onnx is not installed. Names the node.
    TraceError
        If it mixes samples.

    Examples
    --------
    >>> from onnx import TensorProto, helper
    >>> x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3]) for name in "xy")
    >>> graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "net", [x], [y])
    >>> program = read_onnx(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
    >>> program.layer_names, program.run([[-1.0, 0.0, 2.0]]).tolist()
    (('y',), [[0.0, 0.0, 2.0]])
    """
    model, name = load(source)
    graph = Graph(model, name)
    shape = sample_shape(graph.input, input_shape, name)
    value = graph.output_named(output if isinstance(output, str) else None)
    network = Network(graph.needed(value), graph.input.name, value, REMEDY)
    return network.program(shape, normalise=normalise, output=output if not isinstance(output, str) else None)


def sample_shape(given: "ValueInfoProto", wanted: Sequence[int] | None, name: str) -> tuple[int, ...]:
    """The shape of one sample, from the graph's input, and from the caller where the graph leaves it open.

    Raises
    ------
    ModelError
        If the input is no floating tensor, its first axis is not the samples', or shapes disagree.
    """
    from onnx import TensorProto

    kind = given.type.tensor_type
    floats = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)
    if not given.type.HasField("tensor_type") or kind.elem_type not in floats:
        raise ModelError(f"{name}: the input '{given.name}' is no tensor of floating numbers")
    if not kind.HasField("shape"):
        if wanted is None:
            raise ModelError(f"{name} does not say the shape of its input; give it as input_shape")
        return tuple(int(n) for n in wanted)
    sizes = [d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in kind.shape.dim]
    if not sizes or sizes[0] not in (None, 1):
        raise ModelError(
            f"{name}: the input '{given.name}' has shape {tuple(n or '?' for n in sizes)}, whose first axis "
            f"is not that of the samples; {REMEDY}"
        )
    if wanted is None:
        if None in sizes[1:]:
            raise ModelError(
                f"{name} leaves the shape of its input open: (batch, "
                f"{', '.join(str(n or '?') for n in sizes[1:])}); give it as input_shape"
            )
        return tuple(n for n in sizes[1:] if n is not None)
    wanted = tuple(int(n) for n in wanted)
    if len(wanted) != len(sizes) - 1 or any(
        n not in (None, w) for n, w in zip(sizes[1:], wanted, strict=True)
    ):
        expected = ", ".join(str(n or "any") for n in sizes[1:])
        raise ModelError(f"{name} takes inputs of shape ({expected}), not {wanted}")
    return wanted
