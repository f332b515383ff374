"""What a fit is made of: learning rates, logged names, precision."""

from __future__ import annotations

import copy
import inspect
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from helpers.batches import batches
from helpers.networks import Tiny
from helpers.settings import fit_config, schedule_config, trainer_config
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from segdistill.config.trainer import CHOSEN, TrainerConfig
from segdistill.engine import trainer as fitting
from segdistill.engine.trainer import best_checkpoint, build_trainer, choose_precision
from segdistill.losses import DistillationLoss, FocalLoss, PixelwiseKL
from segdistill.metrics import SegmentationMetrics
from segdistill.models import DeepLabV3, DeepLabV3Plus, FrozenTeacher
from segdistill.tasks import DistillationTask, SegmentationTask
from segdistill.tasks.segmentation import warmup_then_polynomial
from segdistill.utils.errors import UserError


def distillation_task(kind: type[DistillationTask] = DistillationTask) -> DistillationTask:
    torch.manual_seed(0)
    loss = DistillationLoss(FocalLoss(), {"kl": PixelwiseKL(temperature=2.0)})
    return kind(
        Tiny(),
        FrozenTeacher(Tiny()),
        loss,
        class_names=["off", "on"],
        optimizer=partial(torch.optim.AdamW, lr=1e-2, weight_decay=0.1),
        schedule=schedule_config(),
    )


def loader() -> DataLoader[dict[str, Tensor]]:
    torch.manual_seed(0)
    images = torch.rand(6, 3, 16, 20)
    return batches(images, (images[:, 0] > 0.5).long(), 2)


def test_warmup_then_polynomial_by_hand() -> None:
    factor = partial(warmup_then_polynomial, steps=100, warmup=0.1, power=0.9)
    assert [factor(step) for step in (0, 9)] == pytest.approx([1 / 11, 10 / 11])
    assert factor(10) == 1.0
    assert factor(55) == pytest.approx(0.5**0.9)
    assert factor(100) == 0.0
    assert factor(101) == 0.0
    assert warmup_then_polynomial(0, steps=1, warmup=0.05, power=0.9) == 1.0


def test_backbone_learns_slower_and_only_weights_of_convolutions_decay() -> None:
    task = distillation_task()
    task.trainer = Mock(spec=pl.Trainer, estimated_stepping_batches=10)
    optimizer = task.configure_optimizers()["optimizer"]
    found = {
        name: (group["initial_lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for name, parameter in task.network.named_parameters()
        if any(parameter is member for member in group["params"])
    }
    assert found == {
        "backbone.0.weight": (pytest.approx(1e-3), 0.1),
        "backbone.0.bias": (pytest.approx(1e-3), 0.0),
        "backbone.1.weight": (pytest.approx(1e-3), 0.0),
        "backbone.1.bias": (pytest.approx(1e-3), 0.0),
        "head.weight": (pytest.approx(1e-2), 0.1),
        "head.bias": (pytest.approx(1e-2), 0.0),
    }


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[pl.Trainer, DistillationTask, dict[str, Tensor]]:
    task = distillation_task()
    teacher_before = {name: value.clone() for name, value in task.teacher.network.state_dict().items()}
    fit = fit_config(max_epochs=3, crop=[16, 20])
    folder = tmp_path_factory.mktemp("fit")
    trainer = build_trainer(task, fit, trainer_config(), folder, loggers=[])
    trainer.fit(task, loader(), loader())
    return trainer, task, teacher_before


Fitted = tuple[pl.Trainer, DistillationTask, dict[str, Tensor]]


def test_a_fit_moves_the_student_and_not_the_teacher(fitted: Fitted) -> None:
    _, task, teacher_before = fitted
    before = distillation_task().network.get_parameter("head.weight")
    assert not torch.equal(task.network.get_parameter("head.weight"), before)
    for name, value in task.teacher.network.state_dict().items():
        torch.testing.assert_close(value, teacher_before[name], rtol=0, atol=0)
    assert not task.teacher.network.training


def test_every_term_and_score_is_logged_by_its_name(fitted: Fitted) -> None:
    logged = set(fitted[0].callback_metrics)
    losses = {"train/loss", "train/loss_supervised", "train/loss_kl", "train/alpha", "val/loss"}
    scores = {f"val/{name}" for name in ("overall_acc", "mean_acc", "freqw_acc", "miou", "iou_off", "iou_on")}
    assert losses | scores <= logged


def test_the_logged_total_is_the_weighted_sum_of_the_logged_terms(fitted: Fitted) -> None:
    logged = fitted[0].callback_metrics
    expected = 0.5 * logged["train/loss_supervised"] + 0.5 * logged["train/loss_kl"]
    torch.testing.assert_close(logged["train/loss"], expected)


def test_checkpoints_hold_the_student_alone_and_load_without_running_code(fitted: Fitted) -> None:
    trainer, task, _ = fitted
    for name in ("best.ckpt", "last.ckpt"):
        checkpoint = torch.load(best_checkpoint(trainer).with_name(name), weights_only=True)
        assert set(checkpoint["state_dict"]) == {f"network.{key}" for key in task.network.state_dict()}
        assert checkpoint["class_names"] == ["off", "on"]


class Worsening(DistillationTask):
    """Its validation score falls from epoch to epoch."""

    def on_validation_epoch_end(self) -> None:
        self.val_metrics.reset()
        self.log_dict({"val/loss": 1.0, "val/miou": 1.0 / (1 + self.current_epoch)})


def test_last_is_the_last_epoch_and_best_the_best_which_is_what_the_fit_ends_with(tmp_path: Path) -> None:
    task = distillation_task(kind=Worsening)
    machine = trainer_config()
    trainer = build_trainer(task, fit_config(max_epochs=3, crop=[16, 20]), machine, tmp_path, loggers=[])
    trainer.fit(task, loader(), loader())
    saved = {
        name: torch.load(tmp_path / "checkpoints" / f"{name}.ckpt", weights_only=True) for name in ("best", "last")
    }
    assert {name: checkpoint["epoch"] for name, checkpoint in saved.items()} == {"best": 0, "last": 2}
    assert best_checkpoint(trainer) == tmp_path / "checkpoints" / "best.ckpt"
    now = task.network.get_parameter("head.weight")
    assert torch.equal(now, saved["best"]["state_dict"]["network.head.weight"])
    assert not torch.equal(now, saved["last"]["state_dict"]["network.head.weight"])
    assert not task.training


def test_a_resumed_fit_keeps_a_better_checkpoint_of_before(tmp_path: Path) -> None:
    machine = trainer_config()
    for epochs in (2, 4):
        task = distillation_task(kind=Worsening)
        trainer = build_trainer(task, fit_config(max_epochs=epochs, crop=[16, 20]), machine, tmp_path, loggers=[])
        last = tmp_path / "checkpoints" / "last.ckpt"
        trainer.fit(task, loader(), loader(), ckpt_path=last if last.is_file() else None, weights_only=True)
    assert torch.load(last, weights_only=True)["epoch"] == 3
    assert torch.load(tmp_path / "checkpoints" / "best.ckpt", weights_only=True)["epoch"] == 0


class Weights(pl.Callback):
    """The weights of one layer after every step."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def on_before_zero_grad(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer) -> None:
        self.seen.append(pl_module.get_parameter("network.head.weight").detach().clone())


def averaged_fit(folder: Path, *epochs: int) -> tuple[Tensor, list[Tensor]]:
    """A training in one or more parts: the weights that it ends with, and those that each step began with."""
    last, weights = folder / "checkpoints" / "last.ckpt", Weights()
    for part in epochs:
        task = distillation_task()
        fit, machine = fit_config(part, 2, crop=[16, 20], ema_decay=0.8), trainer_config()
        trainer = build_trainer(task, fit, machine, folder, loggers=[], callbacks=[weights])
        trainer.fit(task, loader(), loader(), ckpt_path=last if last.is_file() else None, weights_only=True)
        task.load_state_dict(torch.load(last, weights_only=True)["state_dict"])
    return task.network.get_parameter("head.weight").detach(), weights.seen


def test_ema_keeps_the_moving_average_of_the_weights(tmp_path: Path) -> None:
    kept, seen = averaged_fit(tmp_path, 2)
    last = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["current_model_state"]
    steps = [*seen[1:], last["network.head.weight"]]  # after each of the 6 steps
    assert len(steps) == 6
    expected = steps[0]
    for step in steps[1:]:
        expected = 0.8 * expected + 0.2 * step
    torch.testing.assert_close(kept, expected)


def test_ema_goes_on_where_an_interrupted_fit_left_it(tmp_path: Path) -> None:
    class Stop(pl.Callback):
        def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            if trainer.current_epoch == 1:
                raise KeyboardInterrupt

    whole, _ = averaged_fit(tmp_path / "whole", 2)
    task, fit, machine = distillation_task(), fit_config(2, 2, crop=[16, 20], ema_decay=0.8), trainer_config()
    trainer = build_trainer(task, fit, machine, tmp_path / "parts", loggers=[], callbacks=[Stop()])
    with pytest.raises(SystemExit):
        trainer.fit(task, loader(), loader())
    parts, _ = averaged_fit(tmp_path / "parts", 2)
    torch.testing.assert_close(parts, whole)


def test_without_distillation_losses_the_labels_teach_and_the_teacher_is_scored_beside(tmp_path: Path) -> None:
    fit, machine = fit_config(2, 2, crop=[16, 20]), trainer_config()
    student, teacher = Tiny(), FrozenTeacher(Tiny())
    copied = copy.deepcopy(student)
    options: dict[str, Any] = {"class_names": ["off", "on"], "schedule": schedule_config()}
    beside = DistillationTask(student, teacher, DistillationLoss(FocalLoss(), {}), **options)
    alone = SegmentationTask(copied, loss=FocalLoss(), **options)
    teacher.network.register_forward_hook(asked := Mock(return_value=None))
    trainer = build_trainer(beside, fit, machine, tmp_path / "beside", loggers=[])
    trainer.fit(beside, loader(), loader())
    asked.assert_not_called()
    assert "train/loss" in trainer.callback_metrics
    assert "train/alpha" not in trainer.callback_metrics
    build_trainer(alone, fit, machine, tmp_path / "alone", loggers=[]).fit(alone, loader(), loader())
    torch.testing.assert_close(dict(beside.network.state_dict()), dict(alone.network.state_dict()), rtol=0, atol=0)
    (tested,) = trainer.test(beside, loader(), verbose=False)
    assert {"test/miou", "test/teacher_miou"} <= set(tested)


@torch.no_grad()
def test_a_crop_of_no_whole_cells_gives_the_losses_of_the_same_crop_in_void() -> None:
    torch.manual_seed(0)
    student, teacher = DeepLabV3(2, pretrained=False), FrozenTeacher(DeepLabV3Plus(2, pretrained=False))
    loss = DistillationLoss(FocalLoss(), {"kl": PixelwiseKL(temperature=2.0)})
    task = DistillationTask(student, teacher, loss, class_names=["off", "on"]).eval()
    assert task.cell_multiple == 16
    image, mask = torch.rand(2, 3, 40, 52), torch.randint(0, 2, (2, 40, 52))
    padded = {
        "image": F.pad(image, (0, 12, 0, 8), mode="replicate"),
        "mask": F.pad(mask, (0, 12, 0, 8), value=255),
    }
    for name, value in task.compute_losses({"image": image, "mask": mask}).items():
        torch.testing.assert_close(value, task.compute_losses(padded)[name])


def test_every_epoch_is_kept_also_where_it_is_not_validated(tmp_path: Path) -> None:
    machine = trainer_config(check_val_every_n_epoch=3)
    trainer = build_trainer(distillation_task(), fit_config(5, 2, crop=[16, 20]), machine, tmp_path, loggers=[])
    trainer.fit(trained := distillation_task(), loader(), loader())
    saved = [torch.load(tmp_path / "checkpoints" / f"{n}.ckpt", weights_only=True) for n in ("best", "last")]
    assert [checkpoint["epoch"] for checkpoint in saved] == [2, 4]
    assert torch.equal(trained.network.get_parameter("head.weight"), saved[0]["state_dict"]["network.head.weight"])


@pytest.mark.parametrize(
    ("setting", "cpu_bf16", "expected"),
    [("auto", True, "bf16-mixed"), ("auto", False, "32-true"), ("32-true", True, "32-true")],
)
def test_precision_follows_the_processor_unless_it_is_set(
    setting: str, cpu_bf16: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "cpu_multiplies_bf16", lambda: cpu_bf16)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_precision(trainer_config("auto", setting)) == expected


@pytest.mark.parametrize(("gpu_bf16", "expected"), [(True, "bf16-mixed"), (False, "16-mixed")])
def test_precision_follows_the_gpu_where_there_is_one(
    gpu_bf16: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: gpu_bf16)
    assert choose_precision(trainer_config("auto", "auto")) == expected


def test_a_single_image_trains(tmp_path: Path) -> None:
    task = distillation_task()
    single = batches(torch.rand(1, 3, 17, 19), torch.full((1, 17, 19), 255), 1)
    machine = trainer_config()
    trainer = build_trainer(task, fit_config(max_epochs=1, crop=[17, 19]), machine, tmp_path, loggers=[])
    trainer.fit(task, single, single)
    assert all(bool(torch.isfinite(parameter).all()) for parameter in task.parameters())


def test_the_test_scores_the_teacher_beside_the_student(tmp_path: Path) -> None:
    task = distillation_task()
    trainer = build_trainer(task, fit_config(1, 2, crop=[16, 16]), trainer_config(), tmp_path, loggers=[])
    (scores,) = trainer.test(task, loader(), verbose=False)
    for prefix, network in (("test/", task.network), ("test/teacher_", task.teacher.network)):
        metrics = SegmentationMetrics(2)
        for batch in loader():
            metrics.update(network.eval()(batch["image"]).detach(), batch["mask"])
        expected = metrics.compute()
        assert scores[f"{prefix}miou"] == pytest.approx(float(expected["miou"]))
        assert scores[f"{prefix}iou_on"] == pytest.approx(float(expected["class_iou"][1]))
    assert scores["test/miou"] != scores["test/teacher_miou"]
    assert not [name for name in task.state_dict() if "teacher" in name]


def test_a_checkpoint_gives_a_working_network_without_its_teacher(tmp_path: Path) -> None:
    spec = {"_target_": "segdistill.models.DeepLabV3", "backbone": "efficientnet_lite0", "pretrained": True}
    student = DeepLabV3(2, pretrained=False)
    loss = DistillationLoss(FocalLoss(), {"kl": PixelwiseKL(temperature=2.0)})
    task = DistillationTask(student, FrozenTeacher(Tiny()), loss, class_names=["off", "on"], network_config=spec)
    trainer = pl.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", default_root_dir=tmp_path)
    trainer.strategy.connect(task)
    task.trainer = trainer
    trainer.save_checkpoint(tmp_path / "student.ckpt")
    loaded = DistillationTask.load_from_checkpoint(tmp_path / "student.ckpt")
    assert (loaded.class_names, loaded.role, loaded.training) == (["off", "on"], "student", False)
    image = torch.rand(2, 3, 33, 47)
    with torch.no_grad():
        expected = student.eval()(image)
        torch.testing.assert_close(loaded(image), expected)
        mask = loaded.predict_step({"image": image}, 0)
    assert mask.dtype == torch.uint8
    assert torch.equal(mask, expected.argmax(dim=1))


def test_a_checkpoint_that_does_not_tell_its_network_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "bare.ckpt")
    with pytest.raises(UserError, match="does not tell its network"):
        SegmentationTask.load_from_checkpoint(tmp_path / "bare.ckpt")


OWNED = {
    "strategy": "chosen from devices",
    "logger": "the group logger",
    "callbacks": "the group callbacks",
    "max_epochs": "student.fit.max_epochs",
    "min_epochs": "a fit has one budget",
    "min_steps": "a fit has one budget",
    "default_root_dir": "hydra.run.dir",
    "enable_checkpointing": "always",
    "enable_progress_bar": "where there is a terminal",
    "plugins": "chosen from devices",
    "use_distributed_sampler": "the datamodule has its own",
    "reload_dataloaders_every_n_epochs": "the datamodule's loaders last",
    "fast_dev_run": "debug=fast",
    "overfit_batches": "debug=overfit",
    "limit_predict_batches": "a run does not predict through the trainer",
    "barebones": "a run logs and keeps checkpoints",
    "enable_autolog_hparams": "the loggers get the configuration",
    "model_registry": "there is none",
    "sync_batchnorm": "it would replace timm's BatchNorms by ones without their activations",
}
"""Arguments of pl.Trainer that are not keys of `trainer`, and what decides them."""


def test_every_argument_of_the_trainer_is_open_or_has_its_owner() -> None:
    arguments = set(inspect.signature(pl.Trainer.__init__).parameters) - {"self"}
    typed = {"accelerator", "devices", "num_nodes", "precision", "profiler"}
    lightning = {field.name for field in fields(TrainerConfig)} - set(CHOSEN)
    assert arguments == lightning | set(OWNED) | typed
    assert typed <= set(CHOSEN)


def test_arguments_reach_the_trainer_and_those_that_are_not_set_stay_lightnings(tmp_path: Path) -> None:
    given = trainer_config(gradient_clip_val=0.5, accumulate_grad_batches=3, limit_val_batches=0.5)
    trainer = build_trainer(distillation_task(), fit_config(1, 2, crop=[16, 16]), given, tmp_path, loggers=[])
    assert (trainer.gradient_clip_val, trainer.accumulate_grad_batches, trainer.limit_val_batches) == (0.5, 3, 0.5)
    assert (trainer.limit_train_batches, trainer.max_steps, trainer.check_val_every_n_epoch) == (1.0, -1, 1)
