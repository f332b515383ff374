"""ForgetResults: removes what earlier weights left in a run directory, once a training has new ones."""

from __future__ import annotations

from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_only

from segdistill.utils.io import remove

OF_WEIGHTS = ("report.html", "results.json", "confusion.json", "differences.json", "onnx", "predictions", "figures")


class ForgetResults(pl.Callback):
    """Removes results of earlier weights at the end of a fit that trained, before new ones are made.

    A resumed run may train on with fewer callbacks than before: what these do not make anew would be taken for the new
    weights' own. An interrupted fit keeps them, and one that had no epoch left has the weights that they are of.
    """

    def __init__(self) -> None:
        self.trained = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note that the weights change; Lightning leaves this out where no epoch is left."""
        self.trained = True

    @rank_zero_only
    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remove the results of earlier weights."""
        if self.trained:
            for name in OF_WEIGHTS:
                remove(Path(trainer.default_root_dir) / name)
