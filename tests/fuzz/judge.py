"""What has to hold for a case: partitions, certificates, and the oracle where it is small enough."""

import time
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from splinecam_lite import Partition, Program, partition
from splinecam_lite.engine.complex import OUTER
from splinecam_lite.errors import ComplexError, PredicateError
from splinecam_lite.partition.certificate import Certificate
from tests.agreement import ROUNDING
from tests.fuzz.cases import Case
from tests.fuzz.oracle import patterns_of, rows_of, truth
from tests.oracles import ExactPartition, Pattern, area

ORACLE_SIZE = 12_000
"""Regions times neurons up to which the oracle is asked: it takes about four seconds then."""

MOST_LINES = 6
"""Lines of a certificate that are shown."""

STAGES = ("bounded", "float64", "double_double", "rational")


@dataclass
class Verdict:
    """What was found about a case; it holds if nothing was ``wrong``."""

    kinds: dict[str, str]
    wrong: list[str] = field(default_factory=list)
    facts: Counter = field(default_factory=Counter)
    engine: Counter = field(default_factory=Counter)
    certificate: Counter = field(default_factory=Counter)
    seconds: Counter = field(default_factory=Counter)
    regions: int = 0


def judge(case: Case) -> Verdict:
    """Compute a case in exact and in default mode, prove both, and hold them against the oracle."""
    verdict = Verdict(case.kinds)
    program = case.program()

    exact = _computed(verdict, case, program, "exact")
    if exact is None:
        return verdict
    verdict.regions = exact.n_regions
    verdict.engine.update({stage: getattr(exact.report, stage) for stage in STAGES[1:]})
    verdict.facts["with thin regions"] += len(exact.thin_regions) > 0
    if exact.report.n_snaps:
        verdict.wrong.append(f"exact mode snapped {exact.report.n_snaps} times")
    _prove(verdict, exact, "exact")

    default, status = _computed(verdict, case, program, "default"), ""
    if default is not None:
        certificate = _prove(verdict, default, "default")
        status = certificate.status
        unknown = set(patterns_of(default)) - set(patterns_of(exact))
        if status == "proved" and (unknown or default.n_regions != exact.n_regions):
            verdict.wrong.append("both modes are proved, but their regions differ")
        if status == "not proved" and unknown:
            verdict.facts["default rightly rejected"] += 1
        elif status == "not proved":
            verdict.wrong += [
                f"default mode, all of whose regions exist: {f}" for f in certificate.failures[:3]
            ]
        verdict.facts["default without snaps"] += default.report.n_snaps == 0
        verdict.facts["default is another partition"] += default.n_regions != exact.n_regions

    n_neurons = sum(layer.n_neurons * layer.n_breakpoints for layer in exact.layers)
    if max(exact.n_regions, 4) * n_neurons <= ORACLE_SIZE:
        begin = time.perf_counter()
        true = truth(program, case.plane)
        verdict.wrong += [f"exact mode: {what}" for what in differences(exact, true)]
        if status == "proved":
            found = differences(default, true, certificate.largest_place_error)
            verdict.wrong += [f"default mode, proved: {what}" for what in found]
            verdict.facts["default held against the oracle"] += 1
        verdict.facts["held against the oracle"] += 1
        verdict.seconds["oracle"] = time.perf_counter() - begin
    return verdict


def _computed(verdict: Verdict, case: Case, program: Program, mode: str) -> Partition | None:
    """The partition, or None where the library says that float64 does not suffice.

    The default mode may say so of any case. Exact mode, whose places and outputs are float64 as well, may
    where branches of 1e10 cancel.
    """
    begin = time.perf_counter()
    try:
        return partition(
            program, case.plane, exact=mode == "exact", threads=case.threads, _tuning=case.tuning
        )
    except (PredicateError, ComplexError) as error:
        if mode == "exact" and not ("cancel" in str(error) and "rescaled" in case.kinds["made worse"]):
            raise
        verdict.facts[f"{mode} mode refused ({type(error).__name__})"] += 1
        return None
    finally:
        verdict.seconds[mode] = time.perf_counter() - begin


def _prove(verdict: Verdict, part: Partition, mode: str) -> Certificate:
    """The certificate; that of exact mode must hold. Whether the default's should, `judge` tells."""
    begin = time.perf_counter()
    certificate = part.certify()
    verdict.seconds[f"{mode} certificate"] = time.perf_counter() - begin
    verdict.certificate.update(dict(zip(STAGES, certificate.decisions.counts(), strict=True)))
    verdict.facts[f"{mode} {certificate.status}"] += 1
    if mode == "exact" and certificate.status != "proved":
        said = str(certificate).split("\n")
        verdict.wrong.append(f"certificate of {mode} mode: " + "\n".join(said[:MOST_LINES]))
    return certificate


# ---- against the oracle --------------------------------------------------------------------------


def differences(part: Partition, true: ExactPartition, place_error: float = 0.0) -> list[str]:
    """How a partition differs from the truth: regions, borders, areas, the three counts.

    Vertices may be off by ``place_error``, besides what float64 numbers of their size are rounded by.
    """
    patterns, areas = patterns_of(part), true.areas()
    if len(patterns) != len(areas) or set(patterns) != set(areas):
        missing, extra = set(areas) - set(patterns), set(patterns) - set(areas)
        sizes = [f"{float(areas[p]):.1e}" for p in list(missing)[:5]]
        return [
            f"{len(patterns)} activation regions, of {len(areas)} {len(missing)} are missing "
            f"(areas {', '.join(sizes)}), {len(extra)} too many"
        ]
    found = []
    expected = np.array([float(areas[pattern]) for pattern in patterns])
    off = np.abs(part.areas() - expected)
    perimeter = 2 * float(np.ptp(part.plane.domain, axis=0).sum())
    if off.max() > ROUNDING * expected.sum() + _rounding_of_areas(part) + place_error * perimeter:
        worst = int(off.argmax())
        found.append(f"region {worst} has area {part.areas()[worst]!r}, not {expected[worst]!r}")
    if part.exact:
        relative = np.abs(part.areas()[part.thin_regions] / expected[part.thin_regions] - 1)
        if relative.max(initial=0.0) > 1e-12:
            found.append(f"a thin region's area is off by {relative.max():.1e} of it")
    borders, labelled = true.adjacency(), dict(_labelled_borders(part, patterns))
    if set(borders) != set(labelled):
        found.append(f"{len(labelled)} pairs of neighbours, not {len(borders)}")
    elif borders != labelled:
        found.append("knots on borders differ")
    return found + _count_differences(part, true)


def _count_differences(part: Partition, true: ExactPartition) -> list[str]:
    found = []
    if part.n_linear_regions != (n := true.n_linear_regions()):
        found.append(f"{part.n_linear_regions} linear regions, not {n}")
    return found + (_decision_differences(part, true) if part.exact else [])


def _decision_differences(part: Partition, true: ExactPartition) -> list[str]:
    """Decision cells, and the area of each class."""
    boundary, decision = part.decision_boundary(), true.decision()
    if boundary.n_cells != decision.n_connected:
        return [f"{boundary.n_cells} decision cells, not {decision.n_connected}"]
    areas = np.zeros(len(boundary.labels))
    for cell, winner in zip(decision.cells, decision.winners, strict=True):
        areas[winner] += float(area(cell))
    off = np.abs(boundary.class_areas - areas).max()
    if off > ROUNDING * areas.sum() + _rounding_of_areas(part):
        return [f"the area of a class is off by {off:.1e} of {areas.sum():.1e}"]
    return []


def _rounding_of_areas(part: Partition) -> float:
    """What an area may be off because corners are rounded to float64: it tells far from the origin."""
    domain = part.plane.domain
    return 2.0**-44 * np.abs(domain).max() * float(np.ptp(domain, axis=0).sum())


def _labelled_borders(part: Partition, patterns: list[Pattern]):
    """Yield for each inner edge the patterns of its regions, and the (row, neuron) of the knots on it."""
    row_of, n_rows = {}, 0
    for layers in rows_of(part):
        row_of |= dict.fromkeys(layers, n_rows)
        n_rows += 1 if part.layers[layers[0]].kind == "max" else part.layers[layers[0]].n_breakpoints
    for edge, (left, right) in enumerate(part.complex.edge_faces):
        if OUTER not in (left, right):
            rows = part.edge_knots[part.edge_knot_ptr[edge] : part.edge_knot_ptr[edge + 1]]
            knots = set()
            for layer, neuron, point in rows.tolist():
                row = row_of[layer]
                if part.layers[layer].kind == "max":  # some comparison, where the winner of a window changes
                    changes = enumerate(zip(patterns[left][row], patterns[right][row], strict=True))
                    knots |= {(row, window) for window, (a, b) in changes if a != b} or {(row, -1)}
                else:
                    knots.add((row + point, neuron))
            yield frozenset((patterns[left], patterns[right])), knots
