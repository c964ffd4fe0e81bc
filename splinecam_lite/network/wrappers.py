"""Modules around a module that compute the same: compiled, or spread over devices."""

import inspect
from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from splinecam_lite.errors import TraceError

COMPILED = "_orig_mod."
"""What ``torch.compile`` puts before the names of weights."""

PARALLEL = "module."
"""What the parallel wrappers put before them."""


def _inner(module: nn.Module) -> nn.Module | None:
    """The module that a wrapper holds; None if it is no wrapper."""
    from torch._dynamo.eval_frame import OptimizedModule  # not at the top: that takes a second

    if isinstance(module, OptimizedModule):
        return module._orig_mod
    if isinstance(module, DataParallel | DistributedDataParallel):
        return module.module
    return None


def unwrapped(module: nn.Module) -> tuple[nn.Module, str]:
    """Return what is inside all wrappers, and what they put before the names of its weights.

    Examples
    --------
    >>> model = nn.Linear(2, 1)
    >>> unwrapped(nn.DataParallel(model))
    (Linear(in_features=2, out_features=1, bias=True), 'module.')
    """
    prefix = ""
    while (inner := _inner(module)) is not None:
        prefix += PARALLEL if isinstance(module, DataParallel | DistributedDataParallel) else ""
        module = inner
    return module, prefix


def require_named_input(module: nn.Module) -> None:
    """Refuse a forward that takes ``*args``: torch.export needs an input with a name.

    Raises
    ------
    TraceError
    """
    for parameter in inspect.signature(module.forward).parameters.values():
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            raise TraceError(
                f"the forward of {type(module).__name__} takes *{parameter.name}; give its input a name, "
                "as in forward(self, x)"
            )
        return


def unwrapped_inside(module: nn.Module) -> nn.Module:
    """Take the parts of a module out of their wrappers, in place, and return it."""
    for parent in list(module.modules()):
        for name, part in parent.named_children():
            if _inner(part) is not None:
                setattr(parent, name, unwrapped(part)[0])
    return module


def bare_names(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return a state dict by the names that the weights have without wrappers.

    A compiled module's checkpoint so fits the module itself, and the other way round.

    Examples
    --------
    >>> bare_names({"module._orig_mod.fc.weight": 1}, "module.")
    {'fc.weight': 1}
    """
    return {name.replace(COMPILED, "").removeprefix(prefix): tensor for name, tensor in state.items()}
