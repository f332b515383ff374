"""Base of callbacks at the end of a fit: their failures are warnings, so that the finished training is not lost."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import AbstractContextManager, contextmanager

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_only

from segdistill.callbacks.inputs import task_and_data
from segdistill.data.datamodule import SegmentationDataModule
from segdistill.tasks.segmentation import SegmentationTask
from segdistill.utils.errors import first_line
from segdistill.utils.io import full_disk

log = logging.getLogger(__name__)


@contextmanager
def tolerated(name: str, errors: MutableMapping[str, str] | None = None) -> Iterator[None]:
    """Turn an exception of the block into a warning, except for an interrupt or a full disk.

    Args:
        name: What the block produces, for the warning.
        errors: Mapping in which one line about the error is stored under `name`.

    Raises:
        OSError: If the disk is full, even if another exception wraps that error: nothing more could be written.
    """
    try:
        yield
    except Exception as error:
        if (full := full_disk(error)) is not None:
            raise full from error
        if errors is not None:
            errors[name] = first_line(error)
        log.warning("%s failed, everything else goes on: %s", name, first_line(error))
        log.debug("%s failed", name, exc_info=True)


class FitEndCallback(pl.Callback, ABC):
    """Base of the callbacks that run at the end of a fit, on rank 0, after the best weights are restored.

    Attributes:
        precisions: Precisions of the exported files that the callback writes.
        errors: One line for each failure of the last fit, by file name, or by class name for the whole callback.
    """

    precisions: Sequence[str] = ()

    def __init__(self) -> None:
        self.errors: dict[str, str] = {}

    @rank_zero_only
    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Run `finish`; its exceptions become warnings, because the training is done and its test still follows."""
        self.errors.clear()
        with self.tolerated(type(self).__name__):
            self.finish(trainer, *task_and_data(trainer, pl_module))

    def tolerated(self, name: str) -> AbstractContextManager[None]:
        """Turn an exception of the block into a warning, and store the reason in `errors` under `name`."""
        return tolerated(name, self.errors)

    def error(self, name: str) -> str | None:
        """Return why a file was not written, also if the whole callback failed; None if nothing failed."""
        return self.errors.get(name) or self.errors.get(type(self).__name__)

    @abstractmethod
    def finish(self, trainer: pl.Trainer, task: SegmentationTask, data: SegmentationDataModule) -> None:
        """Do the work of the callback; `trainer.default_root_dir` is the run directory."""
