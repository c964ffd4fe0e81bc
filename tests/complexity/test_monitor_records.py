"""The monitor's steps, sums and file: exact, and safe against being killed."""

import json
from math import isnan

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from splinecam_lite.complexity.monitor import LCMonitor
from splinecam_lite.complexity.monitoring.moments import Moments
from splinecam_lite.complexity.monitoring.records import RecordFile
from splinecam_lite.complexity.monitoring.schedule import log_spaced
from splinecam_lite.complexity.result import mean_interval
from splinecam_lite.errors import FileError

counts = st.integers(0, 2**40)
tables = st.integers(1, 4).flatmap(
    lambda layers: st.lists(st.lists(counts, min_size=layers, max_size=layers), min_size=1, max_size=12)
)


@given(st.integers(1, 10**6), st.integers(0, 10**6), st.integers(2, 80))
def test_steps_are_sorted_distinct_and_as_many_as_asked_for(first, width, n):
    steps = log_spaced(first, first + width, n)
    assert all(type(step) is int for step in steps)
    assert list(steps) == sorted(set(steps))
    assert (steps[0], steps[-1]) == (first, first + width)
    assert len(steps) == min(n, width + 1)


@given(st.integers(1, 1000), st.integers(2, 10**6), st.integers(3, 60))
def test_steps_are_spaced_evenly_on_a_logarithmic_scale(first, width, n):
    steps = np.array(log_spaced(first, first + width, n))
    # Where one step is less than the even spacing, the ratio of neighbours is that of the rest.
    for i in np.flatnonzero(np.diff(steps)[:-1] > 1):
        even = steps[i] * (steps[-1] / steps[i]) ** (1 / (len(steps) - 1 - i))
        assert abs(steps[i + 1] - even) <= 0.5 + 1e-9 * even
    assert np.diff(np.diff(steps)).min() >= -1


@pytest.mark.parametrize(("first", "last", "n"), [(0, 9, 3), (-1, 9, 3), (5, 4, 3), (1, 9, 1), (1, 9, 0)])
def test_steps_that_there_are_not_are_refused(first, last, n):
    with pytest.raises(ValueError, match=f" {first}| {last}| {n}"):
        log_spaced(first, last, n)


def test_one_step_is_enough_where_there_is_one():
    assert log_spaced(7, 7, 1) == (7,)


@given(tables, st.integers(1, 5))
def test_sums_do_not_depend_on_who_counted(table, world):
    per_layer = np.array(table, dtype=np.int64) % 2**20
    whole = Moments.of(per_layer)
    parts = sum(Moments.of(per_layer[rank::world]).vector() for rank in range(world))
    values = Moments.from_vector(parts).values("a/")
    # Bit for bit; NaN is equal to itself here.
    np.testing.assert_equal(values, whole.values("a/"))
    interval = mean_interval(per_layer.sum(axis=1))
    assert values["a/sum"] == pytest.approx(interval.value, rel=1e-12)
    assert values["a/sum_ci99"] == pytest.approx(
        interval.high - interval.value, rel=1e-6, abs=1e-6, nan_ok=True
    )
    for layer, mean in enumerate(per_layer.mean(axis=0), 1):
        assert values[f"a/layer{layer}"] == pytest.approx(mean, rel=1e-12)
    assert len(values) == per_layer.shape[1] + 2


def test_the_interval_survives_large_counts():
    # Counts of 10^9 that differ by 1: in floating point, squares of 10^18 would swallow the difference.
    values = Moments.of(np.array([[10**9], [10**9 + 1], [10**9 - 1]])).values()
    assert values["sum_ci99"] == pytest.approx(9.92484 * (1 / 3) ** 0.5, rel=1e-5)


def test_no_points_have_no_mean():
    values = Moments.of(np.zeros((0, 2), dtype=np.int64)).values()
    assert list(values) == ["layer1", "layer2", "sum", "sum_ci99"]
    assert all(map(isnan, values.values()))


def monitor(path, at=(0, 1, 2, 3), radius=0.5, shift=0.0, **options) -> LCMonitor:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 1))
    points = {"a": torch.arange(12.0).reshape(4, 3) / 9 + shift, "b": torch.ones(1, 3)}
    return LCMonitor(model, points, at, radius, 2, path=path, **options)


def test_a_restarted_run_goes_on(tmp_path):
    path = tmp_path / "made" / "lc.jsonl"
    first = monitor(path)
    values = [first(step) for step in (0, 1)]
    lines = path.read_bytes()
    assert [json.loads(line)["step"] for line in lines.splitlines()] == [0, 1]
    assert json.loads(lines.splitlines()[0])["lc/b/sum_ci99"] is None
    # Killed while it wrote the next line.
    path.write_bytes(lines + b'{"step": 2, "rad')

    second = monitor(path)
    np.testing.assert_equal(second.history, first.history)
    assert path.read_bytes().startswith(lines)
    with pytest.warns(UserWarning, match=r"step 1 is in '.*lc.jsonl' from a run before"):
        assert second(1) == {}
    assert second(0) == {}  # said once
    np.testing.assert_equal(second(2), values[1])  # the same weights
    assert second(2) == {}
    assert second(3)
    assert path.read_bytes().startswith(lines)
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [record["step"] for record in records] == [0, 1, 2, 3]
    assert [record["step"] for record in second.history] == [0, 1, 2, 3]
    assert [record["radius"] for record in records] == [0.5] * 4
    assert {k: v for k, v in records[2].items() if "/a/" in k} == {
        k: v for k, v in values[1].items() if "/a/" in k
    }


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"radius": 0.25}, "radius 0.5, and now it is 0.25"),
        ({"shift": 1.0}, "probes .*, and now it is"),
        ({"seed": 3}, "seed 0, and now it is 3"),
        ({"layers": ["1"]}, r"layers None, and now it is \['1'\]"),
        ({"frame": torch.eye(3)[:2]}, "frame None, and now it is"),
        ({"dtype": torch.float32}, "dtype torch.float64, and now it is torch.float32"),
    ],
)
def test_a_run_with_other_settings_is_refused(tmp_path, other, named):
    path = tmp_path / "lc.jsonl"
    RecordFile(path, monitor(None)._settings()).append({"step": 0, "lc/a/sum": 1.0})
    before = path.read_bytes()
    assert monitor(path).history == [{"step": 0, "lc/a/sum": 1.0}]
    with pytest.raises(FileError, match=named):
        monitor(path, **other)
    assert path.read_bytes() == before


@pytest.mark.parametrize("line", [b"no json\n", b"[1]\n", b'{"loss": 1}\n', b"7\n"])
def test_other_files_are_refused(tmp_path, line):
    path = tmp_path / "log.jsonl"
    path.write_bytes(line)
    with pytest.raises(FileError, match=r"line 1 of '.*log.jsonl' is no record of a step; give another path"):
        RecordFile(path, {})
    assert path.read_bytes() == line


@given(
    st.lists(
        st.dictionaries(
            st.text(min_size=1).filter(lambda key: key not in ("step", "r")),
            st.floats(allow_infinity=False) | st.integers(),
        ),
        max_size=4,
    ),
    st.integers(0, 10**6),
)
def test_records_come_back_as_they_were_whatever_was_cut(tmp_path_factory, records, cut):
    path = tmp_path_factory.mktemp("records") / "r.jsonl"
    file = RecordFile(path, {"r": 0.1})
    for step, record in enumerate(records):
        file.append({"step": step, **record})
    np.testing.assert_equal(
        RecordFile(path, {"r": 0.1}).records, [{"step": i, **r} for i, r in enumerate(records)]
    )
    if records:
        text = path.read_bytes()
        path.write_bytes(text[: cut % (len(text) + 1)])
        again = RecordFile(path, {"r": 0.1})
        whole = len(again.records)
        np.testing.assert_equal(again.records, [{"step": i, **r} for i, r in enumerate(records[:whole])])
        again.append({"step": 99})
        assert len(RecordFile(path, {"r": 0.1}).records) == whole + 1
