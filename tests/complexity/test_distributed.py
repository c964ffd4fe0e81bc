"""Two real processes that train one network measure together what one process measures alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from splinecam_lite.complexity import LocalComplexity
from tests.complexity.two_processes import monitor, network, probes

ROOT = Path(__file__).parent.parent.parent
SECONDS = 240
"""Far above what it takes; a process that waits for another for ever is ended."""


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[Path, list[dict]]:
    """The folder of the run, and what each process has seen."""
    folder = tmp_path_factory.mktemp("two_processes")
    # gloo looks the host's name up, which may lead nowhere.
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    if sys.platform != "linux":
        del environment["GLOO_SOCKET_IFNAME"]
    processes = []
    try:
        for rank in range(2):
            command = [sys.executable, "-W", "ignore", "-m", "tests.complexity.two_processes"]
            with open(folder / f"log{rank}.txt", "w") as log:
                processes.append(
                    subprocess.Popen(
                        [*command, str(rank), str(folder)],
                        cwd=ROOT,
                        env=environment,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                    )
                )
        codes = [process.wait(timeout=SECONDS) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    logs = [(folder / f"log{rank}.txt").read_text()[-3000:] for rank in range(2)]
    assert codes == [0, 0], "\n".join(logs)
    return folder, [torch.load(folder / f"seen{rank}.pt", weights_only=False) for rank in range(2)]


def test_all_processes_return_what_one_returns_alone(run):
    _, (first, second) = run
    states = [first["with"]["states"], second["with"]["states"]]
    for step in range(3):
        # The statistics are of each process's own batches, and those of process 0 are the network's.
        assert not torch.equal(states[0][step]["1.running_mean"], states[1][step]["1.running_mean"])
        model = network()
        model.load_state_dict(states[0][step])
        alone = monitor(model)(0)
        np.testing.assert_equal(first["with"]["values"][step], alone)
        np.testing.assert_equal(second["with"]["values"][step], alone)
        model.load_state_dict(states[1][step])
        assert step == 0 or monitor(model)(0) != alone
    assert first["with"]["values"][0] != first["with"]["values"][2]


def test_the_run_is_the_same_bit_for_bit(run):
    for seen in run[1]:
        assert torch.equal(seen["with"]["random"], seen["without"]["random"])
        for ours, theirs in zip(seen["with"]["states"], seen["without"]["states"], strict=True):
            assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_process_0_alone_writes_and_all_go_on_from_its_file(run):
    folder, seen = run
    assert not (folder / "out of reach.jsonl").exists()
    records = [json.loads(line) for line in (folder / "lc.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [0, 1, 2, 3]
    for one in seen:
        assert one["resumed"][:2] == [{}, {}]
        np.testing.assert_equal(one["resumed"][2], monitor(network())(0))


def test_a_failure_in_one_process_is_a_failure_in_all(run):
    first, second = (seen["failing"] for seen in run[1])
    assert first[:2] == (
        "SplineCamError",
        "process 1 could not measure its share of the points; its own error says why",
    )
    assert second[0] == "ModelError"
    assert "not finite" in second[1]
    np.testing.assert_equal([first[2], second[2]], [monitor(network())(0)] * 2)


def test_sharded_weights_are_refused(run):
    for seen in run[1]:
        assert len(seen["sharded"]) == 2
        for message in seen["sharded"]:
            assert "is sharded over processes (FSDP)" in message
            assert "get_model_state_dict" in message


def test_a_metric_adds_up_over_processes(run):
    first, second = (seen["metric"] for seen in run[1])
    np.testing.assert_equal(first, second)
    assert all(np.isnan(value) for value in first[0].values())
    per_layer = LocalComplexity(network().eval(), 0.5, 3)(probes()["of7"]).per_layer
    for values in first[1:]:
        assert values["layer2"] == pytest.approx(per_layer[:, 1].mean())
        assert values["sum"] == pytest.approx(per_layer.sum(axis=1).mean())
    assert first[1] == first[2]


def test_one_process_may_measure_alone(run):
    np.testing.assert_equal(run[1][0]["alone"], monitor(network())(0))
