"""What exactness costs: exact mode against the default, the certificate against one forward pass.

    python benchmarks/bench_exact.py --only 2-256x4-1 digits convnet --json results.json

Per workload the default mode, exact mode, one float64 forward pass over the vertices and the certificate run
in turn in this one process, on one thread, after the kernels are compiled; the table has the fastest of each.
Peak memory is that of the process, before and after the certificate. Prints a Markdown table.
"""

import json
import resource
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import tyro
from bench_engine import Settings as EngineSettings
from bench_engine import machine, seconds_text, timed
from peers import as_float64, fastest_batch_size, forward_pass
from threadpoolctl import threadpool_limits
from workloads import WORKLOADS, Workload

from splinecam_lite import Program, partition


@dataclass(frozen=True)
class Settings:
    """What to run."""

    only: tuple[str, ...] = ("2-256x4-1", "digits", "convnet", "integers")
    """Workloads by name."""
    repeat: int = 3
    """Runs of each."""
    json: Path | None = None
    """Also write every figure to this file."""


@dataclass
class Row:
    """Every figure of one workload; seconds, MB (10^6 bytes)."""

    name: str
    what: str
    regions: int = 0
    default_s: list[float] = field(default_factory=list)
    exact_s: list[float] = field(default_factory=list)
    forward_s: list[float] = field(default_factory=list)
    certificate_s: list[float] = field(default_factory=list)
    exact_decisions: dict[str, int] = field(default_factory=dict)
    certificate_decisions: dict[str, int] = field(default_factory=dict)
    status: str = ""
    partition_mb: float = 0.0
    certificate_mb: float = 0.0


def peak_mb() -> float:
    """Largest resident set of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def measure(workload: Workload, repeat: int) -> Row:
    """Run one workload, each contender in turn."""
    row = Row(workload.name, workload.what)
    model, plane = workload.build()
    program = Program.from_module(model, plane.input_shape)
    as_module = as_float64(model)
    for exact in (False, True):
        partition(program, plane, exact=exact, threads=1)  # compiles what this workload needs
    for turn in range(repeat):
        row.default_s.append(timed(partition, program, plane, threads=1)[0])
        seconds, part = timed(partition, program, plane, exact=True, threads=1)
        row.exact_s.append(seconds)
        if turn == 0:
            batch = fastest_batch_size(as_module, plane, part.vertices)
            row.partition_mb = peak_mb()
            part.certify()  # compiles
            row.certificate_mb = peak_mb()
        row.forward_s.append(forward_pass(as_module, plane, part.vertices, batch)[0])
        seconds, certificate = timed(part.certify)
        row.certificate_s.append(seconds)
    report = part.report
    row.regions, row.status = part.n_regions, certificate.status
    row.exact_decisions = {s: getattr(report, s) for s in ("float64", "double_double", "rational")}
    row.certificate_decisions = asdict(certificate.decisions)
    return row


def table(rows: list[Row]) -> str:
    """The rows as a Markdown table."""
    head = (
        "| workload | regions | default s | exact s | exact / default | forward s | certificate s "
        "| certificate / forward | signs in exact mode | signs in the certificate | MB |"
    )
    lines = [head, "|---|" + "---:|" * (head.count("|") - 2)]
    for row in rows:
        default, exact, forward, proof = map(
            min, (row.default_s, row.exact_s, row.forward_s, row.certificate_s)
        )
        signs = (
            ", ".join(f"{stage} {n:,}" for stage, n in decided.items() if n)
            for decided in (row.exact_decisions, row.certificate_decisions)
        )
        cells = [
            f"{row.name}: {row.what}", f"{row.regions:,}", seconds_text(default), seconds_text(exact),
            f"{exact / default:.2f}", seconds_text(forward), f"{seconds_text(proof)} ({row.status})",
            f"{proof / forward:.2f}", *signs, f"{row.partition_mb:.0f}, then {row.certificate_mb:.0f}",
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(settings: Settings) -> None:
    """Run what the settings name, print the table as it grows, write the figures."""
    known = {workload.name: workload for workload in WORKLOADS}
    unknown = set(settings.only) - set(known)
    if unknown:
        raise SystemExit(f"no workload {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    rows: list[Row] = []
    with threadpool_limits(1):
        for name in settings.only:
            rows.append(measure(known[name], settings.repeat))
            print(table(rows[-1:]).splitlines()[-1], flush=True)
    print("\n" + table(rows))
    if settings.json:
        figures: dict[str, Any] = {
            "machine": machine(EngineSettings()),
            "rows": [asdict(row) for row in rows],
        }
        settings.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
