"""The exact decision boundary of a classifier trained on two moons: its length, and distances from it.

Run it with ``python examples/02_decision_boundary.py``; it trains for a second, and writes
decision_boundary.png.
"""

import numpy as np
import torch
from torch import nn

import splinecam_lite as sc


def two_moons(n, seed):
    """Return (2n, 2) points on two interleaved half circles with noise, and their class, 0 or 1."""
    rng = np.random.default_rng(seed)
    t = rng.uniform(0, np.pi, (2, n))
    upper = np.stack((np.cos(t[0]) - 0.5, np.sin(t[0]) - 0.25), axis=1)
    lower = np.stack((0.5 - np.cos(t[1]), 0.25 - np.sin(t[1])), axis=1)
    points = np.concatenate((upper, lower)) + rng.normal(0, 0.1, (2 * n, 2))
    return points.astype(np.float32), np.repeat([0, 1], n)


points, labels = two_moons(150, seed=0)
x, y = torch.from_numpy(points), torch.from_numpy(labels)

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))
optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
for _ in range(400):
    optimiser.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimiser.step()
model.eval()
accuracy = (model(x).argmax(1) == y).float().mean()
print(f"trained: loss {loss.item():.4f}, accuracy {accuracy:.3f} on {len(points)} points")

plane = sc.Slice.box(-2, 2)
part = sc.partition(model, plane)
boundary = part.decision_boundary()
print(f"{part.n_regions} activation regions, {part.n_linear_regions} linear regions")
print(f"{boundary.n_cells} decision cells")
print(f"decision boundary: {len(boundary.segments)} segments, {boundary.length:.4f} input units long")

# In training knots move to where the classes meet: compare the density of regions there and elsewhere.
distance = boundary.distance(part.interior_points())
areas = part.areas()
for name, where in (("within 0.25 of the boundary", distance < 0.25), ("elsewhere", distance >= 0.25)):
    print(f"activation regions per square input unit {name}: {where.sum() / areas[where].sum():.0f}")

margin = boundary.distance(plane.project(points))
print(
    f"data is {margin.min():.4f} input units or more from the boundary, {np.median(margin):.4f} in the median"
)

ax = part.plot(points=points, labels=labels)
ax.figure.savefig("decision_boundary.png", dpi=150)
print("wrote decision_boundary.png")
