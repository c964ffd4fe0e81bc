"""Small networks of every structure that the exact engine takes, with random weights: no coincidence to be
expected."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from splinecam_lite.network.program import Program
from splinecam_lite.network.trace import Traced, trace


class Abs(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.abs()


class Residual(nn.Module):
    """Adds its input: in the first block the network's own, a value that stays affine for long."""

    def __init__(self, width: int, activation: nn.Module):
        super().__init__()
        self.first, self.second = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(self.activation(self.first(x)))


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky": lambda: nn.LeakyReLU(0.25),
    "abs": Abs,
    "prelu": lambda: nn.PReLU(init=-0.5),
    "relu6": nn.ReLU6,
    "hardtanh": nn.Hardtanh,  # its knots are at -1 and 1, its crossings at 0
}


def mlp(activation: str) -> nn.Module:
    act = ACTIVATIONS[activation]
    return nn.Sequential(
        nn.Linear(3, 10), act(), nn.Linear(10, 9), act(), nn.Linear(9, 8), act(), nn.Linear(8, 2)
    )


def convolutional(activation: str) -> nn.Module:
    act = ACTIVATIONS[activation]
    first, second = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 4, 2)
    return nn.Sequential(first, act(), nn.AvgPool2d(2), second, act(), nn.Flatten(), nn.Linear(4, 2))


def residual(activation: str) -> nn.Module:
    act = ACTIVATIONS[activation]
    return nn.Sequential(Residual(4, act()), nn.BatchNorm1d(4), Residual(4, act()), act(), nn.Linear(4, 2))


STRUCTURES: dict[str, tuple[Callable[[str], nn.Module], tuple[int, ...]]] = {
    "mlp": (mlp, (3,)),
    "conv": (convolutional, (1, 4, 4)),
    "residual": (residual, (4,)),
}
"""Name -> (from the name of an activation, its input shape)."""


def random_network(structure: str, activation: str, seed: int) -> tuple[nn.Module, tuple[int, ...]]:
    """A float64 network in eval mode with biases that put knots near the origin, and its input shape."""
    build, shape = STRUCTURES[structure]
    torch.manual_seed(seed)
    network = build(activation).double().eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.3)
            elif parameter.ndim > 1:
                parameter.normal_(std=(2 / parameter[0].numel()) ** 0.5)
    return network, shape


def random_program(structure: str, activation: str, seed: int) -> Program:
    """`random_network` as a program; each architecture is exported once a test run, which is what takes the
    time."""
    network, _ = random_network(structure, activation, seed)
    return _traced(structure, activation).program(network.state_dict())


@functools.cache
def _traced(structure: str, activation: str) -> Traced:
    return trace(*random_network(structure, activation, 0))
