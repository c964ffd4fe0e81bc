"""The gate that every program passes before it is used: it computes what the module computes.

Both run on the same random inputs in float64. They add up in different orders, so they differ by rounding; a
wrong lowering, or a weight rounded to float32, differs by far more.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from splinecam_lite.errors import TraceError
from splinecam_lite.network.ops import AffineOp
from splinecam_lite.network.program import Program
from splinecam_lite.network.starting import stand_in

AMPLIFICATION = 2.0**20
"""Rounding units, relative to the scale of the output, that two orders of summation may differ by.

For float64 that is 2^-32: layers amplify rounding by 2^10 at most in networks seen so far, and float32
anywhere would show as 2^-24.
"""

SCALES = (0.1, 1.0, 10.0)
"""Standard deviations of the random inputs, so that knots far from the origin are passed as well."""

Scaling = tuple[Tensor, Tensor] | None


class ModuleReference:
    """The module itself with given weights, as a function of float64 batches."""

    def __init__(self, module: nn.Module, weights: Mapping[str, Tensor], scaling: Scaling):
        own = {name for named in (module.named_parameters(), module.named_buffers()) for name, _ in named}
        self.module, self.scaling = module, scaling
        self.weights = {name: tensor for name, tensor in weights.items() if name in own}

    def __call__(self, x: Tensor) -> Tensor:
        result = torch.func.functional_call(self.module, self.weights, (_scaled(x, self.scaling),))
        (tensor,) = (t for t in torch.utils._pytree.tree_leaves(result) if isinstance(t, Tensor))
        return tensor.to(x.dtype)


class GraphReference:
    """A node of the exported graph, run by torch, for outputs that the module does not return.

    With ``start``, ``x`` is the value of that node.
    """

    def __init__(
        self,
        output: fx.Node,
        tensors: Mapping[str, Tensor],
        scaling: Scaling = None,
        start: fx.Node | None = None,
    ):
        self.output, self.tensors, self.scaling, self.start = output, tensors, scaling, start

        self._last_use = {n: user for user in output.graph.nodes for n in (*user.all_input_nodes, user)}

    def __call__(self, x: Tensor) -> Tensor:
        results: dict[fx.Node, Any] = {}
        for node in self.output.graph.nodes:
            if self.start is not None and node is self.start:
                results[node] = x
            elif node.op == "placeholder" and node.name in self.tensors:
                # Constants that are no weights keep their dtype in the module, and the graph may ask for it.
                results[node] = self.tensors[node.name].to(node.meta["val"].dtype)
            elif node.op == "placeholder":
                results[node] = _scaled(x, self.scaling) if self.start is None else stand_in(node, len(x))
            else:
                args, kwargs = fx.node.map_arg((node.args, node.kwargs), results.__getitem__)
                results[node] = node.target(*args, **kwargs)
            if node is self.output:
                break
            for n in (*node.all_input_nodes, node):
                if self._last_use[n] is node and n is not self.output:
                    results.pop(n, None)
        return results[self.output].double()


Reference = ModuleReference | GraphReference | Callable[[Tensor], Tensor]


def check(reference: Reference, program: Program, precision: float = torch.finfo(torch.float64).eps) -> None:
    """Raise unless the program computes what ``reference`` does, sample by sample and in batches alike.

    Parameters
    ----------
    precision : float
        Rounding unit of the coarsest type that the reference computes in.

    Raises
    ------
    TraceError
        If a sample's output depends on the rest of its batch, or the program differs from the reference.
    """
    x = probe(program.input_shape)
    with torch.no_grad():
        together, found = reference(x), program.run(x)
        apart = [reference(row) for row in x.split(1)]
    scale = output_scale(program, x, together)
    bound = AMPLIFICATION * precision
    if any(row.shape[1:] != together.shape[1:] for row in apart):
        raise TraceError(
            "the module returns another shape for one sample than for several; treat samples alike"
        )
    difference = largest_difference(torch.cat(apart), together, scale)
    if not difference <= bound:
        raise TraceError(
            f"the module mixes the samples of a batch: one by one they give other outputs than together, by "
            f"{difference:.1e} of the output's scale; treat each sample by itself"
        )
    if together.shape != found.shape:
        raise TraceError(
            f"the program returns shape {tuple(found.shape)}, the module {tuple(together.shape)}; "
            "please report this"
        )
    difference = largest_difference(together, found, scale)
    if not difference <= bound:
        raise TraceError(
            f"the program differs from the module by {difference:.1e} of the output's scale, where rounding "
            f"stays below {bound:.1e}; please report this"
        )


def probe(shape: tuple[int, ...]) -> Tensor:
    """Normal inputs of several scales, always the same ones, of shape (2 * len(SCALES), *shape)."""
    generator = torch.Generator().manual_seed(0)
    scales = torch.tensor(SCALES * 2, dtype=torch.float64).reshape(-1, *[1] * len(shape))
    return scales * torch.randn(len(scales), *shape, generator=generator, dtype=torch.float64)


def output_scale(program: Program, x: Tensor, output: Tensor) -> Tensor:
    """For each sample, the largest sum of magnitudes that the last op adds up, or the largest output."""
    scale = output.abs()
    writer = next((op for op in program.ops if op.output == program.output), None)
    if isinstance(writer, AffineOp):
        values = program.run(x, keep=writer.inputs)
        added = writer.magnitude(*(values[v].abs() for v in writer.inputs))
        scale = torch.maximum(scale, added if writer.bias is None else added + writer.bias.abs())
    return scale.reshape(len(x), -1).amax(1)


def largest_difference(a: Tensor, b: Tensor, scale: Tensor) -> float:
    """Largest difference of two outputs in units of each sample's scale; NaN where both are alike is none."""
    difference = torch.where(a.isnan() & b.isnan() | (a == b), 0.0, (a - b).abs())
    smallest = torch.finfo(torch.float64).tiny
    return float((difference.reshape(len(a), -1).amax(1) / scale.nan_to_num().clamp(min=smallest)).max())


def _scaled(x: Tensor, scaling: Scaling) -> Tensor:
    return x if scaling is None else (x - scaling[0]) / scaling[1]
