"""Neighbourhoods of the estimate: frames, orthonormal or Gaussian, and the cross-polytopes that they span.

    the cross-polytope of radius r around x           x + r v_2
    is the hull of the 2P points x ± r v_p                /\\
                                                         /  \\
    v_1 .. v_P: the frame, orthonormal        x - r v_1 < x  > x + r v_1
                                                         \\  /
    P = 2: a diamond                                      \\/
                                                      x - r v_2

Random numbers come from generators of this file's own, on the CPU and in float64: the same seed gives the
same frame on every device and in every dtype, and torch's global random state is neither read nor moved.
"""

from collections.abc import Iterable
from math import exp, lgamma, prod, sqrt
from numbers import Integral
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from splinecam_lite.errors import NeighbourhoodError

ORTHONORMAL = 2.0**-20
"""Largest deviation of ``frame @ frame.T`` from 1: a frame given in float32 passes, a skew one does not."""

SEEDS = 2**64
"""Seeds are below this: torch's generators take no others."""

Kind = Literal["orthonormal", "gaussian"]
"""How directions are drawn."""


def random_frame(
    input_shape: tuple[int, ...], directions: int, seed: int = 0, *, kind: Kind = "orthonormal"
) -> Tensor:
    """Return random directions, uniform over all orientations.

    Parameters
    ----------
    input_shape : tuple of int
        Shape of one input, without the batch.
    directions : int
        P; of orthonormal ones 1 to n, the number of entries of an input, of Gaussian ones any number.
    seed : int
        From 0 to 2^64 - 1. The frame is a function of these four arguments alone.
    kind : "orthonormal" or "gaussian"
        An orthonormal frame; or independent normal directions, divided by the expected length of a standard
        normal vector, ``sqrt(2) gamma((n + 1) / 2) / gamma(n / 2)``, so that their own expected length is 1:
        a single one deviates by about ``sqrt(1 / 2n)``.

    Returns
    -------
    (P, *input_shape) float64 Tensor

    Raises
    ------
    NeighbourhoodError
        If there are not that many orthogonal directions, or the seed is out of range.
    TypeError
        If one of the numbers is none.

    Examples
    --------
    >>> frame = random_frame((1, 28, 28), 25).flatten(1)
    >>> torch.allclose(frame @ frame.T, torch.eye(25, dtype=torch.float64))
    True
    >>> random_frame((3,), 4)
    Traceback (most recent call last):
        ...
    splinecam_lite.errors.NeighbourhoodError: 4 directions asked for, but inputs of shape (3,) ...
    """
    return _drawn(input_shape, directions, check_seed(seed), kind)


def random_frames(
    input_shape: tuple[int, ...],
    directions: int,
    seed: int = 0,
    *,
    numbers: Iterable[int],
    kind: Kind = "orthonormal",
) -> Tensor:
    """Return random frames of their own for the points of the given numbers.

    The frame of a point depends on the seed and its number, not on which others are drawn with it; each is as
    `random_frame` draws one.

    Returns
    -------
    (len(numbers), P, *input_shape) float64 Tensor

    Raises
    ------
    NeighbourhoodError
        As `random_frame`.

    Examples
    --------
    >>> together, alone = random_frames((5,), 2, numbers=range(3)), random_frames((5,), 2, numbers=[2])
    >>> torch.equal(together[2], alone[0])
    True
    """
    seed = check_seed(seed)
    # A CPU generator keeps 32 bits of its seed, so that sums such as seed + number would soon repeat.
    seeds = (int(np.random.SeedSequence((seed, number)).generate_state(1)[0]) for number in numbers)
    return torch.stack([_drawn(input_shape, directions, s, kind) for s in seeds])


def check_kind(kind: str) -> Kind:
    """Return how directions are drawn, or raise `ValueError`."""
    for known in get_args(Kind):
        if kind == known:
            return known
    raise ValueError(f"kind is {kind!r}; give 'orthonormal' or 'gaussian'")


def check_seed(seed: int) -> int:
    """Return the seed, if it is one that every generator takes: a whole number from 0 to 2^64 - 1.

    Raises
    ------
    TypeError, NeighbourhoodError

    Examples
    --------
    >>> check_seed(-1)
    Traceback (most recent call last):
        ...
    splinecam_lite.errors.NeighbourhoodError: the seed is -1; give a whole number from 0 to 2^64 - 1
    """
    if not isinstance(seed, Integral) or isinstance(seed, bool):
        raise TypeError(f"the seed is {seed!r}; give an int")
    if not 0 <= seed < SEEDS:
        raise NeighbourhoodError(f"the seed is {seed}; give a whole number from 0 to 2^64 - 1")
    return int(seed)


def check_directions(directions: int, input_shape: tuple[int, ...], kind: Kind = "orthonormal") -> int:
    """Return P, if inputs of this shape have that many directions.

    Raises
    ------
    TypeError, NeighbourhoodError
    """
    if not isinstance(directions, Integral) or isinstance(directions, bool):
        raise TypeError(f"directions is {directions!r}; give how many, an int")
    size = prod(input_shape)
    if directions < 1 or (kind == "orthonormal" and directions > size):
        raise NeighbourhoodError(
            f"{directions} directions asked for, but inputs of shape {tuple(input_shape)} have 1 to {size} "
            "that are orthonormal; take fewer, or more with kind='gaussian'"
        )
    return int(directions)


def _drawn(input_shape: tuple[int, ...], directions: int, seed: int, kind: Kind) -> Tensor:
    directions, size = check_directions(directions, input_shape, kind), prod(input_shape)
    # On the CPU whatever `torch.set_default_device` says: the numbers are the same everywhere.
    generator = torch.Generator("cpu").manual_seed(seed)
    normal = torch.randn(size, directions, generator=generator, dtype=torch.float64, device="cpu")
    if kind == "gaussian":
        return (normal / expected_length(size)).T.reshape(directions, *input_shape).contiguous()
    q, r = torch.linalg.qr(normal)
    # QR fixes the signs of q by its own rules; with a positive diagonal of r all orientations are alike.
    return (q * r.diagonal().sign()).T.reshape(directions, *input_shape).contiguous()


def expected_length(n: int) -> float:
    """Return the expected length of a vector of ``n`` independent standard normal numbers.

    Examples
    --------
    >>> round(expected_length(1), 6), round(expected_length(2), 6), round(expected_length(784), 4)
    (0.797885, 1.253314, 27.9911)
    """
    return sqrt(2.0) * exp(lgamma((n + 1) / 2) - lgamma(n / 2))


def check_frame(frame: Tensor, input_shape: tuple[int, ...]) -> None:
    """Raise unless ``frame`` (..., P, *input_shape) is orthonormal.

    Raises
    ------
    NeighbourhoodError
        Names the shape or the deviation found.
    """
    size = prod(input_shape)
    at = frame.ndim - len(input_shape) - 1
    if at < 0 or tuple(frame.shape[at + 1 :]) != tuple(input_shape) or not 1 <= frame.shape[at] <= size:
        shape = ", ".join(map(str, input_shape))
        raise NeighbourhoodError(f"the frame has shape {tuple(frame.shape)}; it needs (1 to {size}, {shape})")
    rows = frame.flatten(at + 1)
    deviation = float(
        (rows @ rows.mT - torch.eye(rows.shape[-2], dtype=rows.dtype, device=rows.device)).abs().max()
    )
    if not deviation <= ORTHONORMAL:
        raise NeighbourhoodError(
            f"the frame is not orthonormal (off by {deviation:.1e}); random_frame draws one that is"
        )


def as_tensor(numbers: object) -> Tensor:
    """Return an array, a list or a tensor as a tensor without gradient; dtype and device as given.

    Raises
    ------
    TypeError
        If it holds no numbers.
    NeighbourhoodError
        If they are complex.

    Examples
    --------
    >>> as_tensor([[1.0, 2.0]]).shape, as_tensor(np.zeros((2, 3), np.float32)).dtype
    (torch.Size([1, 2]), torch.float32)
    """
    if isinstance(numbers, Tensor):
        tensor = numbers.detach()
    else:
        if isinstance(numbers, list | tuple):
            numbers = [part.detach().cpu() if isinstance(part, Tensor) else part for part in numbers]
        array = np.asarray(numbers)
        if array.dtype.kind not in "biufc":
            raise TypeError(f"a {type(numbers).__name__} holds no numbers; give an array or a tensor")
        # Torch has no tensors that cannot be written to, and warns of what it makes of such arrays.
        tensor = torch.as_tensor(array if array.flags.writeable else array.copy())
    if tensor.is_complex():
        raise NeighbourhoodError(f"the numbers are complex ({tensor.dtype}); give real ones")
    return tensor


def as_points(points: object) -> Tensor:
    """Return points (n, *input_shape) as a tensor, without gradient; dtype and device as given.

    Raises
    ------
    NeighbourhoodError
        If there are none, or one of them is not finite or complex.

    Examples
    --------
    >>> as_points([[0.0, float("nan")]])
    Traceback (most recent call last):
        ...
    splinecam_lite.errors.NeighbourhoodError: point 0 holds NaN or infinity; give finite points
    """
    x = as_tensor(points)
    if x.ndim < 2 or not len(x):
        raise NeighbourhoodError(
            f"the points have shape {tuple(x.shape)}; give at least one, as (points, *input_shape)"
        )
    finite = x.flatten(1).isfinite().all(dim=1)
    if not bool(finite.all()):
        raise NeighbourhoodError(
            f"point {int((~finite).nonzero()[0])} holds NaN or infinity; give finite points"
        )
    return x


def on(points: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return a tensor in a dtype on a device; float64 is only ever on the one that has it.

    Examples
    --------
    >>> on(torch.zeros(2), torch.float64, torch.device("cpu")).dtype
    torch.float64
    """
    return points.to(device).to(dtype) if device.type == "cpu" else points.to(dtype).to(device)


def check_radius(radius: float) -> float:
    """Return the radius, or raise `NeighbourhoodError` unless it is positive and finite.

    `TypeError` if it is no number.
    """
    if isinstance(radius, str | bytes | bool):
        raise TypeError(f"the radius is {radius!r}; give a number")
    try:
        number = float(radius)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"the radius is {radius!r}; give a number") from error
    if not 0 < number < np.inf:
        raise NeighbourhoodError(f"the radius is {radius}; it must be a positive number")
    return number


def cross_polytope(points: Tensor, frame: Tensor, radius: float) -> Tensor:
    """Return the vertices x + r v_1, .., x + r v_P, x - r v_1, .., x - r v_P of each neighbourhood.

    Parameters
    ----------
    points : (n, *input_shape)
    frame : (P, *input_shape), or (n, P, *input_shape) with one frame for each point
    radius : float
        In input units.

    Returns
    -------
    (n, 2P, *input_shape) Tensor

    Examples
    --------
    For P = 2 they are the corners of a diamond, counter-clockwise.

    >>> cross_polytope(torch.zeros(1, 2), torch.eye(2), 0.5).tolist()
    [[[0.5, 0.0], [0.0, 0.5], [-0.5, 0.0], [0.0, -0.5]]]
    """
    steps = radius * frame
    return points.unsqueeze(1) + torch.cat((steps, -steps), dim=frame.ndim - points.ndim)
