"""What sums crossings up: fractions, totals, intervals, tables and dictionaries."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from splinecam_lite.complexity.result import ComplexityResult, recall


def result_of(per_layer, neurons=None) -> ComplexityResult:
    per_layer = np.array(per_layer, dtype=np.int64)
    names = tuple(f"act{i}" for i in range(per_layer.shape[1]))
    n_neurons = np.array(neurons or [50] * len(names), dtype=np.int64)
    return ComplexityResult(per_layer, n_neurons, names, 0.25, 7)


counts = st.integers(1, 4).flatmap(
    lambda layers: st.lists(st.lists(st.integers(0, 50), min_size=layers, max_size=layers), min_size=2)
)


@given(counts)
def test_means_of_layers_add_up_to_the_mean_of_the_total(per_layer):
    result = result_of(per_layer)
    assert sum(mean.value for mean in result.layer_means) == pytest.approx(result.mean.value)
    for mean, share in zip(result.layer_means, result.layer_fractions, strict=True):
        assert share.value == pytest.approx(mean.value / 50)
        assert share.low == pytest.approx(mean.low / 50)
    assert result.fraction.value == pytest.approx(result.mean.value / (50 * len(result.layer_names)))
    assert 0 <= result.fraction.value <= 1


@given(counts)
def test_intervals_are_those_of_students_t(per_layer):
    result = result_of(per_layer)
    mean = result.mean
    spread = stats.sem(result.total)
    if spread == 0:
        assert mean.low == mean.value == mean.high
    else:
        low, high = stats.t.interval(0.99, len(per_layer) - 1, loc=mean.value, scale=spread)
        assert (mean.low, mean.high) == (pytest.approx(low), pytest.approx(high))


@given(counts)
def test_the_dictionary_is_flat_and_says_what_the_properties_say(per_layer):
    result = result_of(per_layer)
    flat = result.to_dict("lc/test")
    assert all(isinstance(value, float) for value in flat.values())
    assert json.loads(json.dumps(flat, allow_nan=False)) == flat
    assert len(flat) == 3 * (1 + len(result.layer_names))
    assert flat["lc/test/sum"] == result.mean.value
    assert flat["lc/test/sum"] - flat["lc/test/sum_ci99"] == pytest.approx(result.mean.low)
    assert flat["lc/test/layer1_fraction"] == result.layer_fractions[0].value
    assert all(name.startswith("lc/test/") for name in flat)


def test_recall_is_of_one_neighbourhood():
    names, counts, neurons = ("0",), np.array([[1]]), np.array([8])
    exact = ComplexityResult(counts, neurons, names, 0.1, 2)
    with pytest.raises(ValueError, match="the estimate has 5 directions, the exact counts 2"):
        recall(ComplexityResult(counts, neurons, names, 0.1, 5), exact)


def test_one_point_has_no_interval_and_its_dictionary_none_either():
    result = result_of([[3, 4]], [6, 8])
    assert np.isnan(result.mean.low)
    flat = result.to_dict()
    assert flat["lc/sum"] == 7.0
    assert not [name for name in flat if name.endswith("ci99")]
    assert "1 point," in result.summary()
    assert result.summary().splitlines()[-1].split() == "all layers 14 7.000 nan nan 50.0 %".split()


def test_the_table_stays_in_its_columns():
    names = ("a", "transformer.blocks.11.mlp.activation")
    result = ComplexityResult(np.full((3, 2), 9, np.int64), np.array([10, 10]), names, 1e-4, 25)
    _, head, *rows = result.summary().splitlines()
    assert len({len(row) for row in (head, *rows)}) == 1
    assert [row.split()[0] for row in rows[:2]] == list(names)


def test_a_network_without_layers_sums_to_nothing():
    result = ComplexityResult(np.zeros((2, 0), np.int64), np.zeros(0, np.int64), (), 0.1, 2)
    assert result.to_dict()["lc/sum"] == 0.0
    assert result.fraction.value == 0.0
    assert "all layers" in result.summary()
