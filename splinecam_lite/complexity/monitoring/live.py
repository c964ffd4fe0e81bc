"""The estimate of a module in training, taken from a copy, so that nothing of it reaches the training."""

import sys
from typing import Any

import torch
from torch import Tensor, nn

from splinecam_lite.complexity.estimator import LocalComplexity
from splinecam_lite.complexity.monitoring.copying import HookWarnings, draws_undone, eval_copy
from splinecam_lite.complexity.monitoring.structure import Structure, structure
from splinecam_lite.complexity.result import ComplexityResult
from splinecam_lite.errors import ModelError
from splinecam_lite.network.wrappers import unwrapped


class LiveComplexity:
    """`LocalComplexity` of a module that is being trained.

    It measures a copy in eval mode, without forward hooks. The module's flags, hooks, statistics and
    gradients, and the random states of torch, numpy and Python are left as they are; autocast and no_grad
    around a call change nothing.

    Parameters
    ----------
    model : nn.Module
    options
        Of `LocalComplexity`.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Dropout(), nn.Linear(3, 1))
    >>> live = LiveComplexity(model, radius=0.5, directions=2)
    >>> live.now([[0.0, 0.0]]).per_layer.shape, model.training
    ((1, 1), True)
    """

    def __init__(self, model: nn.Module, **options: Any):
        if not isinstance(model, nn.Module):
            raise TypeError(f"the model is a {type(model).__name__}; give the nn.Module that is trained")
        self.model, self._options = model, options
        self._copy: nn.Module | None = None
        self._copied: Structure | None = None
        self._warnings = HookWarnings()
        self._estimate = LocalComplexity(model, **options)  # says at once what is wrong with the options

    def refresh(self) -> None:
        """Bring the copy up to date with the weights of this moment; make a new one where that is no longer
        a copy.

        Raises
        ------
        ModelError
            If the module cannot be copied, or its weights are spread over processes.
        """
        # What is made in inference_mode could not be written to later.
        with torch.inference_mode(False):
            module = whole_module(self.model)
            self._warnings.warn(module)
            now = structure(module)
            if self._copy is None or now != self._copied:
                with draws_undone():
                    self._copy, self._copied = eval_copy(module), now
                self._estimate = LocalComplexity(self._copy, **self._options)
            else:
                _copy_weights(module, self._copy)

    def buffers(self) -> list[Tensor]:
        """Return the copy's buffers that can be overwritten: normalisation statistics and the like."""
        return [] if self._copy is None else [t for t in _weights(self._copy).values() if _is_buffer(t)]

    def __call__(self, points: object) -> ComplexityResult:
        """Count the crossings of the copy around points."""
        with torch.inference_mode(False):
            return self._estimate(points)

    def now(self, points: object) -> ComplexityResult:
        """Count the crossings around points with the weights of this moment."""
        self.refresh()
        return self(points)

    def __deepcopy__(self, memo: object) -> "LiveComplexity":
        """Follow the same module: what is deeply copied with its metrics is not what is trained."""
        return LiveComplexity(self.model, **self._options)


def whole_module(model: nn.Module) -> nn.Module:
    """Return what ``torch.compile``, ``DataParallel`` or ``DistributedDataParallel`` has wrapped.

    Raises
    ------
    ModelError
        If its weights are spread over processes (FSDP, DTensor): no process holds the network.

    Examples
    --------
    >>> whole_module(nn.DataParallel(nn.Linear(2, 1)))
    Linear(in_features=2, out_features=1, bias=True)
    """
    module, _ = unwrapped(model)
    # Only who has imported these can have such modules.
    fsdp, tensors = (sys.modules.get(f"torch.distributed.{name}") for name in ("fsdp", "tensor"))
    sharded = fsdp is not None and any(
        isinstance(part, fsdp.FullyShardedDataParallel) for part in module.modules()
    )
    for name, weight in module.named_parameters():
        sharded = sharded or (tensors is not None and isinstance(weight, tensors.DTensor))
        if sharded:
            raise ModelError(
                f"'{name}' is sharded over processes (FSDP), so none holds the whole network; gather the "
                "weights into a copy that is not wrapped, e.g. with "
                "torch.distributed.checkpoint.state_dict.get_model_state_dict, and measure that"
            )
    return module


def _weights(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers; without the state dict's hooks."""
    passing = {
        f"{path}.{name}" if path else name
        for path, part in module.named_modules()
        for name in part._non_persistent_buffers_set
    }
    buffers = {name: buffer for name, buffer in module.named_buffers() if name not in passing}
    return {**dict(module.named_parameters()), **buffers}


def _is_buffer(tensor: Tensor) -> bool:
    return not isinstance(tensor, nn.Parameter)


@torch.no_grad()
def _copy_weights(source: nn.Module, target: nn.Module) -> None:
    there = _weights(source)
    for name, tensor in _weights(target).items():
        tensor.copy_(there[name])
