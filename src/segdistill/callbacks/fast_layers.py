"""FastLayers: layers that train faster than those a network is built with."""

from __future__ import annotations

import pytorch_lightning as pl

from segdistill.models.fast_layers import use_fast_layers


class FastLayers(pl.Callback):
    """Replaces layers of the trained network by faster ones; weights and results stay the same."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Replace the layers before the fit."""
        use_fast_layers(pl_module)
