r"""Maxima written out as comparisons: tournaments of affine ops and hinges.

A window of entries is a knock-out tournament; each match is one comparison:

    round 1     a   b   c   d   e        entries of the window
                 \ /     \ /    |
    round 2      ab      cd     e        an odd one out is carried over
                   \    /       |
    round 3         abcd        e
                        \     /
                         abcde

    a match     d = r - l                an affine op
                h = max(d, 0)            a hinge: 0 where the left side wins, or ties
                l + h                    an affine op: the winner

Of a minimum, ``d = l - r`` and the winner is ``l - h``. Pooling is separable: its windows are those along one
axis of the winners along another, so that 3 x 3 windows share their rows. Windows that overlap share their
matches as well.

Padding takes no part, and so nothing is infinite. Matches that nobody reads are not played: entries between
windows are left out first.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch

from splinecam_lite.network.chain import BATCH_FIRST, Batch, Chain, Constant, Earlier, Input, Step
from splinecam_lite.network.ops import AffineOp, Comparison, KnotsOp, MaxOp, Op

Shape = tuple[int, ...]
Item = TypeVar("Item", int, tuple[int, int])

SUM, DIFFERENCE = "aten.add.Tensor", "aten.sub.Tensor"


class Round(NamedTuple):
    """One round along one axis: whom the matches are between, and who is carried over."""

    left: list[int]
    right: list[int]
    carried: list[int]


def rounds_of(windows: Sequence[Sequence[int]]) -> tuple[list[Round], list[int]]:
    """Plan the tournaments of windows along one axis.

    Returns
    -------
    rounds : list of Round
        Of places among the results of the round before: first its matches, then those carried over.
    order : list of int
        Where the winner of each window stands after the last round.

    Examples
    --------
    Two windows of three that share an entry.

    >>> rounds_of([(0, 1, 2), (2, 3, 4)])
    ([Round(left=[0, 2], right=[1, 3], carried=[2, 4]), Round(left=[0, 1], right=[2, 3], carried=[])], [0, 1])

    Windows that overlap share a match: the odd one out is the first of a window that begins at an odd place.

    >>> rounds_of([(1, 2, 3), (2, 3, 4)])
    ([Round(left=[2], right=[3], carried=[1, 4]), Round(left=[0, 1], right=[2, 0], carried=[])], [1, 0])
    """
    standing = [list(w) for w in windows]
    rounds = []
    while any(len(w) > 1 for w in standing):
        paired = [_paired(w) for w in standing]
        # In the order of the entries: places in equal steps are views of the tensor that is played on.
        matches = _numbered({pair for _, pairs, _ in paired for pair in pairs})
        carried = _numbered({place for first, _, last in paired for place in first + last})
        rounds.append(Round([left for left, _ in matches], [right for _, right in matches], list(carried)))
        standing = [
            [len(matches) + carried[place] for place in first]
            + [matches[pair] for pair in pairs]
            + [len(matches) + carried[place] for place in last]
            for first, pairs, last in paired
        ]
    return rounds, [place for (place,) in standing]


def _paired(window: list[int]) -> tuple[list[int], list[tuple[int, int]], list[int]]:
    """Pair the entries of a window: an odd one out in front, pairs, an odd one out behind.

    Pairs that begin at even places are those of the neighbouring windows too: half as many matches in the
    first round of windows of three in steps of one.
    """
    first = len(window) % 2 * (window[0] % 2)
    last = len(window) - (len(window) - first) % 2
    return (
        window[:first],
        list(zip(window[first:last:2], window[first + 1 : last : 2], strict=True)),
        window[last:],
    )


def _numbered(items: set[Item]) -> dict[Item, int]:
    """Number items in their order."""
    return {item: number for number, item in enumerate(sorted(items))}


def written_out(
    ops: Sequence[Op], shapes: Sequence[Shape], output: int, like: torch.Tensor
) -> tuple[tuple[Op, ...], tuple[Shape, ...], int]:
    """Return ops, shapes and output of a program with each `MaxOp` written out as comparisons.

    Parameters
    ----------
    like : Tensor
        Of the dtype and on the device of the program's constants.
    """
    writer = _Writer(shapes[0], like)
    number = {0: 0}
    for op in ops:
        inputs: Any = tuple(number[v] for v in op.inputs)
        if isinstance(op, MaxOp):
            number[op.output] = writer.maximum(op, inputs, shapes[op.output])
        else:
            number[op.output] = writer.append(replace(op, inputs=inputs), shapes[op.output])
    return tuple(writer.ops), tuple(writer.shapes), number[output]


class _Writer:
    """The ops written so far."""

    def __init__(self, shape: Shape, like: torch.Tensor):
        self.ops: list[Op] = []
        self.shapes: list[Shape] = [shape]
        self.like = like
        self.n_maxima = 0

    def append(self, op: Op, shape: Shape) -> int:
        """Append an op, whatever its output was; return the number of its value."""
        number = len(self.shapes)
        self.ops.append(replace(op, output=number))
        self.shapes.append(shape)
        return number

    def maximum(self, op: MaxOp, inputs: tuple[int, ...], shape: Shape) -> int:
        """Write one maximum of values ``inputs``; return the number of its result."""
        tournament = _Tournament(self, op)
        value = tournament.windows(inputs[0], shape) if op.windows else tournament.pairs(inputs, shape)
        tournament.close()
        self.n_maxima += 1
        return value


class _Tournament:
    """The comparisons of one maximum.

    Attributes
    ----------
    played : list of (int, array, array)
        Number of the hinge's op, and left and right side, of each round.
    winner_of : (*shape,) int64
        The comparison that each entry of the current value is the winner of; -1 for none.
    """

    def __init__(self, writer: _Writer, op: MaxOp):
        self.writer, self.op = writer, op
        self.played: list[tuple[int, np.ndarray, np.ndarray]] = []
        self.n_comparisons = 0
        self.winner_of = np.zeros((), np.int64)

    def pairs(self, inputs: tuple[int, ...], shape: Shape) -> int:
        """Write the maximum of two values, which the last step of the op names."""
        fn = self.op.fn
        left, right = fn.steps[-1].args[:2]
        sides = (left, right) if self.op.is_minimum else (right, left)
        difference = self.affine(replace(fn, steps=(Step(DIFFERENCE, sides),)), inputs, shape)
        self.winner_of = np.full(shape, -1, np.int64)
        hinge = self.play(difference, self.winner_of, self.winner_of)
        self.winner_of = np.arange(self.n_comparisons).reshape(shape)
        winner = Step(self.combined, (left, Input(len(inputs))))
        chain = replace(fn, steps=(winner,), input_axes=(*fn.input_axes, fn.output_axis))
        return self.affine(chain, (*inputs, hinge), shape)

    def windows(self, value: int, shape: Shape) -> int:
        """Write the maximum over windows; return the number of its result, which has this shape."""
        self.winner_of = np.full(self.writer.shapes[value], -1, np.int64)
        value, windows = self.without_gaps(value)
        for axis, entries in windows:
            rounds, order = rounds_of(entries)
            for number, match in enumerate(rounds):
                last = number == len(rounds) - 1
                value = self.round(value, axis, match, order if last else None)
            if not rounds:
                value = self.rearranged(value, [(axis, order)])
        return value if self.writer.shapes[value] == shape else self.reshaped(value, shape)

    def reshaped(self, value: int, shape: Shape) -> int:
        """Give the result its shape, in the op that writes it if that is one of ours."""
        step = "aten.reshape.default"
        if not self.n_comparisons:
            return self.affine(Chain((Step(step, (Input(0), (Batch(1), *shape))),)), (value,), shape)
        op = self.writer.ops[-1]
        assert isinstance(op, AffineOp)
        assert isinstance(op.linear, Chain)
        last = Step(step, (Earlier(len(op.linear.steps) - 1), (Batch(1), *shape)))
        del self.writer.ops[-1], self.writer.shapes[-1]
        return self.affine(replace(op.linear, steps=(*op.linear.steps, last)), op.inputs, shape)

    def without_gaps(self, value: int) -> tuple[int, list[tuple[int, Sequence[Sequence[int]]]]]:
        """Leave out entries that no window has; the windows along the last axis come first."""
        kept: list[tuple[int, Sequence[int]]] = []
        windows: list[tuple[int, Sequence[Sequence[int]]]] = []
        for axis, entries in sorted(self.op.windows, reverse=True):
            places = sorted({place for window in entries for place in window})
            number = {place: i for i, place in enumerate(places)}
            kept.append((axis, places))
            windows.append((axis, [[number[place] for place in window] for window in entries]))
        return self.rearranged(value, kept), windows

    def rearranged(self, value: int, kept: Sequence[tuple[int, Sequence[int]]]) -> int:
        """Select places along some axes."""
        steps, shape = _Steps(self.writer.like), list(self.writer.shapes[value])
        source: Input | Earlier = Input(0)
        for axis, places in kept:
            if list(places) != list(range(shape[axis])):
                source = steps.select(source, axis, places)
                self.winner_of = self.winner_of.take(places, axis)
                shape[axis] = len(places)
        return self.affine(steps.chain(1), (value,), tuple(shape)) if steps.steps else value

    def round(self, value: int, axis: int, match: Round, order: Sequence[int] | None) -> int:
        """Write one round: differences, hinges, and winners with those carried over, in an order."""
        like, before = self.writer.like, self.winner_of
        steps = _Steps(like)
        sides = [steps.view(Input(0), axis, places) for places in (match.left, match.right)]
        steps.add(DIFFERENCE, *(sides if self.op.is_minimum else sides[::-1]))
        left, right = before.take(match.left, axis), before.take(match.right, axis)
        difference = self.affine(steps.chain(1), (value,), left.shape)
        first = self.n_comparisons
        hinge = self.play(difference, left, right)
        numbers = np.arange(first, self.n_comparisons).reshape(left.shape)
        self.winner_of = np.concatenate((numbers, before.take(match.carried, axis)), axis)
        steps = _Steps(like)
        result = steps.add(self.combined, steps.view(Input(0), axis, match.left), Input(1))
        if match.carried:
            carried = steps.view(Input(0), axis, match.carried)
            result = steps.add("aten.cat.default", (result, carried), axis + 1)
        if order is not None and list(order) != list(range(self.winner_of.shape[axis])):
            steps.select(result, axis, order)
            self.winner_of = self.winner_of.take(order, axis)
        return self.affine(steps.chain(2), (value, hinge), self.winner_of.shape)

    @property
    def combined(self) -> str:
        """How a hinge joins the left side."""
        return DIFFERENCE if self.op.is_minimum else SUM

    def affine(self, linear: Chain, inputs: tuple[int, ...], shape: Shape) -> int:
        sums = tuple(replace(s, target=SUM) if s.target == DIFFERENCE else s for s in linear.steps)
        linear = replace(linear, dtype=self.writer.like.dtype)
        op = AffineOp(
            inputs, -1, self.op.where, linear, None, magnitude=replace(linear, steps=sums), fn=linear
        )
        return self.writer.append(op, tuple(shape))

    def play(self, difference: int, left: np.ndarray, right: np.ndarray) -> int:
        """Write the hinges of a round, between the winners of comparisons ``left`` and ``right``."""
        zero, one = self.writer.like.new_zeros(()), self.writer.like.new_ones(())
        relu = Chain((Step("aten.relu.default", (Input(0),)),), dtype=self.writer.like.dtype)
        op = KnotsOp((difference,), -1, self.op.where, zero, zero, (zero,), (one,), relu)
        self.played.append((len(self.writer.ops), left.reshape(-1), right.reshape(-1)))
        self.n_comparisons += left.size
        return self.writer.append(op, self.writer.shapes[difference])

    def close(self) -> None:
        """Tell every hinge what it compares, now that it is known whose winners are results."""
        is_result = np.zeros(self.n_comparisons, bool)
        is_result[self.winner_of[self.winner_of >= 0]] = True
        offset = 0
        for number, left, right in self.played:
            op = self.writer.ops[number]
            assert isinstance(op, KnotsOp)
            top = is_result[offset : offset + len(left)]
            comparison = Comparison(left, right, top, offset, self.writer.n_maxima)
            self.writer.ops[number] = replace(op, comparison=comparison)
            offset += len(left)


class _Steps:
    """A chain in the making."""

    def __init__(self, like: torch.Tensor):
        self.like = like
        self.steps: list[Step] = []
        self.constants: dict[str, torch.Tensor] = {}

    def add(self, target: str, *args: Any) -> Earlier:
        self.steps.append(Step(target, args))
        return Earlier(len(self.steps) - 1)

    def select(self, source: Input | Earlier, axis: int, places: Sequence[int]) -> Earlier:
        """Select places along an axis of a sample."""
        key = f"c{len(self.constants)}"
        self.constants[key] = torch.tensor(places, dtype=torch.int64, device=self.like.device)
        return self.add("aten.index_select.default", source, axis + 1, Constant(key))

    def view(self, source: Input | Earlier, axis: int, places: Sequence[int]) -> Earlier:
        """As `select`, but without a copy where the places are in equal steps."""
        step = places[1] - places[0] if len(places) > 1 else 1
        if step < 1 or list(places) != list(range(places[0], places[-1] + 1, step)):
            return self.select(source, axis, places)
        return self.add("aten.slice.Tensor", source, axis + 1, places[0], places[-1] + 1, step)

    def chain(self, n_inputs: int) -> Chain:
        return Chain(tuple(self.steps), self.constants, input_axes=(BATCH_FIRST,) * n_inputs)
