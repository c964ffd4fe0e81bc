"""What is trained: a frozen description of each task, and the network it starts from."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss, one_hot

from splinecam_lite.studies.digits import N_PIXELS

N_CLASSES = 10


@dataclass(frozen=True)
class DigitsTask:
    """The MNIST MLP of arXiv 2402.15555, on real digits.

    Attributes
    ----------
    n_train : int
        Images to train on.
    widths : tuple of int
        Neurons of each hidden layer.
    init_scale : float
        All weights and biases of torch's initialisation are multiplied by this; the paper's experiments on
        delayed generalisation use 8.
    loss : "mse" or "cross-entropy"
        Mean squared error against one-hot labels, or cross-entropy.
    learning_rate, weight_decay : float
        Of AdamW.
    batch : int
        Images a step.
    steps : int
        Optimiser steps.
    seed : int
        Of the split, the initial weights and the order of the batches.

    Examples
    --------
    >>> DigitsTask(widths=(3,)).network()
    Sequential(
      (0): Linear(in_features=784, out_features=3, bias=True)
      (1): ReLU()
      (2): Linear(in_features=3, out_features=10, bias=True)
    )
    """

    n_train: int = 1000
    widths: tuple[int, ...] = (200, 200, 200)
    init_scale: float = 1.0
    loss: Literal["mse", "cross-entropy"] = "mse"
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    batch: int = 200
    steps: int = 10_000
    seed: int = 0

    def network(self) -> nn.Sequential:
        """Return the untrained network; torch's own random state is left as it is."""
        sizes = (N_PIXELS, *self.widths, N_CLASSES)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            layers: list[nn.Module] = []
            for before, after in pairwise(sizes):
                layers += [nn.Linear(before, after), nn.ReLU()]
        network = nn.Sequential(*layers[:-1])
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(self.init_scale)
        return network

    def loss_of(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of outputs (n, 10) against labels (n,)."""
        if self.loss == "cross-entropy":
            return cross_entropy(outputs, labels)
        return mse_loss(outputs, one_hot(labels, N_CLASSES).to(outputs.dtype))
