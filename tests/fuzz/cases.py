"""Random hard cases for the exact mode: a case is a seed.

architecture x weights x slice x domain, each drawn by its own rule from a table below, so that a summary can
say which kinds have been tried. The numbers are made for trouble: lines through one point or almost, neurons
that repeat or almost, weights of few bits, domains that are tiny or far from the origin.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from splinecam_lite import Program, Slice, Traced
from splinecam_lite.engine.plan import Tuning
from tests.fuzz.architectures import ACTIVATIONS, ARCHITECTURES, build, traced_once
from tests.fuzz.planes import draw_plane
from tests.fuzz.weights import ALL_WORSE, BASES, WORSE, fill

SMALL_BLOCKS = Tuning(group=2, block_vertices=8, piece_vertices=4)

SIZES = 6
"""Sizes of each architecture. Tracing takes a second, more than all the rest of a small case."""

MEDIUM = 0.1
"""Share of multilayer perceptrons of up to 3 x 40 neurons: too large for the oracle, not for a proof."""

QUICK = (
    ("mlp", "relu", 0),
    ("mlp", "leaky 0.01", 1),
    ("mlp", "hardtanh", 2),
    ("convolution", "relu", 0),
    ("pooling", "relu", 0),
    ("residual", "prelu", 0),
    ("concatenation", "abs", 0),
)


@dataclass(frozen=True, eq=False)
class Case:
    """A network on a slice, how it is computed, and what kinds it was made of.

    The outputs decide by argmax; a single one by its sign.
    """

    seed: int
    kinds: dict[str, str]
    model: nn.Module
    traced: Traced
    plane: Slice
    tuning: Tuning | None
    threads: int

    def program(self) -> Program:
        return self.traced.program(self.model.state_dict())

    def __str__(self) -> str:
        return ", ".join(f"{what} {kind}" for what, kind in self.kinds.items())


def make_case(seed: int, quick: bool = False) -> Case:
    """The case of a seed; ``quick`` ones are small and of few architectures, which are traced only once."""
    rng = np.random.default_rng([seed, 3])
    if quick:
        kind, activation, number = QUICK[rng.integers(len(QUICK))]
    else:
        kind = "medium mlp" if rng.random() < MEDIUM else str(rng.choice(list(ARCHITECTURES)))
        activation = str(rng.choice(list(ACTIVATIONS)))
        number = int(rng.integers(SIZES))
    shape = build(kind, activation, number)[1]
    traced = traced_once(kind, activation, number)
    model = build(kind, activation, number)[0]

    plane, slice_kind, domain_kind = draw_plane(rng, shape)
    base = str(rng.choice(list(BASES)))
    worse = [str(w) for w in rng.choice(list(WORSE), size=rng.integers(3), replace=False)]
    if domain_kind in ("tiny", "far off", "sliver") and rng.random() < 0.8:
        worse.append("aimed")  # nothing would meet such a domain by chance
    with torch.no_grad():
        fill(rng, model, BASES[base])
        for name in worse:
            ALL_WORSE[name](rng, model, plane)
    small_blocks = bool(rng.random() < 0.3)
    return Case(
        seed,
        {
            "architecture": kind,
            "activation": activation,
            "weights": base,
            "made worse": " + ".join(worse) or "no",
            "slice": slice_kind,
            "domain": domain_kind,
            "blocks": "tiny" if small_blocks else "usual",
        },
        model,
        traced,
        plane,
        SMALL_BLOCKS if small_blocks else None,
        int(rng.integers(1, 3)),
    )
