"""From a .pt2 file to a Program."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from splinecam_lite.errors import ModelError, SplineCamError
from splinecam_lite.network.exporting import first_line
from splinecam_lite.network.nodewise import Network
from splinecam_lite.network.program import Program
from splinecam_lite.network.pt2.archive import Archive
from splinecam_lite.network.pt2.graph import Graph

REMEDY = (
    "export it for any number: torch.export.export(..., dynamic_shapes=({0: torch.export.Dim('batch')},))"
)


def read_archive(
    path: Path,
    input_shape: Sequence[int] | None = None,
    *,
    normalise: tuple[Any, Any] | None = None,
    output: str | int | None = None,
) -> Program:
    """Read a file of ``torch.export.save`` as a program; see `splinecam_lite.network.files.read_file`.

    Raises
    ------
    ModelError
        If it is none, is damaged, takes several inputs, or holds pickled objects or operators that are not
        read.
    """
    try:
        graph = Graph(Archive(path))
        shape = graph.sample_shape(input_shape)
        value = graph.output_named(output if isinstance(output, str) else None)
        network = Network(graph.nodes(value), graph.input, value, REMEDY)
    except SplineCamError:
        raise
    except Exception as error:  # whatever a file that was not written by torch makes of it
        raise ModelError(f"{path} is damaged: {first_line(error)}; save it anew") from error
    return network.program(shape, normalise=normalise, output=None if isinstance(output, str) else output)
