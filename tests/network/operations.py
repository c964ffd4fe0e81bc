"""Every operation that is piecewise linear in one value, as modules: what a reader of networks meets."""

import torch
import torch.nn.functional as F
from torch import nn

from tests.network.architectures import Apply

Modules = dict[str, nn.Module]


def resizing(n_axes: int) -> Modules:
    """Upsample in all modes that have this many axes, by sizes and by factors."""
    smooth = {1: ["linear"], 2: ["bilinear", "bicubic"], 3: ["trilinear"]}[n_axes]
    size, factors = (7, 3, 4)[:n_axes], (1.7, 0.6, 2.0)[:n_axes]
    found: Modules = {}
    for mode in ["nearest", "nearest-exact"]:
        found[f"{mode} to a size"] = nn.Upsample(size=size, mode=mode)
        found[f"{mode} by factors"] = nn.Upsample(scale_factor=factors, mode=mode)
    for mode in smooth:
        for align in (False, True):
            name = f"{mode}{' with corners' if align else ''}"
            found[f"{name} to a size"] = nn.Upsample(size=size, mode=mode, align_corners=align)
            found[f"{name} by factors"] = nn.Upsample(scale_factor=factors, mode=mode, align_corners=align)
            found[f"{name} by 2"] = nn.Upsample(scale_factor=2, mode=mode, align_corners=align)
    if n_axes == 2:
        for mode in ("bilinear", "bicubic"):
            found[f"{mode} antialiased"] = Apply(
                lambda x, mode=mode: F.interpolate(x, size=(3, 3), mode=mode, antialias=True)
            )
        found["recomputed factors"] = Apply(
            lambda x: F.interpolate(x, scale_factor=1.7, mode="bilinear", recompute_scale_factor=True)
        )
        found["one axis alone"] = nn.Upsample(size=(4, 8), mode="bilinear")
        found["the same size"] = nn.Upsample(size=(4, 5), mode="bilinear")
        found["area"] = Apply(lambda x: F.interpolate(x, size=(3, 2), mode="area"))
    return found


def on_sequences() -> Modules:
    """Affine, on (2, 6): channels and places."""
    return {
        "Conv1d": nn.Conv1d(2, 4, 3),
        "Conv1d in groups, dilated": nn.Conv1d(2, 4, 3, groups=2, dilation=2, padding=2),
        "Conv1d same": nn.Conv1d(2, 3, 3, padding="same"),
        **{
            f"Conv1d padded, {mode}": nn.Conv1d(2, 3, 3, stride=2, padding=2, padding_mode=mode)
            for mode in ("reflect", "replicate", "circular")
        },
        "ConvTranspose1d": nn.ConvTranspose1d(
            2, 4, 3, stride=2, groups=2, dilation=2, padding=1, output_padding=1
        ),
        "ConstantPad1d": nn.ConstantPad1d((1, 2), 0.3),
        "ReflectionPad1d": nn.ReflectionPad1d((2, 1)),
        "ReplicationPad1d": nn.ReplicationPad1d((1, 3)),
        "CircularPad1d": nn.CircularPad1d(2),
        "InstanceNorm1d": _with_statistics(nn.InstanceNorm1d(2, affine=True, track_running_stats=True)),
        **resizing(1),
    }


def on_images() -> Modules:
    """Affine, on (2, 4, 5)."""
    return {
        "Conv2d in groups, dilated": nn.Conv2d(2, 4, 3, groups=2, dilation=2, padding=2),
        **{
            f"Conv2d padded, {mode}": nn.Conv2d(2, 3, 3, padding=(1, 2), padding_mode=mode)
            for mode in ("zeros", "reflect", "replicate", "circular")
        },
        "ConvTranspose2d": nn.ConvTranspose2d(
            2, 4, 3, stride=2, groups=2, dilation=2, padding=1, output_padding=1
        ),
        "ConvTranspose2d without bias": nn.ConvTranspose2d(2, 2, (2, 3), stride=(1, 2), bias=False),
        "ConstantPad2d": nn.ConstantPad2d((1, 2, -1, 1), -0.3),
        "ZeroPad2d": nn.ZeroPad2d(1),
        "ReflectionPad2d": nn.ReflectionPad2d((1, 2, 0, 1)),
        "ReplicationPad2d": nn.ReplicationPad2d((1, 2, 0, 1)),
        "CircularPad2d": nn.CircularPad2d((1, 2, 0, 1)),
        "InstanceNorm2d": _with_statistics(nn.InstanceNorm2d(2, track_running_stats=True)),
        **resizing(2),
    }


def on_volumes() -> Modules:
    """Affine, on (2, 3, 2, 3)."""
    return {
        "Conv3d": nn.Conv3d(2, 2, 2),
        "ConvTranspose3d": nn.ConvTranspose3d(2, 2, 2, stride=2),
        "ConstantPad3d": nn.ConstantPad3d(1, 0.5),
        "ReflectionPad3d": nn.ReflectionPad3d(1),
        "ReplicationPad3d": nn.ReplicationPad3d(1),
        **resizing(3),
    }


def activations() -> Modules:
    """With knots, on (5,)."""
    prelu = nn.PReLU(5)
    prelu.weight.data = torch.tensor([0.25, -0.5, 1.0, 0.0, 2.0])
    return {
        "ReLU": nn.ReLU(),
        "ReLU in place": nn.ReLU(inplace=True),
        "relu, functional in place": Apply(lambda x: F.relu(x + 0, inplace=True)),
        "LeakyReLU": nn.LeakyReLU(0.2),
        "LeakyReLU in place, negative": nn.LeakyReLU(-0.3, inplace=True),
        "PReLU": prelu,
        "PReLU of one": nn.PReLU(),
        "RReLU": nn.RReLU(),
        "RReLU in place": nn.RReLU(0.1, 0.4, inplace=True),
        "abs": Apply(torch.abs),
        "abs in place": Apply(lambda x: (x + 0).abs_()),
        "Hardtanh": nn.Hardtanh(-0.3, 0.7),
        "Hardtanh in place": nn.Hardtanh(inplace=True),
        "ReLU6": nn.ReLU6(),
        "relu6, functional in place": Apply(lambda x: F.relu6(8 * x, inplace=True)),
        "clamp": Apply(lambda x: x.clamp(-0.2, 0.4)),
        "clamp in place": Apply(lambda x: (x + 0).clamp_(min=0.1)),
        "clamp to one number": Apply(lambda x: x.clamp(0.25, 0.25)),
        "clip": Apply(lambda x: torch.clip(x, -0.2, 0.4)),
        "Hardsigmoid": nn.Hardsigmoid(),
        "Hardsigmoid in place": nn.Hardsigmoid(inplace=True),
        "Softshrink": nn.Softshrink(0.3),
        "Softshrink by default": nn.Softshrink(),
        "Softshrink by nothing": nn.Softshrink(0.0),
        "Threshold": nn.Threshold(0.3, 0.3),
        "Threshold in place": nn.Threshold(-0.1, -0.1, inplace=True),
        "two in a row": nn.Sequential(nn.Softshrink(0.2), nn.Hardtanh(-0.5, 0.5)),
    }


WITHOUT_KNOTS = {"clamp to one number", "Softshrink by nothing"}

AFFINE = {(2, 6): on_sequences, (2, 4, 5): on_images, (2, 3, 2, 3): on_volumes}
"""Input shape -> maker of modules."""


def _with_statistics(norm: nn.Module) -> nn.Module:
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.2, 3.0)
    if norm.affine:
        norm.weight.data.normal_()
        norm.bias.data.normal_()
    return norm


class SideBySide(nn.Module):
    """All modules on the same input: one export serves them all. Each has linear layers around it."""

    def __init__(self, modules: Modules, shape: tuple[int, ...]):
        super().__init__()
        parts = {}
        for name, module in modules.items():
            with torch.no_grad():
                out = module.double().eval()(torch.zeros(1, *shape, dtype=torch.float64))
            front = nn.Linear(shape[-1], shape[-1])
            parts[name.replace(".", ",")] = nn.Sequential(
                front, nn.ReLU() if out.ndim > 2 else nn.Identity(), module, nn.Flatten(),
                nn.Linear(out[0].numel(), 3), nn.ReLU(), nn.Linear(3, 2),
            )  # fmt: skip
        self.parts = nn.ModuleDict(parts)

    def forward(self, x):
        return [part(x) for part in self.parts.values()]
