"""The folder of a run: its settings, a line for each checkpoint, and the partitions.

    run.json            settings, written first
    records.jsonl       one line a checkpoint, in order of steps; only ever appended to
    partitions/*.npz    the partition of each checkpoint, on disk before its line is

What was killed goes on where it stopped: lines that are there are kept, and a line that was cut short is
dropped.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from splinecam_lite.errors import SplineCamError
from splinecam_lite.partition.result import Partition

Record = dict[str, Any]


class RunFolderError(SplineCamError):
    """A folder holds something else than the run that is to be written there."""


class RunFolder:
    """The folder of one run.

    Parameters
    ----------
    path : Path
        Made if it does not exist. It must be empty, or hold a run with the same settings, which then goes on.
    settings : dict
        What determines the records; plain JSON.

    Raises
    ------
    RunFolderError
        If the folder holds anything else.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as path:
    ...     RunFolder(Path(path), {"steps": 10}).append({"step": 0})
    ...     RunFolder(Path(path), {"steps": 20})
    Traceback (most recent call last):
        ...
    splinecam_lite.studies.folder.RunFolderError: '...' holds a run with other settings (steps: 10 there, ...
    """

    def __init__(self, path: Path, settings: Record):
        self.path = path
        self.settings = json.loads(json.dumps(settings))  # as it comes back from the file
        path.mkdir(parents=True, exist_ok=True)
        if self._settings_file.exists():
            self._refuse_other_settings()
            self._drop_cut_line()
        elif any(path.iterdir()):
            raise RunFolderError(
                f"'{path}' is not empty and holds no run; give another folder, or empty this one"
            )
        else:
            write_text(self._settings_file, json.dumps(self.settings, indent=2) + "\n")
        (path / "partitions").mkdir(exist_ok=True)

    @property
    def _settings_file(self) -> Path:
        return self.path / "run.json"

    @property
    def _records_file(self) -> Path:
        return self.path / "records.jsonl"

    def records(self) -> list[Record]:
        """Return all records, in order."""
        if not self._records_file.exists():
            return []
        return [json.loads(line) for line in self._records_file.read_text().splitlines()]

    def append(self, record: Record) -> None:
        """Add a record; it is on disk when this returns."""
        with open(self._records_file, "a") as file:
            file.write(json.dumps(record, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def partition_file(self, step: int) -> Path:
        """Where the partition of a checkpoint is kept."""
        return self.path / "partitions" / f"step_{step:06d}.npz"

    def partitions(self, steps: Iterable[int]) -> Iterable[Partition]:
        """Read partitions one by one."""
        return (Partition.load(self.partition_file(step)) for step in steps)

    def _refuse_other_settings(self) -> None:
        try:
            there = json.loads(self._settings_file.read_text())
        except ValueError as error:
            raise RunFolderError(
                f"'{self._settings_file}' is not readable ({error}); give another folder"
            ) from error
        if there != self.settings:
            raise RunFolderError(
                f"'{self.path}' holds a run with other settings ({_difference(there, self.settings)}); "
                "give another folder, or delete this one"
            )

    def _drop_cut_line(self) -> None:
        """A process that is killed while it writes leaves a line without an end."""
        if self._records_file.exists():
            with open(self._records_file, "r+b") as file:
                text = file.read()
                file.truncate(text.rfind(b"\n") + 1)


def write_text(path: Path, text: str) -> None:
    """Write a file so that it is there complete, or not at all."""
    beside = path.with_name(f".{path.name}.part")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)


def _difference(there: Any, here: Any, name: str = "") -> str:
    """Name the first setting that differs."""
    if isinstance(there, dict) and isinstance(here, dict):
        for key in [*here, *(key for key in there if key not in here)]:
            if there.get(key) != here.get(key):
                return _difference(there.get(key), here.get(key), f"{name}.{key}" if name else key)
    return f"{name}: {there} there, {here} now"
