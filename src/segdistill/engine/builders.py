"""Build the objects that a configuration describes; nothing else in a run reads the configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from torch import nn

from segdistill.config.callbacks import built_callbacks
from segdistill.config.locate import build
from segdistill.config.model import FitConfig, ModelConfig
from segdistill.config.schema import Config, require_batch
from segdistill.config.trainer import TrainerConfig
from segdistill.data.datamodule import SegmentationDataModule
from segdistill.data.labels import LabelSet
from segdistill.data.sources.base import DatasetIndex
from segdistill.data.sources.opening import labels_of, open_source
from segdistill.engine.augmentation import build_augmentation, require_replayed, try_augmentation
from segdistill.engine.loading import build_datamodule
from segdistill.engine.loggers import start_all
from segdistill.engine.logit_cache import LogitCache
from segdistill.engine.networks import build_network, freeze_stages, given_teacher, loaded_network, packaged_teacher
from segdistill.engine.objectives import (
    build_distillation_loss,
    build_optimizer,
    build_supervised_loss,
    with_class_pixels,
)
from segdistill.engine.resume import resume_checkpoint
from segdistill.engine.teacher_key import teacher_key
from segdistill.engine.trainer import build_trainer
from segdistill.losses import DistillationLoss
from segdistill.losses.base import SupervisedLoss
from segdistill.models.adapters import without_pretrained
from segdistill.models.frozen_teacher import FrozenTeacher, TeacherCache
from segdistill.tasks import DistillationTask, SegmentationTask
from segdistill.tasks.segmentation import OptimizerFactory, Role, optimizer_name
from segdistill.utils.errors import ConfigError
from segdistill.utils.preprocessing import Preprocessing


@dataclass(frozen=True)
class Builder:
    """Builder of everything that a run consists of; each part is built when it is requested.

    Attributes:
        config: Checked configuration.
    """

    config: Config

    @property
    def role(self) -> Role:
        """Role of the network that this run trains, "teacher" or "student"."""
        return cast(Role, self.config.stage)

    @property
    def trainer_config(self) -> TrainerConfig:
        """Settings of hardware and trainer."""
        return self.config.trainer

    @property
    def preprocessing(self) -> Preprocessing:
        """What is done to every image before a network sees it."""
        return self.config.data.preprocessing

    @property
    def input_size(self) -> tuple[int, int]:
        """Size [H, W] of whole images as networks see them."""
        return self.preprocessing.size

    @property
    def needs_teacher(self) -> bool:
        """Whether the student of this run has a teacher."""
        return self.config.needs_teacher

    @property
    def has_to_train_teacher(self) -> bool:
        """Whether the teacher has to be trained, so that `probe_teacher` is only a stand-in for it."""
        return self.config.teacher_source == "train"

    @cached_property
    def labels(self) -> LabelSet:
        """Classes, which the configuration determines before any data is opened."""
        return labels_of(self.config.data)

    @property
    def student_init(self) -> str:
        """Source of the student's initial weights: "auto", "pretrained" or "teacher"."""
        return self.config.student.init

    def seed(self, role: Role) -> int:
        """Return the random seed of a role's training."""
        return self.config.teacher.seed if role == "teacher" else self.config.seed

    def fit(self, role: Role) -> FitConfig:
        """Return the training budget of a role."""
        return self._model(role).fit

    def try_augmentation(self) -> None:
        """Try the augmentation of every network that this run trains; a faulty step raises ConfigError."""
        for role in cast(list[Role], list(self.config.trained)):
            try_augmentation(
                self._key(role, "augment"), self.config.training(role).augment, self.fit(role).crop or self.input_size
            )

    def source(self) -> DatasetIndex:
        """Open and check the data; faults in it raise UserError."""
        return open_source(self.config.data, Path(self.config.cache_dir))

    def datamodule(self, source: DatasetIndex, role: Role) -> SegmentationDataModule:
        """Build the data module for training a role's network on a source.

        Raises:
            ConfigError: If a batch is larger than the training split.
        """
        fit = self.fit(role)
        require_batch(f"{role}.fit", fit, len(source.splits["train"]), self.trainer_config)
        augment = build_augmentation(self._key(role, "augment"), self.config.training(role).augment)
        return build_datamodule(self.config, source, fit, augment, seed=self.seed(role))

    def network(self, role: Role) -> nn.Module:
        """Build a role's network with its initial weights, and freeze what its training does not change."""
        return self._frozen(role, build_network(self._model(role).network, len(self.labels)))

    def _frozen(self, role: Role, network: nn.Module) -> nn.Module:
        try:
            freeze_stages(network, self.fit(role).frozen_stages)
        except ConfigError as error:
            raise error.under(f"{role}.fit") from None
        return network

    def probe_teacher(self) -> nn.Module:
        """Return the given teacher, or an untrained one like it for checks before its training.

        Raises:
            UserError: If the checkpoint or the class map does not fit.
        """
        teacher, source = self.config.teacher, self.config.teacher_source
        if source in ("checkpoint", "pretrained"):
            return given_teacher(teacher, self.labels)
        if source == "packaged":
            return packaged_teacher(teacher.network, self.labels)
        network = build_network(teacher.network, len(self.labels), **without_pretrained(teacher.network))
        return self._frozen("teacher", network)

    def trained_teacher(self, checkpoint: Path) -> nn.Module:
        """Build the teacher with its trained weights."""
        return loaded_network(self.config.teacher.network, self.labels, checkpoint)

    def teacher_cache(self, source: DatasetIndex) -> TeacherCache:
        """Return the cache entry of the teacher that this configuration trains."""
        cache_key = teacher_key(self.config, source.fingerprint)
        return TeacherCache.of(Path(self.config.cache_dir), cache_key)

    def logit_cache(self, *, reads_features: bool) -> LogitCache | None:
        """Return the cache of the teacher's logits, or None if the teacher runs at every step.

        Args:
            reads_features: Whether a loss compares more than logits; "auto" (memory) caches nothing then.
        """
        config, place = self.config, self.config.distill.teacher_cache
        teacher, draft = config.teacher, config.data.draft
        made_from = {"network": teacher.network, "class map": teacher.class_map, "draft": draft}
        if place == "auto":
            processes = config.trainer.devices * config.trainer.num_nodes
            place = "memory" if processes == 1 and not reads_features else "none"
        if place == "none" or not config.distill.losses:
            return None
        if not require_replayed("augment", config.augment, config.distill.teacher_cache):
            return None
        return LogitCache(place, Path(config.cache_dir), made_from, required=config.distill.teacher_cache != "auto")

    def supervised_loss(self, role: Role) -> SupervisedLoss:
        """Build a role's loss against the labels; one that fails on a trial raises ConfigError."""
        return build_supervised_loss(self._key(role, "loss"), self.config.training(role).loss, len(self.labels))

    def distillation_loss(self, student: nn.Module, teacher: nn.Module) -> DistillationLoss:
        """Build the weighted sum of the student's losses."""
        return build_distillation_loss(self.config.distill, self.supervised_loss("student"), student, teacher)

    def optimizer(self, role: Role) -> OptimizerFactory:
        """Return a role's optimizer as a function of its parameters."""
        return build_optimizer(self._key(role, "optimizer"), self.config.training(role).optimizer)

    def segmentation_task(
        self, role: Role, network: nn.Module, loss: SupervisedLoss, source: DatasetIndex
    ) -> SegmentationTask:
        """Build the task that trains a network on labels only."""
        return SegmentationTask(
            network, loss=with_class_pixels(loss, source, self.preprocessing), role=role, **self._options(role)
        )

    def distillation_task(
        self, student: nn.Module, teacher: nn.Module, loss: DistillationLoss, source: DatasetIndex
    ) -> DistillationTask:
        """Build the task that trains a student on labels and on a teacher."""
        with_class_pixels(loss.supervised, source, self.preprocessing)
        frozen = FrozenTeacher(teacher, loss.teacher_layers)
        return DistillationTask(student, frozen, loss, **self._options("student"))

    def callbacks(self) -> list[pl.Callback]:
        """Build the callbacks, in the order in which they run."""
        return [build(f"callbacks.{name}", spec) for name, spec in built_callbacks(self.config.callbacks).items()]

    def loggers(self, run_dir: Path) -> list[Logger]:
        """Start the loggers, and log the configuration with each."""
        return start_all(self.config.logger, asdict(self.config), run_dir)

    def resume(self) -> Path | None:
        """Return the checkpoint from which the training resumes, if any.

        Raises:
            UserError: If it belongs to another training.
        """
        name = optimizer_name(self.optimizer(self.role)([{"params": [nn.Parameter(torch.zeros(1))]}]))
        return resume_checkpoint(self.config.resume, self.fit(self.role), name)

    def trainer(
        self, task: SegmentationTask, folder: Path, loggers: Sequence[Logger], callbacks: Sequence[pl.Callback] = ()
    ) -> pl.Trainer:
        """Build the trainer of a task; all files of the training go into `folder`."""
        fit, seed = self.fit(task.role), self.seed(task.role)
        return build_trainer(task, fit, self.trainer_config, folder, loggers=loggers, callbacks=callbacks, seed=seed)

    def _model(self, role: Role) -> ModelConfig:
        return self.config.teacher if role == "teacher" else self.config.student

    def _key(self, role: Role, name: str) -> str:
        return f"teacher.training.{name}" if role == "teacher" else name

    def _options(self, role: Role) -> dict[str, Any]:
        return {
            "class_names": self.labels.names,
            "optimizer": self.optimizer(role),
            "schedule": self.config.training(role).schedule,
            "channels_last": self.trainer_config.channels_last,
            "network_config": self._model(role).network,
            "tiling": self.config.data.tiling,
        }
