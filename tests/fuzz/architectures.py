"""Small architectures of every kind, in several sizes."""

from collections.abc import Callable
from functools import cache
from itertools import pairwise

import numpy as np
import torch
from torch import nn

from splinecam_lite import Traced, trace
from tests.exact_networks import Abs

Rng = np.random.Generator


class Residual(nn.Module):
    def __init__(self, body: nn.Module):
        super().__init__()
        self.body = body

    def forward(self, x):
        return x + self.body(x)


class Beside(nn.Module):
    """Two branches, concatenated."""

    def __init__(self, left: nn.Module, right: nn.Module):
        super().__init__()
        self.left, self.right = left, right

    def forward(self, x):
        return torch.cat((self.left(x), self.right(x)), dim=1)


def _prelu() -> nn.PReLU:
    module = nn.PReLU(dtype=torch.float64)
    module.weight.data.fill_(-0.3)
    return module


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky 0.01": lambda: nn.LeakyReLU(0.01),
    "leaky 0.25": lambda: nn.LeakyReLU(0.25),
    "prelu": _prelu,
    "hardtanh": nn.Hardtanh,
    "relu6": nn.ReLU6,
    "abs": Abs,
}

Act = Callable[[], nn.Module]
Shape = tuple[int, ...]


def _mlp(rng: Rng, act: Act, widths: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        layers += [nn.Linear(n_in, n_out), act()]
    return nn.Sequential(*layers[:-1])


def _inputs(rng: Rng) -> int:
    return 2 if rng.random() < 0.4 else int(rng.integers(3, 11))


def mlp(rng: Rng, act: Act) -> tuple[nn.Module, Shape]:
    n_in = _inputs(rng)
    hidden = rng.integers(2, 13, size=rng.integers(1, 5)).tolist()
    return _mlp(rng, act, [n_in, *hidden, int(rng.integers(1, 5))]), (n_in,)


def medium_mlp(rng: Rng, act: Act) -> tuple[nn.Module, Shape]:
    n_in = _inputs(rng)
    hidden = rng.integers(16, 41, size=rng.integers(2, 4)).tolist()
    return _mlp(rng, act, [n_in, *hidden, int(rng.integers(1, 5))]), (n_in,)


def convolution(rng: Rng, act: Act) -> tuple[nn.Module, Shape]:
    channels, size = int(rng.integers(1, 3)), int(rng.integers(3, 6))
    out = int(rng.integers(1, 4))
    first = nn.Conv2d(channels, out, 3, padding=int(rng.integers(2)), stride=1)
    left = size - 2 * (first.padding[0] == 0)
    pool: nn.Module = nn.AvgPool2d(min(int(rng.integers(2, 4)), left), stride=1)
    n = out * (left - pool.kernel_size + 1) ** 2
    last = int(rng.integers(2, 6))
    head = [nn.Flatten(), nn.Linear(n, last), act(), nn.Linear(last, int(rng.integers(1, 4)))]
    return nn.Sequential(first, act(), pool, *head), (channels, size, size)


def pooling(rng: Rng, act: Act) -> tuple[nn.Module, Shape]:
    """Max-pooling of a convolution; windows that overlap, are padded, or tie where several are off."""
    size, out = int(rng.integers(4, 6)), int(rng.integers(1, 3))
    kernel = int(rng.integers(2, 4))
    padding = int(rng.integers(2)) * (kernel // 2)
    pool = nn.MaxPool2d(kernel, stride=int(rng.integers(1, 3)), padding=padding)
    body = [nn.Conv2d(1, out, 3, padding=1), act(), pool]
    if rng.random() < 0.3:
        body = [body[0], pool, act()]
    n = pool(torch.zeros(1, out, size, size)).numel()
    last = int(rng.integers(2, 5))
    head = [nn.Flatten(), nn.Linear(n, last), act(), nn.Linear(last, int(rng.integers(1, 4)))]
    return nn.Sequential(*body, *head), (1, size, size)


def residual(rng: Rng, act: Act) -> tuple[nn.Module, Shape]:
    n_in, width = _inputs(rng), int(rng.integers(3, 8))
    body = [
        Residual(nn.Sequential(act(), _mlp(rng, act, [width, width, width])))
        for _ in range(rng.integers(1, 3))
    ]
    return nn.Sequential(nn.Linear(n_in, width), *body, nn.Linear(width, int(rng.integers(1, 4)))), (n_in,)


def concatenation(rng: Rng, act: Act) -> tuple[nn.Module, Shape]:
    n_in, left, right = _inputs(rng), int(rng.integers(2, 6)), int(rng.integers(2, 6))
    branches = Beside(
        nn.Sequential(nn.Linear(n_in, left), act()),
        nn.Sequential(nn.Linear(n_in, 4), act(), nn.Linear(4, right)),
    )
    after = [nn.Linear(left + right, 5), act(), nn.Linear(5, int(rng.integers(1, 4)))]
    return nn.Sequential(branches, *after), (n_in,)


ARCHITECTURES = {
    "mlp": mlp,
    "convolution": convolution,
    "pooling": pooling,
    "residual": residual,
    "concatenation": concatenation,
}


def build(kind: str, activation: str, number: int) -> tuple[nn.Module, Shape]:
    """A float64 module of one size, the ``number``-th of its kind."""
    rng = np.random.default_rng([number, 5])
    make = medium_mlp if kind == "medium mlp" else ARCHITECTURES[kind]
    model, shape = make(rng, ACTIVATIONS[activation])
    return model.double().eval(), shape


@cache
def traced_once(kind: str, activation: str, number: int) -> Traced:
    return trace(*build(kind, activation, number))
