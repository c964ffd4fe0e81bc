"""Values at the vertices of neighbourhoods, as long as few neurons bend inside: 1 + P + k rows instead of 2P.

The network is the affine map that it is at the centre ``x``, and a few corrections. At vertex ``x ± r v_p``

    z = c ± a_p + sum_h weight[h, ±p] u_h        c    the network at the centre
                                                 a_p  its derivative there along r v_p
                                                 u_h  its derivative by what comes out of neuron h

A neuron *bends* in the neighbourhood if its breakpoint lies between its values at two of the vertices, or at
the centre and a vertex. From there on it is one more row, its *bump*, that starts as 1 at the neuron and 0
elsewhere; its weight at a vertex is how far the activation there is from the affine map at the centre. All
rows go through affine ops alike, and are scaled by activations as at the centre; so this is no approximation.
Where it takes more than the vertices themselves, because many neurons bend, and at ops that are neither
affine nor have one breakpoint, points leave, and go on vertex by vertex (`vertexwise`).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from splinecam_lite.complexity.vertices import ranges
from splinecam_lite.network.program import KnotsOp

Ints = NDArray[np.int64]


class Knot(NamedTuple):
    """An activation with one breakpoint, neuron by neuron: (n,) Tensors."""

    left_slope: Tensor
    jump: Tensor
    breakpoint_: Tensor

    @staticmethod
    def of(op: object, shape: tuple[int, ...]) -> "Knot | None":
        """Return that of an op on values of this shape; None if it is of another kind."""
        if not isinstance(op, KnotsOp) or len(op.breakpoints) != 1:
            return None
        parts = (op.left_slope, op.jumps[0], op.breakpoints[0])
        return Knot(*(part.expand(shape).reshape(-1) for part in parts))

    def slope(self, z: Tensor) -> Tensor:
        """Slope at ``z`` (..., n)."""
        return torch.where(z > self.breakpoint_, self.left_slope + self.jump, self.left_slope)


@dataclass(frozen=True)
class Bends:
    """The table of all bends so far of F points, oldest first.

    Attributes
    ----------
    owner : (k,) int64 Tensor
        Number of the point.
    weight : (k, 2P) Tensor
        At each vertex.
    first : (F + 1,), order : (k,) int64
        Those of point ``f`` are ``order[first[f]:first[f + 1]]``, oldest first.
    """

    owner: Tensor
    weight: Tensor
    first: Ints
    order: Ints

    @staticmethod
    def table(owner: Tensor, weight: Tensor, points: int) -> "Bends":
        """Sort bends by their points."""
        numbers = owner.cpu().numpy()
        first = np.zeros(points + 1, np.int64)
        np.cumsum(np.bincount(numbers, minlength=points), out=first[1:])
        return Bends(owner, weight, first, np.argsort(numbers, kind="stable"))

    @staticmethod
    def none(points: int, vertices: int, like: Tensor) -> "Bends":
        """Return a table without entries."""
        owner = torch.empty(0, dtype=torch.int64, device=like.device)
        weight, first = like.new_empty(0, vertices), np.zeros(points + 1, np.int64)
        return Bends(owner, weight, first, np.empty(0, np.int64))

    def kept(self, points: Tensor) -> tuple["Bends", Tensor]:
        """Return the table of some of the points, numbered anew, and the old numbers of its bends."""
        if not len(self.owner):
            return Bends.none(len(points), self.weight.shape[1], self.weight), self.owner
        number = torch.full((len(self.first) - 1,), -1, device=points.device)
        number[points] = torch.arange(len(points), device=points.device)
        owner = number[self.owner]
        bends = (owner >= 0).nonzero().flatten()
        return Bends.table(owner[bends], self.weight[bends], len(points)), bends


class Parts(NamedTuple):
    """What a value at the vertices consists of, flattened."""

    centre: Tensor
    """(F, n)"""
    offset: Tensor
    """(F, P, n), or (1, P, n) if it is that of all points"""
    bumps: Tensor
    """(k, n), of the first k bends of the table; later ones do not touch the value."""
    bends: Bends
    reach: Tensor | None = None
    """(n,), the largest ``|offset|``, if there are no bumps and it is known."""

    @property
    def directions(self) -> int:
        """P."""
        return self.offset.shape[1]

    def arrays(self) -> tuple[NDArray, ...]:
        """Return what the kernels take."""
        tensors = (part.numpy() for part in (self.centre, self.offset, self.bumps))
        return *tensors, self.bends.first, self.bends.order, self.bends.weight.numpy()

    def range(self) -> tuple[Tensor, Tensor]:
        """Least and largest value over the vertices of each neighbourhood, (F, n)."""
        if self.reach is None and ranges.compiled_for(self.centre):
            low, high = torch.empty_like(self.centre), torch.empty_like(self.centre)
            ranges.factored_ranges(*self.arrays(), low.numpy(), high.numpy())
            return low, high
        reach = self.offset.abs().amax(dim=1) if self.reach is None else self.reach
        return self.centre - reach, self.centre + reach

    def at_vertices(self, points: Tensor, start: int, stop: int) -> Tensor:
        """Return the values of some points at vertices ``start`` to ``stop``, (points, vertices, n)."""
        if ranges.compiled_for(self.centre):
            out = self.centre.new_empty(len(points), stop - start, self.centre.shape[1])
            ranges.written_out(*self.arrays(), points.numpy(), start, out.numpy())
            return out
        centre = self.centre[points].unsqueeze(1)
        offset = self.offset if len(self.offset) == 1 else self.offset[points]
        return torch.cat((centre + offset, centre - offset), dim=1)[:, start:stop]


@dataclass(frozen=True)
class Factored:
    """A value of F points.

    Attributes
    ----------
    rows : (F + F * P + k, *shape)
        ``c`` of all points; ``a`` of all points; ``u`` of the first k bends of the table.
    points, directions : int
        F and P.
    """

    rows: Tensor
    points: int
    directions: int

    @property
    def first_bump(self) -> int:
        """Row of the first ``u``; those before it are ``c`` and ``a``."""
        return self.points * (1 + self.directions)

    def parts(self, bends: Bends) -> Parts:
        """Take it apart."""
        rows = self.rows.reshape(len(self.rows), -1)
        offset = rows[self.points : self.first_bump].unflatten(0, (self.points, self.directions))
        return Parts(rows[: self.points], offset, rows[self.first_bump :], bends)

    def kept(self, points: Tensor, bends: Tensor) -> "Factored":
        """Return the value of some of the points, with some of the bends of the table."""
        offset = self.points + _rows(points, self.directions)
        bumps = self.first_bump + bends[bends < len(self.rows) - self.first_bump]
        return Factored(self.rows[torch.cat((points, offset, bumps))], len(points), self.directions)


def _rows(points: Tensor, directions: int) -> Tensor:
    """Number of each (point, direction)."""
    return (points[:, None] * directions + torch.arange(directions, device=points.device)).flatten()


class Ranges(NamedTuple):
    """The preactivations of F points over their vertices, and what follows from them."""

    low: Tensor
    """(F, n)"""
    high: Tensor
    n_bends: Tensor
    """(F,) int64: neurons that bend."""
    doubtful: Tensor
    """(F,) bool: some end of a range is as good as 0."""


def ranges_of(parts: Parts, knot: Knot | None, near: float) -> Ranges:
    """Return the ranges of a value, how many neurons bend, and which points have an end of a range near 0.

    Parameters
    ----------
    parts : Parts
    knot : Knot or None
        None if bends do not matter.
    near : float
        In units of the largest value of the neighbourhood. Neurons that are 0 at all vertices do not count.
    """
    low, high = parts.range()
    centre = parts.centre
    breakpoint_ = centre.new_zeros(centre.shape[1]) if knot is None else knot.breakpoint_
    if ranges.compiled_for(centre):
        count = torch.empty(len(centre), dtype=torch.int64)
        doubtful = torch.empty(len(centre), dtype=torch.bool)
        arrays = (t.numpy() for t in (centre, low, high, breakpoint_))
        ranges.count_bends(*arrays, near, count.numpy(), doubtful.numpy())
        return Ranges(low, high, count, doubtful)
    count = torch.where(centre > breakpoint_, low <= breakpoint_, high > breakpoint_).sum(dim=1)
    ends = torch.stack((low, high)).abs()
    scale = ends.amax(dim=(0, 2))
    nearest = torch.where((ends == 0).all(dim=0), torch.inf, ends).amin(dim=(0, 2))
    return Ranges(low, high, count, nearest <= near * scale)


def bent(
    op: KnotsOp, knot: Knot, parts: Parts, at: Ranges, points: Tensor, shape: tuple[int, ...], kept: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Apply an activation with one breakpoint to some of the points of a value.

    Parameters
    ----------
    op, knot
        The activation.
    parts, at
        The value, and its ranges.
    points : (F',) int64 Tensor
        Rows of ``parts.centre``; where kernels are not used, points without bends.
    shape : tuple of int
        Of the value.
    kept : (k',) int64 Tensor
        Bends of those points in the table of ``parts``.

    Returns
    -------
    rows : (F' + F' * P + k' + new, *shape) Tensor
        As in `Factored`.
    owner : (new,) int64 Tensor
        Of the new bends: number in ``points``.
    weight : (new, 2P) Tensor
    """
    n, directions = len(points), parts.directions
    result = op.run(parts.centre[points].reshape(n, *shape)).reshape(n, -1)
    if not ranges.compiled_for(result):
        offset = parts.offset if len(parts.offset) == 1 else parts.offset[points]
        scaled = knot.slope(parts.centre[points]).unsqueeze(1) * offset
        rows = torch.cat((result, scaled.flatten(0, 1))).reshape(-1, *shape)
        return rows, points[:0], result.new_empty(0, 2 * directions)
    n_new, known = int(at.n_bends[points].sum()), kept[kept < len(parts.bumps)]
    rows = result.new_empty(n * (1 + directions) + len(kept) + n_new, result.shape[1])
    rows[:n] = result
    centre, activation = parts.centre.numpy(), [part.numpy() for part in knot]

    def scale(source: Tensor, row: Tensor, point: Tensor, out: Tensor) -> None:
        ranges.scale_rows(source.numpy(), row.numpy(), centre, point.numpy(), *activation, out.numpy())

    own = torch.zeros_like(points) if len(parts.offset) == 1 else points
    rows_out = rows[n : n * (1 + directions)]
    scale(parts.offset.flatten(0, 1), _rows(own, directions), points.repeat_interleave(directions), rows_out)
    bumps = rows[n * (1 + directions) :]
    scale(parts.bumps, known, parts.bends.owner[known], bumps[: len(known)])
    bumps[len(known) :].zero_()

    owner, neuron = torch.empty(n_new, dtype=torch.int64), torch.empty(n_new, dtype=torch.int64)
    ends = (part.numpy() for part in (parts.centre, at.low, at.high, knot.breakpoint_))
    ranges.list_bends(*ends, points.numpy(), owner.numpy(), neuron.numpy())
    bumps[len(kept) + torch.arange(n_new), neuron] = 1.0
    weight = result.new_empty(n_new, 2 * directions)
    where = (points[owner].numpy(), neuron.numpy(), knot.breakpoint_.numpy(), knot.jump.numpy())
    ranges.bend_weights(*parts.arrays(), *where, weight.numpy())
    return rows.reshape(-1, *shape), owner, weight
