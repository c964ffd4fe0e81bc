"""What a result says where smooth activations were replaced by piecewise-linear ones.

Its layers remember it, and with them every file; everything that names the result says so in these words.
"""

from collections.abc import Iterable
from decimal import ROUND_UP, Context

from splinecam_lite.network.ops import Approximation
from splinecam_lite.network.program import Program, SmoothOp
from splinecam_lite.partition.layers import Layer

Approximated = tuple[tuple[str, Approximation], ...]
"""Name of each layer that stands for a smooth activation, and how well it does."""


def approximated_layers(layers: Iterable[Layer]) -> Approximated:
    """Return the layers that stand for smooth activations."""
    return tuple((layer.name, layer.approximation) for layer in layers if layer.approximation is not None)


def briefly(layers: Iterable[Layer]) -> str:
    """Return a phrase for titles: the functions with their largest proved errors; empty if there are none.

    Examples
    --------
    >>> gelu = Layer("1", 3, 11, 0, approximation=Approximation("gelu", 1e-2, 0.0099720000001))
    >>> briefly((gelu,))
    'of an approximation (gelu within 0.00998)'
    >>> briefly(())
    ''
    """
    worst: dict[str, float] = {}
    for _, (function, _, error) in approximated_layers(layers):
        worst[function] = max(error, worst.get(function, 0.0))
    within = ", ".join(f"{function} within {_upwards(error)}" for function, error in worst.items())
    return f"of an approximation ({within})" if within else ""


def in_full(approximated: Approximated) -> str:
    """Return sentences for reports: which layers, how well, and what that means; empty if there are none."""
    if not approximated:
        return ""
    each = "; ".join(
        f"layer '{name}' is piecewise linear in place of {function}, from which it differs by at most "
        f"{_upwards(error)} for any number (proved; {tolerance:g} was asked for)"
        for name, (function, tolerance, error) in approximated
    )
    return f"this is the partition of an APPROXIMATION of the network: {each}"


def as_plain(approximated: Approximated) -> list[dict[str, str | float]]:
    """Return the approximations as JSON has them."""
    return [{"layer": name, **approximation._asdict()} for name, approximation in approximated]


def same_approximation(program: Program, layers: Iterable[Layer]) -> Program:
    """Return a network with its smooth activations replaced as those of some layers were."""
    wanted = {a.function: a.tolerance for _, a in approximated_layers(layers)}
    smooth = any(isinstance(op, SmoothOp) for op in program.ops)
    return program.approximated(wanted) if wanted and smooth else program


def _upwards(error: float) -> str:
    """Three digits, and no less than the number."""
    return f"{Context(prec=3, rounding=ROUND_UP).create_decimal_from_float(error):g}"
