"""Exporting a module without touching it: a float64 copy, a silent torch.export, errors in our own words."""

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from splinecam_lite.errors import ModelError, TraceError
from splinecam_lite.network.location import source_of

EXAMPLE_BATCH = 2
"""Batch size of the exported example: torch.export takes a size of 1 for a constant."""


def float64_copy(module: nn.Module) -> nn.Module:
    """Copy a module to the CPU, its floating weights cast exactly."""
    try:
        twin = copy.deepcopy(module).to(device="cpu", dtype=torch.float64)
    except Exception as error:
        raise TraceError(f"the module cannot be copied and cast to float64: {first_line(error)}") from error
    for parameter in twin.parameters():
        # Without gradients torch fuses whole transformer layers into one operator, activations and all.
        parameter.requires_grad_(parameter.is_floating_point())
    return twin


def export(twin: nn.Module, shape: tuple[int, ...]) -> ExportedProgram:
    """Export a float64 copy with a symbolic batch size, functional, operators otherwise as they are.

    ``run_decompositions({})`` takes in-place operations apart, and keeps conv2d, relu6, prelu and pooling
    whole.

    Raises
    ------
    ModelError
        If the module does not run on a batch of inputs of this shape.
    TraceError
        If it branches on data, fixes the batch size, or torch.export refuses it.
    """
    x = torch.zeros(EXAMPLE_BATCH, *shape)
    _require_runs(twin, x)
    dynamic = {i: Dim.AUTO if i == 0 else Dim.STATIC for i in range(x.ndim)}
    try:
        exported = torch.export.export(twin, (x,), dynamic_shapes=(dynamic,)).run_decompositions({})
    except GuardOnDataDependentSymNode as error:
        raise TraceError(
            f"the module branches on its data{_place(error)}; write it as one fixed sequence of operations, "
            "e.g. with torch.where"
        ) from error
    except Exception as error:
        raise TraceError(
            f"torch.export cannot write the module down{_place(error)}: {first_line(error)}"
        ) from error
    for node in exported.graph.nodes:
        if node.name in exported.graph_signature.user_inputs and not isinstance(
            node.meta["val"].shape[0], torch.SymInt
        ):
            raise TraceError("the module fixes its batch size; write shapes for any batch, e.g. x.flatten(1)")
    return exported


def _require_runs(twin: nn.Module, x: Tensor) -> None:
    try:
        with torch.no_grad():
            twin(x)
    except Exception as error:
        remedy = "; do not fix a dtype in forward" if "dtype" in str(error) else ""
        raise ModelError(
            f"the module does not run on a float64 input of shape {tuple(x.shape)}{_place(error)}: "
            f"{first_line(error)}{remedy}"
        ) from error


def first_line(error: BaseException) -> str:
    """Type and first line of an error."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0]}"


def _place(error: BaseException) -> str:
    source = source_of(error)
    return f" at {source}" if source else ""


@contextlib.contextmanager
def float64_literals() -> Iterator[None]:
    """Tensors that a forward creates without a dtype are float64 meanwhile."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Nothing is printed, logged or warned of, and torch's random state is put back."""
    disabled = logging.root.manager.disable
    silence = io.StringIO()
    with (
        warnings.catch_warnings(),
        torch.random.fork_rng(devices=[]),
        contextlib.redirect_stdout(silence),
        contextlib.redirect_stderr(silence),
    ):
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(disabled)
