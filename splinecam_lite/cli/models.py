"""MODEL and ``--weights``: from words on a command line to a module in eval mode."""

import difflib
import importlib
import importlib.util
import inspect
import pickle
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from splinecam_lite.cli.refusal import Refusal

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "module", "weights")
"""Keys under which training scripts put the state dict, beside the optimiser's state and the epoch."""

PREFIXES = ("module.", "_orig_mod.", "model.", "net.")
"""What DataParallel, torch.compile and a module that holds the network put before every name."""

MOST_NAMED = 4
"""Keys that an error lists."""


def load_model(spec: str, weights: Path | None) -> nn.Module:
    """Return the module that ``spec`` names, with the weights of a file, in eval mode.

    Parameters
    ----------
    spec : str
        ``"net.py:build"`` or ``"package.net:build"``; ``build`` is called without arguments, or is a module.
    weights : Path or None
        None: as it is made, with torch's random state seeded with 0.

    Raises
    ------
    Refusal
        Says what is missing, in the spec or in the weights, and what there is instead.
    """
    place, _, name = spec.rpartition(":")
    torch.manual_seed(0)  # for a module that is made when its file is imported; a function gets its own
    module = _import(place)
    if not hasattr(module, name):
        near = difflib.get_close_matches(name, _makers(module), n=1) or _makers(module)
        raise Refusal(f"{place} has no '{name}'; it has {_some(near) or 'nothing that makes a module'}")
    model = _make(getattr(module, name), spec)
    if weights is not None:
        load_weights(model, weights)
    return model.eval()


def _import(place: str) -> ModuleType:
    """Run the user's file, or import their module, as Python would: what lies beside it can be imported."""
    if place.endswith(".py"):
        path = Path(place)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.path.insert(0, str(path.parent.resolve()))
        # Under a name of its own, so that a file called torch.py hides nothing.
        sys.modules[f"splinecam_lite_model.{path.stem}"] = module
        _run_user_code(place, lambda: spec.loader.exec_module(module))
        return module
    sys.path.insert(0, "")
    try:
        found = importlib.util.find_spec(place) is not None
    except ModuleNotFoundError:  # no parent package
        found = False
    if not found:
        raise Refusal(f"there is no module '{place}' on Python's path; for a file, give its name with .py")
    return _run_user_code(place, lambda: importlib.import_module(place))


def _make(maker: Any, spec: str) -> nn.Module:
    """Return ``maker`` if it is a module, or what it returns when called."""
    if isinstance(maker, nn.Module):
        return maker
    if not callable(maker):
        raise Refusal(f"{spec} is a {type(maker).__name__}; it must be an nn.Module, or make one when called")
    try:
        inspect.signature(maker).bind()
    except TypeError as error:
        raise Refusal(
            f"{spec} cannot be called without arguments ({error}); write a function around it that gives them"
        ) from error
    torch.manual_seed(0)
    model = _run_user_code(spec, maker)
    if not isinstance(model, nn.Module):
        raise Refusal(f"{spec} returns {type(model).__name__}, not an nn.Module")
    return model


def _makers(module: ModuleType) -> list[str]:
    """Names of a module of the user's that are nn.Modules, or functions and classes of its own."""
    return [
        name
        for name, value in vars(module).items()
        if isinstance(value, nn.Module)
        or ((inspect.isroutine(value) or inspect.isclass(value)) and value.__module__ == module.__name__)
    ]


def _run_user_code(place: str, run: Any) -> Any:
    """Run what the user wrote; whatever it raises is refused with its own line."""
    try:
        return run()
    except SyntaxError as error:
        raise Refusal(f"{place} is no Python: line {error.lineno}: {error.msg}") from error
    except (Exception, SystemExit) as error:
        trace, line = error.__traceback__, ""
        while trace is not None:  # the innermost line of the user's own file
            if Path(trace.tb_frame.f_code.co_filename).name == Path(place.rpartition(":")[0] or place).name:
                line = f", line {trace.tb_lineno}"
            trace = trace.tb_next
        raise Refusal(f"{place}{line}: {type(error).__name__}: {error}") from error


def load_weights(model: nn.Module, path: Path) -> None:
    """Put the state dict in a file into a module, without its wrapper and its prefix.

    Raises
    ------
    Refusal
        If the file holds no state dict, or one whose names or shapes are not the module's.
    """
    own = model.state_dict()
    given = _without_prefix(_unwrapped(_read(path), path), own)
    # Counts of batches came to BatchNorm later than its other buffers; they change nothing in eval mode.
    missing = [key for key in own if key not in given and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in given if key not in own]
    if missing or unexpected:
        parts = [f"{what} {_some(keys)}" for what, keys in (("lacks", missing), ("has", unexpected)) if keys]
        unknown = ", which the module does not have" if unexpected else ""
        raise Refusal(f"{path} does not fit the module: it {' and '.join(parts)}{unknown}")
    for key, tensor in given.items():
        if tensor.shape != own[key].shape:
            shapes = tuple(tensor.shape), tuple(own[key].shape)
            raise Refusal(f"'{key}' has shape {shapes[0]} in {path}, but {shapes[1]} in the module")
    model.load_state_dict(given, strict=False)


def _read(path: Path) -> Any:
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise Refusal(f"{path} is no safetensors file: {error}") from error
    if path.suffix not in (".pt", ".pth", ".ckpt", ".bin"):
        raise Refusal(f"--weights is {path}; give a .safetensors, .pt, .pth, .ckpt or .bin file")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise Refusal(
            f"{path} holds Python objects besides tensors, which could run code when read, or no weights; "
            "save model.state_dict()"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        raise Refusal(f"{path} is no file of weights that torch can read ({type(error).__name__})") from error


def _unwrapped(read: Any, path: Path) -> dict[str, Tensor]:
    """Return the mapping from names to tensors, from under the usual keys."""
    if _is_state(read):
        return dict(read)
    if isinstance(read, Mapping):
        for key in WRAPPERS:
            if _is_state(read.get(key)):
                return dict(read[key])
        raise Refusal(
            f"{path} holds no state dict, nor has one under {_some(WRAPPERS)}; it has {_some(read)}"
        )
    raise Refusal(f"{path} holds a {type(read).__name__}; save model.state_dict()")


def _is_state(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(isinstance(v, Tensor) for v in value.values())


def _without_prefix(state: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the first of the state's renamings that fits, or else the state itself."""
    for renamed in _renamings(state):
        if not set(own).isdisjoint(renamed):
            return renamed
    return state


def _renamings(state: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Yield the state as it is, and then without one prefix after another that all its names share."""
    yield state
    while prefix := next((p for p in PREFIXES if all(key.startswith(p) for key in state)), None):
        state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
        yield state


def _some(keys: Any) -> str:
    """Name the first few of many keys."""
    keys = list(keys)
    rest = f" and {len(keys) - MOST_NAMED} more" if len(keys) > MOST_NAMED else ""
    return ", ".join(f"'{key}'" for key in keys[:MOST_NAMED]) + rest
