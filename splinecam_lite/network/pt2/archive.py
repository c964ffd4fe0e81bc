"""The zip file of ``torch.export.save``: its JSON, and its tensors as raw bytes."""

import json
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from splinecam_lite.errors import ModelError
from splinecam_lite.network.exporting import first_line

DTYPES = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    12: torch.bool,
    13: torch.bfloat16,
}
"""Numbers of the format -> torch's types."""


class Archive:
    """A .pt2 file.

    Attributes
    ----------
    path : Path
    model : str
        Name of the one network in it.
    """

    def __init__(self, path: Path):
        self.path = path
        names = self._opened(zipfile.ZipFile.namelist)
        kinds = [name for name in names if name.endswith("archive_format")]
        if len(kinds) != 1 or self._read(kinds[0]).strip() != b"pt2":
            raise ModelError(
                f"{path} is no file of torch.export.save, or of a torch before 2.8; save it anew"
            )
        self.root = kinds[0].removesuffix("archive_format")
        models = [n for n in names if n.startswith(f"{self.root}models/") and n.endswith(".json")]
        if len(models) != 1:
            raise ModelError(f"{path} holds {len(models)} exported networks; save one alone")
        self.model = models[0].removeprefix(f"{self.root}models/").removesuffix(".json")

    def _opened(self, use: Callable[[zipfile.ZipFile], Any]) -> Any:
        try:
            with zipfile.ZipFile(self.path) as file:
                return use(file)
        except FileNotFoundError as error:
            raise ModelError(f"there is no file {self.path}") from error
        except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, zlib.error) as error:
            raise ModelError(
                f"{self.path} is no file of torch.export.save, or is damaged: {first_line(error)}"
            ) from error

    def _read(self, name: str) -> bytes:
        return self._opened(lambda file: file.read(name))

    def json(self, name: str) -> Any:
        """The content of a JSON file of the archive."""
        return json.loads(self._read(self.root + name))

    def tensors(self, folder: str) -> dict[str, Tensor]:
        """The tensors of a folder, by their names in the network, floating ones in float64."""
        config = self.json(f"data/{folder}/{self.model}_{folder}_config.json")["config"]
        return {
            name: self._tensor(f"{self.root}data/{folder}/", name, entry) for name, entry in config.items()
        }

    def _tensor(self, folder: str, name: str, entry: dict[str, Any]) -> Tensor:
        if entry["use_pickle"] or not entry["path_name"].startswith(("weight_", "tensor_")):
            raise ModelError(
                f"{self.path}: '{name}' is a pickled object, which could run code when read; export a module "
                "of plain tensors"
            )
        meta = entry["tensor_meta"]
        if meta["dtype"] not in DTYPES:
            raise ModelError(f"{self.path}: '{name}' is of a type that is not read; use float32 or float64")
        data = bytearray(self._read(folder + entry["path_name"]))
        dtype = DTYPES[meta["dtype"]]
        flat = torch.frombuffer(data, dtype=dtype) if data else torch.zeros(0, dtype=dtype)
        sizes, strides = ([n["as_int"] for n in meta[key]] for key in ("sizes", "strides"))
        # Raises where the sizes reach beyond the bytes.
        tensor = torch.as_strided(flat, sizes, strides, meta["storage_offset"]["as_int"]).clone()
        if not tensor.is_floating_point():
            return tensor
        if bool(tensor.isnan().any()):
            raise ModelError(f"{self.path}: '{name}' holds NaN; take weights from before training diverged")
        return tensor.double()
