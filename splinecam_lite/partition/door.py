"""Checks of what a caller gives, before any work: the model, the slice, the decision, the threads."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from splinecam_lite.errors import ModelError, SliceError
from splinecam_lite.network.program import Program
from splinecam_lite.network.segments import Segment
from splinecam_lite.network.slices import Slice


def as_program(
    model: nn.Module | Program | str | Path,
    plane: Slice | Segment,
    output: str | int | None,
    normalise: tuple[Any, Any] | None,
    approximate: Mapping[str, float] | None,
) -> Program:
    """The model as a float64 program that takes the slice's points; what is smooth approximated as asked."""
    program = _float64_program(model, plane, output, normalise)
    return program if approximate is None else program.approximated(approximate)


def _float64_program(
    model: nn.Module | Program | str | Path,
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
    if isinstance(model, str | Path):
        return Program.from_file(model, plane.input_shape, normalise=normalise, output=output)
    if isinstance(model, nn.Module):
        return Program.from_module(model, plane.input_shape, normalise=normalise, output=output)
    if not isinstance(model, Program):
        raise ModelError(
            f"model is a {type(model).__name__}; pass an nn.Module, a Program, or the path of an .onnx or "
            ".pt2 file"
        )
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


def decision_of(decide: str | None, program: Program) -> str:
    """Return how outputs are taken for a decision: what was asked for, or what suits their number.

    Raises
    ------
    ModelError
        If ``decide`` is unknown, or does not suit the number of outputs.
    """
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


def thread_count(threads: int | None) -> int:
    """Return the number of threads asked for, or of the cores that this process may use.

    Raises
    ------
    ValueError
        Unless it is a whole number from 1 up.
    """
    if threads is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise ValueError(f"threads is {threads!r}; it must be a whole number from 1 up")
    return threads
