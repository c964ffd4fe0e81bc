"""What is measured at every checkpoint, and where."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from splinecam_lite.complexity import random_frame
from splinecam_lite.network.slices import Slice
from splinecam_lite.studies.digits import Digits


@dataclass(frozen=True)
class Measures:
    """What to measure, besides loss and accuracy.

    Attributes
    ----------
    slices : tuple of three int each
        Each slice goes through the first training image of each of these classes. The first slice is the one
        whose partition is kept; of the others only counts and knot densities are.
    margin : float
        Their domain is the bounding box of the three, grown on each side by this part of its size.
    distances : tuple of float
        Values of d for knot densities near the decision boundary, in input units.
    near : float
        The one of them that curves and tables show.
    n_points : int
        Training images, test images and random inputs whose local complexity is sampled, of each.
    radius, directions : float, int
        Of the neighbourhoods of that estimate; ``radius`` in input units.
    n_diamonds : int
        Training images around which the estimate is held against the exact count.
    diamond_radius : float
        Radius of these neighbourhoods, which have two directions, in input units.
    seed : int
        Of frames and random inputs.
    """

    slices: tuple[tuple[int, int, int], ...] = ((4, 7, 9), (3, 5, 8), (0, 2, 6))
    margin: float = 0.25
    distances: tuple[float, ...] = (0.125, 0.25, 0.5, 1.0, 2.0)
    near: float = 0.5
    n_points: int = 300
    radius: float = 0.1
    directions: int = 25
    n_diamonds: int = 50
    diamond_radius: float = 1.0
    seed: int = 0


class Probes(NamedTuple):
    """The places that are looked at, the same at every checkpoint."""

    images: tuple[tuple[int, ...], ...]
    """Numbers of the three training images that each slice goes through."""
    planes: tuple[Slice, ...]
    points: dict[str, Tensor]
    """Inputs around which local complexity is sampled, (n_points, 784) each: "train", "test" and "random"."""
    frame: Tensor
    """(2, 784): directions of the diamonds."""


def choose_probes(measures: Measures, digits: Digits) -> Probes:
    """Return the places that are looked at.

    Random inputs are uniform in [0, 1] in every pixel.

    Examples
    --------
    >>> from splinecam_lite.studies.digits import load_digits
    >>> digits = load_digits()
    >>> probes = choose_probes(Measures(n_points=7), digits)
    >>> digits.train_y[list(probes.images[0])].tolist(), probes.points["random"].shape
    ([4, 7, 9], torch.Size([7, 784]))
    """
    first = {int(label): number for number, label in reversed(list(enumerate(digits.train_y)))}
    images = tuple(tuple(first[label] for label in labels) for labels in measures.slices)
    planes = tuple(Slice.through(*digits.train_x[list(three)], margin=measures.margin) for three in images)
    n, size = measures.n_points, digits.train_x.shape[1]
    uniform = torch.rand(n, size, generator=torch.Generator().manual_seed(measures.seed))
    points = {"train": digits.train_x[:n], "test": digits.test_x[:n], "random": uniform}
    return Probes(images, planes, points, random_frame((size,), 2, measures.seed))
