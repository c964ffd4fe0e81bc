"""The affine ops of a program on integer tensors: what torch rounds in them, taken apart.

    whole      sums, differences, everything that only places entries: runs on each limb as it is
    weighted   one weight tensor (linear, convolution, mul ...): one run for each limb of the weights
    quotient   division by a constant: weighted, over a common denominator
    average    mean, average pooling: the sum, found from the rounded average, over its count

Anything else rounds in ways of its own, and is refused by name.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from math import lcm, prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from splinecam_lite.errors import ModelError
from splinecam_lite.network import rules
from splinecam_lite.network.chain import Chain, Constant, Earlier, Input, Step, operation
from splinecam_lite.network.exact.integers import Digits, align, of_integer, split, times, trim
from splinecam_lite.network.ops import AffineOp

ADAPTIVE_POOLS = frozenset(
    "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d _adaptive_avg_pool2d".split()
)
POOLS = frozenset("avg_pool1d avg_pool2d avg_pool3d".split())
AVERAGES = ADAPTIVE_POOLS | POOLS | {"mean"}

MULTIPLIES = frozenset(name for name, rule in rules.AFFINE.items() if rule.factors) | {"scale"}

FINEST_ALPHA = 12
"""Binary places of alpha and beta, the numbers that multiply a summand of an addition."""

LONGEST_DENOMINATOR = 512
"""Bits of the common denominator of a division."""

Shape = tuple[int, ...]
Part = Callable[..., Tensor]


class IntegerOp(NamedTuple):
    """The linear part of an affine op: ``sum_k 2^(bits * (top - k)) * parts[k](x) / divisor``.

    Attributes
    ----------
    parts : tuple of callables
        Each maps (rows, *shape) integers below ``2^(bits - 1)`` to (rows, *output shape) integers, exactly.
    norms : tuple of float
        Of each part: bound on the sum of the absolute coefficients of one output.
    top : int
        Position of the first part.
    divisor : int
        Odd, positive.
    """

    parts: tuple[Part, ...]
    norms: tuple[float, ...]
    top: int
    divisor: int


class Reading(NamedTuple):
    """An op before the size of limbs is chosen.

    Attributes
    ----------
    terms : float
        Products of limbs that one output of a part adds up, or what takes as much room.
    build : callable
        From the bits of a limb to the op.
    """

    terms: float
    build: Callable[[int], IntegerOp]


def read(op: AffineOp, shapes: tuple[Shape, ...]) -> Reading:
    """Take the linear part of an affine op apart.

    Parameters
    ----------
    op : AffineOp
    shapes : tuple of tuple of int
        Of the values that it reads, without the batch.

    Raises
    ------
    ModelError
        If torch rounds in it in ways that cannot be undone; names the layer.
    """
    if not isinstance(op.linear, Chain):
        raise refusal(op, "it is not made of torch operations")
    ones = tuple(torch.ones(1, *shape, dtype=torch.float64) for shape in shapes)
    *inner, last = op.linear.steps
    names = [operator_name(step) for step in (*inner, last)]
    for name in names:
        if name not in rules.AFFINE.keys() | {"scale"}:
            raise refusal(op, f"'{name}' rounds in ways of its own")
    if any(name in MULTIPLIES | AVERAGES | {"div"} for name in names[:-1]):
        raise refusal(op, f"it does more than '{names[-1]}'")
    if names[-1] in AVERAGES:
        return _average(op, op.linear, ones)
    if names[-1] == "div":
        return _quotient(op, op.linear, ones)
    weight = _weight_of(op, op.linear)
    if weight is None:
        return _whole(op, op.linear, ones)
    return _weighted(op, *weight, ones)


def refusal(op: AffineOp, reason: str) -> ModelError:
    """Return the error that says why an op cannot be evaluated exactly."""
    return ModelError(
        f"{op.where} cannot be evaluated exactly: {reason}; leave it out, or stop the network before it"
    )


def operator_name(step: Step) -> str:
    """``"conv2d"`` for ``aten.conv2d.default``."""
    return step.target.split(".")[1] if "." in step.target else step.target


def arguments_of(step: Step) -> dict[str, Any]:
    """Arguments of a torch operator by name, defaults included."""
    schema = operation(step.target)._schema.arguments
    given = dict(zip((a.name for a in schema), step.args, strict=False)) | dict(step.kwargs)
    return {a.name: a.default_value for a in schema if a.has_default_value()} | given


# ---- kinds -------------------------------------------------------------------------------------


def _whole(op: AffineOp, chain: Chain, ones: tuple[Tensor, ...]) -> Reading:
    places = _places_of_numbers(op, chain)
    norm = _largest(op.magnitude(*ones))

    def build(bits: int) -> IntegerOp:
        part, growth, top = _lifted(chain, places, bits)
        return IntegerOp((part,), (norm * growth,), top, 1)

    # Without numbers in it, sums of limbs are all there is: far below the products elsewhere.
    return Reading(norm * 2.0 ** (places + 1) if places else 1.0, build)


def _weighted(op: AffineOp, chain: Chain, key: str, ones: tuple[Tensor, ...]) -> Reading:
    if len(ones) > 1:
        raise refusal(op, "it multiplies one value and adds another in one operation")
    weight = chain.constants[key].to(torch.float64)
    places = _places_of_numbers(op, chain)
    chain = _with_whole_numbers(chain, places)
    terms = _largest(_with(chain, key, (weight != 0).double())(*ones))

    def build(bits: int) -> IntegerOp:
        digits = split(weight, bits)
        if places:
            digits = times(digits, _dyadic(Fraction(1, 2**places), bits), bits)
        return _by_limbs(chain, key, digits, 1, ones)

    return Reading(terms, build)


def _quotient(op: AffineOp, chain: Chain, ones: tuple[Tensor, ...]) -> Reading:
    *inner, last = chain.steps
    divided, by = last.args[:2]
    key = by.key if isinstance(by, Constant) else "divisor"
    divisor = chain.constants[key] if isinstance(by, Constant) else torch.tensor(by, dtype=torch.float64)
    divisor = divisor.to(torch.float64)
    exact = {d: 1 / Fraction(d) for d in set(divisor.flatten().tolist())}
    odd = [q.denominator // (q.denominator & -q.denominator) for q in exact.values()]
    common = lcm(*odd)
    if common.bit_length() > LONGEST_DENOMINATOR:
        raise refusal(op, "it divides by too many different numbers")
    chain = replace(
        chain,
        steps=(*inner, Step("scale", (divided, Constant(key)))),
        constants={**chain.constants, key: divisor},
    )

    def build(bits: int) -> IntegerOp:
        values = sorted(exact)
        digits = [_dyadic(exact[d] * common, bits) for d in values]
        limbs, top = align(digits)
        where = torch.searchsorted(torch.tensor(values, dtype=torch.float64), divisor)
        table = Digits(torch.stack(limbs, dim=1)[:, where], top)
        return _by_limbs(chain, key, trim(table), common, ones)

    return Reading(1.0, build)


def _average(op: AffineOp, chain: Chain, ones: tuple[Tensor, ...]) -> Reading:
    counts = _counts(chain.steps[-1], tuple(ones[0].shape[1:]), chain(*ones))
    common = lcm(*{int(c) for c in counts.unique()})
    multiple, places = common / counts, (common & -common).bit_length() - 1
    n_terms = torch.round(chain(*ones) * counts)
    if not torch.allclose(chain(*ones) * counts, n_terms, rtol=0, atol=1e-6):
        raise refusal(op, "its average does not have the count expected")
    norm = _largest(n_terms * multiple)

    def build(bits: int) -> IntegerOp:
        # A rounded average is off by (count + 4) 2^-53 of its terms at most: the nearest integer is the sum.
        assert _largest(counts * (counts + 4)) * 2.0**bits <= 2.0**51

        def average(x: Tensor) -> Tensor:
            return torch.round(chain(x) * counts) * multiple * 2.0**-places

        part, growth, top = _lifted(average, places, bits)
        return IntegerOp((part,), (norm * 2.0**-places * growth,), top, common >> places)

    return Reading(max(2 * norm if places else 1.0, _largest(counts) ** 2 / 2**16), build)


# ---- parts of the kinds ------------------------------------------------------------------------


def _with(chain: Chain, key: str, weight: Tensor) -> Chain:
    return replace(chain, constants={**chain.constants, key: weight})


def _largest(x: Tensor) -> float:
    return float(x.abs().max()) if x.numel() else 0.0


def _lifted(part: Part, places: int, bits: int) -> tuple[Part, float, int]:
    """Make a part that has multiples of ``2^-places`` whole: the part, its growth, its position."""
    if not places:
        return part, 1.0, 0
    down = -(-places // bits)
    factor = 2.0 ** (bits * down)
    return (lambda *x: part(*x) * factor), factor, -down


def _by_limbs(chain: Chain, key: str, weight: Digits, divisor: int, ones: tuple[Tensor, ...]) -> IntegerOp:
    """One part for each limb of the weights."""
    parts = tuple(_with(chain, key, limb) for limb in weight.limbs)
    norms = tuple(_largest(_with(chain, key, limb.abs())(*ones)) for limb in weight.limbs)
    return IntegerOp(parts, norms, weight.top, divisor)


def _with_whole_numbers(chain: Chain, places: int) -> Chain:
    """Multiply the numbers in the last step by ``2^places``."""

    def whole(argument: Any) -> Any:
        return argument * 2**places if isinstance(argument, float) else argument

    *inner, last = chain.steps
    kwargs = tuple((name, whole(value)) for name, value in last.kwargs)
    return replace(chain, steps=(*inner, Step(last.target, tuple(map(whole, last.args)), kwargs)))


def _dyadic(number: Fraction, bits: int) -> Digits:
    """A number whose denominator is a power of two, as digits without axes."""
    places = number.denominator.bit_length() - 1
    down = -(-places // bits)
    digits = of_integer(number.numerator << (bits * down - places), bits)
    return Digits(digits.limbs, digits.top - down)


def _leaves(argument: Any) -> Iterator[Any]:
    if isinstance(argument, tuple | list):
        for item in argument:
            yield from _leaves(item)
    else:
        yield argument


def _weight_of(op: AffineOp, chain: Chain) -> tuple[Chain, str] | None:
    """Return the chain, and the name of the one constant in it that multiplies; None if there is none.

    A number that multiplies becomes a constant.
    """
    *inner, last = chain.steps
    if operator_name(last) == "mul" and not any(isinstance(a, Constant) for a in last.args):
        args = tuple(a if isinstance(a, Input | Earlier) else Constant("factor") for a in last.args)
        number = next(a for a in last.args if not isinstance(a, Input | Earlier))
        constants = {**chain.constants, "factor": torch.tensor(number, dtype=torch.float64)}
        chain = replace(
            chain, steps=(*inner, Step("scale", args[:2])), constants=constants, per_sample=chain.per_sample
        )
        return chain, "factor"
    if operator_name(last) not in MULTIPLIES:
        return None
    used = {
        leaf.key for leaf in _leaves((last.args, [v for _, v in last.kwargs])) if isinstance(leaf, Constant)
    }
    weights = [
        key
        for key in sorted(used)
        if chain.constants[key].dtype != torch.bool and bool(chain.constants[key].any())
    ]
    if len(weights) > 1:
        raise refusal(op, "it multiplies by several constants at once")
    return (chain, weights[0]) if weights else None


def _places_of_numbers(op: AffineOp, chain: Chain) -> int:
    """Binary places of the numbers that multiply summands: alpha, beta."""
    last = chain.steps[-1]
    rule = rules.AFFINE.get(operator_name(last))
    if rule is None or not rule.weights:  # other numbers place entries: factors of a resizing
        return 0
    numbers = [leaf for leaf in _leaves((last.args, [v for _, v in last.kwargs])) if isinstance(leaf, float)]
    denominators = [Fraction(number).denominator for number in numbers]
    places = max(denominators, default=1).bit_length() - 1
    if places > FINEST_ALPHA:
        raise refusal(op, f"it multiplies by {numbers} while it adds; multiply in an operation of its own")
    return places


def _counts(step: Step, shape: Shape, average: Tensor) -> Tensor:
    """Entries that each output of an average is divided by, broadcastable to a sample."""
    name, given = operator_name(step), arguments_of(step)
    n_in, n_out = prod(shape), prod(average.shape[1:])
    if name == "mean":
        return torch.full((), n_in / max(n_out, 1), dtype=torch.float64)
    n_dims = int(name[-2])
    if given.get("divisor_override") is not None:
        return torch.full((), float(given["divisor_override"]), dtype=torch.float64)
    counts = torch.ones((), dtype=torch.float64)
    for i in range(n_dims):
        size, out = shape[i - n_dims], average.shape[i - n_dims]
        along = _adaptive_windows(size, out) if name in ADAPTIVE_POOLS else _windows(size, out, given, i)
        counts = counts[..., None] * along
    return counts


def _adaptive_windows(size: int, out: int) -> Tensor:
    """Lengths of the windows of adaptive pooling along one axis."""
    return torch.tensor(
        [-(-(o + 1) * size // out) - o * size // out for o in range(out)], dtype=torch.float64
    )


def _windows(size: int, out: int, given: dict[str, Any], axis: int) -> Tensor:
    """What average pooling divides by along one axis."""

    def along(name: str) -> int:
        values = list(given[name]) if isinstance(given[name], list | tuple) else [given[name]]
        values = values or list(given["kernel_size"])
        return int(values[axis] if len(values) > 1 else values[0])

    kernel, stride, padding = along("kernel_size"), along("stride"), along("padding")
    lengths = []
    for o in range(out):
        start = o * stride - padding
        end = min(start + kernel, size + padding)
        if not given["count_include_pad"]:
            start, end = max(start, 0), min(end, size)
        lengths.append(end - start)
    return torch.tensor(lengths, dtype=torch.float64)
