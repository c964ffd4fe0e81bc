"""One network after another: the composition of both, with the layers of both."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import splinecam_lite as sc
from splinecam_lite.errors import ModelError
from splinecam_lite.network import Program
from tests.network.onnx_models import node, onnx_model

RNG = np.random.default_rng(8)


def perceptron(*sizes: int) -> nn.Module:
    layers = [part for n, m in itertools.pairwise(sizes) for part in (nn.Linear(n, m), nn.ReLU())]
    return nn.Sequential(*layers).double().eval()


def program(*sizes: int) -> Program:
    return Program.from_module(perceptron(*sizes), sizes[:1])


@settings(max_examples=10)
@given(st.lists(st.integers(1, 4), min_size=4, max_size=4), st.integers(0, 99))
def test_composition(sizes: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    modules = [perceptron(n, m, m) for n, m in itertools.pairwise(sizes)]
    parts = [Program.from_module(m, (n,)) for m, n in zip(modules, sizes, strict=False)]
    whole = parts[0].then(parts[1]).then(parts[2])
    x = torch.randn(5, sizes[0], dtype=torch.float64)
    with torch.no_grad():
        expected = nn.Sequential(*modules)(x)
    torch.testing.assert_close(whole.run(x), expected, rtol=0, atol=1e-12)
    assert whole.layer_names == ("1", "3", "head.1", "head.3", "head2.1", "head2.3")
    assert whole.n_neurons == sum((p.n_neurons for p in parts), ())
    other = parts[0].then(parts[1].then(parts[2]))
    assert other.digest() == whole.digest()


def test_a_partition_is_that_of_the_module_in_one_piece() -> None:
    body, head = perceptron(2, 6, 5), perceptron(5, 4)
    plane = sc.Slice.box(-2, 2)
    expected = sc.partition(nn.Sequential(body, head).eval(), plane)
    found = sc.partition(Program.from_module(body, (2,)).then(Program.from_module(head, (5,))), plane)
    assert found.n_regions == expected.n_regions > 5
    np.testing.assert_allclose(np.sort(found.areas()), np.sort(expected.areas()), atol=1e-12)


def test_a_module_with_a_head_from_an_onnx_file() -> None:
    body = perceptron(2, 6, 5)
    w, b = RNG.normal(size=(5, 3)), RNG.normal(size=3)
    nodes = [node("MatMul", "x w", "m"), node("Add", "m b", "a"), node("Relu", "a", "h")]
    head = Program.from_onnx(onnx_model(nodes, (5,), {"w": w, "b": b}))
    whole = Program.from_module(body, (2,)).then(head)
    assert whole.layer_names == ("1", "3", "the h")  # no name is taken, so none is changed
    x = RNG.normal(size=(4, 2))
    with torch.no_grad():
        expected = np.maximum(body(torch.from_numpy(x)).numpy() @ w + b, 0)
    np.testing.assert_allclose(whole.run(x).numpy(), expected, atol=1e-12)
    assert sc.partition(whole, sc.Slice.box(-1, 1), exact=True).certify().status == "proved"


def test_parts_that_end_early_and_heads_of_nothing() -> None:
    """The output need not be the last value; a head without operations changes nothing."""
    body = Program.from_module(perceptron(2, 3, 4), (2,), output="1")
    identity = Program.from_module(nn.Identity().eval(), (3,))
    assert identity.ops == ()
    x = RNG.normal(size=(4, 2))
    for whole in (body.then(identity), Program.from_module(nn.Identity().eval(), (2,)).then(body)):
        torch.testing.assert_close(whole.run(x), body.run(x), rtol=0, atol=0)
        assert whole.layer_names == body.layer_names


def test_the_head_takes_the_type_of_the_first() -> None:
    whole = program(2, 3).to(torch.float32).then(program(3, 2))
    assert whole.run(torch.zeros(1, 2)).dtype == whole.dtype == torch.float32


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(
        ModelError, match=r"returns shape \(3,\), but the one after it takes \(4,\); .*Flatten"
    ):
        program(2, 3).then(program(4, 2))
    with pytest.raises(ModelError, match=r"the head is a Sequential; .*Program\.from_module"):
        program(2, 3).then(perceptron(3, 2))
