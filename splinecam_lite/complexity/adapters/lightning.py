"""Local complexity as a callback of Lightning's trainer."""

import sys
from typing import Any

from splinecam_lite.complexity.adapters import missing
from splinecam_lite.complexity.monitor import LCMonitor


def _callback_classes() -> tuple[type, ...]:
    """The base of callbacks in each package of Lightning that is in use.

    ``lightning`` and ``pytorch_lightning`` hold the same classes twice, and the trainer of one refuses
    callbacks of the other. Importing both takes seconds, so that is done only if it has been done before.
    """
    names = ("lightning.pytorch", "pytorch_lightning")
    loaded = (sys.modules.get(name) for name in names)
    classes = tuple(package.Callback for package in loaded if package is not None)
    if classes:
        return classes
    try:
        from lightning.pytorch import Callback
    except ImportError:
        try:
            from pytorch_lightning import Callback  # type: ignore[assignment]
        except ImportError as error:
            raise missing("lightning") from error
    return (Callback,)


class LightningMonitor(*_callback_classes()):  # type: ignore[misc]
    """Call an `LCMonitor` after each training batch, and log what it returns.

    Steps are ``trainer.global_step``, the updates made so far; 0 is before the first. Loggers get the values
    at that step at once, whatever ``log_every_n_steps`` is; callbacks find them in
    ``trainer.callback_metrics``, from the first update on.

    Parameters
    ----------
    monitor : LCMonitor
        Best of the network itself: what a LightningModule also holds, metrics for example, changes at each
        step, and would be exported again each time.

    Notes
    -----
    Import Lightning before this module if you use ``pytorch_lightning`` and have both packages.

    Examples
    --------
    >>> import torch
    >>> callback = LightningMonitor(LCMonitor(torch.nn.Linear(2, 1), {"train": [[0.0, 0.0]]}, directions=2))
    >>> # Trainer(callbacks=[callback])
    """

    def __init__(self, monitor: LCMonitor):
        super().__init__()
        self.monitor = monitor

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Measure before the first update, if step 0 is one of the monitor's."""
        self._measure(trainer)

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measure after an update, if it is time to."""
        values = self._measure(trainer)
        if values:
            # Loggers have them; by this way they would get them only every log_every_n_steps.
            pl_module.log_dict(values, logger=False, on_step=True, on_epoch=False, batch_size=1)

    def _measure(self, trainer: Any) -> dict[str, float]:
        values = self.monitor(trainer.global_step)
        if values:
            for logger in trainer.loggers:
                logger.log_metrics(values, step=trainer.global_step)
        return values
