"""A partition on disk: written block by block in bounded memory, resumable, read block by block."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from splinecam_lite.engine.blocks import stream_blocks
from splinecam_lite.engine.engine import assembled, retried
from splinecam_lite.engine.finished import Finished
from splinecam_lite.engine.interrupts import apart
from splinecam_lite.engine.kernels import source_digest
from splinecam_lite.engine.maps import face_maps
from splinecam_lite.engine.plan import Plan, Tuning
from splinecam_lite.engine.sewing import sew
from splinecam_lite.errors import FileError, ModelError
from splinecam_lite.network.program import Program
from splinecam_lite.network.slices import Slice
from splinecam_lite.partition.door import as_program
from splinecam_lite.partition.folder import (
    CUTTING,
    BlockFolder,
    block_digest,
    block_files,
    read_block,
    read_header,
    read_slice,
)
from splinecam_lite.partition.planning import make_plan
from splinecam_lite.partition.result import Partition
from splinecam_lite.partition.tally import Counted, Counts, LayerTally, Tally
from splinecam_lite.partition.workers import one_thread_per_worker


class StoredBlock(NamedTuple):
    """Neighbouring faces of a stored partition.

    Without maxima in the network a face is an activation region; with them, regions are unions of faces.
    """

    xy: np.ndarray  # (V, 2): vertices, chart coordinates
    face_ptr: np.ndarray  # (F + 1,)
    face_vertex: np.ndarray  # (n,): face f has corners face_vertex[face_ptr[f] : face_ptr[f + 1]]
    areas: np.ndarray  # (F,): square input units
    outputs: np.ndarray  # (V, n_outputs): at the vertices
    finished: Finished

    def polygons(self) -> list[np.ndarray]:
        """Return the corners (m, 2) of every face, counter-clockwise."""
        return np.split(self.xy[self.face_vertex], self.face_ptr[1:-1])

    def affine_maps(self) -> np.ndarray:
        """Return (F, n_outputs, 3): the outputs on each face are linear in ``(u, v, 1)``."""
        block = self.finished
        return face_maps(block.D, block.bits, block.output_columns, np.arange(len(self.areas)))


@dataclass(frozen=True, eq=False)
class StoredPartition:
    """A partition in a folder; made by ``partition(..., store=folder)``, or `open`.

    Attributes
    ----------
    folder : Path
    plane : Slice
    tally : Tally
        All counts and residuals.
    digest : str
        SHA-256 of all blocks. Equal for two runs that were cut up alike, interrupted or not.

    Examples
    --------
    >>> import tempfile, torch
    >>> from splinecam_lite import Slice, partition
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1)).eval()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     stored = partition(model, Slice.box(-1, 1), store=folder)
    ...     part = stored.load(model)
    ...     areas = np.concatenate([block.areas for block in stored.blocks()])
    >>> part.n_regions == stored.n_regions == len(areas)
    True
    """

    folder: Path
    plane: Slice
    tally: Tally
    digest: str

    @staticmethod
    def open(folder: str | os.PathLike[str]) -> "StoredPartition":
        """Open a folder that `partition` has written to its end.

        Raises
        ------
        FileError
            If it is none, is damaged, or not complete: run the partition again with the same folder, and it
            goes on.
        """
        path = Path(folder)
        header = read_header(path)
        plane = read_slice(path, header["identity"])
        try:
            counts = json.loads((path / "counts.json").read_bytes())
            layers = tuple(LayerTally(*layer) for layer in counts["tally"].pop("layers"))
            histogram = np.array(counts["tally"].pop("area_histogram"), np.int64)
            tally = Tally(plane=plane, layers=layers, area_histogram=histogram, **counts["tally"])
            return StoredPartition(path, plane, tally, counts["digest"])
        except FileNotFoundError as error:
            raise FileError(
                f"'{path}' is not complete; run the same partition with store='{path}', and it goes on"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise FileError(f"'{path / 'counts.json'}' is damaged ({error})") from error

    @property
    def n_regions(self) -> int:
        """Number of activation regions."""
        return self.tally.n_regions

    def __repr__(self) -> str:
        """``StoredPartition('folder', 2 activation regions, 1 blocks)``."""
        return (
            f"StoredPartition('{self.folder}', {self.n_regions:,} activation regions, "
            f"{self.tally.n_blocks:,} blocks)"
        )

    def blocks(self) -> Iterator[StoredBlock]:
        """Yield the blocks one after the other; only one is in memory at a time.

        Raises
        ------
        FileError
            If a file is missing or damaged.
        """
        for block in self._finished():
            mesh = block.mesh
            yield StoredBlock(block.xy, mesh.face_ptr, mesh.face_vertex, block.areas(), block.outputs, block)

    def _finished(self) -> Iterator[Finished]:
        files = block_files(self.folder)
        if len(files) != self.tally.n_blocks:
            raise FileError(
                f"'{self.folder}' has {len(files)} of {self.tally.n_blocks} blocks; run the partition again"
            )
        for path, file in files:
            yield read_block(file, path)

    def verify(self) -> None:
        """Read all blocks and compare their digest.

        Raises
        ------
        FileError
            If a block is missing, damaged or another one.
        """
        if digest_of({block.path: block_digest(block) for block in self._finished()}) != self.digest:
            raise FileError(
                f"the blocks in '{self.folder}' are not those that were written; remove it and run the "
                "partition again"
            )

    @apart
    def load(self, model: "nn.Module | Program | str") -> Partition:
        """Return the whole partition in memory.

        Parameters
        ----------
        model : nn.Module, Program or path
            The network that was partitioned, with the output and normalisation that were given then.

        Raises
        ------
        ModelError
            If it is another one.
        """
        from splinecam_lite.partition.partition import whole_partition

        program = as_program(model, self.plane, None, None, None)
        identity = read_header(self.folder)["identity"]
        if program.digest() != identity["network"]:
            raise ModelError(
                "this is not the network that was partitioned: its digest differs. Pass the same weights; an "
                "output or normalisation, if there was one, goes to Program.from_module"
            )
        begin = time.perf_counter()
        with one_thread_per_worker():
            plan = make_plan(program, self.plane)
            finished = list(self._finished())
            result = assembled(plan, finished, sew(finished, len(plan.domain)), 1)
            return whole_partition(result, program, None, self.plane, plan, identity["decision"], 1, begin)


def digest_of(blocks: dict[tuple[int, ...], str]) -> str:
    """Return the digest of all blocks, given that of each."""
    digest = hashlib.sha256()
    for path in sorted(blocks):
        digest.update(blocks[path].encode())
    return digest.hexdigest()


class _OnDisk:
    """A sink that writes blocks to a folder and counts them."""

    def __init__(self, folder: BlockFolder, counts: Counts):
        self._folder, self._counts = folder, counts
        self.digests: dict[tuple[int, ...], str] = {}
        for path in sorted(folder.blocks):
            try:
                block = folder.read(path)
            except FileError:  # half a file, after a power cut: it is computed again
                folder.forget(path)
                continue
            self.digests[path] = block_digest(block)
            counts.add(counts.prepared(block))

    @property
    def area(self) -> float:
        """Area of the domain that is done."""
        return self._counts.area

    def prepared(self, block: Finished) -> tuple[Counted, str]:
        """Check, count and write a block."""
        counted = self._counts.prepared(block)
        self._folder.write(block)
        return counted, block_digest(block)

    def add(self, prepared: tuple[Counted, str]) -> None:
        """Add a block's counts."""
        counted, digest = prepared
        self.digests[counted.path] = digest
        self._counts.add(counted)

    def cut(self, path: tuple[int, ...], n_pieces: int) -> None:
        """Write down that a block was cut."""
        self._folder.write_cut(path, n_pieces)

    def done(self, path: tuple[int, ...]) -> bool:
        """Tell whether an earlier run has finished it."""
        return self._folder.done(path)


MORE_MEMORY = 2
"""Times the share of a block that a run may go on with; free memory, its default, is never quite the same."""


def write_partition(
    program: Program,
    plane: Slice,
    plan: Plan,
    folder: str | os.PathLike[str],
    decision: str,
    tuning: Tuning,
    threads: int,
    progress: Callable[[float], None] | None,
) -> StoredPartition:
    """Write the partition of a plan to a folder, or what is still missing there.

    Raises
    ------
    FileError
        If the folder holds something else, or another process writes to it.
    OSError
        If the disk is full, for example; what was written stays, and the next run goes on from there.
    """
    begin = time.perf_counter()
    target = BlockFolder(
        Path(folder), plane, {"network": program.digest(), "decision": decision, "engine": source_digest()}
    )
    if target.is_complete():
        return StoredPartition.open(target.path)

    def written(tuning: Tuning) -> _Written:
        target.begin(tuning)
        counts = Counts.of(program, plan)
        sink = _OnDisk(target, counts)
        stream_blocks(plan, tuning, sink, threads, progress)
        counts.close()
        return _Written(counts, sink.digests)

    with target.locked():
        target.look()
        if target.is_complete():  # another process has come to the end in the meantime
            return StoredPartition.open(target.path)
        if target.tuning is not None:
            kept = {name: getattr(target.tuning, name) for name in CUTTING}
            if kept["block_bytes"] > MORE_MEMORY * tuning.block_bytes:
                raise FileError(
                    f"'{target.path}' was begun with blocks of {kept['block_bytes'] / 1e6:,.0f} MB at most; "
                    f"now only {tuning.block_bytes / 1e6:,.0f} MB are allowed. Allow as much memory as then "
                    "(memory=), on as few threads, or begin anew in another folder"
                )
            tuning = tuning._replace(**kept)
        done, _ = retried(written, tuning)
        tally = done.counts.tally(program, plane, time.perf_counter() - begin)
        fields: dict[str, Any] = {k: v for k, v in vars(tally).items() if k != "plane"}
        fields["layers"] = [list(layer) for layer in tally.layers]
        fields["area_histogram"] = tally.area_histogram.tolist()
        target.finish({"tally": fields, "digest": digest_of(done.digests)})
    return StoredPartition.open(target.path)


class _Written(NamedTuple):
    counts: Counts
    digests: dict[tuple[int, ...], str]
