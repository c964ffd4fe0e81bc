"""The regions as polygons in the formats of maps: GeoJSON and GeoParquet.

The plane is the slice's chart, not the earth: coordinates are (u, v) in input units, to full float64
precision. GeoParquet says so. GeoJSON cannot: its readers name a geographic reference system, without
changing a number; with geopandas, ``frame.set_crs(None, allow_override=True)`` takes the name off. Rings run
counter-clockwise, as both formats ask. A region thinner than the rounding of its coordinates (exact mode
finds such) is a polygon that has collapsed, and its property ``area`` is right all the same.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from splinecam_lite.partition.approximations import as_plain
from splinecam_lite.partition.attributes import region_attributes
from splinecam_lite.partition.counts import counts
from splinecam_lite.partition.export import replacing
from splinecam_lite.partition.locate import polygons

if TYPE_CHECKING:
    from splinecam_lite.partition.result import Partition

FEATURES_AT_ONCE = 4096
"""Regions that are held as text (a few MB) while a GeoJSON file is written."""


def to_geojson(partition: "Partition", path: str | os.PathLike[str]) -> None:
    """Write the regions as a GeoJSON file (RFC 7946): a collection with one polygon for each region.

    Parameters
    ----------
    partition : Partition
    path : path
        Taken as it is; ``.geojson`` is the usual ending. The file is there when it is complete, and replaces
        one of the same name.

    Raises
    ------
    OSError
        If the file cannot be written; then nothing is left of it.

    Notes
    -----
    The ``id`` of a feature is the number of its region. Its properties are those of
    `attributes.region_attributes`; ``pattern_hash`` is written as 16 hexadecimal digits, because readers take
    JSON's numbers for float64. The member ``partition`` of the collection, which readers of GeoJSON skip,
    holds the counts and the digests of network and slice.

    Examples
    --------
    >>> import json, tempfile, torch, splinecam_lite as sc
    >>> part = sc.partition(torch.nn.Linear(2, 1).eval(), sc.Slice.box(0, 1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     to_geojson(part, f"{folder}/a.geojson")
    ...     collection = json.loads(Path(folder, "a.geojson").read_text())
    >>> collection["features"][0]["geometry"]
    {'type': 'Polygon', 'coordinates': [[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.0, 0.0]]]}
    """
    with replacing(Path(path)) as file:
        file.write(b'{"type": "FeatureCollection",\n"partition": ')
        file.write(json.dumps(about(partition)).encode())
        file.write(b',\n"features": [\n')
        for number, lines in enumerate(_features(partition)):
            file.write((",\n" * bool(number) + lines).encode())
        file.write(b"\n]}\n")


def about(partition: "Partition") -> dict[str, Any]:
    """Return what a file says about the partition as a whole: counts by their full names, digests, units."""
    approximated = partition.report.approximated
    return counts(partition) | {
        "model_digest": partition.model_digest,
        "slice_digest": partition.plane.digest(),
        "coordinates": "chart (u, v), input units",
        **({"approximations": as_plain(approximated)} if approximated else {}),
    }


def _features(partition: "Partition") -> Iterator[str]:
    """Yield the features as text, many at once."""
    columns = {name: column.tolist() for name, column in _columns(partition).items()}
    complex, names = partition.complex, list(columns)
    xy, corner, ptr = complex.xy.tolist(), complex.face_vertex.tolist(), complex.face_ptr.tolist()
    rows = zip(*columns.values(), strict=True)
    features = []
    for region, (row, start, stop) in enumerate(zip(rows, ptr[:-1], ptr[1:], strict=True)):
        ring = [xy[v] for v in corner[start:stop]]
        ring.append(ring[0])
        feature = {
            "type": "Feature",
            "id": region,
            "properties": dict(zip(names, row, strict=True)),
            "geometry": {"type": "Polygon", "coordinates": [ring]},
        }
        features.append(json.dumps(feature, allow_nan=False))
        if len(features) == FEATURES_AT_ONCE or region == partition.n_regions - 1:
            yield ",\n".join(features)
            features = []


def _columns(partition: "Partition") -> dict[str, np.ndarray]:
    """Return the attributes as flat columns: places in two, hashes as hexadecimal digits."""
    attributes = region_attributes(partition)
    u, v = attributes.pop("centroid").T
    hashes = np.array([f"{h:016x}" for h in attributes.pop("pattern_hash").tolist()])
    region = np.arange(partition.n_regions)
    return {"region": region, **attributes, "centroid_u": u, "centroid_v": v, "pattern_hash": hashes}


def to_geopandas(partition: "Partition") -> Any:
    """Return the regions as a geopandas GeoDataFrame.

    Returns
    -------
    geopandas.GeoDataFrame
        One row for each region, in region order: the columns of `attributes.region_attributes` (the centroid
        as ``centroid_u`` and ``centroid_v``, ``pattern_hash`` as 16 hexadecimal digits), ``region``, and
        ``geometry``, polygons in chart coordinates without a reference system. ``attrs["partition"]`` holds
        the counts and digests.

    Raises
    ------
    ImportError
        If geopandas or pyarrow is not installed.
    """
    geopandas = _geopandas()
    columns: dict[str, Any] = {
        name: column.tolist() if column.dtype.kind == "U" else column
        for name, column in _columns(partition).items()
    }
    frame = geopandas.GeoDataFrame(columns, geometry=polygons(partition.complex))
    frame.attrs["partition"] = about(partition)
    return frame


def to_geoparquet(partition: "Partition", path: str | os.PathLike[str]) -> None:
    """Write the regions as a GeoParquet file, which geopandas, DuckDB, QGIS and GDAL read.

    Parameters
    ----------
    partition : Partition
    path : path
        Taken as it is; ``.parquet`` is the usual ending. The file is there when it is complete, and replaces
        one of the same name.

    Raises
    ------
    ImportError
        If geopandas or pyarrow is not installed.
    OSError
        If the file cannot be written; then nothing is left of it.

    Notes
    -----
    The rows of `to_geopandas`. The reference system is written as null, which GeoParquet defines as "none
    known"; leaving it out would mean longitude and latitude.
    """
    frame = to_geopandas(partition)
    with replacing(Path(path)) as file:
        frame.to_parquet(file, index=False)


def _geopandas() -> Any:
    try:
        import geopandas
        import pyarrow  # noqa: F401  what geopandas writes Parquet with
    except ModuleNotFoundError as error:
        raise ImportError(
            f"GeoParquet needs the package {error.name}, which is not installed: "
            "pip install 'splinecam-lite[geo]'; GeoJSON needs nothing"
        ) from error
    return geopandas
