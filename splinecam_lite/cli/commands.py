"""What each command does: options in, text on stdout and files out."""

import gc
import importlib
import os
import platform
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from splinecam_lite.cli import options
from splinecam_lite.cli.console import stage
from splinecam_lite.cli.files import check_installed, check_writable, finished_file, is_network_file
from splinecam_lite.cli.inputs import (
    check_calibration,
    check_kept,
    check_network,
    checkpoint_labels,
    many_points,
    normalisation,
    slice_of,
    slice_points,
    tolerances_of,
)
from splinecam_lite.cli.refusal import Refusal
from splinecam_lite.cli.warmup import COMPILE_SECONDS, compile_at_first_use, use_every_kernel

if TYPE_CHECKING:
    from splinecam_lite.network.program import Program
    from splinecam_lite.network.slices import Slice

FIGURES = (".png", ".pdf", ".svg", ".jpg")

FORMATS = {
    ".npz": "save",
    ".geojson": "to_geojson",
    ".svg": "to_svg",
    ".parquet": "to_geoparquet",
}
"""The method of a partition that writes each kind of file."""

POINTS_AT_ONCE = 256
"""Points between two steps of the progress bar of ``complexity``; the counts do not depend on it."""

SILENT_SECONDS = 2.0
"""Work shorter than this shows no progress."""


def partition(given: options.Partition) -> None:
    """Compute a partition; print its summary, save it and draw it as asked."""
    check_writable("--out", given.out, tuple(FORMATS))
    check_writable("--plot", given.plot, FIGURES)
    check_writable("--certify", given.certify, (".json",))
    check_installed(given.out)
    check_kept(given)
    program, plane, points = _on_slice(given)
    from splinecam_lite.partition.partition import partition

    if given.certify is not None:
        from splinecam_lite.network.exact.forms import ExactProgram

        ExactProgram.on_slice(program, plane)  # refuses now what could not be proved after the work
    compile_at_first_use()
    decide = None if given.decide == "auto" else given.decide
    limits: Any = {"memory": given.memory, "threads": given.threads}
    if given.store is not None:
        stored = partition(program, plane, decide=decide, store=given.store, **limits)
        print(f"{stored.tally.summary()}\n{stored.folder} holds all of it")
        return
    result = partition(program, plane, decide=decide, exact=given.exact, **limits)
    print(result.summary())
    if given.out is not None:
        with stage(f"writing {given.out}"):
            getattr(result, FORMATS[given.out.suffix])(given.out)
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
    if given.certify is not None:
        with stage("proving"):
            certificate = result.certify()
        certificate.save(given.certify)
        print(f"{certificate}\nwrote {given.certify}")
        certificate.raise_if_failed()


def count(given: options.CountRegions) -> None:
    """Count the regions of a slice; print how many there are and how large, and the knots of each layer."""
    program, plane, _ = _on_slice(given)
    from splinecam_lite.partition.tally import count

    compile_at_first_use()
    print(count(program, plane, memory=given.memory, threads=given.threads).summary())


def _on_slice(given: options.OnSlice) -> "tuple[Program, Slice, np.ndarray | None]":
    """Return the network, smooth activations approximated as asked, the slice, and what it goes through."""
    check_network(given)
    tolerances = tolerances_of(given)
    points = slice_points(given)
    _import_engine()
    from splinecam_lite.partition.memory import memory_budget

    try:
        memory_budget(given.memory)
    except ValueError as error:
        raise Refusal(f"--{error}") from error
    plane = slice_of(given, points)
    program = _program(given, plane.input_shape)
    return program.approximated(tolerances) if tolerances else program, plane, points


def complexity(given: options.Complexity) -> None:
    """Count crossings around every point; print their means for each layer and save them as asked."""
    check_writable("--out", given.out, (".npz",))
    check_network(given)
    points = many_points(given)
    _import_engine()
    program = _program(given, points.shape[1:])
    from tqdm import tqdm

    from splinecam_lite.complexity.estimator import LocalComplexity
    from splinecam_lite.complexity.result import mean_interval

    chosen = given.layers or None
    lc = LocalComplexity(program, given.radius, given.directions, given.seed, layers=chosen)
    starts = range(0, len(points), POINTS_AT_ONCE)
    parts = [
        lc(points[i : i + POINTS_AT_ONCE]) for i in tqdm(starts, "points", delay=SILENT_SECONDS, leave=False)
    ]
    per_layer = np.concatenate([part.per_layer for part in parts])
    print(
        f"neurons that change sign within {given.radius:g} input units along {given.directions} directions: "
        f"mean over {len(points):,} points, 99 % interval"
    )
    names = parts[0].layer_names
    width = max(len(name) for name in ("all layers", *names))
    rows = [*zip(names, per_layer.T, strict=True), ("all layers", per_layer.sum(axis=1))]
    for name, counts in rows:
        mean = mean_interval(counts)
        print(f"  {name:<{width}}  {mean.value:10.4f}  [{mean.low:.4f}, {mean.high:.4f}]")
    if given.out is not None:
        with finished_file(given.out) as draft:
            np.savez_compressed(
                draft, per_layer=per_layer, layer_names=names, n_neurons=parts[0].n_neurons,
                radius=given.radius, directions=given.directions, seed=given.seed,
            )  # fmt: skip
        print(f"wrote {given.out}")


def calibrate(given: options.Calibrate) -> None:
    """Hold estimates against exact counts; print the table, and write it, the figures and all numbers."""
    check_network(given)
    check_calibration(given)
    points = many_points(given)
    _import_engine()
    from splinecam_lite.complexity.calibrate import calibrate

    program = _program(given, points.shape[1:])
    program.require_piecewise_linear()
    compile_at_first_use()
    found = calibrate(
        program,
        points,
        given.radii,
        given.directions or None,
        given.planes,
        given.seed,
        checkpoints=_checkpoints(given, program.input_shape) if given.checkpoints else None,
        resamples=given.resamples,
    )
    table = found.table()
    print(table)
    if given.out is None:
        return
    with stage("drawing"):
        from splinecam_lite.show.calibration import write_figures

        given.out.mkdir(exist_ok=True)
        found.save(given.out / "calibration.json")
        with finished_file(given.out / "table.txt") as draft:
            draft.write_text(table + "\n", encoding="utf-8")
        figures = write_figures(found.to_dict(), given.out)
    written = ["calibration.json", "table.txt", *(path.name for path in figures)]
    print(f"wrote {', '.join(written)} to {given.out}")


def _checkpoints(given: options.Calibrate, shape: tuple[int, ...]) -> Iterator[tuple[str, "Program"]]:
    """Yield label and program of each file of weights."""
    from splinecam_lite.cli.models import load_model, load_weights
    from splinecam_lite.network.trace import trace

    model = load_model(given.model, None)
    traced = trace(model, shape)
    for label, path in zip(checkpoint_labels(given.checkpoints), given.checkpoints, strict=True):
        load_weights(model, path)
        scaling, output = normalisation(given), wanted_output(given.output)
        yield label, traced.program(model.state_dict(), normalise=scaling, output=output)


def demo(given: options.Demo) -> None:
    """Train, measure and report."""
    compile_at_first_use()
    from splinecam_lite.studies.demo import run_demo

    print(f"report: {run_demo(given.out, quick=given.quick)}")


def warmup(given: options.Warmup) -> None:
    """Compile everything, by small partitions that use every kernel."""
    from splinecam_lite.engine.kernels import CACHE_DIRECTORY, is_compiled

    about = "already compiled" if is_compiled() else f"about {2 * COMPILE_SECONDS} s"
    with stage(f"compiling kernels ({about})"):
        use_every_kernel(exact=True)
    if CACHE_DIRECTORY is None:
        print("compiled kernels cannot be kept: set SPLINECAM_CACHE_DIR to a folder that can be written to")
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


def _import_engine() -> None:
    """Import what takes longest before the rest, so that the wait has a name.

    Nothing of it can be collected, and looking for that took a fifth of the time.
    """
    with stage("importing torch and numba"):
        gc.disable()
        try:
            for name in ("torch.export", "splinecam_lite.partition.partition"):
                importlib.import_module(name)
        finally:
            gc.freeze()
            gc.enable()


def _program(given: options.Network, input_shape: Sequence[int]) -> "Program":
    """Load the module and its weights, or a file that holds both, and write it as a program."""
    shape, scaling, output = tuple(input_shape), normalisation(given), wanted_output(given.output)
    with stage("loading the network"):
        from splinecam_lite.cli.models import load_model
        from splinecam_lite.network.program import Program

        if is_network_file(given.model):
            return Program.from_file(given.model, shape, normalise=scaling, output=output)
        model = load_model(given.model, given.weights)
    with stage("tracing it"):
        return Program.from_module(model, shape, normalise=scaling, output=output)


def wanted_output(given: str | None) -> str | int | None:
    """Read ``--output``: ":3" is entry 3 of the output; "3" is a module's path, as in a Sequential."""
    return int(given[1:]) if given is not None and given[:1] == ":" and given[1:].isdecimal() else given
