"""What follows a training must not cost it: a failure at the end of a fit is a warning."""

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
    """Turn an exception of the block into a warning; an interruption and a full disk get out.

    Args:
        name: What the block makes, for the warning.
        errors: Filled with one line under the name.

    Raises:
        OSError: If the disk is full, whatever that was wrapped in: nothing that follows could be written.
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
    """Base of the callbacks that work at the end of a fit, on rank 0, when the best weights are back.

    Attributes:
        precisions: Of the exported files that it writes.
        errors: What failed in the last fit -> one line; a file under its name, the whole callback under its class's.
    """

    precisions: Sequence[str] = ()

    def __init__(self) -> None:
        self.errors: dict[str, str] = {}

    @rank_zero_only
    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Runs `finish`; what it raises is a warning, because the training is done and its test is to follow."""
        self.errors.clear()
        with self.tolerated(type(self).__name__):
            self.finish(trainer, *task_and_data(trainer, pl_module))

    def tolerated(self, name: str) -> AbstractContextManager[None]:
        """Let the block fail alone: `errors` then holds why, under `name`."""
        return tolerated(name, self.errors)

    def error(self, name: str) -> str | None:
        """Return why a file was not written, be it that everything failed; None where nothing did."""
        return self.errors.get(name) or self.errors.get(type(self).__name__)

    @abstractmethod
    def finish(self, trainer: pl.Trainer, task: SegmentationTask, data: SegmentationDataModule) -> None:
        """Do the work; `trainer.default_root_dir` is the run's directory."""
