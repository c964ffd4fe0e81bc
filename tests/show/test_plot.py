"""Figures: every colouring draws and says what it shows, leaves no gap, and means the same next time."""

from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from torch import nn

import splinecam_lite as sc
from splinecam_lite.show.colours import SERIES, class_colours, pale, pattern_palette
from splinecam_lite.show.plot import plot

PAGE = 120  # dots per inch


def mlp(*widths: int, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    layers = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers[:-1]).eval()


@pytest.fixture(scope="module")
def several() -> sc.Partition:
    """A partition with three outputs."""
    return sc.partition(mlp(2, 16, 16, 3, seed=1), sc.Slice.box(-2, 2))


@pytest.fixture(scope="module")
def scalar() -> sc.Partition:
    """A partition with one output, on a slice of a space of five inputs, whose domain is a diamond."""
    plane = sc.Slice.around(np.zeros(5), 3.0, seed=0, shape="diamond")
    return sc.partition(mlp(5, 16, 16, 1, seed=7), plane)


@pytest.fixture(autouse=True)
def _closed_figures() -> None:
    yield
    plt.close("all")


def drawn(ax: Axes) -> np.ndarray:
    """Pixels inside the axes, (height, width, 3) in [0, 1]."""
    figure = ax.figure
    figure.set_dpi(PAGE)
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[::-1, :, :3] / 255
    box = ax.get_window_extent()
    return pixels[int(box.y0) + 2 : int(box.y1) - 2, int(box.x0) + 2 : int(box.x1) - 2]


def colour_at(ax: Axes, uv: np.ndarray) -> np.ndarray:
    """Colours of the pixels at chart coordinates (n, 2)."""
    figure = ax.figure
    figure.set_dpi(PAGE)
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[::-1, :, :3] / 255
    columns, rows = np.floor(ax.transData.transform(uv)).astype(int).T
    return pixels[rows, columns]


def legend(ax: Axes) -> list[str]:
    box = ax.get_legend()
    return [] if box is None else [text.get_text() for text in box.get_texts()]


@pytest.mark.parametrize("color_by", ["class", "area", "norm", "pattern", "none"])
@pytest.mark.parametrize("which", ["several", "scalar"])
def test_every_colouring_says_what_it_shows(
    color_by: str, which: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    part = request.getfixturevalue(which)
    ax = plot(part, color_by)
    cells = f"{part.n_decision_cells} decision cell{'s' if part.n_decision_cells > 1 else ''}"
    assert ax.get_title().startswith(
        f"{part.n_regions:,} activation regions, {part.n_linear_regions:,} linear regions, {cells}"
    )
    assert ax.get_xlabel() == ("input 1" if which == "several" else "u (input units)")
    assert ax.get_aspect() == 1
    assert "decision boundary" in legend(ax)
    bars = [other.get_ylabel() for other in ax.figure.axes if other is not ax]
    assert len(bars) == (color_by in ("area", "norm"))
    assert all("input unit" in label for label in bars)
    for suffix in ("png", "pdf"):
        ax.figure.savefig(tmp_path / f"a.{suffix}")
        assert (tmp_path / f"a.{suffix}").stat().st_size > 1000


def test_regions_have_the_colour_of_their_class(several: sc.Partition) -> None:
    ax = plot(several, "class", boundary=False, edges=False)
    boundary = several.decision_boundary()
    rng = np.random.default_rng(0)
    uv = rng.uniform(-1.99, 1.99, (400, 2))
    uv = uv[boundary.distance(uv) > 0.02]  # a pixel on the boundary has the colour of either side
    inputs = torch.from_numpy(several.plane.lift(uv)).float()
    with torch.no_grad():
        classes = mlp(2, 16, 16, 3, seed=1)(inputs).argmax(dim=1).numpy()
    np.testing.assert_allclose(colour_at(ax, uv), pale(class_colours(classes)), atol=1 / 200)
    assert len(set(classes)) == 3
    assert legend(ax) == ["class 0", "class 1", "class 2"]
    assert f"{boundary.n_cells} decision cells" in ax.get_title()


def test_regions_have_the_colour_of_their_pattern_in_every_figure(several: sc.Partition) -> None:
    part = sc.partition(mlp(2, 16, 16, 3, seed=1), sc.Slice.box([-1.0, -1.5], [1.5, 0.5]))
    areas = part.areas()
    points = part.interior_points()[areas > 0.005]
    there = colour_at(plot(part, "pattern", boundary=False, edges=False), points)
    here = colour_at(plot(several, "pattern", boundary=False, edges=False), points)
    np.testing.assert_array_equal(here, there)
    assert len(np.unique(here, axis=0)) > 10


def test_shades_rise_with_the_value(several: sc.Partition) -> None:
    values = several.centroids()[:, 0]
    ax = plot(several, values, value_label="u (input units)", boundary=False, edges=False)
    colours = colour_at(ax, np.array([[-1.8, 0.0], [0.0, 0.0], [1.8, 0.0]]))
    luminance = colours @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(luminance) > 0.1).all()  # viridis
    (bar,) = [other for other in ax.figure.axes if other is not ax]
    assert bar.get_ylabel() == "u (input units)"


def test_no_gap_between_regions(several: sc.Partition) -> None:
    """Paper shines through nowhere, not even as a hairline between neighbours."""
    pixels = drawn(plot(several, "pattern", boundary=False, edges=False))
    assert not (pixels == 1).all(axis=2).any()


def test_same_limits_same_colours(several: sc.Partition) -> None:
    part = sc.partition(mlp(2, 16, 16, 3, seed=1), sc.Slice.box(-0.5, 0.5))
    uv = part.interior_points()[part.areas() > 0.005]
    pictures = [plot(p, "norm", limits=(0.05, 2.0), boundary=False, edges=False) for p in (part, several)]
    np.testing.assert_array_equal(*(colour_at(ax, uv) for ax in pictures))


def test_a_map_of_norm_zero_is_named(tmp_path: Path) -> None:
    """A dead region has no place on a logarithmic scale; it is grey and the legend says so."""
    model = nn.Sequential(nn.Linear(2, 1), nn.ReLU()).eval()
    model[0].weight.data, model[0].bias.data = torch.tensor([[1.0, 0.0]]), torch.zeros(1)
    ax = plot(sc.partition(model, sc.Slice.box(-1, 1)), "norm", boundary=False)
    assert legend(ax) == ["0"]


@pytest.mark.parametrize("color_by", ["class", "area", "norm", "pattern"])
def test_one_region(color_by: str) -> None:
    ax = plot(sc.partition(nn.Linear(2, 3).eval(), sc.Slice.box(0, 1)), color_by)
    assert ax.get_title().startswith("1 activation region")
    drawn(ax)


def test_points_lie_where_they_project(scalar: sc.Partition) -> None:
    rng = np.random.default_rng(1)
    inside = scalar.plane.lift([[0.5, 0.5], [-1.0, 0.2]])
    off = inside + rng.normal(size=(2, 5))
    ax = plot(scalar, "none", points=np.concatenate((inside, off)), labels=[1, -1, 1, -1])
    dots = [collection for collection in ax.collections if len(collection.get_offsets()) == 2]
    np.testing.assert_allclose(dots[0].get_offsets(), [[0.5, 0.5], [-1.0, 0.2]], atol=1e-12)
    np.testing.assert_allclose(dots[1].get_offsets(), scalar.plane.project(off), atol=1e-12)
    assert [tuple(c) for c in dots[0].get_facecolors()[:, :3]] == [to_rgb(SERIES[1]), to_rgb(SERIES[0])]
    assert legend(ax)[-2:] == ["data by class", "data off the slice"]


def test_given_axes_are_used(several: sc.Partition) -> None:
    _, axes = plt.subplots(1, 2)
    assert several.plot("none", ax=axes[1], title="after training") is axes[1]
    assert axes[1].get_title() == "after training"
    assert not axes[0].collections


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"color_by": "colour"}, "color_by is 'colour'; it must be one of class, area"),
        ({"color_by": [1.0, 2.0]}, "give a number for each of"),
        ({"color_by": "area", "limits": (0.0, 1.0)}, "both above 0"),
        ({"points": [[0.0, 0.0]], "labels": [0.5]}, "give 1 integers"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: dict, said: str, several: sc.Partition) -> None:
    with pytest.raises(ValueError, match=said):
        plot(several, **arguments)


def test_class_colours_stay_apart() -> None:
    """Under each kind of colour blindness, too: simulated by Machado et al. 2009, at full severity."""
    simulated = {
        "protan": [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ],
        "deutan": [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ],
        "tritan": [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ],
        "none": np.eye(3),
    }
    colours = class_colours(np.arange(len(SERIES)))
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    for kind, matrix in simulated.items():
        seen = np.clip(linear @ np.array(matrix).T, 0, 1) ** (1 / 2.2)
        apart = np.linalg.norm(seen[:, None] - seen[None], axis=2) + 10 * np.eye(len(seen))
        assert apart.min() > 0.1, kind


def test_no_pattern_colour_is_paper_or_ink() -> None:
    luminance = pattern_palette() @ (0.2126, 0.7152, 0.0722)
    assert luminance.min() > 0.4
    assert pattern_palette().min(axis=1).max() < 0.9
