"""A model that may still be in training, as the program of this moment."""

import copy
from pathlib import Path

import torch
from torch import nn

from splinecam_lite.network.program import Program
from splinecam_lite.network.trace import Traced, trace


class CurrentProgram:
    """Write a model as a program with the weights that it has when asked.

    A module is exported once, from the shape of the first input; later calls only bind its weights anew. It
    is measured in eval mode; one in train mode is copied for that. The module itself is never touched.

    Parameters
    ----------
    model : nn.Module, Program, str or Path
        The latter of an ``.onnx`` or ``.pt2`` file, which is read once.
    """

    def __init__(self, model: nn.Module | Program | str | Path):
        if not isinstance(model, nn.Module | Program | str | Path):
            raise TypeError(
                f"the model is a {type(model).__name__}; give an nn.Module, a Program, or the path of a file"
            )
        self._model = model
        self._traced: Traced | None = None

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        if isinstance(self._model, Program):
            return self._model.device
        if isinstance(self._model, str | Path):
            return torch.device("cpu")
        tensors = (*self._model.parameters(), *self._model.buffers())
        return tensors[0].device if tensors else torch.device("cpu")

    def program(self, input_shape: tuple[int, ...]) -> Program:
        """Return the program for inputs of this shape.

        Raises
        ------
        ModelError
            As `splinecam_lite.network.trace`, or if a weight has become NaN.
        """
        if isinstance(self._model, str | Path):
            self._model = Program.from_file(self._model, input_shape)
        if isinstance(self._model, Program):
            return self._model
        if self._traced is None or self._traced.input_shape != tuple(input_shape):
            self._traced = trace(_in_eval_mode(self._model), tuple(input_shape))
        return self._traced.program(self._model.state_dict())


def _in_eval_mode(module: nn.Module) -> nn.Module:
    if not any(part.training for part in module.modules()):
        return module
    return copy.deepcopy(module).eval()
