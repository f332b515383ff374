"""Build the Lightning Trainer of one fit from the trainer's configuration."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.callbacks import EMAWeightAveraging, LearningRateMonitor, RichProgressBar
from pytorch_lightning.loggers import Logger
from pytorch_lightning.profilers import AdvancedProfiler, Profiler, PyTorchProfiler, SimpleProfiler
from pytorch_lightning.strategies import Strategy

from segdistill.callbacks import (
    EpochLog,
    EpochSeed,
    FastLayers,
    ForgetResults,
    RelocatableCheckpoint,
    RestoreBest,
    StopOnNonFinite,
)
from segdistill.config.model import FitConfig
from segdistill.config.trainer import TrainerConfig
from segdistill.engine.distributed import UnpaddedEvalDDPStrategy, is_externally_launched
from segdistill.tasks import SegmentationTask
from segdistill.utils.errors import ConfigError, UserError
from segdistill.utils.hardware import cpu_multiplies_bf16

T = TypeVar("T")
DDP_TIMEOUT = timedelta(days=7)  # ranks wait while rank zero exports and times, or itself waits for a teacher
PROFILER_CLASSES: dict[str, type[Profiler]] = {
    "simple": SimpleProfiler,
    "advanced": AdvancedProfiler,
    "pytorch": PyTorchProfiler,
}
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


def build_trainer(
    task: SegmentationTask,
    fit: FitConfig,
    trainer_config: TrainerConfig,
    folder: Path,
    *,
    loggers: Sequence[Logger],
    callbacks: Sequence[pl.Callback] = (),
    seed: int = 0,
) -> pl.Trainer:
    """Build a trainer that keeps `best.ckpt` (by val/miou) and `last.ckpt` in `folder`/checkpoints.

    Args:
        task: Task that will be trained.
        fit: Budget of the training.
        trainer_config: Accelerator and precision; "auto" is resolved here.
        folder: Folder for all files of the fit.
        loggers: Loggers that receive the metrics.
        callbacks: Further callbacks; at the end of the fit they see the best weights.
        seed: Seed of each epoch's randomness.
    """
    place: dict[str, Any] = {"dirpath": folder / "checkpoints", "enable_version_counter": False}
    best = RelocatableCheckpoint(filename="best", monitor="val/miou", mode="max", **place)
    # `save_last` would keep the last best epoch, and the default the last one that was validated
    last = RelocatableCheckpoint(filename="last", save_on_train_epoch_end=True, **place)
    progress = [RichProgressBar(leave=False)] if sys.stderr.isatty() and sys.stdout.isatty() else []
    rates = [LearningRateMonitor(logging_interval="step")] if loggers else []
    average = [] if fit.ema_decay is None else [EMAWeightAveraging(decay=fit.ema_decay)]
    logs = [*rates, EpochLog(task.role), *progress]
    always = [FastLayers(), *average, EpochSeed(seed), *logs, RestoreBest(), ForgetResults()]
    return pl.Trainer(
        **_strategy_kwargs(trainer_config),
        max_epochs=fit.max_epochs,
        profiler=_profiler(trainer_config, folder),
        precision=choose_precision(trainer_config),
        default_root_dir=folder,
        logger=list(loggers),
        callbacks=[StopOnNonFinite(task.role), best, last, *always, *callbacks],
        enable_progress_bar=bool(progress),
        **trainer_config.lightning,
    )


def require_accelerator(trainer_config: TrainerConfig) -> None:
    """Check that the machine has what trainer.accelerator and trainer.devices request.

    Raises:
        ConfigError: If it does not.
    """
    wanted = trainer_config.accelerator
    if wanted in ("gpu", "cuda", "mps"):
        there = torch.cuda.device_count() if wanted != "mps" else 0
        there += int(torch.backends.mps.is_available()) if wanted != "cuda" else 0
        if not there:
            raise ConfigError("trainer.accelerator", wanted, "torch finds none on this machine; auto takes what it has")
        if trainer_config.devices > there:
            raise ConfigError("trainer.devices", trainer_config.devices, f"this machine has {there}")


def root_device(trainer_config: TrainerConfig) -> torch.device:
    """Return the device that a trainer computes on in this process."""
    return _strategy(trainer_config).root_device


def broadcast_from_rank_zero(trainer_config: TrainerConfig, said: T) -> T:
    """Broadcast a value from rank zero to every process of a training; also synchronises them."""
    strategy = _strategy(trainer_config)
    strategy.setup_environment()
    return strategy.broadcast(said)


def _strategy(trainer_config: TrainerConfig) -> Strategy:
    return pl.Trainer(**_strategy_kwargs(trainer_config), logger=False, enable_checkpointing=False).strategy


def _strategy_kwargs(trainer_config: TrainerConfig) -> dict[str, Any]:
    place = {
        "accelerator": trainer_config.accelerator,
        "devices": trainer_config.devices,
        "num_nodes": trainer_config.num_nodes,
    }
    if trainer_config.devices * trainer_config.num_nodes == 1:
        return place
    plugins = [] if is_externally_launched() else [LightningEnvironment()]
    return {**place, "strategy": UnpaddedEvalDDPStrategy(timeout=DDP_TIMEOUT), "plugins": plugins}


def _profiler(trainer_config: TrainerConfig, folder: Path) -> Profiler | None:
    """Build the profiler, if any; it writes fit-profile.txt and similar files into `folder`."""
    if trainer_config.profiler is None:
        return None
    return PROFILER_CLASSES[trainer_config.profiler](dirpath=folder, filename="profile")


def best_checkpoint(trainer: pl.Trainer) -> Path:
    """Return the checkpoint with the highest val/miou of a finished fit.

    Raises:
        UserError: If no epoch was validated.
    """
    best = getattr(trainer.checkpoint_callback, "best_model_path", "")
    if not best:
        cure = "raise trainer.max_steps or trainer.max_time, or validate earlier"
        raise UserError(f"{trainer.default_root_dir}: the training ended before its first validation; {cure}")
    return Path(best)


def choose_precision(trainer_config: TrainerConfig) -> Precision:
    """Choose the precision; "auto" is bf16 if the hardware multiplies it, else fp16 on CUDA, else float32."""
    if trainer_config.precision != "auto":
        return cast(Precision, trainer_config.precision)  # one of PRECISIONS
    if trainer_config.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return "bf16-mixed" if trainer_config.accelerator in ("auto", "cpu") and cpu_multiplies_bf16() else "32-true"


def filter_warnings() -> None:
    """Suppress Lightning's warnings about deliberate choices; all other warnings stay."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for reason in (
        ".*does not have many workers.*",  # half of the cores load data, because the other half computes
        ".*Checkpoint directory .* exists and is not empty.*",  # a resumed run continues in its own directory
        ".*Grad strides do not match bucket view strides.*",  # depthwise layers, channels-last, several processes
        ".*isinstance.*LeafSpec.*",  # between Lightning and torch; users cannot change it
    ):
        warnings.filterwarnings("ignore", reason)
