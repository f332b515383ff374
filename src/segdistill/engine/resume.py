"""Find the checkpoint that `resume` points to, and check that it belongs to this training."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from segdistill.config.model import FitConfig
from segdistill.models.frozen_teacher import load_checkpoint
from segdistill.utils.errors import ConfigError

STATE = {"state_dict", "optimizer_states", "loops", "epoch"}
log = logging.getLogger(__name__)


def resume_checkpoint(given: str | None, fit: FitConfig, optimizer: str) -> Path | None:
    """Return the checkpoint that `resume` points to; None if there is nothing to resume yet.

    Args:
        given: Run directory, or one of its checkpoints; None for a new run.
        fit: Budget of the whole training.
        optimizer: Dotted name of the optimizer class that continues with the saved state.

    Raises:
        UserError: If `given` is neither a run directory nor a training checkpoint, or belongs to another training.
    """
    if given is None:
        return None
    path = Path(given)
    if path.is_dir():
        if not (path / ".hydra").is_dir():
            raise ConfigError("resume", path, "is no run directory; give one, or one of its checkpoints")
        path = path / "checkpoints" / "last.ckpt"
        if not path.is_file():
            log.info("%s does not exist yet; the run starts again", path)
            return None
    _require_same_training(path, load_checkpoint(path), fit, optimizer)
    return path


def _require_same_training(path: Path, checkpoint: dict[str, Any], fit: FitConfig, optimizer: str) -> None:
    if not checkpoint.keys() >= STATE:
        raise ConfigError("resume", path, "holds weights without the state of their training; it cannot go on")
    if "optimizer" not in checkpoint:
        raise ConfigError("resume", path, "was written by an older version of segdistill; start a new run")
    if checkpoint["optimizer"] != optimizer:
        cure = f"keep the optimizer, or start a new run; this configuration has {optimizer}"
        raise ConfigError("resume", path, f"was trained by {checkpoint['optimizer']}: {cure}")
    done = checkpoint["epoch"] + 1
    if done > fit.max_epochs:
        raise ConfigError("resume", path, f"has {done} epochs behind it, max_epochs={fit.max_epochs} is less; raise it")
    if "averaging_state" in checkpoint and fit.ema_decay is None:
        raise ConfigError("resume", path, "was trained with fit.ema_decay; give it again, or start a new run")
