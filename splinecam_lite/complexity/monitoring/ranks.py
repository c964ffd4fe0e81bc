"""Processes of one training run: which share of the points is whose, and how their sums come together."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from splinecam_lite.errors import SplineCamError


@dataclass(frozen=True)
class Ranks:
    """This process among those of the default process group; 0 of 1 where there is none.

    All methods are collective: every process calls them, in the same order.
    """

    rank: int
    world: int

    @classmethod
    def now(cls, distributed: bool) -> "Ranks":
        """Look whether a process group is running, unless it is not to be used."""
        if distributed and dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size())
        return cls(0, 1)

    def share(self, points: Tensor) -> Tensor:
        """Return the points of this process: every world-th; there may be none."""
        return points[self.rank :: self.world]

    def from_first(self, value: Any) -> Any:
        """Return the value that process 0 has, a picklable object."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=_device())
        return box[0]

    @torch.no_grad()
    def overwrite_from_first(self, buffers: list[Tensor]) -> None:
        """Overwrite the buffers of a network with those of process 0.

        Each process has statistics of its own batches in its normalisation layers. DistributedDataParallel
        and checkpoints hold those of process 0 for the network's.
        """
        if self.world == 1 or not buffers:
            return
        # As bytes: not every backend knows every dtype, and one message is faster than many.
        parts = [buffer.contiguous().reshape(-1).view(torch.uint8).to(_device()) for buffer in buffers]
        message = torch.cat(parts)
        dist.broadcast(message, src=0)
        for buffer, part in zip(buffers, message.split([len(part) for part in parts]), strict=True):
            # The dtype's alignment holds only in a tensor of its own.
            buffer.copy_(part.clone().view(buffer.dtype).reshape(buffer.shape))

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Fail everywhere if the block fails in one process, which raises its own error.

        Otherwise the others would wait for it until they time out.

        Raises
        ------
        SplineCamError
            In the processes that have not failed.
        """
        error: Exception | None = None
        try:
            yield
        except Exception as own:
            error = own
        failed = np.zeros(self.world, dtype=np.int64)
        failed[self.rank] = error is not None
        failed = self.sum(failed)
        if error is not None:
            raise error
        if failed.any():
            raise SplineCamError(
                f"process {int(failed.argmax())} could not measure its share of the points; its own error "
                "says why"
            )

    def sum(self, vector: NDArray[np.int64]) -> NDArray[np.int64]:
        """Add up vectors of all processes, exactly."""
        if self.world == 1:
            return vector
        # int64 holds sums of squares that float64 would round.
        total = torch.from_numpy(vector.copy()).to(_device())
        dist.all_reduce(total)
        return total.cpu().numpy()


def _device() -> torch.device:
    """Where tensors have to be for the default process group: NCCL takes none of the CPU."""
    on_cpu = "cpu" in dist.get_backend_config()
    return torch.device("cpu" if on_cpu else f"cuda:{torch.cuda.current_device()}")
