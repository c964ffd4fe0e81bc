"""Domains sized by a wanted number of regions: it is met, cheaply, or the refusal says what there is."""

import itertools
import weakref

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.workloads import ResNet18, natural_image
from splinecam_lite import Partition, Program, Slice, SliceError, SplineCamError, partition
from splinecam_lite.partition.sign_changes import SignChanges
from splinecam_lite.partition.sizing import Wanted, _Discs, sized, wanted

torch.set_num_threads(1)


def mlp(*widths: int, bias: bool = True, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise(widths):
        layers += [nn.Linear(n_in, n_out, bias=bias), nn.ReLU()]
    return nn.Sequential(*layers[:-1]).eval()


def near(part: Partition, regions: int) -> bool:
    return 0.8 * regions <= part.n_regions <= 1.25 * regions


CENTRE = [0.3, -0.2]


@pytest.mark.parametrize("shape", ["disc", "square"])
@pytest.mark.parametrize("regions", [1, 2, 20, 300, 4000])
def test_the_number_is_met(shape: str, regions: int) -> None:
    part = partition(mlp(2, 64, 64, 64, 1), around=CENTRE, regions=regions, shape=shape)
    assert near(part, regions)
    sizing = part.report.sizing
    assert sizing is not None
    assert sizing.wanted == regions
    assert (sizing.runs[-1][1], sizing.what) == (part.n_regions, "radius")
    assert "regions wanted" in str(part.report)


def test_it_is_the_partition_of_the_slice_that_it_names() -> None:
    model = mlp(2, 32, 32, 1)
    part = partition(model, around=CENTRE, regions=200, shape="square", seed=3)
    radius = part.report.sizing.runs[-1][0]
    again = partition(model, Slice.around(CENTRE, radius, seed=3))
    assert part.plane.digest() == again.plane.digest()
    assert np.array_equal(part.vertices, again.vertices)


def test_directions_and_other_options_are_passed_on() -> None:
    model, x = mlp(5, 48, 48, 3), np.linspace(0, 1, 5)
    directions = np.eye(5)[[1, 3]]
    part = partition(model, around=x, regions=500, directions=directions, output=2, exact=True)
    assert near(part, 500)
    assert np.array_equal(part.plane.directions, directions)
    assert part.exact
    assert part.n_outputs == 1


@pytest.mark.slow
@pytest.mark.parametrize("norm", [False, True])
def test_a_residual_network_on_images_at_the_first_try(norm: bool) -> None:
    torch.manual_seed(0)
    model = ResNet18(width=2, norm=norm)
    if norm:
        model.train()(torch.from_numpy(np.stack([natural_image(i) for i in range(8)])).float())
    part = partition(model.eval(), around=natural_image(0), regions=5000)
    assert near(part, 5000)
    assert len(part.report.sizing.runs) == 1
    assert part.report.sizing.n_points <= 250


@pytest.mark.parametrize("c", [1e-8, 1.0, 1e8])
def test_the_size_grows_with_the_network(c: float) -> None:
    model = mlp(2, 40, 40, 1)
    with torch.no_grad():
        for module in model:
            if isinstance(module, nn.Linear):
                module.bias.mul_(c)
    part = partition(model, around=np.multiply(c, CENTRE), regions=1000)
    assert near(part, 1000)
    assert 0.01 * c < part.report.sizing.runs[-1][0] < 100 * c


def test_without_bias_and_centred_at_the_origin_every_disc_has_the_same_regions() -> None:
    model = mlp(2, 12, 12, 1, bias=False)
    n = partition(model, Slice.around([0.0, 0.0], 1.0, shape="disc")).n_regions
    assert partition(model, around=[0.0, 0.0], regions=n).n_regions == n
    with pytest.raises(SliceError, match=rf"{10 * n} regions are wanted, but .* there are {n} regions"):
        partition(model, around=[0.0, 0.0], regions=10 * n)
    with pytest.raises(SliceError, match=rf"1 region is wanted, .* there are {n} regions: knots meet at its"):
        partition(model, around=[0.0, 0.0], regions=1)


def test_without_bias_away_from_the_origin() -> None:
    assert near(partition(mlp(3, 64, 64, 1, bias=False), around=[0.2, 0.1, 0.5], regions=300), 300)


def test_a_centre_on_a_knot_has_two_regions_at_least() -> None:
    model = mlp(2, 30, 30, 1)
    with torch.no_grad():
        model[0].weight[0] = torch.tensor([1.0, 0.0])
        model[0].bias[0] = -0.25
    assert partition(model, around=[0.25, 0.125], regions=2).n_regions == 2
    assert near(partition(model, around=[0.25, 0.125], regions=500), 500)
    with pytest.raises(SliceError, match="there are 2 regions: knots meet at its centre"):
        partition(model, around=[0.25, 0.125], regions=1)


def test_more_than_there_are_is_refused_with_how_many_there_are() -> None:
    # Five lines make 16 regions at most, and these do.
    with pytest.raises(SliceError, match=r"up to the radius .* there are 16 regions: too few knots"):
        partition(mlp(2, 5, 1), around=CENTRE, regions=100)
    assert near(partition(mlp(2, 5, 1), around=CENTRE, regions=15), 15)


def test_a_network_without_knots() -> None:
    dead = mlp(2, 8, 1)
    with torch.no_grad():
        dead[0].weight.zero_()
        dead[0].bias.fill_(-1.0)
    for model in (dead, nn.Linear(2, 1).eval()):
        part = partition(model, around=CENTRE, regions=1)
        assert part.n_regions == 1
        assert part.plane.area > 0
        with pytest.raises(SliceError, match="there are 1 region: too few knots"):
            partition(model, around=CENTRE, regions=2)


@pytest.mark.parametrize("regions", [300, 3000])
def test_a_strip_between_two_inputs(regions: int) -> None:
    model = mlp(6, 64, 64, 64, 1)
    x1, x2 = np.zeros(6), np.full(6, 3.0)
    part = partition(model, between=(x1, x2), regions=regions)
    assert near(part, regions)
    width = part.report.sizing.runs[-1][0]
    assert part.report.sizing.what == "width"
    assert part.plane.area == pytest.approx(width * np.linalg.norm(x2 - x1))
    assert part.plane.project(x2) == pytest.approx([np.linalg.norm(x2 - x1), 0.0])


def test_a_strip_has_the_pieces_of_its_axis_at_least_and_a_square_s_regions_at_most() -> None:
    model, ends = mlp(2, 40, 40, 1), ([-2.0, -1.0], [2.0, 1.5])
    with pytest.raises(SliceError, match="its axis alone crosses so many knots"):
        partition(model, between=ends, regions=1)
    with pytest.raises(SliceError, match="a strip is at most as wide as long"):
        partition(model, between=ends, regions=100_000)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({}, "give a slice, or around=x and regions=n, or between"),
        ({"around": CENTRE}, "around= needs the number of regions"),
        ({"around": CENTRE, "between": (CENTRE, CENTRE), "regions": 5}, "give a slice, or"),
        ({"around": CENTRE, "regions": 0}, "regions is 0; it must be a whole number from 1 up"),
        ({"around": CENTRE, "regions": 2.5}, "regions is 2.5"),
        ({"around": CENTRE, "regions": True}, "regions is True"),
        ({"around": CENTRE, "regions": 5, "shape": "diamond"}, "must be 'disc' or 'square'"),
        ({"between": (CENTRE, CENTRE), "regions": 5}, "the two inputs are the same"),
        ({"between": (CENTRE,), "regions": 5}, r"it must be two inputs, \(x1, x2\)"),
        ({"around": [0.0, 0.0, 0.0], "regions": 5}, "3"),
    ],
)
def test_what_is_refused(options: dict, complaint: str) -> None:
    with pytest.raises(SplineCamError, match=complaint):
        partition(mlp(2, 8, 1), **options)


def test_a_slice_and_a_number_of_regions_exclude_each_other() -> None:
    with pytest.raises(SliceError, match="leave around, between, regions, shape, directions and seed out"):
        partition(mlp(2, 8, 1), Slice.box(-1, 1), regions=5)


def test_signs_change_at_every_knot_between_close_points() -> None:
    model = mlp(2, 30, 1)
    program = Program.from_module(model, (2,))
    t = np.linspace(-3, 3, 5000)[:, None]
    changes = SignChanges(program).between(t * [0.6, 0.8])
    w, b = model[0].weight.detach().double().numpy(), model[0].bias.detach().double().numpy()
    crossed = -b / (w @ [0.6, 0.8])
    inside = np.sort(crossed[np.abs(crossed) < 3])
    assert len(inside) > 10
    assert np.array_equal(np.flatnonzero(changes), np.searchsorted(t[:, 0], inside) - 1)


def test_a_jump_of_zero_is_no_knot_and_both_breakpoints_of_relu6_are() -> None:
    def changes(activation: nn.Module) -> float:
        layer = nn.Linear(1, 1, bias=False)
        nn.init.ones_(layer.weight)
        program = Program.from_module(nn.Sequential(layer, activation).eval(), (1,))
        return float(SignChanges(program).between(np.array([[-1.0], [1.0], [7.0]])).sum())

    assert changes(nn.LeakyReLU(1.0)) == 0
    assert changes(nn.ReLU6()) == 2


def test_of_a_maximum_only_the_winners_count() -> None:
    # max(x, 3 - x, -9) has one knot on the line, at 1.5; where x passes -9, it has lost already.
    class Highest(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat((x, 3 - x, 0 * x - 9), dim=1).amax(dim=1)

    program = Program.from_module(Highest().eval(), (1,))
    x = np.array([[-20.0], [-10.0], [-8.0], [0.0], [1.0], [2.0], [10.0]])
    assert SignChanges(program).between(x).tolist() == [0, 0, 0, 0, 1, 0]


def test_a_tie_of_zeros_that_ends_is_the_knot_of_the_relu() -> None:
    class Pooled(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(torch.cat((x - 5, x), dim=1)).amax(dim=1)

    program = Program.from_module(Pooled().eval(), (1,))
    assert SignChanges(program).between(np.array([[-1.0], [1.0], [6.0]])).tolist() == [1, 1]


@pytest.mark.slow
def test_a_network_with_pooling_at_the_first_try() -> None:
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, 6, 3),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(6, 8, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
    ]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * 36, 5)).eval()
    part = partition(model, around=natural_image(0), regions=3000)
    assert near(part, 3000)
    assert len(part.report.sizing.runs) == 1


def test_the_number_foretold_of_random_lines_is_right() -> None:
    # Lines that meet a disc, spread as the motion-invariant measure has them: the formula's own assumption.
    rng = np.random.default_rng(0)
    n = 2000
    angle = rng.uniform(0, 2 * np.pi, n)
    model = mlp(2, n, 1)
    with torch.no_grad():
        model[0].weight.copy_(torch.from_numpy(np.column_stack([np.cos(angle), np.sin(angle)])))
        model[0].bias.copy_(torch.from_numpy(rng.uniform(-1, 1, n)))
    search = _Discs(SignChanges(Program.from_module(model, (2,))), Wanted(1, centre=[0.0, 0.0]))
    assert search._crossings(1.0, 60, 40) == pytest.approx(n / 2, rel=0.05)


def test_one_partition_at_a_time() -> None:
    """Each may take all the memory there is."""
    kept: list[weakref.ref[Partition]] = []

    def run(plane: Slice) -> Partition:
        assert not [part for part in kept if part() is not None]
        part = partition(program, plane)
        kept.append(weakref.ref(part))
        return part

    runs = []
    for regions in (40, 300, 3000):
        program = Program.from_module(mlp(2, 300, 1, seed=1), (2,))
        kept.clear()
        part = sized(program, wanted([3.0, 1.0], None, regions, "disc", None, 0), run)
        assert near(part, regions)
        runs.append(len(kept))
    assert max(runs) > 1


@pytest.mark.parametrize("wish", [{"shape": "square"}, {"seed": 3}, {"directions": np.eye(2)}])
def test_wishes_for_a_size_do_not_go_with_a_slice(wish: dict) -> None:
    with pytest.raises(SliceError, match="leave around, between, regions, shape, directions and seed out"):
        partition(mlp(2, 4, 1), Slice.box(-1, 1), **wish)
