"""Networks in files, by the ends of their names."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from splinecam_lite.errors import ModelError
from splinecam_lite.network.program import Program


def read_file(
    path: str | Path,
    input_shape: Sequence[int] | None = None,
    *,
    normalise: tuple[Any, Any] | None = None,
    output: str | int | None = None,
) -> Program:
    """Read a network from a file: ``.onnx``, or ``.pt2`` as `torch.export.save` writes it.

    Nothing in the file is run as code, or unpickled.

    Parameters
    ----------
    path : str or Path
    input_shape : sequence of int, optional
        Of one sample; needed only where the file leaves it open.
    normalise : (mean, std), optional
        The program computes ``network((x - mean) / std)``; as in `splinecam_lite.Traced.program`.
    output : str or int, optional
        Name of a value (ONNX) or a node (.pt2), or the number of an entry of what the network returns,
        flattened. Default: what it returns.

    Raises
    ------
    ModelError
        If it is neither, cannot be read, or holds operations that are not.

    Examples
    --------
    >>> read_file("net.pth")
    Traceback (most recent call last):
        ...
    splinecam_lite.errors.ModelError: net.pth is neither .onnx nor .pt2; make the module of a state dict, ...
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".onnx", ".pt2"):
        raise ModelError(
            f"{path} is neither .onnx nor .pt2; make the module of a state dict, load it there, and pass the "
            "module"
        )
    if suffix == ".onnx":
        from splinecam_lite.network.onnx import read_onnx

        return read_onnx(path, input_shape, normalise=normalise, output=output)
    from splinecam_lite.network.pt2 import read_archive

    return read_archive(path, input_shape, normalise=normalise, output=output)
