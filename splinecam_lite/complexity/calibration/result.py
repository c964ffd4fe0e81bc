"""A calibration: its rows, what they advise, and how it is written and read."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from splinecam_lite.complexity.calibration.recommendation import WANTED, Recommendation, common, recommended
from splinecam_lite.complexity.calibration.statistics import Components, Interval
from splinecam_lite.complexity.calibration.tables import (
    TOTAL,
    OrientationRow,
    RegionsRow,
    Row,
    Scatter,
    TrendRow,
)
from splinecam_lite.complexity.calibration.text import table_of
from splinecam_lite.complexity.result import CONFIDENCE
from splinecam_lite.errors import FileError

FORMAT = 1
"""Version of the JSON; another one is not read."""

KIND = "splinecam-lite calibration"


@dataclass(frozen=True, eq=False, repr=False)
class Calibration:
    """How good the sampled estimate of local complexity is, against the exact count in planes.

    Attributes
    ----------
    settings : dict
        Points, radii, directions, planes, seed, bootstrap samples, network and versions: what determines
        the rows.
    rows : tuple of Row
        For each checkpoint, radius, layer and P.
    regions : tuple of RegionsRow
        Against the number of activation regions.
    orientation : tuple of OrientationRow
        Variance between points and between planes; with two planes or more.
    trends : tuple of TrendRow
        Over the checkpoints; with three or more.
    scatter : tuple of Scatter
        Single points, for each radius.
    """

    settings: dict[str, Any]
    rows: tuple[Row, ...]
    regions: tuple[RegionsRow, ...]
    orientation: tuple[OrientationRow, ...]
    trends: tuple[TrendRow, ...]
    scatter: tuple[Scatter, ...]

    def __repr__(self) -> str:
        s = self.settings
        return (
            f"Calibration({s['n_points']} points, {s['n_planes']} planes, "
            f"{len(self.checkpoints)} checkpoints, {len(self.radii)} radii, "
            f"P = {', '.join(map(str, self.directions))})"
        )

    @property
    def checkpoints(self) -> tuple[str, ...]:
        """Labels of the networks, in their order."""
        return tuple(self.settings["checkpoints"])

    @property
    def radii(self) -> tuple[float, ...]:
        """Ascending, in input units."""
        return tuple(self.settings["radii"])

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers; their sum, ``"all layers"``, is the last."""
        return (*self.settings["layer_names"], TOTAL)

    @property
    def directions(self) -> tuple[int, ...]:
        """Values of P, ascending; the first is 2."""
        return tuple(self.settings["directions"])

    def row(self, radius: float, layer: str = TOTAL, directions: int = 2, checkpoint: object = None) -> Row:
        """Return one row; by default of the sum over the layers, of P = 2, at the last checkpoint.

        Raises
        ------
        KeyError
            If there is none.
        """
        wanted = self.checkpoints[-1] if checkpoint is None else str(checkpoint)
        for row in self.rows:
            if (row.checkpoint, row.radius, row.layer, row.directions) == (wanted, radius, layer, directions):
                return row
        raise KeyError(
            f"there is no row of checkpoint {wanted!r}, radius {radius}, layer {layer!r}, P = {directions}; "
            f"there are radii {self.radii}, layers {self.layers}, P {self.directions}"
        )

    def recommended_radius(
        self, recall: float, layer: str = TOTAL, checkpoint: object = None
    ) -> Recommendation:
        """Return the largest radius at which the estimate finds that share of the crossings.

        Parameters
        ----------
        recall : float
            The share, in (0, 1]. The lower end of the 99 % interval is held against it.
        layer : str
            Default: all layers together.
        checkpoint : optional
            Default: the radius does at every checkpoint at which there is enough to tell.

        Raises
        ------
        KeyError
            If there is no such layer or checkpoint.
        """
        found = []
        for label in self.checkpoints if checkpoint is None else (str(checkpoint),):
            shares = [self.row(radius, layer, 2, label).ratio for radius in self.radii]
            values, lows = [s.value for s in shares], [s.low for s in shares]
            found.append(recommended(recall, self.radii, values, lows))
        return common(found)

    def table(self) -> str:
        """Return the figures of the last checkpoint as text."""
        return table_of(self)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON has it: dicts, lists, numbers, strings; None where undefined."""
        parts: dict[str, Any] = {"kind": KIND, "format": FORMAT, "confidence": CONFIDENCE}
        parts |= {"settings": self.settings, "recommended": []}
        for name in _ROWS:
            parts[name] = [_as_dict(row) for row in getattr(self, name)]
        written = _plain(parts)
        rounded = Calibration.from_dict(written)  # advice from the very numbers that are written
        advice = [
            {"layer": layer, "recall": wanted, **rounded.recommended_radius(wanted, layer)._asdict()}
            for layer in self.layers
            for wanted in WANTED
        ]
        return {**written, "recommended": _plain(advice)}

    def save(self, path: str | Path) -> None:
        """Write the calibration to a ``.json`` file, which is there complete or not at all."""
        path = Path(path)
        beside = path.with_name(f".{path.name}.part")
        beside.write_text(_lines(self.to_dict()), encoding="utf-8")
        os.replace(beside, path)

    @staticmethod
    def load(path: str | Path) -> "Calibration":
        """Read what `save` has written.

        Raises
        ------
        FileError
            If it is something else.
        """
        try:
            return Calibration.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))
        except (ValueError, KeyError, TypeError) as error:
            raise FileError(
                f"{path} holds no calibration of this version ({error}); calibrate anew"
            ) from error

    @staticmethod
    def from_dict(parts: dict[str, Any]) -> "Calibration":
        """Return the calibration that `to_dict` has written out.

        Raises
        ------
        ValueError, KeyError, TypeError
            If it is something else.
        """
        if (parts["kind"], parts["format"]) != (KIND, FORMAT):
            raise ValueError(f"it is {parts['kind']!r}, format {parts['format']!r}, not {KIND!r}, {FORMAT}")
        rows = {name: tuple(_from_dict(kind, row) for row in parts[name]) for name, kind in _ROWS.items()}
        return Calibration(parts["settings"], **rows)


_ROWS: dict[str, type] = {
    "rows": Row,
    "regions": RegionsRow,
    "orientation": OrientationRow,
    "trends": TrendRow,
    "scatter": Scatter,
}


def _as_dict(row: NamedTuple) -> dict[str, Any]:
    parts = row._asdict()
    for name, value in parts.items():
        if isinstance(value, Components):
            parts[name] = {part: _rounded(v) for part, v in value._asdict().items()}
        elif isinstance(value, Interval) or name == "plane_means":
            parts[name] = [_rounded(v) for v in value]
        elif isinstance(value, float) and name != "radius":
            parts[name] = _rounded(value)
    return parts


def _rounded(value: float) -> float:
    """Eight digits: no statistic has more to say, and files are half as large."""
    return float(f"{value:.8g}")


def _from_dict(kind: Any, row: dict[str, Any]) -> Any:
    def read(name: str, value: Any) -> Any:
        if kind.__annotations__[name] is Interval:
            return Interval(*(np.nan if v is None else v for v in value))
        if kind.__annotations__[name] is Components:
            return Components(**value)
        if isinstance(value, list):
            return tuple(tuple(v) if isinstance(v, list) else v for v in value)
        return value

    return kind(**{name: read(name, value) for name, value in row.items()})


def _plain(value: Any) -> Any:
    """Turn tuples into lists, and NaN into None, which JSON has."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _lines(parts: dict[str, Any]) -> str:
    """JSON with a row a line: rows can be told apart, and read by eye."""

    def written(value: Any) -> str:
        if isinstance(value, list) and value:
            return "[\n  " + ",\n  ".join(json.dumps(v, allow_nan=False) for v in value) + "\n ]"
        return json.dumps(value, allow_nan=False)

    return "{\n" + ",\n".join(f' "{name}": {written(value)}' for name, value in parts.items()) + "\n}\n"
