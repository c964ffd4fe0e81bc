"""Exporting a module without touching it: a float64 copy, a silent torch.export, errors in our own words."""

import contextlib
import copy
import io
import logging
import operator
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from splinecam_lite.errors import ModelError, TraceError
from splinecam_lite.network.location import source_of

EXAMPLE_BATCH = 2
"""Batch size of the exported example: torch.export takes a size of 1 for a constant."""


def float64_copy(module: nn.Module) -> nn.Module:
    """Copy a module to the CPU, its floating weights cast exactly."""
    try:
        # In two steps: Apple's devices have no float64, not even on the way.
        twin = copy.deepcopy(module).cpu().to(dtype=torch.float64)
    except Exception as error:
        raise TraceError(f"the module cannot be copied and cast to float64: {first_line(error)}") from error
    for parameter in twin.parameters():
        # Without gradients torch fuses whole transformer layers into one operator, activations and all.
        parameter.requires_grad_(parameter.is_floating_point())
    return twin


def export(twin: nn.Module, shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> ExportedProgram:
    """Export a float64 copy with a symbolic batch size, functional, operators otherwise as they are.

    Parameters
    ----------
    shape, dtype
        Of one input of the module: floating, or whole numbers.

    Raises
    ------
    ModelError
        If the module does not run on a batch of inputs of this shape.
    TraceError
        If it branches on data, fixes the batch size, or torch.export refuses it.
    """
    x = torch.zeros(EXAMPLE_BATCH, *shape, dtype=dtype)
    _require_runs(twin, x)
    dynamic = {i: Dim.AUTO if i == 0 else Dim.STATIC for i in range(x.ndim)}
    try:
        exported = functional(torch.export.export(twin, (x,), dynamic_shapes=(dynamic,)))
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


def functional(exported: ExportedProgram) -> ExportedProgram:
    """Take in-place operations apart, and keep all others whole.

    ``run_decompositions({})`` does so, but for two: it writes Softshrink and Hardshrink out as comparisons,
    whose pieces nobody could put together again, and an in-place RReLU as one with noise that eval mode does
    not use.
    """
    for node in exported.graph.nodes:
        node.target = DISGUISES.get(node.target, node.target)
    exported = exported.run_decompositions({})
    for node in exported.graph.nodes:
        node.target = UNDISGUISED.get(node.target, node.target)
        _without_noise(node)
    return exported


def pin_literals(graph: fx.Graph) -> bool:
    """Write their dtype on all tensors that a graph makes of nothing: ``torch.zeros(3)`` and the like.

    They have the default dtype of the process else, which then had to be what it was during the export.

    Returns
    -------
    bool
        Whether nothing is left that depends on it, as do quotients of whole numbers.
    """
    free = True
    for node in graph.nodes:
        result = node.meta.get("val")
        if not isinstance(result, Tensor) or not result.is_floating_point() or node.op != "call_function":
            continue
        read = [n.meta.get("val") for n in node.all_input_nodes]
        if any(isinstance(t, Tensor | tuple | list) and _is_floating(t) for t in read):
            continue
        if node.kwargs.get("dtype") is not None:
            continue
        schema = getattr(node.target, "_schema", None)
        if schema is not None and any(a.name == "dtype" and a.kwarg_only for a in schema.arguments):
            node.kwargs = {**node.kwargs, "dtype": result.dtype}
        else:
            free = False
    return free


def _is_floating(values: Tensor | tuple[Any, ...] | list[Any]) -> bool:
    if isinstance(values, Tensor):
        return values.is_floating_point()
    return any(isinstance(t, Tensor) and t.is_floating_point() for t in values)


def _without_noise(node: fx.Node) -> None:
    """Make the result of RReLU with noise, which is not drawn in eval mode, that of RReLU."""
    source = node.args[0] if node.args else None
    noisy = torch.ops.aten.rrelu_with_noise_functional.default
    if node.target is operator.getitem and isinstance(source, fx.Node) and source.target is noisy:
        names = [argument.name for argument in noisy._schema.arguments]
        given = dict(zip(names, source.args, strict=False)) | dict(source.kwargs)
        if node.args[1] == 0 and not given.get("training", False):
            kept: dict[str, Any] = {name: given[name] for name in ("lower", "upper") if name in given}
            node.target, node.args, node.kwargs = torch.ops.aten.rrelu.default, (given["self"],), kept


def _disguises() -> dict[Any, Any]:
    """Operators of our own that compute what torch's do, for those that torch would take apart."""
    for name in ("softshrink", "hardshrink"):
        LIBRARY.define(f"{name}(Tensor self, Scalar lambd=0.5) -> Tensor")
        LIBRARY.impl(name, getattr(torch.ops.aten, name).default, "CompositeExplicitAutograd")
        LIBRARY.impl(name, lambda x, lambd=0.5: torch.empty_like(x), "Meta")
    aten, own = torch.ops.aten, torch.ops.splinecam_lite
    return {
        aten.softshrink.default: own.softshrink.default,
        aten.hardshrink.default: own.hardshrink.default,
    }


LIBRARY = torch.library.Library("splinecam_lite", "FRAGMENT")
DISGUISES = _disguises()
UNDISGUISED = {own: aten for aten, own in DISGUISES.items()}


def _require_runs(twin: nn.Module, x: Tensor) -> None:
    try:
        with torch.no_grad():
            twin(x)
    except Exception as error:
        remedy = "; do not fix a dtype in forward" if "dtype" in str(error) else ""
        if "embedding" in str(error):
            remedy = (
                "; an Embedding looks whole numbers up, and a slice has none: take its vectors as the input, "
                "e.g. with start='...', its path, and an example of whole numbers"
            )
        raise ModelError(
            f"the module does not run on {_article(x.dtype)} input of shape {tuple(x.shape)}{_place(error)}: "
            f"{first_line(error)}{remedy}"
        ) from error


def _article(dtype: torch.dtype) -> str:
    """``"a float64"``, ``"an int64"``."""
    name = str(dtype).removeprefix("torch.")
    return f"{'an' if name.startswith('i') else 'a'} {name}"


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


def new_tensors_on_the_cpu() -> contextlib.AbstractContextManager[object]:
    """Tensors that are made without a device are on the CPU, whatever ``torch.set_default_device`` says."""
    # Not a mode of torch's for nothing: every operation would pass through it.
    return contextlib.nullcontext() if torch.get_default_device().type == "cpu" else torch.device("cpu")


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Nothing is printed, logged or warned of, and torch's random state is put back.

    New tensors are on the CPU, whatever ``torch.set_default_device`` says.
    """
    disabled = logging.root.manager.disable
    silence = io.StringIO()
    with (
        warnings.catch_warnings(),
        torch.random.fork_rng(devices=[]),
        contextlib.redirect_stdout(silence),
        contextlib.redirect_stderr(silence),
        new_tensors_on_the_cpu(),
    ):
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(disabled)
