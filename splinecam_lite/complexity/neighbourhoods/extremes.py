"""Least and largest preactivations over given places around many points, in one pass for all of them.

Up to the first nonlinearity the network is affine in the places' coordinates, and is evaluated there for each
point and each direction only: the first and widest layer does not see the places at all.
"""

import numpy as np
import torch
from torch import Tensor

from splinecam_lite.complexity.neighbourhoods.clipping import (
    Array,
    Inside,
    Integers,
    arc_extremes,
    arc_places,
)
from splinecam_lite.complexity.vertices.affine import affine_values, spread_out
from splinecam_lite.complexity.vertices.spread import Spread
from splinecam_lite.network.program import Program


class Extremes:
    """Least and largest values (n, n_neurons) of each layer over the places seen so far.

    Layers that are affine in the input are left out: nothing needs to be looked for there.

    Parameters
    ----------
    program : Program
        Float64, on the CPU.
    points : (n, *input_shape) Tensor
    frame : (2, *input_shape) or (n, 2, *input_shape) Tensor

    Attributes
    ----------
    low, high : dict from int to (n, n_neurons) float64
        By the number of the layer.
    """

    def __init__(self, program: Program, points: Tensor, frame: Tensor):
        self._program = program
        self._affine = affine_values(program, Spread(points, frame))
        layers = enumerate(zip(program.preactivation_ops, program.n_neurons, strict=True))
        sizes = {layer: n for layer, (op, n) in layers if op.inputs[0] not in self._affine}
        self.low = {layer: np.full((len(points), n), np.inf) for layer, n in sizes.items()}
        self.high = {layer: np.full((len(points), n), -np.inf) for layer, n in sizes.items()}

    def see(self, insides: list[Inside], radius: float, rows: int) -> None:
        """Look at all places inside the domains of the points, about ``rows`` at a time."""
        if not self.low:
            return
        points = [inside.points for inside in insides]
        for owner, uv in _chunks(points, rows):
            self._see(owner, uv[:, None], None)
        arcs = [inside.arcs for inside in insides]
        for owner, angles in _chunks(arcs, max(1, rows // 3)):
            self._see(owner, arc_places(angles, radius), angles)

    @torch.inference_mode()
    def _see(self, owner: Integers, uv: Array, arcs: Array | None) -> None:
        """Look at places (m, k, 2) of the points ``owner`` (m,), ascending; k = 3 places of each arc."""
        program, m = self._program, len(owner)
        activations = {id(op): layer for layer, op in enumerate(program.preactivation_ops)}
        owners = torch.from_numpy(np.repeat(owner, uv.shape[1]))
        flat = torch.from_numpy(np.ascontiguousarray(uv)).flatten(0, 1)
        live: dict[int, Tensor] = {}
        first = np.flatnonzero(np.diff(owner, prepend=-1))
        left = len(self.low)
        for i, op in enumerate(program.ops):
            if op.output in self._affine:
                continue
            for v in op.inputs:
                if v not in live:
                    live[v] = spread_out(self._affine[v], owners, flat)
            layer = activations.get(id(op))
            if layer in self.low:
                z = live[op.inputs[0]].flatten(1).unflatten(0, (m, -1)).numpy()
                low, high = (z[:, 0], z[:, 0]) if arcs is None else arc_extremes(z, arcs)
                _narrow(np.minimum, self.low[layer], owner[first], low, first)
                _narrow(np.maximum, self.high[layer], owner[first], high, first)
                left -= 1
                if not left:
                    return
            live[op.output] = op.run(*(live[v] for v in op.inputs))
            for v in {*op.inputs, op.output}:
                if program.last_use(v) <= i:
                    del live[v]


def _narrow(take: np.ufunc, known: Array, owners: Integers, found: Array, first: Integers) -> None:
    """Bring what is found for rows ``first`` and on, of each owner, into what is known of the owners."""
    known[owners] = take(known[owners], take.reduceat(found, first, axis=0))


def _chunks(places: list[Array], rows: int) -> list[tuple[Integers, Array]]:
    """Cut lists of places, one list for each point, into runs of about ``rows``, with whose they are."""
    owner = np.repeat(np.arange(len(places)), [len(p) for p in places])
    flat = np.concatenate(places)
    return [(owner[i : i + rows], flat[i : i + rows]) for i in range(0, len(flat), rows)]
