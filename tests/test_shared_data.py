"""Networks that others have trained, read from their files: partitions on slices that mean something.

The files are data beside the project, not in it; see the README in their folder.
"""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn

import splinecam_lite as sc
from splinecam_lite.network import Program
from splinecam_lite.studies.digits import load_digits

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
RESIDUAL = 1e-14
"""Of the scale of the outputs, in float64; measured are 2e-16."""

ACAS = ("acasxu_1_1.onnx", "acasxu_2_3.onnx", "acasxu_4_5.onnx")
MEANS = np.array([19791.091, 0.0, 0.0, 650.0, 600.0])
RANGES = np.array([60261.0, 2 * np.pi, 2 * np.pi, 1100.0, 1200.0])

pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason=f"{DATA} is not there: the trained networks are data beside the project"
)


def acas_slice(
    axes: tuple[int, int], fixed: tuple[float, ...], low: list[float], high: list[float]
) -> sc.Slice:
    """Two of the five inputs vary, from low to high; all in physical units."""
    first, second = ((np.array(end) - MEANS[[*axes]]) / RANGES[[*axes]] for end in (low, high))
    origin = (np.array(fixed) - MEANS) / RANGES
    origin[[*axes]] = 0.0
    domain = np.array([first, (second[0], first[1]), second, (first[0], second[1])])
    return sc.Slice(origin, np.eye(5)[[*axes]], domain, (1, 1, 5))


SLICES = {
    "distance and angle": acas_slice((0, 1), (0, 0, 0, 1000, 800), [0, -np.pi], [60760, np.pi]),
    "angle and heading": acas_slice((1, 2), (5000, 0, 0, 1000, 800), [-np.pi, -np.pi], [np.pi, np.pi]),
}


def require_sound(part: sc.Partition, *, at_least: int) -> None:
    """Residuals within bounds, and enough regions for a slice that means something."""
    assert part.report.euler == 1
    assert part.report.output_residual <= RESIDUAL
    assert part.report.area_residual <= RESIDUAL
    assert part.n_regions >= at_least


def bunny(name: str) -> nn.Sequential:
    """The module of a state dict ``fcs.i.weight/bias``."""
    state = torch.load(DATA / name, weights_only=True)
    layers: list[nn.Module] = []
    for i in range(len(state) // 2):
        weight = state[f"fcs.{i}.weight"]
        layers += [nn.Linear(*weight.shape[::-1]), nn.ReLU()]
        layers[-2].load_state_dict({"weight": weight, "bias": state[f"fcs.{i}.bias"]})
    return nn.Sequential(*layers[:-1]).eval()


@pytest.mark.parametrize("name", [*ACAS, "mnist_256x2.onnx"])
def test_files_compute_what_onnx_does(name: str) -> None:
    """onnx computes in float32, as the files say."""
    model, program = onnx.load(DATA / name), Program.from_file(DATA / name)
    evaluator = ReferenceEvaluator(model)
    (given,) = {i.name for i in model.graph.input} - {i.name for i in model.graph.initializer}
    x = np.random.default_rng(0).uniform(-0.5, 0.5, (20, *program.input_shape)).astype(np.float32)
    expected = np.concatenate([evaluator.run(None, {given: row[None]})[0] for row in x])
    np.testing.assert_allclose(program.run(x).numpy(), expected, rtol=0, atol=2e-6 * np.abs(expected).max())


@pytest.mark.parametrize("name", ACAS)
@pytest.mark.parametrize("plane", SLICES)
def test_collision_avoidance(name: str, plane: str) -> None:
    """The lowest score wins; exact mode finds the same."""
    part = sc.partition(DATA / name, SLICES[plane], decide="argmin")
    require_sound(part, at_least=20_000)
    assert part.n_decision_cells > 3
    exact = sc.partition(DATA / name, SLICES[plane], decide="argmin", exact=True)
    require_sound(exact, at_least=20_000)
    assert (part.n_regions, part.n_decision_cells) == (exact.n_regions, exact.n_decision_cells)


def test_the_boundary_of_collision_avoidance_is_where_the_lowest_scores_tie() -> None:
    program = Program.from_file(DATA / "acasxu_2_3.onnx")
    plane = SLICES["distance and angle"]
    boundary = sc.partition(program, plane, decide="argmin").decision_boundary()
    middles = boundary.segments.mean(axis=1)
    scores = np.sort(program.run(plane.lift(middles)).numpy(), axis=1)
    assert np.abs(scores[:, 1] - scores[:, 0]).max() < 1e-12
    assert boundary.length > 1.0


def test_a_part_of_collision_avoidance_is_proved() -> None:
    close = acas_slice((0, 1), (0, 0, 0, 1000, 800), [0, -0.4], [6000, 0.4])
    part = sc.partition(DATA / "acasxu_1_1.onnx", close, decide="argmin", exact=True)
    require_sound(part, at_least=1000)
    assert part.certify().status == "proved"


def test_digits_that_another_network_learnt() -> None:
    """The plane of three digits that it gets right, one cell for each at least."""
    program, digits = Program.from_file(DATA / "mnist_256x2.onnx"), load_digits()
    x, y = digits.test_x.double()[:, :, None], digits.test_y
    right = program.run(x).argmax(1) == y
    assert right.double().mean() > 0.97
    corners = [x[(right & (y == digit)).nonzero()[0, 0]] for digit in (3, 5, 8)]
    plane = sc.Slice.through(*corners)
    for exact in (False, True):
        part = sc.partition(program, plane, exact=exact)
        require_sound(part, at_least=3000)
        assert part.n_decision_cells >= 3


@pytest.mark.parametrize(("name", "at_least"), [("bunny_2x50.pt", 200), ("bunny_4x32.pt", 1000)])
def test_the_outline_of_a_bunny(name: str, at_least: int) -> None:
    """Signed distances: the zero set is the outline, a closed curve inside the box."""
    module = bunny(name)
    part = sc.partition(module, sc.Slice.box(-0.5, 0.5), exact=True)
    require_sound(part, at_least=at_least)
    outline = part.decision_boundary()
    ends, times = np.unique(outline.segments.reshape(-1, 2).round(9), axis=0, return_counts=True)
    inner = np.abs(ends).max(axis=1) < 0.5 - 1e-9
    assert (times[inner] == 2).all()
    assert part.certify().status == "proved"
