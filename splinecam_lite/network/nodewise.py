"""Networks read from a file: a list of nodes that run one after the other, each a module of its own.

What `torch.export` makes of such a network is lowered like any other module's graph. The operations that a
node turns into carry the node's place, so that layers and errors have the names of the file.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from splinecam_lite.errors import ModelError, SplineCamError
from splinecam_lite.network.exporting import first_line, float64_literals, undisturbed
from splinecam_lite.network.location import target_of
from splinecam_lite.network.ops import Where
from splinecam_lite.network.program import Program
from splinecam_lite.network.trace import trace

NODE = re.compile(r"nodes\.(\d+)$")
"""Module path of a node in an exported graph."""


class FileNode(nn.Module):
    """One node of a file. Its ``forward`` takes the values it reads, and returns what it writes.

    Attributes
    ----------
    place : Where
        Of the node in the file, for layers and errors.
    reads, writes : tuple of str
        Names of values. A node that writes several returns a sequence.
    shapes : tuple
        Of the tensors that it reads when the network runs on a single sample; set by `Network.try_out`.
    """

    def __init__(self, place: Where, reads: Sequence[str], writes: Sequence[str]):
        super().__init__()
        self.place, self.reads, self.writes = place, tuple(reads), tuple(writes)
        self.shapes: tuple[tuple[int, ...] | None, ...] = ()


class Network(nn.Module):
    """The nodes of a file in the order in which they run.

    Parameters
    ----------
    nodes : sequence of FileNode
    input, output : str
        Names of the network's input and of its output.
    remedy : str
        What to do where the file fixes the number of samples.
    """

    def __init__(self, nodes: Sequence[FileNode], input: str, output: str, remedy: str):
        super().__init__()
        self.nodes = nn.ModuleList(nodes)
        self.input, self.output, self.remedy = input, output, remedy
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        values: dict[str, Any] = {self.input: x}
        for node in self.nodes:
            _run(node, values)
        return values[self.output]

    def try_out(self, shape: tuple[int, ...]) -> None:
        """Run on one sample, and then on two, so that what fails is named.

        Raises
        ------
        ModelError
            Names the node.
        """
        for batch in (1, 2):
            values: dict[str, Any] = {self.input: torch.zeros(batch, *shape, dtype=torch.float64)}
            for node in self.nodes:
                assert isinstance(node, FileNode)
                if batch == 1:
                    node.shapes = tuple(
                        tuple(v.shape) if isinstance(v, Tensor) else None for v in map(values.get, node.reads)
                    )
                try:
                    _run(node, values)
                except SplineCamError:
                    raise
                except Exception as error:
                    raise ModelError(
                        f"{node.place} does not run on {batch} sample{'s' if batch > 1 else ''}: "
                        f"{first_line(error)}; if the file fixes their number, {self.remedy}"
                    ) from error
            result = values[self.output]
            if not isinstance(result, Tensor):
                raise ModelError(f"the output '{self.output}' does not depend on the input")
            if not result.ndim or result.shape[0] != batch:
                raise ModelError(
                    f"the output '{self.output}' has shape {tuple(result.shape)} for {batch} samples; its "
                    f"first axis must be theirs; {self.remedy}"
                )

    def name_places(self, graph: fx.Graph) -> None:
        """Write on the nodes of an exported graph where in the file they come from."""
        for exported in graph.nodes:
            for path, _ in (exported.meta.get("nn_module_stack") or {}).values():
                if match := NODE.search(path.split("@")[0]):
                    place = self.nodes[int(match[1])].place
                    assert isinstance(place, Where)
                    exported.meta["where"] = replace(place, target=target_of(exported))

    def program(
        self,
        input_shape: tuple[int, ...],
        *,
        normalise: tuple[Any, Any] | None = None,
        output: int | None = None,
    ) -> Program:
        """Lower to a program, checked against the nodes run one by one.

        Parameters
        ----------
        input_shape : tuple of int
            Of one sample.
        normalise : (mean, std), optional
        output : int, optional
            An entry of the output, flattened. Default: all of it.

        Raises
        ------
        ModelError
            Names the node.
        """
        with undisturbed(), float64_literals(), torch.no_grad():
            self.try_out(input_shape)
        traced = trace(self, input_shape)
        self.name_places(traced.graph)
        return traced.program(normalise=normalise, output=output)


def _run(node: nn.Module, values: dict[str, Any]) -> None:
    assert isinstance(node, FileNode)
    result = node(*(values[name] for name in node.reads))
    if len(node.writes) == 1:
        values[node.writes[0]] = result
    else:
        values.update(zip(node.writes, result, strict=True))
