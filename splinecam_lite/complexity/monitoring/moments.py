"""Sums of the crossings of points, wherever the points were counted; mean and interval come from them.

With s = sum of the counts and q = sum of their squares over n points, the mean is s/n, and Student's interval
around it has half the width

    t sqrt((n q - s^2) / (n^2 (n - 1)))

All of it is integer up to the root, so that it does not depend on how the points were shared among processes.
"""

from dataclasses import dataclass
from math import nan, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from splinecam_lite.complexity.result import CONFIDENCE


@dataclass(frozen=True, eq=False)
class Moments:
    """Count, sums and sums of squares of the crossings of points.

    Attributes
    ----------
    n : int
        Points.
    sums, squares : (layers + 1,) int64
        For each layer, and last for the sum over the layers.

    Examples
    --------
    >>> moments = Moments.of(np.array([[2, 1], [4, 1]]))
    >>> moments.n, moments.sums.tolist(), moments.squares.tolist()
    (2, [6, 2, 8], [20, 2, 34])
    >>> Moments.from_vector(moments.vector() + moments.vector()).sums.tolist()
    [12, 4, 16]
    """

    n: int
    sums: NDArray[np.int64]
    squares: NDArray[np.int64]

    @classmethod
    def of(cls, per_layer: NDArray[np.int64]) -> "Moments":
        """Add up the counts of points, (points, layers); there may be none."""
        columns = np.column_stack((per_layer, per_layer.sum(axis=1))).astype(np.int64)
        return cls(len(columns), columns.sum(axis=0), (columns**2).sum(axis=0))

    @classmethod
    def from_vector(cls, vector: NDArray[np.int64]) -> "Moments":
        """Take apart what `vector` has put together."""
        sums, squares = np.split(vector[1:], 2)
        return cls(int(vector[0]), sums, squares)

    def vector(self) -> NDArray[np.int64]:
        """Return n, the sums and the squares as one vector: those of disjoint sets of points add up."""
        return np.concatenate(([self.n], self.sums, self.squares))

    def values(self, prefix: str = "") -> dict[str, float]:
        """Return means over the points by flat keys.

        Returns
        -------
        dict
            ``layer1``, ``layer2``, .. : crossings of a layer; ``sum`` : of all layers; ``sum_ci99`` : half
            the width of the 99 % interval of that mean. All are NaN without points; the last is, with one.

        Examples
        --------
        >>> Moments.of(np.array([[2, 1], [4, 1], [3, 1]])).values("lc/")
        {'lc/layer1': 3.0, 'lc/layer2': 1.0, 'lc/sum': 4.0, 'lc/sum_ci99': 5.73...}
        """
        means = [int(s) / self.n if self.n else nan for s in self.sums]
        names = [f"layer{i}" for i in range(1, len(means))] + ["sum"]
        values = {f"{prefix}{name}": mean for name, mean in zip(names, means, strict=True)}
        return values | {f"{prefix}sum_ci99": self._half_width()}

    def _half_width(self) -> float:
        if self.n < 2:
            return nan
        # Python's integers: n q passes 2^63 for wide networks and many points.
        deviation = self.n * int(self.squares[-1]) - int(self.sums[-1]) ** 2
        quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, self.n - 1))
        return quantile * sqrt(deviation / (self.n**2 * (self.n - 1)))
