"""What a configuration names, as objects: data, optimizer, task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from torch import nn

from segdistill.config.data import FolderConfig, RoadScenesConfig
from segdistill.config.locate import build
from segdistill.config.schema import Config, require_batch
from segdistill.data.datamodule import SegmentationDataModule, default_workers
from segdistill.data.labels import ROAD_SCENES, LabelSet, label_set
from segdistill.data.sources.base import DatasetIndex
from segdistill.data.sources.folder import open_folder
from segdistill.data.sources.roadscenes import open_scenes
from segdistill.engine.logit_cache import LogitCache
from segdistill.losses import DistillationLoss, FeatureLoss, LogitLoss
from segdistill.losses.base import NeedsClassPixels, SupervisedLoss
from segdistill.models.feature_hooks import feature_channels
from segdistill.models.frozen_teacher import FrozenTeacher
from segdistill.tasks import DistillationTask, SegmentationTask
from segdistill.tasks.segmentation import OptimizerFactory, Role
from segdistill.utils.errors import ConfigError, first_line

MIN_CACHED_EPOCHS = 3


def label_set_of(config: Config) -> LabelSet:
    """Returns the classes, which the configuration tells before any data is opened."""
    if isinstance(config.data, FolderConfig):
        return label_set(tuple(config.data.classes), config.data.palette)
    return ROAD_SCENES


def open_source(config: Config) -> DatasetIndex:
    """Opens and checks the data.

    Raises:
        UserError: If a file is at fault.
    """
    cache_dir, data = Path(config.cache_dir), config.data
    if isinstance(data, RoadScenesConfig):
        source = open_scenes(data, cache_dir)
    elif isinstance(data, FolderConfig):
        source = open_folder(data, cache_dir)
    else:
        raise TypeError(f"no data source for {type(data).__name__}")
    source = source.overfitting() if data.overfit else source
    return source if data.limit is None else source.limited(data.limit)


def datamodule(config: Config, source: DatasetIndex, role: Role) -> SegmentationDataModule:
    """Make batches of a source for the training of a role's network.

    Raises:
        ConfigError: If a batch is larger than the training split.
    """
    data, part = config.data, config.teacher if role == "teacher" else config.student
    require_batch(f"{role}.fit", part.fit, len(source.splits["train"]), config.trainer)
    workers = default_workers(config.trainer.devices) if data.num_workers is None else data.num_workers
    return SegmentationDataModule(
        source,
        part.fit,
        input_size=data.input_size,
        eval_batch_size=data.eval_batch_size,
        num_workers=workers,
        seed=config.teacher.seed if role == "teacher" else config.seed,
    )


def logit_cache(config: Config) -> LogitCache | None:
    """Return where the teacher's logits are kept, or None where it runs at every step.

    "auto" is memory for one process that reads logits alone, and more often than the first computation would pay for.
    """
    place, trainer = config.distill.teacher_cache, config.trainer
    if place == "auto":
        reads_features = any("teacher_layer" in spec for spec in config.distill.losses.values())
        processes, epochs = trainer.devices * trainer.num_nodes, config.student.fit.max_epochs
        pays = epochs >= MIN_CACHED_EPOCHS and processes == 1 and not reads_features
        return LogitCache("memory", Path(config.cache_dir), required=False) if pays else None
    return None if place == "none" else LogitCache(place, Path(config.cache_dir))


def optimizer_factory(config: Config, role: Role) -> OptimizerFactory:
    """Return a role's optimizer as a function of its parameters, after trying it on one of them.

    Raises:
        ConfigError: If it refuses its settings.
    """
    key, settings = "teacher.training.optimizer" if role == "teacher" else "optimizer", config.training(role).optimizer
    factory: OptimizerFactory = build(key, settings, _partial_=True)
    try:
        factory([{"params": [nn.Parameter(torch.zeros(1))]}])
    except (TypeError, ValueError) as error:
        raise ConfigError(key, settings, str(error)) from error
    return factory


def segmentation_task(
    config: Config, role: Role, network: nn.Module, loss: SupervisedLoss, source: DatasetIndex
) -> SegmentationTask:
    """Build the task that learns from labels alone."""
    _measure(loss, source)
    return SegmentationTask(network, loss=loss, role=role, **_options(config, role, source.labels))


def distillation_task(
    config: Config, student: nn.Module, teacher: nn.Module, loss: DistillationLoss, source: DatasetIndex
) -> DistillationTask:
    """Build the task that learns from a teacher, too."""
    _measure(loss.supervised, source)
    frozen = FrozenTeacher(teacher, [each.teacher_layer for each in loss.feature_losses])
    return DistillationTask(student, frozen, loss, **_options(config, "student", source.labels))


def supervised_loss(config: Config, role: Role) -> nn.Module:
    """Build a role's loss against the labels.

    Raises:
        ConfigError: If it refuses its settings.
    """
    loss: nn.Module = _loss("teacher.training.loss" if role == "teacher" else "loss", config.training(role).loss)
    return loss


def distillation_loss(config: Config, student: nn.Module, teacher: nn.Module) -> DistillationLoss:
    """Build the weighted sum, its projectors for the layers of these networks included.

    Raises:
        UserError: If a loss refuses its settings, or a network has no such layer.
    """
    distill = config.distill
    losses = {name: _loss(f"distill.losses.{name}", spec) for name, spec in distill.losses.items()}
    for name, loss in losses.items():
        key = f"distill.losses.{name}"
        if not isinstance(loss, LogitLoss | FeatureLoss):
            wanted = "must be a subclass of segdistill.losses.LogitLoss or FeatureLoss"
            raise ConfigError(f"{key}._target_", distill.losses[name]["_target_"], wanted)
        if isinstance(loss, FeatureLoss):
            loss.build_projector(
                feature_channels(student, loss.student_layer, f"{key}.student_layer"),
                feature_channels(teacher, loss.teacher_layer, f"{key}.teacher_layer"),
            )
    supervised = supervised_loss(config, "student")
    return DistillationLoss(supervised, losses, alpha=distill.alpha, alpha_schedule=distill.alpha_schedule)


def _loss(key: str, spec: dict[str, Any]) -> Any:
    try:
        return build(key, spec, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, ConfigError):
            raise error.__cause__.under(key) from error
        raise ConfigError(key, spec, first_line(error.__cause__ or error)) from error


def _measure(loss: SupervisedLoss, source: DatasetIndex) -> None:
    if isinstance(loss, NeedsClassPixels):
        loss.set_class_pixels(torch.from_numpy(source.class_pixels("train")))


def _options(config: Config, role: Role, labels: LabelSet) -> dict[str, Any]:
    return {
        "class_names": labels.names,
        "optimizer": optimizer_factory(config, role),
        "schedule": config.training(role).schedule,
        "channels_last": config.trainer.channels_last,
        "network_config": (config.teacher if role == "teacher" else config.student).network,
    }
