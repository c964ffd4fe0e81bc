"""Wrong mergings of a right fine partition, and certificates that have to reject them."""

from dataclasses import replace

import numpy as np
import pytest

from splinecam_lite import Partition, partition
from splinecam_lite.engine.comparisons import Comparisons
from splinecam_lite.engine.complex import OUTER
from splinecam_lite.engine.merge import join_faces
from splinecam_lite.partition.layers import decode, encode
from splinecam_lite.partition.staged import Staged, shown
from tests.partition import mutants
from tests.partition.test_max import network

NAMES = ("2 x 2", "3 x 3, stride 2, padded", "maxout", "1-D, no activation")


@pytest.fixture(scope="module", params=NAMES)
def part(request) -> Partition:
    found = partition(*network(request.param, "generic"))
    assert found.certify().status == "proved"
    assert found.staged.fine.n_regions > found.n_regions
    return found


def merged_otherwise(part: Partition, dropped: np.ndarray) -> Partition:
    """The partition with other fine edges dropped, as consistent with itself as can be."""
    staged, fine = part.staged, part.staged.fine
    joined = join_faces(fine.complex, dropped)
    bits = encode(fine.layers, fine.edge_knots)
    pieces = [bits[slice(*fine.edge_knot_ptr[e : e + 2])] for e in joined.edge]
    other = Staged(fine, staged.comparisons, joined.face_of, joined.face, joined.vertex, joined.edge_of)
    return replace(
        part,
        complex=joined.complex,
        outputs=fine.outputs[joined.vertex],
        edge_knot_ptr=np.concatenate(([0], np.cumsum([len(p) for p in pieces]))),
        edge_knots=decode(fine.layers, np.concatenate(pieces)),
        thin_regions=np.empty(0, np.int64),
        thin_areas=np.empty(0),
        staged=other,
    )


def inside(part: Partition) -> np.ndarray:
    """Which fine edges were dropped."""
    return part.staged.edge_of < 0


def rejected(mutant: Partition) -> None:
    certificate = mutant.certify(decision=False)
    assert certificate.failures
    assert {failure.fact for failure in certificate.failures} <= {
        "regions",
        "patterns",
        "labels",
        "structure",
    }


def test_a_border_that_was_dropped(part):
    """Two regions of different winners or activations as one."""
    fine = part.staged.fine.complex
    kept = np.flatnonzero(~inside(part) & (fine.edge_faces != OUTER).all(axis=1))
    for edge in np.random.default_rng(0).choice(kept, 8):
        sides = np.sort(part.staged.region_of[fine.edge_faces[edge]])
        between = np.sort(part.staged.region_of[fine.edge_faces], axis=1)
        rejected(merged_otherwise(part, inside(part) | ((between == sides).all(axis=1) & ~_border(part))))


def _border(part: Partition) -> np.ndarray:
    return (part.staged.fine.complex.edge_faces == OUTER).any(axis=1)


def test_a_border_between_losers_that_was_kept(part):
    """One region of several fine faces as one for each of them."""
    fine = part.staged.fine.complex
    several = np.flatnonzero(np.bincount(part.staged.region_of) > 1)
    for region in np.random.default_rng(0).choice(several, 4):
        own = (part.staged.region_of[fine.edge_faces] == region).all(axis=1)
        rejected(merged_otherwise(part, inside(part) & ~own))


def test_a_face_of_another_region(part):
    rng = np.random.default_rng(0)
    for _ in range(8):
        region_of = part.staged.region_of.copy()
        face = int(rng.integers(len(region_of)))
        region_of[face] = rng.choice(np.setdiff1d(np.arange(part.n_regions), region_of[face]))
        rejected(replace(part, staged=replace(part.staged, region_of=region_of)))


def test_two_regions_exchanged(part):
    rng = np.random.default_rng(0)
    for _ in range(4):
        f, g = rng.choice(part.n_regions, 2, replace=False)
        swapped = part.staged.face.copy()
        swapped[[f, g]] = swapped[[g, f]]
        rejected(replace(part, staged=replace(part.staged, face=swapped)))


def test_labels_and_places(part):
    rng = np.random.default_rng(0)
    rejected(mutants.swap_one_label(part, rng))
    ptr = part.edge_knot_ptr.copy()
    ptr[1 + int(np.diff(ptr).argmax()) :] -= 1
    rejected(replace(part, edge_knot_ptr=ptr, edge_knots=part.edge_knots[:-1]))
    xy = part.complex.xy.copy()
    xy[int(rng.integers(len(xy)))] += 1e-6
    rejected(replace(part, complex=part.complex._replace(xy=xy)))
    outputs = part.outputs.copy()
    outputs[int(rng.integers(len(outputs))), 0] += 1e-6
    rejected(replace(part, outputs=outputs))


def test_a_corner_that_was_passed_by(part):
    """A region without one of its corners, which its neighbours have."""
    complex = part.complex
    region = int(np.diff(complex.face_ptr).argmax())
    start = complex.face_ptr[region]
    ptr = complex.face_ptr.copy()
    ptr[region + 1 :] -= 1
    cut = complex._replace(
        face_ptr=ptr,
        face_vertex=np.delete(complex.face_vertex, start),
        face_edge=np.delete(complex.face_edge, start),
    )
    rejected(replace(part, complex=cut))


@pytest.mark.parametrize("mutation", [mutants.change_class, mutants.swap_regions_of_parts])
def test_the_decision_boundary_on_regions(part, mutation):
    tried = 0
    for start in range(4):
        mutant = mutation(part, np.random.default_rng(start))
        if mutant is not None:
            tried += 1
            assert {failure.fact for failure in mutant.certify().failures} == {"decision"}
    assert tried or part.decision_boundary().length == 0


def test_a_tournament_that_is_read_wrongly(part):
    """To take results for inner rounds merges too much; to take all rounds for results too little."""
    right, digest = part.staged.comparisons, part.model_digest
    for top in (np.zeros_like(right.top), np.ones_like(right.top)):
        wrong = Comparisons(*right._replace(top=top))
        mutant = shown(part.staged.fine, wrong, digest, part.program)
        if mutant.n_regions != part.n_regions:
            rejected(mutant)


def test_another_network(part):
    program, plane = network("2 x 2", "integers")
    other = partition(program, plane)
    assert [failure.fact for failure in part.certify(program).failures] == [
        "model"
    ] or program is part.program
    mutant = replace(part, staged=other.staged)
    assert mutant.certify(decision=False).failures
    unstaged = replace(part, staged=None)
    assert [failure.fact for failure in unstaged.certify(decision=False).failures] == ["model"]
