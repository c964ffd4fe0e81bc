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


def unwrapped(module: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    """Return what is inside all wrappers, and what they put before the names of its weights.

    Prefixes of compiled modules are left out: `bare_names` knows them.

    Examples
    --------
    >>> unwrapped(nn.DataParallel(nn.Linear(2, 1)))
    (Linear(in_features=2, out_features=1, bias=True), ('module.',))
    """
    prefixes: tuple[str, ...] = ()
    while (inner := _inner(module)) is not None:
        if isinstance(module, DataParallel | DistributedDataParallel):
            prefixes += (PARALLEL,)
        module = inner
    return module, prefixes


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


def unwrap_inside(module: nn.Module) -> tuple[str, ...]:
    """Take the parts of a module out of their wrappers, in place.

    Returns
    -------
    tuple of str
        Prefixes that end in a wrapper's own part, e.g. ``"encoder.module."``, innermost first.
    """
    prefixes: list[str] = []
    for path, parent in list(module.named_modules(remove_duplicate=False)):
        for name, part in list(parent._modules.items()):
            if part is not None and _inner(part) is not None:
                inner, added = unwrapped(part)
                setattr(parent, name, inner)
                place = f"{path}.{name}." if path else f"{name}."
                prefixes += [place.replace(COMPILED, "") + prefix for prefix in added]
    return tuple(sorted(prefixes, key=len, reverse=True))


def bare_names(state: Mapping[str, Tensor], prefixes: tuple[str, ...]) -> dict[str, Tensor]:
    """Return a state dict by the names that the weights have without wrappers.

    A compiled module's checkpoint so fits the module itself, and the other way round.

    Examples
    --------
    >>> bare_names({"module._orig_mod.fc.module.weight": 1}, ("module.", "fc.module."))
    {'fc.weight': 1}
    """
    bare = {}
    for name, tensor in state.items():
        name = name.replace(COMPILED, "")
        for prefix in prefixes:
            if name.startswith(prefix):
                name = prefix.removesuffix(PARALLEL) + name.removeprefix(prefix)
        bare[name] = tensor
    return bare
