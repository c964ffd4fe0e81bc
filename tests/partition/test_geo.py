"""Files for other programs: the regions themselves, whole or not at all, and nothing lost on the way."""

import json
import os
import sys

import numpy as np
import pytest
import shapely
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from splinecam_lite import Partition, Slice, partition
from splinecam_lite.engine.complex import signed_areas
from splinecam_lite.partition import geo, linear
from splinecam_lite.partition.attributes import classes_of_regions, region_attributes
from tests.partition.networks import cases, compute, constant, deep, mlp, tunings


def read(path) -> dict:
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def counted() -> tuple[Partition, np.ndarray]:
    """The deep partition, and its linear regions."""
    part = deep()
    return part, part.linear_regions(mlp(2, 16, 16, 3))


@given(cases, tunings, st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_geojson_holds_every_polygon_bit_for_bit(tmp_path, case, tuning, exactly):
    part = compute(case, tuning, exact=exactly)
    part.to_geojson(tmp_path / "a.geojson")
    collection = read(tmp_path / "a.geojson")
    assert collection["type"] == "FeatureCollection"
    features = collection["features"]
    assert [feature["id"] for feature in features] == list(range(part.n_regions))
    for region, feature in enumerate(features):
        (ring,) = feature["geometry"]["coordinates"]
        assert ring[0] == ring[-1]
        assert ring[:-1] == part.polygon(region).tolist()
        assert feature["properties"]["region"] == region
    areas = [feature["properties"]["area"] for feature in features]
    assert areas == part.areas().tolist()


def test_rings_run_counter_clockwise_as_the_formats_ask(tmp_path):
    part = deep()
    part.to_geojson(tmp_path / "a.geojson")
    shapes = shapely.from_geojson((tmp_path / "a.geojson").read_text())
    assert shapely.is_ccw(shapely.get_exterior_ring(shapely.get_parts(shapes))).all()


def test_properties_are_the_partition_s_own(tmp_path):
    part, labels = counted()
    part.to_geojson(tmp_path / "a.geojson")
    collection = read(tmp_path / "a.geojson")
    rows = [feature["properties"] for feature in collection["features"]]

    def column(name):
        return np.array([row[name] for row in rows])

    np.testing.assert_array_equal(column("perimeter"), part.perimeters())
    np.testing.assert_array_equal(column("centroid_u"), part.centroids()[:, 0])
    np.testing.assert_array_equal(column("centroid_v"), part.centroids()[:, 1])
    np.testing.assert_array_equal(column("linear_region"), labels)
    assert [int(row["pattern_hash"], 16) for row in rows] == part.pattern_hashes().tolist()
    assert collection["partition"] == {
        "activation_regions": part.n_regions,
        "linear_regions": part.n_linear_regions,
        "decision_cells": part.n_decision_cells,
        "model_digest": part.model_digest,
        "slice_digest": part.plane.digest(),
        "coordinates": "chart (u, v), input units",
    }


@given(cases)
def test_the_class_of_a_region_is_that_of_its_largest_part(case):
    part = compute(case)
    boundary = part.decision_boundary()
    winner, n_classes = classes_of_regions(boundary, part.n_regions)
    cut = boundary.complex
    areas = signed_areas(cut.xy, cut.face_ptr, cut.face_vertex).tolist()
    cells = list(zip(boundary.face_regions.tolist(), boundary.face_classes.tolist(), areas, strict=True))
    for region in range(part.n_regions):
        parts = {label: area for r, label, area in cells if r == region}
        assert parts[winner[region]] == max(parts.values())
        assert n_classes[region] == len(parts) == sum(r == region for r, _, _ in cells)


def test_geoparquet_comes_back_as_it_was(tmp_path):
    geopandas = pytest.importorskip("geopandas")
    part, _ = counted()
    part.to_geoparquet(tmp_path / "a.parquet")
    frame = geopandas.read_parquet(tmp_path / "a.parquet")
    expected = part.to_geopandas()
    assert frame.crs is None
    assert frame.columns.tolist() == expected.columns.tolist()
    for name in frame.columns.drop("geometry"):
        assert frame[name].tolist() == expected[name].tolist()
    assert frame.attrs["partition"]["activation_regions"] == part.n_regions
    shapes = np.array(frame.geometry)
    for region in range(part.n_regions):
        np.testing.assert_array_equal(shapely.get_coordinates(shapes[region])[:-1], part.polygon(region))
    assert np.isclose(frame.geometry.area.sum(), part.plane.area)


def test_the_parquet_file_says_that_it_has_no_reference_system(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    pytest.importorskip("geopandas")
    deep().to_geoparquet(tmp_path / "a.parquet")
    said = json.loads(parquet.read_schema(tmp_path / "a.parquet").metadata[b"geo"])
    column = said["columns"]["geometry"]
    assert (column["crs"], column["encoding"], column["geometry_types"]) == (None, "WKB", ["Polygon"])


def test_a_missing_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "geopandas", None)
    with pytest.raises(ImportError, match=r"geopandas, which is not installed: pip install '.*\[geo\]'"):
        deep().to_geoparquet(tmp_path / "a.parquet")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["to_geojson", "to_geoparquet", "to_svg"])
def test_a_file_appears_whole_or_not_at_all(name, tmp_path, monkeypatch):
    if name == "to_geoparquet":
        pytest.importorskip("geopandas")
    path = tmp_path / "p"
    path.write_text("what was there before")
    part = deep()

    def fail(descriptor):
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="the disk is full"):
        getattr(part, name)(path)
    monkeypatch.undo()
    assert path.read_text() == "what was there before"
    assert os.listdir(tmp_path) == ["p"]
    getattr(part, name)(path)
    assert os.listdir(tmp_path) == ["p"]
    assert path.stat().st_size > 1000


def test_linear_regions_are_left_out_where_they_are_not_known(tmp_path):
    part = deep()
    part.save(tmp_path / "p.npz")
    loaded = Partition.load(tmp_path / "p.npz")
    vars(loaded).pop(linear.KEPT, None)
    assert "linear_region" not in region_attributes(loaded)
    loaded.to_geojson(tmp_path / "a.geojson")
    collection = read(tmp_path / "a.geojson")
    assert "linear_regions" not in collection["partition"]
    assert "linear_region" not in collection["features"][0]["properties"]


def test_one_region_and_a_scalar_output(tmp_path):
    part = partition(constant(-1.0), Slice.box(0, 1), threads=1)
    part.to_geojson(tmp_path / "a.geojson")
    (feature,) = read(tmp_path / "a.geojson")["features"]
    assert (feature["properties"]["class"], feature["properties"]["n_classes"]) == (-1, 1)


def test_a_large_collection_is_written_in_parts(tmp_path, monkeypatch):
    deep().to_geojson(tmp_path / "a.geojson")
    for size in (1, 7, deep().n_regions):
        monkeypatch.setattr(geo, "FEATURES_AT_ONCE", size)
        deep().to_geojson(tmp_path / "b.geojson")
        assert (tmp_path / "a.geojson").read_bytes() == (tmp_path / "b.geojson").read_bytes()


# ---- graphs --------------------------------------------------------------------------------------


def test_the_graph_has_the_attributes_of_every_region():
    part, labels = counted()
    graph = part.to_networkx()
    rows = [graph.nodes[region] for region in range(part.n_regions)]
    assert [row["area"] for row in rows] == part.areas().tolist()
    assert [row["perimeter"] for row in rows] == part.perimeters().tolist()
    assert [row["centroid"] for row in rows] == list(map(tuple, part.centroids().tolist()))
    assert [row["linear_region"] for row in rows] == labels.tolist()
    assert [row["pattern_hash"] for row in rows] == part.pattern_hashes().tolist()
    assert {row["class"] for row in rows} <= {0, 1, 2}
    assert all(type(value) in (int, float, tuple) for row in rows for value in row.values())


def test_linear_regions_are_connected_in_the_graph():
    import networkx

    part, labels = counted()
    graph = part.to_networkx()
    graph.remove_edges_from([(f, g) for f, g in graph.edges if labels[f] != labels[g]])
    assert networkx.number_connected_components(graph) == part.n_linear_regions


@given(cases, tunings, st.booleans())
def test_adjacency_is_where_neighbours_share_a_length(case, tuning, exactly):
    part = compute(case, tuning, exact=exactly)
    adjacency, lengths = part.adjacency(), part.neighbours()
    assert adjacency.dtype == bool
    assert adjacency.shape == (part.n_regions, part.n_regions)
    assert adjacency.has_canonical_format
    np.testing.assert_array_equal(adjacency.indptr, lengths.indptr)
    np.testing.assert_array_equal(adjacency.indices, lengths.indices)
    assert adjacency.data.all()
    assert (adjacency != adjacency.T).nnz == 0
    assert not adjacency.diagonal().any()
    assert sorted(map(tuple, np.argwhere(np.triu(adjacency.toarray())).tolist())) == sorted(
        tuple(sorted(edge)) for edge in part.to_networkx().edges
    )


def test_slivers_survive_every_format(tmp_path):
    """Three lines that miss one another by 1e-17: regions whose corners coincide in float64."""
    model = mlp(2, 4, 2)
    with torch.no_grad():
        model[0].weight[:] = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 1.0 + 2.0**-50]])
        model[0].bias[:] = torch.tensor([0.1, 0.1, 0.1 + 0.1, 0.2], dtype=torch.float64)
        model[0].bias[2] += 2.0**-55
    part = partition(model, Slice.box(-1, 1), threads=1, exact=True)
    assert 0.0 < part.areas().min() < 1e-15
    part.to_geojson(tmp_path / "a.geojson")
    areas = [feature["properties"]["area"] for feature in read(tmp_path / "a.geojson")["features"]]
    assert areas == part.areas().tolist()
    part.to_svg(tmp_path / "a.svg")
    assert (tmp_path / "a.svg").read_text().count("data-region") >= part.n_regions
    graph = part.to_networkx()
    assert graph.number_of_nodes() == part.n_regions
    assert part.adjacency().nnz == 2 * graph.number_of_edges()
    pytest.importorskip("geopandas")
    part.to_geoparquet(tmp_path / "a.parquet")
