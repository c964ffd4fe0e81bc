"""A map holds, pixel by pixel, what the estimate says of the pixel's middle; and it survives a file."""

import json
import zipfile

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from torch import nn

from splinecam_lite.complexity import LocalComplexity, exact_complexity
from splinecam_lite.complexity import maps as maps_module
from splinecam_lite.complexity.maps import ComplexityMap, complexity_map
from splinecam_lite.errors import FileError, ModelError, NeighbourhoodError, SliceError
from splinecam_lite.network.slices import Slice
from tests.complexity.networks import random_program

matplotlib.use("Agg")

SLIVER = Slice.around(np.zeros(3), 1.0).with_domain([[0, 0], [1, 0.99], [1, 1]])


@pytest.fixture(scope="module")
def program():
    return random_program("mlp", "relu", 4)


@pytest.fixture(scope="module")
def plane():
    return Slice.around([0.3, -0.2, 0.1], 1.5, seed=2, shape="disc")


def middles(plane, rows, columns):
    u0, u1, v0, v1 = (
        plane.domain[:, 0].min(),
        plane.domain[:, 0].max(),
        *(bound(plane.domain[:, 1]) for bound in (np.min, np.max)),
    )
    for row in range(rows):
        for column in range(columns):
            yield (
                row,
                column,
                (u0 + (u1 - u0) * (column + 0.5) / columns, v0 + (v1 - v0) * (row + 0.5) / rows),
            )


@pytest.mark.parametrize(
    "options", [{}, {"directions": 3}, {"directions": 5, "kind": "gaussian", "centre": True, "seed": 3}]
)
def test_pixel_by_pixel(program, plane, options):
    lc_map = complexity_map(program, plane, (7, 9), 0.4, **options)
    options = options or {"frame": plane.directions.copy()}
    estimate = LocalComplexity(program, 0.4, **options)
    n_inside = 0
    for row, column, uv in middles(plane, 7, 9):
        found = lc_map.per_layer[row, column]
        assert lc_map.inside[row, column] == (np.hypot(*uv) <= 1.5 * np.cos(np.pi / 16)) or (
            np.hypot(*uv) < 1.5  # between the polygon's circles
        )
        if lc_map.inside[row, column]:
            n_inside += 1
            np.testing.assert_array_equal(found, estimate(plane.lift([uv])).per_layer[0])
        else:
            assert np.isnan(found).all()
    assert 0 < n_inside < 63
    assert np.nansum(lc_map.total) > 0
    assert lc_map.radius == 0.4
    assert lc_map.directions == estimate.directions


def test_tiles_do_not_show(monkeypatch, program, plane):
    whole = complexity_map(program, plane, 20, 0.4)
    monkeypatch.setattr(maps_module, "MOST_POINTS", 17)
    np.testing.assert_array_equal(complexity_map(program, plane, 20, 0.4).per_layer, whole.per_layer)
    monkeypatch.setattr(maps_module, "TILE_BYTES", 1)
    tiny = complexity_map(program, plane, 4, 0.4)
    np.testing.assert_array_equal(
        tiny.per_layer, complexity_map(program, plane, 4, 0.4, batch_size=3).per_layer
    )


def test_in_the_plane_the_first_layer_is_the_exact_count(program):
    plane = Slice.around(np.zeros(3), 1.0, seed=1)
    lc_map = complexity_map(program, plane, (4, 4), 0.5)
    points = plane.lift([uv for _, _, uv in middles(plane, 4, 4)])
    exact = exact_complexity(program, points, plane.directions.copy(), 0.5).per_layer.reshape(4, 4, -1)
    np.testing.assert_array_equal(lc_map.layer(0), exact[..., 0])
    assert (lc_map.per_layer <= exact).all()


def test_one_line_is_drawn_where_it_is():
    model = nn.Sequential(nn.Linear(2, 1), nn.ReLU(), nn.Linear(1, 1)).eval()
    model[0].weight.data.copy_(torch.tensor([[1.0, 0.0]]))
    model[0].bias.data.fill_(-0.5)  # u = 0.5
    lc_map = complexity_map(model, Slice.box([-1, 0], [1, 1]), 20, 0.06)
    assert lc_map.per_layer.shape == (10, 20, 1)
    crossed = np.flatnonzero(lc_map.total.any(axis=0))
    assert crossed.tolist() == [14, 15]  # middles 0.45 and 0.55
    assert lc_map.total.sum() == 20
    assert lc_map.extent == (-1.0, 1.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("resolution", "shape"), [(300, (150, 300)), ((3, 5), (3, 5)), (1, (1, 1)), ([2, 2], (2, 2))]
)
def test_resolutions(resolution, shape):
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU()).eval()
    lc_map = complexity_map(model, Slice.box([0, 0], [2, 1]), resolution, 0.1)
    assert lc_map.per_layer.shape[:2] == shape


def test_layers_and_logits_are_chosen_as_in_the_estimate(program, plane):
    lc_map = complexity_map(program, plane, 6, 0.4, layers=["3", -1], logits=True)
    assert lc_map.layer_names == ("3", "5", "6")
    whole = complexity_map(program, plane, 6, 0.4)
    np.testing.assert_array_equal(lc_map.layer("3"), whole.layer(1))
    np.testing.assert_array_equal(lc_map.layer(-2), whole.layer("5"))
    np.testing.assert_array_equal(lc_map.fractions[..., 0], lc_map.layer(0) / 9)
    with pytest.raises(IndexError, match=r"no layer 'x'; the map has '3', '5', '6'"):
        lc_map.layer("x")
    with pytest.raises(IndexError, match="no layer 3"):
        lc_map.layer(3)


def test_no_directions_are_not_the_default(program, plane):
    with pytest.raises(NeighbourhoodError, match="0 directions asked for"):
        complexity_map(program, plane, 6, 0.4, directions=0)


def test_a_module_is_bound_once_for_all_tiles(monkeypatch, plane):
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU()).train()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    monkeypatch.setattr(maps_module, "MOST_POINTS", 5)
    seen, program = [], maps_module.CurrentProgram.program
    monkeypatch.setattr(
        maps_module.CurrentProgram,
        "program",
        lambda self, shape: seen.append(type(self._model)) or program(self, shape),
    )
    complexity_map(model, plane, 6, 0.4)
    assert seen.count(nn.Sequential) == 1
    assert model.training
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


@pytest.fixture(scope="module")
def lc_map(program, plane):
    return complexity_map(program, plane, (7, 9), 0.4)


def test_a_file_gives_the_map_back(tmp_path, lc_map):
    path = tmp_path / "map.npz"
    lc_map.save(path)
    again = ComplexityMap.load(path)
    np.testing.assert_array_equal(again.per_layer, lc_map.per_layer)
    np.testing.assert_array_equal(again.n_neurons, lc_map.n_neurons)
    assert again.layer_names == lc_map.layer_names
    assert (again.radius, again.directions) == (lc_map.radius, lc_map.directions)
    assert again.plane.digest() == lc_map.plane.digest()
    assert repr(again) == repr(lc_map)
    with np.load(path, allow_pickle=False) as archive:  # nothing in it is an object
        assert json.loads(archive["header"].tobytes())["format"] == "splinecam_lite complexity map"
    assert list(tmp_path.iterdir()) == [path]


def test_files_that_are_none_are_refused(tmp_path, lc_map):
    with pytest.raises(FileNotFoundError):
        ComplexityMap.load(tmp_path / "none.npz")
    path = tmp_path / "map.npz"
    lc_map.save(path)
    whole = path.read_bytes()
    for broken in (b"", b"text", whole[: len(whole) // 2], whole.replace(b"PK", b"KP", 1)):
        path.write_bytes(broken)
        with pytest.raises(FileError, match="is not a complexity map, or is damaged"):
            ComplexityMap.load(path)
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    with pytest.raises(FileError):
        ComplexityMap.load(path)
    np.savez(path, header=np.frombuffer(b'{"format": "other", "schema": 1}', np.uint8))
    with pytest.raises(FileError, match="it is a other, version 1"):
        ComplexityMap.load(path)
    header = {"format": maps_module.FORMAT, "schema": 1, "layer_names": ["0"], "radius": 1, "directions": 2}
    arrays = {name: np.zeros(1) for name in maps_module.ARRAYS}
    np.savez(path, header=np.frombuffer(json.dumps(header).encode(), np.uint8), **arrays)
    with pytest.raises(FileError, match="do not have the shapes of a map"):
        ComplexityMap.load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("header.npy", b"\x93NUMPY")
    with pytest.raises(FileError):
        ComplexityMap.load(path)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"resolution": 0}, ValueError, "resolution is 0; give a positive int"),
        ({"resolution": (3, 3, 3)}, ValueError, "resolution"),
        ({"resolution": 2.5}, ValueError, "resolution"),
        ({"resolution": (True, 3)}, ValueError, "resolution"),
        ({"radius": 0.0}, NeighbourhoodError, "the radius is 0.0"),
        ({"directions": 4}, NeighbourhoodError, "4 directions asked for"),
        ({"kind": "gaussian"}, ValueError, "say how many"),
        ({"kind": "sobol", "directions": 2}, ValueError, "kind is 'sobol'; give 'orthonormal' or 'gaussian'"),
        ({"layers": "nothing"}, ModelError, "none of the network's layers"),
        ({"plane": "a picture"}, SliceError, "the plane is a str; give a Slice"),
        ({"plane": Slice.box(0, 1)}, ModelError, "this network takes"),
        ({"plane": SLIVER, "resolution": (1, 2)}, SliceError, "none of the 1 x 2 pixels"),
    ],
)
def test_what_makes_no_map_is_refused(program, plane, options, error, message):
    options = {"plane": plane, "resolution": 3, **options}
    with pytest.raises(error, match=message):
        complexity_map(program, options.pop("plane"), **options)


def test_drawing(lc_map):
    ax = lc_map.plot()
    (image,) = ax.get_images()
    np.testing.assert_array_equal(image.get_array().filled(np.nan), lc_map.total)
    assert image.get_extent() == list(lc_map.extent)
    assert image.origin == "lower"
    bar = ax.figure.axes[1]
    assert bar.get_ylabel() == "neurons that change sign, all layers"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("u (input units)", "v (input units)")
    assert ax.get_title() == "local complexity, r = 0.4 (input units), P = 2"
    plt.close(ax.figure)
    _, own = plt.subplots()
    ax = lc_map.plot("3", limits=(0, 9), title="third", ax=own)
    assert ax is own
    assert ax.get_images()[0].get_clim() == (0, 9)
    assert ax.get_title() == "third"
    assert ax.figure.axes[1].get_ylabel() == "neurons that change sign, layer 3"
    plt.close(ax.figure)
