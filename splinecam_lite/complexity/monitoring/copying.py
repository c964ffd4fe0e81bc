"""Copies of a module in training: in eval mode, and without its forward hooks.

What a hook keeps in a closure is not copied with the module, so that one that records, or averages over the
batches of the training, would be called with inputs that are none of the training's.
"""

import contextlib
import copy
import random
import sys
import warnings
from collections import OrderedDict
from collections.abc import Iterator

import numpy as np
from torch import Tensor, nn

from splinecam_lite.errors import ModelError
from splinecam_lite.network.exporting import first_line

HOOKS = ("_forward_pre_hooks", "_forward_hooks")
"""Where a module keeps its forward hooks."""


def eval_copy(module: nn.Module) -> nn.Module:
    """Copy a module with its weights, in eval mode and without forward hooks.

    Hooks that define weights remain.

    Raises
    ------
    ModelError
        If it cannot be copied.

    Examples
    --------
    >>> module = nn.Sequential(nn.Linear(2, 1))
    >>> _ = module[0].register_forward_hook(lambda module, given, result: print("called"))
    >>> twin = eval_copy(module)
    >>> len(twin[0]._forward_hooks), twin.training, len(module[0]._forward_hooks), module.training
    (0, False, 1, True)
    """
    memo: dict[int, object] = {}
    for part in module.modules():
        # What a forward has left in an attribute hangs on its graph, and torch refuses to copy that.
        memo |= {id(result): result.detach().clone() for result in _results(vars(part), set())}
        for name in HOOKS:
            if hooks := vars(part).get(name):
                kept = OrderedDict((n, hook) for n, hook in hooks.items() if defines_weights(hook))
                memo[id(hooks)] = kept
    try:
        return copy.deepcopy(module, memo).eval()
    except Exception as error:
        raise ModelError(
            f"the module cannot be copied ({first_line(error)}); give the part of it that is the network"
        ) from error


def _results(value: object, seen: set[int]) -> Iterator[Tensor]:
    """Tensors with a history in a value, and in the lists, tuples and dicts that it is made of."""
    if isinstance(value, Tensor):
        if not value.is_leaf:
            yield value
    elif isinstance(value, dict | list | tuple) and value and id(value) not in seen:
        seen.add(id(value))
        for part in value.values() if isinstance(value, dict) else value:
            yield from _results(part, seen)


def defines_weights(hook: object) -> bool:
    """Tell whether a forward hook is one of torch's own that make a weight: of weight_norm, pruning, ..

    Examples
    --------
    >>> defines_weights(print)
    False
    """
    return any(kind.__module__.startswith("torch.nn.utils.") for kind in type(hook).__mro__)


def hooks_left_out(module: nn.Module) -> tuple[str, ...]:
    """Name the forward hooks that a copy is without, and where they are."""
    return tuple(
        f"{_name(hook)} of {repr(path) if path else 'the module itself'}"
        for path, part in module.named_modules()
        for name in HOOKS
        for hook in (vars(part).get(name) or {}).values()
        if not defines_weights(hook)
    )


def _name(hook: object) -> str:
    return getattr(hook, "__qualname__", type(hook).__qualname__)


class HookWarnings:
    """Says once of each hook that it is left out."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def warn(self, module: nn.Module) -> None:
        """Warn of the hooks of a module that have not been named yet."""
        new = [name for name in hooks_left_out(module) if name not in self._said]
        if new:
            self._said.update(new)
            warnings.warn(
                f"forward hooks are not run, so the network is measured without them: {', '.join(new)}; if "
                "one changes what the network computes, write that into its forward",
                stacklevel=_outside(),
            )


def _outside() -> int:
    """Level of the first frame that is not of this package, as whoever calls this has to give it."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("splinecam_lite."):
        level, frame = level + 1, frame.f_back
    return level


@contextlib.contextmanager
def draws_undone() -> Iterator[None]:
    """Put Python's and numpy's random states back, from which a forward may draw in any mode.

    torch's is looked after where it is used. Both are of the whole process: what other threads draw meanwhile
    is drawn again.
    """
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
