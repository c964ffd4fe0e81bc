"""Planes through the points, and frames of more directions that contain them."""

from collections.abc import Iterable, Sequence
from math import prod
from numbers import Integral

import numpy as np
import torch
from torch import Tensor

from splinecam_lite.complexity.batches import is_int
from splinecam_lite.complexity.frames import as_tensor, check_frame, random_frames
from splinecam_lite.errors import NeighbourhoodError

COMPLETED = 1
"""Word of the seed of the directions that are added to a plane, so that they are not those of planes."""


def planes_of(planes: int | object, input_shape: tuple[int, ...], seed: int) -> Tensor:
    """Return the planes as orthonormal pairs, (planes, 2, *input_shape) float64.

    Parameters
    ----------
    planes : int, or (planes, 2, *input_shape)
        How many random ones, or pairs of orthonormal directions.

    Raises
    ------
    NeighbourhoodError
        If there are none, or they do not fit.
    """
    if isinstance(planes, Integral) and not isinstance(planes, bool):
        planes = int(planes)
        if planes < 1:
            raise NeighbourhoodError(f"{planes} planes asked for; give at least 1")
        return random_frames(input_shape, 2, seed, numbers=range(planes))
    if isinstance(planes, bool | float | str):
        raise TypeError(f"planes is {planes!r}; give how many, or pairs of directions")
    pairs = as_tensor(planes).cpu().double()
    expected = (*pairs.shape[:1], 2, *input_shape)
    if tuple(pairs.shape) != expected or not len(pairs):
        shape = ", ".join(map(str, input_shape))
        raise NeighbourhoodError(
            f"the planes have shape {tuple(pairs.shape)}; give (planes, 2, {shape}): two directions each"
        )
    check_frame(pairs, input_shape)
    return pairs


def nested_frames(planes: Tensor, directions: int, seed: int) -> Tensor:
    """Return frames of ``directions`` orthonormal vectors whose first two are those of the planes.

    The others are uniformly random among those orthogonal to the plane. The first P of them are a frame of P
    directions, so that the frames of all P are nested, and none sees less than the plane's corners.

    Parameters
    ----------
    planes : (planes, 2, *input_shape) float64 Tensor
    directions : int
        The largest P, from 2 to the number of entries of an input.
    seed : int

    Returns
    -------
    (planes, directions, *input_shape) float64 Tensor

    Raises
    ------
    NeighbourhoodError
        If there are not that many orthogonal directions.

    Examples
    --------
    >>> plane = planes_of(1, (9,), seed=0)
    >>> frame = nested_frames(plane, 4, seed=0)[0]
    >>> torch.equal(frame[:2], plane[0]), torch.allclose(frame @ frame.T, torch.eye(4).double())
    (True, True)
    """
    shape = tuple(planes.shape[2:])
    size = prod(shape)
    if not 2 <= directions <= size:
        raise NeighbourhoodError(
            f"{directions} directions asked for; with a plane among them, "
            f"inputs of shape {shape} have 2 to {size}"
        )
    return torch.stack([_completed(plane, directions, seed, number) for number, plane in enumerate(planes)])


def _completed(plane: Tensor, directions: int, seed: int, number: int) -> Tensor:
    words = np.random.SeedSequence((seed, number, COMPLETED)).generate_state(1)
    generator = torch.Generator().manual_seed(int(words[0]))
    rows = plane.flatten(1)
    # Row by row, in sixteens: what torch draws first would depend on how much follows else.
    drawn = -(-rows.shape[1] // 16) * 16
    others = [
        torch.randn(drawn, generator=generator, dtype=torch.float64)[: rows.shape[1]]
        for _ in range(directions - 2)
    ]
    q, r = torch.linalg.qr(torch.stack([*rows, *others]).T)
    added = (q * r.diagonal().sign()).T[2:]
    return torch.cat((rows, added)).reshape(directions, *plane.shape[1:])


def directions_of(directions: int | Sequence[int] | None, size: int) -> tuple[int, ...]:
    """Return the values of P, ascending, with 2 as the first.

    Parameters
    ----------
    directions : int, sequence of int, or None
        None: those of 5, 25 and 100 that inputs of this size have.
    size : int
        Entries of an input.

    Raises
    ------
    NeighbourhoodError
        If inputs do not have that many, or a plane has more.

    Examples
    --------
    >>> directions_of(None, 784), directions_of(None, 2), directions_of(25, 784)
    ((2, 5, 25, 100), (2,), (2, 25))
    """
    if directions is None:
        directions = [p for p in (5, 25, 100) if p <= size]
    asked = [directions] if not isinstance(directions, Iterable) else list(directions)
    wrong = [p for p in asked if not is_int(p) or not 2 <= p <= size]
    if wrong or size < 2:
        raise NeighbourhoodError(
            f"{wrong[0] if wrong else 2} directions asked for; with a plane among them, "
            f"inputs of {size} entries have 2 to {size}"
        )
    return tuple(sorted({2, *map(int, asked)}))
