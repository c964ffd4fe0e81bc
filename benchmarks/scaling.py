"""What a region costs, as the partition and the network grow: time, memory, ratio to a forward pass.

    python benchmarks/scaling.py                     # all curves; writes scaling.png and the README's table
    python benchmarks/scaling.py --quick             # few small points; writes nothing
    python benchmarks/scaling.py --most 10_000_000   # up to 10^7 regions

Each point runs in a process of its own: the fastest of up to three runs, peak memory above what was held
before. Domains are discs sized by ``partition(..., regions=n)``; the search is not in the time. The forward
pass is timed on 1,024 of the vertices, at the fastest of three batch sizes, and scaled to all of them.
"""

import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from children import in_a_child, measured
from peers import as_float64, fastest_batch_size, forward_pass
from sections import machine_line, write_section
from threadpoolctl import threadpool_limits
from torch import nn
from workloads import cifar_cnn, mlp, natural_image, random_mlp, resnet18, seeded

from splinecam_lite import Program, partition

FIGURE = Path(__file__).parent / "scaling.png"
N_FORWARD = 1024


@dataclass(frozen=True)
class Settings:
    """What to run."""

    quick: bool = False
    """A few small points; prints the table and writes no file unless named."""
    most: int = 1_000_000
    """Regions of the largest point of the MLP; convolutional networks stop at a tenth of it, and at 10^5."""
    limit: float = 900.0
    """Seconds that one point may take."""
    json: Path | None = None
    """Also write every figure to this file."""


@dataclass(frozen=True)
class Point:
    """A point of a curve: ``network`` as `build` reads it."""

    curve: str
    series: str
    at: float
    network: str
    regions: int
    threads: int = 1


def build(network: str) -> tuple[nn.Module, np.ndarray]:
    """A network and an input, by name: ``"cifar-cnn"``, ``"resnet18-16"``, or widths as ``"2-64-64-1"``."""
    if network == "cifar-cnn":
        return seeded(0, cifar_cnn), natural_image(0)
    if network == "resnet18-16":
        return resnet18(16), natural_image(0)
    widths = [int(n) for n in network.split("-")]
    x = np.random.default_rng(0).uniform(-0.5, 0.5, widths[0])
    return seeded(0, lambda: mlp(*widths)), x


def widths(n_in: int, width: int, depth: int) -> str:
    """``widths(2, 64, 2)`` is ``"2-64-64-1"``."""
    return "-".join(map(str, [n_in, *[width] * depth, 1]))


def points(settings: Settings) -> list[Point]:
    """All points of all curves."""
    threads = sorted({1, 2, os.cpu_count() or 1})
    if settings.quick:
        return [
            *(Point("regions", "MLP 2-128x3", n, widths(2, 128, 3), n) for n in (300, 3000)),
            *(Point("threads", "MLP 2-128x3", t, widths(2, 128, 3), 3000, t) for t in (1, 2)),
        ]
    sizes = [10**k for k in range(3, 9) if 10**k <= settings.most]
    # 10^7 regions need N^2 / 2 > 10^7 neurons' pairs.
    large = (
        ("MLP 2-1024x3", widths(2, 1024, 3))
        if settings.most <= 10**6
        else ("MLP 2-3072x3", widths(2, 3072, 3))
    )
    same = 20_000
    return [
        *(Point("regions", large[0], n, large[1], n) for n in sizes),
        *(
            Point("regions", "CIFAR CNN", n, "cifar-cnn", n)
            for n in sizes
            if n <= min(10**5, settings.most / 10)
        ),
        *(
            Point("regions", "ResNet18, 16", n, "resnet18-16", n)
            for n in sizes
            if n <= min(10**5, settings.most / 10)
        ),
        *(Point("width", "2-Wx3", w, widths(2, w, 3), same) for w in (128, 256, 512, 1024, 2048)),
        *(Point("depth", "2-256xD", d, widths(2, 256, d), same) for d in (1, 2, 4, 8, 16)),
        *(Point("inputs", "d-256x3", d, widths(d, 256, 3), same) for d in (2, 16, 128, 1024, 8192)),
        *(Point("threads", "MLP 2-1024x3", t, widths(2, 1024, 3), 200_000, t) for t in threads),
        *(Point("threads", "CIFAR CNN", t, "cifar-cnn", 20_000, t) for t in threads),
    ]


def one(network: str, regions: int, threads: int) -> dict[str, Any]:
    """Figures of one point, in this process."""
    torch.set_num_threads(threads)
    with threadpool_limits(threads):
        model, x = build(network)
        program = Program.from_module(model, x.shape)
        partition(*random_mlp(2, 64, 64, 1), threads=threads)  # loads the kernels
        sized = partition(program, around=x, regions=regions, threads=threads)
        plane, search = sized.plane, sized.report.sizing
        assert search is not None
        last = sized.report.seconds
        del sized
        figures, part = measured(lambda: partition(program, plane, threads=threads))
        vertices = np.array(part.vertices)
        chosen = np.random.default_rng(0).permutation(len(vertices))[:N_FORWARD]
        exact = as_float64(model)
        size = fastest_batch_size(exact, plane, vertices[chosen])
        seconds = min(forward_pass(exact, plane, vertices[chosen], size)[0] for _ in range(2))
    return figures | {
        "regions": part.n_regions,
        "vertices": len(vertices),
        "forward": seconds / len(chosen) * len(vertices),
        "sizing": search.seconds / last,
        "runs": len(search.runs),
        "blocks": part.report.n_blocks,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown, a row for each point."""
    lines = [
        "| curve | network | at | regions | seconds | µs / region | ratio to forward | peak MB "
        "| search / run |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        head = [row["curve"], row["series"], f"{row['at']:,g}" if row["at"] < 1e5 else f"{row['at']:.0e}"]
        if "failed" in row:
            lines.append(f"| {' | '.join(head)} | {row['failed']} | - | - | - | - | - |")
            continue
        seconds, n = row["seconds"], row["regions"]
        cells = [f"{n:,}", f"{seconds:.3g}", f"{1e6 * seconds / n:.3g}", f"{seconds / row['forward']:.3f}"]
        lines.append("| " + " | ".join([*head, *cells, f"{row['mb']:,.0f}", f"{row['sizing']:.3f}"]) + " |")
    return "\n".join(lines)


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Time for each region over regions, width, depth and inputs; memory; threads."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    done = [row for row in rows if "failed" not in row]
    colours = dict(zip(dict.fromkeys(row["series"] for row in done), plt.cm.tab10.colors * 2, strict=False))
    figure, grid = plt.subplots(2, 3, figsize=(14, 8), layout="constrained")

    def curve(axes: Any, name: str, value: Any, xlabel: str, ylabel: str) -> None:
        for series in dict.fromkeys(row["series"] for row in done if row["curve"] == name):
            chosen = [row for row in done if row["curve"] == name and row["series"] == series]
            x = [row["regions"] if name == "regions" else row["at"] for row in chosen]
            axes.plot(x, [value(row) for row in chosen], "o-", color=colours[series], label=series)
        axes.set(xscale="log", yscale="log", xlabel=xlabel, ylabel=ylabel)

    def per_region(row: dict[str, Any]) -> float:
        return 1e6 * row["seconds"] / row["regions"]

    def speedup(row: dict[str, Any]) -> float:
        base = next(r for r in done if (r["curve"], r["series"], r["at"]) == ("threads", row["series"], 1))
        return per_region(base) / per_region(row)

    curve(grid[0, 0], "regions", per_region, "regions", "µs for each region")
    curve(grid[0, 1], "regions", lambda row: row["mb"], "regions", "peak MB")
    curve(
        grid[0, 2], "regions", lambda row: row["seconds"] / row["forward"], "regions", "ratio to forward pass"
    )
    curve(grid[1, 0], "width", per_region, "width, depth or inputs (20,000 regions)", "µs for each region")
    curve(grid[1, 0], "depth", per_region, "width, depth or inputs (20,000 regions)", "µs for each region")
    curve(grid[1, 0], "inputs", per_region, "width, depth or inputs (20,000 regions)", "µs for each region")
    for name in ("width", "depth", "inputs"):
        curve(
            grid[1, 1], name, lambda row: row["seconds"] / row["forward"], "the same", "ratio to forward pass"
        )
    curve(grid[1, 2], "threads", speedup, "threads", "times as fast as one")
    ticks = sorted({row["at"] for row in done if row["curve"] == "threads"})
    grid[1, 2].set(xscale="linear", yscale="linear", xticks=ticks, ylim=(0, max([*ticks, 2]) + 0.2))
    grid[1, 2].plot(ticks, ticks, color="0.7", linestyle=":", zorder=0, label="as many times as threads")
    for axes in grid.flat:
        axes.grid(True, which="major", color="0.92", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=8)
    figure.suptitle("What a region costs")
    figure.savefig(path, dpi=110, metadata={"Software": ""})
    plt.close(figure)


def main(settings: Settings) -> None:
    """Run all points, print the table, and write it and the figure unless quick."""
    begin = time.perf_counter()
    rows = []
    for point in points(settings):
        arguments = ("one", point.network, str(point.regions), str(point.threads))
        row = vars(point) | in_a_child("scaling.py", *arguments, limit=settings.limit)
        rows.append(row)
        print(table([row]).splitlines()[-1], file=sys.stderr, flush=True)
    text = table(rows)
    print(text)
    print(f"{time.perf_counter() - begin:.0f} s", file=sys.stderr)
    if settings.json:
        settings.json.write_text(json.dumps(rows, indent=1))
    if not settings.quick:
        draw(rows, FIGURE)
        most = f" --most {settings.most}" if settings.most != Settings.most else ""
        how = f"`python benchmarks/scaling.py{most}`; {machine_line(1)} but where the curve says more"
        write_section("scaling", f"{how}.\n\n![What a region costs]({FIGURE.name})\n\n{text}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["one"]:
        print(json.dumps(one(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
    else:
        main(tyro.cli(Settings, description=__doc__))
