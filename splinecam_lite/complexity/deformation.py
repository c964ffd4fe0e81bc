"""How a network deforms neighbourhoods: eccentricity and diameter of their images, layer by layer.

Source: "Deep Networks Always Grok and Here is Why" (arXiv 2402.15555), Figs 5, 21, 23: the estimate is
the better, the less layers deform neighbourhoods. The cross-polytope is taken as a graph: its 2P vertices and
its edges, which join all pairs but the opposite ones. The images of the vertices at a layer give each edge a
length, their Euclidean distance.

    eccentricity of a vertex    the longest of its shortest paths to the others
    diameter                    the largest eccentricity

Shortest paths need no search. An edge is never longer than another path between its ends, by the triangle
inequality. Between opposite vertices a path has a second vertex k, and what follows k is no shorter than the
edge from k to the end, by the same inequality. So the shortest of all takes one vertex in between:

    d(i, j) = D[i, j]                        for an edge
    d(i, i') = min_k  D[i, k] + D[k, i']     for opposite vertices i, i'
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from splinecam_lite.complexity.batches import check_batch_size, default_batch, in_batches
from splinecam_lite.complexity.current import CurrentProgram
from splinecam_lite.complexity.estimator import check_device
from splinecam_lite.complexity.frames import (
    as_points,
    as_tensor,
    check_frame,
    check_radius,
    cross_polytope,
    random_frame,
)
from splinecam_lite.errors import ModelError, NeighbourhoodError
from splinecam_lite.network.program import Program

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class NeighbourhoodShape:
    """What becomes of neighbourhoods, by layer: lengths in units of the layer's preactivations.

    Attributes
    ----------
    eccentricity : (points, layers) float64
        Mean over the 2P vertices.
    diameter : (points, layers) float64
    layer_names : tuple of str
    radius : float
        Of the neighbourhoods, in input units.
    directions : int
        P.
    """

    eccentricity: Array
    diameter: Array
    layer_names: tuple[str, ...]
    radius: float
    directions: int

    @property
    def relative_eccentricity(self) -> Array:
        """Eccentricity over 2r, (points, layers). It is √2 where a layer keeps all lengths, at any radius."""
        return self.eccentricity / (2 * self.radius)

    @property
    def relative_diameter(self) -> Array:
        """Diameter over 2r, (points, layers). It is √2 where a layer keeps all lengths, at any radius."""
        return self.diameter / (2 * self.radius)


def neighbourhood_shape(
    model: nn.Module | Program | str | Path,
    points: object,
    radius: float = 0.005,
    directions: int = 25,
    seed: int = 0,
    *,
    frame: object = None,
    batch_size: int | None = None,
) -> NeighbourhoodShape:
    """Return eccentricity and diameter of the images of neighbourhoods at each layer of preactivations.

    The neighbourhoods are those of `LocalComplexity` with the same radius, directions and seed.

    Parameters
    ----------
    model : nn.Module, Program, str or Path
        Of any kind that `LocalComplexity` takes; measured in eval mode, in float64.
    points : (points, *input_shape) array or tensor
    radius : float
        In input units.
    directions : int
        P, at least 2 and at most the number of entries of an input.
    seed : int
        Of the frame.
    frame : (P, *input_shape), optional
        Orthonormal directions to use instead of random ones.
    batch_size : int, optional
        Points at once, at least 1. Default: by the memory that they take.

    Returns
    -------
    NeighbourhoodShape

    Raises
    ------
    NeighbourhoodError
        If points, radius or frame do not fit, or there is but one direction: its two vertices have no edge.
    ModelError
        If the points have another shape than the network's inputs, or a preactivation is not finite.

    Examples
    --------
    The layer doubles the first coordinate, and drops the second. Opposite vertices at 2 and -2 are joined by
    way of 0. The other two have fallen together at 0, but no edge joins them: the way is by 2, and back.

    >>> model = nn.Sequential(nn.Linear(2, 1, bias=False), nn.ReLU()).eval()
    >>> _ = model[0].weight.data.copy_(torch.tensor([[2.0, 0.0]]))
    >>> shape = neighbourhood_shape(model, [[0.0, 0.0]], radius=1.0, frame=torch.eye(2))
    >>> shape.diameter.tolist(), shape.eccentricity.tolist(), shape.layer_names
    ([[4.0]], [[4.0]], ('1',))
    """
    x, radius, batch_size = as_points(points), check_radius(radius), check_batch_size(batch_size)
    network = CurrentProgram(model, all_outputs=True)
    check_device(network.device, torch.float64)
    shape = tuple(x.shape[1:])
    program = network.program(shape).to(torch.float64, network.device)
    if shape != program.input_shape:
        raise ModelError(
            f"the points have shape {tuple(x.shape)}; "
            f"this network takes (points, {str(program.input_shape)[1:]}"
        )
    steps = as_tensor(frame).double() if frame is not None else random_frame(shape, directions, seed)
    check_frame(steps.cpu(), shape)
    if steps.ndim != x.ndim or len(steps) < 2:
        raise NeighbourhoodError(
            f"the frame has shape {tuple(steps.shape)}; give one frame of at least 2 directions"
        )
    steps = steps.to(program.device)

    def measured(some: range) -> tuple[Tensor, Tensor]:
        centre = x[some.start : some.stop].to(program.device, torch.float64)
        vertices = cross_polytope(centre, steps, radius)
        shapes = [graph_shape(z) for z in _preactivations(program, vertices)]
        empty = centre.new_empty(len(centre), 0)
        both = zip(*shapes, strict=True) if shapes else ((), ())
        eccentricity, diameter = (torch.stack(part, dim=1) if part else empty for part in both)
        return eccentricity.cpu(), diameter.cpu()

    size = batch_size or default_batch(program, 2 * len(steps))
    parts = zip(*in_batches(len(x), size, measured), strict=True)
    eccentricity, diameter = (torch.cat(part).numpy() for part in parts)
    return NeighbourhoodShape(eccentricity, diameter, program.layer_names, radius, len(steps))


@torch.inference_mode()
def graph_shape(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean eccentricity and diameter of cross-polytopes, from the images of their vertices.

    Parameters
    ----------
    images : (points, 2P, n)
        P at least 2; vertices ``p`` and ``P + p`` are opposite.

    Returns
    -------
    eccentricity, diameter : (points,)

    Examples
    --------
    A square of side 1: an edge away, and by way of another corner.

    >>> square = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]])
    >>> graph_shape(square)
    (tensor([2.]), tensor([2.]))
    """
    half = images.shape[1] // 2
    # Images lie close together: the squares of their places would swallow the distances.
    z = images - images.mean(dim=1, keepdim=True)
    distance = torch.cdist(z, z, compute_mode="donot_use_mm_for_euclid_dist")
    # By way of k: D[p, k] + D[k, P + p], (points, P, 2P); k = p and k = P + p are no way.
    by_way_of = distance[:, :half] + distance[:, half:]
    opposite = torch.arange(half, device=z.device)
    by_way_of[:, opposite, opposite] = torch.inf
    by_way_of[:, opposite, opposite + half] = torch.inf
    across = by_way_of.amin(dim=2)
    distance[:, opposite, opposite + half] = across
    distance[:, opposite + half, opposite] = across
    eccentricity = distance.amax(dim=2)
    return eccentricity.mean(dim=1), eccentricity.amax(dim=1)


@torch.inference_mode()
def _preactivations(program: Program, vertices: Tensor) -> Iterator[Tensor]:
    """Yield the preactivations (points, 2P, n) of each layer at vertices (points, 2P, *input_shape)."""
    layers = {id(op) for op in program.preactivation_ops}
    live, left = {0: vertices.flatten(0, 1)}, len(layers)
    for i, op in enumerate(program.ops):
        if not left:
            return
        if id(op) in layers:
            z = live[op.inputs[0]].reshape(*vertices.shape[:2], -1)
            if not bool(z.isfinite().all()):
                raise ModelError(
                    f"the preactivations of {op.where} are not finite; look for weights that diverged"
                )
            yield z
            left -= 1
        live[op.output] = op.run(*(live[v] for v in op.inputs))
        for v in {*op.inputs, op.output}:
            if program.last_use(v) <= i:
                del live[v]
