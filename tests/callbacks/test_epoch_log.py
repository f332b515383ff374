"""What the log says of a training whose scores mean less than they seem to."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import pytest
import pytorch_lightning as pl
import torch
from helpers.settings import fit_config, schedule_config, trainer_config
from torch import Tensor, nn

from segdistill.callbacks import EpochLog
from segdistill.callbacks.epoch_log import TRIED_STEPS
from segdistill.config.data import FolderConfig
from segdistill.data.datamodule import SegmentationDataModule
from segdistill.data.sources.folder import open_folder
from segdistill.engine.trainer import build_trainer
from segdistill.losses import CrossEntropyLoss
from segdistill.tasks import SegmentationTask
from segdistill.utils.preprocessing import Preprocessing

NAMES = ("background", "car", "lane")
GOOD = [[8, 1, 1], [2, 7, 1], [1, 0, 9]]
ONLY_BACKGROUND = [[10, 0, 0], [10, 0, 0], [10, 0, 0]]
ONLY_CAR = [[0, 10, 0], [0, 10, 0], [0, 10, 0]]
ALL_TRUE = [[10, 0, 0], [0, 0, 0], [0, 0, 0]]


class Stubborn(nn.Module):
    """Predicts background everywhere, however it is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, len(NAMES), 1)

    def forward(self, image: Tensor) -> Tensor:
        offset = torch.tensor([1e3, 0.0, 0.0])[:, None, None]
        logits: Tensor = self.head(image) + offset
        return logits


def task_of(network: nn.Module) -> SegmentationTask:
    return SegmentationTask(
        network,
        class_names=NAMES,
        loss=CrossEntropyLoss(),
        optimizer=partial(torch.optim.AdamW, lr=1e-4),
        schedule=schedule_config(),
        role="student",
    )


def data_of(config: FolderConfig, cache_dir: Path) -> SegmentationDataModule:
    fit = fit_config(max_epochs=3, batch_size=2, crop=[16, 20])
    return SegmentationDataModule(
        open_folder(config, cache_dir), fit, preprocessing=Preprocessing((24, 36)), num_workers=0
    )


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name.endswith("epoch_log") and r.levelno == logging.WARNING]


def logged_after(confusions: Sequence[list[list[int]]], caplog: pytest.LogCaptureFixture) -> list[str]:
    """The log of one validation for each confusion matrix, but for the line that every epoch has."""
    task, log = task_of(Stubborn()), EpochLog("student")
    metrics = {"val/loss": torch.tensor(1.0), "val/miou": torch.tensor(0.5)}
    trainer = Mock(spec=pl.Trainer, current_epoch=0, max_epochs=9, callback_metrics=metrics)
    with caplog.at_level(logging.INFO):
        for matrix in confusions:
            task.confusions["val/"] = torch.tensor(matrix)
            log.on_validation_end(trainer, task)
    return [record.getMessage() for record in caplog.records if "epoch 1/9" not in record.getMessage()]


def test_a_collapse_is_told_once_and_again_when_it_changes_or_ends(caplog: pytest.LogCaptureFixture) -> None:
    assert logged_after([GOOD, ONLY_BACKGROUND, ONLY_BACKGROUND, ONLY_CAR, GOOD, GOOD, ONLY_CAR], caplog) == [
        "student predicts only background, on every image of val",
        "student predicts only car, on every image of val",
        "student predicts more than one class now",
        "student predicts only car, on every image of val",
    ]


def test_the_duration_is_foretold_once_from_the_steps_after_the_first(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, now = EpochLog("student"), 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    trainer = Mock(
        spec=pl.Trainer, current_epoch=0, estimated_stepping_batches=251, global_step=0, accumulate_grad_batches=1
    )
    log.on_train_start(trainer, task_of(Stubborn()))
    with caplog.at_level(logging.INFO):
        for step in range(TRIED_STEPS + 5):
            now += 0.5 if step else 60.0  # the first one waits for the loader
            trainer.global_step += 1
            log.on_train_batch_end(trainer)
    assert [record.getMessage() for record in caplog.records] == ["student: 0.50 s a step, about 2.0 min for 240"]


def test_a_single_class_is_right_where_the_truth_has_no_other(caplog: pytest.LogCaptureFixture) -> None:
    assert logged_after([ALL_TRUE], caplog) == []


def test_a_training_that_collapses_says_so_during_and_after_it(
    folder_config: FolderConfig, cache_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    task, data = task_of(Stubborn()), data_of(folder_config, cache_dir)
    fit, machine = fit_config(max_epochs=3, batch_size=2, crop=[16, 20]), trainer_config()
    trainer = build_trainer(task, fit, machine, tmp_path, loggers=[])
    trainer.fit(task, data)
    (tested,) = trainer.test(task, data, verbose=False)
    assert warnings_of(caplog) == [
        "student predicts only background, on every image of val",
        "test: student predicts only background",
    ]
    assert trainer.callback_metrics["test/classes_predicted"] == 1
    assert tested["test/classes_predicted"] == 1
    assert int(task.confusions["test/"][:, 1:].sum()) == 0


def test_the_log_says_that_the_reported_split_chose_the_checkpoint(
    folder_config: FolderConfig, cache_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    splits = {name: folders for name, folders in folder_config.splits.items() if name != "test"}
    for config in (folder_config, replace(folder_config, splits=splits)):
        task, data = task_of(nn.Conv2d(3, len(NAMES), 1)), data_of(config, cache_dir)
        trainer = build_trainer(task, fit_config(1, 2, crop=[16, 20]), trainer_config(), tmp_path, loggers=[])
        trainer.test(task, data, verbose=False)
    optimistic = [line for line in warnings_of(caplog) if "optimistic" in line]
    assert optimistic == [
        "test: the scores are optimistic: the checkpoint was chosen on val, the split that is reported; "
        "add a test split (data.splits.test)"
    ]
