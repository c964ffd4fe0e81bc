"""Local complexity in training frameworks; each is imported when its name is asked for, and not before.

=======================  ================================  ====================================
`LocalComplexityMetric`  torchmetrics                      a Metric
`LightningMonitor`       lightning, or pytorch_lightning   a Callback around an `LCMonitor`
`TrainerMonitor`         transformers                      a TrainerCallback around an `LCMonitor`
=======================  ================================  ====================================

All come with ``pip install 'splinecam-lite[adapters]'``.
"""

import importlib
from typing import TYPE_CHECKING, Any

_HOME = {
    "LightningMonitor": "lightning",
    "LocalComplexityMetric": "torchmetrics",
    "TrainerMonitor": "transformers",
}

__all__ = ["LightningMonitor", "LocalComplexityMetric", "TrainerMonitor"]

if TYPE_CHECKING:
    from splinecam_lite.complexity.adapters.lightning import LightningMonitor
    from splinecam_lite.complexity.adapters.torchmetrics import LocalComplexityMetric
    from splinecam_lite.complexity.adapters.transformers import TrainerMonitor


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)


def missing(framework: str) -> ImportError:
    """Return the error that says how to install a framework."""
    return ImportError(
        f"this adapter needs the package {framework}, which is not installed: "
        "pip install 'splinecam-lite[adapters]'"
    )
