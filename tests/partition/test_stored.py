"""Partitions on disk: what is in the folder, what is refused, and what is left when a run is cut short."""

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splinecam_lite import (
    ComplexError,
    FileError,
    ModelError,
    Partition,
    Program,
    Segment,
    Slice,
    StoredPartition,
    count,
    partition,
)
from splinecam_lite.engine.sewing import SeamMismatch
from splinecam_lite.partition import stored as stored_module
from splinecam_lite.partition import tally as tally_module
from splinecam_lite.partition.folder import BlockFolder, block_files
from tests.agreement import slice_of
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


def again(model: Program, folder: Path, **options) -> StoredPartition:
    return partition(model, PLANE, store=folder, threads=1, _tuning=TUNING, **options)


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def computed_blocks(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Paths of the blocks that are written from now on."""
    paths, write = [], BlockFolder.write

    def recorded(self, block):
        paths.append(block.path)
        write(self, block)

    monkeypatch.setattr(BlockFolder, "write", recorded)
    return paths


def assert_same(one: Partition, other: Partition) -> None:
    """Two partitions that were cut up alike are one, bit for bit."""
    for a, b in zip((*one.complex, one.outputs), (*other.complex, other.outputs), strict=True):
        assert a.tobytes() == b.tobytes()
    assert np.array_equal(one.edge_knots, other.edge_knots)
    assert np.array_equal(one.edge_knot_ptr, other.edge_knot_ptr)
    assert np.array_equal(one.patterns(), other.patterns())
    assert all(np.array_equal(a, b) for a, b in zip(one.affine_maps(), other.affine_maps(), strict=True))
    assert (one.layers, one.decide, one.model_digest) == (other.layers, other.decide, other.model_digest)
    assert all(np.array_equal(a, b) for a, b in zip(one.report.snaps, other.report.snaps, strict=True))


def assert_untouched_and_refused(model: Program, folder: Path, said: str, plane: Slice = PLANE, **options) -> None:
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
    for (path, one), (other_path, other) in zip(block_files(whole.folder), block_files(tmp_path), strict=True):
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
    assert_untouched_and_refused(Program.from_module(mlp(2, 24, 24, 2, seed=1), (2,)), copy, "another network")
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


# ---- damage --------------------------------------------------------------------------------------------


def test_a_block_that_is_missing_is_found_and_computed_again(copy, whole, model, monkeypatch):
    path, file = block_files(copy)[3]
    file.unlink()
    stored = StoredPartition.open(copy)
    for look in (stored.verify, lambda: list(stored.blocks()), lambda: stored.load(model)):
        with pytest.raises(FileError, match=r"has \d+ of \d+ blocks; run the partition again"):
            look()
    paths = computed_blocks(monkeypatch)
    assert again(model, copy).digest == whole.digest
    assert paths == [path]
    stored.verify()


def test_any_flipped_byte_is_found(copy, whole, model):
    rng = random.Random(0)
    path, file = block_files(copy)[5]
    good = file.read_bytes()
    places = [0, 1, 30, len(good) - 1, *rng.sample(range(len(good)), 80)]
    unnoticed = 0
    for place in places:
        bad = bytearray(good)
        bad[place] ^= 1 << rng.randrange(8)
        file.write_bytes(bad)
        try:
            StoredPartition.open(copy).verify()
            unnoticed += 1  # a date in the archive, for example: then what is read is right
        except FileError:
            pass
    assert unnoticed < len(places) // 4
    file.write_bytes(good[:-7] + b"damaged")
    with pytest.raises(FileError, match=f"'{file}' is damaged .*remove it and run the partition again"):
        StoredPartition.open(copy).verify()
    file.unlink()
    assert again(model, copy).digest == whole.digest


def test_another_block_in_its_place_is_found(copy):
    (_, one), (_, other) = block_files(copy)[:2]
    shutil.copy(one, other)
    with pytest.raises(FileError, match="are not those that were written"):
        StoredPartition.open(copy).verify()


@pytest.mark.parametrize("left", [0, 1, 100, 0.5, 0.99, "zeros"])
def test_a_block_cut_short_by_a_power_cut_is_computed_again(left, copy, whole, model, monkeypatch):
    (copy / "counts.json").unlink()
    files = block_files(copy)
    for _, file in files[2:4]:
        data = file.read_bytes()
        if left == "zeros":
            file.write_bytes(bytes(len(data)))
        else:
            file.write_bytes(data[: int(left if left >= 1 or not left else left * len(data))])
    paths = computed_blocks(monkeypatch)
    assert again(model, copy).digest == whole.digest
    assert sorted(paths) == [path for path, _ in files[2:4]]


@pytest.mark.parametrize("torn", [1, 7, 20, "half", "all", "gone"])
def test_a_list_of_cuts_that_is_not_whole(torn, copy, whole, model, monkeypatch):
    """Its last line, or more: then some blocks are cut again, and those that are there are found again."""
    (copy / "counts.json").unlink()
    file = copy / "cuts.jsonl"
    expected = sorted(file.read_text().splitlines())
    data = file.read_bytes()
    if torn == "gone":
        file.unlink()
    else:
        left = {"all": 0, "half": len(data) // 2}
        file.write_bytes(data[: left.get(torn, len(data) - (0 if torn in left else torn))])
    lost = block_files(copy)[-1]
    lost[1].unlink()
    paths = computed_blocks(monkeypatch)
    assert again(model, copy).digest == whole.digest
    assert paths == [lost[0]]
    assert set(file.read_text().splitlines()) <= set(expected)
    assert len(set(file.read_text().splitlines())) == len(file.read_text().splitlines())


def test_what_a_killed_run_leaves_before_its_header_is_begun_anew(whole, model, tmp_path):
    """A lock, the slice, half a file: there is nothing yet that could be another's."""
    (tmp_path / ".lock").touch()
    assert again(model, tmp_path).digest == whole.digest
    for name in ("header.json", "counts.json", "cuts.jsonl"):
        (tmp_path / name).unlink()
    shutil.rmtree(tmp_path / "blocks")
    (tmp_path / ".header.json.0123456789ab.part").write_text("{")
    assert again(model, tmp_path).digest == whole.digest
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("after", [0, 4])
def test_a_full_disk_ends_the_run_and_loses_nothing(after, whole, model, tmp_path, monkeypatch):
    savez, calls = np.savez, []

    def full(file, **arrays):
        calls.append(1)
        if len(calls) > after:
            file.write(b"half of it")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        savez(file, **arrays)

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full)
        with pytest.raises(OSError, match="No space left") as caught:
            again(model, tmp_path)
    assert caught.value.errno == errno.ENOSPC
    assert not list(tmp_path.rglob("*.part"))
    assert len(block_files(tmp_path)) == max(after - 1, 0)  # the first file is the slice
    paths = computed_blocks(monkeypatch)
    assert again(model, tmp_path).digest == whole.digest
    assert len(paths) == whole.tally.n_blocks - max(after - 1, 0)


def test_sides_that_disagree_begin_the_folder_anew(whole, model, tmp_path, monkeypatch):
    original, calls = tally_module.pair_rims, []

    def mismatch_first(rims):
        calls.append(len(rims))
        if len(calls) == 1:
            raise SeamMismatch("the two sides of a seam have different numbers of vertices")
        return original(rims)

    monkeypatch.setattr(tally_module, "pair_rims", mismatch_first)
    stored = again(model, tmp_path)
    assert len(calls) == 2
    assert stored.n_regions == whole.n_regions
    assert stored.tally.n_blocks == len(block_files(tmp_path)) == calls[1] != calls[0]
    assert json.loads((tmp_path / "header.json").read_text())["tuning"]["block_vertices"] > TUNING.block_vertices
    stored.verify()
    assert again(model, tmp_path).digest == stored.digest


def test_a_block_too_many_is_found(copy, model):
    (copy / "counts.json").unlink()
    file = block_files(copy)[0][1]
    shutil.copy(file, file.with_name("root.0.0.0.0.0.0.npz"))
    with pytest.raises((ComplexError, FileError)):
        again(model, copy)


def test_a_run_goes_on_with_its_own_cuts_whatever_memory_it_has_now(copy, whole, model):
    (copy / "counts.json").unlink()
    for _, file in block_files(copy)[::2]:
        file.unlink()
    other = TUNING._replace(block_vertices=200, piece_vertices=100, block_bytes=1 << 20, waiting_bytes=1 << 30)
    assert partition(model, PLANE, store=copy, threads=1, _tuning=other).digest == whole.digest


# ---- interruptions -------------------------------------------------------------------------------------


class Writer:
    """`tests.partition.writer` as a process."""

    def __init__(self, tmp: Path):
        self.tmp = tmp
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.partition.writer"],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "TMPDIR": str(tmp)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout.readline() == "ready\n"

    def begin(self, folder: Path, threads: int = 1, option: str = "-") -> int:
        """Begin to write; return the number of the process."""
        self.process.stdin.write(f"{folder} {threads} {option}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def end(self) -> tuple[int, str]:
        """Exit status of the last child, and what it said."""
        status, _, said = self.process.stdout.readline().strip().partition(" ")
        return int(status), said


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Writer]:
    writer = Writer(tmp_path_factory.mktemp("temporary"))
    yield writer
    writer.process.stdin.close()
    writer.process.wait(timeout=30)
    assert not list(writer.tmp.iterdir()), "files were left in TMPDIR"


def wait_for_blocks(folder: Path, n: int, pid: int) -> None:
    """Wait until so many blocks are there, or the process has ended."""
    end = time.monotonic() + 60.0
    while len(block_files(folder)) < n and not (folder / "counts.json").exists():
        assert time.monotonic() < end, "nothing is written"
        time.sleep(0.001)


@POSIX
@pytest.mark.parametrize(("seed", "threads"), [(0, 1), (1, 2), (2, 1)])
def test_killed_again_and_again(seed, threads, writer, whole, model, tmp_path):
    rng, kills, there = random.Random(seed), 0, 0
    while True:
        pid = writer.begin(tmp_path, threads)
        wait_for_blocks(tmp_path, there + rng.randrange(8), pid)
        time.sleep(rng.random() * 0.02)
        os.kill(pid, signal.SIGKILL)  # a child that has ended waits for its parent, which then finds status 0
        status, said = writer.end()
        assert status in (0, -signal.SIGKILL), said
        before, there = there, len(block_files(tmp_path))
        assert there >= before
        if status == 0:
            break
        kills += 1
    assert kills >= 2
    assert again(model, tmp_path).digest == whole.digest
    StoredPartition.open(tmp_path).verify()
    names = [sorted(file.name for file in (folder / "blocks").iterdir()) for folder in (tmp_path, whole.folder)]
    assert names[0] == names[1]
    cuts = [sorted((folder / "cuts.jsonl").read_text().splitlines()) for folder in (tmp_path, whole.folder)]
    assert cuts[0] == cuts[1]
    assert_same(StoredPartition.open(tmp_path).load(model), whole.load(model))
    assert not list(tmp_path.rglob("*.part"))


@POSIX
def test_what_is_there_is_not_computed_again(writer, whole, model, tmp_path, monkeypatch):
    pid = writer.begin(tmp_path)
    wait_for_blocks(tmp_path, 7, pid)
    os.kill(pid, signal.SIGKILL)
    assert writer.end()[0] == -signal.SIGKILL
    there = {path for path, _ in block_files(tmp_path)}
    (tmp_path / "blocks" / ".root.0.npz.0123456789ab.part").write_bytes(b"half")
    paths = computed_blocks(monkeypatch)
    assert again(model, tmp_path).digest == whole.digest
    assert not there & set(paths)
    assert len(there) + len(paths) == whole.tally.n_blocks
    assert not list(tmp_path.rglob("*.part"))


@POSIX
@pytest.mark.parametrize("threads", [1, 2])
def test_ctrl_c_leaves_what_can_go_on(threads, writer, whole, model, tmp_path):
    pid = writer.begin(tmp_path, threads)
    wait_for_blocks(tmp_path, 5, pid)
    os.kill(pid, signal.SIGINT)
    status, said = writer.end()
    assert (status, said.split(":")[0]) == (3, "KeyboardInterrupt")
    assert not list(tmp_path.rglob("*.part"))
    assert 0 < len(block_files(tmp_path)) < whole.tally.n_blocks
    assert again(model, tmp_path).digest == whole.digest


@POSIX
def test_two_at_once(writer, whole, model, tmp_path):
    pid = writer.begin(tmp_path)
    wait_for_blocks(tmp_path, 3, pid)
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(FileError, match=f"another process is writing to '{tmp_path}'"):
            again(model, tmp_path)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert writer.end() == (0, "")
    assert again(model, tmp_path).digest == whole.digest


@POSIX
def test_files_that_may_not_grow(writer, whole, model, tmp_path):
    """A limit of the system's, met in the middle of a block's file."""
    writer.begin(tmp_path, 1, "no-room")
    status, said = writer.end()
    assert (status, said.split(":")[0]) == (3, "OSError")
    assert not list(tmp_path.rglob("*.part"))
    assert again(model, tmp_path).digest == whole.digest
