"""Kernels of the estimate: one pass over memory for what torch does in several.

For CPU tensors. `torch` alone does the same elsewhere, and where numba is switched off.

    neighbourhood of a point           row of           at vertex p        at vertex P + p
    centre       c                     the point        c + a_p + s        c - a_p + s'
    offsets      a_1 .. a_P            each direction
    bumps        u_1 .. u_k            each bend        s, s' = sum_h  weight[h, p] u_h, weight[h, P + p] u_h

A NaN is kept in what these kernels return, so that one look at the least and largest value finds it.
"""

import numba
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from splinecam_lite.engine.kernels import kernel

Array = NDArray[np.floating]
Ints = NDArray[np.int64]

LARGEST = float(np.finfo(np.float32).max)
"""What a range begins with: finite, because 0 times it is to be 0, and larger than all that float32 holds."""

TILE = 512
"""Entries of a row that are worked on at a time: a few rows of them stay in the first-level cache."""


def compiled_for(x: Tensor) -> bool:
    """Tell whether these kernels are used for a tensor."""
    return x.device.type == "cpu" and not numba.config.DISABLE_JIT  # type: ignore[attr-defined]


@kernel
def widen(z: Array, points: Ints, low: Array, high: Array, fresh: bool, clamp: bool) -> None:
    """Widen finite ranges ``low``, ``high`` (all, n) by ``z`` (m, q, n), rows of the ``points`` (m,).

    ``fresh`` ranges have no values yet. With ``clamp``, ``z`` is replaced by max(z, 0) in the same pass.
    """
    # Loops over views of the rows, instead of entries by their indices, took 1.2 to 1.5 times as long.
    m, rows, n = z.shape
    for j in range(m):
        p = points[j]
        if fresh:
            for i in range(n):
                low[p, i] = z[j, 0, i]
                high[p, i] = z[j, 0, i]
        for q in range(rows):
            if clamp:
                for i in range(n):
                    v, a, b = z[j, q, i], low[p, i], high[p, i]
                    # The product keeps a NaN, and is a vector instruction, as a condition is not: 3x faster.
                    low[p, i] = (a if a < v else v) + 0.0 * a
                    high[p, i] = b if b > v else v
                    z[j, q, i] = 0.0 if v < 0.0 else v
            else:
                for i in range(n):
                    v, a, b = z[j, q, i], low[p, i], high[p, i]
                    low[p, i] = (a if a < v else v) + 0.0 * a
                    high[p, i] = b if b > v else v


@kernel
def count_crossings(low: Array, high: Array, count: Ints) -> None:
    """Write how many ranges of each row of ``low``, ``high`` (batch, n) hold a sign change; 0 counts as +."""
    for f in range(low.shape[0]):
        found = 0
        for i in range(low.shape[1]):
            found += (low[f, i] < 0.0) & (high[f, i] >= 0.0)
        count[f] = found


@kernel
def written_out(
    centre: Array,
    offset: Array,
    bumps: Array,
    first: Ints,
    order: Ints,
    weight: Array,
    points: Ints,
    start: int,
    out: Array,
) -> None:
    """Write the values at vertices ``start`` and on of neighbourhoods ``points`` (m,) to ``out`` (m, q, n).

    ``offset`` (1, P, n) is that of all points. The bumps of point ``f`` are ``order[first[f]:first[f + 1]]``.
    """
    directions = offset.shape[1]
    shared = offset.shape[0] == 1
    for j in range(len(points)):
        f = points[j]
        c = centre[f]
        for q in range(out.shape[1]):
            vertex, row = start + q, out[j, q]
            a = offset[0 if shared else f, vertex % directions]
            if vertex < directions:
                for i in range(len(row)):
                    row[i] = c[i] + a[i]
            else:
                for i in range(len(row)):
                    row[i] = c[i] - a[i]
            for k in range(first[f], first[f + 1]):
                if order[k] >= len(bumps):
                    break
                w, u = weight[order[k], vertex], bumps[order[k]]
                if w != 0.0:
                    for i in range(len(row)):
                        row[i] += w * u[i]


@kernel
def factored_ranges(
    centre: Array,
    offset: Array,
    bumps: Array,
    first: Ints,
    order: Ints,
    weight: Array,
    low: Array,
    high: Array,
) -> None:
    """Write least and largest value over the vertices of each neighbourhood to ``low``, ``high`` (F, n)."""
    directions, n = offset.shape[1], centre.shape[1]
    plus, minus = np.empty(TILE, centre.dtype), np.empty(TILE, centre.dtype)
    for f in range(centre.shape[0]):
        for start in range(0, n, TILE):
            size = min(TILE, n - start)
            c = centre[f, start : start + size]
            lo, hi = low[f, start : start + size], high[f, start : start + size]
            bent = False
            for k in range(first[f], first[f + 1]):
                if order[k] >= len(bumps):
                    break
                u = bumps[order[k], start : start + size]
                some = False
                for i in range(size):
                    some |= u[i] != 0.0
                bent |= some
            if not bent:
                lo[:] = 0.0  # the reach, for now
                for p in range(directions):
                    a = offset[f, p, start : start + size]
                    for i in range(size):
                        v = abs(a[i])
                        reach = lo[i]
                        lo[i] = (reach if reach > v else v) + 0.0 * reach
                for i in range(size):
                    reach = lo[i]
                    lo[i] = c[i] - reach
                    hi[i] = c[i] + reach
                continue
            lo[:] = LARGEST
            hi[:] = -LARGEST
            for p in range(directions):
                a = offset[f, p, start : start + size]
                for i in range(size):
                    plus[i] = c[i] + a[i]
                    minus[i] = c[i] - a[i]
                for k in range(first[f], first[f + 1]):
                    if order[k] >= len(bumps):
                        break
                    u = bumps[order[k], start : start + size]
                    # Most neurons that bend do so at few vertices.
                    above, below = weight[order[k], p], weight[order[k], directions + p]
                    if above != 0.0:
                        for i in range(size):
                            plus[i] += above * u[i]
                    if below != 0.0:
                        for i in range(size):
                            minus[i] += below * u[i]
                for i in range(size):
                    v, w = plus[i], minus[i]
                    a, b = lo[i], hi[i]
                    least, most = (v if v < w else w), (v if v > w else w)
                    lo[i] = (a if a < least else least) + 0.0 * a + 0.0 * v
                    hi[i] = b if b > most else most


@kernel
def count_bends(
    centre: Array,
    low: Array,
    high: Array,
    breakpoint_: Array,
    near: float,
    count: Ints,
    doubtful: NDArray[np.bool_],
) -> None:
    """Count the neurons whose range holds their breakpoint, and find the neighbourhoods with a value near 0.

    ``breakpoint_`` is (n,). Near 0 is a ``low`` or ``high`` of at most ``near`` times the largest in the
    neighbourhood, unless both are 0.
    """
    for f in range(centre.shape[0]):
        bends = 0
        scale = nearest = 0.0
        nearest = np.inf
        for i in range(centre.shape[1]):
            c, lo, hi, b = centre[f, i], low[f, i], high[f, i], breakpoint_[i]
            bends += (lo <= b) if c > b else (hi > b)
            lo, hi = abs(lo), abs(hi)
            scale = max(scale, lo, hi)
            if lo + hi > 0.0:
                nearest = min(nearest, lo, hi)
        count[f] = bends
        doubtful[f] = nearest <= near * scale


@kernel
def list_bends(
    centre: Array, low: Array, high: Array, breakpoint_: Array, points: Ints, owner: Ints, neuron: Ints
) -> None:
    """Fill in ``owner`` and ``neuron``: the bends of the neighbourhoods ``points``, in their order."""
    found = 0
    for j in range(len(points)):
        f = points[j]
        for i in range(centre.shape[1]):
            b = breakpoint_[i]
            if (low[f, i] <= b) if centre[f, i] > b else (high[f, i] > b):
                owner[found], neuron[found] = j, i
                found += 1


@kernel
def bend_weights(
    centre: Array,
    offset: Array,
    bumps: Array,
    first: Ints,
    order: Ints,
    weight: Array,
    point: Ints,
    neuron: Ints,
    breakpoint_: Array,
    jump: Array,
    out: Array,
) -> None:
    """Write to ``out`` (bends, 2P) how far each bend leads away from the affine map at the centre.

    That is 0 at vertices on the centre's side of the breakpoint, and ``jump |z - breakpoint|`` on the other.
    """
    directions = offset.shape[1]
    shared = offset.shape[0] == 1
    for j in range(len(out)):
        f, i = point[j], neuron[j]
        b = breakpoint_[i]
        for vertex in range(2 * directions):
            a = offset[0 if shared else f, vertex % directions, i]
            z = centre[f, i] + a if vertex < directions else centre[f, i] - a
            for k in range(first[f], first[f + 1]):
                if order[k] >= len(bumps):
                    break
                z += weight[order[k], vertex] * bumps[order[k], i]
            out[j, vertex] = jump[i] * abs(z - b) if (z > b) != (centre[f, i] > b) else 0.0


@kernel
def scale_rows(
    rows: Array,
    row: Ints,
    centre: Array,
    point: Ints,
    left_slope: Array,
    jump: Array,
    breakpoint_: Array,
    out: Array,
) -> None:
    """Write ``rows[row[j]]`` times the slope of the activation at ``centre[point[j]]`` to ``out[j]``."""
    for j in range(len(out)):
        c, x, y = centre[point[j]], rows[row[j]], out[j]
        for i in range(len(y)):
            y[i] = x[i] * (left_slope[i] + (jump[i] if c[i] > breakpoint_[i] else 0.0))
