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

from splinecam_lite.engine.chords import NO_SIDES
from splinecam_lite.engine.crossings import NO_ORDERS
from splinecam_lite.engine.cutting import Carried, carry_over, cut_block
from splinecam_lite.engine.exact import Decisions, Oracle, State
from splinecam_lite.engine.lines import Chords, after_cut, sides_of
from splinecam_lite.engine.plan import AffineStep, KnotStep, Plan, Schedule, Tuning
from splinecam_lite.engine.predicate import sign_words
from splinecam_lite.engine.screening import (
    Signs,
    cell_ranges,
    cells_across,
    decided_in_cells,
    divided,
    divided_once,
    require_finite,
    screen,
)
from splinecam_lite.engine.snaps import at_crossings, at_vertices
from splinecam_lite.engine.subdivide import BAD_SIGNS, OK, Cut, Mesh, subdivide
from splinecam_lite.engine.values import bent, rows_of
from splinecam_lite.errors import PredicateError

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
            signs = _screen(block, step, plan, tuning.group)
            while len(block.pending):
                if _too_large(block, tuning, row_bytes):
                    return False
                _cut_group(block, step, tuning.group, plan, signs)
                signs = None
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


def _screen(block: Block, step: KnotStep, plan: Plan, group: int) -> Signs | None:
    """Find the knots that change sign in the block; the others are frozen on their side.

    A block that arrives with pending knots, a piece of a larger one, looks at these alone.

    Returns
    -------
    Signs or None
        Of the pending knots, if they were looked at.
    """
    z = _preactivations(block, step)
    across = cells_across(block.n_vertices)
    if block.pending is None:
        found = screen(block.C, z, step.breakpoints, step.tolerance, step.jumps, across)
        require_finite(found, step.layer)
        low, high, block.pending = found.low, found.high, found.candidates
        start = step.first_bit // 64
        block.frozen[start : start + len(found.passed)] = found.passed
    elif len(block.pending):
        low, high = cell_ranges(block.C, len(z), across)
    if not len(block.pending):
        return None
    above, below = decided_in_cells(low, high, z, step.breakpoints, step.tolerance, block.pending)
    on, off = above & ~below, below & ~above
    set_bits(block.frozen, step.first_bit + block.pending[on])
    block.pending, changes = block.pending[~(on | off)], above[~(on | off)]
    if 0 < len(block.pending) <= group and plan.forms_of is None:
        signs = _divided_at_once(block, step, z)
        if signs is not None:
            return signs
    _divided_with_care(block, step, plan, z, changes)
    return None


def _divided_at_once(block: Block, step: KnotStep, z: np.ndarray) -> Signs | None:
    """Freeze the pending knots that do not change sign; return the signs of the others, None in odd cases."""
    pending = block.pending
    rows = rows_of(z, step.breakpoints, pending, CONSTANT)
    plain, divides, on, signs = divided_once(
        block.C[:, : len(z)] @ rows.T, step.tolerance.reshape(-1)[pending]
    )
    if not plain:
        return None
    set_bits(block.frozen, step.first_bit + pending[on])
    block.pending = pending[divides]
    return signs


def _divided_with_care(block: Block, step: KnotStep, plan: Plan, z: np.ndarray, changes: np.ndarray) -> None:
    """Freeze the pending knots that do not divide the block; ``changes`` marks those that surely do."""
    open_ = np.flatnonzero(~changes)
    if not len(open_):
        return
    bits = step.first_bit + block.pending[open_]
    divides, on, snaps = divided(
        block.C, block.mesh, z, step.breakpoints, step.tolerance, block.pending[open_], bits,
        _oracle(block, plan, bits),
    )  # fmt: skip
    block.snaps.append(snaps)
    set_bits(block.frozen, bits[on])
    changes[open_] = divides
    block.pending = block.pending[changes]


def set_bits(words: np.ndarray, bits: np.ndarray) -> None:
    """Set the bits of the given numbers."""
    np.bitwise_or.at(words, bits >> 6, np.uint64(1) << (bits & 63).astype(np.uint64))


def _cut_group(block: Block, step: KnotStep, group: int, plan: Plan, signs: Signs | None) -> None:
    """Cut all faces at the next knots of the step, whose signs are known or not."""
    knots, block.pending = block.pending[:group], block.pending[group:]
    rows = rows_of(_preactivations(block, step), step.breakpoints, knots, CONSTANT)
    tolerance = step.tolerance.reshape(-1)[knots]
    bits = step.first_bit + knots
    oracle = _oracle(block, plan, bits)
    if signs is None:
        Z = block.C[:, : rows.shape[1]] @ rows.T
        if oracle is not None:
            oracle.settle(Z, tolerance, bits)
        signs = Signs(Z, *sign_words(Z, tolerance if oracle is None else np.zeros_like(tolerance)))
    old = Carried(block.C, block.bits, block.seam, block.seam_place, block.D)
    if oracle is None:
        cut, new = cut_block(
            block.mesh, signs.Z, tolerance, signs.positive, signs.negative, rows, old, NO_ORDERS, NO_SIDES
        )
    else:
        cut = subdivide(block.mesh, signs.Z, tolerance, signs.positive, signs.negative, oracle)
    if cut.status != OK:
        raise PredicateError(_explain(cut.status, cut.culprit, step, knots))
    block.snaps.append(at_vertices(block.mesh, block.C, signs.Z, signs.snapped, signs.residue, bits))
    if oracle is not None:
        block.edge_line, block.chords = _with_chords(block, cut, bits)
        new = carry_over(cut, block.mesh.edge_vertices, rows, old)
    block.C, block.bits, block.seam, block.seam_place, block.D = new
    block.knots = np.concatenate((block.knots, bits))
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


def _apply_activation(block: Block, step: KnotStep) -> None:
    """Write the columns of the step's output: each neuron's piece, and a row for each hinge of the block."""
    start = step.first_bit // 64
    out = bent(
        _preactivations(block, step), step.left_slope, step.left_intercept, step.breakpoints, step.jumps,
        block.frozen[start : start - (-step.breakpoints.size // 64)], step.first_bit, block.knots, CONSTANT,
    )  # fmt: skip
    block.columns[step.output] = out.reshape(len(out), *block.columns[step.input].shape[1:])


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
