"""Whole networks: blocks, groups, folding, seams and threads leave no trace in the result."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splinecam_lite.engine.complex import check_complex
from splinecam_lite.engine.engine import EngineResult, factored_patterns, run
from splinecam_lite.engine.labels import pack_patterns
from splinecam_lite.engine.plan import Tuning
from splinecam_lite.errors import ModelError
from tests.engine.plans import dense_plan, evaluate, random_layers

TINY = Tuning(group=3, block_vertices=16, piece_vertices=6)


def patterns(result: EngineResult) -> np.ndarray:
    return pack_patterns(factored_patterns(result.blocks), np.arange(result.complex.n_faces))


def described(result: EngineResult) -> tuple[set, dict]:
    """Regions and labelled adjacencies, whatever their order."""
    of = [row.tobytes() for row in patterns(result)]
    assert len(set(of)) == len(of), "two regions share a pattern"
    borders = {}
    for e, (f, g) in enumerate(result.complex.edge_faces):
        if f >= 0 and g >= 0:
            knots = result.edge_knots[result.edge_knot_ptr[e] : result.edge_knot_ptr[e + 1]]
            borders[frozenset((of[f], of[g]))] = tuple(sorted(knots.tolist()))
    return set(of), borders


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.25, -1.0]))
def test_tiny_blocks_give_the_same_regions_and_labels(seed, slope):
    rng = np.random.default_rng(seed)
    layers = random_layers(rng, 2, 8, 7, 6, 2)
    plan = dense_plan(layers, slope=slope)
    whole, cut = run(plan), run(plan, TINY)
    for result in (whole, cut):
        check_complex(result.complex, plan.domain)
    assert len(whole.blocks) == 1
    if cut.complex.n_faces > 20:
        assert len(cut.blocks) > 1
    assert described(whole) == described(cut)


@given(st.integers(0, 2**32 - 1))
def test_integer_networks_in_tiny_blocks(seed):
    rng = np.random.default_rng(seed)
    layers = [
        (rng.integers(-1, 2, size=(n, m)), rng.integers(-1, 2, size=n)) for m, n in [(2, 6), (6, 6), (6, 1)]
    ]
    plan = dense_plan(layers)
    assert described(run(plan)) == described(run(plan, TINY))


@given(st.integers(0, 2**32 - 1))
def test_outputs_at_vertices_are_the_network_s(seed):
    rng = np.random.default_rng(seed)
    layers = random_layers(rng, 2, 9, 9, 3)
    for tuning in (Tuning(), TINY):
        result = run(dense_plan(layers), tuning)
        np.testing.assert_allclose(result.outputs, evaluate(layers, result.complex.xy), rtol=0, atol=1e-13)


@given(st.integers(0, 2**32 - 1))
def test_activations_with_two_knots(seed):
    """A clipped ramp, as ReLU6 and Hardtanh are: two knots to a neuron."""
    layers = random_layers(np.random.default_rng(seed), 2, 6, 5, 1)
    plan = dense_plan(layers, breakpoints=(-0.2, 0.3), jumps=(1.0, -1.0))
    whole, cut = run(plan), run(plan, TINY)
    assert described(whole) == described(cut)
    x = whole.complex.xy
    for weight, bias in layers[:-1]:
        x = np.clip(x @ weight.T + bias, -0.2, 0.3) + 0.2
    np.testing.assert_allclose(whole.outputs, x @ layers[-1][0].T + layers[-1][1], rtol=0, atol=1e-13)


def test_threads_change_no_bit():
    plan = dense_plan(random_layers(np.random.default_rng(5), 2, 24, 24, 24, 3))
    tuning = Tuning(group=16, block_vertices=150, piece_vertices=50)
    first = run(plan, tuning, threads=1)
    assert len(first.blocks) >= 4
    for threads in (1, 2, 4):
        again = run(plan, tuning, threads=threads)
        for one, other in zip(first.complex, again.complex, strict=True):
            assert np.array_equal(one, other)
        assert np.array_equal(first.outputs, again.outputs)
        assert np.array_equal(first.edge_knots, again.edge_knots)


@pytest.mark.parametrize("threads", [1, 3])
def test_values_that_overflow_end_the_run_and_name_the_neuron(threads):
    plan = dense_plan(random_layers(np.random.default_rng(5), 2, 24, 24, 1))
    bad = plan.steps[2]._replace(linear=lambda columns: columns @ np.full((24, 24), np.nan))
    plan = plan._replace(steps=(*plan.steps[:2], bad, *plan.steps[3:]))
    with pytest.raises(ModelError, match="layer 1, neuron 0"):
        run(plan, Tuning(group=8, block_vertices=100, piece_vertices=40), threads=threads)


def test_the_first_layer_alone_folds_back_to_few_hinges():
    rng = np.random.default_rng(2)
    lines = (rng.normal(size=(150, 2)), 0.5 * rng.normal(size=150))
    result = run(dense_plan([lines, (np.ones((1, 150)), np.zeros(1))]), Tuning(64, 600, 150))
    assert max(len(b.knots) for b in result.blocks) < 100
    assert sum(b.n_faces for b in result.blocks) == result.complex.n_faces


def test_progress_ends_with_the_whole_area():
    seen = []
    plan = dense_plan(random_layers(np.random.default_rng(0), 2, 12, 12, 1))
    run(plan, TINY, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(4.0)
