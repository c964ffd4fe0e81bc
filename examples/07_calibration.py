"""Maps of local complexity over exact knots, and how many knots the estimate misses at which radius.

After Fig. 25 of arXiv 2402.15555: a network of depth 5 and width 30 learns (sin x1 + cos x2) for x1 < 0, and
0 elsewhere. Local complexity on a grid shows where its knots are, and blurs them the more the larger the
radius. Two inputs make one plane, so that the exact count sees all that there is. Run it with
``python examples/07_calibration.py``; it trains for some seconds, and writes lc_maps.png.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.collections import LineCollection
from matplotlib.colors import PowerNorm
from torch import nn

import splinecam_lite as sc

HALF, CELLS, RADII = 10.0, 200, (0.05, 0.1, 0.5, 1.0)

torch.manual_seed(0)
hidden = [part for _ in range(4) for part in (nn.Linear(30, 30), nn.ReLU())]
model = nn.Sequential(nn.Linear(2, 30), nn.ReLU(), *hidden, nn.Linear(30, 1))
optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
for _ in range(2000):
    x = HALF * (2 * torch.rand(400, 2) - 1)
    y = (x[:, :1].sin() + x[:, 1:].cos()) * (x[:, :1] < 0)
    optimiser.zero_grad()
    loss = nn.functional.mse_loss(model(x), y)
    loss.backward()
    optimiser.step()
print(f"trained: mean squared error {loss.item():.4f}")

program = sc.Program.from_module(model.eval(), (2,))
part = sc.partition(program, sc.Slice.box(-HALF, HALF), progress=False)
knots = part.vertices[part.complex.edge_vertices[part.knots().edges]]
upper = knots[(knots[:, :, 1] >= 0).any(axis=1)]  # the lower half of the maps is left to themselves
print(f"{part.n_regions:,} activation regions in the square of side {2 * HALF:g}")

_, axes = plt.subplots(2, 2, figsize=(9.4, 8.2), layout="constrained", sharex=True, sharey=True)
for ax, radius in zip(axes.flat, RADII, strict=True):
    lc = sc.complexity_map(program, part.plane, CELLS, radius, progress=False)
    image = ax.imshow(lc.total, extent=lc.extent, origin="lower", norm=PowerNorm(0.5))
    ax.add_collection(LineCollection(upper, colors="white", linewidths=0.3, alpha=0.6))
    ax.set(title=f"radius {radius:g}", aspect="equal", xlim=(-HALF, HALF), ylim=(-HALF, HALF))
    plt.colorbar(image, ax=ax, label="crossing neurons of 150", shrink=0.82)
for ax in axes[1]:
    ax.set_xlabel("x1")
for ax in axes[:, 0]:
    ax.set_ylabel("x2")
axes[0, 0].figure.suptitle("local complexity on a grid, P = 2; white, in the upper half: the exact knots")
plt.savefig("lc_maps.png", dpi=110)
print("wrote lc_maps.png\n")

points = HALF * (2 * np.random.default_rng(0).random((200, 2)) - 1)
print(sc.calibrate(program, points, RADII, resamples=500, progress=False).table())
