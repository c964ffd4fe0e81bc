"""The drawing in which every region is a shape: to scale, v up, complete, and readable by any XML parser."""

import re
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from torch import nn

import splinecam_lite as sc
from splinecam_lite.show.colours import class_colours, pale
from splinecam_lite.show.svg import LONG_SIDE

SVG = "{http://www.w3.org/2000/svg}"


def mlp(*widths: int, seed: int = 1) -> nn.Module:
    torch.manual_seed(seed)
    layers = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers[:-1]).eval()


PARTITIONS = {
    "wide": (mlp(2, 16, 16, 3), sc.Slice.box((-1, 3), (2, 4))),
    "scalar": (mlp(5, 16, 1, seed=7), sc.Slice.around(np.zeros(5), 3.0, seed=0, shape="diamond")),
    "tiny": (mlp(2, 8, 2), sc.Slice.box((1e3, 1e3), (1e3 + 1e-6, 1e3 + 1e-6))),
    "one region": (nn.Linear(2, 1).eval(), sc.Slice.box(0, 1)),
}


@pytest.fixture(params=PARTITIONS)
def drawn(request, tmp_path):
    """A partition and the root of its drawing."""
    model, plane = PARTITIONS[request.param]
    part = sc.partition(model, plane, threads=1)
    part.linear_regions(model)
    part.to_svg(tmp_path / "a.svg")
    return part, ElementTree.parse(tmp_path / "a.svg").getroot()


def corners(path) -> np.ndarray:
    """Corners of a path of straight pieces, (n, 2)."""
    pairs = re.findall(r"([-\d.e]+),([-\d.e]+)", path.get("d"))
    return np.array(pairs, float)


def shoelace(polygon) -> float:
    x, y = polygon.T
    return 0.5 * float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))


def test_shapes_are_to_scale_and_v_points_up(drawn):
    part, root = drawn
    domain = part.plane.domain
    size = np.ptp(domain, axis=0)
    scale = LONG_SIDE / size.max()
    areas = np.zeros(part.n_regions)
    centres = np.zeros((part.n_regions, 2))
    for path in root.iter(f"{SVG}path"):
        if path.get("data-region") is not None:
            polygon, region = corners(path), int(path.get("data-region"))
            part_area = -shoelace(polygon)  # counter-clockwise with v up is clockwise with y down
            assert part_area >= -1e-2
            areas[region] += part_area
            centres[region] += part_area * polygon.mean(axis=0)
    np.testing.assert_allclose(areas, part.areas() * scale**2, atol=0.2)
    assert np.isclose(areas.sum(), part.plane.area * scale**2, rtol=1e-5)
    largest = int(part.areas().argmax())
    u, v = centres[largest] / areas[largest] / scale
    place = np.array([domain[:, 0].min() + u, domain[:, 1].max() - v])
    assert np.linalg.norm(place - part.centroids()[largest]) < 0.5 * size.max()
    if part.n_regions == 1:
        np.testing.assert_allclose(place, part.centroids()[0])
    box = list(map(float, root.get("viewBox").split()))
    np.testing.assert_allclose(np.array(box[2:]) - 2 * -box[0], size * scale, rtol=1e-5)


def test_groups_are_classes_in_their_colours(drawn):
    part, root = drawn
    boundary = part.decision_boundary()
    groups = [g for g in root.iter(f"{SVG}g") if g.get("class") == "class"]
    assert [g.get("id") for g in groups] == [f"class-{c}" for c in np.unique(boundary.face_classes)]
    for group, label in zip(groups, np.unique(boundary.face_classes), strict=True):
        regions = [int(path.get("data-region")) for path in group.findall(f"{SVG}path")]
        assert regions == boundary.face_regions[boundary.face_classes == label].tolist()
        number = np.array(int(label > 0) if part.decide == "zero" else label)
        assert group.get("fill") == to_hex(pale(class_colours(number)))


def test_titles_say_what_is_under_the_pointer(drawn):
    part, root = drawn
    assert root.find(f"{SVG}title").text == (
        ", ".join(
            f"{n:,} {what}{'' if n == 1 else 's'}"
            for n, what in [
                (part.n_regions, "activation region"),
                (part.n_linear_regions, "linear region"),
                (part.n_decision_cells, "decision cell"),
            ]
        )
    )
    labels, hashes = part.linear_regions(), part.pattern_hashes()
    for path in root.iter(f"{SVG}path"):
        if path.get("data-region") is not None:
            region, said = int(path.get("data-region")), path.find(f"{SVG}title").text
            assert f"activation region {region}: area {part.areas()[region]:.6g}, " in said
            assert said.endswith(f"linear region {labels[region]}, pattern {hashes[region]:016x}")


def test_every_edge_and_the_whole_boundary_are_drawn(drawn):
    part, root = drawn
    scale = LONG_SIDE / np.ptp(part.plane.domain, axis=0).max()
    groups = {g.get("class"): g for g in root.findall(f"{SVG}g")}
    ends = [corners(path) for path in groups["edges"].findall(f"{SVG}path")]
    drawn_edges = np.concatenate(ends).reshape(-1, 2, 2)
    assert len(drawn_edges) == part.n_edges
    length = part.decision_boundary().length
    if not length:
        assert "boundary" not in groups
        return
    halo, line = groups["boundary"].findall(f"{SVG}path")
    assert halo.get("d") == line.get("d")
    segments = corners(line).reshape(-1, 2, 2)
    drawn_length = np.hypot(*(segments[:, 1] - segments[:, 0]).T).sum()
    assert np.isclose(drawn_length, length * scale, rtol=1e-4)
