"""RestoreBest: at the end of a fit, puts the best checkpoint's weights back into the task."""

from __future__ import annotations

from pathlib import Path

import pytorch_lightning as pl

from segdistill.models.frozen_teacher import load_checkpoint


class RestoreBest(pl.Callback):
    """Everything that follows, export, timing, pictures and test, then sees the best weights."""

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Loads what ModelCheckpoint found best."""
        best = getattr(trainer.checkpoint_callback, "best_model_path", "")
        if best:
            pl_module.load_state_dict(load_checkpoint(Path(best))["state_dict"])
        pl_module.eval()
