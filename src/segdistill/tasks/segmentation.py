"""SegmentationTask: train a network on labels, either a teacher or a student without one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MeanMetric

from segdistill.config.data import IGNORE_INDEX
from segdistill.config.locate import build
from segdistill.config.model import ScheduleConfig
from segdistill.data.datamodule import Batch
from segdistill.losses import cross_entropy
from segdistill.losses.base import SupervisedLoss
from segdistill.metrics import SegmentationMetrics
from segdistill.models.adapters import without_pretrained
from segdistill.models.frozen_teacher import load_checkpoint, load_network
from segdistill.tasks.tiled_eval import eval_parts, predict_ids
from segdistill.utils.errors import UserError
from segdistill.utils.tiles import Tiling

Role = Literal["teacher", "student"]
OptimizerFactory = Callable[[Iterable[dict[str, Any]]], Optimizer]


class SegmentationTask(pl.LightningModule):
    """LightningModule that trains a network on labels.

    Args:
        network: Network with `forward(image float32 [B, 3, H, W] in [0, 1]) -> logits [B, C, H, W]`.
        class_names: Names of the C classes; saved in every checkpoint.
        loss: Supervised loss, `(logits, target int64 [B, H, W]) -> scalar`.
        optimizer: Function from parameter groups to an optimizer, for example a partial of `torch.optim.AdamW`.
        schedule: Warm-up, decay, and learning-rate scale of the backbone; None decays one rate linearly.
        role: Role of the network in the run; names its result rows and files.
        channels_last: Whether network and images use the channels-last memory format.
        network_config: Mapping with a `_target_` from which `network` was built; saved in every checkpoint, so that
            `load_from_checkpoint` can build it again.
        tiling: Tiles in which evaluation cuts images; None evaluates whole ones.

    Example:
        >>> task = SegmentationTask.load_from_checkpoint("runs/x/checkpoints/best.ckpt")  # doctest: +SKIP
        >>> logits = task(image)  # doctest: +SKIP
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        class_names: Sequence[str],
        loss: SupervisedLoss = cross_entropy,
        optimizer: OptimizerFactory = partial(torch.optim.AdamW, lr=1e-3),  # noqa: B008 # a partial does not change
        schedule: ScheduleConfig | None = None,
        role: Role = "student",
        channels_last: bool = True,
        network_config: Mapping[str, Any] | None = None,
        tiling: Tiling | None = None,
    ) -> None:
        super().__init__()
        self.tiling = tiling
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.network = network.to(memory_format=self.memory_format)
        self.class_names, self.role = list(class_names), role
        self.supervised_loss, self.optimizer_factory = loss, optimizer
        self.schedule = schedule or ScheduleConfig(warmup=0.0, power=1.0, backbone_lr_scale=1.0)
        self.save_hyperparameters(
            {
                "network_config": None if network_config is None else dict(network_config),
                "class_names": self.class_names,
                "role": role,
                "channels_last": channels_last,
            },
            logger=False,
        )
        self.val_loss = MeanMetric()  # nan_strategy="disable" would drop the weights as well
        self.val_metrics = SegmentationMetrics(len(class_names))
        self.test_metrics = SegmentationMetrics(len(class_names))
        self.confusions: dict[str, Tensor] = {}  # of the last validation and test, by metric prefix

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Path | str, **_: Any) -> SegmentationTask:  # type: ignore[override]
        """Rebuild a task and its network from a checkpoint, on the CPU and in eval mode; the teacher is not needed.

        Args:
            checkpoint_path: Path of a run's `best.ckpt` or `last.ckpt`; no code in it is executed.

        Raises:
            UserError: If the file cannot be read, or does not contain the configuration of its network.
        """
        path = Path(checkpoint_path)
        known = load_checkpoint(path).get("hyper_parameters", {})
        spec = known.get("network_config")
        if spec is None:
            raise UserError(f"{path}: does not tell its network; build it, and load its state_dict")
        spec = spec | without_pretrained(spec)
        network = build("network", spec, num_classes=len(known["class_names"]), _convert_="all")
        load_network(network, path, known["class_names"])
        task = SegmentationTask(network, **known)
        return task.eval()

    @property
    def networks(self) -> dict[str, nn.Module]:
        """Networks that the run exports, times and visualises, by role."""
        return {self.role: self.network}

    def forward(self, image: Tensor) -> Tensor:
        """Compute the network's logits [B, C, H, W]."""
        logits: Tensor = self.network(self.to_memory_format(image))
        return logits

    def to_memory_format(self, image: Tensor) -> Tensor:
        """Convert images to the memory format of the network."""
        return image.contiguous(memory_format=self.memory_format)

    def compute_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the named losses of one training step; `loss` is the one to minimise."""
        supervised = self.supervised_loss(self(batch["image"]), batch["mask"])
        return {"loss": supervised, "loss_supervised": supervised}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Log every loss of a batch, and return the one to minimise."""
        terms = self.compute_losses(batch)
        for name, value in terms.items():
            self.log(f"train/{name}", value.detach(), prog_bar=name == "loss")
        return terms["loss"]

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Update the metrics and the mean of the supervised loss."""
        for image, target in eval_parts(batch, self.tiling):
            logits = self(image)
            self.val_metrics.update(logits, target)
            # The loss is a mean over these pixels; weighted by their number, its mean depends on no batch size.
            counted = (target != IGNORE_INDEX).sum()
            self.val_loss.update(self.supervised_loss(logits, target), counted)

    def on_validation_epoch_end(self) -> None:
        """Log `val/loss`, the mean over all pixels that are not void, and `val/miou` and related metrics."""
        self.log("val/loss", self.val_loss.compute(), sync_dist=True)
        self.val_loss.reset()
        self.log_scores("val/", self.val_metrics)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Update the metrics."""
        for image, target in eval_parts(batch, self.tiling):
            self.test_metrics.update(self(image), target)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Predict class ids, uint8 [B, H, W]."""
        return predict_ids(self, batch["image"], self.tiling)

    def on_test_epoch_end(self) -> None:
        """Log `test/miou` and related metrics."""
        self.log_scores("test/", self.test_metrics)

    def log_scores(self, prefix: str, metrics: SegmentationMetrics) -> None:
        """Log all metrics under names that begin with `prefix`, and reset them.

        The confusion matrix stays in `confusions` for callbacks that run afterwards.
        """
        values = metrics.compute()
        metrics.reset()
        class_iou, confusion = values.pop("class_iou"), values.pop("confusion").cpu()
        self.confusions[prefix] = confusion
        values["classes_predicted"] = (confusion.sum(dim=0) > 0).sum()
        per_class = {f"iou_{name}": value for name, value in zip(self.class_names, class_iou, strict=True)}
        for name, value in {**values, **per_class}.items():
            self.log(f"{prefix}{name}", value.float(), prog_bar=name == "miou", sync_dist=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save what is checked when the checkpoint is used: the class names and the class of the optimizer."""
        checkpoint["class_names"] = self.class_names
        if self.trainer.optimizers:
            checkpoint["optimizer"] = optimizer_name(self.trainer.optimizers[0])

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Build an optimizer with two learning rates, and a per-step schedule: linear warm-up, polynomial decay."""
        optimizer = self.optimizer_factory(_parameter_groups(self, getattr(self.network, "backbone", None)))
        for group in optimizer.param_groups:
            group["lr"] *= self.schedule.backbone_lr_scale if group["part"] == "backbone" else 1.0
        self._settings = [{key: group[key] for key in group if key != "params"} for group in optimizer.param_groups]
        steps = int(self.trainer.estimated_stepping_batches)
        factor = partial(warmup_then_polynomial, steps=steps, warmup=self.schedule.warmup, power=self.schedule.power)
        schedule = LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step", "name": "lr"}}

    def on_train_start(self) -> None:
        """Replace optimizer settings and schedule restored from a resumed checkpoint by the configured ones."""
        schedule = self.trainer.lr_scheduler_configs[0].scheduler
        assert isinstance(schedule, LambdaLR)
        schedule.base_lrs = [settings["lr"] for settings in self._settings]
        for group, settings, factor in zip(
            schedule.optimizer.param_groups, self._settings, schedule.lr_lambdas, strict=True
        ):
            rates = {"initial_lr": settings["lr"], "lr": settings["lr"] * factor(schedule.last_epoch)}
            group.update(settings | rates)


def optimizer_name(optimizer: Optimizer) -> str:
    """Return the dotted name of an optimizer's class."""
    return f"{type(optimizer).__module__}.{type(optimizer).__qualname__}"


def warmup_then_polynomial(step: int, *, steps: int, warmup: float, power: float) -> float:
    """Compute the learning-rate factor at a step: linear warm-up, then (1 - progress)^power.

    torch's LinearLR and PolynomialLR update the rate step by step: resumed with a longer budget, they would continue
    from the end of the old schedule.

    Args:
        step: Index of the step, from 0.
        steps: Number of steps of the whole training.
        warmup: Share of the steps used for warm-up.
        power: Exponent of the polynomial decay.

    Returns:
        The factor, above 0 at the first step and 0 after the last.
    """
    warmup_steps = round(warmup * steps)
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    remaining = (steps - step) / max(1, steps - warmup_steps)
    return float(max(0.0, remaining) ** power)


def _parameter_groups(task: nn.Module, backbone: nn.Module | None) -> list[dict[str, Any]]:
    """Group parameters by backbone and rest; biases and normalisation parameters get no weight decay."""
    pretrained = {id(parameter) for parameter in backbone.parameters()} if backbone is not None else set()
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for parameter in task.parameters():
        part = "backbone" if id(parameter) in pretrained else "head"
        groups.setdefault((part, parameter.ndim > 1), []).append(parameter)
    return [
        {"params": parameters, "part": part, "name": part if decayed else f"{part}_undecayed"}
        | ({} if decayed else {"weight_decay": 0.0})
        for (part, decayed), parameters in groups.items()
    ]
