"""StopOnNonFinite: stops the training at a NaN or infinite loss, before a checkpoint is saved."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from segdistill.data.datamodule import SegmentationDataModule
from segdistill.utils.errors import UserError


class StopOnNonFinite(pl.Callback):
    """Checks the loss of every step, and the weights before each validation, after which a checkpoint is saved.

    A step's loss is read for the log anyway, right after this callback, so reading it here adds no second wait for the
    device. Gradients may be infinite: a mixed-precision scaler skips them.

    Args:
        title: Name of what is being trained, for error messages.
    """

    def __init__(self, title: str) -> None:
        self.title = title

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop every process of the training if one of them has a non-finite loss.

        Raises:
            UserError: If one has; names the step, the loss terms and the images.
        """
        loss: Tensor = outputs["loss"] if isinstance(outputs, Mapping) else outputs
        found = None if bool(torch.isfinite(loss)) else _described(trainer, batch, batch_idx)
        self._stop(trainer, found)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the training if the last step of an epoch left non-finite weights.

        Raises:
            UserError: If it did; names one of the weights.
        """
        if trainer.state.fn != TrainerFn.FITTING:
            return
        weights = pl_module.state_dict().items()
        broken = (name for name, value in weights if value.is_floating_point() and not torch.isfinite(value).all())
        name = next(broken, None)
        self._stop(trainer, None if name is None else f"end of epoch {trainer.current_epoch + 1}: {name} is not finite")

    def _stop(self, trainer: pl.Trainer, found: str | None) -> None:
        """Raise the first finding of any process in every process; do nothing if there is none."""
        if trainer.strategy.reduce_boolean_decision(found is None, all=True):
            return
        if torch.distributed.is_initialized():
            everybody: list[str | None] = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(everybody, found)
            found = next(each for each in everybody if each is not None)
        raise UserError(f"{self.title}, step {trainer.global_step}, {found}; {_way_on(trainer)}")


def _described(trainer: pl.Trainer, batch: Any, batch_idx: int) -> str:
    terms = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("train/loss")}
    bad = ", ".join(f"{name} is {value}" for name, value in terms.items() if not math.isfinite(value))
    images = ", ".join(map(str, batch_images(trainer, batch)))
    shown = f"batch {batch_idx + 1} of epoch {trainer.current_epoch + 1}: {bad or 'the loss is not finite'}"
    return f"{shown}; its images: {images}" if images else shown


def batch_images(trainer: pl.Trainer, batch: Any) -> Sequence[Path]:
    """Return the image files of a training batch; empty if the data does not identify them."""
    data = getattr(trainer, "datamodule", None)
    if not isinstance(data, SegmentationDataModule) or not isinstance(batch, Mapping) or "index" not in batch:
        return []
    return [data.source.splits["train"][index].image for index in batch["index"].tolist()]


def _way_on(trainer: pl.Trainer) -> str:
    folder = Path(trainer.default_root_dir)
    cure = "a smaller learning rate, or trainer.precision=32-true"
    if not (folder / "checkpoints" / "last.ckpt").is_file():
        return f"there is no checkpoint yet; start again with {cure}"
    kept = f"{folder / 'checkpoints'} keeps last.ckpt and best.ckpt of the epochs before"
    resumed = f"python train.py resume={folder}" if (folder / ".hydra").is_dir() else "the same command"
    return f"{kept}; go on with {cure}: {resumed}"
