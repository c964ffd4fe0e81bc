"""Affine maps and patterns, against the network itself."""

import numpy as np
import pytest
import torch
from hypothesis import given

from splinecam_lite import Slice, partition
from splinecam_lite.engine.plan import Tuning
from splinecam_lite.network.program import KnotsOp
from splinecam_lite.partition import result
from tests.agreement import slice_of
from tests.partition.networks import TINY, cases, compute, deep, mlp, run, tunings


def points_inside(part, seed=0):
    """A random point of every region: a mixture of its corners."""
    rng = np.random.default_rng(seed)
    weights = [rng.dirichlet(np.ones(n)) for n in np.diff(part.complex.face_ptr)]
    return np.stack([w @ part.polygon(region) for region, w in enumerate(weights)])


@given(cases, tunings)
def test_maps_are_the_network(case, tuning):
    part = compute(case, tuning)
    for points in (part.interior_points(), points_inside(part)):
        expected = run(case.model(), points)
        A, b = part.affine_maps()
        found = np.einsum("noi,ni->no", A, points) + b
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * max(1.0, np.abs(expected).max()))


@given(cases, tunings)
def test_patterns_are_the_signs_of_the_preactivations(case, tuning):
    part = compute(case, tuning)
    program = case.program()
    points = torch.from_numpy(part.interior_points())
    for layer, op in enumerate(program.preactivation_ops):
        assert isinstance(op, KnotsOp)
        z = program.run(points, keep=op.inputs)[op.inputs[0]].flatten(1)
        for j, (breakpoint_, jump) in enumerate(zip(op.breakpoints, op.jumps, strict=True)):
            scale = float(z.abs().max()) + 1.0
            above, live = z - breakpoint_, (jump != 0).expand(z.shape[1:]).numpy()
            # A point of a sliver is as near to the knot as rounding: its sign is told by nobody.
            clear = (above.abs() > 1e-11 * scale).numpy() & live
            np.testing.assert_array_equal(part.pattern_bits(layer)[:, j][clear], (above > 0).numpy()[clear])
            assert not part.pattern_bits(layer)[:, j][:, ~live].any()


@given(cases)
def test_blocks_do_not_matter(case):
    """The same patterns, maps and hashes, region by region, in whatever order the regions come."""
    whole, pieces = compute(case), compute(case, TINY)
    order = np.lexsort(whole.patterns().T), np.lexsort(pieces.patterns().T)
    for name in ("patterns", "pattern_hashes"):
        np.testing.assert_array_equal(getattr(whole, name)()[order[0]], getattr(pieces, name)()[order[1]])
    scale = max(1.0, np.abs(whole.outputs).max())
    for name in ("areas", "perimeters", "gradient_norms"):
        a, b = getattr(whole, name)()[order[0]], getattr(pieces, name)()[order[1]]
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * scale)
    assert [c[:3] for c in whole.counts_by_layer()] == [c[:3] for c in pieces.counts_by_layer()]


@given(cases)
def test_hashes_tell_patterns_apart(case):
    part = compute(case)
    assert len(np.unique(part.pattern_hashes())) == len(np.unique(part.patterns(), axis=0)) == part.n_regions


def test_hashes_stay_the_same_over_training():
    """Another output layer, another domain, other blocks: what has the same pattern has the same hash."""
    model, plane = mlp(2, 12, 12, 1), Slice.box(-1, 1)
    before = partition(model, plane)
    with torch.no_grad():
        model[4].weight += 1.0
    after = partition(model, slice_of([(0, 0), (1, 0), (0, 1)]), _tuning=Tuning(4, 20, 10))
    known = dict(zip(before.pattern_hashes().tolist(), map(bytes, before.patterns()), strict=True))
    assert all(
        known[h] == bytes(pattern)
        for h, pattern in zip(after.pattern_hashes().tolist(), after.patterns(), strict=True)
    )


def test_hashes_are_the_same_on_every_machine():
    """Colours of regions in published figures rest on them."""
    model = mlp(2, 1, 1)
    with torch.no_grad():
        model[0].weight[:] = torch.tensor([[1.0, 0.0]])
        model[0].bias[:] = 0
    assert sorted(partition(model, Slice.box(-1, 1)).pattern_hashes().tolist()) == [0, 0xE220A8397B1DCDAF]


def test_some_regions_in_any_order():
    part = deep()
    assert len(part.blocks) > 1
    chosen = np.random.default_rng(0).integers(0, part.n_regions, 50)
    A, b = part.affine_maps()
    np.testing.assert_array_equal(part.affine_maps(chosen)[0], A[chosen])
    np.testing.assert_array_equal(part.affine_maps(chosen)[1], b[chosen])
    np.testing.assert_array_equal(part.patterns(chosen), part.patterns()[chosen])
    assert part.affine_maps([])[0].shape == (0, 3, 2)
    assert part.patterns([]).shape == (0, 2)


@pytest.mark.parametrize(
    ("regions", "message"),
    [
        ([-1], "no region -1"),
        ([0, 10**6], "no region 1000000"),
        ([0.5], "float64"),
        ([[0]], r"shape \(1, 1\)"),
    ],
)
def test_regions_that_are_none_are_refused(regions, message):
    with pytest.raises(IndexError, match=message):
        deep().affine_maps(regions)


def test_norms_are_those_of_the_maps(monkeypatch):
    part = deep()
    expected = np.sqrt((part.affine_maps()[0] ** 2).sum(axis=(1, 2)))
    monkeypatch.setattr(result, "MAPS_AT_ONCE", 100)
    np.testing.assert_allclose(part.gradient_norms(), expected, rtol=1e-14)
