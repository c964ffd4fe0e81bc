"""Cut blocks into pieces, and take all pieces to the end of the plan.

A block whose vertices and knots outgrow the cache is cut *along existing edges* into pieces of neighbouring
faces. In a piece, hinges of knots that no longer change sign are folded away (`values`), and the work goes on
from the same step, depth first, so that few unfinished blocks are held at any time. Extraction and folding
wait until a piece is taken up: a waiting piece is a list of faces and a reference to the block it was cut
from.

An inner edge between two pieces becomes a *seam* with a number of its own. Each side cuts its copy by itself,
as a function of its own block alone, so the result does not depend on threads; `sewing` pairs the copies by
seam and order along it, and two sides that disagree are found there.
"""

import hashlib
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from splinecam_lite.engine.complex import edge_faces
from splinecam_lite.engine.cutting import Carried
from splinecam_lite.engine.exact import Decisions
from splinecam_lite.engine.extraction import extract_block
from splinecam_lite.engine.finished import Finished
from splinecam_lite.engine.heap import give_back, resident_bytes
from splinecam_lite.engine.interrupts import current_stop, go_on
from splinecam_lite.engine.kernels import kernel
from splinecam_lite.engine.plan import Plan, Tuning
from splinecam_lite.engine.propagate import FEW_KNOTS, Block, advance, is_long, whole_domain
from splinecam_lite.engine.sinks import Collected, Sink
from splinecam_lite.engine.snaps import NONE
from splinecam_lite.engine.values import Folding, fold_rows
from splinecam_lite.engine.waiting import Piece, Waiting, let_go
from splinecam_lite.errors import ModelError


@kernel
def _centroids(xy, face_ptr, face_vertex):
    """Return the mean of the corners of every face (F, 2)."""
    out = np.zeros((len(face_ptr) - 1, 2))
    for f in range(len(out)):
        for i in range(face_ptr[f], face_ptr[f + 1]):
            out[f, 0] += xy[face_vertex[i], 0]
            out[f, 1] += xy[face_vertex[i], 1]
        for i in range(2):
            out[f, i] /= face_ptr[f + 1] - face_ptr[f]
    return out


def _halve(centroids: np.ndarray, faces: np.ndarray, n_pieces: int) -> list[np.ndarray]:
    """Divide ``faces`` into ``n_pieces`` of nearly equal size, each time across the longer side."""
    if n_pieces <= 1 or len(faces) <= 1:
        return [faces]
    points = centroids[faces]
    axis = int(points[:, 0].max() - points[:, 0].min() < points[:, 1].max() - points[:, 1].min())
    first = n_pieces // 2
    middle = max(1, len(faces) * first // n_pieces)
    order = np.argpartition(points[:, axis], middle) if middle < len(faces) else np.arange(len(faces))
    return _halve(centroids, np.sort(faces[order[:middle]]), first) + _halve(
        centroids, np.sort(faces[order[middle:]]), n_pieces - first
    )


_FIRST_SEAM = 1 << 60
"""Seams have numbers from here to twice as much; the sides of the domain are 0 .. m-1."""


def _seam_numbers(path: tuple[int, ...], n: int) -> np.ndarray:
    """Return numbers for the seams of the block at ``path``: the same in every run, whoever cuts it when.

    60 bits of a digest: if 10,000 blocks are cut along 300 seams each, two of them overlap with a probability
    of 3e-8; sewing would then find sides that do not fit, and the domain would be cut elsewhere.
    """
    digest = hashlib.blake2b(repr(path).encode(), digest_size=8).digest()
    first = int.from_bytes(digest) % (_FIRST_SEAM - n)
    return _FIRST_SEAM + first + np.arange(n)


def cut(block: Block, tuning: Tuning) -> list[Piece]:
    """Divide ``block`` into pieces and number the seams between them."""
    mesh = block.mesh
    n_pieces = max(2, -(-block.n_vertices // tuning.piece_vertices))
    if is_long(block):
        n_pieces = max(n_pieces, 2 * len(block.knots) // FEW_KNOTS)
    parts = _halve(_centroids(block.C, mesh.face_ptr, mesh.face_vertex), np.arange(block.n_faces), n_pieces)
    piece_of = np.empty(block.n_faces, np.int64)
    for i, faces in enumerate(parts):
        piece_of[faces] = i
    sides = edge_faces(mesh.edge_vertices, mesh.face_ptr, mesh.face_vertex, mesh.face_edge)
    left, right = sides.T
    between = np.flatnonzero((np.minimum(left, right) >= 0) & (piece_of[left] != piece_of[right]))
    block.seam[between] = _seam_numbers(block.path, len(between))
    block.seam_place[between] = (0.0, 1.0)
    return [Piece((*block.path, i), block, faces) for i, faces in enumerate(parts)]


def take_up(piece: Piece) -> Block:
    """Extract a piece from its block and fold away the knots that do not change sign in it."""
    whole = piece.block
    own = extract_block(
        whole.mesh, piece.faces, whole.n_vertices,
        Carried(whole.C, whole.bits, whole.seam, whole.seam_place, whole.D), whole.knots, whole.frozen,
    )  # fmt: skip
    fold = Folding(own.kept, own.on, own.on_rows)
    rows = own.kept[3:] - 3
    edge_line = whole.edge_line[own.edges] if len(whole.edge_line) else whole.edge_line
    return Block(
        path=piece.path,
        mesh=own.mesh,
        seam=own.seam,
        seam_place=own.seam_place,
        C=own.C,
        D=np.ascontiguousarray(fold_rows(whole.D[rows].T, fold).T),
        knots=whole.knots[rows],
        bits=own.bits,
        frozen=own.frozen,
        columns={v: fold_rows(c, fold) for v, c in whole.columns.items()},
        step=whole.step,
        pending=whole.pending,
        snaps=whole.snaps if piece.path[-1] == 0 else [],
        edge_line=edge_line,
        chords={group: whole.chords[group] for group in np.unique(edge_line >> 32).tolist()},
        decisions=whole.decisions if piece.path[-1] == 0 else Decisions(),
    )


def _finish(block: Block, plan: Plan) -> Finished:
    columns = block.columns[plan.output]
    output_columns = np.zeros((3 + len(block.knots), int(np.prod(columns.shape[1:]))))
    output_columns[: len(columns)] = columns.reshape(len(columns), -1)
    with np.errstate(over="ignore", invalid="ignore"):
        outputs = block.C @ output_columns
    if not np.isfinite(outputs).all():
        raise ModelError("the outputs are too large for float64; scale the weights down")
    return Finished(
        path=block.path,
        mesh=block.mesh,
        xy=np.ascontiguousarray(block.C[:, :2]),
        seam=block.seam,
        seam_place=block.seam_place,
        knots=block.knots,
        D=block.D,
        bits=block.bits,
        frozen=block.frozen,
        output_columns=output_columns,
        outputs=outputs,
        snaps=np.concatenate([NONE, *block.snaps]),
        edge_line=block.edge_line,
        chords=block.chords,
        decisions=block.decisions,
    )


def run_blocks(
    plan: Plan, tuning: Tuning, threads: int = 1, progress: Callable[[float], None] | None = None
) -> list[Finished]:
    """Take the whole domain through the plan and keep all blocks, in the order of their paths.

    Raises
    ------
    MemoryBudgetError
        If they take more memory than the tuning allows.
    """
    kept = Collected(tuning.result_bytes)
    stream_blocks(plan, tuning, kept, threads, progress)
    return sorted(kept.blocks, key=lambda block: block.path)


def stream_blocks(
    plan: Plan,
    tuning: Tuning,
    sink: Sink,
    threads: int = 1,
    progress: Callable[[float], None] | None = None,
) -> None:
    """Take the whole domain through the plan, but for what the sink has already.

    Parameters
    ----------
    plan : Plan
    tuning : Tuning
    sink : Sink
        Gets the blocks as they are finished, in no certain order.
    threads : int
        Blocks worked on at once; the blocks do not depend on it.
    progress : callable, optional
        Called, from one thread at a time, with the area of the domain that is finished.
    """
    if not sink.done(()):
        _Work(plan, tuning, sink, progress).run(threads)


STEPS_TO_TIDY = 8
"""Blocks from one look at the process's memory to the next."""


class _Work:
    """What the threads share: the stack of pieces, and the sink."""

    def __init__(
        self, plan: Plan, tuning: Tuning, sink: Sink, progress: Callable[[float], None] | None
    ) -> None:
        self.plan, self.tuning, self.sink, self.progress = plan, tuning, sink, progress
        self.schedule = plan.schedule()
        self.waiting = Waiting(tuning.waiting_bytes)
        self.waiting.push([whole_domain(plan)])
        self.state, self.sinking = threading.Condition(), threading.Lock()
        self.busy, self.failed, self.stop = 0, False, current_stop()
        self.steps, self.held_before = itertools.count(1), resident_bytes()

    def run(self, threads: int) -> None:
        """Work until nothing waits; the first error of any thread is raised when all have stopped."""
        if threads <= 1:
            self.work()
            return
        with ThreadPoolExecutor(threads) as pool:
            try:
                for future in [pool.submit(self.work) for _ in range(threads)]:
                    future.result()
            except BaseException:
                self.fail()
                raise

    def fail(self) -> None:
        """Let all threads stop after the block they work on."""
        with self.state:
            self.failed = True
            self.state.notify_all()

    def work(self) -> None:
        """Take up what waits, until nothing does and nobody works on a block that may be cut."""
        while True:
            with self.state:
                while not self.waiting and self.busy and not self.failed:
                    self.state.wait()
                if self.failed or not self.waiting:
                    return
                item = self.waiting.pop()
                self.busy += 1
            try:
                go_on(self.stop)
                pieces = self.step(item)
                del item
                self.tidy()
                with self.state:
                    self.waiting.push(pieces)
                    self.busy -= 1
                    self.state.notify_all()
            except BaseException:
                self.fail()
                raise

    def tidy(self) -> None:
        """Now and then, see that freed memory does not add up."""
        if next(self.steps) % STEPS_TO_TIDY == 0 and self.held_before is not None:
            held = resident_bytes()
            if held is not None and held - self.held_before > self.tuning.held_bytes:
                give_back()

    def step(self, item: Piece | Block) -> list[Piece]:
        """Take one block on; return the pieces into which it was cut, none if it is finished."""
        if isinstance(item, Piece):
            block = take_up(item)
            let_go(item.block)
        else:
            block = item
        del item
        if not advance(block, self.plan, self.schedule, self.tuning):
            pieces = cut(block, self.tuning)
            with self.sinking:
                self.sink.cut(block.path, len(pieces))
                return [piece for piece in pieces if not self.sink.done(piece.path)]
        prepared = self.sink.prepared(_finish(block, self.plan))
        del block
        with self.sinking:
            self.sink.add(prepared)
            if self.progress is not None:
                self.progress(self.sink.area)
        return []
