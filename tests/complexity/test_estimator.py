"""The estimate counts what a plain forward pass over all vertices counts, and leaves no trace."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from splinecam_lite.complexity import LocalComplexity
from splinecam_lite.complexity.frames import cross_polytope, random_frames
from splinecam_lite.errors import ModelError, NeighbourhoodError
from splinecam_lite.network.program import Program
from splinecam_lite.network.trace import trace
from tests.complexity.networks import STRUCTURES, random_network, random_program


def plain_counts(program: Program, points, frame, radius) -> np.ndarray:
    """All vertices through the network, all preactivations kept, signs compared."""
    vertices = cross_polytope(points, frame, radius)
    inputs = [op.inputs[0] for op in program.preactivation_ops]
    values = program.run(vertices.flatten(0, 1), keep=inputs)
    counts = []
    for value in inputs:
        positive = values[value].reshape(*vertices.shape[:2], -1) >= 0
        counts.append((positive.any(dim=1) & ~positive.all(dim=1)).sum(dim=1))
    return torch.stack(counts, dim=1).numpy()


@pytest.mark.parametrize("frame_per_point", [False, True])
@pytest.mark.parametrize("activation", ["relu", "hardtanh"])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_counts_equal_those_of_a_plain_forward_pass(structure, activation, frame_per_point):
    program = random_program(structure, activation, 1)
    points = torch.randn(17, *program.input_shape, dtype=torch.float64)
    estimate = LocalComplexity(program, 0.3, 3, frame_per_point=frame_per_point)
    frame = estimate.frame(program.input_shape, range(17))
    counts = estimate(points).per_layer
    assert counts.sum() > 0
    np.testing.assert_array_equal(counts, plain_counts(program, points, frame, 0.3))


def test_every_point_is_counted_whatever_the_batches():
    estimate = LocalComplexity(random_program("mlp", "relu", 2), 0.5, 3)
    points = np.random.default_rng(0).normal(size=(23, 3))
    whole = estimate(points).per_layer
    assert whole.shape == (23, 3)
    assert whole[20:].sum() > 0
    for size in (1, 5, 10, 22, 100):
        np.testing.assert_array_equal(estimate(points, batch_size=size).per_layer, whole)
    np.testing.assert_array_equal(estimate(points[7:9]).per_layer, whole[7:9])


def test_frames_of_their_own_do_not_depend_on_the_batches():
    program = random_program("mlp", "relu", 2)
    estimate = LocalComplexity(program, 0.5, 2, seed=4, frame_per_point=True)
    points = torch.randn(11, 3)
    whole = estimate(points).per_layer
    np.testing.assert_array_equal(estimate(points, batch_size=3).per_layer, whole)
    alone = LocalComplexity(program, 0.5, frame=random_frames((3,), 2, 4, numbers=[6])[0])
    np.testing.assert_array_equal(alone(points[6:7]).per_layer[0], whole[6])


def test_zero_counts_as_positive():
    # At the corners of the unit diamond z runs from -1 to 1; from 0 to 2; from -2 to 0; and is 0.
    weights = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    biases = torch.tensor([0.0, 1.0, -1.0, 0.0])
    traced, counts = trace(nn.Sequential(nn.Linear(2, 1), nn.ReLU()).eval(), (2,)), []
    for weight, bias in zip(weights, biases, strict=True):
        program = traced.program({"0.weight": weight[None], "0.bias": bias[None]})
        counts += LocalComplexity(program, 1.0, frame=torch.eye(2))(torch.zeros(1, 2)).total.tolist()
    assert counts == [1, 0, 1, 0]


def test_nothing_is_left_behind():
    network = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2))
    network.train()
    network[3].eval()
    network[0].weight.requires_grad_(False)
    network(torch.randn(4, 3)).sum().backward()
    before, gradients = copy.deepcopy(network), [copy.deepcopy(p.grad) for p in network.parameters()]
    torch.manual_seed(11)
    np.random.seed(11)  # noqa: NPY002 - the global state is what is looked at
    torch_state, numpy_state = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    default, points = torch.get_default_dtype(), torch.randn(5, 3, generator=torch.Generator().manual_seed(0))

    estimate = LocalComplexity(network, 0.5, 3)
    first, second = estimate(points), estimate(points)

    assert torch.equal(torch.random.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    assert torch.get_default_dtype() == default
    assert torch.is_grad_enabled()
    np.testing.assert_array_equal(first.per_layer, second.per_layer)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before.state_dict()[name]), name
    for ours, theirs in zip(network.modules(), before.modules(), strict=True):
        assert ours.training == theirs.training
        assert not ours._forward_hooks
        assert not ours._forward_pre_hooks
        assert vars(ours).keys() == vars(theirs).keys()
    for ours, theirs, gradient in zip(network.parameters(), before.parameters(), gradients, strict=True):
        assert ours.requires_grad == theirs.requires_grad
        assert ours.dtype == theirs.dtype
        assert (ours.grad is None) == (gradient is None)
        assert gradient is None or torch.equal(ours.grad, gradient)


def test_a_network_in_training_is_followed_and_measured_in_eval_mode():
    network, shape = random_network("residual", "relu", 3)
    estimate, points = LocalComplexity(network, 0.5, 2), torch.randn(9, *shape)
    before = estimate(points).per_layer
    network.train()
    np.testing.assert_array_equal(estimate(points).per_layer, before)
    np.testing.assert_array_equal(LocalComplexity(network, 0.5, 2)(points).per_layer, before)
    with torch.no_grad():
        network(torch.randn(32, *shape, dtype=torch.float64))  # moves the statistics of the normalisation
        network[0].first.bias += 1.0
    after = estimate(points).per_layer
    assert not np.array_equal(after, before)
    anew = LocalComplexity(copy.deepcopy(network).eval(), 0.5, 2)(points).per_layer
    np.testing.assert_array_equal(after, anew)


def test_a_module_is_exported_once(monkeypatch):
    network, shape = random_network("mlp", "relu", 0)
    estimate = LocalComplexity(network, 0.5, 2)
    before = estimate(torch.zeros(2, *shape)).per_layer
    monkeypatch.setattr("splinecam_lite.complexity.current.trace", None)
    after = estimate(torch.zeros(3, *shape)).per_layer
    assert np.array_equal(after[:2], before)


@pytest.mark.parametrize("smooth", [nn.GELU, nn.SiLU, nn.Tanh])
def test_smooth_networks_are_measured(smooth):
    layers = [nn.Linear(3, 8), nn.LayerNorm(8), smooth(), nn.Linear(8, 8), smooth(), nn.Linear(8, 2)]
    network = nn.Sequential(*layers).double().eval()
    program, points = Program.from_module(network, (3,)), torch.randn(12, 3, dtype=torch.float64)
    estimate = LocalComplexity(network, 0.4, 3)
    counts = estimate(points).per_layer
    assert counts.shape == (12, 2)
    assert counts.sum() > 0
    np.testing.assert_array_equal(counts, plain_counts(program, points, estimate.frame((3,)), 0.4))


def test_attention_is_measured():
    block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu", norm_first=True)
    counts = LocalComplexity(block.eval(), 0.5, 4)(torch.randn(3, 5, 8)).per_layer
    assert counts.shape == (3, 1)
    assert counts.sum() > 0


def test_float32_agrees_where_nothing_is_near_zero():
    program = random_program("conv", "relu", 5)
    points = torch.randn(40, *program.input_shape)
    double = LocalComplexity(program, 0.4, 5)(points).per_layer
    single = LocalComplexity(program, 0.4, 5, dtype=torch.float32)(points).per_layer
    assert (double != single).sum() <= 1
    assert double.sum() > 100


def test_autocast_changes_nothing():
    program = random_program("mlp", "relu", 5)
    estimate, points = LocalComplexity(program, 0.3, 3, dtype=torch.float32), torch.randn(20, 3)
    alone = estimate(points).per_layer
    with torch.autocast("cpu", dtype=torch.bfloat16):
        np.testing.assert_array_equal(estimate(points).per_layer, alone)


def test_the_estimate_grows_with_radius_and_directions():
    program, points = random_program("mlp", "relu", 6), torch.randn(30, 3)
    small, large = (LocalComplexity(program, r, 3)(points).per_layer[:, 0] for r in (0.1, 0.5))
    assert (small <= large).all()  # the first layer is exact, and the neighbourhoods are nested
    frame = LocalComplexity(program, 0.3, 3).frame((3,))
    few, many = (LocalComplexity(program, 0.3, frame=f)(points).per_layer for f in (frame[:1], frame))
    assert (few <= many).all()


def test_diverged_weights_are_named():
    network, shape = random_network("mlp", "relu", 0)
    estimate = LocalComplexity(network, 0.3, 2)
    network[2].weight.data[0, 0] = torch.nan
    with pytest.raises(ModelError, match=r"'2.weight' is NaN or infinite"):
        estimate(torch.zeros(1, *shape))
    network[2].weight.data.fill_(1e300)
    network[4].weight.data.fill_(1e300)
    with pytest.raises(ModelError, match=r"layer '5'.*not finite"):
        LocalComplexity(Program.from_module(network, shape), 0.3, 2)(torch.full((1, *shape), 1e3))


def test_wrong_points_are_named():
    program = random_program("mlp", "relu", 0)
    with pytest.raises(
        ModelError, match=r"the points have shape \(2, 4\); this network takes \(points, 3,\)"
    ):
        LocalComplexity(program, 0.3, 2)(torch.zeros(2, 4))


def train(measure: bool) -> tuple[list, list]:
    """Three steps of training with dropout and batch statistics: all weights, and random numbers, bit by
    bit."""
    torch.manual_seed(0)
    layers = [nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2)]
    network, bits, seen = nn.Sequential(*layers), [], []
    network[2].register_forward_hook(lambda module, given, result: result)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.05)
    options = {"kind": "gaussian", "centre": True, "logits": True, "layers": "2"}
    estimates = [LocalComplexity(network, 0.5, 3), LocalComplexity(network, 0.5, 5, **options)]
    points = torch.randn(5, 3)
    for _ in range(3):
        optimiser.zero_grad()
        loss = network(torch.randn(16, 3)).square().sum()
        loss.backward()
        if measure:
            seen += [estimate(points).per_layer.sum() for estimate in estimates]
        optimiser.step()
        bits += [t.clone() for t in network.state_dict().values()] + [torch.random.get_rng_state()]
    hooks = sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in network.modules())
    return [*bits, torch.tensor([hooks, network.training])], seen


def test_training_is_the_same_bit_for_bit_with_and_without_it():
    without, _ = train(measure=False)
    with pytest.warns(UserWarning, match="forward hooks are not run"):
        measured, seen = train(measure=True)
    assert min(seen) > 0
    assert len(without) == len(measured)
    for a, b in zip(without, measured, strict=True):
        assert torch.equal(a, b)


def test_a_part_that_is_exchanged_is_seen():
    network, shape = random_network("mlp", "relu", 3)
    estimate, points = LocalComplexity(network, 0.5, 2), torch.randn(9, *shape)
    before = estimate(points)
    network[1] = nn.Tanh()
    after = estimate(points)
    np.testing.assert_array_equal(after.per_layer[:, 0], before.per_layer[:, 0])
    assert not np.array_equal(after.per_layer, before.per_layer)
    np.testing.assert_array_equal(LocalComplexity(network, 0.5, 2)(points).per_layer, after.per_layer)


def test_wrappers_are_looked_through():
    network, shape = random_network("mlp", "relu", 3)
    points = torch.randn(9, *shape)
    alone = LocalComplexity(network, 0.5, 2)(points).per_layer
    for wrapped in (torch.compile(network.train()), nn.DataParallel(network.train())):
        estimate = LocalComplexity(wrapped, 0.5, 2)
        np.testing.assert_array_equal(estimate(points).per_layer, alone)
        assert estimate(points).layer_names == ("1", "3", "5")
        assert wrapped.training


def test_frames_by_hand_for_each_point_are_refused():
    network, _ = random_network("mlp", "relu", 0)
    frames = torch.eye(3)[:2].expand(5, 2, 3)
    with pytest.raises(NeighbourhoodError, match=r"shape \(5, 2, 3\); give one frame for all points"):
        LocalComplexity(network, 0.3, frame=frames)(torch.zeros(5, 3))


@pytest.mark.parametrize("seed", range(3))
def test_what_is_exactly_0_does_not_cross_in_float32_either(seed, monkeypatch):
    """Without biases neurons are 0 behind others that are off; nothing is below 0 behind positive weights."""
    monkeypatch.setattr("splinecam_lite.complexity.vertices.pushing.FEW_PRODUCTS", 0.0)
    torch.manual_seed(seed)
    layers = nn.Linear(40, 4, bias=False), nn.ReLU(), nn.Linear(4, 200, bias=False), nn.ReLU()
    network, points = nn.Sequential(*layers).eval(), 0.2 * torch.randn(200, 40)
    network[2].weight.data.abs_()
    for dtype in (torch.float64, torch.float32):
        first, second = LocalComplexity(network, 1.0, 40, dtype=dtype)(points).per_layer.sum(axis=0)
        assert first > 0
        assert second == 0
