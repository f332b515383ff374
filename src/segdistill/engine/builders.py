"""What a configuration names, as objects; nothing else in a run reads the configuration."""

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

from segdistill.config.locate import build
from segdistill.config.model import FitConfig, ModelConfig
from segdistill.config.schema import Config, require_batch
from segdistill.config.trainer import TrainerConfig
from segdistill.data.datamodule import SegmentationDataModule, default_workers
from segdistill.data.labels import LabelSet
from segdistill.data.sources.base import DatasetIndex
from segdistill.data.sources.opening import labels_of, open_source
from segdistill.engine.loggers import start_all
from segdistill.engine.logit_cache import LogitCache
from segdistill.engine.networks import build_network, given_teacher, loaded_network, packaged_teacher
from segdistill.engine.objectives import build_distillation_loss, build_loss, build_optimizer
from segdistill.engine.resume import resume_checkpoint
from segdistill.engine.trainer import build_trainer
from segdistill.losses import DistillationLoss
from segdistill.losses.base import NeedsClassPixels, SupervisedLoss
from segdistill.models.adapters import without_pretrained
from segdistill.models.frozen_teacher import FrozenTeacher, TeacherCache
from segdistill.tasks import DistillationTask, SegmentationTask
from segdistill.tasks.segmentation import OptimizerFactory, Role, optimizer_name
from segdistill.utils.code import code_digest

TEACHER_CODE = (
    "data",
    "losses",
    "models",
    "tasks",
    "engine/trainer.py",
    "callbacks/epoch_seed.py",
    "utils/interpolate.py",
)
"""What a trained teacher depends on besides its settings."""


@dataclass(frozen=True)
class Builder:
    """Everything that a run is made of, built when it is asked for.

    Attributes:
        config: Checked.
    """

    config: Config

    @property
    def role(self) -> Role:
        """Whose network this run trains: "teacher" or "student"."""
        return cast(Role, self.config.stage)

    @property
    def trainer_config(self) -> TrainerConfig:
        """The machine."""
        return self.config.trainer

    @property
    def input_size(self) -> list[int]:
        """[H, W] of evaluation and export."""
        return self.config.data.input_size

    @property
    def needs_teacher(self) -> bool:
        """Whether this run's student has a teacher."""
        return self.config.needs_teacher

    @property
    def has_to_train_teacher(self) -> bool:
        """Whether `probe_teacher` is not the teacher itself."""
        return self.config.teacher_source == "train"

    @cached_property
    def labels(self) -> LabelSet:
        """The classes, which the configuration tells before any data is opened."""
        return labels_of(self.config.data)

    @property
    def student_init(self) -> str:
        """Where the student's first weights come from: "auto", "pretrained" or "teacher"."""
        return self.config.student.init

    def seed(self, role: Role) -> int:
        """Return what a role's training is seeded by."""
        return self.config.teacher.seed if role == "teacher" else self.config.seed

    def fit(self, role: Role) -> FitConfig:
        """Return a role's budget and augmentation."""
        return self._model(role).fit

    def source(self) -> DatasetIndex:
        """Open and check the data; what is at fault there is a UserError."""
        return open_source(self.config.data, Path(self.config.cache_dir))

    def datamodule(self, source: DatasetIndex, role: Role) -> SegmentationDataModule:
        """Make batches of a source for the training of a role's network.

        Raises:
            ConfigError: If a batch is larger than the training split.
        """
        data, fit, trainer = self.config.data, self.fit(role), self.trainer_config
        require_batch(f"{role}.fit", fit, len(source.splits["train"]), trainer)
        return SegmentationDataModule(
            source,
            fit,
            input_size=data.input_size,
            eval_batch_size=data.eval_batch_size,
            num_workers=default_workers(trainer.devices) if data.num_workers is None else data.num_workers,
            seed=self.seed(role),
        )

    def network(self, role: Role) -> nn.Module:
        """Build a role's network, with the weights that it begins with."""
        return build_network(self._model(role).network, len(self.labels))

    def probe_teacher(self) -> nn.Module:
        """Return the teacher that is given, or one like it to try things on before hours are spent on its training.

        Raises:
            UserError: If the checkpoint or the class map does not fit.
        """
        teacher, source = self.config.teacher, self.config.teacher_source
        if source in ("checkpoint", "pretrained"):
            return given_teacher(teacher, self.labels)
        if source == "packaged":
            return packaged_teacher(teacher.network, self.labels)
        return build_network(teacher.network, len(self.labels), **without_pretrained(teacher.network))

    def trained_teacher(self, checkpoint: Path) -> nn.Module:
        """Build the teacher with the weights of its training."""
        return loaded_network(self.config.teacher.network, self.labels, checkpoint)

    def teacher_cache(self, source: DatasetIndex) -> TeacherCache:
        """Return the place of the teacher that this configuration trains."""
        config = self.config
        cache_key = {
            "network": config.teacher.network,
            "fit": asdict(config.teacher.fit),
            "training": asdict(config.teacher.training),
            "trainer": config.trainer.shaping,
            "seed": config.teacher.seed,
            "data": source.fingerprint,
            "input_size": config.data.input_size,
            "code": code_digest(*(f"segdistill/{place}" for place in TEACHER_CODE)),
        }
        return TeacherCache.of(Path(config.cache_dir), cache_key)

    def logit_cache(self, *, reads_features: bool) -> LogitCache | None:
        """Return where the teacher's logits are kept, or None where it runs at every step.

        Args:
            reads_features: Whether a loss compares more than logits; "auto", which is memory, keeps none then.
        """
        config, place = self.config, self.config.distill.teacher_cache
        made_from = {"network": config.teacher.network, "class map": config.teacher.class_map}
        if place == "auto":
            processes = config.trainer.devices * config.trainer.num_nodes
            place = "memory" if processes == 1 and not reads_features else "none"
        if place == "none" or not config.distill.losses:
            return None
        return LogitCache(place, Path(config.cache_dir), made_from, required=config.distill.teacher_cache != "auto")

    def supervised_loss(self, role: Role) -> SupervisedLoss:
        """Build a role's loss against the labels."""
        loss: SupervisedLoss = build_loss(self._key(role, "loss"), self.config.training(role).loss)
        return loss

    def distillation_loss(self, student: nn.Module, teacher: nn.Module) -> DistillationLoss:
        """Build the weighted sum of the student's losses."""
        return build_distillation_loss(self.config.distill, self.supervised_loss("student"), student, teacher)

    def optimizer(self, role: Role) -> OptimizerFactory:
        """Return a role's optimizer as a function of its parameters."""
        return build_optimizer(self._key(role, "optimizer"), self.config.training(role).optimizer)

    def segmentation_task(
        self, role: Role, network: nn.Module, loss: SupervisedLoss, source: DatasetIndex
    ) -> SegmentationTask:
        """Build the task that learns from labels alone."""
        return SegmentationTask(network, loss=_measured(loss, source), role=role, **self._options(role))

    def distillation_task(
        self, student: nn.Module, teacher: nn.Module, loss: DistillationLoss, source: DatasetIndex
    ) -> DistillationTask:
        """Build the task that learns from a teacher, too."""
        _measured(loss.supervised, source)
        frozen = FrozenTeacher(teacher, loss.teacher_layers)
        return DistillationTask(student, frozen, loss, **self._options("student"))

    def callbacks(self) -> list[pl.Callback]:
        """Build what runs besides the training, in its order."""
        # an experiment's settings of a callback stay behind where callbacks=none takes it out
        specs = {f"callbacks.{name}": spec for name, spec in self.config.callbacks.items() if "_target_" in spec}
        return [build(key, spec) for key, spec in specs.items()]

    def loggers(self, run_dir: Path) -> list[Logger]:
        """Start the loggers, and give each the configuration."""
        return start_all(self.config.logger, asdict(self.config), run_dir)

    def resume(self) -> Path | None:
        """Return the checkpoint that the training goes on from.

        Raises:
            UserError: If it is none of this training.
        """
        name = optimizer_name(self.optimizer(self.role)([{"params": [nn.Parameter(torch.zeros(1))]}]))
        return resume_checkpoint(self.config.resume, self.fit(self.role), name)

    def trainer(
        self, task: SegmentationTask, folder: Path, loggers: Sequence[Logger], callbacks: Sequence[pl.Callback] = ()
    ) -> pl.Trainer:
        """Build the trainer of a task, which leaves everything in a folder."""
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
        }


def _measured(loss: SupervisedLoss, source: DatasetIndex) -> SupervisedLoss:
    if isinstance(loss, NeedsClassPixels):
        loss.set_class_pixels(torch.from_numpy(source.class_pixels("train")))
    return loss
