"""A model that may still be in training, as the program of this moment."""

import copy
from pathlib import Path

import torch
from torch import Tensor, nn

from splinecam_lite.complexity.monitoring.structure import Structure, structure
from splinecam_lite.errors import ModelError, TraceError
from splinecam_lite.network.program import Program
from splinecam_lite.network.trace import Traced, trace
from splinecam_lite.network.wrappers import unwrapped

CHUNK = 64
"""Inputs that are taken through what comes before ``start`` at once."""


class CurrentProgram:
    """Write a model as a program with the weights that it has when asked.

    A module is exported once, from the shape of the first input, and again if what it is made of has changed;
    other calls only bind its weights anew. It is measured in eval mode; one in train mode is copied for that.
    The module itself is never touched. Wrappers of ``torch.compile`` and data parallelism are looked through.

    Parameters
    ----------
    model : nn.Module, Program, str or Path
        The latter of an ``.onnx`` or ``.pt2`` file, which is read once.
    start : str, optional
        Node or path of a module after which the program begins; see `program_at`.
    """

    def __init__(self, model: nn.Module | Program | str | Path, start: str | None = None):
        if not isinstance(model, nn.Module | Program | str | Path):
            raise TypeError(
                f"the model is a {type(model).__name__}; give an nn.Module, a Program, or the path of a file"
            )
        if start is not None and not isinstance(model, nn.Module):
            raise TypeError(
                f"start={start!r}, but the model is a {type(model).__name__}; give the nn.Module, or a "
                "Program made with Program.from_module(model, example, start=...)"
            )
        self._model = model
        self._start = start
        self._traced: Traced | None = None
        self._structure: Structure | None = None

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
        module = unwrapped(self._model)[0]
        return self._exported(module, torch.empty(0, *input_shape)).program(module.state_dict())

    def program_at(self, points: Tensor) -> tuple[Program, Tensor]:
        """Return the program for these points, and the points as its inputs.

        Parameters
        ----------
        points : (n, *input_shape)
            With ``start``: what the module takes, such as token ids, which is then taken to ``start``; or, if
            that is an ``nn.Embedding``, floating vectors of it.

        Returns
        -------
        program : Program
        inputs : (n, *program.input_shape) Tensor

        Raises
        ------
        ModelError
            As `program`, or if the points do not have the shape that the program takes.
        """
        if self._start is None:
            program = self.program(tuple(points.shape[1:]))
        else:
            program, points = self._after(self._start, points)
        if tuple(points.shape[1:]) != program.input_shape:
            raise ModelError(
                f"the points have shape {tuple(points.shape)}; "
                f"this network takes (points, {str(program.input_shape)[1:]}"
            )
        return program, points

    def _after(self, start: str, points: Tensor) -> tuple[Program, Tensor]:
        assert isinstance(self._model, nn.Module)
        module = unwrapped(self._model)[0]
        whole = not points.dtype.is_floating_point
        embedded = not whole and isinstance(dict(module.named_modules()).get(start), nn.Embedding)
        # Of the ids that belong to vectors, only the shape is known, and no more is needed.
        example = torch.empty(0, *points.shape[1:-1], dtype=torch.int64) if embedded else points
        traced, state = self._exported(module, example), module.state_dict()
        if not embedded:
            points = torch.cat([traced.values_at(start, some, state) for some in points.split(CHUNK)])
        return traced.program(state, start=start), points

    def _exported(self, module: nn.Module, example: Tensor) -> Traced:
        """Export if that has not been done for a module like this, and inputs like these."""
        traced, now = self._traced, structure(module)
        if (
            traced is None
            or self._structure != now
            or traced.input_shape != tuple(example.shape[1:])
            or traced.input_dtype.is_floating_point != example.dtype.is_floating_point
        ):
            self._traced = traced = trace(_in_eval_mode(module), example)
            self._structure = now
        return traced


def _in_eval_mode(module: nn.Module) -> nn.Module:
    if not any(part.training for part in module.modules()):
        return module
    try:
        return copy.deepcopy(module).eval()
    except Exception as error:
        raise TraceError(
            f"the module cannot be copied ({type(error).__name__}: {error}); call its .eval() first"
        ) from error
