"""What is refused, and that the message names the culprit and the remedy."""

import re
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from splinecam_lite.errors import ModelError, NotPiecewiseLinear, TraceError
from splinecam_lite.network import Program, trace
from tests.network.architectures import Apply


class Recurrent(nn.Module):
    """The last output of a recurrent layer."""

    def __init__(self, rnn):
        super().__init__()
        self.rnn = rnn

    def forward(self, x):
        return self.rnn(x)[0][:, -1]


STRUCTURE = {
    # name: (function of a (batch, 4) tensor, part of the message)
    "if on data": (lambda x: x if x.sum() > 0 else -x, "branches on its data at .*test_refusals.py"),
    "number out of data": (lambda x: x * float(x[0, 0]), "mixes the samples|reads a number|branches"),
    "fixed batch": (lambda x: x.view(2, 4).reshape(2, 2, 2), "fixes its batch size|mixes the samples"),
    "flatten all": (lambda x: x.flatten(0), "mixes the samples"),
    "mean of the batch": (lambda x: x - x.mean(0), "'0.mean'.*aten.mean.dim.*mixes the samples"),
    "sum of all": (lambda x: x / x.sum(), "mixes the samples"),
    "softmax over samples": (lambda x: x.softmax(0), "aten.softmax.int.*mixes the samples"),
    "cumsum over samples": (lambda x: x.cumsum(0), "mixes the samples"),
    "flip samples": (lambda x: x.flip(0), "mixes the samples"),
    "maximum over samples": (lambda x: x + x.max(0)[0], "mixes the samples"),
    "largest of all": (lambda x: x - x.amax(), "aten.amax.*mixes the samples"),
    "pooling over samples": (
        lambda x: F.max_pool1d(x.T[None], 1, 1).max(2, keepdim=True)[0][0].T + x,
        "mixes the samples",
    ),
    "windows over samples": (lambda x: F.max_pool1d(x.T, 3, 1, 1).T, "mixes the samples"),
    "roll samples": (lambda x: x.roll(1, 0), "mixes the samples"),
    "gram matrix": (lambda x: x @ x.T, "mixes the samples"),
    "differences of pairs": (lambda x: (x[:, None] - x[None]).sum(1), "mixes the samples"),
    "first sample": (lambda x: x + x[:1], "mixes the samples"),
    "transposed": (lambda x: x.T, "first axis is not the batch"),
    "attention between samples": (
        lambda x: F.scaled_dot_product_attention(x[None], x[None], x[None])[0],
        "mixes the samples",
    ),
    "regrouped": (lambda x: x.T.reshape(-1, 4), "mixes the samples"),
    "counts samples": (lambda x: x + torch.arange(x.shape[0])[:, None], "each sample of a batch another"),
    "divides by batch": (lambda x: x / x.shape[0], "mixes the samples|batch size"),
    "batch statistics": (lambda x: F.batch_norm(x, None, None, training=True), "statistics of the batch"),
    "dropout always": (lambda x: F.dropout(x, 0.5, training=True), "draws random numbers"),
    "noise": (lambda x: x + torch.randn_like(x), "draws random numbers"),
    "wrong shape": (lambda x: x @ torch.ones(3, 3), r"does not run on a float64 input of shape \(2, 4\)"),
    "fixed dtype": (lambda x: F.linear(x.float(), torch.ones(4, 4)), "do not fix a dtype in forward"),
}


@pytest.mark.parametrize("name", STRUCTURE)
def test_structure(name):
    fn, message = STRUCTURE[name]
    with pytest.raises(ModelError, match=message):
        Program.from_module(nn.Sequential(Apply(fn)).eval(), (4,))


def test_loops_over_graphs_are_refused():
    class Cond(nn.Module):
        def forward(self, x):
            return torch.cond(x.shape[0] > 5, lambda y: y + 1, lambda y: y - 1, (x,))

    with pytest.raises(TraceError):
        Program.from_module(Cond().eval(), (4,))


def test_train_mode_names_the_module():
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.BatchNorm1d(2))).eval()
    model[1][0].train()
    with pytest.raises(TraceError, match=re.escape("module '1.0' is in train mode; call its .eval() first")):
        trace(model, (2,))


def test_dropout_in_train_mode_is_named():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)).eval()
    model[1].train()
    with pytest.raises(TraceError, match=re.escape("module '1' is in train mode; call its .eval() first")):
        trace(model, (2,))
    model.eval()
    assert [op.kind for op in Program.from_module(model, (2,)).ops] == ["affine"]


def test_an_embedding_of_the_input():
    with pytest.raises(
        ModelError, match=r"does not run.*an Embedding looks whole numbers up.*take its vectors"
    ):
        trace(nn.Embedding(5, 3).eval(), (4,))


def test_batch_norm_without_running_statistics():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, track_running_stats=False)).eval()
    with pytest.raises(TraceError, match=r"layer '1' .* statistics of the batch.*track_running_stats=True"):
        Program.from_module(model, (2,))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite(value):
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)).eval()
    with torch.no_grad():
        model[2].weight[0, 1] = value
    with pytest.raises(
        ModelError, match=r"'2.weight' is NaN or infinite in 1 of 3 entries, the first .* at \(0, 1\)"
    ):
        Program.from_module(model, (2,))


def test_running_statistics_that_are_no_numbers():
    model = nn.Sequential(nn.BatchNorm1d(2)).eval()
    model[0].running_mean[0] = float("nan")
    with pytest.raises(ModelError, match=r"'0.running_mean' is NaN"):
        Program.from_module(model, (2,))
    model[0].running_mean[0], model[0].running_var[1] = 0.0, -1.0
    with pytest.raises(ModelError, match=r"layer '0' .* running variance of -1.0; it must be positive"):
        Program.from_module(model, (2,))


def test_state_dicts_that_do_not_fit():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU()).eval()
    traced = trace(model, (2,))
    with pytest.raises(ModelError, match=r"no '0.weight'; there is 'module.0.weight'"):
        traced.program({f"module.{name}": tensor for name, tensor in model.state_dict().items()})
    with pytest.raises(
        ModelError, match=r"'0.weight' has shape \(4, 2\) in the state dict, but \(3, 2\) in the module"
    ):
        traced.program({"0.weight": torch.ones(4, 2), "0.bias": torch.ones(3)})


def test_what_is_no_module():
    with pytest.raises(ModelError, match=r"type function; pass an nn\.Module"):
        trace(F.relu, (2,))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted = torch.jit.trace(nn.Linear(2, 1).eval(), torch.zeros(1, 2))
    with pytest.raises(TraceError, match="ScriptModule"):
        trace(scripted, (2,))


@pytest.mark.parametrize("shape", [784, (0,), (2.5,), torch.tensor(3.0)])
def test_input_shapes_that_are_none(shape):
    with pytest.raises(ModelError, match="without the batch"):
        trace(nn.Linear(2, 1).eval(), shape)


def test_inputs_of_the_wrong_shape():
    program = Program.from_module(nn.Linear(3, 1).eval(), (3,))
    with pytest.raises(ModelError, match=r"inputs of shape \(batch, 3\), but was given \(5, 4\)"):
        program.run(torch.zeros(5, 4))
    with pytest.raises(ModelError, match=r"but was given \(3,\)"):
        program.run(torch.zeros(3))


EXACT = {
    "GELU": (nn.GELU(), "layer '1' .*aten.gelu.default.* is GELU, which is not piecewise linear.*use ReLU"),
    "smooth": (
        nn.Hardswish(),
        r"layer '1' .* is Hardswish,.* approximation of it: approximate=\{'hardswish': 1e-3\}",
    ),
    "GroupNorm": (
        nn.GroupNorm(2, 4),
        "layer '1' .* is GroupNorm, which divides by a statistic.*use BatchNorm",
    ),
    "InstanceNorm": (
        nn.Sequential(nn.Unflatten(1, (2, 2)), nn.InstanceNorm1d(2), nn.Flatten()),
        "layer '1.1' .* is InstanceNorm without running statistics.*track_running_stats=True",
    ),
    "RMSNorm": (nn.RMSNorm(4), "layer '1' .* is RMSNorm, which divides"),
    "attention": (
        Apply(lambda x: F.scaled_dot_product_attention(*[x[:, None]] * 3)[:, 0]),
        "is attention, which multiplies values.*leave it out",
    ),
    "LSTM": (
        nn.Sequential(nn.Unflatten(1, (2, 2)), Recurrent(nn.LSTM(2, 3, batch_first=True))),
        r"layer '1.1.rnn\S*' .*aten.lstm.input.* is a recurrent layer.*write its steps out with Linear",
    ),
    "GRU": (
        nn.Sequential(nn.Unflatten(1, (2, 2)), Recurrent(nn.GRU(2, 3, batch_first=True))),
        "aten.gru.input.* is a recurrent layer",
    ),
    "Embedding": (
        nn.Sequential(Apply(lambda x: x.clamp(0, 4).long()), nn.Embedding(5, 3)),
        "is a cast to whole numbers, as of an Embedding, which jumps.*take what is looked up as the input",
    ),
    "GLU": (nn.GLU(), "is GLU, a product of two values.*multiply by constants only"),
    "comparison": (
        Apply(lambda x: torch.where(x > 0, x, 0.5)),
        "is a comparison, and what it decides may jump",
    ),
    "norm": (Apply(F.normalize), "is a norm, which divides by a statistic"),
    "threshold": (
        nn.Threshold(0.5, 0.25),
        "is a Threshold whose value is not its threshold.*make both equal",
    ),
    "LayerNorm": (nn.LayerNorm(4), "is LayerNorm, .* use BatchNorm in eval mode"),
    "softmax": (nn.Softmax(-1), "is softmax, .* take the logits before it"),
    "product": (Apply(lambda x: x[:, :2] * x[:, 2:]), r"architectures.py:\d+\) is a product of two values"),
    "where the maximum is": (
        Apply(lambda x: x * x.max(1, keepdim=True)[1]),
        r"node 'getitem_1', aten.max.dim.* is the indices of a maximum or minimum, which jump",
    ),
    "argmax": (Apply(lambda x: x.argmax(1)), "is the indices of a maximum"),
    "pooling with indices": (
        Apply(lambda x: F.max_pool1d(x, 2, return_indices=True)[1]),
        "aten.max_pool1d_with_indices.* is the indices of a maximum",
    ),
    "nothing but padding": (
        nn.MaxPool1d(2, padding=1, dilation=5),
        "layer '1' .* is max pooling, which has a window of nothing but padding",
    ),
    "sorting": (Apply(lambda x: x.sort(1)[0]), "aten.sort.* is an order statistic.*use max pooling"),
    "tanh": (nn.Tanh(), "is tanh"),
    "jump": (
        nn.Hardshrink(),
        "layer '1' .*aten.hardshrink.default.* is Hardshrink, which jumps where it sets in.*use Softshrink",
    ),
    "infinite mask": (
        Apply(lambda x: x + torch.tensor([0.0, 0.0, 0.0, -torch.inf])),
        "mask with finite numbers",
    ),
    "unknown": (Apply(lambda x: torch.special.i0(x)), "the operation 'special_i0', which is not piecewise"),
}


@pytest.mark.parametrize("name", EXACT)
def test_exact_partition(name):
    layer, message = EXACT[name]
    program = Program.from_module(nn.Sequential(nn.Linear(3, 4), layer).eval(), (3,))
    with pytest.raises(NotPiecewiseLinear, match=message) as caught:
        program.require_piecewise_linear()
    assert "or stop before it with output='" in str(caught.value)


def test_the_place_to_stop_is_a_valid_output():
    traced = trace(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Softmax(-1)).eval(), (3,))
    with pytest.raises(NotPiecewiseLinear) as caught:
        traced.program().require_piecewise_linear()
    stop = re.search(r"output='(\w+)'", str(caught.value)).group(1)
    traced.program(output=stop).require_piecewise_linear()
