"""Linear regions: adjacent activation regions with the same output map, merged.

A knot is no border of linear regions where the outputs do not see it: its neuron has no way to them (what it
feeds has weight 0 or is off there), or several ways that cancel. So the count needs a decision on every inner
edge: are the two affine maps, of the whole output on the slice, *equal*? Three stages decide, each certain:

1. **float64.** The maps differ where two coefficients are farther apart than all rounding in them could be.
   A coefficient is a sum over the paths of the network; whatever the order of summation, it is off by at most
   ``n u`` times what the sum would come to if no path cancelled another (``u = 2^-53``, ``n`` the number of
   roundings along a path). Bounds of that kind grow with depth and are useless for the sign of a
   preactivation near 0; here they leave 1 edge of 249,381 open in a 2-256x4-1 network.
2. **Structure.** No arithmetic: from the neurons on the edge, along nonzero weights and through activations
   whose slope there is not 0, no output is reached. Then the maps are equal, however they round.
3. **Rationals.** `ExactProgram.outputs` of both patterns, compared as the rational numbers they are.

The maps are those of the patterns, without the places of vertices, so rounded vertices and snaps do not
matter.
"""

from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor, nn

from splinecam_lite.engine.complex import OUTER
from splinecam_lite.engine.interrupts import apart, go_on
from splinecam_lite.errors import ModelError
from splinecam_lite.network.exact.forms import ExactProgram, Forms
from splinecam_lite.network.program import AffineOp, KnotsOp, Program
from splinecam_lite.network.slices import Slice
from splinecam_lite.partition.approximations import same_approximation
from splinecam_lite.partition.layers import Layer, unpack

if TYPE_CHECKING:
    from splinecam_lite.engine.engine import Block
    from splinecam_lite.partition.result import Partition

Floats = NDArray[np.float64]

KEPT = "_linear_regions"
"""Where a partition keeps its linear regions once they are known."""

EDGES_AT_ONCE = 1 << 14
"""Edges whose maps are compared at once in float64, over the number of outputs."""

PAIRS_AT_ONCE = 64
"""Pairs of regions that go through the network at once in stage 2, one sample each, as elsewhere."""

EXACT_AT_ONCE = 512
"""Pairs of which the exact forms are held at once."""

FAR_ABOVE_UNDERFLOW = 2.0**500
"""Stands for "something" in stage 2: a positive weight times it is never rounded to 0."""

LIMBS = 4
"""Limbs of the first attempt of stage 3: about twice the digits of float64."""

SMALLEST_NORMAL = 2.0**-1022

NEEDS_NETWORK = (
    "a partition from a file does not hold its network, which linear regions, the decision boundary in exact "
    "mode and the certificate need; pass it with Partition.load(path, model) (for linear regions, "
    "linear_regions(model) does as well)"
)


class Regions(Protocol):
    """What of a partition tells its linear regions; a `Partition` has it."""

    @property
    def plane(self) -> Slice: ...
    @property
    def layers(self) -> tuple[Layer, ...]: ...
    @property
    def blocks(self) -> "tuple[Block, ...]": ...
    @property
    def n_outputs(self) -> int: ...
    def patterns(self, regions: NDArray[np.int64], /) -> NDArray[np.uint64]: ...
    def affine_maps(self, regions: NDArray[np.int64], /) -> tuple[Floats, Floats]: ...


class LinearRegions(NamedTuple):
    """Which linear region every activation region belongs to, and how that was decided."""

    labels: NDArray[np.int64]
    """(n_regions,): numbers from 0, in the order of the lowest activation region of each."""
    by_float64: int
    """Inner edges on which float64 with an error bound decided."""
    by_structure: int
    """Inner edges from which no output is reached."""
    by_rationals: int
    """Inner edges on which rational arithmetic decided."""


def kept(partition: "Partition") -> LinearRegions | None:
    """Return what a partition remembers, computing nothing."""
    return vars(partition).get(KEPT)


def known_labels(partition: "Partition", *, compute: bool = True) -> NDArray[np.int64] | None:
    """Return the linear region of every activation region, or None if that cannot be told from here.

    It is computed if the partition still has its program, and kept; not with ``compute=False``.
    """
    found = kept(partition)
    if compute and found is None and partition.program is not None:
        try:
            found = linear_regions(partition)
        except ModelError:  # the network has a layer that rationals cannot follow
            return None
    return None if found is None else found.labels


def linear_regions(partition: "Partition", model: nn.Module | Program | None = None) -> LinearRegions:
    """Return the linear regions of a partition; see `Partition.linear_regions`.

    Raises
    ------
    ModelError
        If the network is needed and missing, is not the one that was partitioned, or has a layer that cannot
        be evaluated exactly.
    """
    found = kept(partition)
    if found is None:
        found = merge(partition, program_of(partition, model))
        keep(partition, found)
    return found


def keep(partition: "Partition", found: LinearRegions) -> None:
    """Let a partition remember its linear regions."""
    found.labels.setflags(write=False)
    vars(partition)[KEPT] = found


def program_of(partition: "Partition", model: nn.Module | Program | None) -> Program:
    """Return the float64 program of which a partition is: the one given, or the one it has kept.

    Raises
    ------
    ModelError
        If there is none, it is another one, or what was given is no network.
    """
    program = partition.program
    if model is not None:
        if isinstance(model, nn.Module):
            model = Program.from_module(model, partition.plane.input_shape)
            model = same_approximation(model, partition.layers)
        if not isinstance(model, Program):
            raise ModelError(f"model is a {type(model).__name__}; pass an nn.Module, or a Program")
        program = model.to(torch.float64, "cpu")
    if program is None:
        raise ModelError(NEEDS_NETWORK)
    if program.digest() != partition.model_digest:
        raise ModelError(
            "this is not the network that was partitioned: its digest differs. Pass the same weights, or, if "
            "it was partitioned with an output or normalisation, Program.from_module(..., output, normalise)"
        )
    return program


@apart
def merge(partition: "Partition", program: Program) -> LinearRegions:
    """Decide on every inner edge whether the maps on both sides are equal, and join the regions where so.

    A canonical pattern says who wins every maximum, so its network is the one of ``compared`` with any bits
    for the comparisons between losers.
    """
    program = program.compared()
    edge_faces = partition.complex.edge_faces
    inner = edge_faces[(edge_faces != OUTER).all(axis=1)]
    n = partition.n_regions
    # A border with a vertex on it is several edges. One number for a pair: twice as fast as unique rows.
    pairs = np.stack(np.divmod(np.unique(inner.min(axis=1) * n + inner.max(axis=1)), n), axis=1)
    same, stages = same_maps(partition, program, pairs, path_sums(program, partition.plane))
    links = pairs[same]
    graph = coo_array((np.ones(len(links), np.int8), tuple(links.T)), shape=(n, n))
    labels = connected_components(graph, directed=False)[1]
    return LinearRegions(_in_order(labels), *stages)


def same_maps(
    regions: Regions, program: Program, pairs: np.ndarray, sums: Floats
) -> tuple[NDArray[np.bool_], tuple[int, int, int]]:
    """Decide for pairs of regions (n, 2) whether their output maps are equal.

    Parameters
    ----------
    regions : Regions
    program : Program
        With its maxima written out as comparisons.
    pairs : (n, 2) int64
    sums : (n_outputs, 3) float64
        `path_sums` on the slice, or more.

    Returns
    -------
    same : (n,) bool
    stages : (int, int, int)
        Pairs decided by float64, by structure and by rationals.
    """
    same = np.zeros(len(pairs), bool)
    open_pairs = np.flatnonzero(~_differ_in_float64(regions, program, pairs, sums))
    reached = _outputs_reached(regions, program, pairs[open_pairs])
    last = open_pairs[reached]
    same[open_pairs[~reached]] = True
    same[last] = ~_differ_in_rationals(regions, program, pairs[last])
    return same, (len(pairs) - len(open_pairs), len(open_pairs) - len(last), len(last))


def _in_order(labels: np.ndarray) -> NDArray[np.int64]:
    """Number labels by their first appearance."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse.reshape(-1)]


# ---- stage 1 -------------------------------------------------------------------------------------


def _differ_in_float64(
    partition: Regions, program: Program, pairs: np.ndarray, sums: Floats
) -> NDArray[np.bool_]:
    """Return for which pairs of regions (n, 2) the maps differ by more than they can be wrong, (n,) bool."""
    K = max((len(block.knots) for block in partition.blocks), default=0)
    n_layers = len(partition.layers)
    # A path of the factored network passes each op, and in each layer at most one sum over hinges.
    roundings = sum(_terms(program, op) + 4 for op in program.ops) + n_layers * (K + 4)
    # Two maps, each wrong by n u of their sums; twice that, for the rounding of the sums and the difference.
    bound = 2.0**-51 * roundings * sums + roundings * SMALLEST_NORMAL
    differ = np.empty(len(pairs), bool)
    step = max(1, EDGES_AT_ONCE // partition.n_outputs)
    for i in range(0, len(pairs), step):
        go_on()
        regions, rows = np.unique(pairs[i : i + step], return_inverse=True)
        A, b = partition.affine_maps(regions)
        maps = np.dstack((A, b))
        left, right = rows.reshape(-1, 2).T
        differ[i : i + step] = (np.abs(maps[left] - maps[right]) > bound).any(axis=(1, 2))
    return differ


def _terms(program: Program, op: Any) -> int:
    """Return a bound on how many products an affine op adds up for one number."""
    if not isinstance(op, AffineOp):
        return 1 + len(getattr(op, "jumps", ()))
    entries = sum(prod(program.shapes[v]) for v in op.inputs)
    weights = [c for c in getattr(op.linear, "constants", {}).values() if c.ndim > 1]
    # One axis of a weight tensor counts its outputs; whichever it is, it is no shorter than the shortest.
    products = [c.numel() // min(c.shape) for c in weights if c.numel()]
    return min(entries, max(products)) if products else entries


def path_sums(program: Program, plane: Slice) -> NDArray[np.float64]:
    """Return what the coefficients of the output map would come to if no path cancelled another.

    Returns
    -------
    (n_outputs, 3) float64
        Of u, v and 1: every weight, bias, slope and direction by its absolute value, every activation with
        the sum of its slopes. Bounds the coefficients of every region's map, and, with the number of
        roundings, their error.
    """
    return path_sums_of(program, np.concatenate((plane.directions, plane.origin[None])))


def path_sums_of(program: Program, columns: np.ndarray) -> NDArray[np.float64]:
    """Return the same from a bound of the three columns of slices: their directions and origin, flattened."""
    value = {0: torch.from_numpy(np.abs(columns).reshape(3, *program.input_shape))}
    constant = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    with torch.inference_mode():
        for i, op in enumerate(program.ops):
            if isinstance(op, AffineOp):
                y = op.magnitude(*(value[v] for v in op.inputs))
                added = op.bias
            elif isinstance(op, KnotsOp):
                steepest, added = op.left_slope.abs(), op.left_intercept.abs()
                for breakpoint_, jump in zip(op.breakpoints, op.jumps, strict=True):
                    steepest = steepest + jump.abs()
                    added = added + jump.abs() * breakpoint_.abs()
                y = steepest * value[op.inputs[0]]
            if added is not None:
                y = y + constant.reshape(3, *[1] * (y.ndim - 1)) * added.abs()
            value[op.output] = y
            _forget(value, program, op, i)
    return value[program.output].reshape(3, -1).T.numpy()


def _forget(value: dict[int, Tensor], program: Program, op: Any, i: int) -> None:
    """Free what no later op reads."""
    for v in {*op.inputs, op.output}:
        if program.last_use(v) <= i:
            del value[v]


# ---- stage 2 -------------------------------------------------------------------------------------


def _outputs_reached(partition: Regions, program: Program, pairs: np.ndarray) -> NDArray[np.bool_]:
    """Return for which pairs of regions (n, 2) a difference can reach an output at all, (n,) bool."""
    reached = np.empty(len(pairs), bool)
    for i in range(0, len(pairs), PAIRS_AT_ONCE):
        left, right = (partition.patterns(side) for side in pairs[i : i + PAIRS_AT_ONCE].T)
        reached[i : i + PAIRS_AT_ONCE] = _reached_from(partition.layers, program, left, right)
    return reached


def _reached_from(
    layers: tuple[Layer, ...], program: Program, left: np.ndarray, right: np.ndarray
) -> NDArray[np.bool_]:
    """Return the same for pairs of patterns (n, n_words).

    What may differ spreads from the neurons whose bits differ, along nonzero weights, and through activations
    that have a slope other than 0 on either side.
    """
    next_layer = iter(layers)
    value = {0: torch.zeros(len(left), *program.input_shape, dtype=torch.float64)}
    with torch.inference_mode():
        for i, op in enumerate(program.ops):
            if isinstance(op, AffineOp):
                y = op.magnitude(*(value[v] for v in op.inputs))
                may_differ = y != 0  # a NaN, infinity times 0, may
            elif isinstance(op, KnotsOp):
                layer, shape = next(next_layer), program.shapes[op.inputs[0]]
                bits = [
                    torch.from_numpy(unpack(layer, side)).reshape(len(left), -1, *shape)
                    for side in (left, right)
                ]
                moves = (_slopes(op, bits[0]) != 0) | (_slopes(op, bits[1]) != 0)
                may_differ = ((value[op.inputs[0]] != 0) & moves) | (bits[0] != bits[1]).any(dim=1)
            value[op.output] = FAR_ABOVE_UNDERFLOW * may_differ.double()
            _forget(value, program, op, i)
    return (value[program.output].reshape(len(left), -1) != 0).any(dim=1).numpy()


def _slopes(op: KnotsOp, bits: Tensor) -> Tensor:
    """Return the slope of every neuron on its piece, (n, *shape), given its bits (n, n_breakpoints, *shape).

    A piece's slope is the left one and the jumps up to it, added in this order and rounded each time.
    """
    slope = torch.broadcast_to(op.left_slope, bits[:, 0].shape)
    for j, jump in enumerate(op.jumps):
        slope = torch.where(bits[:, j], slope + jump, slope)
    return slope


# ---- stage 3 -------------------------------------------------------------------------------------


def _differ_in_rationals(partition: Regions, program: Program, pairs: np.ndarray) -> NDArray[np.bool_]:
    """Return for which pairs of regions (n, 2) the exact output maps differ, (n,) bool.

    A few limbs tell most differences; only what they leave open is taken to the last one.
    """
    differ = np.zeros(len(pairs), bool)
    if len(pairs):
        exact = ExactProgram.on_slice(program, partition.plane)
        for limbs in (LIMBS, None):
            still_open = np.flatnonzero(~differ)
            for i in range(0, len(still_open), EXACT_AT_ONCE):
                go_on()
                some = still_open[i : i + EXACT_AT_ONCE]
                regions, rows = np.unique(pairs[some], return_inverse=True)
                forms = exact.outputs(partition.patterns(regions), limbs)
                differ[some] = _forms_differ(forms, rows.reshape(-1, 2), partition.n_outputs)
    return differ


def _forms_differ(forms: Forms, pairs: np.ndarray, n_outputs: int) -> NDArray[np.bool_]:
    """Return for which pairs of maps (n, 2) some coefficient differs, for certain, (n,) bool.

    Map ``p`` is forms ``p * n_outputs`` to ``(p + 1) * n_outputs - 1``.
    """
    left, right = (pairs.T[:, :, None] * n_outputs + np.arange(n_outputs)).reshape(2, -1)
    apart = np.abs((forms.hi[left] - forms.hi[right]) + (forms.lo[left] - forms.lo[right]))
    # Rounding of the three differences is below 3 u of the terms, so 8 u, which is 2^-50, covers it.
    terms = np.abs(forms.hi[left]) + np.abs(forms.hi[right])
    doubt = 2.0 * (forms.error[left] + forms.error[right]) + 2.0**-50 * terms
    differ = (apart > doubt).reshape(len(pairs), -1).any(axis=1)
    if forms.exact:
        for i in np.flatnonzero(~differ):
            first, second = pairs[i] * n_outputs
            differ[i] = any(
                forms.fractions(first + o) != forms.fractions(second + o) for o in range(n_outputs)
            )
    return differ
