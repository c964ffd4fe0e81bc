"""Training: one loop, the same for a seed whatever is measured in between."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from splinecam_lite.studies.digits import Digits
from splinecam_lite.studies.tasks import DigitsTask
from splinecam_lite.studies.threads import one_torch_thread


def log_spaced(steps: int, count: int) -> list[int]:
    """Return about ``count`` step numbers from 0 to ``steps``, spaced evenly in the logarithm.

    Examples
    --------
    >>> log_spaced(1000, 8)
    [0, 1, 3, 10, 32, 100, 316, 1000]
    >>> log_spaced(3, 8)
    [0, 1, 2, 3]
    """
    return [0, *np.unique(np.geomspace(1, steps, count - 1).round().astype(int)).tolist()]


def train(task: DigitsTask, digits: Digits, pauses: Sequence[int]) -> Iterator[tuple[int, nn.Sequential]]:
    """Train, and hand over the network at the given numbers of steps.

    Parameters
    ----------
    task : DigitsTask
    digits : Digits
    pauses : sequence of int
        Ascending, from 0, which is the untrained network; training ends at the last.

    Yields
    ------
    step : int
        Optimiser steps done.
    network : nn.Sequential
        The one that is being trained, in eval mode: to be looked at, and copied if it is to be kept.

    Notes
    -----
    Draws from generators of its own and runs on one torch thread, so the same weights come out on every run
    on a machine. Batches of this size are no faster on two.
    """
    network = task.network().eval()  # train mode would be the same: no dropout, no batch norm
    optimiser = torch.optim.AdamW(
        network.parameters(), task.learning_rate, weight_decay=task.weight_decay, fused=True
    )
    batches = _batches(task)
    yield 0, network
    for start, stop in pairwise(pauses):
        with one_torch_thread():
            for _ in range(start, stop):
                chosen = next(batches)
                loss = task.loss_of(network(digits.train_x[chosen]), digits.train_y[chosen])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        yield stop, network


def _batches(task: DigitsTask) -> Iterator[Tensor]:
    """Numbers of the images of batch after batch; every epoch has an order of its own."""
    order = torch.Generator().manual_seed(task.seed)
    while True:
        yield from torch.randperm(task.n_train, generator=order).split(task.batch)
