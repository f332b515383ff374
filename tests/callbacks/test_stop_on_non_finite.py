"""A loss that is NaN or infinite ends a training with its step, its terms and its images, and spoils no checkpoint."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from helpers.settings import fit_config, schedule_config, trainer_config
from torch import Tensor, nn

from segdistill.callbacks.stop_on_non_finite import batch_images
from segdistill.config.data import FolderConfig
from segdistill.config.trainer import TrainerConfig
from segdistill.data.datamodule import Batch, SegmentationDataModule
from segdistill.data.sources.folder import open_folder
from segdistill.engine.distributed import launch_ranks
from segdistill.engine.trainer import build_trainer
from segdistill.tasks import SegmentationTask
from segdistill.utils.errors import UserError

FIT = fit_config(max_epochs=2, batch_size=2, crop=[24, 36], scale=[1.0, 1.0])
ONE, TWO = (trainer_config(devices=count) for count in (1, 2))


class Breaking(SegmentationTask):
    """Its loss or its weights break at one step, counted from 0, in one process."""

    breaks: tuple[str, int, int] = ("loss", 0, 0)
    value = float("nan")

    def compute_losses(self, batch: Batch) -> dict[str, Tensor]:
        terms = super().compute_losses(batch)
        what, step, rank = self.breaks
        if (self.global_step, self.global_rank) != (step, rank):
            return terms
        if what == "weights":
            self.network.get_parameter("bias").register_hook(  # type: ignore[no-untyped-call]
                lambda gradient: gradient * torch.inf
            )
            return terms
        return {
            "loss": terms["loss"] * self.value,
            "loss_supervised": terms["loss"],
            "loss_kl": terms["loss"] * self.value,
        }


class Looking(pl.Callback):
    """Compares each batch with the files that it is said to be made of."""

    def __init__(self) -> None:
        self.batches = 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: Any, batch_idx: int
    ) -> None:
        data = vars(trainer)["datamodule"]  # set by fit
        by_path = {sample.image: index for index, sample in enumerate(data.source.splits["train"])}
        paths, masks = batch_images(trainer, batch), batch["mask"]
        assert len(paths) == len(masks) == 2
        for path, mask in zip(paths, masks, strict=True):
            assert mask.tolist() == data.source.read("train", by_path[path])[1].tolist()
        self.batches += 1


def parts(folder: FolderConfig, cache_dir: Path, workers: int = 0) -> tuple[Breaking, SegmentationDataModule]:
    torch.manual_seed(0)
    task = Breaking(
        nn.Conv2d(3, 3, 1),
        class_names=list(folder.classes),
        loss=lambda logits, target: nn.functional.cross_entropy(logits, target, ignore_index=255),
        optimizer=partial(torch.optim.SGD, lr=1e-2),
        schedule=schedule_config(warmup=0.0),
        role="student",
    )
    source = open_folder(folder, cache_dir)
    return task, SegmentationDataModule(source, FIT, preprocessing=folder.preprocessing, num_workers=workers)


def fit(
    folder: FolderConfig, out: Path, trainer_config: TrainerConfig, breaks: tuple[str, int, int], value: float
) -> None:
    task, data = parts(folder, out / "cache")
    task.breaks, task.value = breaks, value
    build_trainer(task, FIT, trainer_config, out, loggers=[]).fit(task, data)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_images_of_a_batch_are_those_that_it_shows(
    folder_config: FolderConfig, tmp_path: Path, workers: int
) -> None:
    task, data = parts(folder_config, tmp_path / "cache", workers)
    task.breaks, looking = ("loss", 99, 0), Looking()
    build_trainer(task, FIT, ONE, tmp_path, loggers=[], callbacks=[looking]).fit(task, data)
    assert looking.batches == 2 * 2  # five images in batches of two, twice


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_the_step_the_terms_and_the_images_are_named_and_the_checkpoints_kept(
    folder_config: FolderConfig, tmp_path: Path, value: float
) -> None:
    with pytest.raises(UserError) as caught:
        fit(folder_config, tmp_path, ONE, ("loss", 3, 0), value)
    message = str(caught.value)
    expected = f"student, step 4, batch 2 of epoch 2: train/loss is {value}, train/loss_kl is {value}; its images: "
    assert message.startswith(expected)
    assert message.count(".png") == 2
    assert f"{tmp_path / 'checkpoints'} keeps last.ckpt and best.ckpt of the epochs before" in message
    assert "a smaller learning rate, or trainer.precision=32-true" in message
    assert len(message.splitlines()) == 1
    for name in ("last.ckpt", "best.ckpt"):
        checkpoint = torch.load(tmp_path / "checkpoints" / name, weights_only=True)
        assert checkpoint["global_step"] == 2
        assert all(bool(torch.isfinite(weights).all()) for weights in checkpoint["state_dict"].values())


def test_a_run_directory_is_told_as_what_goes_on(folder_config: FolderConfig, tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    with pytest.raises(UserError, match=f"python train.py resume={tmp_path}$"):
        fit(folder_config, tmp_path, ONE, ("loss", 2, 0), float("nan"))


def test_the_first_epoch_leaves_nothing_to_go_on_from(folder_config: FolderConfig, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no checkpoint yet; start again with a smaller learning rate"):
        fit(folder_config, tmp_path, ONE, ("loss", 0, 0), float("nan"))
    assert not list(tmp_path.rglob("*.ckpt"))


def test_weights_that_the_last_step_of_an_epoch_breaks_are_not_kept(
    folder_config: FolderConfig, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"student, step 2, end of epoch 1: network.bias is not finite"):
        fit(folder_config, tmp_path, ONE, ("weights", 1, 0), float("nan"))
    assert not list(tmp_path.rglob("*.ckpt"))


SAID = r"student, step 2, batch 1 of epoch 2: train/loss is nan, .*; its images: .*png, .*png"


def fit_and_fail(*breaking: Any) -> None:
    with pytest.raises(UserError, match=SAID):
        fit(*breaking)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_two_processes_stop_at_the_same_step_and_say_the_same(
    folder_config: FolderConfig, tmp_path: Path, rank: int
) -> None:
    breaking = (folder_config, tmp_path, TWO, ("loss", 1, rank), float("nan"))
    with pytest.raises(UserError, match=SAID), launch_ranks(2, fit_and_fail, *breaking):
        fit(*breaking)
