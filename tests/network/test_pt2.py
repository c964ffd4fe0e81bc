"""Files of torch.export.save: what comes back is the module's own program, and nothing in a file is run."""

import json
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn
from torch.export import Dim

import splinecam_lite as sc
from splinecam_lite.errors import ModelError, NotPiecewiseLinear, TraceError
from splinecam_lite.network import Program
from tests.network.architectures import networks


def save(module: nn.Module, shape: tuple[int, ...], path: Path, *, batch: int | None = None) -> Path:
    """Export a module for any number of samples, or for just ``batch``."""
    shapes = ({0: Dim("batch")},) if batch is None else None
    dtype = next((p.dtype for p in module.parameters()), torch.float32)
    x = torch.zeros(batch or 2, *shape, dtype=dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = torch.export.export(module, (x,), dynamic_shapes=shapes)
    torch.export.save(exported, path)
    return path


def rewritten(path: Path, change: Any) -> Path:
    """A copy of an archive in which ``change(name, bytes)`` has replaced what it returns bytes for."""
    other = path.with_name(f"changed {path.name}")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(other, "w") as new:
        for name in old.namelist():
            data = change(name, old.read(name))
            if data is not None:
                new.writestr(name, data)
    return other


def with_json(path: Path, ending: str, change: Any) -> Path:
    """A copy of an archive whose JSON file with this ending was changed in place."""

    def edit(name: str, data: bytes) -> bytes:
        if not name.endswith(ending):
            return data
        content = json.loads(data)
        change(content)
        return json.dumps(content).encode()

    return rewritten(path, edit)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    return save(model, (2,), tmp_path_factory.mktemp("saved") / "net.pt2")


@pytest.mark.slow
@settings(max_examples=15)
@given(networks())
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, network: tuple[nn.Module, tuple[int, ...]]
) -> None:
    """The program of the file is that of the module, bit for bit, layer names included."""
    module, shape = network
    expected = Program.from_module(module, shape)
    found = Program.from_file(save(module, shape, tmp_path_factory.mktemp("round") / "net.pt2"))
    assert found.layer_names == expected.layer_names
    assert found.digest() == expected.digest()


def test_partition_and_estimate_of_a_file(saved: Path) -> None:
    part = sc.partition(saved, sc.Slice.box(-2, 2))
    again = sc.partition(Program.from_file(saved), sc.Slice.box(-2, 2), exact=True)
    assert part.n_regions == again.n_regions > 5
    assert sc.LocalComplexity(saved, directions=2)(np.zeros((1, 2))).layer_names == ("1",)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_file_exported_for_some_number_of_samples(batch: int, tmp_path: Path) -> None:
    """A view that names the number of samples is meant for any."""

    class Viewed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(1, 2, 2), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.conv(x).relu().view(x.shape[0], 8))

    module = Viewed().eval()
    program = Program.from_file(save(module, (1, 3, 3), tmp_path / "net.pt2", batch=batch))
    assert program.digest() == Program.from_module(module, (1, 3, 3)).digest()


def test_what_fixes_the_number_of_samples_is_named(tmp_path: Path) -> None:
    class Joined(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x, torch.ones(x.shape[0], 1)], 1)

    path = save(Joined().eval(), (2,), tmp_path / "net.pt2", batch=4)
    with pytest.raises(ModelError, match=r"node 'cat'.*does not run on 1 sample: .*export it for any number"):
        Program.from_file(path)


def test_outputs_are_named_and_smooth_ones_refused(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(2, 4), nn.GELU(), nn.Linear(4, 3)).eval()
    path = save(module, (2,), tmp_path / "net.pt2")
    with pytest.raises(NotPiecewiseLinear, match=r"layer '1' .*is GELU"):
        sc.partition(path, sc.Slice.box(-1, 1))
    assert sc.partition(path, sc.Slice.box(-1, 1), output="linear").n_regions == 1
    assert Program.from_file(path, output=2).output_shape == ()
    with pytest.raises(ModelError, match="has no node 'linea'; there is 'linear'"):
        Program.from_file(path, output="linea")
    with pytest.raises(ModelError, match=r"takes inputs of shape \(2\), not \(3,\)"):
        Program.from_file(path, (3,))


def test_a_module_in_train_mode_is_refused(tmp_path: Path) -> None:
    path = save(nn.Sequential(nn.Linear(2, 4), nn.Dropout(), nn.ReLU()).train(), (2,), tmp_path / "net.pt2")
    with pytest.raises(TraceError, match=r"layer '1'.*draws random numbers"):
        Program.from_file(path)


# ---- files that mean harm ----------------------------------------------------------------------


class Harm:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> Any:
        return Path.write_text, (self.path, "run")


def test_pickled_weights_are_not_read(saved: Path, tmp_path: Path) -> None:
    trap = tmp_path / "trap"

    def pickled(config: dict[str, Any]) -> None:
        entry = config["config"]["0.weight"]
        entry["use_pickle"], entry["path_name"] = True, "weight_0"

    path = with_json(saved, "model_weights_config.json", pickled)
    harmful = rewritten(
        path, lambda name, data: pickle.dumps(Harm(trap)) if name.endswith("weight_0") else data
    )
    with pytest.raises(ModelError, match=r"'0\.weight' is a pickled object"):
        Program.from_file(harmful)
    assert not trap.exists()


def test_pickled_sample_inputs_are_not_looked_at(saved: Path, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    harmful = rewritten(
        saved, lambda name, data: pickle.dumps(Harm(trap)) if "sample_inputs" in name else data
    )
    assert Program.from_file(harmful).digest() == Program.from_file(saved).digest()
    assert not trap.exists()


@pytest.mark.parametrize(
    "target",
    [
        "torch.os.system",
        "torch.load",
        "_operator.attrgetter",
        "math.exp",
        "torch.ops.aten.from_file.default",
        "torch.ops.aten._foreach_exp.default",
        "torch.ops.aten.relu.__call__",
        "torch.ops.mine.relu.default",
        "torch.ops.aten.relu.default.__init__",
        "#extension:relu",
    ],
)
def test_functions_beside_those_of_the_list_are_not_called(target: str, saved: Path) -> None:
    def call(program: dict[str, Any]) -> None:
        nodes = program["graph_module"]["graph"]["nodes"]
        next(node for node in nodes if node["name"] == "relu")["target"] = target

    with pytest.raises(ModelError, match=r"calls what is not read: .* \('relu'\)"):
        Program.from_file(with_json(saved, "models/model.json", call))


def test_text_in_sizes_is_not_evaluated(saved: Path, tmp_path: Path) -> None:
    """Torch evaluates the symbols of a file as expressions; here they are not read."""
    trap = tmp_path / "trap"

    def expression(program: dict[str, Any]) -> None:
        for value in program["graph_module"]["graph"]["tensor_values"].values():
            if "as_expr" in value["sizes"][0]:
                value["sizes"][0]["as_expr"]["expr_str"] = (
                    f"__import__('pathlib').Path({str(trap)!r}).touch()"
                )

    harmful = with_json(saved, "models/model.json", expression)
    assert Program.from_file(harmful).digest() == Program.from_file(saved).digest()
    assert not trap.exists()


@pytest.mark.parametrize("name", ["sizes", "strides", "storage_offset"])
def test_weights_beyond_their_bytes_are_refused(name: str, saved: Path) -> None:
    def beyond(config: dict[str, Any]) -> None:
        meta = config["config"]["0.weight"]["tensor_meta"]
        where = meta[name] if name == "storage_offset" else meta[name][0]
        where["as_int"] = 10**6

    with pytest.raises(ModelError, match=r"is damaged: RuntimeError"):
        Program.from_file(with_json(saved, "model_weights_config.json", beyond))


@pytest.mark.parametrize(
    "lost", ["models/model.json", "weight_0", "model_weights_config.json", "archive_format"]
)
def test_an_archive_that_lacks_a_file_is_refused(lost: str, saved: Path) -> None:
    path = rewritten(saved, lambda name, data: None if name.endswith(lost) else data)
    with pytest.raises(ModelError, match=r"changed"):
        Program.from_file(path)


@pytest.mark.parametrize("key", ["graph_module", "schema_version"])
def test_an_archive_whose_graph_is_damaged_is_refused(key: str, saved: Path) -> None:
    with pytest.raises(ModelError, match="is damaged: KeyError"):
        Program.from_file(with_json(saved, "models/model.json", lambda program: program.pop(key)))


def test_another_format_is_refused(saved: Path) -> None:
    def older(program: dict[str, Any]) -> None:
        program["schema_version"]["major"] = 7

    with pytest.raises(ModelError, match="format 7, but 8 is read"):
        Program.from_file(with_json(saved, "models/model.json", older))


@pytest.mark.parametrize("content", [b"", b"hello"])
def test_what_is_no_archive_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"net\.pt2 is no file of torch\.export\.save"):
        Program.from_file(path)
    with pytest.raises(ModelError, match="there is no file"):
        Program.from_file(tmp_path / "none.pt2")


def test_a_checkpoint_by_that_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    torch.save(nn.Linear(2, 1).state_dict(), path)
    with pytest.raises(ModelError, match=r"no file of torch\.export\.save"):
        Program.from_file(path)


def test_weights_of_nan_are_refused(tmp_path: Path) -> None:
    module = nn.Linear(2, 1).eval()
    module.bias.data.fill_(torch.nan)
    with pytest.raises(ModelError, match="'bias' holds NaN"):
        Program.from_file(save(module, (2,), tmp_path / "net.pt2"))
