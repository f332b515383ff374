"""EpochLog: one log line per epoch, for terminals without a progress bar and for the log file."""

from __future__ import annotations

import logging
import time

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_only

from segdistill.data.datamodule import SegmentationDataModule
from segdistill.metrics import collapsed_to, never_predicted
from segdistill.reporting.findings import optimism, prediction_finding, selected_on
from segdistill.tasks.segmentation import SegmentationTask

log = logging.getLogger(__name__)
TRIED_STEPS = 10
"""Number of batches after the first one from which the duration of a training is foretold."""


class EpochLog(pl.Callback):
    """Logs losses, mean IoU and remaining time after every validation, and warns about suspicious scores.

    A few steps after the start it foretells how long the training will take.

    Args:
        title: Name of what is being trained.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self._began, self._first_epoch = 0.0, 0
        self._stepped, self._steps = 0.0, 0
        self._collapse: str | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._began, self._first_epoch, self._steps = time.monotonic(), trainer.current_epoch, 0

    @rank_zero_only
    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        """Log once how long a step takes, and all that are left."""
        self._steps += 1
        if self._steps == 1:
            self._stepped = time.monotonic()  # the first one waits for the loader
        if self._steps == 1 + TRIED_STEPS:
            seconds = trainer.accumulate_grad_batches * (time.monotonic() - self._stepped) / TRIED_STEPS
            left = int(trainer.estimated_stepping_batches) - trainer.global_step
            log.info("%s: %.2f s a step, about %.1f min for %d", self.title, seconds, seconds * left / 60, left)

    @rank_zero_only
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the epoch, and warn when the network starts to predict only a single class."""
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
        if isinstance(pl_module, SegmentationTask):
            self._log_collapse(pl_module)

    @rank_zero_only
    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Warn about scores on the split that selected the checkpoint, and about classes that are never predicted."""
        data = getattr(trainer, "datamodule", None)
        if isinstance(data, SegmentationDataModule) and selected_on(data.source.eval_split):
            log.warning("test: %s", optimism(data.source.eval_split))
        if isinstance(pl_module, SegmentationTask):
            for prefix, role in (("test/", pl_module.role), ("test/teacher_", "teacher")):
                finding = prediction_finding(*_predictions(pl_module, prefix))
                if finding is not None:
                    log.warning("test: %s %s", role, finding)

    def _log_collapse(self, task: SegmentationTask) -> None:
        """Warn when a network collapses to a class, but not again in each epoch in which it stays there."""
        single, missed = _predictions(task, "val/")
        collapse = single if missed else None
        if collapse == self._collapse:
            return
        self._collapse = collapse
        if collapse is None:
            log.info("%s predicts more than one class now", self.title)
        else:
            log.warning("%s %s, on every image of val", self.title, prediction_finding(collapse, missed))


def _predictions(task: SegmentationTask, prefix: str) -> tuple[str | None, list[str]]:
    """Return the only predicted class, if there is just one, and the never predicted classes, under a metric prefix."""
    confusion = task.confusions.get(prefix)
    if confusion is None:
        return None, []
    single = collapsed_to(confusion)
    missed = [task.class_names[index] for index in never_predicted(confusion)]
    return None if single is None else task.class_names[single], missed
