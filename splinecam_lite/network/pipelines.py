"""One network after another as one program."""

from dataclasses import replace
from typing import Any

from splinecam_lite.errors import ModelError
from splinecam_lite.network.ops import Op, Where
from splinecam_lite.network.program import Program


def chained(first: Program, head: Program) -> Program:
    """Return ``head(first(x))`` as one program.

    Layers keep their names. If any of the head's is taken, all of them begin with ``"head."``, or with
    ``"head2."`` where that is taken as well.

    Parameters
    ----------
    first, head : Program
        The head is cast to the dtype and device of the first.

    Raises
    ------
    ModelError
        If the head takes another shape than the first returns.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> body = Program.from_module(nn.Sequential(nn.Linear(2, 3), nn.ReLU()).eval(), (2,))
    >>> head = Program.from_module(nn.Sequential(nn.Linear(3, 4), nn.ReLU()).eval(), (3,))
    >>> body.then(head), body.then(head).layer_names
    (Program((2,) -> (4,), 4 ops, 2 layers, 7 neurons), ('1', 'head.1'))
    >>> head.then(body)
    Traceback (most recent call last):
        ...
    splinecam_lite.errors.ModelError: the network returns shape (4,), but the one after it takes (2,); ...
    """
    if not isinstance(head, Program):
        raise ModelError(
            f"the head is a {type(head).__name__}; make a Program of it first, e.g. with Program.from_module"
        )
    if first.output_shape != head.input_shape:
        raise ModelError(
            f"the network returns shape {first.output_shape}, but the one after it takes {head.input_shape}; "
            "end the first one elsewhere with output=..., or put a Flatten or Unflatten between them"
        )
    head = head.to(first.dtype, first.device)
    offset, prefix = len(first.shapes) - 1, _prefix(first, head)

    def moved(op: Op) -> Op:
        inputs: Any = tuple(first.output if value == 0 else value + offset for value in op.inputs)
        return replace(op, inputs=inputs, output=op.output + offset, where=_prefixed(op.where, prefix))

    return replace(
        first,
        ops=(*first.ops, *map(moved, head.ops)),
        shapes=(*first.shapes, *head.shapes[1:]),
        output=first.output if head.output == 0 else head.output + offset,
    )


def _prefix(first: Program, head: Program) -> str:
    """What is put before the names of the head: nothing if they are all new."""
    taken = {op.where.label for op in first.ops} | {op.where.name for op in first.ops}
    prefixes = ("", "head.", *(f"head{i}." for i in range(2, len(first.ops) + 3)))
    return next(p for p in prefixes if taken.isdisjoint(_names(head, p)))


def _names(program: Program, prefix: str) -> set[str]:
    places = [_prefixed(op.where, prefix) for op in program.ops]
    return {place.label for place in places} | {place.name for place in places}


def _prefixed(place: Where, prefix: str) -> Where:
    if not prefix:
        return place
    path = f"{prefix}{place.module_path}" if place.module_path else prefix.rstrip(".")
    if place.is_whole_module and not place.module_path:  # its name is its label
        path = ""
    return replace(place, name=f"{prefix}{place.name}", module_path=path)
