"""Typed schema of conf/: which keys may be set, and in which range; checked before torch is imported.

Networks, losses, optimizers, augmentation steps, loggers, callbacks and data sources in code are Hydra `_target_`s and
stay dictionaries here; every other key is a field of one dataclass.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from segdistill.config.archives import PUBLISHED
from segdistill.config.data import DataConfig, FolderConfig, RoadScenesConfig
from segdistill.config.model import (
    DistillConfig,
    FitConfig,
    ModelConfig,
    ScheduleConfig,
    StudentConfig,
    TeacherConfig,
    TrainingConfig,
)
from segdistill.config.ranges import require, require_steps
from segdistill.config.trainer import TrainerConfig

STAGES = ("teacher", "student")
WANDB_MODES = (None, "online", "offline")
PACKAGED_NETWORK = {
    "_target_": "segdistill.models.DeepLabV3Plus",
    "backbone": "efficientnet_lite0",
    "output_stride": 16,
}
"""The network whose weights for RoadScenes `teacher.source=packaged` loads."""


@dataclass
class Config:
    """The configuration of a run."""

    stage: str = MISSING
    seed: int = MISSING
    resume: str | None = MISSING  # a run directory, or one of its checkpoints
    cache_dir: str = MISSING
    trusted_packages: list[str] = MISSING  # whose functions and classes may be called, too
    data: DataConfig = MISSING
    teacher: TeacherConfig = MISSING
    student: StudentConfig = MISSING
    distill: DistillConfig = MISSING
    loss: dict[str, Any] = MISSING
    optimizer: dict[str, Any] = MISSING
    schedule: ScheduleConfig = MISSING
    augment: dict[str, Any] = MISSING
    trainer: TrainerConfig = MISSING
    logger: dict[str, Any] = MISSING
    callbacks: dict[str, Any] = MISSING

    def __post_init__(self) -> None:
        for key, spec in (("loss", self.loss), ("teacher.training.loss", self.teacher.training.loss)):
            require("_target_" in spec, key, spec, "needs a `_target_`, such as segdistill.losses.FocalLoss")
        require_steps("augment", self.augment)
        require(self.stage in STAGES, "stage", self.stage, f"must be one of {STAGES}")
        require(0 <= self.seed < 2**32, "seed", self.seed, "must be from 0 to 2**32 - 1")
        require(self.resume is None or Path(self.resume).exists(), "resume", self.resume, "no such file or folder")
        stray = self.resume is not None and Path(self.resume).is_dir() and not (Path(self.resume) / ".hydra").is_dir()
        require(not stray, "resume", self.resume, "is no run directory; give one, or one of its checkpoints")
        mode = self.logger.get("mode")
        require(mode in WANDB_MODES, "logger.mode", mode, "must be null, online or offline")
        for name, spec in self.logger.items():
            upload = spec.get("upload", False) if isinstance(spec, dict) else False
            require(isinstance(upload, bool), f"logger.{name}.upload", upload, "must be true or false")
        checkpoint = self.teacher.checkpoint
        redundant = self.stage == "teacher" and checkpoint is not None
        require(not redundant, "teacher.checkpoint", checkpoint, "must be null where stage=teacher trains it")
        if self.stage == "teacher":
            own = self.teacher.seed
            require(own in (0, self.seed), "teacher.seed", own, "must not differ from seed, which seeds stage=teacher")
            self.teacher.seed = self.seed
        for name, part in self.trained.items():
            _require_fitting(f"{name}.fit", part.fit, self)
            interval, epochs = self.trainer.check_val_every_n_epoch or 1, part.fit.max_epochs
            allowed = f"must divide {name}.fit.max_epochs={epochs}: the best of the validated epochs is kept"
            require(epochs % interval == 0, "trainer.check_val_every_n_epoch", interval, allowed)
        asked, gamma = self.needs_teacher and self.teacher.source == "packaged", self.data.gamma
        allowed = "must be 1 where teacher.source=packaged, which has seen images as they are"
        require(not asked or gamma == 1, "data.gamma", gamma, allowed)
        if isinstance(self.data, FolderConfig) and not self.data.download:
            published = PUBLISHED.get(self.data.published or "")
            fetched = f"; data.download=true fetches it, {published.size}" if published else ""
            require(Path(self.data.root).is_dir(), "data.root", self.data.root, f"no such folder{fetched}")

    @property
    def unused(self) -> list[str]:
        """Names of the networks that this run does not build."""
        if self.stage == "teacher":
            return ["student"]
        return [] if self.needs_teacher else ["teacher"]

    @property
    def teacher_source(self) -> str:
        """Where the teacher comes from: "checkpoint", "pretrained", "packaged" or "train"."""
        if self.teacher.checkpoint is not None:
            return "checkpoint"
        if self.teacher.source != "auto":
            return self.teacher.source
        network = {key: self.teacher.network.get(key) for key in PACKAGED_NETWORK}
        data = self.data  # it has seen images as they are, and the labels of all of them
        known = isinstance(data, RoadScenesConfig) and data.gamma == 1 and not data.unlabelled
        return "packaged" if known and network == PACKAGED_NETWORK else "train"

    @property
    def needs_teacher(self) -> bool:
        """Whether this run's student has a teacher."""
        return self.stage == "student" and (bool(self.distill.losses) or self.student.init == "teacher")

    @property
    def trained(self) -> dict[str, ModelConfig]:
        """Return the networks that this run trains or may train."""
        if self.stage == "teacher":
            return {"teacher": self.teacher}
        trained = self.needs_teacher and self.teacher_source == "train"
        return {"student": self.student} | ({"teacher": self.teacher} if trained else {})

    def training(self, role: str) -> TrainingConfig:
        """Return how the network of a role, "teacher" or "student", is trained."""
        if role == "teacher":
            return self.teacher.training
        return TrainingConfig(self.loss, self.optimizer, self.schedule, self.augment)


def _require_fitting(key: str, fit: FitConfig, config: Config) -> None:
    """Refuse a crop that no enlargement fills, and a batch that the scenes cannot fill."""
    size, largest = config.data.preprocessing.size, fit.scale[1]
    processes = config.trainer.devices * config.trainer.num_nodes
    averaged = fit.ema_decay is not None
    require(processes == 1 or not averaged, f"{key}.ema_decay", fit.ema_decay, "must be null for several processes")
    fills = all(side <= largest * whole for side, whole in zip(fit.crop or size, size, strict=True))
    name = "data.input_size" if config.data.cut_bottom == 0 else "data.input_size without data.cut_bottom"
    allowed = f"must be at most {name}={list(size)} times {largest}, the largest of {key}.scale"
    require(fills, f"{key}.crop", fit.crop, allowed)
    if isinstance(config.data, RoadScenesConfig):
        images = min(config.data.limit or config.data.train, config.data.train)
        labels_alone = key.startswith("teacher") or not config.distill.losses
        require_batch(key, fit, images - labels_alone * (config.data.unlabelled or 0), config.trainer)


def require_batch(key: str, fit: FitConfig, images: int, trainer: TrainerConfig) -> None:
    """Refuse a batch that is larger than a process's share of the training split.

    Raises:
        ConfigError: Names `key`.batch_size.
    """
    processes = trainer.devices * trainer.num_nodes
    shared = f", shared by {processes} processes" if processes > 1 else ""
    allowed = f"must be at most {images // processes}: the training split has {images} images{shared}"
    require(fit.batch_size <= images // processes, f"{key}.batch_size", fit.batch_size, allowed)
