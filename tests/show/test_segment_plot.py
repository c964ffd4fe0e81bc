"""Figures of segments: exact curves, every knot in the row of its layer, names that can be read."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from torch import nn

from splinecam_lite import Program, Segment
from splinecam_lite.partition.segments.partition import partition_segment
from splinecam_lite.partition.segments.result import SegmentPartition
from splinecam_lite.show.segment import plot_segment
from tests.partition.networks import mlp


@pytest.fixture(scope="module")
def part() -> SegmentPartition:
    program = Program.from_module(mlp(2, 16, 16, 3, seed=1), (2,))
    return partition_segment(program, Segment.between([-2.0, -1.0], [2.0, 1.5]))


def test_curves_are_exact_and_knots_are_in_the_rows_of_their_layers(
    part: SegmentPartition, tmp_path: Path
) -> None:
    curves, knots = part.plot()
    for number, line in enumerate(curves.lines):
        np.testing.assert_array_equal(line.get_xdata(), part.t)
        np.testing.assert_array_equal(line.get_ydata(), part.outputs[:, number])
    crossed = part.knots()
    for layer, row in enumerate(knots.collections):
        segments = np.array(row.get_segments())
        np.testing.assert_array_equal(segments[:, 0, 0], crossed.t[crossed.layers == layer])
        np.testing.assert_allclose(segments[:, :, 1].mean(axis=1), layer)
    assert [label.get_text() for label in knots.get_yticklabels()] == [
        f"layer {layer}: {n} knots" for layer, n in enumerate(part.crossings())
    ]
    assert curves.get_title() == f"{part.n_pieces} activation pieces, {part.n_linear_pieces} linear pieces"
    for suffix in ("png", "pdf"):
        curves.figure.savefig(tmp_path / f"a.{suffix}")
        assert (tmp_path / f"a.{suffix}").stat().st_size > 1000


def test_names_keep_apart_where_curves_end_together(part: SegmentPartition) -> None:
    curves, _ = plot_segment(part, [0, 1, 2], names=["a", "b", "c"])
    curves.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in curves.texts]
    assert [text.get_text() for text in curves.texts] == ["a", "b", "c"]
    assert not any(p.overlaps(q) for i, p in enumerate(boxes) for q in boxes[:i])


def test_axes_title_and_outputs_may_be_chosen(part: SegmentPartition) -> None:
    axes = tuple(Figure().subplots(2, 1))
    curves, knots = plot_segment(part, [2], title="one", axes=axes)
    assert (curves, knots) == axes
    assert (len(curves.lines), len(curves.texts), curves.get_title()) == (1, 0, "one")
    with pytest.raises(ValueError, match="no output 3; they are 0 to 2"):
        plot_segment(part, [3], axes=axes)
    with pytest.raises(ValueError, match="1 names for 2 outputs"):
        plot_segment(part, [0, 1], names=["a"], axes=axes)


def test_of_many_outputs_those_are_drawn_that_win_somewhere() -> None:
    program = Program.from_module(mlp(2, 16, 30), (2,))
    part = partition_segment(program, Segment.between([-2.0, -1.0], [2.0, 1.5]))
    curves, _ = plot_segment(part)
    winners = set(part.outputs.argmax(axis=1).tolist())
    assert {int(text.get_text()) for text in curves.texts} == winners
    assert 0 < len(winners) <= 10


def test_a_network_without_a_knot_is_drawn_too() -> None:
    part = partition_segment(
        Program.from_module(nn.Linear(2, 1).eval(), (2,)), Segment.between([0.0, 0.0], [1.0, 1.0])
    )
    curves, knots = plot_segment(part)
    assert len(curves.lines) == 1
    assert not knots.collections
