"""FastDepthwise: depthwise convolutions that train fast on a CPU."""

from __future__ import annotations

import pytorch_lightning as pl

from segdistill.models.cpu_depthwise import replace_depthwise_convs


class FastDepthwise(pl.Callback):
    """Replaces the depthwise convolutions of the trained network; weights and results stay the same."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Replace the convolutions before the fit."""
        replace_depthwise_convs(pl_module)
