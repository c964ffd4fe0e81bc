"""A partition as a folder: a file for each block, written as the blocks are finished.

    slice.npz        the slice
    header.json      what is partitioned, and how the work is cut up
    cuts.jsonl       which blocks were cut, into how many pieces; one line each, appended
    blocks/*.npz     the finished blocks; "root.0.1.npz" is piece 1 of piece 0 of the domain
    counts.json      totals and digest; written last

Nothing is lost and nothing is there twice: a block's file appears under its name when it is complete, its
name is where it lies in the cutting, and the cutting is the same in every run. A run that was killed goes on
when it is begun again: blocks that are there are read, not computed.
"""

import hashlib
import json
import os
import re
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from splinecam_lite.engine.exact import Decisions
from splinecam_lite.engine.finished import Finished
from splinecam_lite.engine.plan import Tuning
from splinecam_lite.engine.subdivide import Mesh
from splinecam_lite.errors import FileError, SliceError
from splinecam_lite.network.slices import Slice
from splinecam_lite.partition.export import replacing, writer_version

FORMAT = "splinecam_lite partition folder"
SCHEMA = 1
"""Version of the layout; another one is refused."""

ROOT = "root"
BLOCK_FILE = re.compile(rf"{ROOT}(\.\d+)*\.npz")
LOCK = ".lock"
BEFORE_HEADER = {LOCK, "slice.npz"}
"""What there may be before the header is written: a run that was stopped there has not begun."""

CUTTING = ("group", "block_vertices", "piece_vertices", "block_bytes")
"""The fields of `Tuning` on which the blocks depend; a run that goes on keeps them."""

ARRAYS = ("xy", "seam", "seam_place", "knots", "D", "bits", "frozen", "output_columns", "outputs", "snaps")
"""The arrays of a block that are no mesh."""


def block_name(path: tuple[int, ...]) -> str:
    """Return the name of a block's file, without folder and ending."""
    return ".".join((ROOT, *map(str, path)))


def _path_of(name: str) -> tuple[int, ...]:
    root, *path = name.split(".")
    if root != ROOT:
        raise ValueError(name)
    return tuple(map(int, path))


def block_digest(block: Finished) -> str:
    """Return the SHA-256 of a block's arrays and its place, as hexadecimal digits."""
    digest = hashlib.sha256(block_name(block.path).encode())
    for array in (*block.mesh, *(getattr(block, name) for name in ARRAYS)):
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


class BlockFolder:
    """The files of one partition.

    Parameters
    ----------
    path : path
        Made if it is not there. One that holds something else is refused.
    plane : Slice
    identity : dict
        What is partitioned, but for the slice: as JSON, equal for equal partitions. Another one's folder is
        refused.

    Raises
    ------
    FileError
        If the folder holds something else, or another process writes to it.
    """

    def __init__(self, path: Path, plane: Slice, identity: dict[str, Any]):
        self.path, self._plane = Path(path), plane
        self.identity = {**identity, "slice": plane.digest()}
        self.pieces: dict[tuple[int, ...], int] = {}
        self.blocks: set[tuple[int, ...]] = set()
        self._done: set[tuple[int, ...]] = set()
        self.tuning: Tuning | None = None
        self.look()

    def look(self) -> None:
        """See how far an earlier run, or another process, has come; errors as above."""
        found = self._existing()
        self.tuning = None if found is None else Tuning(**found["tuning"])

    def _existing(self) -> dict[str, Any] | None:
        """The header of what is there already."""
        if not self.path.exists():
            return None
        if self.path.is_dir():
            names = set(os.listdir(self.path))
            others = {name for name in names - BEFORE_HEADER if not name.endswith(".part")}
            if not names or (LOCK in names and not others):
                return None
        header = read_header(self.path)
        for name, wanted in self.identity.items():
            if header["identity"].get(name) != wanted:
                raise FileError(
                    f"'{self.path}' holds a partition of another {name}; name another folder, or remove it"
                )
        return header

    def is_complete(self) -> bool:
        """Tell whether an earlier run has come to its end, and all of its blocks are still there."""
        try:
            n_blocks = json.loads((self.path / "counts.json").read_bytes())["tally"]["n_blocks"]
        except (OSError, ValueError, KeyError, TypeError):
            return False
        return len(block_files(self.path)) == n_blocks

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing to the folder; the lock ends with the process."""
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            import fcntl
        except ImportError:  # Windows
            yield
            return
        with open(self.path / LOCK, "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise FileError(f"another process is writing to '{self.path}'") from error
            yield

    def begin(self, tuning: Tuning) -> None:
        """Go on with what is there, if it was cut up in this way; else begin anew."""
        if self.tuning is None or any(getattr(tuning, n) != getattr(self.tuning, n) for n in CUTTING):
            shutil.rmtree(self.path / "blocks", ignore_errors=True)
            for name in ("counts.json", "cuts.jsonl", "header.json"):
                (self.path / name).unlink(missing_ok=True)
            header = {
                "format": FORMAT, "schema": SCHEMA, "version": writer_version(), "identity": self.identity,
                "tuning": tuning._asdict(),
            }  # fmt: skip
            with replacing(self.path / "slice.npz") as file:
                plane = self._plane
                np.savez(
                    file, allow_pickle=False, origin=plane.origin, directions=plane.directions,
                    domain=plane.domain, input_shape=np.array(plane.input_shape),
                )  # fmt: skip
            self._write_json("header.json", header)
            self.tuning = tuning
        (self.path / "blocks").mkdir(exist_ok=True)
        for part in (*self.path.glob(".*.part"), *self.path.glob("blocks/.*.part")):
            part.unlink()
        self.blocks = {path for path, _ in block_files(self.path)}
        self.pieces = self._read_cuts()
        self._done = set()

    def _write_json(self, name: str, content: dict[str, Any]) -> None:
        with replacing(self.path / name) as file:
            file.write(json.dumps(content, indent=1).encode())

    def _read_cuts(self) -> dict[tuple[int, ...], int]:
        """Read the list of cuts up to the first line that is not whole; the rest is written anew."""
        file = self.path / "cuts.jsonl"
        if not file.exists():
            return {}
        pieces, good = {}, 0
        for line in file.read_bytes().splitlines(keepends=True):
            try:
                cut = json.loads(line)
                pieces[_path_of(cut["block"])] = int(cut["pieces"])
            except (ValueError, KeyError, TypeError):
                break
            if not line.endswith(b"\n"):
                break
            good += len(line)
        with open(file, "r+b") as whole:
            whole.truncate(good)
        return pieces

    def write_cut(self, path: tuple[int, ...], n_pieces: int) -> None:
        """Write down that a block was cut."""
        if path not in self.pieces:
            with open(self.path / "cuts.jsonl", "ab", buffering=0) as file:
                file.write(json.dumps({"block": block_name(path), "pieces": n_pieces}).encode() + b"\n")
            self.pieces[path] = n_pieces

    def done(self, path: tuple[int, ...]) -> bool:
        """Tell whether the block at ``path``, or all its pieces, are there."""
        if path in self.blocks or path in self._done:
            return True
        n_pieces = self.pieces.get(path)
        if n_pieces is None or not all(self.done((*path, i)) for i in range(n_pieces)):
            return False
        self._done.add(path)
        return True

    def write(self, block: Finished) -> None:
        """Write a block; the file has its name when it is complete."""
        mesh = {f"mesh_{name}": array for name, array in block.mesh._asdict().items()}
        own = {name: getattr(block, name) for name in ARRAYS}
        with replacing(self._file(block.path), durable=False) as file:
            np.savez(file, allow_pickle=False, **mesh, **own)

    def _file(self, path: tuple[int, ...]) -> Path:
        return self.path / "blocks" / f"{block_name(path)}.npz"

    def read(self, path: tuple[int, ...]) -> Finished:
        """Read a block.

        Raises
        ------
        FileError
            If its file is cut short or damaged.
        """
        return read_block(self._file(path), path)

    def forget(self, path: tuple[int, ...]) -> None:
        """Remove a block's file, so that it is computed again."""
        self._file(path).unlink(missing_ok=True)
        self.blocks.discard(path)
        self._done = set()

    def finish(self, counts: dict[str, Any]) -> None:
        """Write the totals: the partition is complete."""
        self._write_json("counts.json", counts)


def read_block(file: Path, path: tuple[int, ...]) -> Finished:
    """Read a block's file; see `BlockFolder.read`."""
    with open(file, "rb") as opened:
        try:
            with np.load(opened, allow_pickle=False) as arrays:
                mesh = Mesh(*(arrays[f"mesh_{name}"] for name in Mesh._fields))
                own = {name: arrays[name] for name in ARRAYS}
        except MemoryError:
            raise
        except Exception as error:  # of an archive with one wrong bit zipfile raises nearly anything
            message = f"'{file}' is damaged ({error}); remove it and run the partition again"
            raise FileError(message) from error
    return Finished(
        path=path, mesh=mesh, **own, edge_line=np.empty(0, np.int64), chords={}, decisions=Decisions()
    )


def read_slice(folder: Path, identity: dict[str, Any]) -> Slice:
    """Read the slice of a folder."""
    try:
        with open(folder / "slice.npz", "rb") as file, np.load(file, allow_pickle=False) as arrays:
            shape = tuple(arrays["input_shape"].tolist())
            plane = Slice(arrays["origin"], arrays["directions"], arrays["domain"], shape)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, SliceError) as error:
        raise FileError(f"'{folder / 'slice.npz'}' is damaged ({error})") from error
    if plane.digest() != identity["slice"]:
        raise FileError(f"'{folder / 'slice.npz'}' is damaged: it is not the slice that was partitioned")
    return plane


def block_files(folder: Path) -> list[tuple[tuple[int, ...], Path]]:
    """Return place and file of every block, in order."""
    files = (file for file in (folder / "blocks").glob("*.npz") if BLOCK_FILE.fullmatch(file.name))
    return sorted((_path_of(file.name.removesuffix(".npz")), file) for file in files)


def read_header(folder: Path) -> dict[str, Any]:
    """Read the header of a folder.

    Raises
    ------
    FileError
        If the folder was not written by this version of splinecam_lite.
    """
    try:
        header = dict(json.loads((folder / "header.json").read_bytes()))
        known = header["format"] == FORMAT and header["schema"] == SCHEMA
        if known:
            Tuning(**header["tuning"])
            dict(header["identity"])["slice"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileError(
            f"'{folder}' is not a partition's folder; name another one, or an empty one"
        ) from error
    if not known:
        raise FileError(
            f"'{folder}' was written by another version of splinecam_lite ({header.get('version')}); name "
            "another folder"
        )
    return header
