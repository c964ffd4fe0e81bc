"""The radius at which a wanted recall is kept, from recalls that were measured."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

WANTED = (0.9, 0.95, 0.99)
"""Recalls for which tables and files name a radius."""


class Recommendation(NamedTuple):
    """The largest radius at which the recall is at least the wanted one, as far as was measured.

    Attributes
    ----------
    radius : float
        In input units; NaN if there is none.
    kind : str
        ``"between"`` two radii that were measured, of which the larger is not shown to do; ``"largest"``, the
        largest that was measured does, and perhaps larger ones do; ``"none"``, the recall falls below
        what is wanted before any radius is shown to do; ``"undecided"``, too few crossings to tell.
    """

    radius: float
    kind: Literal["between", "largest", "none", "undecided"]


def recommended(
    wanted: float, radii: Sequence[float], recalls: Sequence[float], lows: Sequence[float]
) -> Recommendation:
    """Return the largest radius at which the lower end of the recall's interval is at least ``wanted``.

    At no smaller radius that was measured may the recall itself be below. Between that radius and the next
    the lower end is taken to be linear in the logarithm of the radius; beyond what was measured nothing is
    said.

    Parameters
    ----------
    wanted : float
        In (0, 1].
    radii : (n,) float
        Ascending.
    recalls, lows : (n,) float
        Recalls and the lower ends of their intervals; NaN where nothing crosses, which says nothing.

    Raises
    ------
    ValueError
        If ``wanted`` is no share.

    Examples
    --------
    >>> recommended(0.9, [0.01, 0.1, 1.0], [1.0, 0.99, 0.88], [0.5, 0.95, 0.85])
    Recommendation(radius=0.316..., kind='between')
    >>> recommended(0.8, [0.01, 0.1, 1.0], [1.0, 0.99, 0.88], [0.5, 0.95, 0.85])
    Recommendation(radius=1.0, kind='largest')
    """
    if not 0 < wanted <= 1:
        raise ValueError(f"the wanted recall is {wanted}; give a share above 0, up to 1")
    kept: tuple[float, float] | None = None
    beyond: tuple[float, float] | None = None
    failed = False
    for radius, value, low in zip(radii, recalls, lows, strict=True):
        if low >= wanted:  # False for NaN
            kept, beyond = (radius, low), None
        elif low < wanted:
            beyond = beyond or (radius, low)
            failed = value < wanted
        if failed:
            break
    if kept is None:
        return Recommendation(float("nan"), "none" if failed else "undecided")
    if beyond is None:
        return Recommendation(float(kept[0]), "largest")
    part = (kept[1] - wanted) / (kept[1] - beyond[1])
    return Recommendation(float(kept[0] * (beyond[0] / kept[0]) ** part), "between")


def common(found: Sequence[Recommendation]) -> Recommendation:
    """Return the recommendation that does for several networks; those that are undecided have no say.

    Examples
    --------
    >>> common([Recommendation(0.5, "between"), Recommendation(1.0, "largest")])
    Recommendation(radius=0.5, kind='between')
    """
    decided = [each for each in found if each.kind != "undecided"]
    none = [each for each in decided if each.kind == "none"]
    if none or not decided:
        return (none or list(found))[0]
    return min(decided, key=lambda each: each.radius)
