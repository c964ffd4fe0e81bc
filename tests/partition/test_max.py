"""Partitions of networks with maxima, against the rational oracle, which knows no tournaments."""

import json
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from splinecam_lite import Partition, Program, Segment, Slice, partition
from splinecam_lite.engine.complex import OUTER, check_complex
from splinecam_lite.engine.plan import Tuning
from splinecam_lite.errors import FileError
from tests.agreement import assert_decides
from tests.fuzz.judge import differences
from tests.fuzz.oracle import patterns_of, rows_of, truth, winners

TINY = Tuning(group=2, block_vertices=8, piece_vertices=4)


class Maxout(nn.Module):
    """The largest of several affine maps, feature by feature."""

    def __init__(self, n_in, n_out, pieces):
        super().__init__()
        self.linear = nn.Linear(n_in, n_out * pieces)
        self.pieces = pieces

    def forward(self, x):
        return self.linear(x).unflatten(1, (-1, self.pieces)).amax(dim=2)


class TwoBranches(nn.Module):
    """The larger, or the smaller, of two branches."""

    def __init__(self, chosen, act=None):
        super().__init__()
        self.left, self.right, self.last = nn.Linear(2, 4), nn.Linear(2, 4), nn.Linear(4, 2)
        self.chosen, self.act = chosen, act or nn.ReLU()

    def forward(self, x):
        return self.last(self.chosen(self.act(self.left(x)), self.act(self.right(x))))


class Repeated(nn.Module):
    """Every entry of a window is the same."""

    def forward(self, x):
        return x.repeat_interleave(2, dim=2)


def conv(*modules, out=2):
    """A convolution of 1 x 4 x 4 images, some modules, and two outputs."""
    body = nn.Sequential(nn.Conv2d(1, out, 3, padding=1), *modules, nn.Flatten())
    n = body(torch.zeros(1, 1, 4, 4)).numel()
    return nn.Sequential(*body, nn.Linear(n, 2)), (1, 4, 4)


def line(*modules, channels=3):
    """A convolution of sequences of 6 numbers, some modules, and two outputs."""
    body = nn.Sequential(nn.Conv1d(1, channels, 2), *modules, nn.Flatten())
    n = body(torch.zeros(1, 1, 6)).numel()
    return nn.Sequential(*body, nn.Linear(n, 2)), (1, 6)


NETWORKS = {
    "1-D, windows of 2": lambda: line(nn.ReLU(), nn.MaxPool1d(2)),
    "1-D, windows of 3 that overlap": lambda: line(nn.ReLU(), nn.MaxPool1d(3, stride=1)),
    "1-D, no activation": lambda: line(nn.MaxPool1d(4, stride=1)),
    "1-D, dilated": lambda: line(nn.MaxPool1d(2, stride=1, dilation=2), nn.ReLU()),
    "2 x 2": lambda: conv(nn.ReLU(), nn.MaxPool2d(2)),
    "2 x 2, leaky": lambda: conv(nn.LeakyReLU(0.25), nn.MaxPool2d(2)),
    "3 x 3, stride 2, padded": lambda: conv(nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1), out=1),
    "3 x 3, stride 2, ceil": lambda: conv(nn.ReLU(), nn.MaxPool2d(3, stride=2, ceil_mode=True), out=1),
    "whole image": lambda: conv(nn.ReLU(), nn.AdaptiveMaxPool2d(1)),
    "two in a row": lambda: conv(nn.MaxPool2d(2, stride=1), nn.MaxPool2d(2), out=1),
    "two with ReLU between": lambda: conv(
        nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(2, 2, 1), nn.MaxPool2d((1, 2))
    ),
    "of the input": lambda: (nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4, 2)), (1, 4, 4)),
    "the last op": lambda: (
        nn.Sequential(nn.Conv2d(1, 1, 2), nn.ReLU(), nn.MaxPool2d(3, 1), nn.Flatten()), (1, 4, 4)
    ),
    "all entries the same": lambda: line(nn.ReLU(), Repeated(), nn.MaxPool1d(2)),
    "maxout": lambda: (nn.Sequential(Maxout(2, 4, 3), Maxout(4, 2, 2)), (2,)),
    "maximum of two": lambda: (TwoBranches(torch.maximum), (2,)),
    "minimum of two": lambda: (TwoBranches(torch.minimum), (2,)),
    "minimum, no activation": lambda: (TwoBranches(torch.minimum, nn.Identity()), (2,)),
}  # fmt: skip

KINDS = ("generic", "integers", "no biases")


@cache
def network(name: str, kind: str) -> tuple[Program, Slice]:
    """A float64 program with weights of one kind, and a slice through points of that kind."""
    model, shape = NETWORKS[name]()
    rng = np.random.default_rng([len(name), KINDS.index(kind)])
    with torch.no_grad():
        for parameter in model.double().parameters():
            size = tuple(parameter.shape)
            drawn = rng.normal(size=size) if kind == "generic" else rng.integers(-2, 3, size=size)
            parameter.copy_(torch.from_numpy(drawn * (kind != "no biases" or parameter.ndim > 1)))
    if shape == (2,):
        plane = Slice.box(-2, 2)
    elif kind == "generic":
        plane = Slice.through(*rng.normal(size=(3, *shape)))
    else:
        plane = Slice.around(
            rng.integers(-1, 2, size=shape) / 2,
            1.0,
            np.eye(np.prod(shape))[rng.choice(int(np.prod(shape)), 2, replace=False)].reshape(2, *shape),
        )
    return Program.from_module(model.eval(), shape), plane


cases = pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name in NETWORKS for kind in KINDS], ids=str
)


def assert_right(part: Partition, true) -> None:
    """All that a partition claims, against the oracle; and the invariants of both complexes."""
    assert not differences(part, true)
    assert_decides(part, true)
    maps, expected = np.dstack(part.affine_maps()), true.affine_maps()
    expected = np.array([expected[pattern] for pattern in patterns_of(part)], float)
    np.testing.assert_allclose(maps, expected, rtol=0, atol=1e-10 * np.abs(expected).max(initial=1.0))
    for one in (part, part.staged.fine):
        check_complex(one.complex, one.plane.domain, one.report.moved, one.thin_regions)
    assert (part.locate(part.interior_points()) == np.arange(part.n_regions)).all()
    assert len(np.unique(part.pattern_hashes())) == part.n_regions == len(np.unique(part.patterns(), axis=0))


@cases
def test_against_the_oracle(name, kind):
    program, plane = network(name, kind)
    true = truth(program, plane)
    for options in ({}, {"exact": True}, {"_tuning": TINY, "threads": 2}):
        part = partition(program, plane, **options)
        assert_right(part, true)
        assert part.certify().holds
    assert part.staged.fine.n_regions >= part.n_regions


def test_the_oracle_is_asked_about_something():
    """Losers are told apart, ties do occur, and every network has winners that change."""
    merged, alike = 0, 0
    for name, kind in [(name, kind) for name in NETWORKS for kind in KINDS]:
        program, plane = network(name, kind)
        part = partition(program, plane)
        merged += part.staged.fine.n_regions > part.n_regions
        knots = part.knots().layers
        assert (
            name == "all entries the same"
            or kind != "generic"
            or any(part.layers[layer].kind == "max" for layer in knots)
        ), (name, kind)
        alike += (part.complex.n_faces > 1) and any(
            len(np.unique(winners(part, rows), axis=0)) < part.n_regions
            for rows in rows_of(part) if part.layers[rows[0]].kind == "max"
        )  # fmt: skip
    assert merged >= 12
    assert alike >= 20


@pytest.mark.parametrize("name", ["2 x 2", "3 x 3, stride 2, padded", "minimum of two", "maxout"])
def test_cutting_and_threads_change_nothing(name):
    program, plane = network(name, "integers")
    whole = partition(program, plane, threads=1)
    one, two = (partition(program, plane, threads=n, _tuning=TINY) for n in (1, 2))
    for first, second in zip((*one.complex, one.edge_knots), (*two.complex, two.edge_knots), strict=True):
        np.testing.assert_array_equal(first, second)
    areas = [dict(zip(part.pattern_hashes().tolist(), part.areas(), strict=True)) for part in (whole, one)]
    assert areas[0].keys() == areas[1].keys()
    assert all(abs(areas[0][key] - areas[1][key]) < 1e-12 for key in areas[0])
    np.testing.assert_array_equal(one.patterns(), two.patterns())


@pytest.mark.parametrize("exact", [False, True])
def test_knots_of_maxima_are_where_two_winners_tie(exact):
    """On each edge, every window whose winner changes has one comparison: windows of stride 2 share none."""
    program, plane = network("2 x 2", "generic")
    part, compared = partition(program, plane, exact=exact), program.compared()
    (rounds,) = [rows for rows in rows_of(part) if part.layers[rows[0]].kind == "max"]
    won = winners(part, rounds)
    knots = part.knots()
    sides = part.complex.edge_faces
    inner = np.flatnonzero((sides != OUTER).all(axis=1))
    n_changed = (won[sides[inner, 0]] != won[sides[inner, 1]]).sum(axis=1)
    n_knots = np.bincount(knots.edges[np.isin(knots.layers, rounds)], minlength=part.n_edges)[inner]
    np.testing.assert_array_equal(n_knots, n_changed)
    assert n_changed.any()
    ends = plane.lift(part.vertices)
    values = compared.run(ends, keep=[op.inputs[0] for op in compared.pattern_ops])
    for edge, layer, neuron, _ in zip(*knots, strict=True):
        z = values[compared.pattern_ops[layer].inputs[0]].flatten(1).numpy()
        assert np.abs(z[part.complex.edge_vertices[edge], neuron]).max() < 1e-12
    for layer in rounds:
        for edge, neuron in zip(knots.edges[knots.layers == layer], knots.neurons[knots.layers == layer],
                                strict=True):  # fmt: skip
            left, right = part.pattern_bits(layer, sides[edge])[:, 0, neuron]
            assert left != right


def test_a_tie_on_whole_regions_is_no_knot():
    """Where both ReLUs are off their maximum is 0 = 0; the first wins there, and nothing is cut.

    Beside it the second one wins where it is on alone: there its knot and that of the maximum are one.
    """
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Unflatten(1, (1, 2)), nn.MaxPool1d(2))
    model[0].weight.data = torch.eye(2)
    part = partition(model.eval(), Slice.box(-1, 1))
    assert part.n_regions == 5  # three quadrants, and the fourth cut by u = v
    assert part.knot_lengths().tolist() == pytest.approx([4.0, 2**0.5 + 1.0])
    assert part.n_linear_regions == 3
    off = part.locate([[-0.5, -0.5]])
    assert not part.patterns(off).any()
    assert part.certify().status == "proved"


def test_losers_are_not_told_apart():
    """Of four planes, regions are where each is the highest: no border between those below."""
    model = nn.Sequential(nn.Linear(2, 4), nn.Unflatten(1, (1, 4)), nn.MaxPool1d(4))
    model[0].weight.data = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    model[0].bias.data.zero_()
    part = partition(model.eval(), Slice.box(-1, 1))
    assert (part.n_regions, part.n_linear_regions, part.n_vertices, part.n_edges) == (4, 4, 5, 8)
    assert part.areas().tolist() == [1.0] * 4
    assert part.staged.fine.n_regions > 4
    assert [len(part.polygon(region)) for region in range(4)] == [3] * 4
    assert [layer.kind for layer in part.layers] == ["max", "max"]


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("name", ["2 x 2", "the last op", "minimum of two"])
def test_save_and_load(tmp_path, name, exact):
    program, plane = network(name, "integers")
    part = partition(program, plane, exact=exact)
    part.linear_regions()
    part.save(tmp_path / "a.npz")
    bare, whole = Partition.load(tmp_path / "a.npz"), Partition.load(tmp_path / "a.npz", program)
    for back in (bare, whole):
        for first, second in zip((*part.complex, part.edge_knots, part.outputs, part.thin_areas),
                                 (*back.complex, back.edge_knots, back.outputs, back.thin_areas),
                                 strict=True):  # fmt: skip
            np.testing.assert_array_equal(first, second)
        np.testing.assert_array_equal(part.patterns(), back.patterns())
        np.testing.assert_array_equal(part.linear_regions(), back.linear_regions())
        assert back.layers == part.layers
        assert back.model_digest == part.model_digest == program.digest()
        assert back.certify(program).status == part.certify().status
    assert whole.certify().partition_digest == part.certify().partition_digest
    assert whole.n_decision_cells == part.n_decision_cells
    assert whole.summary().split("\n")[0] == part.summary().split("\n")[0]


def test_files_from_before_there_were_maxima(tmp_path):
    part = partition(nn.Sequential(nn.Linear(2, 4), nn.ReLU()).eval(), Slice.box(-1, 1))
    part.save(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as archive:
        arrays = dict(archive)
    header = json.loads(arrays["header"].tobytes())
    assert header["fine_digest"] == header["model_digest"]
    header["schema"] = 2
    del header["fine_digest"]
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    np.savez(tmp_path / "old.npz", **arrays)
    old = Partition.load(tmp_path / "old.npz", part.program)
    assert old.certify().partition_digest == part.certify().partition_digest
    assert old.staged is None


def test_damaged_comparisons_are_refused(tmp_path):
    part = partition(*network("2 x 2", "generic"))
    part.save(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as archive:
        sound = dict(archive)

    def damaged(**changed):
        arrays = {**sound, **changed}
        header = json.loads(arrays["header"].tobytes())
        header["arrays"] = {name: [arrays[name].dtype.str, list(arrays[name].shape)]
                            for name in arrays if name != "header"}  # fmt: skip
        arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
        np.savez(tmp_path / "b.npz", **arrays)
        with pytest.raises(FileError, match="damaged"):
            Partition.load(tmp_path / "b.npz")

    left, knots = sound["comparison_left"], sound["edge_knots"]
    damaged(comparison_left=np.full_like(left, len(left)))
    damaged(comparison_left=left.astype(float))
    damaged(comparison_bit=sound["comparison_bit"] + 1)
    damaged(comparison_top=sound["comparison_top"][:-1])
    damaged(edge_knots=np.where(np.arange(3) == 1, 10**6, knots).astype(np.int32))
    damaged(edge_knots=np.where(np.arange(3) == 0, 50, knots).astype(np.int32))


def test_exports_speak_of_regions(tmp_path):
    program, plane = network("2 x 2", "generic")
    part = partition(program, plane)
    graph = part.to_networkx()
    assert graph.number_of_nodes() == part.n_regions == len(part.to_shapely())
    assert {frozenset(pair) for pair in graph.edges} == {
        frozenset(pair) for pair in zip(*part.adjacency().nonzero(), strict=True)
    }
    part.to_geojson(tmp_path / "a.geojson")
    part.to_svg(tmp_path / "a.svg")
    part.plot()
    names = [counts.name for counts in part.counts_by_layer()]
    assert names == list(program.compared().pattern_names)
    assert "comparisons" in part.summary()


def test_the_boundary_keeps_the_numbers_of_the_partition():
    program, plane = network("2 x 2", "generic")
    part = partition(program, plane)
    boundary = part.decision_boundary()
    np.testing.assert_array_equal(boundary.complex.xy[: part.n_vertices], part.vertices)
    assert (boundary.face_regions[: part.n_regions] == np.arange(part.n_regions)).all()
    on = boundary.edges >= 0
    sides = np.sort(part.complex.edge_faces[boundary.edges[on]], axis=1)
    np.testing.assert_array_equal(np.sort(boundary.regions[on], axis=1), sides)
    assert (boundary.regions[~on, 0] == boundary.regions[~on, 1]).all()
    middle = boundary.segments.mean(axis=1)
    y = program.run(plane.lift(middle))
    two = y.topk(2, dim=1).values
    assert (two[:, 0] - two[:, 1]).abs().max() < 1e-9


@cases
def test_segments(name, kind):
    """The pieces of a segment are those that the slice's regions cut it into."""
    program, plane = network(name, kind)
    start, end = plane.lift(np.array([[-0.43, -0.61], [0.57, 0.39]]))
    segment = Segment.between(start, end)
    pieces = [partition(program, segment, exact=exact) for exact in (False, True)]
    part = partition(program, plane.with_domain(plane.domain * 4 - 3 * plane.domain.mean(axis=0)))
    for found in pieces:
        middle = 0.5 * (found.t[:-1] + found.t[1:])
        wide = found.widths > 1e-9
        y = program.run(segment.lift(middle)).flatten(1).numpy()
        slope, intercept = found.affine_maps()
        np.testing.assert_allclose((slope * middle[:, None] + intercept)[wide], y[wide], atol=1e-9)
        places = (1 - middle)[:, None] * [-0.43, -0.61] + middle[:, None] * [0.57, 0.39]
        assert (part.patterns(part.locate(places[wide])) == found.patterns[wide]).all()
        assert (np.bincount(found.knots().breaks, minlength=len(found.t))[1:-1] > 0).all()
        assert not any((a == b).all() for a, b in zip(found.patterns, found.patterns[1:], strict=False))
        gap = found.integrated_gradients(0).sum() - (found.outputs[-1, 0] - found.outputs[0, 0])
        assert abs(gap) < 1e-9
    assert pieces[0].n_pieces == pieces[1].n_pieces


# ---- large -------------------------------------------------------------------------------------


def pooled(channels: int = 6, outputs: int = 5, kernel: int = 2) -> nn.Sequential:
    """Convolution, ReLU and max-pooling of 28 x 28 images, and one hidden layer."""
    torch.manual_seed(0)
    pool = nn.MaxPool2d(kernel, stride=2)
    n = pool(torch.zeros(1, channels, 24, 24)).numel()
    head = nn.Linear(n, 20), nn.ReLU(), nn.Linear(20, outputs)
    return nn.Sequential(nn.Conv2d(1, channels, 5), nn.ReLU(), pool, nn.Flatten(), *head).double().eval()


@pytest.fixture(scope="module", params=[2, 3])
def large(request):
    model = pooled(kernel=request.param)
    plane = Slice.around(np.random.default_rng(0).normal(size=(1, 28, 28)), 1.2)
    return model, plane, partition(model, plane)


def test_winners_at_many_points_are_those_of_torch(large):
    """The pattern at a point inside a region is the region's: activations, and the winners torch names."""
    model, plane, part = large
    points = np.random.default_rng(1).uniform(plane.domain.min(axis=0), plane.domain.max(axis=0), (10_000, 2))
    region = part.locate(points)
    x = torch.from_numpy(plane.lift(points))
    hidden = model[1](model[0](x))
    _, indices = nn.functional.max_pool2d(hidden, model[2].kernel_size, 2, return_indices=True)
    window = hidden.flatten(2).gather(2, indices.flatten(2))
    first = model[0](x).flatten(1)
    second = model[4](model[3](model[2](hidden)))
    gap = torch.minimum(first.abs().amin(dim=1), second.abs().amin(dim=1))
    sure = (gap > 1e-9).detach().numpy() & (region >= 0)
    assert sure.sum() > 9_900

    channel = torch.arange(hidden.shape[1]).reshape(-1, 1, 1) * hidden[0, 0].numel()
    expected = (indices + channel).flatten(1).numpy()
    rounds = next(rows for rows in rows_of(part) if part.layers[rows[0]].kind == "max")
    used, at = np.unique(region[sure], return_inverse=True)
    found = np.concatenate([winners_of(part, rounds, some) for some in np.array_split(used, 8)])[at]
    # Of entries within rounding of each other either may be said to win; a tie of zeros goes to the first.
    value = hidden.flatten(1).detach().numpy()[sure]
    rows = np.arange(len(value))[:, None]
    away = np.abs(value[rows, found] - window.flatten(1).detach().numpy()[sure])
    assert away.max() < 1e-12
    assert (found == expected[sure]).mean() > 0.9999
    for layer, z in ((0, first), (len(part.layers) - 1, second)):
        bits = part.pattern_bits(layer, used)[:, 0][at]
        np.testing.assert_array_equal(bits, (z.detach() > 0).numpy()[sure])


def winners_of(part: Partition, rounds: list[int], regions: np.ndarray) -> np.ndarray:
    """`winners` of some regions."""
    from tests.fuzz import oracle

    class Some:
        program, n_regions = part.program, len(regions)

        @staticmethod
        def pattern_bits(layer):
            return part.pattern_bits(layer, regions)

    return oracle.winners(Some, rounds)


def test_neighbours_differ_and_maps_are_right(large):
    model, plane, part = large
    assert part.staged.fine.n_regions > part.n_regions > 500
    check_complex(part.complex, plane.domain, part.report.moved)
    check_complex(part.staged.fine.complex, plane.domain, part.report.moved)
    assert len(np.unique(part.patterns(), axis=0)) == part.n_regions
    points = part.interior_points()
    wide = part.areas() > 1e-9
    A, b = part.affine_maps()
    with torch.no_grad():
        y = model(torch.from_numpy(plane.lift(points))).numpy()
    np.testing.assert_allclose(((A @ points[:, :, None])[:, :, 0] + b)[wide], y[wide], atol=1e-12)
    assert part.areas().sum() == pytest.approx(plane.area, rel=1e-12)
    fine = part.staged.fine.areas()
    np.testing.assert_allclose(np.bincount(part.staged.region_of, fine), part.areas(), atol=1e-12)


def test_a_large_one_is_proved(large):
    certificate = large[2].certify(decision=False)
    assert certificate.holds
    assert certificate.n_regions == large[2].n_regions
