"""The command line on whole networks: .onnx and .pt2 files instead of code that makes a module."""

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import splinecam_lite as sc
from splinecam_lite.cli import main
from tests.network.onnx_models import node, onnx_model

RNG = np.random.default_rng(9)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One network as an ONNX file and as an archive, for inputs of shape (1, 2), and points for it."""
    folder = tmp_path_factory.mktemp("files")
    module = nn.Sequential(nn.Flatten(), nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 3)).double().eval()
    x = torch.zeros(2, 1, 2, dtype=torch.float64)
    exported = torch.export.export(module, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(exported, folder / "net.pt2")
    weights = [parameter.detach().numpy() for parameter in module.parameters()]
    nodes = [
        node("Flatten", "x", "f"),
        node("Gemm", "f w0 w1", "z", transB=1),
        node("Relu", "z", "h"),
        node("Gemm", "h w2 w3", "y", transB=1),
    ]
    constants = {f"w{i}": weight for i, weight in enumerate(weights)}
    onnx.save(onnx_model(nodes, (1, 2), constants), folder / "net.onnx")
    np.save(folder / "three.npy", RNG.normal(size=(3, 2)))
    return folder


def regions(folder: Path, tmp_path: Path, *words: str) -> int:
    """Regions of the partition that the command line computes."""
    out = tmp_path / "slice.npz"
    points = ["--points", str(folder / "three.npy"), "--input-shape", "1", "2", "--out", str(out)]
    assert main(["partition", *words, *points]) == 0
    return sc.Partition.load(out).n_regions


def test_files_are_networks(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plane = sc.Slice.through(*np.load(folder / "three.npy").reshape(3, 1, 2))
    expected = sc.partition(folder / "net.onnx", plane)
    for name in ("net.onnx", "net.pt2"):
        assert regions(folder, tmp_path, str(folder / name)) == expected.n_regions > 1
    assert "layer 0 'the h'" in expected.summary()
    assert regions(folder, tmp_path, str(folder / "net.onnx"), "--output", "z") == 1


def test_the_estimate_takes_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--points", str(folder / "three.npy"), "--input-shape", "1", "2", "--directions", "2"]
    assert main(["complexity", str(folder / "net.pt2"), *words]) == 0
    assert "mean over 3 points" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.onnx", "--box", "0", "1"], "there is no file none.onnx"),
        (["net.onnx", "--weights", "net.pt2", "--box", "0", "1"], "net.onnx has its weights already"),
        (["net.onnx", "--box", "0", "1"], r"net.onnx takes inputs of shape \(1, 2\), not \(2,\)"),
        (["net.pth", "--box", "0", "1"], "or an .onnx or .pt2 file"),
    ],
)
def test_what_does_not_fit_is_refused(
    words: list[str],
    message: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    assert main(["partition", *words]) == 2
    assert re.search(message, capsys.readouterr().err)
