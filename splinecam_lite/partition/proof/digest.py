"""Which partition, and which versions, a certificate is about."""

import hashlib
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import numpy as np

from splinecam_lite.partition.layers import as_row

if TYPE_CHECKING:
    from splinecam_lite.partition.result import Partition

PACKAGES = ("splinecam-lite", "numpy", "torch", "numba")


def partition_digest(partition: "Partition") -> str:
    """SHA-256 of what a partition claims: complex, places, knots, patterns, snaps, and which decision."""
    what = (
        [tuple(as_row(layer)) for layer in partition.layers],
        partition.decide,
        partition.exact,
        partition.output_shape,
    )
    digest = hashlib.sha256(repr(what).encode())
    arrays: dict[str, np.ndarray] = partition.complex._asdict()
    arrays |= {"edge_knot_ptr": partition.edge_knot_ptr, "edge_knots": partition.edge_knots}
    arrays |= {f"snap_{name}": array for name, array in partition.report.snaps._asdict().items()}
    for name, array in arrays.items():
        _update(digest, name, array)
    for block in partition.blocks:
        digest.update(repr((block.first_face, block.n_faces)).encode())
        for name in ("knots", "bits", "frozen"):
            _update(digest, name, getattr(block, name))
    if partition.staged is not None:
        staged = partition.staged
        digest.update(partition_digest(staged.fine).encode())
        for name in ("region_of", "face", "vertex", "edge_of"):
            _update(digest, name, getattr(staged, name))
    return digest.hexdigest()


def _update(digest: "hashlib._Hash", name: str, array: np.ndarray) -> None:
    digest.update(repr((name, array.dtype.str, array.shape)).encode())
    digest.update(np.ascontiguousarray(array).data)


def versions() -> dict[str, str]:
    """Return the versions that a proof was made with."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # run from a source tree that is not installed
            found[package] = "not installed"
    return found
