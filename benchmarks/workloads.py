"""Seeded workloads: a network, a square slice, and what is known beforehand about the partition.

Every network is built on the CPU in float32, as a user's would be, from its own seed; the trained ones train
here, in seconds. All domains are squares around the slice's origin: that is what the peer can be given too.
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from splinecam_lite import Slice
from splinecam_lite.studies.digits import load_digits


class Workload(NamedTuple):
    """One row of the benchmark.

    ``build`` returns the network (in eval mode) and the slice. ``no_peer`` says why RegionCam is left out; it
    is empty where RegionCam runs.
    """

    name: str
    what: str
    build: Callable[[], tuple[nn.Module, Slice]]
    no_peer: str = ""


def mlp(*widths: int) -> nn.Sequential:
    """ReLU MLP with torch's default initialisation; no ReLU after the last layer."""
    layers: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise(widths):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def seeded(seed: int, make: Callable[[], nn.Module]) -> nn.Module:
    """``make()`` with torch's generator at ``seed``, the caller's random state untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make().eval()


def fit(model: nn.Module, x: torch.Tensor, y: torch.Tensor, steps: int, batch: int, lr: float) -> nn.Module:
    """Train ``model`` in place with Adam on the cross-entropy, on batches drawn with seed 0."""
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(model.parameters(), lr=lr)
    model.train()
    for _ in range(steps):
        rows = torch.randint(len(x), (batch,), generator=generator)
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        optimiser.step()
    return model.eval()


def unit_box() -> Slice:
    """The domain [-1, 1]^2 of a two-input network."""
    return Slice.box((-1.0, -1.0), (1.0, 1.0))


def random_mlp(*widths: int) -> tuple[nn.Module, Slice]:
    """Default initialisation, seed 0, on the unit box."""
    return seeded(0, lambda: mlp(*widths)), unit_box()


def random_lines(n_lines: int) -> tuple[nn.Module, Slice]:
    """One hidden layer whose knots are random lines, at most 1 from the origin: all of them cut the box."""
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, n_lines)
    model = seeded(0, lambda: mlp(2, n_lines, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.from_numpy(np.column_stack([np.cos(angle), np.sin(angle)])))
        model[0].bias.copy_(torch.from_numpy(rng.uniform(-1, 1, n_lines)))
    return model, unit_box()


def spirals(n_per_arm: int = 400) -> tuple[torch.Tensor, torch.Tensor]:
    """Three interleaved spiral arms inside the unit box, with a little noise."""
    rng = np.random.default_rng(0)
    radius = np.sqrt(rng.uniform(0.01, 0.9, (3, n_per_arm)))
    angle = 7 * radius + 2 * np.pi / 3 * np.arange(3)[:, None]
    x = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
    x += rng.normal(0, 0.02, x.shape)
    return torch.from_numpy(x.reshape(-1, 2)).float(), torch.arange(3).repeat_interleave(n_per_arm)


def trained_classifier() -> tuple[nn.Module, Slice]:
    """2-96x3-3 trained on three spirals until it separates them."""
    return fit(
        seeded(0, lambda: mlp(2, 96, 96, 96, 3)), *spirals(), steps=1500, batch=256, lr=2e-3
    ), unit_box()


def square_through(points: torch.Tensor, half_width: float) -> Slice:
    """The plane of three points, as a square around their mean."""
    points = points.double()
    return Slice.around(points.mean(0), half_width, directions=points[1:] - points[0])


def digit_classifier() -> tuple[nn.Module, Slice]:
    """784-200x3-10 trained on 1,000 digits, on the plane of three of them."""
    x, y, *_ = load_digits(1000, seed=0)
    model = fit(seeded(0, lambda: mlp(784, 200, 200, 200, 10)), x, y, steps=300, batch=200, lr=1e-3)
    # The three digits lie 6.4 to 7.6 from their mean: the square holds them.
    return model, square_through(x[:3], half_width=8.0)


def small_convnet() -> nn.Module:
    """CIFAR-shaped: 4 convolutions, 2 linear layers, 32768 + 16384 + 4096 + 1024 + 256 = 54,528 neurons."""
    layers: list[nn.Module] = []
    for n_in, n_out, stride in [(3, 32, 1), (32, 64, 2), (64, 64, 2), (64, 64, 2)]:
        layers += [nn.Conv2d(n_in, n_out, 3, stride=stride, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(1024, 256), nn.ReLU(), nn.Linear(256, 10))


def convnet() -> tuple[nn.Module, Slice]:
    """The convolutional network at default initialisation, around a random image in random directions."""
    image = np.random.default_rng(0).uniform(0, 1, (3, 32, 32))
    return seeded(0, small_convnet), Slice.around(image, 0.2, seed=0)


def integer_network() -> tuple[nn.Module, Slice]:
    """Small integer weights, biases in eighths: parallel, repeated and exactly concurrent knots."""
    rng = np.random.default_rng(0)
    model = mlp(2, 96, 96, 1).eval()
    with torch.no_grad():
        for layer in model:
            if isinstance(layer, nn.Linear):
                layer.weight.copy_(torch.from_numpy(rng.integers(-2, 3, layer.weight.shape)))
                layer.bias.copy_(torch.from_numpy(rng.integers(-8, 9, layer.bias.shape) / 8))
    return model, unit_box()


WORKLOADS = (
    Workload("2-128x4-1", "default init, [-1,1]^2", lambda: random_mlp(2, *[128] * 4, 1)),
    Workload("2-256x4-1", "default init, [-1,1]^2", lambda: random_mlp(2, *[256] * 4, 1)),
    Workload(
        "2-512x3-10",
        "default init, [-1,1]^2",
        lambda: random_mlp(2, *[512] * 3, 10),
        no_peer="not finished in 5 minutes",
    ),
    Workload("lines-200", "200 random lines, [-1,1]^2", lambda: random_lines(200)),
    Workload("lines-1000", "1,000 random lines, [-1,1]^2", lambda: random_lines(1000)),
    Workload("spirals", "2-96x3-3 trained on three spirals, [-1,1]^2", trained_classifier),
    Workload("digits", "784-200x3-10 trained on 1,000 digits, plane of three", digit_classifier),
    Workload(
        "convnet", "4 conv + 2 linear, 54,528 neurons, half-width 0.2", convnet, no_peer="no convolution"
    ),
    Workload("integers", "2-96x2-1, integer weights: degenerate", integer_network),
)
