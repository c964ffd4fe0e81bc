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


def digit_classifier(depth: int = 3) -> tuple[nn.Module, Slice]:
    """784-200x3-10, or deeper, trained on 1,000 digits, on the plane of three of them."""
    x, y, *_ = load_digits(1000, seed=0)
    model = fit(seeded(0, lambda: mlp(784, *[200] * depth, 10)), x, y, steps=300, batch=200, lr=1e-3)
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


def natural_image(seed: int, shape: tuple[int, int, int] = (3, 32, 32)) -> np.ndarray:
    """A random image with the amplitude spectrum of photographs, 1/f; entries from 0 to 1.

    No image comes with the package that has 3x32x32 entries; white noise, the other choice without one,
    has all its energy where photographs have none.
    """
    rng = np.random.default_rng(seed)
    channels, height, width = shape
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    spectrum = np.fft.rfft2(rng.standard_normal(shape)) / np.maximum(frequency, 1 / max(height, width))
    # Channels of photographs are alike: most of each is common to all.
    spectrum = 0.8 * spectrum.mean(axis=0) * np.sqrt(channels) + 0.6 * spectrum
    image = np.fft.irfft2(spectrum, s=(height, width))
    low, high = image.min(), image.max()
    return (image - low) / (high - low)


def cifar_cnn() -> nn.Module:
    """The paper's CIFAR network (arXiv 2402.15555, Fig. 6): 5 convolutions, 2 linear layers, no batch norm.

    The paper does not give the channels; these are 32 to 128, halving the image three times: 32,768 + 65,536
    + 16,384 + 8,192 + 2,048 + 256 neurons.
    """
    layers: list[nn.Module] = []
    for n_in, n_out, stride in [(3, 32, 1), (32, 64, 1), (64, 64, 2), (64, 128, 2), (128, 128, 2)]:
        layers += [nn.Conv2d(n_in, n_out, 3, stride=stride, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(2048, 256), nn.ReLU(), nn.Linear(256, 10))


class PreActivationBlock(nn.Module):
    """Two 3x3 convolutions, each after (batch norm and) ReLU, and a shortcut past both (arXiv 1603.05027)."""

    def __init__(self, n_in: int, n_out: int, stride: int, norm: bool) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(n_in) if norm else nn.Identity()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride=stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(n_out) if norm else nn.Identity()
        self.conv2 = nn.Conv2d(n_out, n_out, 3, padding=1, bias=False)
        changes = stride > 1 or n_in != n_out
        self.shortcut = nn.Conv2d(n_in, n_out, 1, stride=stride, bias=False) if changes else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        active = nn.functional.relu(self.norm1(x))
        past = x if self.shortcut is None else self.shortcut(active)
        return self.conv2(nn.functional.relu(self.norm2(self.conv1(active)))) + past


class ResNet18(nn.Module):
    """Pre-activation ResNet18 with ``width`` filters in its first stage; convolutions without bias.

    As the paper has it (arXiv 2402.15555, Fig. 1: width 16, no batch norm): four stages of two blocks,
    average pooling, one linear layer. Without batch norm all is homogeneous of degree one, but for the last
    bias.
    """

    def __init__(self, width: int = 16, norm: bool = False, n_classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1, bias=False)
        blocks, n_in = [], width
        for stage in range(4):
            for number in range(2):
                n_out = width * 2**stage
                blocks.append(PreActivationBlock(n_in, n_out, 2 if stage and not number else 1, norm))
                n_in = n_out
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(n_in, n_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.stem(x)).mean(dim=(2, 3)))


def resnet18(width: int = 16, norm: bool = False) -> nn.Module:
    """ResNet18 at default initialisation, seed 0; batch norm with statistics of images, not 0 and 1.

    The scales and shifts of batch norm are drawn around 1 and 0, as after some training.
    """
    model = seeded(0, lambda: ResNet18(width, norm))
    if norm:
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for layer in model.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.weight.copy_(1 + 0.1 * torch.randn(layer.weight.shape, generator=generator))
                    layer.bias.copy_(0.1 * torch.randn(layer.bias.shape, generator=generator))
            model.train()
            for batch in range(8):
                images = [natural_image(1000 + 16 * batch + i) for i in range(16)]
                model(torch.from_numpy(np.stack(images)).float())
    return model.eval()


def around_image(model: nn.Module, radius: float) -> tuple[nn.Module, Slice]:
    """A disc around a natural image in a random plane; its radius was found once by ``regions=50_000``."""
    return model, Slice.around(natural_image(0), radius, seed=0, shape="disc")


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
    Workload("digits-4", "784-200x4-10, the same", lambda: digit_classifier(4)),
    Workload(
        "convnet", "4 conv + 2 linear, 54,528 neurons, half-width 0.2", convnet, no_peer="no convolution"
    ),
    Workload(
        "cifar-cnn",
        "5 conv + 2 linear, 125,184 neurons, disc around an image",
        lambda: around_image(seeded(0, cifar_cnn), 0.108),
        no_peer="no convolution",
    ),
    Workload(
        "resnet18-16",
        "pre-activation ResNet18, 16 filters, no BN, disc around an image",
        lambda: around_image(resnet18(16), 0.105),
        no_peer="no convolution",
    ),
    Workload(
        "resnet18-16-bn",
        "the same with BN, running statistics of images",
        lambda: around_image(resnet18(16, norm=True), 0.0945),
        no_peer="no convolution",
    ),
    Workload("integers", "2-96x2-1, integer weights: degenerate", integer_network),
)
