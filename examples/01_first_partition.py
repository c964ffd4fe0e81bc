"""The exact partition of a small network on the square [-1, 1]^2: regions, patterns, affine maps, a figure.

Run it with ``python examples/01_first_partition.py``; it writes first_partition.png.
"""

import torch
from torch import nn

import splinecam_lite as sc

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1)).eval()

part = sc.partition(model, sc.Slice.box(-1, 1))
print(part.summary())

# Regions are numbered; everything about them is an array in that order.
areas = part.areas()
print(f"\nareas sum to {areas.sum():.12f} (the square has 4); the largest is {areas.max():.4f}")

# Where does a point lie, which neurons are active there, and which affine map is the network?
point = [[0.3, -0.2]]
(region,) = part.locate(point)
active = [int(part.pattern_bits(layer, [region]).sum()) for layer in range(len(part.layer_names))]
A, b = part.affine_maps([region])
print(f"(0.3, -0.2) is in region {region}, where {active[0]} and {active[1]} of 16 and 16 neurons are active")
print(f"there the network is {A[0, 0, 0]:+.6f} u {A[0, 0, 1]:+.6f} v {b[0, 0]:+.6f}")
with torch.no_grad():
    said = model(torch.tensor(point)).item()
print(f"its value by that map {A[0, 0] @ point[0] + b[0, 0]:.6f}, by the network itself {said:.6f}")

ax = part.plot(color_by="norm")
ax.figure.savefig("first_partition.png", dpi=150)
print("\nwrote first_partition.png")
