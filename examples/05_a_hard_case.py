"""Twenty lines through one point, almost: what a tolerance makes of them, and what is there.

Twenty neurons are meant to have their lines through (3/10, 1/5). Their biases are rounded to float64, so each
line misses the point by some 1e-17. The default mode takes them to meet there, and says so in its report.
Exact mode decides by rational arithmetic, and finds what the numbers say. Run it with
``python examples/05_a_hard_case.py``; it writes hard_case.png.
"""

from fractions import Fraction
from itertools import product
from math import cos, pi, sin

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.collections import PolyCollection
from torch import nn

import splinecam_lite as sc
from splinecam_lite.show.colours import INK, pattern_palette

N, ZOOM, SEEN = 20, 10**16, Fraction(3, 4)
point = Fraction(3, 10), Fraction(1, 5)

hidden = nn.Linear(2, N, dtype=torch.float64)
directions = [(cos(pi * (i + 0.5) / N), sin(pi * (i + 0.5) / N)) for i in range(N)]
biases = [float(-(Fraction(a) * point[0] + Fraction(b) * point[1])) for a, b in directions]  # rounded here
hidden.weight.data = torch.tensor(directions, dtype=torch.float64)
hidden.bias.data = torch.tensor(biases, dtype=torch.float64)
model = nn.Sequential(hidden, nn.ReLU(), nn.Linear(N, 1, dtype=torch.float64)).eval()

square = sc.Slice.box([-0.2, -0.3], [0.8, 0.7])
default = sc.partition(model, square)
exact = sc.partition(model, square, exact=True)
for mode, part in (("default", default), ("exact", exact)):
    found = f"{part.n_regions:4} activation regions, {part.report.n_snaps:3} snaps"
    print(f"{mode:8}{found}; {part.certify().status}")
areas = exact.areas()
print(f"smallest regions, in exact mode: {', '.join(f'{area:.1e}' for area in np.sort(areas)[:3])} of 1")

# Vertices are float64, too coarse for this picture. So take the crossing of two lines at each, as fractions.
lines = [(Fraction(a), Fraction(b), Fraction(c)) for (a, b), c in zip(directions, biases, strict=True)]
neurons_at = [set() for _ in range(exact.n_vertices)]
knots = exact.knots()
for edge, neuron in zip(knots.edges, knots.neurons, strict=True):
    for vertex in exact.complex.edge_vertices[edge]:
        neurons_at[vertex].add(int(neuron))


def zoomed(vertex):
    """Return the exact place of a vertex, as it looks under the magnifying glass."""
    u, v = (Fraction(float(x)) for x in exact.vertices[vertex])
    if len(neurons_at[vertex]) > 1:
        (a, b, c), (d, e, f) = (lines[i] for i in sorted(neurons_at[vertex])[:2])
        u, v = (b * f - c * e) / (a * e - b * d), (c * d - a * f) / (a * e - b * d)
    return (u - point[0]) * ZOOM, (v - point[1]) * ZOOM


def clipped(corners, axis, side):
    """Return the part of a convex polygon on one side of the glass's rim."""
    part = []
    for p, q in zip(corners, corners[1:] + corners[:1], strict=True):
        over_p, over_q = side * p[axis] - SEEN, side * q[axis] - SEEN
        if over_p <= 0:
            part.append(p)
        if over_p * over_q < 0:
            t = over_p / (over_p - over_q)
            part.append(tuple(x + t * (y - x) for x, y in zip(p, q, strict=True)))
    return part


def under_glass(region):
    """Return what is seen of a region, as floats."""
    start, stop = exact.complex.face_ptr[region : region + 2]
    corners = [zoomed(vertex) for vertex in exact.complex.face_vertex[start:stop]]
    for axis, side in product((0, 1), (-1, 1)):
        corners = clipped(corners, axis, side)
    return np.array(corners, dtype=float).reshape(-1, 2)


figure, (left, right) = plt.subplots(1, 2, figsize=(11, 5.9), layout="constrained")
default.plot(color_by="pattern", boundary=False, ax=left)
left.set_title(
    f"default mode: {default.n_regions} activation regions\n"
    f"lines taken to meet in one point: {default.report.n_snaps} snaps reported"
)
palette = pattern_palette()
colours = palette[exact.pattern_hashes() % np.uint64(len(palette))]
shapes = [under_glass(region) for region in range(exact.n_regions)]
style = {"facecolors": colours, "edgecolors": INK, "linewidths": 0.7, "joinstyle": "bevel"}
right.add_collection(PolyCollection(shapes, **style))
rim = (-float(SEEN), float(SEEN))
right.set(xlim=rim, ylim=rim, aspect="equal")
right.set(xlabel="(input 1 - 3/10) · 10$^{16}$", ylabel="(input 2 - 1/5) · 10$^{16}$")
n_seen = sum(len(shape) > 2 for shape in shapes)
right.set_title(
    f"exact mode: {exact.n_regions} activation regions\n"
    f"the centre, 10$^{{16}}$ times as large: {n_seen} of them are in view"
)
figure.savefig("hard_case.png", dpi=150)
print("wrote hard_case.png")
