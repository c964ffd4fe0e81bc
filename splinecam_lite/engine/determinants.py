"""Signs of 3 x 3 determinants of lines in double-double, with a bound that says when they are certain.

A *line* is the affine function ``a u + b v + c`` whose zeros it is, as an unevaluated sum ``hi + lo`` of two
float64 for each coefficient. The crossing of lines ``p`` and ``q`` is ``p x q = (X, Y, W)``, the place
``(X / W, Y / W)``, and the value of ``r`` there is ``r . (p x q) / W``.

Rounding
    A sum of two double-doubles is off by at most ``3 * 2**-106`` of the sum of their sizes, a product by at
    most ``8 * 2**-106`` of its size (Dekker's products, Knuth's sums: no fused operations, any compiler).
    A coefficient itself is off by ``2**-106``. A determinant is six products of three numbers, added up in
    five sums: less than ``64 * 2**-106`` of the permanent of the absolute values. `BOUND` is 16 times that.
"""

import numpy as np

from splinecam_lite.engine.kernels import kernel

BOUND = 2.0**-96
"""Error of a determinant in double-double, as a part of the permanent of the absolute values."""

ACCURATE = 2.0**-72
"""A determinant larger than this part of the permanent is right to 24 bits."""

UNDECIDED = 2
"""Not a sign: the determinant is smaller than its bound."""

_SPLITTER = 2.0**27 + 1.0


@kernel
def _two_sum(a, b):
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


@kernel
def _two_product(a, b):
    p = a * b
    t = _SPLITTER * a
    a_high = t - (t - a)
    a_low = a - a_high
    t = _SPLITTER * b
    b_high = t - (t - b)
    b_low = b - b_high
    return p, ((a_high * b_high - p) + a_high * b_low + a_low * b_high) + a_low * b_low


@kernel
def _add(a, a_low, b, b_low):
    s, e = _two_sum(a, b)
    t, f = _two_sum(a_low, b_low)
    s, e = _two_sum(s, e + t)
    return _two_sum(s, e + f)


@kernel
def _multiply(a, a_low, b, b_low):
    p, e = _two_product(a, b)
    return _two_sum(p, e + (a * b_low + a_low * b))


@kernel
def _minor(p, p_low, q, q_low, i, j):
    """Return ``p_i q_j - p_j q_i``, and the sum of the sizes of its terms."""
    x, x_low = _multiply(p[i], p_low[i], q[j], q_low[j])
    y, y_low = _multiply(p[j], p_low[j], q[i], q_low[i])
    s, s_low = _add(x, x_low, -y, -y_low)
    return s, s_low, abs(x) + abs(y)


@kernel
def values_at_crossings(p, p_low, q, q_low, r, r_low):
    """Evaluate lines ``r`` at the crossings of lines ``p`` and ``q``, each (n, 3), entries at most 1 in size.

    Returns
    -------
    sign : (n,) int8
        -1, 0 (an exact zero: all terms vanish), 1, or UNDECIDED; also where the value would not be accurate.
    value : (n,) float64
        Of ``r`` there, to 23 bits; meaningless where undecided.
    """
    n = len(p)
    sign, value = np.empty(n, np.int8), np.zeros(n)
    for i in range(n):
        w, _, w_size = _minor(p[i], p_low[i], q[i], q_low[i], 0, 1)
        total, total_low, size = 0.0, 0.0, 0.0
        for k in range(3):
            m, m_low, m_size = _minor(p[i], p_low[i], q[i], q_low[i], (k + 1) % 3, (k + 2) % 3)
            t, t_low = _multiply(m, m_low, r[i, k], r_low[i, k])
            total, total_low = _add(total, total_low, t, t_low)
            size += m_size * abs(r[i, k])
        if abs(w) <= ACCURATE * w_size:
            sign[i] = UNDECIDED
        elif size == 0.0:
            sign[i] = 0
        elif abs(total) <= ACCURATE * size:
            sign[i] = UNDECIDED
        else:
            sign[i] = 1 if (total > 0.0) == (w > 0.0) else -1
            value[i] = total / w
    return sign, value


@kernel
def triples(lines, low):
    """Return the signs of the determinants of all triples and pairs of lines (n, 3), or UNDECIDED.

    Returns
    -------
    three : (n, n, n) int8
        Of lines i < j < k; the other entries are 0.
    two : (n, n) int8
        Of ``W`` of the crossing of lines i < j; the other entries are 0.
    """
    n = len(lines)
    three, two = np.zeros((n, n, n), np.int8), np.zeros((n, n), np.int8)
    for i in range(n):
        for j in range(i + 1, n):
            w, _, w_size = _minor(lines[i], low[i], lines[j], low[j], 0, 1)
            two[i, j] = _sign_beyond(w, BOUND * w_size)
            for k in range(j + 1, n):
                total, total_low, size = 0.0, 0.0, 0.0
                for c in range(3):
                    m, m_low, m_size = _minor(lines[i], low[i], lines[j], low[j], (c + 1) % 3, (c + 2) % 3)
                    t, t_low = _multiply(m, m_low, lines[k, c], low[k, c])
                    total, total_low = _add(total, total_low, t, t_low)
                    size += m_size * abs(lines[k, c])
                three[i, j, k] = _sign_beyond(total, BOUND * size)
    return three, two


@kernel
def _sign_beyond(x, bound):
    if x > bound:
        return 1
    return -1 if x < -bound else UNDECIDED


@kernel
def sides_of_crossings(three, two):
    """Return the sign of line ``k`` at the crossing of lines ``i`` and ``j`` for all triples, (n, n, n) int8.

    ``three`` and ``two`` as from `triples`, all decided.
    """
    n = len(two)
    out = np.zeros((n, n, n), np.int8)
    for i in range(n):
        for j in range(i + 1, n):
            for k in range(j + 1, n):
                d = three[i, j, k]
                out[i, j, k] = out[j, i, k] = d * two[i, j]
                out[i, k, j] = out[k, i, j] = -d * two[i, k]
                out[j, k, i] = out[k, j, i] = d * two[j, k]
    return out
