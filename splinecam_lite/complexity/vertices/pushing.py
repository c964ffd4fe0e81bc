"""Neighbourhoods on their way through a network: factored while few neurons bend, then vertex by vertex.

A point leaves the factored form

    when so many of its neurons bend that the vertices themselves are less work;
    at an op that is neither affine nor an activation with one breakpoint;
    when an end of a range is so near to 0 that the rounding of the factored form might decide. It then goes
    through the network once more, vertex by vertex from its first activation.

Its vertices go through the rest of the network a few at a time, so that what is worked on stays in the cache.
"""

import functools
from math import prod

import numpy as np
import torch
from torch import Tensor

from splinecam_lite.complexity.batches import batch_bytes, live_entries
from splinecam_lite.complexity.vertices import ranges
from splinecam_lite.complexity.vertices.factored import Bends, Factored, Knot, Parts, Ranges, bent, ranges_of
from splinecam_lite.complexity.vertices.spread import Spread
from splinecam_lite.complexity.vertices.windows import Convolution, boxes
from splinecam_lite.network.program import AffineOp, KnotsOp, Op, Program

ROWS_SAVED = 0.1
"""A point stays factored while it saves that share of its 2P rows."""

BEND_PRODUCTS, USUAL_PRODUCTS = 60.0, 200.0
"""What a bend costs for each entry of its bump, beside the affine op, in products of that; and the products
for each entry of an affine op that does not tell. With 40, convolutional networks in which many neurons bend
took 1.2 forward passes; with 90, those in which few do took 1.0 and not 0.8."""

FEW_PRODUCTS = 80.0
"""Products for each entry of an affine op that the factored form must be able to save, (P - 1) / 2P of them.
With fewer, as in layers of 64 neurons, what it takes beside them is more: 1.6 to 2.8 forward passes."""

NEAR = {torch.float64: 2.0**-36, torch.float32: 2.0**-14}
"""Ends of ranges are as good as 0 up to this, in units of the layer's largest value in the neighbourhood.
It is 2^17 times the unit roundoff of float64, and 2^10 times that of float32: less is promised there, but
values that are exactly 0 at a vertex, as behind neurons that are off in a network without biases, are."""

CACHE_BYTES = 2**22
"""What goes through a network at a time, vertex by vertex, takes that much on the CPU."""

LARGE_IMAGE = 64
"""Pixels from which bumps are convolved by their boxes; in smaller images kernels soon reach everywhere."""

AFFINE_BYTES = 2**19
"""Results of one call of an affine op, on the CPU: with all at once, float64 convolutions of torch took twice
the time for a row, matrix products 1.15 times."""


class Neighbourhoods:
    """A batch of neighbourhoods on their way.

    Parameters
    ----------
    program : Program
    spread : dict from value to Spread
        All values that are affine in the input; all ops but those that write them are to be `apply`-ed, in
        order.
    """

    def __init__(self, program: Program, spread: dict[int, Spread]):
        self._program, self._spread, first = program, spread, spread[0]
        self._layers = {id(op): layer for layer, op in enumerate(program.preactivation_ops)}
        self._batch, self._vertices = len(first.centre), 2 * first.directions
        self._compiled = ranges.compiled_for(first.centre)
        self._relus = {id(op) for op in program.preactivation_ops if self._compiled and is_relu(op)}
        self._readers: dict[int, list[Op]] = {}
        for op in program.ops:
            for v in op.inputs:
                self._readers.setdefault(v, []).append(op)
        # Ranges of the layers to come, as far as they are known.
        self._low: dict[int, Tensor] = {}
        self._high: dict[int, Tensor] = {}
        # Of the points that are still factored: their numbers, their values, and the table of their bends;
        # the ranges of the last layer.
        self._stay = torch.arange(self._batch, device=first.centre.device)
        self._live: dict[int, Factored] = {}
        self._bends = Bends.none(self._batch, self._vertices, first.centre)
        self._at: Ranges | None = None
        saved = (first.directions - 1) / self._vertices * products_of(program, spread)
        self._is_plain = self._compiled and saved < FEW_PRODUCTS
        if self._compiled:
            _keep_freed_memory()

    def ranges(self, number: int) -> tuple[Tensor, Tensor]:
        """Return the ranges of the layer whose activation is op ``number``, (batch, *shape) both."""
        op = self._program.ops[number]
        layer = self._layers[id(op)]
        self._make_room(layer)
        if len(self._stay):
            self._at = at = ranges_of(self._parts(op.inputs[0]), self._knot(op), NEAR[self._program.dtype])
            self._low[layer][self._stay], self._high[layer][self._stay] = at.low, at.high
            if bool(at.doubtful.any()):
                self._vertexwise(0, at.doubtful, {}, layer)
                self._drop(at.doubtful)
                self._at = Ranges(*(part[~at.doubtful] for part in at))
        shape = self._program.shapes[op.inputs[0]]
        low, high = self._low.pop(layer), self._high.pop(layer)
        return low.reshape(self._batch, *shape), high.reshape(self._batch, *shape)

    def apply(self, number: int) -> None:
        """Apply op ``number``; if it is an activation of a layer, after `ranges`."""
        op = self._program.ops[number]
        if not len(self._stay):
            return
        if self._is_plain:
            return self._leave(number)
        knot = self._knot(op)
        if isinstance(op, AffineOp):
            self._live[op.output] = self._affine(op)
        elif isinstance(op, KnotsOp) and knot is not None:
            self._bend(number, op, knot)
        else:
            self._leave(number)
        for v in {*op.inputs, op.output}:
            if self._program.last_use(v) <= number:
                self._live.pop(v, None)

    def _leave(self, number: int) -> None:
        """Let all points go on vertex by vertex, from op ``number`` on."""
        everyone = torch.ones_like(self._stay, dtype=torch.bool)
        self._vertexwise(number, everyone, self._live, self._next_layer(number))
        self._drop(everyone)

    def _next_layer(self, number: int) -> int:
        """First layer whose activation comes after op ``number``."""
        return sum(id(op) in self._layers for op in self._program.ops[: number + 1])

    def _knot(self, op: Op) -> Knot | None:
        return Knot.of(op, self._program.shapes[op.inputs[0]])

    def _parts(self, value: int) -> Parts:
        """Take a value of the points that are still factored apart."""
        if value not in self._spread:
            return self._live[value].parts(self._bends)
        spread, everyone = self._spread[value], len(self._stay) == self._batch
        centre = spread.centre if everyone else spread.centre[self._stay]
        offset = spread.offset if spread.is_shared or everyone else spread.offset[self._stay]
        shape = (1 if spread.is_shared else len(centre), spread.directions, -1)
        no_bumps = centre.new_empty(0, centre[0].numel())
        reach = spread.reach().reshape(-1) if spread.is_shared else None
        flat = centre.reshape(len(centre), -1)
        return Parts(flat, offset.reshape(shape), no_bumps, self._bends, reach)

    def _affine(self, op: AffineOp) -> Factored:
        """Apply an affine op, at least one of whose inputs is factored."""
        rows = [self._rows(v) for v in op.inputs]
        n, points = max(map(len, rows)), len(self._stay)
        # Later bends do not touch the older of several values.
        rows = [r if len(r) == n else torch.cat((r, r.new_zeros(n - len(r), *r.shape[1:]))) for r in rows]
        out = rows[0].new_empty(n, *self._program.shapes[op.output])
        dense, convolution = n, Convolution.of(op) if self._compiled else None
        if convolution is not None and prod(self._program.shapes[op.inputs[0]][1:]) >= LARGE_IMAGE:
            dense = points * (1 + self._vertices // 2)
            out[dense:] = convolution(rows[0][dense:], self._program.shapes[op.output])
        entries = max(prod(self._program.shapes[v]) for v in (*op.inputs, op.output))
        step = self._at_once(entries, AFFINE_BYTES)
        for start in range(0, dense, step):
            some = slice(start, min(start + step, dense))
            out[some] = op.linear(*(r[some] for r in rows))
        if op.bias is not None:
            out[:points] += op.bias
        return Factored(out, points, self._vertices // 2)

    def _rows(self, value: int) -> Tensor:
        """Rows of a value as in `Factored`."""
        if value not in self._spread:
            return self._live[value].rows
        parts, shape = self._parts(value), self._program.shapes[value]
        offset = parts.offset.expand(len(parts.centre), -1, -1).flatten(0, 1)
        return torch.cat((parts.centre, offset)).reshape(-1, *shape)

    def _bend(self, number: int, op: KnotsOp, knot: Knot) -> None:
        """Apply an activation with one breakpoint; points that bend too often leave before it."""
        value = op.inputs[0]
        parts = self._parts(value)
        at = self._at
        if at is None or value in self._spread or id(op) not in self._layers:
            at = ranges_of(parts, knot, -1.0)
        leaving = self._work(op, parts, at) > (1 - ROWS_SAVED) * self._vertices
        points, kept = (~leaving).nonzero().flatten(), torch.arange(len(self._bends.owner))
        if bool(leaving.any()):
            self._vertexwise(number, leaving, self._live, self._next_layer(number))
            if self._program.last_use(value) <= number:
                self._live.pop(value, None)  # `parts` has it
            kept = self._drop(leaving)
        if len(points):
            shape = self._program.shapes[value]
            rows, owner, weight = bent(op, knot, parts, at, points, shape, kept)
            self._live[op.output] = Factored(rows, len(points), self._vertices // 2)
            if len(owner):
                owner, weight = torch.cat((self._bends.owner, owner)), torch.cat((self._bends.weight, weight))
                self._bends = Bends.table(owner, weight, len(points))

    def _work(self, op: KnotsOp, parts: Parts, at: Ranges) -> Tensor:
        """Rows that points would take if they stayed factored after an activation, (F,)."""
        if not self._compiled:  # bends are not followed there
            return torch.where(at.n_bends > 0, torch.inf, 0.0)
        shape = self._program.shapes[op.output]
        readers = [
            (Convolution.of(r), prod(self._program.shapes[r.output]))
            for r in self._readers.get(op.output, ())
        ]
        convolutions = [(convolution, n) for convolution, n in readers if convolution is not None]
        owners = self._bends.owner[: len(parts.bumps)]
        if convolutions:
            products = sum(convolution.weight[0].numel() * n for convolution, n in convolutions)
            entries = prod(shape) + sum(n for _, n in convolutions)
            overhead, area = BEND_PRODUCTS * entries / products, prod(shape[1:])
            # Kernels make a bump wider by about 2.
            first_y, last_y, first_x, last_x = boxes(parts.bumps.unflatten(1, shape)).T
            grown = np.clip(last_y - first_y + 3, 0, shape[1]) * np.clip(last_x - first_x + 3, 0, shape[2])
            old, new = torch.from_numpy(overhead + grown / area), overhead + min(9 / area, 1.0)
        else:
            new = 1.0 + 2 * BEND_PRODUCTS / USUAL_PRODUCTS
            old = torch.full((len(owners),), new, dtype=torch.float64)
        bends = torch.bincount(owners, old, minlength=len(self._stay)) + new * at.n_bends
        return 1 + self._vertices / 2 + bends

    def _drop(self, leaving: Tensor) -> Tensor:
        """Forget points; return the numbers that their bends have had which are still in the table."""
        points = (~leaving).nonzero().flatten()
        self._stay = self._stay[points]
        self._bends, kept = self._bends.kept(points)
        self._live = {v: value.kept(points, kept) for v, value in self._live.items()} if len(points) else {}
        return kept

    def _vertexwise(self, number: int, points: Tensor, live: dict[int, Factored], layer: int) -> None:
        """Take points through the network vertex by vertex, from op ``number`` on, for layers from ``layer``.

        Parameters
        ----------
        number : int
        points : (F,) bool Tensor
            Among those that are factored.
        live : dict from value to Factored
            What there is besides the values that are affine in the input.
        layer : int
        """
        layers = range(layer, len(self._layers))
        if not layers:
            return
        chosen = points.nonzero().flatten()
        for later in layers:
            self._make_room(later)
        parts = {v: value.parts(self._bends) for v, value in live.items()}
        parts |= {v: self._parts(v) for v in self._spread}
        step = self._at_once(live_entries(self._program), CACHE_BYTES)
        some = max(step // self._vertices, 1)
        for at in range(0, len(chosen), some):
            for start in range(0, self._vertices, step):
                vertices = range(start, min(start + step, self._vertices))
                self._push(number, parts, chosen[at : at + some], vertices, layer)

    def _push(
        self,
        number: int,
        parts: dict[int, Parts],
        points: Tensor,
        vertices: range,
        layer: int,
    ) -> None:
        """Take some vertices of some points through the rest of the network; see `_vertexwise`."""
        live: dict[int, Tensor] = {}
        numbers = self._stay[points]

        def read(v: int) -> Tensor:
            if v not in live:
                shape = self._program.shapes[v]
                live[v] = parts[v].at_vertices(points, vertices.start, vertices.stop).reshape(-1, *shape)
            return live[v]

        for i in range(number, len(self._program.ops)):
            op = self._program.ops[i]
            if op.output in self._spread:
                continue
            inputs = [read(v) for v in op.inputs]
            at = self._layers.get(id(op), -1)
            counts = at >= layer and op.inputs[0] not in self._spread
            done = counts and self._widen(op, i, at, inputs[0], live, numbers, vertices.start == 0)
            if at == len(self._layers) - 1:
                return
            live[op.output] = inputs[0] if done else op.run(*inputs)
            for v in {*op.inputs, op.output}:
                if self._program.last_use(v) <= i:
                    live.pop(v, None)

    def _widen(
        self, op: Op, number: int, layer: int, z: Tensor, live: dict[int, Tensor], points: Tensor, first: bool
    ) -> bool:
        """Widen the ranges of a layer by preactivations ``z``, or begin them with the ``first`` ones.

        Returns
        -------
        bool
            Whether ``z`` is the layer's activation now.
        """
        low, high = self._low[layer], self._high[layer]
        rows = z.reshape(len(points), -1, low.shape[1])
        if not self._compiled:
            least, most = rows.amin(dim=1), rows.amax(dim=1)
            low[points] = least if first else torch.minimum(low[points], least)
            high[points] = most if first else torch.maximum(high[points], most)
            return False
        clamp = (
            id(op) in self._relus and self._program.last_use(op.inputs[0]) <= number and _is_alone(z, live)
        )
        ranges.widen(rows.contiguous().numpy(), points.numpy(), low.numpy(), high.numpy(), first, clamp)
        return clamp

    def _make_room(self, layer: int) -> None:
        if layer not in self._low:
            shape, like = (self._batch, self._program.n_neurons[layer]), self._spread[0].centre
            self._low[layer], self._high[layer] = like.new_empty(shape), like.new_empty(shape)

    def _at_once(self, entries: int, on_cpu: int) -> int:
        """Rows of that many entries that are worked on at once."""
        device = self._program.device
        limit = on_cpu if device.type == "cpu" else batch_bytes(device)
        return max(1, limit // (entries * torch.finfo(self._program.dtype).bits // 8))


def _is_alone(z: Tensor, live: dict[int, Tensor]) -> bool:
    """Tell whether no other live value lies in the memory of ``z``, or in several places at once."""
    if not z.is_contiguous():
        return False
    others = (other.untyped_storage().data_ptr() for other in live.values() if other is not z)
    return z.untyped_storage().data_ptr() not in others


def products_of(program: Program, spread: dict[int, Spread]) -> float:
    """Mean number of products for each entry of the affine ops after the first activation."""
    entries = products = 0.0
    for op in program.ops:
        if isinstance(op, AffineOp) and op.output not in spread:
            n, convolution = prod(program.shapes[op.output]), Convolution.of(op)
            if convolution is not None:
                each = float(convolution.weight[0].numel())
            else:
                constants = getattr(op.linear, "constants", {}).values()
                each = max((c.numel() for c in constants), default=0) / max(n, 1) or USUAL_PRODUCTS
            entries, products = entries + n, products + n * each
    return products / entries if entries else 0.0


def is_relu(op: Op) -> bool:
    """Tell whether an op is max(z, 0)."""
    return (
        isinstance(op, KnotsOp)
        and len(op.breakpoints) == 1
        and all(bool((part == 0).all()) for part in (op.left_slope, op.left_intercept, op.breakpoints[0]))
        and bool((op.jumps[0] == 1).all())
    )


@functools.cache
def _keep_freed_memory() -> None:
    """Have the C library keep what is freed, up to 64 MB, for the next value of a batch.

    glibc asks the system for every block above a threshold, and gives it back when it is freed; first use
    of new pages took 15 % of the time on convolutional networks. Freeing a block raises the threshold to
    its size, 32 MB at most.
    """
    torch.empty(2**25 - 2**16, dtype=torch.uint8)
