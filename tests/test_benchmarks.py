"""The engine's benchmark runs, and its figures say what its table promises."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.sections import write_section

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def run(script: str, *options: str) -> "subprocess.CompletedProcess[str]":
    """Run one of the benchmarks with one thread."""
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / script), *options],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.slow
def test_one_workload_runs_and_agrees_with_the_peer(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    options = ["--only", "lines-200", "--repeat", "1", "--no-compile-time", "--json", str(results)]
    run = subprocess.run(
        [sys.executable, str(BENCHMARKS / "bench_engine.py"), *options],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "lines-200" in run.stdout
    (row,) = json.loads(results.read_text())["rows"]
    assert row["euler"] == 1
    assert row["area_residual"] < 1e-12
    assert row["output_residual"] < 1e-12
    # RegionCam computes in float32, so that it may lose or add a few slivers.
    assert abs(row["regions"] - row["peer_regions"]) <= 1e-3 * row["regions"]
    assert row["engine_mb"] > 0
    assert row["peer_mb"] > 0


@pytest.mark.slow
def test_density_quickly(tmp_path: Path) -> None:
    results = tmp_path / "density.json"
    readme = (BENCHMARKS / "README.md").read_text()
    done = run("density.py", "--quick", "--json", str(results))
    assert "MLP width" in done.stdout
    assert (BENCHMARKS / "README.md").read_text() == readme
    rows = json.loads(results.read_text())
    assert [row["state"] for row in rows] == ["initial", "trained"] * 3
    for row in rows:
        assert all(0 < share <= 1 for share in row["linear"][0])
        area = 3.06 * row["radius"] ** 2
        assert all(0 <= d * area < n for d, n in zip(row["density"][0], row["regions"][0], strict=True))
        for length, layers in zip(row["length"][0], row["layers"], strict=True):
            assert sum(layers) == pytest.approx(length)
    narrow, wide = (rows[i]["density"][0] for i in (0, 2))
    assert sum(wide) > 2 * sum(narrow), "twice the neurons have about four times the density"


@pytest.mark.slow
def test_scaling_quickly(tmp_path: Path) -> None:
    results = tmp_path / "scaling.json"
    run("scaling.py", "--quick", "--json", str(results))
    rows = json.loads(results.read_text())
    assert [row["curve"] for row in rows] == ["regions"] * 2 + ["threads"] * 2
    assert rows[2]["regions"] == rows[3]["regions"]
    assert all(row["seconds"] > 0 and row["forward"] > 0 for row in rows)


@pytest.mark.slow
def test_peers_that_are_installed_count_the_same(tmp_path: Path) -> None:
    results = tmp_path / "peers.json"
    run("peers.py", "--only", "tiny", "--no-write", "--limit", "120", "--json", str(results))
    tools = json.loads(results.read_text())["tiny"]
    assert tools["engine"]["regions"] == 127
    counted = {tool: figures["regions"] for tool, figures in tools.items() if "failed" not in figures}
    assert set(counted.values()) == {127}, counted


def test_a_section_is_rewritten_and_nothing_else(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("before\n\n<!-- a -->\nold\n<!-- /a -->\n\nafter\n")
    write_section("a", "new", readme)
    assert readme.read_text() == "before\n\n<!-- a -->\n\nnew\n\n<!-- /a -->\n\nafter\n"
    write_section("b", "more", readme)
    assert readme.read_text().endswith("after\n\n<!-- b -->\n\nmore\n\n<!-- /b -->\n")
    readme.write_text("<!-- a -->\nno end")
    with pytest.raises(ValueError, match="no <!-- /a --> after it"):
        write_section("a", "new", readme)
