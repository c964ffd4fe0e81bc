"""The proof that a partition is the true one.

The claim is a `Partition`: a complex, a pattern for each region, the knots on each edge, and float places. It
is held against the `Program` alone. The engine has no part in this: the forms come from `ExactProgram`, and
structure, signs and shapes are decided by the proof's own code.

What is true
    The function of the program's float64 constants and of the slice's, evaluated without rounding. A bit is
    set where the preactivation is above the breakpoint inside a region.

What is checked
    structure   every region's corners and edges make a cycle; every inner edge is passed by two regions in
                opposite directions, every border edge by one; the regions round a vertex are one fan; the
                border edges are one cycle that follows the domain's sides in order          `proof.structure`
    patterns    are all different, with no bit that is no knot
    labels      the knots of an inner edge are the bits in which its two patterns differ, at least one
    places      a vertex v *is* the exact crossing of two lines among those of its edges, read on one face at
                v: the zero line of a knot, or a side of the domain. All other knots of edges at v are exactly
                0 there. The float place of v is within a stated bound of it                `proof.signs`,
    signs       at every vertex, every neuron has the sign that the bit of the regions round it says, or is 0;
                and v lies in the domain                                                       `proof.exact`
    bits        a knot whose bit is set in a region is not 0 at all of its corners             `proof.faces`
    shapes      some edge of every region has all its other corners on its left, or on its line one after the
                other in its direction; the ends of every edge are two places
    regions     where the network has maxima, all this is proved of the fine partition, that of
                ``program.compared()``; and then, that the regions are its faces with one winner of
                each maximum, merged                                                 `proof.regions`

Why that suffices
    1. *Signs can be read on any face round v.* Their patterns differ only in knots of edges at v (one fan),
       and those are 0 at v: layer by layer, the values at v are the same whichever of the patterns is used.
    2. *A region's hull is in its cell.* Let H be the hull of a region's corners, s its pattern. The forms of
       s are affine, so on H those with bit 1 are >= 0 and, by *bits*, > 0 inside; those with bit 0 are <= 0.
       Layer by layer, s is the true pattern inside of H. H lies in the domain P, which is convex.
    3. *Hulls do not overlap*, because patterns differ.
    4. *A border goes round its hull once.* An edge's knot of the earliest layer has the same form on both
       sides, not flat (its bit is set on one side), of one sign on the corners of H, and 0 at both ends: so
       the edge lies on the border of H, and the cycle is a closed walk on it. By *shapes* H has an inside,
       and the walk passes the inside of one side of H once, with H on its left. So it winds once round the
       inside of H, and round nothing else.
    5. *Nothing is missing.* Inner edges cancel in pairs, so the cycles of all regions wind round a point as
       often as the border cycle does: once if it is inside of P, and else not at all. So by 4 the hulls cover
       P, and every cell is the hull of its region: another cell, or more of this one, would overlap a hull
       and have its pattern, against 2. The exact areas sum to the exact area of P.

In the default mode some incidences rest on snapping and are false in rational arithmetic. Those within the
tolerance of snapping are taken for granted and listed: the rest is proved on condition of them.
"""

import time
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from splinecam_lite.engine.interrupts import apart
from splinecam_lite.errors import ModelError
from splinecam_lite.network.exact.forms import ExactProgram
from splinecam_lite.network.ops import KnotsOp
from splinecam_lite.network.program import Program
from splinecam_lite.network.slices import Slice
from splinecam_lite.partition.approximations import in_full, same_approximation
from splinecam_lite.partition.certificate import Certificate, Decisions, Failure, SnappedIncidence
from splinecam_lite.partition.layers import approximation_of
from splinecam_lite.partition.planning import scales_of
from splinecam_lite.partition.proof.decision import DecisionProof
from splinecam_lite.partition.proof.digest import partition_digest, versions
from splinecam_lite.partition.proof.exact import side_form
from splinecam_lite.partition.proof.faces import flat_knots, shape_failures
from splinecam_lite.partition.proof.labels import (
    label_failures,
    lines_at_vertices,
    pattern_failures,
    sorted_labels,
)
from splinecam_lite.partition.proof.layout import BitLayout, Incidences, layout_of
from splinecam_lite.partition.proof.regions import boundary_failures, region_failures
from splinecam_lite.partition.proof.structure import structure_failures
from splinecam_lite.partition.proof.vertices import VertexProof
from splinecam_lite.partition.staged import Staged, shown_boundary, with_program

if TYPE_CHECKING:
    from splinecam_lite.partition.result import Partition

MOST_FAILURES = 100
"""Failures that a certificate lists."""

DIFFERENT = "the network is another one than the partition was made from: digests differ"

PROVED = (
    "every region's polygon is the whole cell of its activation pattern",
    "no cell is missing: the regions cover the domain, and their exact areas sum to its exact area",
    "the knots of every edge are those in which its two regions differ; border edges lie on the domain's",
    "every vertex lies within its stated bound of the exact crossing of two of its knots",
)


@apart
def certify(
    partition: "Partition", model: nn.Module | Program | None = None, *, decision: bool = True
) -> Certificate:
    """Prove that a partition is the true one, or say what is wrong with it.

    Parameters
    ----------
    partition : Partition
    model : nn.Module or Program, optional
        The network. Default: the program that the partition was made from; one that was read from a file has
        none.
    decision : bool
        Prove the decision boundary as well.

    Returns
    -------
    Certificate
        ``failures`` is empty if everything was proved; ``raise_if_failed`` makes an error of them.

    Raises
    ------
    ModelError
        If there is no model, or it is not piecewise linear, or cannot be evaluated exactly. Another model
        than the one that was partitioned is no error but a failure, ``model``.

    Examples
    --------
    >>> from splinecam_lite.partition.partition import partition
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)).eval()
    >>> certify(partition(model, Slice.box(-1, 1))).status
    'proved'
    """
    begin = time.perf_counter()
    program = _program_of(partition, model)
    program.require_piecewise_linear()
    if partition.program is None and program.digest() == partition.model_digest:
        partition = with_program(partition, program)  # the decision of exact mode reads it
    with torch.inference_mode():
        proof = _proof_of(partition, program, decision)
    plane = partition.plane
    return Certificate(
        failures=tuple(proof.failures[:MOST_FAILURES]),
        n_failures=len(proof.failures),
        snapped=tuple(proof.snapped),
        proved=() if proof.failures else tuple(proof.proved),
        n_regions=partition.n_regions,
        n_vertices=partition.n_vertices,
        n_edges=partition.n_edges,
        n_neurons=sum(program.n_neurons),
        n_decision_faces=proof.n_decision_faces,
        decisions=proof.decisions,
        decide=partition.decide,
        largest_place_error=_finite(proof.bounds),
        area=str(_exact_area(plane)),
        model_digest=program.digest(),
        slice_digest=plane.digest(),
        partition_digest=partition_digest(partition),
        versions=versions(),
        seconds=time.perf_counter() - begin,
        approximation=in_full(partition.report.approximated),
        place_bounds=proof.bounds,
    )


def _proof_of(partition: "Partition", program: Program, decision: bool) -> "_Proof":
    """Prove a partition; of a staged one, the fine partition first, and then what was merged."""
    staged = getattr(partition, "staged", None)
    if staged is None:
        if program.compared() is not program:
            return _Proof(partition, program, decision).failed(
                Failure("model", "the network has maxima, but the partition is none of merged regions")
            )
        proof = _Proof(partition, program, decision)
        proof.run()
        return proof
    fine, compared = staged.fine, program.compared()
    proof = _Proof(fine, compared, decision)
    if program.digest() != partition.model_digest:
        return proof.failed(Failure("model", DIFFERENT))
    proof.run()
    proof.failures = [_on_regions(failure, partition, staged) for failure in proof.failures]
    vertex_of = np.full(fine.n_vertices, -1)
    if not proof.failures:
        proof.failures = region_failures(partition, program, layout_of(compared))
    if not proof.failures:
        vertex_of[staged.vertex] = np.arange(partition.n_vertices)
        if decision:
            shown = partition.decision_boundary()
            proof.failures = boundary_failures(shown, shown_boundary(partition), fine.decision_boundary())
            proof.n_decision_faces = shown.complex.n_faces
        proof.snapped = [
            replace(s, vertex=int(vertex_of[s.vertex]) if s.vertex < fine.n_vertices else -1)
            for s in proof.snapped
        ]
        proof.bounds = None if proof.bounds is None else proof.bounds[staged.vertex]
        proof.proved.append(
            "the regions are the faces of the fine partition with the same winners of all maxima, merged"
        )
    return proof


def _on_regions(failure: Failure, partition: "Partition", staged: Staged) -> Failure:
    """Say what is wrong with the fine partition in terms of regions, as far as there are such."""
    names = [f"fine {name} {value}" for name in ("region", "vertex", "edge")
             if (value := getattr(failure, name)) is not None]  # fmt: skip
    region = None if failure.region is None else int(staged.region_of[failure.region])
    where = f" ({', '.join(names)})" if names else ""
    return replace(failure, message=failure.message + where, region=region, vertex=None, edge=None)


def _finite(bounds: np.ndarray | None) -> float | None:
    """The largest of the bounds on places; None where there is none, or one is not finite."""
    if bounds is None or not np.isfinite(bounds).all():
        return None
    return float(bounds.max(initial=0.0))


class _Proof:
    """One run of the proof: each step assumes the earlier ones, so the first that fails is the last."""

    def __init__(self, partition: "Partition", program: Program, decision: bool):
        self.partition, self.program, self.decision = partition, program, decision
        self.failures: list[Failure] = []
        self.snapped: list[SnappedIncidence] = []
        self.proved: list[str] = []
        self.decisions = Decisions()
        self.bounds: np.ndarray | None = None
        self.n_decision_faces = 0

    def failed(self, failure: Failure) -> "_Proof":
        """The proof that has come to this, before anything else was looked at."""
        self.failures = [failure]
        return self

    def run(self) -> None:
        layout = layout_of(self.program)
        self.failures = _claim_failures(self.partition, self.program, layout)
        if not self.failures:
            self.failures = structure_failures(self.partition.complex, len(self.partition.plane.domain))
        if not self.failures:
            self.failures = pattern_failures(self.partition, layout)
        if not self.failures:
            labels = sorted_labels(self.partition, layout)
            self.failures = label_failures(self.partition, labels)
            if not self.failures:
                self._vertices(layout, labels)
        if not self.failures:
            self.proved += PROVED

    def _vertices(self, layout: BitLayout, labels: Incidences) -> None:
        partition = self.partition
        lines = lines_at_vertices(partition.complex, labels, layout.n_bits)
        exact = ExactProgram.on_slice(self.program, partition.plane)
        scales = line_scales(self.program, partition, layout)
        may_snap = not getattr(partition, "exact", False)
        proof = VertexProof(partition, exact, layout, labels, lines, scales, may_snap, self.decision)
        proof.run()
        self.failures, self.snapped, self.bounds = proof.failures, proof.snapped, proof.bounds
        self.decisions = proof.decisions
        if self.failures:
            return
        shapes, single, rational = shape_failures(
            partition.complex, proof.place, proof.rho, proof.exact_points
        )
        self.decisions += Decisions(float64=single, rational=rational)
        self.failures += shapes + _bit_failures(partition, layout, proof.zeros())
        if self.decision and not self.failures:
            self._decision(proof)

    def _decision(self, proof: VertexProof) -> None:
        boundary = self.partition.decision_boundary()
        decided = DecisionProof(proof, boundary, self.partition.decide)
        decided.run()
        self.failures += decided.failures
        self.snapped += decided.snapped
        self.decisions += decided.decisions
        self.n_decision_faces = boundary.complex.n_faces
        self.proved.append(
            "the class of every part of every region, and so the decision boundary and its cells"
        )


def _program_of(partition: "Partition", model: nn.Module | Program | None) -> Program:
    """The network as a float64 program."""
    if model is None:
        model = getattr(partition, "program", None)
        if model is None:
            raise ModelError(
                "a partition that was read from a file does not hold its network; give it: certify(model)"
            )
    if isinstance(model, nn.Module):
        model = Program.from_module(model, partition.plane.input_shape)
        return same_approximation(model, partition.layers)
    if not isinstance(model, Program):
        raise ModelError(f"model is a {type(model).__name__}; pass an nn.Module, or a Program")
    exact = model.dtype == torch.float64 and model.device.type == "cpu"
    return model if exact else model.to(torch.float64, "cpu")


def _claim_failures(partition: "Partition", program: Program, layout: BitLayout) -> list[Failure]:
    """Return what shows before anything is proved: another network, another layout, a domain not convex."""
    program.require_piecewise_linear()
    if program.digest() != partition.model_digest:
        return [Failure("model", DIFFERENT)]
    if program.input_shape != partition.plane.input_shape:
        return [Failure("model", f"the network takes {program.input_shape}, the slice has another shape")]
    approximations = [approximation_of(op) for op in program.pattern_ops]
    if [layer.approximation for layer in partition.layers] != approximations:
        return [Failure("model", "the partition names other approximations than the network has")]
    claimed = [(layer.first_bit, layer.n_breakpoints, layer.n_neurons) for layer in partition.layers]
    if claimed != [tuple(row) for row in program.pattern_layout]:
        return [Failure("model", "the layers of the partition are not those of the network")]
    first = 0
    for block in partition.blocks:
        words = -(-len(block.knots) // 64)
        if block.first_face != first or block.bits.shape != (block.n_faces, words):
            return [Failure("patterns", "the blocks do not make up the regions")]
        if block.frozen.shape != (layout.n_bits // 64,) or (block.knots >= layout.n_bits).any():
            return [Failure("patterns", "a block has other bits than the network")]
        first += block.n_faces
    if first != partition.n_regions:
        return [Failure("patterns", f"the blocks have {first} regions, not {partition.n_regions}")]
    n_edges, knots = partition.n_edges, partition.edge_knots
    ptr = partition.edge_knot_ptr
    sound = (
        ptr.shape == (n_edges + 1,) and ptr[0] == 0 and ptr[-1] == len(knots) and (np.diff(ptr) >= 0).all()
    )
    if not sound or knots.shape != (len(knots), 3):
        return [Failure("labels", "the lists of knots of the edges do not fit together")]
    if len(knots):
        layer, neuron, point = knots.T
        known = (layer >= 0) & (layer < len(claimed)) & (neuron >= 0) & (point >= 0)
        layer = np.where(known, layer, 0)
        known &= (neuron < layout.n_neurons[layer]) & (point < layout.n_breakpoints[layer])
        if not known.all():
            return [Failure("labels", f"there is no knot {knots[np.flatnonzero(~known)[0]].tolist()}")]
    return _domain_failures(partition.plane.domain)


def _domain_failures(domain: np.ndarray) -> list[Failure]:
    """Return a failure unless the domain is strictly convex and counter-clockwise, in exact arithmetic."""
    forms = [side_form(p, q) for p, q in zip(domain, np.roll(domain, -1, axis=0), strict=True)]
    n = len(domain)
    for i, (a, b, c) in enumerate(forms):
        u, v = (Fraction(float(x)) for x in domain[(i + 2) % n])
        if a * u + b * v + c <= 0:
            return [Failure("domain", f"it is not convex at corner {(i + 1) % n}")]
    # All turns are to the left, so the border goes round once or several times: a whole number of turns.
    along = np.roll(domain, -1, axis=0) - domain
    heading = np.arctan2(along[:, 1], along[:, 0])
    turns = np.mod(np.roll(heading, -1) - heading, 2 * np.pi).sum()
    return [] if abs(turns - 2 * np.pi) < 1 else [Failure("domain", "its border goes round more than once")]


def _bit_failures(partition: "Partition", layout: BitLayout, zeros: Incidences) -> list[Failure]:
    """Return the knots that are 0 on a whole region where their bit is set."""
    pairs = flat_knots(partition.complex, zeros)
    failures = []
    for face, knot in pairs.tolist():
        if knot >= layout.n_bits:
            failures.append(Failure("shape", "it lies on a side of the domain", region=face))
        elif partition.patterns([face])[0, knot >> 6] >> np.uint64(knot & 63) & np.uint64(1):
            message = "it is on its breakpoint on the whole region, but its bit is set"
            failures.append(Failure("bit", message, region=face, knot=layout.name(knot)))
    return failures


def line_scales(program: Program, partition: "Partition", layout: BitLayout) -> np.ndarray:
    """Return for each line the unit in which snapping is measured; see `Codes` for the order.

    That of its preactivation (`planning.scales_of`), and at least the breakpoint; for a tie, twice
    what the largest of the outputs adds up to; 0 for a side of the domain, which is never snapped.
    """
    plane = partition.plane
    scales = np.zeros(layout.n_bits)
    knots = [op for op in program.ops if isinstance(op, KnotsOp)]
    units, outputs = scales_of(program, plane)
    for first, n, op, unit in zip(layout.first, layout.n_neurons, knots, units, strict=True):
        for j, breakpoint_ in enumerate(op.breakpoints):
            point = breakpoint_.broadcast_to(program.shapes[op.inputs[0]]).flatten().abs().numpy()
            scales[first + j * n : first + (j + 1) * n] = np.maximum(unit, point)
    ties = np.full(partition.n_outputs**2, 2.0 * float(outputs.max()))
    return np.concatenate((scales, np.zeros(len(plane.domain)), ties))


def _exact_area(plane: Slice) -> Fraction:
    """Area of the domain, from the float64 coordinates of its corners, without rounding."""
    corners = [(Fraction(float(u)), Fraction(float(v))) for u, v in plane.domain]
    pairs = zip(corners, corners[1:] + corners[:1], strict=True)
    return sum((p[0] * q[1] - p[1] * q[0] for p, q in pairs), Fraction(0)) / 2
