"""The slow, obviously right way to count crossings: one vertex after the other, seen by hooks of torch."""

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn


def preactivations(
    model: nn.Module, x: Tensor, activations: tuple[type[nn.Module], ...], logits: bool = False
) -> list[np.ndarray]:
    """What the activations of a model in eval mode are given for one input, in the order of their calls."""
    seen: list[np.ndarray] = []
    hooks = [
        part.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach().numpy().ravel()))
        for part in model.modules()
        if isinstance(part, activations)
    ]
    with torch.no_grad():
        result = model(x[None])
    for hook in hooks:
        hook.remove()
    return [*seen, result.numpy().ravel()] if logits else seen


def hooked_counts(
    model: nn.Module,
    points: Tensor,
    directions: Tensor,
    radius: float,
    activations: tuple[type[nn.Module], ...],
    *,
    centre: bool = False,
    logits: bool = False,
    after: Callable[[nn.Module], nn.Module] = lambda model: model,
) -> np.ndarray:
    """Crossings (points, layers) of a copy in float64 and eval mode.

    ``directions`` are (P, *input_shape), or (points, P, *input_shape) with those of each point.
    """
    model = after(copy.deepcopy(model).double().eval())
    counts = []
    for i, x in enumerate(points.double()):
        steps = directions if directions.ndim == points.ndim else directions[i]
        vertices = [x + radius * v for v in steps] + [x - radius * v for v in steps] + [x] * centre
        signs: list[list[np.ndarray]] = [
            [z >= 0 for z in preactivations(model, vertex, activations, logits)] for vertex in vertices
        ]
        counts.append(
            [
                int((np.any(layer, axis=0) & ~np.all(layer, axis=0)).sum())
                for layer in zip(*signs, strict=True)
            ]
        )
    return np.array(counts)
