"""The calibration: what must hold of its counts, what it refuses, and what it writes."""

import json
import textwrap
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import splinecam_lite.complexity.calibration.counts as counting
from splinecam_lite.cli import main
from splinecam_lite.complexity import LocalComplexity, exact_complexity
from splinecam_lite.complexity.calibrate import calibrate
from splinecam_lite.complexity.calibration.planes import directions_of, nested_frames, planes_of
from splinecam_lite.complexity.calibration.result import Calibration
from splinecam_lite.errors import (
    CalibrationError,
    FileError,
    ModelError,
    NeighbourhoodError,
    NotPiecewiseLinear,
)
from splinecam_lite.network.program import Program
from tests.complexity.networks import STRUCTURES, random_program

RADII = (0.2, 1.0)


def points_of(program: Program, n: int = 12, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, *program.input_shape))


@pytest.fixture(scope="module")
def program() -> Program:
    return random_program("mlp", "relu", 0)


@pytest.fixture(scope="module")
def found(program: Program) -> Calibration:
    """Three checkpoints, two radii, three planes: everything that a calibration can have."""
    networks = {step: random_program("mlp", "relu", seed) for step, seed in ((0, 0), (10, 1), (200, 2))}
    return calibrate(
        program, points_of(program), RADII, 3, 3, checkpoints=networks, resamples=100, progress=False
    )


@pytest.mark.parametrize("structure", STRUCTURES)
def test_recall_is_a_share_and_1_on_the_first_layer(structure: str) -> None:
    program = random_program(structure, "leaky", 1)
    calibration = calibrate(program, points_of(program), RADII, planes=2, resamples=100, progress=False)
    first = calibration.layers[0]
    missed = 0
    for row in calibration.rows:
        if row.directions == 2 and row.n_exact:
            assert 0 <= row.ratio.low <= row.ratio.value <= row.ratio.high <= 1
            assert row.bias.value == pytest.approx(row.estimate - row.exact)
            assert row.bias.value <= 0
            missed += row.n_exact - row.n_estimate
            if row.layer == first:
                assert row.ratio == (1.0, 1.0, 1.0)
                assert np.isnan(row.pearson.value) or row.pearson.value == pytest.approx(1.0)
    assert missed > 0 or structure == "conv", "every crossing was found: nothing was tested"


def test_rows_are_the_counts_of_estimate_and_exact(program: Program, found: Calibration) -> None:
    x, plane = points_of(program), planes_of(3, program.input_shape, 0)
    frames = nested_frames(plane, 3, 0)
    exact = sum(exact_complexity(program, x, pair, 1.0).per_layer for pair in plane)
    for p in found.directions:
        estimate = sum(LocalComplexity(program, 1.0, frame=frame[:p])(x).per_layer for frame in frames)
        for at, layer in enumerate(found.layers[:-1]):
            row = found.row(1.0, layer, p, checkpoint=0)
            assert (row.n_estimate, row.n_exact) == (estimate[:, at].sum(), exact[:, at].sum())
            assert row.exact == pytest.approx(row.n_exact / exact.shape[0] / 3)
        total = found.row(1.0, "all layers", p, 0)
        assert (total.n_estimate, total.n_exact) == (estimate.sum(), exact.sum())


def test_more_directions_find_more(found: Calibration) -> None:
    assert found.directions == (2, 3)
    pairs = [
        (found.row(r, layer, 2, c), found.row(r, layer, 3, c))
        for r in found.radii
        for layer in found.layers
        for c in found.checkpoints
    ]
    assert all(few.n_estimate <= more.n_estimate for few, more in pairs)
    assert any(few.n_estimate < more.n_estimate for few, more in pairs)


def test_every_part_has_its_rows(found: Calibration) -> None:
    checkpoints, radii, layers, ps = (len(v) for v in (found.checkpoints, found.radii, found.layers, (2, 3)))
    assert len(found.rows) == checkpoints * radii * layers * ps
    assert len(found.regions) == checkpoints * radii * ps
    assert len(found.orientation) == checkpoints * radii * layers * (1 + ps)
    assert len(found.trends) == radii * layers * ps
    assert [len(each.exact) for each in found.scatter] == [12, 12]
    last = found.row(1.0)
    in_first_plane = exact_complexity(
        random_program("mlp", "relu", 2), points_of(random_program("mlp", "relu", 2)),
        planes_of(3, (3,), 0)[0], 1.0,
    )  # fmt: skip
    assert last.checkpoint == "200"
    assert list(found.scatter[1].exact) == in_first_plane.total.tolist()


def test_trends_are_correlations_of_the_means(found: Calibration) -> None:
    for trend in found.trends:
        rows = [found.row(trend.radius, trend.layer, trend.directions, c) for c in found.checkpoints]
        exact, estimate = [row.exact for row in rows], [row.estimate for row in rows]
        if np.ptp(exact) > 0 and np.ptp(estimate) > 0:
            assert trend.pearson.value == pytest.approx(np.corrcoef(exact, estimate)[0, 1])
    assert found.trends[0].n_checkpoints == 3


def test_the_same_seed_gives_the_same_record_and_leaves_torch_alone(program: Program) -> None:
    state = torch.get_rng_state()
    x = points_of(program, 5)
    several = [
        calibrate(program, x, [1.0], seed=s, resamples=100, progress=False).to_dict() for s in (3, 3, 4)
    ]
    assert torch.equal(state, torch.get_rng_state())
    assert several[0] == several[1]
    assert several[0]["rows"] != several[2]["rows"]


def test_a_wrong_estimate_is_noticed(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    per_layer = np.array([[3, 2, 1], [1, 1, 1]])
    counting.check(per_layer, per_layer, program, 1.0)
    counting.check(per_layer - [0, 1, 1], per_layer, program, 1.0)
    with pytest.raises(CalibrationError, match=r"of point 0, radius 1: 2 neurons .* and 3 cross it"):
        counting.check(per_layer - [[1, 0, 0], [0, 0, 0]], per_layer, program, 1.0)
    with pytest.raises(CalibrationError, match="of point 1, radius 1: 2 neurons"):
        counting.check(per_layer + np.array([[0, 0, 0], [0, 0, 1]]), per_layer, program, 1.0)
    far = exact_complexity(program, points_of(program) + 1e6, np.eye(3)[:2], 1e-6)
    monkeypatch.setattr(counting, "exact_complexity", lambda *_: far)
    with pytest.raises(CalibrationError):
        calibrate(program, points_of(program), [1.0], progress=False)


def test_certain_layers_are_those_before_any_activation() -> None:
    assert counting.certain_layers(random_program("mlp", "relu", 0)).tolist() == [True, False, False]
    forked = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2), nn.ReLU()).eval()
    assert counting.certain_layers(Program.from_module(forked, (3,))).tolist() == [True, False]


@pytest.mark.parametrize("shape", [(7,), (2, 3, 4)])
def test_frames_are_nested_orthonormal_and_hold_the_plane(shape: tuple[int, ...]) -> None:
    planes = planes_of(3, shape, seed=5)
    few, many = nested_frames(planes, 4, seed=5), nested_frames(planes, 7, seed=5)
    rows = many.flatten(2)
    torch.testing.assert_close(rows @ rows.mT, torch.eye(7).double().expand(3, 7, 7), atol=1e-12, rtol=0)
    assert torch.equal(many[:, :2], planes)
    torch.testing.assert_close(few, many[:, :4], atol=1e-12, rtol=0)
    again = nested_frames(planes, 7, seed=5)
    assert torch.equal(many, again)
    assert not torch.equal(many[:, 2:], nested_frames(planes, 7, seed=6)[:, 2:])
    cosines = (rows[0] @ rows[1].T).abs()
    assert cosines.max() < 1 - 1e-6, "two planes were completed by the same directions"


def test_planes_and_directions_may_be_given(program: Program) -> None:
    plane = np.eye(3)[:2]
    calibration = calibrate(program, points_of(program), [1.0], 2, [plane], resamples=100, progress=False)
    exact = exact_complexity(program, points_of(program), plane, 1.0)
    assert calibration.row(1.0).n_exact == exact.per_layer.sum()
    assert calibration.directions == directions_of(2, 3) == (2,)
    assert not calibration.settings["random_planes"]


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"radii": []}, NeighbourhoodError, "no radii"),
        ({"radii": [-1.0]}, NeighbourhoodError, "must be a positive number"),
        ({"directions": 4}, NeighbourhoodError, "inputs of 3 entries have 2 to 3"),
        ({"directions": [2, 1]}, NeighbourhoodError, "1 directions asked for"),
        ({"planes": 0}, NeighbourhoodError, "give at least 1"),
        ({"seed": 2**70}, NeighbourhoodError, "the seed is 1180591620717411303424"),
        ({"radii": "0.1"}, TypeError, "the radius is '0.1'"),
        ({"planes": 1.5}, TypeError, "planes is 1.5"),
        ({"planes": np.eye(3)[None, :1]}, NeighbourhoodError, "two directions each"),
        ({"planes": np.ones((1, 2, 3))}, NeighbourhoodError, "not orthonormal"),
        ({"resamples": 5}, ValueError, "at least 100"),
        ({"checkpoints": {}}, ValueError, "there are no checkpoints"),
        ({"points": np.zeros((2, 4))}, ModelError, "this network takes"),
        ({"points": [[0.0, np.nan, 0.0]]}, NeighbourhoodError, "NaN"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_refused(program: Program, options: dict, error: type, said: str) -> None:
    given = {"points": points_of(program, 3), "radii": [1.0], "progress": False, **options}
    with pytest.raises(error, match=said):
        calibrate(program, given.pop("points"), given.pop("radii"), **given)


def test_numbers_of_numpy_and_single_ones_are_taken(program: Program) -> None:
    points, options = points_of(program, 3), {"progress": False, "resamples": 100}
    plane = torch.eye(3)[None, :2]
    expected = calibrate(program, points, [1.0], 3, plane, **options)
    found = calibrate(program, points, 1.0, np.int64(3), plane.requires_grad_(), **options)
    assert repr(found.rows) == repr(expected.rows)  # NaN is not equal to itself
    assert found.settings == expected.settings
    json.dumps(found.settings)
    drawn = calibrate(program, points, [1.0], [np.int64(3)], np.int64(2), np.int64(0), **options)
    json.dumps(drawn.settings)
    assert drawn.settings["random_planes"]


def test_checkpoints_are_of_one_architecture_and_named_apart(program: Program) -> None:
    x = points_of(program, 3)
    with pytest.raises(ValueError, match="two checkpoints are called '1'"):
        calibrate(program, x, [1.0], checkpoints=[(1, program), (1, program)], progress=False)
    other = Program.from_module(nn.Sequential(nn.Linear(3, 2), nn.ReLU()).eval(), (3,))
    with pytest.raises(ModelError, match="one architecture"):
        calibrate(program, x, [1.0], checkpoints={"a": program, "b": other}, progress=False)
    with pytest.raises(TypeError, match="state dicts and the model is a Program"):
        calibrate(program, x, [1.0], checkpoints={"a": {}}, progress=False)
    with pytest.raises(NotPiecewiseLinear, match="GELU"):
        calibrate(nn.Sequential(nn.Linear(3, 2), nn.GELU()).eval(), x, [1.0], progress=False)


def test_state_dicts_are_weights_of_the_model() -> None:
    models = [nn.Sequential(nn.Linear(2, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU()) for _ in range(2)]
    x = np.random.default_rng(0).normal(size=(6, 2))
    options = {"radii": [1.0], "resamples": 100, "progress": False}
    models[0].train()
    before = {name: value.clone() for name, value in models[0].state_dict().items()}
    together = calibrate(models[0], x, checkpoints={"b": models[1].state_dict()}, **options)
    alone = calibrate(models[1].eval(), x, **options)
    assert [row[1:] for row in together.rows if row.n_exact] == [row[1:] for row in alone.rows if row.n_exact]
    assert models[0].training
    assert all(torch.equal(value, before[name]) for name, value in models[0].state_dict().items())


def test_without_biases_counts_do_not_depend_on_the_radius() -> None:
    """All knots go through the origin, and are rays from it: the same in every diamond around it. Shifted
    together with its input, the network has the same knots around the new place."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 2)).double()
    centre = torch.randn(1, 5, dtype=torch.float64)
    with torch.no_grad():
        for layer in (model[0], model[2]):
            layer.bias.zero_()
    options = {"directions": 2, "planes": 2, "resamples": 100, "progress": False}
    at_origin = calibrate(model.eval(), torch.zeros(1, 5), [0.5, 1.0, 64.0], **options)
    by_radius = [[at_origin.row(r, layer).n_exact for layer in at_origin.layers] for r in (0.5, 1.0, 64.0)]
    assert by_radius[0] == by_radius[1] == by_radius[2]
    assert by_radius[0][0] == 2 * 12, "every neuron of the first layer changes sign at the origin"
    assert len({row.n_regions for row in at_origin.regions}) == 1
    with torch.no_grad():
        model[0].bias.copy_(-model[0].weight @ centre[0])
    shifted = calibrate(model, centre, [1.0], **options)
    assert [shifted.row(1.0, layer).n_exact for layer in shifted.layers] == by_radius[1]
    away = [calibrate(model, centre + d, [1.0], **options).row(1.0).n_exact for d in (0.0, 2.0, 8.0)]
    assert away[0] > away[1] > away[2]


def test_what_is_saved_is_what_is_read(found: Calibration, tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    found.save(path)
    read = Calibration.load(path)
    assert read.to_dict() == found.to_dict()
    assert read.table() == found.table()
    assert [p.name for p in tmp_path.iterdir()] == ["calibration.json"]
    record = json.loads(path.read_text())
    assert record["format"] == 1
    assert record["settings"]["radii"] == list(RADII)
    assert set(record["settings"]["versions"]) == {"python", "splinecam-lite", "torch", "numpy", "scipy"}
    assert len(record["recommended"]) == 3 * len(found.layers)


@pytest.mark.parametrize("change", [{"format": 2}, {"kind": "x"}, {"rows": 3}, {"rows": [{"radius": 1}]}])
def test_other_files_are_refused(found: Calibration, tmp_path: Path, change: dict) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(found.to_dict() | change))
    with pytest.raises(FileError, match="holds no calibration of this version"):
        Calibration.load(path)
    path.write_text("{")
    with pytest.raises(FileError):
        Calibration.load(path)


def test_a_row_that_is_not_there_is_named(found: Calibration) -> None:
    with pytest.raises(KeyError, match="there is no row of checkpoint '7'"):
        found.row(1.0, checkpoint=7)
    assert "12 points, 3 planes" in repr(found)


def test_tables_say_what_was_found(found: Calibration) -> None:
    table = found.table()
    row = found.row(1.0)
    assert f"{row.ratio.value:.4f}" in table
    for words in ("Estimate with P = 2", "More directions", "Variance", "Curves over 3", "Largest radius"):
        assert words in table
    assert max(map(len, table.splitlines())) <= 130


NETWORK = """
    from torch import nn

    def build():
        return nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))

    def smooth():
        return nn.Sequential(nn.Linear(3, 3), nn.GELU())
"""


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a network, points and checkpoints, as the current one."""
    (tmp_path / "net.py").write_text(textwrap.dedent(NETWORK))
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(6, 3)))
    for step in (0, 20, 300):
        torch.manual_seed(step)
        state = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))
        torch.save(state.state_dict(), tmp_path / f"step_{step:03}.pt")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pt")
    monkeypatch.chdir(tmp_path)
    return tmp_path


COMMAND = ["calibrate", "net.py:build", "--points", "x.npy"]


def test_the_command_writes_a_folder(user: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = ["step_000.pt", "step_020.pt", "step_300.pt"]
    options = ["--radii", "0.5", "1", "--directions", "3", "--planes", "2", "--resamples", "100"]
    assert main([*COMMAND, *options, "--checkpoints", *weights, "--out", "out"]) == 0
    printed = capsys.readouterr().out
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (user / "out").glob("*.png"))
    written = {path.name for path in (user / "out").iterdir()}
    figures = {"recall.png", "scatter.png", "directions.png", "orientation.png", "checkpoints.png"}
    assert written == {"calibration.json", "table.txt"} | figures
    calibration = Calibration.load("out/calibration.json")
    assert calibration.checkpoints == ("0", "20", "300")
    assert (calibration.radii, calibration.directions) == ((0.5, 1.0), (2, 3))
    assert printed.startswith((user / "out" / "table.txt").read_text())
    states = {step: torch.load(name) for step, name in zip((0, 20, 300), weights, strict=True)}
    model = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))
    again = calibrate(
        model, np.load("x.npy"), (0.5, 1.0), 3, 2, checkpoints=states, resamples=100, progress=False
    )
    assert again.to_dict() == calibration.to_dict()


def test_the_command_without_a_folder_prints(user: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*COMMAND, "--radii", "1", "--weights", "step_020.pt"]) == 0
    assert "Estimate with P = 2" in capsys.readouterr().out
    assert not (user / "out").exists()


REFUSED = {
    "a radius of 0": ([*COMMAND, "--radii", "0"], "--radii has 0.0; give positive numbers"),
    "one direction": ([*COMMAND, "--directions", "1"], "--directions has 1; a plane takes 2"),
    "too many": ([*COMMAND, "--directions", "9"], "inputs of 3 entries have 2 to 3"),
    "no plane": ([*COMMAND, "--planes", "0"], "--planes is 0"),
    "few samples": ([*COMMAND, "--resamples", "9"], "--resamples is 9"),
    "no such weights": ([*COMMAND, "--checkpoints", "no.pt"], "there is no file no.pt"),
    "weights twice": (
        [*COMMAND, "--weights", "other.pt", "--checkpoints", "step_000.pt"],
        "there is --checkpoints, and --weights has weights, too",
    ),
    "one name": ([*COMMAND, "--checkpoints", "other.pt", "other.pt"], "two files called other"),
    "other weights": ([*COMMAND, "--checkpoints", "other.pt"], "other.pt does not fit the module"),
    "GELU": (["calibrate", "net.py:smooth", "--points", "x.npy"], "is GELU"),
    "a file": ([*COMMAND, "--out", "net.py"], "--out is net.py, which is a file"),
    "no folder": ([*COMMAND, "--out", "no/out"], "there is no folder no"),
    "no points": (["calibrate", "net.py:build", "--points", "no.npy"], "there is no file no.npy"),
}


@pytest.mark.parametrize(("words", "said"), REFUSED.values(), ids=REFUSED)
def test_the_command_refuses(
    words: list[str], said: str, user: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    printed = capsys.readouterr()
    assert said in printed.err.splitlines()[-1]
    assert not printed.out
    assert not (user / "out").exists()


def test_a_contradiction_is_a_failure(
    user: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise CalibrationError("2 cross, 3 found")

    monkeypatch.setattr(counting, "check", refuse)
    assert main([*COMMAND, "--radii", "1"]) == 1
    assert "2 cross, 3 found (perhaps a defect" in capsys.readouterr().err


def test_labels_keep_the_order_of_steps(found: Calibration) -> None:
    assert all(int(a) < int(b) for a, b in pairwise(found.checkpoints))
