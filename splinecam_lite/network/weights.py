"""Weights for a traced module: from a state dict, exactly in float64, complete and finite."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from splinecam_lite.errors import ModelError


def float64_weights(exported: ExportedProgram, state: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    """All tensors that an exported module reads, by their names in the module.

    Parameters
    ----------
    state : mapping from str to Tensor, or None
        Replaces parameters and persistent buffers. Other tensors, and all of them with None, are those at the
        time of the export.

    Raises
    ------
    ModelError
        If a tensor is missing, has another shape, or is NaN or infinite (in a buffer, infinity may be:
        masks).
    """
    stored = exported.state_dict
    weights = {}
    for spec in exported.graph_signature.input_specs:
        name = spec.target
        if name is None:
            continue
        tensor = stored[name] if name in stored else exported.constants[name]
        if state is not None and name in stored:
            tensor = _replacement(name, tensor, state).clone()  # training goes on; the program must not
        tensor = tensor.detach().cpu()
        weights[name] = tensor.double() if tensor.is_floating_point() else tensor
        is_parameter = spec.kind.name == "PARAMETER"
        _refuse(name, weights[name], ~weights[name].isfinite() if is_parameter else weights[name].isnan())
    return weights


def _replacement(name: str, tensor: Tensor, state: Mapping[str, Tensor]) -> Tensor:
    if name not in state:
        raise ModelError(f"the state dict has no '{name}'{nearest(name, state)}")
    if state[name].shape != tensor.shape:
        raise ModelError(
            f"'{name}' has shape {tuple(state[name].shape)} in the state dict, but {tuple(tensor.shape)} in "
            "the module; take the state dict of the same architecture"
        )
    return state[name]


def _refuse(name: str, tensor: Tensor, bad: Tensor) -> None:
    entries = bad.nonzero()
    if len(entries):
        index = tuple(entries[0].tolist())
        raise ModelError(
            f"'{name}' is NaN or infinite in {len(entries)} of {tensor.numel()} entries, the first "
            f"{float(tensor[index])} at {index}; take weights from before training diverged"
        )


def mean_and_std(normalise: tuple[Any, Any], shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Input normalisation (mean, std) as float64 tensors that broadcast to a sample of ``shape``.

    Each is a number, one entry for each channel (the first axis), or an array that broadcasts to the sample.

    Raises
    ------
    ModelError
        If there are not two, one does not fit the shape or is not finite, or ``std`` is not positive.

    Examples
    --------
    >>> [t.shape for t in mean_and_std(([0.5, 0.5, 0.5], 0.2), (3, 32, 32))]
    [torch.Size([3, 1, 1]), torch.Size([])]
    """
    if not isinstance(normalise, Sequence) or isinstance(normalise, str) or len(normalise) != 2:
        raise ModelError(f"normalise is {normalise!r}; give a pair (mean, std)")
    tensors = []
    for name, given in zip(("mean", "std"), normalise, strict=True):
        try:
            t = torch.as_tensor(given, dtype=torch.float64, device="cpu").detach()
        except (TypeError, ValueError, RuntimeError) as error:
            raise ModelError(
                f"the {name} of normalise is {given!r}; give a number, or one for each channel"
            ) from error
        if t.ndim == 1 and len(shape) > 1 and len(t) == shape[0]:
            t = t.reshape(-1, *[1] * (len(shape) - 1))
        try:
            fits = torch.broadcast_shapes(t.shape, shape) == torch.Size(shape)
        except RuntimeError:
            fits = False
        if not fits:
            raise ModelError(
                f"the {name} of normalise has shape {tuple(t.shape)}; inputs of shape {shape} take a number "
                "or one entry for each channel"
            )
        if not bool(t.isfinite().all()) or (name == "std" and not bool((t > 0).all())):
            raise ModelError(
                f"the {name} of normalise is {t.flatten().tolist()[:4]}; it must be finite, the std positive"
            )
        tensors.append(t)
    return tensors[0], tensors[1]


def nearest(name: str, choices: Mapping[str, Any]) -> str:
    """End of a sentence that lists the choices most like ``name``, or the last ones.

    Examples
    --------
    >>> nearest("fc1.weigth", {"fc1.weight": 0, "fc1.bias": 0, "fc2.weight": 0})
    "; there is 'fc1.weight', 'fc2.weight'"
    """
    close = difflib.get_close_matches(name, list(choices), n=3) or list(choices)[-3:]
    return f"; there is {', '.join(map(repr, close))}" if close else ""
