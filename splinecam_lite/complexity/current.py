"""A model that may still be in training, as the program of this moment."""

from pathlib import Path

import torch
from torch import Tensor, nn

from splinecam_lite.complexity.monitoring.copying import HookWarnings, draws_undone, eval_copy, hooks_left_out
from splinecam_lite.complexity.monitoring.structure import Structure, structure
from splinecam_lite.errors import ModelError
from splinecam_lite.network.program import Program
from splinecam_lite.network.trace import Traced, trace
from splinecam_lite.network.wrappers import unwrapped

CHUNK = 64
"""Inputs that are taken through what comes before ``start`` at once."""


class CurrentProgram:
    """Write a model as a program with the weights that it has when asked.

    A module is exported once, from the shape of the first input, and again if what it is made of has changed;
    other calls only bind its weights anew, which runs none of its code and changes nothing that threads have
    in common. It is measured in eval mode and without forward hooks, of which a warning says; one in train
    mode, or with hooks, is copied for that. The module itself is never touched. Wrappers of ``torch.compile``
    and data parallelism are looked through.

    Parameters
    ----------
    model : nn.Module, Program, str or Path
        The latter of an ``.onnx`` or ``.pt2`` file, which is read once.
    start : str, optional
        Node or path of a module after which the program begins; see `program_at`.
    output : str or int, optional
        Where the program ends, as in `splinecam_lite.network.trace.Traced.program`.
    all_outputs : bool
        If a module returns several values and no ``output`` is named, the program has all of them, flattened,
        one after the other. False: that is refused.
    """

    def __init__(
        self,
        model: nn.Module | Program | str | Path,
        start: str | None = None,
        output: str | int | None = None,
        *,
        all_outputs: bool = False,
    ):
        if not isinstance(model, nn.Module | Program | str | Path):
            raise TypeError(
                f"the model is a {type(model).__name__}; give an nn.Module, a Program, or the path of a file"
            )
        if start is not None and not isinstance(model, nn.Module):
            raise TypeError(
                f"start={start!r}, but the model is a {type(model).__name__}; give the nn.Module, or a "
                "Program made with Program.from_module(model, example, start=...)"
            )
        if output is not None and isinstance(model, Program):
            raise TypeError(
                f"output={output!r}, but the model is a Program; make it with "
                "Program.from_module(model, example, output=...)"
            )
        self._model = model
        self._start, self._output, self._all_outputs = start, output, all_outputs
        self._warnings = HookWarnings()
        self._traced: Traced | None = None
        self._checked = False
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
            self._model = Program.from_file(self._model, input_shape, output=self._output)
        if isinstance(self._model, Program):
            return self._model
        module = unwrapped(self._model)[0]
        return self._bound(self._exported(module, torch.empty(0, *input_shape)), module)

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
        return self._bound(traced, module), points

    def _bound(self, traced: Traced, module: nn.Module) -> Program:
        """Bind the weights of this moment; the first time the program is held against the module itself."""
        state = module.state_dict()
        if self._checked:
            return traced.rebound(state, output=self._output, start=self._start)
        with draws_undone():
            program = traced.program(state, output=self._output, start=self._start)
        self._checked = True
        return program

    def _exported(self, module: nn.Module, example: Tensor) -> Traced:
        """Export if that has not been done for a module like this, and inputs like these."""
        traced, now = self._traced, structure(module)
        if (
            traced is None
            or self._structure != now
            or traced.input_shape != tuple(example.shape[1:])
            or traced.input_dtype.is_floating_point != example.dtype.is_floating_point
        ):
            self._warnings.warn(module)
            as_it_is = not any(part.training for part in module.modules()) and not hooks_left_out(module)
            with draws_undone():
                traced = trace(module if as_it_is else eval_copy(module), example)
            if self._all_outputs and self._output is None:
                traced = traced.with_all_outputs()
            self._traced, self._structure, self._checked = traced, now, False
        return traced
