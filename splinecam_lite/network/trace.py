"""From an ``nn.Module`` to a ``Program``: one export, then a cheap lowering for each set of weights."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import TensorArgument

from splinecam_lite.errors import ModelError, TraceError
from splinecam_lite.network.exporting import (
    export,
    first_line,
    float64_copy,
    float64_literals,
    new_tensors_on_the_cpu,
    pin_literals,
    undisturbed,
)
from splinecam_lite.network.gate import GraphReference, ModuleReference, check
from splinecam_lite.network.location import where
from splinecam_lite.network.lowering import lower
from splinecam_lite.network.output import joined, one_entry
from splinecam_lite.network.program import Program
from splinecam_lite.network.starting import input_node, require_start
from splinecam_lite.network.weights import float64_weights, mean_and_std, nearest
from splinecam_lite.network.wrappers import bare_names, require_named_input, unwrap_inside, unwrapped


@dataclass(frozen=True, eq=False)
class Traced:
    """An exported module, to be lowered with any weights of its architecture.

    Attributes
    ----------
    input_shape : tuple of int
        Shape of one sample.
    outputs : tuple of str
        Nodes that the module returns.
    input_dtype : torch.dtype
        float64; or int64, if the module looks its input up.
    """

    input_shape: tuple[int, ...]
    outputs: tuple[str, ...]
    _exported: ExportedProgram
    _module: nn.Module
    _prefixes: tuple[str, ...]
    input_dtype: torch.dtype = torch.float64
    _pinned: bool = False
    """Whether the graph computes the same whatever the default dtype."""
    _joined: bool = False
    """Whether the output is of our making, `with_all_outputs`, and not what the module returns."""

    @property
    def graph(self) -> fx.Graph:
        """The exported graph."""
        return self._exported.graph

    def program(
        self,
        state: Mapping[str, Tensor] | None = None,
        *,
        normalise: tuple[Any, Any] | None = None,
        output: str | int | None = None,
        start: str | None = None,
    ) -> Program:
        """Lower to a program with the given weights, and check it against the module.

        Parameters
        ----------
        state : mapping from str to Tensor, optional
            A state dict of the module, e.g. of a checkpoint. Default: the weights at the time of ``trace``.
        normalise : (mean, std), optional
            The program computes ``module((x - mean) / std)``. Numbers, one entry for each channel (the first
            axis of a sample), or arrays broadcastable to a sample.
        output : str or int, optional
            Where the network ends: a node, e.g. ``"linear_2"``, or the path of a module (its last use).
            A number is that entry, from 0, of what the module returns, flattened; the output is then a scalar
            of shape ``()``. Default: what the module returns.
        start : str, optional
            Where the network begins: a node, or the path of a module (its last use), e.g. the Embedding
            ``"transformer.wte"``. What it gives is the input of the program; the rest of the network may
            depend on the module's own input by its shape only.

        Returns
        -------
        Program
            In float64; it reproduced the module on random inputs to rounding.

        Raises
        ------
        ModelError
            If weights are missing, of another shape, NaN or infinite; if ``normalise``, ``output``
            or ``start`` do not fit, or whole numbers are the input and there is no ``start``.
        TraceError
            If the module mixes samples of a batch, draws random numbers, or takes its input past ``start``.

        Examples
        --------
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)).eval()
        >>> traced = trace(model, (2,))
        >>> zeros = {name: torch.zeros_like(weight) for name, weight in model.state_dict().items()}
        >>> traced.program(zeros).run(torch.ones(1, 2)).tolist()
        [[0.0]]
        >>> traced.program(output="1").output_shape
        (3,)
        >>> traced.program(output=0).output_shape
        ()
        """
        with undisturbed(), float64_literals():
            return self._program(state, normalise, output, start, ask_module=True)

    def rebound(
        self, state: Mapping[str, Tensor], *, output: str | int | None = None, start: str | None = None
    ) -> Program:
        """Lower to a program with other weights than those that `program` has been called with before.

        The program is checked against the exported graph, which `program` has held against the module. None
        of the module's own code runs, so that nothing has to be silenced or put back that is the whole
        process's, whatever its other threads do; but for the default dtype, in graphs with quotients of whole
        numbers and the like.

        Parameters
        ----------
        state, output, start
            As in `program`.

        Returns
        -------
        Program

        Raises
        ------
        ModelError, TraceError
            As `program`.

        Examples
        --------
        >>> traced = trace(nn.Linear(2, 1).eval(), (2,))
        >>> traced.rebound({"weight": torch.ones(1, 2), "bias": torch.zeros(1)}).run([[1.0, 2.0]]).tolist()
        [[3.0]]
        """
        with new_tensors_on_the_cpu(), self._literals():
            return self._program(state, None, output, start, ask_module=False)

    def with_all_outputs(self) -> "Traced":
        """Return the module with all it returns as one output: flattened, one value after the other.

        That is all floating values with the samples along their first axis. This one itself, if there is one
        value or none such.
        """
        batch = input_node(self.graph, self._weights(None)[1]).meta["val"].shape[0]
        returned = [node for node in self.graph.nodes if node.name in self.outputs]
        chosen = [node for node in returned if _has_samples(node.meta["val"], batch)]
        if len(self.outputs) < 2 or not chosen:
            return self
        return replace(self, outputs=(joined(self.graph, chosen).name,), _joined=True)

    def _literals(self) -> contextlib.AbstractContextManager[object]:
        return contextlib.nullcontext() if self._pinned else float64_literals()

    def _program(
        self,
        state: Mapping[str, Tensor] | None,
        normalise: tuple[Any, Any] | None,
        output: str | int | None,
        start: str | None,
        *,
        ask_module: bool,
    ) -> Program:
        weights, tensors = self._weights(state)
        scaling = None if normalise is None else mean_and_std(normalise, self.input_shape)
        name, entry = _name_or_entry(output)
        node, first = self._output_node(name), self._start_node(start)
        if first is not None:
            if scaling is not None:
                raise ModelError(f"normalise is of the module's input, but start='{start}'; leave one out")
            require_start(first, str(start), node, input_node(self.graph, tensors))
        program = lower(self.graph, tensors, node, normalise=scaling, start=first)
        reference = (
            ModuleReference(self._module, weights, scaling)
            if ask_module and name is None and first is None and not self._joined
            else GraphReference(node, tensors, scaling, first)
        )
        check(reference, program, self._precision())
        return program if entry is None else one_entry(program, entry)

    def values_at(self, start: str, x: Tensor, state: Mapping[str, Tensor] | None = None) -> Tensor:
        """Take inputs of the module to where a program with this ``start`` begins.

        Parameters
        ----------
        start : str
            As in ``program``.
        x : (batch, *input_shape) Tensor
        state : mapping from str to Tensor, optional

        Returns
        -------
        (batch, *program.input_shape) float64 Tensor
            On the CPU.

        Raises
        ------
        ModelError
            If the inputs do not fit: whole numbers beyond the vocabulary, say.

        Examples
        --------
        >>> model = nn.Sequential(nn.Embedding(5, 2), nn.Flatten(), nn.Linear(6, 1)).eval()
        >>> traced = trace(model, torch.zeros(1, 3, dtype=torch.int64))
        >>> traced.values_at("0", torch.tensor([[4, 0, 4]])).shape, traced.program(start="0").input_shape
        (torch.Size([1, 3, 2]), (3, 2))
        """
        node = self._start_node(start)
        assert node is not None
        _, tensors = self._weights(state)
        with new_tensors_on_the_cpu(), self._literals(), torch.no_grad():
            try:
                return GraphReference(node, tensors)(x.cpu().to(self.input_dtype))
            except (IndexError, RuntimeError) as error:
                raise ModelError(
                    f"inputs of shape {tuple(x.shape)} cannot be taken to start='{start}': "
                    f"{first_line(error)}"
                ) from error

    def _weights(self, state: Mapping[str, Tensor] | None) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """All tensors in float64: by their names in the module, and by those of their placeholders."""
        if state is not None:
            state = bare_names(state, self._prefixes)
        weights = float64_weights(self._exported, state)
        specs = self._exported.graph_signature.input_specs
        return weights, {spec.arg.name: weights[spec.target] for spec in specs if spec.target is not None}

    def _start_node(self, name: str | None) -> fx.Node | None:
        if name is not None:
            return self._node(name)
        if not self.input_dtype.is_floating_point:
            looked_up = [n for n in self.graph.nodes if n.op == "call_function" and "embedding" in n.name]
            paths = ", ".join(repr(where(n).module_path or n.name) for n in looked_up) or "none found"
            raise ModelError(
                f"the module takes whole numbers, which do not change by degrees; start after its Embedding, "
                f"with start='...' (Embeddings: {paths})"
            )
        return None

    def _output_node(self, name: str | None) -> fx.Node:
        if name is not None:
            return self._node(name)
        if len(self.outputs) != 1:
            raise ModelError(
                f"the module returns {len(self.outputs)} values; name one as output: "
                f"{', '.join(self.outputs)}"
            )
        return next(node for node in self.graph.nodes if node.name == self.outputs[0])

    def _node(self, name: str) -> fx.Node:
        """The node of that name, or the last one of the module of that path."""
        choices: dict[str, fx.Node] = {}
        for node in self.graph.nodes:
            if node.op == "call_function" and isinstance(node.meta.get("val"), Tensor):
                path = where(node).module_path
                while path:
                    choices[path] = node
                    path = path.rpartition(".")[0]
                choices[node.name] = node
        if name not in choices:
            raise ModelError(f"the network has no node or module '{name}'{nearest(name, choices)}")
        return choices[name]

    def _precision(self) -> float:
        """Rounding unit of the coarsest type that the module computes in, although it is cast to float64."""
        results = (node.meta.get("val") for node in self._exported.graph.nodes)
        return max(
            torch.finfo(t.dtype).eps for t in results if isinstance(t, Tensor) and t.is_floating_point()
        )


def trace(module: nn.Module, example: tuple[int, ...] | Tensor) -> Traced:
    """Export a module in eval mode.

    A deep copy in float64 is exported: floating weights are cast exactly, and literals in ``forward`` are
    float64. The module is left as it is, and so is torch's random state.
    Its forward hooks run on the copy. What ``torch.compile``, ``nn.DataParallel`` and
    ``DistributedDataParallel`` have wrapped is taken out of the wrapper.

    Parameters
    ----------
    module : nn.Module
        Takes one tensor, batch first.
    example : tuple of int, or Tensor
        Shape of one input *without* the batch, or a batch of inputs, of which only the shape counts; and
        that they are whole numbers, for a module that looks them up (``Traced.program(start=...)``).

    Raises
    ------
    ModelError
        If the module does not run on this shape.
    TraceError
        If it is in train mode, branches on data, or fixes the batch size.

    Examples
    --------
    >>> trace(nn.Linear(3, 2).eval(), (3,)).program().output_shape
    (2,)
    >>> trace(nn.Sequential(nn.Linear(3, 2), nn.Dropout()), (3,))
    Traceback (most recent call last):
        ...
    splinecam_lite.errors.TraceError: the module is in train mode; call its .eval() first
    """
    if not isinstance(module, nn.Module):
        raise ModelError(f"the model is of type {type(module).__name__}; pass an nn.Module")
    if isinstance(module, torch.jit.ScriptModule):
        raise TraceError("the model is a ScriptModule; pass the nn.Module it was made from")
    module, prefixes = unwrapped(module)
    require_named_input(module)
    for path, part in module.named_modules():
        if part.training:
            name = f"module '{path}'" if path else "the module"
            raise TraceError(f"{name} is in train mode; call its .eval() first")
    shape, dtype = _sample_shape(example), _input_dtype(example)
    with undisturbed(), float64_literals():
        twin = float64_copy(module)
        prefixes += unwrap_inside(twin)
        exported = export(twin, shape, dtype)
    specs = exported.graph_signature.output_specs
    outputs = tuple(
        spec.arg.name
        for spec in specs
        if spec.kind.name == "USER_OUTPUT" and isinstance(spec.arg, TensorArgument)
    )
    pinned = pin_literals(exported.graph)
    return Traced(shape, outputs, exported, twin, prefixes, dtype, pinned)


def _has_samples(value: Tensor, batch: torch.SymInt) -> bool:
    """Whether a value is floating, with the samples along its first axis."""
    return value.is_floating_point() and value.ndim > 0 and str(value.shape[0]) == str(batch)


def _name_or_entry(output: str | int | None) -> tuple[str | None, int | None]:
    """The node that a caller names as output, or the number of an entry."""
    if output is None or isinstance(output, str):
        return output, None
    if isinstance(output, Integral) and not isinstance(output, bool):
        return None, int(output)
    raise ModelError(
        f"the output is {output!r}; give the name of a node or module, or the number of an entry of what the "
        "module returns"
    )


def _input_dtype(example: tuple[int, ...] | Tensor) -> torch.dtype:
    """int64 if the example holds whole numbers, else float64."""
    whole = isinstance(example, Tensor) and not example.dtype.is_floating_point
    return torch.int64 if whole else torch.float64


def _sample_shape(example: tuple[int, ...] | Tensor) -> tuple[int, ...]:
    if isinstance(example, Tensor) and example.ndim > 0:
        return tuple(example.shape[1:])
    if isinstance(example, Sequence) and all(isinstance(n, int) and n > 0 for n in example):
        return tuple(example)
    raise ModelError(
        f"the input shape is {example!r}; give the sizes of one sample without the batch, e.g. (1, 28, 28)"
    )
