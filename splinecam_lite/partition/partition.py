"""The exact partition of a network on a slice: checks at the door, the engine, checks of the result."""

import time
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike
from torch import nn

from splinecam_lite.engine.engine import EngineResult, run
from splinecam_lite.engine.interrupts import apart
from splinecam_lite.engine.plan import Plan, Tuning, tuning_for
from splinecam_lite.errors import ModelError, SliceError
from splinecam_lite.network.exact.forms import ExactProgram
from splinecam_lite.network.program import Program
from splinecam_lite.network.segments import Segment
from splinecam_lite.network.slices import Slice
from splinecam_lite.partition.door import as_program, decision_of, thread_count
from splinecam_lite.partition.exactness import exact_areas, knots_of
from splinecam_lite.partition.layers import decode, first_bits, layers_of
from splinecam_lite.partition.memory import memory_budget, within
from splinecam_lite.partition.planning import make_plan
from splinecam_lite.partition.report import make_report
from splinecam_lite.partition.result import Partition
from splinecam_lite.partition.segments.partition import partition_segment
from splinecam_lite.partition.segments.result import SegmentPartition
from splinecam_lite.partition.sizing import sized, wanted
from splinecam_lite.partition.staged import comparisons_of, shown
from splinecam_lite.partition.stored import StoredPartition, write_partition
from splinecam_lite.partition.workers import one_thread_per_worker, shown_progress

Decide = Literal["argmax", "argmin", "zero"]


@overload
def partition(
    model: nn.Module | Program | str | Path,
    plane: Slice,
    *,
    store: str | Path,
    output: str | int | None = None,
    normalise: tuple[Any, Any] | None = None,
    approximate: Mapping[str, float] | None = None,
    decide: Decide | None = None,
    memory: str | int | None = None,
    threads: int | None = None,
    progress: bool | None = None,
    _tuning: Tuning | None = None,
) -> StoredPartition: ...
@overload
def partition(
    model: nn.Module | Program | str | Path,
    plane: Slice,
    *,
    output: str | int | None = None,
    normalise: tuple[Any, Any] | None = None,
    approximate: Mapping[str, float] | None = None,
    decide: Decide | None = None,
    exact: bool = False,
    memory: str | int | None = None,
    threads: int | None = None,
    progress: bool | None = None,
    _tuning: Tuning | None = None,
) -> Partition: ...
@overload
def partition(
    model: nn.Module | Program | str | Path,
    *,
    around: ArrayLike | None = None,
    between: tuple[ArrayLike, ArrayLike] | None = None,
    regions: int,
    shape: Literal["disc", "square"] = "disc",
    directions: ArrayLike | None = None,
    seed: int = 0,
    output: str | int | None = None,
    normalise: tuple[Any, Any] | None = None,
    approximate: Mapping[str, float] | None = None,
    decide: Decide | None = None,
    exact: bool = False,
    memory: str | int | None = None,
    threads: int | None = None,
    progress: bool | None = None,
    _tuning: Tuning | None = None,
) -> Partition: ...
@overload
def partition(
    model: nn.Module | Program | str | Path,
    plane: Segment,
    *,
    output: str | int | None = None,
    normalise: tuple[Any, Any] | None = None,
    approximate: Mapping[str, float] | None = None,
    exact: bool = False,
) -> SegmentPartition: ...
@apart
def partition(
    model: nn.Module | Program | str | Path,
    plane: Slice | Segment | None = None,
    *,
    around: ArrayLike | None = None,
    between: tuple[ArrayLike, ArrayLike] | None = None,
    regions: int | None = None,
    shape: Literal["disc", "square"] = "disc",
    directions: ArrayLike | None = None,
    seed: int = 0,
    output: str | int | None = None,
    normalise: tuple[Any, Any] | None = None,
    approximate: Mapping[str, float] | None = None,
    decide: Decide | None = None,
    exact: bool = False,
    memory: str | int | None = None,
    store: str | Path | None = None,
    threads: int | None = None,
    progress: bool | None = None,
    _tuning: Tuning | None = None,
) -> Partition | SegmentPartition | StoredPartition:
    """Return the exact partition of a slice, or of a segment, into activation regions.

    Parameters
    ----------
    model : nn.Module, Program, str or Path
        In eval mode, piecewise linear, one tensor in, batch first. It is left as it is. float32 and float16
        weights are cast exactly to float64. A path is that of an ``.onnx`` or ``.pt2`` file.
    plane : Slice or Segment
        Of the model's input shape. A segment has no decision boundary and takes one thread.
    around, between, regions, shape, directions, seed
        Instead of ``plane``: a disc or square around an input, or a strip from one input to another, with
        about ``regions`` regions; `Sized domains` below.
    output : str or int, optional
        Where the network ends: a node, e.g. ``"linear_2"``, or the path of a module. A number is that entry,
        from 0, of what the model returns, flattened. Default: what the model returns.
    normalise : (mean, std), optional
        The network is ``model((x - mean) / std)``; the slice is in terms of ``x``.
    approximate : mapping from str to float, optional
        Smooth activations to be replaced by piecewise-linear ones, and by how much these may differ from them
        at most, for any number: ``{"gelu": 1e-3}``. See `Program.approximated`. The result is the exact
        partition of that approximation, and says so wherever it is named.
    decide : {"argmax", "argmin", "zero"}, optional
        How an output is taken for a decision: the class of the largest or of the smallest output, or the sign
        of the only one. Default: "zero" for one output, "argmax" for several.
    exact : bool
        Decide what float64 leaves open by rational arithmetic: no knot is moved, and regions 1e-17 wide are
        regions. Costs little unless many knots meet in one point.
    memory : str or int, optional
        What the work and its result may take beyond what the process has taken already: ``"2GB"``, or bytes.
        Regions and their neighbours do not depend on it. Default: half of what is free.
    store : path, optional
        Write the partition to this folder, block by block, instead of keeping it in memory. A run that was
        interrupted goes on where it was when it is begun again.
    threads : int, optional
        Blocks worked on at once; the result does not depend on it. Default: the cores that this process may
        use.
    progress : bool, optional
        Show progress, with the time left, once two seconds have passed. Default: if stderr is a terminal.

    Returns
    -------
    Partition, or SegmentPartition for a segment, or StoredPartition with ``store``

    Raises
    ------
    ModelError
        If the model cannot be used: train mode, an operation that is not piecewise linear
        (`NotPiecewiseLinear`), control flow that depends on data (`TraceError`), NaN among the weights, an
        input or output that does not fit.
    SliceError
        If the slice is of another shape than the input, or no domain has so many regions.
    ValueError
        If ``exact`` is no bool, or ``threads`` no whole number from 1 up.
    MemoryBudgetError
        If the result does not fit in the memory that it may take.
    FileError
        If the folder holds something else, or another process writes to it.
    PredicateError, ComplexError
        If float64 does not suffice to tell what the partition is; nothing is returned then.

    Notes
    -----
    Computed from the weights, not sampled. By default a knot that passes a vertex within 2^-40 of the scale
    of its preactivation is taken to pass through it; ``report.snaps`` lists every case. In exact mode the
    regions and their neighbours are those of the float64 weights, slice and domain without any rounding;
    vertices are rounded to float64.

    *Sized domains.* ``around=x, regions=50_000`` finds the radius of a disc (``shape="square"``: half the
    width of a square) around the input ``x``, in the plane of ``directions``, ``(2, *input_shape)``, or in a
    random one drawn with ``seed``. ``between=(x1, x2), regions=50_000`` finds the width of the strip along
    the segment, see `Slice.strip`; ``directions`` is then the one across. The number of regions is within a
    quarter of the wanted one; ``report.sizing`` tells how the size was found, ``part.plane`` has it.

    Examples
    --------
    A network without any nonlinearity has one region, the domain itself.

    >>> part = partition(nn.Linear(2, 3).eval(), Slice.box(0, 1))
    >>> part.n_regions, part.areas().tolist()
    (1, [1.0])
    """
    if not isinstance(exact, bool):
        raise ValueError(f"exact is {exact!r}; it must be True or False")
    if plane is None:
        target = wanted(around, between, regions, shape, directions, seed)
        program = as_program(model, target.plane(1.0), output, normalise, approximate)
        if store is not None:
            raise ValueError("a partition of a sized domain is kept in memory; leave store out")
        same: Any = {
            "decide": decide, "exact": exact, "memory": memory, "threads": threads, "progress": progress
        }  # fmt: skip
        return sized(program, target, lambda domain: partition(program, domain, _tuning=_tuning, **same))
    given = any(wish is not None for wish in (around, between, regions, directions))
    if given or shape != "disc" or seed != 0:
        raise SliceError(
            "the domain is the slice that was given; leave around, between, regions, shape, directions and "
            "seed out"
        )
    program = as_program(model, plane, output, normalise, approximate)
    if isinstance(plane, Segment):
        if decide is not None:
            raise ModelError("a segment has no decision boundary to find; leave decide out, or take a Slice")
        if store is not None:
            raise ValueError("the partition of a segment is kept in memory; leave store out")
        with one_thread_per_worker():
            return partition_segment(program, plane, exact=exact)
    if exact and store is not None:
        raise ValueError("an exact partition is kept in memory; leave store out, or exact")
    decision = decision_of(decide, program)
    budget = memory_budget(memory)
    n_threads = thread_count(threads)
    begin = time.perf_counter()
    with one_thread_per_worker():
        precise = ExactProgram.on_slice(program.compared(), plane) if exact else None
        plan = make_plan(program, plane, None if precise is None else knots_of(precise))
        tuning = _tuning or within(tuning_for(plan), budget, n_threads)
        with shown_progress(progress, plane.area) as show:
            if store is not None:
                return write_partition(program, plane, plan, store, decision, tuning, n_threads, show)
            result = run(plan, tuning, n_threads, show)
        return whole_partition(result, program, precise, plane, plan, decision, n_threads, begin)


def whole_partition(
    result: EngineResult,
    program: Program,
    precise: ExactProgram | None,
    plane: Slice,
    plan: Plan,
    decide: str,
    threads: int,
    begin: float,
) -> Partition:
    """Return what the engine has found as users see it: with layers, report and merged regions."""
    layers = layers_of(program, plan)
    edge_knots = decode(layers, result.edge_knots)
    areas: list[Fraction] = []
    if precise is not None:
        edge_bit = first_bits(layers, result.edge_knot_ptr, edge_knots)
        areas = exact_areas(result.thin, result.complex, result.blocks, edge_bit, plane.domain, precise)
    compared = comparisons_of(program)
    fine = Partition(
        plane=plane,
        complex=result.complex,
        outputs=result.outputs,
        edge_knot_ptr=result.edge_knot_ptr,
        edge_knots=edge_knots,
        blocks=result.blocks,
        layers=layers,
        output_shape=program.output_shape,
        decide=decide,
        model_digest=program.compared().digest(),
        report=make_report(
            result,
            program,
            plane,
            layers,
            threads,
            time.perf_counter() - begin,
            precise is not None,
            plan.output_scale,
        ),
        program=program.compared(),
        exact=precise is not None,
        thin_regions=result.thin if areas else np.empty(0, np.int64),
        thin_areas=np.array([float(area) for area in areas]),
        output_scale=plan.output_scale,
    )
    return fine if compared is None else shown(fine, compared, program.digest(), program)
