"""What a certificate proves of a complex with integers alone: cycles, fans, and the border.

Nothing here looks at a coordinate or a weight, and nothing is shared with the engine: these are kernels of
the proof's own. `certify` says what the facts are for.

    around a vertex                      along the border
          e1                             side i   side i   side i+1
       f1 | f0       one fan: from the   o--------o--------o----
    e2 ---v--- e0    corner of f0 over      each side one run, in order, and
       f2 | f3       e1 to f1, and so on    the domain's corners between runs
          e3         round or to the border
"""

import numpy as np

from splinecam_lite.engine.complex import OUTER, Complex
from splinecam_lite.engine.kernels import kernel
from splinecam_lite.partition.certificate import Failure


@kernel
def _sides_of_edges(
    edge_vertices: np.ndarray, face_ptr: np.ndarray, face_vertex: np.ndarray, face_edge: np.ndarray
) -> tuple[np.ndarray, int]:
    """Find the corner that passes each edge on each side: (E, 2), -1 none; and the first broken corner.

    Column 0 is the face that passes it from its start to its end. Broken is a corner that comes twice in its
    cycle, whose edge does not join it to the next one, or whose edge is passed twice in one direction.
    """
    corner = np.full((len(edge_vertices), 2), -1, np.int64)
    for f in range(len(face_ptr) - 1):
        start, stop = face_ptr[f], face_ptr[f + 1]
        if stop - start < 3:
            return corner, start
        for i in range(start, stop):
            a, b = face_vertex[i], face_vertex[i + 1 if i + 1 < stop else start]
            for j in range(start, i):
                if face_vertex[j] == a:
                    return corner, i
            u, w = edge_vertices[face_edge[i], 0], edge_vertices[face_edge[i], 1]
            side = 0 if a == u else 1
            if not ((a == u and b == w) or (a == w and b == u)) or corner[face_edge[i], side] != -1:
                return corner, i
            corner[face_edge[i], side] = i
    return corner, -1


@kernel
def _torn_vertex(
    n_vertices: int,
    face_ptr: np.ndarray,
    face_vertex: np.ndarray,
    face_edge: np.ndarray,
    edge_vertices: np.ndarray,
    corner: np.ndarray,
) -> int:
    """Return the first vertex whose faces are not one fan, or that has none; -1 if there is no such."""
    n = len(face_vertex)
    before, after = np.empty(n, np.int64), np.empty(n, np.int64)
    for f in range(len(face_ptr) - 1):
        start, stop = face_ptr[f], face_ptr[f + 1]
        for i in range(start, stop):
            after[i] = i + 1 if i + 1 < stop else start
            before[after[i]] = i
    count, first = np.zeros(n_vertices, np.int64), np.full(n_vertices, -1, np.int64)
    for i in range(n):
        count[face_vertex[i]] += 1
        first[face_vertex[i]] = i
    for v in range(n_vertices):
        i, seen = first[v], 0
        while i >= 0:  # over the edge that leaves v, to the face on its other side
            seen += 1
            e = face_edge[i]
            j = corner[e, 1 if edge_vertices[e, 0] == v else 0]
            i = after[j] if j >= 0 else -1
            if i == first[v]:
                break
        if i < 0 and first[v] >= 0:  # the border: the rest lies on the other side of the first corner
            i = first[v]
            while True:
                e = face_edge[before[i]]
                i = corner[e, 0 if edge_vertices[e, 0] == v else 1]
                if i < 0:
                    break
                seen += 1
        if seen != count[v] or seen == 0:
            return v
    return -1


@kernel
def _border_runs(
    edge_vertices: np.ndarray, edge_side: np.ndarray, corner: np.ndarray, n_vertices: int
) -> np.ndarray:
    """Walk along the border; return the sides in order of the edges passed, or an empty array if torn."""
    n, at = 0, np.full(n_vertices, -1, np.int64)
    last = -1
    for e in range(len(edge_side)):
        if edge_side[e] >= 0:
            n += 1
            v = edge_vertices[e, 0] if corner[e, 0] >= 0 else edge_vertices[e, 1]
            if at[v] >= 0:
                return np.empty(0, np.int64)
            at[v] = e
            last = e
    sides = np.empty(n, np.int64)
    e = last
    for i in range(n):
        sides[i] = edge_side[e]
        v = edge_vertices[e, 1] if corner[e, 0] >= 0 else edge_vertices[e, 0]
        e = at[v]
        if e < 0 or (e == last and i + 1 < n):
            return np.empty(0, np.int64)
    return sides if e == last else np.empty(0, np.int64)


def structure_failures(complex: Complex, n_sides: int) -> list[Failure]:
    """Return what is wrong with the complex as a combinatorial map of a disc; the first kind found only."""
    bad = _broken_index(complex, n_sides)
    if bad:
        return [Failure("structure", bad)]
    if complex.n_faces == 0:
        return [Failure("structure", "there is no region")]
    corner, broken = _sides_of_edges(
        complex.edge_vertices, complex.face_ptr, complex.face_vertex, complex.face_edge
    )
    if broken >= 0:
        face = int(np.searchsorted(complex.face_ptr, broken, side="right")) - 1
        return [Failure("structure", "its corners and edges are not one simple cycle", region=face)]
    owner = np.repeat(np.arange(complex.n_faces), np.diff(complex.face_ptr))
    faces = np.where(corner >= 0, owner[corner], OUTER)
    on_border = (faces == OUTER).any(axis=1)
    wrong = (faces != complex.edge_faces).any(axis=1) | (on_border != (complex.edge_side >= 0))
    wrong |= (faces == OUTER).all(axis=1)
    if wrong.any():
        e = int(np.flatnonzero(wrong)[0])
        message = f"its cycles give it faces {faces[e].tolist()}, side {complex.edge_side[e]}"
        return [Failure("structure", message, edge=e)]
    torn = _torn_vertex(
        complex.n_vertices, complex.face_ptr, complex.face_vertex, complex.face_edge, complex.edge_vertices,
        corner,
    )  # fmt: skip
    if torn >= 0:
        return [Failure("structure", "the regions round it are not one fan", vertex=int(torn))]
    sides = _border_runs(complex.edge_vertices, complex.edge_side, corner, complex.n_vertices)
    steps = sides[np.flatnonzero(sides != np.roll(sides, 1))] if len(sides) else sides
    at = int(steps.argmin()) if len(steps) else 0
    if len(steps) != n_sides or not np.array_equal(np.roll(steps, -at), np.arange(n_sides)):
        return [
            Failure("border", "the border edges are not one cycle that follows the domain's sides in order")
        ]
    euler = complex.n_vertices - complex.n_edges + complex.n_faces
    if euler != 1:
        return [Failure("structure", f"V - E + F = {euler}, not 1")]
    return []


def _broken_index(complex: Complex, n_sides: int) -> str:
    """Name the first array of the complex that points outside of another; empty if none does."""
    V, E, n = complex.n_vertices, complex.n_edges, len(complex.face_vertex)
    shapes = {
        "xy": (V, 2),
        "edge_vertices": (E, 2),
        "edge_faces": (E, 2),
        "edge_side": (E,),
        "face_edge": (n,),
    }
    for name, shape in shapes.items():
        if getattr(complex, name).shape != shape:
            return f"array '{name}' has shape {getattr(complex, name).shape}, not {shape}"
    if not np.isfinite(complex.xy).all():
        return "a vertex is NaN or infinite"
    for name, low, high in (
        ("edge_vertices", 0, V), ("edge_faces", OUTER, complex.n_faces), ("edge_side", -1, n_sides),
        ("face_vertex", 0, V), ("face_edge", 0, E),
    ):  # fmt: skip
        array = getattr(complex, name)
        if array.size and (array.min() < low or array.max() >= high):
            return f"array '{name}' holds numbers outside of {low} to {high - 1}"
    ptr = complex.face_ptr
    if ptr[0] != 0 or ptr[-1] != n or (np.diff(ptr) < 0).any():
        return "array 'face_ptr' does not divide the corners"
    return ""
