"""How dense are the regions? Over architectures, at initialisation and trained, on many random slices.

    python benchmarks/density.py                 # all; writes density.png and the README's table
    python benchmarks/density.py --quick         # three small networks, under a minute; writes nothing

Networks take MNIST digits (28x28) and train on 4,000 of the embedded 5,000. Each is cut by discs around
noisy test digits, in random planes; a disc has the radius at which the freshly initialised network has about
`regions` regions, found once for each architecture and kept for the trained network, so that the two compare.

    density            (R - 1 - b/2) / area: R regions, b ends of knots on the disc's border; that is
                       crossings for each unit of area, not biased by the disc's size as R / area is
    knot length        for each unit of area, by layer
    linear / regions   neighbours with the same output map merged (to 2^-30 of the largest coefficient)

Intervals are 95 %, from a bootstrap of networks and, within each, of slices. The growth is a line through
log density against log neurons, with the interval of its slope from the same bootstrap.
"""

import gc
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from sections import machine_line, write_section
from torch import nn
from workloads import ResNet18, fit, mlp, seeded

from splinecam_lite import Partition, Program, Slice, partition
from splinecam_lite.engine.complex import OUTER, edge_faces
from splinecam_lite.studies.digits import load_digits

FIGURE = Path(__file__).parent / "density.png"
N_TRAIN = 4000
NOISE = 0.1
"""Standard deviation of what is added to a digit. Its background is 0, and all knots there of convolutions
without bias would go through it."""
SAME_MAP = 2.0**-30


@dataclass(frozen=True)
class Settings:
    """What to run."""

    quick: bool = False
    """Three small networks, few slices; prints the table and writes no file unless named."""
    networks: int = 3
    """Networks of each architecture, from their own seeds."""
    slices: int = 6
    """Slices of each network, before and after training: digits of the test set, random planes."""
    regions: int = 1000
    """Regions that a disc has at initialisation, about."""
    steps: int = 200
    """Batches of 64 that a network trains on."""
    json: Path | None = None
    """Also write every figure to this file."""


@dataclass(frozen=True)
class Architecture:
    """A row of the table; ``family`` is the line of the growth it belongs to."""

    name: str
    family: str
    build: Callable[[], nn.Module]
    input_shape: tuple[int, ...] = (784,)


def mlp_with_norm(*widths: int) -> nn.Sequential:
    """As `mlp`, with batch norm before each ReLU."""
    layers: list[nn.Module] = []
    for module in mlp(*widths):
        layers += (
            [module] if not isinstance(module, nn.ReLU) else [nn.BatchNorm1d(layers[-1].out_features), module]
        )
    return nn.Sequential(*layers)


def convnet(channels: int, norm: bool) -> nn.Sequential:
    """Three convolutions, the last two of stride 2, and a linear layer."""
    layers: list[nn.Module] = []
    for n_in, n_out, stride in [
        (1, channels, 1),
        (channels, 2 * channels, 2),
        (2 * channels, 2 * channels, 2),
    ]:
        layers += [nn.Conv2d(n_in, n_out, 3, stride=stride, padding=1)]
        layers += [nn.BatchNorm2d(n_out), nn.ReLU()] if norm else [nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(2 * channels * 49, 10))


def resnet(width: int, norm: bool) -> nn.Module:
    """The pre-activation ResNet18 of the workloads, for one channel."""
    model = ResNet18(width, norm)
    model.stem = nn.Conv2d(1, width, 3, padding=1, bias=False)
    return model


def architectures(quick: bool) -> tuple[Architecture, ...]:
    """All rows, or three small ones."""
    image = (1, 28, 28)
    if quick:
        return (
            Architecture("MLP 50x3", "MLP width", lambda: mlp(784, *[50] * 3, 10)),
            Architecture("MLP 100x3", "MLP width", lambda: mlp(784, *[100] * 3, 10)),
            Architecture("CNN 2", "CNN", lambda: convnet(2, False), image),
        )
    return (
        *(
            Architecture(f"MLP {w}x3", "MLP width", lambda w=w: mlp(784, *[w] * 3, 10))
            for w in (50, 100, 200, 400)
        ),
        *(
            Architecture(f"MLP 100x{d}", "MLP depth", lambda d=d: mlp(784, *[100] * d, 10))
            for d in (1, 2, 4, 6)
        ),
        Architecture("MLP 100x4, BN", "BN", lambda: mlp_with_norm(784, *[100] * 4, 10)),
        *(Architecture(f"CNN {c}", "CNN", lambda c=c: convnet(c, False), image) for c in (4, 8, 16)),
        Architecture("CNN 8, BN", "BN", lambda: convnet(8, True), image),
        *(Architecture(f"ResNet18 {k}", "ResNet", lambda k=k: resnet(k, False), image) for k in (2, 4)),
        Architecture("ResNet18 4, BN", "BN", lambda: resnet(4, True), image),
    )


@dataclass
class Row:
    """The figures of one architecture in one state; lists are (networks, slices)."""

    name: str
    family: str
    state: str
    neurons: int = 0
    radius: float = 0.0
    accuracy: list[float] = field(default_factory=list)
    regions: list[list[int]] = field(default_factory=list)
    density: list[list[float]] = field(default_factory=list)
    length: list[list[float]] = field(default_factory=list)
    linear: list[list[float]] = field(default_factory=list)
    layers: list[list[float]] = field(default_factory=list)
    """Knot length for each unit of area by layer, one row for each slice of each network."""


def linear_share(part: Partition) -> float:
    """Linear regions for each activation region, maps compared in float64."""
    complex = part.complex
    sides = edge_faces(complex.edge_vertices, complex.face_ptr, complex.face_vertex, complex.face_edge)
    sides = sides[(sides != OUTER).all(axis=1)]
    A, b = part.affine_maps()
    maps = np.concatenate((A.reshape(len(A), -1), b), axis=1)
    same = np.abs(maps[sides[:, 0]] - maps[sides[:, 1]]).max(axis=1) <= SAME_MAP * np.abs(maps).max()
    graph = csr_array((np.ones(same.sum()), sides[same].T), shape=(part.n_regions,) * 2)
    return connected_components(graph, directed=False)[0] / part.n_regions


def density_of(part: Partition) -> float:
    """Crossings of knots inside the domain, for each unit of area; see the top of the file."""
    on_border = int((np.diff(part.edge_knot_ptr) == 0).sum()) - len(part.plane.domain)
    return (part.n_regions - 1 - on_border / 2) / part.plane.area


def measure(model: nn.Module, row: Row, images: torch.Tensor, first_seed: int) -> None:
    """Append the figures of one network on one slice around each of ``images``."""
    program = Program.from_module(model, tuple(images.shape[1:]))
    figures: list[tuple[Any, ...]] = []
    for number, image in enumerate(images):
        plane = Slice.around(image, row.radius, seed=first_seed + number, shape="disc")
        part = partition(program, plane, threads=1)
        lengths = part.knot_lengths() / plane.area
        figures.append((part.n_regions, density_of(part), float(lengths.sum()), linear_share(part)))
        row.layers.append(lengths.tolist())
    row.neurons = sum(program.n_neurons)
    for name, column in zip(
        ("regions", "density", "length", "linear"), zip(*figures, strict=True), strict=True
    ):
        getattr(row, name).append([float(x) for x in column])


def run(settings: Settings) -> list[Row]:
    """Build, measure, train and measure again, every architecture."""
    digits = load_digits(N_TRAIN, seed=0)
    n_networks, n_slices = (1, 4) if settings.quick else (settings.networks, settings.slices)
    regions, steps = (400, 100) if settings.quick else (settings.regions, settings.steps)
    rows = []
    for architecture in architectures(settings.quick):
        begin = time.perf_counter()
        before, after = (Row(architecture.name, architecture.family, s) for s in ("initial", "trained"))
        noise = NOISE * torch.randn(digits.test_x.shape, generator=torch.Generator().manual_seed(0))
        centres = (digits.test_x + noise).reshape(-1, *architecture.input_shape)
        train_x, test_x = (x.reshape(-1, *architecture.input_shape) for x in (digits.train_x, digits.test_x))
        for network in range(n_networks):
            model = seeded(network, architecture.build)
            with torch.no_grad():  # statistics of digits for batch norm, also where nothing was trained
                model.train()
                for _ in range(20):
                    model(
                        train_x[
                            torch.randperm(N_TRAIN, generator=torch.Generator().manual_seed(network))[:128]
                        ]
                    )
                model.eval()
            if not network:
                sized = partition(model, around=centres[0], regions=regions, seed=0, threads=1)
                assert sized.report.sizing is not None
                before.radius = after.radius = sized.report.sizing.runs[-1][0]
            images = centres[network * n_slices : (network + 1) * n_slices]
            for row in (before, after):
                if row is after:
                    fit(model, train_x, digits.train_y, steps=steps, batch=64, lr=2e-3)
                with torch.inference_mode():
                    row.accuracy.append(float((model(test_x).argmax(1) == digits.test_y).double().mean()))
                measure(model, row, images, 100 * network)
            gc.collect()
        rows += [before, after]
        print(f"{architecture.name}: {time.perf_counter() - begin:.1f} s", file=sys.stderr, flush=True)
    return rows


def resampled(table: list[list[float]], rng: np.random.Generator, n: int = 2000) -> np.ndarray:
    """Means of ``n`` bootstrap samples of (networks, slices): networks first, then slices of each."""
    values = np.array(table)
    networks = rng.integers(len(values), size=(n, len(values)))
    slices = rng.integers(values.shape[1], size=(n, len(values), values.shape[1]))
    return values[networks[:, :, None], slices].mean(axis=(1, 2))


def interval(table: list[list[float]]) -> tuple[float, float, float]:
    """Mean and the 95 % interval of it."""
    low, high = np.quantile(resampled(table, np.random.default_rng(0)), (0.025, 0.975))
    return float(np.mean(table)), float(low), float(high)


def growth(rows: list[Row], family: str, state: str) -> tuple[float, float, float] | None:
    """Slope of log density against log neurons in a family, with its 95 % interval; None for one network."""
    chosen = [r for r in rows if r.family == family and r.state == state]
    if len(chosen) < 2:
        return None
    x = np.log([r.neurons for r in chosen])
    x = x - x.mean()

    def slope(y: np.ndarray) -> np.ndarray:
        return (np.log(y) * x).sum(axis=-1) / (x**2).sum()

    samples = slope(
        np.stack([resampled(r.density, np.random.default_rng(i)) for i, r in enumerate(chosen)], -1)
    )
    low, high = np.quantile(samples, (0.025, 0.975))
    return float(slope(np.array([np.mean(r.density) for r in chosen]))), float(low), float(high)


def short(x: float) -> str:
    """Three digits."""
    return f"{x:,.0f}" if x >= 100 else f"{x:.3g}"


def table(rows: list[Row]) -> str:
    """Markdown: a row for each architecture and state, then the growth of each family."""
    lines = [
        "| network | neurons N | radius | state | accuracy | regions | density: crossings / area "
        "| density / (N²/2) | knot length / area | linear / regions |",
        "|---|---:|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        density, length = interval(row.density), interval(row.length)
        spread = [f"{short(mean)} ({short(low)} to {short(high)})" for mean, low, high in (density, length)]
        cells = [
            *(row.name, f"{row.neurons:,}", f"{row.radius:.3g}", row.state),
            *(f"{100 * np.mean(row.accuracy):.0f} %", f"{np.mean(row.regions):,.0f}", spread[0]),
            *(f"{density[0] / (row.neurons**2 / 2):.2g}", spread[1], f"{np.mean(row.linear):.4f}"),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "| family | initial: density grows as N to the | trained |", "|---|---:|---:|"]
    for family in dict.fromkeys(row.family for row in rows):
        slopes = [growth(rows, family, state) for state in ("initial", "trained")]
        if family != "BN" and all(slopes):
            texts = [f"{s[0]:.2f} ({s[1]:.2f} to {s[2]:.2f})" for s in slopes if s]
            lines.append(f"| {family} | {' | '.join(texts)} |")
    return "\n".join(lines)


def draw(rows: list[Row], path: Path) -> None:
    """Density against neurons with the N^2 that theory gives; the layers; what training does."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    families = list(dict.fromkeys(row.family for row in rows))
    colours = dict(zip(families, ("#0072B2", "#56B4E9", "#D55E00", "#E69F00", "#009E73"), strict=False))
    markers = dict(zip(families, "osD^v", strict=False))
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(15, 5), layout="constrained")
    for state, filled in (("initial", True), ("trained", False)):
        for family in families:
            chosen = [r for r in rows if r.family == family and r.state == state]
            x = [r.neurons for r in chosen]
            mean, low, high = np.array([interval(r.density) for r in chosen]).T
            style = {"color": colours[family], "marker": markers[family], "markersize": 7, "capsize": 2}
            style |= {"linestyle": "none" if family == "BN" else "-" if filled else "--", "linewidth": 1}
            style |= {"markerfacecolor": colours[family] if filled else "white"}
            label = family if filled else None
            left.errorbar(x, mean, yerr=(mean - low, high - mean), label=label, **style)
    widths = [r for r in rows if r.family == families[0] and r.state == "initial"]
    n = np.array([min(r.neurons for r in rows), max(r.neurons for r in rows)], float)
    constant = np.exp(np.mean([np.log(np.mean(r.density) / r.neurons**2) for r in widths]))
    left.plot(
        n, constant * n**2, color="0.6", linewidth=6, alpha=0.4, zorder=0, label="N² (Hanin & Rolnick 2019)"
    )
    left.set(xscale="log", yscale="log", xlabel="neurons N", ylabel="crossings of knots / unit area")
    left.set_title("Density against size\nfilled: initialisation, open: trained")
    left.legend(fontsize=8)
    shown = [
        r for r in rows if r.name in ("MLP 100x6", "MLP 100x4, BN", "CNN 8", "ResNet18 4", "ResNet18 4, BN")
    ]
    for number, row in enumerate(shown or rows):
        per_layer = np.mean(row.layers, axis=0)
        share = np.where(per_layer > 0, per_layer, np.nan) / per_layer.sum()
        depth = np.linspace(0, 1, len(per_layer)) if len(per_layer) > 1 else np.array([0.5])
        line = "-" if row.state == "initial" else "--"
        label = row.name if row.state == "initial" else None
        middle.plot(depth, share, line, marker=".", color=f"C{number // 2}", label=label)
    middle.set(
        xlabel="depth: first to last layer", ylabel="share of the knot length", yscale="log", ylim=(1e-3, 1)
    )
    middle.set_title("Where the knots are\nsolid: initialisation, dashed: trained; a gap: no knot")
    middle.legend(fontsize=8)
    pairs = [(rows[i], rows[i + 1]) for i in range(0, len(rows), 2)]
    for place, (before, after) in enumerate(pairs):
        # One generator state for both: the same networks and slices are drawn before and after.
        drawn = [resampled(row.density, np.random.default_rng(0)) for row in (after, before)]
        ratio = drawn[0] / drawn[1]
        low, high = np.quantile(ratio, (0.025, 0.975))
        centre = np.mean(after.density) / np.mean(before.density)
        style = {"color": colours[before.family], "marker": markers[before.family], "markersize": 7}
        right.errorbar(centre, place, xerr=[[centre - low], [high - centre]], capsize=2, **style)
    right.axvline(1, color="0.6", zorder=0)
    right.set_yticks(range(len(pairs)), [before.name for before, _ in pairs])
    right.invert_yaxis()
    right.set(xscale="log", xlabel="density, trained / initial")
    right.set_title("What training does\n95 % intervals, same slices before and after")
    for axes in (left, middle, right):
        axes.grid(True, which="major", color="0.92", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110, metadata={"Software": ""})
    plt.close(figure)


def main(settings: Settings) -> None:
    """Run, print the table, and write it and the figure unless quick."""
    torch.set_num_threads(1)
    begin = time.perf_counter()
    rows = run(settings)
    text = table(rows)
    print(text)
    print(f"{time.perf_counter() - begin:.0f} s", file=sys.stderr)
    if settings.json:
        settings.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    if not settings.quick:
        draw(rows, FIGURE)
        command = "`python benchmarks/density.py`"
        how = f"{command}, {settings.networks} networks of each kind, {settings.slices} slices of each"
        write_section("density", f"{how}; {machine_line(1)}.\n\n![Density]({FIGURE.name})\n\n{text}")


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
