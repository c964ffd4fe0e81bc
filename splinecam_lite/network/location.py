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
    """Module path, source line and operator of a node."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path, module = stack[-1] if stack else ("", "")
    module = module if isinstance(module, str) else f"{module.__module__}.{module.__qualname__}"
    path = "" if path.startswith("_empty_nn_module_stack") else path.split("@")[0]
    target = (
        getattr(node.target, "__name__", "") if not isinstance(node.target, torch._ops.OpOverload) else ""
    )
    return Where(
        node.name,
        path,
        _innermost_line(FRAME.findall(node.meta.get("stack_trace") or "")),
        target or str(node.target),
        bool(LEAVES.match(module)),
    )


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
