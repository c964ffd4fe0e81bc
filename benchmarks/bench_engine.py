"""The engine against RegionCam and against one float64 forward pass over its own vertices.

    python benchmarks/bench_engine.py --only 2-128x4-1 digits --threads 1 --repeat 5 --json results.json

Per workload the three run in turn in this one process, on the same threads, after the kernels are compiled;
peak memory and compile time are taken in processes of their own. Prints a Markdown table.
"""

import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from peak_memory import measured_elsewhere
from peers import as_float64, fastest_batch_size, forward_pass, run_regioncam
from threadpoolctl import threadpool_limits
from workloads import WORKLOADS, Workload

from splinecam_lite import Partition, Program, partition

# A contender that takes longer than this is run once, not `repeat` times.
LONG_SECONDS = 10.0


@dataclass(frozen=True)
class Settings:
    """What to run."""

    only: tuple[str, ...] = ()
    """Workloads by name; all of them if empty."""
    threads: int = 1
    """Threads of the engine and of the forward pass. RegionCam always has one."""
    repeat: int = 5
    """Runs of each contender; the table shows the fastest, and mean and deviation for the engine."""
    peer: bool = True
    """Run RegionCam where it can."""
    memory: bool = True
    """Measure peak memory, one process per tool."""
    compile_time: bool = True
    """Measure the first use after installation, in a process with an empty cache."""
    json: Path | None = None
    """Also write every figure to this file."""


@dataclass
class Row:
    """Every figure of one workload; seconds, MB (10^6 bytes), None where nothing was measured."""

    name: str
    what: str
    regions: int = 0
    vertices: int = 0
    trace_s: float = 0.0
    engine_s: list[float] = field(default_factory=list)
    forward_s: list[float] = field(default_factory=list)
    batch_size: int = 0
    peer_regions: int | None = None
    peer_s: list[float] = field(default_factory=list)
    no_peer: str = ""
    euler: int = 0
    area_residual: float = 0.0
    output_residual: float = 0.0
    engine_mb: float | None = None
    peer_mb: float | None = None

    @property
    def ratio_to_forward(self) -> float:
        """Fastest engine run over fastest forward pass."""
        return min(self.engine_s) / min(self.forward_s)


def timed(run: Any, *args: Any, **kwargs: Any) -> tuple[float, Any]:
    """Seconds and result of one call, with the garbage of the one before collected first."""
    gc.collect()
    begin = time.perf_counter()
    result = run(*args, **kwargs)
    return time.perf_counter() - begin, result


def residuals(row: Row, part: Partition, outputs: np.ndarray) -> None:
    """Euler characteristic (1 is right); relative errors of the total area and of the outputs at vertices."""
    domain = part.plane.area
    row.euler = part.n_vertices - part.n_edges + part.n_regions
    row.area_residual = abs(float(part.areas().sum()) - domain) / domain
    row.output_residual = float(np.abs(part.outputs - outputs).max() / np.abs(outputs).max())


def measure(workload: Workload, settings: Settings) -> Row:
    """Run one workload: engine, forward pass and RegionCam in turn, ``repeat`` times."""
    row = Row(workload.name, workload.what, no_peer=workload.no_peer)
    model, plane = workload.build()
    row.trace_s, program = timed(Program.from_module, model, plane.input_shape)
    exact = as_float64(model)
    with_peer = settings.peer and not workload.no_peer
    partition(program, plane, threads=settings.threads)  # compiles the kernels that this workload needs
    for turn in range(settings.repeat):
        seconds, part = timed(partition, program, plane, threads=settings.threads)
        row.engine_s.append(seconds)
        if turn == 0:
            row.regions, row.vertices = part.n_regions, part.n_vertices
            vertices = np.array(part.complex.xy)
            row.batch_size = fastest_batch_size(exact, plane, vertices)
        if turn == 0 or row.forward_s[0] < LONG_SECONDS:
            seconds, outputs = forward_pass(exact, plane, vertices, row.batch_size)
            row.forward_s.append(seconds)
            residuals(row, part, outputs)
        del part  # RegionCam gets the memory that it would have alone
        if with_peer and (turn == 0 or row.peer_s[0] < LONG_SECONDS):
            seconds, peer = timed(run_regioncam, model, plane)
            row.peer_s.append(seconds)
            row.peer_regions = peer.num_faces
            del peer
    if settings.memory:
        for tool in ["engine", "regioncam"][: 1 + with_peer]:
            memory = measured_elsewhere(tool, workload.name, settings.threads)
            setattr(
                row, "engine_mb" if tool == "engine" else "peer_mb", memory["peak_mb"] - memory["start_mb"]
            )
    return row


def first_use_seconds() -> dict[str, float]:
    """Seconds of the first partition in a new process: with an empty kernel cache, then with that cache."""
    script = (
        "import time, torch; from splinecam_lite import partition, Slice\n"
        "model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1)).eval()\n"
        "begin = time.perf_counter(); partition(model, Slice.box((-1, -1), (1, 1)))\n"
        "print(time.perf_counter() - begin)"
    )
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"SPLINECAM_CACHE_DIR": cache}
        runs = [
            subprocess.run(
                [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
            )
            for _ in range(2)
        ]
    cold, cached = (float(run.stdout.split()[-1]) for run in runs)
    return {"cold_s": cold, "cached_s": cached}


def seconds_text(seconds: float) -> str:
    """Three significant digits, no exponent."""
    return f"{seconds:#.3g}".rstrip(".") if seconds < 1000 else f"{seconds:.0f}"


def table(rows: list[Row]) -> str:
    """The rows as a Markdown table."""
    head = (
        "| workload | regions | RegionCam's | engine s | mean ± sd | forward s (batch) | ratio_to_forward "
        "| RegionCam s | RegionCam / engine | engine MB | RegionCam MB | area | outputs |"
    )
    lines = [head, "|---|" + "---:|" * (head.count("|") - 2)]
    for row in rows:
        engine = min(row.engine_s)
        deviation = statistics.stdev(row.engine_s) if len(row.engine_s) > 1 else 0.0
        peer = min(row.peer_s) if row.peer_s else None
        cells = [
            f"{row.name}: {row.what}",
            f"{row.regions:,}",
            f"{row.peer_regions:,}" if row.peer_regions is not None else row.no_peer or "-",
            seconds_text(engine),
            f"{seconds_text(statistics.mean(row.engine_s))} ± {seconds_text(deviation)}",
            f"{seconds_text(min(row.forward_s))} ({row.batch_size})",
            f"{row.ratio_to_forward:.3f}",
            seconds_text(peer) if peer is not None else "-",
            f"{peer / engine:.1f}" if peer is not None else "-",
            f"{row.engine_mb:.0f}" if row.engine_mb is not None else "-",
            f"{row.peer_mb:.0f}" if row.peer_mb is not None else "-",
            f"{row.area_residual:.0e}",
            f"{row.output_residual:.0e}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def machine(settings: Settings) -> dict[str, Any]:
    """What the figures depend on beside the code."""
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": model[0].partition(": ")[2] if model else platform.processor(),
        "cores": os.cpu_count(),
        "threads": settings.threads,
        "python": platform.python_version(),
        **{name: version(name) for name in ("splinecam-lite", "torch", "numba", "numpy", "regioncam")},
    }


def main(settings: Settings) -> None:
    """Run the chosen workloads and print the table."""
    unknown = set(settings.only) - {workload.name for workload in WORKLOADS}
    if unknown:
        raise SystemExit(
            f"no workload {sorted(unknown)}; there are {[workload.name for workload in WORKLOADS]}"
        )
    torch.set_num_threads(settings.threads)
    rows = []
    with threadpool_limits(settings.threads):
        for workload in WORKLOADS:
            if not settings.only or workload.name in settings.only:
                print(f"{workload.name} ...", file=sys.stderr, flush=True)
                rows.append(measure(workload, settings))
                print(table(rows[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    first_use = first_use_seconds() if settings.compile_time else {}
    about = machine(settings)
    print(table(rows))
    print("\n" + ", ".join(f"{key} {value}" for key, value in about.items()))
    if first_use:
        cold, cached = first_use["cold_s"], first_use["cached_s"]
        print(f"first partition: {cold:.1f} s compiling, {cached:.2f} s from the cache")
    if settings.json:
        report = {"machine": about, "first_use": first_use, "rows": [asdict(row) for row in rows]}
        settings.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
