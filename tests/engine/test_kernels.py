"""The kernel cache: named by the sources, and never in the way."""

import subprocess
import sys

import pytest

from splinecam_lite.engine import kernels

IMPORT = "from splinecam_lite.engine import kernels; print(kernels.CACHE_DIRECTORY)"


def _directory_in(tmp_path, **environment) -> str:
    run = subprocess.run(
        [sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True,
        env={"PATH": "", "PYTHONPATH": ":".join(sys.path), "HOME": str(tmp_path), **environment},
    )  # fmt: skip
    return run.stdout.strip()


def test_the_digest_changes_with_any_source(tmp_path, monkeypatch):
    before = kernels.source_digest()
    for name in ("kernels.py", "other.py"):
        (tmp_path / name).write_text("x = 1\n")
    monkeypatch.setattr(kernels, "__file__", str(tmp_path / "kernels.py"))
    first = kernels.source_digest()
    (tmp_path / "other.py").write_text("x = 2\n")
    assert len({before, first, kernels.source_digest()}) == 3


def test_the_cache_lies_where_it_is_asked_to(tmp_path):
    assert _directory_in(tmp_path, SPLINECAM_CACHE_DIR=str(tmp_path / "here")).startswith(
        str(tmp_path / "here")
    )
    assert _directory_in(tmp_path).startswith(str(tmp_path / ".cache" / "splinecam_lite"))


def test_without_a_writable_place_there_is_no_cache_and_no_error(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    assert _directory_in(tmp_path, SPLINECAM_CACHE_DIR=str(blocked)) == "None"


def test_numba_s_own_cache_setting_is_left_alone():
    import numba

    before = numba.config.CACHE_DIR

    @kernels.kernel
    def double(x):
        return 2 * x

    assert before == numba.config.CACHE_DIR
    assert double(4) == 8


@pytest.mark.parametrize("present", [True, False])
def test_is_compiled_looks_for_an_index(tmp_path, monkeypatch, present):
    monkeypatch.setattr(kernels, "CACHE_DIRECTORY", tmp_path)
    if present:
        (tmp_path / "subdivide._cut_faces-1.py311.nbi").write_bytes(b"")
    assert kernels.is_compiled() == present
