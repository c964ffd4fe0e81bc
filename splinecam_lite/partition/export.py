"""A partition as a file, and as a graph.

A file is a ``.npz`` archive of plain arrays, and a JSON header as an array of bytes; `restore.load` reads it.
"""

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from splinecam_lite.engine.complex import OUTER
from splinecam_lite.partition.approximations import as_plain
from splinecam_lite.partition.attributes import region_attributes
from splinecam_lite.partition.layers import as_row
from splinecam_lite.partition.linear import kept
from splinecam_lite.partition.measures import edge_lengths

if TYPE_CHECKING:
    import networkx

    from splinecam_lite.partition.result import Partition

FORMAT = "splinecam_lite partition"
SCHEMA = 3
"""Version of the layout of the file. Version 2, which knows no maxima, is read as well; others refused."""

COUNTS = ("n_merged_edges", "output_residual", "n_checked", "area_residual", "moved", "euler", "n_blocks")
RUN = ("attempts", "threads", "seconds", "float64", "double_double", "rational")
"""The fields of `Report` that are plain numbers."""

Arrays = dict[str, np.ndarray]


def save(partition: "Partition", path: str | os.PathLike[str]) -> None:
    """Write a partition to a file.

    The file appears under its name only when it is complete and on disk; one of the same name is replaced.

    Parameters
    ----------
    partition : Partition
    path : path
        Taken as it is; ``.npz`` is the usual ending.

    Raises
    ------
    OSError
        If the file cannot be written; then nothing is left of it.
    """
    arrays = _arrays_of(partition)
    header = json.dumps(_header_of(partition, arrays)).encode()
    with replacing(Path(path)) as file:
        np.savez(file, allow_pickle=False, header=np.frombuffer(header, np.uint8), **arrays)


@contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[IO[bytes]]:
    """Open a file beside ``path`` that takes its place once it is complete, or vanishes.

    If ``durable``, it is on disk by then, and outlives not only this process but a power cut.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    try:
        with open(beside, "xb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    if durable and hasattr(os, "O_DIRECTORY"):  # the new name itself, where a folder can be opened
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _header_of(partition: "Partition", arrays: Arrays) -> dict[str, Any]:
    report = fine_of(partition).report
    return {
        "format": FORMAT,
        "schema": SCHEMA,
        "version": writer_version(),
        "numpy": np.__version__,
        "model_digest": partition.model_digest,
        "fine_digest": fine_of(partition).model_digest,
        "slice_digest": partition.plane.digest(),
        "input_shape": list(partition.plane.input_shape),
        "output_shape": list(partition.output_shape),
        "decide": partition.decide,
        "exact": partition.exact,
        "layers": [as_row(layer) for layer in partition.layers],
        "report": {name: getattr(report, name) for name in COUNTS + RUN},
        "arrays": {name: [array.dtype.str, list(array.shape)] for name, array in arrays.items()},
    }


def writer_version() -> str:
    """Return the version of splinecam_lite that writes a file."""
    try:
        return version("splinecam-lite")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "not installed"


def _arrays_of(partition: "Partition") -> Arrays:
    """Everything of a partition that is an array, under one name each; blocks one after the other.

    Of merged regions, the fine partition and the comparisons: reading merges again.
    """
    found, staged = kept(partition), partition.staged
    partition = fine_of(partition)
    plane, blocks = partition.plane, partition.blocks
    arrays: Arrays = {"origin": plane.origin, "directions": plane.directions, "domain": plane.domain}
    arrays |= {f"complex_{name}": array for name, array in partition.complex._asdict().items()}
    if found is not None:
        arrays |= {"linear_regions": found.labels, "linear_stages": np.array(found[1:])}
    if staged is not None:
        compared = staged.comparisons
        arrays |= {f"comparison_{name}": getattr(compared, name) for name in ("bit", "left", "right", "top")}
    arrays |= {f"snap_{name}": array for name, array in partition.report.snaps._asdict().items()}
    return arrays | {
        "thin_regions": partition.thin_regions,
        "thin_areas": partition.thin_areas,
        "output_scale": np.empty(0) if partition.output_scale is None else partition.output_scale,
        "outputs": partition.outputs,
        "edge_knot_ptr": partition.edge_knot_ptr,
        "edge_knots": partition.edge_knots,
        "block_faces": np.array([block.n_faces for block in blocks]),
        "block_sizes": np.array([len(block.knots) for block in blocks]),
        "block_knots": np.concatenate([block.knots for block in blocks]),
        "block_D": np.concatenate([block.D.ravel() for block in blocks]),
        "block_bits": np.concatenate([block.bits.ravel() for block in blocks]),
        "block_frozen": np.stack([block.frozen for block in blocks]),
        "block_output_columns": np.concatenate([block.output_columns for block in blocks]),
    }


def fine_of(partition: "Partition") -> "Partition":
    """Return what a partition was computed as: itself, or what its regions were merged from."""
    return partition if partition.staged is None else partition.staged.fine


def to_networkx(partition: "Partition") -> "networkx.Graph":
    """Return the graph of neighbouring regions.

    Returns
    -------
    networkx.Graph
        A node for each region, with the attributes of `attributes.region_attributes` as plain numbers
        (``area``, ``perimeter``, ``centroid`` (u, v), ``class``, ``n_classes``, ``linear_region``,
        ``pattern_hash``); an edge for each two regions that share a border, with its ``length`` (input units)
        and its ``knots``, the list of (layer, neuron, breakpoint) in which their patterns differ.
        ``graph["approximations"]`` lists the layers that stand for smooth activations, if there are any.

    Examples
    --------
    >>> import torch, splinecam_lite as sc
    >>> graph = to_networkx(sc.partition(torch.nn.Linear(2, 1).eval(), sc.Slice.box(0, 1)))
    >>> graph.number_of_nodes(), graph.number_of_edges(), graph.nodes[0]["area"], graph.nodes[0]["centroid"]
    (1, 0, 1.0, (0.5, 0.5))
    """
    import networkx

    graph = networkx.Graph()
    if partition.report.approximated:
        graph.graph["approximations"] = as_plain(partition.report.approximated)
    columns = {name: column.tolist() for name, column in region_attributes(partition).items()}
    columns["centroid"] = [tuple(place) for place in columns["centroid"]]
    graph.add_nodes_from(
        (region, dict(zip(columns, row, strict=True)))
        for region, row in enumerate(zip(*columns.values(), strict=True))
    )
    complex = partition.complex
    inner = np.flatnonzero((complex.edge_faces != OUTER).all(axis=1))
    # A border with a vertex on it is several edges; the same knots lie on all of them.
    pairs, first, border = np.unique(
        np.sort(complex.edge_faces[inner], axis=1), axis=0, return_index=True, return_inverse=True
    )
    lengths = np.bincount(border.reshape(-1), edge_lengths(complex)[inner], minlength=len(pairs)).tolist()
    starts, stops = partition.edge_knot_ptr[inner[first]], partition.edge_knot_ptr[inner[first] + 1]
    knots = list(zip(*partition.edge_knots.T.tolist(), strict=True))
    graph.add_edges_from(
        (left, right, {"length": length, "knots": knots[start:stop]})
        for (left, right), length, start, stop in zip(
            pairs.tolist(), lengths, starts.tolist(), stops.tolist(), strict=True
        )
    )
    return graph
