"""Local complexity as a torchmetrics Metric: points come in batches, sums are kept, processes add them up."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from splinecam_lite.complexity.adapters import missing
from splinecam_lite.complexity.monitoring.live import LiveComplexity
from splinecam_lite.complexity.monitoring.moments import Moments

try:
    from torchmetrics import Metric
except ImportError as error:
    raise missing("torchmetrics") from error


class LocalComplexityMetric(Metric):
    """Mean local complexity of a network around the points of all batches.

    ``update`` takes points; ``compute`` returns a dict of scalar tensors, ``layer1``, ``layer2``, .., ``sum``
    and ``sum_ci99``, as an `LCMonitor` does for one set of points: those of one call with all of them.
    The network is not a part of the metric, and copies of the metric follow the same one. It is measured with
    the weights that it has at each update.

    Parameters
    ----------
    model : nn.Module
    example : tuple of int, or Tensor
        Shape of one point, or points, of which only shape and dtype count. The layers are counted at once, so
        that a process without points can be synchronised.
    radius, directions, seed
        As for `LocalComplexity`.
    estimate : dict, optional
        Further options of `LocalComplexity`, such as ``{"layers": "blocks.*"}``.
    **options
        Those of ``torchmetrics.Metric``.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> _ = model[0].weight.data.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
    >>> _ = model[0].bias.data.copy_(torch.tensor([0.0, 0.0, 1.0]))
    >>> metric = LocalComplexityMetric(model, (2,), radius=0.5, directions=2)
    >>> metric.update(torch.zeros(1, 2))
    >>> metric.update(torch.full((1, 2), 5.0))
    >>> metric.compute()["sum"]
    tensor(1.)
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = None

    moments: Tensor

    def __init__(
        self,
        model: nn.Module,
        example: tuple[int, ...] | Tensor,
        radius: float = 0.005,
        directions: int = 25,
        seed: int = 0,
        *,
        estimate: Mapping[str, Any] | None = None,
        **options: Any,
    ):
        super().__init__(**options)
        self._live = LiveComplexity(
            model, radius=radius, directions=directions, seed=seed, **(estimate or {})
        )
        if isinstance(example, Tensor):
            point = torch.zeros(1, *example.shape[1:], dtype=example.dtype, device="cpu")
        else:
            point = torch.zeros(1, *example, device="cpu")
        none = np.zeros((0, len(self._live.now(point).layer_names)), dtype=np.int64)
        # One int64 vector adds up exactly, on every device and in every backend.
        self.add_state("moments", torch.from_numpy(Moments.of(none).vector()), dist_reduce_fx="sum")

    def update(self, points: Tensor) -> None:
        """Measure the network around a batch of points, (points, *input_shape)."""
        if len(points):
            found = Moments.of(self._live.now(points).per_layer).vector()
            self.moments += torch.from_numpy(found).to(self.moments.device)

    def compute(self) -> dict[str, Tensor]:
        """Return the means over all points so far; NaN without points."""
        values = Moments.from_vector(self.moments.cpu().numpy()).values()
        return {name: torch.tensor(value, device=self.moments.device) for name, value in values.items()}
