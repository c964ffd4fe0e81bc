"""Local complexity on a grid of a slice: how it varies over the plane."""

import json
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from splinecam_lite.complexity.batches import is_int
from splinecam_lite.complexity.current import CurrentProgram
from splinecam_lite.complexity.estimator import LocalComplexity, check_device
from splinecam_lite.complexity.frames import Kind
from splinecam_lite.complexity.layers import Layers
from splinecam_lite.errors import FileError, SliceError
from splinecam_lite.network.program import Program
from splinecam_lite.network.slices import Slice
from splinecam_lite.partition.export import replacing, writer_version
from splinecam_lite.partition.workers import SILENT_SECONDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]

TILE_BYTES = 2**26
"""Memory for the inputs of one tile of the grid."""

MOST_POINTS = 4096
"""Of a tile, so that the progress bar moves."""

WIDTH, HEIGHTS, AROUND = 5.6, (2.4, 9.0), (1.6, 0.8)
"""Width of the picture in a new figure, least and largest height, and what is around it, in inches."""

FORMAT = "splinecam_lite complexity map"
SCHEMA = 1
"""Version of the layout of the file; another one is refused."""

ARRAYS = ("per_layer", "n_neurons", "origin", "directions", "domain")


@dataclass(frozen=True, eq=False, repr=False)
class ComplexityMap:
    """Crossings around the points of a grid on a slice.

    The grid divides the bounding box of the slice's domain into pixels; a value is that of the neighbourhood
    around the middle of its pixel. Row 0 has the least v, column 0 the least u.

    Attributes
    ----------
    per_layer : (rows, columns, layers) float64
        Crossings; NaN where the middle of a pixel is outside the domain.
    n_neurons : (layers,) int64
    layer_names : tuple of str
    plane : Slice
    radius : float
        Of the neighbourhoods, in input units.
    directions : int
        P.
    """

    per_layer: Array
    n_neurons: NDArray[np.int64]
    layer_names: tuple[str, ...]
    plane: Slice
    radius: float
    directions: int

    def __post_init__(self) -> None:
        self.per_layer.setflags(write=False)

    def __repr__(self) -> str:
        rows, columns, layers = self.per_layer.shape
        return (
            f"ComplexityMap({rows} x {columns} pixels, {layers} layers, r = {self.radius:g}, "
            f"P = {self.directions}: {np.nanmean(self.total):.4g} crossings on average)"
        )

    @property
    def total(self) -> Array:
        """Sum over the layers, (rows, columns); NaN outside."""
        return self.per_layer.sum(axis=2)

    @property
    def fractions(self) -> Array:
        """Crossings as a share of the layer's neurons, (rows, columns, layers); NaN outside."""
        return self.per_layer / self.n_neurons

    @property
    def inside(self) -> NDArray[np.bool_]:
        """Which pixels have their middle in the domain, (rows, columns)."""
        middles = _middles(self.plane, *self.per_layer.shape[:2])
        return _contains(self.plane.domain, middles)

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Least and largest u, least and largest v: matplotlib's ``extent``, for ``origin="lower"``."""
        (u0, v0), (u1, v1) = self.plane.domain.min(axis=0), self.plane.domain.max(axis=0)
        return float(u0), float(u1), float(v0), float(v1)

    def layer(self, layer: int | str) -> Array:
        """Return the crossings of one layer, by number or name, (rows, columns).

        Raises
        ------
        IndexError
            If there is no such layer.
        """
        return self.per_layer[..., self._number(layer)]

    def _number(self, layer: int | str) -> int:
        if isinstance(layer, str) and layer in self.layer_names:
            return self.layer_names.index(layer)
        if not isinstance(layer, str) and -len(self.layer_names) <= layer < len(self.layer_names):
            return int(layer)
        raise IndexError(f"there is no layer {layer!r}; the map has {', '.join(map(repr, self.layer_names))}")

    def plot(
        self,
        layer: int | str | None = None,
        *,
        limits: tuple[float, float] | None = None,
        title: str | None = None,
        ax: "Axes | None" = None,
    ) -> "Axes":
        """Draw the map and return the axes.

        Parameters
        ----------
        layer : int or str, optional
            One layer, by number or name. Default: the sum over all.
        limits : (low, high), optional
            Ends of the colour scale, to compare figures. Default: least and largest value.
        title : str, optional
            Default: radius and directions.
        ax : Axes, optional
            Default: the axes of a new figure.

        Returns
        -------
        Axes
            Both axes in chart units, which are input units.
        """
        import matplotlib.pyplot as plt
        from matplotlib.ticker import MaxNLocator

        values = self.total if layer is None else self.layer(layer)
        if ax is None:
            u0, u1, v0, v1 = self.extent
            tall = float(np.clip(WIDTH * (v1 - v0) / (u1 - u0), *HEIGHTS))
            _, ax = plt.subplots(figsize=(WIDTH + AROUND[0], tall + AROUND[1]), layout="constrained")
        low, high = (None, None) if limits is None else limits
        shown = ax.imshow(
            values, origin="lower", extent=self.extent, vmin=low, vmax=high, cmap="viridis",
            interpolation="nearest",
        )  # fmt: skip
        where = "all layers" if layer is None else f"layer {self.layer_names[self._number(layer)]}"
        label = f"neurons that change sign, {where}"
        counts = MaxNLocator(8, integer=True)
        ax.figure.colorbar(shown, ax=ax, label=label, ticks=counts, shrink=0.85, pad=0.02)
        plane = self.plane
        same = plane.directions.shape == (2, 2) and np.array_equal(plane.directions, np.eye(2))
        is_input = same and not plane.origin.any()
        ax.set_xlabel("input 1" if is_input else "u (input units)")
        ax.set_ylabel("input 2" if is_input else "v (input units)")
        usual = f"local complexity, r = {self.radius:g} (input units), P = {self.directions}"
        ax.set_title(usual if title is None else title, fontsize=10)
        return ax

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the map to a file: a ``.npz`` archive of plain arrays and a JSON header, nothing to execute.

        The file appears under its name only when it is complete; one of the same name is replaced.
        """
        header = {
            "format": FORMAT,
            "schema": SCHEMA,
            "version": writer_version(),
            "layer_names": self.layer_names,
            "input_shape": self.plane.input_shape,
            "radius": self.radius,
            "directions": self.directions,
        }
        arrays = {
            "per_layer": self.per_layer,
            "n_neurons": self.n_neurons,
            "origin": self.plane.origin,
            "directions": self.plane.directions,
            "domain": self.plane.domain,
        }
        with replacing(Path(path)) as file:
            packed = np.frombuffer(json.dumps(header).encode(), np.uint8)
            np.savez_compressed(file, allow_pickle=False, header=packed, **arrays)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> "ComplexityMap":
        """Read a map that ``save`` has written.

        Raises
        ------
        FileNotFoundError, PermissionError
        FileError
            If the file is no map, has another layout, or is cut short or damaged.
        """
        try:
            with zipfile.ZipFile(path) as archive:
                if (damaged := archive.testzip()) is not None:
                    raise ValueError(f"the checksum of '{damaged}' is wrong")
            with np.load(path, allow_pickle=False) as archive:
                header = json.loads(archive["header"].tobytes())
                if header["format"] != FORMAT or header["schema"] != SCHEMA:
                    raise ValueError(
                        f"it is a {header['format']}, version {header['schema']}; "
                        f"this reads {FORMAT}, version {SCHEMA}"
                    )
                return _of_file(header, {name: archive[name] for name in ARRAYS})
        except (FileNotFoundError, PermissionError):
            raise
        except Exception as error:  # whatever bytes that are no archive make zipfile, numpy and json raise
            raise FileError(f"'{path}' is not a complexity map, or is damaged ({error})") from error


def _of_file(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> ComplexityMap:
    per_layer, n_neurons, names = arrays["per_layer"], arrays["n_neurons"], tuple(header["layer_names"])
    kinds = (per_layer.dtype, per_layer.ndim, n_neurons.dtype, n_neurons.shape)
    if kinds != (np.float64, 3, np.int64, (len(names),)) or per_layer.shape[2] != len(names):
        raise ValueError("its arrays do not have the shapes of a map")
    plane = Slice(arrays["origin"], arrays["directions"], arrays["domain"], tuple(header["input_shape"]))
    return ComplexityMap(
        per_layer, n_neurons, names, plane, float(header["radius"]), int(header["directions"])
    )


def complexity_map(
    model: nn.Module | Program | str | Path,
    plane: Slice,
    resolution: int | tuple[int, int] = (300, 300),
    radius: float = 0.005,
    directions: int | None = None,
    seed: int = 0,
    *,
    frame: object = None,
    kind: Kind = "orthonormal",
    centre: bool = False,
    layers: Layers | None = None,
    logits: bool = False,
    output: str | int | None = None,
    dtype: torch.dtype = torch.float64,
    batch_size: int | None = None,
    progress: bool = True,
) -> ComplexityMap:
    """Measure local complexity on a grid of a slice.

    Parameters
    ----------
    model : nn.Module, Program, str or Path
        As `LocalComplexity` takes it.
    plane : Slice
        What lies outside of its domain is not measured.
    resolution : int, or (rows, columns)
        Pixels along v and u. One number is that of the longer side of the domain's bounding box, and pixels
        are square as nearly as can be.
    radius : float
        Of the neighbourhoods, in input units. They may reach out of the domain, and into other pixels.
    directions : int, optional
        P random directions in the whole input space, the same for all pixels. Default: the two of the slice,
        so that neighbourhoods are diamonds in the plane: what the knots of its partition are counted in.
    seed : int
        Of random directions.
    frame, kind, centre, layers, logits, output, dtype, batch_size
        As of `LocalComplexity`.
    progress : bool
        Show a bar if it takes more than a moment.

    Returns
    -------
    ComplexityMap

    Raises
    ------
    SliceError
        If the plane is no `Slice`, or no pixel has its middle in the domain.
    ValueError
        If the resolution is not positive.
    NeighbourhoodError, ModelError
        As `LocalComplexity`.

    Examples
    --------
    One line, u = 0: it crosses the diamonds of radius 0.3 around pixels next to it.

    >>> model = nn.Sequential(nn.Linear(2, 1), nn.ReLU()).eval()
    >>> _ = model[0].weight.data.copy_(torch.tensor([[1.0, 0.0]])), model[0].bias.data.zero_()
    >>> complexity_map(model, Slice.box(-1, 1), (1, 4), radius=0.3).total.tolist()
    [[0.0, 1.0, 1.0, 0.0]]
    """
    if not isinstance(plane, Slice):
        raise SliceError(f"the plane is a {type(plane).__name__}; give a Slice")
    rows, columns = _grid(resolution, plane)
    if directions is None and frame is None:
        if kind != "orthonormal":
            raise ValueError(f"kind='{kind}' is of random directions; say how many, with directions=...")
        frame = plane.directions.reshape(2, *plane.input_shape)
    current = CurrentProgram(model, output=output, all_outputs=not logits)
    check_device(current.device, dtype)
    # One program for all tiles: to bind the weights of a module takes longer than a tile of a small network.
    program = current.program(plane.input_shape).to(dtype, current.device)
    measure = LocalComplexity(
        program, radius, 2 if directions is None else directions, seed, frame=frame, kind=kind,
        centre=centre, layers=layers, logits=logits, dtype=dtype,
    )  # fmt: skip
    middles = _middles(plane, rows, columns)
    inside = _contains(plane.domain, middles)
    uv = middles[inside]
    if not len(uv):
        raise SliceError(
            f"none of the {rows} x {columns} pixels has its middle in the domain; take a finer resolution"
        )
    found, size = [], max(1, min(MOST_POINTS, TILE_BYTES // (8 * plane.origin.size)))
    with tqdm(
        total=len(uv), desc="map", unit="px", delay=SILENT_SECONDS, leave=False, disable=not progress
    ) as bar:
        for start in range(0, len(uv), size):
            tile = measure(plane.lift(uv[start : start + size]), batch_size=batch_size)
            found.append(tile.per_layer)
            bar.update(len(tile.per_layer))
    per_layer = np.full((rows, columns, len(tile.layer_names)), np.nan)
    per_layer[inside] = np.concatenate(found)
    return ComplexityMap(
        per_layer, tile.n_neurons, tile.layer_names, plane, measure.radius, measure.directions
    )


def _grid(resolution: int | tuple[int, int], plane: Slice) -> tuple[int, int]:
    """Rows and columns."""
    given = tuple(resolution) if isinstance(resolution, Sequence) else (resolution,)
    if not all(is_int(n) and n > 0 for n in given) or len(given) not in (1, 2):
        raise ValueError(f"resolution is {resolution!r}; give a positive int, or (rows, columns)")
    if len(given) == 2:
        return given
    width, height = np.ptp(plane.domain, axis=0)
    rows, columns = (max(1, round(given[0] * side / max(width, height))) for side in (height, width))
    return rows, columns


def _middles(plane: Slice, rows: int, columns: int) -> Array:
    """Chart coordinates of the middles of the pixels, (rows, columns, 2)."""
    low, high = plane.domain.min(axis=0), plane.domain.max(axis=0)
    u, v = (
        a + (b - a) * (np.arange(n) + 0.5) / n for a, b, n in zip(low, high, (columns, rows), strict=True)
    )
    return np.stack(np.meshgrid(u, v), axis=-1)


def _contains(polygon: Array, uv: Array) -> NDArray[np.bool_]:
    """Tell which points (..., 2) are in a convex polygon (corners, 2), counter-clockwise, border included."""
    inside = np.ones(uv.shape[:-1], bool)
    for a, b in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        (du, dv), w = b - a, uv - a
        inside &= du * w[..., 1] - dv * w[..., 0] >= 0
    return inside
