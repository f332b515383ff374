"""FastDepthwise: depthwise convolutions that a CPU trains quickly."""

from __future__ import annotations

import pytorch_lightning as pl

from segdistill.models.cpu_depthwise import replace_depthwise_convs


class FastDepthwise(pl.Callback):
    """Replaces the depthwise convolutions of the network that is trained; weights and results stay as they are."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Replace them before the fit."""
        replace_depthwise_convs(pl_module)
