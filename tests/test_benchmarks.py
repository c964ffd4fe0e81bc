"""The engine's benchmark runs, and its figures say what its table promises."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


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
