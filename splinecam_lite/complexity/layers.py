"""Which layers are counted: all activations, some of them, the logits as well."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from fnmatch import fnmatchcase
from numbers import Integral
from typing import NamedTuple

import torch

from splinecam_lite.errors import ModelError
from splinecam_lite.network.ops import KnotsOp, Where
from splinecam_lite.network.program import Program


class LayerOf(NamedTuple):
    """A layer of preactivations, as a callable that chooses is shown it.

    Examples
    --------
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 8), nn.GELU()).eval()
    >>> for layer in layers_of(Program.from_module(model, (1, 4, 4))):
    ...     print(*layer)
    0 1 (4, 2, 2) aten.relu.default
    1 4 (8,) aten.gelu.default
    """

    number: int
    name: str
    shape: tuple[int, ...]
    operator: str
    """torch's name of the activation."""


Choice = str | int | Callable[[LayerOf], bool]
Layers = Choice | Iterable[Choice]
CHOICES = "a name, a pattern, a number, a callable, or a list of these"


def layers_of(program: Program) -> tuple[LayerOf, ...]:
    """Return the layers of a program."""
    return tuple(
        LayerOf(number, name, program.shapes[op.inputs[0]], op.where.target)
        for number, (name, op) in enumerate(zip(program.layer_names, program.preactivation_ops, strict=True))
    )


def as_choices(layers: Layers) -> tuple[Choice, ...]:
    """Return what chooses layers as a tuple, whether it was one or several."""
    if isinstance(layers, str | Integral) or callable(layers):
        return (layers,)
    if not isinstance(layers, Iterable):
        raise TypeError(f"layers is {layers!r}; give {CHOICES}")
    return tuple(layers)


def chosen_layers(program: Program, layers: Layers | None) -> tuple[int, ...]:
    """Return the numbers of the layers that a caller names, in the order of the network, each once.

    Parameters
    ----------
    program : Program
    layers : str, int, callable, several of these, or None
        A name; a pattern as of files, ``"blocks.*.mlp.?"`` (`fnmatch`); a number, from the end if negative;
        or what says yes or no to a `LayerOf`. None: all.

    Raises
    ------
    ModelError
        If one of them is no layer; it lists those that there are.

    Examples
    --------
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 3), nn.ReLU(), nn.Tanh()).eval()
    >>> program = Program.from_module(model, (2,))
    >>> chosen_layers(program, "3"), chosen_layers(program, [-1, "?"])
    ((1,), (0, 1, 2))
    >>> chosen_layers(program, lambda layer: "relu" in layer.operator)
    (0, 1)
    >>> chosen_layers(program, ["1", "block.*"])
    Traceback (most recent call last):
        ...
    splinecam_lite.errors.ModelError: layers='block.*' is none of the network's layers: '1', '3', '4'
    """
    found = layers_of(program)
    if layers is None:
        return tuple(range(len(found)))
    chosen: set[int] = set()
    for choice in as_choices(layers):
        meant = _meant(found, choice)
        if not meant:
            names = ", ".join(repr(layer.name) for layer in found) or "it has none"
            raise ModelError(f"layers={choice!r} is none of the network's layers: {names}")
        chosen |= meant
    return tuple(sorted(chosen))


def _meant(found: tuple[LayerOf, ...], choice: Choice) -> set[int]:
    match choice:
        case bool():
            pass
        case Integral():
            return {layer.number for layer in found if choice in (layer.number, layer.number - len(found))}
        case str():
            exactly = {layer.number for layer in found if layer.name == choice}
            return exactly or {layer.number for layer in found if fnmatchcase(layer.name, choice)}
        case _ if callable(choice):
            return {layer.number for layer in found if choice(layer)}
    raise TypeError(f"layers={choice!r}; give {CHOICES}")


def with_logits(program: Program) -> Program:
    """Return a program that has its output as one more layer, the last, named after what writes it.

    The layer is an activation without knots, which changes nothing.

    Examples
    --------
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    >>> program = with_logits(Program.from_module(model, (2,)))
    >>> program.layer_names, program.n_neurons
    (('1', '2'), (8, 3))
    """
    writer = next((op for op in program.ops if op.output == program.output), None)
    label = "output" if writer is None else writer.where.label
    op = KnotsOp(
        inputs=(program.output,),
        output=len(program.shapes),
        where=Where(label, label, "", "logits", is_whole_module=True),
        left_slope=torch.ones((), dtype=program.dtype, device=program.device),
        left_intercept=torch.zeros((), dtype=program.dtype, device=program.device),
        breakpoints=(),
        jumps=(),
    )
    shapes = (*program.shapes, program.output_shape)
    return replace(program, ops=(*program.ops, op), shapes=shapes, output=op.output)
