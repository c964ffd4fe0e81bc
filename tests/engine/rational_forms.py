"""Coefficients of preactivations as Fractions, for exact mode: slow, and obviously right."""

from fractions import Fraction
from math import lcm
from typing import NamedTuple

import numpy as np

from splinecam_lite.engine.plan import KnotStep, Plan


class RationalForms(NamedTuple):
    """Affine functions of the chart; see `splinecam_lite.engine.lines.Forms`."""

    rows: list[list[Fraction]]

    @property
    def hi(self) -> np.ndarray:
        return np.array([[float(c) for c in row] for row in self.rows]).reshape(-1, 3)

    @property
    def lo(self) -> np.ndarray:
        rest = [[float(c - Fraction(float(c))) for c in row] for row in self.rows]
        return np.array(rest).reshape(-1, 3)

    def integers(self, i: int) -> tuple[int, int, int]:
        common = lcm(*(c.denominator for c in self.rows[i]))
        a, b, c = (int(c * common) for c in self.rows[i])
        return a, b, c


def exactly(plan: Plan, layers) -> Plan:
    """Return a dense plan (`plans.dense_plan` of the same layers, slope 0) in exact mode."""
    steps = [step for step in plan.steps if isinstance(step, KnotStep)]
    exact = [
        ([[Fraction(float(w)) for w in row] for row in weight], [Fraction(float(b)) for b in bias])
        for weight, bias in ((np.asarray(w, float), np.asarray(b, float)) for w, b in layers)
    ]

    def preactivations(pattern: np.ndarray, layer: int) -> list[list[Fraction]]:
        values = [[Fraction(1), Fraction(0), Fraction(0)], [Fraction(0), Fraction(1), Fraction(0)]]
        for number in range(layer + 1):
            weight, bias = exact[number]
            z = []
            for row, b in zip(weight, bias, strict=True):
                total = [
                    sum((w * v[i] for w, v in zip(row, values, strict=True)), Fraction(0)) for i in range(3)
                ]
                total[2] += b
                z.append(total)
            if number == layer:
                return z
            first = steps[number].first_bit
            on = [int(pattern[(first + i) >> 6]) >> ((first + i) & 63) & 1 for i in range(len(z))]
            values = [[c * bit for c in row] for row, bit in zip(z, on, strict=True)]
        raise AssertionError

    def forms_of(patterns: np.ndarray, rows: np.ndarray, bits: np.ndarray) -> RationalForms:
        known: dict[tuple[int, int], list[list[Fraction]]] = {}
        out = []
        for row, bit in zip(rows.tolist(), bits.tolist(), strict=True):
            layer = max(i for i, step in enumerate(steps) if step.first_bit <= bit)
            if (row, layer) not in known:
                known[row, layer] = preactivations(patterns[row], layer)
            out.append(known[row, layer][bit - steps[layer].first_bit])
        return RationalForms(out)

    return plan._replace(forms_of=forms_of)
