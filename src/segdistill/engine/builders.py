"""What a configuration names, as objects: data, optimizer, task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from segdistill.config.locate import build
from segdistill.config.schema import Config, FolderConfig, RoadScenesConfig, require_batch
from segdistill.data.datamodule import SegmentationDataModule, default_workers
from segdistill.data.labels import ROAD_SCENES, LabelSet, label_set
from segdistill.data.sources.base import DatasetIndex
from segdistill.data.sources.folder import open_folder
from segdistill.data.sources.roadscenes import open_scenes
from segdistill.engine.logit_cache import LogitCache
from segdistill.losses import DistillationLoss, supervised_loss
from segdistill.models.frozen_teacher import FrozenTeacher
from segdistill.tasks import DistillationTask, SegmentationTask
from segdistill.tasks.segmentation import OptimizerFactory, Role
from segdistill.utils.errors import ConfigError


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
    """Returns where the teacher's logits are kept, or None where it runs at every step."""
    place = config.distill.teacher_cache
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


def segmentation_task(config: Config, role: Role, network: nn.Module, labels: LabelSet) -> SegmentationTask:
    """A task that learns from labels alone."""
    return SegmentationTask(network, loss=_supervised(config, role), role=role, **_options(config, role, labels))


def distillation_task(
    config: Config,
    student: nn.Module,
    teacher: nn.Module,
    labels: LabelSet,
    channels: tuple[int, int] | None = None,
) -> DistillationTask:
    """A task that learns from a teacher, too; `channels` are those of the features that an adapter compares."""
    taps = [term.teacher for term in config.distill.terms.values() if term.teacher is not None]
    loss = DistillationLoss(_supervised(config, "student"), config.distill, channels)
    return DistillationTask(student, FrozenTeacher(teacher, taps), loss, **_options(config, "student", labels))


def _supervised(config: Config, role: Role) -> Any:
    loss = config.training(role).loss
    return supervised_loss(loss.name, loss.gamma)


def _options(config: Config, role: Role, labels: LabelSet) -> dict[str, Any]:
    return {
        "class_names": labels.names,
        "optimizer": optimizer_factory(config, role),
        "schedule": config.training(role).schedule,
        "channels_last": config.trainer.channels_last,
    }
