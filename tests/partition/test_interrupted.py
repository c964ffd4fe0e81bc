"""Partitions on disk that were cut short or damaged: nothing is lost, and nothing is there twice."""

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

from splinecam_lite import ComplexError, FileError, Program, StoredPartition, partition
from splinecam_lite.engine.sewing import SeamMismatch
from splinecam_lite.partition import tally as tally_module
from splinecam_lite.partition.folder import block_files
from tests.partition.folders import again, assert_same, computed_blocks
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
    _, file = block_files(copy)[5]
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


@pytest.mark.parametrize("line", [b"\0\0\0\n", b"[1]\n", b'{"block": "root.x", "pieces": 2}\n'])
def test_a_line_of_the_cuts_that_means_nothing(line, copy, whole, model):
    """As after a power cut: what comes before it counts, the rest is written anew."""
    file = copy / "cuts.jsonl"
    first, *others = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([first, line, *others]))
    (copy / "counts.json").unlink()
    assert again(model, copy).digest == whole.digest


def test_a_run_does_not_go_on_with_blocks_that_are_too_large_for_it(tmp_path, model):
    folder = tmp_path / "part"
    large, small = (TUNING._replace(block_bytes=n) for n in (10**9, 10**8))
    partition(model, PLANE, store=folder, threads=1, _tuning=large)
    (folder / "counts.json").unlink()
    with pytest.raises(FileError, match="blocks of 1,000 MB at most; now only 100 MB are allowed"):
        partition(model, PLANE, store=folder, threads=1, _tuning=small)


@pytest.mark.parametrize("torn", [1, 7, 20, "half", "all", "gone", "garbage"])
def test_a_list_of_cuts_that_is_not_whole(torn, copy, whole, model, monkeypatch):
    """Its last line, or more: then some blocks are cut again, and those that are there are found again."""
    (copy / "counts.json").unlink()
    file = copy / "cuts.jsonl"
    expected = sorted(file.read_text().splitlines())
    data = file.read_bytes()
    if torn == "gone":
        file.unlink()
    elif torn == "garbage":
        lines = data.splitlines(keepends=True)
        file.write_bytes(b"".join((*lines[:2], b'{"block": "ro\x00', *lines[2:])))
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
    assert (
        json.loads((tmp_path / "header.json").read_text())["tuning"]["block_vertices"] > TUNING.block_vertices
    )
    stored.verify()
    assert again(model, tmp_path).digest == stored.digest


def test_a_block_too_many_is_found(copy, model):
    (copy / "counts.json").unlink()
    file = block_files(copy)[0][1]
    shutil.copy(file, file.with_name("root.0.0.0.0.0.0.npz"))
    with pytest.raises((ComplexError, FileError)):
        again(model, copy)


def test_a_run_goes_on_with_its_own_cuts(copy, whole, model):
    """Whatever memory it has now, unless its blocks would take far more than they may."""
    (copy / "counts.json").unlink()
    for _, file in block_files(copy)[::2]:
        file.unlink()
    there = block_files(copy)
    other = TUNING._replace(block_vertices=200, piece_vertices=100, waiting_bytes=1 << 30)
    with pytest.raises(FileError, match=r"begun with blocks of .*4,295 MB.* memory.* another folder"):
        partition(model, PLANE, store=copy, _tuning=other._replace(block_bytes=1 << 20))
    assert block_files(copy) == there
    for less in (3 << 30, 1 << 40):
        other = other._replace(block_bytes=less)
        assert partition(model, PLANE, store=copy, threads=1, _tuning=other).digest == whole.digest
        (copy / "counts.json").unlink()


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
        said, pid = self._answer(f"{folder} {threads} {option}").split()
        assert said == "child"
        return int(pid)

    def end(self) -> tuple[int, str]:
        """Wait for the child; return its exit status and what it said."""
        word, status, *said = self._answer("end").split(" ", 2)
        assert word == "ended"
        return int(status), "".join(said)

    def _answer(self, line: str) -> str:
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Writer]:
    writer = Writer(tmp_path_factory.mktemp("temporary"))
    yield writer
    writer.process.stdin.close()
    writer.process.stdout.close()
    writer.process.wait(timeout=30)
    left = [file.name for file in writer.tmp.iterdir() if not file.name.startswith("torch")]
    assert not left, "files were left in TMPDIR"


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
        os.kill(pid, signal.SIGKILL)
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
    names = [
        sorted(file.name for file in (folder / "blocks").iterdir()) for folder in (tmp_path, whole.folder)
    ]
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
