"""A partition from a file that `export.save` has written.

Nothing in a file is executed. Its checksums are verified before anything else; the header tells the dtype and
shape of each array; and numbers that point into other arrays are checked before they are used.
"""

import json
import os
import zipfile
from math import prod
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from torch import nn

from splinecam_lite.engine.comparisons import Comparisons, comparisons
from splinecam_lite.engine.complex import OUTER, Complex, check_complex
from splinecam_lite.engine.engine import Block
from splinecam_lite.errors import ComplexError, FileError, SliceError
from splinecam_lite.network.program import Program
from splinecam_lite.network.slices import Slice
from splinecam_lite.partition.approximations import approximated_layers
from splinecam_lite.partition.export import FORMAT, SCHEMA, Arrays
from splinecam_lite.partition.layers import encode, of_row
from splinecam_lite.partition.linear import LinearRegions, keep, kept, program_of
from splinecam_lite.partition.report import Report, Snaps
from splinecam_lite.partition.staged import shown, with_program

if TYPE_CHECKING:
    from splinecam_lite.partition.result import Partition

WITHOUT_MAXIMA = 2
"""The version of files before partitions of networks with maxima."""


def load(path: str | os.PathLike[str], model: nn.Module | Program | None = None) -> "Partition":
    """Read a partition that ``save`` has written.

    Parameters
    ----------
    path : path
    model : nn.Module or Program, optional
        The network that was partitioned, which a file does not hold. It is needed for what has to be computed
        without rounding: the decision boundary in exact mode, linear regions that were not counted before,
        the certificate.

    Raises
    ------
    ModelError
        If the model is not the one that was partitioned.
    FileNotFoundError, PermissionError
    FileError
        If the file is no partition, was written with another layout, is cut short or damaged.
    """
    header, arrays = _read(Path(path))
    try:
        partition = _partition_of(header, arrays)
    except (KeyError, IndexError, TypeError, ValueError, ComplexError, SliceError) as error:
        raise FileError(f"'{path}' is damaged ({error}); compute the partition again") from error
    if model is not None:
        found = kept(partition)
        partition = with_program(partition, program_of(partition, model))
        if found is not None:
            keep(partition, found)
    return partition


def _read(path: Path) -> tuple[dict[str, Any], Arrays]:
    """Header and arrays of a file, each array as the header describes it."""
    try:
        with open(path, "rb") as file:
            _check_sums(file)
            with np.load(file, allow_pickle=False) as archive:
                header = _checked_header(json.loads(archive["header"].tobytes()), path)
                arrays = {name: archive[name] for name in header["arrays"]}
    except (FileError, FileNotFoundError, PermissionError):
        raise
    except Exception as error:  # whatever bytes that are no archive make zipfile, numpy and json raise
        raise FileError(
            f"'{path}' is not a partition written by splinecam_lite, or is cut short or damaged ({error})"
        ) from error
    for name, (dtype, shape) in header["arrays"].items():
        if (arrays[name].dtype.str, list(arrays[name].shape)) != (dtype, shape):
            raise FileError(f"'{path}' is damaged: array '{name}' is not what its header says")
    return header, arrays


def _check_sums(file: IO[bytes]) -> None:
    """Raise unless the file is a zip archive with right checksums, before anything in it is believed."""
    with zipfile.ZipFile(file) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"the checksum of '{damaged}' is wrong")
    file.seek(0)


def _checked_header(header: Any, path: Path) -> dict[str, Any]:
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise FileError(f"'{path}' is not a partition written by splinecam_lite")
    if header.get("schema") not in (SCHEMA, WITHOUT_MAXIMA):
        raise FileError(
            f"'{path}' has schema version {header.get('schema')} (splinecam_lite {header.get('version')}), "
            f"this one reads version {SCHEMA} (and {WITHOUT_MAXIMA}); compute the partition again, or read "
            "it with that release"
        )
    return header


def _partition_of(header: dict[str, Any], arrays: Arrays) -> "Partition":
    from splinecam_lite.partition.result import Partition

    plane = Slice(arrays["origin"], arrays["directions"], arrays["domain"], tuple(header["input_shape"]))
    if plane.digest() != header["slice_digest"]:
        raise ValueError("its slice is not the one that was saved")
    complex = Complex(*(arrays[f"complex_{name}"] for name in Complex._fields))
    n_outputs = prod(header["output_shape"])
    _check_shapes(complex, arrays, n_outputs)
    _check_indices(complex, arrays)
    check_complex(complex, plane.domain, float(header["report"]["moved"]), arrays["thin_regions"])
    layers = tuple(map(of_row, header["layers"]))
    snaps = Snaps(*(arrays[f"snap_{name}"] for name in Snaps._fields))
    partition = Partition(
        plane=plane,
        complex=complex,
        outputs=arrays["outputs"],
        edge_knot_ptr=arrays["edge_knot_ptr"],
        edge_knots=arrays["edge_knots"],
        blocks=_blocks_of(arrays, complex.n_faces),
        layers=layers,
        output_shape=tuple(header["output_shape"]),
        decide=header["decide"],
        model_digest=header.get("fine_digest", header["model_digest"]),
        report=Report(
            snaps=snaps,
            exact=header["exact"],
            approximated=approximated_layers(layers),
            **header["report"],
        ),
        exact=header["exact"],
        thin_regions=arrays["thin_regions"],
        thin_areas=arrays["thin_areas"],
        output_scale=arrays["output_scale"] if len(arrays["output_scale"]) else None,
    )
    compared = _comparisons_of(arrays, partition)
    if compared is not None:
        partition = shown(partition, compared, header["model_digest"])
    if "linear_regions" in arrays:
        keep(partition, _linear_regions_of(arrays, partition.n_regions))
    return partition


def _comparisons_of(arrays: Arrays, partition: "Partition") -> Comparisons | None:
    """The comparisons of the network's maxima; numbers that do not fit raise ValueError."""
    in_layers = {
        layer.first_bit + i
        for layer in partition.layers
        if layer.kind == "max"
        for i in range(layer.n_neurons)
    }
    if not in_layers:
        return None
    own, left, right, top = (arrays[f"comparison_{name}"] for name in ("bit", "left", "right", "top"))
    if any(part.dtype != np.int64 for part in (own, left, right)) or top.dtype != bool:
        raise ValueError("its comparisons are not whole numbers")
    if set(own.tolist()) != in_layers:
        raise ValueError("its comparisons are not those of its layers")
    n_words = partition.blocks[0].frozen.shape[0]
    bits = encode(partition.layers, partition.edge_knots)
    if bits.size and not 0 <= bits.min() <= bits.max() < 64 * n_words:
        raise ValueError("an edge has a knot that is no bit of a pattern")
    return comparisons(own, left, right, top, n_words)


def _linear_regions_of(arrays: Arrays, n_faces: int) -> LinearRegions:
    """Labels that number ``n_faces`` regions in order of appearance; others raise ValueError."""
    labels, stages = arrays["linear_regions"], arrays["linear_stages"]
    if labels.shape != (n_faces,) or stages.shape != (3,) or labels.dtype != np.int64:
        raise ValueError("its linear regions are not those of its activation regions")
    highest = np.maximum.accumulate(labels)
    if labels[0] != 0 or labels.min() < 0 or (labels[1:] > highest[:-1] + 1).any():
        raise ValueError("its linear regions are not numbered in order")
    return LinearRegions(labels, *stages.tolist())


def _check_shapes(complex: Complex, arrays: Arrays, n_outputs: int) -> None:
    """Raise ValueError unless arrays that speak of the same things have the same length."""
    V, E, n = complex.n_vertices, complex.n_edges, len(complex.face_vertex)
    n_blocks, n_knots = len(arrays["block_faces"]), len(arrays["edge_knots"])
    for name, shape in (
        ("complex_xy", (V, 2)),
        ("complex_edge_vertices", (E, 2)),
        ("complex_edge_faces", (E, 2)),
        ("complex_edge_side", (E,)),
        ("complex_face_edge", (n,)),
        ("outputs", (V, n_outputs)),
        ("edge_knot_ptr", (E + 1,)),
        ("edge_knots", (n_knots, 3)),
        ("thin_areas", arrays["thin_regions"].shape),
        ("output_scale", (n_outputs if arrays["output_scale"].size else 0,)),
        ("block_sizes", (n_blocks,)),
        ("block_frozen", (n_blocks, arrays["block_frozen"].shape[1])),
        ("block_output_columns", (3 * n_blocks + len(arrays["block_knots"]), n_outputs)),
    ):
        if arrays[name].shape != shape:
            raise ValueError(f"'{name}' has shape {arrays[name].shape} instead of {shape}")


def _check_indices(complex: Complex, arrays: Arrays) -> None:
    """Raise ValueError where a number points outside of the array it points into: kernels do not look."""
    n_vertices, n_edges = complex.n_vertices, complex.n_edges
    corners = len(complex.face_vertex)
    for name, low, high in (
        ("complex_edge_vertices", 0, n_vertices),
        ("complex_face_vertex", 0, n_vertices),
        ("complex_face_edge", 0, n_edges),
        ("complex_edge_faces", OUTER, complex.n_faces),
        ("block_knots", 0, 64 * arrays["block_frozen"].shape[1]),
        ("thin_regions", 0, complex.n_faces),
        ("block_faces", 1, complex.n_faces + 1),
        ("block_sizes", 0, len(arrays["block_knots"]) + 1),
    ):
        array = arrays[name]
        if array.size and (array.min() < low or array.max() >= high):
            raise ValueError(f"'{name}' holds numbers outside of {low} to {high - 1}")
    for name, ptr, n in (
        ("complex_face_ptr", complex.face_ptr, corners),
        ("edge_knot_ptr", arrays["edge_knot_ptr"], len(arrays["edge_knots"])),
    ):
        if ptr[0] != 0 or ptr[-1] != n or (np.diff(ptr) < 0).any():
            raise ValueError(f"'{name}' does not divide {n} entries")


def _blocks_of(arrays: Arrays, n_faces: int) -> tuple[Block, ...]:
    """Blocks from arrays that hold them one after the other; a number that does not fit raises ValueError."""
    counts, sizes = arrays["block_faces"], arrays["block_sizes"]
    if counts.sum() != n_faces or sizes.sum() != len(arrays["block_knots"]):
        raise ValueError("its blocks do not make up its regions")
    words = -(-sizes // 64)
    knots = np.split(arrays["block_knots"], np.cumsum(sizes)[:-1])
    D = np.split(arrays["block_D"], np.cumsum(sizes * (3 + sizes))[:-1])
    bits = np.split(arrays["block_bits"], np.cumsum(counts * words)[:-1])
    columns = np.split(arrays["block_output_columns"], np.cumsum(3 + sizes)[:-1])
    first = np.cumsum(counts) - counts
    blocks = []
    for i, (n, K) in enumerate(zip(counts.tolist(), sizes.tolist(), strict=True)):
        faces = bits[i].reshape(n, words[i])
        if K % 64 and (faces[:, -1] >> np.uint64(K % 64)).any():
            raise ValueError(f"block {i} has bits of hinges that it does not have")
        frozen = arrays["block_frozen"][i].copy()
        blocks.append(
            Block(int(first[i]), n, knots[i].copy(), D[i].reshape(K, 3 + K), faces, frozen, columns[i])
        )
    return tuple(blocks)
