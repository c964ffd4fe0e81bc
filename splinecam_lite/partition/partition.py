"""The exact partition of a network on a slice: checks at the door, the engine, checks of the result."""

import contextlib
import functools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, Literal, overload

import numpy as np
import torch
from threadpoolctl import ThreadpoolController
from torch import nn
from tqdm import tqdm

from splinecam_lite.engine.engine import EngineResult, run
from splinecam_lite.engine.plan import Plan, Tuning
from splinecam_lite.errors import ModelError, SliceError
from splinecam_lite.network.exact.forms import ExactProgram
from splinecam_lite.network.program import Program
from splinecam_lite.network.segments import Segment
from splinecam_lite.network.slices import Slice
from splinecam_lite.partition.exactness import exact_areas
from splinecam_lite.partition.layers import decode, first_bits, layers_of
from splinecam_lite.partition.planning import make_plan, output_scale
from splinecam_lite.partition.report import make_report
from splinecam_lite.partition.result import Partition
from splinecam_lite.partition.segments.partition import partition_segment
from splinecam_lite.partition.segments.result import SegmentPartition

SILENT_SECONDS = 2.0
"""Work shorter than this shows no progress."""

Decide = Literal["argmax", "argmin", "zero"]


@overload
def partition(
    model: nn.Module | Program,
    plane: Slice,
    *,
    output: str | int | None = None,
    normalise: tuple[Any, Any] | None = None,
    decide: Decide | None = None,
    exact: bool = False,
    threads: int | None = None,
    progress: bool | None = None,
    _tuning: Tuning | None = None,
) -> Partition: ...
@overload
def partition(
    model: nn.Module | Program,
    plane: Segment,
    *,
    output: str | int | None = None,
    normalise: tuple[Any, Any] | None = None,
    exact: bool = False,
) -> SegmentPartition: ...
def partition(
    model: nn.Module | Program,
    plane: Slice | Segment,
    *,
    output: str | int | None = None,
    normalise: tuple[Any, Any] | None = None,
    decide: Decide | None = None,
    exact: bool = False,
    threads: int | None = None,
    progress: bool | None = None,
    _tuning: Tuning | None = None,
) -> Partition | SegmentPartition:
    """Return the exact partition of a slice, or of a segment, into activation regions.

    Parameters
    ----------
    model : nn.Module or Program
        In eval mode, piecewise linear, one tensor in, batch first. It is left as it is. float32 and float16
        weights are cast exactly to float64.
    plane : Slice or Segment
        Of the model's input shape. A segment has no decision boundary and takes one thread.
    output : str or int, optional
        Where the network ends: a node, e.g. ``"linear_2"``, or the path of a module. A number is that entry,
        from 0, of what the model returns, flattened. Default: what the model returns.
    normalise : (mean, std), optional
        The network is ``model((x - mean) / std)``; the slice is in terms of ``x``.
    decide : {"argmax", "argmin", "zero"}, optional
        How an output is taken for a decision: the class of the largest or of the smallest output, or the sign
        of the only one. Default: "zero" for one output, "argmax" for several.
    exact : bool
        Decide what float64 leaves open by rational arithmetic: no knot is moved, and regions 1e-17 wide are
        regions. Costs little unless many knots meet in one point.
    threads : int, optional
        Blocks worked on at once; the result does not depend on it. Default: the cores that this process may
        use.
    progress : bool, optional
        Show progress, with the time left, once two seconds have passed. Default: if stderr is a terminal.

    Returns
    -------
    Partition, or SegmentPartition for a segment

    Raises
    ------
    ModelError
        If the model cannot be used: train mode, an operation that is not piecewise linear
        (`NotPiecewiseLinear`), control flow that depends on data (`TraceError`), NaN among the weights, an
        input or output that does not fit.
    SliceError
        If the slice is of another shape than the input.
    ValueError
        If ``exact`` is no bool, or ``threads`` no whole number from 1 up.
    PredicateError, ComplexError
        If float64 does not suffice to tell what the partition is; nothing is returned then.

    Notes
    -----
    Computed from the weights, not sampled. By default a knot that passes a vertex within 2^-40 of the scale
    of its preactivation is taken to pass through it; ``report.snaps`` lists every case. In exact mode the
    regions and their neighbours are those of the float64 weights, slice and domain without any rounding;
    vertices are rounded to float64.

    Examples
    --------
    A network without any nonlinearity has one region, the domain itself.

    >>> part = partition(nn.Linear(2, 3).eval(), Slice.box(0, 1))
    >>> part.n_regions, part.areas().tolist()
    (1, [1.0])
    """
    if not isinstance(exact, bool):
        raise ValueError(f"exact is {exact!r}; it must be True or False")
    program = _program(model, plane, output, normalise)
    if isinstance(plane, Segment):
        if decide is not None:
            raise ModelError("a segment has no decision boundary to find; leave decide out, or take a Slice")
        with _one_thread_per_worker():
            return partition_segment(program, plane, exact=exact)
    decision = _decision(decide, program)
    n_threads = _threads(threads)
    begin = time.perf_counter()
    with _one_thread_per_worker():
        precise = ExactProgram.on_slice(program, plane) if exact else None
        plan = make_plan(program, plane, None if precise is None else precise.knots)
        with _shown(progress, plane.area) as show:
            result = run(plan, _tuning, n_threads, show)
        return _finished(result, program, precise, plane, plan, decision, n_threads, begin)


def _program(
    model: nn.Module | Program,
    plane: Slice | Segment,
    output: str | int | None,
    normalise: tuple[Any, Any] | None,
) -> Program:
    """The model as a float64 program that takes the slice's points."""
    if not isinstance(plane, Slice | Segment):
        raise SliceError(
            f"plane is a {type(plane).__name__}; make one with Slice.through, .around or .box, or a Segment "
            "with Segment.between"
        )
    if isinstance(model, nn.Module):
        return Program.from_module(model, plane.input_shape, normalise=normalise, output=output)
    if not isinstance(model, Program):
        raise ModelError(f"model is a {type(model).__name__}; pass an nn.Module, or a Program")
    if output is not None or normalise is not None:
        raise ModelError(
            "a Program has its output and normalisation already; give them to Program.from_module"
        )
    if model.input_shape != plane.input_shape:
        raise SliceError(
            f"the {type(plane).__name__.lower()} is in inputs of shape {plane.input_shape}, but the network "
            f"takes {model.input_shape}"
        )
    exact = model.dtype == torch.float64 and model.device.type == "cpu"
    return model if exact else model.to(torch.float64, "cpu")


def _decision(decide: str | None, program: Program) -> str:
    n_outputs = torch.Size(program.output_shape).numel()
    if decide is None:
        return "zero" if n_outputs == 1 else "argmax"
    if decide not in ("argmax", "argmin", "zero"):
        raise ModelError(f"decide is {decide!r}; it must be 'argmax', 'argmin' or 'zero'")
    if (decide == "zero") != (n_outputs == 1):
        needs = "one output" if decide == "zero" else "several outputs"
        raise ModelError(
            f"decide={decide!r} needs {needs}, but the network has {n_outputs}; name another output"
        )
    return decide


def _threads(threads: int | None) -> int:
    if threads is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise ValueError(f"threads is {threads!r}; it must be a whole number from 1 up")
    return threads


@contextlib.contextmanager
def _one_thread_per_worker() -> Iterator[None]:
    """Keep BLAS and torch to one thread in each of the engine's own; put both back afterwards.

    Sums are then added up in the same order whatever the number of threads, and threads do not multiply.
    """
    _one_thread.enter()
    try:
        yield
    finally:
        _one_thread.leave()


@functools.cache
def _thread_pools() -> ThreadpoolController:
    """The process's thread pools; to find them takes 5 ms, as long as a small partition."""
    return ThreadpoolController()


class _OneThread:
    """One thread for BLAS and torch, while anybody needs it; what was before, when the last has left.

    The settings are the process's, so partitions that overlap in a caller's own threads share them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._restore = contextlib.ExitStack()

    def enter(self) -> None:
        with self._lock:
            if not self._users:
                with contextlib.ExitStack() as restore:
                    restore.callback(torch.set_num_threads, torch.get_num_threads())
                    torch.set_num_threads(1)
                    restore.enter_context(_thread_pools().limit(limits=1))
                    self._restore = restore.pop_all()
            self._users += 1

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                self._restore.close()


_one_thread = _OneThread()


@contextlib.contextmanager
def _shown(progress: bool | None, area: float) -> Iterator[Callable[[float], None] | None]:
    """A bar on stderr, once the work has taken a while, for how much of the domain's area is finished."""
    if progress is None:
        progress = sys.stderr.isatty()
    if not progress:
        yield None
        return
    layout = "{desc} {percentage:3.0f}% |{bar}| {elapsed}, {remaining} left"
    with tqdm(total=area, desc="partition", delay=SILENT_SECONDS, bar_format=layout, leave=False) as bar:

        def show(done: float) -> None:
            bar.update(done - bar.n)  # less than before where the domain is cut up anew

        yield show


def _finished(
    result: EngineResult,
    program: Program,
    precise: ExactProgram | None,
    plane: Slice,
    plan: Plan,
    decide: str,
    threads: int,
    begin: float,
) -> Partition:
    layers = layers_of(program, plan)
    edge_knots = decode(layers, result.edge_knots)
    areas: list[Fraction] = []
    if precise is not None:
        edge_bit = first_bits(layers, result.edge_knot_ptr, edge_knots)
        areas = exact_areas(result.thin, result.complex, result.blocks, edge_bit, plane.domain, precise)
    return Partition(
        plane=plane,
        complex=result.complex,
        outputs=result.outputs,
        edge_knot_ptr=result.edge_knot_ptr,
        edge_knots=edge_knots,
        blocks=result.blocks,
        layers=layers,
        output_shape=program.output_shape,
        decide=decide,
        model_digest=program.digest(),
        report=make_report(
            result, program, plane, layers, threads, time.perf_counter() - begin, precise is not None
        ),
        program=program,
        exact=precise is not None,
        thin_regions=result.thin if areas else np.empty(0, np.int64),
        thin_areas=np.array([float(area) for area in areas]),
        output_scale=output_scale(program, plane),
    )
