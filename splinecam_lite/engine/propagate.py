"""Take one block through the steps of a plan, until it is finished or too large.

affine step    columns <- its linear part on all columns; the bias goes to the constant column
knot step      screen -> knots that divide the faces of the block
               in groups of 64:  Z = C @ columns[:, group]
                                 mesh, M <- subdivide(mesh, Z)
                                 C <- [M C | max(Z, 0)],  D <- [D; group]
               columns <- slope of each neuron's piece * columns (+ intercept), and a row for each knot
                          of the block, with its slope jump
"""

import itertools
from dataclasses import dataclass, field

import numpy as np

from splinecam_lite.engine.exact import Decisions, Oracle, State
from splinecam_lite.engine.kernels import kernel
from splinecam_lite.engine.lines import Chords, after_cut, sides_of
from splinecam_lite.engine.plan import AffineStep, KnotStep, Plan, Schedule, Tuning
from splinecam_lite.engine.predicate import sign_words
from splinecam_lite.engine.snaps import at_crossings, at_vertices
from splinecam_lite.engine.subdivide import BAD_SIGNS, OK, Cut, Mesh, mix, subdivide
from splinecam_lite.engine.values import append_bits, decided_in_cells, divided, ranges_of, undecided
from splinecam_lite.errors import ModelError, PredicateError

CONSTANT = 2
"""The coordinate that is 1."""


@dataclass
class Block:
    """A set of neighbouring faces on its way through the plan.

    Attributes
    ----------
    path : tuple of int
        Which piece of which piece of the domain this is; orders the finished blocks.
    mesh : Mesh
    seam : (E,) int64
        Number of the seam or domain side on which an edge lies, -1 inside.
    seam_place : (E, 2) float64
        Where the edge's start and end lie on it, from 0 to 1.
    C : (V, 3+K) float64
    D : (K, 3+K) float64
    knots : (K,) int64
        Pattern bit of each hinge.
    bits : (F, words) uint64
        Bit j of a face: hinge j is active there.
    frozen : (n_words,) uint64
        Pattern bits of all neurons that have no knot in the block.
    columns : dict of value number to (rows, ...shape) float64
    step : int
        The next step of the plan.
    pending : (n,) int64 or None
        Knots of that step (flat, in the step) still to be cut; None before screening.
    snaps : list of arrays (n, 4)
        Pattern bit, u, v, displacement.
    edge_line : (E,) int64
        The line on which each edge lies, see `lines`; empty outside exact mode.
    chords : dict
        What the lines' numbers mean.
    decisions : Decisions
        How many signs each stage has decided, in exact mode.
    """

    path: tuple[int, ...]
    mesh: Mesh
    seam: np.ndarray
    seam_place: np.ndarray
    C: np.ndarray
    D: np.ndarray
    knots: np.ndarray
    bits: np.ndarray
    frozen: np.ndarray
    columns: dict[int, np.ndarray]
    step: int = 0
    pending: np.ndarray | None = None
    snaps: list[np.ndarray] = field(default_factory=list)
    edge_line: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    chords: dict[int, Chords] = field(default_factory=dict)
    decisions: Decisions = field(default_factory=Decisions)

    @property
    def n_vertices(self) -> int:
        return len(self.C)

    @property
    def n_faces(self) -> int:
        return len(self.mesh.face_ptr) - 1


def whole_domain(plan: Plan) -> Block:
    """Return the block that is the domain itself, before the first step. Its sides are seams 0 .. m-1."""
    m = len(plan.domain)
    corners = np.arange(m, dtype=np.int32)
    edges = np.stack((corners, np.roll(corners, -1)), axis=1)
    return Block(
        path=(),
        mesh=Mesh(edges, np.array([0, m], np.int32), corners, corners.copy()),
        seam=np.arange(m),
        seam_place=np.tile([0.0, 1.0], (m, 1)),
        C=np.column_stack((plan.domain, np.ones(m))),
        D=np.empty((0, 3)),
        knots=np.empty(0, np.int64),
        bits=np.zeros((1, 0), np.uint64),
        frozen=np.zeros(plan.n_words, np.uint64),
        columns={0: plan.input_columns},
        edge_line=np.arange(m if plan.forms_of else 0),  # group 0: the sides
        chords={0: sides_of(plan.domain)} if plan.forms_of else {},
    )


def advance(block: Block, plan: Plan, schedule: Schedule, tuning: Tuning) -> bool:
    """Take ``block`` on to the end of the plan, or until it should be cut.

    Returns
    -------
    finished : bool
        False where the block is too large to go on; what is left to do is in ``step`` and ``pending``.
    """
    while block.step < len(plan.steps):
        step = plan.steps[block.step]
        if isinstance(step, AffineStep):
            _affine(block, step)
        else:
            row_bytes = schedule.row_bytes[block.step]
            if _too_large(block, tuning, row_bytes):
                return False
            _screen(block, step, plan)
            while len(block.pending):
                if _too_large(block, tuning, row_bytes):
                    return False
                _cut_group(block, step, tuning.group, plan)
            _apply_activation(block, step)
            block.pending = None
        block.columns = {v: c for v, c in block.columns.items() if schedule.last_uses.get(v, -1) > block.step}
        block.step += 1
    return True


def _too_large(block: Block, tuning: Tuning, row_bytes: int) -> bool:
    if block.n_faces == 1:
        return False
    rows = 3 + len(block.knots)
    taken = rows * (row_bytes + 16 * block.n_vertices)  # C before a cut and after it
    return block.n_vertices > tuning.block_vertices or taken > tuning.block_bytes or is_long(block)


FEW_KNOTS = 128
LONG = 5.0


def is_long(block: Block) -> bool:
    """Tell whether a block has far more knots than lines across a round domain make so many vertices with.

    In a thin strip vertices grow as K, not as K^2: half of it costs a quarter, for there is nothing that a
    larger block would spare.
    """
    return len(block.knots) > max(FEW_KNOTS, LONG * block.n_vertices**0.5)


def _affine(block: Block, step: AffineStep) -> None:
    inputs = [block.columns[v] for v in step.inputs]
    rows = max(len(c) for c in inputs)
    out = step.linear(*(_with_rows(c, rows) for c in inputs))
    if step.bias is not None:
        out[CONSTANT] += step.bias
    block.columns[step.output] = out


def _with_rows(columns: np.ndarray, rows: int) -> np.ndarray:
    """Return ``columns`` with zero rows appended: hinges that came after it was computed."""
    if len(columns) == rows:
        return columns
    padded = np.zeros((rows, *columns.shape[1:]))
    padded[: len(columns)] = columns
    return padded


def _preactivations(block: Block, step: KnotStep) -> np.ndarray:
    columns = block.columns[step.input]
    return columns.reshape(len(columns), -1)


def _oracle(block: Block, plan: Plan, bits: np.ndarray) -> Oracle | None:
    """Return who answers questions about the block as it is now, in exact mode."""
    if plan.forms_of is None:
        return None
    state = State(
        block.mesh, block.n_vertices, block.edge_line, block.chords, block.frozen, block.knots, block.bits,
        np.ascontiguousarray(block.C[:, :2]),
    )  # fmt: skip
    return Oracle(state, plan.forms_of, block.decisions, bits)


def _screen(block: Block, step: KnotStep, plan: Plan) -> None:
    """Find the knots that change sign in the block; the others are frozen on their side.

    A block that arrives with pending knots, a piece of a larger one, looks at these alone.
    """
    z = _preactivations(block, step)
    if block.pending is not None and not len(block.pending):
        return
    ranges = ranges_of(block.C, len(z))
    if block.pending is None:
        try:
            block.pending, right = undecided(ranges, z, step.breakpoints, step.tolerance, step.jumps != 0.0)
        except OverflowError as overflow:
            raise ModelError(
                f"layer {step.layer}, {overflow}: too large for float64; scale the weights down"
            ) from overflow
        words = np.packbits(right, bitorder="little")
        padded = np.zeros(-(-len(right) // 64) * 8, np.uint8)
        padded[: len(words)] = words
        start = step.first_bit // 64
        block.frozen[start : start + len(padded) // 8] = padded.view(np.uint64)
    if len(block.pending):
        above, below = decided_in_cells(ranges, z, step.breakpoints, step.tolerance, block.pending)
        divides, on = above & below, above & ~below
        open_ = np.flatnonzero(~(above | below))
        if len(open_):
            bits = step.first_bit + block.pending[open_]
            oracle = _oracle(block, plan, bits)
            divides[open_], on[open_], snaps = divided(
                block.C, block.mesh, z, step.breakpoints, step.tolerance, block.pending[open_], bits, oracle
            )
            block.snaps.append(snaps)
        set_bits(block.frozen, step.first_bit + block.pending[on])
        block.pending = block.pending[divides]


def set_bits(words: np.ndarray, bits: np.ndarray) -> None:
    """Set the bits of the given numbers."""
    np.bitwise_or.at(words, bits >> 6, np.uint64(1) << (bits & 63).astype(np.uint64))


def _cut_group(block: Block, step: KnotStep, group: int, plan: Plan) -> None:
    """Cut all faces at the next knots of the step."""
    knots, block.pending = block.pending[:group], block.pending[group:]
    z = _preactivations(block, step)
    rows = z[:, knots % z.shape[1]].T.copy()
    rows[:, CONSTANT] -= step.breakpoints.reshape(-1)[knots]
    tolerance = step.tolerance.reshape(-1)[knots]
    bits = step.first_bit + knots
    Z = block.C[:, : rows.shape[1]] @ rows.T
    oracle = _oracle(block, plan, bits)
    if oracle is not None:
        oracle.settle(Z, tolerance, bits)
    at_vertex = tolerance if oracle is None else np.zeros_like(tolerance)
    positive, negative, snapped, residue = sign_words(Z, at_vertex)
    cut = subdivide(block.mesh, Z, tolerance, positive, negative, oracle)
    if cut.status != OK:
        raise PredicateError(_explain(cut.status, cut.culprit, step, knots))
    block.snaps.append(at_vertices(block.mesh, block.C, Z, snapped, residue, bits))
    K, n = len(block.knots), len(knots)
    n_old = block.n_vertices
    if oracle is not None:
        block.edge_line, block.chords = _with_chords(block, cut, bits)
    block.C = mix(block.C, cut.parents, cut.place, cut.Z)
    D = np.zeros((K + n, 3 + K + n))
    D[:K, : 3 + K] = block.D
    D[K:, : rows.shape[1]] = rows
    block.D = D
    block.knots = np.concatenate((block.knots, bits))
    block.bits = append_bits(block.bits, K, cut.face_parent, cut.face_signs, n)
    block.seam, block.seam_place = _on_seams(
        block.seam,
        block.seam_place,
        block.mesh.edge_vertices,
        cut.edge_parent,
        cut.mesh.edge_vertices,
        cut.place,
        n_old,
    )
    block.mesh = cut.mesh
    block.snaps.append(at_crossings(cut, block.C, bits))


_groups = itertools.count(1)
"""Numbers for groups of chords, of all blocks and threads; 0 are the sides of the domain."""


def _with_chords(block: Block, cut: Cut, bits: np.ndarray) -> tuple[np.ndarray, dict[int, Chords]]:
    """Return the lines of the edges after a cut, and what their numbers mean."""
    group = next(_groups)
    edge_line, face, knot = after_cut(block.edge_line, cut, group)
    drawn = Chords(face, bits[knot], block.frozen, block.knots, block.bits, {})
    return edge_line, {**block.chords, group: drawn}


@kernel
def _on_seams(seam, seam_place, old_edges, edge_parent, edges, place, n_old):
    """Carry seams and places on them over to the pieces of the edges."""
    new_seam = np.full(len(edges), -1, np.int64)
    new_place = np.zeros((len(edges), 2))
    for e in range(len(edges)):
        p = edge_parent[e]
        if p < 0 or seam[p] < 0:
            continue
        new_seam[e] = seam[p]
        for i in range(2):
            v = edges[e, i]
            if v == old_edges[p, 0]:
                t = 0.0
            elif v == old_edges[p, 1]:
                t = 1.0
            else:
                t = place[v - n_old]
            new_place[e, i] = (1.0 - t) * seam_place[p, 0] + t * seam_place[p, 1]
    return new_seam, new_place


def _apply_activation(block: Block, step: KnotStep) -> None:
    """Write the columns of the step's output: each neuron's piece, and a row for each hinge of the block."""
    z = _preactivations(block, step)
    n_breakpoints, n_neurons = step.breakpoints.shape
    start, n_bits = step.first_bit // 64, n_breakpoints * n_neurons
    words = block.frozen[start : start + -(-n_bits // 64)]
    right = np.unpackbits(words.view(np.uint8), bitorder="little", count=n_bits).reshape(
        n_breakpoints, n_neurons
    )
    here = np.flatnonzero((block.knots >= step.first_bit) & (block.knots < step.first_bit + n_bits))
    flat = block.knots[here] - step.first_bit
    bends = step.jumps * right
    slope = step.left_slope + bends.sum(axis=0)
    intercept = step.left_intercept - (bends * step.breakpoints).sum(axis=0)
    rows = 3 + int(here[-1]) + 1 if len(here) else len(z)
    out = np.empty((rows, n_neurons))
    np.multiply(z, slope, out=out[: len(z)])
    out[len(z) :] = 0.0
    out[CONSTANT] += intercept
    out[3 + here, flat % n_neurons] = step.jumps.reshape(-1)[flat]
    block.columns[step.output] = out.reshape(rows, *block.columns[step.input].shape[1:])


def _explain(status: int, culprit: np.ndarray, step: KnotStep, knots: np.ndarray) -> str:
    flat = int(knots[culprit[1]])
    where = (
        f"layer {step.layer}, neuron {flat % step.breakpoints.shape[1]}, face {int(culprit[0])} of its block"
    )
    if status == BAD_SIGNS:
        return (
            f"{where}: the signs round the face are not one run of + and one of -, so the face is thinner "
            "than float64 can tell; ask for a smaller domain, or move the slice a little"
        )
    return (
        f"{where}: the order of the crossings along a knot contradicts the order round the face's border; "
        "ask for a smaller domain, or move the slice a little"
    )
