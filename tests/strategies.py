"""Random small networks and domains, generic and degenerate, for property tests.

Every number is dyadic, so the float64 network that torch runs and the rational network that the oracle reads
are one and the same. Degenerate networks have small integers for weights: coincidences are then exact and
frequent, and what is no coincidence is no near miss either (the library takes a knot that passes a vertex
within 2**-40 of its scale to pass through it).

The numbers come from a drawn seed, the structure from hypothesis, which can then shrink the structure.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
import torch
from hypothesis import strategies as st
from torch import nn

from splinecam_lite import Program, Traced, trace
from tests.exact_networks import Abs, read_sequential
from tests.oracles import ExactPartition

WIDTHS = [(1,), (3,), (8,), (2, 6), (8, 8), (4, 2, 5), (6, 8, 8)]
MIXED = ("leaky", "relu", "abs")
LEFT_SLOPES = (0.25, -0.5, 2.0, 0.0)

ACTIVATIONS: dict[str, Callable[[int], list[nn.Module]]] = {
    "relu": lambda width: [nn.ReLU()],
    "leaky": lambda width: [nn.LeakyReLU(0.25)],
    "abs": lambda width: [Abs()],
    "prelu": lambda width: [_prelu(width)],
    "relu twice": lambda width: [nn.ReLU(), nn.ReLU()],
    "leaky, then relu": lambda width: [nn.LeakyReLU(0.25), nn.ReLU()],
}

Layer = tuple[list[list[float]], list[float]]
Domain = list[tuple[float, float]]


def _prelu(width: int) -> nn.PReLU:
    module = nn.PReLU(width, dtype=torch.float64)
    module.weight.data = torch.tensor(np.resize(LEFT_SLOPES, width))
    return module


@dataclass(frozen=True)
class Case:
    """A network with two inputs and a domain, as plain numbers: what a failing test prints can be pasted."""

    layers: list[Layer]
    activations: list[str]
    domain: Domain

    def model(self) -> nn.Sequential:
        """The network as a float64 torch module in eval mode."""
        modules: list[nn.Module] = []
        for number, (matrix, bias) in enumerate(self.layers):
            linear = nn.Linear(len(matrix[0]), len(matrix), dtype=torch.float64)
            linear.weight.data = torch.tensor(matrix, dtype=torch.float64)
            linear.bias.data = torch.tensor(bias, dtype=torch.float64)
            modules.append(linear)
            if number < len(self.activations):
                modules += ACTIVATIONS[self.activations[number]](len(bias))
        return nn.Sequential(*modules).eval()

    def program(self) -> Program:
        """The model, traced; cases of one architecture share the tracing, which takes most of the time."""
        widths = (len(self.layers[0][0][0]), *(len(bias) for _, bias in self.layers))
        return _traced(widths, tuple(self.activations)).program(self.model().state_dict())

    def exact(self) -> ExactPartition:
        """The true partition."""
        return ExactPartition(read_sequential(self.model()), self.domain)


@cache
def _traced(widths: tuple[int, ...], activations: tuple[str, ...]) -> Traced:
    layers = [(np.zeros((n, m)).tolist(), [0.0] * n) for m, n in pairwise(widths)]
    return trace(Case(layers, list(activations), []).model(), widths[:1])


# ---- domains -----------------------------------------------------------------------------------


@st.composite
def convex_polygons(draw) -> Domain:
    """Hull of some points with coordinates that are multiples of 1/4."""
    coordinate = st.integers(-8, 8)
    points = draw(st.lists(st.tuples(coordinate, coordinate), min_size=3, max_size=8, unique=True))
    hull = strict_hull(points)
    if len(hull) < 3:  # all on one line
        hull = [(-8, -8), (8, -8), (0, 8)]
    return [(x / 4, y / 4) for x, y in hull]


def domains() -> st.SearchStrategy[Domain]:
    """Boxes around the origin and off it, triangles, convex polygons."""
    return st.one_of(
        st.sampled_from(
            [
                [(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)],
                [(0.25, 0.5), (1.25, 0.5), (1.25, 2.0), (0.25, 2.0)],
                [(0.0, 0.0), (2.0, 0.0), (0.0, 2.0)],
                [(-1.5, -0.25), (1.0, -1.0), (0.5, 1.75)],
            ]
        ),
        convex_polygons(),
    )


def strict_hull(points: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Corners of the convex hull, counter-clockwise; fewer than 3 if all points are on a line.

    No corner is straight. Andrew's monotone chain.
    """

    def chain(ordered):
        corners = []
        for x, y in ordered:
            while len(corners) > 1:
                (x0, y0), (x1, y1) = corners[-2:]
                if (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0) > 0:
                    break
                corners.pop()
            corners.append((x, y))
        return corners[:-1]

    return chain(sorted(points)) + chain(sorted(points, reverse=True))


# ---- networks ----------------------------------------------------------------------------------


@st.composite
def generic_cases(draw) -> Case:
    """Normal weights and biases, rounded to multiples of 2**-16: no coincidence to be expected."""
    widths = draw(st.sampled_from(WIDTHS))
    outputs = 1 if len(widths) == 1 else 3
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    layers = []
    for n_in, n_out in zip([2, *widths], [*widths, outputs], strict=True):
        layer = np.round(rng.normal(size=(n_out, n_in + 1)) * 2**16) / 2**16
        layers.append((layer[:, :-1].tolist(), (layer[:, -1] / 2).tolist()))
    return Case(layers, _activations(draw, len(widths)), draw(domains()))


@st.composite
def degenerate_cases(draw) -> Case:
    """Small integer weights and biases, some layers made worse: see `WORSE`."""
    widths = draw(st.sampled_from(WIDTHS))
    outputs = 1 if len(widths) == 1 else 3
    domain = draw(domains())
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    layers = []
    for number, (n_in, n_out) in enumerate(zip([2, *widths], [*widths, outputs], strict=True)):
        largest = draw(st.sampled_from([1, 2, 3]))
        matrix = rng.integers(-largest, largest, size=(n_out, n_in), endpoint=True).astype(float)
        bias = rng.integers(-largest, largest, size=n_out, endpoint=True).astype(float)
        if number < len(widths):
            for kind in draw(st.lists(st.sampled_from(list(WORSE)), max_size=2, unique=True)):
                if number == 0 or kind not in ABOUT_PLACES:
                    WORSE[kind](draw, matrix, bias, domain)
        layers.append((matrix.tolist(), bias.tolist()))
    return Case(layers, _activations(draw, len(widths)), domain)


def _activations(draw, depth: int) -> list[str]:
    """The same activation everywhere, or a mixture."""
    name = draw(st.sampled_from([*ACTIVATIONS, "mixed"]))
    return list(MIXED[:depth]) if name == "mixed" else [name] * depth


def _rows(draw, bias) -> list[int]:
    return draw(st.lists(st.integers(0, len(bias) - 1), min_size=1, max_size=3, unique=True))


def _zero_bias(draw, matrix, bias, domain) -> None:
    bias[:] = 0


def _multiples(draw, matrix, bias, domain) -> None:
    """Some neurons are a power of two, of either sign, times another."""
    for row in _rows(draw, bias):
        other = draw(st.integers(0, len(bias) - 1))
        factor = draw(st.sampled_from([-4, -1, -0.5, 0.5, 1, 4]))
        matrix[row], bias[row] = factor * matrix[other], factor * bias[other]


def _dead(draw, matrix, bias, domain) -> None:
    """Some neurons are constant (zero among the constants), some negative wherever one looks."""
    for row in _rows(draw, bias):
        if draw(st.booleans()):
            matrix[row], bias[row] = 0, draw(st.sampled_from([-1, 0, 1]))
        else:
            bias[row] = -(2**14)


def _through(matrix, bias, row, place) -> None:
    bias[row] = -(matrix[row] @ place)


def _concurrent(draw, matrix, bias, domain) -> None:
    """All lines pass through one point, the domain's centre or another."""
    place = draw(st.sampled_from([(0.0, 0.0), (0.25, -0.5), (0.5, 1.0)]))
    for row in range(len(bias)):
        _through(matrix, bias, row, place)


def _corners(draw, matrix, bias, domain) -> None:
    """Some lines pass through corners of the domain."""
    for row in _rows(draw, bias):
        _through(matrix, bias, row, draw(st.sampled_from(domain)))


def _sides(draw, matrix, bias, domain) -> None:
    """Some lines lie along sides of the domain, the positive side in or out."""
    for row in _rows(draw, bias):
        number = draw(st.integers(0, len(domain) - 1))
        (x0, y0), (x1, y1) = domain[number - 1], domain[number]
        matrix[row] = draw(st.sampled_from([-1, 1])) * np.array([y0 - y1, x1 - x0])
        _through(matrix, bias, row, (x0, y0))


WORSE = {
    "zero bias": _zero_bias,
    "multiples": _multiples,
    "dead": _dead,
    "concurrent": _concurrent,
    "corners": _corners,
    "sides": _sides,
}
ABOUT_PLACES = {"concurrent", "corners", "sides"}  # these speak of the plane: for the first layer only
