"""Teacher and student: networks, budgets, losses and schedules."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from segdistill.config.locate import ADAPTERS
from segdistill.config.ranges import is_number, require, require_size, require_steps, require_temperature

TEACHER_CACHES = ("auto", "none", "memory", "disk")
ALPHA_SCHEDULES = ("constant", "linear", "cosine")
STUDENT_INITS = ("auto", "pretrained", "teacher")
TEACHER_SOURCES = ("auto", "train", "checkpoint", "pretrained", "packaged")


@dataclass
class FitConfig:
    """Budget of one network's training, and what of an image it sees."""

    max_epochs: int = MISSING
    batch_size: int = MISSING
    crop: list[int] | None = MISSING  # [H, W]; null: as large as the image
    scale: list[float] = MISSING  # random resize before the crop
    full_frame_epochs: int = 0  # the last ones, on whole images, as evaluation sees them
    class_crop: float = 0.0  # probability that a crop shows a class drawn uniformly from those of its image
    labelled_share: float | None = None  # of an epoch's images, beside unlabelled ones; null: each image once
    frozen_stages: int = 0  # first ones of the backbone, whose weights and statistics stay; 1 is the stem, to stride 2
    ema_decay: float | None = None  # of the moving average of the weights, which is what is kept; null: the last ones

    def __post_init__(self) -> None:
        require(self.max_epochs >= 1, "max_epochs", self.max_epochs, "must be at least 1")
        require(self.batch_size >= 1, "batch_size", self.batch_size, "must be at least 1")
        if self.crop is not None:
            require_size("crop", self.crop)
        valid = len(self.scale) == 2 and 0 < self.scale[0] <= self.scale[-1] <= 10
        require(valid, "scale", self.scale, "must be [low, high] with 0 < low <= high <= 10")
        whole, allowed = self.full_frame_epochs, f"must be from 0 to max_epochs={self.max_epochs}"
        require(0 <= whole <= self.max_epochs, "full_frame_epochs", whole, allowed)
        require(0 <= self.class_crop <= 1, "class_crop", self.class_crop, "must be a probability from 0 to 1")
        share = self.labelled_share
        require(share is None or 0 < share < 1, "labelled_share", share, "must be null or between 0 and 1")
        require(self.frozen_stages >= 0, "frozen_stages", self.frozen_stages, "must be at least 0")
        decay = self.ema_decay
        require(decay is None or 0 < decay < 1, "ema_decay", decay, "must be null or between 0 and 1")


@dataclass
class ScheduleConfig:
    """Learning-rate schedule of every parameter group: linear warm-up, then polynomial decay to zero."""

    warmup: float = MISSING  # share of all steps
    power: float = MISSING
    backbone_lr_scale: float = MISSING  # the backbone's learning rate, as a share of the head's

    def __post_init__(self) -> None:
        require(0 <= self.warmup < 1, "warmup", self.warmup, "must be a share of all steps, from 0 to below 1")
        require(self.power > 0, "power", self.power, "must be above 0")
        require(self.backbone_lr_scale >= 0, "backbone_lr_scale", self.backbone_lr_scale, "must be at least 0")


@dataclass
class TrainingConfig:
    """Supervised loss, optimizer, schedule and augmentation of a network."""

    loss: dict[str, Any] = MISSING
    optimizer: dict[str, Any] = MISSING
    schedule: ScheduleConfig = MISSING
    augment: dict[str, Any] = MISSING  # name -> a `_target_` with its options, in this order after scale and crop

    def __post_init__(self) -> None:
        require_steps("augment", self.augment)


@dataclass
class ModelConfig:
    """A network, and the budget of its training."""

    network: dict[str, Any] = MISSING
    fit: FitConfig = MISSING

    def __post_init__(self) -> None:
        require("_target_" in self.network, "network", self.network, "needs a `_target_`, a class or function")


@dataclass
class StudentConfig(ModelConfig):
    """The network that is trained and exported."""

    init: str = MISSING  # what it begins with: auto is the teacher where it is distilled and the two fit, else its own

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.init in STUDENT_INITS, "init", self.init, f"must be one of {STUDENT_INITS}")


@dataclass
class TeacherConfig(ModelConfig):
    """The network that the student learns from."""

    training: TrainingConfig = MISSING
    source: str = MISSING  # auto: packaged where that one fits, else train; a checkpoint that is given comes first
    checkpoint: str | None = MISSING
    seed: int = MISSING  # of its training; students of any seed share one teacher
    num_classes: int | None = MISSING  # null: as many as the data has, or with source=pretrained as its weights have
    class_map: dict[str, list[Any]] = MISSING  # the data's class -> ids or names of the teacher's that it merges

    def __post_init__(self) -> None:
        super().__post_init__()
        path = self.checkpoint
        require(self.source in TEACHER_SOURCES, "source", self.source, f"must be one of {TEACHER_SOURCES}")
        require(path is None or Path(path).is_file(), "checkpoint", path, "no such file; null trains the teacher")
        missing = self.source == "checkpoint" and path is None
        require(not missing, "checkpoint", path, "must be a file where source=checkpoint")
        pretrained = self.source == "pretrained"
        require(not pretrained or path is None, "checkpoint", path, "must be null where source=pretrained")
        for name, entries in self.class_map.items():
            valid = all(isinstance(entry, str) or type(entry) is int for entry in entries)
            require(valid, f"class_map.{name}", entries, "must be ids or names of the teacher's classes")
        mapped, count = bool(self.class_map), self.num_classes
        tells = pretrained and self.network["_target_"] in ADAPTERS  # names and number of its classes
        together = "goes together with num_classes, unless source=pretrained and a SegmentationModelAdapter tells it"
        require(mapped == (count is not None) or tells, "class_map", self.class_map, together)
        needed = "is needed where source=pretrained, unless the network is a SegmentationModelAdapter"
        require(mapped or not pretrained or tells, "class_map", self.class_map, needed)
        require(count is None or count >= 2, "num_classes", count, "must be at least 2")
        own_head = path is not None or pretrained
        allowed = "must be given where class_map merges its classes, unless source=pretrained"
        require(not mapped or own_head, "checkpoint", path, allowed)
        require(0 <= self.seed < 2**32, "seed", self.seed, "must be from 0 to 2**32 - 1")


@dataclass
class DistillConfig:
    """total = (1 - alpha) * supervised + alpha * distillation; without losses alpha is not used."""

    temperature: float = MISSING
    alpha: float = MISSING
    alpha_schedule: str = MISSING  # one of ALPHA_SCHEDULES
    losses: dict[str, Any] = MISSING  # name -> a `_target_` with its weight and options
    pseudo_labels: bool = False  # images without labels have those of the teacher
    teacher_cache: str = "auto"  # memory, disk: the teacher's logits of every training image are computed once

    def __post_init__(self) -> None:
        require_temperature("temperature", self.temperature)
        cache = self.teacher_cache
        require(cache in TEACHER_CACHES, "teacher_cache", cache, f"must be one of {TEACHER_CACHES}")
        require(0 <= self.alpha <= 1, "alpha", self.alpha, "must be a number from 0 to 1")
        schedule = self.alpha_schedule
        require(schedule in ALPHA_SCHEDULES, "alpha_schedule", schedule, f"must be one of {ALPHA_SCHEDULES}")
        allowed = "needs distillation losses, whose teacher gives them; distill.alpha=0 leaves only the labels"
        require(bool(self.losses) or not self.pseudo_labels, "pseudo_labels", self.pseudo_labels, allowed)
        for name, spec in self.losses.items():
            given = isinstance(spec, dict) and "_target_" in spec
            require(given, f"losses.{name}", spec, "needs a `_target_`, such as segdistill.losses.PixelwiseKL")
            weight = spec.get("weight", 1.0)
            require(is_number(weight) and weight > 0, f"losses.{name}.weight", weight, "must be above 0")
            require_temperature(f"losses.{name}.temperature", spec.get("temperature", 1.0))
            reads_features = "teacher_layer" in spec
            allowed = f"must be none with losses.{name}: it keeps logits, no features"
            require(cache in ("auto", "none") or not reads_features, "teacher_cache", cache, allowed)
