"""When to measure during training: early changes are fast, late ones slow."""

from operator import index


def log_spaced(first: int, last: int, n: int) -> tuple[int, ...]:
    """Return about evenly spaced steps on a logarithmic scale, sorted and distinct.

    Where the spacing would be less than one step, at the beginning, every step is taken, and the rest is
    spread evenly over what is left; so there are always as many as asked for.

    Parameters
    ----------
    first, last : int
        Both are among the steps; ``first`` is at least 1.
    n : int
        How many; fewer come back only if there are not so many steps.

    Raises
    ------
    ValueError
        If ``first`` is below 1, ``last`` below ``first``, or ``n`` below 1 (below 2 if first is not last).

    Examples
    --------
    >>> log_spaced(1, 1000, 10)
    (1, 2, 4, 9, 20, 44, 96, 210, 458, 1000)
    >>> log_spaced(3, 5, 10)
    (3, 4, 5)
    >>> (0, *log_spaced(1, 100, 3))
    (0, 1, 10, 100)
    """
    first, last, n = index(first), index(last), index(n)
    if first < 1:
        raise ValueError(f"first is {first}; start at 1, and put 0 before: (0, *log_spaced(1, {last}, {n}))")
    if last < first:
        raise ValueError(f"last is {last}, before first, {first}; give the first step and the last")
    if n < min(2, last - first + 1):
        raise ValueError(f"n is {n}; give at least 2 steps from {first} to {last}")
    n = min(n, last - first + 1)
    steps = [first]
    while (left := n - len(steps)) > 0:
        here = steps[-1]
        spaced = round(here * (last / here) ** (1 / left))
        steps.append(min(max(here + 1, spaced), last - left + 1))
    return tuple(steps)
