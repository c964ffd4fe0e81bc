"""Ten million regions, counted or written to disk, in bounded memory: time for each region, and peak memory.

    python benchmarks/millions.py wide --mode count --memory 2GB
    python benchmarks/millions.py deep --mode store --folder /data/deep
    python benchmarks/millions.py wide --small           # 10^5 regions of the same kind, to compare with

``wide`` is one hidden layer of random lines; ``deep`` is 2-1536x4-1 at default initialisation on a large
domain.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from peak_memory import reset_high_water_mark, resident_mb
from torch import nn
from workloads import mlp, random_lines, seeded

import splinecam_lite as sc


@dataclass(frozen=True)
class Settings:
    """What to run."""

    network: Annotated[Literal["wide", "deep"], tyro.conf.Positional]
    """Which network."""
    mode: Literal["count", "store"] = "count"
    """Count the regions, or write them to disk."""
    memory: str = "2GB"
    """What the work may take."""
    threads: int = 1
    """Blocks worked on at once."""
    small: bool = False
    """10^5 regions instead of 10^7."""
    folder: Path = Path("millions")
    """Where the regions are written; 2 GB."""


def build(settings: Settings) -> tuple[nn.Module, sc.Slice]:
    """Return the network and the slice."""
    if settings.network == "wide":
        return random_lines(600 if settings.small else 6000)
    half_width = 0.15 if settings.small else 3.0
    box = sc.Slice.box((-half_width, -half_width), (half_width, half_width))
    return seeded(0, lambda: mlp(2, 1536, 1536, 1536, 1536, 1)), box


def main(settings: Settings) -> None:
    """Run it and print one line."""
    model, plane = build(settings)
    program = sc.Program.from_module(model, plane.input_shape)
    sc.count(seeded(0, lambda: mlp(2, 64, 64, 1)), sc.Slice.box(-1, 1))  # compiles the kernels
    reset_high_water_mark()
    before, begin = resident_mb("VmRSS"), time.perf_counter()
    if settings.mode == "count":
        n_regions = sc.count(program, plane, memory=settings.memory, threads=settings.threads).n_regions
    else:
        stored = sc.partition(
            program, plane, memory=settings.memory, threads=settings.threads, store=settings.folder
        )
        n_regions = stored.n_regions
    seconds = time.perf_counter() - begin
    print(
        f"{settings.network}, {settings.mode}, {n_regions:,} regions: {seconds:.1f} s, "
        f"{1e6 * seconds / n_regions:.2f} us a region, {resident_mb('VmHWM') - before:.0f} MB above the "
        f"{before:.0f} held before, {settings.threads} threads"
    )


if __name__ == "__main__":
    main(tyro.cli(Settings))
