"""How good is the sampled estimate of local complexity? The estimate against the exact count, in numbers.

With two directions the neighbourhood of the estimate is a diamond, in which the exact count is known: the
neurons whose preactivation changes sign anywhere in it (`complexity.exact`). The estimate sees its corners.
The published check of the estimate (arXiv 2402.15555, Fig. 35) lays its curve over training beside an exact
one; here are the numbers that belong to it: recall, bias, correlations over points and over checkpoints, what
more directions do, and how much hangs on where the plane lies.

A diamond is a 2-D part of the whole neighbourhood. What is said of recall holds for it: beyond two dimensions
there is more to miss, and `complexity.bracket` bounds it.
"""

import hashlib
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from splinecam_lite.complexity.batches import is_int
from splinecam_lite.complexity.calibration.counts import Counts, certain_layers, count_at
from splinecam_lite.complexity.calibration.planes import directions_of, nested_frames, planes_of
from splinecam_lite.complexity.calibration.result import Calibration
from splinecam_lite.complexity.calibration.statistics import draw_resamples
from splinecam_lite.complexity.calibration.tables import (
    TOTAL,
    Frame,
    Scatter,
    orientation_rows_of,
    region_rows_of,
    rows_of,
    trend_rows_of,
)
from splinecam_lite.complexity.current import CurrentProgram
from splinecam_lite.complexity.frames import as_points, check_radius, check_seed
from splinecam_lite.complexity.monitoring.copying import HookWarnings, eval_copy
from splinecam_lite.errors import ModelError, NeighbourhoodError
from splinecam_lite.network.program import Program
from splinecam_lite.network.trace import Traced, trace

RADII = (0.001, 0.01, 0.1, 1.0)
"""Default radii, in input units: from where few diamonds meet a knot to where each meets many."""

RESAMPLES = 1000

LEAST_RESAMPLES = 100
"""With fewer, the ends of a 99 % interval are the least and largest of them."""

DELAY_SECONDS = 2.0
"""Work shorter than this shows no progress."""

State = nn.Module | Program | Mapping[str, Tensor]
Checkpoints = Mapping[object, State] | Iterable[tuple[object, State]]


def calibrate(
    model: nn.Module | Program | str | Path,
    points: object,
    radii: float | Sequence[float] = RADII,
    directions: int | Sequence[int] | None = None,
    planes: int | object = 1,
    seed: int = 0,
    *,
    checkpoints: Checkpoints | None = None,
    resamples: int = RESAMPLES,
    progress: bool = True,
) -> Calibration:
    """Hold the sampled estimate against the exact count, around points of one network or of its checkpoints.

    All points share each plane, and all radii and checkpoints share points and planes. The estimate is taken
    with frames of P directions whose first two span the plane: for P = 2 its vertices are the diamond's
    corners.

    Parameters
    ----------
    model : nn.Module, Program, str or Path
        Piecewise linear, of two inputs or more.
    points : (points, *input_shape) array or tensor
    radii : float or sequence of float
        In input units. The time goes to the largest: exact counts take as long as there are regions.
    directions : int or sequence of int, optional
        P besides 2. Default: those of 5, 25 and 100 that the inputs have.
    planes : int, or (planes, 2, *input_shape)
        How many random planes, or orthonormal pairs of directions. With two or more the variance is split
        into that between points and that between planes.
    seed : int
        Of planes, frames and bootstrap samples.
    checkpoints : mapping, or iterable of pairs, from label to weights, optional
        Networks to measure, in order, instead of ``model``, which then says the architecture: state dicts of
        it, or modules or programs. With three or more, curves over the checkpoints are compared.
    resamples : int
        Bootstrap samples, at least 100.
    progress : bool
        Show a bar on stderr, after some seconds.

    Returns
    -------
    Calibration

    Raises
    ------
    NotPiecewiseLinear
        If the network has no exact partition.
    NeighbourhoodError
        If points, radii, directions or planes do not fit.
    CalibrationError
        If estimate and exact count contradict one another: the first must not exceed the second, and be equal
        to it on the first layer.

    Notes
    -----
    Intervals are 99 % percentile intervals of a bootstrap over the points, and over the planes if there are
    several; those of the recall are no narrower than that of a Poisson number of misses. Over checkpoints the
    pairs of means are resampled: that shows how much hangs on single checkpoints, which are no random sample.
    The counts are in float64.

    Examples
    --------
    The neuron of the second layer, 1/4 - |x|, is negative at the four corners of the diamond around (0, 0), a
    square with these directions, and positive in the middle: the estimate misses it.

    >>> model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1), nn.ReLU()).eval()
    >>> _ = model[0].weight.data.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    >>> _ = model[2].weight.data.copy_(torch.tensor([[-1.0, -1.0]]))
    >>> _ = model[0].bias.data.zero_(), model[2].bias.data.fill_(0.25)
    >>> plane = np.sqrt(0.5) * np.array([[1.0, 1.0], [-1.0, 1.0]])
    >>> found = calibrate(model, [[0.0, 0.0], [9.0, 9.0]], radii=[1.0], planes=[plane])
    >>> for layer in found.layers:
    ...     row = found.row(1.0, layer)
    ...     print(layer, row.n_estimate, row.n_exact, round(row.ratio.value, 3))
    1 2 2 1.0
    3 0 1 0.0
    all layers 2 3 0.667
    """
    seed = check_seed(seed)
    if resamples < LEAST_RESAMPLES:
        raise ValueError(f"{resamples} bootstrap samples asked for; give at least {LEAST_RESAMPLES}")
    design = _design(points, radii, directions, planes, seed)
    drawn = draw_resamples(
        len(design.points), len(design.frames), resamples, np.random.default_rng((seed, 0))
    )
    rows, regions, orientation = [], [], []
    networks: list[_Network] = []
    counts: list[Counts] = []
    with tqdm(desc="diamonds", unit="plane", delay=DELAY_SECONDS, leave=False, disable=not progress) as bar:
        for label, program in _programs(model, design.shape, checkpoints):
            networks.append(_Network.of(label, program, networks))
            counts = [_counted(program, design, radius, bar.update) for radius in design.radii]
            # The same samples at every checkpoint: differences between them are not those of the draw.
            for radius, found in zip(design.radii, counts, strict=True):
                layers = (*program.layer_names, TOTAL)
                at = Frame(label, radius, layers, design.directions, certain_layers(program))
                rows += rows_of(at, found, drawn)
                regions += region_rows_of(at, found, drawn)
                orientation += orientation_rows_of(at, found)
    if not networks:
        raise ValueError("there are no checkpoints; give at least one, or leave checkpoints out")
    trends = trend_rows_of(rows, len(networks), resamples, np.random.default_rng((seed, 1)))
    scatter = [_scatter(radius, found) for radius, found in zip(design.radii, counts, strict=True)]
    settings = {
        **design.settings(),
        "random_planes": is_int(planes),
        "seed": seed,
        "resamples": resamples,
        **_Network.settings(networks),
        "versions": _versions(),
    }
    return Calibration(
        settings, tuple(rows), tuple(regions), tuple(orientation), tuple(trends), tuple(scatter)
    )


class _Design(NamedTuple):
    """What all networks have in common."""

    points: Tensor
    radii: tuple[float, ...]
    directions: tuple[int, ...]
    frames: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.points.shape[1:])

    def settings(self) -> dict[str, Any]:
        return {
            "n_points": len(self.points),
            "n_planes": len(self.frames),
            "radii": list(self.radii),
            "directions": list(self.directions),
            "input_shape": list(self.shape),
            "points_sha256": _sha256(self.points),
            "frames_sha256": _sha256(self.frames),
        }


def _design(
    points: object,
    radii: float | Sequence[float],
    directions: int | Sequence[int] | None,
    planes: object,
    seed: int,
) -> _Design:
    """Check what was given, and draw planes and frames."""
    x = as_points(points).cpu().double()
    shape = tuple(x.shape[1:])
    several = [radii] if isinstance(radii, str) or not isinstance(radii, Iterable) else radii
    checked = tuple(sorted({check_radius(radius) for radius in several}))
    if not checked:
        raise NeighbourhoodError("there are no radii; give at least one")
    p = directions_of(directions, prod(shape))
    return _Design(x, checked, p, nested_frames(planes_of(planes, shape, seed), p[-1], seed))


class _Network(NamedTuple):
    """What is kept of a network."""

    label: str
    layer_names: tuple[str, ...]
    n_neurons: tuple[int, ...]
    sha256: str

    @staticmethod
    def of(label: str, program: Program, before: Sequence["_Network"]) -> "_Network":
        """Refuse a second network of one name, or of another architecture."""
        if any(label == other.label for other in before):
            raise ValueError(f"two checkpoints are called '{label}'; give each a name of its own")
        network = _Network(label, program.layer_names, program.n_neurons, program.digest())
        if before and before[0][1:3] != network[1:3]:
            raise ModelError(
                f"checkpoint '{label}' has layers {network.layer_names} of {network.n_neurons} neurons, "
                f"'{before[0].label}' {before[0].layer_names} of {before[0].n_neurons}; "
                "give checkpoints of one architecture"
            )
        return network

    @staticmethod
    def settings(networks: Sequence["_Network"]) -> dict[str, Any]:
        return {
            "checkpoints": [network.label for network in networks],
            "layer_names": list(networks[0].layer_names),
            "n_neurons": list(networks[0].n_neurons),
            "networks_sha256": [network.sha256 for network in networks],
        }


def _counted(program: Program, design: _Design, radius: float, step: Callable[[], object]) -> Counts:
    return count_at(program, design.points, design.frames, design.directions, radius, step).with_total()


def _programs(
    model: nn.Module | Program | str | Path, shape: tuple[int, ...], checkpoints: Checkpoints | None
) -> Iterator[tuple[str, Program]]:
    """Yield label and float64 program of each network."""
    traced: Traced | None = None
    if checkpoints is None:
        pairs: Iterable[tuple[object, State]] = [("model", CurrentProgram(model).program(shape))]
    else:
        pairs = checkpoints.items() if isinstance(checkpoints, Mapping) else checkpoints
    for label, state in pairs:
        if isinstance(state, Mapping):
            traced = traced or _traced(model, shape)
            program = traced.program(state)
        else:
            program = CurrentProgram(state).program(shape)
        if program.input_shape != shape:
            raise ModelError(
                f"the points have shape (.., {str(shape)[1:]}; "
                f"this network takes (points, {str(program.input_shape)[1:]}"
            )
        program.require_piecewise_linear()
        yield str(label), program.to(torch.float64)


def _traced(model: object, shape: tuple[int, ...]) -> Traced:
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"the checkpoints are state dicts and the model is a {type(model).__name__}; give the nn.Module "
            "that they are of, or checkpoints as programs"
        )
    HookWarnings().warn(model)
    return trace(eval_copy(model), shape)


def _scatter(radius: float, counts: Counts) -> Scatter:
    estimates = tuple(tuple(each.tolist()) for each in counts.estimate[:, 0, :, -1])
    return Scatter(radius, tuple(counts.exact[0, :, -1].tolist()), estimates)


def _sha256(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()


def _versions() -> dict[str, str]:
    packages = {name: version(name) for name in ("splinecam-lite", "torch", "numpy", "scipy")}
    return {"python": platform.python_version(), **packages}
