"""Animations: one frame a partition, fixed colours."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from splinecam_lite.network.slices import Slice
from splinecam_lite.partition.partition import partition
from splinecam_lite.partition.result import Partition
from splinecam_lite.show.animate import FRAME_MS, LAST_FRAME_MS, View, animate, draw_frame, write_gif
from splinecam_lite.show.curves import Curve, Panel, draw_panel, positions

STEPS = [0, 1, 10]
PANELS = [Panel("accuracy", [Curve("train", [0.1, np.nan, 0.9], "black")])]
VIEW = View(np.array([[0.0, 0.0], [0.5, 0.5]]), np.array([0, 2]), 3, np.array([[-0.2, -0.2], [0.2, 0.2]]))


def some_partition(seed: int) -> Partition:
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3)).eval()
    return partition(network, Slice.box(-1, 1))


def test_one_frame_a_partition(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    animate(path, map(some_partition, range(3)), STEPS, VIEW, PANELS)
    assert list(tmp_path.iterdir()) == [path]
    with Image.open(path) as animation:
        times = []
        for i in range(animation.n_frames):
            animation.seek(i)
            times.append(animation.info["duration"])
    assert times == [FRAME_MS, FRAME_MS, LAST_FRAME_MS]


def test_numbers_of_frames_and_steps_agree(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="argument 2 is longer"):
        animate(tmp_path / "a.gif", map(some_partition, range(2)), STEPS, VIEW, PANELS)
    with pytest.raises(ValueError, match="at least one"):
        animate(tmp_path / "a.gif", [], [], VIEW, PANELS)
    assert list(tmp_path.iterdir()) == []


def test_frames_have_one_size_whatever_they_show() -> None:
    one_region = partition(nn.Linear(2, 3).eval(), Slice.box(-1, 1))
    frames = [
        draw_frame(part, i, STEPS, VIEW, PANELS) for i, part in enumerate((some_partition(0), one_region))
    ]
    assert frames[0].size == frames[1].size


def test_colours_do_not_flicker(tmp_path: Path) -> None:
    """A colour that stays in the picture stays the same although the other colours change."""
    frames = []
    for other in ("red", "blue", "green"):
        frame = Image.new("RGB", (20, 20), "#3f90da")
        frame.paste(other, (0, 0, 10, 20))
        frames.append(frame)
    write_gif(tmp_path / "a.gif", frames)
    with Image.open(tmp_path / "a.gif") as animation:
        seen = set()
        for i in range(animation.n_frames):
            animation.seek(i)
            seen.add(animation.convert("RGB").getpixel((15, 10)))
    assert len(seen) == 1


def test_rare_colours_can_be_kept(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    noise[5, 5] = (1, 254, 3)
    write_gif(tmp_path / "a.gif", [Image.fromarray(noise)], np.array([[1, 254, 3]]) / 255)
    with Image.open(tmp_path / "a.gif") as animation:
        assert animation.convert("RGB").getpixel((5, 5)) == (1, 254, 3)


def test_curves_have_a_place_for_step_zero() -> None:
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    draw_panel(ax, STEPS, PANELS[0]._replace(level=0.5, ylabel="share"), mark=2)
    at = positions(STEPS)
    assert at[0] < at[1] == 0.0 < at[2] == 1.0
    assert np.array_equal(ax.lines[0].get_xdata(), at)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "1", "10"]
    assert ax.get_ylabel() == "share"
