"""Networks with each piecewise-linear operation of torch: partition, exact mode, certificate, dense grid."""

import numpy as np
import pytest
import torch

from splinecam_lite import Partition, Program, Slice, partition
from splinecam_lite.network import trace
from splinecam_lite.partition.report import OUTPUT_ROUNDING
from tests.network.operations import AFFINE, WITHOUT_KNOTS, SideBySide, activations

MAKERS = {**AFFINE, (5,): activations}
CASES = [(shape, name) for shape, make in MAKERS.items() for name in make()]
GRID = 60


@pytest.fixture(scope="module")
def traced():
    """By input shape: what is exported of the modules side by side."""
    torch.manual_seed(0)
    return {shape: trace(SideBySide(make(), shape).double().eval(), shape) for shape, make in MAKERS.items()}


def by_pattern(part: Partition) -> dict[tuple[int, ...], float]:
    return dict(zip(map(tuple, part.patterns().tolist()), part.areas().tolist(), strict=True))


def assert_dense_grid(part: Partition, program: Program) -> None:
    """At the points of a grid: bits are signs, and the region's map is the network's value."""
    low, high = part.plane.domain.min(axis=0), part.plane.domain.max(axis=0)
    u, v = np.meshgrid(*(np.linspace(a, b, GRID + 2)[1:-1] for a, b in zip(low, high, strict=True)))
    points = np.column_stack((u.ravel(), v.ravel()))
    region = part.locate(points)
    points, region = points[region >= 0], region[region >= 0]
    assert len(points) > GRID**2 / 3
    ops = program.preactivation_ops
    values = program.run(part.plane.lift(points), keep=[op.inputs[0] for op in ops] + [program.output])
    for layer, op in enumerate(ops):
        z = values[op.inputs[0]].flatten(1)
        shape = program.shapes[op.inputs[0]]
        for j, (place, jump) in enumerate(zip(op.breakpoints, op.jumps, strict=True)):
            above = (z - torch.broadcast_to(place, shape).reshape(-1)).numpy()
            knot = torch.broadcast_to(jump != 0, shape).reshape(-1).numpy()
            clear = knot & (np.abs(above) > 1e-9)
            assert ((part.pattern_bits(layer, region)[:, j] == (above > 0)) | ~clear).all()
    A, b = part.affine_maps()
    mapped = np.einsum("noi,ni->no", A[region], points) + b[region]
    np.testing.assert_allclose(mapped, values[program.output].flatten(1).numpy(), rtol=1e-9, atol=1e-9)
    large = part.areas() > 30 * part.plane.area / GRID**2
    assert np.isin(np.flatnonzero(large & (part.areas() > part.perimeters() ** 2 / 40)), region).all()


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "name"), CASES, ids=[f"{name} {shape}" for shape, name in CASES])
def test_partition_exact_mode_certificate_and_dense_grid(traced, shape, name):
    program = traced[shape].program(output=f"parts.{name}")
    points = 4 * np.random.default_rng(len(name)).normal(size=(3, *shape))
    plane = Slice.through(*points)
    usual = partition(program, plane, threads=1)
    assert usual.n_regions > (0 if name in WITHOUT_KNOTS else 4)
    assert usual.report.output_residual <= OUTPUT_ROUNDING
    assert usual.report.area_residual < 1e-12
    assert_dense_grid(usual, program)
    exact = partition(program, plane, exact=True, threads=1)
    areas, expected = by_pattern(exact), by_pattern(usual)
    assert areas.keys() == expected.keys()
    np.testing.assert_allclose([areas[p] for p in expected], list(expected.values()), atol=1e-10 * plane.area)
    assert exact.certify().status == "proved"
