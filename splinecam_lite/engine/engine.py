"""The engine: a plan in, the exact partition out.

    plan  ->  blocks, each taken to the end by itself  ->  sewn together  ->  labelled  ->  checked

What is wrong is never returned: a complex that breaks an invariant, or an inner edge on which no knot lies,
is an error.
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import numpy as np

from splinecam_lite.engine.blocks import run_blocks
from splinecam_lite.engine.complex import Complex, check_complex, thin_faces
from splinecam_lite.engine.exact import Decisions
from splinecam_lite.engine.finished import Finished
from splinecam_lite.engine.labels import Patterns, edge_knots
from splinecam_lite.engine.plan import Plan, Tuning, tuning_for
from splinecam_lite.engine.sewing import SeamMismatch, Sewn, sew
from splinecam_lite.errors import ComplexError

ATTEMPTS = 4
"""Times the domain is cut into other pieces before two sides of a seam that disagree are given up."""


class Block(NamedTuple):
    """The network restricted to a set of neighbouring faces.

    On face ``first_face + i``: ``r_j = D[j] @ (u, v, 1, r_1, .., r_K)`` where bit ``j`` of ``bits[i]`` is set
    and 0 where not, and ``output = output_columns.T @ (u, v, 1, r)``.
    """

    first_face: int
    n_faces: int
    knots: np.ndarray  # (K,) int64: pattern bit of each hinge
    D: np.ndarray  # (K, 3+K)
    bits: np.ndarray  # (n_faces, words) uint64
    frozen: np.ndarray  # (n_words,) uint64: the rest of the pattern
    output_columns: np.ndarray  # (3+K, n_outputs)


class EngineResult(NamedTuple):
    """The partition of the domain."""

    complex: Complex
    blocks: tuple[Block, ...]
    outputs: np.ndarray  # (V, n_outputs)
    edge_knot_ptr: np.ndarray  # (E + 1,)
    edge_knots: np.ndarray  # (n,) int64: pattern bits
    snaps: np.ndarray  # (n, 4): pattern bit, u, v, displacement
    moved: float  # largest distance over which a vertex was moved: snapped, or across a seam; chart units
    attempts: int  # times the domain was cut up
    thin: np.ndarray  # (n,) faces whose areas float64 does not tell; only exact mode lets them pass
    decisions: Decisions  # signs decided by each stage; all 0 but in exact mode


def factored_patterns(blocks: tuple[Block, ...]) -> Patterns:
    """Return the patterns of all faces as flat arrays for the kernels of `labels`."""
    return Patterns(
        first_faces=np.array([b.first_face for b in blocks] + [blocks[-1].first_face + blocks[-1].n_faces]),
        frozen=np.stack([b.frozen for b in blocks]),
        knots=np.concatenate([b.knots for b in blocks]),
        knot_ptr=np.concatenate(([0], np.cumsum([len(b.knots) for b in blocks]))),
        bits=np.concatenate([b.bits.ravel() for b in blocks]),
        bit_ptr=np.concatenate(([0], np.cumsum([b.bits.size for b in blocks]))),
    )


Made = TypeVar("Made")


def retried(make: Callable[[Tuning], Made], tuning: Tuning) -> tuple[Made, int]:
    """Cut the domain into other pieces where two sides of a seam disagree.

    Returns
    -------
    made
        What ``make`` returns for the first tuning with which no seam is at fault.
    attempts : int

    Raises
    ------
    ComplexError
        If there is always one.
    """
    for attempt in itertools.count(1):
        try:
            return make(tuning), attempt
        except SeamMismatch as mismatch:
            if attempt == ATTEMPTS:
                raise ComplexError(
                    f"{mismatch}, however the domain was cut up; move the slice a little"
                ) from mismatch
        tuning = tuning._replace(
            block_vertices=tuning.block_vertices * 4 // 3 + 1,
            piece_vertices=tuning.piece_vertices * 6 // 5 + 1,
        )
    raise AssertionError("unreachable")


def run(
    plan: Plan,
    tuning: Tuning | None = None,
    threads: int = 1,
    progress: Callable[[float], None] | None = None,
) -> EngineResult:
    """Compute the exact partition that ``plan`` makes of its domain.

    Parameters
    ----------
    plan : Plan
    tuning : Tuning, optional
        How the work is cut up; the result does not depend on it. Default: `tuning_for` the plan.
    threads : int
        Blocks worked on at once; the result does not depend on it, bit for bit.
    progress : callable, optional
        Called with the area of the domain that is finished.

    Returns
    -------
    EngineResult

    Raises
    ------
    PredicateError
        Where signs contradict each other beyond what rounding explains.
    ComplexError
        Where the result breaks an invariant of `Complex`. In exact mode the caller checks the areas of
        ``thin`` faces.
    """

    def made(tuning: Tuning) -> tuple[list[Finished], Sewn]:
        blocks = run_blocks(plan, tuning, threads, progress)
        return blocks, sew(blocks, len(plan.domain), plan.forms_of, threads)

    (finished, sewn), attempts = retried(made, tuning or tuning_for(plan))
    return assembled(plan, finished, sewn, attempts, threads)


def assembled(
    plan: Plan, finished: list[Finished], sewn: Sewn, attempts: int, threads: int = 1
) -> EngineResult:
    """Check and label what was sewn; errors as in `run`."""
    complex = sewn.complex
    snaps = np.concatenate([b.snaps for b in finished])
    moved = max(sewn.apart, float(snaps[:, 3].max(initial=0.0)))
    thin = np.empty(0, np.int64) if plan.forms_of is None else thin_faces(complex, plan.domain)
    check_complex(complex, plan.domain, moved, thin, threads)
    decisions = Decisions()
    for block in finished:
        decisions.add(block.decisions)
    blocks = tuple(
        Block(int(first), len(b.mesh.face_ptr) - 1, b.knots, b.D, b.bits, b.frozen, b.output_columns)
        for first, b in zip(sewn.first_faces[:-1], finished, strict=True)
    )
    ptr, knots = edge_knots(factored_patterns(blocks), complex.edge_faces, threads)
    unlabelled = np.flatnonzero((np.diff(ptr) == 0) & (complex.edge_side < 0))
    if len(unlabelled):
        e = int(unlabelled[0])
        raise ComplexError(f"no knot lies on edge {e}, between faces {complex.edge_faces[e].tolist()}")
    outputs = np.empty((complex.n_vertices, blocks[0].output_columns.shape[1]))
    outputs[sewn.vertex] = np.concatenate([b.outputs for b in finished])
    return EngineResult(complex, blocks, outputs, ptr, knots, snaps, moved, attempts, thin, decisions)
