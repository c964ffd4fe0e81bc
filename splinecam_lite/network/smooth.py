"""Smooth activations as functions that can be approximated with a proof: values, curvature, asymptotes.

For each function f below stand an enclosure of f'' (``curvature``), its asymptotes, and where its *tails*
begin. In a tail f'' has one sign, so f' is monotone; and f minus its asymptote tends to 0, with a derivative
that is monotone and tends to 0. That difference is therefore monotone itself, and largest where the tail
begins. With s = 1 / (1 + e^-x), t = tanh and phi the normal density:

=================  ================================================  =======================================
function           f''                                               one sign in the tails, because
=================  ================================================  =======================================
gelu               phi(x) (2 - x^2)                                  x^2 > 2 for abs(x) >= 1.5
gelu, tanh form    k sech^2(u) (1 + 6 c x^2                          the last term is k x t(u) > 1.5 times
                   - k x t(u) (1 + 3 c x^2)^2),                      1 + 6 c x^2, and more, for abs(x) >= 2
                   u = k x (1 + c x^2)
silu               sech^2(x/2) / 4 (2 - x t(x/2))                    x t(x/2) rises with abs(x); 2.1 at 2.5
tanh               -2 t(x) sech^2(x)                                 its only zero is 0
sigmoid            -sech^2(x/2) / 4 t(x/2)                           its only zero is 0
softplus           beta sech^2(beta x / 2) / 4                       positive
log_sigmoid        -sech^2(x/2) / 4                                  negative
mish               (1 - w^2) s (2 + x (1 - s - 2 w s)),              x <= -3: s, w < 0.05, so the last factor
                   w = t(log(1 + e^x))                               is below 2 - 3 * 0.94; x >= 2: s > 0.88,
                                                                     w > 0.96, and it is below 2 - 2 * 1.5
elu, selu, celu    height rate^2 e^(rate x) left of 0, 0 right       it has the sign of the height
hardswish          1/3 between -3 and 3, 0 elsewhere                 0
=================  ================================================  =======================================

Kinks, where f' jumps: 0 for the ELUs, -3 and 3 for hardswish.

torch's softplus returns x itself beyond a threshold, where it is off by log(1 + e^-threshold) / beta at most:
``defect``.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtr

from splinecam_lite.errors import ModelError
from splinecam_lite.network.intervals import Interval

Array = NDArray[np.float64]

Line = tuple[float, float]
"""Slope and intercept."""

SELU_ALPHA, SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946
GELU_SCALE, GELU_CUBE = math.sqrt(2.0 / math.pi), 0.044715


@dataclass(frozen=True, eq=False)
class SmoothFunction:
    """A function of one number that is a straight line far out on both sides, up to what vanishes.

    Attributes
    ----------
    value : callable
        (n,) float64 to (n,) float64, right to `intervals.ROUNDING` of itself.
    curvature : callable
        Encloses the second derivative on intervals without a kink inside.
    left, right : (slope, intercept)
        Asymptotes.
    tails : (float, float)
        Up to the first, and from the second on, the second derivative has one sign.
    bends : tuple of float
        Where its sign changes, to about 1e-12, and ...
    kinks : tuple of float
        ... where the first derivative jumps, exactly.
    length : float
        A power of two near the size of x at which the function bends.
    defect : float
        Bound on how far torch's own function is from ``value``.
    """

    value: Callable[[Array], Array]
    curvature: Callable[[Interval], Interval]
    left: Line
    right: Line
    tails: tuple[float, float]
    bends: tuple[float, ...] = ()
    kinks: tuple[float, ...] = ()
    length: float = 1.0
    defect: float = 0.0


FLAT: Line = (0.0, 0.0)
IDENTITY: Line = (1.0, 0.0)


def _sech_squared(u: Array) -> Array:
    """Of u >= 0, falling."""
    e = np.exp(-2.0 * u)
    return 4.0 * e / (1.0 + e) ** 2


def _logistic_slope(x: Interval) -> Interval:
    """``s (1 - s)``, which is ``sech^2(x / 2) / 4``."""
    return 0.25 * (0.5 * x).size().falling(_sech_squared)


def _gelu(approximate: str = "none") -> SmoothFunction:
    return _gelu_of_tanh() if approximate == "tanh" else _gelu_of_erf()


def _gelu_of_erf() -> SmoothFunction:
    def curvature(x: Interval) -> Interval:
        square = x.squared()
        density = (1.0 / math.sqrt(2.0 * math.pi)) * (-0.5 * square).rising(np.exp)
        return density * (2.0 - square)

    bend = math.sqrt(2.0)
    return SmoothFunction(lambda x: x * ndtr(x), curvature, FLAT, IDENTITY, (-1.5, 1.5), (-bend, bend))


def _gelu_of_tanh() -> SmoothFunction:
    k, c = GELU_SCALE, GELU_CUBE

    def curvature(x: Interval) -> Interval:
        size, square = x.size(), x.squared()
        u = k * (size * (1.0 + c * square))
        last = k * (size * (u.rising(np.tanh) * (1.0 + 3.0 * c * square).squared()))
        return k * (u.falling(_sech_squared) * (1.0 + 6.0 * c * square - last))

    bend = 1.41850400879
    return SmoothFunction(
        lambda x: x * expit(2.0 * k * x * (1.0 + c * x * x)), curvature, FLAT, IDENTITY,
        (-2.0, 2.0), (-bend, bend),
    )  # fmt: skip


def _silu() -> SmoothFunction:
    def curvature(x: Interval) -> Interval:
        size = x.size()
        return _logistic_slope(x) * (2.0 - size * (0.5 * size).rising(np.tanh))

    bend = 2.39935728052
    return SmoothFunction(lambda x: x * expit(x), curvature, FLAT, IDENTITY, (-2.5, 2.5), (-bend, bend))


def _tanh() -> SmoothFunction:
    def curvature(x: Interval) -> Interval:
        return -2.0 * (x.rising(np.tanh) * x.size().falling(_sech_squared))

    return SmoothFunction(np.tanh, curvature, (0.0, -1.0), (0.0, 1.0), (0.0, 0.0), (0.0,))


def _sigmoid() -> SmoothFunction:
    def curvature(x: Interval) -> Interval:
        return -(_logistic_slope(x) * (0.5 * x).rising(np.tanh))

    return SmoothFunction(expit, curvature, FLAT, (0.0, 1.0), (0.0, 0.0), (0.0,))


def _soft_maximum(x: Array) -> Array:
    """``log(1 + e^x)``."""
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


def _softplus(beta: float = 1.0, threshold: float = 20.0) -> SmoothFunction:
    if not beta > 0.0:
        raise ModelError(f"softplus with beta = {beta} is not approximated; beta must be positive")
    return SmoothFunction(
        lambda x: _soft_maximum(beta * x) / beta,
        lambda x: beta * _logistic_slope(beta * x),
        FLAT, IDENTITY, (0.0, 0.0),
        length=2.0 ** round(-math.log2(beta)),
        defect=float(np.logaddexp(0.0, -threshold)) / beta * (1.0 + 2.0**-40),
    )  # fmt: skip


def _log_sigmoid() -> SmoothFunction:
    return SmoothFunction(
        lambda x: -_soft_maximum(-x), lambda x: -_logistic_slope(x), IDENTITY, FLAT, (0.0, 0.0)
    )


def _mish() -> SmoothFunction:
    def w(x: Array) -> Array:
        """``tanh(log(1 + e^x))``, rising; without the 1's that cancel in ``(1 + e^x)^2 - 1``."""
        e = np.exp(-np.abs(x))
        return np.where(
            x < 0.0, e * (2.0 + e) / (2.0 + 2.0 * e + e * e), (1 + 2 * e) / (1 + 2 * e + 2 * e * e)
        )

    def rest(x: Array) -> Array:
        """``1 - w^2``, falling: ``4 (1 + e^x)^2 / ((1 + e^x)^2 + 1)^2``."""
        e = np.exp(-np.abs(x))
        left = (2.0 * (1.0 + e) / (1.0 + (1.0 + e) ** 2)) ** 2
        right = (2.0 * e * (1.0 + e) / (e * e + (1.0 + e) ** 2)) ** 2
        return np.where(x < 0.0, left, right)

    def curvature(x: Interval) -> Interval:
        s = x.rising(expit)
        return x.falling(rest) * (s * (2.0 + x * (1.0 - s * (1.0 + 2.0 * x.rising(w)))))

    return SmoothFunction(
        lambda x: x * w(x), curvature, FLAT, IDENTITY, (-3.0, 2.0), (-2.25637639636, 1.49057117949)
    )


def _elu(alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> SmoothFunction:
    if not (scale > 0.0 and input_scale > 0.0):
        raise ModelError(
            f"an ELU with scale = {scale} and input_scale = {input_scale} is not approximated; both must be "
            "positive"
        )
    height, rate = alpha * scale, input_scale

    def value(x: Array) -> Array:
        return np.where(x > 0.0, scale * x, height * np.expm1(rate * np.minimum(x, 0.0)))

    def curvature(x: Interval) -> Interval:
        bent = (height * rate * rate) * (rate * x).rising(np.exp)
        on = x.low < 0.0
        return Interval(np.where(on, bent.low, 0.0), np.where(on, bent.high, 0.0))

    return SmoothFunction(
        value, curvature, (0.0, -height), (scale, 0.0), (0.0, 0.0),
        kinks=(0.0,), length=2.0 ** round(-math.log2(rate)),
    )  # fmt: skip


def _celu(alpha: float = 1.0) -> SmoothFunction:
    if not alpha > 0.0:
        raise ModelError(f"celu with alpha = {alpha} is not approximated; alpha must be positive")
    return _elu(alpha, 1.0, 1.0 / alpha)


def _hardswish() -> SmoothFunction:
    def curvature(x: Interval) -> Interval:
        inside = (x.low < 3.0) & (x.high > -3.0)
        third = np.nextafter(1.0 / 3.0, [0.0, 1.0])
        return Interval(np.where(inside, third[0], 0.0), np.where(inside, third[1], 0.0))

    return SmoothFunction(
        lambda x: x * np.clip(x + 3.0, 0.0, 6.0) / 6.0, curvature, FLAT, IDENTITY, (-3.0, 3.0),
        kinks=(-3.0, 3.0),
    )  # fmt: skip


FUNCTIONS: dict[str, Callable[..., SmoothFunction]] = {
    "gelu": _gelu,
    "silu": _silu,
    "tanh": _tanh,
    "sigmoid": _sigmoid,
    "softplus": _softplus,
    "log_sigmoid": _log_sigmoid,
    "mish": _mish,
    "elu": _elu,
    "selu": partial(_elu, SELU_ALPHA, SELU_SCALE, 1.0),
    "celu": _celu,
    "hardswish": _hardswish,
}
"""torch's operator, in ``aten.NAME``, to the function of its arguments after the first, by their names."""
