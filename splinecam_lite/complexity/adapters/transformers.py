"""Local complexity as a callback of the Trainer of Hugging Face."""

from collections.abc import Callable
from typing import Any

from splinecam_lite.complexity.adapters import missing
from splinecam_lite.complexity.monitor import LCMonitor

try:
    from transformers import TrainerCallback
except ImportError as error:
    raise missing("transformers") from error


class TrainerMonitor(TrainerCallback):
    """Call an `LCMonitor` after each update, and log what it returns.

    Steps are ``state.global_step``; 0 is before the first update.

    Parameters
    ----------
    monitor : LCMonitor
    log : callable, optional
        ``trainer.log``: the values go to ``state.log_history`` and to all that the trainer reports to, such
        as Weights & Biases. A callback does not know its trainer, so give it after the trainer is made.
        Without it they go to ``state.log_history`` alone.

    Examples
    --------
    >>> import torch
    >>> monitor = LCMonitor(torch.nn.Linear(2, 1), {"train": [[0.0, 0.0]]}, directions=2)
    >>> callback = TrainerMonitor(monitor)  # Trainer(callbacks=[callback])
    >>> # or: trainer.add_callback(TrainerMonitor(monitor, log=trainer.log))
    """

    def __init__(self, monitor: LCMonitor, log: Callable[[dict[str, float]], object] | None = None):
        self.monitor, self._log = monitor, log

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Measure before the first update, if step 0 is one of the monitor's."""
        self._measure(state)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Measure after an update, if it is time to."""
        self._measure(state)

    def _measure(self, state: Any) -> None:
        values = self.monitor(state.global_step)
        if not values:
            return
        if self._log is not None:
            self._log(dict(values))
            return
        record: dict[str, Any] = dict(values)
        if state.epoch is not None:
            record["epoch"] = state.epoch
        state.log_history.append(record | {"step": state.global_step})
