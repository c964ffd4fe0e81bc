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

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from splinecam_lite.engine.complex import edge_faces, signed_areas
from splinecam_lite.engine.exact import Decisions
from splinecam_lite.engine.kernels import kernel
from splinecam_lite.engine.lines import Chords
from splinecam_lite.engine.plan import Plan, Tuning
from splinecam_lite.engine.propagate import Block, advance, set_bits, whole_domain
from splinecam_lite.engine.snaps import NONE
from splinecam_lite.engine.subdivide import Mesh
from splinecam_lite.engine.values import common_bits, fold_rows, folding, select, select_bits
from splinecam_lite.errors import ModelError


class Piece(NamedTuple):
    """Faces of a block, waiting to be taken up as a block of their own."""

    path: tuple[int, ...]
    block: Block
    faces: np.ndarray  # (n,) int64


class Finished(NamedTuple):
    """A block at the end of the plan; see `propagate.Block`."""

    path: tuple[int, ...]
    mesh: Mesh
    xy: np.ndarray  # (V, 2)
    seam: np.ndarray
    seam_place: np.ndarray
    knots: np.ndarray
    D: np.ndarray
    bits: np.ndarray
    frozen: np.ndarray
    output_columns: np.ndarray  # (3+K, n_outputs)
    outputs: np.ndarray  # (V, n_outputs)
    snaps: np.ndarray  # (n, 4): pattern bit, u, v, displacement
    edge_line: np.ndarray  # exact mode: see `lines`
    chords: dict[int, Chords]
    decisions: Decisions


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
    axis = int(np.ptp(points, axis=0).argmax())
    first = n_pieces // 2
    middle = max(1, len(faces) * first // n_pieces)
    order = np.argpartition(points[:, axis], middle) if middle < len(faces) else np.arange(len(faces))
    return _halve(centroids, np.sort(faces[order[:middle]]), first) + _halve(
        centroids, np.sort(faces[order[middle:]]), n_pieces - first
    )


def cut(block: Block, tuning: Tuning, seam_numbers: "itertools.count[int]") -> list[Piece]:
    """Divide ``block`` into pieces and number the seams between them."""
    mesh = block.mesh
    n_pieces = max(2, -(-block.n_vertices // tuning.piece_vertices))
    parts = _halve(_centroids(block.C, mesh.face_ptr, mesh.face_vertex), np.arange(block.n_faces), n_pieces)
    piece_of = np.empty(block.n_faces, np.int64)
    for i, faces in enumerate(parts):
        piece_of[faces] = i
    sides = edge_faces(mesh.edge_vertices, mesh.face_ptr, mesh.face_vertex, mesh.face_edge)
    inner = (sides >= 0).all(axis=1)
    between = np.flatnonzero(inner & (piece_of[sides[:, 0]] != piece_of[sides[:, 1]]))
    block.seam[between] = list(itertools.islice(seam_numbers, len(between)))
    block.seam_place[between] = (0.0, 1.0)
    return [Piece((*block.path, i), block, faces) for i, faces in enumerate(parts)]


@kernel
def extract(mesh, faces, n_vertices):
    """Return the mesh of ``faces`` alone, with the old numbers of its vertices and edges."""
    vertex_number = np.full(n_vertices, -1, np.int32)
    edge_number = np.full(len(mesh.edge_vertices), -1, np.int32)
    corners = 0
    for i in range(len(faces)):
        corners += mesh.face_ptr[faces[i] + 1] - mesh.face_ptr[faces[i]]
    ptr = np.zeros(len(faces) + 1, np.int32)
    face_vertex, face_edge = np.empty(corners, np.int32), np.empty(corners, np.int32)
    vertices, edges = np.empty(corners, np.int32), np.empty(corners, np.int32)
    n_v = n_e = n = 0
    for i in range(len(faces)):
        for c in range(mesh.face_ptr[faces[i]], mesh.face_ptr[faces[i] + 1]):
            v, e = mesh.face_vertex[c], mesh.face_edge[c]
            if vertex_number[v] < 0:
                vertex_number[v], vertices[n_v] = n_v, v
                n_v += 1
            if edge_number[e] < 0:
                edge_number[e], edges[n_e] = n_e, e
                n_e += 1
            face_vertex[n], face_edge[n] = vertex_number[v], edge_number[e]
            n += 1
        ptr[i + 1] = n
    edge_vertices = np.empty((n_e, 2), np.int32)
    for i in range(n_e):
        for s in range(2):
            edge_vertices[i, s] = vertex_number[mesh.edge_vertices[edges[i], s]]
    return Mesh(edge_vertices, ptr, face_vertex, face_edge), vertices[:n_v].copy(), edges[:n_e].copy()


def take_up(piece: Piece) -> Block:
    """Extract a piece from its block and fold away the knots that do not change sign in it."""
    whole = piece.block
    mesh, vertices, edges = extract(whole.mesh, piece.faces, whole.n_vertices)
    some, every = common_bits(whole.bits, piece.faces, len(whole.knots))
    mixed = some & ~every
    fold = folding(whole.D, mixed, every)
    frozen = whole.frozen.copy()
    set_bits(frozen, whole.knots[every])
    rows = np.flatnonzero(mixed)
    edge_line = whole.edge_line[edges] if len(whole.edge_line) else whole.edge_line
    D = np.ascontiguousarray(fold_rows(whole.D[rows].T, fold).T)
    return Block(
        path=piece.path,
        mesh=mesh,
        seam=whole.seam[edges],
        seam_place=whole.seam_place[edges],
        C=select(whole.C, vertices, fold.kept),
        D=D,
        knots=whole.knots[rows],
        bits=select_bits(whole.bits, piece.faces, rows),
        frozen=frozen,
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
    """Take the whole domain through the plan.

    Parameters
    ----------
    plan : Plan
    tuning : Tuning
    threads : int
        Blocks worked on at once; the result does not depend on it.
    progress : callable, optional
        Called, from one thread at a time, with the area of the domain that is finished.

    Returns
    -------
    list of Finished
        In the order of their paths.
    """
    seam_numbers = itertools.count(len(plan.domain))
    last_uses = plan.last_uses()
    waiting: list[Piece | Block] = [whole_domain(plan)]
    finished: list[Finished] = []
    state = threading.Condition()
    busy, failed = 0, False
    done = 0.0

    def work() -> None:
        nonlocal busy, failed, done
        while True:
            with state:
                while not waiting and busy and not failed:
                    state.wait()
                if failed or not waiting:
                    return
                item = waiting.pop()
                busy += 1
            try:
                block = take_up(item) if isinstance(item, Piece) else item
                del item
                if advance(block, plan, last_uses, tuning):
                    new, pieces = _finish(block, plan), []
                else:
                    new, pieces = None, cut(block, tuning, seam_numbers)
                del block
                with state:
                    waiting.extend(reversed(pieces))
                    if new is not None:
                        finished.append(new)
                        if progress is not None:
                            done += _area(new)
                            progress(done)
                    busy -= 1
                    state.notify_all()
            except BaseException:
                with state:
                    failed = True
                    state.notify_all()
                raise

    if threads <= 1:
        work()
    else:
        with ThreadPoolExecutor(threads) as pool:
            try:
                for future in [pool.submit(work) for _ in range(threads)]:
                    future.result()
            except BaseException:
                with state:
                    failed = True
                    state.notify_all()
                raise
    return sorted(finished, key=lambda block: block.path)


def _area(block: Finished) -> float:
    return float(signed_areas(block.xy, block.mesh.face_ptr, block.mesh.face_vertex).sum())
