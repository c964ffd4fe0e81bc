"""What an export of a module takes for fixed, to tell when it has to be exported again."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

_CONSTANT = bool | int | float | complex | str | bytes | torch.dtype | None


@dataclass(frozen=True, eq=False)
class Structure:
    """What an export takes for fixed: all of a module but the values of its parameters and buffers.

    That is its parts, which are the same if they are the same objects; their plain numbers and words (a slope
    that is annealed); the form of each weight; tensors outside its state dict, until they are written to.
    """

    parts: dict[str, nn.Module]
    constants: dict[str, Any]
    tensors: dict[str, tuple[Tensor, int | None]]

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        """Say whether an export of one is an export of the other."""
        if not isinstance(other, Structure):
            return NotImplemented
        return (
            self.constants == other.constants
            and self.parts.keys() == other.parts.keys()
            and self.tensors.keys() == other.tensors.keys()
            and all(part is other.parts[name] for name, part in self.parts.items())
            and all(
                tensor is other.tensors[name][0] and version == other.tensors[name][1]
                for name, (tensor, version) in self.tensors.items()
            )
        )


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
    parts = dict(module.named_modules())
    constants: dict[str, Any] = {}
    tensors: dict[str, Tensor] = {}
    for path, part in parts.items():
        for name, value in vars(part).items():
            if isinstance(value, Tensor):
                tensors[f"{path}.{name}"] = value
            elif _is_constant(value) and name != "training":
                constants[f"{path}.{name}"] = value
        for name in part._non_persistent_buffers_set:
            if (buffer := part._buffers.get(name)) is not None:
                tensors[f"{path}.{name}"] = buffer
    for name, weight in (*module.named_parameters(), *module.named_buffers()):
        constants[f"{name}:"] = (tuple(weight.shape), weight.dtype, str(weight.device))
    # A result of the last forward that a module keeps, as weight_norm does, is not fixed by an export.
    kept = {name: (t, None if t.is_inference() else t._version) for name, t in tensors.items() if t.is_leaf}
    return Structure(parts, constants, kept)


def _is_constant(value: object) -> bool:
    return isinstance(value, _CONSTANT) or (isinstance(value, tuple) and all(map(_is_constant, value)))
