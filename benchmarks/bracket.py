"""How far apart are the two bounds of the bracket, and where is the estimate between them?

    python benchmarks/bracket.py                 # all; writes the README's table
    python benchmarks/bracket.py --steps 200 --points 10 --dry-run

A 784-200x4-10 MLP, untrained and trained on 4,000 of the embedded MNIST digits, is looked at around test
digits in neighbourhoods of P directions. Time is that of one thread, without the export of the network.
"""

import time
from dataclasses import dataclass

import torch
import tyro
from sections import machine_line, write_section
from torch import nn

from splinecam_lite.complexity.bracket import Bracket, bracket
from splinecam_lite.network.program import Program
from splinecam_lite.studies.digits import load_digits
from splinecam_lite.studies.tasks import DigitsTask
from splinecam_lite.studies.train import train

HEAD = (
    "| network | r | layer | neurons | estimate | lower | upper | estimate / lower | estimate / upper "
    "| undecided | s |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
)


@dataclass(frozen=True)
class Settings:
    """What to run."""

    points: int = 50
    """Test digits."""
    directions: int = 25
    """P."""
    radii: tuple[float, ...] = (0.005, 0.05, 0.5, 2.0)
    steps: int = 2000
    """Of training."""
    depth: int = 4
    """Hidden layers of 200."""
    segments: int = 100
    """Edges of each neighbourhood, beside its diagonals."""
    dry_run: bool = False
    """Print the table, write nothing."""


def rows(name: str, network: nn.Module, x: torch.Tensor, settings: Settings) -> list[str]:
    """One line for each radius and layer, and one for all layers."""
    program, lines = Program.from_module(network, (784,)), []
    for radius in settings.radii:
        start = time.thread_time()
        found = bracket(program, x, radius, settings.directions, segments=settings.segments)
        seconds = time.thread_time() - start
        lines += _of(found, name, radius, seconds)
    return lines


def _of(found: Bracket, name: str, radius: float, seconds: float) -> list[str]:
    lines = []
    parts = [(str(k + 1), slice(k, k + 1)) for k in range(len(found.layer_names))] + [("all", slice(None))]
    for label, part in parts:
        neurons = int(found.n_neurons[part].sum())
        estimate, lower, upper = (
            float(counts[:, part].sum(axis=1).mean()) for counts in (found.estimate, found.lower, found.upper)
        )
        ratios = " | ".join(f"{estimate / below:.4f}" if below else "-" for below in (lower, upper))
        last = f"{seconds:.2f}" if label == "all" else ""
        lines.append(
            f"| {name} | {radius:g} | {label} | {neurons} | {estimate:.2f} | {lower:.2f} | {upper:.2f} | "
            f"{ratios} | {(upper - lower) / neurons:.3%} | {last} |"
        )
    return lines


def main(settings: Settings) -> None:
    """Measure, print, and write the section."""
    torch.set_num_threads(1)
    digits = load_digits(4000)
    task = DigitsTask(n_train=4000, widths=(200,) * settings.depth, loss="cross-entropy")
    x, lines = digits.test_x[: settings.points], []
    for step, network in train(task, digits, [0, settings.steps]):
        name = f"{step} steps" if step else "untrained"
        if step:
            right = (network(digits.test_x).argmax(dim=1) == digits.test_y).double().mean()
            name += f", {float(right):.1%} right"
        lines += rows(name, network, x, settings)
    command = f"python benchmarks/bracket.py --points {settings.points} --steps {settings.steps}"
    text = "\n".join(
        [
            "## The bracket in the full input dimension",
            "",
            f"`{command}`: 784-200x{settings.depth}-10, {settings.points} test digits, P = "
            f"{settings.directions}, {settings.segments} edges and the diagonals. Counts are means over the "
            "points; undecided is the share of neurons between lower and upper.",
            "",
            machine_line(1) + ".",
            "",
            HEAD,
            *lines,
        ]
    )
    print(text)
    if not settings.dry_run:
        write_section("bracket", text)


if __name__ == "__main__":
    main(tyro.cli(Settings))
