"""Random small architectures for property tests: what a reader of networks has to get right, mixed."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn

ACTIVATIONS: tuple[Callable[[], nn.Module], ...] = (
    nn.ReLU,
    lambda: nn.ReLU(inplace=True),
    lambda: nn.LeakyReLU(0.2),
    nn.PReLU,
    nn.Hardtanh,
    nn.ReLU6,
)
FUNCTIONAL: tuple[Callable[[Tensor], Tensor], ...] = (
    F.relu,
    torch.abs,
    lambda x: F.leaky_relu(x, 0.1),
    lambda x: x.clamp(min=-0.5),
    lambda x: torch.relu(x) - 0.5 * torch.relu(-x),
)


class Apply(nn.Module):
    """A plain function as a module of a sequence."""

    def __init__(self, fn: Callable[[Tensor], Tensor]):
        super().__init__()
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        return self.fn(x)


class Residual(nn.Module):
    """``x + weight * body(x)``, with a parameter for each feature."""

    def __init__(self, body: nn.Module, width: int):
        super().__init__()
        self.body = body
        self.weight = nn.Parameter(torch.randn(width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.weight.reshape(-1, *[1] * (x.ndim - 2)) * self.body(x)


class Concat(nn.Module):
    """Both branches side by side along the features."""

    def __init__(self, left: nn.Module, right: nn.Module):
        super().__init__()
        self.left, self.right = left, right

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.left(x), self.right(x)], dim=1)


class Twice(nn.Module):
    """One module called two times."""

    def __init__(self, body: nn.Module):
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self.body(x))


@st.composite
def vector_layers(draw: st.DrawFn, width: int, depth: int = 2) -> tuple[nn.Module, int]:
    """A module on (batch, width), and its output width."""
    kind = draw(st.sampled_from("linear norm act functional residual concat twice seq affine halves".split()))
    if kind == "linear" or (depth == 0 and kind in ("residual", "concat", "twice", "seq")):
        out = draw(st.integers(2, 5))
        return nn.Linear(width, out, bias=draw(st.booleans())), out
    if kind == "norm":
        return nn.BatchNorm1d(width, affine=draw(st.booleans())), width
    if kind == "act":
        return draw(st.sampled_from(ACTIVATIONS))(), width
    if kind == "functional":
        return Apply(draw(st.sampled_from(FUNCTIONAL))), width
    if kind == "affine":
        return nn.Sequential(nn.Dropout(0.5), Apply(lambda x: 1.5 - x / 3 + x.mean(1, keepdim=True))), width
    if kind == "halves":
        return Apply(lambda x: sum(F.pad(part, (0, 1)).sum(1, keepdim=True) for part in x.chunk(2, 1))), 1
    if kind == "concat":
        (left, a), (right, b) = draw(vector_layers(width, depth - 1)), draw(vector_layers(width, depth - 1))
        return Concat(left, right), a + b
    first, out = draw(vector_layers(width, depth - 1))
    if kind == "seq":
        second, out = draw(vector_layers(out, depth - 1))
        return nn.Sequential(first, nn.ReLU(), second), out
    body = nn.Sequential(first, nn.Linear(out, width))
    return (Residual(body, width) if kind == "residual" else Twice(body)), width


@st.composite
def image_layers(draw: st.DrawFn, channels: int) -> tuple[nn.Module, int]:
    """A module on (batch, channels, 6, 6) that keeps the image's size, and its number of channels."""
    kind = draw(st.sampled_from("conv grouped norm act functional residual concat".split()))
    if kind == "conv":
        out = draw(st.integers(1, 3))
        mode = draw(st.sampled_from(("zeros", "reflect", "replicate")))
        return nn.Conv2d(channels, out, 3, padding=1, padding_mode=mode, bias=draw(st.booleans())), out
    if kind == "grouped":
        return nn.Conv2d(channels, 2 * channels, 3, padding="same", dilation=2, groups=channels), 2 * channels
    if kind == "norm":
        return nn.BatchNorm2d(channels), channels
    if kind == "act":
        return draw(st.sampled_from((*ACTIVATIONS, lambda: nn.PReLU(channels))))(), channels
    if kind == "functional":
        return Apply(draw(st.sampled_from(FUNCTIONAL))), channels
    inner = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU())
    if kind == "residual":
        return Residual(inner, channels), channels
    return Concat(inner, nn.Identity()), 2 * channels


@st.composite
def networks(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
    """A piecewise-linear network in eval mode, in float64 or float32, and the shape of its input."""
    torch.manual_seed(draw(st.integers(0, 2**31)))
    layers: list[nn.Module] = []
    if draw(st.booleans()):
        shape: tuple[int, ...] = (2, 6, 6)
        channels = 2
        for _ in range(draw(st.integers(1, 3))):
            layer, channels = draw(image_layers(channels))
            layers.append(layer)
        layers.append(nn.Conv2d(channels, 2, 2, stride=2))
        pool = draw(
            st.sampled_from((nn.AvgPool2d(3, 2, 1), nn.AdaptiveAvgPool2d(2), Apply(lambda x: x[:, :, 1:])))
        )
        layers += [pool, nn.Flatten(), nn.LazyLinear(4)]
        width = 4
    else:
        shape, width = (3,), 3
    for _ in range(draw(st.integers(1, 3))):
        layer, width = draw(vector_layers(width))
        layers.append(layer)
    model = nn.Sequential(*layers)
    with torch.no_grad():
        model.eval()(torch.zeros(2, *shape))
        for part in model.modules():
            if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
                part.running_mean.normal_()
                part.running_var.uniform_(0.1, 3)
                if part.affine:
                    part.weight.normal_()
                    part.bias.normal_()
    return model.to(draw(st.sampled_from((torch.float32, torch.float64)))), shape
