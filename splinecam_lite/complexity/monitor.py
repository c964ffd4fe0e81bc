"""Local complexity during training: a callable that measures at given steps and disturbs nothing."""

import hashlib
import warnings
from collections.abc import Container, Iterable, Mapping
from operator import index
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from splinecam_lite.complexity.frames import Kind, as_points, as_tensor, check_directions, check_frame
from splinecam_lite.complexity.layers import Layers
from splinecam_lite.complexity.monitoring.live import LiveComplexity
from splinecam_lite.complexity.monitoring.moments import Moments
from splinecam_lite.complexity.monitoring.ranks import Ranks
from splinecam_lite.complexity.monitoring.records import Record, RecordFile
from splinecam_lite.complexity.monitoring.schedule import log_spaced
from splinecam_lite.errors import NeighbourhoodError


class LCMonitor:
    """Local complexity around fixed points, during training.

    Call it with the number of each step, after the update; at the steps that were chosen it returns a flat
    dict for any logger, at all others an empty one. It measures a copy in eval mode, in float64, without
    autocast and without forward hooks. The module's flags, hooks, statistics and gradients, and the random
    states of torch, numpy and Python are left as they are, so that a run is the same, bit for bit, with and
    without it.

    The module is exported once. It may be in train mode, and inside ``torch.compile``, ``DataParallel`` or
    ``DistributedDataParallel``. Weights are those of the moment, however they were written. It is exported
    again, which takes seconds, when parts of the module or their ``forward`` are replaced, or an attribute
    changes: a number or word, a function, a tensor outside the state dict, or what lists, dicts and
    dataclasses of these hold. So a counter in an attribute costs an export at every measurement; changes
    within other objects, and of what functions refer to, are not seen.

    Parameters
    ----------
    model : nn.Module
    probes : mapping from str to (points, *input_shape) array or tensor
        Sets of points, e.g. ``{"train": .., "test": .., "random": ..}``. They are copied.
    at : iterable of int, or range
        Steps to measure at.
    radius, directions, seed
        As for `LocalComplexity`. All points and steps share one frame.
    layers, frame, kind, centre, logits, output, start, dtype
        As there.
    path : str or Path, optional
        A JSONL file that each record is appended to, and is on disk in before the values are returned. If it
        exists the run goes on: steps that are there are not measured again.
    distributed : bool
        In an initialised ``torch.distributed`` process group each process measures its share of the points;
        the sums are all-reduced, and all return the same. Every process must call the monitor at the same
        steps, with the same weights and probes. Buffers are taken from process 0, which also writes the
        file. False: each process is on its own, and it may be that only one calls.

    Attributes
    ----------
    model : nn.Module
        May be set to another one.
    history : list of dict
        A record of each measurement: ``step`` and the values, in order; those of the file first.
    layer_names : tuple of str
        Of the layers by number, after the first measurement.

    Raises
    ------
    TypeError, NeighbourhoodError, FileError
        If an argument is of the wrong type, probes do not fit together, the frame does not fit them, they
        have fewer than P directions, or the file was written with other settings or probes.

    Notes
    -----
    Forward hooks are not run, because what they keep in a closure would be that of the training: what is
    measured is the network without them, and a warning names them. Only those by which torch itself makes
    weights (``weight_norm``, ``spectral_norm``, pruning) remain. If a hook changes what the network computes,
    write that into its forward. Hooks that torch runs with all modules of the process do run.

    While it exports, torch's default dtype and random state, those of numpy and Python, standard output and
    logging are set and put back, which other threads of the process see. That happens at the first
    measurement and when the module has changed as above, and at no other: start threads that load batches
    after the first measurement, which `measure` makes at any time.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> _ = model[0].weight.data.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
    >>> _ = model[0].bias.data.copy_(torch.tensor([0.0, 0.0, 1.0]))
    >>> monitor = LCMonitor(model, {"near": [[0.0, 0.0], [0.1, 0.1]]}, (0, 10), radius=0.5, directions=2)
    >>> monitor(0)
    {'lc/near/layer1': 2.0, 'lc/near/sum': 2.0, 'lc/near/sum_ci99': 0.0}
    >>> monitor(1), len(monitor.history), model.training
    ({}, 1, True)
    """

    def __init__(
        self,
        model: nn.Module,
        probes: Mapping[str, object],
        at: Iterable[int] = log_spaced(1, 100_000, 50),
        radius: float = 0.005,
        directions: int = 25,
        seed: int = 0,
        *,
        layers: Layers | None = None,
        frame: object = None,
        kind: Kind = "orthonormal",
        centre: bool = False,
        logits: bool = False,
        output: str | int | None = None,
        start: str | None = None,
        dtype: torch.dtype = torch.float64,
        path: str | Path | None = None,
        distributed: bool = True,
    ):
        self._probes = _checked(probes)
        self._at = _steps(at)
        self._options: dict[str, Any] = {
            "radius": radius,
            "directions": directions,
            "seed": seed,
            "layers": layers,
            "frame": None if frame is None else as_tensor(frame).cpu().double(),
            "kind": kind,
            "centre": centre,
            "logits": logits,
            "output": output,
            "start": start,
            "dtype": dtype,
        }
        self._live = LiveComplexity(model, **self._options)
        if start is None:
            shape = tuple(next(iter(self._probes.values())).shape[1:])
            if frame is None:
                check_directions(directions, shape, kind)
            else:
                check_frame(self._options["frame"], shape)
        self._distributed, self._agreed = distributed, False
        self._file = None if path is None else RecordFile(path, self._settings())
        self.history: list[Record] = [] if self._file is None else list(self._file.records)
        self._from_before = {record["step"] for record in self.history}
        self._done = set(self._from_before)
        self.layer_names: tuple[str, ...] = ()

    @property
    def model(self) -> nn.Module:
        return self._live.model

    @model.setter
    def model(self, model: nn.Module) -> None:
        self._live.model = model

    def __call__(self, step: int) -> dict[str, float]:
        """Measure if it is time to.

        Parameters
        ----------
        step : int
            Updates made so far. A step counts once, however often it is called with.

        Returns
        -------
        dict
            Empty unless the step is one of those chosen, and new. For each set of points, means over them:
            ``lc/train/layer1``, ``lc/train/layer2``, .. : crossings of each layer, in the order of
            ``layer_names``; ``lc/train/sum`` : of all layers; ``lc/train/sum_ci99`` : half the width of the
            99 % interval of that mean, NaN if there is one point.

        Raises
        ------
        ModelError
            If the module cannot be exported, its weights are NaN, or they are sharded over processes.
        SplineCamError
            If another process has failed.
        """
        step = index(step)
        if step not in self._at:
            return {}
        ranks = Ranks.now(self._distributed)
        if not self._agreed:  # the file may be within reach of process 0 only
            self.history, self._from_before = ranks.from_first((self.history, self._from_before))
            self._done, self._agreed = {record["step"] for record in self.history}, True
        if step in self._done:
            self._say_that_it_is_from_before(step)
            return {}
        values = self.measure()
        record: Record = {"step": step, **values}
        if self._file is not None and ranks.rank == 0:
            self._file.append(record)
        self.history.append(record)
        self._done.add(step)
        return values

    def measure(self) -> dict[str, float]:
        """Measure now, whatever the step, and record nothing.

        Returns
        -------
        dict
            As a call at one of the steps.
        """
        ranks = Ranks.now(self._distributed)
        with ranks.together():
            self._live.refresh()
        ranks.overwrite_from_first(self._live.buffers())
        with ranks.together():
            vector = self._count(ranks)
        sums = ranks.sum(vector).reshape(len(self._probes), -1)
        values: dict[str, float] = {}
        for name, row in zip(self._probes, sums, strict=True):
            values |= Moments.from_vector(row).values(f"lc/{name}/")
        return values

    def _count(self, ranks: Ranks) -> np.ndarray:
        """Moments of this process's share of each set of points, one after the other."""
        shares = [ranks.share(points) for points in self._probes.values()]
        # A process without points still has to know how many layers there are.
        taken = [
            share if len(share) else points[:1]
            for share, points in zip(shares, self._probes.values(), strict=True)
        ]
        # One call for all, because each binds the weights anew.
        result = self._live(torch.cat(taken))
        self.layer_names = result.layer_names
        rows = np.split(result.per_layer, np.cumsum([len(some) for some in taken])[:-1])
        found = [Moments.of(counts[: len(share)]) for counts, share in zip(rows, shares, strict=True)]
        return np.concatenate([moments.vector() for moments in found])

    def _settings(self) -> Record:
        """What tells records of one measurement from those of another, as plain JSON."""
        digest = hashlib.sha256()
        for name, points in self._probes.items():
            digest.update(f"{name} {tuple(points.shape)} {points.dtype}".encode())
            digest.update(_bytes(points))
        settings = {name: _plain(value) for name, value in self._options.items() if value is not None}
        return settings | {"probes": digest.hexdigest()[:16]}

    def _say_that_it_is_from_before(self, step: int) -> None:
        if step in self._from_before and self._file is not None:
            self._from_before = set()
            warnings.warn(
                f"step {step} is in '{self._file.path}' from a run before, so it is not measured again; for "
                "a new run give another path, or delete the file",
                stacklevel=3,
            )


def _steps(at: Iterable[int]) -> Container[int]:
    if isinstance(at, range):
        return at
    if isinstance(at, str) or not isinstance(at, Iterable):
        raise TypeError(f"at is {at!r}; give the steps to measure at, e.g. range(0, 10_000, 100)")
    return frozenset(map(index, at))


def _checked(probes: Mapping[str, object]) -> dict[str, torch.Tensor]:
    """Copies of the sets of points, all on one device.

    Raises
    ------
    TypeError, NeighbourhoodError
    """
    if not isinstance(probes, Mapping) or not all(isinstance(name, str) for name in probes):
        raise TypeError('the probes are not named; give a mapping such as {"train": points}')
    if not probes:
        raise NeighbourhoodError("there are no probes; give at least one set of points")
    checked = {}
    for name, points in probes.items():
        try:
            checked[name] = as_points(points).clone()
        except NeighbourhoodError as error:
            raise NeighbourhoodError(f"probe '{name}': {error}") from error
    shapes = {name: tuple(points.shape[1:]) for name, points in checked.items()}
    if len(set(shapes.values())) > 1:
        raise NeighbourhoodError(f"the probes are inputs of different shapes ({shapes}); give one kind")
    if len({points.device for points in checked.values()}) > 1:
        checked = {name: points.cpu() for name, points in checked.items()}
    return checked


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _plain(value: object) -> int | float | bool | str:
    """A setting as JSON, alike in all runs: the repr of an object may hold its address."""
    if isinstance(value, torch.Tensor):
        return hashlib.sha256(_bytes(value)).hexdigest()[:16]
    if isinstance(value, int | float | bool | str):
        return value
    if isinstance(value, torch.dtype):
        return str(value)
    if isinstance(value, list | tuple):
        return str([_plain(one) for one in value])
    return type(value).__name__
