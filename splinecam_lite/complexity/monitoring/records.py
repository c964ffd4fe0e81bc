"""A file of records of a training run, a JSON line each, which outlives what writes it."""

import json
import os
from math import isnan, nan
from pathlib import Path
from typing import Any

from splinecam_lite.errors import FileError

Record = dict[str, Any]


class RecordFile:
    """Records of steps in a JSONL file, only ever appended to.

    NaN, which JSON has not, is null in the file.

    Parameters
    ----------
    path : str or Path
        May exist, and then goes on. A last line that was cut short is dropped at the next `append`.
    settings : dict
        Plain JSON, part of each record. What is there must have been written with the same.

    Raises
    ------
    FileError
        If the file holds anything else than such records.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     RecordFile(f"{folder}/lc.jsonl", {"radius": 0.1}).append({"step": 3, "lc": 2.5})
    ...     RecordFile(f"{folder}/lc.jsonl", {"radius": 0.1}).records
    ...     RecordFile(f"{folder}/lc.jsonl", {"radius": 0.2})
    Traceback (most recent call last):
        ...
    splinecam_lite.errors.FileError: '...lc.jsonl' was written with radius 0.1, and now it is 0.2; ...
    """

    def __init__(self, path: str | Path, settings: Record):
        self.path = Path(path)
        self.settings: Record = json.loads(json.dumps(settings))  # as it comes back from the file
        self.records = self._read()

    def _read(self) -> list[Record]:
        """Records of all whole lines, without the settings; nothing is written."""
        if not self.path.exists():
            return []
        *lines, _cut = self.path.read_bytes().split(b"\n")
        return [self._record(number, line) for number, line in enumerate(lines, 1)]

    def _record(self, number: int, line: bytes) -> Record:
        try:
            record = json.loads(line)
            step = record["step"]
        except (ValueError, TypeError, KeyError) as error:
            raise FileError(
                f"line {number} of '{self.path}' is no record of a step; give another path"
            ) from error
        for name, now in self.settings.items():
            if (there := record.pop(name, None)) != now:
                raise FileError(
                    f"'{self.path}' was written with {name} {there}, and now it is {now}; measure as before, "
                    "or give another path"
                )
        return {"step": step} | {key: nan if value is None else value for key, value in record.items()}

    def append(self, record: Record) -> None:
        """Add a record; it is on disk when this returns."""
        self.records.append(record)
        written = {"step": record["step"]} | self.settings | record
        line = json.dumps({k: None if _is_nan(v) else v for k, v in written.items()}, allow_nan=False)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a+b") as file:
            file.seek(0)
            whole = file.read().rfind(b"\n") + 1
            file.truncate(whole)
            file.write(line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and isnan(value)
