"""What a configuration names, as objects: data, optimizer, task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from segdistill.config import Config, FitConfig, FolderConfig, RoadScenesConfig
from segdistill.data.datamodule import SegmentationDataModule, default_workers
from segdistill.data.folder import open_folder
from segdistill.data.labels import ROAD_SCENES, LabelSet, label_set
from segdistill.data.scenes import open_scenes
from segdistill.data.source import Source
from segdistill.errors import ConfigError
from segdistill.locate import build
from segdistill.logit_cache import LogitCache
from segdistill.losses import DistillationLoss, supervised_loss
from segdistill.models.teacher import FrozenTeacher
from segdistill.tasks import DistillationTask, SegmentationTask
from segdistill.tasks.segmentation import OptimizerFactory, Role


def label_set_of(config: Config) -> LabelSet:
    """Returns the classes, which the configuration tells before any data is opened."""
    if isinstance(config.data, FolderConfig):
        return label_set(tuple(config.data.classes), config.data.palette)
    return ROAD_SCENES


def open_source(config: Config) -> Source:
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


def datamodule(config: Config, source: Source, fit: FitConfig) -> SegmentationDataModule:
    """Makes batches of a source."""
    data = config.data
    workers = default_workers(config.trainer.devices) if data.num_workers is None else data.num_workers
    return SegmentationDataModule(
        source,
        fit,
        input_size=data.input_size,
        eval_batch_size=data.eval_batch_size,
        num_workers=workers,
    )


def logit_cache(config: Config) -> LogitCache | None:
    """Returns where the teacher's logits are kept, or None where it runs at every step."""
    place = config.distill.teacher_cache
    return None if place == "none" else LogitCache(place, Path(config.cache_dir))


def optimizer_factory(config: Config) -> OptimizerFactory:
    """Returns the optimizer as a function of its parameters, after trying it on one of them.

    Raises:
        ConfigError: If it refuses its settings.
    """
    factory: OptimizerFactory = build("optimizer", config.optimizer, _partial_=True)
    try:
        factory([{"params": [nn.Parameter(torch.zeros(1))]}])
    except (TypeError, ValueError) as error:
        raise ConfigError("optimizer", config.optimizer, str(error)) from error
    return factory


def segmentation_task(config: Config, role: Role, network: nn.Module, labels: LabelSet) -> SegmentationTask:
    """A task that learns from labels alone."""
    return SegmentationTask(network, loss=_supervised(config), role=role, **_options(config, labels))


def distillation_task(
    config: Config,
    student: nn.Module,
    teacher: nn.Module,
    labels: LabelSet,
    channels: tuple[int, int] | None = None,
) -> DistillationTask:
    """A task that learns from a teacher, too; `channels` are those of the features that an adapter compares."""
    taps = [term.teacher for term in config.distill.terms.values() if term.teacher is not None]
    loss = DistillationLoss(_supervised(config), config.distill, channels)
    return DistillationTask(student, FrozenTeacher(teacher, taps), loss, **_options(config, labels))


def _supervised(config: Config) -> Any:
    return supervised_loss(config.loss.name, config.loss.gamma)


def _options(config: Config, labels: LabelSet) -> dict[str, Any]:
    return {
        "class_names": labels.names,
        "optimizer": optimizer_factory(config),
        "schedule": config.schedule,
        "channels_last": config.trainer.channels_last,
    }
