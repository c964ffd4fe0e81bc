"""The demo from data to report, in its quick form; what it leaves in its folder; going on after a kill."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from splinecam_lite.partition.result import Partition
from splinecam_lite.studies.demo import run_demo
from splinecam_lite.studies.folder import Record, RunFolderError

CURVES = {"accuracy", "complexity", "estimate", "migration", "profile", "regions"}
FIGURES = {f"{name}.png" for name in CURVES | {"images", "slices"}} | {"slice.gif"}


def records_of(folder: Path) -> list[Record]:
    return [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]


def timeless(record: Record) -> Record:
    return {name: value for name, value in record.items() if name != "seconds"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished quick demo."""
    out = tmp_path_factory.mktemp("demo") / "out"
    assert run_demo(out, quick=True, threads=1) == out / "report.html"
    return out


def test_everything_is_there(folder: Path) -> None:
    steps = [record["step"] for record in records_of(folder)]
    assert steps == [0, 1, 4, 15, 60]
    assert {path.name for path in folder.iterdir()} == FIGURES | {
        "partitions", "records.jsonl", "report.html", "run.json"
    }  # fmt: skip
    assert {path.name for path in (folder / "partitions").iterdir()} == {f"step_{s:06d}.npz" for s in steps}
    assert json.loads((folder / "run.json").read_text())["task"]["steps"] == 60
    with Image.open(folder / "slice.gif") as animation:
        assert animation.n_frames == len(steps)


def test_numbers_make_sense(folder: Path) -> None:
    records = records_of(folder)
    assert records[-1]["accuracy"]["train"] > records[0]["accuracy"]["train"] + 0.2
    for record in records:
        recall = record["diamonds"]["recall"]
        assert recall[0] in (1.0, None)
        assert all(r is None or 0.0 <= r <= 1.0 for r in recall)
        assert all(
            e <= x for e, x in zip(record["diamonds"]["estimate"], record["diamonds"]["exact"], strict=True)
        )
        part = record["partition"]
        assert part["activation_regions"] == part["edges"] - part["vertices"] + 1
        assert 1 <= part["linear_regions"] <= part["activation_regions"]
        assert all(k <= n for k, n in zip(part["neurons_with_knot"], part["neurons"], strict=True))
        for points in record["local_complexity"].values():
            assert points["low"] <= points["mean"] <= points["high"]
            assert np.isclose(points["mean"], sum(points["layer_means"]))
        assert record["slices"][0]["ratio"] == record["knot_density"]["ratio"]
        assert [s["labels"] for s in record["slices"]] == [[4, 7, 9], [3, 5, 8], [0, 2, 6]]
        density = record["knot_density"]
        total = sum(part["knot_length"])
        for near, far, area in zip(density["near"], density["far"], density["area_within"], strict=True):
            assert np.isclose((near or 0.0) * area + (far or 0.0) * (part["area"] - area), total)


def test_partitions_are_those_of_the_records(folder: Path) -> None:
    for record in records_of(folder):
        part = Partition.load(folder / "partitions" / f"step_{record['step']:06d}.npz")
        assert part.n_regions == record["partition"]["activation_regions"]
        assert part.n_linear_regions == record["partition"]["linear_regions"]
        assert np.isclose(part.decision_boundary().length, record["decision_boundary"]["length"])


def test_report_stands_alone(folder: Path) -> None:
    class Reader(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.sources: list[str] = []
            self.headings = 0

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.headings += tag == "h2"
            self.sources += [value or "" for name, value in attrs if name in ("src", "href")]

    page = (folder / "report.html").read_text()
    reader = Reader()
    reader.feed(page)
    images = [source for source in reader.sources if not source.startswith("#")]
    assert len(images) == len(FIGURES)
    assert all(source.startswith("data:image/") for source in images)
    assert reader.headings == 11
    assert "<script" not in page
    assert "nan" not in re.sub('base64,[^"]*', "", page)
    counts = ("activation region", "linear region", "decision cell")
    for word in (*counts, "knot", "decision boundary", "local complexity", "recall", "migration"):
        assert word in page


@pytest.fixture
def _no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the drawing, which takes most of the time of a quick demo."""
    monkeypatch.setattr("splinecam_lite.studies.demo._show", lambda *args: None)


@pytest.mark.usefixtures("_no_figures")
def test_same_seed_same_records(folder: Path, tmp_path: Path) -> None:
    run_demo(tmp_path / "again", quick=True, threads=2)
    assert [timeless(r) for r in records_of(tmp_path / "again")] == [timeless(r) for r in records_of(folder)]


@pytest.mark.usefixtures("_no_figures")
def test_a_killed_run_goes_on(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    (out / "partitions").mkdir(parents=True)
    (out / "run.json").write_bytes((folder / "run.json").read_bytes())
    lines = (folder / "records.jsonl").read_text().splitlines(keepends=True)
    (out / "records.jsonl").write_text("".join(lines[:2]) + lines[2][:100])  # killed in the third line
    for step in (0, 1):
        name = f"partitions/step_{step:06d}.npz"
        (out / name).write_bytes((folder / name).read_bytes())
    run_demo(out, quick=True, threads=1)
    assert [timeless(r) for r in records_of(out)] == [timeless(r) for r in records_of(folder)]
    assert (out / "records.jsonl").read_text().startswith("".join(lines[:2]))


def test_other_settings_are_refused(folder: Path) -> None:
    before = (folder / "records.jsonl").read_bytes()
    with pytest.raises(RunFolderError, match=r"other settings \(task.seed: 0 there, 1 now\).*another folder"):
        run_demo(folder, quick=True, seed=1)
    assert (folder / "records.jsonl").read_bytes() == before


def test_a_folder_of_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(RunFolderError, match="not empty"):
        run_demo(tmp_path, quick=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
