"""The options that say where: from words to inputs, and from inputs to a slice.

Everything that can be refused without torch is refused before it is imported, which takes seconds.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from splinecam_lite.cli.files import check_exists, is_network_file, read_array
from splinecam_lite.cli.options import Calibrate, Complexity, Network, OnSlice, Partition
from splinecam_lite.cli.refusal import Refusal

if TYPE_CHECKING:
    from splinecam_lite.network.slices import Slice

LEAST_RESAMPLES = 100
"""Bootstrap samples, for the ends of a 99 % interval."""


def check_network(given: Network) -> None:
    """Refuse a MODEL of another form, files that are not there, and numbers that do not pair.

    Raises
    ------
    Refusal
    """
    place, colon, name = given.model.rpartition(":")
    if is_network_file(given.model):
        check_exists(given.model)
        if given.weights is not None:
            raise Refusal(f"{given.model} has its weights already; leave --weights out")
    elif not (colon and place and name):
        raise Refusal(
            f"MODEL is '{given.model}'; give FILE.py:NAME or MODULE:NAME, where NAME makes the module, or an "
            ".onnx or .pt2 file"
        )
    elif place.endswith(".py"):
        check_exists(place)
    if given.weights is not None:
        check_exists(given.weights)
    if len(given.normalise) % 2:
        raise Refusal(
            f"--normalise has {len(given.normalise)} numbers; give MEAN STD, or as many means as stds"
        )
    if min(given.input_shape, default=1) < 1:
        raise Refusal(f"--input-shape is {_words(given.input_shape)}; all sizes must be positive")


def check_kept(given: Partition) -> None:
    """Refuse to keep a partition on disk and to make something of the whole of it.

    Raises
    ------
    Refusal
    """
    for name in ("out", "plot", "certify", "exact"):
        if given.store is not None and getattr(given, name):
            raise Refusal(
                f"--store keeps the partition on disk and --{name} needs it in memory; leave one of them out"
            )


def check_calibration(given: Calibrate) -> None:
    """Refuse numbers that cannot be, files that are not there, and a folder that cannot be made.

    Raises
    ------
    Refusal
    """
    wrong = [radius for radius in given.radii if not 0 < radius < np.inf]
    if wrong or not given.radii:
        raise Refusal(f"--radii has {wrong[0] if wrong else 'no number'}; give positive numbers")
    if min(given.directions, default=2) < 2:
        raise Refusal(f"--directions has {min(given.directions)}; a plane takes 2")
    if given.planes < 1:
        raise Refusal(f"--planes is {given.planes}; give a number from 1 up")
    if given.resamples < LEAST_RESAMPLES:
        raise Refusal(f"--resamples is {given.resamples}; give a number from {LEAST_RESAMPLES} up")
    if given.checkpoints and (given.weights is not None or is_network_file(given.model)):
        there = "--weights" if given.weights is not None else given.model
        raise Refusal(f"there is --checkpoints, and {there} has weights, too; leave one of them out")
    for path in given.checkpoints:
        check_exists(path)
    checkpoint_labels(given.checkpoints)
    if given.out is not None:
        if given.out.exists() and not given.out.is_dir():
            raise Refusal(f"--out is {given.out}, which is a file; name a folder")
        beside = given.out if given.out.is_dir() else given.out.parent
        if not beside.is_dir():
            raise Refusal(f"--out is {given.out}, but there is no folder {beside}; make it first")
        if not os.access(beside, os.W_OK):
            raise Refusal(f"--out is {given.out}, but nothing can be written to {beside}")


def checkpoint_labels(paths: Sequence[Path]) -> list[str]:
    """Return the steps that end the names of files, or if not all have one of their own, the names.

    Raises
    ------
    Refusal
        If two files have one name.

    Examples
    --------
    >>> checkpoint_labels([Path("run/step_000100.pt"), Path("run/step_002000.pt")])
    ['100', '2000']
    >>> checkpoint_labels([Path("first.pt"), Path("step_2.pt")])
    ['first', 'step_2']
    """
    found = [re.search(r"\d+$", path.stem) for path in paths]
    steps = [str(int(match[0])) for match in found if match]
    if len(set(steps)) == len(paths):
        return steps
    names = [path.stem for path in paths]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise Refusal(f"--checkpoints has two files called {twice[0]}; give each a name of its own")
    return names


def normalisation(given: Network) -> tuple[list[float], list[float]] | None:
    """Return mean and std, an entry for each channel, or None."""
    half = len(given.normalise) // 2
    return (list(given.normalise[:half]), list(given.normalise[half:])) if half else None


def tolerances_of(given: OnSlice) -> dict[str, float]:
    """Return the largest error of each activation that is to be approximated.

    Raises
    ------
    Refusal
    """
    tolerances: dict[str, float] = {}
    for word in given.approximate:
        name, _, number = word.partition("=")
        try:
            error = float(number)
        except ValueError:
            error = float("nan")
        if not name or not error > 0.0 or name in tolerances:
            raise Refusal(
                f"--approximate has '{word}'; name each activation once, with a positive error: gelu=1e-3"
            )
        tolerances[name] = error
    return tolerances


def many_points(given: Calibrate | Complexity) -> np.ndarray:
    """Return the inputs of ``complexity`` or ``calibrate``, (N, *input_shape).

    Raises
    ------
    Refusal
    """
    points = read_array(given.points)
    if points.ndim < 2:
        raise Refusal(f"{given.points} has shape {points.shape}; give inputs as (N, *input shape)")
    return _shaped(points, given)


def slice_points(given: OnSlice) -> np.ndarray | None:
    """Return the inputs that the slice is made from: three, or one, or None with ``--box``.

    Raises
    ------
    Refusal
        Also if the options contradict each other.
    """
    asked = [name for name in ("points", "around", "box") if getattr(given, name)]
    if len(asked) != 1:
        said = " and ".join(f"--{name}" for name in asked) or "none of them"
        raise Refusal(f"the slice is given by one of --points, --around and --box; there is {said}")
    if given.radius is not None and not given.around:
        raise Refusal(f"--radius goes with --around; with --{asked[0]} it means nothing")
    if given.threads is not None and given.threads < 1:
        raise Refusal(f"--threads is {given.threads}; give a number from 1 up")
    if given.points:
        points = _shaped(read_array(given.points, given.rows), given)
        if len(points) != 3:
            raise Refusal(f"{given.points} holds {len(points)} inputs; choose three, e.g. --rows 0 1 2")
        return points
    if given.around:
        return _centre(given, given.around)
    if given.rows or given.input_shape not in ((), (2,)):
        raise Refusal("--box is for networks of two inputs, and reads no file; give --points or --around")
    if len(given.box) not in (2, 4):
        raise Refusal(f"--box has {len(given.box)} numbers; give LOW HIGH, or LOW1 LOW2 HIGH1 HIGH2")
    return None


def slice_of(given: OnSlice, points: np.ndarray | None) -> "Slice":
    """Return the slice through or around the inputs of `slice_points`, or the box."""
    from splinecam_lite.network.slices import Slice

    if points is None:
        half = len(given.box) // 2
        return Slice.box(given.box[:half], given.box[half:])
    if given.radius is None:
        return Slice.through(*points, margin=given.margin)
    return Slice.around(points[0], given.radius, seed=given.seed)


def _centre(given: OnSlice, file: str) -> np.ndarray:
    """Return the input of ``--around`` as the only row."""
    if given.radius is None:
        raise Refusal("--around needs --radius, the half-width of the square in input units")
    if len(given.rows) > 1:
        raise Refusal(f"--around takes one input, but --rows names {len(given.rows)}")
    read = read_array(file, given.rows)
    return _shaped(read if given.rows else read[None], given)


def _shaped(inputs: np.ndarray, given: Network) -> np.ndarray:
    """Return inputs, one a row, in the shape that the network takes."""
    shape = given.input_shape
    if not shape:
        return inputs
    if inputs.ndim < 2 or inputs[0].size != np.prod(shape):
        raise Refusal(f"inputs of shape {inputs.shape[1:]} cannot have --input-shape {_words(shape)}")
    return inputs.reshape(-1, *shape)


def _words(numbers: tuple[int, ...]) -> str:
    return " ".join(map(str, numbers))
