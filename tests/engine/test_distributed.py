"""Two processes train one network, and validate it as one process would."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event

import pytest
import torch
from helpers.networks import Tiny
from helpers.settings import fit_config, schedule_config, trainer_config

from segdistill.config.data import FolderConfig
from segdistill.data.datamodule import SegmentationDataModule
from segdistill.data.sources.folder import open_folder
from segdistill.engine import distributed as processes
from segdistill.engine.distributed import is_externally_launched, is_rank_zero, launch_ranks
from segdistill.engine.trainer import broadcast_from_rank_zero, build_trainer
from segdistill.losses import FocalLoss
from segdistill.tasks import SegmentationTask
from segdistill.utils.errors import UserError

TWO = trainer_config(devices=2)
FIT = fit_config(max_epochs=2, batch_size=1, crop=[24, 32])


def parts(folder: FolderConfig, cache_dir: Path) -> tuple[SegmentationTask, SegmentationDataModule]:
    torch.manual_seed(0)
    network = Tiny()
    network.head = torch.nn.Conv2d(4, 3, 1)
    task = SegmentationTask(
        network,
        class_names=list(folder.classes),
        loss=FocalLoss(),
        optimizer=partial(torch.optim.AdamW, lr=1e-2),
        schedule=schedule_config(),
        role="student",
    )
    source = open_folder(folder, cache_dir)
    steps, batch = folder.preprocessing, folder.eval_batch_size
    return task, SegmentationDataModule(source, FIT, preprocessing=steps, eval_batch_size=batch, num_workers=0)


def fit(folder: FolderConfig, out: Path) -> dict[str, float]:
    task, data = parts(folder, out / "cache")
    trainer = build_trainer(task, FIT, TWO, out, loggers=[])
    trainer.fit(task, data)
    return {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}


@pytest.mark.slow
@pytest.mark.parametrize("eval_batch_size", [1, 2])
def test_two_processes_validate_like_one_also_where_the_set_does_not_divide_evenly(
    folder_config: FolderConfig, tmp_path: Path, eval_batch_size: int
) -> None:
    folder = replace(folder_config, eval_batch_size=eval_batch_size)  # 3 images: 2 and 1 for each
    with launch_ranks(2, fit, folder, tmp_path):
        together = fit(folder, tmp_path)
    assert not {"LOCAL_RANK", "MASTER_PORT"} & os.environ.keys()
    task, data = parts(folder, tmp_path / "cache")
    task.load_state_dict(torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"])
    alone = build_trainer(task, FIT, replace(TWO, devices=1), tmp_path / "alone", loggers=[])
    (scores,) = alone.validate(task, data, verbose=False)
    assert {"val/loss", "val/miou", "val/iou_car"} <= scores.keys() == together.keys()
    assert together == pytest.approx(scores, abs=1e-6)
    assert len({parameter.sum().item() for parameter in task.parameters()}) > 1


def say(path: Path) -> None:
    if not is_rank_zero():
        path.write_text(json.dumps(broadcast_from_rank_zero(TWO, "second")))


@pytest.mark.slow
def test_broadcast_returns_rank_zero_value(tmp_path: Path) -> None:
    with launch_ranks(2, say, tmp_path / "heard"):
        assert broadcast_from_rank_zero(TWO, "first") == "first"
    assert json.loads((tmp_path / "heard").read_text()) == "first"
    assert broadcast_from_rank_zero(replace(TWO, devices=1), "alone") == "alone"


def stay(path: Path) -> None:
    path.touch()
    while True:
        pass


@pytest.mark.slow
def test_a_failure_of_rank_zero_ends_the_other_ranks(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="mine"), launch_ranks(2, stay, tmp_path / "there"):  # noqa: PT012 # waits
        while not (tmp_path / "there").exists():
            pass
        raise RuntimeError("mine")
    assert "LOCAL_RANK" not in os.environ


def fail() -> None:
    raise SystemExit(3)


@pytest.mark.slow
def test_a_failed_rank_ends_rank_zero(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    ended = Event()
    monkeypatch.setattr(processes, "GRACE_S", 0)
    monkeypatch.setattr(os, "_exit", lambda code: ended.set())
    with launch_ranks(2, fail):
        assert ended.wait(60)
    assert "another process of this training ended with code 3" in caplog.text


def test_torchrun_and_slurm_start_every_process_themselves() -> None:
    assert is_externally_launched({"TORCHELASTIC_RUN_ID": "1"})
    assert is_externally_launched({"SLURM_STEP_NUM_TASKS": "2"})
    assert not is_externally_launched({"SLURM_NTASKS": "2"})  # allocated, but not started by srun


def test_fewer_images_than_processes_are_refused(folder_config: FolderConfig, cache_dir: Path) -> None:
    _, data = parts(folder_config, cache_dir)
    data.trainer = type("Three", (), {"global_rank": 0, "world_size": 4})()
    with pytest.raises(UserError, match="val: 3 images are too few for 4 processes"):
        data.val_dataloader()
