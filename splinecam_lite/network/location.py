"""Where in the user's code a node of an exported graph, or an error while exporting, comes from."""

import re
import traceback
from pathlib import Path

import torch
from torch import fx

from splinecam_lite.network.ops import Where

TORCH = str(Path(torch.__file__).parent)
LEAVES = re.compile(
    r"torch\.nn\.modules\.(activation|batchnorm|channelshuffle|conv|dropout|flatten|instancenorm|linear|normalization"
    r"|padding|pixelshuffle|pooling|upsampling)\.(?!MultiheadAttention)"
)
"""Classes of torch that run one operation, so that the module's path says which."""

FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)')


def where(node: fx.Node) -> Where:
    """Module path, source line and operator of a node; or its place in the file that it was read from."""
    if isinstance(place := node.meta.get("where"), Where):
        return place
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path, module = stack[-1] if stack else ("", "")
    module = module if isinstance(module, str) else f"{module.__module__}.{module.__qualname__}"
    path = "" if path.startswith("_empty_nn_module_stack") else path.split("@")[0]
    return Where(
        node.name,
        path,
        written_at(node.meta.get("stack_trace") or ""),
        target_of(node),
        whole_module(module),
    )


def whole_module(name: str) -> bool:
    """Whether a class, by its full name, is one of torch's layers of one operation."""
    return bool(LEAVES.match(name))


def written_at(trace: str) -> str:
    """``"file.py:12"``, the innermost line of a stack trace that is outside torch."""
    return _innermost_line(FRAME.findall(trace))


def target_of(node: fx.Node) -> str:
    """Name of the operator of a node, e.g. ``"aten.gelu.default"``."""
    if isinstance(node.target, torch._ops.OpOverload):
        return str(node.target)
    return getattr(node.target, "__name__", "") or str(node.target)


def source_of(error: BaseException) -> str:
    """Innermost line outside torch and this package that an error passed through; empty if there is none."""
    frames = [(f.filename, str(f.lineno)) for f in traceback.extract_tb(error.__traceback__)]
    return _innermost_line([f for f in frames if not f[0].startswith(str(Path(__file__).parent))])


def _innermost_line(frames: list[tuple[str, str]]) -> str:
    """The last of ``(file, line)`` outside torch; files below the working directory relative to it."""
    for file, line in reversed(frames):
        if not file.startswith((TORCH, "<")):
            path = Path(file)
            path = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
            return f"{path}:{line}"
    return ""
