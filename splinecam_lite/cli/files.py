"""Arrays read without running code, and files that are complete or not there."""

import os
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from splinecam_lite.cli.refusal import Refusal


def read_array(name: str, rows: Sequence[int] = ()) -> np.ndarray:
    """Return the numbers in a file.

    Parameters
    ----------
    name : str
        ``"x.npy"``, ``"x.npz"`` with one array, or ``"x.npz:name"``.
    rows : sequence of int
        Of the first axis, to return; none means all.

    Returns
    -------
    ndarray of float64

    Raises
    ------
    Refusal
        If the file is of another kind, holds Python objects or no numbers, or lacks the array or rows.
    """
    file, entry = name, ""
    if ".npz:" in name:
        file, _, entry = name.rpartition(":")
    path = Path(file)
    if path.suffix not in (".npy", ".npz"):
        raise Refusal(f"{file} is neither .npy nor .npz; write it with numpy.save or numpy.savez")
    check_exists(path)
    try:
        read = np.load(path, allow_pickle=False)
        array = read if isinstance(read, np.ndarray) else _entry(read, file, entry)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise Refusal(f"{file} holds no plain array of numbers: {str(error).partition('.')[0]}") from error
    if array.dtype.kind not in "biuf":
        raise Refusal(f"{name} holds {array.dtype}, not numbers")
    if array.size == 0:
        raise Refusal(f"{name} is empty, of shape {array.shape}")
    wrong = [row for row in rows if not 0 <= row < (len(array) if array.ndim else 0)]
    if wrong:
        raise Refusal(f"there is no row {wrong[0]} in {name}, of shape {array.shape}; rows count from 0")
    return (array[list(rows)] if rows else array).astype(np.float64)


def _entry(archive: "np.lib.npyio.NpzFile", file: str, entry: str) -> np.ndarray:
    with archive:
        if not entry and len(archive.files) == 1:
            return archive[archive.files[0]]
        if entry not in archive.files:
            names = ", ".join(f"{file}:{name}" for name in archive.files[:6])
            raise Refusal(f"{file} has {len(archive.files)} arrays; give one of {names or 'another file'}")
        return archive[entry]


def is_network_file(name: str) -> bool:
    """Whether a name is that of a file which holds a whole network, weights and all."""
    return Path(name).suffix.lower() in (".onnx", ".pt2")


def check_exists(path: Path | str) -> None:
    """Refuse a file that is not there.

    Raises
    ------
    Refusal
    """
    if not Path(path).is_file():
        raise Refusal(f"there is no file {path}")


def check_writable(option: str, path: Path | None, suffixes: Sequence[str]) -> None:
    """Refuse, before any work, a file that could not be written after it.

    Raises
    ------
    Refusal
        If the name ends in none of ``suffixes``, names a folder, or lies in none that can be written to.
    """
    if path is None:
        return
    if path.suffix not in suffixes:
        raise Refusal(f"{option} is {path}; its name must end in {' or '.join(suffixes)}")
    if path.is_dir():
        raise Refusal(f"{option} is {path}, which is a folder")
    if not path.parent.is_dir():
        raise Refusal(f"{option} is {path}, but there is no folder {path.parent}; make it first")
    if not os.access(path.parent, os.W_OK):
        raise Refusal(f"{option} is {path}, but nothing can be written to {path.parent}")


def check_installed(path: Path | None) -> None:
    """Refuse, before any work, a format whose package is missing.

    Raises
    ------
    Refusal
    """
    if path is None or path.suffix != ".parquet":
        return
    missing = [name for name in ("geopandas", "pyarrow") if find_spec(name) is None]
    if missing:
        raise Refusal(
            f"--out is {path}, which needs {' and '.join(missing)}: pip install 'splinecam-lite[geo]', "
            "or write .geojson"
        )


@contextmanager
def finished_file(path: Path) -> Iterator[Path]:
    """Give a file to write to, beside ``path``; it becomes ``path`` at the end, or vanishes on an error."""
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    draft = Path(name)
    try:
        yield draft
        draft.chmod(0o666 & ~_umask())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _umask() -> int:
    """The permissions that this process withholds from new files; they can only be read by setting them."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
