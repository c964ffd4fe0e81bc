"""A certificate that can fail: every wrong partition is rejected, whatever the single change."""

from collections import Counter
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings

from splinecam_lite import Program, Slice, partition
from splinecam_lite.partition.certify import certify
from tests.agreement import slice_of
from tests.partition import mutants
from tests.partition.networks import cases, compute, mlp, tunings
from tests.partition.test_degenerate_cases import BOX, concurrent_lines, lines_network

FEW, MANY = 25, 300
"""Partitions in a quick and in a full run; a class makes one mutant of each, until it has `ENOUGH`."""

ENOUGH = 200

MUTATIONS = {
    "drop a region": mutants.drop_region,
    "merge two": mutants.merge_regions,
    "flip one pattern bit": mutants.flip_bit,
    "exchange the knots of two neurons": mutants.swap_label,
    "swap the label of one edge": mutants.swap_one_label,
    "shrink the domain": mutants.shrink_domain,
    "exchange two neighbours": mutants.exchange_neighbours,
    "change the class of a part": mutants.change_class,
    "move the decision boundary": mutants.move_boundary,
    "exchange the regions of two parts": mutants.swap_regions_of_parts,
}


def kill(n: int, start: int) -> tuple[Counter[str], Counter[str], list[str]]:
    """Make mutants of ``n`` random partitions; return how many were killed, were equivalent, and survived."""
    killed, equivalent, alive = Counter(), Counter(), []
    rng = np.random.default_rng(start)

    @seed(start)
    @settings(max_examples=n, database=None, deadline=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(cases, tunings)
    def run(case, tuning):
        part, program = compute(case, tuning), case.program()
        original = certify(part, program)
        if not original.holds:
            return
        moved = {"move a vertex": mutants.move_vertex(original.place_bounds)}
        for name, mutation in {**MUTATIONS, **moved}.items():
            if killed[name] >= ENOUGH:
                continue
            mutant = mutation(part, rng)
            if mutant is None:
                equivalent[name] += 1
            elif certify(mutant, program).holds:
                alive.append(f"{name}: {case}")
            else:
                killed[name] += 1

    run()
    return killed, equivalent, alive


def test_every_mutant_is_rejected():
    killed, _, alive = kill(FEW, 0)
    assert not alive, alive[0]
    assert set(killed) >= set(MUTATIONS)


@pytest.mark.slow
def test_every_mutant_of_many_is_rejected():
    """At least 200 of each class, but for the boundary's, which not every partition has."""
    killed, equivalent, alive = kill(MANY, 1)
    assert not alive, alive[0]
    for name in {*MUTATIONS, "move a vertex"} - {"move the decision boundary"}:
        assert killed[name] >= ENOUGH, (name, killed[name], equivalent[name])


@pytest.mark.slow
def test_every_weight_off_by_one_ulp_is_told_by_the_digest():
    model = mlp(2, 8, 8, 2)
    part = partition(model, Slice.box(-1, 1), threads=1)
    rng = np.random.default_rng(0)
    for _ in range(200):
        parameter = list(model.parameters())[rng.integers(6)].data.view(-1)
        at = int(rng.integers(len(parameter)))
        before = parameter[at].clone()
        parameter[at] = torch.nextafter(before, before + (1 if rng.integers(2) else -1))
        failures = part.certify(Program.from_module(model, (2,))).failures
        assert [failure.fact for failure in failures] == ["model"]
        parameter[at] = before
    assert part.certify(model).holds


# ---- one mutant, one message ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mutation", "facts"),
    [
        (mutants.drop_region, {"border", "structure", "place", "labels", "sign"}),
        (mutants.merge_regions, {"structure", "place", "incidence", "labels"}),
        (mutants.flip_bit, {"patterns", "place", "incidence", "sign"}),
        (mutants.swap_one_label, {"labels"}),
        (mutants.shrink_domain, {"place", "sign"}),
        (mutants.change_class, {"decision"}),
    ],
)
def test_a_failure_names_what_is_wrong(mutation, facts):
    part = partition(mlp(2, 12, 12, 3), Slice.box(-1, 1), threads=1)
    for start in range(5):
        mutant = mutation(part, np.random.default_rng(start))
        assert mutant is not None
        first = mutant.certify(mlp(2, 12, 12, 3)).failures[0]
        assert first.fact in facts
        assert first.fact == "border" or any(x is not None for x in (first.region, first.vertex, first.edge))
        assert first.knot is not None or first.fact not in ("sign", "incidence", "bit")


@pytest.mark.parametrize(
    "lines",
    [
        [(1, -1, 0), (3, 5, 0.125)],  # through two corners of the domain
        [(1, 0, 0), (0, 1, 0), (16384, 16384, 0)],  # of very different scales
        concurrent_lines(Fraction(3, 10), Fraction(1, 5), 5),  # snapped together
    ],
    ids=["corner", "scales", "snapped"],
)
def test_no_vertex_may_be_moved_by_taking_other_lines_for_it(lines):
    """Whichever two of several lines define a vertex, its bound is about the same."""
    part = partition(lines_network(lines), slice_of(BOX))
    bounds = part.certify().place_bounds
    for v, bound in enumerate(bounds):
        for angle in np.linspace(0, 2 * np.pi, 5):
            xy = part.complex.xy.copy()
            xy[v] += 1000 * bound * np.array([np.cos(angle), np.sin(angle)])
            moved = replace(part, complex=part.complex._replace(xy=xy)).certify(decision=False)
            assert {failure.fact for failure in moved.failures} == {"place"}
