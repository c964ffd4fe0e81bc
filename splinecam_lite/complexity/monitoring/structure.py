"""What an export of a module takes for fixed, to tell when it has to be exported again."""

import types
from argparse import Namespace
from dataclasses import dataclass, is_dataclass
from enum import Enum
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from splinecam_lite.complexity.monitoring.copying import HOOKS, defines_weights

_CONSTANTS = (
    bool, int, float, complex, str, bytes, range, slice, Enum,
    np.generic, torch.dtype, torch.device, type(None),
)  # fmt: skip
"""Compared by value."""

_PLAIN = frozenset({bool, int, float, str, type(None)})

_RECORDS = (types.SimpleNamespace, Namespace)
"""Objects that are their attributes, like dataclasses."""

_LEFT_OUT = frozenset(
    {name for name in vars(nn.Module()) if "hooks" in name}
    | {"training"}
    | {"_parameters", "_buffers", "_non_persistent_buffers_set", "_modules"}
)
"""Attributes that are looked at in another way, or do not change what a module computes in eval mode."""


class _Same:
    """An object, equal to itself alone. It is kept alive, so that no other one takes its identity."""

    __slots__ = ("it",)

    def __init__(self, it: object):
        self.it = it

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.it is other.it

    def __hash__(self) -> int:
        return id(self.it)


@dataclass(frozen=True)
class Structure:
    """What an export takes for fixed: all of a module but the values of its parameters and buffers.

    That is, for each part by its path

    * which object it is, its class, and the ``forward`` of that;
    * its attributes: numbers and words by their values (a slope that is annealed), tensors outside the state
      dict until they are written to, arrays by their bytes, and whatever lists, tuples, sets, dicts,
      dataclasses and namespaces of all these hold; functions, and objects of any other kind, by identity;
    * the form of each weight, and which are one and the same;
    * the hooks that define weights.

    What a function refers to, and what changes within an object of another kind, is not seen.
    """

    parts: dict[str, Any]


def structure(module: nn.Module) -> Structure:
    """Return what an export of a module would fix.

    Examples
    --------
    >>> module = nn.Sequential(nn.Linear(2, 3), nn.LeakyReLU(0.1))
    >>> before = structure(module)
    >>> _ = module[0].weight.data.zero_()
    >>> before == structure(module)
    True
    >>> module[1].negative_slope = 0.2
    >>> before == structure(module)
    False
    """
    weights: dict[int, int] = {}
    return Structure({path: _part(part, weights) for path, part in module.named_modules()})


def _part(part: nn.Module, weights: dict[int, int]) -> tuple[Any, ...]:
    """One module without those inside it; ``weights`` numbers the tensors that have been met."""
    attributes: list[Any] = []
    for name, value in vars(part).items():
        if name in _LEFT_OUT:
            pass
        elif value.__class__ in _PLAIN:  # nearly all, and all of them at every measurement
            attributes.append((name, value.__class__, value))
        elif not _is_result(value):
            attributes.append((name, _fixed(value, ())))
    attributes += [(name, _Same(inner)) for name, inner in part._modules.items()]
    passing = part._non_persistent_buffers_set
    for named in (part._parameters, part._buffers):
        for name, weight in named.items():
            if weight is None:
                attributes.append((name, None))
                continue
            number = weights.setdefault(id(weight), len(weights))
            attributes.append((name, number, weight.shape, weight.dtype, weight.device))
            if name in passing:
                attributes.append(_fixed(weight, ()))
    for name in HOOKS:
        if hooks := vars(part)[name]:
            attributes += [_Same(hook) for hook in hooks.values() if defines_weights(hook)]
    return _Same(part), type(part), type(part).forward, tuple(attributes)


def _fixed(value: Any, within: tuple[int, ...]) -> Any:
    """What is equal as long as a value is the same; ``within``: the containers around it, by identity."""
    kind = type(value)
    if kind is tuple and _PLAIN.issuperset(map(type, value)):
        return tuple(map(type, value)), value
    if kind in _PLAIN or isinstance(value, _CONSTANTS):
        return kind, value
    if isinstance(value, Tensor):
        # Tensors of inference mode have no version: they can hardly be written to.
        return _Same(value), None if value.is_inference() else value._version
    if isinstance(value, types.MethodType):  # an object of its own each time that it is read
        return _Same(value.__self__), _Same(value.__func__)
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return value.shape, value.dtype, value.tobytes()
    inside: Any = None
    if isinstance(value, list | tuple):
        inside = value
    elif isinstance(value, dict):
        inside = [part for pair in value.items() for part in pair]
    elif isinstance(value, _RECORDS) or (is_dataclass(value) and not isinstance(value, type)):
        inside = [part for pair in getattr(value, "__dict__", {}).items() for part in pair]
    elif isinstance(value, set | frozenset):
        return kind, frozenset(_fixed(part, within) for part in value)
    if inside is None or id(value) in within:
        return _Same(value)
    within = (*within, id(value))
    return kind, tuple(_fixed(part, within) for part in inside if not _is_result(part))


def _is_result(value: object) -> bool:
    """A result of the last forward that a module keeps, as weight_norm does, is not fixed by an export."""
    return isinstance(value, Tensor) and not value.is_leaf
