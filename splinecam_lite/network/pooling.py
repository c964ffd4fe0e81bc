"""Which windows a node takes the maximum of: pooling, adaptive pooling, amax, max along an axis."""

from collections.abc import Mapping, Sequence
from typing import Any

from splinecam_lite.network.chain import BatchAxis
from splinecam_lite.network.nodes import Bound, Inlined, Meanings, bind, mixes_samples, sizes
from splinecam_lite.network.ops import Windows

POOLS = frozenset(f"max_pool{n}d{suffix}" for n in (1, 2, 3) for suffix in ("", "_with_indices"))
ADAPTIVE_POOLS = frozenset(("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d"))
ALONG_AXES = frozenset(("amax", "amin", "max", "min", "aminmax"))
OF_TWO = {
    "maximum": False, "fmax": False, "max": False, "clamp_min": False,
    "minimum": True, "fmin": True, "min": True, "clamp_max": True,
}  # fmt: skip
"""Operators of two values -> whether they take the smaller one."""

Along = dict[int, tuple[tuple[int, ...], ...]]
"""Axis of the graph -> the entries of its windows."""


def computed_by(bound: Bound, meanings: Meanings) -> tuple[Bound, int]:
    """Return the operator that computes a node, and which of its results the node is."""
    if bound.operator == "getitem":
        source, number = bound.arguments["self"], bound.arguments["other"]
        if isinstance(meanings.of[source], Inlined):
            return bind(source), number
    return bound, 0


def max_parts(bound: Bound, meanings: Meanings) -> dict[str, Any] | None:
    """Windows and direction of a node, for ``MaxOp``, if it is a maximum or minimum of values.

    Raises
    ------
    TraceError
        If windows reach over several samples of the batch.
    """
    values = meanings.values(bound.node)
    call, number = computed_by(bound, meanings)
    arguments = [*call.arguments.values()]
    if not all(v.meta["val"].is_floating_point() for v in values):
        return None
    if call.operator in OF_TWO and len(arguments) == 2 and all(map(meanings.is_value, arguments)):
        return {"is_minimum": OF_TWO[call.operator]}
    if len(values) != 1 or number > (call.operator == "aminmax"):
        return None
    shape, batch = sizes(values[0]), meanings.axis_of(values[0])
    if call.operator in ALONG_AXES:
        windows = _along_axes(call, shape)
        is_minimum = call.operator in ("amin", "min") or (call.operator == "aminmax" and number == 0)
    elif call.operator in POOLS | ADAPTIVE_POOLS:
        windows, is_minimum = _pool(call, shape, sizes(bound.node)), False
    else:
        return None
    found = []
    for axis, entries in windows.items():
        if axis == batch.axis:
            raise mixes_samples(bound.node)
        if not all(entries):
            return None  # a window of nothing but padding: its maximum is minus infinity
        found.append(Windows(_in_sample(axis, batch), entries))
    return {"windows": tuple(found), "is_minimum": is_minimum}


def _in_sample(axis: int, batch: BatchAxis) -> int:
    """Axis of a sample, from that of the graph."""
    return axis if axis < batch.axis or batch.merged else axis - 1


def _along_axes(call: Bound, shape: Sequence[Any]) -> Along:
    """One window over all of each axis named."""
    dims = call.arguments.get("dim")
    dims = [dims] if isinstance(dims, int) else list(dims or range(len(shape)))
    axes = {dim % len(shape) for dim in dims}
    return {a: (tuple(range(shape[a] if isinstance(shape[a], int) else 1)),) for a in axes}


def _pool(call: Bound, shape: Sequence[Any], out: Sequence[Any]) -> Along:
    """Return the windows of pooling along its last axes."""
    n_axes = int(call.operator.split("pool")[1][0])
    windows = {}
    for i in range(n_axes):
        axis = len(shape) - n_axes + i
        if shape[axis] == out[axis] and not isinstance(shape[axis], int):
            continue  # windows of one sample each
        if call.operator in ADAPTIVE_POOLS:
            windows[axis] = adaptive_windows(int(shape[axis]), int(out[axis]))
        else:
            kernel = _along(call.arguments, "kernel_size", i, 1)
            stride = _along(call.arguments, "stride", i, kernel)
            padding, dilation = (
                _along(call.arguments, "padding", i, 0),
                _along(call.arguments, "dilation", i, 1),
            )
            windows[axis] = pool_windows(int(shape[axis]), int(out[axis]), kernel, stride, padding, dilation)
    return windows


def _along(arguments: Mapping[str, Any], name: str, axis: int, default: int) -> int:
    """Return an argument of pooling for one axis."""
    given = arguments.get(name)
    values = given if isinstance(given, list | tuple) else [default if given is None else given]
    return (values[axis] if len(values) > 1 else values[0]) if values else default


def pool_windows(
    size: int, n_windows: int, kernel: int, stride: int, padding: int = 0, dilation: int = 1
) -> tuple[tuple[int, ...], ...]:
    """Return the entries of the windows of max pooling along one axis; padding is none.

    Examples
    --------
    >>> pool_windows(5, 3, kernel=3, stride=2, padding=1)
    ((0, 1), (1, 2, 3), (3, 4))
    """
    starts = (i * stride - padding for i in range(n_windows))
    return tuple(
        tuple(place for place in range(start, start + kernel * dilation, dilation) if 0 <= place < size)
        for start in starts
    )


def adaptive_windows(size: int, n_windows: int) -> tuple[tuple[int, ...], ...]:
    """Return the entries of the windows of adaptive pooling along one axis.

    Examples
    --------
    >>> adaptive_windows(5, 3)
    ((0, 1), (1, 2, 3), (3, 4))
    """
    return tuple(
        tuple(range(i * size // n_windows, -(-(i + 1) * size // n_windows))) for i in range(n_windows)
    )
