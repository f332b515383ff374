"""EpochSeed: makes the randomness of an epoch, such as dropout, independent of earlier epochs."""

from __future__ import annotations

import pytorch_lightning as pl
import torch

from segdistill.data.sampling import derived_seed


class EpochSeed(pl.Callback):
    """Seeds torch at the start of every training epoch, so that a resumed epoch repeats the interrupted one.

    Args:
        seed: Seed of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Seed torch from the run's seed, the epoch and the rank."""
        torch.manual_seed(derived_seed(self.seed, trainer.current_epoch, trainer.global_rank))
