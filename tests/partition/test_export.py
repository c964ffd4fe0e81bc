"""Files: what is read is what was written, or an error."""

import json
import os
import pickle
import zipfile
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from torch import nn

from splinecam_lite import Partition, Slice, partition
from splinecam_lite.errors import FileError, ModelError
from splinecam_lite.partition import export
from tests.partition.networks import cases, compute, deep, mlp, tunings


def assert_equal(one: Partition, other: Partition) -> None:
    """Equal in every number, bit for bit."""
    for name in ("outputs", "edge_knot_ptr", "edge_knots"):
        assert_same_array(getattr(one, name), getattr(other, name))
    for a, b in zip(one.complex, other.complex, strict=True):
        assert_same_array(a, b)
    for a, b in zip(one.report.snaps, other.report.snaps, strict=True):
        assert_same_array(a, b)
    assert len(one.blocks) == len(other.blocks)
    for mine, yours in zip(one.blocks, other.blocks, strict=True):
        assert mine[:2] == yours[:2]
        for a, b in zip(mine[2:], yours[2:], strict=True):
            assert_same_array(a, b)
    for name in ("layers", "output_shape", "decide", "model_digest"):
        assert getattr(one, name) == getattr(other, name)
    assert one.plane.digest() == other.plane.digest()
    assert str(one.report) == str(other.report)


def assert_same_array(a, b):
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(a, b)
    assert a.flags.c_contiguous == b.flags.c_contiguous
    assert not b.flags.writeable


@given(cases, tunings)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_round_trip(tmp_path, case, tuning):
    part = compute(case, tuning)
    part.save(tmp_path / "p.npz")
    loaded = Partition.load(tmp_path / "p.npz")
    assert_equal(part, loaded)
    np.testing.assert_array_equal(part.patterns(), loaded.patterns())
    np.testing.assert_array_equal(part.affine_maps()[0], loaded.affine_maps()[0])


def test_round_trip_without_any_knot(tmp_path):
    part = partition(nn.Linear(2, 2).eval(), Slice.box(0, 1))
    part.save(tmp_path / "p.npz")
    assert_equal(part, Partition.load(tmp_path / "p.npz"))


def test_a_file_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "p.npz"
    path.write_text("what was there before")

    def fail(file, **arrays):
        file.write(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(KeyboardInterrupt):
        deep().save(path)
    assert path.read_text() == "what was there before"
    assert os.listdir(tmp_path) == ["p.npz"]
    monkeypatch.undo()
    deep().save(path)
    assert os.listdir(tmp_path) == ["p.npz"]
    assert Partition.load(path).n_regions == deep().n_regions


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "p.npz"
    deep().save(path)
    return path


def test_every_cut_and_every_flipped_byte_is_noticed(saved):
    """An error, or the very same partition: some bytes of an archive, such as dates, mean nothing."""
    whole, original = saved.read_bytes(), Partition.load(saved)
    rng = np.random.default_rng(0)
    for size in [0, 1, 100, len(whole) // 2, len(whole) - 1]:
        saved.write_bytes(whole[:size])
        with pytest.raises(FileError, match=r"cut short or damaged|not a partition"):
            Partition.load(saved)
    for place in rng.integers(0, len(whole), 300):
        broken = bytearray(whole)
        broken[place] ^= 1 << int(rng.integers(8))
        saved.write_bytes(broken)
        try:
            assert_equal(original, Partition.load(saved))
        except FileError:
            pass


def rewrite(path, change):
    """Change header and arrays of a file, and write it with right checksums."""
    with np.load(path) as archive:
        arrays = dict(archive)
    header = json.loads(arrays.pop("header").tobytes())
    change(header, arrays)
    header["arrays"] = {name: [a.dtype.str, list(a.shape)] for name, a in arrays.items()}
    np.savez(path, header=np.frombuffer(json.dumps(header).encode(), np.uint8), **arrays)


def test_another_schema_is_refused(saved):
    rewrite(saved, lambda header, arrays: header.update(schema=99))
    said = rf"schema version 99 \(splinecam_lite .*\), this one reads version {export.SCHEMA}"
    with pytest.raises(FileError, match=said):
        Partition.load(saved)


def set_to(name, value):
    def change(header, arrays):
        arrays[name] = arrays[name].copy()
        arrays[name].reshape(-1)[-1] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        set_to("complex_face_vertex", 10**9),
        set_to("complex_face_edge", -1),
        set_to("complex_edge_faces", 10**6),
        set_to("complex_face_ptr", 10**9),
        set_to("complex_xy", 7.0),
        set_to("edge_knot_ptr", 1),
        set_to("block_knots", 2**40),
        set_to("block_sizes", 10**6),
        set_to("block_faces", 1),
        set_to("block_bits", 2**64 - 1),
        set_to("domain", 5.0),
        lambda header, arrays: arrays.pop("block_D"),
        lambda header, arrays: header.pop("layers"),
        lambda header, arrays: header["report"].pop("euler"),
        lambda header, arrays: arrays.update(block_D=arrays["block_D"][:-1]),
        lambda header, arrays: arrays.update(complex_xy=arrays["complex_xy"][:-1]),
        lambda header, arrays: arrays.update(outputs=arrays["outputs"][:-1]),
    ],
)
def test_numbers_that_do_not_belong_together_are_refused(saved, change):
    rewrite(saved, change)
    with pytest.raises(FileError, match="damaged"):
        Partition.load(saved)


@pytest.mark.parametrize(
    "change",
    [
        set_to("linear_regions", 10**6),
        set_to("linear_regions", -1),
        lambda header, arrays: arrays.update(linear_regions=arrays["linear_regions"][:-1]),
        lambda header, arrays: arrays.update(linear_regions=arrays["linear_regions"].astype(float)),
        lambda header, arrays: arrays.pop("linear_stages"),
    ],
)
def test_linear_regions_that_are_none_are_refused(tmp_path, change):
    part = deep()
    assert part.n_linear_regions <= part.n_regions
    part.save(tmp_path / "p.npz")
    rewrite(tmp_path / "p.npz", lambda header, arrays: None)
    assert Partition.load(tmp_path / "p.npz").n_linear_regions == part.n_linear_regions
    rewrite(tmp_path / "p.npz", change)
    with pytest.raises(FileError, match="damaged"):
        Partition.load(tmp_path / "p.npz")


def test_an_array_that_is_not_what_the_header_says_is_refused(saved):
    with np.load(saved) as archive:
        arrays = dict(archive)
    np.savez(saved, **arrays | {"outputs": arrays["outputs"][:-1]})
    with pytest.raises(FileError, match="array 'outputs' is not what its header says"):
        Partition.load(saved)


def test_nothing_is_unpickled(tmp_path):
    class Loud:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "executed"),))

    (tmp_path / "p.npz").write_bytes(pickle.dumps(Loud()))
    with pytest.raises(FileError, match="not a partition"):
        Partition.load(tmp_path / "p.npz")
    np.savez(tmp_path / "q.npz", header=np.array([Loud()], dtype=object))
    with pytest.raises(FileError, match="not a partition"):
        Partition.load(tmp_path / "q.npz")
    assert not (tmp_path / "executed").exists()


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.npz"):
        Partition.load(tmp_path / "nothing.npz")
    np.save(tmp_path / "array.npy", np.zeros(3))
    np.savez(tmp_path / "arrays.npz", header=np.frombuffer(b'{"format": "other"}', np.uint8))
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    (tmp_path / "list.npz").mkdir()
    for name in ("array.npy", "arrays.npz", "archive.zip", "list.npz"):
        with pytest.raises(FileError, match="not a partition"):
            Partition.load(tmp_path / name)


def test_the_header_can_be_read_without_this_library(saved):
    with np.load(saved) as archive:
        header = json.loads(archive["header"].tobytes())
    part = deep()
    assert header["schema"] == export.SCHEMA
    assert (header["model_digest"], header["slice_digest"]) == (part.model_digest, part.plane.digest())
    assert header["layers"][1] == ["3", 16, 1, 64]


def test_an_exact_partition_without_its_network(tmp_path):
    model = mlp(2, 6, 3)
    partition(model, Slice.box(-1, 1), exact=True).save(tmp_path / "a.npz")
    bare = Partition.load(tmp_path / "a.npz")
    assert "decision cells are not counted: a partition from a file" in bare.summary()
    assert "class" not in bare.to_networkx().nodes[0]
    bare.to_geojson(tmp_path / "a.geojson")
    bare.to_svg(tmp_path / "a.svg")
    assert ElementTree.parse(tmp_path / "a.svg") is not None
    with pytest.warns(UserWarning, match=r"without their classes.*Partition\.load\(path, model\)"):
        bare.plot()
    with pytest.raises(ModelError, match="decision boundary in exact mode"):
        bare.decision_boundary()
    whole = Partition.load(tmp_path / "a.npz", model)
    assert "decision cells are not" not in whole.summary()
    assert "class" in whole.to_networkx().nodes[0]
    whole.to_geojson(tmp_path / "b.geojson")
    whole.to_svg(tmp_path / "b.svg")
    whole.plot()
    with pytest.raises(ModelError, match="model is a str"):
        Partition.load(tmp_path / "a.npz", "x")
