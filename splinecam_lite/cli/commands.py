"""What each command does: options in, text on stdout and files out."""

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np

from splinecam_lite.cli import options
from splinecam_lite.cli.console import stage
from splinecam_lite.cli.files import check_writable, finished_file, read_array
from splinecam_lite.cli.refusal import Refusal
from splinecam_lite.cli.warmup import COMPILE_SECONDS, compile_at_first_use, use_every_kernel

if TYPE_CHECKING:
    from splinecam_lite.network.program import Program
    from splinecam_lite.network.slices import Slice

FIGURES = (".png", ".pdf", ".svg", ".jpg", ".jpeg")

POINTS_AT_ONCE = 256
"""Points between two steps of the progress bar of ``complexity``; the counts do not depend on it."""

SILENT_SECONDS = 2.0
"""Work shorter than this shows no progress."""


def partition(given: options.Partition) -> None:
    """Compute a partition; print its summary, save it and draw it as asked."""
    check_writable("--out", given.out, (".npz",))
    check_writable("--plot", given.plot, FIGURES)
    plane, points = _slice(given)
    program = _program(given, plane.input_shape)
    from splinecam_lite.partition.partition import partition

    compile_at_first_use()
    decide = None if given.decide == "auto" else given.decide
    result = partition(program, plane, decide=decide, threads=given.threads)
    print(result.summary())
    if given.out is not None:
        result.save(given.out)
        print(f"wrote {given.out}")
    if given.plot is not None:
        with stage("drawing"):
            import matplotlib

            matplotlib.use("Agg")
            from splinecam_lite.show.plot import plot

            axes = plot(result, given.color_by, points=points)
            with finished_file(given.plot) as draft:
                axes.figure.savefig(draft, dpi=150)
        print(f"wrote {given.plot}")


def complexity(given: options.Complexity) -> None:
    """Count crossings around every point; print their means for each layer and save them as asked."""
    check_writable("--out", given.out, (".npz",))
    points = _shaped(read_array(given.points), given.input_shape, "--points")
    if points.ndim < 2:
        raise Refusal(f"{given.points} has shape {points.shape}; give inputs as (N, *input shape)")
    program = _program(given, points.shape[1:])
    from tqdm import tqdm

    from splinecam_lite.complexity.estimator import LocalComplexity
    from splinecam_lite.complexity.result import mean_interval

    lc = LocalComplexity(program, given.radius, given.directions, given.seed)
    starts = range(0, len(points), POINTS_AT_ONCE)
    parts = [
        lc(points[i : i + POINTS_AT_ONCE]) for i in tqdm(starts, "points", delay=SILENT_SECONDS, leave=False)
    ]
    per_layer = np.concatenate([part.per_layer for part in parts])
    print(
        f"knots within {given.radius:g} input units, along {given.directions} directions, mean over "
        f"{len(points):,} points with 99 % interval"
    )
    width = max(len(name) for name in ("all layers", *program.layer_names))
    rows = [*zip(program.layer_names, per_layer.T, strict=True), ("all layers", per_layer.sum(axis=1))]
    for name, counts in rows:
        mean = mean_interval(counts)
        print(f"  {name:<{width}}  {mean.value:10.4f}  [{mean.low:.4f}, {mean.high:.4f}]")
    if given.out is not None:
        with finished_file(given.out) as draft:
            np.savez_compressed(
                draft, per_layer=per_layer, layer_names=np.array(program.layer_names), n_neurons=program.n_neurons,
                radius=given.radius, directions=given.directions, seed=given.seed,
            )  # fmt: skip
        print(f"wrote {given.out}")


def demo(given: options.Demo) -> None:
    """Train, measure and report."""
    compile_at_first_use()
    from splinecam_lite.studies.demo import run_demo

    print(f"report: {run_demo(given.out, quick=given.quick)}")


def warmup(given: options.Warmup) -> None:
    """Compile everything, by small partitions that use every kernel."""
    from splinecam_lite.engine.kernels import CACHE_DIRECTORY, is_compiled

    about = "already compiled" if is_compiled() else f"about {COMPILE_SECONDS} s"
    with stage(f"compiling kernels ({about})"):
        use_every_kernel()
    if CACHE_DIRECTORY is None:
        print("no folder for compiled kernels can be written to, so every process compiles anew; set SPLINECAM_CACHE_DIR")
    else:
        print(f"compiled kernels are in {CACHE_DIRECTORY}")


def info(given: options.Info) -> None:
    """Print what a report of a defect should contain."""
    from splinecam_lite.engine.kernels import CACHE_DIRECTORY, is_compiled

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    rows = [
        ("splinecam-lite", version("splinecam-lite")),
        ("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        *((name, version(name)) for name in ("torch", "numba", "numpy", "scipy", "matplotlib")),
        ("cores", str(cores)),
        ("kernels", "compiled" if is_compiled() else "not compiled yet; `splinecam-lite warmup` does it"),
        ("cache", str(CACHE_DIRECTORY or "none can be written; set SPLINECAM_CACHE_DIR")),
    ]
    for name, value in rows:
        print(f"{name:<15} {value}")


def _slice(given: options.Partition) -> "tuple[Slice, np.ndarray | None]":
    """Return the slice that is asked for, and the inputs that it was made from."""
    from splinecam_lite.network.slices import Slice

    asked = [name for name in ("points", "around", "box") if getattr(given, name)]
    if len(asked) != 1:
        said = " and ".join(f"--{name}" for name in asked) or "none"
        raise Refusal(f"the slice is given by one of --points, --around and --box; there is {said}")
    if given.radius is not None and not given.around:
        raise Refusal(f"--radius goes with --around; with --{asked[0]} it means nothing")
    if given.box:
        if given.rows or given.input_shape not in ((), (2,)):
            raise Refusal("--box is for networks of two inputs and reads no file; give --points or --around instead")
        if len(given.box) not in (2, 4):
            raise Refusal(f"--box has {len(given.box)} numbers; give LOW HIGH, or LOW1 LOW2 HIGH1 HIGH2")
        half = len(given.box) // 2
        return Slice.box(given.box[:half], given.box[half:]), None
    if given.points:
        points = _shaped(read_array(given.points, given.rows), given.input_shape, "--points")
        if len(points) != 3:
            raise Refusal(f"{given.points} holds {len(points)} inputs; choose three with --rows, e.g. --rows 0 1 2")
        return Slice.through(*points, margin=given.margin), points
    if given.radius is None:
        raise Refusal("--around needs --radius, the half-width of the square in input units")
    read = read_array(str(given.around), given.rows)
    if given.rows and len(given.rows) != 1:
        raise Refusal(f"--around takes one input, but --rows has {len(given.rows)}")
    centre = _shaped(read if given.rows else read[None], given.input_shape, "--around")
    return Slice.around(centre[0], given.radius, seed=given.seed), centre


def _shaped(array: np.ndarray, input_shape: tuple[int, ...], option: str) -> np.ndarray:
    """Return inputs, one a row, in the shape that the network takes."""
    if not input_shape:
        return array
    if min(input_shape) < 1:
        raise Refusal(f"--input-shape is {input_shape}; all sizes must be positive")
    if array.ndim == 0 or array[0].size != np.prod(input_shape):
        raise Refusal(f"{option} has shape {array.shape}; its rows cannot have --input-shape {input_shape}")
    return array.reshape(-1, *input_shape)


def _program(given: options.Network, input_shape: Sequence[int]) -> "Program":
    """Load the module and its weights, and write it as a program."""
    normalise = _normalise(given.normalise)
    with stage("loading the network"):
        from splinecam_lite.cli.models import load_model
        from splinecam_lite.network.program import Program

        model = load_model(given.model, given.weights)
    with stage("tracing it"):
        return Program.from_module(model, tuple(input_shape), normalise=normalise, output=given.output)


def _normalise(numbers: tuple[float, ...]) -> tuple[list[float], list[float]] | None:
    if len(numbers) % 2:
        raise Refusal(f"--normalise has {len(numbers)} numbers; give MEAN STD, or all means and then as many stds")
    half = len(numbers) // 2
    return (list(numbers[:half]), list(numbers[half:])) if numbers else None
