"""From a path, bytes or a ModelProto to a ModelProto that can be read. Nothing in it is ever run."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from splinecam_lite.errors import ModelError
from splinecam_lite.network.exporting import first_line

if TYPE_CHECKING:
    from onnx import ModelProto

Source = str | Path | bytes | Any
"""A path, the bytes of a file, or an ``onnx.ModelProto``."""

OLDEST, NEWEST = 8, 21
"""Opsets whose operators are read as their documents say."""


def load(source: Source) -> tuple["ModelProto", str]:
    """Return the model, and what to call it in errors.

    Raises
    ------
    ModelError
        If the package onnx is missing, there is no such file, it is no ONNX model, lacks its external data,
        or is of an opset outside 8 to 21.
    """
    try:
        import onnx
    except ImportError as error:
        raise ModelError(
            "reading ONNX files needs the package onnx, which is not installed; "
            "run: pip install 'splinecam-lite[onnx]'"
        ) from error
    if isinstance(source, str | Path):
        model, name = _from_path(Path(source)), Path(source).name
    elif isinstance(source, bytes):
        model, name = _parsed(source, "the bytes given"), "the model"
    elif isinstance(source, onnx.ModelProto):
        model, name = source, "the model"
    else:
        raise ModelError(f"the model is a {type(source).__name__}; give a path, bytes or an onnx.ModelProto")
    _check(model, name)
    if model.functions:
        from onnx.inliner import inline_local_functions

        model = inline_local_functions(model)
    return model, name


def opset_of(model: "ModelProto") -> int:
    """Version of the operators of the standard domain; 0 if none is named."""
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)


def _from_path(path: Path) -> "ModelProto":
    from onnx.checker import ValidationError
    from onnx.external_data_helper import load_external_data_for_model

    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise ModelError(f"there is no file {path}") from error
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error
    model = _parsed(data, str(path))
    try:
        # Refuses links and paths that leave the folder.
        load_external_data_for_model(model, str(path.parent.resolve()))
    except (OSError, ValueError, ValidationError) as error:
        raise ModelError(
            f"{path} keeps weights in other files, which cannot be read ({first_line(error)}); put them "
            "beside it, or save with save_as_external_data=False"
        ) from error
    return model


def _parsed(data: bytes, name: str) -> "ModelProto":
    from onnx import ModelProto

    try:
        model = ModelProto.FromString(data)
    except Exception as error:  # protobuf's own error, from a package that comes with onnx
        raise ModelError(f"{name} is no ONNX file, or is cut short: {first_line(error)}") from error
    if not model.ir_version or not model.HasField("graph"):
        raise ModelError(f"{name} is no ONNX file: it holds no graph")
    return model


def _check(model: "ModelProto", name: str) -> None:
    from onnx import TensorProto
    from onnx.checker import ValidationError, check_model

    opset = opset_of(model)
    if not OLDEST <= opset <= NEWEST:
        raise ModelError(
            f"{name} is of opset {opset}; opsets {OLDEST} to {NEWEST} are read, so convert it: "
            "onnx.version_converter.convert_version(model, 17)"
        )
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            raise ModelError(
                f"{name} keeps '{tensor.name}' in another file; give the path of the model, which says where"
            )
    try:
        check_model(_with_output_shapes(model))
    except ValidationError as error:
        if "No Op registered" not in str(error):  # the table of operators names all that are unknown
            raise ModelError(f"{name} is no valid ONNX model: {first_line(error)}") from error


def _with_output_shapes(model: "ModelProto") -> "ModelProto":
    """The model with some shape for each output: they are not read, but onnx's checker wants them."""
    if all(output.type.tensor_type.HasField("shape") for output in model.graph.output):
        return model
    copy = type(model)()
    copy.CopyFrom(model)
    for output in copy.graph.output:
        output.type.tensor_type.shape.SetInParent()
    return copy
