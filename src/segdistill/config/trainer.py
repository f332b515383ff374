"""Settings of the machine that trains, and arguments of pl.Trainer."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from omegaconf import MISSING

from segdistill.config.ranges import require

ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")
PROFILERS = (None, "simple", "advanced", "pytorch")
CHOSEN = ("accelerator", "precision", "channels_last", "devices", "num_nodes", "profiler")
"""Keys of `trainer` that the engine resolves; all others are passed to pl.Trainer as they are."""
UNSHAPING = (
    "profiler",
    "limit_test_batches",
    "log_every_n_steps",
    "num_sanity_val_steps",
    "detect_anomaly",
    "inference_mode",
    "enable_model_summary",
)
"""Keys of `trainer` on which no weight depends."""


@dataclass
class TrainerConfig:
    """The machine that trains, and arguments of pl.Trainer."""

    accelerator: str = MISSING
    precision: str = MISSING  # bf16-mixed where the hardware has it
    channels_last: bool = MISSING
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
    enable_model_summary: bool = False

    @property
    def lightning(self) -> dict[str, Any]:
        """Arguments of pl.Trainer that are set."""
        return {name: value for name, value in asdict(self).items() if name not in CHOSEN and value is not None}

    @property
    def shaping(self) -> dict[str, Any]:
        """Settings on which the weights of a training depend."""
        return {name: value for name, value in asdict(self).items() if name not in UNSHAPING}

    def __post_init__(self) -> None:
        clip = self.gradient_clip_val
        require(clip is None or clip > 0, "gradient_clip_val", clip, "must be null or above 0")
        algorithm = self.gradient_clip_algorithm
        require(algorithm in (None, "norm", "value"), "gradient_clip_algorithm", algorithm, "must be norm or value")
        validated = self.limit_val_batches
        require(validated != 0, "limit_val_batches", validated, "must be above 0: the best validated epoch is kept")
        for name in ("max_steps", "accumulate_grad_batches", "check_val_every_n_epoch", "log_every_n_steps"):
            value = getattr(self, name)
            require(value is None or value >= 1, name, value, "must be null or at least 1")
        for name in ("devices", "num_nodes"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "must be at least 1")
        require(self.profiler in PROFILERS, "profiler", self.profiler, f"must be one of {PROFILERS}")
        require(self.accelerator in ACCELERATORS, "accelerator", self.accelerator, f"must be one of {ACCELERATORS}")
        require(self.precision in PRECISIONS, "precision", self.precision, f"must be one of {PRECISIONS}")
