"""Quantisation-aware training: when the network is rounded, and that nothing of it is left for the export."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from unittest.mock import Mock

import pytest
import pytorch_lightning as pl
import torch
from helpers.networks import Tiny
from helpers.settings import fit_config, schedule_config, trainer_config
from torch import Tensor, nn

from segdistill.callbacks import Quantize
from segdistill.config.data import FolderConfig
from segdistill.data.datamodule import SegmentationDataModule
from segdistill.data.sources.folder import open_folder
from segdistill.engine.trainer import build_trainer
from segdistill.losses import CrossEntropyLoss
from segdistill.models.fake_quantization import FakeQuantization
from segdistill.tasks import SegmentationTask
from segdistill.utils.errors import ConfigError
from segdistill.utils.preprocessing import Preprocessing

EPOCHS = 3


class Watching(pl.Callback):
    """Notes for each epoch whether the weights that train, and those that are validated, are rounded."""

    def __init__(self) -> None:
        self.trained: dict[int, bool] = {}
        self.validated: dict[int, bool] = {}
        self.noting: dict[int, bool] = {}
        self.epoch = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        network = pl_module.network
        assert isinstance(network, Tiny)
        network.head.register_forward_pre_hook(self.note)

    def on_train_batch_start(self, trainer: pl.Trainer, *_: object) -> None:
        self.noting, self.epoch = self.trained, trainer.current_epoch

    def on_validation_batch_start(self, trainer: pl.Trainer, *_: object) -> None:
        self.noting, self.epoch = self.validated, trainer.current_epoch

    def on_validation_batch_end(self, *_: object) -> None:
        self.noting = {}

    def on_train_batch_end(self, *_: object) -> None:
        self.noting = {}

    def note(self, head: nn.Conv2d, _: tuple[Tensor]) -> None:
        self.noting[self.epoch] = not torch.equal(head.weight, dict(head.named_parameters())["weight"])


def fitted(
    config: FolderConfig, folder: Path, quantize: Quantize, watching: Watching, resume: Path | None = None
) -> SegmentationTask:
    fit = fit_config(max_epochs=EPOCHS, batch_size=2, crop=[16, 20])
    source = open_folder(config, folder / "cache")
    data = SegmentationDataModule(source, fit, preprocessing=Preprocessing((24, 36)), num_workers=0)
    task = SegmentationTask(
        Tiny(len(source.labels)),
        class_names=source.labels.names,
        loss=CrossEntropyLoss(),
        optimizer=partial(torch.optim.AdamW, lr=1e-3),
        schedule=schedule_config(),
    )
    trainer = build_trainer(
        task, fit, trainer_config(), folder / "run", loggers=[], callbacks=[quantize, watching], seed=0
    )
    trainer.fit(task, data, ckpt_path=resume, weights_only=True)
    return task


@pytest.mark.parametrize(
    ("aware", "trained"),
    [(1, [False, False, True]), (2, [False, True, True]), (7, [True, True, True]), (0, [False, False, False])],
)
def test_the_last_epochs_train_the_rounded_network_and_every_validation_scores_it(
    aware: int, trained: list[bool], folder_config: FolderConfig, tmp_path: Path
) -> None:
    watching = Watching()
    task = fitted(folder_config, tmp_path, Quantize(aware_epochs=aware, images=2), watching)
    assert watching.trained == dict(enumerate(trained))
    assert watching.validated == dict.fromkeys(range(EPOCHS), aware > 0)
    network = task.network
    assert isinstance(network, Tiny)
    assert network.head.weight is network.head.get_parameter("weight")
    watching.noting, watching.epoch = watching.trained, -1
    task(torch.rand(1, 3, 16, 16))
    assert watching.trained[-1] is False  # what is exported and tested is the network itself


def test_a_finished_fit_that_is_resumed_is_left_alone(folder_config: FolderConfig, tmp_path: Path) -> None:
    fitted(folder_config, tmp_path, Quantize(aware_epochs=1, images=2), Watching())
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    watching = Watching()
    task = fitted(folder_config, tmp_path, Quantize(aware_epochs=1, images=2), watching, resume=last)
    assert watching.trained == {}
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in task.network.modules())
    with pytest.raises(ConfigError, match=r"aware_epochs=2: must stay 1 in a run that is resumed"):
        fitted(folder_config, tmp_path, Quantize(aware_epochs=2, images=2), Watching(), resume=last)


def test_a_validation_within_an_epoch_does_not_change_what_trains() -> None:
    quantize, network = Quantize(aware_epochs=1, images=1), Tiny()
    rounding = quantize._rounding = FakeQuantization(network, weight_bits=7, per_channel=True)
    for epoch, aware in enumerate((False, False, True)):
        trainer = Mock(spec=pl.Trainer, current_epoch=epoch, max_epochs=EPOCHS)
        rounding.enabled = True  # as the validation left it
        quantize.on_validation_end(trainer, Mock())
        assert rounding.enabled is aware
