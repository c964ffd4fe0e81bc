"""Decision boundaries and level sets: where the largest output changes, exactly.

The boundary is not a knot: the network does not bend there. It is found after the partition, from the outputs
at its vertices, which are affine on every region: `splinecam_lite.engine.winners` cuts the regions that no
single class wins, and what separates two classes in the complex that results is the boundary.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from splinecam_lite.engine.complex import OUTER, Complex, check_complex, signed_areas, thin_faces
from splinecam_lite.engine.interrupts import apart
from splinecam_lite.engine.winners import Exactly, largest_values, tied
from splinecam_lite.errors import SliceError
from splinecam_lite.network.polygon import finite

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class DecisionBoundary:
    """Where the decision of a network changes on a slice, and what it decides elsewhere.

    A *decision cell* is a connected set of points with one class. All lengths and areas are in input units,
    as the chart is orthonormal; all arrays are read-only.

    Attributes
    ----------
    segments : (n, 2, 2) float64
        Start and end of each segment, in chart coordinates. No two overlap; they meet only at ends.
    classes : (n, 2) int64
        The classes on the left and on the right of the direction from start to end; the lower one is left.
    regions : (n, 2) int64
        The activation regions on the left and on the right: one and the same for a segment inside a region,
        two for a segment along knots.
    edges : (n,) int64
        The edge of the partition on which a segment lies, -1 for a segment inside a region.
    labels : (n_classes,) int64
        All classes there are: ``0 .. n_outputs - 1``, or -1 and 1 for the sign of a scalar.
    class_areas : (n_classes,) float64
        Area of each class, in the order of ``labels``. Sums to the area of the domain up to rounding.
    cell_classes, cell_areas : (n_cells,) int64 and float64
        Class and area of each decision cell.
    complex : Complex
        The partition with its regions cut along the boundary: each face has one class. A face, edge or vertex
        of the partition keeps its number, or gives it to one of its parts.
    face_regions, face_classes, face_cells : (n_faces,) int64
        Region, class and decision cell of the faces of ``complex``.
    ties : (n, 3) int64
        Region, its class, and another class with the same output on a whole face: the lower one wins there,
        as with ``torch.argmax``, and there is no boundary between the two. A scalar that is 0 on a whole
        region has class -1 there, and 1 ties.
    snaps : (n, 3) float64
        Place (u, v) of a vertex that a place where two outputs are equal was taken to pass through, and by
        how much it was moved. `splinecam_lite.engine.winners` says when.
    """

    segments: Floats
    classes: Integers
    regions: Integers
    edges: Integers
    labels: Integers
    class_areas: Floats
    cell_classes: Integers
    cell_areas: Floats
    complex: Complex
    face_regions: Integers
    face_classes: Integers
    face_cells: Integers
    ties: Integers
    snaps: Floats

    def __post_init__(self) -> None:
        arrays = [value for name, value in vars(self).items() if name != "complex"]
        for array in (*arrays, *self.complex):
            array.setflags(write=False)

    def __repr__(self) -> str:
        return (
            f"DecisionBoundary({len(self.segments)} segments, length {self.length:.6g}, "
            f"{self.n_cells} decision cells, "
            f"{len(np.unique(self.cell_classes))} of {len(self.labels)} classes)"
        )

    @property
    def n_cells(self) -> int:
        """Number of decision cells."""
        return len(self.cell_classes)

    @cached_property
    def lengths(self) -> Floats:
        """Length of each segment, (n,)."""
        u, v = (self.segments[:, 1] - self.segments[:, 0]).T
        return np.hypot(u, v)

    @property
    def length(self) -> float:
        """Length of the whole boundary; 0 where there is none."""
        return float(self.lengths.sum())

    def between(self, first: int, second: int) -> "DecisionBoundary":
        """Return the part of the boundary between two classes; areas and cells stay those of the whole.

        Raises
        ------
        ValueError
            If there is no such class.

        Examples
        --------
        >>> square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
        >>> boundary = decide(one_region(square), square[:, :1] - 0.25, "zero", square)
        >>> boundary.between(-1, 1).length, boundary.between(1, 1).length
        (1.0, 0.0)
        """
        for label in (first, second):
            if label not in self.labels:
                raise ValueError(f"there is no class {label!r}: classes are {_listed(self.labels)}")
        chosen = (self.classes == sorted((first, second))).all(axis=1)
        parts = {name: getattr(self, name)[chosen] for name in ("segments", "classes", "regions", "edges")}
        return replace(self, **parts)

    def distance(self, points: ArrayLike) -> Floats:
        """Return the distance, within the slice, from each point to the boundary inside the domain.

        Parameters
        ----------
        points : (..., 2)
            Chart coordinates.

        Returns
        -------
        (...) float64
            In input units; infinite where there is no boundary.

        Raises
        ------
        SliceError
            If the points have another shape, or are NaN or infinite.

        Examples
        --------
        >>> square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
        >>> boundary = decide(one_region(square), square[:, :1] - 0.25, "zero", square)
        >>> boundary.distance([[1.0, 0.5], [0.25, 2.0]]).tolist()
        [0.75, 1.0]
        """
        points = finite("points", points)
        if points.shape[-1:] != (2,):
            raise SliceError(f"points have shape {points.shape}; give chart coordinates (..., 2)")
        if not len(self.segments):
            return np.full(points.shape[:-1], np.inf)
        import shapely

        flat = points.reshape(-1, 2)
        lines = self._tree.geometries[self._tree.nearest(shapely.points(flat))]
        ends = shapely.get_coordinates(lines).reshape(-1, 2, 2)
        return _distances(flat, ends[:, 0], ends[:, 1]).reshape(points.shape[:-1])

    @cached_property
    def _tree(self) -> Any:
        import shapely

        return shapely.STRtree(shapely.linestrings(self.segments))

    def sample(self, n: int, seed: int = 0) -> Floats:
        """Return ``n`` points on the boundary, uniform by length.

        Parameters
        ----------
        n : int
        seed : int

        Returns
        -------
        (n, 2) float64
            Chart coordinates; `Slice.lift` makes inputs of them.

        Raises
        ------
        ValueError
            If there is no boundary.

        Examples
        --------
        >>> square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
        >>> boundary = decide(one_region(square), square[:, :1] - 0.25, "zero", square)
        >>> boundary.sample(3)[:, 0].tolist()
        [0.25, 0.25, 0.25]
        """
        if n and not len(self.segments):
            raise ValueError("one class has the whole domain: no boundary to sample; take a larger domain")
        rng = np.random.default_rng(seed)
        passed = np.cumsum(self.lengths)
        at = np.searchsorted(passed, rng.uniform(0.0, self.length, n), side="right").clip(max=len(passed) - 1)
        t = rng.uniform(size=(n, 1))
        return (1.0 - t) * self.segments[at, 0] + t * self.segments[at, 1]


def _listed(labels: Integers) -> str:
    """``-1 and 1``, or ``0 to 9``."""
    return f"{labels[0]} {'to' if len(labels) > 2 else 'and'} {labels[-1]}"


def _distances(points: Floats, start: Floats, end: Floats) -> Floats:
    """Return the distance of each point from its segment."""
    along, away = end - start, points - start
    t = np.clip((along * away).sum(axis=1) / (along**2).sum(axis=1), 0.0, 1.0)
    return np.hypot(*(away - t[:, None] * along).T)


def one_region(domain: Floats) -> Complex:
    """Return the complex of one face, a convex polygon (m, 2): the partition of a network without knots.

    Examples
    --------
    >>> one_region(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])).face_vertex.tolist()
    [0, 1, 2]
    """
    corners = np.arange(len(domain))
    edges = np.column_stack((corners, np.roll(corners, -1)))
    sides = np.column_stack((np.zeros_like(corners), np.full_like(corners, OUTER)))
    return Complex(domain, edges, sides, corners, np.array([0, len(domain)]), corners, corners)


@apart
def decide(
    complex: Complex,
    outputs: Floats,
    rule: str,
    domain: Floats,
    moved: float = 0.0,
    added: Floats | None = None,
    exactly: Exactly | None = None,
) -> DecisionBoundary:
    """Find the decision boundary on a finished partition.

    Parameters
    ----------
    complex : Complex
    outputs : (n_vertices, n_outputs) float64
        The network's output at the vertices; affine on every face.
    rule : "argmax", "argmin" or "zero"
        The class is the number of the largest or the smallest output, or, for a single output, its sign: 1
        where it is positive, -1 elsewhere.
    domain : (m, 2) float64
        Convex polygon, counter-clockwise.
    moved : float
        Largest distance over which a vertex of the complex was moved; see `check_complex`.
    added : (n_outputs,) float64, optional
        What the terms of each output come to, at most; differences are rounded in proportion to it.
    exactly : Exactly, optional
        Decide by rational arithmetic what float64 leaves open; values are 0 and the output for "zero", the
        negative outputs for "argmin".

    Raises
    ------
    ValueError
        If the rule does not suit the number of outputs.
    PredicateError
        Where signs contradict each other beyond what rounding explains.
    ComplexError
        Where the result is not a subdivision of the domain.

    Examples
    --------
    >>> square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    >>> decide(one_region(square), square, "argmax", square)
    DecisionBoundary(1 segments, length 1.41421, 2 decision cells, 2 of 2 classes)

    Outputs that are the same everywhere tie, and the lowest class wins.

    >>> boundary = decide(one_region(square), np.ones((4, 3)), "argmax", square)
    >>> boundary.length, boundary.class_areas.tolist(), boundary.ties.tolist()
    (0.0, [1.0, 0.0, 0.0], [[0, 0, 1], [0, 0, 2]])
    """
    outputs = np.asarray(outputs, dtype=np.float64).reshape(complex.n_vertices, -1)
    n = outputs.shape[1]
    if rule == "zero":
        if n != 1:
            raise ValueError(f"rule 'zero' needs one output, but there are {n}; name one, or use 'argmax'")
        values, labels = np.column_stack((np.zeros(len(outputs)), outputs)), np.array([-1, 1])
    elif rule in ("argmax", "argmin"):
        if n < 2:
            raise ValueError(f"rule {rule!r} needs several outputs, but there is one; use 'zero'")
        values, labels = outputs if rule == "argmax" else -outputs, np.arange(n)
    else:
        raise ValueError(f"the rule is {rule!r}; it must be 'argmax', 'argmin' or 'zero'")
    if added is not None and rule == "zero":
        added = np.concatenate(([0.0], added))
    winners = largest_values(complex, values, added, exactly)
    thin = None if exactly is None else thin_faces(winners.complex, domain)
    check_complex(winners.complex, domain, max(moved, float(winners.snaps[:, 3].max(initial=0.0))), thin)
    tie_face, tie_class = tied(winners).T
    ties = winners.face_parent[tie_face], labels[winners.winner[tie_face]], labels[tie_class]
    return read_boundary(
        winners.complex,
        labels,
        labels[winners.winner],
        winners.face_parent,
        winners.edge_parent,
        np.column_stack(ties),
        winners.snaps[:, 1:],
    )


def read_boundary(
    complex: Complex,
    labels: Integers,
    face_classes: Integers,
    face_regions: Integers,
    edge_parent: Integers,
    ties: Integers,
    snaps: Floats,
) -> DecisionBoundary:
    """Read everything off a complex with one class a face; ``edge_parent`` (n_edges,) is for ``edges``."""
    winner = np.searchsorted(labels, face_classes)
    inner = np.flatnonzero((complex.edge_faces != OUTER).all(axis=1))
    sides = complex.edge_faces[inner]
    differ = winner[sides[:, 0]] != winner[sides[:, 1]]

    border, faces = inner[differ], sides[differ]
    ends = complex.xy[complex.edge_vertices[border]]
    turned = winner[faces[:, 0]] > winner[faces[:, 1]]
    ends[turned], faces[turned] = ends[turned, ::-1], faces[turned, ::-1]

    same = sides[~differ]
    links = coo_array((np.ones(len(same), np.int8), tuple(same.T)), shape=(len(winner), len(winner)))
    n_cells, cells = connected_components(links, directed=False)
    cells = cells.astype(np.int64)
    cell_winner = np.empty(n_cells, np.int64)
    cell_winner[cells] = winner
    areas = signed_areas(complex.xy, complex.face_ptr, complex.face_vertex)
    return DecisionBoundary(
        segments=ends,
        classes=labels[winner[faces]],
        regions=face_regions[faces],
        edges=edge_parent[border],
        labels=labels,
        class_areas=np.bincount(winner, areas, len(labels)).astype(np.float64),
        cell_classes=labels[cell_winner],
        cell_areas=np.bincount(cells, areas, n_cells).astype(np.float64),
        complex=complex,
        face_regions=face_regions,
        face_classes=face_classes,
        face_cells=cells,
        ties=ties,
        snaps=snaps,
    )
