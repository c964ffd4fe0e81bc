"""Slices and domains: ordinary ones, tiny ones, long and thin ones, ones far from the origin."""

import numpy as np

from splinecam_lite import Slice
from tests.fuzz.architectures import Rng, Shape
from tests.strategies import strict_hull


def draw_plane(rng: Rng, shape: Shape) -> tuple[Slice, str, str]:
    """A slice with a domain, and the kinds of both."""
    n = int(np.prod(shape))
    kinds = ["through", "through integers", "around", "axes"]
    kind = "plane" if n == 2 else str(rng.choice(kinds))
    if kind == "plane":
        plane = Slice.box(-1.0, 1.0)
        plane = Slice(plane.origin, plane.directions, plane.domain, shape)
    elif kind == "through":
        plane = Slice.through(*rng.normal(size=(3, *shape)))
    elif kind == "through integers":
        plane = _through_integers(rng, shape)
    elif kind == "around":
        plane = Slice.around(
            rng.normal(size=shape), float(rng.choice([0.5, 1.0, 3.0])), seed=int(rng.integers(100)),
            shape=str(rng.choice(["square", "diamond"])),
        )  # fmt: skip
    else:
        pair = np.eye(n)[rng.choice(n, size=2, replace=False)]
        origin = rng.integers(-1, 2, size=shape).astype(float)
        plane = Slice.around(origin, 1.0, pair.reshape(2, *shape))
    domain = str(rng.choice(list(DOMAINS), p=WEIGHTS))
    return plane.with_domain(DOMAINS[domain](rng, plane.domain)), kind, domain


def _through_integers(rng: Rng, shape: Shape) -> Slice:
    while True:
        points = rng.integers(-2, 3, size=(3, *shape)).astype(float)
        if np.linalg.matrix_rank((points[1:] - points[0]).reshape(2, -1)) == 2:
            return Slice.through(*points, margin=float(rng.choice([0, 0.25])))


def _as_it_is(rng: Rng, domain: np.ndarray) -> np.ndarray:
    return domain


def _box(rng: Rng, domain: np.ndarray) -> np.ndarray:
    low = rng.integers(-8, 8, size=2) / 4
    high = low + rng.integers(1, 9, size=2) / 2
    return np.array([low, [high[0], low[1]], high, [low[0], high[1]]])


def _triangle(rng: Rng, domain: np.ndarray) -> np.ndarray:
    if rng.random() < 0.5:
        return np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]]) - rng.integers(0, 2, size=2)
    turn = rng.uniform(0, 2 * np.pi) + np.array([0.0, 2.0, 4.0])
    return rng.normal(size=2) + rng.uniform(0.5, 2.0) * np.column_stack((np.cos(turn), np.sin(turn)))


def _polygon(rng: Rng, domain: np.ndarray) -> np.ndarray:
    hull = strict_hull([tuple(p) for p in rng.integers(-8, 9, size=(9, 2)).tolist()])
    hull = hull if len(hull) > 2 else [(-8, -8), (8, -8), (0, 8)]
    return np.array(hull) / 4


def _tiny(rng: Rng, domain: np.ndarray) -> np.ndarray:
    return rng.integers(-4, 5, size=2) / 4 + 2.0 ** -int(rng.integers(8, 26)) * _polygon(rng, domain)


def _far_off(rng: Rng, domain: np.ndarray) -> np.ndarray:
    return 2.0 ** int(rng.integers(4, 21)) * rng.normal(size=2).round(2) + _polygon(rng, domain)


def _sliver(rng: Rng, domain: np.ndarray) -> np.ndarray:
    """A rectangle that is long and thin."""
    height = 2.0 ** -int(rng.integers(6, 21))
    return _box(rng, domain) * [1.0, height]


DOMAINS = {
    "as it is": _as_it_is,
    "box": _box,
    "triangle": _triangle,
    "polygon": _polygon,
    "tiny": _tiny,
    "far off": _far_off,
    "sliver": _sliver,
}
WEIGHTS = np.array([4, 3, 2, 3, 2, 2, 1]) / 17
