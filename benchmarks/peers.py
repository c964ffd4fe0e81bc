"""What the engine is measured against: other tools, and one forward pass over the final vertices.

    python benchmarks/peers.py                              # all that is installed; writes the README's table
    python benchmarks/peers.py --only tiny --limit 60 --no-write
    python benchmarks/peers.py --interpreter other/bin/python    # tools installed there, beside this project

Each tool runs on each network in a process of its own with a limit of time. RegionCam computes in float32;
relucent enumerates regions by linear programs. Both are given linear layers and ReLU, and a square domain.
parx enumerates the regions of the whole plane, so it has a network for which ours is given a square that
holds all crossings; it needs Julia. SyReNN needs a server of its own and is not run here.
"""

import copy
import json
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from splinecam_lite import Slice

NETWORKS = (
    "tiny",
    "tiny-plane",
    "2-64x3-1",
    "2-128x4-1",
    "2-256x4-1",
    "lines-1000",
    "spirals",
    "digits",
    "integers",
)
"""By name: those of `workloads`, and three small ones for tools that are slow."""

TOOLS = ("engine", "regioncam", "relucent", "parx")

BATCH_SIZES = (16, 64, 256, 512, 1024, 2048, 4096)
# A batch size is timed again, up to five times, until its runs took this long together.
SHORT_SECONDS = 0.5


def run_regioncam(model: nn.Sequential, plane: Slice):
    """RegionCam's partition of the square domain of ``plane``; it has ``num_faces`` and ``num_vertices``.

    The chart is folded into the first linear layer in float64 and rounded to float32 once, so that RegionCam
    carries no input-sized layer: the kindest form for it.
    """
    import regioncam

    half_width = float(np.abs(plane.domain).max())
    result = regioncam.Regioncam(size=half_width)
    for number, layer in enumerate(model):
        if isinstance(layer, nn.Linear):
            weight = layer.weight.detach().double().numpy()
            bias = layer.bias.detach().double().numpy()
            if number == 0:
                weight, bias = weight @ plane.directions.T, bias + weight @ plane.origin
            # RegionCam multiplies from the right and keeps no reference to what it is given.
            result.linear(np.ascontiguousarray(weight.T, dtype=np.float32), bias.astype(np.float32))
        elif isinstance(layer, nn.ReLU):
            result.relu()
        else:
            raise TypeError(f"RegionCam is given Linear and ReLU only, not {type(layer).__name__}")
    return result


def forward_pass(
    model: nn.Module, plane: Slice, vertices: np.ndarray, batch_size: int
) -> tuple[float, np.ndarray]:
    """Seconds and outputs (n, n_out) of the float64 network over ``vertices`` (n, 2), on the current threads.

    ``batch_size`` vertices go through at a time; lifting them into the input space is not in the time.
    """
    outputs, seconds = [], 0.0
    with torch.inference_mode():
        for start in range(0, len(vertices), batch_size):
            x = torch.from_numpy(plane.lift(vertices[start : start + batch_size]))
            begin = time.perf_counter()
            y = model(x)
            seconds += time.perf_counter() - begin
            outputs.append(y.reshape(len(x), -1).numpy())
    return seconds, np.concatenate(outputs)


def fastest_batch_size(model: nn.Module, plane: Slice, vertices: np.ndarray) -> int:
    """The batch size with the least time per vertex, found on one batch of each size after a warm-up."""
    forward_pass(model, plane, vertices[:256], 256)
    per_vertex = {}
    for size in BATCH_SIZES:
        batch = vertices[:size]
        seconds = [forward_pass(model, plane, batch, size)[0]]
        while sum(seconds) < SHORT_SECONDS and len(seconds) < 5:
            seconds.append(forward_pass(model, plane, batch, size)[0])
        per_vertex[size] = min(seconds) / len(batch)
    return min(per_vertex, key=per_vertex.__getitem__)


def as_float64(model: nn.Module) -> nn.Module:
    """A float64 copy of ``model``."""
    return copy.deepcopy(model).double()


@dataclass(frozen=True)
class Settings:
    """What to run."""

    only: tuple[str, ...] = ()
    """Networks by name; all of them if empty."""
    limit: float = 180.0
    """Seconds that a tool may take for one network, its imports included."""
    interpreter: str = sys.executable
    """Python that runs the other tools: where they are installed."""
    write: bool = True
    """Rewrite the table in the README."""
    json: Path | None = None
    """Also write every figure to this file."""


def network(name: str) -> tuple[nn.Module, Slice]:
    """The network and slice of a name in `NETWORKS`."""
    from workloads import WORKLOADS, mlp, seeded

    small = {
        "tiny": ((2, 16, 16, 1), 1.0),
        "tiny-plane": ((2, 8, 8, 1), 1e4),
        "2-64x3-1": ((2, 64, 64, 64, 1), 1.0),
    }
    if name in small:
        widths, half_width = small[name]
        return seeded(0, lambda: mlp(*widths)), Slice.box(-half_width, half_width)
    return next(w for w in WORKLOADS if w.name == name).build()


def on_the_chart(model: nn.Module, plane: Slice) -> nn.Sequential:
    """The network as one of two inputs: the chart is folded into its first layer, in float64."""
    first = model[0]
    folded = nn.Linear(2, first.out_features).double()
    with torch.no_grad():
        weight, bias = first.weight.double(), first.bias.double()
        folded.weight.copy_(weight @ torch.from_numpy(plane.directions.T.copy()))
        folded.bias.copy_(bias + weight @ torch.from_numpy(plane.origin.copy()))
    return nn.Sequential(folded, *copy.deepcopy(model)[1:].double()).eval()


def run_relucent(model: nn.Module, plane: Slice) -> int:
    """Regions that relucent finds in the square domain."""
    from relucent import Complex

    found = Complex(on_the_chart(model, plane).float())
    half_width = float(np.abs(plane.domain).max())
    found.bfs(nworkers=1, verbose=0, cube_radius=half_width, cube_mode="intersect")
    return len(found)


def run_parx(model: nn.Module, plane: Slice) -> int:
    """Regions that parx finds in the whole plane."""
    import parx

    return len(
        parx.compute_partition(on_the_chart(model, plane), np.full((1, 2), 0.1), method="exact_python")
    )


def one(tool: str, name: str) -> dict[str, Any]:
    """Figures of one tool on one network, in this process."""
    from children import measured

    from splinecam_lite import Program, partition

    torch.set_num_threads(1)
    model, plane = network(name)
    if tool == "engine":
        program = Program.from_module(model, plane.input_shape)
        partition(program, plane, threads=1)  # loads or compiles the kernels
        figures, part = measured(lambda: partition(program, plane, threads=1))
        exact, vertices = as_float64(model), np.array(part.vertices)
        size = fastest_batch_size(exact, plane, vertices)
        figures["forward"] = forward_pass(exact, plane, vertices, size)[0]
        return figures | {"regions": part.n_regions}
    if tool == "regioncam":
        figures, found = measured(lambda: run_regioncam(model, plane))
        return figures | {"regions": found.num_faces}
    if (tool == "parx") != (name == "tiny-plane"):
        return {"failed": "another domain"}
    if tool == "parx" and shutil.which("julia") is None:
        return {"failed": "needs Julia"}
    figures, count = measured(lambda: (run_relucent if tool == "relucent" else run_parx)(model, plane))
    return figures | {"regions": count}


def table(results: dict[str, dict[str, dict[str, Any]]]) -> str:
    """Markdown: a row for each network and tool that has run on it, or should have."""
    lines = [
        "| network | tool | regions | seconds | times the engine's | ratio to forward | peak MB |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for name, by_tool in results.items():
        engine = by_tool["engine"]
        for tool, figures in by_tool.items():
            if "failed" in figures:
                if figures["failed"] != "another domain":
                    lines.append(f"| {name} | {tool} | {figures['failed']} | - | - | - | - |")
                continue
            ratios = [
                f"{figures['seconds'] / other:.3g}" if other else "-"
                for other in (engine.get("seconds"), engine.get("forward"))
            ]
            cells = [
                name,
                tool,
                f"{figures['regions']:,}",
                f"{figures['seconds']:.3g}",
                *ratios,
                f"{figures['mb']:,.0f}",
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(settings: Settings) -> None:
    """Run every tool that is installed on every network, and write the table."""
    from children import in_a_child
    from sections import machine_line, write_section

    unknown = set(settings.only) - set(NETWORKS)
    if unknown:
        raise SystemExit(f"no network {sorted(unknown)}; there are {list(NETWORKS)}")
    results: dict[str, dict[str, dict[str, Any]]] = {}
    missing: dict[str, str] = {}
    for name in settings.only or NETWORKS:
        results[name] = {}
        for tool in TOOLS:
            if tool in missing:
                continue
            if any(
                tool in found and "not finished" in found[tool].get("failed", "")
                for found in results.values()
            ):
                continue  # the networks only get larger
            python = sys.executable if tool == "engine" else settings.interpreter
            print(f"{name}: {tool} ...", file=sys.stderr, flush=True)
            figures = in_a_child("peers.py", "one", tool, name, limit=settings.limit, interpreter=python)
            if "ModuleNotFoundError" in figures.get("failed", ""):
                missing[tool] = "not installed"
                continue
            results[name][tool] = figures
    text = table(results)
    if missing:
        text += f"\n\nNot installed, so not run: {', '.join(missing)}."
    print(text)
    if settings.json:
        settings.json.write_text(json.dumps(results, indent=1))
    if settings.write:
        about = machine_line(1, "regioncam", "relucent", "parx")
        write_section("peers", f"`python benchmarks/peers.py`; {about}.\n\n{text}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["one"]:
        print(json.dumps(one(*sys.argv[2:4])))
    else:
        import tyro

        main(tyro.cli(Settings, description=__doc__))
