"""StopOnNonFinite: a loss that is NaN or infinite ends the training, before a checkpoint is made of it."""

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
    """Looks at every step's loss, and at the weights before the validation that a checkpoint follows.

    A step's loss is read for the log anyway, right after this callback; reading it here waits for the device no
    second time. Gradients may be infinite: a mixed-precision scaler skips them.

    Args:
        title: What is being trained.
    """

    def __init__(self, title: str) -> None:
        self.title = title

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stops every process of the training if one of them has such a loss.

        Raises:
            UserError: That names step, terms and pictures.
        """
        loss: Tensor = outputs["loss"] if isinstance(outputs, Mapping) else outputs
        found = None if bool(torch.isfinite(loss)) else _described(trainer, batch, batch_idx)
        self._stop(trainer, found)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stops where the last step of an epoch has left such weights.

        Raises:
            UserError: That names one of them.
        """
        if trainer.state.fn != TrainerFn.FITTING:
            return
        weights = pl_module.state_dict().items()
        broken = (name for name, value in weights if value.is_floating_point() and not torch.isfinite(value).all())
        name = next(broken, None)
        self._stop(trainer, None if name is None else f"end of epoch {trainer.current_epoch + 1}: {name} is not finite")

    def _stop(self, trainer: pl.Trainer, found: str | None) -> None:
        """Raises in every process what the first one that has found something has found."""
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
    """Return the image files of a training batch; none where the data does not tell."""
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
