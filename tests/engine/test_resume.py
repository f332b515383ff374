"""A training that goes on: extended, changed, moved, copied, interrupted."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from helpers.networks import Tiny
from helpers.settings import fit_config, trainer_config
from pytorch_lightning.loggers import CSVLogger
from torch import Tensor, nn

from segdistill.config.data import FolderConfig
from segdistill.config.model import ScheduleConfig
from segdistill.data.datamodule import Batch, SegmentationDataModule
from segdistill.data.sources.folder import open_folder
from segdistill.engine.resume import resume_checkpoint
from segdistill.engine.trainer import best_checkpoint, build_trainer
from segdistill.losses import FocalLoss
from segdistill.tasks import SegmentationTask
from segdistill.tasks.segmentation import OptimizerFactory
from segdistill.utils.errors import ConfigError
from segdistill.utils.preprocessing import Preprocessing

CPU = trainer_config()
ADAMW = "torch.optim.adamw.AdamW"
USUAL = partial(torch.optim.AdamW, lr=1e-2)
STEPS = 5  # of an epoch
Fit = Callable[..., tuple[pl.Trainer, SegmentationTask]]


class Dropping(Tiny):
    """Draws random numbers in the process that trains."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(4, 3, 1)
        self.dropout = nn.Dropout(0.5)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.head(self.dropout(self.backbone(image)))
        return logits


@pytest.fixture
def fit(folder_config: FolderConfig, cache_dir: Path) -> Fit:
    source = open_folder(folder_config, cache_dir)

    def fitted(
        folder: Path,
        epochs: int,
        optimizer: OptimizerFactory = USUAL,
        schedule: ScheduleConfig | None = None,
    ) -> tuple[pl.Trainer, SegmentationTask]:
        torch.manual_seed(0)
        task = SegmentationTask(
            Dropping(),
            class_names=["background", "car", "lane"],
            loss=FocalLoss(),
            optimizer=optimizer,
            schedule=schedule or ScheduleConfig(warmup=0.0, power=1.0, backbone_lr_scale=0.1),
            role="student",
        )
        settings = fit_config(max_epochs=epochs, batch_size=1, crop=[16, 20])
        data = SegmentationDataModule(source, settings, preprocessing=Preprocessing((24, 36)), num_workers=0, seed=7)
        loggers = [CSVLogger(folder, name="csv")]
        trainer = build_trainer(task, settings, CPU, folder, loggers=loggers, seed=7)
        last = folder / "checkpoints" / "last.ckpt"
        trainer.fit(task, data, ckpt_path=last if last.is_file() else None, weights_only=True)
        return trainer, task

    return fitted


def saved(folder: Path, name: str) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = torch.load(folder / "checkpoints" / name, weights_only=True)["state_dict"]
    return weights


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def logged_rates(folder: Path, version: int, group: str) -> list[float]:
    lines = (folder / "csv" / f"version_{version}" / "metrics.csv").read_text().splitlines()
    column = lines[0].split(",").index(f"lr/{group}")
    return [float(line.split(",")[column]) for line in lines[1:] if line.split(",")[column]]


def test_a_longer_budget_trains_at_the_rates_of_its_own_schedule(fit: Fit, tmp_path: Path) -> None:
    fit(tmp_path, 2)
    before = saved(tmp_path, "last.ckpt")
    fit(tmp_path, 4)
    assert logged_rates(tmp_path, 0, "head") == pytest.approx([1e-2 * (1 - s / 10) for s in range(10)], rel=1e-5)
    expected = [1e-2 * (1 - s / 20) for s in range(10, 20)]
    assert logged_rates(tmp_path, 1, "head") == pytest.approx(expected, rel=1e-5)
    assert logged_rates(tmp_path, 1, "backbone_undecayed") == pytest.approx([r / 10 for r in expected], rel=1e-5)
    assert not same(saved(tmp_path, "last.ckpt"), before)


def test_settings_that_are_given_again_win_over_the_checkpoints(fit: Fit, tmp_path: Path) -> None:
    fit(tmp_path, 1)
    changed = partial(torch.optim.AdamW, lr=1e-3, betas=(0.5, 0.9), weight_decay=0.3)
    trainer, _ = fit(tmp_path, 2, changed, ScheduleConfig(warmup=0.0, power=2.0, backbone_lr_scale=1.0))
    expected = [1e-3 * (1 - s / 10) ** 2 for s in range(5, 10)]
    for group in ("head", "backbone"):
        assert logged_rates(tmp_path, 1, group) == pytest.approx(expected, rel=1e-5)
    groups = {group["name"]: group for group in trainer.optimizers[0].param_groups}
    assert groups["head"]["betas"] == (0.5, 0.9)
    assert (groups["head"]["weight_decay"], groups["head_undecayed"]["weight_decay"]) == (0.3, 0.0)
    assert trainer.optimizers[0].state[groups["head"]["params"][0]]["step"] == 2 * STEPS  # its moments went on


def test_an_interrupted_training_ends_as_the_uninterrupted_one(
    fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(tmp_path / "whole", 3)
    step = SegmentationTask.training_step

    def killed(task: SegmentationTask, batch: Batch, batch_idx: int) -> Tensor:
        if task.current_epoch == 1 and batch_idx == 2:
            raise RuntimeError("killed")
        return step(task, batch, batch_idx)

    monkeypatch.setattr(SegmentationTask, "training_step", killed)
    with pytest.raises(RuntimeError, match="killed"):
        fit(tmp_path / "broken", 3)
    monkeypatch.setattr(SegmentationTask, "training_step", step)
    torch.rand(11)
    fit(tmp_path / "broken", 3)
    for name in ("last.ckpt", "best.ckpt"):
        assert same(saved(tmp_path / "whole", name), saved(tmp_path / "broken", name))


@pytest.mark.parametrize("moved", [True, False], ids=["moved", "copied"])
def test_a_run_in_another_place_keeps_its_own_best_checkpoint_and_score(fit: Fit, tmp_path: Path, moved: bool) -> None:
    first, _ = fit(tmp_path / "here", 2)
    score = first.checkpoint_callbacks[0].best_model_score  # type: ignore[attr-defined] # a ModelCheckpoint
    there = tmp_path / "elsewhere" / "there"
    there.parent.mkdir()
    if moved:
        shutil.move(tmp_path / "here", there)
    else:
        shutil.copytree(tmp_path / "here", there)
        for name in ("best.ckpt", "last.ckpt"):  # what the original does afterwards is no concern of the copy
            (tmp_path / "here" / "checkpoints" / name).write_bytes(b"another run's")
    again, task = fit(there, 2)
    assert best_checkpoint(again) == there / "checkpoints" / "best.ckpt"
    assert again.checkpoint_callbacks[0].best_model_score == score  # type: ignore[attr-defined]
    assert same(dict(task.state_dict()), saved(there, "best.ckpt"))


def test_a_best_checkpoint_that_is_missing_is_named_and_chosen_anew(
    fit: Fit, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fit(tmp_path, 1)
    (tmp_path / "checkpoints" / "best.ckpt").unlink()
    with caplog.at_level(logging.WARNING):
        trainer, _ = fit(tmp_path, 2)
    assert f"{tmp_path / 'checkpoints' / 'best.ckpt'}: is missing" in caplog.text
    assert best_checkpoint(trainer).is_file()


def run_with(folder: Path, **changes: object) -> Path:
    state = {"state_dict": {}, "optimizer_states": [], "loops": {}, "epoch": 2, "optimizer": ADAMW}
    content = {key: value for key, value in (state | changes).items() if value is not None}
    (folder / ".hydra").mkdir(parents=True)
    (folder / "checkpoints").mkdir()
    torch.save(content, folder / "checkpoints" / "last.ckpt")
    return folder


def test_a_finished_run_may_be_resumed_to_be_measured_anew(tmp_path: Path) -> None:
    run = run_with(tmp_path / "run")
    assert resume_checkpoint(str(run), fit_config(3, crop=[16, 16]), ADAMW) == run / "checkpoints" / "last.ckpt"


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"epoch": 3}, "has 4 epochs behind it, max_epochs=3 is less; raise it"),
        ({"optimizer": "torch.optim.sgd.SGD"}, "was trained by torch.optim.sgd.SGD: keep the optimizer"),
        ({"optimizer": None}, "was written by an older version of segdistill; start a new run"),
        ({"loops": None}, "holds weights without the state of their training"),
    ],
)
def test_a_checkpoint_that_cannot_go_on_is_refused_in_one_line(
    tmp_path: Path, changes: dict[str, object], complaint: str
) -> None:
    run = run_with(tmp_path / "run", **changes)
    with pytest.raises(ConfigError, match=complaint) as caught:
        resume_checkpoint(str(run), fit_config(3, crop=[16, 16]), ADAMW)
    assert str(caught.value).startswith(f"resume={run / 'checkpoints' / 'last.ckpt'}: ")


def test_a_folder_that_is_no_run_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no run directory"):
        resume_checkpoint(str(tmp_path), fit_config(3, crop=[16, 16]), ADAMW)


def test_averaged_weights_are_not_taken_for_plain_ones(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    state: dict[str, object] = {"state_dict": {}, "optimizer_states": [], "loops": {}, "averaging_state": {}}
    torch.save(state | {"epoch": 0, "optimizer": ADAMW}, path)
    with pytest.raises(ConfigError, match=r"was trained with fit\.ema_decay"):
        resume_checkpoint(str(path), fit_config(3, crop=[16, 16]), ADAMW)
    assert resume_checkpoint(str(path), fit_config(3, crop=[16, 16], ema_decay=0.9), ADAMW) == path
