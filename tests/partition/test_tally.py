"""Counting against holding: every number of a tally is that of the partition that was never made."""

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from splinecam_lite import (
    ComplexError,
    ModelError,
    Partition,
    Program,
    Segment,
    Slice,
    SliceError,
    Tally,
    count,
    partition,
)
from splinecam_lite.engine.plan import Tuning
from splinecam_lite.engine.sewing import SeamMismatch
from splinecam_lite.partition import tally as module
from splinecam_lite.partition.tally import SMALLEST_SHARE
from tests.agreement import slice_of
from tests.partition.networks import TINY, cases, constant, mlp
from tests.partition.test_max import KINDS, NETWORKS, network

ROUNDING = 1e-9
"""Sums in another order; places of one vertex as two blocks have it."""


@cache
def convnet() -> tuple[Program, Slice, Partition]:
    """A small one with activations of several kinds, and its partition."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(2, 2, 3), nn.LeakyReLU(0.1),
        nn.Flatten(), nn.Linear(2, 6), nn.Hardtanh(), nn.Linear(6, 3),
    )  # fmt: skip
    program = Program.from_module(model.double().eval(), (1, 6, 6))
    plane = Slice.around(np.zeros((1, 6, 6)), 2.0, seed=0)
    return program, plane, partition(program, plane)


def assert_binned(histogram: np.ndarray, areas: np.ndarray, whole: float) -> None:
    """Below every power of two lie as many areas as the bins say, those on it up to rounding aside."""
    assert histogram.sum() == len(areas)
    assert len(histogram) == 1 - SMALLEST_SHARE
    below = np.cumsum(histogram)
    for i in range(len(histogram) - 1):
        border = whole * 2.0 ** (i + SMALLEST_SHARE)
        fewest, most = (areas < border * (1.0 - ROUNDING)).sum(), (areas < border * (1.0 + ROUNDING)).sum()
        assert fewest <= below[i] <= most


def assert_counts(found: Tally, part: Partition) -> None:
    """All that a tally says, against the partition in memory."""
    areas, whole = part.areas(), part.plane.area
    assert found.n_regions == part.n_regions
    assert [(layer.name, layer.n_neurons, layer.n_knots) for layer in found.layers] == [
        (layer.name, layer.n_neurons, layer.n_knots) for layer in part.counts_by_layer()
    ]
    size = np.sqrt(whole)
    for layer, expected in zip(found.layers, part.counts_by_layer(), strict=True):
        assert layer.knot_length == pytest.approx(expected.knot_length, rel=ROUNDING, abs=ROUNDING * size)
    assert found.smallest_area == pytest.approx(areas.min(), rel=1e-6, abs=1e-14 * whole)
    assert found.largest_area == pytest.approx(areas.max(), rel=ROUNDING)
    thick = areas > 1e-9 * whole  # the area of what is thinner is rounding, and differs from block to block
    if thick.all():
        assert_binned(found.area_histogram, areas, whole)
    assert found.area_histogram.sum() == len(areas)
    assert found.area_residual < 1e-12
    assert found.output_residual < 1e-9
    assert found.plane.digest() == part.plane.digest()


@settings(max_examples=8)
@given(cases, st.sampled_from([1, 2]))
def test_small_networks(case, threads):
    program, plane = case.program(), slice_of(case.domain)
    part = partition(program, plane, threads=1)
    assert_counts(count(program, plane, threads=threads, _tuning=TINY), part)


@pytest.mark.parametrize("tuning", [None, TINY, Tuning(64, 50, 20)])
def test_a_convnet(tuning):
    program, plane, part = convnet()
    assert part.n_regions > 100
    found = count(program, plane, _tuning=tuning)
    assert (found.n_blocks > 5) == (tuning is not None)
    assert_counts(found, part)


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name in NETWORKS for kind in KINDS], ids=str)
def test_regions_of_a_maximum_that_lie_in_several_blocks_count_once(name, kind):
    program, plane = network(name, kind)
    part = partition(program, plane, threads=1)
    assert_counts(count(program, plane, _tuning=TINY, threads=1), part)


def test_some_regions_do_lie_in_several_blocks():
    """Otherwise the test above asks nothing: without joining there would be more regions."""
    program, plane = network("maxout", "generic")
    counts = module.Counts
    joined = []

    class Recorded(counts):
        def _join(self, same: np.ndarray) -> None:
            before = self.n_regions
            super()._join(same)
            joined.append(before - self.n_regions)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counts, "of", staticmethod(lambda program, plan: Recorded(
            plan, module.layers_of(program, plan), module.comparisons_of(program)
        )))  # fmt: skip
        count(program, plane, _tuning=TINY)
    assert joined[0] > 0


@settings(max_examples=5)
@given(st.integers(0, 2**32 - 1))
def test_threads_change_nothing(seed):
    program = Program.from_module(mlp(2, 7, 7, 2, seed=seed % 2**31), (2,))
    one, two = (count(program, Slice.box(-1, 1), threads=n, _tuning=TINY) for n in (1, 2))
    one, two = ({k: v for k, v in vars(t).items() if k not in ("plane", "seconds")} for t in (one, two))
    assert one.pop("area_histogram").tolist() == two.pop("area_histogram").tolist()
    assert one == two


def test_nothing_to_count():
    """No layer; layers without a knot; a network that is constant."""
    for model in (nn.Linear(2, 3).eval(), constant(1.0), constant(0.0, 2)):
        found = count(model, Slice.box(0, 1))
        assert (found.n_regions, found.smallest_area, found.largest_area) == (1, 1.0, 1.0)
        assert found.area_histogram[-1] == found.area_histogram.sum() == 1
        assert all(layer.n_knots == layer.knot_length == 0 for layer in found.layers)


def test_blocks_of_a_single_region():
    """Every knot lies on a seam, and no block has an inner edge."""
    model = nn.Sequential(nn.Linear(2, 1), nn.ReLU(), nn.Linear(1, 1), nn.ReLU()).double().eval()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0.5]]))
        for parameter in (model[0].bias, model[2].weight, model[2].bias):
            parameter.fill_(0.25)
    found = count(model, Slice.box(-1, 1), _tuning=Tuning(group=1, block_vertices=1, piece_vertices=1))
    assert found.n_blocks == found.n_regions == 2
    assert_counts(found, partition(model, Slice.box(-1, 1)))


def test_the_bins_are_where_the_docstring_says():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU()).double().eval()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
        model[0].bias.copy_(torch.tensor([-0.75, -0.75 - 2.0**-9]))
    found = count(model, Slice.box(0, 1))
    bins = np.flatnonzero(found.area_histogram)
    shares = [2.0**-9, 0.25 - 2.0**-9, 0.75]
    assert [2.0 ** (i - 61) <= share < 2.0 ** (i - 60) for i, share in zip(bins, shares, strict=True)] == [
        True
    ] * 3
    assert found.smallest_area == shares[0]
    assert found.largest_area == shares[2]


def test_areas_are_in_input_units():
    """Not in those of the directions that a slice was made from."""
    program, _ = network("maxout", "generic")
    plane = Slice.through([0.0, 0.0], [3.0, 0.5], [1.0, 4.0])
    part = partition(program, plane)
    assert_counts(count(program, plane, _tuning=TINY), part)
    assert part.areas().sum() == pytest.approx(plane.area)


def test_sides_that_disagree_once_are_counted_once(monkeypatch):
    """The domain is cut up anew, and what was counted before is forgotten."""
    program, plane, expected = convnet()
    original, calls = module.pair_rims, []

    def mismatch_first(rims):
        calls.append(len(rims))
        if len(calls) == 1:
            raise SeamMismatch("the two sides of a seam have different numbers of vertices")
        return original(rims)

    monkeypatch.setattr(module, "pair_rims", mismatch_first)
    assert_counts(count(program, plane, _tuning=Tuning(8, 60, 20)), expected)
    assert len(calls) == 2

    def always(rims):
        raise SeamMismatch("the two sides of a seam have different numbers of vertices")

    monkeypatch.setattr(module, "pair_rims", always)
    with pytest.raises(ComplexError, match="different numbers of vertices, however the domain was cut up"):
        count(program, plane, _tuning=TINY)


def test_a_block_that_is_wrong_is_found(monkeypatch):
    """A piece of the domain that is missing, and outputs that are not the network's."""
    model, plane = mlp(2, 12, 12, 1), Slice.box(-1, 1)
    original = module.Counts.add

    def lossy(self, prepared):
        if prepared.path[-1:] != (1,):
            original(self, prepared)

    with monkeypatch.context() as patch:
        patch.setattr(module.Counts, "add", lossy)
        with pytest.raises(ComplexError, match="the areas sum to"):
            count(model, plane, _tuning=TINY)
    prepared = module.Counts.prepared

    def wrong(self, block):
        return prepared(self, block._replace(outputs=block.outputs + 1.0))

    with monkeypatch.context() as patch:
        patch.setattr(module.Counts, "prepared", wrong)
        with pytest.raises(ComplexError, match="outputs at the vertices differ"):
            count(model, plane, _tuning=TINY)


def test_a_tally_in_words():
    found = count(mlp(2, 12, 1), Slice.box(-1, 1))
    assert repr(found).startswith(
        f"Tally({found.n_regions} activation regions on 4 square input units, knots "
    )


def test_what_is_refused():
    model = mlp(2, 4, 1)
    with pytest.raises(ModelError, match="train mode"):
        count(mlp(2, 4, 1).train(), Slice.box(-1, 1))
    with pytest.raises(SliceError, match="plane is a tuple"):
        count(model, (-1, 1))
    with pytest.raises(ValueError, match="threads is 0"):
        count(model, Slice.box(-1, 1), threads=0)
    with pytest.raises(ValueError, match="memory is 'much'"):
        count(model, Slice.box(-1, 1), memory="much")
    with pytest.raises(SliceError, match="count takes a Slice"):
        count(model, Segment.between([0.0, 0.0], [1.0, 1.0]))


def test_progress_ends_with_the_whole_area(capsys):
    count(mlp(2, 16, 16, 1), Slice.box(-1, 1), _tuning=TINY, progress=True)
    assert isinstance(count(mlp(2, 4, 1), Slice.box(-1, 1), progress=False), Tally)


def test_an_output_and_a_normalisation():
    model, options = mlp(2, 6, 3), {"output": 1, "normalise": (0.5, 2.0)}
    part = partition(model, Slice.box(-1, 1), **options)
    assert_counts(count(model, Slice.box(-1, 1), **options, _tuning=TINY), part)
    assert part.n_regions != partition(model, Slice.box(-1, 1), output="0").n_regions
