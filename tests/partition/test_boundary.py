"""Decision boundaries and level sets: against the oracle, against the network itself, and at ties."""

import itertools
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from splinecam_lite import Slice, SliceError, partition
from splinecam_lite.engine.complex import check_complex, signed_areas
from splinecam_lite.partition.boundary import decide
from tests.agreement import ROUNDING, assert_decides, slice_of
from tests.exact_networks import read_sequential
from tests.oracles import ExactPartition, area
from tests.strategies import Case, degenerate_cases, generic_cases

BOX = [(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)]

cases = generic_cases() | degenerate_cases()
few = settings(max_examples=max(3, settings().max_examples // 4))


def compute(case: Case, **options):
    return partition(case.model(), slice_of(case.domain), **options)


def with_outputs(case: Case, rows, bias) -> Case:
    """The same network with another last layer."""
    return replace(case, layers=[*case.layers[:-1], (rows, bias)])


def network(*layers, activations=None) -> nn.Sequential:
    """ReLU network of (matrix, bias) pairs."""
    return Case(list(layers), activations or ["relu"] * (len(layers) - 1), BOX).model()


def random_mlp(seed: int, *widths: int) -> nn.Sequential:
    """Random biases of the outputs are balanced, so that several classes win somewhere on the box."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise(widths):
        layers += [nn.Linear(n_in, n_out, dtype=torch.float64), nn.ReLU()]
    model = nn.Sequential(*layers[:-1]).eval()
    with torch.no_grad():
        model[-1].weight *= 4
        model[-1].bias -= model(torch.rand(500, 2, dtype=torch.float64) * 2 - 1).mean(dim=0)
    return model


def logits(model: nn.Module, points: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return model(torch.from_numpy(points)).numpy()


# ---- the oracle --------------------------------------------------------------------------------------


@given(cases)
def test_borders_of_each_pair_of_classes(case):
    part, exact = compute(case), case.exact()
    assert_decides(part, exact)
    boundary, truth = part.decision_boundary(), exact.decision()
    expected = defaultdict(float)
    for segment in truth.segments:
        expected[tuple(sorted((truth.winners[segment.left], truth.winners[segment.right])))] += segment.length
    pairs = [tuple(pair) for pair in np.unique(boundary.classes, axis=0).tolist()]
    numbers = [tuple(np.searchsorted(boundary.labels, pair).tolist()) for pair in pairs]
    found = {n: boundary.between(*pair).length for n, pair in zip(numbers, pairs, strict=True)}
    assert found == pytest.approx(dict(expected), rel=1e-9)
    assert_consistent(part)


def assert_consistent(part) -> None:
    """The complex that is cut along the boundary is one, and areas add up in it."""
    boundary = part.decision_boundary()
    check_complex(boundary.complex, part.plane.domain)
    face_areas = signed_areas(boundary.complex.xy, boundary.complex.face_ptr, boundary.complex.face_vertex)
    areas = np.bincount(boundary.face_regions, face_areas, part.n_regions)
    np.testing.assert_allclose(areas, part.areas(), rtol=0, atol=ROUNDING * part.plane.area)
    np.testing.assert_array_equal(boundary.cell_classes[boundary.face_cells], boundary.face_classes)
    assert part.n_decision_cells == boundary.n_cells == len(boundary.cell_areas)
    assert boundary.cell_areas.sum() == pytest.approx(part.plane.area)
    assert boundary.class_areas.sum() == pytest.approx(part.plane.area)


@few
@given(cases)
def test_smallest_output(case):
    (rows, bias), n = case.layers[-1], len(case.layers[-1][1])
    if n == 1:
        return
    negated = with_outputs(case, [[-w for w in row] for row in rows], [-b for b in bias])
    assert_decides(compute(case, decide="argmin"), negated.exact())


@few
@given(degenerate_cases(), st.integers(0, 2), st.sampled_from([-1.0, 1.0]))
def test_an_output_twice(case, row, sign):
    """A class that ties with an earlier one everywhere wins nowhere, and is named wherever that one wins."""
    rows, bias = case.layers[-1]
    row %= len(bias)
    twice = with_outputs(
        case, [*rows, rows[row], [sign * w for w in rows[0]]], [*bias, bias[row], sign * bias[0]]
    )
    part = compute(twice)
    assert_decides(part, twice.exact())
    boundary = part.decision_boundary()
    n = len(bias)
    assert boundary.class_areas[n] == 0
    wins = np.unique(boundary.face_regions[boundary.face_classes == row])
    named = boundary.ties[(boundary.ties[:, 1] == row) & (boundary.ties[:, 2] == n), 0]
    np.testing.assert_array_equal(np.unique(named), wins)


# ---- the network itself ------------------------------------------------------------------------------

MODELS = [(random_mlp(1, 2, 24, 24, 3), "argmax"), (random_mlp(2, 2, 32, 32, 10), "argmax"),
          (random_mlp(2, 2, 32, 32, 10), "argmin"), (random_mlp(3, 2, 24, 24, 1), "zero")]  # fmt: skip

each_model = pytest.mark.parametrize(("model", "rule"), MODELS, ids=["3", "10", "10, smallest", "scalar"])


def classes_of(model: nn.Module, rule: str, points: np.ndarray) -> np.ndarray:
    y = logits(model, points)
    if rule == "zero":
        return np.where(y[:, 0] > 0, 1, -1)
    return (y if rule == "argmax" else -y).argmax(axis=1)


@each_model
def test_on_the_boundary_the_networks_own_outputs_tie(model, rule):
    part = partition(model, Slice.box(-1, 1), decide=rule)
    boundary = part.decision_boundary()
    assert boundary.length > 1
    points = np.concatenate((boundary.sample(500, seed=1), boundary.segments.reshape(-1, 2)))
    y = logits(model, points)
    if rule == "zero":
        gap = y[:, 0]
    else:
        top = np.sort(y if rule == "argmax" else -y, axis=1)
        gap = top[:, -1] - top[:, -2]
    assert np.abs(gap).max() < 1e-13 * np.abs(part.outputs).max()


@each_model
def test_the_classes_on_both_sides(model, rule):
    part = partition(model, Slice.box(-1, 1), decide=rule)
    boundary = part.decision_boundary()
    start, end = boundary.segments.swapaxes(0, 1)
    along = (end - start) / boundary.lengths[:, None]
    left = np.column_stack((-along[:, 1], along[:, 0]))
    long = boundary.lengths > 1e-4
    for side, sign in ((0, 1.0), (1, -1.0)):
        points = ((start + end) / 2 + sign * 1e-6 * left)[long]
        np.testing.assert_array_equal(classes_of(model, rule, points), boundary.classes[long, side])
        np.testing.assert_array_equal(part.locate(points), boundary.regions[long, side])
    assert (boundary.classes[:, 0] < boundary.classes[:, 1]).all()
    inside = boundary.edges < 0
    np.testing.assert_array_equal(inside, boundary.regions[:, 0] == boundary.regions[:, 1])


@each_model
def test_areas_against_a_dense_grid(model, rule):
    boundary = partition(model, Slice.box(-1, 1), decide=rule).decision_boundary()
    n = 400
    ticks = (np.arange(n) + 0.5) * 2 / n - 1
    points = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
    counts = (classes_of(model, rule, points)[:, None] == boundary.labels).sum(axis=0)
    # A square of the grid can be counted wrongly only if the boundary passes through it.
    bound = (2 / n) ** 2 * (boundary.length / (2 / n) * 3 + 3)
    assert np.abs(counts * (2 / n) ** 2 - boundary.class_areas).max() < bound
    assert (counts > 0).sum() > 1


@each_model
def test_neither_a_constant_nor_a_scale_changes_anything(model, rule):
    part = partition(model, Slice.box(-1, 1), decide=rule)
    boundary = part.decision_boundary()
    factors, shift = (2.0**-40, 2.0**30), 0.0 if rule == "zero" else 0.75
    for factor in factors:
        other = decide(part.complex, factor * (part.outputs + shift), rule, part.plane.domain)
        np.testing.assert_allclose(other.segments, boundary.segments, rtol=0, atol=1e-12)
        np.testing.assert_array_equal(other.classes, boundary.classes)
        np.testing.assert_array_equal(other.face_cells, boundary.face_cells)


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_the_classes_changes_only_their_names(seed):
    part = partition(MODELS[1][0], Slice.box(-1, 1))
    boundary = part.decision_boundary()
    order = np.random.default_rng(seed).permutation(10)
    other = decide(part.complex, part.outputs[:, order], "argmax", part.plane.domain)
    np.testing.assert_allclose(other.class_areas, boundary.class_areas[order], rtol=0, atol=1e-12)
    assert (other.n_cells, len(other.segments)) == (boundary.n_cells, len(boundary.segments))
    assert other.length == pytest.approx(boundary.length, rel=1e-12)
    for new in np.unique(other.classes, axis=0):
        assert other.between(*new).length == pytest.approx(boundary.between(*order[new]).length, rel=1e-9)


# ---- ties --------------------------------------------------------------------------------------------

IDENTITY = [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]]


@pytest.mark.parametrize("bias", [[0.0] * 3, [0.5] * 3, [1 / 3] * 3])
def test_a_dead_last_layer(bias):
    part = partition(network((IDENTITY, [0.0] * 4), ([[0.0] * 4] * 3, bias)), Slice.box(-1, 1))
    boundary = part.decision_boundary()
    assert (part.n_regions, boundary.n_cells, len(boundary.segments)) == (4, 1, 0)
    assert boundary.class_areas.tolist() == [4.0, 0.0, 0.0]
    assert boundary.ties.tolist() == [[region, 0, other] for region in range(4) for other in (1, 2)]
    assert np.isinf(boundary.distance([0.0, 0.0]))


def test_a_scalar_that_is_zero_on_whole_regions():
    # relu(u): 0 on the left, which counts as not positive; the border runs along the knot.
    boundary = partition(
        network(([[1.0, 0.0]], [0.0]), ([[1.0]], [0.0])), Slice.box(-1, 1)
    ).decision_boundary()
    assert boundary.length == 2.0
    assert boundary.classes.tolist() == [[-1, 1]]
    assert boundary.segments[0].tolist() == [[0.0, -1.0], [0.0, 1.0]]
    assert boundary.edges[0] >= 0
    assert boundary.regions[0, 0] != boundary.regions[0, 1]
    assert boundary.ties.tolist() == [[boundary.regions[0, 0], -1, 1]]


def test_outputs_equal_on_a_face_and_different_elsewhere():
    # (relu(u), 2 relu(u), relu(v)): on the left 0 and 1 tie at 0, and 2 with them below.
    model = network(([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0]), ([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]], [0.0] * 3))
    part = partition(model, Slice.box(-1, 1))
    boundary = part.decision_boundary()
    np.testing.assert_allclose(boundary.class_areas, [1.0, 1.0 + 0.75, 1.0 + 0.25], rtol=1e-14)
    dead = part.locate([[-0.5, -0.5]])[0]
    assert sorted(boundary.ties.tolist()) == [[dead, 0, 1], [dead, 0, 2]]
    assert boundary.n_cells == 3
    assert boundary.length == pytest.approx(1 + 1 + 1.25**0.5)


def test_a_tie_that_only_rounding_breaks():
    """Two equal rows, one of them written as a sum that rounds differently."""
    model = random_mlp(4, 2, 40, 40, 3)
    with torch.no_grad():
        wide = nn.Linear(3, 4, dtype=torch.float64)
        wide.weight.copy_(
            torch.tensor([[0.1, 0.2, 0.7], [0.3 - 0.2, 0.1 * 2, 1 - 0.3], [0, 1, 0], [1, 0, 0]])
        )
        wide.bias.zero_()
    boundary = partition(nn.Sequential(*model, wide).eval(), Slice.box(-1, 1)).decision_boundary()
    assert boundary.class_areas[1] == 0.0
    first = np.unique(boundary.face_regions[boundary.face_classes == 0])
    np.testing.assert_array_equal(np.unique(boundary.ties[:, 0]), first)


# ---- what the result offers --------------------------------------------------------------------------


def test_distance_is_that_of_the_nearest_segment():
    boundary = partition(MODELS[1][0], Slice.box(-1, 1)).decision_boundary()
    points = np.random.default_rng(0).uniform(-1.5, 1.5, (200, 2))
    start, along = boundary.segments[:, 0], boundary.segments[:, 1] - boundary.segments[:, 0]
    away = points[:, None] - start
    t = np.clip((away * along).sum(-1) / (along**2).sum(-1), 0, 1)
    nearest = np.linalg.norm(away - t[..., None] * along, axis=-1).min(axis=1)
    np.testing.assert_allclose(boundary.distance(points), nearest, rtol=1e-12)
    np.testing.assert_allclose(boundary.distance(points.reshape(20, 10, 2)).ravel(), nearest, rtol=1e-12)
    assert boundary.distance(boundary.sample(100)).max() < 1e-15


def test_samples_are_uniform_by_length():
    boundary = partition(MODELS[1][0], Slice.box(-1, 1)).decision_boundary()
    points = boundary.sample(20_000, seed=3)
    np.testing.assert_array_equal(points, boundary.sample(20_000, seed=3))
    for first, second in np.unique(boundary.classes, axis=0):
        part = boundary.between(first, second)
        share = part.length / boundary.length
        found = (part.distance(points) < 1e-12).mean()
        assert abs(found - share) < 5 * (share / 20_000) ** 0.5 + 1e-3


def test_nothing_to_sample():
    boundary = partition(network(([[0.0, 0.0]], [1.0])), Slice.box(-1, 1)).decision_boundary()
    assert boundary.sample(0).shape == (0, 2)
    with pytest.raises(ValueError, match="one class has the whole domain"):
        boundary.sample(5)


@pytest.mark.parametrize(
    ("rule", "n_outputs", "message"),
    [("zero", 2, "there are 2"), ("argmax", 1, "there is one"), ("largest", 2, "the rule is 'largest'")],
)
def test_rules_that_do_not_suit(rule, n_outputs, message):
    part = partition(MODELS[0][0], Slice.box(-1, 1))
    with pytest.raises(ValueError, match=message):
        decide(part.complex, part.outputs[:, :n_outputs], rule, part.plane.domain)


def test_wrong_shape_of_points():
    boundary = partition(MODELS[0][0], Slice.box(-1, 1)).decision_boundary()
    with pytest.raises(SliceError, match=r"shape \(3, 5\)"):
        boundary.distance(np.zeros((3, 5)))


def test_the_result_cannot_be_changed():
    boundary = partition(MODELS[0][0], Slice.box(-1, 1)).decision_boundary()
    with pytest.raises(ValueError, match="read-only"):
        boundary.segments[0] = 0


def test_a_slice_of_a_larger_space():
    """Lengths are those of input space."""
    model = nn.Linear(5, 1, dtype=torch.float64).eval()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 0, 0, 0, 0]]))
        model.bias.zero_()
    plane = Slice.around(np.zeros(5), 1.0, directions=[[3.0, 4.0, 0, 0, 0], [4.0, -3.0, 0, 0, 0]])
    boundary = partition(model, plane).decision_boundary()
    # The line x = 0 crosses the square turned by atan(4/3) between two of its opposite sides.
    assert boundary.length == pytest.approx(2 / 0.8)
    assert np.abs(plane.lift(boundary.sample(20))[:, 0]).max() < 1e-15


def test_one_oracle_with_ties_by_hand():
    """The oracle and the library agree on what a tie is, on a network where both can be checked by eye."""
    model = network(([[1.0, 0.0]], [0.0]), ([[0.0], [1.0]], [0.0, 0.0]))
    truth = ExactPartition(read_sequential(model), BOX).decision()
    boundary = partition(model, Slice.box(-1, 1)).decision_boundary()
    assert boundary.length == truth.length == 2.0
    areas = [
        sum(float(area(c)) for c, w in zip(truth.cells, truth.winners, strict=True) if w == k) for k in (0, 1)
    ]
    assert boundary.class_areas.tolist() == areas == [2.0, 2.0]
