"""Exact arithmetic on tensors: integers in several limbs, each a small integer held in float64.

    value = sum_i limbs[i] * 2^(bits * (top - i))          |limbs[i]| <= 2^(bits - 1)

Limbs lie on one grid of positions, multiples of ``bits`` binary places, so that terms are aligned by counting
limbs. ``bits`` is chosen so that a sum of products of limbs stays below 2^52 (`grid_for`): then every partial
sum is an integer that float64 holds, and torch's matrix products and convolutions are exact, in whatever
order they add.

Carries go to the nearest integer, so limbs have signs, and what lies below limb ``i`` is less than 0.51 of
its unit.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from splinecam_lite.errors import ModelError

SPARE = 2
"""Limbs above the first product that carries can reach: a sum below 2^52 is less than three limbs long."""

PAIRS = 4
"""Products of limbs added up at one position before the carries are taken."""

TAIL = 0.51
"""Bound on what lies below a limb, in its unit: 1/2 + 2^-bits / 2 + ..., for at least 8 bits."""

WIDEST = 24

LARGEST_EXPONENT = 1000
"""Of numbers that are split: the first limb, rounded up, is still a float64."""


class Digits(NamedTuple):
    """A tensor of integers times a power of two.

    Attributes
    ----------
    limbs : (n_limbs, *shape) float64 Tensor
        Integers, the most significant limb first.
    top : int
        Position of the first limb: its unit is ``2^(bits * top)``.
    """

    limbs: Tensor
    top: int

    @property
    def bottom(self) -> int:
        """Position of the last limb."""
        return self.top - len(self.limbs) + 1

    @property
    def is_zero(self) -> bool:
        return not bool(self.limbs.any())


def grid_for(terms: float) -> int:
    """Return the bits of a limb, such that sums of ``terms`` products of limbs are exact.

    Examples
    --------
    >>> grid_for(1), grid_for(256), grid_for(4608)
    (24, 22, 19)
    """
    carried = max(int(terms) - 1, 0).bit_length() + (PAIRS - 1).bit_length()
    # Half a binary place for what carries leave in the limbs that are added to: 52, not 53.
    return max(min((52 - carried) // 2 + 1, WIDEST), 0)


def split(x: Tensor, bits: int) -> Digits:
    """Write float64 numbers as digits, exactly.

    Raises
    ------
    ModelError
        If a number is 2^1000 or more.

    Examples
    --------
    >>> split(torch.tensor([1.0, -2.5], dtype=torch.float64), 8)
    Digits(limbs=tensor([[   1.,   -2.],
            [   0., -128.]], dtype=torch.float64), top=0)
    """
    x = x.detach().to(torch.float64)
    _, exponents = torch.frexp(x)
    live = x != 0
    if not bool(live.any()):
        return Digits(torch.zeros(1, *x.shape, dtype=torch.float64), 0)
    if int(exponents[live].max()) > LARGEST_EXPONENT:
        raise ModelError(
            f"{float(x.abs().max()):.1e} is too large for exact arithmetic; scale the weights down"
        )
    # |x| < 2^largest, so that its first limb is at most 2^(bits - 1).
    top = -(-(int(exponents[live].max()) + 1) // bits) - 1
    rest = x.clone()
    limbs: list[Tensor] = []
    while bool(rest.any()):
        place = bits * (top - len(limbs))
        limb = torch.round(_shift(rest, -place))
        rest -= _shift(limb, place)
        limbs.append(limb)
    return trim(Digits(torch.stack(limbs), top))


def _shift(x: Tensor, places: int) -> Tensor:
    """Return ``x * 2^places``, by factors that float64 holds."""
    while abs(places) > 1000:
        step = 1000 if places > 0 else -1000
        x, places = x * 2.0**step, places - step
    return x * 2.0**places


def carry(limbs: Tensor, bits: int) -> None:
    """Bring all limbs but the first to at most ``2^(bits - 1)``, in place; the value stays.

    Limbs are below 2^52 before. The first limb takes what the others carry: leave `SPARE` zero limbs above.
    """
    unit = 2.0**bits
    for i in range(len(limbs) - 1, 0, -1):
        over = torch.round(limbs[i] * (1 / unit))
        limbs[i].sub_(over, alpha=unit)
        limbs[i - 1].add_(over)


def trim(x: Digits) -> Digits:
    """Drop limbs at both ends that are zero everywhere; one stays."""
    first, last = 0, len(x.limbs)
    while first < last - 1 and not bool(x.limbs[first].any()):
        first += 1
    while last > first + 1 and not bool(x.limbs[last - 1].any()):
        last -= 1
    return Digits(x.limbs[first:last], x.top - first)


def widen(x: Digits, top: int, bottom: int) -> Digits:
    """Append zero limbs so that positions ``top`` to ``bottom`` are there; limbs below ``bottom`` are cut."""
    kept = x.limbs[: max(x.top - bottom + 1, 0)]
    above, below = max(top - x.top, 0), max(x.top - len(kept) + 1 - bottom, 0)
    if not above and not below:
        return Digits(kept, x.top)
    out = kept.new_zeros((above + len(kept) + below, *x.limbs.shape[1:]))
    out[above : above + len(kept)] = kept
    return Digits(out, x.top + above)


def align(terms: Sequence[Digits]) -> tuple[list[Tensor], int]:
    """Return the limbs of all terms at the same positions, and the first position."""
    top, bottom = max(t.top for t in terms), min(t.bottom for t in terms)
    return [widen(t, top, bottom).limbs for t in terms], top


def add(a: Digits, b: Digits, bits: int) -> Digits:
    """``a + b``, broadcast."""
    (x, y), top = align([a, b])
    total = x + y
    return normalise(total, top, bits)


def normalise(limbs: Tensor, top: int, bits: int) -> Digits:
    """Take the carries of limbs below 2^52 and drop what is zero."""
    room = torch.cat((limbs.new_zeros((SPARE, *limbs.shape[1:])), limbs))
    carry(room, bits)
    return trim(Digits(room, top + SPARE))


def times(a: Digits, b: Digits, bits: int) -> Digits:
    """``a * b`` entry by entry, broadcast."""
    shape = torch.broadcast_shapes(a.limbs.shape[1:], b.limbs.shape[1:])
    rank = len(shape)
    x = a.limbs.reshape(len(a.limbs), *[1] * (rank - a.limbs.ndim + 1), *a.limbs.shape[1:])
    out = a.limbs.new_zeros((SPARE + len(a.limbs) + len(b.limbs) - 1, *shape))
    for k, limb in enumerate(b.limbs):
        out[SPARE + k : SPARE + k + len(x)] += x * limb
        if k % PAIRS == PAIRS - 1:
            carry(out, bits)
    carry(out, bits)
    return trim(Digits(out, a.top + b.top + SPARE))


def of_integer(number: int, bits: int) -> Digits:
    """A Python integer as digits without axes."""
    limbs: list[float] = []
    position, half = 0, 1 << (bits - 1)
    while number or not limbs:
        limb = ((number + half) % (1 << bits)) - half
        limbs.append(float(limb))
        number = (number - limb) >> bits
        position += 1
    return trim(Digits(torch.tensor(limbs[::-1], dtype=torch.float64), position - 1))
