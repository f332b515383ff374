"""RestoreBest: restores the best checkpoint's weights at the end of a fit."""

from __future__ import annotations

from pathlib import Path

import pytorch_lightning as pl

from segdistill.models.frozen_teacher import load_checkpoint


class RestoreBest(pl.Callback):
    """Restores the best weights at the end of a fit, so that export, timing, predictions and test use them."""

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Load the best checkpoint of ModelCheckpoint, if there is one, and switch to eval mode."""
        best = getattr(trainer.checkpoint_callback, "best_model_path", "")
        if best:
            pl_module.load_state_dict(load_checkpoint(Path(best))["state_dict"])
        pl_module.eval()
