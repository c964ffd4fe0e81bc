"""A partition as an SVG in which every region is a shape of its own, with a name and a tooltip.

Unlike a figure of `splinecam_lite.show.plot` saved as SVG it has no axes and keeps all shapes, so that an
editor or a script can pick regions, and a browser can show what is under the pointer::

    svg                        viewBox: the domain's bounding box, LONG_SIDE units on its longer side
      title, desc              the three counts; scale and origin
      g.regions
        g.class#class-0        one for each predicted class, with its colour
          path[data-region]    a region, or the part of it that has the class; title: area, linear region ...
      g.edges                  one path for each width
      g.boundary               the decision boundary

The chart's v axis points up, as in every other figure, and both axes have one scale.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from matplotlib.colors import to_hex
from numpy.typing import NDArray

from splinecam_lite.partition.attributes import region_attributes
from splinecam_lite.partition.counts import decision_known, in_words
from splinecam_lite.partition.export import replacing
from splinecam_lite.partition.linear import NEEDS_NETWORK
from splinecam_lite.partition.result import Partition
from splinecam_lite.show.colours import INK, class_colours, pale
from splinecam_lite.show.fills import SIGN_NAMES
from splinecam_lite.show.paths import breadths, edge_widths

LONG_SIDE = 1000.0
"""Length of the longer side of the domain, in units of the drawing."""

DIGITS = 4
"""Decimals of a coordinate: a ten-millionth of the drawing, so it can be magnified a thousandfold."""

BOUNDARY_WIDTH, HALO_WIDTH, MARGIN = 2.5, 5.0, 4.0
"""Units of the drawing."""

EDGE_SCALE = 1.5
"""Units of the drawing for a point of the figures: they are 450 points wide, and this 1000 units."""


def to_svg(partition: Partition, path: str | os.PathLike[str]) -> None:
    """Write the drawing; the file is there when it is complete, and replaces one of the same name.

    Parameters
    ----------
    partition : Partition
    path : path
        Taken as it is; ``.svg`` is the usual ending.

    Raises
    ------
    OSError
        If the file cannot be written; then nothing is left of it.

    Examples
    --------
    >>> import tempfile, torch, splinecam_lite as sc
    >>> part = sc.partition(torch.nn.Linear(2, 1).eval(), sc.Slice.box((0, 0), (2, 1)))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     to_svg(part, f"{folder}/a.svg")
    ...     print(Path(folder, "a.svg").read_text().splitlines()[1])
    <svg xmlns="http://www.w3.org/2000/svg" width="1008" height="508" viewBox="-4 -4 1008 508">
    """
    with replacing(Path(path)) as file:
        for line in _lines(partition):
            file.write(line.encode() + b"\n")


class _Sheet:
    """Chart coordinates to units of the drawing, and to text."""

    def __init__(self, domain: NDArray[np.float64]):
        self.low, self.high = domain.min(axis=0), domain.max(axis=0)
        self.scale = LONG_SIDE / float((self.high - self.low).max())
        self.width, self.height = (self.high - self.low) * self.scale

    def points(self, uv: NDArray[np.float64]) -> list[str]:
        """Return ``x,y`` of each point (n, 2); y points down on the sheet."""
        x = (uv[:, 0] - self.low[0]) * self.scale
        y = (self.high[1] - uv[:, 1]) * self.scale
        rounded = np.column_stack((x, y)).round(DIGITS) + 0.0  # no "-0"
        return [f"{x:.10g},{y:.10g}" for x, y in rounded.tolist()]


def _lines(partition: Partition) -> Iterator[str]:
    sheet, plane = _Sheet(partition.plane.domain), partition.plane
    width, height = sheet.width + 2 * MARGIN, sheet.height + 2 * MARGIN
    yield '<?xml version="1.0" encoding="UTF-8"?>'
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
        f'viewBox="{-MARGIN:g} {-MARGIN:g} {width:g} {height:g}">'
    )
    yield f"<title>{escape(in_words(partition))}</title>"
    yield (
        f"<desc>One input unit is {sheet.scale:.17g} units of the drawing; (0, 0) of the drawing is "
        f"(u, v) = ({sheet.low[0]:.17g}, {sheet.high[1]:.17g}) of the slice {plane.digest()[:16]}, "
        f"u to the right and v up. Network {partition.model_digest[:16]}.</desc>"
    )
    if decision_known(partition):
        yield from _regions(partition, sheet)
        yield from _edges(partition, sheet)
        yield from _boundary(partition, sheet)
    else:
        yield f"<!-- no classes: {NEEDS_NETWORK} -->"
        yield from _plain_regions(partition, sheet)
        yield from _edges(partition, sheet)
    yield "</svg>"


def _regions(partition: Partition, sheet: _Sheet) -> Iterator[str]:
    boundary = partition.decision_boundary()
    cells, names = boundary.complex, _region_titles(partition)
    place = sheet.points(cells.xy)
    corner, ptr = cells.face_vertex.tolist(), cells.face_ptr.tolist()
    signs = partition.decide == "zero"
    # Antialiased fills would let the background shine through between neighbours.
    yield '<g class="regions" stroke="none" shape-rendering="crispEdges">'
    for label in np.unique(boundary.face_classes).tolist():
        number = np.array(int(label > 0) if signs else label)
        name = SIGN_NAMES[label] if signs else f"class {label}"
        yield f'<g class="class" id="class-{label}" fill="{to_hex(pale(class_colours(number)))}">'
        yield f"<title>{escape(name)}</title>"
        for face in np.flatnonzero(boundary.face_classes == label).tolist():
            region = int(boundary.face_regions[face])
            outline = " ".join(place[v] for v in corner[ptr[face] : ptr[face + 1]])
            yield (
                f'<path data-region="{region}" d="M{outline}Z"><title>{escape(name)}, {names[region]}</title>'
                "</path>"
            )
        yield "</g>"
    yield "</g>"


def _plain_regions(partition: Partition, sheet: _Sheet) -> Iterator[str]:
    """Regions without classes."""
    cells, names = partition.complex, _region_titles(partition)
    place = sheet.points(cells.xy)
    corner, ptr = cells.face_vertex.tolist(), cells.face_ptr.tolist()
    yield '<g class="regions" stroke="none" fill="#ffffff" shape-rendering="crispEdges">'
    for region, name in enumerate(names):
        outline = " ".join(place[v] for v in corner[ptr[region] : ptr[region + 1]])
        yield f'<path data-region="{region}" d="M{outline}Z"><title>{escape(name)}</title></path>'
    yield "</g>"


def _region_titles(partition: Partition) -> list[str]:
    attributes = region_attributes(partition)
    titles = [
        f"activation region {region}: area {area:.6g}"
        for region, area in enumerate(attributes["area"].tolist())
    ]
    if "linear_region" in attributes:
        linear = attributes["linear_region"].tolist()
        titles = [f"{title}, linear region {n}" for title, n in zip(titles, linear, strict=True)]
    hashes = attributes["pattern_hash"].tolist()
    return [f"{title}, pattern {h:016x}" for title, h in zip(titles, hashes, strict=True)]


def _edges(partition: Partition, sheet: _Sheet) -> Iterator[str]:
    cells = partition.complex
    place = sheet.points(cells.xy)
    breadth = sheet.scale / EDGE_SCALE * breadths(partition.areas(), partition.perimeters())
    widths = EDGE_SCALE * edge_widths(breadth, cells.edge_faces)
    yield f'<g class="edges" fill="none" stroke="{INK}" stroke-linecap="round">'
    for width in np.unique(widths):
        ends = cells.edge_vertices[widths == width].tolist()
        drawn = "".join(f"M{place[start]} {place[end]}" for start, end in ends)
        yield f'<path stroke-width="{width:.3g}" d="{drawn}"/>'
    yield "</g>"


def _boundary(partition: Partition, sheet: _Sheet) -> Iterator[str]:
    segments = partition.decision_boundary().segments
    if not len(segments):
        return
    start, end = sheet.points(segments[:, 0]), sheet.points(segments[:, 1])
    drawn = "".join(f"M{a} {b}" for a, b in zip(start, end, strict=True))
    yield '<g class="boundary" fill="none" stroke-linecap="round"><title>decision boundary</title>'
    for colour, width in (("#ffffff", HALO_WIDTH), (INK, BOUNDARY_WIDTH)):
        yield f'<path stroke="{colour}" stroke-width="{width:g}" d="{drawn}"/>'
    yield "</g>"
