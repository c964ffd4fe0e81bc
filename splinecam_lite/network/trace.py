"""From an ``nn.Module`` to a ``Program``: one export, then a cheap lowering for each set of weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from splinecam_lite.errors import ModelError, TraceError
from splinecam_lite.network.exporting import export, float64_copy, float64_literals, undisturbed
from splinecam_lite.network.gate import GraphReference, ModuleReference, check
from splinecam_lite.network.location import where
from splinecam_lite.network.lowering import lower
from splinecam_lite.network.output import one_entry
from splinecam_lite.network.program import Program
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
    """

    input_shape: tuple[int, ...]
    outputs: tuple[str, ...]
    _exported: ExportedProgram
    _module: nn.Module
    _prefixes: tuple[str, ...]

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

        Returns
        -------
        Program
            In float64; it reproduced the module on random inputs to rounding.

        Raises
        ------
        ModelError
            If weights are missing, of another shape, NaN or infinite; if ``normalise`` or ``output`` do not
            fit.
        TraceError
            If the module mixes samples of a batch, or draws random numbers.

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
        if state is not None:
            state = bare_names(state, self._prefixes)
        weights = float64_weights(self._exported, state)
        scaling = None if normalise is None else mean_and_std(normalise, self.input_shape)
        name, entry = _name_or_entry(output)
        node = self._output_node(name)
        tensors = {
            spec.arg.name: weights[spec.target]
            for spec in self._exported.graph_signature.input_specs
            if spec.target is not None
        }
        with undisturbed(), float64_literals():
            program = lower(self._exported.graph, tensors, node, normalise=scaling)
            reference = (
                ModuleReference(self._module, weights, scaling)
                if name is None
                else GraphReference(node, tensors, scaling)
            )
            check(reference, program, self._precision())
        return program if entry is None else one_entry(program, entry)

    def _output_node(self, name: str | None) -> fx.Node:
        nodes = {node.name: node for node in self._exported.graph.nodes}
        if name is None:
            if len(self.outputs) != 1:
                raise ModelError(
                    f"the module returns {len(self.outputs)} values; name one as output: "
                    f"{', '.join(self.outputs)}"
                )
            return nodes[self.outputs[0]]
        choices: dict[str, fx.Node] = {}
        for node in nodes.values():
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
        Takes one floating tensor, batch first.
    example : tuple of int, or Tensor
        Shape of one input *without* the batch, or a batch of inputs, of which only the shape counts.

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
    shape = _sample_shape(example)
    with undisturbed(), float64_literals():
        twin = float64_copy(module)
        prefixes += unwrap_inside(twin)
        exported = export(twin, shape)
    specs = exported.graph_signature.output_specs
    outputs = tuple(spec.arg.name for spec in specs if spec.kind.name == "USER_OUTPUT")
    return Traced(shape, outputs, exported, twin, prefixes)


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


def _sample_shape(example: tuple[int, ...] | Tensor) -> tuple[int, ...]:
    if isinstance(example, Tensor) and example.ndim > 0:
        return tuple(example.shape[1:])
    if isinstance(example, Sequence) and all(isinstance(n, int) and n > 0 for n in example):
        return tuple(example)
    raise ModelError(
        f"the input shape is {example!r}; give the sizes of one sample without the batch, e.g. (1, 28, 28)"
    )
