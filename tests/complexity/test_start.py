"""A transformer is measured from its embeddings on: the program's values there are the model's own."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from splinecam_lite.complexity import LocalComplexity
from splinecam_lite.complexity.current import CurrentProgram
from splinecam_lite.errors import ModelError, TraceError
from splinecam_lite.network.program import Program
from splinecam_lite.network.trace import trace
from tests.complexity.hooked import hooked_counts, preactivations

VOCABULARY, TOKENS, CHANNELS = 11, 4, 6


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.before_attention, self.before_mlp = nn.LayerNorm(CHANNELS), nn.LayerNorm(CHANNELS)
        self.qkv, self.proj = nn.Linear(CHANNELS, 3 * CHANNELS), nn.Linear(CHANNELS, CHANNELS)
        self.mlp = nn.Sequential(nn.Linear(CHANNELS, 16), nn.GELU(), nn.Linear(16, CHANNELS))

    def forward(self, x):
        heads = (x.shape[0], TOKENS, 2, CHANNELS // 2)
        q, k, v = (
            a.view(heads).transpose(1, 2) for a in self.qkv(self.before_attention(x)).split(CHANNELS, dim=2)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)
        x = x + self.proj(mixed.reshape(x.shape[0], TOKENS, CHANNELS))
        return x + self.mlp(self.before_mlp(x))


class Transformer(nn.Module):
    """As nanoGPT has it: tied weights, positions counted in ``forward``, a second result that is None."""

    def __init__(self):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(VOCABULARY, CHANNELS), nn.Embedding(TOKENS, CHANNELS)
        self.drop = nn.Dropout(0.1)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.head = nn.Linear(CHANNELS, VOCABULARY, bias=False)
        self.wte.weight = self.head.weight

    def forward(self, ids, targets=None):
        _, tokens = ids.shape
        x = self.wte(ids) + self.wpe(torch.arange(tokens, device=ids.device))
        for block in self.blocks:
            x = block(self.drop(x))
        return self.head(x), None


class FromEmbeddings(nn.Module):
    """The same model, written to take embeddings: what ``start`` has to come to."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        self.model.wte.forward = lambda ids: x
        return self.model(torch.zeros(x.shape[:-1], dtype=torch.int64))[0]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(3)
    return Transformer().eval()


@pytest.fixture(scope="module")
def estimate(model):
    return LocalComplexity(model, 0.3, 5, start="wte", logits=True)


@pytest.fixture(scope="module")
def ids():
    return torch.randint(0, VOCABULARY, (7, TOKENS), generator=torch.Generator().manual_seed(0))


def test_preactivations_at_the_embeddings_are_the_models_own(model, ids):
    program, points = CurrentProgram(model, start="wte").program_at(ids)
    assert program.input_shape == (TOKENS, CHANNELS)
    assert program.layer_names == ("blocks.0.mlp.1", "blocks.1.mlp.1")
    torch.testing.assert_close(points, model.wte(ids).double(), rtol=0, atol=0)
    inputs = [op.inputs[0] for op in program.preactivation_ops]
    values = program.run(points, keep=[*inputs, program.output])
    double = Transformer().double().eval()
    double.load_state_dict(model.state_dict())
    for i, row in enumerate(ids):
        seen = preactivations(_Logits(double), row, (nn.GELU,), logits=True)
        for value, z in zip([*inputs, program.output], seen, strict=True):
            np.testing.assert_allclose(values[value][i].numpy().ravel(), z, rtol=1e-11, atol=1e-13)


class _Logits(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, ids):
        return self.model(ids)[0]


def test_counts_around_embeddings_are_those_of_the_model_itself(model, estimate, ids):
    found = estimate(ids)
    embedded = model.wte(ids).detach()
    frame = estimate.frame((TOKENS, CHANNELS))
    expected = hooked_counts(model, embedded, frame, 0.3, (nn.GELU,), logits=True, after=FromEmbeddings)
    assert found.layer_names == ("blocks.0.mlp.1", "blocks.1.mlp.1", "head")
    assert found.n_neurons.tolist() == [TOKENS * 16, TOKENS * 16, TOKENS * VOCABULARY]
    assert (expected.sum(axis=0) > 7).all()
    np.testing.assert_array_equal(found.per_layer, expected)


def test_ids_and_their_embeddings_are_the_same_points(model, estimate, ids):
    from_ids = estimate(ids).per_layer
    np.testing.assert_array_equal(estimate(model.wte(ids)).per_layer, from_ids)
    np.testing.assert_array_equal(estimate(ids.tolist()).per_layer, from_ids)
    np.testing.assert_array_equal(estimate(ids.int()).per_layer, from_ids)
    between = (model.wte(ids) + 0.01).detach()  # no token's vector
    assert estimate(between).per_layer.shape == from_ids.shape


def test_weights_in_training_are_followed(model, ids):
    training = Transformer()
    training.load_state_dict(model.state_dict())
    estimate = LocalComplexity(training.train(), 0.3, 5, start="wte")
    before = estimate(ids).per_layer
    with torch.no_grad():
        training.wte.weight.mul_(3.0)
    after = estimate(ids).per_layer
    assert not np.array_equal(before, after)
    np.testing.assert_array_equal(LocalComplexity(training, 0.3, 5, start="wte")(ids).per_layer, after)
    assert training.training


def test_a_later_start_is_in_the_space_of_that_place(model, estimate, ids):
    from_first_block = LocalComplexity(model, 0.3, 5, start="blocks.0", logits=True)(ids)
    assert from_first_block.layer_names == ("blocks.1.mlp.1", "head")
    program, points = CurrentProgram(model, start="blocks.0").program_at(ids)
    with torch.no_grad():
        x = model.wte(ids) + model.wpe.weight
        torch.testing.assert_close(points, model.blocks[0](x).double(), rtol=1e-5, atol=1e-5)
    assert program.output_shape == (TOKENS, VOCABULARY)


def test_images_are_taken_to_the_end_of_their_stem():
    torch.manual_seed(0)
    stem = nn.Sequential(nn.Conv2d(1, 2, 2, stride=2), nn.ReLU())
    model = nn.Sequential(stem, nn.Flatten(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2)).double().eval()
    images = torch.randn(9, 1, 4, 4, dtype=torch.float64)
    found = LocalComplexity(model, 0.4, 8, start="0")(images)
    tail = nn.Sequential(*model[1:])
    again = LocalComplexity(tail, 0.4, 8)(stem(images))
    assert found.per_layer.sum() > 0
    np.testing.assert_array_equal(found.per_layer, again.per_layer)


class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte, self.fc = nn.Embedding(5, 3), nn.Linear(3, 3)

    def forward(self, ids):
        return torch.relu(self.fc(self.wte(ids) * (ids != 0).unsqueeze(-1)))


class Reshaped(Masked):
    """Reads of its ids only the shape, after a reshaping, and makes zeros like them."""

    def forward(self, ids):
        ids = ids.view(-1, ids.shape[-1])
        mask = torch.zeros_like(ids).unsqueeze(-1) + torch.ones(ids.shape).unsqueeze(-1)
        return torch.relu(self.fc(self.wte(ids) * mask))


def test_what_is_read_by_its_shape_may_be_anywhere():
    model = Reshaped().eval()
    found = LocalComplexity(model, 0.5, 4, start="wte")(torch.tensor([[1, 2], [3, 4]]))
    assert found.layer_names == ("relu",)
    assert found.n_neurons.tolist() == [6]


@pytest.mark.parametrize(
    ("network", "start", "error", "message"),
    [
        (Masked(), "wte", TraceError, r"node 'ne'.* takes the input of the module past start='wte'"),
        (Reshaped(), "fcc", ModelError, r"has no node or module 'fcc'; there is .*'fc'"),
        (Transformer(), "wpe", ModelError, r"start='wpe' gives a value of shape \(4, 6\).*not the batch"),
        (
            Transformer(),
            "blocks.0.mlp",
            TraceError,
            r"takes the input of the module past start='blocks.0.mlp'",
        ),
        (Transformer(), None, ModelError, r"float64 input.*start='...'"),
    ],
)
def test_where_no_network_can_begin_is_said(network, start, error, message):
    ids = torch.zeros(2, TOKENS, dtype=torch.int64)
    with pytest.raises(error, match=message):
        LocalComplexity(network.eval(), 0.3, 2, start=start)(ids)


def test_whole_numbers_need_a_start(model, ids):
    with pytest.raises(ModelError, match=r"takes whole numbers.*\(Embeddings: 'wte', 'wpe'\)"):
        trace(model, ids).program()
    program = Program.from_module(model, ids, start="wte")
    assert program.input_shape == (TOKENS, CHANNELS)
    with pytest.raises(ModelError, match=r"normalise is of the module's input, but start='wte'"):
        Program.from_module(model, ids, start="wte", normalise=(0.0, 1.0))
    with pytest.raises(TypeError, match=r"start='wte', but the model is a Program"):
        LocalComplexity(program, start="wte")


def test_ids_beyond_the_vocabulary_and_wrong_vectors_are_named(estimate):
    with pytest.raises(ModelError, match=r"shape \(1, 4\) cannot be taken to start='wte': IndexError"):
        estimate(torch.full((1, TOKENS), VOCABULARY))
    with pytest.raises(ModelError, match=r"\(2, 4, 5\); this network takes \(points, 4, 6\)"):
        estimate(torch.zeros(2, TOKENS, CHANNELS - 1))
