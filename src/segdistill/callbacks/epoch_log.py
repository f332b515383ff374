"""EpochLog: one line an epoch, for terminals without a progress bar and for the log file."""

from __future__ import annotations

import logging
import time

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_only

log = logging.getLogger(__name__)


class EpochLog(pl.Callback):
    """Logs losses, mean IoU and the time left after every validation.

    Args:
        title: What is being trained.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self._began, self._first_epoch = 0.0, 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clock."""
        self._began, self._first_epoch = time.monotonic(), trainer.current_epoch

    @rank_zero_only
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes the line."""
        epoch, epochs = trainer.current_epoch + 1, trainer.max_epochs or 0
        seconds = (time.monotonic() - self._began) / (epoch - self._first_epoch)
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        log.info(
            "%s epoch %d/%d: train/loss %.4f, val/loss %.4f, val/miou %.4f, %.0f s an epoch, %.1f min left",
            self.title,
            epoch,
            epochs,
            metrics.get("train/loss", float("nan")),
            metrics["val/loss"],
            metrics["val/miou"],
            seconds,
            seconds * (epochs - epoch) / 60,
        )
