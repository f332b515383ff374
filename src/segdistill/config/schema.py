"""The typed schema of conf/: what may be set, in which range, checked before torch is imported.

Networks, optimizers, loggers and callbacks are Hydra `_target_`s and stay dictionaries here; every other
key is a field of one dataclass below.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from segdistill.utils.errors import ConfigError

TEACHER_CACHES = ("none", "memory", "disk")
ALPHA_SCHEDULES = ("constant", "linear", "cosine")
ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")
WANDB_MODES = (None, "online", "offline")
PROFILERS = (None, "simple", "advanced", "pytorch")
STAGES = ("teacher", "student")
STUDENT_INITS = ("pretrained", "teacher")
TEACHER_SOURCES = ("train", "checkpoint", "pretrained")
LIGHTNING = (
    "max_steps",
    "max_time",
    "gradient_clip_val",
    "gradient_clip_algorithm",
    "accumulate_grad_batches",
    "limit_train_batches",
    "limit_val_batches",
    "limit_test_batches",
    "val_check_interval",
    "check_val_every_n_epoch",
    "log_every_n_steps",
    "num_sanity_val_steps",
    "deterministic",
    "benchmark",
    "detect_anomaly",
    "inference_mode",
    "sync_batchnorm",
    "enable_model_summary",
)
"""Keys of `trainer` that pl.Trainer takes as they are."""


def _require(condition: bool, key: str, value: object, allowed: str) -> None:
    if not condition:
        raise ConfigError(key, value, allowed)


def _require_size(key: str, size: list[int]) -> None:
    _require(len(size) == 2 and min(size, default=0) >= 16, key, size, "must be [height, width], each at least 16")


@dataclass
class DataConfig:
    """What every data source has in common."""

    input_size: list[int] = MISSING  # [H, W] that every picture is resized to; scores and timings refer to it
    eval_batch_size: int = 8
    num_workers: int | None = None  # null: chosen from the machine
    limit: int | None = None  # pictures of each split, evenly spaced; null: all
    overfit: bool = False  # validation and test see the training pictures

    def __post_init__(self) -> None:
        _require_size("input_size", self.input_size)
        _require(self.eval_batch_size >= 1, "eval_batch_size", self.eval_batch_size, "must be at least 1")
        _require(self.limit is None or self.limit >= 1, "limit", self.limit, "must be null or at least 1")
        workers = self.num_workers
        _require(workers is None or workers >= 0, "num_workers", workers, "must be null or at least 0")


@dataclass
class RoadScenesConfig(DataConfig):
    """The embedded procedural dashcam scenes."""

    seed: int = 0
    train: int = 480
    val: int = 143
    test: int = 143

    def __post_init__(self) -> None:
        super().__post_init__()
        for split in ("train", "val", "test"):
            count = getattr(self, split)
            _require(count >= 1, split, count, "must be at least 1 scene")
        _require(self.seed >= 0, "seed", self.seed, "must be at least 0")


@dataclass
class SplitFolders:
    """Where a split's images and masks lie, relative to `data.root`."""

    images: str = MISSING
    masks: str = MISSING


@dataclass
class FolderConfig(DataConfig):
    """Any folder of images beside a folder of masks, paired by stem."""

    root: str = MISSING
    splits: dict[str, SplitFolders] = field(default_factory=dict)
    classes: dict[str, Any] = field(default_factory=dict)  # name -> the mask value, or list of values, it owns
    void: list[int] = field(default_factory=lambda: [255])  # mask values that are ignored
    palette: dict[str, list[int]] = field(default_factory=dict)  # name -> [R, G, B]; missing ones are chosen
    allow_duplicates: bool = False  # accept an image that occurs in two splits

    def __post_init__(self) -> None:
        super().__post_init__()
        _require({"train", "val"} <= set(self.splits), "splits", sorted(self.splits), "must name train and val")
        unknown = set(self.splits) - {"train", "val", "test"}
        _require(not unknown, "splits", sorted(unknown), "may name train, val and test only")
        _require(2 <= len(self.classes) <= 255, "classes", list(self.classes), "must name 2 to 255 classes")
        owners: dict[int, str] = {}
        for name, values in {"void": self.void, **{f"classes.{k}": v for k, v in self.classes.items()}}.items():
            listed = values if isinstance(values, list) else [values]
            valid = all(isinstance(value, int) and 0 <= value <= 255 for value in listed)
            allowed = "must be a mask value from 0 to 255, or a list of them"
            _require(valid and (bool(listed) or name == "void"), name, values, allowed)
            for value in listed:
                _require(value not in owners, name, value, f"already belongs to {owners.get(value)}")
                owners[value] = name
        for name, colour in self.palette.items():
            _require(name in self.classes, f"palette.{name}", colour, f"no such class; known: {list(self.classes)}")
            valid = len(colour) == 3 and all(0 <= channel <= 255 for channel in colour)
            _require(valid, f"palette.{name}", colour, "must be [R, G, B], each from 0 to 255")


@dataclass
class FitConfig:
    """One network's training: its budget and its augmentation."""

    max_epochs: int = MISSING
    batch_size: int = 8
    crop: list[int] = MISSING  # [H, W]
    scale: list[float] = field(default_factory=lambda: [0.5, 2.0])  # random resize before the crop
    hflip: float = 0.5  # probability
    jitter: float = 0.3  # brightness, contrast and saturation change by up to this share

    def __post_init__(self) -> None:
        _require(self.max_epochs >= 1, "max_epochs", self.max_epochs, "must be at least 1")
        _require(self.batch_size >= 1, "batch_size", self.batch_size, "must be at least 1")
        _require_size("crop", self.crop)
        valid = len(self.scale) == 2 and 0 < self.scale[0] <= self.scale[-1] <= 10
        _require(valid, "scale", self.scale, "must be [low, high] with 0 < low <= high <= 10")
        _require(0 <= self.hflip <= 1, "hflip", self.hflip, "must be a probability from 0 to 1")
        _require(0 <= self.jitter <= 1, "jitter", self.jitter, "must be from 0 to 1")


@dataclass
class ScheduleConfig:
    """Linear warm-up, then polynomial decay to zero, of the learning rate of every parameter group."""

    warmup: float = 0.05  # share of all steps
    power: float = 0.9
    backbone_lr_scale: float = 0.1  # the backbone's learning rate, as a share of the head's

    def __post_init__(self) -> None:
        _require(0 <= self.warmup < 1, "warmup", self.warmup, "must be a share of all steps, from 0 to below 1")
        _require(self.power > 0, "power", self.power, "must be above 0")
        _require(self.backbone_lr_scale >= 0, "backbone_lr_scale", self.backbone_lr_scale, "must be at least 0")


@dataclass
class TrainingConfig:
    """How a network learns: its loss against the labels, optimizer and schedule."""

    loss: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    schedule: ScheduleConfig = MISSING


@dataclass
class ModelConfig:
    """A network, and how long it is trained."""

    network: dict[str, Any] = field(default_factory=dict)
    fit: FitConfig = MISSING

    def __post_init__(self) -> None:
        _require("_target_" in self.network, "network", self.network, "needs a `_target_`, a class or function")


@dataclass
class StudentConfig(ModelConfig):
    """The network that is trained to ship."""

    init: str = "pretrained"  # teacher: it begins with everything of the teacher that fits

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self.init in STUDENT_INITS, "init", self.init, f"must be one of {STUDENT_INITS}")


@dataclass
class TeacherConfig(ModelConfig):
    """The network to learn from."""

    training: TrainingConfig = MISSING
    source: str = "train"  # pretrained: with its own head, through class_map; a checkpoint that is given comes first
    checkpoint: str | None = None
    seed: int = 0  # of its training; students of any seed share one teacher
    num_classes: int | None = None  # null: as many as the data has; more need a class_map
    class_map: dict[str, list[int]] = field(default_factory=dict)  # the data's class -> the teacher's ids it merges

    def __post_init__(self) -> None:
        super().__post_init__()
        path = self.checkpoint
        _require(self.source in TEACHER_SOURCES, "source", self.source, f"must be one of {TEACHER_SOURCES}")
        _require(path is None or Path(path).is_file(), "checkpoint", path, "no such file; null trains the teacher")
        missing = self.source == "checkpoint" and path is None
        _require(not missing, "checkpoint", path, "must be a file where source=checkpoint")
        pretrained = self.source == "pretrained"
        _require(not pretrained or path is None, "checkpoint", path, "must be null where source=pretrained")
        mapped, count = bool(self.class_map), self.num_classes
        _require(mapped == (count is not None), "class_map", self.class_map, "goes together with num_classes")
        _require(count is None or count >= 2, "num_classes", count, "must be at least 2")
        own_head = path is not None or pretrained
        allowed = "must be given where class_map merges its classes, unless source=pretrained"
        _require(not mapped or own_head, "checkpoint", path, allowed)
        _require(mapped or not pretrained, "class_map", self.class_map, "is needed where source=pretrained")
        _require(0 <= self.seed < 2**32, "seed", self.seed, "must be from 0 to 2**32 - 1")


@dataclass
class DistillConfig:
    """total = (1 - alpha) * supervised + alpha * distillation; without losses alpha is not used."""

    temperature: float = 2.0
    alpha: float = 0.5
    alpha_schedule: str = "constant"  # linear: from 0 to alpha over the training; cosine: from alpha to 0
    losses: dict[str, Any] = field(default_factory=dict)  # name -> a `_target_` with its weight and options
    teacher_cache: str = "none"  # memory, disk: the teacher's logits of every training image are computed once

    def __post_init__(self) -> None:
        _require_temperature("temperature", self.temperature)
        cache = self.teacher_cache
        _require(cache in TEACHER_CACHES, "teacher_cache", cache, f"must be one of {TEACHER_CACHES}")
        _require(0 <= self.alpha <= 1, "alpha", self.alpha, "must be a number from 0 to 1")
        schedule = self.alpha_schedule
        _require(schedule in ALPHA_SCHEDULES, "alpha_schedule", schedule, f"must be one of {ALPHA_SCHEDULES}")
        for name, spec in self.losses.items():
            given = isinstance(spec, dict) and "_target_" in spec
            _require(given, f"losses.{name}", spec, "needs a `_target_`, such as segdistill.losses.PixelwiseKL")
            weight = spec.get("weight", 1.0)
            _require(_is_number(weight) and weight > 0, f"losses.{name}.weight", weight, "must be above 0")
            _require_temperature(f"losses.{name}.temperature", spec.get("temperature", 1.0))
            reads_features = "teacher_layer" in spec
            allowed = f"must be none with losses.{name}: it keeps logits, no features"
            _require(cache == "none" or not reads_features, "teacher_cache", cache, allowed)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _require_temperature(key: str, temperature: Any) -> None:
    valid = _is_number(temperature) and 0.1 <= temperature <= 100
    _require(valid, key, temperature, "must be a number from 0.1 to 100")


@dataclass
class TrainerConfig:
    """The machine that trains."""

    accelerator: str = "auto"
    precision: str = "auto"  # bf16-mixed where the hardware has it
    channels_last: bool = True
    devices: int = 1  # processes on this machine, each with batches of its own; on a CPU they share its cores
    num_nodes: int = 1  # machines; more than one are started by torchrun or Slurm
    profiler: str | None = None
    # What follows are pl.Trainer's own arguments; null leaves Lightning's default.
    max_steps: int | None = None
    max_time: str | None = None  # DD:HH:MM:SS
    gradient_clip_val: float | None = None
    gradient_clip_algorithm: str | None = None
    accumulate_grad_batches: int | None = None
    limit_train_batches: Any = None  # a number of batches, or a share of them from 0.0 to 1.0
    limit_val_batches: Any = None
    limit_test_batches: Any = None
    val_check_interval: Any = None
    check_val_every_n_epoch: int | None = None
    log_every_n_steps: int = 1
    num_sanity_val_steps: int = 0
    deterministic: Any = None  # true, false or warn
    benchmark: bool | None = None
    detect_anomaly: bool = False
    inference_mode: bool = True
    sync_batchnorm: bool = False
    enable_model_summary: bool = False

    @property
    def lightning(self) -> dict[str, Any]:
        """The arguments of pl.Trainer that are set, as they are."""
        return {name: value for name, value in asdict(self).items() if name in LIGHTNING and value is not None}

    def __post_init__(self) -> None:
        clip = self.gradient_clip_val
        _require(clip is None or clip > 0, "gradient_clip_val", clip, "must be null or above 0")
        algorithm = self.gradient_clip_algorithm
        _require(algorithm in (None, "norm", "value"), "gradient_clip_algorithm", algorithm, "must be norm or value")
        for name in ("max_steps", "accumulate_grad_batches", "check_val_every_n_epoch", "log_every_n_steps"):
            value = getattr(self, name)
            _require(value is None or value >= 1, name, value, "must be null or at least 1")
        for name in ("devices", "num_nodes"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "must be at least 1")
        _require(self.profiler in PROFILERS, "profiler", self.profiler, f"must be one of {PROFILERS}")
        _require(self.accelerator in ACCELERATORS, "accelerator", self.accelerator, f"must be one of {ACCELERATORS}")
        _require(self.precision in PRECISIONS, "precision", self.precision, f"must be one of {PRECISIONS}")


@dataclass
class Config:
    """A whole run."""

    stage: str = "student"
    seed: int = 0
    resume: str | None = None  # a run directory, or one of its checkpoints
    cache_dir: str = "cache"
    trusted_packages: list[str] = field(default_factory=list)  # whose functions and classes may be called, too
    data: DataConfig = MISSING
    teacher: TeacherConfig = MISSING
    student: StudentConfig = MISSING
    distill: DistillConfig = MISSING
    loss: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    schedule: ScheduleConfig = MISSING
    trainer: TrainerConfig = MISSING
    logger: dict[str, Any] = field(default_factory=dict)
    callbacks: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key, spec in (("loss", self.loss), ("teacher.training.loss", self.teacher.training.loss)):
            _require("_target_" in spec, key, spec, "needs a `_target_`, such as segdistill.losses.FocalLoss")
        _require(self.stage in STAGES, "stage", self.stage, f"must be one of {STAGES}")
        _require(0 <= self.seed < 2**32, "seed", self.seed, "must be from 0 to 2**32 - 1")
        _require(self.resume is None or Path(self.resume).exists(), "resume", self.resume, "no such file or folder")
        stray = self.resume is not None and Path(self.resume).is_dir() and not (Path(self.resume) / ".hydra").is_dir()
        _require(not stray, "resume", self.resume, "is no run directory; give one, or one of its checkpoints")
        mode = self.logger.get("mode")
        _require(mode in WANDB_MODES, "logger.mode", mode, "must be null, online or offline")
        for name, spec in self.logger.items():
            upload = spec.get("upload", False) if isinstance(spec, dict) else False
            _require(isinstance(upload, bool), f"logger.{name}.upload", upload, "must be true or false")
        checkpoint = self.teacher.checkpoint
        redundant = self.stage == "teacher" and checkpoint is not None
        _require(not redundant, "teacher.checkpoint", checkpoint, "must be null where stage=teacher trains it")
        if self.stage == "teacher":
            own = self.teacher.seed
            _require(own in (0, self.seed), "teacher.seed", own, "must not differ from seed, which seeds stage=teacher")
            self.teacher.seed = self.seed
        for name, part in self._trained().items():
            _require_fitting(f"{name}.fit", part.fit, self)
        if isinstance(self.data, FolderConfig):
            _require(Path(self.data.root).is_dir(), "data.root", self.data.root, "no such folder")

    @property
    def unused(self) -> list[str]:
        """The networks that this run does not build."""
        if self.stage == "teacher":
            return ["student"]
        return [] if self.needs_teacher else ["teacher"]

    @property
    def needs_teacher(self) -> bool:
        """Whether this run's student has a teacher."""
        return self.stage == "student" and (bool(self.distill.losses) or self.student.init == "teacher")

    def _trained(self) -> dict[str, ModelConfig]:
        """Return the networks that this run trains, or may have to."""
        if self.stage == "teacher":
            return {"teacher": self.teacher}
        trained = self.needs_teacher and self.teacher.checkpoint is None and self.teacher.source == "train"
        return {"student": self.student} | ({"teacher": self.teacher} if trained else {})

    def training(self, role: str) -> TrainingConfig:
        """Return how the network of a role, "teacher" or "student", is trained."""
        if role == "teacher":
            return self.teacher.training
        return TrainingConfig(self.loss, self.optimizer, self.schedule)


def _require_fitting(key: str, fit: FitConfig, config: Config) -> None:
    """Refuse a crop that no enlargement fills, and a batch that the scenes cannot fill."""
    size, largest = config.data.input_size, fit.scale[1]
    fills = all(side <= largest * whole for side, whole in zip(fit.crop, size, strict=True))
    allowed = f"must be at most data.input_size={size} times {largest}, the largest of {key}.scale"
    _require(fills, f"{key}.crop", fit.crop, allowed)
    if isinstance(config.data, RoadScenesConfig):
        limit = config.data.limit or config.data.train
        require_batch(key, fit, min(limit, config.data.train), config.trainer)


def require_batch(key: str, fit: FitConfig, images: int, trainer: TrainerConfig) -> None:
    """Refuse a batch that is larger than a process's share of the training split.

    Raises:
        ConfigError: Names `key`.batch_size.
    """
    processes = trainer.devices * trainer.num_nodes
    shared = f", shared by {processes} processes" if processes > 1 else ""
    allowed = f"must be at most {images // processes}: the training split has {images} images{shared}"
    _require(fit.batch_size <= images // processes, f"{key}.batch_size", fit.batch_size, allowed)
