"""The sampled local complexity against one forward pass of its vertices, and against the published procedure.

    python benchmarks/bench_estimator.py --only "mlp r=0.005" "cnn r=0.005" --repeat 3
    python benchmarks/bench_estimator.py --write

Per workload three contenders run in turn in this one process, on one thread, in float64, with the same points
and frame. The table has the fastest run of each, by the time of the thread, which excludes other processes:

- `LocalComplexity` on a program that is already exported, kernels compiled;
- one forward pass of the model over the same points x 2P inputs, at its best batch size;
- the published procedure, re-stated here in plain PyTorch (`published`): at its own batch size of 32 points,
  and at the best.

That the counts of the first and the third are equal is asserted: every layer, every point.
"""

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
import tyro
from sections import machine_line, write_section
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from workloads import cifar_cnn, mlp, natural_image, resnet18, seeded

from splinecam_lite import Program
from splinecam_lite.complexity import LocalComplexity, random_frame
from splinecam_lite.studies.digits import load_digits

PUBLISHED_BATCH = 32
"""Points at a time in the published code, unless it is told otherwise."""

TIMED_SECONDS = 8.0
"""A published procedure that has taken this long is not run again."""


@dataclass(frozen=True)
class Settings:
    """What to run."""

    only: tuple[str, ...] = ()
    """Workloads by name; all of them if empty."""
    repeat: int = 3
    """Runs of each contender."""
    write: bool = False
    """Put the table into benchmarks/README.md."""


@dataclass(frozen=True)
class Workload:
    """A network with its points, and neighbourhoods around them.

    ``tap(model)`` lists the modules whose input (True) or output (False) is a layer of preactivations.
    """

    name: str
    what: str
    build: Callable[[], nn.Module]
    points: Callable[[int], Tensor]
    n_points: int
    radius: float
    directions: int
    tap: Callable[[nn.Module], list[tuple[nn.Module, bool]]]
    batches: tuple[int, ...]
    """Points at a time, tried for the forward pass and for the published procedure."""


def digits(n: int) -> Tensor:
    """The first real digits, (n, 784)."""
    return load_digits(1000, seed=0)[0][:n].double()


def plane(n: int) -> Tensor:
    """Points of a square, (n, 2)."""
    return 2 * torch.rand(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 1


def images(n: int) -> Tensor:
    """Random images with the spectrum of photographs, (n, 3, 32, 32)."""
    return torch.from_numpy(np.stack([natural_image(number) for number in range(n)]))


def eight_times(model: nn.Module) -> nn.Module:
    """The model with all parameters times 8, as in the paper's experiments on grokking."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8)
    return model


def activations(*kinds: type[nn.Module]) -> Callable[[nn.Module], list[tuple[nn.Module, bool]]]:
    """Tap the inputs of all modules of these kinds."""
    return lambda model: [(part, True) for part in model.modules() if isinstance(part, kinds)]


def residual_taps(model: nn.Module) -> list[tuple[nn.Module, bool]]:
    """Tap the outputs of what stands before each ReLU of `workloads.ResNet18`."""
    return [(norm, False) for block in model.blocks for norm in (block.norm1, block.norm2)]


def smooth_mlp() -> nn.Module:
    """784-200x3-10 with layer norm and GELU: nothing is affine after the first layer."""
    parts: list[nn.Module] = [nn.Linear(784, 200)]
    for _ in range(2):
        parts += [nn.LayerNorm(200), nn.GELU(), nn.Linear(200, 200)]
    return nn.Sequential(*parts, nn.GELU(), nn.Linear(200, 10))


def pooled_cnn() -> nn.Module:
    """Four convolutions, max-pooling after the second and the fourth."""
    layers: list[nn.Module] = []
    for n_in, n_out in [(3, 32), (32, 64)]:
        layers += [nn.Conv2d(n_in, n_out, 3, padding=1), nn.ReLU()]
        layers += [nn.Conv2d(n_out, n_out, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4096, 10))


def _workloads() -> tuple[Workload, ...]:
    relu, found = activations(nn.ReLU, nn.GELU), []
    paper_mlp = lambda: seeded(0, lambda: mlp(784, *[200] * 4, 10))  # noqa: E731
    flat, spatial = (5, 10, 40, 160), (1,)
    for radius in (0.005, 0.05, 0.5, 5.0):
        found.append(
            Workload(f"mlp r={radius:g}", "784-200x4-10", paper_mlp, digits, 1000, radius, 25, relu, flat)
        )
    for directions, n in ((2, 1000), (200, 200)):
        for radius in (0.005, 5.0):
            name = f"mlp P={directions} r={radius:g}"
            found.append(Workload(name, "784-200x4-10", paper_mlp, digits, n, radius, directions, relu, flat))
    initial = lambda: eight_times(paper_mlp())  # noqa: E731
    for radius in (0.005, 0.5):
        what = "784-200x4-10, parameters x 8"
        found.append(Workload(f"mlp x8 r={radius:g}", what, initial, digits, 1000, radius, 25, relu, flat))
    smooth = lambda: seeded(0, smooth_mlp)  # noqa: E731
    found.append(
        Workload("gelu r=0.005", "784-200x3-10, layer norm", smooth, digits, 1000, 0.005, 25, relu, flat)
    )
    convolutional = lambda: seeded(0, cifar_cnn)  # noqa: E731
    for radius in (0.005, 0.05, 0.5):
        what = "5 conv + 2 linear"
        found.append(
            Workload(f"cnn r={radius:g}", what, convolutional, images, 12, radius, 25, relu, spatial)
        )
    found.append(Workload("cnn P=2 r=0.005", what, convolutional, images, 50, 0.005, 2, relu, (1, 2)))
    for radius in (1e-4, 0.005, 0.1):
        build, what = functools.partial(resnet18, 16), "pre-activation ResNet18, 16 filters"
        found.append(
            Workload(f"resnet r={radius:g}", what, build, images, 12, radius, 25, residual_taps, spatial)
        )
    pooled, what = lambda: seeded(0, pooled_cnn), "4 conv, max-pooling"
    for radius in (0.005, 0.5):
        found.append(Workload(f"pool r={radius:g}", what, pooled, images, 12, radius, 25, relu, spatial))
    for widths in ((2, 30, 30, 30, 30, 30, 1), (2, 256, 256, 256, 256, 1)):
        small = functools.partial(seeded, 0, functools.partial(mlp, *widths))
        what, n = f"2-{widths[1]}x{len(widths) - 2}-1", 600_000 // widths[1]
        found.append(Workload(f"plane {what}", what, small, plane, n, 0.05, 2, relu, (100, 500, 5000)))
    return tuple(found)


WORKLOADS = _workloads()


@dataclass
class Row:
    """Figures of one workload, seconds of the thread."""

    workload: Workload
    ours: list[float] = field(default_factory=list)
    forward: list[float] = field(default_factory=list)
    published: list[float] = field(default_factory=list)
    published_best: list[float] = field(default_factory=list)
    crossings: float = 0.0
    """Mean of the sum over layers."""


@torch.inference_mode()
def published(model: nn.Module, taps: list, points: Tensor, steps: Tensor, batch: int) -> Tensor:
    """Count crossings by the published procedure (arXiv 2402.15555, section 2.2, and its code).

    The vertices of all points are made first. Those of ``batch`` points at a time go through the model, hooks
    keep the preactivations of all layers, and signs at all vertices are compared with those at the first.

    Returns
    -------
    (points, layers) int64 Tensor
    """
    kept: list[Tensor] = []
    handles = [
        module.register_forward_hook(lambda _, x, y, is_input=is_input: kept.append(x[0] if is_input else y))
        for module, is_input in taps
    ]
    vertices, counts = torch.stack([torch.cat((x + steps, x - steps)) for x in points]), []
    try:
        for some in vertices.split(batch):
            kept.clear()
            model(some.flatten(0, 1))
            per_layer = []
            for z in kept:
                signs = torch.sign(z).reshape(*some.shape[:2], -1)
                differ = signs[:, 1:] != signs[:, :1]
                per_layer.append(differ.any(dim=1).sum(dim=-1))
            counts.append(torch.stack(per_layer, dim=1))
    finally:
        for handle in handles:
            handle.remove()
    return torch.cat(counts)


@torch.inference_mode()
def forward_pass(model: nn.Module, vertices: Tensor, batch: int) -> None:
    """Run the model, and drop what comes out."""
    for some in vertices.split(batch):
        model(some)


def seconds(work: Callable[[], object]) -> float:
    """Seconds of this thread."""
    begin = time.thread_time()
    work()
    return time.thread_time() - begin


def measure(workload: Workload, repeat: int) -> Row:
    """Run one workload, each contender in turn."""
    row, model = Row(workload), workload.build().double().eval()
    points, directions = workload.points(workload.n_points), workload.directions
    shape = tuple(points.shape[1:])
    frame = random_frame(shape, directions)
    steps, taps = workload.radius * frame, workload.tap(model)
    estimate = LocalComplexity(Program.from_module(model, shape), workload.radius, frame=frame)
    ours = estimate(points).per_layer
    row.crossings = float(ours.sum(axis=1).mean())
    theirs = published(model, taps, points, steps, workload.batches[0]).numpy()
    np.testing.assert_array_equal(ours, theirs, err_msg=workload.name)
    vertices = (points.unsqueeze(1) + torch.cat((steps, -steps))).flatten(0, 1)
    rows = {b * 2 * directions for b in workload.batches} | ({2, 4, 8} if len(shape) > 1 else {500, 2000})
    pass_over = {b: functools.partial(forward_pass, model, vertices, b) for b in sorted(rows)}
    procedure = {
        b: functools.partial(published, model, taps, points, steps, b)
        for b in {*workload.batches, PUBLISHED_BATCH}
    }
    best = min(pass_over, key=lambda b: seconds(pass_over[b]))
    quickest = min(procedure, key=lambda b: seconds(procedure[b]))
    for _ in range(repeat):
        row.ours.append(seconds(lambda: estimate(points)))
        row.forward.append(seconds(pass_over[best]))
        if sum(row.published) < TIMED_SECONDS:
            row.published.append(seconds(procedure[PUBLISHED_BATCH]))
            row.published_best.append(seconds(procedure[quickest]))
    return row


def table(rows: list[Row]) -> str:
    """The rows as a Markdown table."""
    head = (
        "| workload | network | points | P | crossings | ours s | forward s | published s | ours / forward "
        "| published / ours | at its best batch |"
    )
    lines = [head, "|---|---|" + "---:|" * (head.count("|") - 3)]
    for row in rows:
        w, ours = row.workload, min(row.ours)
        cells = [
            w.name, w.what, f"{w.n_points:,}", f"{w.directions}", f"{row.crossings:,.2f}", f"{ours:.3f}",
            f"{min(row.forward):.3f}", f"{min(row.published):.3f}", f"{ours / min(row.forward):.2f}",
            f"{min(row.published) / ours:.1f}", f"{min(row.published_best) / ours:.1f}",
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(settings: Settings) -> None:
    """Run what the settings name, print the table as it grows, write it."""
    unknown = set(settings.only) - {workload.name for workload in WORKLOADS}
    if unknown:
        raise SystemExit(f"no workload {sorted(unknown)}; there are {[w.name for w in WORKLOADS]}")
    if settings.write and settings.only:
        raise SystemExit("the README has the table of all workloads; leave out --only, or --write")
    torch.set_num_threads(1)
    rows: list[Row] = []
    with threadpool_limits(1):
        for workload in WORKLOADS:
            if not settings.only or workload.name in settings.only:
                rows.append(measure(workload, settings.repeat))
                print(table(rows[-1:]).splitlines()[-1], flush=True)
    text = table(rows)
    print("\n" + text)
    if settings.write:
        how = f"`python benchmarks/bench_estimator.py --write`; {machine_line(1)}."
        write_section("estimator", f"{how}\n\n{text}")


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
