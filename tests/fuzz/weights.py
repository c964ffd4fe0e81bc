"""Weights that make trouble: of few bits, repeated or almost, with lines through one point or almost."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from splinecam_lite import Slice
from tests.fuzz.architectures import Rng, Shape


def layers_of(model: nn.Module) -> list[nn.Module]:
    return [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]


def fill(rng: Rng, model: nn.Module, base: Callable) -> None:
    for layer in layers_of(model):
        fan_in = layer.weight[0].numel()
        for tensor in (layer.weight, layer.bias):
            tensor.copy_(torch.from_numpy(base(rng, tuple(tensor.shape), fan_in)))


def generic(rng: Rng, shape: Shape, fan_in: int) -> np.ndarray:
    return rng.normal(size=shape) * np.sqrt(2 / fan_in)


def single(rng: Rng, shape: Shape, fan_in: int) -> np.ndarray:
    return generic(rng, shape, fan_in).astype(np.float32).astype(float)


def integer(rng: Rng, shape: Shape, fan_in: int) -> np.ndarray:
    return rng.integers(-3, 4, size=shape).astype(float)


def ternary(rng: Rng, shape: Shape, fan_in: int) -> np.ndarray:
    return rng.integers(-1, 2, size=shape).astype(float)


def quantised(rng: Rng, shape: Shape, fan_in: int) -> np.ndarray:
    """2 to 4 bits, times a step that is a power of two or any number."""
    values, largest = generic(rng, shape, fan_in), 2 ** int(rng.integers(1, 4)) - 1
    step = np.abs(values).max() / largest
    if rng.random() < 0.5:
        step = 2.0 ** np.round(np.log2(step))
    return np.clip(np.round(values / step), -largest, largest) * step


BASES = {
    "generic": generic,
    "float32": single,
    "integer": integer,
    "ternary": ternary,
    "quantised": quantised,
}


def _some_layer(rng: Rng, model: nn.Module) -> nn.Module:
    """One of the hidden layers."""
    layers = layers_of(model)[:-1]
    return layers[rng.integers(len(layers))]


def _pairs(rng: Rng, layer: nn.Module) -> list[tuple[int, int]]:
    n = len(layer.bias)
    return [(int(rng.integers(n)), int(rng.integers(n))) for _ in range(rng.integers(1, 5))]


def pruned(rng: Rng, model: nn.Module, plane: Slice) -> None:
    for layer in layers_of(model):
        layer.weight *= torch.from_numpy(rng.random(tuple(layer.weight.shape)) < rng.uniform(0.15, 0.7))


def tied(rng: Rng, model: nn.Module, plane: Slice) -> None:
    """Neurons that are multiples of others; what depends on them may cancel."""
    layer = _some_layer(rng, model)
    for i, j in _pairs(rng, layer):
        factor = float(rng.choice([1, 1, -1, 0.5, -2, 3, 1 / 3]))
        layer.weight[i], layer.bias[i] = factor * layer.weight[j], factor * layer.bias[j]


def nearly_tied(rng: Rng, model: nn.Module, plane: Slice) -> None:
    layer = _some_layer(rng, model)
    for i, j in _pairs(rng, layer):
        layer.weight[i], layer.bias[i] = layer.weight[j], layer.bias[j]
        off = float(rng.choice([-1, 1])) * 2.0 ** -int(rng.integers(20, 51))
        if rng.random() < 0.5:
            layer.bias[i] += off
        else:
            row = layer.weight[i].view(-1)
            row[rng.integers(len(row))] += off


def zero_bias(rng: Rng, model: nn.Module, plane: Slice) -> None:
    for layer in layers_of(model)[: None if rng.random() < 0.5 else -1]:
        layer.bias.zero_()


def rescaled(rng: Rng, model: nn.Module, plane: Slice) -> None:
    """Large after small or the other way round."""
    layers = layers_of(model)
    i, factor = int(rng.integers(len(layers))), float(rng.choice([1e10, 1e-10]))
    layers[i].weight *= factor
    layers[i].bias *= factor
    if i + 1 < len(layers) and rng.random() < 0.7:
        layers[i + 1].weight /= factor


def _through(rng: Rng, model: nn.Module, plane: Slice, places: np.ndarray) -> None:
    """The lines of the first layers pass through places (n, 2), as far as float64 biases can tell."""
    first = layers_of(model)[0]
    x = torch.from_numpy(plane.lift(places))
    weight, bias = first.weight, first.bias
    if isinstance(first, nn.Linear):
        for i in range(len(bias)):
            bias[i] = -(weight[i] @ x[i % len(x)])
        return
    bias.zero_()
    z = first(x)
    for i in range(len(bias)):  # of a channel one entry only
        entries = z[i % len(x), i].reshape(-1)
        bias[i] = -entries[rng.integers(len(entries))]


def _inside(rng: Rng, plane: Slice, n: int) -> np.ndarray:
    return rng.dirichlet(np.ones(len(plane.domain)), size=n) @ plane.domain


def concurrent(rng: Rng, model: nn.Module, plane: Slice) -> None:
    """All lines of the first layer pass through one point."""
    place = (
        _inside(rng, plane, 1) if rng.random() < 0.7 else plane.domain[rng.integers(len(plane.domain))][None]
    )
    if rng.random() < 0.5:
        place = np.round(4 * place) / 4
    _through(rng, model, plane, place)


def aimed(rng: Rng, model: nn.Module, plane: Slice) -> None:
    """Every neuron of the first layer has a knot in the domain."""
    _through(rng, model, plane, _inside(rng, plane, 16))


def dead(rng: Rng, model: nn.Module, plane: Slice) -> None:
    """Neurons that are constant, or off; outputs that do not see a neuron."""
    layer = _some_layer(rng, model)
    for i, _ in _pairs(rng, layer):
        if rng.random() < 0.5:
            layer.weight[i] = 0.0
            layer.bias[i] = float(rng.choice([-1, 0, 1]))
        else:
            layer.bias[i] = -1e5
    last = layers_of(model)[-1]
    last.weight[:, rng.integers(last.weight.shape[1])] = 0.0


WORSE = {
    "pruned": pruned,
    "tied": tied,
    "nearly tied": nearly_tied,
    "zero bias": zero_bias,
    "rescaled": rescaled,
    "concurrent": concurrent,
    "dead": dead,
}
ALL_WORSE = {**WORSE, "aimed": aimed}
