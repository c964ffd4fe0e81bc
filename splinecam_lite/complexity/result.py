"""What the estimate and the exact count return: crossings for each layer and point, and what sums them up."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

CONFIDENCE = 0.99
"""Of the intervals, as in the plots of arXiv 2402.15555."""


class Mean(NamedTuple):
    """A mean over points with its 99 % confidence interval (Student's t): NaN if there is only one."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class ComplexityResult:
    """Crossings: neurons whose preactivation changes sign in the neighbourhood of a point.

    Per layer, total, and mean over points are three quantities.

    Attributes
    ----------
    per_layer : (points, layers) int64
        Crossings, in the order of the points and of the network's layers, those that were chosen.
    n_neurons : (layers,) int64
        Neurons of each layer; a neuron of a convolution is one channel at one pixel.
    layer_names : tuple of str
    radius : float
        Of the neighbourhoods, in input units.
    directions : int
        P.

    Examples
    --------
    >>> result = ComplexityResult(np.array([[2, 1], [4, 1]]), np.array([8, 4]), ("0", "2"), 0.005, 25)
    >>> result.total.tolist(), result.fractions.tolist()
    ([3, 5], [[0.25, 0.25], [0.5, 0.25]])
    >>> round(result.mean.value, 3), round(result.mean.high, 3)
    (4.0, 67.657)
    """

    per_layer: NDArray[np.int64]
    n_neurons: NDArray[np.int64]
    layer_names: tuple[str, ...]
    radius: float
    directions: int

    def __post_init__(self) -> None:
        self.per_layer.setflags(write=False)

    def __repr__(self) -> str:
        points, layers = self.per_layer.shape
        return (
            f"{type(self).__name__}({points} points, {layers} layers, r = {self.radius:g}, "
            f"P = {self.directions}: {self.mean.value:.4g} crossings on average)"
        )

    @property
    def fractions(self) -> NDArray[np.float64]:
        """Crossings as a share of the layer's neurons, (points, layers)."""
        return self.per_layer / self.n_neurons

    @property
    def total(self) -> NDArray[np.int64]:
        """Sum over the layers for each point, (points,)."""
        return self.per_layer.sum(axis=1)

    @property
    def mean(self) -> Mean:
        """Mean of ``total`` over the points."""
        return mean_interval(self.total)

    @property
    def layer_means(self) -> tuple[Mean, ...]:
        """Mean over the points for each layer."""
        return tuple(mean_interval(column) for column in self.per_layer.T)

    @property
    def layer_fractions(self) -> tuple[Mean, ...]:
        """Mean of ``fractions`` over the points for each layer."""
        return tuple(mean_interval(column) for column in self.fractions.T)

    @property
    def fraction(self) -> Mean:
        """Mean over the points of the share of all neurons that cross."""
        return mean_interval(self.total / max(int(self.n_neurons.sum()), 1))

    def summary(self) -> str:
        """Return a table: for each layer and all together, the mean over points and the share of neurons.

        Examples
        --------
        >>> result = ComplexityResult(np.array([[2, 1], [4, 1]]), np.array([8, 4]), ("0", "2"), 0.005, 25)
        >>> print(result.summary())
        crossings in cross-polytopes of radius 0.005, P = 25; mean over 2 points, 99 % interval
        layer       neurons       mean        low       high   fraction
        0                 8      3.000    -60.657     66.657     37.5 %
        2                 4      1.000      1.000      1.000     25.0 %
        all layers       12      4.000    -59.657     67.657     33.3 %
        """
        points = len(self.per_layer)
        width = max(len(name) for name in ("all layers", *self.layer_names))
        rows = [
            *zip(self.layer_names, self.n_neurons, self.layer_means, self.layer_fractions, strict=True),
            ("all layers", self.n_neurons.sum(), self.mean, self.fraction),
        ]
        return "\n".join(
            [
                f"crossings in cross-polytopes of radius {self.radius:g}, P = {self.directions}; mean over "
                f"{points:,} {'point' if points == 1 else 'points'}, 99 % interval",
                f"{'layer':<{width}} {'neurons':>8} {'mean':>10} {'low':>10} {'high':>10} {'fraction':>10}",
                *(
                    f"{name:<{width}} {neurons:>8} {mean.value:>10.3f} {mean.low:>10.3f} {mean.high:>10.3f} "
                    f"{100 * share.value:>8.1f} %"
                    for name, neurons, mean, share in rows
                ),
            ]
        )

    def to_dict(self, prefix: str = "lc") -> dict[str, float]:
        """Return the means over points as a flat dictionary, as loggers take it, with `LCMonitor`'s keys.

        Parameters
        ----------
        prefix : str
            What the names begin with; a slash follows it.

        Returns
        -------
        dict from str to float
            ``"lc/layer1"``, ``"lc/layer2"``, .. : crossings of a layer, in the order of ``layer_names``;
            ``"lc/sum"`` : of all layers. With ``_fraction`` after it, the share of the neurons; with
            ``_ci99``, of two points and more, half the width of the 99 % interval of the mean.

        Examples
        --------
        >>> result = ComplexityResult(np.array([[2, 1], [2, 1]]), np.array([8, 4]), ("0", "2"), 0.005, 25)
        >>> for name, value in result.to_dict("lc/train").items():
        ...     print(name, value)
        lc/train/layer1 2.0
        lc/train/layer1_ci99 0.0
        lc/train/layer1_fraction 0.25
        lc/train/layer2 1.0
        lc/train/layer2_ci99 0.0
        lc/train/layer2_fraction 0.25
        lc/train/sum 3.0
        lc/train/sum_ci99 0.0
        lc/train/sum_fraction 0.25
        """
        names = (*(f"layer{i}" for i in range(1, len(self.layer_names) + 1)), "sum")
        means, shares = (*self.layer_means, self.mean), (*self.layer_fractions, self.fraction)
        flat: dict[str, float] = {}
        for name, mean, share in zip(names, means, shares, strict=True):
            flat[f"{prefix}/{name}"] = mean.value
            if len(self.per_layer) > 1:
                flat[f"{prefix}/{name}_ci99"] = (mean.high - mean.low) / 2
            flat[f"{prefix}/{name}_fraction"] = share.value
        return flat


def mean_interval(values: NDArray[np.int64] | NDArray[np.float64]) -> Mean:
    """Return the mean of ``values`` (n,) with its 99 % interval.

    Examples
    --------
    >>> mean_interval(np.array([3, 3, 3]))
    Mean(value=3.0, low=3.0, high=3.0)
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return Mean(mean, float("nan"), float("nan"))
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)
    half = float(quantile * np.std(values, ddof=1) / np.sqrt(len(values)))
    return Mean(mean, mean - half, mean + half)


def recall(estimate: ComplexityResult, exact: ComplexityResult) -> NDArray[np.float64]:
    """Return for each layer the share of the exact crossings that the estimate found, over all points.

    Both must have been taken with the same points, frame and radius. With the estimate in float64 on the CPU,
    in the same batches, it is at most 1, and 1 on the first layer.

    Returns
    -------
    (layers,) float64
        NaN where there was nothing to find.

    Raises
    ------
    ValueError
        If the two are of other points, layers, radii or numbers of directions.

    Examples
    --------
    >>> names, neurons = ("0", "2"), np.array([8, 8])
    >>> found = ComplexityResult(np.array([[3, 1], [1, 0]]), neurons, names, 0.1, 2)
    >>> there = ComplexityResult(np.array([[3, 2], [1, 0]]), neurons, names, 0.1, 2)
    >>> recall(found, there).tolist()
    [1.0, 0.5]
    """
    if estimate.per_layer.shape != exact.per_layer.shape or estimate.layer_names != exact.layer_names:
        raise ValueError(
            f"the estimate has (points, layers) = {estimate.per_layer.shape}, "
            f"the exact counts {exact.per_layer.shape}; take both of the same points and model"
        )
    if estimate.radius != exact.radius:
        raise ValueError(
            f"the estimate has radius {estimate.radius}, the exact counts {exact.radius}; take the same"
        )
    if estimate.directions != exact.directions:
        raise ValueError(
            f"the estimate has {estimate.directions} directions, the exact counts {exact.directions}; take "
            "the same"
        )
    found, there = estimate.per_layer.sum(axis=0), exact.per_layer.sum(axis=0)
    return np.divide(found, there, out=np.full(len(there), np.nan), where=there > 0)
