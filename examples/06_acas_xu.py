"""What a collision avoidance system advises, exactly: ACAS Xu, an ONNX file that others have trained.

The network takes distance, angle and heading of an intruder and both speeds, and scores five advisories; the
lowest score wins. Distance and angle vary here, the other three are fixed, as in the pictures of its
properties. Run it with ``python examples/06_acas_xu.py``, or with the path of another network of the
benchmark; it writes acas_xu.png. It needs the extra ``onnx``.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.patches import Patch

import splinecam_lite as sc
from splinecam_lite.show.colours import INK

FILE = Path(__file__).resolve().parents[2] / "shared" / "data" / "acasxu_1_1.onnx"
MEANS = np.array([19791.091, 0, 0, 650, 600])  # ft, rad, rad, ft/s, ft/s
RANGES = np.array([60261, 2 * np.pi, 2 * np.pi, 1100, 1200])
ADVISORIES = {
    "clear of conflict": "#f2f0ea",
    "weak left, 1.5°/s": "#a9cbe8",
    "weak right, 1.5°/s": "#f6cf8f",
    "strong left, 3°/s": "#3a7fbf",
    "strong right, 3°/s": "#d9822b",
}
FURTHEST = 12000.0  # ft

path = Path(sys.argv[1]) if len(sys.argv) > 1 else FILE
if not path.is_file():
    print(f"There is no file {path}: give the path of a network of the ACAS Xu benchmark, acasxu_1_1.onnx.")
    sys.exit()

# The slice, in the units of the network: distance along u, angle along v.
situation = np.array([0, 0, np.radians(-90), 800, 500])  # the intruder flies to our right
origin = (situation - MEANS) / RANGES
near, far = (np.array([0, FURTHEST]) - MEANS[0]) / RANGES[0]
origin[:2] = 0
corners = np.array([(near, -0.5), (far, -0.5), (far, 0.5), (near, 0.5)])
plane = sc.Slice(origin, np.eye(5)[:2], corners, (1, 1, 5))

part = sc.partition(path, plane, decide="argmin", exact=True)
boundary = part.decision_boundary()
print(part.summary())
for name, area in zip(ADVISORIES, boundary.class_areas / plane.area, strict=True):
    print(f"{name:20}{area:7.2%} of all distances to {FURTHEST:,.0f} ft and angles")


def physical(points):
    """Return distances in thousands of feet and angles in degrees, from chart coordinates (..., 2)."""
    scaled = points * RANGES[:2] + MEANS[:2]
    return np.stack((scaled[..., 0] / 1000, np.degrees(scaled[..., 1])), axis=-1)


def position(points):
    """Return where the intruder is, (..., 2) thousands of feet: to our right, and ahead of us."""
    distance, angle = np.moveaxis(points, -1, 0)
    return np.stack((-distance * np.sin(np.radians(angle)), distance * np.cos(np.radians(angle))), axis=-1)


def bent(line):
    """Return a polygonal line (n, 2) of distances and angles with a point at least every degree."""
    steps = np.ceil(np.abs(np.diff(line[:, 1]))).astype(int).clip(min=1)
    along = np.concatenate([i + np.arange(n) / n for i, n in enumerate(steps)] + [[len(steps)]])
    places = np.arange(len(line))
    return np.column_stack([np.interp(along, places, line[:, axis]) for axis in (0, 1)])


decided = boundary.complex  # the regions, cut along the decision boundary
xy = physical(decided.xy)
ends = zip(decided.face_ptr, decided.face_ptr[1:], strict=False)
faces = [xy[decided.face_vertex[start:end]] for start, end in ends]
fill = np.array(list(ADVISORIES.values()))[boundary.face_classes]
border = physical(boundary.segments)

plt.rcParams["font.size"] = 10
figure, (left, right) = plt.subplots(1, 2, figsize=(12, 6.2), layout="constrained")
flat = {"facecolors": fill, "edgecolors": "face", "linewidths": 0.3, "antialiaseds": False}
left.add_collection(PolyCollection(faces, **flat))
edges = physical(part.vertices)[part.complex.edge_vertices]
left.add_collection(LineCollection(edges, colors=INK, linewidths=0.18, alpha=0.7))
left.add_collection(LineCollection(border, colors=INK, linewidths=1.4, capstyle="round"))
left.set(xlim=(0, FURTHEST / 1000), ylim=(-180, 180), yticks=range(-180, 181, 60))
left.set(xlabel="distance of the intruder (1000 ft)", ylabel="angle to the intruder (degrees, left positive)")
left.set_title(f"{part.n_regions:,} activation regions, {part.n_decision_cells} decision cells")

right.add_collection(PolyCollection([position(bent(face[[*range(len(face)), 0]])) for face in faces], **flat))
lines = [position(bent(segment)) for segment in border]
right.add_collection(LineCollection(lines, colors=INK, linewidths=1.4, capstyle="round"))
right.plot(0, 0, marker=(3, 0, 0), markersize=13, color="white", markeredgecolor=INK, markeredgewidth=1.2)
right.set(xlim=(-11, 5), ylim=(-5, 11), aspect="equal")
right.set(xlabel="to our right (1000 ft)", ylabel="ahead of us (1000 ft)")
right.set_title("the same by position: we fly up, the intruder flies to the right")
entries = [Patch(facecolor=colour, edgecolor=INK, label=name) for name, colour in ADVISORIES.items()]
figure.legend(handles=entries, loc="outside lower center", ncols=5, frameon=False)
figure.savefig("acas_xu.png", dpi=130)
print("wrote acas_xu.png")
