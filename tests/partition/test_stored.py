"""Partitions on disk: what is in the folder, and what is refused."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splinecam_lite import (
    FileError,
    ModelError,
    Program,
    Segment,
    Slice,
    StoredPartition,
    count,
    partition,
)
from splinecam_lite.partition import stored as stored_module
from splinecam_lite.partition.folder import block_files
from tests.agreement import slice_of
from tests.partition.folders import again, assert_same, computed_blocks, content
from tests.partition.networks import TINY, cases, mlp
from tests.partition.test_max import network
from tests.partition.writer import PLANE, TUNING, program

POSIX = pytest.mark.skipif(os.name == "nt", reason="signals, forks and locks of files")


@pytest.fixture(scope="module")
def model() -> Program:
    return program()


@pytest.fixture(scope="module")
def whole(model: Program, tmp_path_factory: pytest.TempPathFactory) -> StoredPartition:
    """The partition that nothing has interrupted; tests copy it."""
    folder = tmp_path_factory.mktemp("whole") / "part"
    stored = partition(model, PLANE, store=folder, threads=1, _tuning=TUNING)
    assert stored.tally.n_blocks > 20
    return stored


@pytest.fixture
def copy(whole: StoredPartition, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole.folder, tmp_path / "copy"))


def assert_untouched_and_refused(
    model: Program, folder: Path, said: str, plane: Slice = PLANE, **options
) -> None:
    before = content(folder)
    with pytest.raises(FileError, match=said):
        partition(model, plane, store=folder, threads=1, _tuning=TUNING, **options)
    assert content(folder) == before


# ---- what is in the folder -----------------------------------------------------------------------------


@settings(max_examples=6)
@given(cases, st.sampled_from([1, 2]))
def test_loaded_it_is_the_partition_in_memory(tmp_path_factory, case, threads):
    model, plane = case.program(), slice_of(case.domain)
    folder = tmp_path_factory.mktemp("case")
    stored = partition(model, plane, store=folder, threads=threads, _tuning=TINY)
    kept = partition(model, plane, threads=1, _tuning=TINY)
    assert_same(stored.load(model), kept)
    assert stored.n_regions == kept.n_regions
    stored.verify()
    areas = np.concatenate([block.areas for block in stored.blocks()])
    assert areas.sum() == pytest.approx(plane.area, rel=1e-12)


@pytest.mark.parametrize("name", ["maxout", "1-D, windows of 3 that overlap"])
def test_a_network_with_maxima(name, tmp_path):
    model, plane = network(name, "generic")
    stored = partition(model, plane, store=tmp_path, _tuning=TINY)
    kept = partition(model, plane, _tuning=TINY)
    loaded = stored.load(model)
    assert stored.n_regions == kept.n_regions == loaded.n_regions
    assert_same(loaded, kept)
    assert_same(loaded.staged.fine, kept.staged.fine)
    assert loaded.n_decision_cells == kept.n_decision_cells
    faces = sum(len(block.areas) for block in stored.blocks())
    assert faces == kept.staged.fine.n_regions > kept.n_regions
    assert sum(block.areas.sum() for block in stored.blocks()) == pytest.approx(plane.area)


def test_the_tally_is_that_of_counting(whole, model):
    counted = vars(count(model, PLANE, threads=1, _tuning=TUNING))
    stored = vars(StoredPartition.open(whole.folder).tally)
    for name in counted.keys() - {"plane", "seconds", "area_histogram"}:
        assert stored[name] == counted[name], name
    assert np.array_equal(stored["area_histogram"], counted["area_histogram"])
    assert stored["plane"].digest() == PLANE.digest()


def test_threads_change_no_bit(whole, model, tmp_path):
    two = partition(model, PLANE, store=tmp_path, threads=2, _tuning=TUNING)
    assert two.digest == whole.digest
    for (path, one), (other_path, other) in zip(
        block_files(whole.folder), block_files(tmp_path), strict=True
    ):
        assert path == other_path
        with np.load(one) as a, np.load(other) as b:
            assert a.files == b.files
            assert all(np.array_equal(a[name], b[name]) for name in a.files)


def test_blocks_tell_what_the_network_does(whole, model):
    n_faces = 0
    for block in whole.blocks():
        maps = block.affine_maps()
        assert maps.shape == (len(block.areas), 2, 3)
        for corners, affine in zip(block.polygons(), maps, strict=True):
            point = corners.mean(axis=0)
            expected = model.run(PLANE.lift(point[None])).numpy()[0]
            np.testing.assert_allclose(affine @ [*point, 1.0], expected, rtol=0, atol=1e-12)
        np.testing.assert_allclose(block.outputs, model.run(PLANE.lift(block.xy)).numpy(), rtol=0, atol=1e-12)
        n_faces += len(block.areas)
    assert n_faces == whole.n_regions


def test_the_folder_holds_what_is_said(whole):
    assert {file.name for file in whole.folder.iterdir()} - {".lock"} == {
        "slice.npz", "header.json", "cuts.jsonl", "blocks", "counts.json"
    }  # fmt: skip
    cuts = [json.loads(line) for line in (whole.folder / "cuts.jsonl").read_text().splitlines()]
    leaves = {"root"}
    for cut in sorted(cuts, key=lambda cut: cut["block"].count(".")):
        leaves.remove(cut["block"])
        leaves |= {f"{cut['block']}.{i}" for i in range(cut["pieces"])}
    assert leaves == {file.name.removesuffix(".npz") for file in (whole.folder / "blocks").iterdir()}
    assert repr(whole).endswith(f"{whole.n_regions} activation regions, {whole.tally.n_blocks} blocks)")


def test_what_is_complete_is_returned_at_once(copy, whole, model, monkeypatch):
    paths, before = computed_blocks(monkeypatch), content(copy)
    monkeypatch.setattr(stored_module, "stream_blocks", None)
    stored = again(model, copy)
    assert (stored.digest, stored.n_regions) == (whole.digest, whole.n_regions)
    assert not paths
    assert content(copy) == before


# ---- what is refused -----------------------------------------------------------------------------------


def test_another_partition_s_folder_is_refused(copy, model):
    assert_untouched_and_refused(
        Program.from_module(mlp(2, 24, 24, 2, seed=1), (2,)), copy, "another network"
    )
    assert_untouched_and_refused(model, copy, "another slice", Slice.box(-1, 0.5))
    assert_untouched_and_refused(model, copy, "another decision", decide="argmin")


@pytest.mark.parametrize("name", ["notes.txt", "slice.npz", "header.json", "blocks/root.npz", ".hidden"])
def test_somebody_else_s_folder_is_refused(name, tmp_path, model):
    file = tmp_path / "own" / name
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    assert_untouched_and_refused(model, tmp_path / "own", "is not a partition's folder; name another one")


def test_a_file_is_no_folder(tmp_path, model):
    (tmp_path / "a.npz").write_text("mine")
    assert_untouched_and_refused(model, tmp_path, "is not a partition's folder")
    with pytest.raises(FileError, match="is not a partition's folder"):
        again(model, tmp_path / "a.npz")
    assert (tmp_path / "a.npz").read_text() == "mine"


@pytest.mark.parametrize(
    "header", [None, b"", b"{", b"[]", b"3", b'{"format": 3}', "format", "schema", "identity", "tuning"]
)
def test_a_header_that_is_damaged(header, copy, model):
    file = copy / "header.json"
    if header is None:
        file.unlink()
    elif isinstance(header, bytes):
        file.write_bytes(header)
    else:
        read = json.loads(file.read_text())
        del read[header]
        file.write_text(json.dumps(read))
    assert_untouched_and_refused(model, copy, "partition's folder|another version")
    with pytest.raises(FileError):
        StoredPartition.open(copy)


def test_another_version_s_folder(copy, model):
    file = copy / "header.json"
    file.write_text(file.read_text().replace('"schema": 1', '"schema": 99'))
    assert_untouched_and_refused(model, copy, "written by another version of splinecam_lite")


def test_open_refuses_what_is_not_complete(copy, model):
    (copy / "counts.json").unlink()
    with pytest.raises(FileError, match="is not complete; run the same partition with store="):
        StoredPartition.open(copy)
    (copy / "counts.json").write_text("{}")
    with pytest.raises(FileError, match="is damaged"):
        StoredPartition.open(copy)
    with pytest.raises(FileError, match="is not a partition's folder"):
        StoredPartition.open(copy.parent / "none")
    assert again(model, copy).n_regions == StoredPartition.open(copy).n_regions


def test_another_slice_in_the_folder(copy, tmp_path, model):
    other = partition(model, Slice.box(0, 1), store=tmp_path / "other", _tuning=TUNING)
    shutil.copy(other.folder / "slice.npz", copy / "slice.npz")
    with pytest.raises(FileError, match="is not the slice that was partitioned"):
        StoredPartition.open(copy)
    (copy / "slice.npz").write_bytes(b"")
    with pytest.raises(FileError, match="damaged"):
        StoredPartition.open(copy)


def test_load_refuses_another_network(whole):
    with pytest.raises(ModelError, match="not the network that was partitioned"):
        whole.load(mlp(2, 24, 24, 2, seed=1))
    assert whole.load(mlp(2, 24, 24, 2)).n_regions == whole.n_regions


def test_what_cannot_be_stored_is_refused(tmp_path, model):
    folder = tmp_path / "new"
    with pytest.raises(ValueError, match="an exact partition is kept in memory"):
        partition(model, PLANE, exact=True, store=folder)
    with pytest.raises(ValueError, match="segment is kept in memory"):
        partition(model, Segment.between([0.0, 0.0], [1.0, 1.0]), store=folder)
    with pytest.raises(ValueError, match="sized domain is kept in memory"):
        partition(model, around=np.zeros(2), regions=100, store=folder)
    assert not folder.exists()


@POSIX
def test_where_nothing_can_be_written(tmp_path, model):
    with pytest.raises(OSError, match="splinecam_lite_none"):
        again(model, Path("/proc/splinecam_lite_none"))
    (tmp_path / "file").write_text("")
    with pytest.raises((OSError, FileError)):
        again(model, tmp_path / "file" / "part")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_read_only(copy, tmp_path, whole, model):
    empty = tmp_path / "empty"
    empty.mkdir()
    empty.chmod(0o555)
    with pytest.raises(OSError, match="Permission"):
        again(model, empty)
    copy.chmod(0o555)
    assert again(model, copy).digest == whole.digest
