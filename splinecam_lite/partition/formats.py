"""How a partition leaves: as a file, a graph or shapes that other programs read."""

import importlib
import os
from typing import TYPE_CHECKING, Any, cast

import numpy as np

if TYPE_CHECKING:
    import networkx

    from splinecam_lite.partition.result import Partition

DRAUGHTSMAN = "splinecam_lite.show.svg"
"""Who writes SVG: named, not imported, since drawing builds on this room and not the reverse."""


class Formats:
    """The methods of a `Partition` that hand it over; each format has its own module."""

    def to_shapely(self) -> np.ndarray:
        """Return every region as a shapely polygon in chart coordinates, (n_regions,) objects."""
        from splinecam_lite.partition.locate import polygons

        return polygons(cast("Partition", self).complex)

    def to_networkx(self) -> "networkx.Graph":
        """Return the graph of neighbouring regions, with attributes; see `export.to_networkx`."""
        from splinecam_lite.partition.export import to_networkx

        return to_networkx(cast("Partition", self))

    def to_geopandas(self) -> Any:
        """Return the regions as a GeoDataFrame, one row each; see `geo.to_geopandas`. Extra ``geo``."""
        from splinecam_lite.partition.geo import to_geopandas

        return to_geopandas(cast("Partition", self))

    def to_geojson(self, path: str | os.PathLike[str]) -> None:
        """Write the regions as a GeoJSON file; see `geo.to_geojson`."""
        from splinecam_lite.partition.geo import to_geojson

        to_geojson(cast("Partition", self), path)

    def to_geoparquet(self, path: str | os.PathLike[str]) -> None:
        """Write the regions as a GeoParquet file; see `geo.to_geoparquet`. Extra ``geo``."""
        from splinecam_lite.partition.geo import to_geoparquet

        to_geoparquet(cast("Partition", self), path)

    def to_svg(self, path: str | os.PathLike[str]) -> None:
        """Write a drawing in which every region is a shape with a name; see `splinecam_lite.show.svg`."""
        importlib.import_module(DRAUGHTSMAN).to_svg(self, path)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the partition to a file that ``load`` reads; see `export.save`."""
        from splinecam_lite.partition.export import save

        save(cast("Partition", self), path)
