"""The door of the partition room: what is refused, what is left as it was, and the report."""

import sys

import numpy as np
import pytest
import torch
from torch import nn

from splinecam_lite import Program, Slice, partition
from splinecam_lite.engine.complex import check_complex
from splinecam_lite.errors import ComplexError, ModelError, NotPiecewiseLinear, SliceError, TraceError
from splinecam_lite.partition import report as reports
from splinecam_lite.partition.workers import one_thread_per_worker, shown_progress
from tests.partition.networks import TINY, constant, deep, mlp

BOX = Slice.box(-1, 1)


@pytest.mark.parametrize(
    ("model", "plane", "options", "error", "message"),
    [
        ("net.onnx", BOX, {}, ModelError, "there is no file net.onnx"),
        (3, BOX, {}, ModelError, "model is a int; pass an nn.Module, a Program, or the path"),
        (mlp(2, 3, 1), np.zeros((4, 2)), {}, SliceError, "plane is a ndarray; make one with Slice.through"),
        (mlp(3, 3, 1), BOX, {}, ModelError, "does not run on a float64 input of shape"),
        (mlp(2, 3, 1).train(), BOX, {}, TraceError, "train mode; call its .eval"),
        (nn.Sequential(nn.Linear(2, 2), nn.GELU()).eval(), BOX, {}, NotPiecewiseLinear, "'1'.*GELU"),
        (mlp(2, 3, 1), BOX, {"decide": "argmax"}, ModelError, "needs several outputs, but the network has 1"),
        (mlp(2, 3, 2), BOX, {"decide": "zero"}, ModelError, "needs one output, but the network has 2"),
        (mlp(2, 3, 2), BOX, {"decide": "largest"}, ModelError, "it must be 'argmax', 'argmin' or 'zero'"),
        (mlp(2, 3, 2), BOX, {"threads": 0}, ValueError, "threads is 0"),
        (mlp(2, 3, 2), BOX, {"threads": 1.5}, ValueError, "threads is 1.5"),
        (mlp(2, 3, 2), BOX, {"output": "nowhere"}, ModelError, "no node or module 'nowhere'"),
    ],
)
def test_what_cannot_be_partitioned_is_refused_by_name(model, plane, options, error, message):
    with pytest.raises(error, match=message):
        partition(model, plane, **options)


def test_a_program_must_fit_the_slice_and_is_taken_as_it_is():
    program = Program.from_module(mlp(3, 4, 1), (3,))
    with pytest.raises(SliceError, match=r"inputs of shape \(2,\), but the network takes \(3,\)"):
        partition(program, BOX)
    with pytest.raises(ModelError, match=r"give them to Program\.from_module"):
        partition(program, Slice.around(np.zeros(3), 1.0), output="0")


def test_weights_of_lower_precision_are_cast_exactly():
    model = mlp(2, 8, 2).float()
    single = partition(model, BOX)
    program = Program.from_module(mlp(2, 8, 2).float(), (2,)).to(torch.float32)
    assert (
        partition(program, BOX).model_digest
        == single.model_digest
        == partition(model.double(), BOX).model_digest
    )


def test_normalisation_and_output_are_part_of_the_network():
    model = mlp(2, 8, 8, 3)
    part = partition(model, BOX, normalise=(0.25, 2.0), output="2")
    points = part.interior_points()
    A, b = part.affine_maps()
    with torch.no_grad():
        expected = model[:3]((torch.from_numpy(points) - 0.25) / 2.0).numpy()
    np.testing.assert_allclose(np.einsum("noi,ni->no", A, points) + b, expected, rtol=0, atol=1e-13)
    assert part.n_outputs == 8
    assert part.layer_names == ("1",)


def test_nothing_is_left_behind():
    model, threads, state = mlp(2, 8, 1), torch.get_num_threads(), torch.random.get_rng_state()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.set_num_threads(2)
    try:
        with one_thread_per_worker():
            assert torch.get_num_threads() == 1
        partition(model, BOX)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_threads_change_nothing():
    model = mlp(2, 16, 16, 2)
    one, two = (partition(model, BOX, threads=n, _tuning=TINY) for n in (1, 2))
    for a, b in zip(one.complex, two.complex, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(one.edge_knots, two.edge_knots)
    np.testing.assert_array_equal(one.outputs, two.outputs)


def test_arrays_are_read_only_and_fields_are_fixed():
    part = deep()
    for array in (*part.complex, part.outputs, part.edge_knots, part.blocks[0].D, part.report.snaps.knots):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    with pytest.raises(AttributeError):
        part.decide = "argmin"


def test_progress_appears_on_request_only(capfd):
    with shown_progress(None, 4.0) as show:  # stderr is no terminal here
        assert show is None
    with shown_progress(False, 4.0) as show:
        assert show is None
    partition(mlp(2, 8, 1), BOX, progress=True)
    assert capfd.readouterr().err == ""  # over in less than two seconds


def test_progress_shows_the_time_left(capfd, monkeypatch):
    monkeypatch.setattr(sys.modules[shown_progress.__module__], "SILENT_SECONDS", 0.0)
    with shown_progress(True, 4.0) as show:
        show(2.0)
        show(1.0)
        show(4.0)
    assert "left" in capfd.readouterr().err


# ---- networks with little to partition ---------------------------------------------------------


@pytest.mark.parametrize(
    "model", [nn.Linear(2, 3), nn.Identity(), nn.Flatten(), constant(1.5), constant(0.0, 3)]
)
def test_one_region(model):
    part = partition(model.eval(), BOX)
    check_complex(part.complex, BOX.domain)
    assert (part.n_regions, part.n_vertices, part.n_edges) == (1, 4, 4)
    assert part.areas().tolist() == [4.0]
    assert part.neighbours().nnz == 0
    assert part.locate(part.interior_points()).tolist() == [0]
    assert part.patterns().shape == (1, sum(-(-n // 64) for n in part.n_neurons))
    assert part.knot_lengths().tolist() == [0.0] * len(part.layers)
    assert len(part.knots().edges) == 0
    A, b = part.affine_maps()
    with torch.no_grad():
        expected = model.double()(torch.tensor([[0.25, 0.5]], dtype=torch.float64)).flatten(1).numpy()
    np.testing.assert_allclose(A @ [0.25, 0.5] + b, expected, rtol=0, atol=1e-15)
    assert part.report.output_residual < 1e-15
    assert part.summary().startswith("1 activation region, ")


def test_an_output_that_is_a_scalar_without_an_axis():
    class Scalar(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = mlp(2, 4, 1)

        def forward(self, x):
            return self.layers(x).squeeze(-1)

    part = partition(Scalar().eval(), BOX)
    assert part.output_shape == ()
    assert part.n_outputs == 1
    assert part.decide == "zero"


# ---- report ------------------------------------------------------------------------------------


def test_the_report_counts_snaps_once_on_either_side_of_a_seam():
    lines = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, -1.0], [2.0, 1.0]], dtype=torch.float64)
    layer = nn.Linear(2, 5, dtype=torch.float64)
    layer.weight.data, layer.bias.data = lines, -(lines @ torch.tensor([0.3, 0.2], dtype=torch.float64))
    model = nn.Sequential(layer, nn.ReLU()).eval()
    whole, pieces = partition(model, BOX), partition(model, BOX, _tuning=TINY)
    assert whole.n_regions == pieces.n_regions == 10
    for part in (whole, pieces):
        snaps = part.report.snaps
        assert 0 < part.report.n_snaps <= 5
        assert (np.abs(part.vertices[snaps.vertices] - [0.3, 0.2]) < 1e-12).all()
        pairs = np.column_stack((snaps.knots, snaps.vertices))
        assert len(np.unique(pairs, axis=0)) == len(pairs)
        assert part.report.largest_displacement < 1e-12


def test_the_report_counts_edges_with_several_knots():
    model = mlp(2, 2, 1)
    with torch.no_grad():
        model[0].weight[:] = torch.tensor([[1.0, 0.0], [-2.0, 0.0]])
        model[0].bias[:] = 0
    assert partition(model, BOX).report.n_merged_edges == 1


def test_outputs_that_are_not_the_network_s_are_an_error():
    program = Program.from_module(mlp(2, 8, 2), (2,))
    part = partition(program, BOX)
    wrong = part.outputs + 1e-6
    with pytest.raises(ComplexError, match="differ from the network's by"):
        reports.output_residual(program, BOX, part.vertices, wrong)


def test_the_check_of_outputs_is_relative():
    model = mlp(2, 8, 1)
    with torch.no_grad():
        model[2].weight *= 2.0**200
        model[2].bias *= 2.0**200
    assert partition(model, BOX).report.output_residual < 1e-14
