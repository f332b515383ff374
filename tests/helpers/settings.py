"""Settings of a training, where a test leaves some open that the YAML files of conf/ set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from segdistill.config.model import FitConfig, ScheduleConfig
from segdistill.config.trainer import TrainerConfig


def fit_config(
    max_epochs: int,
    batch_size: int = 8,
    *,
    crop: Sequence[int] | None,
    scale: Sequence[float] = (0.5, 2.0),
    **others: Any,
) -> FitConfig:
    return FitConfig(max_epochs, batch_size, None if crop is None else list(crop), list(scale), **others)


def schedule_config(warmup: float = 0.05, power: float = 0.9, backbone_lr_scale: float = 0.1) -> ScheduleConfig:
    return ScheduleConfig(warmup, power, backbone_lr_scale)


def trainer_config(accelerator: str = "cpu", precision: str = "32-true", **others: Any) -> TrainerConfig:
    return TrainerConfig(accelerator, precision, channels_last=True, **others)
